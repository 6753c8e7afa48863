#!/usr/bin/env python3
"""Alerts to people: Slack, PagerDuty, a signed webhook, and syslog to rsyslog.

No Slack and no PagerDuty was used. The receivers of this file are written from the vendors' documents, independently of
Hydrant, and are stricter than the services: they check types, required keys, unknown keys, every limit and the rate, and
refuse with the documented answers. What the services do beyond their documents is not known here.

* Slack: "Sending messages using incoming webhooks", "Improving error conditions for Incoming Webhooks", "Block Kit" (section,
  context, text object), "Rate limits".
* PagerDuty: "Events API v2 Overview", "Send an Alert Event", "Events API Rate Limits".
* The webhook's signature is verified with Python's `hmac` by what docs/how-to/send-alerts-to-people.md says.

1. The receivers refuse what the documents say is refused.
2. A storm of 10,000 alerts is few notifications that count all of them, of 1,000 addresses at most 51 incidents; no event but an
   alert is sent; nothing in a log line pings anybody.
3. A 429 with Retry-After is obeyed by all groups.
4. All three are down, or take requests and do not answer: a file beside them has everything at once, and afterwards everything
   is told; what was sent again has the same key and the same alerts.
5. What waits for its group at a stop is told before the end, and the ledger balances.
6. rsyslog gets each event and alert by TCP (octet counts, lines), TLS with a client certificate and UDP, as RFC 5424 and CEF,
   also after it was restarted.
"""
import collections
import hashlib
import hmac
import http.server
import json
import pathlib
import re
import socket
import threading
import time

import harness
from harness import check, each_once, eventually, post, same

STORM = 100_000 if harness.FULL else 10_000
ADDRESSES = 1_000
LINES = 20_000 if harness.FULL else 1_000

KEY = "R0123456789ABCDEF0123456789ABCDE"
SECRETS = ["new-secret-0123456789abcdef", "old-secret-0123456789abcdef"]


class Receiver:
    """An HTTP server that can go away and come back at the same port."""

    def __init__(self):
        self.port, self.server, self.lock = harness.free_port(), None, threading.Lock()
        self.requests, self.answers, self.unanswered = 0, collections.Counter(), 0
        self.forced, self.too_early, self.not_before = [], 0, 0.0
        self.open()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def open(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    receiver.requests += 1
                    answer = receiver.answer(self.path, self.headers, body)
                    if receiver.unanswered:
                        receiver.unanswered -= 1
                        self.close_connection = True
                        return
                    receiver.answers[answer[0]] += 1
                status, headers, text = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(text)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self):
                self.send_error(405)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        """New connections are refused; those that are open get no more answers than the one under way."""
        self.server.shutdown()
        self.server.server_close()

    def limit(self, seconds):
        """The next request gets a 429; none may come before the time is over."""
        with self.lock:
            self.forced.append(seconds)

    def answer(self, path, headers, body):
        now = time.monotonic()
        if now < self.not_before:
            self.too_early += 1
        if self.forced:
            seconds = self.forced.pop()
            self.not_before = now + seconds
            return 429, {"Retry-After": seconds}, b"rate_limited"
        return self.judge(path, headers, body, now)


class Refused(Exception):
    """What is wrong, in the service's words."""


def need(is_so, why):
    if not is_so:
        raise Refused(why)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


class Slack(Receiver):
    PATH = "/services/T0/B0/X"

    def __init__(self):
        self.messages, self.last = [], 0.0
        super().__init__()

    def judge(self, path, headers, body, now):
        if path != self.PATH:
            return 404, {}, b"no_service"
        # One message a second; a network may bring two a little closer together.
        if now - self.last < 0.9:
            return 429, {"Retry-After": 1}, b"rate_limited"
        try:
            need(headers["Content-Type"].startswith("application/json"), "invalid_payload")
            try:
                message = json.loads(body.decode())
            except ValueError:
                raise Refused("invalid_payload") from None
            self.check(message)
        except Refused as refused:
            return 400, {}, str(refused).encode()
        self.last = now
        self.messages.append(message)
        return 200, {}, b"ok"

    def check(self, message):
        need(isinstance(message, dict), "invalid_payload")
        need(message.keys() <= {"text", "blocks", "attachments", "unfurl_links", "unfurl_media", "mrkdwn", "thread_ts"}, "invalid_payload")
        need(all(isinstance(message.get(key, False), bool) for key in ("unfurl_links", "unfurl_media", "mrkdwn")), "invalid_payload")
        text = message.get("text", "")
        need(isinstance(text, str) and len(text) <= 4000, "invalid_payload")
        attachments = message.get("attachments", [])
        need(text or attachments or message.get("blocks"), "no_text")
        need(isinstance(attachments, list) and len(attachments) <= 100, "too_many_attachments")
        self.check_blocks(message.get("blocks", []))
        for attachment in attachments:
            need(isinstance(attachment, dict) and attachment.keys() <= {"color", "fallback", "blocks"}, "invalid_attachments")
            need(re.fullmatch(r"#[0-9a-fA-F]{6}|good|warning|danger", attachment.get("color", "good")), "invalid_attachments")
            need(isinstance(attachment.get("fallback", ""), str), "invalid_attachments")
            self.check_blocks(attachment.get("blocks", []))

    def check_blocks(self, blocks):
        need(isinstance(blocks, list) and len(blocks) <= 50, "invalid_blocks")
        for block in blocks:
            need(isinstance(block, dict), "invalid_blocks")
            kind = block.get("type")
            if kind == "section":
                need(block.keys() <= {"type", "text", "fields", "block_id", "accessory"} and ("text" in block or "fields" in block), "invalid_blocks")
                if "text" in block:
                    self.check_text(block["text"], 3000)
                if "fields" in block:
                    need(isinstance(block["fields"], list) and 1 <= len(block["fields"]) <= 10, "invalid_blocks")
                    for field in block["fields"]:
                        self.check_text(field, 2000)
            elif kind == "context":
                need(block.keys() <= {"type", "elements", "block_id"}, "invalid_blocks")
                need(isinstance(block.get("elements"), list) and 1 <= len(block["elements"]) <= 10, "invalid_blocks")
                for element in block["elements"]:
                    self.check_text(element, 3000)
            elif kind == "header":
                need(block.keys() <= {"type", "text", "block_id"} and block["text"]["type"] == "plain_text", "invalid_blocks")
                self.check_text(block["text"], 150)
            else:
                need(kind == "divider", "invalid_blocks")

    @staticmethod
    def check_text(text, characters_max):
        need(isinstance(text, dict) and text.get("type") in ("plain_text", "mrkdwn"), "invalid_blocks")
        need(text.keys() <= {"type", "text", "verbatim" if text["type"] == "mrkdwn" else "emoji"}, "invalid_blocks")
        need(isinstance(text.get("verbatim", False), bool), "invalid_blocks")
        need(isinstance(text.get("text"), str) and 1 <= len(text["text"]) <= characters_max, "invalid_blocks")

    def count(self):
        """Alerts that the messages count, by rule as their headline has it."""
        counts = collections.Counter()
        with self.lock:
            for message in self.messages:
                first = message["attachments"][0]["blocks"][0]["text"]["text"]
                counts[re.search(r"Traffic \w+", message["text"])[0]] += int(re.match(r"\*(\d+) alerts?\*", first)[1])
        return counts

    def pings(self):
        """What Slack would make a mention, or a link that is not a rule's reference."""
        with self.lock:
            found = [match for message in self.messages for text in strings(message) for match in re.findall(r"<[^>]*>?", text)]
        return [markup for markup in found if not markup.startswith("<https://docs.example.com/")]


class PagerDuty(Receiver):
    def __init__(self):
        self.events, self.times = [], collections.deque()
        super().__init__()

    def judge(self, path, _headers, body, now):
        if path != "/v2/enqueue":
            return 404, {}, b"not found"
        while self.times and self.times[0] < now - 60:
            self.times.popleft()
        if len(self.times) >= 120:
            return 429, {}, b"Request Limit Exceeded"
        errors = []
        try:
            need(len(body) <= 512 * 1024, "payload too large")
            self.check(json.loads(body.decode()))
        except (Refused, ValueError) as error:
            errors.append(str(error))
        if errors:
            return 400, {}, json.dumps({"status": "invalid event", "message": "Event object is invalid", "errors": errors}).encode()
        event = json.loads(body.decode())
        self.times.append(now)
        self.events.append(event)
        return 202, {}, json.dumps({"status": "success", "message": "Event processed", "dedup_key": event.get("dedup_key")}).encode()

    @staticmethod
    def check(event):
        known = {"routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"}
        need(isinstance(event, dict) and event.keys() <= known, "unknown key")
        need(len(event.get("routing_key", "")) == 32, "Length of 'routing_key' is incorrect (should be 32 characters)")
        need(event["routing_key"] == KEY, "Invalid routing key")
        need(event.get("event_action") in ("trigger", "acknowledge", "resolve"), "'event_action' is invalid")
        need(isinstance(event.get("dedup_key", ""), str) and len(event.get("dedup_key", "")) <= 255, "'dedup_key' is too long")
        need(isinstance(event.get("client", ""), str), "'client' is invalid")
        for link in event.get("links", []):
            need(link.keys() <= {"href", "text"} and re.match("https?://", link["href"]), "'links' is invalid")
        payload = event.get("payload")
        need(isinstance(payload, dict), "'payload' is missing or blank")
        need(payload.keys() <= {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}, "unknown key in 'payload'")
        for key, most in (("summary", 1024), ("source", 10_000), ("severity", 10)):
            need(isinstance(payload.get(key), str) and 1 <= len(payload[key]) <= most, f"'payload.{key}' is missing, blank or too long")
        need(payload["severity"] in ("critical", "error", "warning", "info"), "'payload.severity' is invalid")
        for key in ("component", "group", "class"):
            need(isinstance(payload.get(key, ""), str), f"'payload.{key}' is invalid")
        need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", payload.get("timestamp", "2026-01-01T00:00:00Z")), "'payload.timestamp' is invalid")
        need(isinstance(payload.get("custom_details", {}), dict), "'payload.custom_details' is invalid")

    def count(self):
        counts = collections.Counter()
        with self.lock:
            for event in self.events:
                for rule in event["payload"]["custom_details"]["rules"]:
                    counts[rule["title"]] += rule["alerts"]
        return counts


class Webhook(Receiver):
    """Verifies as a program would that knows only the older secret."""

    def __init__(self):
        self.bodies, self.keys, self.bad = [], {}, []
        super().__init__()

    def judge(self, path, headers, body, _now):
        parts = [part.split("=", 1) for part in headers["X-Hydrant-Signature"].split(",")]
        stamp = next(value for name, value in parts if name == "t")
        expected = hmac.new(SECRETS[1].encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        is_signed = any(hmac.compare_digest(value, expected) for name, value in parts if name == "v1")
        if not is_signed or abs(time.time() - int(stamp)) > 300 or path != "/hook":
            self.bad.append((path, headers["X-Hydrant-Signature"]))
            return 401, {}, b"bad signature"
        # A receiver that was asked before under this key has nothing to do; the alerts must be the same.
        key = headers["X-Hydrant-Idempotency-Key"]
        if self.keys.setdefault(key, body) != body:
            self.bad.append((key, "another body under the same key"))
        self.bodies.append((key, body))
        return 200, {}, b""

    def numbers(self):
        """Of each alert, requests under a known key left out."""
        with self.lock:
            bodies = list(self.keys.values())
        return [number for body in bodies for number in numbers_of(json.loads(body))]


NUMBER = re.compile(r",(\d{12}),TRAFFIC")


def numbers_of(notification):
    same("version and keys of a notification", (notification["version"], set(notification)), (1, {"version", "group", "alerts"}))
    return [int(NUMBER.search(json.dumps(alert))[1]) for alert in notification["alerts"]]


def refusals(slack, pager):
    """What is wrong, and the answer that the documents give."""
    block = lambda text: {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    good = {"summary": "s", "source": "h", "severity": "error"}
    event = lambda **payload: {"routing_key": KEY, "event_action": "trigger", "payload": {**good, **payload}}
    cases = [
        (slack, "/services/T0/B0/Y", {"text": "x"}, 404, "no_service"),
        (slack, slack.PATH, "hello", 400, "invalid_payload"),
        (slack, slack.PATH, {}, 400, "no_text"),
        (slack, slack.PATH, {"text": "x", "blocks": [block("x")] * 51}, 400, "invalid_blocks"),
        (slack, slack.PATH, {"text": "x", "blocks": [block("x" * 3001)]}, 400, "invalid_blocks"),
        (slack, slack.PATH, {"text": "x", "blocks": [block("")]}, 400, "invalid_blocks"),
        (pager, "/v2/enqueue", event(severity="high"), 400, "severity"),
        (pager, "/v2/enqueue", event(summary="x" * 1025), 400, "summary"),
        (pager, "/v2/enqueue", {**event(), "routing_key": "short"}, 400, "should be 32 characters"),
        (pager, "/v2/enqueue", {**event(), "dedup_key": "x" * 256}, 400, "dedup_key"),
        (pager, "/v2/enqueue", event(custom_details={"x": "y" * 600_000}), 400, "too large"),
    ]
    for receiver, path, body, status, word in cases:
        body = json.dumps(body) if isinstance(body, dict) else body
        got_status, _, got = post(receiver.url + path, body.encode(), {"Content-Type": "application/json"})
        same(f"answer to {body[:80]}", (got_status, word in got.decode()), (status, True))
    slack.answers.clear(), pager.answers.clear()
    return len(cases)


EVIL = "<!channel> <@U1> <https://evil.example|bank> ```& @here"


def line(number, network, address=None):
    """A PAN-OS line that one rule finds, by its network; 0: none."""
    address = number % ADDRESSES if address is None else address
    return (f"<14>1 2026-11-21T08:00:{number % 60:02}Z fw-1 - - - - 1,2026/11/21 08:00:00,{number:012},TRAFFIC,end,2561,2026/11/21 08:00:00,"
            f"10.{network}.{address // 250}.{address % 250},93.184.216.34,,,{EVIL},,,ssl,vsys1,trust,untrust,e1,e2,fwd,x,1,1,52011,443,0,0,0x0,tcp,"
            "deny,5200,1200\n")


def rule(number, level):
    name = "abc"[number - 1]
    return (f"title: Traffic {name}\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3{number}\nlevel: {level}\nreferences: [https://docs.example.com/{name}]\n"
            f"logsource: {{ product: paloalto }}\ndetection: {{ s: {{ source.ip|cidr: 10.{number}.0.0/16 }}, condition: s }}\n")


RULES = {f"rules/{number}.yml": rule(number, level) for number, level in ((1, "medium"), (2, "high"), (3, "critical"))}


def send(port, lines):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("".join(lines).encode())


def network_of(number):
    return 1 if number % 10 < 6 else 2 if number % 10 < 9 else 3


class People:
    """Hydrant between a firewall and everybody who is told."""

    def __init__(self, stage):
        self.slack, self.pager, self.hook = Slack(), PagerDuty(), Webhook()
        self.port, self.sent, self.next = harness.free_port(), collections.Counter(), 0
        self.alerts = []
        self.hydrant = stage.hydrant(f"""
shards: 2
source_health: {{ enabled: false }}
rules: [rules]
sources:
  in: {{ type: syslog, listen: "tcp://127.0.0.1:{self.port}", decoder: palo_alto }}
sinks:
  chat: {{ type: slack, webhook_url: "{self.slack.url}{Slack.PATH}", fields: [source.ip, rule.name], group_wait: 1s, group_interval: 4s }}
  pager: {{ type: pagerduty, endpoint: "{self.pager.url}/v2/enqueue", routing_key: {KEY}, group_by: [rule.id, source.ip], group_interval: 20s }}
  hook: {{ type: webhook, endpoint: "{self.hook.url}/hook", secrets: {json.dumps(SECRETS)}, group_wait: 1s, group_interval: 2s }}
  disk: {{ type: file, path: out.ndjson, buffer: {{ interval: 200ms }} }}
""", files=RULES)

    def send(self, count, addresses=ADDRESSES):
        """Alerts, and as many lines that no rule finds."""
        numbers = range(self.next, self.next + count)
        self.next += count
        for first in range(0, count, 500):
            send(self.port, [text for number in numbers[first:first + 500]
                             for text in (line(number, network_of(number), number % addresses), line(10**9 + number, 0))])
        for number in numbers:
            self.sent[f"Traffic {'abc'[network_of(number) - 1]}"] += 1
        self.alerts.extend(numbers)

    def all_told(self):
        eventually("Slack to be told of everything", lambda: self.slack.count() == self.sent, 180)
        eventually("PagerDuty to be told of everything", lambda: self.pager.count() == self.sent, 180)
        eventually("the webhook to be told of everything", lambda: len(self.hook.numbers()) >= len(self.alerts))
        each_once("alerts by webhook", self.hook.numbers(), self.alerts)
        same("what the webhook found wrong", self.hook.bad, [])

    def on_disk(self):
        return sum(1 for row in open(self.hydrant.folder / "out.ndjson") if NUMBER.search(row))


def storm(people):
    people.send(STORM)
    people.all_told()
    same("what would ping people", people.slack.pings(), [])
    for name, receiver, good in (("Slack", people.slack, 200), ("PagerDuty", people.pager, 202)):
        # On a machine that stands still for a second two messages may arrive closer together than they were sent.
        check(set(receiver.answers) <= {good, 429} and receiver.answers[429] <= 1, f"answers of {name}: {dict(receiver.answers)}")
    incidents = {event["dedup_key"] for event in people.pager.events}
    check(len(incidents) <= 51, f"{len(incidents)} incidents")
    messages = len(people.slack.messages)
    check(messages <= 30 + STORM // 5000, f"{messages} messages in Slack")
    levels = {event["payload"]["severity"] for event in people.pager.events}
    check(levels <= {"critical", "error", "warning"} and "critical" in levels, f"severities {levels}")
    return messages, len(incidents), len(people.pager.events)


def rate_limit(people):
    before = people.slack.requests
    people.slack.limit(3)
    people.send(20, addresses=1)
    people.all_told()
    same("requests before Retry-After was over", people.slack.too_early, 0)
    check(people.slack.requests > before + 1, "Slack was not asked again")
    same("answers of Slack", set(people.slack.answers), {200, 429})


def outage(people):
    people.slack.close()
    people.pager.close()
    people.hook.unanswered = 3
    before, start = people.on_disk(), time.monotonic()
    people.send(500, addresses=3)
    # Each alert is a row beside its event.
    eventually("the file to have everything", lambda: people.on_disk() == before + 3 * 500, 20)
    seconds = time.monotonic() - start
    time.sleep(6)
    people.slack.open()
    people.pager.open()
    people.all_told()
    again = len(people.hook.bodies) - len(people.hook.keys)
    check(again >= 1, "no notification was sent again")
    return seconds, again


def stop(people):
    """What came just before a stop waits for nothing."""
    people.send(30, addresses=2)
    eventually("the last alerts to arrive", lambda: people.hydrant.received() == 2 * people.next)
    metrics = people.hydrant.stop()
    people.all_told()
    for sink in ("chat", "pager", "hook"):
        total = lambda family: harness.total(metrics, family, component_id=sink)
        same(f"(alerts, events) of {sink}", (total("hydrant_component_sent_alerts_total"), total("hydrant_component_sent_events_total")), (len(people.alerts), 0))
    people.hydrant.book()


# --- syslog ---------------------------------------------------------------------------------------------------------

def certificates(stage):
    """An authority, the receiver's certificate and ours."""
    folder = stage.folder / "tls"
    folder.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    stage.run(["openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem"])
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for name in ("siem", "router"):
        stage.run(["openssl", "req", *key, "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr"])
        stage.run(["openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-CAcreateserial",
                   "-days", "2", "-extfile", f"{folder}/extensions", "-out", f"{folder}/{name}.pem"])
    return folder


class Rsyslog:
    """An rsyslogd that writes what it gets by each way into a file, as it came."""

    def __init__(self, stage, tls):
        self.stage, self.folder = stage, stage.folder / "rsyslog"
        self.folder.mkdir()
        self.port = {name: harness.free_port() for name in ("octets", "lines", "tls", "udp")}
        # The driver of imtcp is that of the process.
        self.plain, self.secure = self.folder / "plain.conf", self.folder / "secure.conf"
        common = f'global(workDirectory="{self.folder}" maxMessageSize="64k")\ntemplate(name="raw" type="string" string="%rawmsg%\\n")\n'
        ruleset = lambda name: f'ruleset(name="{name}") {{ action(type="omfile" file="{self.folder}/{name}" template="raw" asyncWriting="off") }}\n'
        ways = ("octets", "lines")
        self.plain.write_text(common + 'module(load="imtcp")\nmodule(load="imudp")\n' + "".join(map(ruleset, (*ways, "udp"))) + "".join(
            f'input(type="imtcp" address="127.0.0.1" port="{self.port[name]}" ruleset="{name}")\n' for name in ways) +
            f'input(type="imudp" address="127.0.0.1" port="{self.port["udp"]}" ruleset="udp" rcvbufSize="4m")\n')
        self.secure.write_text(common.replace(")\n", f' DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{tls}/ca.pem" '
                               f'DefaultNetstreamDriverCertFile="{tls}/siem.pem" DefaultNetstreamDriverKeyFile="{tls}/siem.key")\n', 1) +
                               'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name" PermittedPeer=["router", "localhost"])\n' +
                               ruleset("tls") + f'input(type="imtcp" address="127.0.0.1" port="{self.port["tls"]}" ruleset="tls")\n')
        self.processes = {}
        self.start()

    def start(self):
        for name, config in (("plain", self.plain), ("secure", self.secure)):
            self.processes[name] = self.stage.start(f"rsyslog-{name}", [
                harness.DEBIAN / "usr/sbin/rsyslogd", "-n", "-f", config, "-i", self.folder / f"{name}.pid", "-M", harness.DEBIAN_LIBRARIES / "rsyslog"],
                env=harness.DEBIAN_ENVIRONMENT)
        for name in ("octets", "lines", "tls"):
            eventually(f"rsyslog to listen for {name}", lambda name=name: is_open(self.port[name]))

    def stop(self):
        for process in self.processes.values():
            process.terminate()
            process.wait(20)

    def messages(self, name):
        path = self.folder / name
        text = path.read_text(errors="strict") if path.exists() else ""
        return [message for message in text.splitlines() if message]


def kernel_drops(port):
    """Datagrams that the receiver's kernel had no room for: what UDP loses on one machine."""
    lines = pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]
    return sum(int(line.split()[-1]) for line in lines if line.split()[1].endswith(f":{port:04X}"))


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


HEADER = re.compile(r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S{1,255}) hydrant - (alert|event) - (.*)", re.DOTALL)


def cef(message):
    """The seven parts of the header and the extension, by the standard."""
    parts, rest = [], message
    while len(parts) < 7:
        part = re.match(r"((?:[^|\\]|\\[|\\])*)\|", rest)
        check(part, f"no CEF header: {message}")
        parts.append(re.sub(r"\\([|\\])", r"\1", part[1]))
        rest = rest[part.end():]
    pairs = {}
    for pair in re.finditer(r"(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)", rest):
        check(pair[1] not in pairs, f"{pair[1]} twice: {message}")
        pairs[pair[1]] = re.sub(r"\\(.)", lambda escape: {"n": "\n", "r": "\r"}.get(escape[1], escape[1]), pair[2])
    return parts, pairs


def judge(name, message):
    """Number, and whether it is an alert; everything else must be right."""
    header = HEADER.fullmatch(message)
    check(header, f"{name}: no RFC 5424: {message}")
    priority, stamp, host, kind, body = header.groups()
    number = int(NUMBER.search(body.replace("\\n", "\n"))[1])
    is_alert = kind == "alert"
    same(f"{name}: priority", int(priority), 16 * 8 + (({1: 4, 2: 3, 3: 2}[network_of(number)]) if is_alert else 6))
    same(f"{name}: host and time", (host, stamp), ("fw-1", f"2026-11-21T08:00:{number % 60:02}.000Z"))
    if name == "lines":
        row = json.loads(body)
        same("whether the row is an alert", row["hydrant"].get("alert", False) if "hydrant" in row else "finding_info" in row, is_alert)
        return number, is_alert
    parts, pairs = cef(body)
    same(f"{name}: CEF version, vendor, product", parts[:3], ["CEF:0", "Hydrant", "Hydrant"])
    network = network_of(number)
    signature = [f"5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3{network}", f"Traffic {'abc'[network - 1]}", {1: "5", 2: "8", 3: "10"}[network]]
    same(f"{name}: signature, name, severity", parts[4:], signature if is_alert else ["palo_alto", "Event", "1"])
    address = f"10.{network}.{number % ADDRESSES // 250}.{number % ADDRESSES % 250}"
    same(f"{name}: fields", {key: pairs.get(key) for key in ("src", "spt", "dst", "dpt", "proto", "act")},
         {"src": address, "spt": "52011", "dst": "93.184.216.34", "dpt": "443", "proto": "tcp", "act": "deny"})
    check(EVIL.split("`")[0] in pairs["msg"], f"{name}: the line is not in msg: {pairs['msg']}")
    check(not is_alert or pairs.get("externalId"), f"{name}: an alert without its id")
    return number, is_alert


def syslog(stage):
    tls = certificates(stage)
    rsyslog = Rsyslog(stage, tls)
    port = harness.free_port()
    to = lambda scheme, name: f'type: syslog, endpoint: "{scheme}://127.0.0.1:{rsyslog.port[name]}", buffer: {{ interval: 100ms, events: 200 }}'
    hydrant = stage.hydrant(f"""
source_health: {{ enabled: false }}
rules: [rules]
sources:
  in: {{ type: syslog, listen: "tcp://127.0.0.1:{port}", decoder: palo_alto }}
sinks:
  octets: {{ {to("tcp", "octets")} }}
  lines: {{ {to("tcp", "lines")}, framing: newline, format: raw }}
  tls: {{ {to("tls", "tls")}, tls: {{ ca: {tls}/ca.pem, cert: {tls}/router.pem, key: {tls}/router.key }} }}
  udp: {{ {to("udp", "udp")} }}
""", name="router", files=RULES)
    expected = set()

    def wave(first, count, ways):
        for start in range(first, first + count, 50):
            send(port, [line(number, network_of(number)) for number in range(start, start + 50)])
            # A receiver of datagrams has room for some 200, and nobody who tells us to wait.
            time.sleep(0.15)
        expected.update((number, is_alert) for number in range(first, first + count) for is_alert in (False, True))
        for name in ways:
            lost = lambda: kernel_drops(rsyslog.port[name]) if name == "udp" else 0
            eventually(f"everything by {name}", lambda: len(set(rsyslog.messages(name))) + lost() >= len(expected), 60)

    wave(0, LINES, rsyslog.port)
    by_udp, dropped = [judge("udp", message) for message in rsyslog.messages("udp")], kernel_drops(rsyslog.port["udp"])
    same("datagrams that came, and those that the receiver's kernel dropped", len(by_udp) + dropped, len(expected))
    each_once("by UDP", by_udp, expected if not dropped else by_udp)
    # It goes down while nothing is on its way, and comes back: then nothing is lost or doubled.
    rsyslog.stop()
    rsyslog.start()
    wave(LINES, LINES, ("octets", "lines", "tls"))
    for name in ("octets", "lines", "tls"):
        each_once(f"by {name}", [judge(name, message) for message in rsyslog.messages(name)], expected)
    hydrant.stop()
    return 3 * len(expected) + len(by_udp), dropped


def main(stage):
    people = People(stage)
    refused = refusals(people.slack, people.pager)
    messages, incidents, events = storm(people)
    rate_limit(people)
    seconds, again = outage(people)
    stop(people)
    by_syslog, dropped = syslog(stage)
    return (f"{refused} mistakes refused; {STORM} alerts: {messages} messages, {incidents} incidents by {events} events, each once by webhook; Retry-After obeyed; "
            f"outage: the file had all after {seconds:.1f} s, {again} notifications again under their keys; {by_syslog} messages to rsyslog, each once, {dropped} datagrams dropped by its kernel")


harness.play(main)
