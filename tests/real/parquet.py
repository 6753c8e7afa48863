#!/usr/bin/env python3
"""Archives in Parquet as pyarrow and DuckDB write them: `hydrant backtest` (and `retro-hunt`, and `replay`) finds in them what it finds in the same events as
NDJSON, sample by sample, whatever the version of the pages, the encoding and the compression, from a folder and from a real
store (SeaweedFS). Values of every type are held against what pyarrow itself reads. Files that are damaged cost themselves alone.
"""
import datetime
import decimal
import json
import random
import subprocess
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import harness
from harness import check, same
from object_store import BUCKET, KEY, SECRET, client, seaweed

EVENTS = 100_000 if harness.FULL else 3_000

RULES = """
title: Alert of Suricata
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
logsource: { product: suricata }
detection:
  selection: { alert.signature_id: 2010935 }
  condition: selection
---
title: SSH refused
id: 6d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: low
logsource: { category: firewall }
detection:
  selection: { destination.port: 22, event.action: REJECT }
  condition: selection
---
title: Any event
id: 7d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: low
logsource: { product: aws, service: cloudtrail }
detection:
  selection: { kind: everything }
  condition: selection
"""

VPC = pa.schema([
    ("version", pa.int32()), ("account_id", pa.string()), ("interface_id", pa.string()), ("srcaddr", pa.string()),
    ("dstaddr", pa.string()), ("srcport", pa.int32()), ("dstport", pa.int32()), ("protocol", pa.int64()), ("packets", pa.int64()),
    ("bytes", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("action", pa.string()), ("log_status", pa.string())])
EVE = pa.schema([
    ("timestamp", pa.string()), ("flow_id", pa.int64()), ("event_type", pa.string()), ("src_ip", pa.string()), ("src_port", pa.int32()),
    ("dest_ip", pa.string()), ("dest_port", pa.int32()), ("proto", pa.string()),
    ("alert", pa.struct([("action", pa.string()), ("signature_id", pa.int64()), ("signature", pa.string()), ("severity", pa.int32()),
                         ("metadata", pa.struct([("tag", pa.list_(pa.string()))]))])),
    ("dns", pa.struct([("type", pa.string()), ("answers", pa.list_(pa.struct([("rrname", pa.string()), ("ttl", pa.int32())])))]))])


def vpc(number, choose):
    """A flow record; one in nine is of an interface that had no traffic."""
    end = 1_795_248_000 + number * 30
    row = {"version": 2, "account_id": "111122223333", "interface_id": f"eni-{number % 7:017x}", "start": end - 60, "end": end,
           "log_status": "NODATA"}
    if number % 9:
        row |= {"srcaddr": f"198.51.100.{choose.randrange(256)}", "dstaddr": f"10.0.{number % 256}.9", "srcport": choose.randrange(1024, 65536),
                "dstport": choose.choice([22, 80, 443, 3389]), "protocol": 6, "packets": choose.randrange(1, 99),
                "bytes": choose.randrange(40, 99_999), "action": choose.choice(["ACCEPT", "REJECT"]), "log_status": "OK"}
    return {name: row[name] for name in VPC.names if name in row}


def eve(number, choose):
    """An event of Suricata: an alert, an answer of DNS with any number of records, or a flow."""
    row = {"timestamp": f"2026-11-21T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.{number:06}+0000", "flow_id": number,
           "event_type": choose.choice(["alert", "dns", "flow"]), "src_ip": f"10.1.2.{choose.randrange(256)}", "src_port": 4000 + number % 1000,
           "dest_ip": "10.9.8.7", "dest_port": 53, "proto": "TCP"}
    if row["event_type"] == "alert":
        row["alert"] = {"action": "allowed", "signature_id": choose.choice([2010935, 2000001]), "signature": "ET \"SCAN\" é", "severity": 2}
        if number % 2:
            row["alert"]["metadata"] = {"tag": ["a", "b"][: number % 3]}
    if row["event_type"] == "dns":
        row["dns"] = {"type": "answer", "answers": [{"rrname": f"h{index}.example", "ttl": index} for index in range(choose.randrange(4))]}
    return row


def told(folder, *arguments, code=0):
    """What a command tells as JSON."""
    command = [harness.binary(), *map(str, arguments), "--output", "json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=harness.PATIENCE_S)
    check(ended.returncode == code, f"{arguments} ended with {ended.returncode}: {ended.stderr[-1500:]}")
    return json.loads(ended.stdout)


def backtest(folder, *arguments, code=0):
    return told(folder, "backtest", "--rules", "rules.yml", "--samples", "100", *arguments, code=code)


def found(report):
    """What must not depend on the form of the archive."""
    return report["input"]["events"], report["input"]["failed"], report["input"]["unreadable"], report["rules"]


def forms():
    """Ways to write a table by pyarrow: each name and the options."""
    for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
        for pages in ["1.0", "2.0"]:
            yield f"{codec}-{pages}", {"compression": codec, "data_page_version": pages, "use_dictionary": codec in ("none", "gzip", "zstd")}
    yield "small-pages", {"data_page_size": 500, "row_group_size": 1000, "write_batch_size": 20}
    yield "old", {"version": "1.0", "use_compliant_nested_type": False, "row_group_size": 700}
    strings = {"data_page_version": "2.0", "use_dictionary": False, "compression": "snappy"}
    yield "delta", strings | {"column_encoding": {"flow_id": "DELTA_BINARY_PACKED", "src_ip": "DELTA_BYTE_ARRAY",
                                                  "alert.signature": "DELTA_LENGTH_BYTE_ARRAY", "src_port": "BYTE_STREAM_SPLIT"}}


def same_events(stage):
    """Each form of both tables against NDJSON; gives the number of files."""
    choose, files = random.Random(7), 0
    for name, schema, make in [("vpc", VPC, vpc), ("eve", EVE, eve)]:
        events = [make(number, choose) for number in range(EVENTS)]
        text = "".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n" for event in events)
        (stage.folder / f"{name}.ndjson").write_text(text)
        expected = found(backtest(stage.folder, f"{name}.ndjson"))
        check(expected[0] == EVENTS and any(rule["hits"] > EVENTS // 20 for rule in expected[3]), f"{name}: {harness.shorten(expected)}")
        written = pa.Table.from_pylist(events, schema)
        (stage.folder / name).mkdir()
        for form, options in forms():
            if form == "delta" and name == "vpc":
                continue
            pq.write_table(written, stage.folder / name / f"{form}.parquet", **options)
        for codec in ["uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw"]:
            target = stage.folder / name / f"duckdb-{codec}.parquet"
            duckdb.sql(f"COPY (FROM written) TO '{target}' (FORMAT parquet, COMPRESSION {codec}, ROW_GROUP_SIZE 2048)")
        for path in sorted((stage.folder / name).iterdir()):
            same(path.name, found(backtest(stage.folder, path)), expected)
            files += 1
    return files


def values(stage):
    """Every type that pyarrow can write, read back by both."""
    stamp = datetime.datetime(2026, 11, 21, 8, 0, 0, 123456)
    wide = decimal.Decimal("-12345678901234567890123456789012345678.90")
    columns = [
        ("kind", pa.array(["everything"]), "everything"),
        ("i8", pa.array([-1], pa.int8()), -1), ("u8", pa.array([255], pa.uint8()), 255), ("u16", pa.array([65535], pa.uint16()), 65535),
        ("u32", pa.array([2**32 - 1], pa.uint32()), 2**32 - 1), ("u64", pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        ("f16", pa.array([1.5], pa.float16()), 1.5), ("f32", pa.array([0.1], pa.float32()), 0.1), ("f64", pa.array([1e300]), 1e300),
        ("nan", pa.array([float("nan")]), None), ("yes", pa.array([True]), True), ("none", pa.array([None], pa.int32()), None),
        ("null", pa.array([None]), None), ("date", pa.array([stamp.date()], pa.date32()), "2026-11-21"),
        ("ms", pa.array([stamp], pa.timestamp("ms", "UTC")), "2026-11-21T08:00:00.123Z"),
        ("us", pa.array([stamp], pa.timestamp("us", "Europe/Berlin")), "2026-11-21T08:00:00.123456Z"),
        ("ns", pa.array([stamp], pa.timestamp("ns")), "2026-11-21T08:00:00.123456000"),
        ("time32", pa.array([stamp.time()], pa.time32("ms")), "08:00:00.123"),
        ("time64", pa.array([stamp.time()], pa.time64("us")), "08:00:00.123456"),
        ("d32", pa.array([decimal.Decimal("1.10")], pa.decimal128(5, 2)), decimal.Decimal("1.10")), ("d256", pa.array([wide], pa.decimal256(60, 2)), wide),
        ("text", pa.array(["ü\"\n\u2028"]), "ü\"\n\u2028"), ("large", pa.array(["x"], pa.large_string()), "x"),
        ("raw", pa.array([b"\xff\x00"]), "/wA="), ("fixed", pa.array([b"abcd"], pa.binary(4)), "abcd"),
        ("uuid", pa.array([uuid.UUID(int=7).bytes], pa.uuid()), str(uuid.UUID(int=7))),
        ("dict", pa.array(["one"]).dictionary_encode(), "one"),
        ("list", pa.array([[1, None, 3]]), [1, None, 3]), ("lists", pa.array([[["a"], [], None, ["b", "c"]]]), [["a"], [], None, ["b", "c"]]),
        ("empty", pa.array([[]], pa.list_(pa.int32())), []), ("three", pa.array([[1, 2, 3]], pa.list_(pa.int32(), 3)), [1, 2, 3]),
        ("map", pa.array([[("k", 1), ("l", None)]], pa.map_(pa.string(), pa.int32())), {"k": 1, "l": None}),
        ("numbers", pa.array([[(7, "seven")]], pa.map_(pa.int32(), pa.string())), {"7": "seven"}),
        ("group", pa.array([{"a": None, "b": {"c": [{"d": 1}]}}], pa.struct([("a", pa.int32()), ("b", pa.struct(
            [("c", pa.list_(pa.struct([("d", pa.int32())])))]))])), {"b": {"c": [{"d": 1}]}})]
    expected = {name: value for name, _, value in columns if value is not None}
    table = pa.table({name: array for name, array, _ in columns})
    for name, options in [("plain", {}), ("int96", {"use_deprecated_int96_timestamps": True}), ("decimals", {"store_decimal_as_integer": True})]:
        pq.write_table(table, stage.folder / f"{name}.parquet", **options)
        report = backtest(stage.folder, f"{name}.parquet")
        raw = next(rule for rule in report["rules"] if rule["title"] == "Any event")["samples"][0]["raw"]
        got = json.loads(raw, parse_float=decimal.Decimal)
        wanted = json.loads(json.dumps(expected, default=str), parse_float=decimal.Decimal) | {"d32": decimal.Decimal("1.10"), "d256": wide}
        if name == "int96":
            wanted |= {"ms": "2026-11-21T08:00:00.123000000Z", "us": "2026-11-21T08:00:00.123456000Z", "ns": "2026-11-21T08:00:00.123456000Z"}
        same(f"{name}: names", list(got), list(wanted))
        for key, value in wanted.items():
            same(f"{name}: {key}", got[key], value)
    return len(columns)


def damage(stage):
    """A folder with files that cannot be read: each is told, the others count."""
    folder = stage.folder / "damaged"
    folder.mkdir()
    good = (stage.folder / "vpc" / "gzip-1.0.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(good[:-100])
    (folder / "b.parquet").write_bytes(good[:5000] + b"\xff" * 200 + good[5200:])
    (folder / "c.parquet").write_bytes(good)
    # Lists of nulls take no bytes: 20 million of them, in one row.
    pq.write_table(pa.table({"a": pa.array([[None] * 20_000_000], pa.list_(pa.int32()))}), folder / "d.parquet", compression="zstd")
    pq.write_table(pa.table({"a": ["x" * (1 << 20), "short"]}), folder / "e.parquet")
    read = backtest(stage.folder, "damaged", code=1)["input"]
    failed = [line.split(":")[0] for line in read["failed"]]
    same("files that were not read to their end", failed, ["a.parquet", "b.parquet", "d.parquet"])
    same("rows that are too long", read["unreadable"], 1)
    check(EVENTS < read["events"] < 2 * EVENTS, f"{read}")


def other_commands(stage):
    """`retro-hunt` finds the same, and `replay` takes rows that Hydrant wrote and somebody made into Parquet."""
    (stage.folder / "bad.txt").write_text("10.1.2.7\nh2.example\n")
    hunted = [told(stage.folder, "retro-hunt", "--indicators", "bad.txt", path) for path in ["eve.ndjson", "eve/delta.parquet"]]
    for hunt in hunted:
        hunt["input"].pop("seconds")
    same("hunted indicators", hunted[1], hunted[0])
    check("h2.example" in json.dumps(hunted[0]), f"{harness.shorten(hunted[0])}")
    rows = [{"message": f"line {number}", "hydrant": {"source": "in", "time": "2026-11-21T08:00:00Z", "position": f"7:{number}"}}
            for number in range(EVENTS)]
    (stage.folder / "past").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), stage.folder / "past" / "a.parquet", row_group_size=999)
    counts = told(stage.folder, "replay", "-c", "hydrant.yaml", "--archive", "past", "--dry-run", "--sink", "logs")
    same("replayed events", (counts["events"], counts["balanced"]), (EVENTS, True))


def in_store(stage):
    """The same files below a prefix of a bucket."""
    endpoint = seaweed(stage)
    s3 = client(endpoint)
    prefix = "AWSLogs/111122223333/vpcflowlogs/eu-central-1/2026/11/21/"
    for name in ["snappy-1.0", "gzip-2.0"]:
        s3.upload_file(str(stage.folder / "vpc" / f"{name}.parquet"), BUCKET, f"{prefix}{name}.log.parquet")
    (stage.folder / "hydrant.yaml").write_text(f"""
sources: {{ in: {{ type: http, listen: "127.0.0.1:{harness.free_port()}" }} }}
sinks: {{ logs: {{ type: aws_s3, bucket: {BUCKET}, endpoint: "{endpoint}", credentials: {{ access_key_id: {KEY}, secret_access_key: {SECRET} }} }} }}
""")
    same("a bucket", found(backtest(stage.folder, "-c", "hydrant.yaml", f"s3://{BUCKET}/{prefix}")),
         found(backtest(stage.folder, "vpc/snappy-1.0.parquet", "vpc/gzip-2.0.parquet")))


def main(stage):
    (stage.folder / "rules.yml").write_text(RULES)
    files = same_events(stage)
    types = values(stage)
    damage(stage)
    in_store(stage)
    other_commands(stage)
    return f"{files} files of {EVENTS} events each find what NDJSON does, {types} types, damage costs its file alone"


harness.play(main)
