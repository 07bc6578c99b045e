"""What the rows of bench/rows are made of: declaring a row, running our programs, fio and the bare exchanges, medians.

A row is a function with @row; it returns a Figure. Rows that compare with something measured in the same run say what and get a
ratio; absolute ones name the bare loop whose drift scales their bound.
"""

import contextlib
import copy
import json
import mmap
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
ROWS = []


class Skip(Exception):
    """The row cannot be measured here; the text says why."""


@dataclass
class Row:
    """One line of the table."""

    name: str
    what: str
    unit: str
    bound: object  # (">=" or "<=", number) or None: only stated
    on: str  # "value" or "ratio": what the bound is about
    drift: str  # "memcpy", "polled" or "": the bare loop that scales an absolute bound
    measure: object


@dataclass
class Figure:
    """What a row came to. `baseline` is what it is compared with, in the same unit."""

    value: float
    baseline: float = None
    baseline_name: str = ""
    inverse: bool = False  # the ratio is baseline ÷ value
    samples: dict = field(default_factory=dict)
    note: str = ""
    latency: dict = field(default_factory=dict)  # p50_us, p99_us, p99_9_us, cpu_us (a request), as far as known

    @property
    def ratio(self):
        if self.baseline is None or not self.baseline or not self.value:
            return None
        return self.baseline / self.value if self.inverse else self.value / self.baseline


def row(name, what, unit, bound=None, on="value", drift=""):
    """Declares a row; the function gets the Bench."""

    def add(measure):
        assert all(other.name != name for other in ROWS), name
        ROWS.append(Row(name, what, unit, bound, on, drift, measure))
        return measure

    return add


def median(values):
    return statistics.median(values)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def write_all(path, size):
    """Past the cache where the file system can: tens of gigabytes through it take twice as long and push everything else out."""
    with mmap.mmap(-1, 4 << 20) as piece:
        piece.write(os.urandom(len(piece)))
        try:
            file = os.open(path, os.O_WRONLY | os.O_DIRECT)
        except OSError:
            file = os.open(path, os.O_WRONLY)
        try:
            for offset in range(0, size, len(piece)):
                os.pwrite(file, memoryview(piece)[: size - offset], offset)
            os.fsync(file)
        finally:
            os.close(file)


class Bench:
    """What rows may use."""

    def __init__(self, build, quick):
        self.build = pathlib.Path(build)
        self.quick = quick
        self.rounds = 3 if quick else 7
        self.seconds = 1 if quick else 3
        self.times = 2 if quick else 5  # "best of five"
        self.disk = os.environ.get("BENCH_DISK", "/var/tmp")
        self.done = {}

    # ---- programs ----

    def program(self, name):
        for path in (self.build / name, self.build / "src" / "programs" / name / name, self.build / "bench" / name):
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
        raise Skip(f"{name} is not built")

    def call_json(self, *command, timeout=120):
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout[done.stdout.index("{") :])  # fio may say something before

    def load(self, device, pattern, depth, *more, seconds=None, size="4K"):
        """penstock-bench's JSON."""
        return self.call_json(
            self.program("penstock-bench"), device, "-p", pattern, "-d", str(depth), "-b", size,
            "-t", str(seconds or self.seconds), "-o", "json", *more
        )  # fmt: skip

    @staticmethod
    def latency(result):
        """Of penstock-bench's JSON, as Figure wants it."""
        known = result["latency_us"]
        return {"p50_us": known["p50"], "p99_us": known["p99"], "p99_9_us": known["p99_9"], "cpu_us": result["cpu_us_per_request"]}

    def once(self, name, measure):
        """What several rows are about is measured by the first of them."""
        if name not in self.done:
            self.done[name] = measure()
        return self.done[name]

    def fsck(self, path):
        """RuntimeError unless penstock-fsck finds the store on `path` clean."""
        done = subprocess.run([self.program("penstock-fsck"), path], capture_output=True, text=True, timeout=400, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"penstock-fsck: {done.stdout}{done.stderr}")

    def fio(self, path, pattern, depth, engine, seconds=None, direct=True, size="4k"):
        """IOPS of one fio job."""
        if shutil.which("fio") is None:
            raise Skip("fio is not installed")
        done = self.call_json(
            "fio", "--name=x", f"--filename={path}", f"--rw={pattern}", f"--bs={size}", f"--ioengine={engine}",
            f"--iodepth={depth}", f"--direct={int(direct)}", "--time_based", f"--runtime={seconds or self.seconds}",
            "--output-format=json", f"--filesize={os.path.getsize(path)}", "--fallocate=none"
        )  # fmt: skip
        job = done["jobs"][0]
        return job["read" if "read" in pattern else "write"]["iops"]

    def bare(self, what):
        """The machine itself: 'memcpy' in ns a 4 KiB copy, 'polled' in µs an exchange, 'stream' in µs 128 KiB."""
        return next(iter(self.call_json(self.program("bare"), what, "0.5").values()))

    # ---- places ----

    @contextlib.contextmanager
    def file(self, folder, size, written=True):
        """A file of `size` bytes, every block written (preallocated), gone afterwards."""
        with tempfile.NamedTemporaryFile(dir=folder, prefix="penstock-bench-") as file:
            if written:
                write_all(file.name, size)
            else:
                file.truncate(size)
            yield file.name

    # ---- comparisons ----

    def alternate(self, *measures):
        """Runs the measures in turn, `rounds` times, so that all see the same machine; a list of samples for each."""
        samples = [[] for _ in measures]
        for turn in range(self.rounds):
            order = range(len(measures)) if turn % 2 == 0 else reversed(range(len(measures)))
            for i in order:
                samples[i].append(measures[i]())
        return samples

    def best(self, measure, better=max, times=None):
        """Best of five (absolute rows)."""
        samples = [measure() for _ in range(times or self.times)]
        return better(samples), samples

    # ---- a running node ----

    @contextlib.contextmanager
    def node(self, *options):
        """penstock-block on a socket of its own; yields the Node."""
        program = self.program("penstock-block")
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            node = Node(program, os.path.join(folder, "rpc.sock"), options)
            try:
                yield node
            finally:
                node.end()


class Node:
    """A penstock-block process."""

    def __init__(self, program, path, options=(), environment=None):
        self.path = path
        self.started = time.monotonic()
        self.process = subprocess.Popen([program, "-r", path, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.ids = 0
        self.connection = None
        self.call("rpc_get_methods")
        self.first_answer_s = time.monotonic() - self.started

    def connect(self, patience_s=10):
        end = time.monotonic() + patience_s
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(self.path)
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError("penstock-block does not answer") from None
                time.sleep(0.0002)

    def call(self, method, **parameters):
        """Result of one JSON-RPC call on the kept connection."""
        if self.connection is None:
            self.connection = self.connect()
        self.ids += 1
        request = {"jsonrpc": "2.0", "id": self.ids, "method": method}
        if parameters:
            request["params"] = parameters
        self.connection.sendall(json.dumps(request).encode())
        decoder, text = json.JSONDecoder(), ""
        while True:
            piece = self.connection.recv(1 << 20)
            if not piece:
                raise RuntimeError(f"{method}: the connection was closed")
            text += piece.decode()
            try:
                answer, _ = decoder.raw_decode(text.lstrip())
            except ValueError:
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            return answer["result"]

    def again(self):
        """The same process by another connection, for another thread."""
        other = copy.copy(self)
        other.connection, other.ids = None, 0
        return other

    def store(self, path):
        """Makes a store called "store" on the file."""
        self.call("bdev_aio_create", name="disk", filename=path, block_size=4096)
        self.call("bdev_lvol_create_lvstore", bdev_name="disk", lvs_name="store")

    def listen(self, nqns):
        """Subsystems that listen on one port; the address as bdev_nvme_attach_controller wants it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}
        self.call("nvmf_create_transport", trtype="TCP")
        for nqn in nqns:
            self.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True, max_namespaces=1024)
            self.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=address)
        return address

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self):
        """The most that was ever resident."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    def cpu_ns(self):
        """Precise: the scheduler's own count, all threads."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        return total

    def end(self):
        if self.connection is not None:
            self.connection.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
