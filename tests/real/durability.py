#!/usr/bin/env python3
"""What durability costs in time: the answer to a sender, and the start with a full journal. It measures; what it checks is
that nothing is refused and nothing is forgotten.

1. Acknowledgement: HTTP requests of one event, one after the other over some connections, against the commit interval and
   the `fdatasync` of this disk, measured in the same folder: at rest just before, and at the same time, since a sync waits for
   those of other files, here of the file that the events go to.
2. Start: the journal is filled while its destination is away, the process killed, and started again: the time until its
   listener answers, and the CPU time until then.
"""
import os
import socket
import sys
import time

import flood
import harness
from harness import check, eventually

COMMIT_INTERVAL_MS = 5
CONNECTIONS, REQUESTS = (4, 2_000) if harness.FULL else (4, 200)
JOURNAL_BYTES = 10_000_000_000 if harness.FULL else 300_000_000
STARTS = 3
# So that 500 of them take about as long as the requests, and are few beside those of the journal.
SYNC_PAUSE_S = 0.015 if harness.FULL else 0.0015

LINE = b"<134>1 2026-11-21T08:00:00Z fw app - - - " + b"0123456789abcdef" * 44 + b"\n"


def at(share, values):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def sync_ms(folder, pause_s=0):
    """Times of `fdatasync` after 4 KiB into a file that has its size, with a pause behind each."""
    times = []
    file = os.open(folder / "sync", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.posix_fallocate(file, 0, 16 << 20)
        os.fsync(file)
        for number in range(500):
            os.pwrite(file, os.urandom(4096), 4096 * number)
            start = time.monotonic()
            os.fdatasync(file)
            times.append(1000 * (time.monotonic() - start))
            time.sleep(pause_s)
    finally:
        os.close(file)
    return times


def acknowledgement(stage):
    port = harness.free_port()
    hydrant = stage.hydrant(f"""
journal: {{ type: disk, commit_interval: {COMMIT_INTERVAL_MS}ms }}
sources:
  in: {{ type: http, listen: "127.0.0.1:{port}", decoder: json }}
sinks:
  out: {{ type: file, path: out.ndjson, buffer: {{ interval: 1s }} }}
""", "acknowledges")
    at_rest = sync_ms(hydrant.folder)
    files = [stage.folder / f"times-{number}" for number in range(CONNECTIONS)]
    senders = [stage.start(f"sender-{number}", [sys.executable, flood.__file__, "ask", port, REQUESTS, file]) for number, file in enumerate(files)]
    beside = sync_ms(hydrant.folder, SYNC_PAUSE_S)
    for sender in senders:
        harness.same("exit code", sender.wait(600), 0)
    times = [float(line) for file in files for line in file.read_text().splitlines()]
    hydrant.stop()
    harness.same("events", len(harness.rows(hydrant.folder / "out.ndjson")), CONNECTIONS * REQUESTS)
    told = lambda when, syncs: (f"fdatasync {when} p50 {at(0.5, syncs):.1f} ms, p99 {at(0.99, syncs):.1f} ms, "
                                f"commit interval and two of these {COMMIT_INTERVAL_MS + 2 * at(0.99, syncs):.1f} ms")
    return f"answers p50 {at(0.5, times):.1f} ms, p99 {at(0.99, times):.1f} ms; {told('at rest', at_rest)}; {told('at the same time', beside)}"


def journal_bytes(hydrant):
    return hydrant.total("hydrant_journal_used_bytes")


def fill(hydrant, port):
    """Several senders, so that every shard gets some; each waits when it is held back, but not for ever."""
    block, sent = LINE * 1000, 0
    connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(8)]
    while journal_bytes(hydrant) < JOURNAL_BYTES:
        for connection in connections:
            for _ in range(10):
                connection.sendall(block)
            sent += 10_000
    for connection in connections:
        connection.close()
    eventually("all to be received", lambda: hydrant.received() == sent)
    return sent


def is_still(hydrant):
    before = hydrant.total("hydrant_journal_commits_total")
    time.sleep(1)
    return hydrant.total("hydrant_journal_commits_total") == before


def start(stage):
    port, nobody = harness.free_port(), harness.free_port()
    # The default memory: what a log may have open is a part of it, and this is some 40,000 chunks.
    hydrant = stage.hydrant(f"""
journal: {{ type: disk, max_size: {JOURNAL_BYTES + 2_000_000_000}B }}
sources:
  in: {{ type: syslog, listen: "tcp://127.0.0.1:{port}", decoder: syslog }}
sinks:
  out: {{ type: http, endpoint: "http://127.0.0.1:{nobody}/", format: ndjson, form: raw }}
""", "starts")
    sent, walls, cpus = fill(hydrant, port), [], []
    eventually("a verdict for every chunk", lambda: is_still(hydrant), 60)
    waiting = hydrant.total("hydrant_journal_open_chunks")
    for _ in range(STARTS):
        hydrant.kill()
        begun = time.monotonic()
        hydrant.launch()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.005)
        walls.append(time.monotonic() - begun)
        cpus.append(hydrant.cpu_s())
        eventually("it to be ready", hydrant.is_ready, 60)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(LINE)
    # The gauge is set by a commit.
    eventually("all chunks of before to wait", lambda: hydrant.total("hydrant_journal_open_chunks") >= waiting, 60)
    kept, rss = journal_bytes(hydrant), hydrant.peak_rss_mib()
    hydrant.kill()
    return (f"start with {kept / 1e9:.1f} GB of {sent} events: {', '.join(f'{wall:.2f}' for wall in walls)} s "
            f"({', '.join(f'{cpu:.2f}' for cpu in cpus)} s of CPU), {waiting} chunks wait, peak {rss:.0f} MiB")


def main(stage):
    return f"{acknowledgement(stage)}. {start(stage)}"


harness.play(main)
