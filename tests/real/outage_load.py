#!/usr/bin/env python3
"""A destination is down for ten minutes at the highest load that this disk carries, with a budget of 512 MiB.

First the load is raised by a quarter at a time, both destinations up, until acknowledgements fall behind it or the file does;
the last rate that was kept up with is the highest load. At that rate `web` goes down, Hydrant is killed in the middle, `web`
comes back. Nobody is refused, memory stays in the budget, the file is not slowed, afterwards both have every acknowledged
event, and the ledger balances.

$HYDRANT_OUTAGE_S is how long it is down; the disk must have room for the journal of that time, else the rate is lowered
to what fits, and the figures say so.
"""
import os
import shutil
import sys
import threading
import time

import flood
import harness
from flood import EVENTS_A_REQUEST, SENDERS
from harness import check, eventually, in_thread

BUDGET_MIB = 512
OUTAGE_S = int(os.environ.get("HYDRANT_OUTAGE_S", 600 if harness.FULL else 15))
STEP_S = 10 if harness.FULL else 4
FIRST_RATE = 8_000
# What an event takes in the journal, with its frame, and a tenth more.
KEPT_BYTES = flood.EVENT_BYTES * 1.25
# The file may be this much behind: a batch is gathered, written and synced.
LAG_S = 1.5


def config(web_port, port):
    buffer = "buffer: { size: 1MB, interval: 200ms }"
    return f"""
memory: {BUDGET_MIB}MiB
shards: 2
journal: {{ type: disk, max_size: 200GB, segment_size: {BUDGET_MIB // 4}MiB }}
source_health: {{ enabled: false }}
sources: {{ in: {{ type: http, listen: "127.0.0.1:{port}", decoder: json }} }}
sinks:
  web: {{ type: http, endpoint: "http://127.0.0.1:{web_port}/", format: text, form: raw, compression: none, {buffer} }}
  file: {{ type: file, path: out.txt, format: text, form: raw, {buffer} }}
"""


class Load:
    """The senders."""

    def __init__(self, stage, port):
        path = stage.folder / "board"
        self.board = flood.Board(path, is_new=True)
        self.processes = [stage.start(f"sender-{index}", [sys.executable, flood.__file__, "send", path, port, index]) for index in range(SENDERS)]

    def acknowledged(self):
        return sum(self.board.all("acknowledged")) * EVENTS_A_REQUEST

    def end(self):
        """Every request that was begun is ended; gives how many each sender has acknowledged."""
        self.board.is_over = 1
        eventually("the senders to end", lambda: all(self.board.all("ended")), 300)
        return self.board.all("acknowledged")


def lag(hydrant):
    """How many events the file is behind."""
    metrics = hydrant.metrics()
    count = lambda family, name: harness.total(metrics, family, component_id=name)
    return count("hydrant_component_received_events_total", "in") - count("hydrant_component_sent_events_total", "file")


def highest(load, hydrant):
    """The highest rate that acknowledgements and the file keep up with, and what stopped the next one."""
    kept, rate = 0, FIRST_RATE
    while True:
        load.board.rate = rate
        # The first second of a rate is warming up.
        time.sleep(1)
        begin, before = time.monotonic(), load.acknowledged()
        behind_s = most_behind(hydrant, STEP_S) / rate
        seconds = time.monotonic() - begin
        got = (load.acknowledged() - before) / seconds
        # A request of each sender may be on its way.
        if got + SENDERS * EVENTS_A_REQUEST / seconds < 0.97 * rate:
            return kept, f"of {rate}/s {got:.0f}/s were acknowledged"
        if behind_s > LAG_S:
            return kept, f"at {rate}/s the file was {behind_s:.1f} s behind"
        kept, rate = rate, rate * 5 // 4


def follow(book, stop):
    while not stop.is_set():
        book.read_on()
        stop.wait(0.5)


def most_behind(hydrant, seconds):
    """How many events the file was behind at most in this time."""
    end, worst = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        worst = max(worst, lag(hydrant))
        time.sleep(0.25)
    return worst


def books_close(book, name, acknowledged, torn_max):
    count = sum(acknowledged) * EVENTS_A_REQUEST
    lost = book.lost(acknowledged)
    check(not lost, f"{name} lacks events of {len(lost)} of {sum(acknowledged)} acknowledged requests, the first at {lost[:3]}")
    check(book.distinct == count, f"{name} has {book.distinct} events, {count} were sent")
    check(book.torn <= torn_max, f"{name} has {book.torn} lines that nobody sent")
    return book.lines - book.distinct


def main(stage):
    web_port, port = harness.free_port(), harness.free_port()
    receiver = lambda: stage.start("receiver", [sys.executable, flood.__file__, "receive", web_port, stage.folder / "web.txt"])
    web = receiver()
    hydrant = stage.hydrant(config(web_port, port))
    books = {"web": flood.Book(stage.folder / "web.txt"), "file": flood.Book(hydrant.folder / "out.txt")}
    stop = threading.Event()
    followers = [in_thread(follow, book, stop) for book in books.values()]
    load = Load(stage, port)
    rate, limit = highest(load, hydrant)
    check(rate, f"not even the first rate was kept up with: {limit}")
    fits = int(shutil.disk_usage(stage.folder).free * 0.8 / KEPT_BYTES / (OUTAGE_S * 1.1))
    if fits < rate:
        rate, limit = fits, f"the disk has room for {fits}/s only; {limit}"
    load.board.rate = 0
    # A request that is on its way when the senders pause is still to come: both are even when nothing changes any more.
    eventually("both to have what came", lambda: hydrant.received() == hydrant.sent("web") == hydrant.sent("file"))
    load.board.rate = rate
    time.sleep(1)
    calm_s = most_behind(hydrant, STEP_S) / rate
    web.terminate()
    web.wait(60)
    down, at_first = time.monotonic(), load.acknowledged()
    behind_s = most_behind(hydrant, OUTAGE_S / 2) / rate
    deferred, peaks, before = hydrant.total("hydrant_deferred_events_total", component_id="web"), [hydrant.peak_rss_mib()], load.acknowledged()
    # A few seconds may promise more than ten minutes keep: what is acknowledged is told beside what is offered.
    carried = (before - at_first) / (time.monotonic() - down)
    hydrant.kill()
    hydrant.start()
    time.sleep(max(0, down + OUTAGE_S - time.monotonic()))
    receiver()
    back = time.monotonic()
    got = (load.acknowledged() - before) / (back - down - OUTAGE_S / 2)
    acknowledged = load.end()
    count = sum(acknowledged) * EVENTS_A_REQUEST
    eventually("the backlog to be delivered", lambda: all(book.distinct >= count for book in books.values()), 1_800)
    caught_up_s = time.monotonic() - back
    peaks.append(hydrant.peak_rss_mib())
    hydrant.stop()
    stop.set()
    for book, follower in zip(books.values(), followers):
        follower.result()
        book.read_on()
    refused, again = sum(load.board.all("refused")), sum(load.board.all("again"))
    # The kill may have cut off a line of the file; it is written again.
    twice = {name: books_close(book, name, acknowledged, int(name == "file")) for name, book in books.items()}
    # A short one fits the memory.
    check(deferred or not harness.FULL, "nothing was left to the journal")
    check(not refused, f"senders were refused {refused} times")
    check(twice["web"] <= again * EVENTS_A_REQUEST, f"{twice['web']} events came to `web` twice, {again} requests were sent again")
    check(max(peaks) < BUDGET_MIB + harness.BASE_MIB, f"{max(peaks):.0f} MiB resident of a budget of {BUDGET_MIB} MiB")
    check(behind_s < calm_s + 1, f"the file was {behind_s:.2f} s behind during the outage, {calm_s:.2f} s before")
    return (f"highest load {rate}/s ({rate * flood.EVENT_BYTES / 2**20:.1f} MiB/s; {limit}); down {OUTAGE_S} s with a kill -9 in the middle: "
            f"{count} acknowledged events in both ({twice['web']} and {twice['file']} twice), {deferred} deferred before the kill, {carried:.0f}/s "
            f"acknowledged before it and {got:.0f}/s behind it, slowest answer {max(load.board.all('worst_us')) / 1e6:.1f} s, caught up {caught_up_s:.1f} s later, "
            f"peak {max(peaks):.0f} MiB (budget {BUDGET_MIB}), the file {calm_s:.2f} s behind before, {behind_s:.2f} s during")


harness.play(main)
