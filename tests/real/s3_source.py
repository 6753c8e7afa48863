#!/usr/bin/env python3
"""The source `aws_s3`: a queue of moto, objects in a real store (SeaweedFS), put there by boto3.

The store announces nothing, so that this writes the messages, in the forms that AWS documents: from S3, through SNS,
from EventBridge, the test event, several records in one, keys that need encoding, messages twice. Moto's own store
announces what is put there. Then: objects that
cannot be read end in the dead-letter queue and lose nothing else; a message whose events wait for a destination stays
invisible; connections that break in the middle; an object of many times the memory is read; a prefix is filled in across `kill -9`; and under `kill -9` at
random moments every event of every object arrives (those that come twice are counted), and the queue is empty.
"""
import gzip
import json
import os
import random
import re
import signal
import socket
import threading
import time
import urllib.parse

import duckdb

import harness
from harness import check, each_once, rows, same
from object_store import BUCKET, KEY, SECRET, client, seaweed
from sqs import Queue, Store, direct, moto

KILLS = 50 if harness.FULL else 10
KILL_OBJECTS, KILL_LINES = (400, 2000) if harness.FULL else (40, 1000)
LARGE_MIB = 4096 if harness.FULL else 192
VISIBILITY_S = 2


def eventually(what, probe, patience_s=harness.PATIENCE_S):
    """As the harness's; probes here read files and ask a slow server, so that they are not made fifty times a second."""
    return harness.eventually(what, lambda: probe() or time.sleep(0.2), patience_s)


def through_sns(body):
    return {"Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": "arn:aws:sns:us-east-1:123456789012:s3",
            "Subject": "Amazon S3 Notification", "Message": json.dumps(body), "Timestamp": "2026-11-22T06:00:00.000Z",
            "SignatureVersion": "1", "Signature": "EXAMPLE", "SigningCertURL": "https://sns.us-east-1.amazonaws.com/x.pem",
            "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"}


def from_event_bridge(record):
    entity = record["s3"]
    detail = {"version": "0", "bucket": {"name": BUCKET}, "object": {
        "key": urllib.parse.unquote_plus(entity["object"]["key"]), "size": entity["object"]["size"], "etag": entity["object"]["eTag"],
        "sequencer": entity["object"]["sequencer"]}, "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012",
        "source-ip-address": "192.0.2.1", "reason": "PutObject"}
    return {"version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Created", "source": "aws.s3",
            "account": "123456789012", "time": "2026-11-22T06:00:00Z", "region": "us-east-1", "resources": [f"arn:aws:s3:::{BUCKET}"],
            "detail": detail}


TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-22T06:00:00.000Z", "Bucket": BUCKET,
              "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR"}


def source(endpoint, queue, more=""):
    return (f"type: aws_s3, queue: \"{queue.url}\", endpoint: \"{endpoint}\", visibility_timeout: {VISIBILITY_S}s, "
            f"credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }}{more}")


def ids(path):
    """The ids in the rows of a file; a row that a kill tore has none."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return re.findall(r"id=([\w-]+)\.", text)


def waf(name):
    """A line of an AWS WAF log."""
    return json.dumps({"timestamp": 1795248000007, "formatVersion": 1, "webaclId": "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/a/b",
                       "terminatingRuleId": "Default_Action", "terminatingRuleType": "REGULAR", "action": "BLOCK", "httpSourceName": "ALB",
                       "httpSourceId": "x", "ruleGroupList": [], "rateBasedRuleList": [], "nonTerminatingMatchingRules": [],
                       "httpRequest": {"clientIp": "192.0.2.7", "country": "DE", "headers": [{"name": "host", "value": "a"}],
                                       "uri": f"/id={name}.", "args": "", "httpVersion": "HTTP/2.0", "httpMethod": "GET", "requestId": "1"}})


def zstd(stage, names):
    """NDJSON in zstd, as DuckDB writes it."""
    path = stage.folder / "x.json.zst"
    duckdb.sql(f"copy (select unnest($names) as message) to '{path}' (format json, compression zstd)", params={"names": names})
    return path.read_bytes()


def layouts(stage, store):
    """Objects of every kind as (key, body, ids in it)."""
    def named(prefix, count):
        return [f"{prefix}-{number}" for number in range(count)]

    def lines(names):
        return "".join(f"text id={name}.\n" for name in names).encode()

    trail = {"Records": [{"eventName": "PutObject", "requestParameters": {"x": f"id={name}.", "odd": "]}\\\""}} for name in named("trail", 300)]}
    flow = "srcaddr dstaddr account-id dstport action start end log-status\n" + "".join(
        f"10.0.0.{number % 250} 203.0.113.9 id=flow-{number}. 443 ACCEPT 1795247000 1795247060 OK\n" for number in range(20_000))
    firewall = "".join(json.dumps({"firewall_name": "fw", "availability_zone": "us-east-1a", "event_timestamp": "1795248000", "event": {
        "timestamp": "2026-11-21T08:00:00.000000+0000", "event_type": "netflow", "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2",
        "app_proto": f"id={name}."}}) + "\n" for name in named("nfw", 100))
    whole = [
        ("plain/ü +%25&=é.log", lines(named("plain", 10)), named("plain", 10)),
        ("a/no-end", lines(named("open", 3)).rstrip(), named("open", 3)),
        ("gz/told-by-its-bytes.txt", gzip.compress(lines(named("gz", 1000))), named("gz", 1000)),
        ("zstd/x.json.zst", zstd(stage, [f"id={name}." for name in named("zstd", 500)]), named("zstd", 500)),
        ("array.json", json.dumps([{"message": f"id={name}."} for name in named("array", 50)], indent=1).encode(), named("array", 50)),
        ("AWSLogs/123456789012/CloudTrail/us-east-1/2026/11/22/123456789012_CloudTrail_us-east-1_20261122T0600Z_x.json.gz",
         gzip.compress(json.dumps(trail).encode()), named("trail", 300)),
        ("AWSLogs/123456789012/WAFLogs/us-east-1/acl/2026/11/22/06/00/123456789012_waflogs_us-east-1_acl_20261122T0600Z_x.log.gz",
         b"".join(gzip.compress((waf(name) + "\n").encode()) for name in named("waf", 200)), named("waf", 200)),
        ("AWSLogs/123456789012/network-firewall/flow/us-east-1/fw/2026/11/22/06/123456789012_network-firewall_flow_x.log.gz",
         gzip.compress(firewall.encode()), named("nfw", 100)),
        ("AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/11/22/123456789012_vpcflowlogs_us-east-1_fl-1_20261122T0600Z_x.log.gz",
         gzip.compress(flow.encode()), named("flow", 20_000)),
    ]
    return [(store.put(key, body), names) for key, body, names in whole]


def forms(stage, endpoint, sqs, store):
    """Every form of message and of object; then what cannot be read."""
    queue = Queue(sqs, "forms", 3)
    objects = layouts(stage, store)
    records = [record for record, _ in objects]
    expected = [name for _, names in objects for name in names]
    removed = store.record("gone/removed", name="ObjectRemoved:Delete")
    queue.send(TEST_EVENT, through_sns(TEST_EVENT), direct(*records[:3], removed), through_sns(direct(records[3])),
               from_event_bridge(records[4]), through_sns(from_event_bridge(records[5])), *(direct(record) for record in records[6:]))
    # Once more, as SQS and S3 may: at the same time and later.
    queue.send(direct(*records[:3]), through_sns(direct(records[8])))
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(endpoint, queue, f', buckets: [{BUCKET}]')} }} }}
sinks:
  out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }}
  ecs: {{ type: file, path: ecs.ndjson, form: json, keep_raw: true, buffer: {{ interval: 100ms }} }}
  flows: {{ type: file, path: flows.ndjson, buffer: {{ interval: 100ms }} }}
routes:
  - {{ to: [out, ecs] }}
  - {{ to: [flows], when: '%hydrant.bucket == "{BUCKET}" && contains(string!(%hydrant.key), "/vpcflowlogs/")' }}
""", "forms")
    out = hydrant.folder / "out.ndjson"
    eventually("all events of all forms", lambda: hydrant.sent() >= len(expected))
    eventually("the queue to be empty", queue.is_empty)
    queue.send(direct(*records))
    eventually("the queue to be empty again", queue.is_empty)
    each_once("events", ids(out), expected)
    each_once("events below vpcflowlogs", ids(hydrant.folder / "flows.ndjson"), objects[8][1])
    decoded = [harness.flat(row) for row in rows(hydrant.folder / "ecs.ndjson")]
    sources = {}
    for row in decoded:
        name = re.search(r"id=(\w+)-\d+\.", row["event.original"])[1]
        sources.setdefault(name, set()).add(row.get("source.ip"))
    same("source.ip by the objects' own decoders", {name: sources[name] for name in ("waf", "nfw", "trail")},
         {"waf": {"192.0.2.7"}, "nfw": {"10.0.0.1"}, "trail": {None}})
    flows = [row for row in decoded if "id=flow-" in row["event.original"]]
    check(all(row["source.ip"].startswith("10.0.0.") and row["cloud.account.id"].startswith("id=flow-") for row in flows),
          "the header line of a flow log does not name the columns of all its lines")
    return hydrant, queue, len(expected)


def announced(stage, sqs):
    """Messages that this did not write: moto's own store announces its objects, the test event first."""
    endpoint, queue = sqs.meta.endpoint_url, Queue(sqs, "announced", 5)
    s3 = client(endpoint)
    s3.create_bucket(Bucket=BUCKET)
    arn = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={
        "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]})
    expected = []
    for number, key in enumerate(["plain.log", "a folder/ü +%25&=é.log", "a+b c.gz"]):
        body = f"id=moto-{number}.\n".encode()
        s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(body) if key.endswith("gz") else body)
        expected.append(f"moto-{number}")
    same("messages (visible, invisible)", queue.counts(), (4, 0))
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(endpoint, queue)} }} }}
sinks: {{ out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }} }}
""", "announced")
    eventually("the events", lambda: hydrant.sent() >= len(expected))
    eventually("the queue to be empty", queue.is_empty)
    each_once("events", ids(hydrant.folder / "out.ndjson"), expected)
    hydrant.stop()


def poison(hydrant, queue, store):
    """What cannot be read ends in the dead-letter queue, and takes nothing with it."""
    damaged = gzip.compress("".join(f"id=damaged-{number}.\n" for number in range(50_000)).encode(), 0)
    damaged = store.put("bad/damaged.gz", damaged[:-2000] + bytes(2000))
    missing, parquet = store.record("bad/missing.gz"), store.put("bad/x.parquet", b"PAR1" + bytes(100))
    foreign = store.record("x")
    foreign["s3"]["bucket"]["name"] = "somebody-elses"
    good = store.put("good.log", b"id=good-1.\nid=good-2.\n")
    bad = [json.dumps(body) for body in (direct(damaged), direct(good, missing), direct(parquet), direct(foreign), {"hello": "world"})]
    before = hydrant.sent()
    queue.send(*bad)
    eventually("the dead-letter queue to have them", lambda: queue.counts(queue.dead)[0] == len(bad))
    check(queue.is_empty(), f"the queue has {queue.counts()}")
    same("messages in the dead-letter queue", sorted(queue.dead_bodies()), sorted(bad))
    reasons = ["corrupt", "no_such_key", "format", "bucket", "notification"]
    same("reasons", {reason: hydrant.total("hydrant_component_refused_total", component_id="in", reason=reason) for reason in reasons},
         {reason: 3 for reason in reasons})
    found = ids(hydrant.folder / "out.ndjson")
    each_once("events beside the missing object", [name for name in found if name.startswith("good")], ["good-1", "good-2"])
    part = [name for name in found if name.startswith("damaged")]
    each_once("events before the damage, of three attempts", part, [f"damaged-{number}" for number in range(len(part))])
    check(40_000 < len(part) < 50_000, f"{len(part)} events before the damage")
    same("events since", hydrant.sent() - before, 2 + len(part))
    hydrant.stop()
    return len(part)


def patience(stage, endpoint, sqs, store):
    """`acknowledge: delivery`: a message stays invisible, whatever its timeout, until its events are delivered."""
    queue, port = Queue(sqs, "patience", 2), harness.free_port()
    queue.send(direct(store.put("patient.log", b"id=patient-1.\n")))
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(endpoint, queue, ', acknowledge: delivery')} }} }}
sinks: {{ out: {{ type: http, endpoint: "http://127.0.0.1:{port}", compression: none, buffer: {{ interval: 100ms }} }} }}
""", "patience")
    eventually("the message to be received", lambda: queue.counts() == (0, 1))
    end = time.monotonic() + 3 * VISIBILITY_S
    while time.monotonic() < end:
        same("messages while the destination is down (visible, invisible)", queue.counts(), (0, 1))
        time.sleep(0.1)
    sink = stage.start("collector", ["python3", "-c", COLLECTOR, port])
    eventually("the queue to be empty", queue.is_empty)
    same("the body that came", stage.log_of("collector").count("id=patient-1."), 1)
    hydrant.stop()
    sink.kill()


COLLECTOR = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers['content-length'])).decode(), flush=True)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


def large(stage, endpoint, sqs, store):
    """An object of many times the memory."""
    queue = Queue(sqs, "large", 5)
    path = stage.folder / "large.gz"
    block = "".join(f"{number:08} {'x' * 1000}\n" for number in range(1024))
    with gzip.open(path, "wb", 1) as file:
        for _ in range(LARGE_MIB):
            file.write(block.encode())
    queue.send(direct(store.put("large.gz", path.read_bytes())))
    path.unlink()
    hydrant = stage.hydrant(f"""
memory: 64MiB
sources: {{ in: {{ {source(endpoint, queue)} }} }}
sinks: {{ out: {{ type: blackhole }} }}
""", "large")
    eventually("the large object", lambda: hydrant.received() == 1024 * LARGE_MIB, 900)
    eventually("the queue to be empty", queue.is_empty)
    peak = hydrant.peak_rss_mib()
    check(peak < 64 + harness.BASE_MIB, f"peak memory {peak:.0f} MiB for an object of {LARGE_MIB} MiB")
    hydrant.stop()
    return peak


def cutter(port, sizes):
    """A port before the store's, whose connections are cut behind so many bytes of answers, while there are sizes left."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, target, left):
        try:
            while left > 0 and (piece := source.recv(min(65536, left))):
                target.sendall(piece)
                left -= len(piece)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            left = sizes.pop() if sizes else 1 << 60
            threading.Thread(target=copy, args=(near, far, 1 << 60), daemon=True).start()
            threading.Thread(target=copy, args=(far, near, left), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def broken(stage, endpoint, sqs, store, chance):
    """Connections that break in the middle of an object: it is read on where it was cut, once."""
    sizes = [chance.randrange(0, 400_000) for _ in range(6)]
    port = cutter(int(endpoint.rpartition(":")[2]), sizes)
    queue, lines = Queue(sqs, "broken", 2), 5000
    text = "".join(f"{chance.randbytes(500).hex()} id=broken-{number}.\n" for number in range(lines))
    queue.send(direct(store.put("broken.gz", gzip.compress(text.encode(), 1))))
    hydrant = stage.hydrant(f"""
sources: {{ in: {{ {source(f'http://127.0.0.1:{port}', queue)} }} }}
sinks: {{ out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }} }}
""", "broken")
    eventually("the object", lambda: hydrant.sent() == lines)
    eventually("the queue to be empty", queue.is_empty)
    same("connections that were not cut", sizes, [])
    each_once("events over broken connections", ids(hydrant.folder / "out.ndjson"), [f"broken-{number}" for number in range(lines)])
    same("attempts that failed", hydrant.total("hydrant_component_refused_total", component_id="in"), 0)
    hydrant.stop()


def kill(hydrant):
    hydrant.process.send_signal(signal.SIGKILL)
    hydrant.process.wait()


def restart(hydrant):
    command = [harness.binary(), "run", "-c", hydrant.folder / "hydrant.yaml", "--dump-metrics", hydrant.dump]
    hydrant.process = hydrant.stage.start(hydrant.name, command, cwd=hydrant.folder)
    eventually("Hydrant after a kill", hydrant.is_ready, 60)


def end(hydrant):
    """SIGTERM. What an earlier run has received is delivered too: its metrics alone do not balance."""
    hydrant.process.send_signal(signal.SIGTERM)
    same("exit code", hydrant.process.wait(harness.PATIENCE_S), 0)


def lines_of(name):
    return [f"{name}-{number}" for number in range(KILL_LINES)]


def body_of(name):
    text = "".join(f"{'x' * 200} id={line}.\n" for line in lines_of(name))
    return gzip.compress(text.encode(), 1)


def once_or_more(what, found, expected):
    """Everything came; how often something came again."""
    wanted = set(expected)
    check(wanted == set(found), f"{what}: {len(wanted - set(found))} of {len(wanted)} missing, {len(set(found) - wanted)} not sent")
    return len(found) - len(wanted)


def killed(stage, endpoint, sqs, store, chance):
    """kill -9 at random moments: nothing is lost."""
    queue = Queue(sqs, "killed", 1000)
    names = [f"k{number}" for number in range(KILL_OBJECTS)]
    hydrant = stage.hydrant(f"""
journal: {{ type: disk, segment_size: 8MiB }}
sources: {{ in: {{ {source(endpoint, queue, ', concurrency: 4')} }} }}
sinks: {{ out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }} }}
""", "killed")
    per_kill = -(-len(names) // KILLS)
    for turn in range(KILLS):
        for name in names[turn * per_kill:(turn + 1) * per_kill]:
            queue.send(direct(store.put(f"killed/{name}.gz", body_of(name))))
        time.sleep(chance.uniform(0, 0.8))
        kill(hydrant)
        restart(hydrant)
    expected = [line for name in names for line in lines_of(name)]
    out = hydrant.folder / "out.ndjson"
    eventually("the queue to be empty", queue.is_empty)
    eventually("every event", lambda: out.exists() and out.stat().st_size > len(expected) * 200 and set(ids(out)) >= set(expected))
    end(hydrant)
    same("messages in the dead-letter queue", queue.counts(queue.dead), (0, 0))
    return len(expected), once_or_more("events under kill -9", ids(out), expected)


def filled(stage, endpoint, store, chance):
    """A prefix is read, each object once, although the reader is killed."""
    names = [f"b{number:03}" for number in range(KILL_OBJECTS)]
    for name in names:
        store.put(f"fill/{name}.gz", body_of(name))
    store.put("fill/a-before.gz", gzip.compress(b"id=before-1.\n"))
    store.put("fill/folder/", b"")
    store.put("other/x.gz", gzip.compress(b"id=other-1.\n"))
    expected = [line for name in names for line in lines_of(name)]
    config = f"""
journal: {{ type: disk, segment_size: 8MiB }}
sources:
  in: {{ type: aws_s3, endpoint: "{endpoint}", concurrency: 4, credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }},
        backfill: {{ bucket: {BUCKET}, prefix: "fill/", start_after: "fill/a-before.gz" }} }}
  # A backfill ends, and Hydrant with it; this one stays.
  other: {{ type: http, listen: "127.0.0.1:{harness.free_port()}" }}
sinks: {{ out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }} }}
"""
    hydrant = stage.hydrant(config, "filled")
    for _ in range(5):
        time.sleep(chance.uniform(0, 0.5))
        kill(hydrant)
        restart(hydrant)
    checkpoint = hydrant.folder / "data/sources/in/backfill.json"
    eventually("the backfill", lambda: checkpoint.exists() and json.loads(checkpoint.read_text())["is_complete"])
    out = hydrant.folder / "out.ndjson"
    eventually("every event", lambda: out.exists() and out.stat().st_size > len(expected) * 200 and set(ids(out)) >= set(expected))
    same("failed objects", json.loads(checkpoint.read_text())["failed"], [])
    end(hydrant)
    again = once_or_more("backfill under kill -9", ids(out), expected)
    # What four readers had open, and what they had done since the checkpoint.
    check(again <= 5 * 2 * 4 * KILL_LINES, f"{again} events of the backfill came twice")
    before = len(ids(out))
    restart(hydrant)
    time.sleep(1)
    end(hydrant)
    same("events after all was filled in", len(ids(out)), before)
    return again


def main(stage):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed}", flush=True)
    chance = random.Random(seed)
    endpoint, sqs = seaweed(stage), moto(stage)
    store = Store(endpoint)
    hydrant, queue, count = forms(stage, endpoint, sqs, store)
    part = poison(hydrant, queue, store)
    announced(stage, sqs)
    patience(stage, endpoint, sqs, store)
    broken(stage, endpoint, sqs, store, chance)
    peak = large(stage, endpoint, sqs, store)
    events, again = killed(stage, endpoint, sqs, store, chance)
    filled_again = filled(stage, endpoint, store, chance)
    return (f"{count} events of 9 kinds of objects once; 5 poisoned messages in the dead-letter queue, {part} events before the damage once; "
            f"6 cut connections; {LARGE_MIB} MiB object in {peak:.0f} MiB; {KILLS} kills: {events} events, {again} twice; backfill of {events} with 5 kills: "
            f"{filled_again} twice")


harness.play(main)
