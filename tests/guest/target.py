"""The target that a guest connects to: build/penstock-block over JSON-RPC, on a disk that is a file."""

import json
import signal
import socket
import subprocess
import time

UUID = "5d1cf2a4-7a77-4f5f-9be0-31f0e2f7c0de"
SIZE = 256 << 20


class Plane:
    """A storage plane with one disk behind one subsystem. With volumes, if it has them: then a clone of a snapshot too."""

    def __init__(self, build, work, nqn, name="plane"):
        self.program = build / "src/programs/penstock-block/penstock-block"
        self.nqn, self.port, self.process = nqn, 0, None
        self.fsck = build / "src/programs/penstock-fsck/penstock-fsck"
        self.socket, self.disk = work / f"{name}.sock", work / ("disk" if name == "plane" else f"{name}.disk")
        self.uuid = UUID
        self.log = open(work / ("target.log" if name == "plane" else f"{name}.log"), "w")
        self.disk.unlink(missing_ok=True)
        with open(self.disk, "wb") as file:
            file.truncate(2 * SIZE)
        self.volumes = self.made = False

    def call(self, method, **params):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(60)
            link.connect(str(self.socket))
            link.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or None}).encode())
            text = b""
            while not text.endswith(b"\n"):
                more = link.recv(65536)
                assert more, f"the plane closed its socket on {method}"
                text += more
        answer = json.loads(text)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def launch(self):
        self.process = subprocess.Popen([self.program, "-r", self.socket], stdout=self.log, stderr=self.log)
        for _ in range(1200):
            try:
                return self.call("rpc_get_methods")
            except OSError:
                assert self.process.poll() is None, "the plane did not start"
                time.sleep(0.05)
        raise AssertionError("the plane does not answer")

    def device(self):
        """The name of the device to offer: a volume, or the disk itself."""
        self.call("bdev_aio_create", name="disk", filename=str(self.disk), block_size=512)
        if not self.volumes:
            return "disk"
        if not self.made:
            self.call("bdev_lvol_create_lvstore", bdev_name="disk", lvs_name="store")
            self.uuid = self.call("bdev_lvol_create", lvs_name="store", lvol_name="volume", size_in_mib=SIZE >> 20, thin_provision=True)
        return "store/volume"

    def address(self):
        return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)}

    def offer(self, nqn, device, subsystem=None, **more):
        self.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True, **(subsystem or {}))
        self.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": device, **more})
        self.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=self.address())

    def choose_port(self):
        if self.port == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]

    def start(self):
        self.choose_port()
        self.volumes = "bdev_lvol_clone" in self.launch()
        device = self.device()
        self.call("nvmf_create_transport", trtype="TCP")
        self.offer(self.nqn, device, **({} if self.volumes else {"uuid": UUID}))
        self.made = True

    def check_store(self):
        """What the checker says of the disk, which nobody has open."""
        if not self.volumes:
            return "no store"
        done = subprocess.run([self.fsck, "--wait", "5000", self.disk], capture_output=True, text=True)
        assert done.returncode == 0, f"penstock-fsck: {done.stdout}{done.stderr}"
        return done.stdout.splitlines()[0].split(": ", 1)[1]

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        """An orderly end: it must come."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, f"the plane ended with {self.process.returncode}"
        self.process = None

    def unmapped(self):
        """Bytes that hosts have given back."""
        return sum(bdev["bytes_unmapped"] for bdev in self.call("bdev_get_iostat")["bdevs"])

    def clone(self):
        """The NQN of a clone of a snapshot, or None."""
        if not self.volumes:
            return None
        self.call("bdev_lvol_snapshot", lvol_name="store/volume", snapshot_name="snapshot")
        self.call("bdev_lvol_clone", snapshot_name="store/snapshot", clone_name="clone")
        self.offer(self.nqn + "-clone", "store/clone")
        return self.nqn + "-clone"
