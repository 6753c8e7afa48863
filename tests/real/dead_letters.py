#!/usr/bin/env python3
"""Dead letters in a bucket (SeaweedFS): what a HEC refuses ends there, each once, in Firehose's error-record form.

The bucket is away at first: letters stay on the disk, nobody else notices. Then it takes an object whose answer never
arrives, and Hydrant is killed: the object is there and its letters still on the disk. The next process must find it under
the same key and write no other. At last an object is brought back, and `hydrant dlq` sends its letters again.
"""
import base64
import gzip
import json
import re
import socket
import threading
import time

import harness
from harness import check, each_once, eventually, same
from hec_receiver import TOKEN, HecReceiver
from object_store import BUCKET, KEY, SECRET, client, seaweed

COUNT = 20_000 if harness.FULL else 1_000
POISON = 25  # one of so many
NAME = r"dead/splunk-failed/\d{4}/letters-1-\d{4}(-\d\d){5}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.ndjson\.gz"
FIELDS = {"attemptsMade", "arrivalTimestamp", "errorCode", "errorMessage", "attemptEndingTimestamp", "rawData", "EventId"}


class Way:
    """The way to the bucket: it may refuse connections, or lose what comes back."""

    def __init__(self, endpoint):
        self.target = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self.port, self.loses, self.lost_bytes = harness.free_port(), True, 0

    def open(self):
        server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve, args=(server,), daemon=True).start()

    def serve(self, server):
        while True:
            near = server.accept()[0]
            far = socket.create_connection(self.target)
            for ends in ((near, far, False), (far, near, True)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, target, is_answer):
        try:
            while data := source.recv(1 << 16):
                if is_answer and self.loses:
                    self.lost_bytes += len(data)
                else:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # somebody was killed


def config(way, hec, port, s3=True):
    store = f"""
dead_letters:
  s3:
    bucket: {BUCKET}
    endpoint: "http://127.0.0.1:{way.port}"
    credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }}
    error_prefix: "dead/!{{firehose:error-output-type}}/!{{timestamp:yyyy}}/"
    stream: letters
    buffer: {{ size_mb: 1, interval: 1s }}
"""
    return f"""{store if s3 else ''}
sources: {{ in: {{ type: http, listen: "127.0.0.1:{port}", decoder: json }} }}
sinks: {{ splunk: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, buffer: {{ events: 50, interval: 200ms }} }} }}
"""


def post(port, first, last):
    """Sends events by their numbers; gives those that are poisoned."""
    rows = [json.dumps({"message": f"id={number}. {'poison' if number % POISON == 0 else 'pure'}"}) for number in range(first, last)]
    for start in range(0, len(rows), 500):
        status, _, answer = harness.post(f"http://127.0.0.1:{port}/", "\n".join(rows[start:start + 500]).encode(), {"content-type": "application/json"})
        same("the source's answer", (status, answer if status != 200 else b""), (200, b""))
    return [number for number in range(first, last) if number % POISON == 0]


def number_of(text):
    return int(re.search(r"id=(\d+)\.", text)[1])


def keys(s3):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def letters_of(s3, key):
    """The letters of an object, each in the form that it should have."""
    got = s3.get_object(Bucket=BUCKET, Key=key)
    check(re.fullmatch(NAME, key), f"the name {key}")
    same(f"headers of {key}", (got["ContentType"], got["ContentEncoding"]), ("application/x-ndjson", "gzip"))
    body = gzip.decompress(got["Body"].read())
    letters = [json.loads(line) for line in body.splitlines()]
    for letter in letters:
        check(FIELDS <= letter.keys(), f"a letter has {sorted(letter)}")
        same("why", (letter["errorCode"], letter["reason"], letter["destination"], letter["source"]),
             ("Destination.Rejected", "http_400", "splunk", "in"))
    return body, letters


def brought_back(stage, body, count, config_text, hec):
    """An object is a file of dead letters: `dlq` finds them in it, and sends them again."""
    folder = stage.folder / "back"
    (folder / "data/dead_letters").mkdir(parents=True)
    (folder / "data/dead_letters/splunk.ndjson.1").write_bytes(body)
    (folder / "hydrant.yaml").write_text(f"data_dir: {folder / 'data'}\n{config_text}")
    listed = json.loads(stage.run([harness.binary(), "dlq", "list", "-c", folder / "hydrant.yaml", "--output", "json"]))
    same("letters that came back", (listed["destination"], listed["reason"], listed["events"]), ("splunk", "http_400", count))
    before, hec.refuses = hec.count(), lambda event: False
    stage.run([harness.binary(), "dlq", "replay", "-c", folder / "hydrant.yaml", "-d", "splunk"])
    same("letters that are sent again", hec.count() - before, count)


def main(stage):
    way, port = Way(seaweed(stage)), harness.free_port()
    s3 = client(f"http://127.0.0.1:{way.target[1]}")
    hec = HecReceiver(keep=lambda event: number_of(str(event["event"])), refuses=lambda event: "poison" in str(event["event"]))
    hydrant = stage.hydrant(config(way, hec, port))
    poisoned = post(port, 0, COUNT)
    eventually("all that is good", lambda: hec.count() == COUNT - len(poisoned))
    eventually("all that is bad", lambda: hydrant.total("hydrant_dead_letter_events_total") == len(poisoned))
    warnings = lambda: stage.log_of("hydrant").count("dead letters cannot be shipped")
    eventually("a warning", warnings)
    time.sleep(5)
    same("warnings while the bucket is away", warnings(), 1)
    same("letters on the disk", hydrant.total("hydrant_dead_letters_shipped_total"), 0)

    way.open()
    before = eventually("an object whose answer is lost", lambda: way.lost_bytes and keys(s3), 60)
    hydrant.kill()
    same("objects at the kill", len(before), 1)
    way.loses = False
    hydrant.start()
    poisoned += post(port, COUNT, 2 * COUNT)
    eventually("all letters to be shipped", lambda: hydrant.total("hydrant_dead_letters_shipped_total") == len(poisoned))
    eventually("an empty disk", lambda: hydrant.total("hydrant_dead_letter_used_bytes") == 0)
    hydrant.stop()
    hydrant.book()

    after = keys(s3)
    check(before <= after, f"{before - after} is gone")
    objects = {key: letters_of(s3, key) for key in after}
    letters = [letter for _, own in objects.values() for letter in own]
    each_once("letters", [number_of(base64.b64decode(letter["rawData"]).decode()) for letter in letters], poisoned)
    each_once("events", [letter["EventId"] for letter in letters], {letter["EventId"] for letter in letters})
    each_once("what is delivered", hec.events, {number for number in range(2 * COUNT)} - set(poisoned))
    body, own = objects[before.pop()]
    brought_back(stage, body, len(own), config(way, hec, port, s3=False), hec)
    return f"{len(letters)} letters each once in {len(after)} objects; the one of the kill under its old key; {len(own)} brought back and sent again"


harness.play(main)
