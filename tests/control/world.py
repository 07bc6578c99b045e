"""Three nodes with replicas, and engines over them: what the tests of engines and of deaths stand on."""

import pathlib
import random
import subprocess
import tempfile
import time

from rig import DEADLINE_S, Failure, Node, until

MIB = 1 << 20
SIZE = 16 * MIB
VOLUME = "vol"
REPLICAS = [f"{VOLUME}-r-0000000{i}" for i in range(4)]
NQN = "nqn.2023-01.io.longhorn.spdk:"
WO, RW, ERR = 0, 1, 2
LEASE_S = 5  # of a pause


class Programs:
    """Where the programs are, and the contract; and a host's I/O over NVMe/TCP."""

    def __init__(self, daemon, plane, bench, contract):
        self.daemon, self.plane, self.bench, self.contract = daemon, plane, bench, contract

    @staticmethod
    def target(engine):
        return f"nvme-tcp://{engine['ip']}:{engine['port']}/{NQN}volume-{engine['volume_name']}"

    @staticmethod
    def replica_target(address, name):
        return f"nvme-tcp://{address}/{NQN}{name}?hostnqn={NQN}internal-host"

    def load(self, target, *options):
        target = target if isinstance(target, str) else self.target(target)
        done = subprocess.run([self.bench, *options, target], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def write(self, target, file):
        self.load(target, f"--from={file}")

    def read(self, target, size=SIZE):
        with tempfile.NamedTemporaryFile() as to:
            self.load(target, f"--to={to.name}", f"--length={size}")
            return pathlib.Path(to.name).read_bytes()


class World:
    """Nodes, each with a disk and a replica."""

    def __init__(self, programs, folder, count=3, options=(), make=Node):
        self.programs, self.folder = programs, pathlib.Path(folder)
        self.nodes = [make(programs.daemon, programs.plane, programs.contract, self.folder / str(i), options) for i in range(count)]
        self.addresses = {}
        self.recordless = ()

    def start(self):
        """Replicas of `recordless` nodes keep no record of a mirror: one is larger than what their transport carries."""
        for i, node in enumerate(self.nodes):
            node.start()
            self.disk(i)
            if i in self.recordless:
                raw(node, "nvmf_create_transport", trtype="TCP", max_io_size=32768)
            self.replica(i)

    def disk(self, i, name="d"):
        node = self.nodes[i]
        path = node.folder / f"{name}.img"
        with open(path, "wb") as file:
            file.truncate(256 * MIB)
        node.client.DiskCreate(disk_name=name, disk_path=str(path), block_size=4096)
        until(lambda: node.client.DiskGet(disk_name=name)["state"] == "ready", "the disk is open")

    def replica(self, i, name=None, disk="d"):
        node, name = self.nodes[i], name or REPLICAS[i]
        made = node.client.ReplicaCreate(name=name, lvs_name=disk, spec_size=SIZE, port_count=5)
        assert made["state"] == "running", made
        self.addresses[name] = f"{node.address}:{made['port_start']}"
        return name

    def engine(self, name="vol-e-0", node=0, replicas=REPLICAS[:3], **more):
        values = {"name": name, "volume_name": VOLUME, "spec_size": SIZE, "frontend": "spdk-tcp-nvmf", "port_count": 1,
                  "replica_address_map": {r: self.addresses[r] for r in replicas}, **more}  # fmt: skip
        return self.nodes[node].client.EngineCreate(**values)

    def end(self):
        for node in self.nodes:
            node.end()


def modes(engine):
    return [engine["replica_mode_map"][name] for name in sorted(engine["replica_mode_map"])]


def settled(node, name="vol-e-0", wanted="running"):
    engine = None

    def look():
        nonlocal engine
        engine = node.client.EngineGet(name=name)
        return engine if engine["state"] == wanted else None

    return until(look, lambda: f"engine {name} is {engine}, and not {wanted}")


def settled_as(node, wanted, name="vol-e-0"):
    """Until it runs and its replicas have these modes: one that a slow machine kept silent for a while is given up, and comes back."""
    engine = None

    def look():
        nonlocal engine
        engine = node.client.EngineGet(name=name)
        return engine if engine["state"] == "running" and modes(engine) == wanted else None

    return until(look, lambda: f"{name} is {engine}, and not running with the modes {wanted}")


def whole(node, name="vol-e-0", count=3):
    """Until all of its replicas are RW."""
    return settled_as(node, [RW] * count, name)


def within_lease(attempt, before_next):
    """What can only be seen before a pause's lease is over is tried again where the machine was too slow for it."""
    ends = time.monotonic() + DEADLINE_S
    while True:
        began = time.monotonic()
        try:
            return attempt()
        except (AssertionError, Failure):
            now = time.monotonic()
            if now - began < LEASE_S or now > ends:
                raise
        before_next()


def raw(node, method, **params):
    """Waits for a plane that is being started again."""

    def call():
        try:
            return node.plane_call(method, **params)
        except (OSError, AssertionError):
            return None

    answer = until(call, "the plane answers")
    assert "result" in answer, answer
    return answer["result"]


def pattern(folder, seed, size=SIZE):
    """A file of bytes that nobody else has."""
    path = pathlib.Path(folder) / f"pattern-{seed}"
    path.write_bytes(random.Random(seed).randbytes(size))
    return path
