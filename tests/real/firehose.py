#!/usr/bin/env python3
"""The Direct PUT API of `aws_firehose` with AWS's own clients from PyPI, unmodified: boto3 and the AWS CLI.

boto3 puts records by PutRecordBatch; every one must arrive once. Then each documented mistake is made, and the client
must report the documented error: wrong secret, wrong key, expired date, unknown stream, oversize record and batch.
"""
import datetime
import os

import boto3
import botocore.auth
import botocore.config
import botocore.exceptions

import harness
from harness import check, each_once, eventually, same
from hec_receiver import TOKEN, HecReceiver

COUNT = 100_000 if harness.FULL else 10_000


class Direct:
    """Hydrant with a stream `logs` that one key may put to."""

    def __init__(self, stage, hec):
        port = harness.free_port()
        self.endpoint, self.stage = f"http://127.0.0.1:{port}", stage
        self.hydrant = stage.hydrant(f"""
sources:
  in: {{ type: aws_firehose, listen: "127.0.0.1:{port}", streams: [logs], decoder: syslog,
        credentials: [{{ access_key_id: AKIAHYDRANT, secret_access_key: correct }}] }}
sinks:
  out: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, buffer: {{ interval: 100ms }} }}
""")

    def client(self, secret="correct", key="AKIAHYDRANT"):
        return boto3.client("firehose", region_name="eu-central-1", endpoint_url=self.endpoint, aws_access_key_id=key,
                            aws_secret_access_key=secret, config=botocore.config.Config(retries={"max_attempts": 0}))

    def cli(self, *words, secret="correct"):
        """The AWS CLI; gives the error, or nothing."""
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": "AKIAHYDRANT", "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "eu-central-1",
                       "AWS_MAX_ATTEMPTS": "1"}
        try:
            self.stage.run([harness.CACHE / "venv/bin/aws", "--endpoint-url", self.endpoint, "firehose", *words], env=environment)
            return ""
        except harness.Failure as failure:
            return str(failure)


def expect(what, code, part, call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        same(f"error code of {what}", error.response["Error"]["Code"], code)
        check(part in str(error), f"{what}: {error}")
    else:
        raise harness.Failure(f"{what}: no error")


def store(firehose):
    put = 0
    while put < COUNT:
        batch = [{"Data": f"record {put + index:07}\n".encode()} for index in range(min(500, COUNT - put))]
        answer = firehose.put_record_batch(DeliveryStreamName="logs", Records=batch)
        same("failed records and answers", (answer["FailedPutCount"], len(answer["RequestResponses"])), (0, len(batch)))
        put += len(batch)


def streams(firehose):
    described = firehose.describe_delivery_stream(DeliveryStreamName="logs", Limit=1)["DeliveryStreamDescription"]
    same("ARN", described["DeliveryStreamARN"], "arn:aws:firehose:eu-central-1:000000000000:deliverystream/logs")
    firehose.create_delivery_stream(DeliveryStreamName="new", DeliveryStreamType="DirectPut")
    same("streams", firehose.list_delivery_streams()["DeliveryStreamNames"], ["logs", "new"])
    created = firehose.describe_delivery_stream(DeliveryStreamName="new")["DeliveryStreamDescription"]["CreateTimestamp"]
    check(isinstance(created, datetime.datetime), f"CreateTimestamp {created}")
    firehose.delete_delivery_stream(DeliveryStreamName="new")


def mistakes(direct, firehose):
    small, full = [{"Data": b"x"}], {"Data": b"x" * 1_024_000}
    put = lambda client, name, batch: (lambda: client.put_record_batch(DeliveryStreamName=name, Records=batch))
    expect("wrong secret", "InvalidSignatureException", "does not match", put(direct.client("wrong"), "logs", small))
    expect("wrong key id", "UnrecognizedClientException", "security token", put(direct.client(key="AKIAOTHER"), "logs", small))
    expect("unknown stream", "ResourceNotFoundException", "not found", put(firehose, "nothing", small))
    expect("oversize record", "ValidationException", "1024000", put(firehose, "logs", [{"Data": b"x" * 1_024_001}]))
    expect("oversize batch", "InvalidArgumentException", "Records size exceeds 4 MB limit", put(firehose, "logs", [full] * 5))
    same("largest batch", firehose.put_record_batch(DeliveryStreamName="logs", Records=[full] * 4)["FailedPutCount"], 0)
    now = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) - datetime.timedelta(minutes=6)
    expect("expired date", "InvalidSignatureException", "Signature expired", put(direct.client(), "logs", small))
    botocore.auth.get_current_datetime = now


def main(stage):
    hec = HecReceiver()
    direct = Direct(stage, hec)
    firehose = direct.client()
    store(firehose)
    eventually("all records", lambda: hec.count() >= COUNT)
    each_once("PutRecordBatch", [event["event"] for event in hec.events], [f"record {number:07}" for number in range(COUNT)])
    hec.events.clear()
    streams(firehose)
    check(firehose.put_record(DeliveryStreamName="logs", Record={"Data": b"one"})["RecordId"], "PutRecord gave no id")
    same("the CLI", direct.cli("put-record", "--delivery-stream-name", "logs", "--record", "Data=by the CLI"), "")
    check("InvalidSignatureException" in direct.cli("list-delivery-streams", secret="wrong"), "the CLI with a wrong secret has no error")
    mistakes(direct, firehose)
    # PutRecord, that of the CLI (which takes its text for base64 or not, by version), and the largest batch.
    eventually("the further records", lambda: hec.count() >= 6)
    direct.hydrant.stop()
    same("further records", hec.count(), 6)
    return f"{COUNT} records by PutRecordBatch each once; boto3 and the CLI report 8 mistakes as documented"


harness.play(main)
