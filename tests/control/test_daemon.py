#!/usr/bin/env python3
"""penstockd with its plane, through a foreign gRPC client: every call that is served, each of a list of errors, and the deaths of
either process before, during and after calls. Arguments: penstockd, penstock-block, the contract's table, and (optional) one test's
name or the K-th of N parts, as K/N."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import DEADLINE_S, SERVICE, Contract, Failure, end_process, open_files, refused, run_tests, stop, until

DAEMON, PLANE, TABLE = sys.argv[1:4]
CONTRACT = Contract(TABLE)
MIB = 1 << 20
REPLICA = "vol-r-0a1B2c3D"
STAMP = "2026-11-21T12:00:00Z"


def disk_file(node, name="disk", size=512 * MIB):
    path = node.folder / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(size)
    return str(path)


def make_disk(node, name="d1", path=None, **more):
    client = node.client
    path = path or disk_file(node, name)
    answer = client.DiskCreate(disk_name=name, disk_path=path, block_size=4096, **more)
    assert answer["state"] in ("creating", "ready"), answer
    return settled_disk(client, name)


def settled_disk(client, name):
    def look():
        disk = client.DiskGet(disk_name=name)
        return disk if disk["state"] != "creating" else None

    return until(look, f"disk {name} is opened")


def make_replica(node, name=REPLICA, size=64 * MIB, disk="d1", ports=5):
    replica = node.client.ReplicaCreate(name=name, lvs_name=disk, spec_size=size, port_count=ports)
    assert replica["state"] == "running", replica
    return replica


def tree(replica):
    """{snapshot: (parent, children)} with the head."""
    found = {name: (lvol["parent"], tuple(sorted(lvol["children"]))) for name, lvol in replica["snapshots"].items()}
    found["head"] = (replica["head"]["parent"], tuple(sorted(replica["head"]["children"])))
    return found


def listens(address, port):
    import socket

    with socket.socket() as probe:
        probe.settimeout(DEADLINE_S)
        return probe.connect_ex((address, port)) == 0


# ---- the process ----


def test_options(node):
    run = lambda *options: subprocess.run([DAEMON, *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    done = run("--help")
    assert done.returncode == 0 and "--node-address" in done.stdout and not done.stderr
    assert run("--version").stdout.startswith("penstockd ")
    folder = str(node.folder / "s")
    for wrong in ([], ["--state-dir"], ["--state-dir", folder, "x"], ["--state-dir", folder, "--port", "65536"],
                  ["--state-dir", folder, "--node-name", "a b"], ["--state-dir", folder, "--no-such"], ["--state-dir", "/tmp/" + "x" * 200],
                  ["--state-dir", folder.ljust(82, "x"), "--packet-processes", folder]):  # fmt: skip
        done = run(*wrong)
        assert done.returncode in (64, 73) and done.stderr, wrong
    assert run("--state-dir", "/proc/none/of/it").returncode == 73
    assert run("--state-dir", folder, "--node-address", "not.an.address").returncode != 0


def test_one_supervisor(node):
    client = node.start()
    client.VersionDetailGet()
    second = subprocess.run(node.command(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode != 0 and "another penstockd" in second.stderr, second
    assert client.VersionDetailGet()["version"]["version"], "the first one goes on"
    assert node.plane_pid() is None, "nobody needed a plane"
    assert node.kill(signal.SIGTERM) == 0


def test_log(node):
    client = node.start()
    client.LogSetLevel(level="debug")
    assert client.LogGetLevel() == {"level": "DEBUG"}
    assert node.plane_call("log_get_print_level")["result"] == "DEBUG"
    client.LogSetFlags(flags="nvmf,lvol")
    assert set(client.LogGetFlags()["flags"].split(",")) == {"nvmf", "lvol"}
    client.LogSetFlags(flags="bdev")
    assert client.LogGetFlags()["flags"] == "bdev"
    assert "no_such" in refused("INVALID_ARGUMENT", client.LogSetFlags, flags="lvol,no_such")
    assert client.LogGetFlags()["flags"] == "bdev", "refused as a whole"
    client.LogSetFlags(flags="")
    assert client.LogGetFlags()["flags"] == ""
    refused("INVALID_ARGUMENT", client.LogSetLevel, level="loud")


def test_health_and_reflection(node):
    client = node.start()
    client.VersionDetailGet()
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    name = b"spdkrpc.SPDKService"
    assert check(b"\x0a" + bytes([len(name)]) + name, timeout=DEADLINE_S) == b"\x08\x01"
    info = client.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    symbol = b"spdkrpc.ShardGroup"
    services, file = list(info(iter([b"\x3a\x01*", b"\x22" + bytes([len(symbol)]) + symbol]), timeout=DEADLINE_S))
    assert name in services and b"spdkrpc/shard.proto" in file


# ---- disks ----


def test_disks(node):
    client = node.start()
    assert "there is no disk" in refused("NOT_FOUND", client.DiskGet, disk_name="d1")
    client.DiskDelete(disk_name="d1")
    disk = make_disk(node)
    assert disk["state"] == "ready" and disk["type"] == "block" and disk["driver"] == "aio", disk
    assert disk["cluster_size"] == MIB and disk["block_size"] == 4096 and disk["name"] == "d1"
    assert disk["total_size"] % MIB == 0 and 400 * MIB < disk["free_size"] <= disk["total_size"] < 512 * MIB
    assert disk["total_blocks"] * 4096 == disk["total_size"]
    device = os.stat(disk["path"]).st_dev
    assert until(lambda: client.DiskGet(disk_name="d1")["id"], "its id") == f"{os.major(device)}-{os.minor(device)}"
    again = client.DiskCreate(disk_name="d1", disk_path=disk["path"], block_size=4096)
    assert again["uuid"] == disk["uuid"]
    assert settled_disk(client, "d1")["uuid"] == disk["uuid"]
    refused("ALREADY_EXISTS", client.DiskCreate, disk_name="d1", disk_path="/elsewhere")
    assert "health" in refused("UNIMPLEMENTED", client.DiskHealthGet, disk_name="d1")
    refused("NOT_FOUND", client.DiskHealthGet, disk_name="d2")

    client.DiskDelete(disk_name="d1", disk_uuid="00000000-0000-4000-8000-000000000000")
    assert client.DiskGet(disk_name="d1")["state"] == "ready", "another one was meant"
    client.DiskDelete(disk_name="d1", disk_uuid=disk["uuid"])
    refused("NOT_FOUND", client.DiskGet, disk_name="d1")

    # What a disk holds is taken over, under a new name as well; never made anew.
    moved = make_disk(node, "d2", disk["path"], disk_uuid=disk["uuid"])
    assert moved["state"] == "ready" and moved["uuid"] == disk["uuid"]
    assert node.plane_call("bdev_lvol_get_lvstores")["result"][0]["name"] == "d2"
    client.DiskDelete(disk_name="d2")
    other = make_disk(node, "d3", disk["path"], disk_uuid="00000000-0000-4000-8000-000000000000")
    assert other["state"] == "error"
    empty = make_disk(node, "d4", disk_file(node, "empty"), disk_uuid=disk["uuid"])
    assert empty["state"] == "error"
    assert len(node.plane_call("bdev_lvol_get_lvstores")["result"]) == 1, "nothing was made"
    client.DiskDelete(disk_name="d4")
    client.DiskDelete(disk_name="d3")

    # The cause has passed: created again.
    late = str(node.folder / "late.img")
    assert make_disk(node, "d5", late)["state"] == "error"
    node.kill(signal.SIGTERM)
    client = node.start()
    assert client.DiskGet(disk_name="d5")["state"] == "error", "settled, and not tried again"
    disk_file(node, "late")
    assert make_disk(node, "d5", late)["state"] == "ready"


# ---- replicas ----


def test_replicas(node):
    client = node.start()
    assert client.ReplicaList() == {"replicas": {}}
    disk = make_disk(node)
    replica = make_replica(node, size=10 * MIB + 1)
    assert replica["spec_size"] == 11 * MIB and replica["lvs_name"] == "d1" and replica["lvs_uuid"] == disk["uuid"]
    assert replica["ip"] == node.address and replica["port_end"] == replica["port_start"] + 4
    assert replica["head"]["name"] == "volume-head" and replica["head"]["spec_size"] == 11 * MIB and replica["head"]["actual_size"] == 0
    assert replica["head"]["parent"] == "" and replica["snapshots"] == {} and replica["error_msg"] == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", replica["head"]["creation_time"]), replica["head"]
    assert listens(node.address, replica["port_start"])
    subsystem = node.plane_call("nvmf_get_subsystems", nqn=f"nqn.2023-01.io.longhorn.spdk:{REPLICA}")["result"][0]
    assert subsystem["hosts"] == [{"nqn": "nqn.2023-01.io.longhorn.spdk:internal-host"}] and not subsystem["allow_any_host"]
    assert subsystem["namespaces"][0]["bdev_name"] == replica["head"]["uuid"]
    assert client.ReplicaGet(name=REPLICA) == replica
    second = client.ReplicaCreate(name="vol-r-22222222", lvs_uuid=disk["uuid"], spec_size=MIB, port_count=2)
    assert second["state"] == "running" and second["port_start"] > replica["port_end"]
    assert set(client.ReplicaList()["replicas"]) == {REPLICA, "vol-r-22222222"}

    refused("ALREADY_EXISTS", client.ReplicaCreate, name=REPLICA, lvs_name="d1", spec_size=11 * MIB)
    assert REPLICA in refused("FAILED_PRECONDITION", client.DiskDelete, disk_name="d1")
    # Stop, and start again: the same head.
    client.ReplicaDelete(name=REPLICA)
    stopped = client.ReplicaGet(name=REPLICA)
    assert stopped["state"] == "stopped" and stopped["port_start"] == 0 and stopped["head"] == replica["head"]
    assert not listens(node.address, replica["port_start"])
    started = client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=11 * MIB, port_count=5)
    assert started["state"] == "running" and started["head"]["uuid"] == replica["head"]["uuid"]
    # Larger than it is: it grows; smaller: nothing is dropped.
    client.ReplicaDelete(name=REPLICA)
    assert client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=12 * MIB)["head"]["spec_size"] == 12 * MIB
    client.ReplicaDelete(name=REPLICA)
    smaller = client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=MIB)
    assert smaller["state"] == "error" and "more than" in smaller["error_msg"] and smaller["head"]["spec_size"] == 12 * MIB
    assert client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=12 * MIB)["state"] == "running"

    client.ReplicaDelete(name=REPLICA, cleanup_required=True)
    client.ReplicaDelete(name=REPLICA, cleanup_required=True)
    client.ReplicaDelete(name="none-r-00000000")
    refused("NOT_FOUND", client.ReplicaGet, name=REPLICA)
    assert [v["name"] for v in node.plane_call("bdev_lvol_get_lvols")["result"]] == ["vol-r-22222222"]
    assert len(node.plane_call("nvmf_get_subsystems")["result"]) == 2, "discovery and the other one"


def test_replica_failures(node):
    """What fails while a replica is made is told by its state."""
    client = node.start()
    make_disk(node)
    lost = client.ReplicaCreate(name=REPLICA, lvs_name="none", spec_size=MIB)
    assert lost["state"] == "error" and "none" in lost["error_msg"], lost
    assert client.ReplicaGet(name=REPLICA)["state"] == "error"
    assert "state error" in refused("UNKNOWN", client.ReplicaSnapshotCreate, name=REPLICA, snapshot_name="s")
    node.kill(signal.SIGTERM)
    client = node.start()
    assert client.ReplicaGet(name=REPLICA)["error_msg"] == lost["error_msg"], "it is kept"
    assert client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=MIB, port_count=1)["state"] == "running", "the cause has passed"
    # A port that somebody else has: the next one.
    import socket

    first = client.ReplicaGet(name=REPLICA)["port_start"]
    with socket.create_server((node.address, first + 1)):
        moved = client.ReplicaCreate(name="vol-r-22222222", lvs_name="d1", spec_size=MIB, port_count=1)
        assert moved["state"] == "running" and moved["port_start"] == first + 2, moved
    # A head that is gone is never made again.
    node.plane_call("nvmf_delete_subsystem", nqn=f"nqn.2023-01.io.longhorn.spdk:{REPLICA}")
    node.plane_call("bdev_lvol_delete", name=f"d1/{REPLICA}")
    until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "error", "it is missed")
    assert "missing" in client.ReplicaGet(name=REPLICA)["error_msg"]
    client.ReplicaDelete(name=REPLICA)
    gone = client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=MIB)
    assert gone["state"] == "error" and "missing" in gone["error_msg"], gone
    assert len(node.plane_call("bdev_lvol_get_lvols")["result"]) == 1
    client.ReplicaDelete(name=REPLICA, cleanup_required=True)
    assert make_replica(node, size=MIB)["state"] == "running", "deleted: a new one may be made"
    # A command that the plane refuses is no reason to fault a healthy replica.
    refused("INVALID_ARGUMENT", client.ReplicaExpand, name=REPLICA, size=1 << 49)
    assert client.ReplicaGet(name=REPLICA)["state"] == "running"
    # Found on a disk without a record.
    node.plane_call("bdev_lvol_create", lvol_name="other-r-99999999", size_in_mib=3, thin_provision=True, lvs_name="d1")
    found = until(lambda: client.ReplicaList()["replicas"].get("other-r-99999999"), "it is found")
    assert found["state"] == "stopped" and found["spec_size"] == 3 * MIB
    client.ReplicaDelete(name="other-r-99999999", cleanup_required=True)
    assert "other-r-99999999" not in client.ReplicaList()["replicas"]


def test_snapshots(node):
    client = node.start()
    make_disk(node)
    make_replica(node, size=16 * MIB)
    made = client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s1", user_created=True, snapshot_timestamp=STAMP)
    assert tree(made) == {"s1": ("", ("volume-head",)), "head": ("s1", ())}, tree(made)
    s1 = made["snapshots"]["s1"]
    assert s1["user_created"] and s1["snapshot_timestamp"] == STAMP and s1["name"] == "s1" and s1["spec_size"] == 16 * MIB
    assert "s1" in refused("UNKNOWN", client.ReplicaSnapshotCreate, name=REPLICA, snapshot_name="s1")
    for name, user in (("s2", True), ("sys3", False), ("s4", True)):
        client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name=name, user_created=user, snapshot_timestamp=STAMP)
    client.ReplicaExpand(name=REPLICA, size=20 * MIB)
    got = client.ReplicaGet(name=REPLICA)
    assert got["spec_size"] == 20 * MIB and got["snapshots"]["s4"]["spec_size"] == 16 * MIB and got["state"] == "running"
    client.ReplicaExpand(name=REPLICA, size=20 * MIB)
    refused("INVALID_ARGUMENT", client.ReplicaExpand, name=REPLICA, size=MIB)
    client.ReplicaSnapshotRevert(name=REPLICA, snapshot_name="s2")
    got = client.ReplicaGet(name=REPLICA)
    assert tree(got)["s2"] == ("s1", ("sys3", "volume-head")) and tree(got)["head"] == ("s2", ()), tree(got)
    assert got["head"]["spec_size"] == 16 * MIB and got["state"] == "running" and listens(node.address, got["port_start"])
    assert "children" in refused("UNKNOWN", client.ReplicaSnapshotDelete, name=REPLICA, snapshot_name="s2")
    refused("UNKNOWN", client.ReplicaSnapshotRevert, name=REPLICA, snapshot_name="none")
    client.ReplicaSnapshotPurge(name=REPLICA)
    assert set(tree(client.ReplicaGet(name=REPLICA))) == {"s1", "s2", "s4", "head"}
    client.ReplicaSnapshotDelete(name=REPLICA, snapshot_name="s4")
    client.ReplicaSnapshotDelete(name=REPLICA, snapshot_name="s4")
    client.ReplicaSnapshotDelete(name=REPLICA, snapshot_name="s1")
    assert tree(client.ReplicaGet(name=REPLICA)) == {"s2": ("", ("volume-head",)), "head": ("s2", ())}
    # Also on one that is stopped; then all goes at once, leaves first.
    client.ReplicaDelete(name=REPLICA)
    for name in ("a", "b", "c"):
        client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name=name)
    assert client.ReplicaGet(name=REPLICA)["state"] == "stopped"
    client.ReplicaDelete(name=REPLICA, cleanup_required=True)
    assert node.plane_call("bdev_lvol_get_lvols")["result"] == []


def test_watch(node):
    client = node.start()
    make_disk(node)
    watch = client.start("ReplicaWatch")
    seen = []

    def read():
        try:
            for message in watch:
                assert message == b""
                seen.append(1)
        except grpc.RpcError as error:
            seen.append(error.code().name)

    reader = threading.Thread(target=read)
    reader.start()
    make_replica(node, size=MIB)
    until(lambda: seen, "a replica was made")
    for step in (lambda: client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s"), lambda: client.ReplicaDelete(name=REPLICA),
                 lambda: client.ReplicaDelete(name=REPLICA, cleanup_required=True)):  # fmt: skip
        before = len(seen)
        step()
        until(lambda: len(seen) > before, "a change")
    # It stands still while more come: it meets them when it has begun to end, or a moment before. None of them holds it up.
    stop(node.process.pid)
    late = [client.start(kind) for kind in ("ShardWatch", "ReplicaWatch", "EngineWatch")]
    node.process.send_signal(signal.SIGTERM)
    assert node.kill(signal.SIGCONT) == 0
    reader.join(DEADLINE_S)
    assert seen[-1] == "UNAVAILABLE", seen
    for one in late:
        try:
            next(one)
            raise AssertionError("nothing has changed")
        except grpc.RpcError as error:
            assert error.code().name == "UNAVAILABLE" and "the server ends" not in error.details(), error


# ---- errors ----

WRONG = [
    ("DiskCreate", {}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_path": "/x"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "a b", "disk_path": "/x"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "a/b", "disk_path": "/x"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "n" * 64, "disk_path": "/x"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x" * 200}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "block_size": 1000}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "block_size": -1}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "disk_driver": "floppy"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "disk_uuid": "no"}, "INVALID_ARGUMENT"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "disk_driver": "nvme"}, "UNIMPLEMENTED"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "/x", "disk_driver": "virtio-blk"}, "UNIMPLEMENTED"),
    ("DiskCreate", {"disk_name": "d", "disk_path": "0000:00:1f.2"}, "UNIMPLEMENTED"),
    ("DiskDelete", {}, "INVALID_ARGUMENT"),
    ("DiskGet", {}, "NOT_FOUND"),
    ("ReplicaCreate", {"lvs_name": "d1", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "lvs_name": "d1"}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "lvs_name": "d1", "spec_size": 1 << 63}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "lvs_name": "d1", "spec_size": MIB, "port_count": -1}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "lvs_name": "d1", "spec_size": MIB, "port_count": 10000}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x-clone-ep-y", "lvs_name": "d1", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x-tmp-head", "lvs_name": "d1", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x-snap-y", "lvs_name": "d1", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "ü", "lvs_name": "d1", "spec_size": MIB}, "INVALID_ARGUMENT"),
    ("ReplicaCreate", {"name": "x", "lvs_name": "d1", "spec_size": MIB, "backing_image_name": "b"}, "UNIMPLEMENTED"),
    ("ReplicaDelete", {}, "INVALID_ARGUMENT"),
    ("ReplicaGet", {}, "NOT_FOUND"),
    ("ReplicaGet", {"name": "none"}, "NOT_FOUND"),
    ("ReplicaExpand", {"name": "none", "size": MIB}, "NOT_FOUND"),
    ("ReplicaExpand", {"name": REPLICA, "size": 1 << 60}, "INVALID_ARGUMENT"),
    ("ReplicaExpand", {"name": REPLICA, "size": 0}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"name": REPLICA}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"snapshot_name": "s"}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"name": "none", "snapshot_name": "s"}, "NOT_FOUND"),
    ("ReplicaSnapshotCreate", {"name": REPLICA, "snapshot_name": "a b"}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"name": REPLICA, "snapshot_name": "volume-head"}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"name": REPLICA, "snapshot_name": "x-tmp-head"}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotCreate", {"name": REPLICA, "snapshot_name": "s", "snapshot_timestamp": "x" * 64}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotDelete", {"name": "none", "snapshot_name": "s"}, "NOT_FOUND"),
    ("ReplicaSnapshotDelete", {"name": REPLICA}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotRevert", {"name": "none", "snapshot_name": "s"}, "NOT_FOUND"),
    ("ReplicaSnapshotRevert", {"name": REPLICA}, "INVALID_ARGUMENT"),
    ("ReplicaSnapshotPurge", {"name": "none"}, "NOT_FOUND"),
    ("ReplicaSnapshotPurge", {}, "INVALID_ARGUMENT"),
]
ENGINES = {"EngineCreate", "EngineDelete", "EngineExpand", "EngineExpandPrecheck", "EngineGet", "EngineList", "EngineReplicaAdd",
           "EngineReplicaDelete", "EngineSnapshotClone", "EngineSnapshotCreate", "EngineSnapshotDelete", "EngineSnapshotMaxCountSet",
           "EngineSnapshotRevert", "EngineSnapshotHash", "EngineSnapshotHashStatus", "EngineSnapshotPurge", "EngineFrontendSnapshotPurge", "EngineReplicaList", "EngineFrontendCreate", "EngineFrontendDelete", "EngineFrontendExpand",
           "EngineFrontendGet", "EngineFrontendList", "EngineFrontendReplicaAdd", "EngineFrontendResume",
           "EngineFrontendSnapshotCreate", "EngineFrontendSnapshotDelete", "EngineFrontendSnapshotRevert", "EngineFrontendSuspend",
           "EngineFrontendSwitchOver", "EngineSetTargetListenerANAState"}  # test_engine.py, test_switch_over.py  # fmt: skip
SERVED = ENGINES | {"VersionDetailGet", "MetricsGet", "LogSetLevel", "LogGetLevel", "LogSetFlags", "LogGetFlags", "DiskCreate", "DiskGet", "DiskDelete",
          "DiskHealthGet", "ReplicaCreate", "ReplicaDelete", "ReplicaGet", "ReplicaList", "ReplicaExpand", "ReplicaSnapshotCreate",
          "ReplicaSnapshotDelete", "ReplicaSnapshotRevert", "ReplicaSnapshotPurge",
          "ReplicaSnapshotHash", "ReplicaSnapshotHashStatus", "ReplicaSnapshotRangeHashGet", "ReplicaRebuildingDstFinish", "ReplicaRebuildingDstSetQosLimit",
          "ReplicaRebuildingDstShallowCopyCheck", "ReplicaRebuildingDstShallowCopyStart", "ReplicaRebuildingDstSnapshotCreate",
          "ReplicaRebuildingDstStart", "ReplicaRebuildingSrcFinish", "ReplicaRebuildingSrcRangeShallowCopyStart",
          "ReplicaRebuildingSrcShallowCopyCheck", "ReplicaRebuildingSrcShallowCopyStart", "ReplicaRebuildingSrcStart",
          "ReplicaSnapshotCloneDstStart", "ReplicaSnapshotCloneDstStatusCheck", "ReplicaSnapshotCloneSrcFinish",
          "ReplicaSnapshotCloneSrcStart", "ReplicaSnapshotCloneSrcStatusCheck"}  # fmt: skip


def test_errors(node):
    client = node.start()
    make_disk(node)
    before = make_replica(node)
    for method, values, code in WRONG:
        try:
            text = refused(code, getattr(client, method), **values)
        except AssertionError as wrong:
            raise AssertionError(f"{method} {values}: {wrong}") from None
        assert len(text) < 300, text
    count = 0
    for method, (_, _, kind) in CONTRACT.methods.items():
        if kind == "unary" and method not in SERVED:
            assert method in refused("UNIMPLEMENTED", getattr(client, method))
            count += 1
    assert count == len(CONTRACT.methods) - len(SERVED) - 6
    assert client.ReplicaList()["replicas"] == {REPLICA: before}, "nothing of that left a trace"
    # Bytes that are no message.
    for garbage in (b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x0a\x03a\x00b", b"\xff" * 20):
        try:
            client.channel.unary_unary(SERVICE + "ReplicaGet")(garbage, timeout=DEADLINE_S)
            raise AssertionError(garbage)
        except grpc.RpcError as error:
            assert error.code().name == "INVALID_ARGUMENT", error


def test_at_once(node):
    """Many callers, the same names."""
    client = node.start()
    make_disk(node)
    made = [client.start("ReplicaCreate", name=REPLICA, lvs_name="d1", spec_size=MIB, port_count=1) for _ in range(10)]
    codes = sorted("OK" if future.exception() is None else future.code().name for future in made)
    assert codes == ["ALREADY_EXISTS"] * 9 + ["OK"], codes
    for name in ("a", "b", "c"):
        futures = [client.start("ReplicaSnapshotCreate", name=REPLICA, snapshot_name=name) for _ in range(5)]
        assert sorted(f.exception() is None for f in futures) == [False] * 4 + [True]
    names = [f"v{i}-r-{i:08}" for i in range(20)]
    futures = [client.start("ReplicaCreate", name=name, lvs_name="d1", spec_size=MIB, port_count=3) for name in names]
    ports = [client.finish("ReplicaCreate", future)["port_start"] for future in futures]
    assert len({port + i for port in ports for i in range(3)}) == 60, ports
    futures = [client.start("ReplicaDelete", name=name, cleanup_required=True) for name in names for _ in range(2)]
    assert all(future.exception() is None for future in futures)
    futures = [client.start("ReplicaDelete", name=REPLICA, cleanup_required=True),
               client.start("ReplicaCreate", name=REPLICA, lvs_name="d1", spec_size=2 * MIB)]  # fmt: skip
    assert futures[0].exception() is None
    assert client.finish("ReplicaCreate", futures[1])["spec_size"] == 2 * MIB, "made anew after the deletion"


# ---- deaths ----


def test_plane_outlives(node):
    client = node.start()
    make_disk(node)
    replica = make_replica(node)
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s", user_created=True, snapshot_timestamp=STAMP)
    before, pid = client.ReplicaGet(name=REPLICA), node.plane_pid()
    assert os.getsid(pid) == pid, "a session of its own"
    files = open_files(pid)
    assert str(node.folder / "d1.img") in files, files
    assert not [name for name in files if "state.db" in name or name.endswith("/lock")], files
    for number in (signal.SIGTERM, signal.SIGKILL):
        node.kill(number)
        assert listens(node.address, replica["port_start"]), "the export goes on"
        client = node.start()
        assert client.ReplicaGet(name=REPLICA) == before
        assert node.plane_pid() == pid
    # And the other way round.
    node.kill_plane()
    until(lambda: client.ReplicaGet(name=REPLICA) == before and node.plane_pid() not in (None, pid), "it is back, as it was")
    until(lambda: listens(node.address, replica["port_start"]), "on the same port")
    until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "running", "it runs")
    # Both at once.
    node.kill()
    node.kill_plane()
    client = node.start()
    until(lambda: client.ReplicaGet(name=REPLICA) == before, "both are back")
    # A replica that is stopped stays so; a disk that is deleted is forgotten with what is on it.
    client.ReplicaDelete(name=REPLICA)
    node.kill()
    node.kill_plane()
    client = node.start()
    assert until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "stopped", "stopped")
    client.DiskDelete(disk_name="d1")
    until(lambda: client.ReplicaList()["replicas"] == {}, "forgotten")
    make_disk(node, "d1", str(node.folder / "d1.img"))
    found = until(lambda: client.ReplicaList()["replicas"].get(REPLICA), "found again")
    assert found["state"] == "stopped" and found["snapshots"] == before["snapshots"]


def test_made_is_remembered(node):
    """A daemon dies after a replica was made, and before that is recorded: the next one records it, and never makes it again."""
    client = node.start()
    make_disk(node)
    name = f"nqn.2023-01.io.longhorn.spdk:{REPLICA}"
    client.start("ReplicaCreate", name=REPLICA, lvs_name="d1", spec_size=MIB, port_count=1)
    until(lambda: any(s["nqn"] == name for s in node.plane_call("nvmf_get_subsystems")["result"]), "it is being exported")
    node.kill()
    client = node.start()
    until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "running", "it is finished")
    until(lambda: listens(node.address, client.ReplicaGet(name=REPLICA)["port_start"]), "it serves")
    client.ReplicaDelete(name=REPLICA)
    node.plane_call("bdev_lvol_delete", name=f"d1/{REPLICA}")
    gone = client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=MIB)
    assert gone["state"] == "error" and "missing" in gone["error_msg"], gone
    assert node.plane_call("bdev_lvol_get_lvols")["result"] == []


def test_disk_is_gone(node):
    """A disk that opens late, or holds something else, is no reason to make anything."""
    client = node.start()
    make_disk(node)
    make_replica(node)
    node.kill(signal.SIGTERM)
    node.kill_plane()
    path = node.folder / "d1.img"
    path.rename(node.folder / "away.img")
    client = node.start()
    assert client.DiskGet(disk_name="d1")["state"] == "error"
    until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "error", "its disk is not open")
    assert "disk d1 is not open" in client.ReplicaGet(name=REPLICA)["error_msg"]
    disk_file(node, "d1")  # an empty one in its place
    until(lambda: "does not hold the store" in node.log(), "it has looked")
    assert client.DiskGet(disk_name="d1")["state"] == "error"
    node.kill_plane()
    (node.folder / "away.img").rename(path)
    until(lambda: client.ReplicaGet(name=REPLICA)["state"] == "running", "the disk is there, and all is well")


def test_kills_in_calls(node, rounds=int(os.environ.get("PENSTOCK_ROUNDS", "12")), seed=int(os.environ.get("PENSTOCK_SEED", "1"))):
    """Either process is killed at a random moment of a random call; what was answered holds, and nothing else happened twice."""
    luck = random.Random(seed)
    client = node.start()
    make_disk(node)
    names = [f"v{i}-r-{i:08}" for i in range(3)]
    truth = {}  # replica: {snapshot: known to be there; None = unknown}; absent = gone, None = unknown

    def act(name, step):
        snapshots = truth.get(name)
        if name not in truth or snapshots is None:
            return "ReplicaCreate", {"name": name, "lvs_name": "d1", "spec_size": 8 * MIB, "port_count": 2}
        choice = luck.choice(["create", "create", "delete", "purge", "expand", "revert", "drop", "stop"])
        some = luck.choice(sorted(snapshots) or ["none"])
        if choice == "create":
            return "ReplicaSnapshotCreate", {"name": name, "snapshot_name": f"s{step}", "user_created": True, "snapshot_timestamp": STAMP}
        if choice == "delete":
            return "ReplicaSnapshotDelete", {"name": name, "snapshot_name": some}
        if choice == "purge":
            return "ReplicaSnapshotPurge", {"name": name}
        if choice == "expand":
            return "ReplicaExpand", {"name": name, "size": luck.randrange(8, 32) * MIB}
        if choice == "revert" and some != "none":
            return "ReplicaSnapshotRevert", {"name": name, "snapshot_name": some}
        if choice == "stop":
            return "ReplicaDelete", {"name": name}
        return "ReplicaDelete", {"name": name, "cleanup_required": luck.random() < 0.3}

    for step in range(rounds):
        calls = []
        for name in names:
            method, values = act(name, step)
            calls.append((name, method, values, client.start(method, **values)))
        victims = luck.choice([(), ("plane",), ("plane",), ("daemon",), ("daemon", "plane")])
        threading.Event().wait(luck.random() * 0.05)
        if "daemon" in victims:
            node.kill()
        if "plane" in victims:
            node.kill_plane()
        if "daemon" in victims:
            node.start()
        for name, method, values, future in calls:
            code = "OK" if future.exception() is None else future.exception().code().name
            text = "" if code == "OK" else future.exception().details()
            # A plane that dies is waited for; only the daemon's own death may cut a call off.
            allowed = {"OK", "UNKNOWN", "INVALID_ARGUMENT", "ALREADY_EXISTS", "NOT_FOUND", "FAILED_PRECONDITION"}
            assert code in allowed or ("daemon" in victims and code == "UNAVAILABLE"), (seed, step, method, values, code, text)
            truth[name] = apply(truth, name, method, values, code)
            if truth[name] == "gone":
                del truth[name]
        listed = settle(node, names)
        for name in names:
            if name in truth and truth[name] is not None:
                assert name in listed, (seed, step, name, "is gone", listed)
                for snapshot, known in truth[name].items():
                    there = snapshot in listed[name]["snapshots"]
                    assert known is None or there == known, (seed, step, name, snapshot, known, listed[name]["state"], listed[name]["error_msg"], bool(listed[name]["head"]), step)
            elif name not in truth:
                assert name not in listed or listed[name]["state"] == "error", (seed, step, name, "is there", listed[name])
        for name in names:  # what was unknown is known now
            if name in listed and listed[name]["head"] is not None:
                truth[name] = {snapshot: True for snapshot in listed[name]["snapshots"]}
            else:
                if name in listed:
                    client.ReplicaDelete(name=name, cleanup_required=True)
                truth.pop(name, None)
    # Nothing is left that belongs to nobody.
    for name in names:
        client.ReplicaDelete(name=name, cleanup_required=True)
    until(lambda: node.plane_call("bdev_lvol_get_lvols")["result"] == [], "no volume is left")
    assert len(node.plane_call("nvmf_get_subsystems")["result"]) == 1, "no subsystem is left"
    assert client.ReplicaList()["replicas"] == {}


def apply(truth, name, method, values, code):
    """What is known of a replica after this answer: its snapshots, None = anything, "gone"."""
    before = truth.get(name, "gone")
    unsure = code == "UNAVAILABLE"
    if method == "ReplicaCreate":
        return None if code == "OK" or unsure or before == "gone" else before
    if before in (None, "gone"):
        return before
    if method == "ReplicaDelete" and values.get("cleanup_required"):
        return "gone" if code == "OK" else None
    if method == "ReplicaSnapshotCreate" and (code == "OK" or unsure):
        return {**before, values["snapshot_name"]: None if unsure else True}
    if method == "ReplicaSnapshotDelete" and (code == "OK" or unsure):
        return {**before, values["snapshot_name"]: None if unsure else False}
    return before


def settle(node, names):
    """The list, when every replica has come to rest."""

    def look():
        try:
            listed = node.client.ReplicaList()["replicas"]
        except Failure:
            return None
        rest = all(replica["state"] in ("running", "stopped", "error") for replica in listed.values())
        missed = [name for name in names if name in listed and listed[name]["state"] == "error"]
        return listed if rest and not [n for n in missed if "not open" in listed[n]["error_msg"]] and node.plane_pid() else None

    return until(look, "all replicas are at rest")


def test_a_plane_that_cannot_start(node):
    node.plane = str(node.folder / "no-such-plane")
    client = node.start()
    assert client.DiskCreate(disk_name="d1", disk_path=disk_file(node))["state"] == "creating"
    until(lambda: "cannot be started" in node.log(), "it says so")
    assert client.DiskGet(disk_name="d1")["state"] == "creating"
    assert node.kill(signal.SIGTERM) == 0
    node.plane = "/bin/false"
    client = node.start()
    until(lambda: "ended with status 1" in node.log(), "it says so")
    node.kill()
    node.plane = PLANE
    client = node.start()
    assert settled_disk(client, "d1")["state"] == "ready", "what was recorded is done now"
    assert "callers are served without" not in node.log().partition("disk d1 is ready")[2], "nobody waits for what is there"


if __name__ == "__main__":
    run_tests(globals(), "penstockd-", DAEMON, PLANE, CONTRACT, sys.argv[4] if len(sys.argv) > 4 else None)
