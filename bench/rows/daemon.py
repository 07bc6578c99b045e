"""penstockd: three nodes, each with its plane, through a foreign gRPC client (grpcio)."""

import contextlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from figures import ROOT, Figure, Skip, row

VOLUMES = 1000
MIB = 1 << 20
SIZE = 4 * MIB
TESTS = str(ROOT / "tests" / "control")


def rig():
    """What the tests stand on."""
    for folder in ("/usr/lib/python3/dist-packages", TESTS):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        import rig as found
    except ImportError as reason:
        raise Skip(f"no python3-grpcio for this interpreter: {reason}") from None
    return found


class Nodes:
    def __init__(self, bench, folder, count=3):
        self.bench, made = bench, rig()
        contract = made.Contract(f"{TESTS}/spdkrpc.table")
        self.nodes = [made.Node(bench.program("penstockd"), bench.program("penstock-block"), contract, pathlib.Path(folder) / str(i)) for i in range(count)]

    def __enter__(self):
        for node in self.nodes:
            node.start()
            path = node.folder / "disk"
            with open(path, "wb") as file:
                file.truncate(64 << 30)
            node.client.DiskCreate(disk_name="d", disk_path=str(path), block_size=4096)
        for node in self.nodes:
            while node.client.DiskGet(disk_name="d")["state"] != "ready":
                time.sleep(0.001)
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.end()

    def volume(self, name, engine_at=0, count=3):
        """Its engine, which serves it."""
        names = [f"{name}-r-{i}" for i in range(count)]
        calls = [(node, node.client.start("ReplicaCreate", name=replica, lvs_name="d", spec_size=SIZE, port_count=1)) for node, replica in zip(self.nodes, names)]
        made = [node.client.finish("ReplicaCreate", call) for node, call in calls]
        addresses = {replica: f"{node.address}:{one['port_start']}" for node, replica, one in zip(self.nodes, names, made)}
        engine = self.nodes[engine_at].client.EngineCreate(name=f"{name}-e", volume_name=name, spec_size=SIZE, frontend="spdk-tcp-nvmf", port_count=1,
                                                           replica_address_map=addresses)  # fmt: skip
        if engine["state"] != "running":
            raise RuntimeError(f"{name}: {engine['error_msg']}")
        return engine

    def drop(self, name):
        for node in self.nodes:
            node.client.EngineDelete(name=f"{name}-e")
        for i, node in enumerate(self.nodes):
            node.client.ReplicaDelete(name=f"{name}-r-{i}", cleanup_required=True)

    def write(self, engine):
        """One write by a host, flushed."""
        url = f"nvme-tcp://{engine['ip']}:{engine['port']}/nqn.2023-01.io.longhorn.spdk:volume-{engine['volume_name']}"
        self.bench.call_json(self.bench.program("penstock-bench"), url, "-p", "write", "-n", "1", "-d", "1", "--fua", "-o", "json")

    def processes(self):
        return [pid for node in self.nodes for pid in (node.process.pid, node.plane_pid())]


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total


@contextlib.contextmanager
def nodes(bench, count=3):
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=bench.disk) as folder, Nodes(bench, folder, count) as made:
        yield made


@row("daemon_engine_get", "penstockd: EngineGet, 8 connections x 16 calls, no TLS, on one core", "call/s", (">=", 200000), drift="polled")
def engine_get(bench):
    """Calls ÷ penstockd's processor time: what one core answers, whether or not the client keeps it busy. Beside it, what it did answer."""
    if shutil.which("h2load") is None:
        raise Skip("h2load (nghttp2-client) is not installed")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Skip("two cores are needed")
    with nodes(bench, 1) as made, tempfile.NamedTemporaryFile() as body:
        node = made.nodes[0]
        made.volume("v", count=1)
        request = node.contract.write("EngineGetRequest", {"name": "v-e"})
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        os.sched_setaffinity(node.process.pid, {cores[0]})

        def once():
            before = cpu_ns(node.process.pid)
            done = subprocess.run(
                ["taskset", "-c", str(cores[1]), "h2load", "-c", "8", "-m", "16", "-D", str(bench.seconds), "--warm-up-time=0", "-d", body.name,
                 "-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{node.address}:8504/spdkrpc.SPDKService/EngineGet"],
                capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip
            good = int(re.search(r"(\d+) 2xx", done.stdout).group(1))
            if good == 0:
                raise RuntimeError(f"no call was answered: {done.stdout}")
            answered.append(good / bench.seconds)
            return good / ((cpu_ns(node.process.pid) - before) / 1e9)

        answered = []
        best, samples = bench.best(once)
        return Figure(best, samples={"calls_per_core_s": samples, "calls_per_s": answered},
                      note=f"{1e6 / best:.2f} µs of penstockd a call; {max(answered):,.0f} a second were answered to h2load on the other core")  # fmt: skip


def watchers(bench, connections):
    with nodes(bench, 1) as made:
        runs = []

        def once():
            runs.append(bench.call_json(bench.program("grpc_watch"), made.nodes[0].address, "500", str(connections), "10" if bench.quick else "40"))
            return runs[-1]["us"]["p99"] / 1e3

        best, samples = bench.best(once, min)
        told = min(runs, key=lambda run: run["us"]["p99"])
        return Figure(best, samples={"ms": samples, "runs": runs}, latency={"p50_us": told["us"]["p50"], "p99_us": told["us"]["p99"], "p99_9_us": told["us"]["p99_9"]},
                      note=f"from the beginning of the call, with its commit to the disk: p50 {told['from_call_us']['p50'] / 1e3:.1f}, p99 {told['from_call_us']['p99'] / 1e3:.1f} ms")  # fmt: skip


@row("daemon_watch", "penstockd: a change told to 500 watchers on 100 connections, from its call's answer, p99", "ms", ("<=", 5), drift="polled")
def watch(bench):
    return watchers(bench, 100)


@row("daemon_watch_apart", "the same, each watcher on a connection of its own", "ms")
def watch_apart(bench):
    return watchers(bench, 500)


@row("daemon_resident", "penstockd with nothing to do: resident memory", "MB", ("<=", 15))
def resident(bench):
    with nodes(bench, 1) as made:
        time.sleep(0.5)
        with open(f"/proc/{made.nodes[0].process.pid}/statm", encoding="ascii") as statm:
            return Figure(int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6)


@row("daemon_volume", "volume of three replicas on three nodes: created and writable, p50", "ms", ("<=", 50))
def volume(bench):
    """Until EngineCreate has answered; then a host writes to it."""
    with nodes(bench) as made:
        took, written = [], []
        for i in range(10 if bench.quick else 40):
            begin = time.monotonic()
            engine = made.volume(f"v{i}", i % 3)
            took.append((time.monotonic() - begin) * 1e3)
            made.write(engine)
            written.append((time.monotonic() - begin) * 1e3)
        return Figure(statistics.median(took), samples={"ms": took, "ms_with_a_host_that_starts_connects_and_writes": written},
                      note=f"p99 {sorted(took)[-1]:.0f} ms; with a host's start, connection and write {statistics.median(written):.0f} ms")  # fmt: skip


# ---- a thousand volumes: one run for all of its rows ----


def seconds_until_observed(made):
    """penstockd of all nodes is killed and started: until each knows all of its replicas and engines, and that they are well."""
    for node in made.nodes:
        node.kill()
    took = [0.0] * len(made.nodes)

    def start(i, begin):
        node = made.nodes[i]
        node.start()
        while True:
            objects = [o for kind in (node.client.ReplicaList()["replicas"], node.client.EngineList()["engines"]) for o in kind.values()]
            if all(o["state"] == "running" for o in objects):
                break
            time.sleep(0.02)
        took[i] = time.monotonic() - begin

    begin = time.monotonic()
    threads = [threading.Thread(target=start, args=(i, begin)) for i in range(len(made.nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(took)


def thousand(bench):
    def measure():
        count, found = 60 if bench.quick else VOLUMES, {}
        with nodes(bench) as made:
            begin = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda i: made.volume(f"v{i}", i % 3), range(count)))
            found["create_s"] = time.monotonic() - begin
            listings = []
            for _ in range(3):
                for node in made.nodes:
                    begin = time.monotonic()
                    replicas, engines = node.client.ReplicaList()["replicas"], node.client.EngineList()["engines"]
                    listings.append((time.monotonic() - begin) * 1e3)
                    if len(replicas) != count or any(o["state"] != "running" for o in [*replicas.values(), *engines.values()]):
                        raise RuntimeError("not all run")
            found["list_ms"] = listings
            found["observed_s"] = seconds_until_observed(made)
            time.sleep(3)
            pids = made.processes()
            time.sleep(1)
            before, begin = [cpu_ns(pid) for pid in pids], time.monotonic()
            time.sleep(5 if bench.quick else 30)
            elapsed = time.monotonic() - begin
            found["idle_percent"] = [(cpu_ns(pid) - was) / 1e7 / elapsed for pid, was in zip(pids, before)]
            found["resident_mb"] = []
            for pid in pids:
                with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                    found["resident_mb"].append(int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6)
        return found

    return bench.once("daemon_1000", measure)


@row("daemon_1000_create", f"{VOLUMES} volumes of three replicas on three nodes: created, eight at a time", "s")
def thousand_created(bench):
    found = thousand(bench)
    return Figure(found["create_s"], note=f"resident {', '.join(f'{mb:.0f}' for mb in found['resident_mb'])} MB (penstockd, plane, …)")


@row("daemon_1000_list", f"{VOLUMES} such volumes: a node's replicas and engines listed, with what they use", "ms")
def thousand_listed(bench):
    found = thousand(bench)
    return Figure(statistics.median(found["list_ms"]), samples={"ms": found["list_ms"]})


@row("daemon_1000_observed", f"{VOLUMES} such volumes: all three penstockd killed and started until all is observed", "s", ("<=", 3))
def thousand_observed(bench):
    return Figure(thousand(bench)["observed_s"])


@row("daemon_1000_idle", f"{VOLUMES} such volumes: processor of all six processes when idle", "%", ("<=", 3))
def thousand_idle(bench):
    found = thousand(bench)
    shares = found["idle_percent"]
    return Figure(sum(shares), samples={"percent": shares}, note=f"penstockd {sum(shares[::2]):.2f} %, planes {sum(shares[1::2]):.2f} %")
