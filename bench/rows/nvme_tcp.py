"""NVMe/TCP over loopback: a memory namespace of penstock-block on one core, a polled client of one queue on another."""

import contextlib
import os

from figures import Figure, Skip, free_port, row

NQN = "nqn.2026-01.penstock:bench"


@contextlib.contextmanager
def served(bench):
    """A node that serves a memory device; yields it and the options that a client needs."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Skip("two cores are needed")
    with bench.node("-m", hex(1 << cores[0])) as node:
        port = free_port()
        node.call("bdev_malloc_create", name="memory", num_blocks=1 << 16, block_size=4096)
        node.call("nvmf_create_transport", trtype="TCP")
        node.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        node.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "memory"})
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}
        node.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address)
        yield node, ["--port", port, "--nqn", NQN, "--cpu", str(cores[1])]


def measure(bench, figure, better, depth, size, *more):
    with served(bench) as (node, client):
        load = [bench.program("nvme_tcp_load"), *client, "--depth", str(depth), "--size", size, "--json", *more]
        bench.call_json(*load, "--write", "--seconds", "1")  # the pages are there from now on
        results = []

        def once():
            before = node.cpu_ns()
            results.append(bench.call_json(*load, "--seconds", str(bench.seconds)))
            results[-1]["cpu_us"] = (node.cpu_ns() - before) / 1e3 / (results[-1]["iops"] * bench.seconds)
            return results[-1][figure]

        best, samples = bench.best(once, better)
    result = next(result for result in results if result[figure] == best)
    return Figure(best, samples={figure: samples}, latency=result)


def add_row(name, what, unit, bound, figure, better, *options, drift="polled"):
    @row(name, f"NVMe/TCP, memory namespace, {what}", unit, bound, drift=drift)
    def one(bench):
        result = measure(bench, figure, better, *options)
        if drift == "stream":  # what the loopback gives without a copy of ours
            result.baseline, result.baseline_name = (1 << 17) / bench.bare("stream") * 1e6 / (1 << 30), "a bare stream"
        return result


add_row("nvme_tcp_read_qd1", "4K read QD1", "µs", ("<=", 13), "avg_us", min, 1, "4K")
add_row("nvme_tcp_write_qd1", "4K write QD1", "µs", ("<=", 13), "avg_us", min, 1, "4K", "--write")
add_row("nvme_tcp_read_qd128", "4K read QD128", "IOPS", (">=", 600000), "iops", max, 127, "4K")
add_row("nvme_tcp_write_qd128", "4K write QD128", "IOPS", (">=", 520000), "iops", max, 127, "4K", "--write")
add_row("nvme_tcp_read_128k", "128K read QD16", "GiB/s", (">=", 5), "gib_per_second", max, 16, "128K", drift="stream")
add_row("nvme_tcp_write_128k", "128K write QD16", "GiB/s", (">=", 5), "gib_per_second", max, 16, "128K", "--write", drift="stream")
add_row("nvme_tcp_digests_qd128", "4K read QD128, both digests", "IOPS", None, "iops", max, 127, "4K", "--header-digest", "--data-digest")
