"""The volume store: creations, snapshots, first writes, chains, space, trim, group commit, recovery, and what it costs in memory."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time

from figures import Figure, median, row


def latency(measured):
    """What bench/store/bench.c prints of a load, as Figure wants it."""
    return {key: measured[key] for key in ("p50_us", "p99_us", "p99_9_us", "cpu_us")}


def store(bench, disk, *words, timeout=400):
    return bench.call_json(bench.program("store"), disk, *map(str, words), timeout=timeout)


@contextlib.contextmanager
def disk_file(bench, size):
    with bench.file(bench.disk, size, written=False) as path:
        yield path


@row("volume_memory_read_qd1", "volume over memory, 4 KiB random read QD1", "µs", ("<=", 0.7), drift="memcpy")
def memory_read(bench):
    return over_memory(bench, "randread")


@row("volume_memory_write_qd1", "volume over memory, 4 KiB random write QD1", "µs", ("<=", 0.9), drift="memcpy")
def memory_write(bench):
    return over_memory(bench, "randwrite")


def over_memory(bench, pattern):
    """Every block is there: what is measured is the store, not the taking of space."""
    results = [bench.load("volume:memory:1G", pattern, 1, "--fill", "--length", "512M") for _ in range(bench.times)]
    best = min(results, key=lambda result: result["latency_us"]["avg"])
    return Figure(1e6 / best["iops"], samples={"us": [1e6 / result["iops"] for result in results]}, latency=bench.latency(best))


@row("create_1000", "1000 volume creations one by one, each durable", "s", ("<=", 2), drift="polled")
def create_1000(bench):
    def once():
        with disk_file(bench, 20 << 30) as path, bench.node() as node:
            node.store(path)
            begin = time.monotonic()
            for i in range(1000):
                node.call("bdev_lvol_create", lvs_name="store", lvol_name=f"v{i}", size_in_mib=1024, thin_provision=True)
            return time.monotonic() - begin

    best, samples = bench.best(once, min, 1 if bench.quick else 3)
    return Figure(best, samples={"s": samples})


# ---- snapshots ----


def snapshots(bench):
    """One figure is a longest time: in one run of three it is that of a core taken away by the machine's host."""

    def run():
        runs = [store(bench, "sparse:600G", "snapshot") for _ in range(1 if bench.quick else 3)]
        best = {key: min(got[key] for got in runs) for key in ("p50_ms", "p50_at_rest_ms", "p99_ms", "longest_hold_ms", "longest_gap_ms")}
        return best | {"runs": runs}

    return bench.once("snapshot", run)


@row("snapshot_p50", "100 snapshots, 1 M clusters, 32 writes in flight: p50", "ms", ("<=", 2), drift="memcpy")
def snapshot_p50(bench):
    got = snapshots(bench)
    return Figure(got["p50_ms"], samples=got, note=f"p99 {got['p99_ms']:.2f} ms; at rest {got['p50_at_rest_ms']:.2f} ms")


@row("snapshot_hold", "the same: longest hold of the volume's queue", "ms", ("<=", 0.1), drift="memcpy")
def snapshot_hold(bench):
    got = snapshots(bench)
    note = f"longest gap between two completions, whatever its cause: {got['longest_gap_ms']:.2f} ms"
    return Figure(got["longest_hold_ms"], samples=got, note=note)


def after_snapshot(bench, written):
    def run():
        size, room = ("2G", 12 << 30) if bench.quick else ("16G", 40 << 30)
        with bench.file(bench.disk, room, written=written) as path:
            return store(bench, path, "after", size)

    return bench.once(f"after {written}", run)


def add_after_row(name, what):
    """On a file that is all there, as a disk is: before and after differ in what the store does, not in what the file system has to."""

    @row(f"after_snapshot_{name}", f"random writes after a snapshot ÷ before, 16 GiB on disk, {what}", "IOPS", (">=", 0.5), on="ratio")
    def after(bench):
        got = after_snapshot(bench, True)
        now = got[f"after_{name}"]
        return Figure(now["iops"], got[f"before_{name}"]["iops"], "before", samples=got, latency=latency(now))


for one_name, one_what in (("qd1", "QD1"), ("qd32", "QD32"), ("qd1_flush32", "QD1, flush every 32"), ("qd32_flush32", "QD32, flush every 32")):
    add_after_row(one_name, one_what)


@row("after_snapshot_sparse", "the same in a sparse file, which grows with it: QD32, flush every 32", "IOPS")
def after_in_a_sparse_file(bench):
    got = after_snapshot(bench, False)
    now = got["after_qd32_flush32"]
    others = ", ".join(f"{got[f'ratio_{name}']:.2f} {what}" for name, what in (("qd1", "QD1"), ("qd32", "QD32"), ("qd1_flush32", "QD1, flush every 32")))
    return Figure(now["iops"], got["before_qd32_flush32"]["iops"], "before", samples=got, latency=latency(now), note=others)


@row("space_after_snapshot", "space taken ÷ written: 1 GiB of random 4 KiB after a snapshot of 64 GiB", "×")
def space(bench):
    got = store(bench, "sparse:200G", "space", "64G", "1G")
    others = ", ".join(f"{got[f'counted_{size}k']:.1f} at {size} KiB" for size in (32, 64, 256, 1024))
    return Figure(got["ratio"], samples=got, note=f"clusters of {got['cluster'] >> 10} KiB; clusters touched by the same writes: {others}")


# ---- long runs ----


def flood_row(name, what, disk, checkpoint):
    """The worst second is the machine's, not the store's, when its disk or core was away in it; so a run that misses is repeated, twice at
    most, and all runs are kept beside the best."""

    @row(f"first_writes_{name}", f"60 s of first writes {what}: worst second ÷ median second", "IOPS", (">=", 0.5), on="ratio")
    def flood(bench):
        runs = []
        while len(runs) < (1 if bench.quick else 3) and not any(got["ratio"] >= 0.5 for got in runs):
            with disk(bench) as path:
                runs.append(store(bench, path, "flood", 5 if bench.quick else 60, checkpoint))
        got = max(runs, key=lambda got: got["ratio"])
        note = f"{got['checkpoints']} checkpoints, one after {checkpoint[:-1]} MiB of journal; runs: {', '.join(str(each['ratio']) for each in runs)}"
        return Figure(got["worst_second"], got["median_second"], "the median second", samples={"runs": runs}, note=note)


# On disk, at the usual 16 MiB, a minute sees two checkpoints: the figure is about them.
flood_row("disk", "on disk", lambda bench: disk_file(bench, 200 << 30), "4M")
flood_row("memory", "in memory", lambda bench: contextlib.nullcontext("sparse:2T"), "16M")


# ---- chains ----


def chain(bench, where):
    """On disk is what users have; over memory the store itself is most of the cost, and where the data happens to lie (spread data: one
    page here, one there) costs as much as finding it."""

    def run():
        if where == "memory":
            return store(bench, "memory:16G", "chain", "64", "512M", "1", "1" if bench.quick else "5")
        with disk_file(bench, 40 << 30) as path:
            return store(bench, path, "chain", "64", "512M", "1", "1" if bench.quick else "3")

    return bench.once(f"chain {where}", run)


def scattered(bench):
    """What lies in a cluster for each block is in other pages and other rows of the memory: so much is lost without any store."""

    def run():
        each = lambda apart: lambda: bench.call_json(bench.program("bare"), "scattered", "2", str(apart))["ns"]
        together, apart = bench.alternate(each(4), each(64))
        return median(together) / median(apart)

    return bench.once("scattered", run)


def add_chain_row(where, kind, what, depth):
    @row(f"chain_64_{where}_{kind}_qd{depth}", f"random read, chain of 64 ÷ 1, warm, {where}, {what}, QD{depth}", "IOPS", (">=", 0.9), on="ratio")
    def warm(bench):
        got, note = chain(bench, where), ""
        ours = got[f"qd{depth}_{kind}"]
        if (where, kind) == ("memory", "spread"):
            note = f"a bare copy out of the same places ÷ side by side: {scattered(bench):.2f}"
        return Figure(ours["iops"], got[f"qd{depth}_one"]["iops"], "no chain", samples=got, latency=latency(ours), note=note)


def add_cold_row(kind, what):
    @row(f"chain_64_cold_{kind}", f"the same, cold: the first 1024 reads after the opening, disk, {what}, QD32", "IOPS")
    def cold(bench):
        got = chain(bench, "disk")
        ours = got[f"cold_{kind}"]
        return Figure(ours["iops"], got["cold_one"]["iops"], "no chain", samples=got, latency=latency(ours))


KINDS = (("bottom", "data in the oldest layer"), ("spread", "data spread over all layers"))
for one_where in ("disk", "memory"):
    for one_kind, one_what in KINDS:
        for one_depth in (1, 32):
            add_chain_row(one_where, one_kind, one_what, one_depth)
for one_kind, one_what in KINDS:
    add_cold_row(one_kind, one_what)


# ---- trim, flush ----


@row("trim_under_load", "whole-volume trim (16 GiB mapped) under load, on disk: foreground kept", "IOPS", (">=", 0.7), on="ratio")
def trim(bench):
    with disk_file(bench, 40 << 30) as path:
        got = store(bench, path, "trim", "1G", "2G" if bench.quick else "16G")
    note = f"answered after {got['answered_ms']:.0f} ms, space back after {got['space_back_ms']:.0f} ms, worst tenth {got['worst_tenth']:.2f}"
    return Figure(got["during_iops"], got["before_iops"], "before", samples=got, latency=latency(got["foreground"]), note=note)


def flush(bench):
    """32 writers with a flush after each write, on a file that is all there, in turn with as many threads of pwrite + fdatasync."""

    def run():
        with bench.file(bench.disk, 1 << 30) as ours, bench.file(bench.disk, 1 << 30) as theirs:
            bare = [bench.program("bare"), "sync", "2", theirs, "32"]
            samples = bench.alternate(lambda: store(bench, ours, "flush"), lambda: bench.call_json(*bare)["per_second"])
        return {"ours": samples[0], "bare": samples[1]}

    return bench.once("flush", run)


def add_flush_rows(what, name, ratio, grouped):
    @row(f"flush_32_{what}", f"32 writers, write + flush, {name} ÷ 32 threads of pwrite + fdatasync", "/s", (">=", ratio), on="ratio")
    def rate(bench):
        got = flush(bench)
        return Figure(median([one[what]["per_second"] for one in got["ours"]]), median(got["bare"]), "32 threads", samples=got)

    @row(f"flush_grouping_{what}", f"the same, {name}: commits per fdatasync", "", (">=", grouped))
    def grouping(bench):
        return Figure(median([one[what]["flushes_per_fdatasync"] for one in flush(bench)["ours"]]))


add_flush_rows("overwrites", "overwrites", 1.0, 12)
add_flush_rows("first_writes", "first writes", 0.5, 6)


# ---- recovery ----


def most_patient_round_trip(node, until):
    """The longest round trip on a connection of its own, asked again and again until `until` is set; milliseconds."""
    worst = 0
    while not until.is_set():
        begin = time.monotonic()
        node.call("framework_get_reactors")
        worst = max(worst, time.monotonic() - begin)
        time.sleep(0.0005)
    return worst * 1e3


def rpc_while_opening(bench, path):
    with bench.node() as node:
        other, opened, worst = node.again(), threading.Event(), []
        asking = threading.Thread(target=lambda: worst.append(most_patient_round_trip(other, opened)))
        asking.start()
        node.call("bdev_aio_create", name="disk", filename=path, block_size=4096)
        node.call("bdev_wait_for_examine")
        opened.set()
        asking.join()
        volumes = sum(device["product_name"] == "Logical Volume" for device in node.call("bdev_get_bdevs"))
        return worst[0], volumes


@row("open_after_kill", "open after kill -9: 600 GiB, 1100 volumes, 100 chains, 2 M clusters: all read", "ms", ("<=", 300), drift="memcpy")
def open_after_kill(bench):
    # In memory: on a disk that discards, deleting a file of millions of extents takes ten minutes.
    room = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 12 << 30
    with bench.file("/dev/shm" if room else bench.disk, 600 << 30, written=False) as path:
        image = store(bench, path, "image", 1100, 100, 10, 0, "140G", 4)
        done = subprocess.run([bench.program("store"), path, "fill"], capture_output=True, text=True, timeout=400, check=False)
        if done.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the load did not end by being killed: {done.stderr}")
        filled = json.loads(done.stdout)
        bench.fsck(path)
        opened = [store(bench, path, "reopen") for _ in range(bench.times)]
        worst, volumes = rpc_while_opening(bench, path)
    if volumes != image["volumes"]:
        raise RuntimeError(f"{volumes} volumes came back")
    best = min(opened, key=lambda one: one["all_read_ms"])
    note = f"{'in memory' if room else 'on disk'}; journal {filled['journal_used'] >> 20} of {filled['journal'] >> 20} MiB, JSON-RPC meanwhile ≤ {worst:.1f} ms"
    return Figure(best["all_read_ms"], samples={"image": image, "fill": filled, "reopen": opened, "rpc_worst_ms": [worst]}, note=note)
