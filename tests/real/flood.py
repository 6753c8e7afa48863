"""Senders and a receiver that are never the narrow place, as processes of their own, and the books on what came.

    flood.py send BOARD PORT INDEX      requests of prepared bodies over one connection, as fast as the board says
    flood.py ask PORT COUNT FILE        requests of one event, one behind the other; their times in ms to a file
    flood.py receive PORT FILE          appends the bodies of POST requests to a file

An event is a line with a number. A request has EVENTS_A_REQUEST of them: the number of the request and, within it, of the
event. So a body is made by one replacement, and what was acknowledged is known by counting requests.
"""
import ctypes
import mmap
import os
import pathlib
import random
import re
import signal
import socket
import sys
import threading
import time

# Each waits for its answer: so many that a slow answer does not make the load smaller.
SENDERS = 12
EVENTS_A_REQUEST = 1000
LINE = re.compile(rb'\{"message":"event (\d{9}) [0-9a-f]{200}"\}\n')
EVENT_BYTES = 231
BLOCK_BYTES = 4 << 20


class Board:
    """Numbers that the scenario and the senders share through a file."""

    COLUMNS = ("acknowledged", "refused", "again", "worst_us", "ended")

    def __init__(self, path, is_new=False):
        if is_new:
            pathlib.Path(path).write_bytes(bytes(8 * (2 + SENDERS * len(self.COLUMNS))))
        with open(path, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    # Events a second of all senders together, and whether to end.
    rate = property(lambda self: self.numbers[0], lambda self, rate: self.numbers.__setitem__(0, rate))
    is_over = property(lambda self: self.numbers[1], lambda self, is_over: self.numbers.__setitem__(1, is_over))

    def place(self, sender, column):
        return 2 + sender * len(self.COLUMNS) + self.COLUMNS.index(column)

    def all(self, column):
        return [self.numbers[self.place(sender, column)] for sender in range(SENDERS)]


def prepared_body():
    chance = random.Random(1)
    return b"".join(b'{"message":"event RRRRRR%03d %s"}\n' % (index, chance.randbytes(100).hex().encode()) for index in range(EVENTS_A_REQUEST))


def send(board_path, port, sender):
    """The requests `sender`, `sender` + SENDERS and so on, each until it is acknowledged."""
    board, body, connection = Board(board_path), prepared_body(), None
    head = b"POST / HTTP/1.1\r\nHost: flood\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)

    def add(column, count=1):
        board.numbers[board.place(sender, column)] += count

    request, due, rate = sender, time.monotonic(), 0
    while not board.is_over:
        now = time.monotonic()
        if rate != board.rate:
            # What was owed at another rate is forgiven; the senders take turns.
            rate = board.rate
            due = now + sender * EVENTS_A_REQUEST / max(rate, 1)
        if rate == 0 or now < due:
            time.sleep(0.002)
            continue
        due += SENDERS * EVENTS_A_REQUEST / rate
        message = head + body.replace(b"RRRRRR", b"%06d" % request)
        while True:
            begin = time.monotonic()
            try:
                connection = connection or socket.create_connection(("127.0.0.1", port), 60)
                connection.sendall(message)
                status = answer_of(connection)
            except OSError:
                add("again")
                connection = None
                time.sleep(0.05)
                continue
            if status == 200:
                break
            add("refused")
            time.sleep(0.05)
        took_us = int((time.monotonic() - begin) * 1e6)
        place = board.place(sender, "worst_us")
        board.numbers[place] = max(board.numbers[place], took_us)
        add("acknowledged")
        request += SENDERS
    add("ended")


def ask(port, count, path):
    connection, times = socket.create_connection(("127.0.0.1", port), 60), []
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(count):
        body = b'{"number":%d}' % number
        begin = time.monotonic()
        connection.sendall(b"POST / HTTP/1.1\r\nHost: flood\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        status = answer_of(connection)
        times.append(1000 * (time.monotonic() - begin))
        if status != 200:
            sys.exit(f"request {number} was answered by {status}")
    pathlib.Path(path).write_text("".join(f"{each}\n" for each in times))


def answer_of(connection):
    """The status of an answer, which is read whole."""
    got, end = b"", None
    while end is None or len(got) < end:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError("closed")
        got += piece
        head, mark, _ = got.partition(b"\r\n\r\n")
        if mark:
            end = len(head + mark) + content_length(head)
    return int(got.split(b" ", 2)[1])


def content_length(head):
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def receive(port, path):
    """Answers 200 for what it has written. At SIGTERM it goes when no body is half taken: what it took it has said."""
    file, lock = open(path, "ab", buffering=0), threading.Lock()

    def ended(_number, _frame):
        over.set()

    over = threading.Event()
    signal.signal(signal.SIGTERM, ended)
    listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def serve(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb", buffering=1 << 20)
        while line := stream.readline():
            head = b"\r\n" + line
            while (line := stream.readline()) not in (b"\r\n", b""):
                head += line
            length = content_length(head)
            body = stream.read(length)
            if len(body) < length:
                return
            with lock:
                written = 0
                while written < length:
                    written += file.write(memoryview(body)[written:])
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    over.wait()
    with lock:
        os._exit(0)


LIBC = ctypes.CDLL(None, use_errno=True)
PUNCH_HOLE_KEEP_SIZE = 3


class Book:
    """How often each number has come to a file, a byte each. What was read is given back to the disk, which else would hold
    every event three times."""

    def __init__(self, path):
        self.path, self.offset, self.times = pathlib.Path(path), 0, bytearray()
        self.lines = self.distinct = self.torn = 0

    def read_on(self):
        """Reads what has come since the last call."""
        if not self.path.exists():
            return
        with open(self.path, "r+b") as file:
            file.seek(self.offset)
            while block := file.read(BLOCK_BYTES):
                end = block.rfind(b"\n") + 1
                if not end:
                    return
                numbers = LINE.findall(block, 0, end)
                self.note(map(int, numbers))
                self.lines += len(numbers)
                self.torn += block.count(b"\n", 0, end) - len(numbers)
                # A hole may stay where it cannot be punched: that costs space only.
                LIBC.fallocate(file.fileno(), PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(self.offset), ctypes.c_long(end))
                self.offset += end
                file.seek(self.offset)

    def note(self, numbers):
        times, distinct = self.times, 0
        for number in numbers:
            if number >= len(times):
                times.extend(bytes(number + BLOCK_BYTES - len(times)))
            distinct += not times[number]
            times[number] = min(times[number] + 1, 255)
        self.distinct += distinct

    def lost(self, acknowledged):
        """The first numbers of the requests of which an event is missing, given how many each sender has acknowledged."""
        requests = (sender + SENDERS * request for sender, count in enumerate(acknowledged) for request in range(count))
        firsts = (request * EVENTS_A_REQUEST for request in requests)
        return [first for first in firsts
                if first + EVENTS_A_REQUEST > len(self.times) or self.times.find(0, first, first + EVENTS_A_REQUEST) >= 0]


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "ask":
        ask(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        receive(int(sys.argv[2]), sys.argv[3])
