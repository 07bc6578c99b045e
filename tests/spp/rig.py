"""penstockd with a packet plane, in a folder and on an address of its own: REST as spp-ctl's clients speak it, the plane's own calls beside
it, and transcripts that are played against both.

Must not know: what is tested."""

import http.client
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
import remaining
from addresses import Address

DEADLINE_S = 60


def until(condition, what, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Daemon:
    def __init__(self, daemon, plane, folder, options=()):
        self.programs, self.options = (daemon, plane), options
        self.folder = pathlib.Path(folder)
        self.held = Address()
        self.address = self.held.text
        self.plane_socket = self.folder / "state" / "packet.sock"
        self.cpu_map = f"0-63={min(os.sched_getaffinity(0))}"
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.end()

    def start(self):
        daemon, plane = self.programs
        command = [daemon, "--state-dir", str(self.folder / "state"), "--node-address", self.address, "--spp-rest", f"{self.address}:7777",
                   "--packet-plane", plane, "--packet-argument=--poll=never", "--cpu-map", self.cpu_map, "--vhost-folder", str(self.folder), *self.options]  # fmt: skip
        with open(self.folder / "daemon.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        until(self.answers, "penstockd answers")

    def answers(self):
        assert self.process.poll() is None, self.log()
        try:
            return self.rest("GET", "/v1/processes")[0] == 200
        except OSError:
            return False

    def log(self):
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")

    def rest(self, method, path, body=None):
        """(status, type, text)"""
        connection = http.client.HTTPConnection(self.address, 7777, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read().decode()
        finally:
            connection.close()

    def get(self, path):
        status, kind, text = self.rest("GET", path)
        assert (status, kind) == (200, "application/json"), (status, kind, text)
        return json.loads(text)

    def do(self, method, path, **body):
        status, _, text = self.rest(method, path, json.dumps(body) if body else None)
        assert status == 204 and text == "", (method, path, body, status, text)

    def plane(self, method, process=0, **params):
        """A call of the plane itself, or of the process of that vf; None: there is none, or it refuses."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            try:
                connection.connect(f"{self.plane_socket}.vf-{process}" if process else str(self.plane_socket))
                request = {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}
                connection.sendall(json.dumps(request).encode())
                answer = bytearray()
                while not answer.endswith(b"\n"):
                    more = connection.recv(1 << 16)
                    if not more:
                        return None
                    answer += more
            except OSError:
                return None
        return json.loads(answer).get("result")

    def tables(self):
        """What the plane has, as one value that can be compared."""
        components = {}
        for component in self.plane("packet_get_components"):
            ends = {side: {end["port"]: end["vlan"] for end in component[side]} for side in ("rx", "tx")}
            entries = []
            if component["type"] == "classifier":
                entries = sorted(json.dumps(entry) for entry in self.plane("packet_get_classifier", component=component["name"]))
            components[component["name"]] = (component["type"], ends["rx"], ends["tx"], entries)
        ports = {port["name"]: (port["kind"], port["where"]) for port in self.plane("packet_get_ports")}
        return components, ports

    def places(self):
        """Which vf, core and processor each component of the plane runs on. Those are asked for first: their workers were there before them."""
        components = self.plane("packet_get_components")
        workers = {worker["worker"]: (worker.get("vf"), worker.get("core"), worker["cpu"]) for worker in self.plane("packet_get_status")["workers"]}
        return {component["name"]: workers.get(component["worker"]) for component in components}

    def plane_pid(self, process=0):
        status = self.plane("packet_get_status", process)
        return None if status is None else status["pid"]

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self.process = None
        return status

    def kill_plane(self, process=0):
        pid = self.plane_pid(process)
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], DEADLINE_S)[0], "the plane does not end"
        finally:
            os.close(handle)

    def end(self):
        if self.process is not None:
            self.kill()
        remaining.end_all(self.folder)
        self.held.end()


def play(daemon, path):
    """Plays a transcript: "> METHOD PATH [BODY]" is sent, "$ METHOD [PARAMS]" asked of the plane, "< …" is what must come: a status, and a
    text, or a value when it is JSON. A line that begins with "#" is for people; one that begins with blanks goes on."""
    lines = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    got = None
    for line in lines:
        what, rest = line[0], line[2:]
        if what == ">":
            method, where, *body = rest.split(" ", 2)
            status, kind, text = daemon.rest(method, where, body[0] if body else None)
            assert (kind == "application/json") == (status == 200), (line, status, kind)
            got = f"{status} {text}".strip()
        elif what == "$":
            method, *params = rest.split(" ", 1)
            got = "200 " + json.dumps(daemon.plane(method, **json.loads(params[0] if params else "{}")))
        else:
            assert what == "<", line
            want = rest.replace("FOLDER", str(daemon.folder))
            same = got == want
            if want.startswith("200 ") and got.startswith("200 "):
                same = json.loads(got[4:]) == json.loads(want[4:])
            assert same, f"{path}\nwant {want}\ngot  {got}\nafter {last}"
        if what != "<":
            last = line
