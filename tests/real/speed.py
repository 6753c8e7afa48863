#!/usr/bin/env python3
"""Hydrant beside rsyslog, the same load in turn: each alone on CPU 0, the load on another.

* parse: RFC 5424 lines over 4 TCP connections, the header read, nothing kept. The last line of a connection has a
  program name of its own; it alone goes to a file, so that the end is seen.
* file: the same lines over 4 TCP connections, as they came, to one file.
* udp: lines at a fixed rate to sockets of the system's own size; what the kernel dropped.

CPU seconds of the process (user and system) for a million lines, medians of the runs. Nothing is asserted about time;
every line must have arrived, and by UDP be counted. rsyslog reads with imptcp and imudp and a FixedArray queue with two
workers; it syncs no file, Hydrant syncs every batch.
"""
import os
import pathlib
import random
import socket
import statistics
import time

import harness
from harness import DEBIAN_ENVIRONMENT, DEBIAN_LIBRARIES, check, eventually, in_thread, same

LINES, RUNS = (1_500_000, 3) if harness.FULL else (60_000, 1)
RATE, SECONDS = 100_000, 4 if harness.FULL else 1
CONNECTIONS = 4
MARKER = "the-end"
LAST = f"<14>1 2026-11-21T08:00:00.000Z fw {MARKER} - - - end\n".encode()


def corpus():
    """2,000 PAN-OS traffic logs of about 740 bytes behind an RFC 5424 header."""
    pick = random.Random(7)

    def address():
        return f"10.{pick.randrange(60)}.{pick.randrange(256)}.{pick.randrange(1, 255)}"

    def line(number):
        columns = ["1", "2026/11/21 08:00:00", "0123456789", "TRAFFIC", "end", "2560", "2026/11/21 08:00:00", address(), address(), address(),
                   address(), f"Allow-Outbound-{pick.randrange(40)}", f"corp\\user{pick.randrange(3000)}", "", "web-browsing", "vsys1", "trust",
                   "untrust", "ethernet1/1", "ethernet1/2", "forward-all", "2026/11/21 08:00:00", str(number), "1", str(pick.randrange(65536)),
                   "443", str(pick.randrange(65536)), "443", "0x400053", "tcp", pick.choice(["allow", "deny"]), str(pick.randrange(10**6)),
                   *[str(pick.randrange(10**5)) for _ in range(60)]]
        return f"<14>1 2026-11-21T08:00:00.000Z PA-FW-{pick.randrange(12):02} - - - - {','.join(columns)}\n".encode()

    return [line(number) for number in range(2000)]


class Rsyslog:
    """rsyslog with one listener and one ruleset."""

    name = "rsyslog"

    def __init__(self, stage, work, port, out):
        module, action = ("imudp", f'action(type="omfile" file="{out}" template="raw")')
        if work != "udp":
            module = "imptcp"
        if work == "parse":
            action = f'if $programname == "{MARKER}" then {action}'
        config = stage.folder / "rsyslog.conf"
        config.write_text(f"""
global(workDirectory="{stage.folder}" maxMessageSize="64k")
module(load="{DEBIAN_LIBRARIES}/rsyslog/{module}")
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="all" queue.type="FixedArray" queue.size="200000" queue.dequeueBatchSize="2048" queue.workerThreads="2"
        queue.timeoutEnqueue="600000") {{ {action} }}
input(type="{module}" address="127.0.0.1" port="{port}" ruleset="all")
""")
        command = ["taskset", "-c", "0", harness.DEBIAN / "usr/sbin/rsyslogd", "-n", "-f", config, "-i", stage.folder / "rsyslog.pid", "-M",
                   DEBIAN_LIBRARIES / "rsyslog"]
        self.process = stage.start("rsyslog", command, env=DEBIAN_ENVIRONMENT)
        if work != "udp":
            eventually("rsyslog to listen", lambda: connects(port), 30)
        else:
            eventually("rsyslog to listen", lambda: udp_socket(port), 30)

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Ours:
    """Hydrant with one source and one file."""

    name = "hydrant"

    def __init__(self, stage, work, port, out):
        listen = f"{'udp' if work == 'udp' else 'tcp'}://127.0.0.1:{port}"
        # 104 KiB asked for are the 212,992 bytes that a socket has by itself.
        more = ", receive_buffer: 104KiB" if work == "udp" else ", framing: newline"
        routes = f"routes: [ {{ when: '.log.syslog.appname == \"{MARKER}\"', to: [out] }} ]" if work == "parse" else ""
        self.hydrant = stage.hydrant(f"""
shards: 1
sources: {{ in: {{ type: syslog, listen: "{listen}", decoder: syslog{more} }} }}
sinks: {{ out: {{ type: file, path: "{out}", format: text, form: raw, buffer: {{ interval: 200ms }} }} }}
{routes}
""", name=f"hydrant-{work}-{port}", cpu=0)
        self.cpu_s = self.hydrant.cpu_s

    def stop(self):
        self.hydrant.stop()


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def udp_socket(port):
    """The line of a UDP socket in the kernel's table; its last column is what was dropped."""
    for line in pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]:
        if line.split()[1].endswith(f":{port:04X}"):
            return line
    return None


def send_tcp(port, block, count):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(count):
            connection.sendall(block)
        connection.sendall(LAST)


def send_udp(port, lines, count):
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        start = time.monotonic()
        sent = 0
        while sent < count:
            due = min(count, int((time.monotonic() - start) * RATE))
            # After a pause of the sender itself there is no gush.
            if due - sent > RATE // 1000:
                start += (due - sent - RATE // 1000) / RATE
                due = sent + RATE // 1000
            for index in range(sent, due):
                sender.send(lines[index % len(lines)])
            sent = due
            time.sleep(0.0001)


def over_tcp(stage, kind, work, lines):
    port, out = harness.free_port(), stage.folder / f"{kind.name}-{work}.log"
    subject = kind(stage, work, port, out)
    block, blocks = b"".join(lines), LINES // len(lines) // CONNECTIONS
    count = blocks * CONNECTIONS * len(lines) + CONNECTIONS
    before, start = subject.cpu_s(), time.monotonic()
    senders = [in_thread(send_tcp, port, block, blocks) for _ in range(CONNECTIONS)]
    [sender.result(600) for sender in senders]
    expected = CONNECTIONS * (len(block) * blocks + len(LAST)) if work == "file" else 0

    def is_done():
        size = out.stat().st_size if out.exists() else 0
        return size >= expected if expected else size and out.read_bytes().count(LAST) == CONNECTIONS

    eventually(f"all lines at {kind.name}", is_done, 600)
    used, passed = subject.cpu_s() - before, time.monotonic() - start
    subject.stop()
    if work == "file":
        with open(out, "rb") as file:
            same(f"lines that {kind.name} wrote", sum(1 for _ in file), count)
    out.unlink()
    return used / count * 1e6, count / passed


def over_udp(stage, kind, lines):
    port, out = harness.free_port(), stage.folder / f"{kind.name}-udp.log"
    subject = kind(stage, "udp", port, out)
    count = RATE * SECONDS
    before = subject.cpu_s()
    in_thread(send_udp, port, [line.rstrip(b"\n") for line in lines], count).result(600)
    time.sleep(2)
    used, dropped = subject.cpu_s() - before, int(udp_socket(port).split()[-1])
    subject.stop()
    with open(out, "rb") as file:
        same(f"datagrams that {kind.name} wrote or the kernel dropped", sum(1 for _ in file) + dropped, count)
    out.unlink()
    return used / (count - dropped) * 1e6, dropped / count


def main(stage):
    check(os.cpu_count() > 1, "the load needs a CPU of its own")
    os.sched_setaffinity(0, set(range(1, os.cpu_count())))
    lines = corpus()
    figures = []
    for work in ("parse", "file", "udp"):
        results = {kind: [] for kind in (Ours, Rsyslog)}
        for _ in range(RUNS):
            for kind, runs in results.items():
                runs.append(over_udp(stage, kind, lines) if work == "udp" else over_tcp(stage, kind, work, lines))
        for kind, runs in results.items():
            cpu, other = (statistics.median(column) for column in zip(*runs))
            figures.append(f"{work} {kind.name} {cpu:.2f} CPU s/M, " + (f"{other:.2%} lost" if work == "udp" else f"{other / 1000:.0f}k/s"))
    return "; ".join(figures)


harness.play(main)
