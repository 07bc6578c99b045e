#!/usr/bin/env python3
"""penstockd as Soft Patch Panel's processes, to a controller that speaks as spp-ctl does: who connects, a transcript of commands, and what a
controller does that nobody should.

Usage: test_sockets.py PENSTOCKD PENSTOCK-PACKET"""

import json
import os
import pathlib
import random
import socket
import sys
import tempfile
import threading

import rig

HERE = pathlib.Path(__file__).parent


class Controller:
    """Listens where spp-ctl does, and asks each secondary who it is."""

    def __init__(self, address):
        self.connections, self.lock = {}, threading.Lock()
        self.listeners = []
        for port, take in ((5555, self.take_primary), (6666, self.take_secondary)):
            listener = socket.create_server((address, port))
            self.listeners.append(listener)
            threading.Thread(target=self.accept, args=(listener, take), daemon=True).start()

    def accept(self, listener, take):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(rig.DEADLINE_S)
            try:
                take(connection)
            except (OSError, AssertionError):
                connection.close()  # it has gone meanwhile, and comes again

    def take_primary(self, connection):
        with self.lock:
            self.connections["primary:0"] = connection

    def take_secondary(self, connection):
        answer = self.ask(connection, "_get_client_id")
        with self.lock:
            self.connections[f"{answer['process_type']}:{answer['client_id']}"] = connection

    @staticmethod
    def ask(connection, command):
        """Without any framing: an answer has come when it is whole."""
        connection.sendall(command.encode())
        data = b""
        while True:
            more = connection.recv(1 << 16)
            assert more, f"closed after {command!r}, {data!r}"
            data += more
            try:
                return json.loads(data)
            except ValueError:
                pass

    def process(self, key):
        return rig.until(lambda: self.connections.get(key), f"{key} connects")

    def close(self):
        for listener in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)  # which wakes who accepts
        with self.lock:
            for one in (*self.listeners, *self.connections.values()):
                one.close()


def play(controller, path):
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    for line in lines:
        if line[0] == ">":
            key, command = line[2:].split(" ", 1)
            got, asked = controller.ask(controller.process(key), command), line
        else:
            assert got == json.loads(line[2:]), f"{asked}\nwant {line[2:]}\ngot  {json.dumps(got)}"


def hostile(controller, daemon):
    seed = int(os.environ.get("PENSTOCK_SEED", "1"))
    dice = random.Random(seed)
    print("seed", seed)
    words = ["component", "start", "stop", "port", "add", "del", "classifier_table", "mac", "vlan", "status", "phy:0", "ring:0", "vhost:1", "rx", "tx", "m",
             "add_vlantag", "del_vlantag", "-1", "4096", "99999999999999999999", "launch", "--", "-l", "é", "\0", "x" * 200, "/", "default"]  # fmt: skip
    for key in ("primary:0", "mirror:2"):
        for _ in range(150):
            command = " ".join(dice.choice(words) for _ in range(dice.randrange(1, 12)))
            if not command.strip("\0 "):
                continue
            answer = controller.ask(controller.process(key), command)
            assert isinstance(answer, dict) and answer, (command, answer)
    controller.ask(controller.process("mirror:2"), "a" * 4096)
    assert controller.ask(controller.process("mirror:2"), "_get_client_id\n")["client_id"] == 2, "a newline does no harm"
    # One that goes away in the middle of a command, and comes back.
    connection = controller.connections.pop("mirror:2")
    connection.sendall(b"status")
    connection.close()
    assert controller.ask(controller.process("mirror:2"), "_get_client_id")["client_id"] == 2
    assert daemon.process.poll() is None


def main():
    with tempfile.TemporaryDirectory(prefix="spp-sockets-") as folder, rig.Daemon(*sys.argv[1:], folder) as daemon:
        daemon.options = ["--interface", "null", "--spp-controller", daemon.address]
        daemon.start()
        controller = Controller(daemon.address)  # later than the daemon: it is tried again
        try:
            for path in sorted(HERE.glob("sockets/*.txt")):
                play(controller, path)
            hostile(controller, daemon)
            controller.close()
            again = Controller(daemon.address)
            assert again.ask(again.process("mirror:2"), "status")["info"]["client-id"] == 2, "a new controller meets all again"
            again.close()
            assert daemon.kill(15) == 0
        except Exception:
            print(daemon.log()[-5000:])
            raise


main()
