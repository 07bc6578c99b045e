#!/usr/bin/env python3
"""Engines over three penstockd, each with its plane, through a foreign gRPC client. Arguments: penstockd, penstock-block,
penstock-bench, the contract's table, and (optional) one test."""

import os
import pathlib
import random
import signal
import sys
import threading
import traceback
import uuid

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import Contract, Failure, kept, refused, run_each, until
from world import ERR, MIB, NQN, REPLICAS, RW, SIZE, VOLUME, WO, Programs, World, modes, pattern, raw, settled, settled_as, whole, within_lease

DAEMON, PLANE, BENCH, TABLE = sys.argv[1:5]
PROGRAMS = Programs(DAEMON, PLANE, BENCH, Contract(TABLE))
read, write = PROGRAMS.read, PROGRAMS.write
STAMP = "2026-11-21T12:00:00Z"


# ---- its life ----


def test_life(world):
    node = world.nodes[0]
    client = node.client
    assert client.EngineList()["engines"] == {}
    refused("NOT_FOUND", client.EngineGet, name="vol-e-0")
    client.EngineDelete(name="vol-e-0")
    assert world.engine()["state"] == "running"
    engine = whole(node)
    assert engine["error_msg"] == "", engine
    assert engine["spec_size"] == SIZE and engine["ip"] == node.address and 20001 <= engine["port"] <= 30000
    assert engine["replica_address_map"] == {r: world.addresses[r] for r in REPLICAS[:3]}
    assert engine["head"]["name"] == "volume-head" and engine["snapshots"] == {}
    assert set(client.EngineList()["engines"]) == {"vol-e-0"}
    assert "is there" in refused("ALREADY_EXISTS", world.engine)
    export = [s for s in raw(node, "nvmf_get_subsystems") if s["nqn"] == f"{NQN}volume-{VOLUME}"][0]
    of_volume = f"volume-{VOLUME}"
    assert export["namespaces"][0]["uuid"] == str(uuid.uuid5(uuid.NAMESPACE_URL, of_volume)), export
    assert export["namespaces"][0]["nguid"].lower() == uuid.uuid5(uuid.NAMESPACE_OID, of_volume).hex, export
    port = engine["port"]
    client.EngineDelete(name="vol-e-0")
    assert client.EngineList()["engines"] == {}
    assert raw(node, "mirror_get") == [] and raw(node, "bdev_nvme_get_controllers") == []
    assert not [s for s in raw(node, "nvmf_get_subsystems") if "volume-" in s["nqn"]]
    again = world.engine()
    assert again["state"] == "running" and again["port"] == port, again
    whole(node)
    watch = client.start("EngineWatch")
    listed = client.start("EngineReplicaList", engine_name="vol-e-0")
    assert listed.exception() is None, "it has asked other nodes"
    assert node.kill(signal.SIGTERM) == 0
    watch.cancel()


def test_bad_arguments(world):
    client = world.nodes[0].client
    good = {"name": "vol-e-0", "volume_name": VOLUME, "spec_size": SIZE, "frontend": "spdk-tcp-nvmf",
            "replica_address_map": {REPLICAS[0]: world.addresses[REPLICAS[0]]}}  # fmt: skip
    for wrong in ({"name": ""}, {"name": "a b"}, {"volume_name": ""}, {"spec_size": 0}, {"spec_size": 1 << 60}, {"frontend": "iscsi"},
                  {"replica_address_map": {}}, {"replica_address_map": {"r": "127.0.0.1"}}, {"replica_address_map": {"r": ":1"}},
                  {"replica_address_map": {"r": "1.2.3.4:0"}}, {"replica_address_map": {"r": "1.2.3.4:70000"}}, {"data_layout_type": 7},
                  {"replica_address_map": {"": "1.2.3.4:20001"}}, {"snapshot_max_count": -1},
                  {"replica_address_map": {f"r{i}": "1.2.3.4:20001" for i in range(9)}}, {"replica_address_map": {"r" * 64: "1.2.3.4:1"}}):  # fmt: skip
        refused("INVALID_ARGUMENT", client.EngineCreate, **{**good, **wrong})
    assert "ublk" in refused("UNIMPLEMENTED", client.EngineCreate, **{**good, "frontend": "ublk"})
    refused("UNIMPLEMENTED", client.EngineCreate, **{**good, "data_layout_type": 1})
    assert client.EngineList()["engines"] == {}, "nothing is registered"
    for call, values in ((client.EngineExpand, {"size": SIZE}), (client.EngineSnapshotCreate, {"snapshot_name": "s"}),
                         (client.EngineSnapshotDelete, {"snapshot_name": "s"}), (client.EngineSnapshotMaxCountSet, {"count": 1}),
                         (client.EngineExpandPrecheck, {"size": SIZE})):  # fmt: skip
        refused("NOT_FOUND", call, name="none", **values)


def test_a_replica_that_is_not_there(world):
    """It does not keep the engine from being made, when the others can tell that they are newest."""
    assert world.engine()["state"] == "running"
    whole(world.nodes[0])
    world.nodes[0].client.EngineDelete(name="vol-e-0")
    world.nodes[2].kill()
    world.nodes[2].kill_plane()
    assert world.engine()["state"] == "running"
    engine = settled_as(world.nodes[0], [RW, RW, WO])
    assert REPLICAS[2] in engine["error_msg"], engine
    world.nodes[2].start()
    whole(world.nodes[0])


def test_creation_that_fails(world):
    client = world.nodes[0].client
    world.addresses["gone-r-00000000"] = "127.0.0.1:1"
    engine = world.engine(replicas=["gone-r-00000000"])
    assert engine["state"] == "error" and engine["error_msg"], engine
    assert client.EngineGet(name="vol-e-0")["state"] == "error"
    until(lambda: raw(world.nodes[0], "mirror_get") == [], "nothing is left in the plane")
    engine = world.engine()
    assert engine["state"] == "running", "an error that passes may be tried again"


# ---- deaths ----


def test_daemon_dies(world):
    node = world.nodes[0]
    before = world.engine()
    run = raw(node, "mirror_get")[0]["engine"]
    node.kill()
    node.start()
    after = whole(node)
    assert after["port"] == before["port"] and raw(node, "mirror_get")[0]["engine"] == run, "its mirror went on"


def test_plane_dies(world):
    node = world.nodes[0]
    before = world.engine()
    run = raw(node, "mirror_get")[0]["engine"]
    data = pattern(world.folder, 1)
    write(before, data)
    for _ in range(2):
        node.kill_plane()
        until(lambda: run != next((m["engine"] for m in raw(node, "mirror_get")), run), "another run")
        after = whole(node)
        run = raw(node, "mirror_get")[0]["engine"]
        assert after["port"] == before["port"], "at the same place"
    assert "Connection refused" not in node.log(), "the way to its own replica is made when that is exported"
    assert read(after) == data.read_bytes()


def test_both_die(world):
    node = world.nodes[0]
    world.engine()
    for _ in range(2):
        node.kill()
        node.kill_plane()
        node.start()
        whole(node)


class Known:
    """What the answers so far allow an engine to be: None = either."""

    def __init__(self):
        self.there, self.snapshots, self.third = True, {}, True

    def hear(self, method, values, code):
        """A call that was cut off, or failed without saying that nothing was done, may have been done."""
        sure = code == "OK" or code in ("NOT_FOUND", "ALREADY_EXISTS", "INVALID_ARGUMENT")
        done = code == "OK"
        if method == "EngineSnapshotCreate" and (done or not sure):
            self.snapshots[values["snapshot_name"]] = True if done else None
        elif method == "EngineSnapshotDelete" and (done or not sure):
            self.snapshots[values["snapshot_name"]] = False if done else None
        elif method in ("EngineReplicaAdd", "EngineReplicaDelete") and (done or not sure):
            self.third = method == "EngineReplicaAdd" if done else None

    def check(self, engine, luck):
        for name, there in self.snapshots.items():
            assert there is None or (name in engine["snapshots"]) == there, (luck, name, there, engine)
        third = REPLICAS[2] in engine["replica_address_map"]
        assert self.third is None or third == self.third, (luck, self.third, engine)
        self.snapshots = {name: True for name in engine["snapshots"]}
        self.third = third


def test_kills_in_calls(world):
    """The daemon, its plane, both, or another node's plane dies at any moment of any call; then all is as the answers said."""
    seed = int(os.environ.get("PENSTOCK_SEED", "7"))
    luck, node, known = random.Random(seed), world.nodes[0], Known()
    data = pattern(world.folder, 1)
    write(world.engine(), data)
    for step in range(int(os.environ.get("PENSTOCK_ROUNDS", "3"))):
        third = {"engine_name": "vol-e-0", "replica_name": REPLICAS[2], "replica_address": world.addresses[REPLICAS[2]]}
        choices = [("EngineSnapshotCreate", {"name": "vol-e-0", "snapshot_name": f"s{step}", "user_created": True}),
                   ("EngineReplicaDelete" if known.third else "EngineReplicaAdd", third)]  # fmt: skip
        choices += [("EngineSnapshotDelete", {"name": "vol-e-0", "snapshot_name": name}) for name in known.snapshots][:1]
        method, values = luck.choice(choices)
        future = node.client.start(method, **values)
        threading.Event().wait(luck.random() * 0.03)
        victims = luck.choice([("plane",), ("daemon",), ("daemon", "plane"), ("other",)])
        if "daemon" in victims:
            node.kill()
        if "plane" in victims:
            node.kill_plane()
        if "other" in victims:
            world.nodes[1].kill_plane()
        if "daemon" in victims:
            node.start()
        code = "OK" if future.exception() is None else future.exception().code().name
        assert code != "UNAVAILABLE" or victims != ("other",), (seed, step, method, future.exception())
        known.hear(method, values, code)
        known.check(at_rest(world), (seed, step, method, victims, code))
    engine = at_rest(world)
    assert read(engine, SIZE) == data.read_bytes()
    names(world, engine["snapshots"], list(engine["replica_address_map"]))
    node.client.EngineDelete(name="vol-e-0")
    assert raw(node, "mirror_get") == [] and raw(node, "bdev_nvme_get_controllers") == []


def at_rest(world):
    """The engine, when it runs and all of its replicas are whole."""
    node = world.nodes[0]

    def look():
        try:
            mirrors = node.plane_call("mirror_get")["result"]
            engine = node.client.EngineGet(name="vol-e-0")
        except (Failure, OSError, AssertionError, KeyError):
            return None
        rest = engine["state"] == "running" and set(modes(engine)) == {RW} and mirrors and mirrors[0]["state"] == "serving"
        return engine if rest and len(mirrors[0]["legs"]) == len(engine["replica_address_map"]) else None

    return until(look, "the engine is at rest")


def test_dead_engine(world):
    """Its node goes, another takes the replicas, it comes back: it says superseded, and disturbs nobody."""
    a, b = world.nodes[0], world.nodes[1]
    assert world.engine()["state"] == "running"
    whole(a)
    a.kill()
    a.kill_plane()
    assert world.engine("vol-e-1", 1)["state"] == "running"
    engine = settled_as(b, [WO, RW, RW], "vol-e-1")
    data = pattern(world.folder, 1)
    write(engine, data)
    term = raw(b, "mirror_get")[0]["term"]
    a.start()
    old = settled(a, "vol-e-0", "error")
    assert old["error_msg"].startswith("superseded by"), old
    refused("ALREADY_EXISTS", world.engine)
    whole(b, "vol-e-1")
    assert raw(b, "mirror_get")[0]["term"] == term, "undisturbed"
    assert read(engine) == data.read_bytes()
    a.kill()
    a.start()
    assert settled(a, "vol-e-0", "error")["error_msg"].startswith("superseded by"), "and it says so from then on"
    a.client.EngineDelete(name="vol-e-0")
    assert a.client.EngineList()["engines"] == {}


# ---- legs that are out, and copies that are older ----


def test_leg_is_out(world):
    """WO with the reason, ERR when its time is over, and RW again by itself."""
    node = world.nodes[0]
    world.engine()
    world.nodes[2].kill()
    world.nodes[2].kill_plane()
    engine = settled_as(node, [RW, RW, WO])
    assert REPLICAS[2] in engine["error_msg"], engine
    node.kill()
    node.options = (*node.options, "--leg-return-window", "1")
    node.start()
    settled_as(node, [RW, RW, ERR])
    world.nodes[2].start()
    whole(node)


def test_salvage(world):
    """The newest copy counts, though an older one has as many bytes."""
    first, second = pattern(world.folder, 1), pattern(world.folder, 2)
    client = world.nodes[2].client
    engine = world.engine("vol-e-0", 2, REPLICAS[:2])
    write(engine, first)
    whole(world.nodes[2], count=2)
    world.nodes[1].kill()
    world.nodes[1].kill_plane()
    write(engine, second)
    client.EngineDelete(name="vol-e-0")
    world.nodes[0].kill()
    world.nodes[0].kill_plane()
    world.nodes[1].start()
    until(lambda: world.nodes[1].client.ReplicaGet(name=REPLICAS[1])["state"] == "running", "the older copy is there")
    engine = world.engine("vol-e-1", 2, REPLICAS[:2])
    assert engine["state"] == "error" and REPLICAS[0][-10:] in engine["error_msg"], engine
    world.nodes[0].start()
    until(lambda: world.nodes[0].client.ReplicaGet(name=REPLICAS[0])["state"] == "running", "the newer copy is there")
    engine = world.engine("vol-e-1", 2, REPLICAS[:2], salvage_requested=True)
    assert engine["state"] == "running", engine
    assert read(engine) == second.read_bytes(), "the newest"
    whole(world.nodes[2], "vol-e-1", 2)


def test_salvage_without(world):
    """By an engine of another name than the one before, while one copy's node is away: the replicas' records call it by the old one."""
    data = pattern(world.folder, 1)
    client = world.nodes[2].client
    write(world.engine("vol-e-0", 2, REPLICAS[:2]), data)
    whole(world.nodes[2], count=2)
    client.EngineDelete(name="vol-e-0")
    world.nodes[1].kill()
    world.nodes[1].kill_plane()
    engine = world.engine("vol-e-2", 2, REPLICAS[:2])
    assert engine["state"] == "error" and f"{REPLICAS[1][-10:]}@vol-e-0" in engine["error_msg"], engine
    engine = world.engine("vol-e-2", 2, REPLICAS[:2], salvage_requested=True)
    assert engine["state"] == "running" and engine["replica_mode_map"][REPLICAS[0]] == RW, engine
    assert read(engine) == data.read_bytes()
    world.nodes[1].start()
    engine = until(lambda: (e := client.EngineGet(name="vol-e-2"))["replica_mode_map"][REPLICAS[1]] == ERR and e, "what was given up is told")
    assert "diverged" in engine["error_msg"], engine


# ---- a replica that keeps no record ----


def hashed(client, replica, snapshot):
    client.ReplicaSnapshotHash(name=replica, snapshot_name=snapshot)

    def look():
        status = client.ReplicaSnapshotHashStatus(name=replica, snapshot_name=snapshot)
        assert status["state"] in ("in_progress", "complete"), status
        return status["checksum"] if status["state"] == "complete" else None

    return until(look, f"{snapshot} of {replica} has a checksum")


def by_calls(world, source, destination):
    """A replica of the engine's node has records, the other one keeps none: it is rebuilt call by call, under I/O, snapshots and all."""
    client, its = world.nodes[source].client, world.nodes[destination].client
    old, new = REPLICAS[source], REPLICAS[destination]
    engine = world.engine(node=source, replicas=[old])
    for seed in (1, 2, 3):
        write(engine, pattern(world.folder, seed, (4 + seed) * MIB))
        if seed < 3:
            client.EngineSnapshotCreate(name="vol-e-0", snapshot_name=f"s{seed}", user_created=True, snapshot_timestamp=STAMP)
    client.EngineReplicaAdd(engine_name="vol-e-0", replica_name=new, replica_address=world.addresses[new], fast_sync=True)
    told = its.ReplicaRebuildingDstShallowCopyCheck(name=new)
    if told["total_state"] == "":  # a busy machine asks when it is over
        until(lambda: modes(client.EngineGet(name="vol-e-0")) == [RW, RW], "it was rebuilt")
    else:
        assert told["src_replica_name"] == old and told["total_state"] in ("in_progress", "complete"), told
    engine = client.EngineGet(name="vol-e-0")
    data = bytearray(read(engine))
    late = pattern(world.folder, 4, 2 * MIB)
    PROGRAMS.load(engine, f"--from={late}", f"--offset={5 * MIB}", f"--length={2 * MIB}")
    data[5 * MIB : 7 * MIB] = late.read_bytes()
    whole(world.nodes[source], count=2)
    made = {name for name in client.EngineGet(name="vol-e-0")["snapshots"]}
    assert len(made) == 3 and {"s1", "s2"} < made, made
    names(world, made, [old, new])
    for name in made:
        assert hashed(client, old, name) == hashed(its, new, name), name
    there = its.ReplicaGet(name=new)
    assert there["snapshots"]["s2"]["parent"] == "s1" and there["snapshots"]["s1"]["snapshot_timestamp"] == STAMP, there
    assert [s["nqn"] for s in raw(world.nodes[source], "nvmf_get_subsystems") if "-snap-" in s["nqn"]] == [], "nothing is exported any more"
    leg = next(leg for leg in raw(world.nodes[source], "mirror_get")[0]["legs"] if leg["name"].startswith(new[-10:]))
    assert leg["bytes_copied"] <= 4 * MIB, ("its own node has copied the rest", leg)
    assert read(engine) == bytes(data)
    assert "keeps no record" in refused("UNKNOWN", client.EngineSnapshotCreate, name="vol-e-0", snapshot_name="s3")
    client.EngineDelete(name="vol-e-0")
    target = PROGRAMS.replica_target(world.addresses[new], new)
    assert PROGRAMS.read(target) == bytes(data), "it holds what the volume held"


def test_by_calls(world):
    by_calls(world, 0, 1)


def test_by_calls_the_other_way(world):
    by_calls(world, 1, 0)


test_by_calls.recordless = (1,)
test_by_calls_the_other_way.recordless = (0,)


def test_by_calls_fails(world):
    """The replica's node dies in the middle: nothing is left, and it may be added again."""
    client, node = world.nodes[0].client, world.nodes[1]
    old, new = REPLICAS[:2]
    engine = world.engine(replicas=[old])
    data = pattern(world.folder, 1)
    write(engine, data)
    add = {"engine_name": "vol-e-0", "replica_name": new, "replica_address": world.addresses[new]}
    node.kill()
    text = refused("UNAVAILABLE", client.EngineReplicaAdd, **add)  # its plane lives, and says that there are no records
    assert new in text, text
    assert modes(client.EngineGet(name="vol-e-0")) == [RW], "nothing is left of it"
    node.start()
    until(lambda: node.client.ReplicaGet(name=new)["state"] == "running", "it is there again")
    client.EngineReplicaAdd(**add)
    node.kill()
    until(lambda: client.EngineGet(name="vol-e-0")["replica_mode_map"].get(new) in (ERR, RW), "it came to an end")
    node.start()
    if client.EngineGet(name="vol-e-0")["replica_mode_map"][new] == ERR:
        client.EngineReplicaDelete(engine_name="vol-e-0", replica_name=new)
        assert modes(client.EngineGet(name="vol-e-0")) == [RW]
        client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="s1")
        until(lambda: [s for s in raw(world.nodes[0], "nvmf_get_subsystems") if "-snap-" in s["nqn"]] == [], "the source exports nothing any more")
    assert read(client.EngineGet(name="vol-e-0")) == data.read_bytes()


test_by_calls_fails.recordless = (1,)


# ---- snapshots, size ----


def names(world, snapshots, replicas=REPLICAS[:3]):
    """Every replica has these, and no others: its node looks once a second."""
    for name in replicas:
        node = next(n for n in world.nodes if name in n.client.ReplicaList()["replicas"])
        until(lambda: set(node.client.ReplicaGet(name=name)["snapshots"]) == set(snapshots), f"{name} has {snapshots}")  # noqa: B023


def test_snapshots(world):
    client = world.nodes[0].client
    first, second = pattern(world.folder, 1), pattern(world.folder, 2)
    engine = world.engine()
    write(engine, first)
    assert client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="s1", user_created=True, snapshot_timestamp=STAMP) == {"snapshot_name": "s1"}
    write(engine, second)
    made = client.EngineSnapshotCreate(name="vol-e-0")["snapshot_name"]
    assert len(made) == 8
    names(world, ["s1", made])
    engine = client.EngineGet(name="vol-e-0")
    assert engine["head"]["parent"] == made and engine["snapshots"][made]["parent"] == "s1", engine
    assert engine["snapshots"]["s1"]["user_created"] and engine["snapshots"]["s1"]["snapshot_timestamp"] == STAMP, engine
    assert not engine["snapshots"][made]["user_created"]
    assert list(engine["snapshots"]["s1"]["children"]) == [made] and list(engine["snapshots"][made]["children"]) == ["volume-head"]
    assert engine["actual_size"] >= 2 * SIZE
    assert "has a snapshot" in refused("UNKNOWN", client.EngineSnapshotCreate, name="vol-e-0", snapshot_name="s1")
    refused("INVALID_ARGUMENT", client.EngineSnapshotCreate, name="vol-e-0", snapshot_name="volume-head")
    refused("INVALID_ARGUMENT", client.EngineSnapshotCreate, name="vol-e-0", snapshot_name="a b")
    refused("INVALID_ARGUMENT", client.EngineSnapshotDelete, name="vol-e-0")
    client.EngineSnapshotDelete(name="vol-e-0", snapshot_name="unknown")
    client.EngineSnapshotDelete(name="vol-e-0", snapshot_name=made)
    names(world, ["s1"])
    client.EngineSnapshotMaxCountSet(name="vol-e-0", count=1)
    assert "no more than 1" in refused("UNKNOWN", client.EngineSnapshotCreate, name="vol-e-0", snapshot_name="s2")
    client.EngineSnapshotMaxCountSet(name="vol-e-0")
    assert "frontend" in refused("UNKNOWN", client.EngineSnapshotRevert, name="vol-e-0", snapshot_name="s1")
    assert read(engine) == second.read_bytes()
    client.EngineDelete(name="vol-e-0")
    engine = world.engine(frontend="")
    assert engine["state"] == "running" and engine["ip"] == "" and engine["port"] == 0, engine
    assert "no snapshot" in refused("UNKNOWN", client.EngineSnapshotRevert, name="vol-e-0", snapshot_name="s2")
    client.EngineSnapshotRevert(name="vol-e-0", snapshot_name="s1")
    client.EngineDelete(name="vol-e-0")
    assert read(world.engine()) == first.read_bytes()


def test_checksums_and_purge(world):
    """Of all replicas, wherever they are."""
    client = world.nodes[0].client
    engine = world.engine()
    write(engine, pattern(world.folder, 1))
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="mine", user_created=True)
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="its-1")
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="its-2", snapshot_timestamp=STAMP)
    names(world, ["mine", "its-1", "its-2"])

    def hashed():
        client.EngineSnapshotHash(name="vol-e-0", snapshot_name="mine")  # again: of one that was given up for a moment, too
        status = client.EngineSnapshotHashStatus(name="vol-e-0", snapshot_name="mine")["status"]
        whole = set(status) == set(world.addresses.values()) and all(one["state"] == "complete" for one in status.values())
        return status if whole else None

    status = until(hashed, "all have a checksum")
    assert len({one["checksum"] for one in status.values()}) == 1, status
    assert "none" in refused("UNKNOWN", client.EngineSnapshotHash, name="vol-e-0", snapshot_name="none")
    assert {one["state"] for one in client.EngineSnapshotHashStatus(name="vol-e-0", snapshot_name="none")["status"].values()} == {"error"}
    for method in ("EngineSnapshotHash", "EngineSnapshotHashStatus", "EngineSnapshotPurge"):
        refused("NOT_FOUND", getattr(client, method), name="none", snapshot_name="mine")
        refused("INVALID_ARGUMENT", getattr(client, method), snapshot_name="mine")
    refused("INVALID_ARGUMENT", client.EngineSnapshotHash, name="vol-e-0")
    client.EngineSnapshotPurge(name="vol-e-0")
    names(world, ["mine"])
    make_frontend(world, engine)
    client.EngineFrontendSnapshotCreate(name="vol-ef")
    client.EngineFrontendSnapshotCreate(name="vol-ef", snapshot_name="mine-2", user_created=True)
    client.EngineFrontendSnapshotPurge(name="vol-ef")
    names(world, ["mine", "mine-2"])
    # While somebody who may know more cannot be asked, nothing goes.
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="its-3")
    whole(world.nodes[0])
    world.nodes[2].kill()
    assert REPLICAS[2] in refused("UNKNOWN", client.EngineSnapshotPurge, name="vol-e-0")
    world.nodes[2].start()
    names(world, ["mine", "mine-2", "its-3"])


def test_rebuild_is_told(world):
    """How far a replica that was added is, and how fast it may go: asked for at its node, as if it were rebuilt call by call."""
    client, there = world.nodes[0].client, world.nodes[2].client
    engine = world.engine(replicas=REPLICAS[:2])
    write(engine, pattern(world.folder, 1))
    nothing = there.ReplicaRebuildingDstShallowCopyCheck(name=REPLICAS[2])
    assert nothing["state"] == "" and nothing["progress"] == 0, nothing
    raw(world.nodes[0], "mirror_pause_sync", name="vol-e-0")
    client.EngineReplicaAdd(engine_name="vol-e-0", replica_name=REPLICAS[2], replica_address=world.addresses[REPLICAS[2]])

    def told(wanted):
        def look():
            try:
                got = there.ReplicaRebuildingDstShallowCopyCheck(name=REPLICAS[2])
            except Failure as failure:  # of the engine's node, when that is back a moment ago
                assert failure.code == "UNAVAILABLE", failure
                return None
            assert got["error"] == "" and got["progress"] <= 100, got
            return got if got["total_state"] == wanted else None

        return until(look, f"the rebuild is {wanted}")

    got = told("in_progress")
    assert got["src_replica_name"] in REPLICAS[:2] and got["src_replica_address"] == world.addresses[got["src_replica_name"]], got
    assert got["progress"] == got["total_progress"] < 100, got
    there.ReplicaRebuildingDstSetQosLimit(name=REPLICAS[2], qos_limit_mbps=200)
    limit = lambda: next(m for m in raw(world.nodes[0], "mirror_get") if m["name"] == "vol-e-0")["bytes_per_s"]  # noqa: E731
    assert limit() == 200 * MIB
    there.ReplicaRebuildingDstSetQosLimit(name=REPLICAS[2])
    assert limit() == 0
    world.nodes[2].kill()
    world.nodes[2].start()
    told("in_progress")
    world.nodes[0].kill()
    assert "does not tell" in refused("UNAVAILABLE", there.ReplicaRebuildingDstShallowCopyCheck, name=REPLICAS[2])
    world.nodes[0].start()
    raw(world.nodes[0], "mirror_resume_sync", name="vol-e-0")
    assert told("complete")["progress"] == 100
    client.EngineReplicaDelete(engine_name="vol-e-0", replica_name=REPLICAS[2])
    assert there.ReplicaRebuildingDstShallowCopyCheck(name=REPLICAS[2]) == nothing
    refused("UNKNOWN", there.ReplicaRebuildingDstSetQosLimit, name=REPLICAS[2], qos_limit_mbps=1)


def test_expansion(world):
    client = world.nodes[0].client
    data = pattern(world.folder, 1)
    engine = world.engine()
    write(engine, data)
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="small")
    assert client.EngineExpandPrecheck(name="vol-e-0", size=SIZE) == {"expansion_required": False}
    assert client.EngineExpandPrecheck(name="vol-e-0", size=2 * SIZE) == {"expansion_required": True}
    refused("INVALID_ARGUMENT", client.EngineExpand, name="vol-e-0", size=SIZE - MIB)
    client.EngineExpand(name="vol-e-0", size=SIZE)
    client.EngineExpand(name="vol-e-0", size=2 * SIZE)
    engine = client.EngineGet(name="vol-e-0")
    assert engine["spec_size"] == 2 * SIZE and engine["head"]["spec_size"] == 2 * SIZE, engine
    assert engine["snapshots"]["small"]["spec_size"] == SIZE and not engine["is_expanding"]
    for i, name in enumerate(REPLICAS[:3]):
        until(lambda: world.nodes[i].client.ReplicaGet(name=name)["head"]["spec_size"] == 2 * SIZE, "it has grown")  # noqa: B023
    assert read(engine, 2 * SIZE) == data.read_bytes() + bytes(SIZE)
    world.nodes[0].kill_plane()
    until(lambda: raw(world.nodes[0], "mirror_get"), "it is made again")
    assert whole(world.nodes[0])["spec_size"] == 2 * SIZE
    # One that was a replica of it, and is smaller than it is by now.
    client.EngineReplicaDelete(engine_name="vol-e-0", replica_name=REPLICAS[2])
    client.EngineExpand(name="vol-e-0", size=3 * SIZE)
    third = {"engine_name": "vol-e-0", "replica_name": REPLICAS[2], "replica_address": world.addresses[REPLICAS[2]]}
    assert "not as large" in refused("INVALID_ARGUMENT", client.EngineReplicaAdd, **third)
    whole(world.nodes[0], count=2)
    assert read(engine, 3 * SIZE) == data.read_bytes() + bytes(2 * SIZE)


# ---- replicas come and go ----


def test_replicas_come_and_go(world):
    client = world.nodes[0].client
    data, later = pattern(world.folder, 1), pattern(world.folder, 2)
    engine = world.engine()
    write(engine, data)
    client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="s1", user_created=True)
    world.disk(1, "another")
    fourth = world.replica(1, REPLICAS[3], "another")
    address = world.addresses[fourth]
    refused("INVALID_ARGUMENT", client.EngineReplicaAdd, engine_name="vol-e-0", replica_name=fourth, replica_address="nowhere")
    refused("INVALID_ARGUMENT", client.EngineReplicaAdd, engine_name="vol-e-0", replica_name=fourth, replica_address=address, engine_frontend_name="f")
    refused("NOT_FOUND", client.EngineReplicaAdd, engine_name="none", replica_name=fourth, replica_address=address)
    refused("ALREADY_EXISTS", client.EngineReplicaAdd, engine_name="vol-e-0", replica_name=REPLICAS[0], replica_address=address)
    whole(world.nodes[0])
    client.EngineReplicaAdd(engine_name="vol-e-0", replica_name=fourth, replica_address=address)
    engine = whole(world.nodes[0], count=4)
    names(world, ["s1"], REPLICAS)
    write(engine, later)
    whole(world.nodes[0], count=4)
    refused("NOT_FOUND", client.EngineReplicaDelete, engine_name="none", replica_name=fourth)
    refused("INVALID_ARGUMENT", client.EngineReplicaDelete, engine_name="vol-e-0")
    assert "no replica" in refused("UNKNOWN", client.EngineReplicaDelete, engine_name="vol-e-0", replica_name="other")
    refused("UNKNOWN", client.EngineReplicaDelete, engine_name="vol-e-0", replica_name=fourth, replica_address=world.addresses[REPLICAS[0]])
    for name in REPLICAS[:2]:
        client.EngineReplicaDelete(engine_name="vol-e-0", replica_name=name)
    client.EngineReplicaDelete(engine_name="vol-e-0", replica_address=world.addresses[REPLICAS[2]])
    engine = client.EngineGet(name="vol-e-0")
    assert engine["state"] == "running" and engine["replica_mode_map"] == {fourth: RW}, engine
    refused("UNKNOWN", client.EngineReplicaDelete, engine_name="vol-e-0", replica_name=fourth)
    assert read(engine) == later.read_bytes(), "the new one alone has everything"
    world.nodes[0].kill()
    world.nodes[0].kill_plane()
    world.nodes[0].start()
    assert whole(world.nodes[0], count=1)["replica_address_map"] == {fourth: address}, "and that was recorded"


def test_watch(world):
    watch = world.nodes[0].client.start("EngineWatch")
    changes = []
    thread = threading.Thread(target=lambda: changes.extend(iter_quietly(watch)), daemon=True)
    thread.start()
    world.engine()
    until(lambda: changes, "it tells of the new engine")
    seen = len(changes)
    world.nodes[0].client.EngineSnapshotCreate(name="vol-e-0", snapshot_name="s")
    until(lambda: len(changes) > seen, "and of its snapshot")
    whole(world.nodes[0])
    seen = len(changes)
    world.nodes[2].kill_plane()
    until(lambda: len(changes) > seen, "and of a replica that goes away, though nobody asks")
    watch.cancel()


# ---- frontends ----


def make_frontend(world, engine, node=0, **more):
    values = {"name": "vol-ef", "volume_name": VOLUME, "engine_name": "vol-e-0", "spec_size": SIZE, "frontend": "spdk-tcp-nvmf",
              "target_address": f"{engine['ip']}:{engine['port']}", **more}  # fmt: skip
    return world.nodes[node].client.EngineFrontendCreate(**values)


def test_frontend(world):
    """On another node than its engine's."""
    engine = world.engine()
    node = world.nodes[1]
    client = node.client
    assert client.EngineFrontendList()["engine_frontends"] == {}
    refused("NOT_FOUND", client.EngineFrontendGet, name="vol-ef")
    client.EngineFrontendDelete(name="vol-ef")
    target = f"{engine['ip']}:{engine['port']}"
    made = make_frontend(world, engine, 1)
    assert made["state"] == "running" and made["error_msg"] == "", made
    assert made["endpoint"] == f"nvmf://{target}/{NQN}volume-{VOLUME}" and made["target_ip"] == engine["ip"] and made["target_port"] == engine["port"]
    assert made["active_path"] == target and made["engine_name"] == "vol-e-0" and made["spec_size"] == SIZE
    refused("ALREADY_EXISTS", make_frontend, world=world, engine=engine, node=1)
    refused("ALREADY_EXISTS", make_frontend, world=world, engine=engine, node=1, name="vol-ef-2")
    assert client.EngineFrontendSnapshotCreate(name="vol-ef", snapshot_name="s1", user_created=True) == {"snapshot_name": "s1"}
    assert set(world.nodes[0].client.EngineGet(name="vol-e-0")["snapshots"]) == {"s1"}
    refused("UNKNOWN", client.EngineFrontendSnapshotCreate, name="vol-ef", snapshot_name="s1")
    refused("UNKNOWN", client.EngineFrontendSnapshotRevert, name="vol-ef", snapshot_name="s1")
    client.EngineFrontendSnapshotDelete(name="vol-ef", snapshot_name="s1")
    assert world.nodes[0].client.EngineGet(name="vol-e-0")["snapshots"] == {}
    client.EngineFrontendExpand(name="vol-ef", size=2 * SIZE)
    assert client.EngineFrontendGet(name="vol-ef")["spec_size"] == 2 * SIZE
    assert world.nodes[0].client.EngineGet(name="vol-e-0")["spec_size"] == 2 * SIZE
    refused("INVALID_ARGUMENT", client.EngineFrontendExpand, name="vol-ef", size=SIZE)
    refused("FAILED_PRECONDITION", client.EngineFrontendResume, name="vol-ef")
    world.disk(1, "another")
    fourth = world.replica(1, REPLICAS[3], "another")
    refused("INVALID_ARGUMENT", client.EngineFrontendReplicaAdd, engine_frontend_name="vol-ef", replica_name=fourth, replica_address=world.addresses[fourth])
    node.kill()
    node.start()
    again = client.EngineFrontendGet(name="vol-ef")
    assert again["state"] == "running" and again["spec_size"] == 2 * SIZE and again["endpoint"] == made["endpoint"], again
    client.EngineFrontendDelete(name="vol-ef")
    assert client.EngineFrontendList()["engine_frontends"] == {}
    listed = world.nodes[0].client.EngineReplicaList(engine_name="vol-e-0")["replicas"]
    assert {name: replica["state"] for name, replica in listed.items()} == {name: "running" for name in REPLICAS[:3]}
    refused("NOT_FOUND", world.nodes[0].client.EngineReplicaList, engine_name="none")


def test_frontends_that_fail(world):
    client = world.nodes[0].client
    engine = {"ip": world.nodes[1].address, "port": 20001}
    for wrong in ({"name": ""}, {"volume_name": ""}, {"engine_name": ""}, {"spec_size": 0}, {"frontend": "iscsi"}, {"target_address": ""},
                  {"target_address": "1.2.3.4"}):  # fmt: skip
        refused("INVALID_ARGUMENT", make_frontend, world=world, engine=engine, **wrong)
    assert "ublk" in refused("UNIMPLEMENTED", make_frontend, world=world, engine=engine, frontend="ublk")
    assert client.EngineFrontendList()["engine_frontends"] == {}
    made = make_frontend(world, engine)
    assert made["state"] == "error" and "there is no engine" in made["error_msg"], "no such engine there"
    refused("FAILED_PRECONDITION", client.EngineFrontendSnapshotCreate, name="vol-ef", snapshot_name="s")
    refused("FAILED_PRECONDITION", client.EngineFrontendSuspend, name="vol-ef")
    engine = world.engine()
    assert make_frontend(world, {"ip": engine["ip"], "port": 1})["state"] == "error", "not at that port"
    assert make_frontend(world, engine)["state"] == "running", "one that failed may be made again"
    client.EngineFrontendDelete(name="vol-ef")
    made = make_frontend(world, engine, frontend="", target_address="")
    assert made["state"] == "running" and made["endpoint"] == ""


def test_suspend(world):
    client = world.nodes[0].client
    engine = world.engine()
    make_frontend(world, engine)
    watch = client.start("EngineFrontendWatch")
    changes = []
    threading.Thread(target=lambda: changes.extend(iter_quietly(watch)), daemon=True).start()

    def pause():
        client.EngineFrontendSuspend(name="vol-ef")
        assert client.EngineFrontendGet(name="vol-ef")["state"] == "suspended"
        assert raw(world.nodes[0], "mirror_get")[0]["paused"]
        refused("FAILED_PRECONDITION", client.EngineFrontendSuspend, name="vol-ef")
        client.EngineFrontendResume(name="vol-ef")

    runs = lambda: client.EngineFrontendGet(name="vol-ef")["state"] == "running"  # noqa: E731
    within_lease(pause, lambda: until(runs, "a pause that was too short is over"))
    assert runs() and not raw(world.nodes[0], "mirror_get")[0]["paused"]
    client.EngineFrontendSuspend(name="vol-ef")
    until(runs, "a pause ends by itself")
    refused("FAILED_PRECONDITION", client.EngineFrontendResume, name="vol-ef")
    until(lambda: len(changes) >= 4, "each change is told")
    watch.cancel()


def test_suspend_elsewhere(world):
    """Of an engine on another node."""
    engine = world.engine()
    client = world.nodes[1].client
    make_frontend(world, engine, 1)
    paused = lambda: raw(world.nodes[0], "mirror_get")[0]["paused"]  # noqa: E731
    runs = lambda: client.EngineFrontendGet(name="vol-ef")["state"] == "running"  # noqa: E731

    def pause():
        client.EngineFrontendSuspend(name="vol-ef")
        assert client.EngineFrontendGet(name="vol-ef")["state"] == "suspended" and paused()
        refused("FAILED_PRECONDITION", client.EngineFrontendSuspend, name="vol-ef")
        client.EngineFrontendResume(name="vol-ef")

    within_lease(pause, lambda: until(runs, "a pause that was too short is over"))
    assert runs() and not paused()
    client.EngineFrontendSuspend(name="vol-ef")
    world.nodes[1].kill()  # who had it paused dies
    until(lambda: not paused(), "a pause ends by itself")
    world.nodes[1].start()
    until(runs, "it runs")
    refused("FAILED_PRECONDITION", client.EngineFrontendResume, name="vol-ef")
    world.nodes[0].kill()
    assert "its engine's node" in refused("UNAVAILABLE", client.EngineFrontendSuspend, name="vol-ef")
    assert runs()


def iter_quietly(stream):
    try:
        yield from stream
    except grpc.RpcError:
        return


def run(test):
    """What there is to say of its failure; nothing if it passed. Tests mostly wait, so they run at the same time."""
    said, world = [], None
    with kept.Folder(prefix="penstockd-") as folder:
        try:
            world = World(PROGRAMS, folder)
            world.recordless = getattr(test, "recordless", ())
            world.start()
            test(world)
        except Exception:
            said.append(traceback.format_exc())
            said.extend(node.log()[-5000:] for node in world.nodes) if world is not None else None
        finally:
            if world is not None:
                world.end()
    return "\n".join(said)


def run_all(tests):
    run_each(run, tests, sys.argv[5:], 6)


if __name__ == "__main__":
    run_all(globals())
