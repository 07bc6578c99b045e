"""The mirror: what the engine costs over its legs, what marks cost, outages, rebuilds, verify, and the longest stalls."""

import contextlib
import os
import re
import subprocess
import sys

from figures import ROOT, Figure, Skip, free_port, median, row

NQN = "nqn.2026-01.penstock:leg#"


def mirror(bench, *words, timeout=150):
    return bench.call_json(bench.program("mirror"), *map(str, words), timeout=timeout)


def export(node, nqn, device, port=None):
    """Serves a device in a subsystem of its own; returns the address."""
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port or free_port()}
    with contextlib.suppress(RuntimeError):
        node.call("nvmf_create_transport", trtype="TCP")  # there may be one
    node.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    node.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": device})
    node.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=address)
    return address


# ---- over memory ----


def over_memory(bench, pattern, depth):
    """A mirror of two RAM disks and one RAM disk in turn, each written through before."""

    def once(device):
        return lambda: bench.load(device, pattern, depth, "--fill", seconds=1)["iops"]

    return bench.once(f"mirror {pattern} {depth}", lambda: bench.alternate(once("mirror:1G"), once("memory:1G")))


def add_memory_rows(pattern, what, least, share):
    for depth in (1, 128):

        @row(f"mirror_memory_{what}_qd{depth}", f"mirror of two memory devices, 4K {what} QD{depth}", "IOPS", least, drift="memcpy")
        def rate(bench, depth=depth):
            ours, one = over_memory(bench, pattern, depth)
            return Figure(median(ours), samples={"mirror": ours, "one": one})

        @row(f"mirror_memory_{what}_share_qd{depth}", f"the same ÷ one memory device, 4K {what} QD{depth}", "IOPS", (">=", share), on="ratio")
        def share_of_one(bench, depth=depth):
            ours, one = over_memory(bench, pattern, depth)
            return Figure(median(ours), median(one), "one memory device", samples={"mirror": ours, "one": one})


add_memory_rows("randwrite", "write", (">=", 640000), 0.47)
add_memory_rows("randread", "read", None, 0.9)


def volumes(bench, depth):
    measured, samples = bench.best(
        lambda: mirror(bench, "load", 2, "volume:512M@memory:700M", "randwrite", depth, 2, "256M", 0)["load"]["iops"], times=3
    )
    return Figure(measured, samples={"iops": samples})


@row("mirror_volumes_write_qd1", "mirror of two volumes on memory, 4K write QD1", "IOPS", (">=", 560000), drift="memcpy")
def volumes_qd1(bench):
    return volumes(bench, 1)


@row("mirror_volumes_write_qd128", "mirror of two volumes on memory, 4K write QD128", "IOPS", (">=", 560000), drift="memcpy")
def volumes_qd128(bench):
    return volumes(bench, 128)


# ---- over a network ----


@contextlib.contextmanager
def target(bench):
    """One process that serves three memory namespaces, each in a subsystem of its own; yields what a leg of it is called."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Skip("two cores are needed")
    with bench.node("-m", hex(1 << cores[0])) as node:
        port = free_port()
        for leg in range(3):
            node.call("bdev_malloc_create", name=f"leg{leg}", num_blocks=1 << 14, block_size=4096)
            export(node, NQN.replace("#", str(leg)), f"leg{leg}", port)
        yield f"nvme:{port}:{NQN}"


@row("mirror_nvme_tcp_three", "three legs over NVMe/TCP ÷ one, QD1 4K write, relative to the same of a bare exchange", "", ("<=", 1.1), on="ratio")
def nvme_tcp_three(bench):
    with target(bench) as leg:

        def ours(legs):
            return lambda: mirror(bench, "load", legs, leg, "randwrite", 1, 1, "32M", 0)["load"]["avg_us"]

        def bare(legs):
            return lambda: bench.call_json(bench.program("bare"), "fan", "1", str(legs))["us"]

        three, one, bare_three, bare_one = bench.alternate(ours(3), ours(1), bare(3), bare(1))
    note = f"{median(one):.1f} → {median(three):.1f} µs; bare {median(bare_one):.1f} → {median(bare_three):.1f} µs"
    samples = {"three": three, "one": one, "bare_three": bare_three, "bare_one": bare_one}
    return Figure(median(three) / median(one), median(bare_three) / median(bare_one), "a bare exchange", samples=samples, note=note)


@row("mirror_delayed_three", "three legs delayed by 100 µs ÷ one, QD1 4K write", "µs", ("<=", 1.15), on="ratio")
def delayed_three(bench):
    def ours(legs):
        return lambda: mirror(bench, "load", legs, "delay:100:memory:64M", "randwrite", 1, 1, "32M", 0)["load"]["avg_us"]

    three, one = bench.alternate(ours(3), ours(1))
    return Figure(median(three), median(one), "one leg", samples={"three": three, "one": one})


# ---- marks ----


@contextlib.contextmanager
def disk_files(bench, count, room):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(bench.file(bench.disk, room, written=False)) for _ in range(count)]


def marks_share(bench, legs, spec, size, bound):
    """Slices of a second in turn, in one process: the disk of a shared machine changes from minute to minute."""
    got = mirror(bench, "marks", legs, spec, 32, 1, size, bound, 2 if bench.quick else 20, timeout=400)
    ours, without = ([one["load"]["iops"] for one in got[name]] for name in ("bounded", "marked"))
    cpu = [median([one["load"]["cpu_us"] for one in got[name]]) for name in ("bounded", "marked")]
    note = f"at most {got['marked_most']} regions of 1 MiB of {size} were marked; {cpu[0]:.1f} µs of the engine's process a write beside {cpu[1]:.1f}"
    return Figure(median(ours), median(without), "all marked throughout", samples=got, note=note)


def marks_size(bench):
    return ("1G", 2 << 30, 128) if bench.quick else ("8G", 10 << 30, 1024)


@row("mirror_marks", "write-intent cost: 4K random write QD32 over 8 GiB on disk, ÷ with all marked before", "IOPS", (">=", 0.95), on="ratio")
def marks_cost(bench):
    """A region that is marked costs nothing more: where all are from the beginning on, no mark is ever written, or cleared."""
    size, room, _ = marks_size(bench)
    with disk_files(bench, 2, room) as files:
        return marks_share(bench, 1, "|".join(f"volume:{size}@file:{path}" for path in files), size, 0)


@row("mirror_marks_bound", "the same, never more than 1 GiB marked, two legs, one in another process", "IOPS", (">=", 0.95), on="ratio")
def marks_bound(bench):
    size, room, bound = marks_size(bench)
    with disk_files(bench, 4, room) as files, bench.node() as node:
        legs = []
        for i, (near, far) in enumerate(zip(files[:2], files[2:])):
            nqn = NQN.replace("#", str(i))
            node.call("bdev_aio_create", name=f"d{i}", filename=far, block_size=4096)
            node.call("bdev_lvol_create_lvstore", bdev_name=f"d{i}", lvs_name=f"s{i}")
            node.call("bdev_lvol_create", lvs_name=f"s{i}", lvol_name="leg", size_in_mib=int(size[:-1]) << 10, thin_provision=True)
            port = export(node, nqn, f"s{i}/leg")["trsvcid"]
            legs += [f"volume:{size}@file:{near}", f"nvme:{port}:{nqn}"]
        return marks_share(bench, 2, "|".join(legs), size, bound)


# ---- outages, rebuild, verify ----


def outage(bench, written, how):
    return mirror(bench, "outage", "error:volume:100G@memory:2600M" if written == "1G" else "error:volume:100G@memory:800M", written, how)


@row("mirror_outage_sequential", "leg away while 1 GiB of 100 GiB is written in order: bytes copied ÷ written", "", ("<=", 1.5))
def outage_sequential(bench):
    got = outage(bench, "1G", "seq")
    return Figure(got["ratio"], samples=got)


@row("mirror_outage_random", "the same, 32 MiB in random 4 KiB blocks", "")
def outage_random(bench):
    got = outage(bench, "32M", "random")
    return Figure(got["ratio"], samples=got)


@row("mirror_return_empty", "return after an outage with nothing written: from when the leg answers until whole", "ms", ("<=", 200), drift="polled")
def return_empty(bench):
    best, samples = bench.best(lambda: outage(bench, "64M", "nothing")["back_ms"], min, 3)
    return Figure(best, samples={"ms": samples})


@row("mirror_rebuild", "rebuild ÷ raw copy between the same devices, two volumes on memory, idle", "MiB/s", (">=", 0.9), on="ratio")
def rebuild(bench):
    got = [mirror(bench, "rebuild", "volume:1G@memory:1200M", "1G", 0) for _ in range(7)]
    ours, raw = median([one["rebuild_s"] for one in got]), median([one["raw_s"] for one in got])
    return Figure(1024 / ours, 1024 / raw, "a raw copy", samples={"runs": got})


@row("mirror_rebuild_kept", "what a load (4K, half reads, QD32) keeps during a rebuild, two volumes on memory", "IOPS", (">=", 0.7), on="ratio")
def rebuild_kept(bench):
    got = [mirror(bench, "rebuild", "volume:1G@memory:1200M", "1G", 150) for _ in range(3)]
    during, after = median([one["during"]["iops"] for one in got]), median([one["after"]["iops"] for one in got])
    note = f"rebuilt at {median([one['under_load_mib_per_s'] for one in got]):.0f} MiB/s meanwhile"
    return Figure(during, after, "afterwards", samples={"runs": got}, note=note)


@row("mirror_verify", "verify of two volumes on memory, CPU of all sides counted", "GiB/s", (">=", 2), drift="memcpy")
def verify(bench):
    best, samples = bench.best(lambda: mirror(bench, "verify", 2, "volume:1G@memory:1200M", "1G")["gib_per_cpu_second"], times=3)
    return Figure(best, samples={"gib_per_cpu_second": samples})


# ---- three real nodes ----


def stall(bench, case, times=3):
    """The longest time without an answer that a verified load sees: a case of the nodes' tests, as often as that."""
    test = ROOT / "tests" / "mirror_net" / "test_mirror_net.py"
    stalls, notes = [], []
    for _ in range(1 if bench.quick else times):
        done = subprocess.run([sys.executable, str(test), str(bench.build), case], capture_output=True, text=True, timeout=120, check=False)
        if "skipped" in done.stdout:
            raise Skip(done.stdout.strip().splitlines()[-1])
        found = re.search(r"longest stall (\d+) ms", done.stdout)
        if done.returncode != 0 or found is None:
            raise RuntimeError(f"{case}: {done.stdout[-2000:]}{done.stderr[-500:]}")
        stalls.append(int(found.group(1)))
        notes.append(re.search(r"\(the engine's[^)]*\)", done.stdout))
    worst = notes[stalls.index(max(stalls))]
    return Figure(max(stalls), samples={"ms": stalls}, note=worst.group(0)[1:-1] if worst else "")


@row("mirror_stall_killed", "longest stall of three nodes: a leg's process killed", "ms", ("<=", 99))
def stall_killed(bench):
    return stall(bench, "a_leg_is_killed")


@row("mirror_stall_hung", "the same: a leg hung (SIGSTOP)", "ms", ("<=", 999))
def stall_hung(bench):
    return stall(bench, "a_leg_hangs")


@row("mirror_stall_silent", "the same: all that goes to a leg silently dropped", "ms", ("<=", 999))
def stall_silent(bench):
    return stall(bench, "all_to_a_leg_is_dropped")


@row("mirror_three_planes_qd1", "three planes of memory, engine's plane and client on two cores: 4K write QD1, p50", "µs", ("<=", 500), drift="polled")
def three_planes(bench):
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(bench.node("-m", "1")) for _ in range(3)]
        engine = stack.enter_context(bench.node("-m", "1"))
        for leg, node in enumerate(replicas):
            node.call("bdev_malloc_create", name="disk", num_blocks=1 << 16, block_size=4096)
            node.call("bdev_lvol_create_lvstore", bdev_name="disk", lvs_name="store")
            node.call("bdev_lvol_create", lvs_name="store", lvol_name="leg", size_in_mib=128, thin_provision=True)
            address = export(node, NQN.replace("#", str(leg)), "store/leg")
            engine.call("bdev_nvme_attach_controller", name=f"leg{leg}", subnqn=NQN.replace("#", str(leg)), **address)
        engine.call("mirror_create", name="m", legs=[f"leg{leg}n1" for leg in range(3)])
        address = export(engine, NQN.replace("#", "m"), "m")
        url = f"nvme-tcp://127.0.0.1:{address['trsvcid']}/{NQN.replace('#', 'm')}"
        bench.load(url, "randwrite", 1, "--fill", seconds=1)
        results = [bench.load(url, "randwrite", 1) for _ in range(bench.times)]
    best = min(results, key=lambda result: result["latency_us"]["p50"])
    return Figure(best["latency_us"]["p50"], samples={"p50_us": [one["latency_us"]["p50"] for one in results]}, latency=bench.latency(best))
