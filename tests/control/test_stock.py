#!/usr/bin/env python3
"""penstockd over a plane that offers only a stock SPDK target's methods (stock_plane.py): what works there, works; the rest is refused
and names what is missing. Arguments: penstockd, penstock-block, the contract's table, and (optional) one test's name."""

import os
import pathlib
import sys

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    from rig import Contract, refused, run_tests, until
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

DAEMON, PLANE, TABLE = sys.argv[1:4]
CONTRACT = Contract(TABLE)
MIB = 1 << 20
REPLICA = "vol-r-0a1B2c3D"
STOCK = str(pathlib.Path(__file__).parent / "stock_plane.py")


def begin(node):
    client = node.start()
    path = node.folder / "d1.img"
    with open(path, "wb") as file:
        file.truncate(256 * MIB)
    client.DiskCreate(disk_name="d1", disk_path=str(path), block_size=4096)
    until(lambda: client.DiskGet(disk_name="d1")["state"] == "ready", "the disk is open")
    return client


def make(client):
    made = client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=16 * MIB, port_count=3)
    assert made["state"] == "running", made
    return made


def test_the_plane_is_stock(node):
    begin(node)
    methods = set(node.plane_call("rpc_get_methods")["result"])
    assert "bdev_lvol_snapshot" in methods and not {"notify_wait", "mirror_create", "volume_revert", "bdev_lvol_get_xattr"} & methods, methods
    assert node.plane_call("mirror_get")["error"]["code"] == -32601
    assert "xattrs" not in str(node.plane_call("bdev_lvol_snapshot", lvol_name="d1/x", snapshot_name="y", xattrs={}).get("result"))


def test_what_works(node):
    client = begin(node)
    made = make(client)
    again = client.ReplicaGet(name=REPLICA)
    assert again["state"] == "running" and again["port_start"] == made["port_start"] and again["spec_size"] == 16 * MIB, again
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s1", user_created=True)
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s2", user_created=True)
    refused("UNKNOWN", client.ReplicaSnapshotCreate, name=REPLICA, snapshot_name="s2")
    seen = client.ReplicaGet(name=REPLICA)
    assert set(seen["snapshots"]) == {"s1", "s2"} and seen["snapshots"]["s2"]["parent"] == "s1" and seen["head"]["parent"] == "s2", seen
    client.ReplicaSnapshotDelete(name=REPLICA, snapshot_name="s1")
    assert set(client.ReplicaGet(name=REPLICA)["snapshots"]) == {"s2"}
    client.ReplicaExpand(name=REPLICA, size=32 * MIB)
    assert client.ReplicaGet(name=REPLICA)["head"]["spec_size"] == 32 * MIB
    client.ReplicaDelete(name=REPLICA)
    assert client.ReplicaGet(name=REPLICA)["state"] == "stopped"
    assert client.ReplicaCreate(name=REPLICA, lvs_name="d1", spec_size=32 * MIB, port_count=3)["state"] == "running"
    client.ReplicaDelete(name=REPLICA, cleanup_required=True)
    assert client.ReplicaList()["replicas"] == {}
    assert node.plane_call("bdev_lvol_get_lvols")["result"] == []
    client.DiskDelete(disk_name="d1")


def test_what_is_refused(node):
    """By name, and without harm to what is there."""
    client = begin(node)
    made = make(client)
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s1", user_created=True)
    assert "volume_revert" in refused("UNIMPLEMENTED", client.ReplicaSnapshotRevert, name=REPLICA, snapshot_name="s1")
    engine = client.EngineCreate(name="e1", volume_name="vol", spec_size=16 * MIB, frontend="spdk-tcp-nvmf",
                                 replica_address_map={REPLICA: f"{node.address}:{made['port_start']}"})  # fmt: skip
    assert engine["state"] == "error" and "mirror_create" in engine["error_msg"], engine
    assert client.EngineGet(name="e1")["state"] == "error"
    client.EngineDelete(name="e1")
    assert client.EngineList()["engines"] == {}
    until(lambda: node.plane_call("bdev_nvme_get_controllers")["result"] == [], "nothing is left of it")
    replica = client.ReplicaGet(name=REPLICA)
    assert replica["state"] == "running" and set(replica["snapshots"]) == {"s1"}, replica


def test_deaths(node):
    client = begin(node)
    made = make(client)
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s1", user_created=True)

    def back():
        replica = client.ReplicaGet(name=REPLICA)
        return replica["state"] == "running" and set(replica["snapshots"]) == {"s1"} and replica["port_start"] == made["port_start"]

    pid = node.plane_pid()
    node.kill()
    node.start()
    assert back() and node.plane_pid() == pid, "a plane that goes on"
    node.kill_plane()
    until(lambda: node.plane_pid() not in (None, pid) and back(), "a plane that was started again")
    client.ReplicaSnapshotCreate(name=REPLICA, snapshot_name="s2", user_created=True)
    assert set(client.ReplicaGet(name=REPLICA)["snapshots"]) == {"s1", "s2"}


if __name__ == "__main__":
    os.environ["STOCK_PLANE"] = PLANE
    run_tests(globals(), "penstockd-stock-", DAEMON, STOCK, CONTRACT, sys.argv[4] if len(sys.argv) > 4 else None)
