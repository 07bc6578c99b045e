"""gRPC over loopback: echo_peer on one core, h2load on another."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time

from figures import Figure, Skip, row

PATH = "/penstock.test.v1.Echo/Say"


@contextlib.contextmanager
def served(bench):
    """A server on the first core; yields (process, port, the client's core)."""
    cores = sorted(os.sched_getaffinity(0))
    program = bench.build / "tests" / "support" / "echo_peer"
    if len(cores) < 2:
        raise Skip("two cores are needed")
    if not program.exists():
        raise Skip("echo_peer is not built")
    process = subprocess.Popen(
        [str(program), "serve", "--cpu", str(cores[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline().split()[1], cores[1]
    finally:
        process.stdin.close()
        process.wait(10)


def calls_per_second(bench, connections, streams):
    if shutil.which("h2load") is None:
        raise Skip("h2load (nghttp2-client) is not installed")
    with served(bench) as (process, port, core), tempfile.NamedTemporaryFile() as body:
        body.write(b"\0\0\0\0\x07\x0a\x05hello")
        body.flush()

        def once():
            before = cpu_seconds(process.pid)
            done = subprocess.run(
                ["taskset", "-c", str(core), "h2load", "-c", str(connections), "-m", str(streams), "-D", str(bench.seconds),
                 "--warm-up-time=0", "-d", body.name, "-H", "content-type: application/grpc", "-H", "te: trailers",
                 f"http://127.0.0.1:{port}{PATH}"],
                capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip
            good = int(re.search(r"(\d+) 2xx", done.stdout).group(1))
            per_call.append((cpu_seconds(process.pid) - before) / max(good, 1) * 1e6)
            return good / bench.seconds

        per_call = []
        best, samples = bench.best(once)
        return Figure(best, samples={"calls_per_s": samples, "server_us_a_call": per_call}, note=f"{min(per_call):.2f} µs of the server a call")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        cells = stat.read().rsplit(")", 1)[1].split()
    return (int(cells[11]) + int(cells[12])) / os.sysconf("SC_CLK_TCK")


@row("grpc_unary_1x32", "gRPC unary echo, 1 connection x 32 calls, no TLS", "call/s", None, drift="polled")
def one_connection(bench):
    return calls_per_second(bench, 1, 32)


@row("grpc_unary_8x16", "gRPC unary echo, 8 connections x 16 calls, no TLS", "call/s", (">=", 200000), drift="polled")
def eight_connections(bench):
    return calls_per_second(bench, 8, 16)


@row("grpc_resident", "gRPC server with nothing to do: resident memory", "MB", ("<=", 15))
def resident(bench):
    with served(bench) as (process, _, _):
        time.sleep(0.5)
        with open(f"/proc/{process.pid}/statm", encoding="utf-8") as statm:
            return Figure(int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6)
