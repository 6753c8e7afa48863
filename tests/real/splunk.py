#!/usr/bin/env python3
"""Splunk: one strict HEC receiver takes what Splunk's own client library sends, and what Hydrant sends.

1. The receiver refuses what the documents say is refused, each with the documented code.
2. The npm library `splunk-logging` (Splunk Inc.) and `splunk-handler` (PyPI) get their events into it: so it is not
   stricter than real clients are.
3. Hydrant delivers to it with gzip, a channel and indexer acknowledgement: every event once, with its metadata.
"""
import gzip
import json
import logging
import socket
import time

import splunk_handler

import harness
from harness import check, each_once, eventually, post, same
from hec_receiver import DISABLED_TOKEN, TOKEN, HecReceiver

COUNT = 1_000_000 if harness.FULL else 20_000
CHANNEL = "8f1b2c3d-0000-4000-8000-000000000001"

LIBRARY = """
const { Logger } = require('splunk-logging');
const [url, token, count] = process.argv.slice(1);
const logger = new Logger({ token, url, maxBatchCount: 0 });
logger.error = (error) => { console.error(String(error)); process.exit(1); };
for (let i = 0; i < Number(count); i++)
  logger.send({ message: { number: i, text: 'grüße' }, severity: 'info', metadata: { source: 'fw', sourcetype: 'pan:traffic', index: 'main', host: 'pa-1' } });
logger.flush((error, response, body) => { console.log(JSON.stringify(body)); process.exit(error ? 1 : 0); });
"""


def refusals(hec):
    """What is wrong, and the answer that the table gives; the receiver has acknowledgement on."""
    good = b'{"event":"x"}'
    token, channel = {"Authorization": f"Splunk {TOKEN}"}, {"X-Splunk-Request-Channel": CHANNEL}
    both = token | channel
    cases = [
        ("no token", 401, 2, {}, good),
        ("another scheme", 401, 3, {"Authorization": "Basic dTpw"}, good),
        ("wrong token", 403, 4, {"Authorization": "Splunk nobody"}, good),
        ("disabled token", 403, 1, {"Authorization": f"Splunk {DISABLED_TOKEN}"}, good),
        ("no channel", 400, 10, token, good),
        ("channel that is no GUID", 400, 11, token | {"X-Splunk-Request-Channel": "7"}, good),
        ("no data", 400, 5, both, b""),
        ("white space", 400, 5, both, b" \n"),
        ("no JSON", 400, 6, both, b"hello"),
        ("a comma between events", 400, 6, both, good + b"," + good),
        ("half an event", 400, 6, both, good + b'{"event":'),
        ("a key that HEC does not know", 400, 6, both, b'{"event":"x","severity":"info"}'),
        ("no event", 400, 12, both, b'{"time":1}'),
        ("blank event", 400, 13, both, good + b'{"event":""}'),
        ("an index that the token has not", 400, 7, both, b'{"event":"x","index":"secret"}'),
        ("nested fields", 400, 15, both, b'{"event":"x","fields":{"a":{"b":"c"}}}'),
        ("scientific notation", 400, 15, both, b'{"event":"x","time":1.79E9}'),
        ("damaged gzip", 400, 6, both | {"Content-Encoding": "gzip"}, good),
    ]
    for what, status, code, headers, body in cases:
        got_status, _, got = post(hec.url + "/services/collector/event", body, headers)
        same(what, (got_status, json.loads(got)["code"]), (status, code))
    same("after refusals", hec.count(), 0)
    _, _, got = post(hec.url + "/services/collector/event", gzip.compress(good), both | {"Content-Encoding": "gzip"})
    number = json.loads(got)["ackId"]
    time.sleep(0.1)
    ask = lambda: json.loads(post(hec.url + "/services/collector/ack", json.dumps({"acks": [number, 99]}).encode(), both)[2])["acks"]
    same("acknowledgement", ask(), {str(number): True, "99": False})
    same("acknowledgement, asked again", ask(), {str(number): False, "99": False})
    return len(cases)


def library(stage, hec, count):
    """Splunk's own library for Node."""
    out = stage.run(["node", "-e", LIBRARY, hec.url, TOKEN, str(count)], env={**harness.os.environ, "NODE_PATH": str(harness.CACHE / "npm/node_modules")})
    same("the library's answer", json.loads(out)["code"], 0)
    each_once("splunk-logging", [event["event"]["message"]["number"] for event in hec.events], range(count))
    same("its event", hec.events[0]["event"], {"message": {"number": 0, "text": "grüße"}, "severity": "info"})
    hec.events.clear()


def handler(hec, count):
    """The handler for Python's logging that most people use."""
    log = logging.getLogger("real")
    log.setLevel(logging.INFO)
    log.propagate = False
    sender = splunk_handler.SplunkHandler(host="127.0.0.1", port=hec.port, token=TOKEN, index="main", sourcetype="asa", protocol="http",
                                          verify=False, flush_interval=0.2, queue_size=0)
    log.addHandler(sender)
    for number in range(count):
        log.info("message %d", number)
    sender.close()
    each_once("splunk-handler", [event["event"] for event in hec.events], [f"message {number}" for number in range(count)])
    hec.events.clear()


def hydrant(stage, hec):
    port = harness.free_port()
    running = stage.hydrant(f"""
sources:
  in: {{ type: syslog, listen: "tcp://127.0.0.1:{port}", decoder: syslog }}
sinks:
  out: {{ type: splunk_hec, endpoint: "{hec.url}", token: {TOKEN}, ack: true, index: firewall, buffer: {{ interval: 200ms }} }}
""")
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, COUNT, 1000):
            lines = (f"<134>1 2026-11-21T08:00:00.{number % 1000:03}Z fw-{number % 7} app {number} - - event {number:07} größe\n"
                     for number in range(first, min(first + 1000, COUNT)))
            connection.sendall("".join(lines).encode())
    eventually("all events to be acknowledged", lambda: running.sent() == COUNT, 600)
    seconds = time.monotonic() - start
    running.stop()
    numbers = [int(event["event"].removesuffix(" größe")[-7:]) for event in hec.events]
    each_once("Hydrant", numbers, range(COUNT))
    for number, event in zip(numbers, hec.events):
        same("host", event["host"], f"fw-{number % 7}")
        same("time", event["time"], f"1795248000.{number % 1000:03}")
        same("index", event["index"], "firewall")
        check(event["sourcetype"] and event["source"], f"no sourcetype or source: {event}")
    same("answers", {key for key in hec.answers if key[0] != 200}, set())
    return seconds


def main(stage):
    strict = HecReceiver(ack=True)
    refused = refusals(strict)
    plain = HecReceiver()
    library(stage, plain, 1000)
    handler(plain, 1000)
    hec = HecReceiver(ack=True)
    seconds = hydrant(stage, hec)
    return (f"{refused} mistakes refused as documented; 1000 events of splunk-logging, 1000 of splunk-handler; "
            f"{COUNT} of Hydrant acknowledged, each once, in {seconds:.1f} s")


harness.play(main)
