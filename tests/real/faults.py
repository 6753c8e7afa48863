#!/usr/bin/env python3
"""A destination that does everything wrong, at random: nothing acknowledged is lost, nothing is invented, memory is bounded.

The server refuses connections, hangs, answers 429 with Retry-After, 500, 503, 413 to what has more than one row, 400 to what
has a poisoned row, closes before it reads, before it answers (having stored or not) and half-way through its answer, and
answers with a gigabyte. Then it is well. The oracle: what the source was told is stored is at the destination; poisoned
rows are in the dead letters and nowhere else; another destination has everything once; the ledger balances. What is twice
was stored by a request whose answer was lost, and by no other.
"""
import collections
import gzip
import http.server
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
import traceback

import harness
from harness import check, each_once, eventually, in_thread, same

SEED = int(os.environ.get("HYDRANT_SEED", random.SystemRandom().randrange(2**31)))
FAULTY_S = 120 if harness.FULL else 20
POSTERS, POST_EVENTS = 4, 50
HANGS_MAX = 2
ANSWER_BYTES = 1 << 30
BUDGET_MIB = 64

FAULTS = ["429", "500", "503", "413", "reset", "stored, no answer", "no answer", "half an answer", "hang", "stored, a gigabyte", "503, a gigabyte"]

ID = re.compile(r"id=(\d+-\d+)\.")


class Faulty:
    """The destination."""

    def __init__(self):
        self.random, self.lock, self.ended = random.Random(SEED), threading.Lock(), threading.Event()
        self.is_faulty, self.hangs, self.mistakes = True, 0, []
        self.stored, self.unanswered, self.faults, self.left = [], set(), {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.serve(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                # A client that goes away in the middle of a gigabyte is none of our business.
                if not isinstance(sys.exc_info()[1], OSError):
                    outer.mistakes.append(traceback.format_exc())

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def choose(self, rows):
        """What happens to a request."""
        with self.lock:
            if any("poison" in row for row in rows):
                fault = "400"
            elif not self.is_faulty:
                fault = "well"
            else:
                # Each of them before any comes again.
                self.left = self.left or self.random.sample([*FAULTS, "well", "well"], len(FAULTS) + 2)
                fault = self.left.pop()
            if fault == "413" and len(rows) == 1 or fault == "hang" and self.hangs == HANGS_MAX:
                fault = "well"
            self.hangs += fault == "hang"
            self.faults[fault] = self.faults.get(fault, 0) + 1
            ids = [ID.search(row)[1] for row in rows]
            if fault in ("well", "stored, no answer", "stored, a gigabyte"):
                self.stored += ids
            if fault.startswith("stored"):
                self.unanswered |= set(ids)
            return fault

    def serve(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        fault = self.choose(gzip.decompress(body).decode().splitlines())
        handler.close_connection = fault not in ("well", "400", "413", "429", "500", "503")
        if fault == "hang":
            self.ended.wait(300)
        elif fault == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif fault == "half an answer":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")
        elif fault.endswith("no answer"):
            pass
        elif fault.endswith("a gigabyte"):
            handler.send_response(503 if fault.startswith("503") else 200)
            handler.send_header("content-length", str(ANSWER_BYTES))
            handler.end_headers()
            for _ in range(ANSWER_BYTES >> 20):
                handler.wfile.write(bytes(1 << 20))
        else:
            handler.send_response(200 if fault == "well" else int(fault))
            if fault == "429":
                handler.send_header("retry-after", "1")
            handler.send_header("content-length", "0")
            handler.end_headers()

    def count(self):
        with self.lock:
            return len(set(self.stored))


def post(url, number, ended):
    """Posts events until it is told to end; gives the ids that were acknowledged, and those that are poisoned."""
    chance, sent, poisoned, next_id = random.Random(SEED + number), [], [], 0
    while not ended.is_set():
        rows = []
        for _ in range(POST_EVENTS):
            name = f"{number}-{next_id}"
            next_id += 1
            is_bad = chance.randrange(500) == 0
            (poisoned if is_bad else sent).append(name)
            rows.append(json.dumps({"message": f"id={name}. {'poison' if is_bad else 'pure'} {'x' * chance.randrange(200)}"}))
        status, _, answer = harness.post(url, "\n".join(rows).encode(), {"content-type": "application/json"})
        check(status == 200, f"the source answers {status}: {answer}")
        time.sleep(0.05)
    return sent, poisoned


def main(stage):
    print(f"HYDRANT_SEED={SEED}", flush=True)
    faulty, port, ended = Faulty(), harness.free_port(), threading.Event()
    hydrant = stage.hydrant(f"""
memory: {BUDGET_MIB}MiB
sources: {{ in: {{ type: http, listen: "127.0.0.1:{port}", decoder: json }} }}
sinks:
  bad: {{ type: http, endpoint: "{faulty.url}", format: ndjson, form: raw, buffer: {{ events: 40, interval: 200ms }} }}
  good: {{ type: file, path: good.ndjson, form: raw, buffer: {{ interval: 200ms }} }}
""")
    posters = [in_thread(post, f"http://127.0.0.1:{port}/", number, ended) for number in range(POSTERS)]
    time.sleep(FAULTY_S)
    eventually("every fault to have been met", lambda: {*FAULTS, "400"} <= faulty.faults.keys(), 240)
    ended.set()
    told = [poster.result() for poster in posters]
    sent, poisoned = [name for part, _ in told for name in part], [name for _, part in told for name in part]
    faulty.is_faulty = False
    check(not faulty.mistakes, f"the destination of this test has a mistake: {faulty.mistakes[:1]}")
    eventually("all to be stored", lambda: faulty.count() >= len(sent), 240)
    dead = lambda: hydrant.total("hydrant_dead_letter_events_total", component_id="bad")
    eventually("the poisoned rows to be dead letters", lambda: dead() >= len(poisoned), 240)
    peak = hydrant.peak_rss_mib()
    faulty.ended.set()
    metrics = hydrant.stop()
    same("dead letters", harness.total(metrics, "hydrant_dead_letter_events_total", component_id="bad"), len(poisoned))
    same("what is stored, as a set", set(faulty.stored), set(sent))
    twice = {name for name, count in collections.Counter(faulty.stored).items() if count > 1}
    strange = twice - faulty.unanswered
    check(not strange, f"{len(strange)} are there twice although the request was answered: {sorted(strange)[:5]}")
    good = [ID.search(line)[1] for line in (hydrant.folder / "good.ndjson").read_text().splitlines()]
    each_once("the other destination", good, sent + poisoned)
    check(peak < BUDGET_MIB + harness.BASE_MIB, f"{peak:.0f} MiB resident")
    faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(faulty.faults.items()))
    return (f"{len(sent)} acknowledged events, none lost, {len(twice)} twice (their answers were lost), {len(poisoned)} poisoned in the dead letters; "
            f"peak {peak:.0f} MiB; {faults}")


harness.play(main)
