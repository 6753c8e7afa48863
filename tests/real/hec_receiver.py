"""A strict Splunk HTTP Event Collector, since no real one can be installed here.

Written from Splunk's documents: "Format events for HTTP Event Collector" (metadata keys, `fields`), "Troubleshoot HTTP
Event Collector" (the table of codes), "About HTTP Event Collector Indexer Acknowledgment" (channels, acknowledgement
ids, an answer `true` is given once), "HTTP Event Collector REST API endpoints". It shares nothing with Hydrant, and
scenario `splunk` first holds it against Splunk's own client library.

It does not ask for a Content-Type: Splunk's own library says `application/x-www-form-urlencoded`. An event counts as
received only when the whole body is good.
"""
import gzip
import http.server
import json
import re
import socket
import threading
import time
import uuid
import zlib

TOKEN = "0b6f3c1e-5f0e-4a55-9d2c-000000000001"
DISABLED_TOKEN = "0b6f3c1e-5f0e-4a55-9d2c-000000000002"

# Code to status and text.
CODES = {
    0: (200, "Success"), 1: (403, "Token disabled"), 2: (401, "Token is required"), 3: (401, "Invalid authorization"),
    4: (403, "Invalid token"), 5: (400, "No data"), 6: (400, "Invalid data format"), 7: (400, "Incorrect index"),
    9: (503, "Server is busy"), 10: (400, "Data channel is missing"), 11: (400, "Invalid data channel"),
    12: (400, "Event field is required"), 13: (400, "Event field cannot be blank"), 14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"), 16: (400, "Query string authorization is not enabled"), 17: (200, "HEC is healthy"),
}
KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
INDEXES = {"main", "firewall"}
EVENT_PATHS = {"/services/collector", "/services/collector/event", "/services/collector/event/1.0"}
BODY_BYTES_MAX = 1 << 30


class Refusal(Exception):
    def __init__(self, code, number=None):
        super().__init__(code)
        self.code, self.number = code, number


class HecReceiver:
    """A receiver on a port of its own; `events` has what `keep` makes of every event that it has taken, all of it by default.
    What `refuses` says so of is bad data."""

    def __init__(self, ack=False, port=0, keep=lambda event: event, refuses=lambda event: False):
        self.ack, self.port, self.keep, self.refuses = ack, port, keep, refuses
        self.lock = threading.Lock()
        self.events, self.answers = [], {}
        self.channels, self.next_ack = {}, 0
        self.server, self.open, self.is_closing = None, set(), False
        self.start()

    def start(self):
        """Listens, at the second start on the same port."""
        receiver, self.is_closing = self, False

        class Handler(Exchange):
            hec = receiver

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.hec = self
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """Goes down as an indexer that is shut down: it answers for what it took, then nobody listens and open
        connections break. One that is cut off would have to be sent again what it took without saying so."""
        self.is_closing = True
        end = time.monotonic() + 10
        while time.monotonic() < end and self.is_asked():
            time.sleep(0.02)
        # The last answers are on their way.
        time.sleep(0.1)
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is closed already

    def is_asked(self):
        """Whether acknowledgements are still to be asked for."""
        with self.lock:
            return any(self.channels.values())

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def count(self):
        with self.lock:
            return len(self.events)

    def take(self, events, channel):
        """Stores events; the acknowledgement id if the token has acknowledgement."""
        with self.lock:
            self.events.extend(map(self.keep, events))
            if not self.ack:
                return None
            self.next_ack += 1
            # Indexing takes a moment, so the first question finds it undone.
            self.channels.setdefault(channel, {})[self.next_ack] = time.monotonic() + 0.05
            return self.next_ack

    def acknowledged(self, ids, channel):
        with self.lock:
            known, now = self.channels.get(channel, {}), time.monotonic()
            done = {number: number in known and known[number] <= now for number in ids}
            for number in [number for number, is_done in done.items() if is_done]:
                del known[number]
            return done


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that breaks off is no fault of the receiver


class Exchange(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.hec.lock:
            self.hec.open.add(self.connection)

    def finish(self):
        with self.hec.lock:
            self.hec.open.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.partition("?")[0] in ("/services/collector/health", "/services/collector/health/1.0"):
            self.answer(17)
        else:
            self.reply(404, {"text": "The requested URL was not found on this server.", "code": 404})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        query = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
        channel = self.headers.get("x-splunk-request-channel") or query.get("channel")
        try:
            self.authorize(query)
            if path == "/services/collector/ack":
                return self.acks(body, channel)
            if path not in EVENT_PATHS:
                return self.reply(404, {"text": "The requested URL was not found on this server.", "code": 404})
            if self.hec.is_closing:
                raise Refusal(9)
            if self.hec.ack and not channel:
                raise Refusal(10)
            if channel and not is_guid(channel):
                raise Refusal(11)
            events = read_events(inflated(body, self.headers.get("content-encoding")))
            for number, event in enumerate(events):
                if self.hec.refuses(event):
                    raise Refusal(6, number)
        except Refusal as refusal:
            return self.answer(refusal.code, **({} if refusal.number is None else {"invalid-event-number": refusal.number}))
        number = self.hec.take(events, channel)
        self.answer(0, **({} if number is None else {"ackId": number}))

    def authorize(self, query):
        value = self.headers.get("authorization")
        if value is None:
            raise Refusal(16 if "token" in query else 2)
        if not value.startswith("Splunk "):
            raise Refusal(3)
        token = value.removeprefix("Splunk ").strip()
        if token == DISABLED_TOKEN:
            raise Refusal(1)
        if token != TOKEN:
            raise Refusal(4)

    def acks(self, body, channel):
        if not self.hec.ack:
            raise Refusal(14)
        if not channel:
            raise Refusal(10)
        if not is_guid(channel):
            raise Refusal(11)
        try:
            ids = json.loads(body)["acks"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(6) from None
        if not isinstance(ids, list) or not all(type(number) is int for number in ids):
            raise Refusal(6)
        done = self.hec.acknowledged(ids, channel)
        self.reply(200, {"acks": {str(number): is_done for number, is_done in done.items()}})

    def answer(self, code, **more):
        status, text = CODES[code]
        self.reply(status, {"text": text, "code": code, **more})

    def reply(self, status, value):
        with self.hec.lock:
            key = (status, value.get("code"))
            self.hec.answers[key] = self.hec.answers.get(key, 0) + 1
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def is_guid(text):
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def inflated(body, encoding):
    if encoding is None or encoding == "identity":
        return body
    if encoding != "gzip":
        raise Refusal(6)
    try:
        return gzip.decompress(body)[:BODY_BYTES_MAX]
    except (OSError, EOFError, zlib.error):
        raise Refusal(6) from None


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def read_events(body):
    """Objects one after the other, with nothing but white space between them."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refusal(6, 0) from None
    decoder, at, events = json.JSONDecoder(parse_constant=no_constant, parse_float=Decimal), skip(text, 0), []
    if at == len(text):
        raise Refusal(5)
    while at < len(text):
        try:
            event, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise Refusal(6, len(events)) from None
        code = mistake(event)
        if code:
            raise Refusal(code, len(events))
        events.append(event)
        at = skip(text, at)
    return events


def skip(text, at):
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


class Decimal(str):
    """A number as it was written: Splunk reads `time` by its digits, so scientific notation is wrong."""


PLAIN_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def mistake(event):
    """The code of what is wrong with an event, or nothing."""
    if type(event) is not dict or not event.keys() <= KEYS:
        return 6
    when = event.get("time")
    if when is not None and (isinstance(when, bool) or not isinstance(when, (int, str)) or not PLAIN_NUMBER.fullmatch(str(when))):
        return 15 if isinstance(when, Decimal) else 6
    if any(type(event.get(key)) not in (str, type(None)) for key in ("host", "source", "sourcetype", "index")):
        return 6
    if event.get("index") is not None and event["index"] not in INDEXES:
        return 7
    if not are_flat(event.get("fields", {})):
        return 15
    if event.get("event") is None:
        return 12
    return 13 if event["event"] == "" else None


def are_flat(fields):
    """Strings, or lists of strings: indexed fields cannot be nested."""
    return type(fields) is dict and all(
        isinstance(value, str) or type(value) is list and all(isinstance(item, str) for item in value) for value in fields.values())
