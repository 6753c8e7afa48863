#!/usr/bin/env python3
"""Names of addresses from dnsmasq.

1. The first event of an address has no name, those after its answer have it; NXDOMAIN is no name; what is not the name of a
   host is none; an address with 40 names, whose answer does not fit a datagram, has the first of them; IPv6 is asked for too.
2. With `verify` a name that does not have the address counts as none.
3. An address is asked for once, however many events have it, on all shards.
4. dnsmasq is stopped (it answers nothing), and killed: events flow as before, are all delivered, and known names stay.
   It is back: new addresses get their names.
"""
import collections
import getpass
import json
import signal
import time

import harness
from harness import check, eventually, post, same

EVENTS = 100_000 if harness.FULL else 5_000
NAMES = {
    "10.0.0.1": "web01.corp.example",
    "fd00::1": "web02.corp.example",
    "10.0.0.3": None,
    "10.0.0.4": None,
    "10.0.0.5": "host00.a-long-name-of-a-network.example",
}
LIAR = "10.0.0.6"
OPTIONS = [
    "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1",
    "--pid-file", f"--user={getpass.getuser()}", "--log-queries", "--log-facility=-", "--cache-size=0", "--local-ttl=30",
    "--local=/10.in-addr.arpa/", "--local=/example/", "--local=/ip6.arpa/",
    "--host-record=web01.corp.example,10.0.0.1", "--host-record=web02.corp.example,fd00::1",
    "--ptr-record=4.0.0.10.in-addr.arpa,not_a-.host-.example",
    "--ptr-record=6.0.0.10.in-addr.arpa,www.bank.example", "--host-record=www.bank.example,10.9.9.9",
    *(f"--ptr-record=5.0.0.10.in-addr.arpa,host{number:02}.a-long-name-of-a-network.example" for number in range(40)),
    *(f"--host-record=late{number}.corp.example,10.1.0.{number}" for number in range(1, 9)),
]


def dnsmasq(stage, port, name):
    process = stage.start(name, [harness.DEBIAN / "usr/sbin/dnsmasq", f"--port={port}", *OPTIONS], env=harness.DEBIAN_ENVIRONMENT)
    eventually(f"{name} to listen", lambda: "started" in stage.log_of(name) or process.poll() is not None)
    check(process.poll() is None, f"{name} ended: {stage.log_of(name)}")
    return process


class Instance:
    """Hydrant with an address of each event looked up, and the names that events got."""

    def __init__(self, stage, server, name, more):
        self.port, self.sent = harness.free_port(), 0
        self.hydrant = stage.hydrant(f"""
shards: 2
sources: {{ in: {{ type: http, listen: "127.0.0.1:{self.port}", decoder: json }} }}
enrichments:
  names: {{ type: reverse_dns, field: source.ip, into: source.domain, servers: ["127.0.0.1:{server}"], timeout: 2s, ttl_min: 10m, private: true{more} }}
sinks: {{ out: {{ type: file, path: out.ndjson, form: json, buffer: {{ interval: 50ms }} }} }}
""", name=name)

    def send(self, addresses):
        """Sends one event for each of the addresses; gives when all are delivered, with how long that took."""
        lines = "".join(json.dumps({"source": {"ip": address}, "number": self.sent + number}) + "\n" for number, address in enumerate(addresses))
        self.sent += len(addresses)
        began = time.monotonic()
        same("the answer", post(f"http://127.0.0.1:{self.port}/", lines.encode(), {"Content-Type": "application/x-ndjson"})[0], 200)
        eventually("the events to be delivered", lambda: self.hydrant.sent() == self.sent)
        return time.monotonic() - began

    def names(self):
        """The names of each address, in the order of its events."""
        found = collections.defaultdict(list)
        for row in harness.each_row(self.hydrant.folder / "out.ndjson"):
            row = harness.flat(row)
            found[row["source.ip"]].append(row.get("source.domain"))
        return found

    def last(self, addresses):
        """Sends one more event for each; the names that those have."""
        self.send(addresses)
        found = self.names()
        return {address: found[address][-1] for address in addresses}

    def questions(self, **labels):
        return self.hydrant.total("hydrant_reverse_dns_questions_total", **labels)


def main(stage):
    port = harness.free_port()
    server = dnsmasq(stage, port, "dnsmasq")
    plain = Instance(stage, port, "plain", "")
    addresses = [*NAMES, LIAR]
    plain.send(addresses)
    same("the first events' names", {name for names in plain.names().values() for name in names}, {None})
    expected = {**NAMES, LIAR: "www.bank.example"}
    eventually("the names", lambda: plain.last(addresses) == expected, 30)
    same("addresses with a name, without one, with what is none",
         [plain.questions(outcome=outcome) for outcome in ("name", "no_name", "not_a_host")], [4, 1, 1])

    # Events of six addresses on both shards, and of new ones among them.
    crowd = [f"10.2.{number // 200}.{number % 200}" for number in range(400)]
    took = plain.send([(addresses + crowd)[number % (len(addresses) + len(crowd))] for number in range(EVENTS)])
    eventually("the questions", lambda: plain.questions() - plain.questions(outcome="dropped") == len(addresses) + len(crowd), 60)
    asked = collections.Counter(line.split(" ")[-3] for line in stage.log_of("dnsmasq").splitlines() if "query[PTR]" in line)
    same("questions about the address whose answer does not fit a datagram", asked.pop("5.0.0.10.in-addr.arpa"), 2)
    check(set(asked.values()) == {1}, f"asked more than once: {asked.most_common(3)}")

    careful = Instance(stage, port, "careful", ", verify: true")
    careful.send(addresses)
    # What has 40 names has no address, so none of the four that are tried is confirmed.
    confirmed = {**NAMES, LIAR: None, "10.0.0.5": None}
    eventually("the confirmed names", lambda: careful.last(addresses) == confirmed and careful.questions(outcome="not_confirmed") == 2, 30)

    server.send_signal(signal.SIGSTOP)
    late = [f"10.1.0.{number}" for number in range(1, 9)]
    silent = plain.send([(addresses + late)[number % (len(addresses) + len(late))] for number in range(EVENTS)])
    check(silent < took * 4 + 5, f"{EVENTS} events took {silent:.1f} s with a silent server, {took:.1f} s with one that answers")
    same("names while the server is silent", plain.last(addresses), expected)
    eventually("time-outs", lambda: plain.questions(outcome="timeout") >= 8, 30)
    server.kill()
    server.wait()
    same("names without a server", plain.last(addresses), expected)
    server = dnsmasq(stage, port, "dnsmasq again")
    names = {address: f"late{number}.corp.example" for number, address in enumerate(late, 1)}
    # A failure is forgotten after half a minute.
    eventually("the late names", lambda: plain.last(late) == names, 60)
    for instance in (plain, careful):
        metrics = instance.hydrant.stop()
        same("events delivered", harness.total(metrics, "hydrant_component_sent_events_total"), instance.sent)
        check(harness.total(metrics, "hydrant_reverse_dns_cached_addresses") >= len(addresses), "nothing is remembered")
    return (f"{plain.sent + careful.sent} events, each delivered; {len(asked)} addresses asked for once each; {EVENTS} events took "
            f"{took:.2f} s, {silent:.2f} s with a silent server")


harness.play(main)
