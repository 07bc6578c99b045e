#!/usr/bin/env python3
"""The plane dies at every single step of every operation: before it has heard of a command, and when it has carried it out and not
said so. The call is answered; at rest what it asked for was done or was not (done, if the answer said so), nothing belongs to
nobody, and the next try goes well. Between penstockd and the plane is a relay that knows the moment. Arguments: penstockd,
penstock-block, penstock-bench, the contract's table, and (optional) how many moments, drawn at random; else all of them."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc  # noqa: F401
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import DEADLINE_S, Contract, Failure, Node, until
from world import MIB, NQN, Programs, pattern

ENGINE, FIRST, SECOND = "vol-e-0", "vol-r-00000000", "vol-r-00000001"
SIZE = 4 * MIB
SETTLED = {"ready", "running", "stopped", "error"}
LOOKS = ("get", "wait", "notify", "log_")  # what changes nothing has one of these in its name


class Relay(Node):
    """A node whose plane is a unit of its own, behind a relay."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.real, self.socket = self.folder / "real.sock", self.folder / "relay.sock"
        self.lock = threading.Lock()
        self.left, self.after, self.died_at = 0, False, None
        self.ending = False
        self.unit = self.start_unit()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def command(self):
        return [*super().command(), "--plane-socket", str(self.socket)]

    def start_unit(self):
        with open(self.folder / "plane.log", "a", encoding="utf-8") as log:
            unit = subprocess.Popen([self.plane, "-r", str(self.real), "--poll=never"], stdin=subprocess.DEVNULL, stderr=log)
        until(self.connect_unit, "the plane listens")
        return unit

    def connect_unit(self):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.real))
        except OSError:
            connection.close()
            return None
        return connection

    def die_at(self, command, after):
        """The plane dies at the command of this number from now on, 1 = the next; 0 = it lives."""
        with self.lock:
            self.left, self.after, self.died_at = command, after, None

    def is_the_moment(self, method):
        """With the lock. None = it is not; else whether the plane may carry it out."""
        if self.left == 0 or any(word in method for word in LOOKS):
            return None
        self.left -= 1
        if self.left > 0:
            return None
        self.died_at = method
        return self.after

    def kill_unit(self):
        self.unit.kill()
        self.unit.wait(DEADLINE_S)
        self.unit = self.start_unit()

    def accept(self):
        while True:
            connection = self.listener.accept()[0]
            if self.ending:
                connection.close()
                return
            unit = self.connect_unit()
            if unit is None:
                connection.close()
                continue
            last = []  # the id of the command whose answer is not heard
            for source, sink, hear in ((connection, unit, self.hear_request), (unit, connection, self.hear_answer)):
                self.threads.append(threading.Thread(target=self.pass_on, args=(source, sink, hear, last)))
                self.threads[-1].start()

    def hear_request(self, message, last):
        with self.lock:
            carried_out = self.is_the_moment(message.get("method", ""))
            if carried_out is None:
                return True
            if carried_out:
                last.append(message["id"])
                return True
            self.kill_unit()
            return False

    def hear_answer(self, message, last):
        if not last or message.get("id") != last[0]:
            return True
        with self.lock:
            self.kill_unit()
        return False

    @staticmethod
    def pass_on(source, sink, hear, last):
        """Until one of both is closed, or the plane has died."""
        decoder, text = json.JSONDecoder(), ""
        try:
            while data := source.recv(1 << 20):
                text += data.decode()
                while text := text.lstrip():
                    try:
                        message, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    if not hear(message, last):
                        return
                    sink.sendall(text[:end].encode() + b"\n")
                    text = text[end:]
        except OSError:
            pass
        finally:
            for side in (source, sink):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def kill_plane(self, number=signal.SIGKILL):
        self.unit.send_signal(number)

    def end(self):
        self.ending = True
        super().end()
        self.unit.wait(DEADLINE_S)
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.socket))
        for thread in self.threads:
            thread.join()
        self.listener.close()


class Deaths:
    def __init__(self, programs, folder):
        self.programs, self.folder = programs, pathlib.Path(folder)
        self.node = Relay(programs.daemon, programs.plane, programs.contract, self.folder / "0")
        self.node.start()
        self.client, self.data = self.node.client, pattern(self.folder, 1, SIZE)
        self.addresses, self.deaths, self.seen = {}, 0, None

    # ---- what is there

    def listing(self):
        """All at rest; None = something is under way."""
        client, node = self.client, self.node
        try:
            disks = {name: client.DiskGet(disk_name=name)["state"] for name in ("d", "x") if self.has_disk(name)}
            seen = {
                "disks": disks,
                "replicas": client.ReplicaList()["replicas"],
                "engines": client.EngineList()["engines"],
                **{m: node.plane_call(m)["result"] for m in ("bdev_lvol_get_lvols", "nvmf_get_subsystems", "bdev_nvme_get_controllers", "mirror_get")},
            }  # fmt: skip
        except (Failure, OSError, AssertionError, KeyError) as failure:
            self.seen = failure
            return None
        self.seen = seen
        states = [*disks.values(), *(o["state"] for kind in ("replicas", "engines") for o in seen[kind].values())]
        engine = seen["engines"].get(ENGINE)
        whole = engine is None or engine["state"] == "error" or set(engine["replica_mode_map"].values()) == {1}
        return seen if set(states) <= SETTLED and whole and self.is_tidy(seen) else None

    def has_disk(self, name):
        try:
            return self.client.DiskGet(disk_name=name) is not None
        except Failure as failure:
            if failure.code == "NOT_FOUND":
                return False
            raise

    @staticmethod
    def is_tidy(seen):
        """Nothing belongs to nobody, nothing is missing."""
        replicas, engines = seen["replicas"], seen["engines"]
        live = {name: e for name, e in engines.items() if e["state"] != "error"}
        volumes = {name for name, r in replicas.items() if r["head"] is not None}
        volumes |= {f"{name}-snap-{s}" for name, r in replicas.items() for s in r["snapshots"]}
        targets = {NQN + name for name, r in replicas.items() if r["state"] == "running"} | {f"{NQN}volume-{e['volume_name']}" for e in live.values()}
        return (
            {v["name"] for v in seen["bdev_lvol_get_lvols"]} == volumes
            and {s["nqn"] for s in seen["nvmf_get_subsystems"] if "discovery" not in s["nqn"]} == targets
            and {m["name"] for m in seen["mirror_get"]} == set(live)
            and len(seen["bdev_nvme_get_controllers"]) == sum(len(e["replica_address_map"]) for e in live.values())
        )

    def rest(self):
        return until(self.listing, lambda: f"rest after a death at {self.node.died_at}: {self.seen}")

    # ---- what is done: how, how it is undone, and whether it has been done

    def replica(self, name):
        made = self.client.ReplicaCreate(name=name, lvs_name="d", spec_size=SIZE, port_count=1)
        assert made["state"] == "running", made
        self.addresses[name] = f"{self.node.address}:{made['port_start']}"

    def engine(self):
        made = self.client.EngineCreate(name=ENGINE, volume_name="vol", spec_size=SIZE, frontend="spdk-tcp-nvmf", port_count=1,
                                        replica_address_map={FIRST: self.addresses[FIRST]})  # fmt: skip
        assert made["state"] == "running", made

    def second(self):
        return {"engine_name": ENGINE, "replica_name": SECOND, "replica_address": self.addresses[SECOND]}

    def disk(self, name="x"):
        path = self.folder / f"{name}.img"
        if not path.exists():
            with open(path, "wb") as file:
                file.truncate(64 * MIB)
        self.client.DiskCreate(disk_name=name, disk_path=str(path), block_size=4096)
        made = until(lambda: (d := self.client.DiskGet(disk_name=name))["state"] != "creating" and d, "the disk is open or not")
        assert made["state"] == "ready", made

    def no_disk(self):
        if self.has_disk("x"):
            self.client.DiskDelete(disk_name="x")
        (self.folder / "x.img").unlink(missing_ok=True)

    def no_replica(self, name):
        if name in self.client.ReplicaList()["replicas"]:
            self.client.ReplicaDelete(name=name, cleanup_required=True)

    def no_engine(self):
        self.client.EngineDelete(name=ENGINE)

    def has(self, kind, name):
        return lambda seen: name in seen[kind] and seen[kind][name]["state"] in ("running", "ready")

    def operations(self):
        """In an order in which each finds what it needs: words, do, undo, done. The undoing of what cannot be undone is nothing."""
        client = self.client

        def in_replica(name):
            return lambda seen: name in seen["replicas"][SECOND]["snapshots"]

        def in_engine(name):
            return lambda seen: name in seen["engines"][ENGINE]["snapshots"]

        def take(call, **values):
            return lambda: call(**values)

        def tolerant(call, **values):
            def go():
                try:
                    call(**values)
                except Failure as failure:
                    assert failure.code in ("NOT_FOUND", "UNKNOWN", "FAILED_PRECONDITION"), failure

            return go

        nothing = int
        snapshot = {"name": SECOND, "snapshot_name": "s1"}
        yield "DiskCreate", self.disk, self.no_disk, lambda seen: seen["disks"].get("x") == "ready"
        yield "DiskDelete", self.no_disk, self.disk, lambda seen: "x" not in seen["disks"]
        yield "ReplicaCreate", lambda: self.replica(SECOND), lambda: self.no_replica(SECOND), self.has("replicas", SECOND)
        yield "ReplicaSnapshotCreate", take(client.ReplicaSnapshotCreate, user_created=True, **snapshot), tolerant(client.ReplicaSnapshotDelete, **snapshot), in_replica("s1")
        yield ("ReplicaSnapshotDelete", take(client.ReplicaSnapshotDelete, **snapshot), tolerant(client.ReplicaSnapshotCreate, user_created=True, **snapshot),
               lambda seen: not in_replica("s1")(seen))  # fmt: skip
        yield "ReplicaExpand", take(client.ReplicaExpand, name=SECOND, size=SIZE), nothing, lambda seen: seen["replicas"][SECOND]["spec_size"] == SIZE
        yield "ReplicaDelete", lambda: self.no_replica(SECOND), lambda: self.replica(SECOND), lambda seen: SECOND not in seen["replicas"]
        self.replica(SECOND)
        yield "EngineCreate", self.engine, self.no_engine, self.has("engines", ENGINE)
        at_engine = {"name": ENGINE, "snapshot_name": "s1"}
        yield "EngineSnapshotCreate", take(client.EngineSnapshotCreate, user_created=True, **at_engine), tolerant(client.EngineSnapshotDelete, **at_engine), in_engine("s1")
        yield ("EngineSnapshotDelete", take(client.EngineSnapshotDelete, **at_engine), tolerant(client.EngineSnapshotCreate, user_created=True, **at_engine),
               lambda seen: not in_engine("s1")(seen))  # fmt: skip
        there = self.second_is_there
        yield "EngineReplicaAdd", take(client.EngineReplicaAdd, **self.second()), tolerant(client.EngineReplicaDelete, **self.second()), there
        yield "EngineReplicaDelete", take(client.EngineReplicaDelete, **self.second()), tolerant(client.EngineReplicaAdd, **self.second()), lambda seen: not there(seen)
        yield "EngineExpand", take(client.EngineExpand, name=ENGINE, size=SIZE + MIB), nothing, lambda seen: seen["engines"][ENGINE]["spec_size"] == SIZE + MIB
        yield "EngineDelete", self.no_engine, self.engine_again, lambda seen: ENGINE not in seen["engines"]

    @staticmethod
    def second_is_there(seen):
        return SECOND in seen["engines"][ENGINE]["replica_address_map"]

    def engine_again(self):
        return self.client.EngineCreate(name=ENGINE, volume_name="vol", spec_size=SIZE + MIB, frontend="spdk-tcp-nvmf", port_count=1,
                                        replica_address_map={FIRST: self.addresses[FIRST]})  # fmt: skip

    # ---- one death

    def one(self, words, do, undo, done, command, after):
        """False: it has no command of that number."""
        self.node.die_at(command, after)
        try:
            do()
            answer = None
        except (Failure, AssertionError) as failure:
            answer = failure
        died_at = self.node.died_at
        self.node.die_at(0, False)
        what = f"{words}, the plane died {'after' if after else 'before'} its command {command}, {died_at}: {answer}"
        if os.environ.get("PENSTOCK_VERBOSE"):
            print(what, flush=True)
        seen = self.rest()
        was_done = bool(done(seen))
        if died_at is None:
            assert answer is None and was_done, what
            return False
        self.deaths += 1
        if self.deaths % 3 == 0:  # else penstockd waits longer and longer for a plane that dies at once
            self.node.kill()
            self.node.start()
        assert was_done or answer is not None, what
        if not was_done:  # it is as if it had never been asked for, or says that it failed
            self.until_done(do, what)
            assert done(self.rest()), what
        return True

    def until_done(self, do, what):
        try:
            do()
        except (Failure, AssertionError) as failure:
            raise AssertionError(f"asked again: {what}: {failure}") from failure

    def run(self, moments):
        luck = random.Random(int(os.environ.get("PENSTOCK_SEED", "1")))
        self.disk("d")
        self.replica(FIRST)
        target = self.programs.replica_target(self.addresses[FIRST], FIRST)
        self.programs.write(target, self.data)
        share = 1 if moments is None else moments / 80  # all of them are about so many
        for words, do, undo, done in self.operations():
            command, more = 1, True
            while more:
                for after in (False, True):
                    if luck.random() >= share:
                        continue
                    more = self.one(words, do, undo, done, command, after)
                    undo()
                    self.rest()
                command += 1
                more = more and command < 16
            do()
            self.rest()
        engine = self.engine_again()
        assert engine["state"] == "running", engine
        assert self.programs.read(engine, SIZE) == self.data.read_bytes()
        print(f"{self.deaths} deaths")


def terminated(*_):
    raise SystemExit("terminated")


def main():
    signal.signal(signal.SIGTERM, terminated)
    daemon, plane, bench, table = sys.argv[1:5]
    with tempfile.TemporaryDirectory(prefix="penstockd-deaths-") as folder:
        deaths = Deaths(Programs(daemon, plane, bench, Contract(table)), folder)
        try:
            deaths.run(int(sys.argv[5]) if len(sys.argv) > 5 else None)
        except BaseException:
            print(deaths.node.log()[-6000:], flush=True)
            raise
        finally:
            deaths.node.end()


if __name__ == "__main__":
    main()
