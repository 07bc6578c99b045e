"""A packet plane to test against: started on a socket of its own, called by JSON-RPC, and watched until it ends.

Must not know: what is tested."""

import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time

FRAME_TYPE = 0x88B5  # for experiments


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']} {error['message']}: {error.get('data')}")
        self.code = error["code"]
        self.data = error.get("data", {})


class Plane:
    """`path`: its socket's, if it is not to have a folder of its own; `given`: what -r says where that is not the same; `errors`: a file for
    what it logs."""

    def __init__(self, program, *options, environment=None, path=None, given=None, errors=None):
        self.folder = tempfile.TemporaryDirectory(prefix="packet-")
        self.path = path or os.path.join(self.folder.name, "rpc.sock")
        self.process = subprocess.Popen([program, "-r", given or self.path, *options], stdin=subprocess.DEVNULL, stderr=errors, env=environment)
        self.socket = None
        deadline = time.monotonic() + 60
        while self.socket is None:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(self.path)
            except OSError:
                self.socket.close()
                self.socket = None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the plane does not come up") from None
                time.sleep(0.01)
        self.file = self.socket.makefile("rw")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.file.close()
        self.socket.close()
        self.folder.cleanup()

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params:
            request["params"] = params
        self.file.write(json.dumps(request))
        self.file.flush()
        answer = json.loads(self.file.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def stop(self):
        """Ends it as an operator does; it must end well, and soon."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def rests(self, seconds):
        """True if no worker does anything for so long. One that says that it is asleep may have a last look to end."""
        before = [worker["turns"] for worker in self.call("packet_get_status")["workers"]]
        time.sleep(seconds)
        return before == [worker["turns"] for worker in self.call("packet_get_status")["workers"]]

    def port(self, name):
        return self.call("packet_get_ports", name=name)[0]

    def component(self, name):
        return self.call("packet_get_components", name=name)[0]

    def attach(self, component, port, direction, vlan=None):
        more = {} if vlan is None else {"vlan": vlan}
        return self.call("packet_component_attach", component=component, port=port, direction=direction, **more)

    def detach(self, component, port, direction):
        return self.call("packet_component_detach", component=component, port=port, direction=direction)


def until(condition, seconds=60):
    """Waits; true if the condition came to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def address(mac):
    return bytes(int(byte, 16) for byte in mac.split(":"))


def frame(to, number, tags=(), source="02:00:00:00:00:99", length=60):
    """A frame that carries a number; tags: outermost first, VID or (VID, priority)."""
    head = address(to) + address(source)
    for tag in tags:
        vid, priority = tag if isinstance(tag, tuple) else (tag, 0)
        head += struct.pack("!HH", 0x8100, priority << 13 | vid)
    return (head + struct.pack("!HI", FRAME_TYPE, number)).ljust(length, b"\0")


def dissect(data):
    """(tags, number) of a frame of frame(); None for another's."""
    tags, at = [], 12
    while data[at : at + 2] == b"\x81\x00":
        tag = struct.unpack_from("!H", data, at + 2)[0]
        tags.append((tag & 0xFFF, tag >> 13))
        at += 4
    if len(data) < at + 6 or struct.unpack_from("!H", data, at)[0] != FRAME_TYPE:
        return None
    return tuple(tags), struct.unpack_from("!I", data, at + 2)[0]


def write_pcap(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for data in frames:
            file.write(struct.pack("=IIII", 0, 0, len(data), len(data)) + data)


def read_pcap(path):
    with open(path, "rb") as file:
        data = file.read()
    magic, at, frames = struct.unpack_from("=I", data)[0], 24, []
    assert magic in (0xA1B2C3D4, 0xA1B23C4D), hex(magic)
    while at < len(data):
        length = struct.unpack_from("=I", data, at + 8)[0]
        frames.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return frames
