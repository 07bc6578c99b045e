#!/usr/bin/env python3
"""What replicas do for each other through their daemons: checksums of snapshots, copies of them between nodes. Arguments: penstockd,
penstock-block, penstock-bench, the contract's table, and (optional) one test or PART/PARTS."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
from concurrent import futures

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc
    from rig import DEADLINE_S, Address, Contract, Failure, Node, refused, run_tests, stop, until
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

DAEMON, PLANE, BENCH, TABLE = sys.argv[1:5]
CONTRACT = Contract(TABLE)
MIB = 1 << 20
SIZE = 16 * MIB
NQN = "nqn.2023-01.io.longhorn.spdk:"
A, B = "vol-r-aaaaaaaa", "vol-r-bbbbbbbb"
WHEN = "2026-01-02T03:04:05Z"


# ---- what is on the nodes


def make_disk(node, name="d1", size=256 * MIB):
    path = node.folder / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(size)
    node.client.DiskCreate(disk_name=name, disk_path=str(path), block_size=4096)
    until(lambda: node.client.DiskGet(disk_name=name)["state"] == "ready", "the disk is ready")


def make_replica(node, name=A, size=SIZE, disk="d1", ports=5):
    answer = node.client.ReplicaCreate(name=name, lvs_name=disk, spec_size=size, port_count=ports)
    assert answer["state"] == "running", answer
    return answer


def bench(address, name, *options):
    target = f"nvme-tcp://{address}/{NQN}{name}?hostnqn={NQN}internal-host"
    done = subprocess.run([BENCH, *options, target], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, (options, done.stdout, done.stderr)


def address_of(replica):
    return f"{replica['ip']}:{replica['port_start']}"


def write(replica, first, data):
    """Clusters of the head, from this one on."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        bench(address_of(replica), replica["name"], f"--from={file.name}", f"--offset={first * MIB}", f"--length={len(data)}")


def read(address, name, size=SIZE):
    with tempfile.NamedTemporaryFile() as to:
        bench(address, name, f"--to={to.name}", f"--length={size}")
        return pathlib.Path(to.name).read_bytes()


def content(seed, clusters):
    return random.Random(seed).randbytes(clusters * MIB)


def snapshot(node, name, replica=A, user=True):
    node.client.ReplicaSnapshotCreate(name=replica, snapshot_name=name, user_created=user, snapshot_timestamp=WHEN)


def make_history(node, name=A):
    """s1 holds clusters 0 to 3, s2 clusters 2 and 9, and the head cluster 5; what each reads as."""
    replica = make_replica(node, name)
    now = bytearray(SIZE)
    states = {}
    for step, pieces in (("s1", [(0, 4)]), ("s2", [(2, 1), (9, 1)]), ("volume-head", [(5, 1)])):
        for first, count in pieces:
            data = content(f"{step} {first}", count)
            write(replica, first, data)
            now[first * MIB : (first + count) * MIB] = data
        states[step] = bytes(now)
        if step != "volume-head":
            snapshot(node, step, name)
    return replica, states


# ---- checksums


def hashed(node, name, replica=A, **more):
    node.client.ReplicaSnapshotHash(name=replica, snapshot_name=name, **more)

    def look():
        status = node.client.ReplicaSnapshotHashStatus(name=replica, snapshot_name=name)
        assert status["state"] in ("in_progress", "complete"), status
        return status["checksum"] if status["state"] == "complete" else None

    return until(look, f"{name} has a checksum")


def ranges(node, name, first=0, count=256, replica=A):
    return node.client.ReplicaSnapshotRangeHashGet(name=replica, snapshot_name=name, cluster_start_index=first, cluster_count=count)["range_hash_map"]


NOTHING = {"state": "", "checksum": "", "error": "", "silently_corrupted": False}


def test_checksums(node):
    client = node.start()
    make_disk(node)
    make_history(node)
    make_history(node, B)
    assert client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s1") == NOTHING
    assert "ReplicaSnapshotHash" in refused("UNKNOWN", client.ReplicaSnapshotRangeHashGet, name=A, snapshot_name="s1", cluster_count=1)
    sums = {name: hashed(node, name) for name in ("s1", "s2")}
    assert sums["s1"] != sums["s2"] and all(0 < int(value) < 1 << 64 for value in sums.values()), sums
    got = client.ReplicaGet(name=A)["snapshots"]
    assert {name: got[name]["snapshot_checksum"] for name in got} == sums
    assert sums == {name: hashed(node, name, B) for name in sums}, "alike"
    assert hashed(node, "s1", rehash=True) == sums["s1"] == hashed(node, "s1")
    # Clusters: those that it holds itself, and no others.
    one, two = ranges(node, "s1"), ranges(node, "s2")
    assert sorted(one) == [0, 1, 2, 3] and sorted(two) == [2, 9], (one, two)
    assert len(set(one.values()) | set(two.values())) == 6 and one[2] != two[2]
    assert ranges(node, "s1", 1, 2) == {1: one[1], 2: one[2]}
    assert ranges(node, "s1", 4, 65536) == {} == ranges(node, "s1", (1 << 64) - 1, 2)
    assert ranges(node, "s2", replica=B) == two
    # A restart forgets nothing; a merge takes the sum away.
    node.kill(signal.SIGKILL)
    node.start()
    status = {**NOTHING, "state": "complete", "checksum": sums["s2"]}
    assert client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s2") == status
    client.ReplicaSnapshotDelete(name=A, snapshot_name="s1")
    assert client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s2") == NOTHING
    assert client.ReplicaGet(name=A)["snapshots"]["s2"]["snapshot_checksum"] == ""
    until(lambda: client.ReplicaGet(name=A)["snapshots"]["s2"]["actual_size"] == 5 * MIB, "s1 is merged")
    assert hashed(node, "s2") != sums["s2"]
    merged = ranges(node, "s2")
    assert merged == {0: one[0], 1: one[1], 2: two[2], 3: one[3], 9: two[9]}, merged


def test_checksums_that_fail(node):
    client = node.start()
    make_disk(node)
    make_history(node)
    for code, method, values in (
        ("INVALID_ARGUMENT", "ReplicaSnapshotHash", {"snapshot_name": "s1"}),
        ("NOT_FOUND", "ReplicaSnapshotHash", {"name": "none", "snapshot_name": "s1"}),
        ("UNKNOWN", "ReplicaSnapshotHash", {"name": A, "snapshot_name": "none"}),
        ("UNKNOWN", "ReplicaSnapshotHash", {"name": A}),
        ("INVALID_ARGUMENT", "ReplicaSnapshotHashStatus", {}),
        ("NOT_FOUND", "ReplicaSnapshotHashStatus", {"name": "none"}),
        ("UNKNOWN", "ReplicaSnapshotHashStatus", {"name": A, "snapshot_name": "volume-head"}),
        ("INVALID_ARGUMENT", "ReplicaSnapshotRangeHashGet", {"snapshot_name": "s1", "cluster_count": 1}),
        ("INVALID_ARGUMENT", "ReplicaSnapshotRangeHashGet", {"name": A, "cluster_count": 1}),
        ("INVALID_ARGUMENT", "ReplicaSnapshotRangeHashGet", {"name": A, "snapshot_name": "s1"}),
        ("INVALID_ARGUMENT", "ReplicaSnapshotRangeHashGet", {"name": A, "snapshot_name": "s1", "cluster_count": 1 << 40}),
        ("NOT_FOUND", "ReplicaSnapshotRangeHashGet", {"name": "none", "snapshot_name": "s1", "cluster_count": 1}),
        ("UNKNOWN", "ReplicaSnapshotRangeHashGet", {"name": A, "snapshot_name": "none", "cluster_count": 1}),
    ):
        refused(code, getattr(client, method), **values)
    # The plane dies in the work: said, and done when asked again.
    pid = node.plane_pid()
    stop(pid)
    client.ReplicaSnapshotHash(name=A, snapshot_name="s1")
    assert client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s1")["state"] == "in_progress"
    os.kill(pid, signal.SIGKILL)

    def failed():
        status = client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s1")
        return status if status["state"] != "in_progress" else None

    status = until(failed, "the work has failed")
    assert status["state"] == "error" and status["error"], status

    assert hashed(node, "s1"), "the plane is waited for, and its disk"
    # What a listing shows is not denied while the plane and its disk come back.
    for _ in range(3):
        node.kill_plane()
        assert client.ReplicaSnapshotHashStatus(name=A, snapshot_name="s1")["state"] == "complete"
        assert ranges(node, "s1"), "waited for as well"


# ---- rebuilding, call by call


def other_node(node):
    other = Node(DAEMON, PLANE, CONTRACT, node.folder / f"other-{len(node.others)}")
    node.others.append(other)
    other.start()
    make_disk(other)
    return other


def lvols(replica):
    """All snapshots, parents before their children."""
    left, out = dict(replica["snapshots"]), []
    while left:
        for name in [name for name, lvol in left.items() if lvol["parent"] not in left]:
            out.append(left.pop(name))
    return [{key: lvol[key] for key in ("name", "parent", "spec_size", "user_created", "snapshot_timestamp", "snapshot_checksum")} for lvol in out]


def begin(source, target, exposed, name=B):
    """The caller's part up to the new head; the list of what is to be rebuilt."""
    src, dst = source.client.ReplicaGet(name=A), target.client.ReplicaGet(name=name)
    at = source.client.ReplicaRebuildingSrcStart(name=A, dst_replica_name=name, dst_replica_address=address_of(dst), exposed_snapshot_name=exposed)
    listed = lvols(src)
    head = target.client.ReplicaRebuildingDstStart(name=name, src_replica_name=A, src_replica_address=address_of(src), external_snapshot_name=exposed,
                                                   external_snapshot_address=at["exposed_snapshot_lvol_address"], rebuilding_snapshot_list=listed)  # fmt: skip
    assert head["dst_head_lvol_address"] == address_of(dst), head
    return listed


def copied(target, name=B):
    def look():
        status = target.client.ReplicaRebuildingDstShallowCopyCheck(name=name)
        assert status["progress"] <= 100 and status["total_progress"] <= 100 and status["src_replica_name"] == A, status
        return status if status["state"] != "in_progress" else None

    return until(look, "the copy ends")


def rebuild_one(target, lvol, fast=True, name=B):
    target.client.ReplicaRebuildingDstShallowCopyStart(name=name, snapshot_name=lvol["name"], fast_sync=fast)
    status = copied(target, name)
    assert (status["state"], status["progress"], status["error"]) == ("complete", 100, ""), status
    target.client.ReplicaRebuildingDstSnapshotCreate(name=name, snapshot_name=lvol["name"], user_created=lvol["user_created"],
                                                     snapshot_timestamp=lvol["snapshot_timestamp"])  # fmt: skip


def finish(source, target, name=B):
    target.client.ReplicaRebuildingDstFinish(name=name)
    source.client.ReplicaRebuildingSrcFinish(name=A, dst_replica_name=name)


def volumes(node):
    return sorted(lvol["name"] for lvol in node.plane_call("bdev_lvol_get_lvols")["result"])


def no_orphans(node, *names):
    """Nothing is in the plane but replicas of these names, their snapshots and exports."""
    wanted = sorted(volume for name in names for volume in
                    [name, *(f"{name}-snap-{snap}" for snap in node.client.ReplicaGet(name=name)["snapshots"])])  # fmt: skip
    until(lambda: volumes(node) == wanted, f"volumes {wanted}, not {volumes(node)}")
    nqns = lambda: sorted(s["nqn"] for s in node.plane_call("nvmf_get_subsystems")["result"] if s["subtype"] == "NVMe")  # noqa: E731
    until(lambda: nqns() == sorted(NQN + name for name in names), f"exports of {names}, not {nqns()}")
    until(lambda: node.plane_call("bdev_nvme_get_controllers")["result"] == [], "no way to others is left")


def shape(replica):
    return {name: (s["parent"], sorted(s["children"]), s["spec_size"], s["user_created"], s["snapshot_timestamp"], s["actual_size"]) for name, s in replica["snapshots"].items()}


def same(source, target, name=B):
    """Tree, contents and their places of all snapshots, and the heads."""
    one, two = source.client.ReplicaGet(name=A), target.client.ReplicaGet(name=name)
    assert two["state"] == "running", two
    assert shape(one) == shape(two), (shape(one), shape(two))
    assert one["head"]["parent"] == two["head"]["parent"], two
    for snap in one["snapshots"]:
        assert hashed(source, snap) == hashed(target, snap, name), snap
    assert read(address_of(one), A) == read(address_of(two), name), "the heads"


def both_write(source, target, first, data, name=B):
    for node, replica in ((source, A), (target, name)):
        write(node.client.ReplicaGet(name=replica), first, data)


def test_rebuild(node):
    client = node.start()
    make_disk(node)
    make_history(node)
    target = other_node(node)
    make_replica(target, B)
    snapshot(node, "rebuild-1", user=False)
    listed = begin(node, target, "rebuild-1")
    assert [lvol["name"] for lvol in listed] == ["s1", "s2", "rebuild-1"]
    status = target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)
    assert (status["state"], status["total_state"], status["total_progress"]) == ("starting", "in_progress", 0), status
    # What was there before is read from the source; what is written goes to both.
    assert read(address_of(target.client.ReplicaGet(name=B)), B) == read(address_of(client.ReplicaGet(name=A)), A)
    both_write(node, target, 7, content("while it is rebuilt", 1))
    # Begun again it is the same; for another one it is refused; what it is made from stays.
    again = {"name": A, "dst_replica_name": B, "dst_replica_address": "127.0.0.1:1", "exposed_snapshot_name": "rebuild-1"}
    assert client.ReplicaRebuildingSrcStart(**again)["exposed_snapshot_lvol_address"]
    assert B in refused("UNKNOWN", client.ReplicaRebuildingSrcStart, **{**again, "dst_replica_name": "vol-r-cccccccc"})
    assert B in refused("UNKNOWN", client.ReplicaSnapshotDelete, name=A, snapshot_name="rebuild-1")
    assert "comes first" in refused("UNKNOWN", target.client.ReplicaRebuildingDstShallowCopyStart, name=B, snapshot_name="s2")
    assert "was not copied" in refused("UNKNOWN", target.client.ReplicaRebuildingDstSnapshotCreate, name=B, snapshot_name="s1")
    for at, lvol in enumerate(listed):
        rebuild_one(target, lvol)
        assert target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)["total_progress"] == (at + 1) * 100 // 3
        target.client.ReplicaRebuildingDstSnapshotCreate(name=B, snapshot_name=lvol["name"])  # a second time: it is there
        refused("UNKNOWN", target.client.ReplicaRebuildingDstShallowCopyStart, name=B, snapshot_name=lvol["name"])
    assert target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)["total_state"] == "complete"
    both_write(node, target, 11, content("before the end", 1))
    finish(node, target)
    finish(node, target)  # as clean-up it does no harm
    no_orphans(node, A)
    no_orphans(target, B)
    same(node, target)
    target.kill()
    target.start()
    same(node, target)


def test_rebuild_what_differs(node):
    """A replica that has most of it already: what is alike stays, what differs by clusters is copied by clusters."""
    node.start()
    make_disk(node)
    make_history(node)
    target = other_node(node)
    make_history(target, B)
    # Both go on, not alike: s3 differs in clusters 3 and 12 and is alike in 6; one has a branch that the other has not.
    write(node.client.ReplicaGet(name=A), 3, content("of A", 1))
    write(target.client.ReplicaGet(name=B), 3, content("of B", 1))
    write(target.client.ReplicaGet(name=B), 12, content("of B alone", 1))
    both_write(node, target, 6, content("of both", 1))
    snapshot(node, "s3")
    snapshot(target, "s3", B)
    write(target.client.ReplicaGet(name=B), 13, content("lost", 1))
    snapshot(target, "only-b", B)
    target.client.ReplicaSnapshotRevert(name=B, snapshot_name="s1")
    snapshot(target, "branch", B)
    snapshot(node, "rebuild-2", user=False)
    sums = {name: (hashed(node, name), hashed(target, name, B)) for name in ("s1", "s2", "s3")}
    assert [one == two for one, two in sums.values()] == [True, True, False]
    uuids = {name: lvol["uuid"] for name, lvol in target.client.ReplicaGet(name=B)["snapshots"].items()}
    listed = begin(node, target, "rebuild-2")
    for lvol in listed:
        rebuild_one(target, lvol)
        if lvol["name"] == "s3":
            status = target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)
            assert status["snapshot_name"] == "s3", status
    both_write(node, target, 14, content("before the end", 1))
    finish(node, target)
    now = target.client.ReplicaGet(name=B)
    assert [now["snapshots"][name]["uuid"] == uuids[name] for name in ("s1", "s2", "s3")] == [True, True, False], "kept, kept, made anew"
    assert sorted(now["snapshots"]) == ["rebuild-2", "s1", "s2", "s3"]
    no_orphans(node, A)
    no_orphans(target, B)
    one, two = node.client.ReplicaGet(name=A), now
    assert {name: s["parent"] for name, s in one["snapshots"].items()} == {name: s["parent"] for name, s in two["snapshots"].items()}
    for snap in one["snapshots"]:
        assert read_snapshot(node, A, snap) == read_snapshot(target, B, snap), snap
    assert read(address_of(one), A) == read(address_of(two), B)


def read_snapshot(node, replica, snap):
    """By an export of the test's own."""
    name, port = f"{replica}-snap-{snap}", 40000 + random.Random(snap).randrange(1000)
    for method, params in (("nvmf_create_subsystem", {"nqn": NQN + "look", "allow_any_host": True}),
                           ("nvmf_subsystem_add_ns", {"nqn": NQN + "look", "namespace": {"bdev_name": f"d1/{name}"}}),
                           ("nvmf_subsystem_add_listener", {"nqn": NQN + "look", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": node.address,
                                                                                                   "trsvcid": str(port)}})):  # fmt: skip
        assert "result" in node.plane_call(method, **params), (method, params)
    try:
        return read(f"{node.address}:{port}", "look")
    finally:
        node.plane_call("nvmf_delete_subsystem", nqn=NQN + "look")


# ---- rebuilding that fails


def set_up(node):
    node.start()
    make_disk(node)
    make_history(node)
    snapshot(node, "rebuild-1", user=False)
    target = other_node(node)
    make_replica(target, B)
    return target


def complete(node, target, listed):
    for lvol in listed:
        rebuild_one(target, lvol)
    finish(node, target)
    no_orphans(node, A)
    no_orphans(target, B)
    same(node, target)


def failed(target, lvol):
    """The next snapshot's copy ends badly; why."""
    target.client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name=lvol["name"])
    status = copied(target)
    assert status["state"] == status["total_state"] == "error" and status["error"], status
    assert "has failed" in refused("UNKNOWN", target.client.ReplicaRebuildingDstShallowCopyStart, name=B, snapshot_name=lvol["name"])
    assert "has failed" in refused("UNKNOWN", target.client.ReplicaRebuildingDstSnapshotCreate, name=B, snapshot_name=lvol["name"])
    return status["error"]


def half(target):
    """What a rebuild that broke off leaves: no copy to rely on, and nothing else."""
    replica = until(lambda: (r := target.client.ReplicaGet(name=B))["state"] == "error" and r, "the half replica is no good one")
    assert "not finished" in replica["error_msg"], replica
    assert not [name for name in volumes(target) if "rebuilding" in name or "expired" in name], volumes(target)
    until(lambda: target.plane_call("bdev_nvme_get_controllers")["result"] == [], "no way to the source is left")
    refused("UNKNOWN", target.client.ReplicaRebuildingDstShallowCopyStart, name=B, snapshot_name="s1")
    answer = target.client.ReplicaCreate(name=B, lvs_name="d1", spec_size=SIZE)
    assert answer["state"] == "error" and "not finished" in answer["error_msg"], answer


def test_rebuild_refused(node):
    target = set_up(node)
    src, dst = node.client.ReplicaGet(name=A), target.client.ReplicaGet(name=B)
    write(dst, 1, content("of B", 1))
    good = {"name": B, "src_replica_name": A, "src_replica_address": address_of(src), "external_snapshot_name": "rebuild-1",
            "external_snapshot_address": f"{node.address}:1", "rebuilding_snapshot_list": lvols(src)}  # fmt: skip
    listed = good["rebuilding_snapshot_list"]
    for code, change in (
        ("NOT_FOUND", {"name": "none"}),
        ("INVALID_ARGUMENT", {"name": ""}),
        ("INVALID_ARGUMENT", {"src_replica_name": ""}),
        ("INVALID_ARGUMENT", {"src_replica_address": ""}),
        ("INVALID_ARGUMENT", {"src_replica_address": "nowhere"}),
        ("INVALID_ARGUMENT", {"external_snapshot_name": ""}),
        ("INVALID_ARGUMENT", {"external_snapshot_name": "s0"}),
        ("INVALID_ARGUMENT", {"external_snapshot_address": ""}),
        ("INVALID_ARGUMENT", {"external_snapshot_address": "::1:1:1"}),
        ("INVALID_ARGUMENT", {"rebuilding_snapshot_list": []}),
        ("INVALID_ARGUMENT", {"rebuilding_snapshot_list": [*listed, listed[0]]}),
        ("INVALID_ARGUMENT", {"rebuilding_snapshot_list": listed[::-1]}),
        ("INVALID_ARGUMENT", {"rebuilding_snapshot_list": [{**listed[0], "spec_size": 5}, *listed[1:]]}),
        ("UNKNOWN", {"rebuilding_snapshot_list": [{**listed[0], "spec_size": 2 * SIZE}, *listed[1:]]}),
        ("UNKNOWN", {}),  # nobody listens there
    ):
        refused(code, target.client.ReplicaRebuildingDstStart, **{**good, **change})
    # The replica is as it was.
    until(lambda: target.client.ReplicaGet(name=B)["state"] == "running", "it runs")
    no_orphans(target, B)
    assert read(address_of(dst), B) == bytes(MIB) + content("of B", 1) + bytes(SIZE - 2 * MIB)
    for code, method, values in (
        ("NOT_FOUND", "ReplicaRebuildingSrcStart", {"name": "none", "dst_replica_name": B, "dst_replica_address": "1.1.1.1:1", "exposed_snapshot_name": "s1"}),
        ("UNKNOWN", "ReplicaRebuildingSrcStart", {"name": A, "dst_replica_name": B, "dst_replica_address": "1.1.1.1:1", "exposed_snapshot_name": "s0"}),
        ("INVALID_ARGUMENT", "ReplicaRebuildingSrcStart", {"name": A, "dst_replica_name": B, "dst_replica_address": "1.1.1.1", "exposed_snapshot_name": "s1"}),
        ("INVALID_ARGUMENT", "ReplicaRebuildingSrcStart", {"name": A, "dst_replica_address": "1.1.1.1:1", "exposed_snapshot_name": "s1"}),
        ("NOT_FOUND", "ReplicaRebuildingSrcFinish", {"name": "none", "dst_replica_name": B}),
        ("INVALID_ARGUMENT", "ReplicaRebuildingSrcFinish", {"name": A}),
        ("UNKNOWN", "ReplicaRebuildingSrcShallowCopyStart", {"name": A, "snapshot_name": "s1", "dst_rebuilding_lvol_address": "1.1.1.1:1"}),
        ("INVALID_ARGUMENT", "ReplicaRebuildingSrcShallowCopyStart", {"name": A, "snapshot_name": "s1"}),
        ("INVALID_ARGUMENT", "ReplicaRebuildingSrcRangeShallowCopyStart", {"name": A, "snapshot_name": "s1", "dst_rebuilding_lvol_address": "1.1.1.1:1"}),
        ("UNKNOWN", "ReplicaRebuildingSrcShallowCopyCheck", {"name": A, "snapshot_name": "s1", "dst_replica_name": B}),
        ("NOT_FOUND", "ReplicaRebuildingDstShallowCopyCheck", {"name": "none"}),
        ("NOT_FOUND", "ReplicaRebuildingDstShallowCopyStart", {"name": "none", "snapshot_name": "s1"}),
        ("UNKNOWN", "ReplicaRebuildingDstShallowCopyStart", {"name": A, "snapshot_name": "s1"}),
        ("UNKNOWN", "ReplicaRebuildingDstSnapshotCreate", {"name": A, "snapshot_name": "s1"}),
        ("NOT_FOUND", "ReplicaRebuildingDstFinish", {"name": "none"}),
    ):
        refused(code, getattr(node.client, method), **values)
    until(lambda: node.client.ReplicaGet(name=A)["state"] == "running", "it runs")
    no_orphans(node, A)


def test_rebuild_deaths(node):
    """Of every process, between the steps; after each, the rebuild that is begun again ends well."""
    target = set_up(node)
    # The source's daemon is away, then back.
    listed = begin(node, target, "rebuild-1")
    rebuild_one(target, listed[0])
    node.kill()
    failed(target, listed[1])
    node.start()
    finish(node, target)
    half(target)
    # The destination's daemon dies with a copy made, and its snapshot not.
    target.client.ReplicaDelete(name=B)
    target.client.ReplicaDelete(name=B, cleanup_required=True)
    make_replica(target, B)
    listed = begin(node, target, "rebuild-1")
    rebuild_one(target, listed[0])
    target.client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s2")
    copied(target)
    target.kill()
    target.start()
    assert target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)["total_state"] == ""
    refused("UNKNOWN", target.client.ReplicaRebuildingDstSnapshotCreate, name=B, snapshot_name="s2")
    until(lambda: target.client.ReplicaGet(name=B)["state"] == "error", "it is no good copy")
    finish(node, target)
    # Planes die: what was done is on the disks, what was exported is again, and it goes on.
    listed = begin(node, target, "rebuild-1")
    rebuild_one(target, listed[0])
    target.kill_plane()
    rebuild_one(target, listed[1])
    node.kill_plane()
    complete(node, target, listed[2:])
    # It is deleted in the middle.
    listed = begin(node, target, "rebuild-1")
    rebuild_one(target, listed[0])
    target.client.ReplicaDelete(name=B, cleanup_required=True)
    no_orphans(target)
    make_replica(target, B)
    assert target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)["total_state"] == ""
    node.client.ReplicaRebuildingSrcFinish(name=A, dst_replica_name=B)
    complete(node, target, begin(node, target, "rebuild-1"))


class FakeSource:
    """A daemon that answers what it is told to."""

    def __init__(self):
        self.held = Address()
        self.address = f"{self.held.text}:20001"
        self.answers, self.asked = {}, []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((self,))
        assert self.server.add_insecure_port(f"{self.held.text}:8504")
        self.server.start()

    def end(self):
        assert self.server.stop(0).wait(DEADLINE_S)
        self.held.end()

    def service(self, call):
        method = call.method.rpartition("/")[2]

        def answer(request, context):
            self.asked.append((method, CONTRACT.read(CONTRACT.methods[method][0], request)))
            value = self.answers.get(method)
            if callable(value):
                value = value()
            if value == "away":
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            if value is None:
                context.abort(grpc.StatusCode.UNKNOWN, "nothing was prepared")
            return value if isinstance(value, bytes) else CONTRACT.write(CONTRACT.methods[method][1], value)

        return grpc.unary_unary_rpc_method_handler(answer)


def test_rebuild_nonsense(node):
    """The source's data is there, and what its daemon says of it is nonsense."""
    target = set_up(node)
    src, dst = node.client.ReplicaGet(name=A), target.client.ReplicaGet(name=B)
    fake = FakeSource()
    at = node.client.ReplicaRebuildingSrcStart(name=A, dst_replica_name=B, dst_replica_address=address_of(dst), exposed_snapshot_name="rebuild-1")
    good = {"name": A, "snapshots": {"s1": {"name": "s1", "spec_size": SIZE}}}
    no_sums = {"range_hash_map": {}}
    for what, answers in (
        ("no answer", {}),
        ("no message", {"ReplicaGet": b"\xff\xff"}),
        ("another size", {"ReplicaGet": {"name": A, "snapshots": {"s1": {"name": "s1", "spec_size": SIZE + MIB}}}}),
        ("no check", {"ReplicaGet": good, "ReplicaRebuildingSrcShallowCopyStart": {}}),
        ("no state", {"ReplicaGet": good, "ReplicaRebuildingSrcShallowCopyStart": {}, "ReplicaRebuildingSrcShallowCopyCheck": {"handled_clusters": 5}}),
        ("a strange state", {"ReplicaGet": good, "ReplicaRebuildingSrcShallowCopyStart": {}, "ReplicaRebuildingSrcShallowCopyCheck": {"state": "fine"}}),
        ("a failure", {"ReplicaGet": good, "ReplicaRebuildingSrcShallowCopyStart": {}, "ReplicaRebuildingSrcShallowCopyCheck": {"state": "error", "error_msg": "tired"}}),
        ("sums", {"ReplicaGet": {"name": A, "snapshots": {"s1": {"name": "s1", "spec_size": SIZE, "snapshot_checksum": "1"}}}, "ReplicaSnapshotRangeHashGet": no_sums}),
    ):  # fmt: skip
        fake.answers = answers
        target.client.ReplicaRebuildingDstStart(name=B, src_replica_name=A, src_replica_address=fake.address, external_snapshot_name="rebuild-1",
                                                external_snapshot_address=at["exposed_snapshot_lvol_address"], rebuilding_snapshot_list=lvols(src))  # fmt: skip
        why = failed(target, {"name": "s1"})
        assert what != "a failure" or why == "tired", why
        assert read(address_of(dst), B) == read(address_of(src), A), "what is exported serves all the same"
    assert {method for method, _ in fake.asked} == {"ReplicaGet", "ReplicaRebuildingSrcShallowCopyStart", "ReplicaRebuildingSrcShallowCopyCheck"}
    # A copy that says more than there is is no more than whole; a silent one is waited for.
    fake.answers = {"ReplicaGet": good, "ReplicaRebuildingSrcShallowCopyStart": {},
                    "ReplicaRebuildingSrcShallowCopyCheck": {"state": "in_progress", "handled_clusters": 1 << 63, "total_clusters": 5}}  # fmt: skip
    target.client.ReplicaRebuildingDstStart(name=B, src_replica_name=A, src_replica_address=fake.address, external_snapshot_name="rebuild-1",
                                            external_snapshot_address=at["exposed_snapshot_lvol_address"], rebuilding_snapshot_list=lvols(src))  # fmt: skip
    target.client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s1")
    until(lambda: target.client.ReplicaRebuildingDstShallowCopyCheck(name=B)["progress"] == 100, "progress is told")
    refused("UNKNOWN", target.client.ReplicaRebuildingDstStart, name=B, src_replica_name=A, src_replica_address=fake.address, external_snapshot_name="rebuild-1",
            external_snapshot_address=at["exposed_snapshot_lvol_address"], rebuilding_snapshot_list=lvols(src))  # fmt: skip
    fake.end()
    finish(node, target)
    half(target)
    target.client.ReplicaDelete(name=B, cleanup_required=True)
    make_replica(target, B)
    complete(node, target, begin(node, target, "rebuild-1"))


def by_fake(node, target, fake):
    """The beginning, and the copy of s1, from what the fake source says."""
    src, dst = node.client.ReplicaGet(name=A), target.client.ReplicaGet(name=B)
    at = node.client.ReplicaRebuildingSrcStart(name=A, dst_replica_name=B, dst_replica_address=address_of(dst), exposed_snapshot_name="rebuild-1")
    target.client.ReplicaRebuildingDstStart(name=B, src_replica_name=A, src_replica_address=fake.address, external_snapshot_name="rebuild-1",
                                            external_snapshot_address=at["exposed_snapshot_lvol_address"], rebuilding_snapshot_list=lvols(src))  # fmt: skip
    fake.asked.clear()


def asked_clusters(fake):
    """Packed, and all below 128: a byte each."""
    return [list(b"".join(values["mismatching_cluster_list"])) for method, values in fake.asked if method == "ReplicaRebuildingSrcRangeShallowCopyStart"]


def test_rebuild_by_clusters(node):
    """What the destination asks a source for: no more than differs, and with a limit piece by piece."""
    target = set_up(node)
    fake = FakeSource()
    good = {"name": "s1", "spec_size": SIZE, "snapshot_timestamp": WHEN}
    silent = iter(["away", {"state": "in_progress"}, "away", "away"])
    fake.answers = {"ReplicaRebuildingSrcRangeShallowCopyStart": {}, "ReplicaSnapshotHash": {},
                    "ReplicaRebuildingSrcShallowCopyCheck": lambda: next(silent, {"state": "complete"})}  # fmt: skip
    client = target.client
    assert "not being rebuilt" in refused("UNKNOWN", client.ReplicaRebuildingDstSetQosLimit, name=B, qos_limit_mbps=8)
    # It is to go slowly: the source has to make a checksum first, by which it tells what it holds.
    hashing = iter([{"state": "in_progress"}])
    fake.answers["ReplicaGet"] = {"name": A, "snapshots": {"s1": good}}
    fake.answers["ReplicaSnapshotHashStatus"] = lambda: next(hashing, {"state": "complete", "checksum": "7"})
    fake.answers["ReplicaSnapshotRangeHashGet"] = {"range_hash_map": {cluster: 5 for cluster in (0, 1, 2, 3, 9, 15)}}
    by_fake(node, target, fake)
    refused("INVALID_ARGUMENT", client.ReplicaRebuildingDstSetQosLimit, name=B, qos_limit_mbps=-1)
    refused("INVALID_ARGUMENT", client.ReplicaRebuildingDstSetQosLimit, qos_limit_mbps=1)
    refused("NOT_FOUND", client.ReplicaRebuildingDstSetQosLimit, name="none", qos_limit_mbps=1)
    client.ReplicaRebuildingDstSetQosLimit(name=B, qos_limit_mbps=8)
    client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s1")
    assert copied(target)["state"] == "complete"
    assert asked_clusters(fake) == [[0, 1], [2, 3], [9, 15]], fake.asked
    client.ReplicaRebuildingDstSnapshotCreate(name=B, snapshot_name="s1", snapshot_timestamp=WHEN)
    finish(node, target)
    # A source that cannot tell is copied from as a whole.
    fake.answers["ReplicaSnapshotHash"] = None
    fake.answers["ReplicaRebuildingSrcShallowCopyStart"] = {}
    by_fake(node, target, fake)
    client.ReplicaRebuildingDstSetQosLimit(name=B, qos_limit_mbps=8)
    client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s1")
    assert copied(target)["state"] == "complete"
    assert asked_clusters(fake) == [] and "limit cannot be kept" in target.log()
    finish(node, target)
    # Both have checksums: what differs, on either side.
    client.ReplicaDelete(name=B, cleanup_required=True)
    make_history(target, B)
    mine = hashed(target, "s1", B)
    sums = ranges(target, "s1", replica=B)
    assert sorted(sums) == [0, 1, 2, 3]
    its = {**sums, 1: sums[1] ^ 1, 7: 1}
    del its[2]
    fake.answers["ReplicaSnapshotRangeHashGet"] = {"range_hash_map": its}
    fake.answers["ReplicaGet"] = {"name": A, "snapshots": {"s1": {**good, "snapshot_checksum": "7"}}}
    by_fake(node, target, fake)
    client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s1", fast_sync=True)
    assert copied(target)["state"] == "complete"
    assert asked_clusters(fake) == [[1, 2, 7]], fake.asked
    finish(node, target)
    # The same checksum and time: nothing; another time: it is compared.
    for when, wanted in (("2025-01-01T00:00:00Z", [[1, 2, 7]]), (WHEN, [])):
        fake.answers["ReplicaGet"] = {"name": A, "snapshots": {"s1": {**good, "snapshot_checksum": mine, "snapshot_timestamp": when}}}
        by_fake(node, target, fake)
        assert hashed(target, "s1", B) == mine
        client.ReplicaRebuildingDstShallowCopyStart(name=B, snapshot_name="s1", fast_sync=True)
        assert copied(target)["state"] == "complete"
        assert asked_clusters(fake) == wanted, (when, fake.asked)
        finish(node, target)
    half(target)
    fake.end()


def test_source_alone(node):
    """The test plays the destination: a volume of its own, exported as a scratch volume."""
    target = set_up(node)
    port = 20500
    for method, params in (("bdev_lvol_create", {"lvol_name": f"{B}-rebuilding", "size_in_mib": SIZE // MIB, "thin_provision": True, "lvs_name": "d1"}),
                           ("nvmf_create_subsystem", {"nqn": f"{NQN}{B}-rebuilding", "allow_any_host": True}),
                           ("nvmf_subsystem_add_ns", {"nqn": f"{NQN}{B}-rebuilding", "namespace": {"bdev_name": f"d1/{B}-rebuilding"}}),
                           ("nvmf_subsystem_add_listener", {"nqn": f"{NQN}{B}-rebuilding",
                                                            "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": target.address, "trsvcid": str(port)}})):  # fmt: skip
        assert "result" in target.plane_call(method, **params), method
    client, to = node.client, f"{target.address}:{port}"
    client.ReplicaRebuildingSrcStart(name=A, dst_replica_name=B, dst_replica_address=f"{target.address}:1", exposed_snapshot_name="rebuild-1")

    def ends(snap):
        def look():
            got = client.ReplicaRebuildingSrcShallowCopyCheck(name=A, dst_replica_name=B, snapshot_name=snap)
            assert got["handled_clusters"] <= got["total_clusters"], got
            return got if got["state"] != "in_progress" else None

        return until(look, "the copy ends")

    client.ReplicaRebuildingSrcShallowCopyStart(name=A, snapshot_name="s1", dst_rebuilding_lvol_address=to)
    got = ends("s1")
    assert (got["state"], got["handled_clusters"], got["total_clusters"], got["error_msg"]) == ("complete", 4, 4, ""), got
    assert ends("s1") == got, "told again"
    one, two = read_snapshot(node, A, "s1"), read_snapshot(node, A, "s2")
    assert read(to, f"{B}-rebuilding") == one
    client.ReplicaRebuildingSrcRangeShallowCopyStart(name=A, snapshot_name="s2", dst_rebuilding_lvol_address=to, mismatching_cluster_list=[9, 15, 0])
    got = ends("s2")
    assert (got["state"], got["total_clusters"]) == ("complete", 3), got
    assert read(to, f"{B}-rebuilding") == one[: 9 * MIB] + two[9 * MIB : 10 * MIB] + one[10 * MIB :]
    client.ReplicaRebuildingSrcShallowCopyStart(name=A, snapshot_name="s2", dst_rebuilding_lvol_address=to)
    assert ends("s2")["state"] == "complete"
    assert read(to, f"{B}-rebuilding") == two
    client.ReplicaRebuildingSrcRangeShallowCopyStart(name=A, snapshot_name="s2", dst_rebuilding_lvol_address=to, mismatching_cluster_list=[1 << 63])
    got = ends("s2")
    assert got["state"] == "error" and got["error_msg"], got
    refused("UNKNOWN", client.ReplicaRebuildingSrcShallowCopyCheck, name=A, dst_replica_name=B, snapshot_name="s1")
    refused("UNKNOWN", client.ReplicaRebuildingSrcShallowCopyStart, name=A, snapshot_name="s1", dst_rebuilding_lvol_address=f"{target.address}:2")
    assert client.ReplicaGet(name=A)["state"] == "running", "a destination that is not there harms nobody"
    client.ReplicaRebuildingSrcFinish(name=A, dst_replica_name=B)
    no_orphans(node, A)


# ---- clones


def cloned(node, name=B):
    def look():
        status = node.client.ReplicaSnapshotCloneDstStatusCheck(name=name)
        return status if not status["is_cloning"] else None

    return until(look, "the clone is made")


def test_full_clone(node):
    node.start()
    make_disk(node)
    source, states = make_history(node)
    target = other_node(node)
    make_replica(target, B)
    client = target.client
    assert client.ReplicaSnapshotCloneDstStatusCheck(name=B)["state"] == ""
    wanted = {"name": B, "snapshot_name": "s2", "src_replica_name": A, "src_replica_address": address_of(source)}
    client.ReplicaSnapshotCloneDstStart(**wanted)
    status = cloned(target)
    assert (status["state"], status["progress"], status["error"], status["src_replica_name"]) == ("complete", 100, "", A), status
    replica = client.ReplicaGet(name=B)
    assert list(replica["snapshots"]) == ["s2"] and replica["head"]["parent"] == "s2" and replica["state"] == "running", replica
    assert replica["snapshots"]["s2"]["snapshot_timestamp"] == WHEN
    assert read(address_of(replica), B) == states["s2"]
    no_orphans(node, A)
    no_orphans(target, B)
    assert "holds something" in refused("UNKNOWN", client.ReplicaSnapshotCloneDstStart, **wanted)
    no_orphans(target, B)
    # It is nobody's any more: the source may go.
    node.client.ReplicaDelete(name=A, cleanup_required=True)
    write(replica, 0, content("own", 1))
    assert read(address_of(replica), B) == content("own", 1) + states["s2"][MIB:]


def test_linked_clone(node):
    client = node.start()
    make_disk(node)
    source, states = make_history(node)
    clone = make_replica(node, B)
    wanted = {"name": B, "snapshot_name": "s2", "src_replica_name": A, "src_replica_address": address_of(source), "clone_mode": 1}
    assert "same disk" in refused("UNKNOWN", client.ReplicaSnapshotCloneDstStart, **{**wanted, "snapshot_name": "none"})
    client.ReplicaSnapshotCloneDstStart(**wanted)
    assert cloned(node)["state"] == "complete"
    got, of = client.ReplicaGet(name=B), client.ReplicaGet(name=A)
    assert got["linked_clone_info"] == {"source_replica_name": A, "source_snapshot_name": "s2"} and got["snapshots"] == {}, got
    assert got["head"]["parent"] == "" and of["clone_snapshot_usage"] == {"s2": 1} and of["linked_clone_info"] is None, of
    assert read(address_of(clone), B) == states["s2"]
    # What it stands upon stays, whatever the source does.
    client.ReplicaSnapshotRevert(name=A, snapshot_name="s1")
    assert B in refused("UNKNOWN", client.ReplicaSnapshotDelete, name=A, snapshot_name="s2")
    assert B in refused("UNKNOWN", client.ReplicaDelete, name=A, cleanup_required=True)
    assert client.ReplicaGet(name=A)["state"] == "running"
    write(clone, 2, content("own", 1))
    now = states["s2"][: 2 * MIB] + content("own", 1) + states["s2"][3 * MIB :]
    assert read(address_of(clone), B) == now
    client.ReplicaDelete(name=B, cleanup_required=True)
    client.ReplicaDelete(name=A, cleanup_required=True)
    assert volumes(node) == []


if __name__ == "__main__":
    run_tests(globals(), "penstock-copies-", DAEMON, PLANE, CONTRACT, sys.argv[5] if len(sys.argv) > 5 else None)
