#!/usr/bin/env python3
"""The programs as people use them: a real penstock-block, asked by the real penstock. The first argument is the build directory,
others name cases (all, if there are none). Prints one line a case and the sum."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import kept
from addresses import Address

BUILD = os.path.abspath(sys.argv[1])
DEADLINE_S = 120  # of whatever has to come; nothing here waits so long when all is well, not even on a slow machine


def program(name):
    return os.path.join(BUILD, "src", "programs", name, name)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.01)


class Node:
    def __init__(self, directory, *options):
        self.socket = os.path.join(directory, "s.sock")
        self.log = open(os.path.join(directory, "log"), "ab")
        self.process = subprocess.Popen([program("penstock-block"), "-r", self.socket, *options], stderr=self.log, stdout=self.log)
        until(self.answers, "penstock-block answers")

    def answers(self):
        assert self.process.poll() is None, "penstock-block ended by itself"
        return self.run("rpc", "framework_wait_init").returncode == 0

    def run(self, *words):
        return run(program("penstock"), "-s", self.socket, *words)

    def ok(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def fails(self, status, text, *words):
        done = self.run(*words)
        assert done.returncode == status, f"{words}: exit status {done.returncode}, expected {status}: {done.stderr}"
        assert text in done.stderr, f"{words}: {done.stderr!r} lacks {text!r}"

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        status = self.process.wait(DEADLINE_S)
        self.log.close()
        return status


def case_volumes_by_verbs(d):
    node = Node(d)
    disk = os.path.join(d, "disk.img")
    node.fails(66, "No such file", "block", "disk", "create", "disk0", disk)
    node.ok("block", "disk", "create", "disk0", disk, "--size", "1G")
    assert os.stat(disk).st_mode & 0o777 == 0o600
    node.ok("block", "volume", "create", "disk0/a", "64M")
    node.fails(73, "File exists", "block", "volume", "create", "disk0/a", "64M")
    node.fails(64, "size is 1.5G", "block", "volume", "create", "disk0/b", "1.5G")
    node.fails(64, "expected DISK/NAME", "block", "volume", "create", "b", "1G")
    node.fails(66, "No such device", "block", "volume", "delete", "disk0/none")
    node.ok("block", "snapshot", "create", "disk0/a", "s")
    node.ok("block", "snapshot", "clone", "disk0/s", "c")
    node.fails(77, "2 children", "block", "snapshot", "delete", "disk0/s")
    assert "disk0/c" in node.ok("block", "volume", "list")
    assert sorted(json.loads(node.ok("-o", "json", "block", "snapshot", "list", "disk0"))[0]["driver_specific"]["lvol"]["clones"]) == ["a", "c"]
    node.ok("block", "volume", "resize", "disk0/a", "128M")
    node.ok("block", "volume", "rename", "disk0/a", "b")
    volumes = json.loads(node.ok("-o", "json", "block", "volume", "list"))
    assert [v["aliases"][0] for v in volumes] == ["disk0/b", "disk0/c"] and volumes[0]["num_blocks"] * volumes[0]["block_size"] == 128 << 20
    node.ok("block", "volume", "delete", "disk0/c")
    node.ok("block", "snapshot", "delete", "disk0/s")
    assert "all is well" in node.ok("status")
    assert node.end(signal.SIGKILL) == -signal.SIGKILL
    node = Node(d)
    node.ok("block", "disk", "create", "disk0", disk)
    assert "disk0/b" in node.ok("block", "volume", "list")
    node.ok("block", "disk", "delete", "disk0")
    assert node.end() == 0
    done = run(program("penstock-fsck"), disk)
    assert done.returncode == 0, done.stdout


def case_a_foreign_disk_is_left_alone(d):
    node = Node(d)
    disk = os.path.join(d, "foreign.img")
    with open(disk, "wb") as f:
        f.write(b"somebody's data" * 1000)
        f.truncate(256 << 20)
    before = open(disk, "rb").read(1 << 20)
    node.fails(77, "bdev_lvol_create_lvstore", "block", "disk", "create", "x", disk)
    assert open(disk, "rb").read(1 << 20) == before
    assert "x" not in node.ok("block", "disk", "list")
    assert node.end() == 0


def case_an_export_is_read_and_written(d):
    node = Node(d)
    held = Address()  # where nobody else listens, or comes from
    place = f"{held.text}:4420"
    node.ok("block", "disk", "create", "disk0", os.path.join(d, "disk.img"), "--size", "1G")
    node.ok("block", "volume", "create", "disk0/a", "64M")
    nqn = node.ok("block", "export", "create", "disk0/a", "--listen", place).strip()
    assert place in node.ok("block", "export", "list")
    node.fails(70, "Unable to create subsystem", "block", "export", "create", "disk0/a", "--listen", place)
    source, back = os.path.join(d, "source"), os.path.join(d, "back")
    with open(source, "wb") as f:
        f.write(os.urandom(3_000_001))
    address = f"nvme-tcp://{place}/{nqn}"
    for words in (["--from", source], ["--to", back, "--length", "3000001"], ["-p", "randrw", "--verify", "--fill", "-t", "0.2", "--length", "16M"]):
        done = run(program("penstock-bench"), address, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert open(source, "rb").read() == open(back, "rb").read()
    node.ok("block", "export", "delete", nqn)
    assert node.end() == 0


def case_a_mirror_by_verbs(d):
    """Of a volume here and one of another node, named by its address."""
    other_d = os.path.join(d, "other")
    os.mkdir(other_d)
    node, other = Node(d), Node(other_d)
    held = Address()  # where nobody else listens, or comes from
    place = f"{held.text}:4420"
    for one, directory in ((node, d), (other, other_d)):
        one.ok("block", "disk", "create", "disk0", os.path.join(directory, "disk.img"), "--size", "256M")
        one.ok("block", "volume", "create", "disk0/v", "64M")
    nqn = other.ok("block", "export", "create", "disk0/v", "--listen", place).strip()
    leg = f"nvme-tcp://{place}/{nqn}"
    node.fails(64, "usage", "block", "mirror", "create", "m")
    node.fails(64, "nvme-tcp://ADDRESS:PORT/NQN", "block", "mirror", "create", "m", "disk0/v", "nvme-tcp://127.0.0.1/x")
    node.fails(64, "--tie-breaker", "block", "mirror", "create", "m", "disk0/v", "--tie-breaker", "x")
    node.fails(66, "No such device", "block", "mirror", "show", "m")
    node.ok("block", "mirror", "create", "m", "disk0/v", leg, "--policy", "majority", "--longest-stall", "2000", "--follow")
    until(lambda: "2 whole" in node.ok("block", "mirror", "list"), "both are whole")
    shown = node.ok("block", "mirror", "show", "m", "--follow")
    assert "m is serving since" in shown and "longest stall 2000 ms allowed" in shown and f"m-{held.text}n1" in shown, shown
    assert json.loads(node.ok("-o", "json", "block", "mirror", "show", "m"))["policy"] == "majority"
    assert "0 blocks differ" in node.ok("block", "mirror", "verify", "m")
    node.fails(64, "say --yes", "block", "mirror", "verify", "m", "--repair")
    assert json.loads(node.ok("-o", "json", "block", "mirror", "verify", "m", "--repair", "--yes"))["state"] == "done"
    node.fails(66, "No such file", "block", "mirror", "verify", "m", "--stop")
    node.ok("block", "mirror", "set", "m", "--rate", "10M", "--share", "50")
    assert json.loads(node.ok("-o", "json", "block", "mirror", "show", "m"))["bytes_per_s"] == 10 << 20
    node.fails(64, "--share", "block", "mirror", "set", "m", "--share", "101")
    node.ok("block", "volume", "create", "disk0/w", "64M")
    node.fails(64, "say --yes", "block", "mirror", "add", "m", "disk0/w")
    node.ok("block", "mirror", "add", "m", "disk0/w", "--yes", "--follow")
    until(lambda: "3 whole" in node.ok("block", "mirror", "list"), "all three are whole")
    node.ok("block", "mirror", "remove", "m", "disk0/w")
    until(lambda: "2 whole" in node.ok("block", "mirror", "list"), "both are whole")
    node.ok("block", "mirror", "snapshot", "m", "s")
    assert "s " in node.ok("block", "mirror", "snapshots", "m")
    node.fails(64, "say --yes", "block", "mirror", "revert", "m", "s")
    node.ok("block", "mirror", "revert", "m", "s", "--yes")
    node.fails(64, "say --yes", "block", "mirror", "resize", "m", "32M")
    node.ok("block", "mirror", "resize", "m", "128M")
    node.ok("block", "mirror", "snapshot-delete", "m", "s")
    until(lambda: "all is well" in node.run("status").stdout, "all is well")
    assert "m" in node.ok("__complete", "block", "mirror", "show", "").split()
    assert set(node.ok("__complete", "block", "mirror", "remove", "m", "").split()) == {"disk0/v", f"m-{held.text}n1"}
    node.ok("block", "mirror", "pause-sync", "m")
    assert json.loads(node.ok("-o", "json", "block", "mirror", "show", "m"))["sync_paused"] is True
    assert "resume-sync m" in node.ok("block", "mirror", "show", "m")
    node.ok("block", "mirror", "resume-sync", "m")
    assert json.loads(node.ok("-o", "json", "block", "mirror", "show", "m"))["sync_paused"] is False
    assert other.end(signal.SIGKILL) == -signal.SIGKILL
    said = []

    def is_told():
        said[:] = [node.run("status")]
        return f"leg m-{held.text}n1 is" in said[0].stdout and "comes back by itself" in said[0].stdout

    until(is_told, "the leg is missed")
    assert said[0].returncode == 1 and "all is well" not in said[0].stdout, said[0]
    node.ok("block", "mirror", "delete", "m")
    node.fails(66, "No such device", "block", "mirror", "delete", "m")
    assert node.end() == 0


def case_words_that_are_wrong(d):
    node = Node(d)
    node.fails(64, "no verb", "blok")
    node.fails(64, "which of these", "block", "volume")
    node.fails(64, "has no option --thik", "block", "volume", "create", "a/b", "1G", "--thik")
    node.fails(69, "Method not found", "rpc", "no_such_method")
    node.fails(64, "expected KEY=VALUE", "rpc", "bdev_get_bdevs", "name")
    assert json.loads(node.ok("rpc", "bdev_malloc_create", "block_size=512", "num_blocks=2048", "name=m")) == "m"
    node.fails(70, "block_size", "rpc", "bdev_malloc_create", "block_size=x", "num_blocks=1")
    second = run(program("penstock-block"), "-r", node.socket)
    assert second.returncode != 0 and second.stderr, "two planes on one socket"
    assert "bdev_get_bdevs" in node.ok("__complete", "rpc", "bdev_get_b")
    assert node.end() == 0


def case_the_demonstration(d):
    seat = os.getpid() % 1000  # nodes of its own: all of 127/8 is this machine
    environment = dict(os.environ, PENSTOCK_DEMO_BUILD=BUILD, PENSTOCK_DEMO_RUN=os.path.join(d, "run"), PENSTOCK_DEMO_SECONDS="0.3",
                       PENSTOCK_DEMO_NET=f"127.{251 + seat // 250}.{1 + seat % 250}")  # fmt: skip
    demo = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "demo")
    done = subprocess.run([sys.executable, demo], capture_output=True, text=True, env=environment, timeout=8 * DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 blocks other than flushed data allows" in done.stdout, done.stdout
    assert "0 errors, 0 blocks other than written" in done.stdout and "is on every replica" in done.stdout, done.stdout
    assert "copying to" in done.stderr and "fsck finds all disks clean" in done.stdout, done.stdout + done.stderr
    # Somebody is in the way: it says who, and what to do.
    with socket.socket() as taken:
        taken.bind((environment["PENSTOCK_DEMO_NET"] + ".2", 8504))
        taken.listen()
        done = subprocess.run([sys.executable, demo], capture_output=True, text=True, env=environment, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1 and ".2:8504" in done.stdout and "PENSTOCK_DEMO_NET=" in done.stdout, done.stdout


def main():
    failed = 0
    cases = [(name, f) for name, f in globals().items() if name.startswith("case_")]
    if len(sys.argv) > 2:
        cases = [(name, f) for name, f in cases if name.removeprefix("case_") in sys.argv[2:]]
        assert len(cases) == len(sys.argv) - 2, "no such case"
    for name, case in cases:
        with kept.Folder(prefix="penstock-") as d:
            try:
                case(d)
                print(f"ok      {name}")
            except (AssertionError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAILED  {name}: {e}")
                log = os.path.join(d, "log")
                if os.path.exists(log):
                    print(open(log, encoding="utf-8", errors="replace").read()[-4000:])
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
