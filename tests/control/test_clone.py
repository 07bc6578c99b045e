#!/usr/bin/env python3
"""Engines that become clones of others' snapshots, full and linked, over three penstockd. Arguments as test_engine.py's."""

import contextlib
import os
import signal
import sys

from rig import Client, Contract, stop
from test_engine import MIB, PROGRAMS, REPLICAS, RW, SIZE, WO, pattern, raw, refused, run_all, settled, settled_as, until, whole

read, write = PROGRAMS.read, PROGRAMS.write


class NodeContract(Contract):
    """What nodes ask of each other about clones, as node.proto has it."""

    def __init__(self):
        self.enums, self.methods = {}, {"GetClone": ("GetCloneRequest", "GetCloneResponse", "unary")}
        self.messages = {"GetCloneRequest": {"engine": (1, "string")},
                         "GetCloneResponse": {field: (i + 1, "uint32" if field == "percent" else "string") for i, field in enumerate(
                             ("state", "percent", "text", "source", "source_address", "snapshot"))}}  # fmt: skip


class NodeClient(Client):
    service = "/penstock.v1.NodeService/"


CLONES = [f"dst-r-0000000{i}" for i in range(3)]
STAMP = "2026-11-21T12:00:00Z"


def make_source(world, count=3):
    """An engine with a snapshot, over which something else was written."""
    first = pattern(world.folder, 1)
    engine = world.engine(replicas=REPLICAS[:count])
    whole(world.nodes[0], count=count)
    write(engine, first)
    world.nodes[0].client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="s1", user_created=True, snapshot_timestamp=STAMP)
    write(engine, pattern(world.folder, 2, 4 * MIB))
    return engine, first.read_bytes()


def make_clone(world, node=1, nodes=(0, 1, 2), frontend=""):
    """Empty replicas, and an engine over them."""
    for i in nodes:
        if CLONES[i] not in world.addresses:
            world.replica(i, CLONES[i])
    return world.engine("dst-e-0", node, [CLONES[i] for i in nodes], volume_name="dst", frontend=frontend)


def wanted(source, **more):
    return {"name": "dst-e-0", "snapshot_name": "s1", "src_engine_name": "vol-e-0", "src_engine_address": f"{source['ip']}:{source['port']}", **more}


def linked(source, **more):
    return wanted(source, clone_mode=1, dst_replica_src_replica_pair_map=dict(zip(CLONES, REPLICAS)), **more)


def told(world, i):
    return world.nodes[i].client.ReplicaSnapshotCloneDstStatusCheck(name=CLONES[i])


def ended(world, nodes=(0, 1, 2)):
    """What each replica's node says of it at the end; that is the same."""
    for i in nodes:
        until(lambda: told(world, i)["state"] in ("complete", "error"), lambda: f"the clone ends: {told(world, i)}")  # noqa: B023
    return told(world, nodes[0])


def exports(world):
    return [s["nqn"] for node in world.nodes for s in raw(node, "nvmf_get_subsystems") if s["nqn"].endswith("-cloning")]


@contextlib.contextmanager
def stopped_copy(world, source, node=1):
    """A clone with one replica, on that node, whose copying from the source has begun and stands still while this lasts; its call, its engine."""
    client = world.nodes[1].client
    engine = make_clone(world, nodes=(node,), frontend="spdk-tcp-nvmf")
    whole(world.nodes[1], "dst-e-0", 1)
    plane = world.nodes[0].plane_pid()
    stop(plane)
    try:
        call = client.start("EngineSnapshotClone", **wanted(source))
        until(lambda: exports(world_of(world, 1)), "it has begun")
        yield call, engine
    finally:
        os.kill(plane, signal.SIGCONT)


def test_full(world):
    source, data = make_source(world)
    client = world.nodes[1].client
    made = make_clone(world)
    assert made["state"] == "running", made
    whole(world.nodes[1], "dst-e-0")
    assert told(world, 0)["state"] == ""
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, snapshot_name=""))
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, src_engine_name=""))
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, src_engine_name="dst-e-0"))
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, src_engine_address="127.0.0.1"))
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, clone_mode=7))
    refused("NOT_FOUND", client.EngineSnapshotClone, **wanted(source, name="none"))
    assert "no such snapshot" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source, snapshot_name="s2"))
    assert "no engine" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source, src_engine_name="none"))
    assert told(world, 0)["state"] == "", "nothing was begun"
    client.EngineSnapshotClone(**wanted(source))
    status = ended(world)
    assert (status["state"], status["progress"], status["snapshot_name"], status["error"]) == ("complete", 100, "s1", ""), status
    assert status["src_replica_name"] in REPLICAS and not status["is_cloning"], status
    engine = whole(world.nodes[1], "dst-e-0")
    assert list(engine["snapshots"]) == ["s1"] and engine["head"]["parent"] == "s1" and engine["port"] == 0, engine
    for i, name in enumerate(CLONES):
        got = until(lambda: world.nodes[i].client.ReplicaGet(name=name)["snapshots"].get("s1"), "the replica shows it")  # noqa: B023
        assert got["user_created"] and got["snapshot_timestamp"] == STAMP, got
    assert exports(world) == []
    # The source may still be told to forget it: "being cloned" until then.
    until(lambda: "holds something" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source)), "it holds something")
    world.nodes[1].kill()
    world.nodes[1].start()
    assert told(world, 2)["state"] == "complete", "it is remembered"
    client.EngineDelete(name="dst-e-0")
    world.nodes[0].client.EngineDelete(name="vol-e-0")
    assert read(make_clone(world, frontend="spdk-tcp-nvmf")) == data


def test_full_breaks_off(world):
    """The source does not answer, and the clone's daemon dies: it is empty again, and may be tried again."""
    source, data = make_source(world, 1)
    client = world.nodes[1].client
    with stopped_copy(world, source) as (call, engine):
        assert told(world, 1)["state"] == "in_progress" and told(world, 1)["is_cloning"]
        assert "being cloned" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source))
        write(engine, pattern(world.folder, 3, MIB))  # as if it had been copied
        world.nodes[1].kill()
        assert call.exception() is not None
        world.nodes[1].start()
        status = ended(world, (1,))
        assert status["state"] == "error" and "did not come to its end" in status["error"], status
    assert exports(world) == []
    assert read(whole(world.nodes[1], "dst-e-0", 1)) == bytes(SIZE), "it is empty again"
    whole(world.nodes[0], count=1)

    def again():
        if told(world, 1)["state"] == "error":
            try:
                client.EngineSnapshotClone(**wanted(source))
            except Exception:  # what was begun may still be at its end
                return False
        return told(world, 1)["state"] == "complete"

    until(again, lambda: f"it is a clone at last: {told(world, 1)}")
    assert read(whole(world.nodes[1], "dst-e-0", 1)) == data


def test_full_breaks_off_while_away(world):
    """The copy fails while the engine's only replica is away: it is ended when that is back, by the same daemon."""
    source, _ = make_source(world, 1)
    with stopped_copy(world, source, 2) as (call, engine):
        write(engine, pattern(world.folder, 3, MIB))  # as if it had been copied
        world.nodes[2].client.ReplicaDelete(name=CLONES[2])  # stopped
        settled(world.nodes[1], "dst-e-0", "error")
        world.nodes[0].kill()
        assert call.exception() is not None, "neither copied nor cleared"
    assert told(world, 2)["state"] == "in_progress"
    world.replica(2, CLONES[2])
    status = ended(world, (2,))
    assert status["state"] == "error", status
    assert exports(world_of(world, 1)) == []
    assert read(whole(world.nodes[1], "dst-e-0", 1)) == bytes(SIZE), "it is empty again"


def test_full_starts(world):
    """The source's daemon does not answer: that a clone was asked for is told all the same, and it is made in the end."""
    source, data = make_source(world, 1)
    client = world.nodes[1].client
    engine = make_clone(world, nodes=(1,), frontend="spdk-tcp-nvmf")
    whole(world.nodes[1], "dst-e-0", 1)
    node_client = NodeClient(NodeContract(), f"{world.nodes[1].address}:8504")
    assert node_client.GetClone(engine="dst-e-0")["state"] == ""
    stop(world.nodes[0].process.pid)
    try:
        call = client.start("EngineSnapshotClone", **wanted(source))
        until(lambda: node_client.GetClone(engine="dst-e-0")["state"] == "starting", "it is told")
        assert node_client.GetClone(engine="dst-e-0")["snapshot"] == "s1"
        assert "something is being cloned" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source))
    finally:
        world.nodes[0].process.send_signal(signal.SIGCONT)
    client.finish("EngineSnapshotClone", call)
    until(lambda: node_client.GetClone(engine="dst-e-0")["state"] == "complete", "it is whole")
    node_client.close()
    assert read(engine) == data


def test_whole_unanswered(world):
    """Both daemons die when all is copied and the snapshot is made, which nobody has recorded: it is a clone."""
    source, _ = make_source(world, 1)
    client = world.nodes[1].client
    with stopped_copy(world, source) as (call, engine):
        copied = pattern(world.folder, 3)
        write(engine, copied)
        assert "being cloned" in refused("UNKNOWN", client.EngineSnapshotCreate, name="dst-e-0", snapshot_name="s1")
        world.nodes[1].kill()
        world.nodes[0].kill()
        assert call.exception() is not None
    raw(world.nodes[1], "mirror_snapshot_create", name="dst-e-0", snapshot="s1")
    world.nodes[1].start()
    status = ended(world, (1,))
    assert (status["state"], status["progress"], status["error"]) == ("complete", 100, ""), status
    assert exports(world_of(world, 1)) == []
    assert read(whole(world.nodes[1], "dst-e-0", 1)) == copied.read_bytes()


class world_of:
    """One node of a world."""

    def __init__(self, world, i):
        self.nodes = [world.nodes[i]]


def test_linked(world):
    source, data = make_source(world)
    client = world.nodes[1].client
    made = make_clone(world, frontend="spdk-tcp-nvmf")
    whole(world.nodes[1], "dst-e-0")
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, clone_mode=1))
    refused("INVALID_ARGUMENT", client.EngineSnapshotClone, **wanted(source, clone_mode=1, dst_replica_src_replica_pair_map={CLONES[0]: REPLICAS[0]}))
    crossed = {CLONES[0]: REPLICAS[1], CLONES[1]: REPLICAS[0], CLONES[2]: REPLICAS[2]}
    assert "no such snapshot" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source, clone_mode=1, dst_replica_src_replica_pair_map=crossed))
    strange = {CLONES[0]: "gone-r-00000000", CLONES[1]: REPLICAS[1], CLONES[2]: REPLICAS[2]}
    assert "gone-r-00000000" in refused("UNKNOWN", client.EngineSnapshotClone, **wanted(source, clone_mode=1, dst_replica_src_replica_pair_map=strange))
    assert read(made) == bytes(SIZE), "nothing was done"
    client.EngineSnapshotClone(**linked(source))
    status = ended(world)
    assert (status["state"], status["progress"], status["src_replica_name"], status["snapshot_name"]) == ("complete", 100, REPLICAS[0], "s1"), status
    assert read(made) == data
    for i, name in enumerate(CLONES):
        got = world.nodes[i].client.ReplicaGet(name=name)
        assert got["linked_clone_info"] == {"source_replica_name": REPLICAS[i], "source_snapshot_name": "s1"}, got
        assert "own" not in got["snapshots"] and got["head"]["actual_size"] == 0, got
    client.EngineSnapshotClone(**linked(source))  # it is so already
    # What it stands upon stays, and what is written to it is its own.
    refused("UNKNOWN", world.nodes[0].client.EngineSnapshotDelete, name="vol-e-0", snapshot_name="s1")
    own = pattern(world.folder, 3, 2 * MIB)
    write(made, own)
    client.EngineSnapshotCreate(name="dst-e-0", snapshot_name="own")
    assert "has snapshots" in refused("UNKNOWN", client.EngineSnapshotClone, **linked(source))
    assert read(made) == own.read_bytes() + data[2 * MIB :]
    run = raw(world.nodes[1], "mirror_get")[0]["engine"]
    world.nodes[1].kill_plane()
    until(lambda: run != next((m["engine"] for m in raw(world.nodes[1], "mirror_get")), run), "another run")
    assert read(whole(world.nodes[1], "dst-e-0")) == own.read_bytes() + data[2 * MIB :]
    client.EngineDelete(name="dst-e-0")
    world.nodes[0].client.EngineDelete(name="vol-e-0")
    for i, name in enumerate(CLONES):
        assert name in refused("UNKNOWN", world.nodes[i].client.ReplicaDelete, name=REPLICAS[i], cleanup_required=True)
        world.nodes[i].client.ReplicaDelete(name=name, cleanup_required=True)
        world.nodes[i].client.ReplicaDelete(name=REPLICAS[i], cleanup_required=True)


def test_linked_without_one(world):
    """A replica that was away gets by copying what the others stand upon."""
    source, data = make_source(world)
    client, node = world.nodes[1].client, world.nodes[2]
    made = make_clone(world, frontend="spdk-tcp-nvmf")
    whole(world.nodes[1], "dst-e-0")
    node.client.ReplicaDelete(name=CLONES[2])  # stopped
    settled_as(world.nodes[1], [RW, RW, WO], "dst-e-0")
    client.EngineSnapshotClone(**linked(source))
    own = pattern(world.folder, 3, 2 * MIB)
    write(made, own)
    before = world.addresses[CLONES[2]]
    world.replica(2, CLONES[2])
    assert world.addresses[CLONES[2]] == before, "at the same place"
    whole(world.nodes[1], "dst-e-0")
    assert node.client.ReplicaGet(name=CLONES[2])["linked_clone_info"] is None
    for name in CLONES[:2]:
        client.EngineReplicaDelete(engine_name="dst-e-0", replica_name=name)
    assert read(made) == own.read_bytes() + data[2 * MIB :], "that one alone has all of it"


if __name__ == "__main__":
    run_all(globals())
