"""Queues of SQS by moto, and objects that are announced there as S3 announces them."""
import json
import urllib.parse
import urllib.request

import boto3
import botocore.config

import harness
from harness import eventually
from object_store import BUCKET, KEY, SECRET, client


def moto(stage):
    """Starts moto's server; gives a client of its SQS."""
    port = harness.free_port()
    stage.start("moto", [harness.CACHE / "venv/bin/moto_server", "-H", "127.0.0.1", "-p", port])
    endpoint = f"http://127.0.0.1:{port}"

    def is_up():
        try:
            return urllib.request.urlopen(endpoint + "/moto-api/", timeout=2).status == 200
        except OSError:
            return False

    eventually("moto", is_up, 60)
    config = botocore.config.Config(retries={"max_attempts": 0})
    return boto3.client("sqs", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                        config=config)


class Queue:
    """A queue with a dead-letter queue behind it."""

    def __init__(self, sqs, name, receives_max):
        self.sqs = sqs
        self.dead = sqs.create_queue(QueueName=name + "-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives_max})
        self.url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "1"})["QueueUrl"]

    def send(self, *bodies):
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def counts(self, url=None):
        """Messages that are visible, and those that are not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return tuple(int(found[name]) for name in names)

    def is_empty(self):
        return self.counts() == (0, 0)

    def dead_bodies(self):
        bodies = []
        while messages := self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages"):
            bodies += [message["Body"] for message in messages]
        return bodies


class Store:
    """Puts objects, and knows how S3 would announce them."""

    def __init__(self, endpoint):
        self.s3, self.sequencer = client(endpoint), 0

    def put(self, key, body):
        """Gives the record of an event message (S3 User Guide, "Event message structure")."""
        etag = self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"].strip('"')
        return self.record(key, etag, len(body))

    def record(self, key, etag="d41d8cd98f00b204e9800998ecf8427e", size=1, name="ObjectCreated:Put"):
        self.sequencer += 1
        return {
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-11-22T06:00:00.000Z",
            "eventName": name, "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"}, "requestParameters": {"sourceIPAddress": "192.0.2.1"},
            "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "all",
                   "bucket": {"name": BUCKET, "ownerIdentity": {"principalId": "A3NL1KOZZKExample"}, "arn": f"arn:aws:s3:::{BUCKET}"},
                   "object": {"key": urllib.parse.quote_plus(key, safe="/"), "size": size, "eTag": etag,
                              "sequencer": f"{self.sequencer:018X}"}}}


def direct(*records):
    return {"Records": list(records)}
