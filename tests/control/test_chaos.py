#!/usr/bin/env python3
"""Kill loops: penstockd, planes, or both are killed at random moments of random operations on three nodes, under a verified load.
No stall is longer than a pause's lease, but for what the machine itself takes for a request; at rest what is there is what the answers said, nothing belongs to nobody, and all data is
as it was written. Arguments: penstockd, penstock-block, penstock-bench, the contract's table, and (optional) how many kills, the
seed, and "units": the plane is a unit of its own that is started by its socket, and penstockd dies with all that it has started,
as under systemd."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import DEADLINE_S, Contract, Failure, Node, kept, until
from world import MIB, NQN, REPLICAS, RW, SIZE, VOLUME, Programs, World, modes, pattern

LEASE_MS = 5000
# A plane that died is started and filled by a penstockd that can read what it is to hold. Without a leader etcd tells nothing: five to
# ten seconds an election, and a vote may be split.
STALL_MS = LEASE_MS + (20000 if os.environ.get("PENSTOCK_STATE") else 0)
BATCH = 14  # kills under one load: it tells so many stalls apart
DISK_SIZE = 256 * MIB
SMALL = 2 * MIB
ENGINE, FRONTEND = "vol-e-0", "vol-ef"
NOT_DONE = {"NOT_FOUND", "ALREADY_EXISTS", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
SETTLED = {"ready", "running", "stopped", "error"}


class UnitNode(Node):
    """As systemd has it: the plane's socket is held and starts it; penstockd's end takes all of its session along."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.socket = self.folder / "plane.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()
        self.unit = None
        self.ending = threading.Event()
        self.manager = threading.Thread(target=self.manage)
        self.manager.start()

    def command(self):
        return [*super().command(), "--plane-socket", str(self.socket)]

    def start(self):
        with open(self.folder / "daemon.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        return self.connect()

    def kill(self, number=signal.SIGKILL):
        os.killpg(self.process.pid, number)
        return super().kill(number)

    def manage(self):
        import select

        while not self.ending.wait(0.02):
            if self.unit is not None and self.unit.poll() is not None:
                self.unit = None
            if self.unit is None and select.select([self.listener], [], [], 0)[0]:
                with open(self.folder / "plane.log", "a", encoding="utf-8") as log:
                    self.unit = subprocess.Popen(["sh", "-c", 'exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"', self.plane,
                                                  "-r", str(self.socket), "--poll=never"], stdin=self.listener, stderr=log, start_new_session=True)  # fmt: skip

    def kill_plane(self, number=signal.SIGKILL):
        unit = self.unit
        if unit is not None:
            unit.send_signal(number)

    def end(self):
        super().end()
        self.ending.set()
        self.manager.join()
        if self.unit is not None:
            self.unit.kill()
            self.unit.wait(DEADLINE_S)
        self.listener.close()


class Load:
    """Of a host on the engine's target, verified."""

    def __init__(self, programs, engine, seed):
        self.process = subprocess.Popen(
            [programs.bench, programs.target(engine), "-p", "randrw", "-b", "4K", "-d", "4", "--length", str(SIZE), "--flush-every", "16", "--verify", "-t", "600",
             "--poll", "never", "--seed", str(seed), "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip

    def tell(self, number):
        assert self.process.poll() is None, f"the load has ended: {self.process.communicate()}"
        self.process.send_signal(number)

    def end(self):
        self.tell(signal.SIGINT)
        out, said = self.process.communicate(timeout=3 * DEADLINE_S)
        assert self.process.returncode == 0, (out, said)
        return json.loads(out)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Witness:
    """What the machine takes from everybody, without the product: how much longer it lasts than it should to sleep, to compute a
    little, and to bring a block to the disk, all together. What is done after a death passes three processes, one after the other."""

    PROCESSES = 3
    PROGRAM = """
import os, select, sys, time
file, lost = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), 0
while True:
    began, computed = time.monotonic(), time.thread_time() + 0.0005
    asked = select.select([0], [], [], 0.02)[0]
    slept = time.monotonic()
    while time.thread_time() < computed:
        pass
    os.pwrite(file, bytes(4096), 0)
    os.fdatasync(file)
    lost += max(0, time.monotonic() - slept - 0.0005) + max(0, slept - began - 0.02)
    if asked and not os.read(0, 1):
        break
    if asked:
        print(lost * 1000, flush=True)
"""

    def __init__(self, folder):
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM, str(folder / "witness")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def lost_ms(self):
        """Until now."""
        self.process.stdin.write(b"?")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)


class Replica:
    """A replica of no engine, as the answers allow it to be."""

    def __init__(self, node, name, disk):
        self.node, self.name, self.disk = node, name, disk
        self.there, self.exported = False, False  # None = either
        self.contents = {None}  # numbers of patterns: one of them; None = zeros
        self.snapshots = {}  # name: [there, contents]

    def sure(self):
        return self.there is not None and self.exported is not None

    def choose(self, luck, step):
        if not self.there:
            return "ReplicaCreate", {"name": self.name, "lvs_name": self.disk, "spec_size": SMALL, "port_count": 1}
        snapshots = sorted(self.snapshots)
        what = luck.choice(["create", "create", "delete", "revert", "expand", "stop", "drop", "purge"] if self.exported else ["start", "start", "drop"])
        if what == "delete" and snapshots:
            return "ReplicaSnapshotDelete", {"name": self.name, "snapshot_name": luck.choice(snapshots)}
        if what == "revert" and snapshots:
            return "ReplicaSnapshotRevert", {"name": self.name, "snapshot_name": luck.choice(snapshots)}
        if what == "purge":
            return "ReplicaSnapshotPurge", {"name": self.name}
        if what == "expand":
            return "ReplicaExpand", {"name": self.name, "size": luck.randrange(2, 8) * MIB}
        if what == "start":
            return "ReplicaCreate", {"name": self.name, "lvs_name": self.disk, "spec_size": SMALL, "port_count": 1}
        if what in ("stop", "drop"):
            return "ReplicaDelete", {"name": self.name, "cleanup_required": what == "drop"}
        return "ReplicaSnapshotCreate", {"name": self.name, "snapshot_name": f"s{step}", "user_created": True}

    def hear(self, method, values, code, answer):
        if code in NOT_DONE:
            return
        done = code == "OK"
        snapshot = values.get("snapshot_name")
        if method == "ReplicaCreate":
            ok = done and answer["state"] == "running"
            if not self.there:
                self.there, self.contents, self.snapshots = True if ok else None, {None}, {}
            self.exported = True if ok else None
        elif method == "ReplicaSnapshotCreate":
            self.snapshots[snapshot] = [True if done else None, set(self.contents)]
        elif method == "ReplicaSnapshotDelete":
            self.snapshots[snapshot][0] = False if done else None
        elif method == "ReplicaSnapshotRevert":
            then = self.snapshots[snapshot][1]
            self.contents = set(then) if done else self.contents | then
        elif method == "ReplicaSnapshotPurge":
            pass  # those that a user made stay
        elif method == "ReplicaDelete" and values["cleanup_required"]:
            self.there = False if done else None
            self.exported = False if done else None
        elif method == "ReplicaDelete":
            self.exported = False if done else None

    def look(self, listed, why):
        """`listed`: as its node lists it at rest; None = not at all. True: it is to be cleaned up."""
        there = listed is not None and listed["head"] is not None
        assert self.there is None or there == self.there, (why, self.name, self.there, listed)
        if not there:
            self.there, self.exported, self.contents, self.snapshots = False, False, {None}, {}
            return listed is not None
        running = listed["state"] == "running"
        assert self.exported is None or running == self.exported, (why, self.name, self.exported, listed)
        assert listed["state"] != "error" or not self.sure(), (why, self.name, listed)
        for name, (known, _) in self.snapshots.items():
            assert known is None or (name in listed["snapshots"]) == known, (why, self.name, name, known, listed)
        assert set(listed["snapshots"]) <= set(self.snapshots), (why, self.name, listed)
        self.snapshots = {name: self.snapshots[name] for name in listed["snapshots"]}
        for snapshot in self.snapshots.values():
            snapshot[0] = True
        self.there, self.exported = True, running
        return listed["state"] == "error"


class Volume:
    """The engine, its frontend, as the answers allow them to be."""

    def __init__(self, world):
        self.world, self.home = world, 0
        self.snapshots, self.third, self.size = {}, True, SIZE
        self.frontend_at, self.frontend = None, False

    def third_leg(self):
        return {"engine_name": ENGINE, "replica_name": REPLICAS[2], "replica_address": self.world.addresses[REPLICAS[2]]}

    def choose(self, luck, step, engine):
        snapshots = sorted(self.snapshots)
        what = luck.choice(["create", "create", "delete", "third", "expand", "frontend", "frontend", "suspend", "resume"])
        if what == "delete" and snapshots:
            return self.home, "EngineSnapshotDelete", {"name": ENGINE, "snapshot_name": luck.choice(snapshots)}
        if what == "third":
            return self.home, "EngineReplicaDelete" if self.third else "EngineReplicaAdd", self.third_leg()
        if what == "expand" and self.size is not None and self.size < 2 * SIZE:
            return self.home, "EngineExpand", {"name": ENGINE, "size": self.size + MIB}
        if what == "frontend" and self.frontend:
            return self.frontend_at, "EngineFrontendDelete", {"name": FRONTEND}
        if what == "frontend":
            if self.frontend is False:  # else it may be where it was tried
                self.frontend_at = luck.choice([self.home, self.home, 0, 1, 2])
            return self.frontend_at, "EngineFrontendCreate", {"name": FRONTEND, "volume_name": VOLUME, "engine_name": ENGINE, "spec_size": self.size or SIZE,
                    "frontend": "spdk-tcp-nvmf", "target_address": f"{engine['ip']}:{engine['port']}"}  # fmt: skip
        if what in ("suspend", "resume") and self.frontend and self.frontend_at == self.home:
            return self.home, "EngineFrontendSuspend" if what == "suspend" else "EngineFrontendResume", {"name": FRONTEND}
        return self.home, "EngineSnapshotCreate", {"name": ENGINE, "snapshot_name": f"s{step}", "user_created": True}

    def hear(self, method, values, code, answer):
        if code in NOT_DONE:
            return
        done = code == "OK"
        if method == "EngineSnapshotCreate":
            self.snapshots[values["snapshot_name"]] = True if done else None
        elif method == "EngineSnapshotDelete":
            self.snapshots[values["snapshot_name"]] = False if done else None
        elif method in ("EngineReplicaAdd", "EngineReplicaDelete"):
            self.third = method == "EngineReplicaAdd" if done else None
        elif method == "EngineExpand":
            self.size = values["size"] if done else None
        elif method == "EngineFrontendCreate":
            self.frontend = True if done and answer["state"] == "running" else None
        elif method == "EngineFrontendDelete":
            self.frontend = False if done else None

    def look(self, engine, frontends, why):
        for name, known in self.snapshots.items():
            assert known is None or (name in engine["snapshots"]) == known, (why, name, known, engine)
        assert set(engine["snapshots"]) <= set(self.snapshots), (why, engine)
        third = REPLICAS[2] in engine["replica_address_map"]
        assert self.third is None or third == self.third, (why, self.third, engine)
        assert self.size is None or engine["spec_size"] == self.size, (why, self.size, engine)
        there = FRONTEND in frontends
        assert self.frontend is None or there == self.frontend, (why, self.frontend, frontends)
        self.snapshots, self.third, self.size = {name: True for name in engine["snapshots"]}, third, engine["spec_size"]
        failed = there and frontends[FRONTEND]["state"] == "error"
        self.frontend = there and not failed
        return failed


class Chaos:
    def __init__(self, programs, folder, seed, units):
        self.programs, self.seed, self.luck = programs, seed, random.Random(seed)
        self.folder = pathlib.Path(folder)
        self.world = World(programs, folder, make=UnitNode if units else Node)
        self.volume, self.load, self.engine = Volume(self.world), None, None
        self.witness = Witness(self.folder)
        self.kills = self.step = self.settled_errors = self.calls = 0
        self.answers = {}
        self.worst_ms, self.patterns = 0, 0
        self.restless = None
        self.replicas = []

    def start(self):
        self.world.start()
        for i, node in enumerate(self.world.nodes):
            self.disk(node)
            self.replicas += [Replica(node, f"s{i}-r-0000000{k}", disk) for k, disk in ((0, "d"), (1, "x"))]
        self.engine = self.world.engine()
        assert self.engine["state"] == "running", self.engine

    @staticmethod
    def disk(node):
        path = node.folder / "x.img"
        if not path.exists():
            with open(path, "wb") as file:
                file.truncate(DISK_SIZE)
        node.client.DiskCreate(disk_name="x", disk_path=str(path), block_size=4096)
        until(lambda: node.client.DiskGet(disk_name="x")["state"] == "ready", "the disk is open")

    def why(self):
        return f"seed {self.seed}, step {self.step}"

    # ---- calls and deaths

    def begin_calls(self):
        """One of any object at most, so that each answer says all about it."""
        calls = []
        node, method, values = self.volume.choose(self.luck, self.step, self.engine)
        calls.append((self.volume, method, values, self.world.nodes[node].client.start(method, **values)))
        for replica in self.luck.sample(self.replicas, 2):
            if replica.sure():
                method, values = replica.choose(self.luck, self.step)
                calls.append((replica, method, values, replica.node.client.start(method, **values)))
        return calls

    def end_calls(self, calls):
        for whose, method, values, future in calls:
            begun = time.monotonic()
            failure = future.exception()
            code = "OK" if failure is None else failure.code().name
            answer = self.programs.contract.read(self.programs.contract.methods[method][1], future.result()) if failure is None else None
            if os.environ.get("PENSTOCK_VERBOSE"):
                said = failure.details() if failure is not None else f"{answer.get('state', '')} {answer.get('error_msg', '')}"
                print(f"{self.step}: {method} {values.get('name', '')} {code} {said} {time.monotonic() - begun:.2f} s")
            self.calls += 1
            self.answers[code] = self.answers.get(code, 0) + 1
            whose.hear(method, values, code, answer)

    def die(self):
        """Of one node mostly; sometimes of all at the same moment."""
        what = self.luck.choice([("plane",), ("plane",), ("daemon",), ("daemon",), ("daemon", "plane")])
        nodes = self.world.nodes if self.luck.random() < 0.1 else [self.luck.choice(self.world.nodes)]
        if os.environ.get("PENSTOCK_VERBOSE"):
            print(f"{self.step}: {what} of {[n.address for n in nodes]} die", flush=True)
        for node in nodes:
            if "daemon" in what:
                node.kill()
            if "plane" in what:
                node.kill_plane()
                self.load.tell(signal.SIGUSR1)  # what was not flushed until now may be lost
            self.kills += 1
        if "daemon" in what:
            time.sleep(self.luck.choice([0, 0, 0.3]))
            for node in nodes:
                node.start()

    def operations(self):
        """What the volume has done for hosts since its plane was started; None = it is not there."""
        try:
            answer = self.world.nodes[self.volume.home].plane_call("bdev_get_iostat", name=ENGINE)["result"]["bdevs"][0]
            return answer["num_read_ops"] + answer["num_write_ops"]
        except (OSError, AssertionError, KeyError, IndexError):
            return None

    def goes_on(self):
        """The load has been served since this was asked for."""
        before = []

        def look():
            now = self.operations()
            before.append(now)
            return now is not None and before[0] is not None and now != before[0] or (now or 0) > 0 and before[0] is None

        return look

    def batch(self, kills):
        self.load = Load(self.programs, self.engine, self.step)
        lost = [self.witness.lost_ms()]
        until(self.goes_on(), "the volume serves")
        goal = self.kills + kills
        for _ in range(BATCH):
            if self.kills >= goal:
                break
            self.step += 1
            lost.append(self.witness.lost_ms())
            self.load.tell(signal.SIGUSR2)
            calls = self.begin_calls()
            time.sleep(self.luck.choice([0, 0.005, 0.02, 0.05, 0.2]) * self.luck.random())
            self.die()
            self.end_calls(calls)
            until(self.goes_on(), f"{self.why()}: the volume serves again")
        result = self.load.end()
        stalls = [round(ms) for ms in result["part_stalls_ms"]]
        lost.append(self.witness.lost_ms())
        # what the machine took in the part in which a stall ended, and in the one before: it may have begun there
        lost = [round(lost[min(i, len(lost) - 1)] - lost[max(0, i - 2)]) for i in range(1, len(stalls) + 1)]
        self.worst_ms = max(self.worst_ms, *stalls)
        print(f"step {self.step}: {self.kills} kills, stalls {stalls} ms, of that the machine's {lost}", flush=True)
        over = [(stall, machine) for stall, machine in zip(stalls, lost) if stall > STALL_MS + stalls[0] + Witness.PROCESSES * machine]
        assert not over, (self.why(), over)

    # ---- at rest

    def listing(self, node):
        """All that a node has, when nothing of it is under way; else None, and `self.restless` says what is."""
        client = node.client
        try:
            seen = {
                "disks": {name: client.DiskGet(disk_name=name) for name in ("d", "x")},
                "replicas": client.ReplicaList()["replicas"],
                "engines": client.EngineList()["engines"],
                "frontends": client.EngineFrontendList()["engine_frontends"],
                **{m: node.plane_call(m)["result"] for m in ("bdev_lvol_get_lvols", "bdev_lvol_get_lvstores", "nvmf_get_subsystems",
                                                             "bdev_nvme_get_controllers", "mirror_get")},
            }  # fmt: skip
        except (Failure, OSError, AssertionError, KeyError) as failure:
            self.restless = failure
            return None
        objects = [(name, o["state"]) for kind in ("disks", "replicas", "engines", "frontends") for name, o in seen[kind].items()]
        self.restless = [o for o in objects if o[1] not in SETTLED]
        engine = seen["engines"].get(ENGINE)
        if engine is not None and (engine["state"] != "running" or set(modes(engine)) != {RW}):
            self.restless.append(engine)
        self.restless += self.orphans(seen)
        return None if self.restless else seen

    def orphans(self, seen):
        """What belongs to nobody, or is missing."""
        replicas, engines = seen["replicas"], seen["engines"]
        volumes = {lvol["name"] for lvol in seen["bdev_lvol_get_lvols"]}
        wanted = {name for name, r in replicas.items() if r["head"] is not None}
        wanted |= {f"{name}-snap-{s}" for name, r in replicas.items() for s in r["snapshots"]}
        if self.volume.third is not True:  # it was away when it was made to forget
            wanted |= volumes & {f"{REPLICAS[2]}-before-sync"}
        targets = {s["nqn"] for s in seen["nvmf_get_subsystems"] if "discovery" not in s["nqn"]}
        offered = {NQN + name for name, r in replicas.items() if r["state"] == "running"}
        offered |= {f"{NQN}volume-{e['volume_name']}" for e in engines.values()}
        legs = sum(len(e["replica_address_map"]) for e in engines.values())
        wrong = [("volumes", sorted(volumes ^ wanted)), ("targets", sorted(targets ^ offered))]
        wrong.append(("mirrors", sorted({m["name"] for m in seen["mirror_get"]} ^ set(engines))))
        wrong.append(("controllers", [] if len(seen["bdev_nvme_get_controllers"]) == legs else seen["bdev_nvme_get_controllers"]))
        wrong.append(("stores", [] if len(seen["bdev_lvol_get_lvstores"]) == len(seen["disks"]) else seen["bdev_lvol_get_lvstores"]))
        return [w for w in wrong if w[1]]

    def rest(self):
        seen = []
        for node in self.world.nodes:
            last = {}

            def look(node=node, last=last):
                last["seen"] = self.listing(node)
                return last["seen"]

            try:
                seen.append(until(look, "rest"))
            except AssertionError:
                raise AssertionError(f"{self.why()}: node {node.address} does not come to rest: {self.restless}: {self.show(node)}") from None
        cleanup = []
        for replica in self.replicas:
            listed = seen[self.world.nodes.index(replica.node)]["replicas"].get(replica.name)
            if replica.look(listed, self.why()):
                cleanup.append((replica.node.client.ReplicaDelete, {"name": replica.name, "cleanup_required": True}))
                replica.there, replica.exported, replica.contents, replica.snapshots = False, False, {None}, {}
        known = {r.name for r in self.replicas} | set(REPLICAS)
        for node_seen in seen:
            assert set(node_seen["replicas"]) <= known, (self.why(), set(node_seen["replicas"]) - known)
        frontends = {name: f for s in seen for name, f in s["frontends"].items()}
        self.engine = seen[self.volume.home]["engines"][ENGINE]
        if self.volume.look(self.engine, frontends, self.why()):
            for node in self.world.nodes:
                cleanup.append((node.client.EngineFrontendDelete, {"name": FRONTEND}))
        self.settled_errors += len(cleanup)
        for call, values in cleanup:
            call(**values)

    def show(self, node):
        client, said = node.client, []
        for call in (client.ReplicaList, client.EngineList, client.EngineFrontendList):
            try:
                said += [f"{name} {o['state']} {o['error_msg']}" for objects in call().values() for name, o in objects.items()]
            except Failure as failure:
                said.append(str(failure))
        try:
            said.append(f"mirrors {node.plane_call('mirror_get')}")
        except (OSError, AssertionError) as failure:
            said.append(f"plane: {failure}")
        return "; ".join(said)

    def data(self):
        """Of replicas of no engine: what was written is there; then something else is."""
        for replica in self.replicas:
            if not replica.exported:
                continue
            listed = replica.node.client.ReplicaGet(name=replica.name)
            target = self.programs.replica_target(f"{replica.node.address}:{listed['port_start']}", replica.name)
            found = self.programs.read(target, SMALL)
            holds = {number for number in replica.contents if found == self.bytes_of(number)}
            assert holds, f"{self.why()}: {replica.name} holds none of {replica.contents}"
            replica.contents = holds
            if self.luck.random() < 0.5:
                self.patterns += 1
                self.programs.write(target, pattern(self.folder, self.patterns, SMALL))
                replica.contents = {self.patterns}

    @staticmethod
    def bytes_of(number):
        return bytes(SMALL) if number is None else random.Random(number).randbytes(SMALL)

    def move(self):
        """The engine ends, and another node's begins, with the same data."""
        before = self.programs.read(self.engine)
        nodes = self.world.nodes
        if self.volume.frontend:
            nodes[self.volume.frontend_at].client.EngineFrontendDelete(name=FRONTEND)
            self.volume.frontend = False
        nodes[self.volume.home].client.EngineDelete(name=ENGINE)
        self.volume.home = self.luck.randrange(3)
        legs = list(self.engine["replica_address_map"])
        self.engine = self.world.engine(node=self.volume.home, replicas=legs, spec_size=self.volume.size)
        assert self.engine["state"] == "running", (self.why(), self.engine)
        assert self.programs.read(self.engine) == before, f"{self.why()}: another engine, other data"

    def swap_disks(self):
        """Disks go and come back with what they have; replicas on them are known again by the disk."""
        node = self.luck.choice(self.world.nodes)
        on_it = [r for r in self.replicas if r.node is node and r.disk == "x"]
        for replica in on_it:
            if replica.there:
                node.client.ReplicaDelete(name=replica.name)
                replica.exported = False
        node.client.DiskDelete(disk_name="x")
        self.disk(node)

    def run(self, kills):
        while self.kills < kills:
            self.batch(min(BATCH, kills - self.kills))
            self.rest()
            self.data()
            if self.luck.random() < 0.5:
                self.move()
            if self.luck.random() < 0.3:
                self.swap_disks()
        self.rest()

    def end(self):
        if self.load is not None:
            self.load.kill()
        self.witness.end()
        self.world.end()


def terminated(*_):
    raise SystemExit("terminated")


def main():
    signal.signal(signal.SIGTERM, terminated)
    daemon, plane, bench, table = sys.argv[1:5]
    kills, seed = int(sys.argv[5]) if len(sys.argv) > 5 else 12, int(sys.argv[6]) if len(sys.argv) > 6 else 1
    units = len(sys.argv) > 7 and sys.argv[7] == "units"
    said = 1 << 20 if os.environ.get("PENSTOCK_VERBOSE") else 6000
    begun = time.monotonic()
    with kept.Folder(prefix="penstockd-chaos-") as folder:
        chaos = Chaos(Programs(daemon, plane, bench, Contract(table)), folder, seed, units)
        try:
            chaos.start()
            chaos.run(kills)
        except BaseException:
            for node in chaos.world.nodes:
                print(f"--- {node.address}\n{node.log()[-said:]}")
                if said > 6000:
                    for log in node.folder.rglob("plane.log"):
                        print(f"--- its plane\n{log.read_text(encoding='utf-8', errors='replace')[-said:]}")
            print(f"failed: {chaos.why()}", flush=True)
            raise
        finally:
            chaos.end()
        print(f"seed {seed}: {chaos.kills} kills, {chaos.calls} calls {chaos.answers}, {chaos.settled_errors} settled errors, longest stall {chaos.worst_ms} ms, "
              f"{time.monotonic() - begun:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
