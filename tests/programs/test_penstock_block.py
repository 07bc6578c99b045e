#!/usr/bin/env python3
"""penstock-block as a process: its options, its socket, its signals, a second one beside it. Argument: the program."""

import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import kept

PROGRAM = sys.argv[1]
DEADLINE_S = 60


def run(*options):
    """Runs it to its end."""
    return subprocess.run([PROGRAM, *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


class Instance:
    """A running one; ends with the block."""

    def __init__(self, path, *options):
        self.path = str(path)
        self.process = subprocess.Popen([PROGRAM, "-r", self.path, *options], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(self.path)
                return
            except OSError:
                self.socket.close()
                assert self.process.poll() is None, self.process.stderr.read()
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.005)

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params:
            request["params"] = params
        self.socket.sendall(json.dumps(request).encode())
        answer = bytearray()
        while not answer.endswith(b"\n"):
            more = self.socket.recv(65536)
            assert more, "closed"
            answer += more
        return json.loads(answer)

    def end(self, number=signal.SIGTERM):
        if number is not None:
            self.process.send_signal(number)
        output = self.process.communicate(timeout=DEADLINE_S)[1]
        self.socket.close()
        return self.process.returncode, output


def test_options(folder):
    done = run("--help")
    assert done.returncode == 0 and "--wait-for-rpc" in done.stdout and done.stderr == ""
    done = run("--version")
    assert done.returncode == 0 and done.stdout.startswith("penstock-block ")
    for bad in (["-m", "0"], ["-m", "xyz"], ["-m", "[3-1]"], ["-m", "[1"], ["--poll", "sometimes"], ["--no-such"], ["argument"], ["-m"]):
        done = run("-r", str(folder / "none"), *bad)
        assert done.returncode == 64 and done.stderr, bad
    done = run("-r", str(folder / "none"), "-m", "[900]")
    assert done.returncode != 0 and "900" in done.stderr, done.stderr
    done = run("-r", str(folder / "no" / "such" / "folder"))
    assert done.returncode != 0 and "folder" in done.stderr


def test_life(folder):
    core = hex(1 << min(os.sched_getaffinity(0)))
    instance = Instance(folder / "s1", "-m", core, "-s", "1024", "-L", "rpc", "--no-huge", "-g", "--log-file", str(folder / "log"))
    assert stat.S_IMODE(os.stat(instance.path).st_mode) == 0o600
    assert instance.call("framework_get_reactors")["result"]["pid"] == instance.process.pid
    assert instance.call("log_get_flags")["result"]["rpc"] is True
    second = run("-r", instance.path)
    assert second.returncode != 0 and instance.path in second.stderr, second.stderr
    assert instance.call("bdev_null_create", name="n", block_size=512, num_blocks=8)["result"] == "n"
    status, output = instance.end()
    assert status == 0 and "--mem-size has no effect" in output, output
    records = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]
    assert any("ready" in record["text"] and record["level"] == "NOTICE" for record in records)
    assert not os.path.exists(instance.path), "the socket is left behind"


def test_signals(folder):
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        assert Instance(folder / "s2").end(number)[0] == 0
    instance = Instance(folder / "s2")
    instance.end(signal.SIGKILL)
    instance = Instance(folder / "s2")  # a stale socket is in nobody's way
    assert instance.call("spdk_kill_instance", sig_name="SIGUSR1")["result"] is True
    assert instance.call("spdk_kill_instance", sig_name="SIGTERM")["result"] is True
    assert instance.end(None)[0] == 0


def test_config(folder):
    config = folder / "config.json"
    config.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": [
        {"method": "bdev_malloc_create", "params": {"name": "m", "block_size": 512, "num_blocks": 64}},
        {"method": "bdev_nvme_set_options", "params": {"bdev_retry_count": -1, "timeout_us": 7, "ctrlr_loss_timeout_sec": -1,
                                                       "reconnect_delay_sec": 3}}]}]}), encoding="ascii")
    instance = Instance(folder / "s3", "--json", str(config))
    assert instance.call("framework_wait_init")["result"] is True
    again = instance.call("framework_get_config", name="bdev")["result"]
    assert [call["params"].get("name") for call in again] == [None, None, "m"]
    options = again[1]["params"]
    assert [options[key] for key in ("bdev_retry_count", "timeout_us", "ctrlr_loss_timeout_sec", "reconnect_delay_sec")] == [-1, 7, -1, 3]
    instance.end()
    config.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": again}]}), encoding="ascii")
    instance = Instance(folder / "s3", "-c", str(config))
    instance.call("framework_wait_init")
    assert instance.call("framework_get_config", name="bdev")["result"] == again, "what was printed does not give it again"
    instance.end()
    config.write_text('{"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_malloc_create", "params": {}}]}]}')
    done = run("-r", str(folder / "s3"), "-c", str(config))
    assert done.returncode != 0 and "bdev_malloc_create" in done.stderr, (done.returncode, done.stderr)


def main():
    with kept.Folder() as name:
        folder = pathlib.Path(name)
        test_options(folder)
        test_life(folder)
        test_signals(folder)
        test_config(folder)


main()
