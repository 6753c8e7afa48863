#!/usr/bin/env python3
"""Destinations that are down, senders that are too fast, a stop in the middle: nothing acknowledged is lost.

1 to 3 have the journal in memory, where the budget is all there is.

1. One of two destinations is down for a while under a load that fits the budget meanwhile: memory stays in the budget,
   the other destination is not slowed, afterwards both have every event once.
2. Both are down and the load is above the budget: TCP senders are held back, HTTP senders get 503 with Retry-After,
   nothing is dropped without a word; when the destinations are back, both have all that was acknowledged.
3. SIGTERM under load by HTTP and TCP: what was answered with 200 is delivered, the exit code is 0, the ledger balances.
4. With the journal on disk and a load far above the budget one destination is down, Hydrant is killed meanwhile: nobody is
   refused, memory stays in the budget, the other destination is not slowed, afterwards both have all that was acknowledged.
   `outage_load` does that for ten minutes at the highest load that the disk carries.
"""
import http.client
import random
import re
import socket
import threading
import time

import harness
from harness import check, each_once, eventually, in_thread, same
from hec_receiver import TOKEN, HecReceiver

OUTAGE_S = 60 if harness.FULL else 8
RATE = 20_000 if harness.FULL else 1_500
BUDGET_MIB = 512 if harness.FULL else 128


# Hex digits at random compress to little over a half, so that a budget fills as it would with real logs.
TAILS = [random.Random(number).randbytes(500).hex() for number in range(1021)]


def line(number, size=200):
    return f"<134>1 2026-11-21T08:00:00Z fw app - - - event {number:08} {TAILS[number % len(TAILS)][:size]}\n"


NUMBER = re.compile(r"event (\d{8}) ")


def number_of(text):
    return int(NUMBER.search(text)[1])


def numbers_of(hec):
    with hec.lock:
        return [number_of(event["event"]) for event in hec.events]


class Arrived:
    """How often each number came, a byte each: millions of events are too many to keep."""

    def __init__(self):
        self.times, self.distinct = bytearray(), 0

    def __len__(self):
        return sum(self.times)

    def extend(self, numbers):
        for number in numbers:
            if number >= len(self.times):
                self.times.extend(bytes(number + 1 - len(self.times)))
            self.distinct += not self.times[number]
            self.times[number] = min(self.times[number] + 1, 255)

    def check_all(self, what, count):
        """Each of the first `count` numbers is here, and no other; gives how many came again."""
        lost = [number for number, times in enumerate(self.times[:count]) if not times] + list(range(len(self.times), count))
        check(not lost, f"{what} lacks {len(lost)} of {count} acknowledged events: {lost[:5]}")
        check(not any(self.times[count:]), f"{what} has what nobody sent")
        return len(self) - self.distinct


def config(hec, other, ports, budget_mib, more="", journal="type: memory"):
    """Two HEC receivers, or one and a file."""
    second = f'type: splunk_hec, endpoint: "{other.url}", token: {TOKEN}, ack: true' if other else "type: file, path: out.ndjson"
    return f"""
memory: {budget_mib}MiB
journal: {{ {journal} }}
# All lines have one time, so that after a while the sender's clock would be an alert among the events that are counted.
source_health: {{ enabled: false }}
{more}
sources:
  tcp: {{ type: syslog, listen: "tcp://127.0.0.1:{ports[0]}", decoder: syslog }}
  http: {{ type: http, listen: "127.0.0.1:{ports[1]}", decoder: syslog }}
sinks:
  hec: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, ack: true, buffer: {{ interval: 100ms }} }}
  other: {{ {second}, buffer: {{ interval: 100ms }} }}
"""


class Watch(threading.Thread):
    """Memory, and what the other destination has, ten times a second."""

    def __init__(self, hydrant):
        super().__init__(daemon=True)
        self.hydrant, self.points, self.ended = hydrant, [], threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            metrics = self.hydrant.metrics()
            count = lambda family, **labels: harness.total(metrics, family, **labels)
            received = count("hydrant_component_received_events_total")
            self.points.append((time.monotonic(), self.hydrant.rss_mib(), count("hydrant_memory_budget_used_bytes") / 2**20,
                                received - count("hydrant_component_sent_events_total", component_id="other")))

    def end(self):
        self.ended.set()
        self.join()

    def between(self, start, end, column):
        return [point[column] for point in self.points if start <= point[0] <= end]


def send_steadily(port, stop, rate):
    """Lines at a steady rate; gives how many."""
    number, start = 0, time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while not stop.is_set():
            due = int((time.monotonic() - start) * rate)
            if due > number:
                connection.sendall("".join(map(line, range(number, due))).encode())
                number = due
            time.sleep(0.02)
    return number


def lag_s(events):
    return max(events) / RATE


def one_is_down(stage):
    hec, ports = HecReceiver(ack=True), (harness.free_port(), harness.free_port())
    hydrant = stage.hydrant(config(hec, None, ports, BUDGET_MIB), "one-down")
    stop, watch = threading.Event(), Watch(hydrant)
    sender = in_thread(send_steadily, ports[0], stop, RATE)
    calm = max(4, OUTAGE_S / 4)
    marks = [time.monotonic()]
    time.sleep(calm)
    marks.append(time.monotonic())
    hec.stop()
    time.sleep(OUTAGE_S)
    marks.append(time.monotonic())
    hec.start()
    time.sleep(calm)
    stop.set()
    sent = sender.result()
    eventually("the backlog to be delivered", lambda: hydrant.sent("hec") == sent and hydrant.sent("other") == sent)
    watch.end()
    peak = hydrant.peak_rss_mib()
    hydrant.stop()
    each_once("the destination that was down", numbers_of(hec), range(sent))
    rows = harness.rows(hydrant.folder / "out.ndjson")
    each_once("the other destination", [number_of(row["message"]) for row in rows], range(sent))
    # The first second of either is warming up.
    before, during = (lag_s(watch.between(marks[0] + 1, marks[1], 3)), lag_s(watch.between(marks[1], marks[2], 3)))
    used = max(watch.between(marks[1], marks[2], 2))
    check(during < before + 1, f"the other destination lagged {during:.2f} s during the outage, {before:.2f} s before")
    check(used > 1, "the outage left nothing in the budget: it was none")
    check(peak < BUDGET_MIB + harness.BASE_MIB, f"{peak:.0f} MiB resident of a budget of {BUDGET_MIB} MiB and a base of {harness.BASE_MIB} MiB")
    return (f"down {OUTAGE_S} s at {RATE}/s: {sent} events each once in both, peak {peak:.0f} MiB resident (budget {BUDGET_MIB}, used {used:.0f}), "
            f"the other's lag {before:.2f} s before, {during:.2f} s during")


def send_all_tcp(port, count, progress):
    """As fast as it is let; `progress` has how many were sent."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, count, 500):
            connection.sendall("".join(line(number, 1000) for number in range(first, min(first + 500, count))).encode())
            progress[0] = first + 500


def send_all_http(port, first, count, seen, stop=None):
    """Requests of 200 events until all are taken; gives the numbers that were acknowledged. What is refused is sent
    again when Retry-After says so."""
    acknowledged, number = [], first
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while number < first + count and not (stop and stop.is_set()):
        numbers = range(number, min(number + 200, first + count))
        try:
            connection.request("POST", "/", "".join(line(number, 1000) for number in numbers).encode(), {"Content-Type": "text/plain"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            # Hydrant has gone, or goes: there was no answer, so nothing was promised.
            connection.close()
            if stop is None:
                raise
            return acknowledged
        seen[answer.status] = seen.get(answer.status, 0) + 1
        if answer.status == 200:
            acknowledged.extend(numbers)
            number = numbers.stop
        else:
            check(answer.status in (429, 503), f"HTTP answer {answer.status}")
            wait = answer.headers["Retry-After"]
            check(wait is not None and wait.isdigit(), f"{answer.status} without Retry-After")
            time.sleep(min(int(wait), 1))
    connection.close()
    return acknowledged


def above_the_budget(stage):
    """TCP and HTTP together bring several times the budget while nobody takes anything."""
    budget_mib = 16
    count = 400_000 if harness.FULL else 40_000
    hec, other = HecReceiver(ack=True), HecReceiver(ack=True)
    ports = (harness.free_port(), harness.free_port())
    hydrant = stage.hydrant(config(hec, other, ports, budget_mib, "drain_timeout: 60s"), "above")
    hec.stop()
    other.stop()
    progress, seen = [0], {}
    tcp = in_thread(send_all_tcp, ports[0], count, progress)
    web = in_thread(send_all_http, ports[1], 50_000_000, count, seen)

    def is_refused():
        # A sender that has failed will never be refused: say why it failed.
        if web.error:
            raise web.error
        return seen.get(503, 0) + seen.get(429, 0) >= 3

    eventually("HTTP senders to be refused", is_refused)

    def is_held_back():
        before = progress[0]
        time.sleep(1)
        return progress[0] == before

    eventually("the TCP sender to be held back", is_held_back)
    check(tcp.is_alive() and progress[0] < count, "the TCP sender could send everything")
    held_at, refused = progress[0], seen.get(503, 0) + seen.get(429, 0)
    same("refusals counted", hydrant.total("hydrant_component_refused_total", component_id="http") >= refused, True)
    hec.start()
    other.start()
    tcp.result(900)
    acknowledged = web.result(900)
    eventually("everything to be delivered", lambda: min(hydrant.sent("hec"), hydrant.sent("other")) == 2 * count, 900)
    peak = hydrant.peak_rss_mib()
    metrics = hydrant.stop()
    expected = [*range(count), *acknowledged]
    each_once("the first destination", numbers_of(hec), expected)
    each_once("the second destination", numbers_of(other), expected)
    same("dropped", harness.total(metrics, "hydrant_component_discarded_events_total"), 0)
    check(peak < budget_mib + harness.BASE_MIB, f"{peak:.0f} MiB resident of a budget of {budget_mib} MiB")
    return (f"above the budget of {budget_mib} MiB: TCP held back at {held_at} of {count}, {refused} HTTP requests refused, then {2 * count} events "
            f"each once in both, peak {peak:.0f} MiB")


def send_requests(port, stop, rate, seen, tries):
    """Requests of 200 events at a steady rate; one that is not answered is sent again with the same numbers. Gives how many
    events were acknowledged, all from 0 on."""
    number, start = 0, time.monotonic()
    while not stop.is_set():
        if number > (time.monotonic() - start) * rate:
            time.sleep(0.01)
            continue
        body = "".join(map(line, range(number, number + 200))).encode()
        try:
            status, _, _ = harness.post(f"http://127.0.0.1:{port}/", body, {"Content-Type": "text/plain"})
        except OSError:
            tries[0] += 1
            time.sleep(0.05)
            continue
        seen[status] = seen.get(status, 0) + 1
        if status == 200:
            number += 200
        else:
            time.sleep(0.05)
    return number


def kept_by_the_journal(stage):
    budget_mib, rate, outage_s = (32, 10_000, 60) if harness.FULL else (8, 6_000, 14)
    ports = harness.free_port(), harness.free_port()
    hec = HecReceiver(ack=True, keep=lambda event: number_of(event["event"]))
    hec.events = Arrived()
    # A start reads the last segment of a log whole.
    journal = f"type: disk, max_size: 40GB, segment_size: {budget_mib // 4}MiB"
    hydrant = stage.hydrant(config(hec, None, ports, budget_mib, "shards: 2", journal), "journaled")
    hec.stop()
    stop, watch, seen, tries = threading.Event(), Watch(hydrant), {}, [0]
    sender = in_thread(send_requests, ports[1], stop, rate, seen, tries)
    begin = time.monotonic()
    time.sleep(outage_s / 2)
    deferred = [hydrant.total("hydrant_deferred_events_total", component_id="hec")]
    watch.end()
    peaks = [hydrant.peak_rss_mib()]
    lag = max(watch.between(begin + 2, time.monotonic(), 3)) / rate
    hydrant.kill()
    hydrant.start()
    time.sleep(outage_s / 2)
    deferred.append(hydrant.total("hydrant_deferred_events_total", component_id="hec"))
    hec.start()
    back = time.monotonic()
    # Old events must not stand in the way of those that arrive now.
    time.sleep(1)
    stop.set()
    count = sender.result(900)
    eventually("the backlog to be delivered", lambda: hec.events.distinct >= count, 1_200)
    caught_up_s = time.monotonic() - back
    peaks.append(hydrant.peak_rss_mib())
    hydrant.stop()
    other = Arrived()
    other.extend(number_of(row["message"]) for row in harness.each_row(hydrant.folder / "out.ndjson"))
    repeated = [hec.events.check_all("the destination that was down", count), other.check_all("the other destination", count)]
    # A request that was journaled and not answered is sent again; the file may have had what nobody knew of at the kill.
    check(repeated[0] <= 200 * tries[0], f"{repeated[0]} events came to HEC twice, {tries[0]} requests were sent again")
    check(set(seen) == {200}, f"senders were refused: {seen}")
    check(min(deferred) > 0, f"nothing was left to the journal: {deferred}")
    check(max(peaks) < budget_mib + harness.BASE_MIB, f"{max(peaks):.0f} MiB resident of a budget of {budget_mib} MiB")
    check(lag < 1.5, f"the other destination lagged {lag:.2f} s")
    return (f"journal on disk: down {outage_s} s at {rate}/s with a kill -9 in the middle: {count} acknowledged events in both ({repeated[0]} and "
            f"{repeated[1]} twice), {sum(deferred)} deferred, caught up {caught_up_s:.1f} s later, peak {max(peaks):.0f} MiB (budget {budget_mib}), "
            f"the other's lag {lag:.2f} s")


def send_until(port, stop):
    """TCP lines until the connection breaks; nothing promises that they arrive."""
    number = 90_000_000
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while not stop.is_set():
                connection.sendall("".join(line(number + offset, 300) for offset in range(100)).encode())
                number += 100
    except OSError:
        pass


def stopped_under_load(stage):
    hec, ports = HecReceiver(ack=True), (harness.free_port(), harness.free_port())
    hydrant = stage.hydrant(config(hec, None, ports, 64, "drain_timeout: 60s"), "stopped")
    stop, seen = threading.Event(), {}
    senders = [in_thread(send_all_http, ports[1], 10_000_000 * (1 + index), 10_000_000, seen, stop) for index in range(3)]
    tcp = in_thread(send_until, ports[0], stop)
    time.sleep(10 if harness.FULL else 4)
    start = time.monotonic()
    metrics = hydrant.stop()
    seconds = time.monotonic() - start
    stop.set()
    acknowledged = {number for sender in senders for number in sender.result()}
    tcp.result()
    rows = [number_of(row["message"]) for row in harness.rows(hydrant.folder / "out.ndjson")]
    for what, got in (("HEC", numbers_of(hec)), ("file", rows)):
        lost = acknowledged - set(got)
        check(not lost, f"{what}: {len(lost)} of {len(acknowledged)} acknowledged events are lost: {sorted(lost)[:5]}")
        same(f"{what}: events more than once", len(got) - len(set(got)), 0)
        same(f"{what}: all that was received", len(got), harness.total(metrics, "hydrant_component_received_events_total"))
    check(len(acknowledged) > 1000, "there was no load")
    return f"SIGTERM under load: {len(acknowledged)} acknowledged events of {len(rows)} delivered, exit 0 after {seconds:.1f} s"


def main(stage):
    return "; ".join(part(stage) for part in (one_is_down, above_the_budget, stopped_under_load, kept_by_the_journal))


harness.play(main)
