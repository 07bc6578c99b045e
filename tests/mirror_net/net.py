"""Nodes of a mirror on one machine: real penstock-block processes, each leg's in a network namespace behind a link of its own, their
disks, what can happen to them, and who checks the data. Without namespaces they are on addresses of 127/8. Used by test_mirror_net.py."""

import collections
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from addresses import Address

NQN = "nqn.2026-11.io.penstock:"
PORT = 4420  # of whatever a node serves
CORE = hex(1 << min(os.sched_getaffinity(0)))
DEADLINE_S = 180  # of whatever is waited for: only a failure is that late
MIB = 1 << 20


class Failure(AssertionError):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(what, condition, seconds=DEADLINE_S):
    """Waits until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < deadline, f"after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.002)


class RpcError(Failure):
    def __init__(self, method, error):
        super().__init__(f"{method}: {error.get('message')} {error.get('data', '')}")
        self.code = error["code"]


def tool(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(words)}: {done.stderr}")


class Link:
    """A pair of interfaces between this namespace and one of its own, held open by a process that sleeps there."""

    def __init__(self, index):
        self.name, self.here, self.there = f"leg{index}", f"10.77.{index}.1", f"10.77.{index}.2"
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "1000000"])
        wait_for("the namespace is not there", lambda: self.holder.poll() is None and os.readlink(f"/proc/{self.holder.pid}/ns/net") !=
                 os.readlink("/proc/self/ns/net"))
        tool("ip", "link", "add", self.name, "type", "veth", "peer", "name", "up0", "netns", str(self.holder.pid))
        tool("ip", "addr", "add", f"{self.here}/24", "dev", self.name)
        tool("ip", "link", "set", self.name, "up")
        self.inside("ip", "addr", "add", f"{self.there}/24", "dev", "up0")
        self.inside("ip", "link", "set", "up0", "up")
        self.inside("ip", "link", "set", "lo", "up")

    def enter(self):
        return ["nsenter", "-t", str(self.holder.pid), "-n"]

    def inside(self, *words):
        tool(*self.enter(), *words)

    def unplug(self):
        tool("ip", "link", "set", self.name, "down")

    def plug(self):
        tool("ip", "link", "set", self.name, "up")

    def drop(self, percent, to_leg=True, from_leg=True):
        """Loses packets of either direction silently: so many of a hundred."""
        tool("nft", "add", "table", "inet", self.name)
        for hook, key, wanted in (("output", "oifname", to_leg), ("input", "iifname", from_leg)):
            tool("nft", "add", "chain", "inet", self.name, hook, "{", "type", "filter", "hook", hook, "priority", "0", ";", "}")
            if wanted:
                some = [] if percent == 100 else ["numgen", "random", "mod", "100", "<", str(percent)]
                tool("nft", "add", "rule", "inet", self.name, hook, key, self.name, *some, "drop")

    def drop_nothing(self):
        tool("nft", "delete", "table", "inet", self.name)

    def rate(self, megabits):
        tool("tc", "qdisc", "replace", "dev", self.name, "root", "tbf", "rate", f"{megabits}mbit", "burst", "64k", "latency", "200ms")
        self.inside("tc", "qdisc", "replace", "dev", "up0", "root", "tbf", "rate", f"{megabits}mbit", "burst", "64k", "latency", "200ms")

    def rate_any(self):
        tool("tc", "qdisc", "del", "dev", self.name, "root")
        self.inside("tc", "qdisc", "del", "dev", "up0", "root")

    def close(self):
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)


class Relay:
    """Stands between the engine and a leg: what goes to the leg may be late, or be held and come long after its connection was given up."""

    def __init__(self, address, port):
        self.target, self.delay_s, self.pipes, self.clients = (address, port), 0.0, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            go = threading.Event()
            go.set()
            self.pipes.append(go)
            self.clients.append(client)
            threading.Thread(target=self.carry, args=(client, server, go), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, None), daemon=True).start()

    def carry(self, source, to, go):
        """Bytes in order, each not before its time; with `go`, not while that is clear."""
        waiting, lock, ended = collections.deque(), threading.Condition(), threading.Event()

        def send():
            while True:
                with lock:
                    while not waiting:
                        if ended.is_set():
                            break
                        lock.wait()
                    if not waiting:
                        break
                    due, piece = waiting.popleft()
                time.sleep(max(0.0, due - time.monotonic()))
                if go is not None:
                    go.wait()
                try:
                    to.sendall(piece)
                except OSError:
                    break
            try:
                to.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while True:
            try:
                piece = source.recv(1 << 16)
            except OSError:
                piece = b""
            with lock:
                if piece:
                    waiting.append((time.monotonic() + self.delay_s, piece))
                else:
                    ended.set()
                lock.notify()
            if not piece:
                break
        sender.join()

    def hold(self):
        """The connections that are there now: what is sent on them stays here. Returns what releases them."""
        held, self.pipes = self.pipes, []
        for go in held:
            go.clear()
        return held

    def turn_to(self, address, port):
        """From now on it leads there: connections that are there are cut on this side, and what they carried is on its way."""
        self.target = (address, port)
        for client in self.clients:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is gone by itself

    @staticmethod
    def release(held):
        for go in held:
            go.set()

    def close(self):
        self.listener.close()
        self.release(self.pipes)


class Node:
    """One penstock-block, with an address of its own and a disk that outlives it."""

    def __init__(self, world, index):
        self.world, self.index = world, index
        self.held = Address()
        self.address = self.held.text
        self.folder = os.path.join(world.folder, f"node{index}")
        os.makedirs(self.folder, exist_ok=True)
        self.socket_path = os.path.join(self.folder, "s.sock")
        self.disk = os.path.join(self.folder, "disk.img")
        self.process = self.socket = self.link = None

    def start(self, *options):
        before = self.link.enter() if self.link is not None else []
        log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen([*before, self.world.program("penstock-block"), "-r", self.socket_path, "-m", CORE, *options], stdout=log, stderr=log)
        log.close()
        self.connect()

    def connect(self):
        def attempt():
            check(self.process.poll() is None, f"node {self.index} ended by itself")
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(DEADLINE_S)
            try:
                self.socket.connect(self.socket_path)
                return True
            except OSError:
                self.socket.close()
                return False
        wait_for(f"node {self.index} does not listen", attempt)
        self.call("framework_wait_init")

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params:
            request["params"] = params
        self.socket.sendall(json.dumps(request).encode())
        answer = bytearray()
        while not answer.endswith(b"\n"):
            more = self.socket.recv(1 << 16)
            check(more, f"node {self.index} closed the connection in {method}")
            answer += more
        answer = json.loads(answer)
        if "error" in answer:
            raise RpcError(method, answer["error"])
        return answer["result"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.close()

    # what a node has

    def open_disk(self, size=512 * MIB, cache_seed=None):
        """Opens its disk, as a new one if there is none. With a seed it has a write cache that is lost when the process is killed."""
        new = not os.path.exists(self.disk)
        if new:
            with open(self.disk, "wb") as f:
                f.truncate(size)
        self.call("bdev_aio_create", name="disk", filename=self.disk, block_size=4096, fallocate=True)
        base = "disk"
        if cache_seed is not None:
            base = self.call("bdev_volatile_create", name="cache", base_bdev_name="disk", seed=cache_seed)
        if new:
            self.call("bdev_lvol_create_lvstore", bdev_name=base, lvs_name="disk", cluster_sz=MIB)
        elif cache_seed is not None:
            self.call("bdev_examine", name=base)

    def create_volume(self, name, size_mib):
        return self.call("bdev_lvol_create", lvs_name="disk", lvol_name=name, size_in_mib=size_mib, thin_provision=True)

    def export(self, device, nqn, port):
        """A host that is told of a path's state waits for another one."""
        self.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True, ana_reporting=True)
        self.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": device})
        self.call("nvmf_subsystem_add_listener", nqn=nqn,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": self.address, "trsvcid": str(port)})

    def save_config(self):
        """What brings it up again; returns the file."""
        path = os.path.join(self.folder, "config.json")
        areas = [{"subsystem": name, "config": self.call("framework_get_config", name=name)} for name in ("bdev", "nvmf")]
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"subsystems": areas}, f)
        return path

    def transport(self):
        self.call("nvmf_create_transport", trtype="TCP")

    def log_text(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()


class Replica(Node):
    """A node with a volume that it serves, to be a leg."""

    def __init__(self, world, index, size_mib):
        super().__init__(world, index)
        self.size_mib = size_mib
        self.nqn = f"{NQN}leg{index}"
        self.port = world.port
        self.name = f"r{index}"  # of the controller on the engine's node
        self.leg = f"{self.name}n1"
        self.filter = None  # "error": the leg is served through that device of the fault kit
        self.plain = False  # a file beside the volumes is its leg, which keeps no record
        self.loses_power = False  # a kill is a loss of power: its disk has a write cache in the process's memory
        self.starts = 0
        self.relay = None   # through which the engine reaches it
        if world.namespaces:
            self.link = Link(index)
            self.address = self.link.there

    def start(self):
        self.starts += 1
        if self.loses_power:
            super().start("--json", self.world.unexamined())
            self.open_disk(cache_seed=1000 * self.index + self.starts)
        else:
            super().start()
            self.open_disk()
        if not self.call("bdev_lvol_get_lvols"):
            self.create_volume("v", self.size_mib)
        self.transport()
        device = "disk/v"
        if self.plain:
            path = os.path.join(self.folder, "plain.img")
            with open(path, "ab") as f:
                f.truncate(self.size_mib * MIB)
            device = self.call("bdev_aio_create", name="plain", filename=path, block_size=4096)
        if self.filter == "error":
            volume = self.call("bdev_get_bdevs", name=device)[0]["name"]
            self.call("bdev_error_create", base_name=volume)
            device = f"EE_{volume}"
        self.device = device
        self.export(device, self.nqn, self.port)


class World:
    """Replicas, and a node with the engine, which serves the mirror to a load."""

    def __init__(self, build, folder, namespaces, options, legs=3, size_mib=64):
        """`options`: of each mirror_create."""
        self.build, self.folder, self.namespaces, self.size_mib, self.options = build, folder, namespaces, size_mib, options
        self.port = PORT
        self.engine = Node(self, 0)
        self.others = []  # further nodes that end with the world
        self.replicas = [Replica(self, i + 1, size_mib) for i in range(legs)]
        self.loads = []
        self.relay = None  # through which hosts reach the mirror

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for load in self.loads:
            load.kill()
        for node in [self.engine, *self.others, *self.replicas]:
            if node.process is not None and node.process.poll() is None:
                if kind is None:
                    node.end()
                else:
                    node.process.kill()
                    node.process.wait()
            if node.link is not None:
                node.link.close()
        for one in [self, *self.replicas]:
            if one.relay is not None:
                one.relay.close()

    def program(self, name):
        return os.path.join(self.build, "src", "programs", name, name)

    def unexamined(self):
        """A configuration by which stores are only looked for where that is asked."""
        path = os.path.join(self.folder, "unexamined.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_set_options", "params": {"bdev_auto_examine": False}}]}]}, f)
        return path

    # the mirror

    def attach(self, replica, to=None, **options):
        address, port = (replica.address, replica.port) if replica.relay is None else ("127.0.0.1", replica.relay.port)
        (to or self.engine).call("bdev_nvme_attach_controller", **{
            "name": replica.name, "trtype": "TCP", "adrfam": "IPv4", "traddr": address, "trsvcid": str(port),
            "subnqn": replica.nqn, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1, "fast_io_fail_timeout_sec": 0, **options})

    def start(self, **options):
        """Everything from nothing: replicas, engine, mirror, and the mirror's export."""
        for replica in self.replicas:
            replica.start()
        self.start_engine(**options)

    def start_engine(self, node=None, **options):
        node = node or self.engine
        node.start()
        for replica in self.replicas:
            self.attach(replica, node)
        foreign = {"foreign": [r.leg for r in self.replicas if r.plain]} if any(r.plain for r in self.replicas) else {}
        node.call("mirror_create", name="m", legs=[r.leg for r in self.replicas], **foreign, **self.options, **options)
        node.transport()
        node.export("m", f"{NQN}m", self.port)
        if options.get("standby"):
            self.wait_state("standby", node=node)
            node.call("mirror_promote", name="m")
        self.wait_state("serving", node=node)

    def status(self, node=None):
        return (node or self.engine).call("mirror_get", name="m")[0]

    def wait_state(self, state, seconds=DEADLINE_S, node=None):
        wait_for(lambda: f"the mirror is not {state}: {self.status(node)}", lambda: self.status(node)["state"] == state, seconds)

    def leg(self, replica):
        return next(leg for leg in self.status()["legs"] if leg["name"] == replica.leg)

    def wait_leg(self, replica, state, seconds=DEADLINE_S):
        begin = time.monotonic()
        wait_for(lambda: f"{replica.leg} is not {state}: {self.status()}", lambda: self.leg(replica)["state"] == state, seconds)
        return time.monotonic() - begin

    def wait_whole(self, seconds=DEADLINE_S):
        for replica in self.replicas:
            self.wait_leg(replica, "whole", seconds)

    # data

    def url(self, node=None):
        address, port = ((node or self.engine).address, self.port) if self.relay is None else ("127.0.0.1", self.relay.port)
        return f"nvme-tcp://{address}:{port}/{NQN}m"

    def load(self, seconds, *options, node=None):
        load = Load(self, seconds, self.url(node), *options)
        self.loads.append(load)
        return load

    def bench(self, *words, url=None):
        done = subprocess.run([self.program("penstock-bench"), url or self.url(), *words], capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False)
        check(done.returncode == 0, f"penstock-bench {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def content(self):
        """What the mirror reads as, all of it."""
        path = os.path.join(self.folder, "content")
        self.bench("--to", path, "--length", str(self.size_mib * MIB))
        with open(path, "rb") as f:
            return f.read()

    def sum(self):
        return hashlib.sha256(self.content()).hexdigest()

    def check_equal(self):
        """All legs are whole, and hold the same: by their checksums."""
        self.wait_whole()
        self.engine.call("mirror_verify", name="m")
        wait_for(lambda: f"verify does not end: {self.status()}", lambda: self.status()["verify"]["state"] == "done")
        verify = self.status()["verify"]
        check(verify["mismatches"] == 0 and verify["done"] == verify["total"], f"the legs are not equal: {verify}")

    def tree(self, replica):
        """Of a leg's node: each volume with its size, what it stands on, and, for snapshots, the sum of its content."""
        tree = {}
        for bdev in replica.call("bdev_get_bdevs"):
            lvol = bdev["driver_specific"].get("lvol")
            if lvol is None:
                continue
            alias, size = bdev["aliases"][0], bdev["num_blocks"] * bdev["block_size"]
            tree[alias] = (size, lvol.get("base_snapshot"), self.sum_of(replica, alias, size) if lvol["snapshot"] else None)
        return tree

    def sum_of(self, replica, alias, size):
        nqn = f"{NQN}look{replica.index}"
        replica.export(alias, nqn, self.port)
        path = os.path.join(self.folder, "layer")
        self.bench("--to", path, "--length", str(size), url=f"nvme-tcp://{replica.address}:{self.port}/{nqn}")
        replica.call("nvmf_delete_subsystem", nqn=nqn)
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def check_trees(self, *snapshots):
        """All legs are whole and equal, and so are their snapshots, which are these."""
        self.check_equal()
        wanted = {"disk/v", *(f"disk/v-snap-{name}" for name in snapshots)}
        for replica in self.replicas:  # what was kept for the time of a return merges away
            wait_for(lambda r=replica: f"{r.leg} has other volumes than {wanted}: {self.tree(r).keys()}",
                     lambda r=replica: {b["aliases"][0] for b in r.call("bdev_get_bdevs") if "lvol" in b["driver_specific"]} == wanted)
        trees = [self.tree(replica) for replica in self.replicas]
        check(trees.count(trees[0]) == len(trees), f"the legs have other trees: {trees}")

    def check_legs_equal(self):
        """Reads all of the mirror from each leg alone: the others are killed, and come back."""
        self.wait_whole()
        wanted = self.sum()
        for alone in self.replicas:
            for other in self.replicas:
                if other is not alone:
                    self.lose(other, Node.kill)
            check(self.sum() == wanted, f"{alone.leg} alone reads otherwise than all together")
            for other in self.replicas:
                if other is not alone:
                    other.start()
            self.wait_whole()

    def watch(self, node=None):
        return Watch(self, node or self.engine)

    def lose(self, replica, harm):
        """Does harm, and waits until the mirror has told that it lost that leg."""
        watch = self.watch()
        harm(replica)
        watch.lost(replica)


class Watch:
    """What an engine tells from now on: a leg that is lost and back between two looks is seen all the same."""

    def __init__(self, world, node):
        self.world, self.node, self.next, self.seen = world, node, 0, []
        self.read()
        self.seen = []

    def read(self):
        while True:
            more = self.node.call("notify_get_notifications", id=self.next, max=100)
            if not more:
                return
            self.next = more[-1]["id"] + 1
            self.seen += [event["ctx"] for event in more if event["type"] == "mirror_leg"]

    def wait(self, replica, states, seconds=DEADLINE_S):
        """Until the leg came into one of these states; what was told of it before that is forgotten."""
        def told():
            self.read()
            for i, text in enumerate(self.seen):
                if text.startswith(tuple(f"m {replica.leg} {state}" for state in states)):
                    self.seen = [t for t in self.seen[:i] if not t.startswith(f"m {replica.leg} ")] + self.seen[i + 1:]
                    return True
            return False
        begin = time.monotonic()
        wait_for(lambda: f"{replica.leg} was not told to be {' or '.join(states)}: {self.world.status(self.node)}", told, seconds)
        return time.monotonic() - begin

    def lost(self, *replicas):
        for replica in replicas:
            self.wait(replica, ("set aside", "connecting", "absent", "faulted", "diverged"))

    def whole(self, replica):
        return self.wait(replica, ("whole",))


class Load:
    """A verified load: stamped blocks, every read checked, all read back at the end."""

    def __init__(self, world, seconds, url, *options):
        self.process = subprocess.Popen(
            [world.program("penstock-bench"), url, "-p", "randrw", "-b", "4K", "-d", "16", "--length", f"{world.size_mib}M",
             "--flush-every", "32", "--verify", "-t", str(seconds), "-o", "json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """It has done enough; all is read back."""
        check(self.process.poll() is None, "the load ended before")
        self.process.send_signal(signal.SIGINT)

    def unflushed_may_be_gone(self):
        self.process.send_signal(signal.SIGUSR1)

    def result(self):
        out, err = self.process.communicate(timeout=DEADLINE_S)
        check(self.process.returncode == 0, f"the load: {out}{err}")
        result = json.loads(out)
        check(result["mismatches"] == 0 and result["errors"] == 0, f"the load: {out}")
        return result
