#!/usr/bin/env python3
"""`kill -9` again and again under load from every source that acknowledges, with three kinds of destination at once.

One Hydrant, journal on disk. In: HTTP, Direct PUT (boto3), objects of S3 announced by SQS (SeaweedFS, moto), Kafka
(Tansu), log files that are rotated, and syslog by TCP and UDP, which acknowledges nothing. Out: S3 (SeaweedFS), a strict HEC with
acknowledgement, a file. It is killed while it starts, soon after, or seconds later, and started again at once.

A *sending* is one attempt to send an event: a client that has no answer sends the same event again under the next
number. So the oracle tells what a client sent twice from what Hydrant did twice. It demands: every acknowledged event is
at every destination, as it was sent; nothing else is; no journal record is in S3 twice; one sending is one record (only
what Hydrant reads itself, from objects, Kafka and files, may be read again: counted); the file and HEC have each of them at
least once and no other; after every kill all listeners answer; no queue holds anything at the end; the ledger balances;
the journal is sound. Before all that the oracle is shown mistakes, each of which it must see.

`HYDRANT_KILLS` sets the number of kills, `HYDRANT_SEED` what is random.
"""
import collections
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import select
import socket
import statistics
import threading
import time

import boto3
import botocore.config
import botocore.exceptions

import harness
from harness import check, eventually, free_port, in_thread, same, shorten
from hec_receiver import TOKEN, HecReceiver
from kafka_broker import SESSION_S, Broker
from object_store import BUCKET, KEY, SECRET, client, seaweed
from sqs import Queue, Store, direct, moto

KILLS = int(os.environ.get("HYDRANT_KILLS", 1000 if harness.FULL else 12))

# An event's id begins with the way that it goes in. Each sending by the first three goes to Hydrant once.
WAYS = {"h": "HTTP", "p": "Direct PUT", "t": "TCP", "u": "UDP", "s": "S3 by SQS", "k": "Kafka", "f": "files"}
SENT_ONCE = "hptu"

# Events a second by each way; HTTP has two clients.
RATES = {"h": 70, "p": 100, "t": 100, "u": 100, "s": 100, "k": 100, "f": 80}

# Lines of a log file before it is rotated.
ROTATED = 2000

# A machine that does other things, too, may need its time for a start, or for what is left at the end.
PATIENCE_S = 300

NAME = re.compile(r"ID\[(\w+-\d+\.\d+)\|")


def frame(name):
    """What goes out for a sending; the digits are of its name alone, so that a mixed-up one is seen."""
    head = "<14>Nov 22 03:00:00 fw app: " if name[0] in "tu" else ""
    return f"{head}ID[{name}|{hashlib.shake_128(name.encode()).hexdigest(80)}]END"


class Sent:
    """What was sent how often, and what was acknowledged."""

    def __init__(self):
        self.attempts, self.acknowledged = {}, set()

    def frames(self, ids):
        """One more sending of each."""
        for name in ids:
            self.attempts[name] = self.attempts.get(name, 0) + 1
        return [frame(f"{name}.{self.attempts[name]}") for name in ids]

    def knows(self, sending):
        name, _, attempt = sending.partition(".")
        return 1 <= int(attempt) <= self.attempts.get(name, 0)


class Destination:
    """What has arrived: how often each sending; in S3, whose rows say it, also which journal record was which sending."""

    def __init__(self, name):
        self.name, self.sendings, self.records, self.rows, self.wrong = name, collections.Counter(), {}, 0, []

    def add(self, message, position=None):
        self.rows += 1
        found = NAME.search(message)
        if not found or message != frame(found[1]):
            self.wrong.append(message)
            return
        self.sendings[found[1]] += 1
        if position and self.records.setdefault(position, found[1]) != found[1]:
            self.wrong.append(f"{position} is {self.records[position]} and {found[1]}")

    def add_row(self, text):
        row = json.loads(text)
        self.add(row["message"], row.get("hydrant", {}).get("position"))

    def lacks(self, acknowledged):
        return acknowledged - {sending.partition(".")[0] for sending in self.sendings}


class Archive(Destination):
    """Objects in S3."""

    def __init__(self, s3):
        super().__init__("S3")
        self.s3, self.keys = s3, set()

    def collect(self):
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="out/"):
            for key in {entry["Key"] for entry in page.get("Contents", [])} - self.keys:
                self.keys.add(key)
                body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                for text in gzip.decompress(body).decode().splitlines():
                    self.add_row(text)


class Disk(Destination):
    """A file of rows; a kill may tear one, which is then ended, and there once more as a whole."""

    def __init__(self, path):
        super().__init__("file")
        self.path, self.offset, self.torn = path, 0, 0

    def collect(self):
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while (line := file.readline()).endswith(b"\n"):
                self.offset += len(line)
                try:
                    self.add_row(line)
                except ValueError:
                    self.torn += 1


class Splunk(Destination):
    """What the receiver took; it keeps no position."""

    def __init__(self, hec):
        super().__init__("HEC")
        self.hec = hec

    def collect(self):
        with self.hec.lock:
            events, self.hec.events = self.hec.events, []
        for event in events:
            self.add(event["event"])


def judge(sent, archive, disk, splunk):
    """Raises `Failure` for what must not be; gives, by sending, how many records it became."""
    for place in (archive, disk, splunk):
        check(not place.wrong, f"{place.name}: {len(place.wrong)} rows are not as they were sent: {shorten(place.wrong[:5])}")
        strange = [sending for sending in place.sendings if not sent.knows(sending)]
        check(not strange, f"{place.name}: {len(strange)} were never sent: {strange[:5]}")
        lost = place.lacks(sent.acknowledged)
        check(not lost, f"{place.name}: {len(lost)} of {len(sent.acknowledged)} acknowledged events are lost: {sorted(lost)[:5]}")
    check(archive.rows == len(archive.records), f"S3: {archive.rows - len(archive.records)} journal records are there twice")
    taken = collections.Counter(archive.records.values())
    for place in (disk, splunk):
        short = [sending for sending, count in taken.items() if place.sendings[sending] < count]
        check(not short, f"{place.name}: {len(short)} journal records of S3 are not there: {short[:5]}")
        more = place.sendings.keys() - taken.keys()
        check(not more, f"S3: {len(more)} journal records of {place.name} are not there: {sorted(more)[:5]}")
    doubled = [sending for sending, count in taken.items() if count > 1 and sending[0] in SENT_ONCE]
    check(not doubled, f"{len(doubled)} sendings were journaled twice: {doubled[:5]}")
    return taken


def check_the_oracle():
    """It passes what is right, and sees each mistake."""
    def world(spoil):
        sent, places = Sent(), [Destination(name) for name in ("S3", "file", "HEC")]
        ids = [f"{way}-{number}" for way in WAYS for number in range(3)]
        sent.acknowledged.update(ids)
        # Two are sent again; one of Kafka's is read again; the file and HEC may have a record twice.
        rows = [[place, text, f"7:{number}"] for number, text in enumerate([*sent.frames(ids), *sent.frames(ids[:2]), frame("k-1.1")])
                for place in range(3)]
        rows += [list(row) for row in rows[1:3]]
        spoil(rows)
        for place, text, position in rows:
            places[place].add_row(json.dumps({"message": text, "hydrant": {"position": position} if place == 0 else {}}))
        return sent, *places

    def without(place, name, attempt="."):
        return lambda rows: rows.__setitem__(slice(None), [row for row in rows if row[0] != place or f"[{name}{attempt}" not in row[1]])

    def change_a_digit(rows):
        rows[5][1] = rows[5][1].replace("]END", "")[:-1] + "x]END"

    mistakes = {
        "S3: 1 of 21 acknowledged events are lost: ['h-0']": without(0, "h-0"),
        "file: 1 of 21 acknowledged events are lost: ['t-2']": without(1, "t-2"),
        "HEC: 1 of 21 acknowledged events are lost: ['k-1']": without(2, "k-1"),
        "HEC: 1 rows are not as they were sent": change_a_digit,
        "file: 1 were never sent: ['x-9.1']": lambda rows: rows.append([1, frame("x-9.1"), "7:99"]),
        "HEC: 1 were never sent: ['h-2.2']": lambda rows: rows.append([2, frame("h-2.2"), "7:99"]),
        "S3: 1 journal records are there twice": lambda rows: rows.append(rows[0]),
        "file: 1 journal records of S3 are not there: ['k-1.1']": lambda rows: rows.append([0, frame("k-1.1"), "7:99"]),
        "HEC: 1 journal records of S3 are not there: ['h-1.2']": without(2, "h-1", ".2"),
        "S3: 1 journal records of file are not there: ['h-1.2']": without(0, "h-1", ".2"),
        "S3: 1 rows are not as they were sent: ['7:0 is": lambda rows: rows.append([0, frame("f-1.1"), "7:0"]),
        "1 sendings were journaled twice: ['p-0.1']": lambda rows: rows.extend([place, frame("p-0.1"), "7:99"] for place in range(3)),
    }
    same("what becomes two records", [name for name, count in judge(*world(lambda rows: None)).items() if count > 1], ["k-1.1"])
    for words, spoil in mistakes.items():
        try:
            judge(*world(spoil))
        except harness.Failure as failure:
            check(words in str(failure), f"the oracle was shown `{words}` and said `{failure}`")
        else:
            raise harness.Failure(f"the oracle did not see: {words}")
    return len(mistakes)


# No answer, or none that can be read.
UNANSWERED = (OSError, http.client.HTTPException, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


class Load:
    """Everybody who sends, until the end."""

    def __init__(self, seed, sent, ports, peers, logs):
        self.seed, self.sent, self.ports, self.logs = seed, sent, ports, logs
        self.store, self.queue, self.broker = peers
        self.over = threading.Event()
        works = [self.http, self.http, self.put, self.tcp, self.udp, self.objects, self.records, self.lines]
        self.threads = [in_thread(work, number) for number, work in enumerate(works)]

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.result()

    def check_senders(self):
        for thread in self.threads:
            if thread.error:
                raise thread.error

    def batches(self, way, number):
        """Ids at a steady rate: a few together, now and then many."""
        chance, next_id = random.Random(f"{self.seed} {number}"), 0
        while not self.over.is_set():
            count = chance.randint(1, 40) if chance.random() < 0.95 else chance.randint(100, 400)
            yield [f"{way}{number}-{next_id + index}" for index in range(count)]
            next_id += count
            self.over.wait(count / RATES[way])

    def until_taken(self, ids, send, is_acknowledged=True):
        """`send` says which were taken; the others go out again."""
        while ids:
            try:
                taken = send(self.sent.frames(ids))
            except UNANSWERED:
                taken = [False] * len(ids)
            if is_acknowledged:
                self.sent.acknowledged.update(name for name, is_taken in zip(ids, taken) if is_taken)
            ids = [name for name, is_taken in zip(ids, taken) if not is_taken]
            if ids:
                time.sleep(0.05)

    def http(self, number):
        def send(frames):
            body = "".join(text + "\n" for text in frames).encode()
            status, _, _ = harness.post(f"http://127.0.0.1:{self.ports['http']}/", body, {"Content-Type": "text/plain"}, 10)
            return [status == 200] * len(frames)

        for ids in self.batches("h", number):
            self.until_taken(ids, send)

    def put(self, number):
        firehose = boto3.client("firehose", region_name="eu-central-1", endpoint_url=f"http://127.0.0.1:{self.ports['put']}",
                                aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                                config=botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=10, read_timeout=10))

        def send(frames):
            answer = firehose.put_record_batch(DeliveryStreamName="logs", Records=[{"Data": text.encode()} for text in frames])
            return ["RecordId" in one for one in answer["RequestResponses"]]

        for ids in self.batches("p", number):
            self.until_taken(ids, send)

    def tcp(self, number):
        """A sender that looks whether its peer is still there, as rsyslog does, loses least."""
        connection = None

        def send(frames):
            nonlocal connection
            if connection and select.select([connection], [], [], 0)[0]:
                connection = None
            connection = connection or socket.create_connection(("127.0.0.1", self.ports["tcp"]), 10)
            connection.sendall("".join(text + "\n" for text in frames).encode())
            return [True] * len(frames)

        for ids in self.batches("t", number):
            self.until_taken(ids, send, is_acknowledged=False)

    def udp(self, number):
        """A sender that cannot know whether anybody is there."""
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            def send(frames):
                for text in frames:
                    datagrams.sendto(text.encode(), ("127.0.0.1", self.ports["udp"]))
                return [True] * len(frames)

            for ids in self.batches("u", number):
                self.until_taken(ids, send, is_acknowledged=False)

    def objects(self, number):
        def send(frames):
            body = "".join(text + "\n" for text in frames).encode()
            key = f"in/{NAME.search(frames[0])[1]}"
            self.queue.send(direct(self.store.put(key, gzip.compress(body) if len(frames) % 2 else body)))
            return [True] * len(frames)

        for ids in self.batches("s", number):
            self.until_taken(ids, send)

    def records(self, number):
        producer = self.broker.producer("lz4")

        def taken(name):
            return lambda error, _: None if error else self.sent.acknowledged.add(name)

        for ids in self.batches("k", number):
            for name, text in zip(ids, self.sent.frames(ids)):
                producer.produce("logs", text.encode(), on_delivery=taken(name))
            producer.poll(0)
        same("records left in the producer", producer.flush(PATIENCE_S), 0)

    def lines(self, number):
        """A log that is renamed now and then; a line counts as acknowledged when it is written."""
        path, written, rotations = self.logs / "fw.log", 0, 0
        for ids in self.batches("f", number):
            with open(path, "a") as file:
                file.writelines(text + "\n" for text in self.sent.frames(ids))
            self.sent.acknowledged.update(ids)
            written += len(ids)
            if written > ROTATED:
                written, rotations = 0, rotations + 1
                path.rename(f"{path}.{rotations}")


def config(ports, peers, hec):
    store, queue, broker = peers
    keys = f"endpoint: \"{store.s3.meta.endpoint_url}\", credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }}"
    return f"""
shards: 2
drain_timeout: 120s
journal: {{ type: disk, segment_size: 4MiB, max_size: 4GB }}
sources:
  http: {{ type: http, listen: "127.0.0.1:{ports["http"]}" }}
  put: {{ type: aws_firehose, listen: "127.0.0.1:{ports["put"]}", credentials: [{{ access_key_id: {KEY}, secret_access_key: {SECRET} }}] }}
  tcp: {{ type: syslog, listen: "tcp://127.0.0.1:{ports["tcp"]}" }}
  udp: {{ type: syslog, listen: "udp://127.0.0.1:{ports["udp"]}" }}
  objects: {{ type: aws_s3, queue: "{queue.url}", visibility_timeout: 2s, {keys} }}
  records: {{ type: kafka, brokers: ["{broker.address}"], topics: [logs], group_id: hydrant, session_timeout: {SESSION_S}s }}
  files: {{ type: file, include: ["logs/fw.log*"], poll_interval: 100ms }}
sinks:
  s3: {{ type: aws_s3, bucket: {BUCKET}, prefix: "out/", compression: gzip, buffer: {{ size_mb: 1, interval: 1s }}, {keys} }}
  hec: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, ack: true, buffer: {{ interval: 300ms }} }}
  disk: {{ type: file, path: "out/events.ndjson", buffer: {{ interval: 100ms }} }}
"""


# How long a life may be, in seconds behind its start or, for all but the first kind, behind the moment in which it is ready;
# and how many of each kind are among twenty. A member that joins Kafka's group waits for half a session: only the longest
# read records.
LIVES = {"starting": ((0, 0.25), 3), "short": ((0, 1.8), 12), "long": ((3, 6), 5)}


class Lives:
    """Kills and starts, and what was measured at each."""

    def __init__(self, hydrant, ports, chance):
        self.hydrant, self.ports, self.chance, self.launched = hydrant, ports, chance, None
        self.starts_s, self.rss_mib, self.data_mib, self.kinds, self.early = [], [], [], [], 0

    def live(self):
        """From a start to a moment at random, which may come before the start is done."""
        if not self.kinds:
            self.kinds = [kind for kind, (_, count) in LIVES.items() for _ in range(count)]
            self.chance.shuffle(self.kinds)
        kind = self.kinds.pop()
        if kind != "starting":
            self.await_ready()
        time.sleep(self.chance.uniform(*LIVES[kind][0]))
        self.early += kind == "starting" and not self.hydrant.is_ready()

    def await_ready(self):
        eventually("Hydrant to be ready", self.hydrant.is_ready, PATIENCE_S)
        for port in [port for name, port in self.ports.items() if name != "udp"]:
            socket.create_connection(("127.0.0.1", port), 10).close()
        if self.launched is not None:
            self.starts_s.append(time.monotonic() - self.launched)

    def restart(self):
        """kill -9, and at once the next start."""
        self.rss_mib.append(self.hydrant.peak_rss_mib())
        self.hydrant.kill()
        blocks = sum(path.stat().st_blocks for path in (self.hydrant.folder / "data").rglob("*"))
        self.data_mib.append(blocks * 512 / 2**20)
        self.launched = time.monotonic()
        self.hydrant.launch()


def tell(sent, taken, archive, disk, splunk):
    """A line for each way in, one for each way out."""
    records = len(archive.records)
    for way, name in WAYS.items():
        own = {sending: count for sending, count in taken.items() if sending[0] == way}
        events = len({sending.partition(".")[0] for sending in own})
        tried = sum(event[0] == way for event in sent.attempts)
        known = sum(event[0] == way for event in sent.acknowledged)
        print(f"{name}: {tried} events sent, {known} acknowledged, {events} delivered; taken twice since the client sent them "
              f"again {len(own) - events}, read again by Hydrant {sum(own.values()) - len(own)}")
    for place in (archive, disk, splunk):
        print(f"{place.name}: {records} journal records, {place.rows - records} of them twice")
    print(f"file: {disk.torn} torn lines; S3: {len(archive.keys)} objects", flush=True)
    lost = lambda way: sum(event[0] == way for event in sent.attempts) - sum(sending[0] == way for sending in taken)
    return f"lost by TCP {lost('t')}, by UDP {lost('u')}, as many sent by each as the table says"


def main(stage):
    seed = int(os.environ.get("HYDRANT_SEED", random.randrange(1 << 32)))
    print(f"HYDRANT_SEED={seed}", flush=True)
    mistakes = check_the_oracle()
    broker, endpoint = Broker(stage), seaweed(stage)
    broker.start()
    broker.create("logs")
    peers = Store(endpoint), Queue(moto(stage), "kill", 1000), broker
    hec, sent = HecReceiver(ack=True), Sent()
    ports = {name: free_port() for name in ("http", "put", "tcp", "udp")}
    hydrant = stage.hydrant(config(ports, peers, hec))
    logs = hydrant.folder / "logs"
    logs.mkdir()
    places = Archive(client(endpoint)), Disk(hydrant.folder / "out/events.ndjson"), Splunk(hec)
    archive, disk, splunk = places
    load, lives = Load(seed, sent, ports, peers, logs), Lives(hydrant, ports, random.Random(seed))
    begin = time.monotonic()
    for number in range(1, KILLS + 1):
        lives.live()
        lives.restart()
        # Meanwhile it starts. What is kept here only grows.
        splunk.collect()
        disk.collect()
        load.check_senders()
        if number % 50 == 0:
            print(f"{number} kills, {time.monotonic() - begin:.0f} s, {len(sent.acknowledged)} events acknowledged, {disk.rows} rows in the file", flush=True)
    lives.await_ready()
    load.end()
    drain(sent, peers, places)
    lives.rss_mib.append(hydrant.peak_rss_mib())
    hydrant.stop(PATIENCE_S)
    for place in places:
        place.collect()
    taken = judge(sent, *places)
    check(disk.torn <= KILLS, f"{disk.torn} torn lines")
    hydrant.book()
    stage.run([harness.binary(), "journal", "check", "--data-dir", hydrant.folder / "data"])
    said = [line for line in stage.log_of("hydrant").splitlines() if "panicked" in line or "damage" in line]
    check(not said, f"it said {said[:5]}")
    starts = sorted(lives.starts_s)
    lost = tell(sent, taken, *places)
    return (f"seed {seed}: {KILLS} kills ({lives.early} of them during the start) in {time.monotonic() - begin:.0f} s; {len(sent.acknowledged)} "
            f"acknowledged events, 0 lost at 3 destinations, no journal record twice in S3; {lost}; "
            f"starts {statistics.median(starts):.2f} s, 99 of 100 within {starts[len(starts) * 99 // 100]:.2f} s, the longest {starts[-1]:.2f} s; "
            f"peak {max(lives.rss_mib):.0f} MiB resident, data folder at most {max(lives.data_mib):.0f} MiB; "
            f"the oracle saw {mistakes} of {mistakes} mistakes")


def drain(sent, peers, places):
    """Waits until nothing is left to be read, and everything is everywhere."""
    _, queue, broker = peers
    records = sum(event[0] == "k" for event in sent.acknowledged)
    patient = lambda probe: (lambda: probe() or time.sleep(0.5))
    eventually("the queue to be empty", patient(queue.is_empty), PATIENCE_S)
    same("messages in the dead-letter queue", queue.counts(queue.dead), (0, 0))
    eventually("all records to be committed", patient(lambda: broker.committed("logs", "hydrant") >= records), PATIENCE_S)
    for place in places:
        try:
            eventually(f"every event at {place.name}", patient(lambda: place.collect() or not place.lacks(sent.acknowledged)), PATIENCE_S)
        except harness.Failure:
            # The judge says what is not there.
            return


harness.play(main)
