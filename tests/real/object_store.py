"""A real object store for the scenarios: SeaweedFS, and boto3 to look into it."""
import os
import random
import socket

import boto3
import botocore.config
import botocore.exceptions

import harness
from harness import eventually

KEY, SECRET, BUCKET = "AKIATEST", "SECRETTEST", "logs"


def seaweed(stage):
    """Starts SeaweedFS; gives its S3 address. It listens at each port + 10000 too, for gRPC."""
    def is_free(port):
        with socket.socket() as tcp:
            return tcp.connect_ex(("127.0.0.1", port)) != 0

    roles = ["s3.port", "master.port", "volume.port", "filer.port", "admin.port"]
    while True:
        base = random.randrange(11_000, 20_000)
        ports = {role: base + index for index, role in enumerate(roles)}
        if all(is_free(port) and is_free(port + 10_000) for port in ports.values()):
            break
    data = stage.folder / "seaweed"
    data.mkdir()
    stage.start("seaweed", [
        harness.CACHE / "venv/bin/weed", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", *(f"-{role}={port}" for role, port in ports.items())],
        env={**os.environ, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    def is_up():
        try:
            client(endpoint).head_bucket(Bucket=BUCKET)
            return True
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False

    eventually("SeaweedFS and its bucket", is_up, 60)
    return endpoint


def client(endpoint):
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, connect_timeout=2)
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=config)
