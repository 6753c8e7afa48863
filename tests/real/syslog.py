#!/usr/bin/env python3
"""Syslog from the programs that people use: rsyslog, logger (util-linux) and loggen (syslog-ng).

| | UDP | TCP, lines | TCP, octet counts | TLS | mTLS | unix socket |
|---|---|---|---|---|---|---|
| logger | RFC 3164, 5424 | RFC 3164, 5424 | RFC 5424 | it has none | it has none | datagram |
| loggen | as BSD syslog | as BSD syslog | RFC 5424 | both | it shows no certificate | stream |
| rsyslog | RFC 3164 | ISO time | RFC 5424 | RFC 5424 | RFC 5424 | omuxsock speaks no framing |

Every event carries a number; each must arrive exactly once in a file, with its host, program, process id, facility,
severity, structured data and text. UDP is sent slowly enough that the kernel drops nothing, which is read from the
kernel and from Hydrant's own counter. A client without a certificate, or with one of another authority, is refused by
mTLS, and counted.
"""
import collections
import pathlib
import re
import socket

import harness
from harness import check, each_once, eventually, same

LINES, DATAGRAMS = (200_000, 20_000) if harness.FULL else (5_000, 2_000)

# One logger process sends this many datagrams at once: the default socket buffer holds about 280 of them.
BURST = 100

DATA = r'[zoo@123 tiger="hun\"g\]ry" lion=""]'


def certificates(stage):
    """An authority with a server and a client, and a client of another authority."""
    folder = stage.folder / "tls"
    folder.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def authority(name):
        stage.run(["openssl", "req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out",
                   f"{folder}/{name}.pem"])

    def signed(name, by):
        (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        stage.run(["openssl", "req", *key, "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr"])
        stage.run(["openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{by}.pem", "-CAkey", f"{folder}/{by}.key",
                   "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/extensions", "-out", f"{folder}/{name}.pem"])

    authority("authority")
    authority("stranger")
    signed("localhost", "authority")
    signed("device1", "authority")
    signed("impostor", "stranger")
    return folder


class Servers:
    """Hydrant with one source for each transport."""

    def __init__(self, stage):
        self.stage, self.tls = stage, certificates(stage)
        self.port = {name: harness.free_port() for name in ("udp", "tcp", "tls", "mtls")}
        self.socket = {name: stage.folder / f"{name}.sock" for name in ("unixgram", "unix")}
        server = f"cert: {self.tls}/localhost.pem, key: {self.tls}/localhost.key"
        self.hydrant = stage.hydrant(f"""
sources:
  udp: {{ type: syslog, listen: "udp://127.0.0.1:{self.port['udp']}" }}
  tcp: {{ type: syslog, listen: "tcp://127.0.0.1:{self.port['tcp']}" }}
  tls: {{ type: syslog, listen: "tcp://127.0.0.1:{self.port['tls']}", tls: {{ {server} }} }}
  mtls: {{ type: syslog, listen: "tcp://127.0.0.1:{self.port['mtls']}", tls: {{ {server}, client_ca: {self.tls}/authority.pem }} }}
  unixgram: {{ type: syslog, listen: "unixgram:{self.socket['unixgram']}" }}
  unix: {{ type: syslog, listen: "unix:{self.socket['unix']}" }}
sinks:
  out: {{ type: file, path: out.ndjson, form: json, keep_raw: true, buffer: {{ interval: 200ms }} }}
""")

    def arrived(self, source, count):
        eventually(f"{count} events by {source}", lambda: self.hydrant.received(source) >= count)

    def refused(self, source):
        return self.hydrant.total("hydrant_component_refused_total", component_id=source)


def logger(servers):
    """Gives what is expected: source, tag, how many, fields."""
    host, runs = socket.gethostname(), []
    data = ["--sd-id", "zoo@123", "--sd-param", 'tiger="hungry"', "--msgid", "FW7"]
    by_udp = ["--server", "127.0.0.1", "--port", servers.port["udp"], "--udp"]
    by_tcp = ["--server", "127.0.0.1", "--port", servers.port["tcp"], "--tcp"]
    for source, tag, options, is_5424 in (
            ("udp", "udp-3164", [*by_udp, "--rfc3164"], False),
            ("udp", "udp-5424", [*by_udp, "--rfc5424", *data], True),
            ("tcp", "tcp-3164", [*by_tcp, "--rfc3164"], False),
            ("tcp", "tcp-5424", [*by_tcp, "--rfc5424", *data], True),
            ("tcp", "tcp-octets", [*by_tcp, "--rfc5424", "--octet-count", *data], True),
            ("unixgram", "unixgram", ["--socket", servers.socket["unixgram"]], False)):
        is_stream = source == "tcp"
        burst = LINES if is_stream else BURST
        count = LINES if is_stream else DATAGRAMS
        for first in range(0, count, burst):
            file = servers.stage.folder / "lines"
            file.write_text("".join(f"{number:07} Größe: 25 °C, {'x' * (number % 90)}.\n" for number in range(first, min(first + burst, count))))
            servers.stage.run(["logger", "--id=4711", "--tag", tag, "--priority", "local3.warning", *options, "--file", file])
        fields = {"process.name": tag, "process.pid": 4711, "log.syslog.facility.code": 19, "log.syslog.severity.code": 4,
                  "host.hostname": None if source == "unixgram" else host}
        if is_5424:
            fields |= {"log.syslog.msgid": "FW7", "log.syslog.structured_data": re.compile(r'\[timeQuality .*\]\[zoo@123 tiger="hungry"\]')}
        text = lambda number: f"{number:07} Größe: 25 °C, {'x' * (number % 90)}."
        runs.append((source, tag, count, fields, text))
    return runs


def loggen(servers):
    runs = []
    proto = ["--syslog-proto", "--sdata", DATA]
    inet = lambda source: ["127.0.0.1", servers.port[source]]
    for source, count, options, target in (
            # It begins with a burst of a second's worth.
            ("udp", DATAGRAMS // 4, ["-i", "-D", "-r", BURST], inet("udp")),
            ("tcp", LINES, ["-i", "-S", "-r", 1_000_000], inet("tcp")),
            ("tcp", LINES, ["-i", "-S", "-r", 1_000_000, *proto], inet("tcp")),
            ("tls", LINES, ["-U", "-r", 1_000_000], inet("tls")),
            ("tls", LINES, ["-U", "-r", 1_000_000, *proto], inet("tls")),
            ("unix", LINES, ["-x", "-S", "-r", 1_000_000], [servers.socket["unix"]])):
        done = servers.stage.run([harness.DEBIAN / "usr/bin/loggen", "-n", count, "-I", 100, "-s", 300, *options, *target], env=harness.DEBIAN_ENVIRONMENT)
        is_proto = bool(set(proto) & set(options))
        fields = {"process.name": "prg00000", "process.pid": 1234, "host.hostname": "localhost", "log.syslog.facility.code": 4,
                  "log.syslog.severity.code": 6, "log.syslog.structured_data": DATA if is_proto else None}
        runs.append((source, "prg00000 " + ("5424" if is_proto else "BSD"), count, fields, None))
    return runs


def rsyslogd(servers, name, targets, ca="authority", client=None):
    """An rsyslogd that forwards what it gets to all targets; gives its port."""
    port, folder = harness.free_port(), servers.stage.folder / name
    folder.mkdir()
    own = f'DefaultNetstreamDriverCertFile="{servers.tls}/{client}.pem" DefaultNetstreamDriverKeyFile="{servers.tls}/{client}.key"' if client else ""
    config = folder / "rsyslog.conf"
    actions = "\n".join(f'action(type="omfwd" target="127.0.0.1" action.resumeRetryCount="-1" action.resumeInterval="1" {options})'
                        for options in targets)
    config.write_text(f"""
global(workDirectory="{folder}" maxMessageSize="64k" DefaultNetstreamDriverCAFile="{servers.tls}/{ca}.pem" {own})
module(load="imptcp")
input(type="imptcp" address="127.0.0.1" port="{port}")
{actions}
""")
    servers.stage.start(name, [harness.DEBIAN / "usr/sbin/rsyslogd", "-n", "-f", config, "-i", folder / "pid", "-M", harness.DEBIAN_LIBRARIES / "rsyslog"],
                        env=harness.DEBIAN_ENVIRONMENT)

    def is_open():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    eventually(f"{name} to listen", is_open)
    return port


def send(port, app, count):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, count, 1000):
            connection.sendall("".join(
                f"<165>1 2026-11-21T08:00:00.{number % 1000:03}Z pa-{number % 5}.example.com {app} 99 ID47 {DATA} {number:07} über: alles\n"
                for number in range(first, min(first + 1000, count))).encode())


def rsyslog(servers):
    tcp = f'protocol="tcp" port="{servers.port["tcp"]}"'
    octets = 'TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"'
    gtls = 'protocol="tcp" StreamDriver="gtls" StreamDriverMode="1"'
    named = 'StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="localhost"'
    runs = []
    for name, source, target, has_data in (
            ("rs-udp", "udp", f'protocol="udp" port="{servers.port["udp"]}" udp.sendDelay="200" template="RSYSLOG_TraditionalForwardFormat"', False),
            ("rs-lines", "tcp", f'{tcp} template="RSYSLOG_ForwardFormat"', False),
            ("rs-octets", "tcp", f"{tcp} {octets}", True),
            ("rs-tls", "tls", f'{gtls} port="{servers.port["tls"]}" {named} {octets}', True),
            ("rs-mtls", "mtls", f'{gtls} port="{servers.port["mtls"]}" {named} {octets}', True)):
        count = DATAGRAMS if source == "udp" else LINES
        before = servers.hydrant.received(source)
        port = rsyslogd(servers, name, [target], client="device1" if source == "mtls" else None)
        send(port, name, count)
        servers.arrived(source, before + count)
        fields = {"process.name": name, "log.syslog.facility.code": 20, "log.syslog.severity.code": 5,
                  "log.syslog.structured_data": DATA if has_data else None}
        if has_data:
            fields |= {"log.syslog.msgid": "ID47", "process.pid": 99}
        text = lambda number: f"{number:07} über: alles"
        runs.append((source, name, count, fields, text))
    return runs


def refusals(servers):
    """Who has no certificate of the authority gets nothing in by mTLS."""
    before, received = servers.refused("mtls"), servers.hydrant.received("mtls")
    target = (f'protocol="tcp" port="{servers.port["mtls"]}" StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" '
              'StreamDriverPermittedPeers="localhost" TCP_Framing="octet-counted"')
    for name, client in (("rs-none", None), ("rs-impostor", "impostor")):
        send(rsyslogd(servers, name, [target], client=client), name, 10)
        eventually(f"the refusal of {name}", lambda: servers.refused("mtls") > before)
        before = servers.refused("mtls")
    # loggen cannot show any certificate, and fails.
    try:
        servers.stage.run([harness.DEBIAN / "usr/bin/loggen", "-n", 10, "-i", "-S", "-U", "127.0.0.1", servers.port["mtls"]], env=harness.DEBIAN_ENVIRONMENT)
    except harness.Failure:
        pass
    eventually("the refusal of loggen", lambda: servers.refused("mtls") > before)
    same("events by mTLS after refusals", servers.hydrant.received("mtls"), received)
    return int(servers.refused("mtls"))


def kernel_drops(port):
    """What the kernel dropped at the sockets of this port."""
    lines = pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]
    found = [int(line.split()[-1]) for line in lines if line.split()[1].endswith(f":{port:04X}")]
    check(found, "the UDP socket is not in /proc/net/udp")
    return sum(found)


def compare(rows, runs):
    expected = {(source, app): (fields, text) for source, app, _, fields, text in runs}
    numbers = collections.defaultdict(list)
    for row in map(harness.flat, rows):
        app = row.get("process.name")
        if app == "prg00000":
            app += " 5424" if "log.syslog.structured_data" in row else " BSD"
        sender = (row["hydrant.source"], app)
        check(sender in expected, f"nobody sent {row}")
        numbers[sender].append(number_of(row, app, *expected[sender]))
    for source, app, count, *_ in runs:
        each_once(f"{app} by {source}", numbers[(source, app)], range(count))
    return sum(count for _, _, count, *_ in runs)


def number_of(row, app, fields, text):
    """Its number, if everything else is right."""
    number = int(re.search(r"\d{7,10}", row["message"])[0])
    for name, expected in fields.items():
        got = row.get(name)
        is_right = bool(expected.fullmatch(got or "")) if isinstance(expected, re.Pattern) else got == expected
        check(is_right, f"{name} is {got!r}, expected {expected!r}, of {row}")
    if text:
        same(f"{app}: message", row["message"], text(number))
    if app.startswith("rs-"):
        same(f"{app}: host", row["host.hostname"], f"pa-{number % 5}.example.com")
        check(app == "rs-udp" or row["@timestamp"] == f"2026-11-21T08:00:00.{number % 1000:03}Z", f"the time of {row}")
    check(row["event.original"].endswith(row["message"]), f"the raw line is not kept: {row}")
    return number


def main(stage):
    servers = Servers(stage)
    # One after the other: datagrams must not wait behind the rush of a stream.
    runs = logger(servers) + loggen(servers) + rsyslog(servers)
    refused = refusals(servers)
    # What was dropped will not arrive.
    dropped = kernel_drops(servers.port["udp"])
    for source in servers.port | servers.socket:
        servers.arrived(source, sum(count for own, _, count, *_ in runs if own == source) - (dropped if source == "udp" else 0))
    metrics = servers.hydrant.stop()
    counted = harness.total(metrics, "hydrant_udp_kernel_drops_total")
    same("datagrams dropped by the kernel: (its own count, Hydrant's)", (dropped, counted), (0, 0))
    total = compare(harness.each_row(servers.hydrant.folder / "out.ndjson"), runs)
    return f"{total} events of {len(runs)} senders, each once and right; 0 datagrams dropped; {refused} mTLS connections refused"


harness.play(main)
