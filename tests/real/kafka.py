#!/usr/bin/env python3
"""The source `kafka`: a broker that is not ours (Tansu, storage in memory), a producer that is not ours (confluent-kafka).

The broker is away when Hydrant starts, and the topic is not there yet. Then: records in every compression arrive once
each, and the group has committed all of them; a destination that is down holds everything for longer
than the session's timeout, and we stay in the group; `kill -9` at random moments under load, and two Hydrants that share
a group while one comes and goes: nothing is lost, and what comes twice is counted and said apart.
"""
import random
import re
import signal
import threading
import time

import harness
from harness import check, each_once, same
from kafka_broker import SESSION_S, Broker

KILLS = 20 if harness.FULL else 3
RECORDS = 200_000 if harness.FULL else 20_000
COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]


def eventually(what, probe, patience_s=harness.PATIENCE_S):
    """As the harness's, for probes that read files."""
    return harness.eventually(what, lambda: probe() or time.sleep(0.2), patience_s)


class Load:
    """Produces numbered records until it is told to stop, and knows which the broker has taken."""

    def __init__(self, broker, topic, bytes_each=200, pause_s=0.01):
        self.broker, self.topic, self.bytes_each, self.pause_s = broker, topic, bytes_each, pause_s
        self.taken, self.failed, self.is_over = [], [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        producer, number = self.broker.producer("lz4"), 0
        while not self.is_over:
            for _ in range(10):
                name = f"{self.topic}-{number}"
                put(producer, self.topic, name, self.bytes_each, lambda error, _, name=name: (self.failed if error else self.taken).append(name))
                number += 1
            producer.poll(0)
            time.sleep(self.pause_s)
        producer.flush(60)

    def stop(self):
        self.is_over = True
        self.thread.join(90)
        same("records that the broker did not take", self.failed, [])
        return self.taken


def put(producer, topic, name, bytes_each=200, on_delivery=None):
    producer.produce(topic, f"{'x' * bytes_each} id={name}.".encode(), key=name.encode(), on_delivery=on_delivery)


def source(broker, topic, group, more=""):
    return (f"type: kafka, brokers: [\"{broker.address}\"], topics: [{topic}], group_id: {group}, "
            f"session_timeout: {SESSION_S}s{more}")


def ids(*paths):
    """The ids in the rows of files; a row that a kill tore has none."""
    return [name for path in paths if path.exists() for name in re.findall(r"id=([\w-]+)\.", path.read_text(errors="replace"))]


def once_or_more(what, found, expected):
    """Everything came; how often something came again."""
    wanted = set(expected)
    check(wanted == set(found), f"{what}: {len(wanted - set(found))} of {len(wanted)} missing, {len(set(found) - wanted)} not sent")
    return len(found) - len(wanted)


def refused(hydrant, reason):
    return hydrant.total("hydrant_component_refused_total", component_id="in", reason=reason)


def late(stage, broker):
    """Neither broker nor topic are there at the start; then every record comes once."""
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(broker, 'late', 'g-late')} }} }}
sinks:
  out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }}
  other: {{ type: file, path: other.ndjson, buffer: {{ interval: 100ms }} }}
routes:
  - {{ to: [out], when: '%hydrant.topic == "late" && contains("012345", string!(%hydrant.partition))' }}
  - {{ to: [other], when: '%hydrant.topic != "late"' }}
""", "late")
    eventually("refused connections to be counted", lambda: refused(hydrant, "broker") > 0)
    broker.start()
    eventually("the missing topic to be counted", lambda: refused(hydrant, "unknown_topic") > 0)
    broker.create("late")
    expected = []
    for compression in COMPRESSIONS:
        producer = broker.producer(compression)
        for number in range(RECORDS // len(COMPRESSIONS)):
            expected.append(f"{compression}-{number}")
            put(producer, "late", expected[-1])
        same("records left in the producer", producer.flush(60), 0)
    producer = broker.producer()
    producer.produce("late", None, key=b"tombstone")
    producer.produce("late", b"", key=b"empty")
    producer.flush(60)
    eventually("every record", lambda: hydrant.sent() == len(expected))
    eventually("offsets to be committed", lambda: broker.committed("late", "g-late") == len(expected) + 2)
    each_once("records of every compression", ids(hydrant.folder / "out.ndjson"), expected)
    same("records without value, empty ones", (refused(hydrant, "tombstone"), refused(hydrant, "empty")), (1, 1))
    same("rows that are of another topic", ids(hydrant.folder / "other.ndjson"), [])
    hydrant.stop()
    return len(expected)


def held(stage, broker):
    """A destination that is down for longer than the session: we hold, stay in the group, and read everything once."""
    broker.create("held")
    producer, count, port = broker.producer("zstd"), 6000, harness.free_port()
    hydrant = stage.hydrant(f"""
memory: 64MiB
journal: {{ type: memory }}
sources: {{ in: {{ {source(broker, 'held', 'g-held', ', acknowledge: delivery')} }} }}
sinks: {{ out: {{ type: http, endpoint: "http://127.0.0.1:{port}/", compression: none, form: raw, buffer: {{ interval: 100ms, size: 1MiB }} }} }}
""", "held")
    text = "".join(random.choices("abcdefgh", k=20_000))
    expected = [f"held-{number}" for number in range(count)]
    for name in expected:
        producer.produce("held", f"{text} id={name}.".encode(), key=name.encode())
        producer.poll(0)
    same("records left in the producer", producer.flush(60), 0)
    eventually("partitions to be paused", lambda: "the partitions are paused" in hydrant.stage.log_of("held"))
    time.sleep(2 * SESSION_S)
    same("records committed before anything was delivered", broker.committed("held", "g-held"), 0)
    peak = hydrant.peak_rss_mib()
    stage.start("collector", ["python3", "-c", COLLECTOR, port])
    eventually("every record to be delivered", lambda: len(set(re.findall(r"id=(held-\d+)\.", stage.log_of("collector")))) == count)
    eventually("offsets to be committed", lambda: broker.committed("held", "g-held") == count)
    each_once("records behind an outage", re.findall(r"id=(held-\d+)\.", stage.log_of("collector")), expected)
    check("no longer ours" not in stage.log_of("held"), "we were thrown out of the group")
    hydrant.stop()
    return peak


COLLECTOR = """
import http.server, re, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length'])).decode()
        print(*re.findall(r'id=held-[0-9]+[.]', body), flush=True)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


def sinks(name):
    return f"sinks: {{ out: {{ type: file, path: {name}.ndjson, buffer: {{ interval: 100ms }} }} }}"


def end(hydrant):
    """SIGTERM. What an earlier run has received is delivered too: its metrics alone do not balance."""
    hydrant.process.send_signal(signal.SIGTERM)
    same("exit code", hydrant.process.wait(harness.PATIENCE_S), 0)


def killed(stage, broker, chance):
    """kill -9 at random moments while records are read: nothing is lost."""
    broker.create("killed")
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(broker, 'killed', 'g-killed')} }} }}
{sinks('killed')}
""", "killed")
    load = Load(broker, "killed")
    for _ in range(KILLS):
        eventually("records after a start", lambda: hydrant.received() > 0)
        time.sleep(chance.uniform(0, 2.5))
        hydrant.kill()
        hydrant.start()
    eventually("records after the last start", lambda: hydrant.received() > 0)
    taken = load.stop()
    eventually("offsets to be committed", lambda: broker.committed("killed", "g-killed") == len(taken))
    out = hydrant.folder / "killed.ndjson"
    eventually("every record", lambda: set(ids(out)) >= set(taken))
    end(hydrant)
    return len(taken), once_or_more("records under kill -9", ids(out), taken)


def shared(stage, broker):
    """Two in one group: one comes, goes, comes again and dies."""
    broker.create("shared")

    def member(name):
        return stage.hydrant(f"sources: {{ in: {{ {source(broker, 'shared', 'g-shared')} }} }}\n{sinks(name)}\n", name)

    load = Load(broker, "shared")
    first = member("first")
    eventually("records at the first", lambda: first.received() > 0)
    second = member("second")
    eventually("records at the second", lambda: second.received() > 0)
    at = first.received()
    eventually("records at both", lambda: first.received() > at)
    second.stop()
    at = first.received()
    eventually("records at the first again", lambda: first.received() > at + 200)
    second.start()
    eventually("records at the second again", lambda: second.received() > 0)
    first.kill()
    at = second.received()
    eventually("records after one died", lambda: second.received() > at + 200)
    taken = load.stop()
    eventually("offsets to be committed", lambda: broker.committed("shared", "g-shared") == len(taken))
    # What the first had journaled and not delivered comes after its next start.
    first.start()
    files = [first.folder / "first.ndjson", second.folder / "second.ndjson"]
    eventually("every record", lambda: set(ids(*files)) >= set(taken))
    end(first)
    end(second)
    return len(taken), once_or_more("records of a shared group", ids(*files), taken)


def main(stage):
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}", flush=True)
    broker = Broker(stage)
    count = late(stage, broker)
    peak = held(stage, broker)
    killed_count, killed_again = killed(stage, broker, chance)
    shared_count, shared_again = shared(stage, broker)
    return (f"{count} records in 5 compressions once each; peak {peak:.0f} MiB while held; {KILLS} kills: {killed_count} records, "
            f"{killed_again} twice; two members: {shared_count} records, {shared_again} twice; none lost")


harness.play(main)
