"""The loop and the block layer: what a request costs before any protocol, and what being idle costs."""

import statistics
import time

from figures import Figure, median, row


def average(bench, device):
    results = [bench.load(device, "randread", 1) for _ in range(bench.times)]
    best = max(results, key=lambda result: result["iops"])
    return Figure(1e6 / best["iops"], samples={"us": [1e6 / result["iops"] for result in results]}, latency=bench.latency(best))


@row("null_qd1", "block layer, null device, 4 KiB QD1", "µs", ("<=", 0.1), drift="memcpy")
def null_qd1(bench):
    return average(bench, "null:1G")


@row("null_qd128", "block layer, null device, 4 KiB QD128", "IOPS", None, drift="memcpy")
def null_qd128(bench):
    best, samples = bench.best(lambda: bench.load("null:1G", "randread", 128)["iops"])
    return Figure(best, samples={"iops": samples})


@row("memory_read_qd1", "memory device, 4 KiB random read QD1", "µs", None, drift="memcpy")
def memory_read_qd1(bench):
    return average(bench, "memory:1G")


@row("silence", "first exchange after 1 s of silence ÷ blocking recv()", "µs", ("<=", 1.2), on="ratio")
def silence(bench):
    got = bench.call_json(bench.program("silence"), "5" if bench.quick else "25", "1000")
    ours, bare = median(got["ours_us"]), median(got["bare_us"])
    return Figure(ours, bare, "a blocking exchange", samples=got)


@row("start", "penstock-block: start to first answer", "ms", ("<=", 30), drift="memcpy")
def start(bench):
    def once():
        with bench.node() as node:
            return node.first_answer_s * 1e3

    best, samples = bench.best(once, min)
    return Figure(best, samples={"ms": samples})


@row("resident_empty", "penstock-block: resident memory, empty", "MB", ("<=", 40))
def resident_empty(bench):
    with bench.node() as node:
        time.sleep(0.5)
        return Figure(node.resident_bytes() / 1e6)


@row("idle_empty", "penstock-block: processor when idle, empty", "%", ("<=", 0.5))
def idle_empty(bench):
    with bench.node() as node:
        time.sleep(1)
        seconds = 2 if bench.quick else 10
        before = node.cpu_ns()
        time.sleep(seconds)
        return Figure((node.cpu_ns() - before) / 1e9 / seconds * 100)


@row("rpc_round_trip", "JSON-RPC round trip on a kept connection, p50", "ms", ("<=", 0.2), drift="polled")
def rpc_round_trip(bench):
    with bench.node() as node:
        times = []
        for _ in range(500 if bench.quick else 3000):
            before = time.perf_counter()
            node.call("framework_get_reactors")
            times.append((time.perf_counter() - before) * 1e3)
        return Figure(statistics.median(times), samples={"p99_ms": [sorted(times)[len(times) * 99 // 100]]})
