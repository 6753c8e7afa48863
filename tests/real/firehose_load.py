#!/usr/bin/env python3
"""What one core of Hydrant takes by PutRecordBatch: CPU seconds per MiB of records, signatures checked.

    venv/bin/pip install botocore
    venv/bin/python tests/real/firehose_load.py target/release/hydrant [MIB] [RECORD_BYTES]

One shard, one connection, 4 MiB batches, the same signed request again and again, which is valid for five minutes.
Events are decoded, but no route takes them, so that no sink is measured. Prints CPU time, not time by the clock:
machines are shared.
"""
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials

hydrant = sys.argv[1]
mib = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
size = int(sys.argv[3]) if len(sys.argv) > 3 else 8384
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
folder = tempfile.mkdtemp()
config = os.path.join(folder, "hydrant.yaml")
with open(config, "w") as file:
    file.write(f"""
data_dir: {folder}/data
shards: 1
sources:
  in: {{ type: aws_firehose, listen: "127.0.0.1:{port}", decoder: json,
        credentials: [{{ access_key_id: AKIAHYDRANT, secret_access_key: correct }}] }}
sinks:
  out: {{ type: splunk_hec, endpoint: "http://127.0.0.1:9", token: t }}
routes:
  - {{ when: '%hydrant.source == "nobody"', to: [out] }}
""")
process = subprocess.Popen([hydrant, "run", "-c", config])
for _ in range(200):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        break
    except OSError:
        time.sleep(0.05)

pad = size - len(json.dumps({"n": 100000, "m": ""}, separators=(",", ":")))
count = min(500, 4 * 1024 * 1024 // size)
data = [json.dumps({"n": 100000 + i, "m": "x" * pad}, separators=(",", ":")).encode() for i in range(count)]
body = json.dumps({"DeliveryStreamName": "logs", "Records": [{"Data": base64.b64encode(d).decode()} for d in data]}).encode()
request = botocore.awsrequest.AWSRequest("POST", f"http://127.0.0.1:{port}/", data=body, headers={
    "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"})
credentials = botocore.credentials.Credentials("AKIAHYDRANT", "correct")
botocore.auth.SigV4Auth(credentials, "firehose", "eu-central-1").add_auth(request)
headers = dict(request.headers.items())


def cpu():
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


connection = http.client.HTTPConnection("127.0.0.1", port)
requests = mib * 1024 * 1024 // sum(map(len, data))
start, cpu_start, refused = time.time(), cpu(), 0
for _ in range(requests):
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    refused += answer.status != 200
    assert answer.status in (200, 500), text
used, passed = cpu() - cpu_start, time.time() - start
total = requests * sum(map(len, data)) / 1024 / 1024
print(f"{total:.0f} MiB in {requests} requests of {count} records of {size} B ({refused} refused): {used:.2f} CPU s, {passed:.2f} s by the clock; "
      f"{total / used:.0f} MiB per CPU second")
process.send_signal(signal.SIGTERM)
process.wait(60)
