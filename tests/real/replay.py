#!/usr/bin/env python3
"""`hydrant replay` from an archive in a real store (SeaweedFS) that Hydrant wrote itself: under rules that were not there
at the time, with a `kill -9` in the middle, and of a part of the time. boto3 compares what is in the store.
"""
import json
import random
import signal
import subprocess
import time

import harness
from harness import check, each_once, eventually, rows, same
from object_store import BUCKET, KEY, SECRET, client, seaweed

EVENTS = 200_000 if harness.FULL else 4_000
# Objects of this size, so that there are more than one answer of a listing has.
OBJECT_EVENTS = 100 if harness.FULL else 50

RULE = """
title: Denied by policy
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
status: stable
level: high
logsource: { product: paloalto, category: firewall }
detection:
  selection: { action: deny }
  condition: selection
"""


def line(number):
    """A PAN-OS line with a number in it; every tenth is denied. An hour has 1,000 events."""
    action = "deny" if number % 10 == 0 else "allow"
    stamp = f"2026/11/{1 + number // 24_000:02}"
    clock = f"{number // 1000 % 24:02}:{number % 1000 // 60:02}:{number % 60:02}"
    return (f"<14>1 {stamp.replace('/', '-')}T{clock}Z fw - - - - 1,{stamp} {clock},0128,TRAFFIC,end,2561,{stamp} {clock},10.0.0.1,93.184.216.34,,,"
            f"rule-{number},,,ssl,vsys1,trust,untrust,e1,e2,fwd,x,1,1,52011,443,0,0,0x0,tcp,{action},5200,1200")


def number_of(row):
    return int(harness.raw_of(row).split(",rule-")[1].split(",")[0])


def read(s3, prefix):
    """The rows below a prefix, by their kind: events' numbers, alerts."""
    events, alerts, objects = [], [], 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for found in page.get("Contents", []):
            objects += 1
            for text in s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read().decode().splitlines():
                row = json.loads(text)
                alerts.append(row) if harness.is_alert(row) else events.append(number_of(row))
    return events, alerts, objects


def replay(hydrant, *arguments):
    command = [harness.binary(), "replay", "-c", "hydrant.yaml", "--archive", f"s3://{BUCKET}/past/", "--rules", "rules", *arguments]
    return [str(word) for word in command]


def done(hydrant, *arguments):
    """Runs a replay to its good end; gives its counts."""
    ended = subprocess.run(replay(hydrant, *arguments, "--output", "json"), cwd=hydrant.folder, capture_output=True, text=True,
                           timeout=harness.PATIENCE_S)
    check(ended.returncode == 0, f"the replay ended with {ended.returncode}: {ended.stderr[-1500:]}")
    counts = json.loads(ended.stdout)
    check(counts["balanced"] and counts["is_complete"], f"{counts}")
    return counts


def main(stage):
    endpoint = seaweed(stage)
    s3 = client(endpoint)
    store = (f"type: aws_s3, bucket: {BUCKET}, endpoint: \"{endpoint}\", compression: none, "
             f"credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }}, buffer: {{ events: {OBJECT_EVENTS}, interval: 1s }}")
    port = harness.free_port()
    config = f"""
shards: 1
journal: {{ type: disk, segment_size: 4MiB, max_size: 64MiB }}
sources: {{ in: {{ type: http, listen: "127.0.0.1:{port}", decoder: palo_alto }} }}
sinks:
  past: {{ {store}, prefix: "past/" }}
"""
    hydrant = stage.hydrant(config, "writer", files={"rules/deny.yml": RULE})
    for first in range(0, EVENTS, 1000):
        body = "".join(line(number) + "\n" for number in range(first, first + 1000))
        harness.post(f"http://127.0.0.1:{port}/", body.encode())
    eventually("all events in the store", lambda: hydrant.sent("past") == EVENTS)
    hydrant.stop()
    events, _, objects = read(s3, "past/")
    each_once("archived events", events, range(EVENTS))

    file = hydrant.folder / "hydrant.yaml"
    file.write_text(file.read_text() + f"  again: {{ {store}, prefix: \"again/\" }}\n  part: {{ type: file, path: part.ndjson }}\n")
    counts = done(hydrant, "--dry-run", "--sink", "again")
    flows = counts["destinations"]["again"]
    same("events, alerts of a dry run", (flows["events"]["routed"], flows["alerts"]["routed"]), (EVENTS, EVENTS // 10))
    same("objects that a dry run wrote", read(s3, "again/")[2], 0)

    kills = 0
    command = replay(hydrant, "--sink", "again", "--rate", str(EVENTS // 8))
    for _ in range(10 if harness.FULL else 3):
        process = stage.start("replay", command, cwd=hydrant.folder)
        time.sleep(random.uniform(0.5, 3.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    counts = done(hydrant, *command[command.index("--sink"):])
    same("events that were read", counts["events"], EVENTS)
    events, alerts, _ = read(s3, "again/")
    # Batches are named by what is in them: the store took none a second time.
    each_once("replayed events", events, range(EVENTS))
    check(all(harness.ours(alert)["rule"].get("replay") is True for alert in alerts), "an alert does not say that it is of a replay")
    same("events with an alert", sorted({number_of(alert) for alert in alerts}), list(range(0, EVENTS, 10)))
    check(kills > 0, "no replay was killed")

    counts = done(hydrant, "--sink", "part", "--from", "2026-11-01T01:00:00Z", "--to", "2026-11-01T03:00:00Z")
    same("events of two hours", counts["events"], 2000)
    found = [number_of(row) for row in rows(hydrant.folder / "part.ndjson") if not harness.is_alert(row)]
    each_once("events of two hours", found, range(1000, 3000))
    return f"{EVENTS} events of {objects} objects replayed, {kills} kills, each event once"


harness.play(main)
