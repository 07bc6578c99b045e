"""What many volumes, hosts and mapped clusters cost when nothing happens, and how much memory they take."""

import contextlib
import os
import shutil
import subprocess
import time

from figures import Figure, Skip, row

HOSTS = 8
VOLUMES = 1000
NQN = "nqn.2026-11.io.penstock:bench-"


@row("idle_1000", f"processor when idle: {VOLUMES} volumes, {HOSTS} connected hosts", "%", ("<=", 0.5))
def idle(bench):
    """The hosts are nodes of their own, with our initiator and its keep-alive; every volume is a namespace of one of them."""
    seconds = 5 if bench.quick else 30
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(bench.file(bench.disk, 20 << 30, written=False))
        node = stack.enter_context(bench.node())
        node.store(path)
        address = node.listen([NQN + str(i) for i in range(HOSTS)])
        for i in range(VOLUMES):
            node.call("bdev_lvol_create", lvs_name="store", lvol_name=f"v{i}", size_in_mib=1024, thin_provision=True)
            node.call("nvmf_subsystem_add_ns", nqn=NQN + str(i % HOSTS), namespace={"bdev_name": f"store/v{i}"})
        hosts = []
        for i in range(HOSTS):
            host = stack.enter_context(bench.node())
            host.call("bdev_nvme_set_options", keep_alive_timeout_ms=10000)
            names = host.call("bdev_nvme_attach_controller", name="n", subnqn=NQN + str(i), **address)
            if len(names) != VOLUMES // HOSTS:
                raise RuntimeError(f"a host sees {len(names)} volumes")
            hosts.append(host)
        time.sleep(3)
        everyone = [node, *hosts]
        before, begin = [one.cpu_ns() for one in everyone], time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - begin
        used = [(one.cpu_ns() - was) / 1e7 / elapsed for one, was in zip(everyone, before)]
        connected = sum(len(node.call("nvmf_subsystem_get_controllers", nqn=NQN + str(i))) for i in range(HOSTS))
        if connected != HOSTS:
            raise RuntimeError(f"{connected} hosts are connected")
        note = f"a host {sum(used[1:]) / HOSTS:.2f} %; resident {node.resident_bytes() / 1e6:.0f} MB"
        return Figure(used[0], samples={"target_percent": [used[0]], "host_percent": used[1:]}, note=note)


@contextlib.contextmanager
def huge_file(bench, size, needed):
    """A sparse file of `size` bytes with room for `needed`: on disk, or in memory where the disk's file system has no such files."""
    for folder in (bench.disk, "/dev/shm"):
        if not os.path.isdir(folder) or shutil.disk_usage(folder).free < needed:
            continue
        try:
            with bench.file(folder, size, written=False) as path:
                yield path
                return
        except OSError:
            continue
    raise Skip(f"no place for a sparse file of {size >> 40} TiB with {needed >> 30} GiB in it")


@row("resident_64t", "resident memory: 64 TiB mapped, 10,000 volumes, random reads: over the cache's limit", "MB", ("<=", 128))
def resident(bench):
    """Half of it is in 8 volumes, so that the reads go far beyond the cache."""
    cache = 256 << 20
    with huge_file(bench, 65 << 40, 10 << 30) as path:
        image = bench.call_json(bench.program("store"), path, "image", "10000", "100", "10", "8", "64T", "1", timeout=400)
        checked = time.monotonic()
        bench.fsck(path)
        checked = time.monotonic() - checked
        with bench.node() as node:
            empty, begin = node.resident_bytes(), time.monotonic()
            node.call("bdev_aio_create", name="disk", filename=path, block_size=4096)
            node.call("bdev_wait_for_examine")
            opened, at_rest = time.monotonic() - begin, node.resident_bytes()
            address = node.listen([NQN + "large"])
            for volume in range(10000 - 7, 10001):
                node.call("nvmf_subsystem_add_ns", nqn=NQN + "large", namespace={"bdev_name": f"bench/v{volume}"})
            target = f"nvme-tcp://127.0.0.1:{address['trsvcid']}/{NQN}large?nsid="
            seconds = 1 if bench.quick else 4
            reads = [bench.load(target + str(nsid), "randread", 32, seconds=seconds) for nsid in range(1, 9)]
            peak = node.peak_bytes()
        note = f"{image['volumes']} volumes, {image['mapped_clusters'] >> 14} GiB mapped; opened in {opened * 1e3:.0f} ms; fsck clean in {checked:.0f} s"
        samples = {"image": image, "empty": empty, "at_rest": at_rest, "peak": peak, "cache": cache, "open_s": opened, "reads": [one["iops"] for one in reads]}
        return Figure((peak - cache) / 1e6, samples=samples, note=note, latency=bench.latency(reads[-1]))
