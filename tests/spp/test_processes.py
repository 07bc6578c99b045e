#!/usr/bin/env python3
"""Soft Patch Panel's own processes under penstockd: transcripts of what REST asks of them, word by word, and processes that misbehave.

Usage: test_processes.py PENSTOCKD PENSTOCK-PACKET"""

import concurrent.futures
import json
import os
import pathlib
import random
import select
import socket
import sys
import tempfile

import rig

HERE = pathlib.Path(__file__).parent
DONE = '{"results":[{"result":"success"}]}'


class Process:
    """What connects as spp_vf and its like do, and answers what it is told to."""

    def __init__(self, address, key):
        self.key, self.said = key, b""
        kind, number = key.split(":")
        self.socket = socket.create_connection((address, 5555 if kind == "primary" else 6666), timeout=rig.DEADLINE_S)
        if kind != "primary":
            self.hear("_get_client_id")
            self.say(json.dumps({"results": [{"result": "success"}], "client_id": int(number), "process_type": kind}))

    def hear(self, command):
        while len(self.said) < len(command):
            more = self.socket.recv(4096)
            assert more, f"{self.key} is left alone instead of asked {command!r}"
            self.said += more
            assert command.encode().startswith(self.said), f"{self.key}\nwant {command}\ngot  {self.said.decode()}"
        assert self.said == command.encode()
        self.said = b""

    def say(self, text, how=""):
        data = text.encode()
        if how == "padded":
            data = data.ljust(32768, b"\0")
        if how == "pieces":
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(data)):
                self.socket.sendall(data[at : at + 1])
        else:
            self.socket.sendall(data)

    def is_left_alone(self):
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionError:
            pass
        return True


def connect(daemon, processes, key):
    if key in processes:
        old = processes.pop(key)
        processes[key] = Process(daemon.address, key)
        assert old.is_left_alone()
    else:
        processes[key] = Process(daemon.address, key)
    if key == "primary:0":
        rig.until(lambda: "primary:0 has connected" in daemon.log(), "it is known")
    else:
        kind, number = key.split(":")
        rig.until(lambda: {"type": kind, "client-id": int(number)} in daemon.get("/v1/processes"), f"{key} is known")


def lines_of(path):
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    return lines


def play(daemon, path, pool):
    processes, asked, call, last = {}, None, None, None
    for line in lines_of(path):
        what, rest = line[0], line[2:]
        if what == "@":
            connect(daemon, processes, rest)
        elif what == ">":
            method, where, *body = rest.split(" ", 2)
            call, last = pool.submit(daemon.rest, method, where, body[0] if body else None), line
        elif what == "=":
            key, command = rest.split(" ", 1)
            asked = processes[key]
            asked.hear(command)
        elif what == "!":
            how, _, text = line[1:].partition(" ")
            if how == "close":
                asked.socket.close()
                processes.pop(asked.key)
            else:
                asked.say(text, how)
        else:
            status, kind, text = call.result(rig.DEADLINE_S)
            assert (kind == "application/json") == (status == 200), (last, status, kind, text)
            got = f"{status} {text}".strip()
            same = got == rest or (status == 200 and rest.startswith("200 ") and json.loads(text) == json.loads(rest[4:]))
            assert same, f"{path}\nwant {rest}\ngot  {got}\nafter {last}"
    for one in processes.values():
        one.socket.close()
    rig.until(lambda: daemon.get("/v1/processes") == [{"type": "primary"}], "all are forgotten")


def test_misbehaving(daemon, pool):
    """Each is let go, and the others go on."""
    good = Process(daemon.address, "vf:9")
    rig.until(lambda: len(daemon.get("/v1/processes")) == 2, "it is known")
    # Of those who do not say who they are.
    for word in (b"", b"hello", b"[]", b"{}", b'{"client_id": "1", "process_type": "vf"}', b'{"client_id": 1, "process_type": "primary"}',
                 b'{"client_id": 0, "process_type": "vf"}', b'{"client_id": 1, "process_type": "xx"}', b"{]", b'{"a": "' + b"x" * (1 << 21),
                 b"{" * 5000 + b"}" * 5000, b'{"client_id": 128, "process_type": "vf"}', b"\xff\xfe{}"):  # fmt: skip
        stranger = socket.create_connection((daemon.address, 6666), timeout=rig.DEADLINE_S)
        try:
            stranger.sendall(word)
            if not word:
                stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
        except ConnectionError:
            pass
        stranger.close()
    # Of those who are known.
    for answer in ("nonsense", "[1]", "{]", '{"results":' + "9" * (1 << 21), DONE + DONE):
        process = Process(daemon.address, "vf:5")
        rig.until(lambda: len(daemon.get("/v1/processes")) == 3, "it is known")
        call = pool.submit(daemon.rest, "DELETE", "/v1/vfs/5/components/x")
        process.hear("component stop x")
        try:
            process.say(answer)
        except ConnectionError:
            pass
        status = call.result(rig.DEADLINE_S)[0]
        assert status == (204 if answer == DONE + DONE else 503), (answer[:20], status)
        assert process.is_left_alone()
        rig.until(lambda: len(daemon.get("/v1/processes")) == 2, "it is forgotten")
    for status in ('{"results":[{"result":"success"}]}', '{"results":[{"result":"success"}],"info":[]}', "{}", '{"results":{}}'):
        call = pool.submit(daemon.rest, "GET", "/v1/vfs/9")
        good.hear("status")
        good.say(status)
        assert call.result(rig.DEADLINE_S)[:1] == (400,), status
    for status in ('{"info":{}}', '{"info":{"phy":7,"core":[1,{}],"ring":[{},null,-1,"' + "x" * 500 + '"]}}'):
        call = pool.submit(daemon.rest, "GET", "/v1/vfs/9")
        good.hear("status")
        good.say(status)
        assert call.result(rig.DEADLINE_S)[0] == 200, status
    # One who speaks without being asked.
    process = Process(daemon.address, "nfv:6")
    rig.until(lambda: len(daemon.get("/v1/processes")) == 3, "it is known")
    process.say("{}")
    assert process.is_left_alone()
    # A number that is ours, and one that becomes ours.
    daemon.do("PUT", "/v1/primary/launch", client_id=7, proc_name="spp_vf", eal={"-l": "1,2", "--proc-type": "secondary"}, app={})
    assert Process(daemon.address, "vf:7").is_left_alone() and Process(daemon.address, "nfv:7").is_left_alone()
    assert Process(daemon.address, "mirror:9").is_left_alone(), "the number is another process's"
    assert "its number is vf:7's" in daemon.log()
    daemon.do("DELETE", "/v1/vfs/7")
    # Many questions at once, in their order; too many are refused.
    calls = [pool.submit(daemon.rest, "DELETE", f"/v1/vfs/9/components/c{i}") for i in range(8)]
    for _ in calls:
        command = good.socket.recv(4096).decode()
        assert command.startswith("component stop c") and len(command) == 17, command
        good.say(DONE)
    assert {call.result(rig.DEADLINE_S)[0] for call in calls} == {204}
    # More connections than there is room for: the rest waits, and is served when others go.
    crowd = [socket.create_connection((daemon.address, 6666), timeout=rig.DEADLINE_S) for _ in range(80)]
    for one in crowd:
        one.close()
    late = Process(daemon.address, "pcap:8")
    rig.until(lambda: len(daemon.get("/v1/processes")) == 3, "it is met")
    late.socket.close()
    # The daemon ends while one is asked.
    call = pool.submit(daemon.rest, "GET", "/v1/vfs/9")
    good.hear("status")
    assert daemon.kill(15) == 0
    assert good.is_left_alone()
    try:
        assert call.result(rig.DEADLINE_S)[0] == 503
    except OSError:
        pass


def test_random(daemon, pool):
    """Any bytes, at any time, of anybody."""
    seed = int(os.environ.get("PENSTOCK_SEED", "1"))
    dice = random.Random(seed)
    print("seed", seed)
    bits = [b"{", b"}", b'"', b"\\", b"[", b"]", b"\0" * 100, b'{"client_id":1,"process_type":"vf"}', DONE.encode(), b"x" * 2000, b"\xff", b"results", b"1"]
    for _ in range(60):
        port = dice.choice((5555, 6666))
        with socket.create_connection((daemon.address, port), timeout=rig.DEADLINE_S) as one:
            calls = [pool.submit(daemon.rest, "GET", path) for path in dice.sample(["/v1/vfs/1", "/v1/primary/status", "/v1/processes"], 1)]
            try:
                for _ in range(dice.randrange(6)):
                    one.sendall(b"".join(dice.choice(bits) for _ in range(dice.randrange(1, 6))))
            except ConnectionError:
                pass
            if dice.randrange(2):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        for call in calls:
            assert call.result(rig.DEADLINE_S)[0] in (200, 400, 404, 503)
    assert daemon.process.poll() is None


def test_mute(daemon, pool):
    """One who does not answer is let go; what was asked of it, and what waited, is told so. Nobody else waits for it."""
    mute = None
    while mute is None:  # saying hello has its time too, which a busy machine may not keep
        try:
            mute = Process(daemon.address, "vf:1")
            while len(daemon.get("/v1/processes")) != 2:
                if select.select([mute.socket], [], [], 0.01)[0]:
                    mute = None
                    break
        except (AssertionError, ConnectionError):
            mute = None
    calls = [pool.submit(daemon.rest, "GET", "/v1/vfs/1") for _ in range(3)]
    mute.hear("status")
    daemon.do("PUT", "/v1/primary/launch", client_id=7, proc_name="spp_vf", eal={"-l": "1,2", "--proc-type": "secondary"}, app={})
    for call in calls:
        status, _, text = call.result(rig.DEADLINE_S)
        # One that came later than the end finds nobody.
        assert (status, text) == (503, "vf:1 does not answer") or status == 404, (status, text)
    assert mute.is_left_alone()


def main():
    cases = [(lambda daemon, pool: [play(daemon, path, pool) for path in sorted(HERE.glob("processes/*.txt"))], 60000),
             (test_misbehaving, 60000), (test_random, 60000), (test_mute, 1000)]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for case, answer_ms in cases:
            with tempfile.TemporaryDirectory(prefix="spp-processes-") as folder, rig.Daemon(*sys.argv[1:], folder) as daemon:
                daemon.options = ["--spp-listen", daemon.address, "--spp-answer-ms", str(answer_ms)]
                try:
                    daemon.start()
                    case(daemon, pool)
                except Exception:
                    print(daemon.log()[-5000:])
                    raise


main()
