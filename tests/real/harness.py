"""What the scenarios share: a stage on which processes are started and surely stopped, and Hydrant on it.

A scenario is a file with `main(stage)`, which gives one line of figures or raises `Failure`; `harness.play(main)` runs
it. Counts are small unless `--full` is among the arguments. Everything listens on 127.0.0.1 on free ports.
"""
import ctypes
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("HYDRANT_REAL_DIR", ROOT / "target/real")).resolve()
DEBIAN = CACHE / "debian"
# rsyslog and loggen, and what they need to run where they are not installed.
DEBIAN_LIBRARIES = DEBIAN / "usr/lib/x86_64-linux-gnu"
DEBIAN_ENVIRONMENT = {
    **os.environ, "SYSLOGNG_PREFIX": str(DEBIAN / "usr"),
    "LD_LIBRARY_PATH": f"{DEBIAN_LIBRARIES}:{DEBIAN / 'lib/x86_64-linux-gnu'}:{DEBIAN / 'usr/lib/syslog-ng'}",
}
CASES = ROOT / "tests/cases/samples"
FULL = "--full" in sys.argv

# How long anything may take before the scenario gives up on it.
PATIENCE_S = 120


class Failure(Exception):
    """Something is not as it should be."""


def check(is_so, what):
    if not is_so:
        raise Failure(what)


def same(what, got, expected):
    """`got` must be `expected`; says how they differ."""
    if got != expected:
        raise Failure(f"{what}: {shorten(got)}, expected {shorten(expected)}")


def shorten(value):
    text = repr(value)
    return text if len(text) < 600 else text[:600] + "..."


def each_once(what, got, expected):
    """Every member of `expected` is in the list `got` exactly once, and nothing else is."""
    wanted, seen = set(expected), {}
    for item in got:
        seen[item] = seen.get(item, 0) + 1
    missing = sorted(wanted - seen.keys())
    strange = sorted(seen.keys() - wanted)
    doubled = sorted(item for item, count in seen.items() if count > 1)
    if missing or strange or doubled:
        parts = [f"{len(items)} {name}: {shorten(items[:5])}"
                 for name, items in (("missing", missing), ("not sent", strange), ("more than once", doubled)) if items]
        raise Failure(f"{what}: of {len(wanted)} " + ", ".join(parts))


def eventually(what, probe, patience_s=PATIENCE_S):
    """Waits until `probe` gives something true, and gives that."""
    end = time.monotonic() + patience_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {patience_s} s for {what}")
        time.sleep(0.02)


GIVEN_PORTS = set()


def free_port():
    """A port that nobody listens on, neither by TCP nor by UDP, another one each time. It is below those that Linux gives
    to connections: while a program is down, a connection (even the one that looks for it) would else take its port now
    and then."""
    for _ in range(100):
        address = ("127.0.0.1", random.choice(sorted(set(range(20_000, 32_768)) - GIVEN_PORTS)))
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(address)
                udp.bind(address)
            except OSError:
                continue
        GIVEN_PORTS.add(address[1])
        return address[1]
    raise Failure("no free port")


def binary():
    """The program under test."""
    chosen = os.environ.get("HYDRANT_BIN")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for path in [chosen] if chosen else [target / "release/hydrant", target / "debug/hydrant"]:
        if os.access(path, os.X_OK):
            return str(pathlib.Path(path).resolve())
    raise Failure(f"no hydrant at {chosen or target}: cargo build, or set HYDRANT_BIN")


# What a process of Hydrant holds beside its budget for events: code, stacks, compressors, sockets, 16 MiB a shard on the way to
# the disk, what the allocator keeps. An idle one has about 20 MiB, one that was busy keeps freed pages.
BASE_MIB = 150


def each_row(path):
    """The lines of a file of JSON, one after the other."""
    with open(path) as file:
        for line in file:
            yield json.loads(line)


def rows(path):
    """All of them, none if there is no file yet. A line that is not whole yet is an error."""
    return list(each_row(path)) if pathlib.Path(path).exists() else []


def ours(row):
    """What Hydrant says of a row: beside an event, in a finding (OCSF) below what has no home there."""
    return row.get("hydrant") or row.get("unmapped", {}).get("hydrant", {})


def is_alert(row):
    """Whether a row is an alert, whatever its form."""
    return ours(row).get("alert") is True


def raw_of(row):
    """The frame of an event or of the event that an alert is about."""
    return next(row[key] for key in ("raw_data", "event.original", "message") if key in row)


def flat(value, name="", out=None):
    """Objects within objects as one, with paths for names."""
    out = {} if out is None else out
    for key, inner in value.items():
        path = f"{name}.{key}" if name else key
        if isinstance(inner, dict):
            flat(inner, path, out)
        else:
            out[path] = inner
    return out


def post(url, body, headers=None, timeout_s=60):
    """Status, headers and body of the answer to a POST."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed scenario leaves nothing behind


class Stage:
    """A folder and processes; both are gone when it ends."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hydrant-real-"))
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for name, process in reversed(self.processes):
            if process.poll() is None:
                # What has failed need not end well, and may wait for what will not come.
                process.kill() if error else process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        # One that was started again has one log, and the exit code of its last time.
        for name, process in dict(self.processes).items() if error else ():
            print(f"--- {name}, exit {process.returncode}, the end of what it said:\n{self.log_of(name)[-2500:]}", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, command, **options):
        """Starts a process whose output goes to a file; gives the process."""
        with open(self.folder / f"{name}.log", "ab") as log:
            options.setdefault("stdin", subprocess.DEVNULL)
            process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=options.pop("cwd", self.folder),
                                       preexec_fn=die_with_parent, **options)
        self.processes.append((name, process))
        return process

    def log_of(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run(self, command, patience_s=PATIENCE_S, **options):
        """Runs a command to its end, which must be a good one; gives its output."""
        done = subprocess.run([str(word) for word in command], capture_output=True, timeout=patience_s, text=True, cwd=self.folder,
                              preexec_fn=die_with_parent, **options)
        check(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-1500:]}")
        return done.stdout

    def hydrant(self, config, name="hydrant", cpu=None, files=None, env=None):
        return Hydrant(self, config, name, cpu, files or {}, env)


class Hydrant:
    """`hydrant run` with a configuration and files beside it; its data folder and admin address are added."""

    def __init__(self, stage, config, name, cpu, files, env):
        self.stage, self.name, self.env, self.is_restarted = stage, name, env, False
        self.admin = f"http://127.0.0.1:{free_port()}"
        self.folder = stage.folder / name
        self.folder.mkdir()
        for path, text in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        file = self.folder / "hydrant.yaml"
        file.write_text(f"data_dir: data\nadmin: \"{self.admin[7:]}\"\n{config}")
        self.dump = self.folder / "metrics.txt"
        command = [binary(), "run", "-c", file, "--dump-metrics", self.dump]
        self.command = command if cpu is None else ["taskset", "-c", str(cpu), *command]
        self.start()

    def start(self):
        self.launch()
        eventually(f"{self.name} to be ready", self.is_ready, 30)

    def launch(self):
        """Starts the process, and does not wait until it is ready."""
        self.process = self.stage.start(self.name, self.command, cwd=self.folder, env=self.env)

    def kill(self):
        """`kill -9`; `start` begins again with the same configuration and data folder."""
        self.process.kill()
        self.process.wait()
        self.is_restarted = True

    def is_ready(self):
        check(self.process.poll() is None, f"{self.name} ended with {self.process.returncode} at its start")
        try:
            return urllib.request.urlopen(self.admin + "/readyz", timeout=5).status == 200
        except OSError:
            return False

    def metrics(self):
        return parse_metrics(urllib.request.urlopen(self.admin + "/metrics", timeout=30).read().decode())

    def total(self, family, **labels):
        """Sum of a family's series that have these labels."""
        return total(self.metrics(), family, **labels)

    def received(self, source="in"):
        return self.total("hydrant_component_received_events_total", component_id=source)

    def sent(self, sink="out"):
        return self.total("hydrant_component_sent_events_total", component_id=sink)

    def rss_mib(self):
        return self.status("VmRSS") / 1024

    def peak_rss_mib(self):
        return self.status("VmHWM") / 1024

    def status(self, key):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[1])

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, patience_s=PATIENCE_S):
        """SIGTERM; it must end well and its ledger must balance. Gives the last metrics."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {patience_s} s of SIGTERM") from None
        same(f"exit code of {self.name}", code, 0)
        metrics = parse_metrics(self.dump.read_text())
        check_ledger(metrics, self.is_restarted)
        return metrics


    def book(self):
        """The ledger as the command tells it; it must balance."""
        book = json.loads(self.stage.run([binary(), "ledger", "--data-dir", self.folder / "data", "--json"]))
        check(book["balanced"], f"the ledger does not balance: {book['imbalances']}")
        return book


def check_ledger(metrics, is_restarted):
    """For each destination: received = delivered + filtered + dead + dropped. After a restart destinations get what was
    received before, each something else: there it is routed = delivered + dead + dropped."""
    received = total(metrics, "hydrant_component_received_events_total")
    sinks = {labels["component_id"] for labels, _ in metrics["hydrant_component_sent_events_total"]}
    check(sinks, "no destination is in the metrics")
    for sink in sinks:
        of = lambda family: total(metrics, family, component_id=sink)
        terms = [of(family) for family in ("hydrant_component_sent_events_total", "hydrant_dead_letter_events_total",
                                           "hydrant_component_discarded_events_total", "hydrant_component_filtered_events_total")]
        came = received
        if is_restarted:
            came, terms = of("hydrant_component_routed_events_total"), terms[:3]
        check(came == sum(terms), f"the ledger of {sink}: {came} came, (sent, dead, dropped, filtered) = {terms}")


def parse_metrics(text):
    """Family to a list of (labels, value)."""
    families = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\d+)", line).groups()
            pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
            families.setdefault(name, []).append((pairs, int(value)))
    return families


def total(metrics, family, **labels):
    return sum(value for own, value in metrics.get(family, []) if labels.items() <= own.items())


def in_thread(work, *arguments):
    """Runs `work` beside; `result()` of what this gives waits for it and raises what it raised."""
    class Beside(threading.Thread):
        value = error = None

        def run(self):
            try:
                self.value = work(*arguments)
            except BaseException as error:  # noqa: B902 - it is raised again where the result is asked for
                self.error = error

        def result(self, patience_s=PATIENCE_S):
            self.join(patience_s)
            check(not self.is_alive(), f"{work.__name__} did not end within {patience_s} s")
            if self.error:
                raise self.error
            return self.value

    thread = Beside(daemon=True)
    thread.start()
    return thread


def play(main):
    """Runs a scenario; its last line of output is its figures."""
    def ended(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, ended)
    try:
        with Stage() as stage:
            figures = main(stage)
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
    print(figures, flush=True)
