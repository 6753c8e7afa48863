#!/usr/bin/env python3
"""HTTP endpoint delivery as Amazon Data Firehose does it, over TLS, to an alert.

No emulator sends the headers of the real one, so the sender here is written from "Amazon Data Firehose Developer Guide,
HTTP endpoint delivery request and response specifications": headers, gzip, common attributes, base64 records, the same
request id at a retry. It is as strict about answers as Firehose: 200 only, `application/json`, no encoding, a
Content-Length, the request id echoed, a number as timestamp; anything else would be retried.

What it carries: AWS WAF logs (one record each), Network Firewall alerts (EVE), and CloudWatch Logs subscription
envelopes (gzip inside the record) with a probe among them.
"""
import base64
import gzip
import http.client
import json
import ssl
import time
import uuid

import harness
from harness import check, each_once, eventually, same

WAF = 20_000 if harness.FULL else 1_000
FIREWALL = 10_000 if harness.FULL else 500
WRAPPED = 10_000 if harness.FULL else 500
ACCESS_KEY = "access key with blanks, as it is"
ATTRIBUTES = {"team": "perimeter", "stage": "prod"}
ARN = "arn:aws:firehose:eu-central-1:123456789012:deliverystream/aws-waf-logs-main"

RULE = """
title: {title}
id: {id}
status: test
level: high
logsource: {logsource}
detection:
  selection: {selection}
  condition: selection
"""


def waf(number):
    """As the WAF Developer Guide shows it; every tenth is blocked."""
    return {
        "timestamp": 1795248000000 + number, "formatVersion": 1,
        "webaclId": "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/main/0f8e2c6a-1111-4222-8333-944455556666",
        "terminatingRuleId": "sqli" if number % 10 == 0 else "Default_Action", "terminatingRuleType": "REGULAR",
        "action": "BLOCK" if number % 10 == 0 else "ALLOW", "terminatingRuleMatchDetails": [], "httpSourceName": "ALB",
        "httpSourceId": "123456789012-app/lb/0123456789abcdef", "ruleGroupList": [], "rateBasedRuleList": [], "nonTerminatingMatchingRules": [],
        "requestHeadersInserted": None, "responseCodeSent": None,
        "httpRequest": {"clientIp": f"198.51.100.{number % 250}", "country": "DE", "headers": [{"name": "Host", "value": "shop.example.com"}],
                        "uri": "/index", "args": f"n={number}", "httpVersion": "HTTP/1.1", "httpMethod": "GET", "requestId": f"waf-{number:07}"},
        "labels": [],
    }


def firewall(number):
    """An alert of Network Firewall: Suricata's EVE below `event`."""
    return {
        "firewall_name": "perimeter", "availability_zone": "eu-central-1a", "event_timestamp": "1795248000",
        "event": {"timestamp": "2026-11-21T08:00:00.000000+0000", "flow_id": 1000000 + number, "event_type": "alert", "src_ip": "203.0.113.9",
                  "src_port": 40000, "dest_ip": "10.0.0.5", "dest_port": 443, "proto": "TCP",
                  "alert": {"action": "blocked", "signature_id": 2030000, "rev": 1, "signature": f"fw-{number:07}", "category": "Attempted Administrator Privilege Gain",
                            "severity": 1 if number % 10 == 0 else 3}},
    }


def wrapped(numbers, kind="DATA_MESSAGE"):
    """A CloudWatch Logs envelope of several events."""
    events = [{"id": f"{number:056}", "timestamp": 1795248000000 + number,
               "message": f'<38>Nov 21 08:00:00 bastion sshd[4711]: cwl-{number:07} Failed password for root from 198.51.100.23 port 40022 ssh2'}
              for number in numbers]
    return gzip.compress(json.dumps({
        "messageType": kind, "owner": "123456789012", "logGroup": "/bastion/auth", "logStream": "i-0abc", "subscriptionFilters": ["all"],
        "logEvents": events}).encode())


class Firehose:
    """One delivery stream's sender."""

    def __init__(self, port, authority):
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=180, context=ssl.create_default_context(cafile=authority))
        self.sent = 0

    def deliver(self, records, is_compressed=False, request_id=None, key=ACCESS_KEY, headers=None, body=None):
        """One request; gives status and answer after the checks that Firehose makes."""
        request_id = request_id or str(uuid.uuid4())
        body = body or json.dumps({"requestId": request_id, "timestamp": int(time.time() * 1000),
                                   "records": [{"data": base64.b64encode(record).decode()} for record in records]}).encode()
        fields = {
            "X-Amz-Firehose-Protocol-Version": "1.0", "X-Amz-Firehose-Request-Id": request_id, "X-Amz-Firehose-Source-Arn": ARN,
            "X-Amz-Firehose-Common-Attributes": json.dumps({"commonAttributes": ATTRIBUTES}), "Content-Type": "application/json",
            "User-Agent": "Amazon Kinesis Data Firehose Agent/1.0",
        } | (headers or {})
        if key is not None:
            fields["X-Amz-Firehose-Access-Key"] = key
        if is_compressed:
            fields["Content-Encoding"], body = "gzip", gzip.compress(body)
        self.connection.request("POST", "/hydrant?stream=main", body, fields)
        answer = self.connection.getresponse()
        text = answer.read()
        self.sent += 1
        same("Content-Type", answer.headers["Content-Type"].split(";")[0].strip(), "application/json")
        same("Content-Encoding, Transfer-Encoding", (answer.headers["Content-Encoding"], answer.headers["Transfer-Encoding"]), (None, None))
        same("Content-Length", answer.headers["Content-Length"], str(len(text)))
        check(len(text) <= 1 << 20, "the answer is longer than 1 MiB")
        value = json.loads(text)
        same("requestId", value["requestId"], request_id)
        now = time.time() * 1000
        check(type(value["timestamp"]) is int and abs(value["timestamp"] - now) < 60_000, f"timestamp {value['timestamp']}")
        same("errorMessage", "errorMessage" in value, answer.status != 200)
        return answer.status, value


def certificate(stage):
    folder = stage.folder
    stage.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=hydrant",
               "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"])
    return folder / "cert.pem", folder / "key.pem"


def start(stage, port):
    cert, key = certificate(stage)
    (stage.folder / "rules").mkdir()
    for number, (title, logsource, selection) in enumerate((
            ("Blocked by the WAF", "{ product: aws, service: waf }", "{ action: BLOCK }"),
            ("Severe alert of the firewall", "{ category: ids }", "{ event.severity: 1 }"),
            ("Password of root was tried", "{ product: linux, service: sshd }", "{ message|contains: 'Failed password for root' }"))):
        text = RULE.format(title=title, id=uuid.UUID(int=(4 << 76) | (2 << 62) | number), logsource=logsource, selection=selection)
        (stage.folder / "rules" / f"{number}.yml").write_text(text)
    hydrant = stage.hydrant(f"""
rules: [{stage.folder}/rules]
sources:
  in: {{ type: aws_firehose, listen: "127.0.0.1:{port}", tls: {{ cert: {cert}, key: {key} }}, access_key: "{ACCESS_KEY}" }}
transforms:
  - {{ program: '.labels.stream = %hydrant.stream; .labels.team = %hydrant.attributes.team' }}
sinks:
  out: {{ type: file, path: out.ndjson, form: json, keep_raw: true, buffer: {{ interval: 100ms }} }}
""")
    return hydrant, cert


def refusals(firehose):
    """What is wrong, and its status; 413 is never given, because Firehose throws such a batch away."""
    record = [json.dumps(waf(1)).encode()]
    for what, expected, options in (
            ("no access key", 401, {"key": None}), ("wrong access key", 401, {"key": "x"}),
            ("another protocol", 400, {"headers": {"X-Amz-Firehose-Protocol-Version": "2.0"}}),
            ("no JSON", 400, {"body": b"hello"}), ("no base64", 400, {"body": b'{"requestId":"r","records":[{"data":"?"}]}', "request_id": "r"}),
            ("another request id", 400, {"body": b'{"requestId":"other","records":[]}'})):
        same(what, firehose.deliver(record, **options)[0], expected)
        # A connection whose body was not read to its end cannot be used again.
        firehose.connection.close()
    return 6


def main(stage):
    port = harness.free_port()
    hydrant, cert = start(stage, port)
    firehose = Firehose(port, cert)
    refused = refusals(firehose)
    requests = []
    for first in range(0, WAF, 100):
        requests.append([json.dumps(waf(number)).encode() for number in range(first, first + 100)])
    for first in range(0, FIREWALL, 100):
        # Records of Network Firewall end with a line break, and several may be in one.
        requests.append([json.dumps(firewall(number)).encode() + b"\n" + json.dumps(firewall(number + 1)).encode() + b"\n"
                         for number in range(first, first + 100, 2)])
    for first in range(0, WRAPPED, 100):
        records = [wrapped(range(number, number + 20)) for number in range(first, first + 100, 20)]
        requests.append([wrapped([], "CONTROL_MESSAGE"), *records])
    retried = 0
    for number, records in enumerate(requests):
        request_id = str(uuid.uuid4())
        # Every third is sent again, as after an answer that was lost; its events must not come twice.
        for _ in range(2 if number % 3 == 0 else 1):
            status, value = firehose.deliver(records, is_compressed=number % 2 == 0, request_id=request_id)
            same("status", (status, value.get("errorMessage")), (200, None))
        retried += number % 3 == 0
    count = WAF + FIREWALL + WRAPPED
    eventually("all events", lambda: hydrant.sent() >= count)
    same("requests known again", hydrant.total("hydrant_component_refused_total", reason="duplicate"), retried)
    # The largest body that Firehose may send is taken.
    large = [b"x" * 1_000_000] * 46
    same("a body of 61 MiB", firehose.deliver(large)[0], 200)
    eventually("the large records", lambda: hydrant.sent() >= count + len(large))
    hydrant.stop()
    rows = harness.rows(hydrant.folder / "out.ndjson")
    alerts = [row for row in rows if harness.is_alert(row)]
    events = [row for row in rows if not harness.is_alert(row) and not row["event.original"].startswith("xxx")]
    names = lambda rows: [name_of(row) for row in rows]
    each_once("events", names(events), [f"waf-{n:07}" for n in range(WAF)] + [f"fw-{n:07}" for n in range(FIREWALL)] + [f"cwl-{n:07}" for n in range(WRAPPED)])
    each_once("alerts", names(alerts),
              [f"waf-{n:07}" for n in range(0, WAF, 10)] + [f"fw-{n:07}" for n in range(0, FIREWALL, 10)] + [f"cwl-{n:07}" for n in range(WRAPPED)])
    for row in events:
        same("labels", row["labels"], {"stream": "aws-waf-logs-main", "team": "perimeter"})
        if name_of(row).startswith("cwl"):
            same("time of the envelope", row["@timestamp"][:19], "2026-11-21T08:00:00")
    return (f"{len(requests)} requests ({retried} sent twice) with {WAF} WAF, {FIREWALL} Network Firewall and {WRAPPED} CloudWatch events, each once; "
            f"{len(alerts)} alerts; {refused} bad requests refused; a body of 61 MiB taken")


def name_of(row):
    text = harness.raw_of(row)
    for mark in ("waf-", "fw-", "cwl-"):
        if mark in text and text[text.index(mark) + len(mark):][:7].isdigit():
            at = text.index(mark)
            return text[at:at + len(mark) + 7]
    raise harness.Failure(f"an event that was not sent: {text[:200]}")


harness.play(main)
