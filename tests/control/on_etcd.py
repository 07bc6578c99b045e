#!/usr/bin/env python3
"""The daemon's tests with their state in etcd: three members on loopback, election timeout 5 s, of which one after the other is
killed and comes back while the tests run. Arguments: Meson's build directory and the source's, then names of tests (files without .py,
or FILE:TEST); none = all. Tests know of it by PENSTOCK_STATE."""

import concurrent.futures
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
from addresses import Address

ELECTION_MS = 5000
FILES = {  # the programs that each is given
    "test_daemon": ("penstockd", "penstock-block", "TABLE"),
    "test_engine": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
    "test_operations": ("penstockd", "penstock-block", "TABLE"),
    "test_cli": ("penstock", "penstockd", "penstock-block", "TABLE"),
    "test_transport": ("penstockd", "penstock-block", "TABLE"),
    "test_copies": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
    "test_switch_over": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
    "test_volume": ("penstockd", "penstock-block", "penstock-bench", "penstock", "TABLE", "VOLUMES"),
    "test_chaos": ("penstockd", "penstock-block", "penstock-bench", "TABLE"),
}


EVERYTHING = [*(f"{name}:{part}/4" for name in ("test_daemon", "test_copies") for part in (1, 2, 3, 4)),
              *(name for name in FILES if name not in ("test_daemon", "test_copies", "test_chaos")), "test_chaos:40"]
JOBS = 2
TEST_S = 1200  # for each; what hangs is no success


def find_etcd():
    given = os.environ.get("PENSTOCK_ETCD", "")
    return given if given and os.access(given, os.X_OK) else shutil.which("etcd")


class Cluster:
    def __init__(self, program, folder, count=3, election_ms=ELECTION_MS):
        self.program, self.folder, self.count, self.election_ms = program, pathlib.Path(folder), count, election_ms
        self.held = [Address() for _ in range(count)]  # ports of 127.0.0.1 are anybody's: connections leave from them
        self.members = [None] * count
        self.kills = 0
        for i in range(count):
            self.start(i)

    def endpoints(self):
        return [f"{held.text}:2379" for held in self.held]

    def start(self, i):
        peers = [f"http://{held.text}:2380" for held in self.held]
        client = f"http://{self.endpoints()[i]}"
        with open(self.folder / f"log{i}", "a", encoding="utf-8") as log:
            self.members[i] = subprocess.Popen(
                [self.program, "--name", f"m{i}", "--data-dir", str(self.folder / f"data{i}"), "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i], "--initial-cluster", ",".join(f"m{k}={peer}" for k, peer in enumerate(peers)),
                 "--heartbeat-interval", str(self.election_ms // 10), "--election-timeout", str(self.election_ms), "--logger", "zap", "--log-level", "warn"], stdout=log, stderr=log)  # fmt: skip

    def kill(self, i):
        self.kills += 1
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
        for held in self.held:
            held.end()


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
    programs = {"TABLE": source / "tests/control/spdkrpc.table", "VOLUMES": source / "api/proto/penstock/v1/volume.proto"}
    words = [programs.get(p, build / "src/programs" / p / p) for p in FILES[file]]
    return [sys.executable, "-B", str(source / f"tests/control/{file}.py"), *map(str, words), *([test] if test else [])]


def main():
    build, source, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    program = find_etcd()
    if program is None:
        print("skipped: no etcd; apt-get install etcd-server, or PENSTOCK_ETCD=PROGRAM")
        sys.exit(77)
    names = names or EVERYTHING
    failed = []

    def run(name):
        begun = time.monotonic()
        try:
            done = subprocess.run(command(build, source, name), env=environment, capture_output=True, text=True, check=False, timeout=TEST_S)
            well, out, err = done.returncode in (0, 77), done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            well, out, err = False, (late.stdout or b"").decode(errors="replace"), f"not done within {TEST_S} s"
        if not well:
            failed.append(name)
            print(out[-20000:], err[-4000:])
        print(f"{name}: {(out.splitlines() or ['well'])[-1] if well else 'failed'}, {time.monotonic() - begun:.0f} s", flush=True)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-etcd-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        cluster, ending = Cluster(program, folder), threading.Event()
        tormentor = threading.Thread(target=torment, args=(cluster, ending, int(os.environ.get("PENSTOCK_SEED", "1"))))
        try:
            cluster.wait()
            tormentor.start()
            environment = {**os.environ, "PENSTOCK_STATE": "etcd:" + ",".join(cluster.endpoints())}
            with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:  # they wait for elections, most of the time
                list(pool.map(run, names))
        finally:
            ending.set()
            if tormentor.ident is not None:
                tormentor.join()
            cluster.end()
    print(f"{len(names) - len(failed)} of {len(names)} passed, {cluster.kills} members killed, {time.monotonic() - begun:.0f} s")
    sys.exit(len(failed) > 0)


if __name__ == "__main__":
    main()
