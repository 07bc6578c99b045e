#!/usr/bin/env python3
"""penstockd's gRPC as a peer meets it: TLS and who is let in, as many calls at once as there may be, and peers that speak HTTP/2 to
do harm while others are served. Arguments: penstockd, penstock-block, the contract's table."""

import contextlib
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import DEADLINE_S, SERVICE, Client, Contract, Failure, Node, certificates, until

DAEMON, PLANE, TABLE = sys.argv[1:4]
CONTRACT = Contract(TABLE)


@contextlib.contextmanager
def node(folder, *options):
    one = Node(DAEMON, PLANE, CONTRACT, folder, options)
    try:
        yield one
    finally:
        one.end()


# ---- TLS ----


def version(channel):
    """The answer, or the code of the failure."""
    try:
        return channel.unary_unary(SERVICE + "VersionDetailGet")(b"", timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return error.code()


def test_tls(folder):
    if not certificates(folder):
        print("note: no openssl command: TLS is not looked at")
        return
    file = lambda name: str(folder / name)
    read = lambda name: (folder / name).read_bytes()
    tls = ["--tls-certificate", file("server.crt"), "--tls-key", file("server.key"), "--tls-ca", file("ca.crt")]

    def by(target, who=None):
        pair = (read(f"{who}.key"), read(f"{who}.crt")) if who else (None, None)
        credentials = grpc.ssl_channel_credentials(read("ca.crt"), *pair)
        with grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", "server.test")]) as channel:
            return version(channel)

    refused = grpc.StatusCode.UNAVAILABLE
    for more, cousin_comes_in in (([], True), (["--tls-client-name", "client.test"], False)):
        with node(folder / f"tls{len(more)}", *tls, *more) as one:
            one.client = local = Client(CONTRACT, f"unix:{one.folder}/state/penstockd.sock")
            one.start()  # the Unix socket is plain
            assert "gRPC under TLS on" in one.log(), one.log()
            target = f"{one.address}:8504"
            assert isinstance(by(target, "client"), bytes)
            assert isinstance(by(target, "cousin"), bytes) == cousin_comes_in
            assert by(target, "stranger") is refused, "a certificate of another authority"
            assert by(target) is refused, "no certificate"
            with grpc.insecure_channel(target) as channel:
                assert version(channel) is refused, "no TLS"
            assert local.VersionDetailGet()["version"]
    for wrong, word in ((tls[:4], "--tls-ca"), (tls[:2] + ["--tls-key", file("client.key")] + tls[4:], "key"),
                        (tls[:4] + ["--tls-ca", file("absent")], "absent"), (["--tls-client-name", "x"], "--tls-client-name")):  # fmt: skip
        with node(folder / "wrong", *wrong) as one:
            (folder / "wrong").mkdir(exist_ok=True)
            done = subprocess.run(one.command(), capture_output=True, text=True, timeout=DEADLINE_S)
            assert done.returncode not in (0, -6, -11) and word in done.stderr, (wrong, done)


# ---- many at once ----


def test_a_thousand_calls(folder):
    """Started before one is answered, on one connection: all are."""
    with node(folder / "many") as one:
        client = one.start()
        for stopped in (False, True):
            if stopped:
                one.process.send_signal(signal.SIGSTOP)
            calls = [client.start("ReplicaGet", name=f"r{i}") for i in range(1500)]
            if stopped:
                time.sleep(1)
                one.process.send_signal(signal.SIGCONT)
            for call in calls:
                try:
                    client.finish("ReplicaGet", call)
                    raise AssertionError("answered")
                except Failure as failure:
                    assert failure.code == "NOT_FOUND", failure


# ---- peers that mean harm ----

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b"", length=None):
    return struct.pack(">I", len(payload) if length is None else length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(method):
    """A header list in HPACK: static names, literal values, nothing remembered."""
    path = (SERVICE + method).encode()
    kind = b"application/grpc"
    return (b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x01x" + b"\x0f\x10" + bytes([len(kind)]) + kind + b"\x00\x02te\x08trailers")


OPEN = PREFACE + frame(SETTINGS, 0, 0)
EMPTY = b"\0\0\0\0\0"


def begin(method, stream=1, flags=END_HEADERS):
    return frame(HEADERS, flags, stream, request(method))


def rapid_reset():
    yield OPEN
    for stream in range(1, 40001, 2):
        yield begin("ReplicaCreate", stream) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")


def continuations():
    yield OPEN + frame(HEADERS, 0, 1, request("VersionDetailGet"))
    for _ in range(20000):
        yield frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")


def flood(kind, stream, payload):
    def attack():
        yield OPEN + begin("ReplicaWatch")
        for _ in range(20000):
            yield frame(kind, 0, stream, payload)

    return attack


def oversized():
    yield OPEN + begin("VersionDetailGet") + frame(DATA, 0, 1, b"\0" * 5, length=1 << 20)
    for _ in range(64):
        yield b"\0" * 16384


def giant_message():
    """A message that says it has 4 GiB: the call is refused, the connection may stay."""
    yield OPEN + begin("VersionDetailGet") + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff")


def half_a_frame():
    yield OPEN + frame(HEADERS, END_HEADERS, 1, b"\x83\x86", length=200)


def half_a_preface():
    yield PREFACE[:10]


def half_a_request():
    yield OPEN + begin("ReplicaGet") + frame(DATA, 0, 1, b"\0\0\0\0\x40\x0a")


def no_window():
    """Watches whose answers have nowhere to go."""
    yield PREFACE + frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\0")
    for stream in range(1, 201, 2):
        yield begin("ReplicaWatch", stream) + frame(DATA, END_STREAM, stream, EMPTY)


def another_protocol():
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


ENDS = [rapid_reset, continuations, flood(SETTINGS, 0, b"\0\x03\0\0\0\x01"), flood(PING, 0, b"12345678"),
        flood(WINDOW_UPDATE, 0, b"\0\0\0\x01"), flood(DATA, 1, b""), oversized, another_protocol]  # fmt: skip
STAYS = [giant_message, half_a_frame, half_a_preface, half_a_request, no_window]


def attack(address, pieces):
    """Sends what it has; the socket, and whether the peer has ended it."""
    link = socket.create_connection((address, 8504), timeout=DEADLINE_S)
    try:
        for piece in pieces:
            link.sendall(piece)
    except OSError:
        return link, True
    link.settimeout(0.05)
    try:
        while link.recv(1 << 16):
            pass
        return link, True
    except TimeoutError:
        return link, False
    except OSError:
        return link, True


class Witness:
    """Somebody who is served meanwhile."""

    def __init__(self, client):
        self.client, self.calls, self.failure, self.over = client, 0, None, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.over:
                assert self.client.VersionDetailGet()["version"]
                self.calls += 1
        except Exception as failure:  # told by check()
            self.failure = failure

    def check(self, what):
        before = self.calls
        until(lambda: self.failure or self.calls > before + 20, f"others are served beside {what}")
        assert self.failure is None, f"{what}: {self.failure}"

    def end(self):
        self.over = True
        self.thread.join(DEADLINE_S)


def test_hostile_peers(folder):
    with node(folder / "hostile") as one:
        witness = Witness(one.start())
        links = []
        try:
            for pieces in ENDS:
                for _ in range(3):
                    link, ended = attack(one.address, pieces())
                    links.append(link)
                    if not ended:
                        until(lambda link=link: attack_is_over(link), f"{pieces.__name__} is hung up on")
                witness.check(pieces.__name__)
            for pieces in STAYS:
                links += [attack(one.address, pieces())[0] for _ in range(3)]
                witness.check(pieces.__name__)
            # More strangers than there is room for: who comes last is still let in.
            links += [socket.create_connection((one.address, 8504), timeout=DEADLINE_S) for _ in range(300)]
            other = Client(CONTRACT, f"{one.address}:8504")
            assert other.VersionDetailGet()["version"]
            other.close()
            witness.check("300 strangers")
            assert one.process.poll() is None
        finally:
            witness.end()
            for link in links:
                link.close()


def attack_is_over(link):
    try:
        return link.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def main():
    passed = 0
    with tempfile.TemporaryDirectory(prefix="transport-") as directory:
        for test in (test_tls, test_a_thousand_calls, test_hostile_peers):
            test(pathlib.Path(directory))
            passed += 1
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
