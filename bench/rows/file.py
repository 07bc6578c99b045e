"""The file device beside fio on the same file: alternating runs, medians."""

import os

from figures import Figure, Skip, median, row


def compare(bench, path, pattern, depth, engines, direct):
    fio = [lambda engine=engine: bench.fio(path, pattern, depth, engine, direct=direct) for engine in engines]
    results = []

    def ours():
        results.append(bench.load(f"file:{path}", pattern, depth))
        return results[-1]["iops"]

    samples = bench.alternate(ours, *fio)
    medians = {engine: median(values) for engine, values in zip(engines, samples[1:])}
    best = max(medians, key=medians.get)
    typical = sorted(results, key=lambda result: result["iops"])[len(results) // 2]
    return Figure(
        median(samples[0]), medians[best], f"fio {best}", samples=dict(zip(("ours", *engines), samples)), latency=bench.latency(typical)
    )


def add_disk_row(pattern, depth):
    way = pattern.removeprefix("rand")

    @row(f"file_disk_{way}_qd{depth}", f"file on disk, 4 KiB random {way} QD{depth}", "IOPS", (">=", 0.95), on="ratio")
    def disk(bench):
        # Written through once: preallocated, so that neither side pays for allocation.
        with bench.file(bench.disk, 1 << 30) as path:
            return compare(bench, path, pattern, depth, ("io_uring", "libaio"), True)


for one_pattern in ("randread", "randwrite"):
    for one_depth in (32, 128):
        add_disk_row(one_pattern, one_depth)


def add_tmpfs_row(pattern):
    way = pattern.removeprefix("rand")

    @row(f"file_tmpfs_{way}_qd32", f"file on tmpfs, 4 KiB random {way} QD32", "IOPS", (">=", 1.0), on="ratio")
    def tmpfs(bench):
        if not os.path.isdir("/dev/shm"):
            raise Skip("no /dev/shm")
        with bench.file("/dev/shm", 512 << 20) as path:
            return compare(bench, path, pattern, 32, ("psync", "libaio", "io_uring"), False)


for one_pattern in ("randread", "randwrite"):
    add_tmpfs_row(one_pattern)
