#!/usr/bin/env python3
"""Volumes over three penstockd (penstock.v1.VolumeService), each with its plane, through a foreign gRPC client and the command line. Arguments:
penstockd, penstock-block, penstock-bench, penstock, Longhorn's contract's table, volume.proto, and (optional) tests."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc  # noqa: F401
    from rig import DEADLINE_S, Client, Contract, Failure, Node, certificate, certificates, kept, refused, run_each, until
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

DAEMON, PLANE, BENCH, PENSTOCK, TABLE, PROTO = sys.argv[1:7]
CONTRACT = Contract(TABLE)
MIB = 1 << 20
SIZE = 16 * MIB


class OwnContract(Contract):
    """Messages and methods as the .proto file has them; nothing of ours reads it."""

    def __init__(self, path):
        self.messages, self.enums, self.methods = {}, {}, {}
        message = None
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            if found := re.match(r"message (\w+)", line):
                message = self.messages.setdefault(found[1], {})
            elif found := re.match(r"  (repeated )?(\w+) (\w+) = (\d+);", line):
                message[found[3]] = (int(found[4]), (found[1] or "") + found[2])
            elif found := re.match(r"  rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\)", line):
                self.methods[found[1]] = (found[2], found[4], "stream" if found[3] else "unary")


OWN = OwnContract(PROTO)


class OwnClient(Client):
    service = "/penstock.v1.VolumeService/"

    def hello(self):
        return self.ListVolumes()


class World:
    """Nodes, each with a disk; volumes are made through the first one."""

    def __init__(self, folder, count=3, options=()):
        self.folder = pathlib.Path(folder)
        self.nodes = [Node(DAEMON, PLANE, CONTRACT, self.folder / str(i), options) for i in range(count)]
        self.clients = []
        self.target = lambda node: f"{node.address}:8504"

    def start(self):
        for i, node in enumerate(self.nodes):
            node.client = Client(CONTRACT, self.target(node))
            node.start()
            self.disk(i)
        self.clients = [OwnClient(OWN, self.target(node)) for node in self.nodes]
        for node, client in zip(self.nodes, self.clients):
            node.callers.append(client)

    def disk(self, i, name="d"):
        node = self.nodes[i]
        path = node.folder / f"{name}.img"
        with open(path, "wb") as file:
            file.truncate(256 * MIB)
        node.client.DiskCreate(disk_name=name, disk_path=str(path), block_size=4096)
        until(lambda: node.client.DiskGet(disk_name=name)["state"] == "ready", "the disk is open")

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    def create(self, name="v", at=0, **more):
        values = {"name": name, "size_bytes": SIZE, "nodes": self.addresses, **more}
        return self.clients[at].CreateVolume(**values)["volume"]

    def get(self, name="v", at=0):
        return self.clients[at].GetVolume(name=name)["volume"]

    def line(self, *words, node=None):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        return subprocess.run([PENSTOCK, "--node", node or ",".join(self.addresses), *words], capture_output=True, text=True, timeout=90,
                              check=False, env=clean)  # fmt: skip

    def ok(self, *words, node=None):
        done = self.line(*words, node=node)
        assert done.returncode == 0, f"{words}: {done.returncode}: {done.stderr}"
        return done.stdout

    def parts(self):
        """Everything that nodes which run have, by kind."""
        found = []
        for node in self.nodes:
            if node.process is not None:
                found += [f"replica {name} on {node.address}" for name in node.client.ReplicaList()["replicas"]]
                found += [f"engine {name} on {node.address}" for name in node.client.EngineList()["engines"]]
                found += [f"frontend {name} on {node.address}" for name in node.client.EngineFrontendList()["engine_frontends"]]
        return found

    def end(self):
        for client in self.clients:
            client.close()
        for node in self.nodes:
            node.end()


def modes(volume):
    return sorted(replica["mode"] for replica in volume["replicas"])


def whole(world, name="v", count=3):
    def look():
        volume = world.get(name)
        return volume if volume["state"] == "running" and modes(volume) == ["RW"] * count else None

    return until(look, f"{name} has {count} whole replicas: {world.get(name)}")


def target(volume):
    return re.sub(r"^nvmf://", "nvme-tcp://", volume["endpoint"])


def bench(volume, *options):
    done = subprocess.run([BENCH, *options, target(volume)], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def write(world, volume, seed):
    path = world.folder / f"pattern-{seed}"
    path.write_bytes(random.Random(seed).randbytes(SIZE))
    bench(volume, f"--from={path}")
    return path.read_bytes()


def read(volume):
    with tempfile.NamedTemporaryFile() as to:
        bench(volume, f"--to={to.name}", f"--length={SIZE}")
        return pathlib.Path(to.name).read_bytes()


# ---- its life ----


def test_life(world):
    client = world.clients[0]
    assert client.ListVolumes()["volumes"] == []
    refused("NOT_FOUND", client.GetVolume, name="v")
    client.DeleteVolume(name="v")
    assert world.create()["state"] == "running"
    made = whole(world)  # on a busy machine a replica may come in a moment later
    assert made["health"] == "healthy", made
    assert sorted(replica["node"] for replica in made["replicas"]) == sorted(world.addresses), "one on each node"
    assert made["size_bytes"] == SIZE and made["endpoint"].startswith(f"nvmf://{world.addresses[0]}:2"), made
    assert len(world.parts()) == 5, world.parts()
    # Again: the same one. Otherwise: not.
    again = world.create()
    assert again["endpoint"] == made["endpoint"] and [r["name"] for r in again["replicas"]] == [r["name"] for r in made["replicas"]], again
    assert "another size" in refused("ALREADY_EXISTS", world.create, size_bytes=2 * SIZE)
    assert "has a volume v" in refused("ALREADY_EXISTS", world.create, at=1)
    assert [volume["name"] for volume in client.ListVolumes()["volumes"]] == ["v"] and world.clients[1].ListVolumes()["volumes"] == []
    data = write(world, made, 1)
    # A snapshot is on every replica.
    assert client.CreateSnapshot(name="v", snapshot="s1")["snapshot"] == "s1"
    assert "has a snapshot s1" in refused("ALREADY_EXISTS", client.CreateSnapshot, name="v", snapshot="s1")
    assert [snapshot["name"] for snapshot in client.ListSnapshots(name="v")["snapshots"]] == ["s1"]
    for node in world.nodes:  # which look once a second
        until(lambda node=node: [list(r["snapshots"]) for r in node.client.ReplicaList()["replicas"].values()] == [["s1"]], "it is on each")
    assert world.get()["snapshot_count"] == 1
    client.DeleteSnapshot(name="v", snapshot="s1")
    grown = client.ExpandVolume(name="v", size_bytes=2 * SIZE)["volume"]
    assert grown["size_bytes"] == 2 * SIZE and world.nodes[0].client.EngineGet(name="v-e-0")["spec_size"] == 2 * SIZE, grown
    client.ExpandVolume(name="v", size_bytes=2 * SIZE)
    assert "not less" in refused("INVALID_ARGUMENT", client.ExpandVolume, name="v", size_bytes=SIZE)
    assert read(grown) == data
    # penstockd dies and comes back: nothing has happened.
    world.nodes[0].kill()
    world.nodes[0].start()
    after = whole(world)
    assert after["endpoint"] == made["endpoint"] and after["size_bytes"] == 2 * SIZE and read(after) == data
    client.DeleteVolume(name="v")
    client.DeleteVolume(name="v")
    assert client.ListVolumes()["volumes"] == [] and world.parts() == []


def test_bad_arguments(world):
    client = world.clients[0]
    for wrong in ({"name": ""}, {"name": "a b"}, {"name": "v" * 53}, {"name": "a-snap-b"}, {"size_bytes": 0}, {"size_bytes": 1 << 60},
                  {"frontend": "iscsi"}, {"replica_count": 9}, {"places": ["there"]}, {"places": ["127.0.0.1/a b"]}, {"nodes": ["here"]},
                  {"nodes": ["1.1.1.1"] * 17}, {"replica_count": 2, "places": ["127.0.0.1"]}):  # fmt: skip
        refused("INVALID_ARGUMENT", world.create, **wrong)
    assert "ublk" in refused("UNIMPLEMENTED", world.create, frontend="ublk")
    # Places that there are not: nothing is begun.
    assert "4 nodes" in refused("FAILED_PRECONDITION", world.create, replica_count=4)
    assert "none" in refused("FAILED_PRECONDITION", world.create, places=[f"{world.addresses[0]}/none"])
    world.nodes[2].kill()
    assert world.addresses[2] in refused("FAILED_PRECONDITION", world.create)
    world.nodes[2].start()
    for call, values in ((client.ExpandVolume, {"size_bytes": SIZE}), (client.CreateSnapshot, {"snapshot": "s"}), (client.AddReplica, {}),
                         (client.RemoveReplica, {"replica": "r"}), (client.UpdateVolume, {}), (client.ListSnapshots, {}),
                         (client.DeleteSnapshot, {"snapshot": "s"})):  # fmt: skip
        refused("NOT_FOUND", call, name="none", **values)
    assert client.ListVolumes()["volumes"] == [] and world.parts() == []
    # One that cannot be made is settled: it stays in error, nothing of it is left, and it may be created again.
    two = world.nodes[1].client.ReplicaCreate(name="x-r-00000000", lvs_name="d", spec_size=SIZE, port_count=1)
    world.nodes[0].client.EngineCreate(name="v-e-0", volume_name="other", spec_size=SIZE, frontend="spdk-tcp-nvmf", port_count=1,
                                       replica_address_map={"x-r-00000000": f"{two['ip']}:{two['port_start']}"})  # fmt: skip
    failed = world.create()
    assert failed["state"] == "error" and "of volume other" in failed["reason"] and failed["replicas"] == [], failed
    assert len(world.parts()) == 2, "the other's alone"
    assert world.get() == failed
    refused("FAILED_PRECONDITION", client.ExpandVolume, name="v", size_bytes=2 * SIZE)
    world.nodes[0].client.EngineDelete(name="v-e-0")
    world.nodes[1].client.ReplicaDelete(name="x-r-00000000", cleanup_required=True)
    assert world.create()["state"] == "running"
    client.DeleteVolume(name="v")
    assert world.parts() == []


# ---- deaths ----


def draws(few):
    """(its seed, that of the environment or 7; how many rounds)"""
    seed = int(os.environ.get("PENSTOCK_TEST_SEED", "7"))
    return seed, 40 if os.environ.get("PENSTOCK_TEST_BUDGET") == "long" else few


def death_in(world, draw, within_s, call, code):
    """The node's own penstockd or another's is killed somewhere in a call, and started again: what the call answered, or its Failure,
    which is of that code if the call was not broken off."""
    victim = world.nodes[draw.choice((0, 0, 1))]
    answers = []

    def run_it():
        try:
            answers.append(call())
        except Failure as failure:
            answers.append(failure)

    caller = threading.Thread(target=run_it)
    caller.start()
    time.sleep(draw.random() * within_s)
    victim.kill()
    victim.start()
    caller.join()
    assert answers, "it ended otherwise"
    if isinstance(answers[0], Failure):
        assert answers[0].code in ("UNAVAILABLE", code), answers[0]
    return answers[0]


def rests(world, what, name="v"):
    """It is not there, or in a state that it stays in: what is told of it then, or None."""
    found = []

    def look():
        found[:] = [volume for volume in world.clients[0].ListVolumes()["volumes"] if volume["name"] == name]
        return not found or (found[0]["state"] in ("running", "error") and "taken away" not in found[0]["reason"])

    until(look, lambda: f"{name} is settled: {what}: {found}")
    return found[0] if found else None


def test_deaths_in_creations_and_deletions(world):
    """The node's own penstockd or another's is killed somewhere in it: it is finished or undone, and nothing is left over."""
    seed, rounds = draws(8)
    draw = random.Random(seed)
    client = world.clients[0]
    for round_ in range(rounds):
        deleting = round_ % 4 == 3
        if deleting:
            assert world.create()["state"] == "running"
        call = (lambda: client.DeleteVolume(name="v")) if deleting else world.create
        answer = death_in(world, draw, 0.12, call, "ALREADY_EXISTS")
        what = f"round {round_} of seed {seed}: {answer}"
        volume = rests(world, what)
        if isinstance(answer, dict) and not deleting:
            assert volume and volume["state"] == answer["state"], what
        if deleting and not volume:
            assert world.parts() == [], what
        assert world.create()["state"] == "running", what
        whole(world)
        assert len(world.parts()) == 5, (what, world.parts())
        left = client.ListLeftovers()
        assert left == {"leftovers": [], "silent": []}, (what, left)
        client.DeleteVolume(name="v")
        assert world.parts() == [], what


def test_a_node_that_is_away(world):
    client = world.clients[0]
    made = world.create()
    data = write(world, made, 2)
    third = world.nodes[2]
    third.kill()
    third.kill_plane()

    def degraded():
        volume = world.get()
        return volume["state"] == "running" and volume["health"] == "degraded" and modes(volume) == ["RW", "RW", "WO"]

    until(degraded, lambda: f"its loss is seen: {world.get()}")
    data = write(world, made, 3)
    third.start()
    assert read(whole(world)) == data
    # It is deleted while one node is away: that is told, and done when it is back.
    third.kill()
    assert world.addresses[2] in refused("UNAVAILABLE", client.DeleteVolume, name="v")
    assert world.get()["state"] == "terminating" and len(world.parts()) == 0, world.parts()
    third.start()
    until(lambda: client.ListVolumes()["volumes"] == [] and world.parts() == [], "the rest goes by itself")
    # Or what is there is left, and named.
    world.create()
    third.kill()
    client.DeleteVolume(name="v", abandon=True)
    assert client.ListVolumes()["volumes"] == []
    assert [text.split(":")[0] for text in client.ListLeftovers(nodes=world.addresses)["silent"]] == [third.address]
    third.start()
    (left,) = client.ListLeftovers(nodes=world.addresses)["leftovers"]
    assert left["kind"] == "replica" and left["node"] == third.address and left["volume"] == "v", left
    shown = world.ok("volume", "leftovers")
    assert f"penstock --node {third.address} replica delete {left['name']} --yes" in shown, shown
    third.client.ReplicaDelete(name=left["name"], cleanup_required=True)
    assert client.ListLeftovers(nodes=world.addresses) == {"leftovers": [], "silent": []}


# ---- reverts ----


def test_reverts(world):
    client = world.clients[0]
    made = world.create()
    data = write(world, made, 6)
    client.CreateSnapshot(name="v", snapshot="s1")
    client.ExpandVolume(name="v", size_bytes=2 * SIZE)
    later = write(world, world.get(), 7)
    client.CreateSnapshot(name="v", snapshot="s2")
    # What cannot be touches nothing.
    refused("NOT_FOUND", client.RevertVolume, name="none", snapshot="s1")
    refused("INVALID_ARGUMENT", client.RevertVolume, name="v", snapshot="")
    assert "no snapshot s3" in refused("FAILED_PRECONDITION", client.RevertVolume, name="v", snapshot="s3")
    done = world.line("volume", "revert", "v", "s1")
    assert done.returncode == 64 and "--yes" in done.stderr, done
    assert read(whole(world)) == later
    world.ok("volume", "revert", "v", "s1", "--yes")
    now = whole(world)
    assert now["size_bytes"] == 2 * SIZE and now["health"] == "healthy" and len(world.parts()) == 5, (now, world.parts())
    assert read(now) == data, "it is what it was"
    assert world.nodes[0].client.EngineGet(name="v-e-0")["spec_size"] == 2 * SIZE
    assert sorted(snapshot["name"] for snapshot in client.ListSnapshots(name="v")["snapshots"]) == ["s1", "s2"]
    whole(world)
    assert client.RevertVolume(name="v", snapshot="s2")["volume"]["endpoint"].startswith("nvmf://")
    assert read(whole(world)) == later, "and back"
    # One without a frontend, which nobody looks at meanwhile.
    bare = world.create("w", frontend="none")
    assert bare["endpoint"] == ""
    client.CreateSnapshot(name="w", snapshot="s1")
    whole(world, "w")
    assert client.RevertVolume(name="w", snapshot="s1")["volume"]["state"] == "running"
    client.DeleteVolume(name="w")
    # A replica that is away would not take part.
    world.nodes[2].kill()
    world.nodes[2].kill_plane()
    until(lambda: world.get()["health"] == "degraded", "its loss is seen")
    assert "not all of its replicas" in refused("FAILED_PRECONDITION", client.RevertVolume, name="v", snapshot="s1")
    world.nodes[2].start()
    assert read(whole(world)) == later
    client.DeleteVolume(name="v")
    assert world.parts() == []


def test_deaths_in_reverts(world):
    """The volume's own penstockd or another's dies somewhere in it: it is as it was before or as the snapshot says, and serves."""
    seed, rounds = draws(3)
    draw = random.Random(seed)
    client = world.clients[0]
    snapshot = write(world, world.create(), 8)
    client.CreateSnapshot(name="v", snapshot="s1")
    for round_ in range(rounds):
        later = write(world, whole(world), 9 + round_ % 2)
        answer = death_in(world, draw, 0.25, lambda: client.RevertVolume(name="v", snapshot="s1"), "FAILED_PRECONDITION")
        what = f"round {round_} of seed {seed}: {answer}"
        found = read(whole(world))
        assert found in (snapshot, later), what
        if isinstance(answer, dict):
            assert found == snapshot, what
        elif answer.code == "FAILED_PRECONDITION" and "in its time" not in str(answer):
            assert found == later, what
        assert len(world.parts()) == 5, (what, world.parts())
    client.DeleteVolume(name="v")
    assert world.parts() == []


# ---- clones ----


def test_clones(world):
    client = world.clients[0]
    data = write(world, world.create(), 11)
    client.CreateSnapshot(name="v", snapshot="s1")
    later = write(world, world.get(), 12)
    # What cannot be begins nothing.
    refused("NOT_FOUND", client.CloneVolume, name="none", snapshot="s1", new_name="w")
    assert "no snapshot s2" in refused("FAILED_PRECONDITION", client.CloneVolume, name="v", snapshot="s2", new_name="w")
    refused("INVALID_ARGUMENT", client.CloneVolume, name="v", snapshot="s1", new_name="a b")
    assert "is there" in refused("ALREADY_EXISTS", client.CloneVolume, name="v", snapshot="s1", new_name="v")
    assert len(world.parts()) == 5
    assert world.ok("volume", "clone", "v", "s1", "w").startswith(f"nvmf://{world.addresses[0]}:2")
    clone = whole(world, "w")
    assert clone["size_bytes"] == SIZE and clone["health"] == "healthy" and len(world.parts()) == 10, (clone, world.parts())
    assert read(clone) == data, "it is what the snapshot is"
    assert [snapshot["name"] for snapshot in client.ListSnapshots(name="w")["snapshots"]] == ["s1"]
    again = client.CloneVolume(name="v", snapshot="s1", new_name="w")["volume"]
    assert [replica["name"] for replica in again["replicas"]] == [replica["name"] for replica in clone["replicas"]], again
    assert "another size" in refused("ALREADY_EXISTS", world.create, name="w")
    # Each goes its own way, and the source need not stay.
    own = write(world, clone, 13)
    assert read(whole(world)) == later and read(whole(world, "w")) == own
    client.DeleteVolume(name="v")
    world.ok("volume", "revert", "w", "s1", "--yes")
    assert read(whole(world, "w")) == data
    client.DeleteVolume(name="w")
    assert world.parts() == []


def test_deaths_in_clonings(world):
    """The volume's own penstockd or another's dies somewhere in it: the clone is whole, or there is nothing of it; the source is as it was."""
    seed, rounds = draws(3)
    draw = random.Random(seed)
    client = world.clients[0]
    data = write(world, world.create(), 14)
    client.CreateSnapshot(name="v", snapshot="s1")

    def clone():
        return client.CloneVolume(name="v", snapshot="s1", new_name="w")

    for round_ in range(rounds):
        answer = death_in(world, draw, 0.4, clone, "FAILED_PRECONDITION")
        what = f"round {round_} of seed {seed}: {answer}"
        volume = rests(world, what, "w")
        if volume and volume["state"] == "running":
            assert read(whole(world, "w")) == data, what
        else:
            assert len(world.parts()) == 5, (what, world.parts())
        client.DeleteVolume(name="w")
        assert len(world.parts()) == 5 and read(whole(world)) == data, (what, world.parts())

    def cloned():
        """Where a plane still goes on with the copy of a daemon that died, it is refused until that has noticed."""
        try:
            volume = clone()["volume"]
        except Failure as failure:
            assert "is being copied to" in str(failure), failure
            return False
        if volume["state"] == "running":
            return True
        assert "is being copied to" in volume["reason"], volume
        client.DeleteVolume(name="w")
        return False

    until(cloned, "it is cloned")
    assert read(whole(world, "w")) == data
    for name in ("v", "w"):
        client.DeleteVolume(name=name)
    assert world.parts() == []


# ---- replicas ----


def test_replicas_come_and_go(world):
    client = world.clients[0]
    made = world.create(replica_count=2)
    data = write(world, made, 4)
    client.CreateSnapshot(name="v", snapshot="s1")
    watch = client.start("WatchVolumes", name="v")
    first = OWN.read("WatchVolumesResponse", next(watch))
    assert first["volume"]["name"] == "v" and not first["deleted"], first
    free = next(address for address in world.addresses if address not in [replica["node"] for replica in made["replicas"]])
    added = client.AddReplica(name="v")
    assert [r["node"] for r in added["volume"]["replicas"] if r["name"] == added["replica"]] == [free], added
    now = whole(world)
    copied = next(r["copied_bytes"] for r in now["replicas"] if r["name"] == added["replica"])
    assert copied >= SIZE, "the volume was full"
    assert read(now) == data
    for message in watch:
        told = OWN.read("WatchVolumesResponse", message)
        if modes(told["volume"]) == ["RW"] * 3:
            break
    refused("FAILED_PRECONDITION", client.AddReplica, name="v")  # all nodes have one
    gone = made["replicas"][0]["name"]
    refused("NOT_FOUND", client.RemoveReplica, name="v", replica="none-r-p0000000")
    after = client.RemoveReplica(name="v", replica=gone)["volume"]
    assert gone not in [replica["name"] for replica in after["replicas"]] and len(world.parts()) == 4, (after, world.parts())
    assert read(whole(world, count=2)) == data
    # One whose node is away goes at once for the volume, and for good when the node is back.
    other = next(replica for replica in after["replicas"] if replica["node"] != world.addresses[0])
    node = next(node for node in world.nodes if node.address == other["node"])
    node.kill()
    client.RemoveReplica(name="v", replica=other["name"])
    (still,) = (replica for replica in world.get()["replicas"] if replica["change"] == "removing")
    assert still["name"] == other["name"] and still["mode"] == "", still
    node.start()
    until(lambda: len(world.get()["replicas"]) == 1, "it goes when its node is back")
    assert read(world.get()) == data
    assert "last replica" in refused("FAILED_PRECONDITION", client.RemoveReplica, name="v", replica=world.get()["replicas"][0]["name"])
    client.DeleteVolume(name="v")
    for message in watch:
        if OWN.read("WatchVolumesResponse", message)["deleted"]:
            break
    watch.cancel()
    assert world.parts() == []


def test_a_lost_replica_is_replaced(world):
    client = world.clients[0]
    made = world.create(replica_count=3, replace_lost=True, nodes=world.addresses)
    assert made["replace_lost"] is True
    data = write(world, made, 5)
    lost = next(replica for replica in made["replicas"] if replica["node"] == world.addresses[2])
    world.nodes[2].kill()
    world.nodes[2].kill_plane()

    def replaced():
        replicas = [replica for replica in world.get()["replicas"] if replica["change"] == ""]
        return replicas if [replica["mode"] for replica in replicas] == ["RW"] * 3 and lost["name"] not in [r["name"] for r in replicas] else None

    now = until(replaced, f"the lost one is replaced: {world.get()}")
    assert sorted(replica["node"] for replica in now) == sorted(world.addresses[i] for i in (0, 1, 3)), "by one on the node that was free"
    assert read(world.get()) == data
    world.nodes[2].start()  # what was on the lost node goes when it is back
    until(lambda: len(world.get()["replicas"]) == 3 and len(world.parts()) == 5, "nothing is left over")
    client.UpdateVolume(name="v", replace_lost=False)
    assert world.get()["replace_lost"] is False
    client.DeleteVolume(name="v")


test_a_lost_replica_is_replaced.options = ("--leg-return-window", "2")
test_a_lost_replica_is_replaced.nodes = 4


# ---- the command line ----


def test_verbs(world):
    line = world.line
    done = line("volume", "create", "v", "16M")
    assert done.returncode == 0 and done.stdout.startswith(f"nvmf://{world.addresses[0]}:2"), done
    whole(world)
    # A busy machine may lose a replica for a moment between any two looks.
    listed = until(lambda: (one := json.loads(world.ok("volume", "list", "-o", "json"))[0])["health"] == "healthy" and one, "it is healthy")
    assert listed["name"] == "v", listed
    row = until(lambda: "healthy" in (line := world.ok("volume", "list").split("\n")[1]) and line, "it is healthy for people")
    assert row.split()[:3] == ["v", "running", "healthy"] and {"3/3", world.addresses[0]} <= set(row.split()), row
    until(lambda: "3/3 replicas whole" in (shown := world.ok("volume", "show", "v")) and shown.count(" RW ") == 3, "it is shown to be whole")
    assert line("volume", "show", "w").returncode == 66
    assert world.ok("volume", "snapshot", "create", "v", "s1") == "s1\n"
    assert json.loads(world.ok("volume", "snapshot", "list", "v", "-o", "json"))[0]["name"] == "s1"
    world.ok("volume", "snapshot", "delete", "v", "s1")
    world.ok("volume", "expand", "v", "32M")
    assert json.loads(world.ok("volume", "show", "v", "-o", "json"))["size_bytes"] == 32 * MIB
    until(lambda: world.ok("volume", "watch", "--once", node=world.addresses[0]).startswith("v running healthy, 3/3 whole"), "it is watched")
    world.disk(1, "e")
    removed = listed["replicas"][2]["name"]
    done = line("volume", "remove", "v", removed)
    assert done.returncode == 64 and "--yes" in done.stderr, done
    world.ok("volume", "remove", "v", removed, "--yes")
    done = line("volume", "add", "v", f"{world.addresses[1]}/e", "--follow")
    assert done.returncode == 0, done
    until(lambda: "3/3" in world.ok("volume", "list"), "it is whole")
    world.ok("volume", "set", "v", "--replace-lost", "yes")
    assert json.loads(world.ok("volume", "show", "v", "-o", "json"))["replace_lost"] is True
    assert world.ok("__complete", "volume", "show", "") == "v\n"
    until(lambda: "all is well" in world.line("status").stdout, "all is well")
    # One node is away: the rest is shown, and what to do.
    world.nodes[2].kill()
    done = line("volume", "list")
    assert done.returncode == 75 and "v " in done.stdout and world.addresses[2] in done.stderr, done
    world.nodes[2].start()
    assert "--yes" in line("volume", "delete", "v").stderr
    world.ok("volume", "delete", "v", "--yes")
    assert json.loads(world.ok("volume", "list", "-o", "json")) == [] and world.parts() == []


def under_tls(world):
    """The last one's certificate does not hold its address."""
    folder = world.folder
    if not certificates(folder):
        raise Skipped("no openssl command: nodes under TLS are not looked at")
    world.target = lambda node: f"unix:{node.folder}/state/penstockd.sock"  # plain
    for i, node in enumerate(world.nodes):
        certificate(folder, f"node{i}", "DNS:nodes.test," + (f"IP:{node.address}" if i < 2 else "IP:127.0.0.1"))
        node.options = [f"--tls-{option}={folder / file}" for option, file in (("certificate", f"node{i}.crt"), ("key", f"node{i}.key"), ("ca", "ca.crt"))]


def test_tls(world):
    """Nodes ask each other, and themselves, by mutual TLS, and nobody who is not who was meant."""
    node = world.nodes[0]
    world.create(nodes=world.addresses[:2], replica_count=2)
    whole(world, count=2)
    engine = next(iter(node.client.EngineList()["engines"].values()))
    told = node.client.EngineReplicaList(engine_name=engine["name"])["replicas"]
    assert [replica["state"] for replica in told.values()] == ["running", "running"], told
    assert world.addresses[2] in refused("FAILED_PRECONDITION", world.create, name="w")
    assert node.kill(signal.SIGTERM) == 0
    node.options += ["--tls-node-name=nodes.test"]
    node.start()
    world.create("w")
    whole(world, "w")
    for name in ("v", "w"):
        world.clients[0].DeleteVolume(name=name)
    assert world.parts() == []


test_tls.prepare = under_tls


class Skipped(Exception):
    """What it needs is not there."""


def run(test):
    """What there is to say of its failure; nothing if it passed. Tests mostly wait, so they run at the same time."""
    said, world = [], None
    with kept.Folder(prefix="penstock-volume-") as folder:
        try:
            world = World(folder, getattr(test, "nodes", 3), getattr(test, "options", ()))
            if hasattr(test, "prepare"):
                test.prepare(world)
            world.start()
            test(world)
        except Skipped as reason:
            print(f"note: {reason}")
        except Exception:
            said.append(traceback.format_exc())
            said.extend(node.log()[-4000:] for node in world.nodes)
        finally:
            if world is not None:
                world.end()
    return "\n".join(said)


if __name__ == "__main__":
    run_each(run, globals(), sys.argv[7:], 4)
