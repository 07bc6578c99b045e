"""What tests of the daemon stand on: a foreign gRPC client (grpcio) whose messages are written and read by the contract's table, and
a node: penstockd with its plane, in a folder and on an address of its own."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
import uuid

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
import kept
import remaining
from addresses import Address
from message import fields

# An election of etcd takes five to ten seconds, more where a vote is split, and what is waited for writes more than once.
DEADLINE_S = 120 if os.environ.get("PENSTOCK_STATE") else 60
WATCH_S = 10 * DEADLINE_S  # a watch lasts for as long as its test
SERVICE = "/spdkrpc.SPDKService/"


class Contract:
    """Messages as dictionaries, by the table alone: nothing of ours writes or reads them."""

    def __init__(self, table):
        self.messages, self.enums, self.methods = {}, {}, {}
        for line in pathlib.Path(table).read_text(encoding="utf-8").splitlines():
            kind, *rest = line.split(" ", 4)
            if kind == "message":
                name, number, field, what = rest
                self.messages.setdefault(name, {})[field] = (int(number), what)
            elif kind == "method":
                self.methods[rest[0]] = (rest[1], *rest[2:3], rest[3])
            elif kind == "enum":
                self.enums.setdefault(rest[0], {})[rest[2]] = int(rest[1])

    @staticmethod
    def varint(value):
        value &= (1 << 64) - 1
        out = b""
        while value >= 0x80:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    def value(self, number, what, value):
        if what == "string" or what in self.messages:
            data = value.encode() if what == "string" else self.write(what, value)
            return self.varint(number << 3 | 2) + self.varint(len(data)) + data
        return self.varint(number << 3) + self.varint(int(value))

    def write(self, name, values):
        out = b""
        for field, value in values.items():
            number, what = self.messages[name][field]
            if what.startswith("map<"):
                key_type, value_type = what[4:-1].split(", ")
                for key, item in value.items():
                    data = self.value(1, key_type, key) + self.value(2, value_type, item)
                    out += self.varint(number << 3 | 2) + self.varint(len(data)) + data
            elif what.startswith("repeated "):
                for item in value:
                    out += self.value(number, what[9:], item)
            else:
                out += self.value(number, what, value)
        return out

    def item(self, what, value):
        if what == "string":
            return value.decode()
        if what in self.messages:
            return self.read(what, value)
        if what == "bool":
            return bool(value)
        return value - (1 << 64) if what.startswith("int") and value >> 63 else value

    def zero(self, what):
        if what.startswith("map<"):
            return {}
        if what.startswith("repeated "):
            return []
        return "" if what == "string" else None if what in self.messages else False if what == "bool" else 0

    def read(self, name, data):
        by_number = {number: (field, what) for field, (number, what) in self.messages.get(name, {}).items()}
        out = {field: self.zero(what) for field, what in by_number.values()}
        for number, value in fields(data):
            field, what = by_number[number]
            if what.startswith("map<"):
                key_type, value_type = what[4:-1].split(", ")
                entry = dict(fields(value))
                key = self.item(key_type, entry.get(1, b"" if key_type == "string" else 0))
                out[field][key] = self.item(value_type, entry.get(2, b"" if value_type in self.messages or value_type == "string" else 0))
            elif what.startswith("repeated "):
                out[field].append(self.item(what[9:], value))
            else:
                out[field] = self.item(what, value)
        return out


class Failure(Exception):
    """A call's status, but OK."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Client:
    service = SERVICE

    def __init__(self, contract, target):
        self.contract = contract
        self.channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1),
                                                              ("grpc.initial_reconnect_backoff_ms", 50),
                                                              ("grpc.max_reconnect_backoff_ms", 200)])  # fmt: skip

    def close(self):
        self.channel.close()

    def hello(self):
        """What every node answers at once."""
        return self.VersionDetailGet()

    def start(self, method, **values):
        request, _, kind = self.contract.methods[method]
        data = self.contract.write(request, values) if values else b""
        make = self.channel.unary_stream if kind == "stream" else self.channel.unary_unary
        call = make(self.service + method)
        return call(data, timeout=WATCH_S) if kind == "stream" else call.future(data, timeout=DEADLINE_S, wait_for_ready=True)

    def finish(self, method, future):
        try:
            return self.contract.read(self.contract.methods[method][1], future.result())
        except grpc.RpcError as error:
            raise Failure(error.code().name, error.details()) from None

    def __getattr__(self, method):
        return lambda **values: self.finish(method, self.start(method, **values))


def refused(code, call, **values):
    """The text of a call that ends with this code."""
    try:
        answer = call(**values)
    except Failure as failure:
        assert failure.code == code, failure
        assert failure.text, "a code without a word"
        return failure.text
    raise AssertionError(f"answered {answer}")


def run_each(run, names, only, at_once):
    """Runs the tests among a module's names, or of them `only` those, some at a time, and ends the program. run() says what there is to say of
    a failure, or nothing."""
    tests = [test for name, test in sorted(names.items()) if name.startswith("test_") and (not only or name in only)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        runs = {test: pool.submit(run, test) for test in tests}
        for test, future in runs.items():
            said = future.result()
            failed += said != ""
            print(f"--- {test.__name__}\n{said}" if said else f"{test.__name__}: well", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0)


def until(condition, what):
    """`what`: words, or a function that says at the end how it is."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what() if callable(what) else what}"
        time.sleep(0.01)


def state_options():
    """Where a node's state is: PENSTOCK_STATE is "etcd:ENDPOINT,…" (on_etcd.py), where each node needs a name of its own, or nothing."""
    kind, _, endpoints = os.environ.get("PENSTOCK_STATE", "").partition(":")
    if kind == "":
        return []
    assert kind == "etcd", kind
    return [f"--node-name=n-{uuid.uuid4()}", *(f"--state-etcd={endpoint}" for endpoint in endpoints.split(","))]


class Node:
    """penstockd in a folder; its plane outlives it, and is ended with the node."""

    def __init__(self, daemon, plane, contract, folder, options=()):
        self.daemon, self.plane, self.contract, self.options = daemon, plane, contract, options
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.held = Address()
        self.address = self.held.text
        self.socket = self.folder / "state" / "plane.sock"
        self.process = self.client = self.said = None
        self.others = []  # nodes that end with it
        self.callers = []  # clients besides, each on a connection of its own
        self.state_options = state_options()

    def command(self):
        return [self.daemon, "--state-dir", str(self.folder / "state"), "--node-address", self.address, "--plane", self.plane,
                "--plane-argument=--poll=never", *self.state_options, *self.options]  # fmt: skip

    def start(self):
        with open(self.folder / "daemon.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, stdin=subprocess.DEVNULL)
        return self.connect()

    def connect(self):
        if self.client is None:
            self.client = Client(self.contract, f"{self.address}:8504")
        for client in (self.client, *self.callers):
            until(lambda client=client: self.answers(client), lambda: f"penstockd answers: {self.said}")
        return self.client

    def answers(self, client=None):
        """A call on a connection to the one before fails, once."""
        try:
            return (client or self.client).hello()
        except Failure as failure:
            self.said = failure
            return None

    def log(self):
        log = self.folder / "daemon.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def kill(self, number=signal.SIGKILL):
        """Ends penstockd; its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self.process = None
        return status

    def plane_call(self, method, **params):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(self.socket))
            request = {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}
            connection.sendall(json.dumps(request).encode())
            answer = bytearray()
            while not answer.endswith(b"\n"):
                more = connection.recv(1 << 16)
                assert more, "the plane has closed"
                answer += more
        return json.loads(answer)

    def plane_pid(self):
        """None: there is no plane, or it is only starting."""
        try:
            return self.plane_call("framework_get_reactors")["result"]["pid"]
        except (OSError, AssertionError, KeyError):
            return None

    def kill_plane(self, number=signal.SIGKILL):
        pid = self.plane_pid()
        if pid is not None:
            end_process(pid, number)

    def end(self):
        for other in self.others:
            other.end()
        if self.client is not None:
            self.client.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        remaining.end_all(self.folder)
        self.held.end()


def end_process(pid, number=signal.SIGKILL):
    """Waits for its end, whoever started it; it may have ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, number)
        import select

        assert select.select([handle], [], [], DEADLINE_S)[0], f"process {pid} does not end"
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def is_stopped(pid):
    """By SIGSTOP: all of its threads."""
    try:
        return all(") T " in (task / "stat").read_text(encoding="utf-8") for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False  # one of them has ended meanwhile


def stop(pid):
    """All of it: what is sent to it afterwards stays unread."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid), f"process {pid} is stopped")


def open_files(pid):
    """What a process has open at this moment; it goes on, and closes some of that while we look."""
    files = []
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            files.append(os.readlink(descriptor))
        except FileNotFoundError:
            pass
    return files


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)


def certificate(folder, name, alternatives, authority="ca"):
    """NAME.crt and NAME.key, signed; `alternatives`: "DNS:…,IP:…"."""
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.test")
    (folder / "ext").write_text(f"subjectAltName={alternatives}\n")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial",
            "-out", f"{name}.crt", "-days", "2", "-extfile", "ext")  # fmt: skip


def certificates(folder):
    """An authority, and what it and another one have signed; False without the openssl command."""
    try:
        for authority in ("ca", "other"):
            openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{authority}.key", "-out", f"{authority}.crt",
                    "-subj", f"/CN={authority}", "-days", "2")  # fmt: skip
    except FileNotFoundError:
        return False
    for name, authority in (("server", "ca"), ("client", "ca"), ("cousin", "ca"), ("stranger", "other")):
        certificate(folder, name, f"DNS:{name}.test", authority)
    return True


def run_tests(tests, prefix, daemon, plane, contract, choice):
    """Runs functions that take a Node, each with a fresh one; `choice`: None, "PART/PARTS", or names with commas. Ends the process."""
    tests = [test for name, test in sorted(tests.items()) if name.startswith("test_")]
    if choice is not None:
        part = re.fullmatch(r"(\d+)/(\d+)", choice)
        tests = tests[int(part[1]) - 1 :: int(part[2])] if part else [test for test in tests if test.__name__ in choice.split(",")]
        assert tests, "no such test"
    failed = 0
    for test in tests:
        with kept.Folder(prefix=prefix) as folder:
            node = Node(daemon, plane, contract, folder)
            began = time.monotonic()
            try:
                test(node)
            except Exception:
                failed += 1
                print(f"--- {test.__name__}")
                traceback.print_exc(file=sys.stdout)
                print(node.log()[-9000:])
            finally:
                node.end()
            if os.environ.get("PENSTOCK_TIMES"):
                print(f"{time.monotonic() - began:6.2f} s {test.__name__}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0)
