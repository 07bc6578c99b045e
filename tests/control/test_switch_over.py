#!/usr/bin/env python3
"""Two engines of one volume, of which one serves: standbys, asymmetric access, switching over under I/O, and switches that break off.
Arguments: as test_engine.py's, whose nodes these are."""

import json
import os
import pathlib
import random
import sys
import threading
import time

from test_engine import MIB, NQN, REPLICAS, RW, SIZE, VOLUME, make_frontend, modes, raw, run_all, whole
from rig import DEADLINE_S, Failure, end_process, refused, until

import nvme_host

BLOCK = 4096
BLOCKS = 64


def place(engine):
    return engine["ip"], engine["port"]


def target(engine):
    return f"{engine['ip']}:{engine['port']}"


def stands_by(node, name="vol-e-1"):
    def look():
        engine = node.client.EngineGet(name=name)
        return engine if engine["state"] == "running" and engine["error_msg"].startswith("standby") else None

    return until(look, f"{name} stands by: {node.client.EngineGet(name=name)}")


def serves(engine):
    return engine["state"] == "running" and not engine["error_msg"].startswith("standby")


def two(world):
    """One that serves on the first node, and a standby on the second."""
    a = world.engine()
    assert serves(a), a
    whole(world.nodes[0])
    b = world.engine("vol-e-1", 1)
    assert b["state"] == "running" and b["error_msg"].startswith("standby"), b
    return a, whole(world.nodes[1], "vol-e-1")


class Writer(threading.Thread):
    """A host that writes blocks one after the other, and remembers what each must hold."""

    def __init__(self, engines):
        super().__init__(daemon=True)
        self.host = nvme_host.Host(f"{NQN}volume-{VOLUME}", [place(engine) for engine in engines], DEADLINE_S / 2)
        self.blocks, self.rounds, self.failed, self.stopping = {}, 0, None, False
        self.start()

    def run(self):
        luck = random.Random(1)
        try:
            while not self.stopping:
                at, data = luck.randrange(BLOCKS) * BLOCK, luck.randbytes(8) * (BLOCK // 8)
                self.host.write(at, data)
                self.blocks[at] = data
                self.rounds += 1
                if self.rounds % 8 == 0:
                    at = luck.choice(list(self.blocks))
                    assert self.host.read(at, BLOCK) == self.blocks[at], f"block {at // BLOCK} is not as it was written"
        except Exception as failure:
            self.failed = failure

    def more(self, count=20):
        before = self.rounds
        until(lambda: self.failed or self.rounds >= before + count, "it writes")
        assert self.failed is None, self.failed

    def end(self):
        self.stopping = True
        self.join(2 * DEADLINE_S)
        assert not self.is_alive(), "a host hangs"
        assert self.failed is None, self.failed
        check(self.host, self.blocks)
        self.host.close()


def check(host, blocks):
    for at, data in blocks.items():
        assert host.read(at, BLOCK) == data, f"block {at // BLOCK} is not as it was written"


# ---- standbys ----


def test_standby(world):
    a, b = two(world)
    node = world.nodes[1]
    term = raw(world.nodes[0], "mirror_get")[0]["term"]
    assert b["port"], b
    paths = [nvme_host.Path(*place(engine), f"{NQN}volume-{VOLUME}") for engine in (a, b)]
    assert paths[0].nguid == paths[1].nguid and paths[0].serial == paths[1].serial and paths[0].size == paths[1].size == SIZE
    assert paths[0].cntlid != paths[1].cntlid and all(path.ana for path in paths)
    assert [path.ana_state() for path in paths] == [1, 3]
    paths[0].write(0, bytes(BLOCK))
    for command in (lambda: paths[1].write(0, bytes(BLOCK)), lambda: paths[1].read(0, BLOCK)):
        try:
            command()
            raise AssertionError("a standby has carried out a command")
        except nvme_host.Refused as refused_:
            assert refused_.path_related and refused_.again, refused_
    assert "standby" in refused("UNKNOWN", node.client.EngineSnapshotCreate, name="vol-e-1", snapshot_name="s")
    assert make_frontend(world, b, 1, engine_name="vol-e-1")["state"] == "error", "it gives its volume to nobody"
    for step in (lambda: (node.kill(), node.start()), node.kill_plane, lambda: (node.kill(), node.kill_plane(), node.start())):
        step()
        until(lambda: raw(node, "mirror_get"), "its mirror is there")
        again = stands_by(node)
        assert again["port"] == b["port"]
    whole(world.nodes[0])
    assert raw(world.nodes[0], "mirror_get")[0]["term"] == term, "nothing was claimed"
    node.client.EngineDelete(name="vol-e-1")
    assert raw(node, "mirror_get") == [] and raw(node, "bdev_nvme_get_controllers") == []
    paths[0].write(0, bytes(BLOCK))
    for path in paths:
        path.close()


def test_engine_that_died_leaves_no_standby(world):
    """Created over replicas whose engine is gone, it serves at once."""
    world.engine()
    whole(world.nodes[0])
    world.nodes[0].kill()
    world.nodes[0].kill_plane()
    b = world.engine("vol-e-1", 1)
    assert serves(b), b


def test_ana(world):
    node, engine = world.nodes[0], world.engine()
    client = node.client
    refused("NOT_FOUND", client.EngineSetTargetListenerANAState, name="none", ana_state="optimized")
    refused("INVALID_ARGUMENT", client.EngineSetTargetListenerANAState, name="vol-e-0", ana_state="better")
    refused("INVALID_ARGUMENT", client.EngineSetTargetListenerANAState, name="", ana_state="optimized")
    path = nvme_host.Path(*place(engine), f"{NQN}volume-{VOLUME}")
    for state, number in (("inaccessible", 3), ("non-optimized", 2), ("inaccessible", 3), ("inaccessible", 3), ("optimized", 1)):
        client.EngineSetTargetListenerANAState(name="vol-e-0", ana_state=state)
        assert path.ana_state() == number
        try:
            path.write(0, bytes(BLOCK))
            assert state != "inaccessible", "written"
        except nvme_host.Refused as late:
            assert state == "inaccessible" and late.path_related and late.again, late
    path.close()
    client.EngineSetTargetListenerANAState(name="vol-e-0", ana_state="inaccessible")
    node.kill_plane()
    until(lambda: raw(node, "mirror_get"), "its mirror is there")
    whole(node)
    path = nvme_host.Path(*place(engine), f"{NQN}volume-{VOLUME}")
    assert path.ana_state() == 3, "it is brought back as it was"
    path.close()
    client.EngineDelete(name="vol-e-0")
    world.engine(frontend="")
    assert "no target" in refused("FAILED_PRECONDITION", client.EngineSetTargetListenerANAState, name="vol-e-0", ana_state="optimized")


# ---- switching over ----


def switch(world, engine, node=2, **more):
    values = {"name": "vol-ef", "engine_name": engine["name"], "target_address": target(engine), **more}
    return world.nodes[node].client.EngineFrontendSwitchOver(**values)


def over_is(world, node, name, words="superseded by"):
    """The old one learns of it, and says so; it is deleted."""
    client = world.nodes[node].client
    until(lambda: client.EngineGet(name=name)["error_msg"].startswith(words), lambda: f"not {words}: {client.EngineGet(name=name)}")
    assert client.EngineGet(name=name)["state"] == "error"
    client.EngineSetTargetListenerANAState(name=name, ana_state="inaccessible")  # it is
    assert "superseded" in refused("UNKNOWN", client.EngineSetTargetListenerANAState, name=name, ana_state="optimized")
    client.EngineDelete(name=name)


def test_switch_under_io(world):
    """There and back, from a frontend on a third node; expanded and snapped on the way."""
    a, b = two(world)
    client = world.nodes[2].client
    assert make_frontend(world, a, 2)["state"] == "running"
    writer = Writer((a, b))
    writer.more()
    switch(world, b)
    frontend = client.EngineFrontendGet(name="vol-ef")
    assert frontend["engine_name"] == "vol-e-1" and frontend["active_path"] == target(b) and frontend["state"] == "running", frontend
    assert [path["ana_state"] for path in frontend["paths"]] == ["optimized"], frontend
    assert frontend["paths"][0]["engine_name"] == "vol-e-1" and len(frontend["paths"][0]["nguid"]) == 32
    writer.more()
    whole(world.nodes[1], "vol-e-1")
    switch(world, b)
    client.EngineFrontendSnapshotCreate(name="vol-ef", snapshot_name="s1", user_created=True)
    client.EngineFrontendExpand(name="vol-ef", size=2 * SIZE)
    writer.more()
    world.nodes[0].client.EngineDelete(name="vol-e-0")
    a = world.engine("vol-e-2", 0, spec_size=2 * SIZE)
    assert a["error_msg"].startswith("standby"), a
    writer.host.places.append(place(a))
    switch(world, a, engine_name="")
    writer.more()
    assert client.EngineFrontendGet(name="vol-ef")["engine_name"] == "vol-e-2"
    engine = whole(world.nodes[0], "vol-e-2")
    assert engine["spec_size"] == 2 * SIZE and set(engine["snapshots"]) == {"s1"}, engine
    client.EngineFrontendSnapshotDelete(name="vol-ef", snapshot_name="s1")
    writer.end()
    print(f"longest stall of a host: {writer.host.longest * 1000:.0f} ms")
    world.nodes[1].client.EngineSetTargetListenerANAState(name="vol-e-1", ana_state="inaccessible")  # whether it knows already or not
    over_is(world, 1, "vol-e-1", "superseded: ")


def test_phases(world):
    a, b = two(world)
    client = world.nodes[2].client
    make_frontend(world, a, 2)
    writer = Writer((a, b))
    states = lambda: [path["ana_state"] for path in client.EngineFrontendGet(name="vol-ef")["paths"]]  # noqa: E731
    assert states() == ["optimized"]
    switch(world, b, switchover_phase="preparing")
    assert states() == ["optimized", "inaccessible"]
    writer.more()
    switch(world, b, switchover_phase="switching")
    assert states() == ["inaccessible", "inaccessible"]
    refused("FAILED_PRECONDITION", client.EngineFrontendSnapshotCreate, name="vol-ef", snapshot_name="s")
    refused("FAILED_PRECONDITION", client.EngineFrontendDelete, name="vol-ef")
    switch(world, b, switchover_phase="promoting")
    assert states() == ["optimized"] and client.EngineFrontendGet(name="vol-ef")["engine_name"] == "vol-e-1"
    writer.more()
    writer.end()


def test_refusals(world):
    a, b = two(world)
    client = world.nodes[2].client
    refused("NOT_FOUND", switch, world=world, engine=b)
    make_frontend(world, a, 2)
    for wrong in ({"name": ""}, {"target_address": ""}, {"target_address": "1.2.3.4"}, {"switchover_phase": "later"}, {"engine_name": "a b"}):
        refused("INVALID_ARGUMENT", switch, world=world, engine=b, **wrong)
    assert "there is no engine" in refused("FAILED_PRECONDITION", switch, world=world, engine=b, engine_name="none")
    assert "offered at" in refused("FAILED_PRECONDITION", switch, world=world, engine=b, target_address=f"{b['ip']}:1")
    refused("NOT_FOUND", switch, world=world, engine=b, engine_name="", target_address=f"{b['ip']}:1")
    refused("FAILED_PRECONDITION", switch, world=world, engine=b, target_address="127.9.9.9:20001")
    other = world.replica(1, "other-r-00000000")
    stranger = world.engine("other-e-0", 1, [other], volume_name="other")
    assert "of volume other" in refused("FAILED_PRECONDITION", switch, world=world, engine=stranger)
    frontend = client.EngineFrontendGet(name="vol-ef")
    assert frontend["engine_name"] == "vol-e-0" and len(frontend["paths"]) == 1, frontend
    switch(world, a)
    switch(world, b, name="vol-e-0")
    assert client.EngineFrontendGet(name="vol-ef")["engine_name"] == "vol-e-1"


def test_old_one_is_dead(world):
    a, b = two(world)
    make_frontend(world, a, 2)
    writer = Writer((a, b))
    writer.more()
    world.nodes[0].kill()
    world.nodes[0].kill_plane()
    switch(world, b)
    writer.more()
    engine = world.nodes[1].client.EngineGet(name="vol-e-1")
    assert serves(engine) and REPLICAS[0] in engine["error_msg"], engine
    world.nodes[0].start()
    over_is(world, 0, "vol-e-0")
    whole(world.nodes[1], "vol-e-1")
    writer.end()


def test_new_one_dies_and_comes_back(world):
    """After the promotion it is the one that is brought back."""
    a, b = two(world)
    make_frontend(world, a, 2)
    writer = Writer((a, b))
    switch(world, b)
    writer.more()
    world.nodes[1].kill()
    world.nodes[1].kill_plane()
    world.nodes[1].start()
    whole(world.nodes[1], "vol-e-1")
    writer.more()
    writer.end()


def who_writes(engines, serving):
    """Which of them can, when all has come to rest: exactly one, and the frontend knows which; it is given its time."""
    able = []
    for index, engine in enumerate(engines):
        host = nvme_host.Host(f"{NQN}volume-{VOLUME}", [place(engine)])
        try:
            host.run(lambda path: path.write(BLOCKS * BLOCK, bytes(BLOCK)), DEADLINE_S if index == serving else 1)
            able.append(index)
        except AssertionError as failure:
            if "no path" not in str(failure):
                raise
        finally:
            host.close()
    return able


def test_breaks_off(world):
    """Any daemon, plane, or both, of any of the three nodes dies at any moment of a switch."""
    seed = int(os.environ.get("PENSTOCK_SEED", "3"))
    luck, client = random.Random(seed), world.nodes[2].client
    a, b = two(world)
    make_frontend(world, a, 2)
    engines = [a, b]  # on the first and the second node
    serving, number = 0, 1
    writer = Writer(engines)
    for step in range(int(os.environ.get("PENSTOCK_ROUNDS", "2"))):
        writer.more()
        future = client.start("EngineFrontendSwitchOver", name="vol-ef", engine_name=engines[1 - serving]["name"], target_address=target(engines[1 - serving]))
        time.sleep(luck.random() * 0.15)
        victims = [(node, part) for node in range(3) for part in ("daemon", "plane")]
        victims = sorted(luck.sample(victims, luck.randint(1, 2)))
        for node, part in victims:
            world.nodes[node].kill() if part == "daemon" else world.nodes[node].kill_plane()
        for node, part in victims:
            if part == "daemon":
                world.nodes[node].start()
        code = "OK" if future.exception() is None else future.exception().code().name

        def rest():
            try:
                frontend = client.EngineFrontendGet(name="vol-ef")
                seen = [world.nodes[i].client.EngineGet(name=engines[i]["name"]) for i in range(2)]
            except Failure:
                return None
            known = next((i for i in range(2) if engines[i]["name"] == frontend["engine_name"]), None)  # noqa: B023
            quiet = known is not None and len(frontend["paths"]) == 1 and frontend["paths"][0]["ana_state"] == "optimized"
            return [known] if quiet and serves(seen[known]) and modes(seen[known]) == [RW] * 3 else None

        told = until(rest, f"the switch has come to an end: seed {seed}, step {step}, {victims}, {code}")[0]
        writer.more()
        able = who_writes(engines, told)
        assert able == [told], (seed, step, victims, code, able, told)
        assert code != "OK" or told == 1 - serving, (seed, step, victims, code, told)
        serving = told
        other = 1 - serving
        node = world.nodes[other]
        state = node.client.EngineGet(name=engines[other]["name"])
        if not state["error_msg"].startswith("standby"):
            number += 1
            node.client.EngineDelete(name=engines[other]["name"])
            engines[other] = world.engine(f"vol-e-{number}", other)
            assert engines[other]["error_msg"].startswith("standby"), engines[other]
            writer.host.places.append(place(engines[other]))
    writer.end()


# ---- block devices: with a helper that has no kernel (tests/guest/device has one) ----


class Helper:
    def __init__(self, node):
        self.node, self.folder, self.seen = node, node.folder / "state", 0
        node.kill()
        node.options = ("--blockdev", str(pathlib.Path(__file__).parent.parent / "support" / "fake_blockdev.py"))
        node.start()

    def asked(self):
        """What was asked since the last time, but for what is asked now and then."""
        try:
            lines = (self.folder / "blockdev.asked").read_text(encoding="utf-8").split("\n")[:-1]  # those that are whole
        except FileNotFoundError:
            lines = []
        new, self.seen = lines[self.seen :], len(lines)
        return [json.loads(line) for line in new]

    def refuse(self, method, code, words):
        (self.folder / method).write_text(f"{code} {words}", encoding="utf-8")

    def allow(self, method):
        (self.folder / method).unlink()

    def end(self):
        end_process(int((self.folder / "blockdev.pid").read_text(encoding="utf-8")))


def test_block_device(world):
    a, b = two(world)
    node = world.nodes[2]
    client, helper = node.client, Helper(world.nodes[2])
    state = lambda: client.EngineFrontendGet(name="vol-ef")["state"]  # noqa: E731
    helper.refuse("blockdev_attach", -95, "the kernel has no NVMe/TCP")
    made = make_frontend(world, a, 2, frontend="spdk-tcp-blockdev")
    assert made["state"] == "error" and "no NVMe/TCP" in made["error_msg"], made
    helper.allow("blockdev_attach")
    helper.asked()
    made = make_frontend(world, a, 2, frontend="spdk-tcp-blockdev")
    assert made["state"] == "running" and made["endpoint"] == f"/dev/longhorn/{VOLUME}", made
    (method, params), *rest = helper.asked()
    assert not rest and method == "blockdev_attach" and params["targets"] == [target(a)] and params["only"] is True and params["bytes"] == SIZE, params
    assert params["nqn"] == f"{NQN}volume-{VOLUME}"

    client.EngineFrontendSuspend(name="vol-ef")
    assert state() == "suspended"
    refused("FAILED_PRECONDITION", client.EngineFrontendSuspend, name="vol-ef")
    client.EngineFrontendResume(name="vol-ef")
    assert state() == "running" and [method for method, _ in helper.asked()] == ["blockdev_suspend", "blockdev_resume"]
    client.EngineFrontendSnapshotCreate(name="vol-ef", snapshot_name="s1")
    assert [method for method, _ in helper.asked()] == ["blockdev_suspend", "blockdev_resume"], "it stood still meanwhile"
    assert "has a snapshot" in refused("UNKNOWN", client.EngineFrontendSnapshotCreate, name="vol-ef", snapshot_name="s1")
    helper.refuse("blockdev_resume", -110, "it went on before")
    assert "stand still" in refused("INTERNAL", client.EngineFrontendSnapshotCreate, name="vol-ef", snapshot_name="s2")
    helper.allow("blockdev_resume")
    assert state() == "running"
    helper.asked()
    client.EngineFrontendExpand(name="vol-ef", size=2 * SIZE)
    assert [(method, params["bytes"]) for method, params in helper.asked()] == [("blockdev_attach", 2 * SIZE)]

    for step in (helper.end, lambda: (node.kill(), node.start()), lambda: (node.kill(), helper.end(), node.start())):
        step()
        until(lambda: "blockdev_attach" in [method for method, _ in helper.asked()], "the device is looked after again")
        until(lambda: state() == "running", "it runs")

    switch(world, b)
    wanted = [[target(a), target(b)], [target(b)]]
    attached = lambda: [params["targets"] for method, params in asked_so_far(helper) if method == "blockdev_attach"]  # noqa: E731
    until(lambda: attached()[-2:] == wanted, "both paths, then the new one alone")
    until(lambda: state() == "running", "it runs")
    helper.refuse("blockdev_detach", -16, "the device is open")
    assert "open" in refused("FAILED_PRECONDITION", client.EngineFrontendDelete, name="vol-ef")
    until(lambda: state() == "running", "it is there still")
    helper.allow("blockdev_detach")
    client.EngineFrontendDelete(name="vol-ef")
    helper.end()
    assert asked_so_far(helper)[-1][0] == "blockdev_detach" and client.EngineFrontendList()["engine_frontends"] == {}


def asked_so_far(helper):
    return [json.loads(line) for line in (helper.folder / "blockdev.asked").read_text(encoding="utf-8").split("\n")[:-1]]


if __name__ == "__main__":
    run_all(globals())
