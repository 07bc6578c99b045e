#!/usr/bin/env python3
"""The daemon's tests with their state in etcd: three members on loopback, election timeout 5 s, of which one after the other is
killed and comes back while the tests run. Arguments: Meson's build directory and the source's, then names of tests (files without .py,
or FILE:TEST); none = all. Tests know of it by PENSTOCK_STATE."""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ELECTION_MS = 5000
FILES = {  # the programs that each is given
    "test_daemon": ("penstockd", "penstock-block", "TABLE"),
    "test_engine": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
    "test_operations": ("penstockd", "penstock-block", "TABLE"),
    "test_cli": ("penstock", "penstockd", "penstock-block", "TABLE"),
    "test_transport": ("penstockd", "penstock-block", "TABLE"),
    "test_chaos": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
}


def find_etcd():
    given = os.environ.get("PENSTOCK_ETCD", "")
    return given if given and os.access(given, os.X_OK) else shutil.which("etcd")


class Cluster:
    def __init__(self, program, folder, count=3):
        self.program, self.folder, self.count = program, pathlib.Path(folder), count
        self.ports = []
        holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * count)]
        self.ports = [holder.getsockname()[1] for holder in holders]
        for holder in holders:
            holder.close()
        self.members = [None] * count
        for i in range(count):
            self.start(i)

    def endpoints(self):
        return [f"127.0.0.1:{port}" for port in self.ports[: self.count]]

    def start(self, i):
        peers = [f"http://127.0.0.1:{port}" for port in self.ports[self.count :]]
        client = f"http://{self.endpoints()[i]}"
        with open(self.folder / f"log{i}", "a", encoding="utf-8") as log:
            self.members[i] = subprocess.Popen(
                [self.program, "--name", f"m{i}", "--data-dir", str(self.folder / f"data{i}"), "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i], "--initial-cluster", ",".join(f"m{k}={peer}" for k, peer in enumerate(peers)),
                 "--heartbeat-interval", "500", "--election-timeout", str(ELECTION_MS), "--logger", "zap", "--log-level", "warn"], stdout=log, stderr=log)  # fmt: skip

    def kill(self, i):
        self.members[i].send_signal(signal.SIGKILL)
        self.members[i].wait()

    def is_well(self, i):
        try:
            with urllib.request.urlopen(f"http://{self.endpoints()[i]}/health", timeout=5) as answer:
                return b'"true"' in answer.read()
        except (OSError, urllib.error.URLError):
            return False

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not all(self.is_well(i) for i in range(self.count)):
            assert time.monotonic() < deadline, "etcd does not start"
            time.sleep(0.1)

    def end(self):
        for member in self.members:
            member.kill()
            member.wait()


def torment(cluster, ending, seed):
    """One of the members is away most of the time; the next one is killed only when all are well."""
    luck = random.Random(seed)
    while not ending.is_set():
        i = luck.randrange(cluster.count)
        cluster.kill(i)
        print(f"member {i} is killed", flush=True)
        ending.wait(15)
        cluster.start(i)
        while not ending.wait(0.2) and not all(cluster.is_well(k) for k in range(cluster.count)):
            pass
        ending.wait(3)


def command(build, source, name):
    file, _, test = name.partition(":")
    programs = {"TABLE": source / "tests/control/spdkrpc.table"}
    words = [programs.get(p, build / "src/programs" / p / p) for p in FILES[file]]
    return [sys.executable, "-B", str(source / f"tests/control/{file}.py"), *map(str, words), *([test] if test else [])]


def main():
    build, source, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    program = find_etcd()
    if program is None:
        print("skipped: no etcd; apt-get install etcd-server, or PENSTOCK_ETCD=PROGRAM")
        sys.exit(77)
    names = names or [f"test_daemon:{part}/4" for part in (1, 2, 3, 4)] + [n for n in FILES if n not in ("test_daemon", "test_chaos")] + ["test_chaos:40"]
    failed = []
    with tempfile.TemporaryDirectory(prefix="penstock-etcd-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        cluster, ending = Cluster(program, folder), threading.Event()
        tormentor = threading.Thread(target=torment, args=(cluster, ending, int(os.environ.get("PENSTOCK_SEED", "1"))))
        try:
            cluster.wait()
            tormentor.start()
            environment = {**os.environ, "PENSTOCK_STATE": "etcd:" + ",".join(cluster.endpoints())}
            for name in names:
                begun = time.monotonic()
                done = subprocess.run(command(build, source, name), env=environment, capture_output=True, text=True, check=False)
                if done.returncode not in (0, 77):
                    failed.append(name)
                    print(done.stdout[-20000:], done.stderr[-4000:])
                print(f"{name}: {'failed' if name in failed else (done.stdout.splitlines() or ['well'])[-1]}, {time.monotonic() - begun:.0f} s", flush=True)
        finally:
            ending.set()
            if tormentor.ident is not None:
                tormentor.join()
            cluster.end()
    sys.exit(len(failed) > 0)


if __name__ == "__main__":
    main()
