#!/usr/bin/env python3
"""Reloads and hand-overs under load by TCP, UDP and HTTP, and sockets given by systemd's protocol.

1. SIGHUP again and again, with other rules and routes each time: no connection ends, no datagram is lost.
2. SIGUSR2 again and again; one of them brings a source, a sink and a route. Nobody who connects is refused, what was
   answered with 200 is delivered, each datagram is delivered or counted as dropped by the kernel. The process keeps
   its number. A configuration with a mistake is refused and the process goes on. What plain TCP loses is told.
3. SIGTERM at any moment of a hand-over ends the process.
4. Sockets as systemd gives them: what was sent before the program ran arrives, by two shards that share one socket.
"""
import errno
import http.client
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import harness
from harness import check, each_once, eventually, free_port, in_thread, same

RELOADS = 100 if harness.FULL else 10
HAND_OVERS = 20 if harness.FULL else 4
# A second, each.
TCP_RATE, UDP_RATE = (5_000, 5_000) if harness.FULL else (1_000, 1_000)

TOKEN = re.compile(r"<<([htu]\d+)>>")


def config(ports, variant, more=""):
    """Rules and routes differ by `variant`; what a hand-over adds is `more`."""
    sinks = "  more: { type: file, path: more.ndjson, buffer: { interval: 100ms } }\n" if more else ""
    sources = f'  late: {{ type: http, listen: "127.0.0.1:{ports["late"]}", decoder: syslog }}\n' if more else ""
    routes = "  - { to: [more] }\n" if more else ""
    return f"""
shards: 2
journal: {{ type: disk }}
sources:
  tcp: {{ type: syslog, listen: "tcp://127.0.0.1:{ports["tcp"]}", decoder: syslog }}
  udp: {{ type: syslog, listen: "udp://127.0.0.1:{ports["udp"]}", decoder: syslog }}
  http: {{ type: http, listen: "127.0.0.1:{ports["http"]}", decoder: syslog }}
{sources}sinks:
  out: {{ type: file, path: out.ndjson, buffer: {{ interval: 100ms }} }}
{sinks}rules: [rules]
routes:
  - {{ to: [out], when: '!starts_with(string(.message) ?? "", "no such {variant}")' }}
{routes}"""


RULE = """title: Made for reload {number}
id: 00000000-0000-4000-8000-{number:012}
status: test
logsource: {{ category: firewall }}
detection:
  selection: {{ message|contains: 'never seen {number}' }}
  condition: selection
level: low
"""


class Load:
    """Senders by each way until `end`; each counts what it sent, and what it was denied."""

    def __init__(self, ports):
        self.ports, self.stop, self.refused, self.reconnected = ports, threading.Event(), [], 0
        self.threads = [in_thread(work) for work in (self.tcp, self.udp, self.http)]

    def end(self):
        self.stop.set()
        return [thread.result() for thread in self.threads]

    def line(self, token):
        return f"<134>1 2026-11-21T08:00:00Z fw app - - - <<{token}>> {'x' * 120}"

    def due(self, rate):
        """Numbers that are to be sent by now, every few milliseconds."""
        number, start = 0, time.monotonic()
        while not self.stop.is_set():
            due = int((time.monotonic() - start) * rate)
            yield range(number, due)
            number = due
            time.sleep(0.005)

    def connect(self, name):
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.ports[name]), 30)
            except ConnectionRefusedError:
                self.refused.append(f"{name} at {time.monotonic():.2f}")
                time.sleep(0.01)

    def tcp(self):
        sent, connection = 0, self.connect("tcp")
        for numbers in self.due(TCP_RATE):
            text = "".join(self.line(f"t{number}") + "\n" for number in numbers).encode()
            sent = numbers.stop
            try:
                # A sender that looks whether its peer is still there, as rsyslog does, loses least.
                connection.setblocking(False)
                try:
                    if connection.recv(1) == b"":
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                connection.settimeout(30)
                connection.sendall(text)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, None):
                    raise
                self.reconnected += 1
                connection.close()
                connection = self.connect("tcp")
                connection.sendall(text)
        connection.close()
        return sent

    def udp(self):
        sent, connection = 0, socket.socket(type=socket.SOCK_DGRAM)
        connection.connect(("127.0.0.1", self.ports["udp"]))
        for numbers in self.due(UDP_RATE):
            for number in numbers:
                try:
                    connection.send(self.line(f"u{number}").encode())
                    sent += 1
                except ConnectionRefusedError:
                    # ICMP of an earlier one: there was no socket.
                    self.refused.append(f"udp at {time.monotonic():.2f}")
        return sent

    def http(self):
        """Gives what was acknowledged."""
        acknowledged, number, connection = [], 0, None
        while not self.stop.is_set():
            tokens = [f"h{index}" for index in range(number, number + 50)]
            number += 50
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=60)
                    connection.sock = self.connect("http")
                connection.request("POST", "/", "".join(self.line(token) + "\n" for token in tokens).encode(), {"Content-Type": "text/plain"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                # No answer, so nothing was promised.
                connection.close()
                connection = None
                continue
            same("HTTP answer", answer.status, 200)
            acknowledged += tokens
            time.sleep(0.005)
        return acknowledged


def write(hydrant, text):
    (hydrant.folder / "hydrant.yaml").write_text(f"data_dir: data\nadmin: \"{hydrant.admin[7:]}\"\n{text}")


def said(hydrant, text):
    return hydrant.stage.log_of(hydrant.name).count(text)


def tokens(path):
    return [TOKEN.search(row["message"])[1] for row in harness.rows(path)]


def reload(hydrant, ports, number):
    (hydrant.folder / "rules" / "made.yml").write_text(RULE.format(number=number))
    write(hydrant, config(ports, number))
    before = said(hydrant, "reloaded; 1 rules")
    hydrant.process.send_signal(signal.SIGHUP)
    eventually("the reload", lambda: said(hydrant, "reloaded; 1 rules") > before)


def hand_over(hydrant, is_valid=True):
    """SIGUSR2; gives how long nobody answered."""
    text = "handing over" if is_valid else "not handed over"
    before, ready = said(hydrant, text), said(hydrant, "the admin API is open")
    hydrant.process.send_signal(signal.SIGUSR2)
    eventually("the hand-over", lambda: said(hydrant, text) > before)
    start = time.monotonic()
    if is_valid:
        eventually("the next process", lambda: said(hydrant, "the admin API is open") > ready and hydrant.is_ready())
    return time.monotonic() - start


def under_load(stage):
    ports = {name: free_port() for name in ("tcp", "udp", "http", "late")}
    hydrant = stage.hydrant(config(ports, 0), files={"rules/made.yml": RULE.format(number=0)})
    load = Load(ports)
    for number in range(1, RELOADS + 1):
        reload(hydrant, ports, number)
    same("TCP connections that a reload ended", load.reconnected, 0)
    check(not load.refused, f"a reload refused {load.refused[:5]}")

    pid, gaps = hydrant.process.pid, []
    write(hydrant, config(ports, 0).replace("type: file", "type: fil"))
    hand_over(hydrant, is_valid=False)
    for number in range(HAND_OVERS):
        more = "more" if number >= HAND_OVERS // 2 else ""
        write(hydrant, config(ports, number, more))
        gaps.append(hand_over(hydrant))
        time.sleep(0.3)
    same("process id", hydrant.process.pid, pid)
    late = urllib.request.Request(f"http://127.0.0.1:{ports['late']}/", load.line("h999999999").encode(), {"Content-Type": "text/plain"})
    same("answer of the source that a hand-over brought", urllib.request.urlopen(late, timeout=30).status, 200)
    tcp_sent, udp_sent, acknowledged = load.end()
    check(not load.refused, f"refused: {load.refused[:5]}")
    hydrant.is_restarted = True
    wanted = {*acknowledged, "h999999999"}
    eventually("what was acknowledged to be delivered", lambda: wanted <= set(tokens(hydrant.folder / "out.ndjson")))
    hydrant.stop()
    got = tokens(hydrant.folder / "out.ndjson")
    seen = set(got)
    http_sent = {token for token in seen if token[0] == "h"}
    check(wanted <= http_sent, f"{len(wanted - http_sent)} acknowledged are missing")
    udp_got = sum(token[0] == "u" for token in seen)
    drops = sum(source["kernel_drops"] for source in hydrant.book()["sources"].values())
    same("datagrams delivered and dropped", udp_got + drops, udp_sent)
    tcp_got = sum(token[0] == "t" for token in seen)
    check("h999999999" in tokens(hydrant.folder / "more.ndjson"), "the sink that a hand-over brought has nothing")
    return (f"{RELOADS} reloads, {HAND_OVERS} hand-overs (at most {max(gaps):.2f} s each): none refused, {len(wanted)} acknowledged by HTTP all "
            f"delivered, {len(got) - len(seen)} lines twice, UDP {udp_got} of {udp_sent} ({drops} counted as dropped), "
            f"TCP {tcp_got} of {tcp_sent} over {load.reconnected + 1} connections")


def ended_meanwhile(stage):
    ports = {name: free_port() for name in ("tcp", "udp", "http", "late")}
    codes = []
    for number in range(HAND_OVERS):
        hydrant = stage.hydrant(config(ports, 0), f"ended{number}", files={"rules/made.yml": RULE.format(number=0)})
        hydrant.process.send_signal(signal.SIGUSR2)
        time.sleep(random.random() * 0.6)
        hydrant.process.send_signal(signal.SIGTERM)
        codes.append(hydrant.process.wait(60))
    check(set(codes) <= {0, -signal.SIGTERM}, f"exit codes {codes}")
    return f"SIGTERM during {HAND_OVERS} hand-overs: all ended"


def given_by_systemd(stage):
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    for given in (tcp, udp):
        given.bind(("127.0.0.1", 0))
    tcp.listen(64)
    early = [socket.create_connection(tcp.getsockname()) for _ in range(8)]
    for number, connection in enumerate(early):
        connection.sendall(f"<134>1 2026-11-21T08:00:00Z fw app - - - <<t{number}>>\n".encode())
    sender = socket.socket(type=socket.SOCK_DGRAM)
    for number in range(8):
        sender.sendto(f"<134>1 2026-11-21T08:00:00Z fw app - - - <<u{number}>>".encode(), udp.getsockname())
    folder = stage.folder / "given"
    folder.mkdir()
    (folder / "hydrant.yaml").write_text(f"""
data_dir: data
shards: 2
sources:
  in: {{ type: syslog, listen: ["tcp://127.0.0.1:{tcp.getsockname()[1]}", "udp://127.0.0.1:{udp.getsockname()[1]}"], decoder: syslog }}
sinks:
  out: {{ type: file, path: out.ndjson, buffer: {{ interval: 50ms }} }}
""")

    def as_systemd():
        harness.die_with_parent()
        # Above 3 first, so that neither overwrites the other.
        copies = [os.dup(tcp.fileno()), os.dup(udp.fileno())]
        copies = [descriptor if descriptor > 4 else os.dup2(descriptor, 60 + index) for index, descriptor in enumerate(copies)]
        for index, descriptor in enumerate(copies):
            os.dup2(descriptor, 3 + index)

    with open(stage.folder / "given.log", "ab") as log:
        # The process id is known only behind the fork.
        command = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" run -c hydrant.yaml', harness.binary()]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, preexec_fn=as_systemd, close_fds=False)
    stage.processes.append(("given", process))
    wanted = {f"{way}{number}" for way in "tu" for number in range(8)}
    eventually("what was sent before the start", lambda: wanted <= set(tokens(folder / "out.ndjson")))
    late = [socket.create_connection(tcp.getsockname()) for _ in range(8)]
    for number, connection in enumerate(late):
        connection.sendall(f"<134>1 2026-11-21T08:00:00Z fw app - - - <<t{number + 8}>>\n".encode())
        connection.close()
    wanted |= {f"t{number + 8}" for number in range(8)}
    eventually("what was sent behind the start", lambda: wanted <= set(tokens(folder / "out.ndjson")))
    process.send_signal(signal.SIGTERM)
    same("exit code", process.wait(30), 0)
    each_once("through given sockets", tokens(folder / "out.ndjson"), wanted)
    return f"sockets given as by systemd: {len(wanted)} of {len(wanted)}, {len(early) + 8} of them sent before the start"


def main(stage):
    return "; ".join(part(stage) for part in (under_load, ended_meanwhile, given_by_systemd))


harness.play(main)
