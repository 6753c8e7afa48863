#!/usr/bin/env python3
"""One core of Hydrant under 20 times the default quota of a Firehose stream: 20 x 5 MiB/s = 100 MiB/s of record data.

Firehose counts data before base64, so the wire carries a third more. One shard on CPU 0 (`taskset`), the load on the
others: full PutRecordBatch calls of 4 MiB over a few connections, signatures checked, records decoded as JSON, and
held against a route that takes none of them, so that no sink is measured. The same signed requests are sent again and
again; they are valid for five minutes.

First the load is held at 100 MiB/s, and not one call may be refused; then it goes as fast as it is let.
"""
import base64
import http.client
import json
import os
import threading
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials

import harness
from harness import check, in_thread, same

TARGET_MIB_S = 20 * 5
STEADY_S, RUSH_S = (30, 15) if harness.FULL else (5, 3)
RECORD_BYTES = 8384
CONNECTIONS = 2


def signed(port):
    """A request of 500 records; its body, headers, and how many bytes of data it has."""
    pad = "x" * (RECORD_BYTES - len('{"n":100000,"m":""}'))
    data = [f'{{"n":{100000 + index},"m":"{pad}"}}'.encode() for index in range(500)]
    body = json.dumps({"DeliveryStreamName": "logs", "Records": [{"Data": base64.b64encode(record).decode()} for record in data]}).encode()
    request = botocore.awsrequest.AWSRequest("POST", f"http://127.0.0.1:{port}/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"})
    botocore.auth.SigV4Auth(botocore.credentials.Credentials("AKIAHYDRANT", "correct"), "firehose", "eu-central-1").add_auth(request)
    return body, dict(request.headers.items()), sum(map(len, data))


def put(port, request, seconds, mib_s, tally, lock):
    """Sends until the time is over, no faster than `mib_s` if that is given."""
    body, headers, size = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    start, sent = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        if mib_s and sent * size > now * mib_s * 2**20:
            time.sleep(0.002)
            continue
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        check(answer.status in (200, 500), f"{answer.status} {text[:200]}")
        sent += 1
        with lock:
            tally[answer.status] = tally.get(answer.status, 0) + 1


def measure(hydrant, port, request, seconds, mib_s):
    """MiB/s taken, CPU seconds a second, calls by status."""
    tally, lock, cpu, start = {}, threading.Lock(), hydrant.cpu_s(), time.monotonic()
    senders = [in_thread(put, port, request, seconds, mib_s and mib_s / CONNECTIONS, tally, lock) for _ in range(CONNECTIONS)]
    for sender in senders:
        sender.result(seconds + 60)
    passed, used = time.monotonic() - start, hydrant.cpu_s() - cpu
    return tally.get(200, 0) * request[2] / 2**20 / passed, used / passed, tally


def main(stage):
    check(os.cpu_count() > 1, "the load needs a CPU of its own")
    port = harness.free_port()
    hydrant = stage.hydrant(f"""
shards: 1
sources:
  in: {{ type: aws_firehose, listen: "127.0.0.1:{port}", decoder: json,
        credentials: [{{ access_key_id: AKIAHYDRANT, secret_access_key: correct }}] }}
sinks:
  out: {{ type: file, path: out.ndjson }}
routes:
  - {{ when: '%hydrant.source == "nobody"', to: [out] }}
""", cpu=0)
    os.sched_setaffinity(0, set(range(1, os.cpu_count())))
    request = signed(port)
    steady, steady_cpu, tally = measure(hydrant, port, request, STEADY_S, TARGET_MIB_S)
    same("calls refused at the target", tally.get(500, 0), 0)
    rush, rush_cpu, more = measure(hydrant, port, request, RUSH_S, None)
    metrics = hydrant.stop()
    same("records", harness.total(metrics, "hydrant_component_received_events_total"), 500 * (tally.get(200, 0) + more.get(200, 0)))
    figures = (f"{steady:.0f} MiB/s of record data for {STEADY_S} s on one core, {steady_cpu:.2f} CPU seconds a second ({steady / steady_cpu:.0f} MiB a CPU "
               f"second), 0 of {sum(tally.values())} calls refused; without a limit {rush:.0f} MiB/s at {rush_cpu:.2f} CPU")
    check(steady > 0.98 * TARGET_MIB_S, f"only {figures}")
    return figures


harness.play(main)
