#!/usr/bin/env python3
"""Our gRPC against a foreign one, grpcio, in both directions: every kind of call, status, deadline, cancel, limits, TLS, Unix
socket, reflection, a drain; and curl and raw HTTP/2 where they are here. Argument: echo_peer."""

import concurrent.futures
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
import message

try:
    import grpc
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

PEER = sys.argv[1]
DEADLINE_S = 60
ECHO = "/penstock.test.v1.Echo/"


# ---- messages, by hand: text = 1, data = 2, number = 3, size = 4 ----


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def words(text="", number=0, size=0, data=b""):
    out = b""
    if text:
        out += b"\x0a" + varint(len(text.encode())) + text.encode()
    if data:
        out += b"\x12" + varint(len(data)) + data
    if number:
        out += b"\x18" + varint(number)
    if size:
        out += b"\x20" + varint(size)
    return out


def fields(data):
    """{number: last value}"""
    return dict(message.fields(data))


# ---- our server ----


@contextlib.contextmanager
def served(*options):
    process = subprocess.Popen([PEER, "serve", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        ready = process.stdout.readline().split()
        assert ready[:1] == ["ready"], ready
        yield int(ready[1]), process
    finally:
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


def unary(channel, method):
    return channel.unary_unary(ECHO + method)


def status_of(call, *arguments, **more):
    try:
        call(*arguments, timeout=more.pop("timeout", DEADLINE_S), **more)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def their_client_on(channel):
    assert fields(unary(channel, "Say")(words("grüße", 7), timeout=DEADLINE_S)) == {1: "grüße".encode(), 3: 7}
    large = bytes(range(256)) * 8000
    assert fields(unary(channel, "Say")(words(data=large), timeout=DEADLINE_S))[2] == large
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert status_of(unary(channel, "Fail"), words("100% schlecht: ü", code.value[0])) == (code, "100% schlecht: ü")
    assert status_of(unary(channel, "None"), b"")[0] is grpc.StatusCode.UNIMPLEMENTED
    assert status_of(unary(channel, "Say"), b"\x0a\x05ab")[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(unary(channel, "Hold"), b"", timeout=0.2)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert status_of(unary(channel, "Say"), words(data=bytes(5 << 20)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    count = channel.unary_stream(ECHO + "Count")
    got = list(count(words(number=5000, size=1000), timeout=DEADLINE_S))
    assert [fields(said)[3] for said in got] == list(range(5000, 0, -1))
    assert all(len(fields(said)[2]) == 1000 for said in got)

    chat = channel.stream_stream(ECHO + "Chat")
    sent = [words(str(i), i + 1) for i in range(300)]
    assert list(chat(iter(sent), timeout=DEADLINE_S)) == sent

    endless = count(words(number=1 << 40, size=1000), timeout=DEADLINE_S)
    for _ in range(100):
        next(endless)
    endless.cancel()
    held = unary(channel, "Hold").future(b"", timeout=DEADLINE_S)
    time.sleep(0.05)
    held.cancel()
    assert held.cancelled()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(unary(channel, "Say"), words(str(i)), timeout=DEADLINE_S) for i in range(1000)]
        for i, future in enumerate(futures):
            assert fields(future.result())[1] == str(i).encode()


def health_and_reflection(channel):
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"", timeout=DEADLINE_S) == b"\x08\x01"
    assert status_of(check, b"\x0a\x01x")[0] is grpc.StatusCode.NOT_FOUND
    for version in ("v1", "v1alpha"):
        info = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        symbol = b"penstock.test.v1.Echo"
        asked = [b"\x3a\x01*", b"\x22" + varint(len(symbol)) + symbol]
        services, file = list(info(iter(asked), timeout=DEADLINE_S))
        for name in (b"penstock.test.v1.Echo", b"grpc.health.v1.Health", b"grpc.reflection.v1.ServerReflection"):
            assert name in fields(services)[6], name
        assert b"echo.proto" in fields(file)[4]


def a_drain(process, port):
    """The server ends while a call is under way: it gets its answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.unary_stream(ECHO + "Count")(words(number=1 << 40, size=10), timeout=DEADLINE_S)
        next(stream)
        process.stdin.close()
        try:
            for _ in stream:
                pass
            raise AssertionError("it ended with OK")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
        assert process.wait(DEADLINE_S) == 0


def their_client_our_server(folder):
    socket_path = str(folder / "grpc.sock")
    with served("--unix", socket_path) as (port, process):
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
            their_client_on(channel)
            health_and_reflection(channel)
        with grpc.insecure_channel(f"unix:{socket_path}") as channel:
            their_client_on(channel)
        a_drain(process, port)


# ---- our client ----


class Theirs(grpc.GenericRpcHandler):
    """The Echo service by grpcio."""

    def service(self, details):
        def fail(request, context):
            got = fields(request)
            codes = {code.value[0]: code for code in grpc.StatusCode}
            context.abort(codes[got[3]], got.get(1, b"").decode())

        def count(request, context):
            got = fields(request)
            for number in range(got[3], 0, -1):
                yield words(number=number, data=bytes(got.get(4, 0)))

        def slow(request, context):
            time.sleep(0.2)
            return request

        return {
            ECHO + "Say": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
            ECHO + "Fail": grpc.unary_unary_rpc_method_handler(fail),
            ECHO + "Hold": grpc.unary_unary_rpc_method_handler(slow),
            ECHO + "Count": grpc.unary_stream_rpc_method_handler(count),
            ECHO + "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
        }.get(details.method)


def our_call(port, method, *arguments, options=()):
    done = subprocess.run(
        [PEER, "call", "--port", str(port), *options, method, *map(str, arguments)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def our_client_their_server():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Theirs(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert our_call(port, "Say", "grüße", 7) == ["message grüße 7 0", "status OK "]
        assert our_call(port, "Hold", "slow", 1) == ["message slow 1 0", "status OK "]
        for code in (3, 5, 9, 14):
            assert our_call(port, "Fail", "schade: ü", code)[0].startswith("status "), code
        assert our_call(port, "Fail", "schade: ü", 5) == ["status NOT_FOUND schade: ü"]
        lines = our_call(port, "Count", "", 2000, 500)
        assert lines == [f"message  {n} 500" for n in range(2000, 0, -1)] + ["status OK "], lines[:3]
        assert our_call(port, "Chat", "x", 3) == ["message x 3 0"] * 2 + ["status OK "]
        assert our_call(port, "Nothing", "", 0)[0].startswith("status UNIMPLEMENTED")
    finally:
        assert server.stop(0).wait(DEADLINE_S)
    assert our_call(port, "Say", "", 0)[0].startswith("status UNAVAILABLE"), "nobody listens"


# ---- TLS ----


def certificates(folder):
    """ca, server and client, by the openssl command; None if there is none."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    try:
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2")
        for name in ("server", "client"):
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.test")
            (folder / "ext").write_text(f"subjectAltName=DNS:{name}.test\n")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.crt",
                    "-days", "2", "-extfile", "ext")  # fmt: skip
    except FileNotFoundError:
        return False
    return True


def tls(folder):
    if not certificates(folder):
        print("note: no openssl command: TLS with grpcio is not looked at")
        return
    read = lambda name: (folder / name).read_bytes()
    file = lambda name: str(folder / name)
    with served("--tls", file("ca.crt"), file("server.crt"), file("server.key")) as (port, _):
        named = [("grpc.ssl_target_name_override", "server.test")]
        good = grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt"))
        with grpc.secure_channel(f"127.0.0.1:{port}", good, named) as channel:
            their_client_on(channel)
        anonymous = grpc.ssl_channel_credentials(read("ca.crt"))
        with grpc.secure_channel(f"127.0.0.1:{port}", anonymous, named) as channel:
            assert status_of(unary(channel, "Say"), b"")[0] is grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert status_of(unary(channel, "Say"), b"")[0] is grpc.StatusCode.UNAVAILABLE

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Theirs(),))
    credentials = grpc.ssl_server_credentials([(read("server.key"), read("server.crt"))], read("ca.crt"), True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        ours = ("--tls", file("ca.crt"), file("client.crt"), file("client.key"), "--name")
        assert our_call(port, "Say", "hidden", 7, options=(*ours, "server.test")) == ["message hidden 7 0", "status OK "]
        assert our_call(port, "Say", "", 7, options=(*ours, "another.test"))[0].startswith("status UNAVAILABLE")
    finally:
        server.stop(0)


def main():
    passed = 0
    with tempfile.TemporaryDirectory(prefix="grpc-") as directory:
        folder = pathlib.Path(directory)
        for check in (their_client_our_server, tls):
            check(folder)
            passed += 1
        our_client_their_server()
        passed += 1
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
