#!/usr/bin/env python3
"""Two penstockd of one name on a real etcd: one has charge, the other waits. Arguments: penstockd, penstock-block, the contract's table."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc  # noqa: F401
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from on_etcd import Cluster, find_etcd
from rig import Contract, Node, refused, stop, until

DAEMON, PLANE, TABLE = sys.argv[1:4]
NAME = "two"


class Named(Node):
    """One of the name, with a state directory of its own."""

    def __init__(self, folder, cluster):
        super().__init__(DAEMON, PLANE, Contract(TABLE), folder)
        self.state_options = [f"--node-name={NAME}", *(f"--state-etcd={endpoint}" for endpoint in cluster.endpoints())]

    def begin(self):
        """Without waiting for it."""
        with open(self.folder / "daemon.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, stdin=subprocess.DEVNULL)

    def disk(self):
        path = self.folder / "d.img"
        with open(path, "wb") as file:
            file.truncate(64 << 20)
        self.client.DiskCreate(disk_name="d", disk_path=str(path), block_size=4096)
        until(lambda: self.client.DiskGet(disk_name="d")["state"] == "ready", "the disk is open")


def run(first, second):
    first.start()
    first.disk()
    second.begin()
    until(lambda: f"the name {NAME} belongs to another penstockd" in second.log(), "it says whose the name is")
    assert "--node-name" in second.log() and first.address in second.log(), second.log()
    assert "gRPC on" not in second.log(), "it serves nobody"
    stop(second.process.pid)  # a machine that takes longer than the lease for this shall not give it the name
    first.kill()
    first.start()
    second.process.send_signal(signal.SIGCONT)
    assert first.client.DiskGet(disk_name="d")["path"], "its own name is taken over, the lease of the one before still lives"
    assert "belongs to another" not in first.log() and "gRPC on" not in second.log()
    assert first.kill(signal.SIGTERM) == 0
    second.connect()
    refused("NOT_FOUND", second.client.DiskGet, disk_name="none")
    assert second.client.DiskGet(disk_name="d")["state"] == "error", "it has the state, and not the disk"
    if os.environ.get("PENSTOCK_TEST_BUDGET") != "long":
        return  # what follows waits for a lease of ten seconds
    second.kill()
    first.begin()
    first.connect()  # when the lease has run out
    assert f"the name {NAME} belongs to another penstockd" in first.log()
    until(lambda: first.client.DiskGet(disk_name="d")["state"] == "ready", "the disk is its own")
    second.begin()
    until(lambda: second.log().count("belongs to another") == 2, "now that one waits")
    assert second.kill(signal.SIGTERM) == 0, "and may be ended"


def main():
    program = find_etcd()
    if program is None:
        print("skipped: no etcd; apt-get install etcd-server, or PENSTOCK_ETCD=PROGRAM")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="penstock-owner-") as folder:
        cluster = Cluster(program, folder, 1, election_ms=500)  # it elects itself
        nodes = [Named(f"{folder}/{i}", cluster) for i in range(2)]
        try:
            cluster.wait()
            run(*nodes)
        except BaseException:
            for node in nodes:
                print(node.log()[-5000:])
            raise
        finally:
            for node in nodes:
                node.end()
            cluster.end()
    print("well")


if __name__ == "__main__":
    main()
