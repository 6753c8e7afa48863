#!/usr/bin/env python3
"""Logs that real programs wrote, read by Hydrant and, apart from it, by this file; every field must be the same.

* ModSecurity 2.9.7 with the Core Rule Set under attack by wapiti and sqlmap: JSON audit log. Rules of ours alert.
* nftables through ulogd2: syslog lines (LOGEMU) and JSON.
* What an rsyslogd received from logger, loggen and another rsyslogd, RFC 3164 and 5424.

tests/cases/samples has a few lines of each; $HYDRANT_SAMPLES may name a folder with whole logs of the same names. Both
`hydrant decode` and `hydrant run` (file source to file sink) are held against the reading here.
"""
import datetime
import json
import os
import pathlib
import re

import harness
from harness import check, eventually, same

MODSECURITY = "modsec-crs-wapiti-sqlmap.audit.json.log"
ULOGD_TEXT, ULOGD_JSON = "nftables-ulogd2-syslogemu.log", "nftables-ulogd2.jsonl"
SYSLOG = "syslog-received-by-rsyslog.log"

# Rules of the pack that must find the attack, in the lines kept here too.
ALERTS = {"SQL Injection in the URL", "Script in the URL", "Path Traversal to a System File"}


def iso(when):
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def without_year(text):
    """A time without a year is of the year that brings it nearest to now."""
    now = datetime.datetime.now()
    times = [datetime.datetime.strptime(f"{now.year + step} {text}", "%Y %b %d %H:%M:%S") for step in (-1, 0, 1)]
    return iso(min(times, key=lambda when: abs(when - now)))


def modsecurity(line):
    log = json.loads(line)
    client, request, response, audit = log["transaction"], log["request"], log["response"], log["audit_data"]
    method, target, version = re.fullmatch(r"(\S+) (.*) HTTP/(\S+)", request["request_line"]).groups()
    path, _, query = target.partition("?")
    parts = {}
    for message in audit["messages"]:
        for name, value in re.findall(r'\[([a-z_]+) "((?:[^"\\]|\\.)*)"\]', message):
            parts.setdefault(name, []).append(value)
    action = audit.get("action", {})
    blocked = action.get("intercepted") is True
    local = datetime.datetime.strptime(client["time"], "%d/%b/%Y:%H:%M:%S.%f %z")
    return {
        "@timestamp": iso(local.astimezone(datetime.timezone.utc)), "message": line,
        "source.ip": client["remote_address"], "source.port": client["remote_port"],
        "destination.ip": client["local_address"], "destination.port": client["local_port"],
        "network.protocol": "http", "http.version": version, "http.request.id": client["transaction_id"],
        "http.request.method": method, "http.request.body.content": request.get("body"),
        "http.request.referrer": request["headers"].get("Referer"), "http.request.mime_type": request["headers"].get("Content-Type"),
        "http.request.headers.cookie": request["headers"].get("Cookie"), "http.response.status_code": response["status"],
        "http.response.body.content": response.get("body"), "http.response.mime_type": response["headers"].get("Content-Type"),
        "url.original": target, "url.path": path, "url.query": query or None, "url.domain": request["headers"]["Host"],
        "user_agent.original": request["headers"].get("User-Agent"),
        "event.action": "blocked" if blocked else "detected", "event.kind": "alert", "event.category": "web",
        "event.type": "denied" if blocked else "allowed", "event.outcome": "failure" if blocked else "success",
        "event.reason": action.get("message"),
        "rule.id": parts.get("id"), "rule.name": parts.get("msg"), "modsecurity.tags": parts.get("tag"),
        "modsecurity.severities": parts.get("severity"), "modsecurity.data": parts.get("data"), "modsecurity.files": parts.get("file"),
        "modsecurity.messages": audit["messages"], "modsecurity.engine_mode": audit["engine_mode"],
        "observer.vendor": "OWASP", "observer.product": "ModSecurity", "observer.type": "waf", "observer.version": audit["producer"],
    }


def netfilter(packet, prefix):
    """What both forms of ulogd2 have, from the names of the kernel."""
    verdict = next((word.lower() for word in ("DROP", "ACCEPT") if word in prefix), None)
    return {
        "source.ip": packet["SRC"], "source.port": int(packet["SPT"]), "destination.ip": packet["DST"], "destination.port": int(packet["DPT"]),
        "network.transport": {"6": "tcp", "17": "udp"}.get(str(packet["PROTO"]), str(packet["PROTO"]).lower()),
        "network.bytes": int(packet["LEN"]), "network.packet.ttl": int(packet["TTL"]),
        "observer.vendor": "Linux", "observer.product": "netfilter", "observer.type": "firewall",
        "observer.ingress.interface.name": packet["IN"], "observer.egress.interface.name": packet["OUT"],
        "event.kind": "event", "event.category": "network", "event.action": verdict,
        "event.outcome": {"drop": "failure", "accept": "success"}[verdict], "rule.name": prefix.strip(),
    }


def ulogd_text(line):
    time, host, text = re.fullmatch(r"(\w{3} +\d+ [\d:]{8}) (\S+) (.*)", line).groups()
    prefix, _, rest = text.partition("IN=")
    words = ("IN=" + rest).split()
    # The second LEN of UDP is that of the datagram, not of the packet.
    packet = dict(word.split("=", 1) for word in reversed(words) if "=" in word)
    mac = packet["MAC"].split(":")
    return netfilter(packet, prefix) | {
        "@timestamp": without_year(time), "host.hostname": host, "message": text,
        "destination.mac": ":".join(mac[:6]), "source.mac": ":".join(mac[6:12]), "observer.egress.interface.name": packet["OUT"] or None,
        **{f"tcp.{flag.lower()}": 1 if flag in words else None for flag in ("SYN", "ACK", "FIN", "RST")},
    }


def ulogd_json(line):
    log = json.loads(line)
    packet = {"SRC": log["src_ip"], "DST": log["dest_ip"], "SPT": log["src_port"], "DPT": log["dest_port"], "PROTO": log["ip.protocol"],
              "LEN": log["ip.totlen"], "TTL": log["ip.ttl"], "IN": log["oob.in"], "OUT": log["oob.out"]}
    return netfilter(packet, log["oob.prefix"]) | {
        "@timestamp": iso(datetime.datetime.fromisoformat(log["timestamp"])), "message": line,
        **{f"tcp.{flag}": log.get(f"tcp.{flag}") for flag in ("syn", "ack", "fin", "rst")},
    }


def syslog(line):
    """RFC 5424 by its grammar; RFC 3164 with its own time or an ISO one."""
    new = re.fullmatch(r"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|(?:\[(?:[^\]\\\"]|\\.|\"(?:[^\"\\]|\\.)*\")*\])+)(?: (.*))?", line, re.DOTALL)
    old = re.fullmatch(r"<(\d+)>(\w{3} +\d+ [\d:]{8}|\d{4}-\S+) (\S+) ([^:\[\s]+)(?:\[(\d+)\])?: (.*)", line, re.DOTALL)
    if new:
        priority, time, host, app, process, message_id, data, message = (None if part == "-" else part for part in new.groups())
    else:
        priority, time, host, app, process, message = old.groups()
        message_id = data = None
    is_iso = time[4] == "-"
    when = datetime.datetime.fromisoformat(time) if is_iso else None
    if when and when.tzinfo:
        when = when.astimezone(datetime.timezone.utc)
    return {
        "@timestamp": iso(when) if is_iso else without_year(time), "host.hostname": host, "message": (message or "").removeprefix("\ufeff"),
        "process.name": app, "process.pid": int(process) if process else None, "event.kind": "event",
        "log.syslog.priority": int(priority), "log.syslog.facility.code": int(priority) // 8, "log.syslog.severity.code": int(priority) % 8,
        "log.syslog.appname": app, "log.syslog.procid": process, "log.syslog.msgid": message_id, "log.syslog.structured_data": data,
    }


READERS = {MODSECURITY: ("modsecurity", modsecurity), ULOGD_TEXT: ("netfilter", ulogd_text), ULOGD_JSON: ("netfilter", ulogd_json),
           SYSLOG: ("syslog", syslog)}


def lines_of(folder, name):
    lines = (folder / name).read_text().rstrip("\n").split("\n")
    # The capture has the name of rsyslog's input before each line.
    return [line.partition("|")[2] if name == SYSLOG else line for line in lines]


def decoded(stage, name, lines):
    """`hydrant decode` with the decoder that it finds by itself, field by field."""
    decoder, read = READERS[name]
    file = stage.folder / name
    file.write_text("\n".join(lines) + "\n")
    frames = [json.loads(text) for text in stage.run([harness.binary(), "decode", file]).rstrip("\n").split("\n")]
    same(f"{name}: frames", len(frames), len(lines))
    fields = 0
    for line, frame in zip(lines, frames):
        same(f"{name}: raw, decoder, flaws", (frame["raw"], frame["decoder"], frame["flaws"]), (line, decoder, []))
        expected = {key: value for key, value in read(line).items() if value is not None}
        got = harness.flat(frame["fields"])
        wrong = {key: (got.get(key), expected.get(key)) for key in got.keys() | expected.keys() if got.get(key) != expected.get(key)}
        check(not wrong, f"{name}: field: (Hydrant, expected) {wrong} of {line[:300]}")
        fields += len(expected)
    return fields


def ran(stage, name, lines):
    """The same lines through `hydrant run`, file to file, with the rules of the pack; gives its alerts."""
    rows = stage.folder / f"out-{name}.ndjson"
    config = stage.folder / f"{name}.yaml"
    config.write_text(f"""
data_dir: {stage.folder}/data-{name}
rules: [builtin]
sources:
  in: {{ type: file, include: ["{stage.folder / name}"], read: once }}
sinks:
  out: {{ type: file, path: "{rows}", form: json, keep_raw: true, buffer: {{ interval: 100ms }} }}
""")
    stage.run([harness.binary(), "run", "-c", config])
    out = harness.rows(rows)
    events = [row for row in out if not harness.is_alert(row)]
    same(f"{name}: number of events of the run", len(events), len(lines))
    same(f"{name}: events of the run", sorted(row["event.original"] for row in events), sorted(lines))
    read = READERS[name][1]
    for row in map(harness.flat, events):
        for key, value in read(row["event.original"]).items():
            check(value is None or key == "message" or row.get(key) == value, f"{name}: {key} of the run is {row.get(key)!r}, expected {value!r}")
    # What correlations find on top is about more than one line.
    return [row for row in out if harness.is_alert(row) and "correlation" not in harness.ours(row)]


def attacks(stage, name, lines, alerts):
    """Rules of ours find the attack, where ModSecurity found it too, and `hydrant detect` says the same."""
    found = {}
    for alert in alerts:
        found.setdefault(alert["finding_info"]["title"], []).append(alert["raw_data"])
    check(ALERTS <= found.keys(), f"rules that did not alert: {ALERTS - found.keys()}")
    for line in found["SQL Injection in the URL"]:
        check(any(rule.startswith("942") for rule in modsecurity(line)["rule.id"]), f"no SQL injection for ModSecurity: {line[:300]}")
    matches = [json.loads(text) for text in
               stage.run([harness.binary(), "detect", "--rules", "builtin", stage.folder / name]).rstrip("\n").split("\n")]
    same("matches of `hydrant detect`", sorted((match["title"], lines[match["event"] - 1]) for match in matches if "correlation" not in match),
         sorted((title, line) for title, own in found.items() for line in own))
    return ", ".join(f"{title} {len(own)}" for title, own in sorted(found.items()))


def main(stage):
    figures = []
    folders = [harness.CASES]
    if os.environ.get("HYDRANT_SAMPLES"):
        folders.append(pathlib.Path(os.environ["HYDRANT_SAMPLES"]))
    for folder in folders:
        fields = count = 0
        for name in READERS:
            lines = lines_of(folder, name)
            fields += decoded(stage, name, lines)
            alerts = ran(stage, name, lines)
            count += len(lines)
            if name == MODSECURITY:
                found = attacks(stage, name, lines, alerts)
            (stage.folder / f"out-{name}.ndjson").unlink()
            harness.shutil.rmtree(stage.folder / f"data-{name}")
        which = "lines kept here" if folder == harness.CASES else "whole logs"
        figures.append(f"{which}: {count} events, {fields} fields right, alerts: {found}")
    if len(folders) == 1:
        figures.append("HYDRANT_SAMPLES is not set: no whole logs")
    return "; ".join(figures)


harness.play(main)
