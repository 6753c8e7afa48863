#!/usr/bin/env python3
"""The `aws_firehose` source with AWS's own clients: boto3 and the AWS CLI.

    python3 -m venv venv && venv/bin/pip install boto3 awscli
    cargo build && venv/bin/python tests/real/firehose.py target/debug/hydrant [RECORDS]

Starts Hydrant with the memory journal and a small Splunk HEC receiver of its own, puts RECORDS records (default
100,000) by PutRecordBatch and counts what arrives, then shows how the clients report each documented error.
Exits with 1 at the first thing that is not as it should be.
"""
import datetime
import gzip
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import botocore.auth
import botocore.config
import botocore.exceptions

hydrant = sys.argv[1]
records = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
received, lock = [], threading.Lock()


class Hec(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        decoder, text, at = json.JSONDecoder(), body.decode(), 0
        events = []
        while at < len(text):
            event, at = decoder.raw_decode(text, at)
            while at < len(text) and text[at].isspace():
                at += 1
            inner = event["event"]
            events.append(inner if isinstance(inner, str) else inner.get("message", json.dumps(inner)))
        with lock:
            received.extend(events)
        answer = b'{"text":"Success","code":0}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check(what, is_so):
    print(("ok    " if is_so else "FAIL  ") + what, flush=True)
    if not is_so:
        os.kill(process.pid, signal.SIGKILL)
        sys.exit(1)


def expect(what, code, part, call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        print("      " + str(error)[:240])
        check(what, error.response["Error"]["Code"] == code and part in str(error))
    else:
        check(what + ": no error", False)


hec = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hec)
threading.Thread(target=hec.serve_forever, daemon=True).start()
port, folder = free_port(), tempfile.mkdtemp()
config = os.path.join(folder, "hydrant.yaml")
with open(config, "w") as file:
    file.write(f"""
data_dir: {folder}/data
sources:
  in: {{ type: aws_firehose, listen: "127.0.0.1:{port}", streams: [logs],
        credentials: [{{ access_key_id: AKIAHYDRANT, secret_access_key: correct }}] }}
sinks:
  out: {{ type: splunk_hec, endpoint: "http://127.0.0.1:{hec.server_port}", token: t, buffer: {{ interval: 100ms }} }}
""")
process = subprocess.Popen([hydrant, "run", "-c", config])
for _ in range(200):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        break
    except OSError:
        time.sleep(0.05)

endpoint = f"http://127.0.0.1:{port}"


def client(secret="correct", key="AKIAHYDRANT"):
    return boto3.client(
        "firehose", region_name="eu-central-1", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
        config=botocore.config.Config(retries={"max_attempts": 0}))


firehose = client()
start, put = time.time(), 0
while put < records:
    batch = [{"Data": f"record {put + i:07}\n".encode()} for i in range(min(500, records - put))]
    answer = firehose.put_record_batch(DeliveryStreamName="logs", Records=batch)
    assert answer["FailedPutCount"] == 0 and len(answer["RequestResponses"]) == len(batch)
    put += len(batch)
seconds = time.time() - start
while len(received) < records and time.time() < start + 300:
    time.sleep(0.05)
check(f"{records} records by PutRecordBatch in {seconds:.1f} s, {len(received)} arrived",
      sorted(received) == [f"record {i:07}" for i in range(records)])
received.clear()

check("PutRecord", firehose.put_record(DeliveryStreamName="logs", Record={"Data": b"one"})["RecordId"] != "")
described = firehose.describe_delivery_stream(DeliveryStreamName="logs", Limit=1)["DeliveryStreamDescription"]
check("DescribeDeliveryStream: " + described["DeliveryStreamARN"],
      described["DeliveryStreamARN"] == "arn:aws:firehose:eu-central-1:000000000000:deliverystream/logs")
firehose.create_delivery_stream(DeliveryStreamName="new", DeliveryStreamType="DirectPut")
check("CreateDeliveryStream, ListDeliveryStreams", firehose.list_delivery_streams()["DeliveryStreamNames"] == ["logs", "new"])
created = firehose.describe_delivery_stream(DeliveryStreamName="new")["DeliveryStreamDescription"]["CreateTimestamp"]
check(f"CreateTimestamp is a time: {created}", isinstance(created, datetime.datetime))
firehose.delete_delivery_stream(DeliveryStreamName="new")

small, full = [{"Data": b"x"}], {"Data": b"x" * 1_024_000}
put_batch = lambda c, name, batch: (lambda: c.put_record_batch(DeliveryStreamName=name, Records=batch))
expect("wrong secret", "InvalidSignatureException", "does not match", put_batch(client("wrong"), "logs", small))
expect("wrong key id", "UnrecognizedClientException", "security token", put_batch(client(key="AKIAOTHER"), "logs", small))
expect("unknown stream", "ResourceNotFoundException", "not found", put_batch(firehose, "nothing", small))
expect("oversize record", "ValidationException", "1024000", put_batch(firehose, "logs", [{"Data": b"x" * 1_024_001}]))
expect("oversize batch", "InvalidArgumentException", "Records size exceeds 4 MB limit", put_batch(firehose, "logs", [full] * 5))
check("largest batch", firehose.put_record_batch(DeliveryStreamName="logs", Records=[full] * 4)["FailedPutCount"] == 0)

real_now = botocore.auth.get_current_datetime
botocore.auth.get_current_datetime = lambda *a, **k: real_now(*a, **k) - datetime.timedelta(minutes=6)
expect("expired date", "InvalidSignatureException", "Signature expired", put_batch(client(), "logs", small))
botocore.auth.get_current_datetime = real_now

cli = os.path.join(os.path.dirname(sys.executable), "aws")
environment = dict(os.environ, AWS_ACCESS_KEY_ID="AKIAHYDRANT", AWS_SECRET_ACCESS_KEY="correct", AWS_DEFAULT_REGION="eu-central-1")
run = lambda env, *words: subprocess.run([cli, "--endpoint-url", endpoint, "firehose", *words], env=env, capture_output=True, text=True)
result = run(environment, "put-record", "--delivery-stream-name", "logs", "--record", "Data=by the CLI")
check("aws firehose put-record: " + " ".join(result.stdout.split()), result.returncode == 0 and "RecordId" in result.stdout)
result = run(dict(environment, AWS_SECRET_ACCESS_KEY="wrong"), "list-delivery-streams")
check("aws firehose with a wrong secret: " + result.stderr.strip()[:120], "InvalidSignatureException" in result.stderr)

deadline = time.time() + 60
while len(received) < 6 and time.time() < deadline:
    time.sleep(0.05)
check(f"{len(received)} further records arrived", len(received) == 6)
process.send_signal(signal.SIGTERM)
check("SIGTERM ends it well", process.wait(60) == 0)
