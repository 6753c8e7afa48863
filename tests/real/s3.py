#!/usr/bin/env python3
"""S3: objects in a real store (SeaweedFS), read back by boto3 and counted by DuckDB; every event once.

Three sinks take the same FortiGate lines: gzip with a folder for each action, zstd with a folder for each source
address and the hour, and plain JSON in one object that has to go in parts. Lines that no decoder can read go below the
error prefix; alerts are in the objects like events. Then a key that the store does not know holds its destination and
hurts nobody else.
"""
import json
import socket

import duckdb

import harness
from harness import check, each_once, eventually, same
from object_store import BUCKET, KEY, SECRET, client, seaweed

COUNT = 1_000_000 if harness.FULL else 40_000
ACTIONS = ["accept", "deny", "close", "timeout"]

RULE = """
title: Telnet was denied
id: 6a0f4d0e-7a55-4b0e-8a0e-0d9f0c1b2a40
status: test
level: high
logsource: { product: fortigate, category: firewall }
detection:
  selection: { action: deny, dst_port: 23 }
  condition: selection
"""


def line(number):
    """A line of FortiGate traffic; the number is its session."""
    return (f'<134>date=2026-11-21 time=08:00:{number % 60:02} devname="fw-{number % 3}" devid="FGT60F0000000001" logid="0000000013" '
            f'type="traffic" subtype="forward" level="notice" vd="root" srcip=10.9.{number % 5}.7 srcport={1024 + number % 60000} '
            f'srcintf="lan" dstip=203.0.113.{number % 200} dstport={23 if number % 50 == 1 else 443} dstintf="wan1" sessionid={number} '
            f'proto=6 action="{ACTIONS[number % 4]}" policyid={number % 40} service="HTTPS" duration={number % 300} sentbyte={number * 7 % 65536} '
            f'rcvdbyte={number * 13 % 65536} app="Grüße {number % 11}"')


UNREADABLE = "<134>1 2026-11-21T08:00:00Z fw - - - - this is no key and no value"


def config(endpoint, port, rules):
    store = f"type: aws_s3, bucket: {BUCKET}, endpoint: \"{endpoint}\", credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }}"
    return f"""
rules: [{rules}]
drain_timeout: 120s
sources:
  in: {{ type: syslog, listen: "tcp://127.0.0.1:{port}", decoder: fortigate }}
sinks:
  gzip: {{ {store}, prefix: "gzip/action=!{{field:event.action}}/!{{timestamp:yyyy}}/", error_prefix: "gzip-bad/!{{firehose:error-output-type}}/",
          compression: gzip, buffer: {{ size_mb: 8, interval: 2s }} }}
  zstd: {{ {store}, prefix: "zstd/!{{field:source.ip}}/!{{timestamp:yyyy/MM/dd/HH}}/", compression: zstd, buffer: {{ size_mb: 8, interval: 2s }} }}
  parts: {{ {store}, prefix: "parts/", compression: none, multipart_threshold: 5MiB, buffer: {{ size_mb: 64, interval: 5s }} }}
"""


def download(s3, stage, prefix):
    """Every object below a prefix: checked, and as a file with its own name."""
    objects = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", []):
            got = s3.get_object(Bucket=BUCKET, Key=entry["Key"])
            path = stage.folder / "objects" / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(got["Body"].read())
            objects.append((entry["Key"], got, path))
    check(objects, f"no object below {prefix}")
    return objects


def check_names(objects, sink, extension, encoding):
    """The names that Firehose's guide describes; the batch in the metadata is the uuid in the name."""
    for key, got, _ in objects:
        check(f"/{sink}-1-20" in key and key.endswith(extension), f"name {key}")
        same(f"headers of {key}", (got["ContentType"], got.get("ContentEncoding")), ("application/x-ndjson", encoding))
        uuid, batch = key.removesuffix(extension)[-36:], got["Metadata"]["hydrant-batch"]
        same(f"uuid of {key}", (uuid[:8], uuid[-12:]), (batch[:8], batch[-12:]))


def query(objects, text):
    files = [str(path) for _, _, path in objects]
    return duckdb.sql(f"select {text.replace('ROWS', 'read_json($files, format=$$newline_delimited$$, columns={message: $$VARCHAR$$, hydrant: $$JSON$$, unmapped: $$JSON$$}, filename=true)')}",
                      params={"files": files}).fetchall()


# An alert is a finding (OCSF), which says what Hydrant adds below `unmapped`.
EVENTS = "from ROWS where unmapped is null"
NUMBER = r"try_cast(regexp_extract(message, 'sessionid=(\d+)', 1) as bigint)"


def count_by_duckdb(what, objects, unreadable):
    """Every event once, as SQL counts it."""
    same(f"{what}: events, different ones, the sum of their numbers",
         query(objects, f"count(*), count(distinct {NUMBER}), sum({NUMBER}) {EVENTS} and {NUMBER} is not null"),
         [(COUNT, COUNT, COUNT * (COUNT - 1) // 2)])
    same(f"{what}: unreadable lines", query(objects, f"count(*) {EVENTS} and {NUMBER} is null"), [(unreadable,)])
    alerts = sum(number % 4 == 1 and number % 50 == 1 for number in range(COUNT))
    same(f"{what}: alerts", query(objects, "count(*) from ROWS where unmapped->>'$.hydrant.alert' = 'true'"), [(alerts,)])
    return alerts


def check_folders(objects, part, expression, expected):
    """What DuckDB groups by the name of the folder is what the lines say."""
    folder = rf"regexp_extract(filename, '{part}', 1)"
    same(f"events by {part}", dict(query(objects, f"{folder} as folder, count(*) {EVENTS} and {NUMBER} is not null group by folder")), expected)
    same(f"events in the wrong folder of {part}", query(objects, f"count(*) {EVENTS} and {NUMBER} is not null and {folder} != {expression}"), [(0,)])


def check_bytes(objects):
    """A sample of plain rows, byte for byte."""
    for _, _, path in objects:
        with open(path) as file:
            for number, text in enumerate(file):
                row = json.loads(text)
                if number % 97 == 0 and not harness.is_alert(row):
                    name = row["message"].split("sessionid=")
                    if len(name) == 2:
                        same("message", row["message"], line(int(name[1].split()[0])))


def send(port):
    # Two connections, so that both shards have something to do.
    for first, last in ((0, COUNT // 2), (COUNT // 2, COUNT)):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for start in range(first, last, 1000):
                connection.sendall("".join(line(number) + "\n" for number in range(start, min(start + 1000, last))).encode())
            connection.sendall((UNREADABLE + "\n").encode())


def refused_key(stage, endpoint):
    """A wrong secret holds the destination; the other one gets everything."""
    port = harness.free_port()
    wrong = config(endpoint, port, stage.folder / "rule.yml").split("  zstd:")[0].replace(SECRET, "nonsense").replace("gzip/", "wrong/")
    hydrant = stage.hydrant(wrong.replace("120s", "1s") + "  out: { type: file, path: out.ndjson, buffer: { interval: 100ms } }\n", "wrong-key")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("".join(line(number) + "\n" for number in range(100)).encode())
    eventually("the destination to be held", lambda: hydrant.total("hydrant_destination_held", component_id="gzip") == 1)
    eventually("the other destination", lambda: hydrant.sent("out") == 100)
    check("SignatureDoesNotMatch" in stage.log_of("wrong-key"), "the log does not say why it is held")
    same("sent with a wrong secret", hydrant.sent("gzip"), 0)


def main(stage):
    endpoint, port = seaweed(stage), harness.free_port()
    (stage.folder / "rule.yml").write_text(RULE)
    hydrant = stage.hydrant(config(endpoint, port, stage.folder / "rule.yml"))
    send(port)
    for sink in ("gzip", "zstd", "parts"):
        eventually(f"all events in {sink}", lambda: hydrant.sent(sink) == COUNT + 2, 600)
    hydrant.stop()
    s3 = client(endpoint)
    gzip, bad = download(s3, stage, "gzip/"), download(s3, stage, "gzip-bad/processing-failed/")
    zstd, parts = download(s3, stage, "zstd/"), download(s3, stage, "parts/")
    check_names(gzip, "gzip", ".ndjson.gz", "gzip")
    check_names(zstd, "zstd", ".ndjson.zst", "zstd")
    check_names(parts, "parts", ".ndjson", None)
    count_by_duckdb("gzip", gzip, 0)
    same("gzip: unreadable lines", query(bad, f"count(*) {EVENTS}"), [(2,)])
    alerts = count_by_duckdb("zstd", zstd, 2)
    count_by_duckdb("parts", parts, 2)
    check_folders(gzip, "action=([a-z]+)/20", r"regexp_extract(message, 'action=\"([a-z]+)\"', 1)",
                  {action: len(range(index, COUNT, 4)) for index, action in enumerate(ACTIONS)})
    check_folders(zstd, "zstd/([0-9.]+)/20", r"regexp_extract(message, 'srcip=([0-9.]+)', 1)",
                  {f"10.9.{index}.7": len(range(index, COUNT, 5)) for index in range(5)})
    check_bytes(parts)
    # The ETag of an object that went in parts ends with how many.
    in_parts = [got["ETag"].strip('"').rpartition("-")[2] for _, got, _ in parts if "-" in got["ETag"]]
    check(any(int(count) > 1 for count in in_parts), f"no object went in several parts: {in_parts}")
    same("uploads left open", s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []), [])
    each_once("keys", [key for key, *_ in gzip + bad + zstd + parts], {key for key, *_ in gzip + bad + zstd + parts})
    refused_key(stage, endpoint)
    return (f"{COUNT} events and {alerts} alerts each once in {len(gzip) + len(bad)} gzip, {len(zstd)} zstd and {len(parts)} plain objects "
            f"({', '.join(in_parts)} parts), counted by DuckDB")


harness.play(main)
