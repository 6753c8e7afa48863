#!/usr/bin/env python3
"""The wall clock jumps, by libfaketime, while Hydrant runs and between its runs: nothing acknowledged is lost or doubled,
timers go on, positions are never used twice.

Jumps: a second, an hour, a day, ten years, forwards and backwards, and the year 1971; then `kill -9` and a start at yet another time.
Timers (batch intervals, retries, a commit) run on the monotonic clock, which does not jump.
"""
import json
import os
import random
import re
import threading
import time

import harness
from harness import check, each_once, eventually, in_thread
from hec_receiver import TOKEN, HecReceiver

SEED = int(os.environ.get("HYDRANT_SEED", random.SystemRandom().randrange(2**31)))
STARTS, JUMPS = (10, 20) if harness.FULL else (3, 5)
DAY_S = 86_400
OFFSETS_S = [-1, 1, -3_600, 3_600, -DAY_S, DAY_S, -3_650 * DAY_S, 3_650 * DAY_S, -55 * 365 * DAY_S, 0]
LIBRARY = harness.DEBIAN_LIBRARIES / "faketime/libfaketimeMT.so.1"

ID = re.compile(r"id=(\d+)\.")


def post(url, ended, acknowledged):
    """One event after the other; what has no answer because of a kill is sent again under a new number."""
    number = 0
    while not ended.is_set():
        number += 1
        try:
            status, _, _ = harness.post(url, f'{{"message":"id={number}."}}'.encode(), {"content-type": "application/json"}, 30)
        except OSError:
            time.sleep(0.02)
            continue
        check(status == 200, f"the source answers {status}")
        acknowledged.append(number)
    return number


def main(stage):
    print(f"HYDRANT_SEED={SEED}", flush=True)
    chance, hec, port, ended, acknowledged = random.Random(SEED), HecReceiver(ack=True), harness.free_port(), threading.Event(), []
    clock = stage.folder / "clock"
    clock.write_text("+0")
    faked = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ type: http, listen: "127.0.0.1:{port}", decoder: json }} }}
sinks:
  hec: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, ack: true, buffer: {{ interval: 200ms }} }}
  out: {{ type: file, path: out.ndjson, form: json, buffer: {{ interval: 200ms }} }}
""", env={**os.environ, **faked})
    sender = in_thread(post, f"http://127.0.0.1:{port}/", ended, acknowledged)
    seen = set()
    for start in range(STARTS):
        for _ in range(JUMPS):
            offset = chance.choice(OFFSETS_S)
            clock.write_text(f"{offset:+d}")
            seen.add(offset)
            before = len(acknowledged)
            eventually(f"more to be acknowledged at {offset:+d} s", lambda: len(acknowledged) > before + 20, 30)
            newest = acknowledged[-1]
            eventually(f"what was sent at {offset:+d} s to be delivered", lambda: newest in delivered(hec), 30)
        if start + 1 < STARTS:
            clock.write_text(f"{chance.choice(OFFSETS_S):+d}")
            hydrant.kill()
            hydrant.start()
    ended.set()
    sent = sender.result()
    clock.write_text("+0")
    eventually("all to be delivered", lambda: set(acknowledged) <= delivered(hec), 60)
    hydrant.stop()
    rows = harness.rows(hydrant.folder / "out.ndjson")
    out = [int(ID.search(row["message"])[1]) for row in rows]
    years = {row["@timestamp"][:4] for row in rows}
    check(len(years) > 1, f"the clock did not jump: all events are of {years}")
    lost = set(acknowledged) - set(out)
    check(not lost, f"{len(lost)} of {len(acknowledged)} are not in the file: {sorted(lost)[:5]}")
    invented = (set(out) | delivered(hec)) - set(range(1, sent + 1))
    check(not invented, f"nobody sent {sorted(invented)[:5]}")
    twice = len(out) - len(set(out))
    return (f"{len(acknowledged)} acknowledged events over {STARTS * JUMPS} jumps to {len(seen)} offsets and {STARTS - 1} kills: none lost, "
            f"{twice} twice in the file; years {', '.join(sorted(years))}")


def delivered(hec):
    with hec.lock:
        return {int(ID.search(json.dumps(event["event"]))[1]) for event in hec.events}


harness.play(main)
