#!/usr/bin/env python3
"""What operators have of penstockd beside its service: the file of options, figures and health over HTTP, rates, logs, and what a
service manager gives and wants (sockets, readiness, signs of life). Arguments: penstockd, penstock-block, the contract's table, and
(optional) one test."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    from rig import DEADLINE_S, Client, Contract, Failure, refused, run_tests, stop, until
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

DAEMON, PLANE, TABLE = sys.argv[1:4]
CONTRACT = Contract(TABLE)
MIB = 1 << 20


def disk_file(node, name="d1", size=256 * MIB):
    path = node.folder / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(size)
    return str(path)


def make_disk(node, name="d1"):
    node.client.DiskCreate(disk_name=name, disk_path=disk_file(node, name), block_size=4096)
    until(lambda: node.client.DiskGet(disk_name=name)["state"] == "ready", "the disk is ready")


# ---- options


def check(*words):
    return subprocess.run([DAEMON, "--check", *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_config(node):
    path = node.folder / "penstockd.yaml"
    good = 'state-dir: /nowhere # not looked at\nport: 0\nnode-name: "n 1"\n'
    cases = [
        (good.replace("n 1", "n1"), 0, ""),
        ("---\n", 64, "--state-dir is not given"),
        ("", 64, "--state-dir is not given"),
        (good, 64, ":3:12: node-name is 'n 1': expected 1 to 63"),
        ("state-dir: /x\nport: 70000\n", 64, ":2:7: port is '70000': expected 0 to 65535"),
        ("state-dir: /x\nport:\n  deep: 1\n", 64, ":3:3: expected a value"),
        ("state-dir: /x\nprot: 1\n", 64, ":2:1: there is no option prot"),
        ("state-dir: /x\nport: 1\nport: 2\n", 64, ":3:1: port is given twice"),
        ("state-dir: /x\nport: [1, 2]\n", 64, ":2:7: expected a value"),
        ("state-dir: /x\nplane-argument: [--poll=never, -m, '0x1']\n", 0, ""),
        ("state-dir: /x\nplane-argument: [--poll=never, {}]\n", 64, ":2:32: expected a value"),
        ("state-dir: /x\n  port: 1\n", 64, ":2:7: "),
        ("- a\n", 64, ":1:1: expected NAME: VALUE"),
        ("hello\n", 64, ":1:1: expected NAME: VALUE"),
        ("state-dir: &a /x\nplane: *a\n", 64, ":1:12: expected a value"),
        ("state-dir: ''\n", 64, ":1:12: state-dir is '': expected DIR"),
        ("state-dir: /x\n\tport: 1\n", 64, ":2:1: "),
        ("log-format: xml\n", 64, ":1:13: log-format is 'xml': expected auto, text, json or journal"),
        ("state-dir: \"\\0\"\n", 64, ":1:12: a text with a zero byte"),
    ]
    for text, status, said in cases:
        path.write_text(text, encoding="utf-8")
        done = check("--config", str(path))
        assert done.returncode == status and said in done.stderr, (text, done)
        assert status == 0 or not said.startswith(":") or f"{path}{said}" in done.stderr, (text, done)
    path.write_bytes(b"state-dir: \xff\n")
    assert check("--config", str(path)).returncode == 64
    assert "cannot be read" in check("--config", str(path) + ".absent").stderr
    # What is said on the command line counts; a list given there is all of it.
    path.write_text(f"state-dir: {node.folder}/wrong\nlog-format: json\nplane-argument: [--no-such]\n", encoding="utf-8")
    node.options = ("--config", str(path))
    node.start()
    make_disk(node)
    assert not (node.folder / "wrong").exists()
    assert json.loads(node.log().splitlines()[0])["program"] == "penstockd", "what only the file says counts too"
    # Every option is known to both.
    usage = subprocess.run([DAEMON, "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    names = set(re.findall(r"^      --([a-z-]+) [A-Z]", usage, re.MULTILINE)) - {"config"}
    assert {"state-dir", "port", "http", "tls-ca", "plane-socket"} <= names, names
    for name in names:
        path.write_text(f"{name}: 127.0.0.1:1\nno: 1\n", encoding="utf-8")
        assert f"option {name}" not in check("--config", str(path)).stderr, name


# ---- HTTP


def get(port, path="/metrics", method="GET", address="127.0.0.1"):
    connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_S)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def figures(port):
    """Of /metrics, held against the format: HELP and TYPE once, before the samples, which are numbers."""
    status, text = get(port)
    assert status == 200 and text.endswith("\n"), (status, text[-100:])
    kinds, samples, last = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            last = line.split()[2]
            assert last not in kinds and len(line.split(" ", 3)[3]) > 5, line
        elif line.startswith("# TYPE "):
            assert line.split()[2] == last and line.split()[3] in ("counter", "gauge"), line
            kinds[last] = line.split()[3]
        else:
            name, labels, value = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z]+="(?:[^"\\]|\\.)*",?)*\})?) ([0-9.e+-]+)', line).groups()
            assert name == last and (kinds[name] == "counter") == name.endswith("_total"), line
            assert (name, labels) not in samples, line
            samples[name, labels] = float(value)
    return samples


def http_port(node):
    return int(until(lambda: re.search(r"HTTP on \S+ port (\d+)", node.log()), "HTTP is served").group(1))


def test_http(node):
    node.options = ("--http", "127.0.0.1:0")
    client = node.start()
    port = http_port(node)
    assert get(port, "/healthz") == (200, "ok\n"), "nothing needs the plane yet"
    before = figures(port)
    assert before["penstock_plane_ready", ""] == 0 and before["penstock_plane_wanted", ""] == 0
    make_disk(node)
    client.ReplicaCreate(name="r1", lvs_name="d1", spec_size=16 * MIB, port_count=1)
    now = figures(port)
    assert now["penstock_plane_ready", ""] == 1
    assert now["penstock_disk_state", '{disk="d1",state="ready"}'] == 1
    assert now["penstock_disk_size_bytes", '{disk="d1"}'] > 200 * MIB
    assert now["penstock_replica_state", '{replica="r1",disk="d1",state="running"}'] == 1
    assert now["penstock_replica_size_bytes", '{replica="r1"}'] == 16 * MIB
    assert now["penstock_device_written_bytes_total", '{device="d1"}'] > 0, "making a store writes"
    assert now["penstock_device_writes_total", '{device="d1/r1"}'] == 0, "a volume goes by its name"
    assert now["penstock_grpc_calls_total", ""] > before["penstock_grpc_calls_total", ""]
    assert figures(port)["penstock_device_write_seconds_total", '{device="d1"}'] > 0
    assert get(port, "/")[0] == 404 and get(port, "/metrics", "POST")[0] == 405
    # Many at once, halves, and those who go in the middle: others are served.
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for i, peer in enumerate(idle):
        peer.sendall(b"GET /metrics HT" if i % 2 else b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    for peer in idle:
        peer.close()
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(get(port)[0])) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [200] * 30, seen
    with socket.create_connection(("127.0.0.1", port)) as peer:
        try:
            peer.sendall(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n")
            assert not peer.recv(100).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            pass
    # A plane that hangs costs its figures and no more.
    pid = node.plane_pid()
    stop(pid)
    try:
        held = figures(port)
        assert ("penstock_device_reads_total", '{device="d1"}') not in held and held["penstock_plane_ready", ""] == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    node.plane, before = "/bin/false", node.log()
    node.kill()
    node.kill_plane()
    node.start()
    port = int(until(lambda: re.findall(r"HTTP on \S+ port (\d+)", node.log()[len(before) :]), "HTTP is served")[-1])
    status, text = until(lambda: get(port, "/healthz") if get(port, "/healthz")[0] == 503 else None, "it is told")
    assert "the storage plane is not there" in text and figures(port)["penstock_plane_ready", ""] == 0
    assert node.kill(signal.SIGTERM) == 0


def test_http_elsewhere(node):
    for place, said in (("192.0.2.1:0", "loopback"), ("x", "IP:PORT"), ("127.0.0.1", "IP:PORT"), ("127.0.0.1:99999", "IP:PORT"), ("[::1:9", "IP:PORT")):
        done = subprocess.run([*node.command(), "--port", "0", "--http", place], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 64 and said in done.stderr, (place, done)
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run([*node.command(), "--port", "0", "--http", place], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode not in (0, None) and "cannot serve HTTP" in done.stderr, done
    node.options = ("--http", "[::1]:0")
    node.start()
    assert get(http_port(node), "/healthz", address="::1")[0] == 200


def test_rates(node):
    client = node.start()
    refused("UNAVAILABLE", client.MetricsGet, name="d1")
    make_disk(node)
    client.ReplicaCreate(name="r1", lvs_name="d1", spec_size=16 * MIB, port_count=1)
    refused("NOT_FOUND", client.MetricsGet, name="none")
    refused("INVALID_ARGUMENT", client.MetricsGet, name="")
    refused("INVALID_ARGUMENT", client.MetricsGet, name="x" * 300)
    idle = client.MetricsGet(name="r1")
    assert set(idle.values()) == {0}, idle
    assert client.MetricsGet(name="r1") == idle, "again at once: what was told before"
    number = 0

    def is_busy():
        nonlocal number
        pending = [client.start("MetricsGet", name="d1") for _ in range(5)]
        while not all(call.done() for call in pending):
            client.ReplicaSnapshotCreate(name="r1", snapshot_name=f"s{number}", user_created=True, snapshot_timestamp="2026-11-21T12:00:00Z")
            client.ReplicaSnapshotDelete(name="r1", snapshot_name=f"s{number}")
            number += 1
        rates = [client.finish("MetricsGet", call) for call in pending]
        return all(rate["writeIOPS"] > 0 and rate["writeThroughput"] >= 512 and rate["writeLatency"] > 1000 for rate in rates)

    until(is_busy, "what is written beside it is measured")
    hanging = client.start("MetricsGet", name="d1/r1")
    assert node.kill(signal.SIGTERM) == 0, "an end in the middle of it"
    try:
        client.finish("MetricsGet", hanging)
    except Failure as failure:
        assert failure.code == "UNAVAILABLE", failure


# ---- logs and the service manager


def test_journal(node):
    path = str(node.folder / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(DEADLINE_S)
        node.options = ("--log-format", "journal")
        with environment(PENSTOCK_JOURNAL_SOCKET=path):
            node.start()
        fields = dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())
        assert fields["SYSLOG_IDENTIFIER"] == "penstockd" and fields["PRIORITY"] == "5" and fields["PENSTOCK_AREA"] == "app", fields
        assert "gRPC on" in fields["MESSAGE"] and "gRPC on" not in node.log(), fields
    node.kill()
    # A journal that is not there: text.
    with environment(PENSTOCK_JOURNAL_SOCKET=str(node.folder / "absent")):
        node.start()
    assert "gRPC on" in node.log()
    # Found by itself where systemd has connected standard error to it, and only there.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        os.unlink(path)
        journal.bind(path)
        journal.settimeout(DEADLINE_S)
        node.kill()
        node.options = ()
        log = os.stat(node.folder / "daemon.log")
        with environment(PENSTOCK_JOURNAL_SOCKET=path, JOURNAL_STREAM=f"{log.st_dev}:{log.st_ino}"):
            node.start()
        assert b"MESSAGE=" in journal.recv(65536)


class environment:
    def __init__(self, **values):
        self.values, self.before = values, {}

    def __enter__(self):
        self.before = {key: os.environ.get(key) for key in self.values}
        os.environ.update(self.values)

    def __exit__(self, *_):
        for key, value in self.before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


class Manager:
    """Reads what it is told at once, as a service manager does: what finds its queue full is not told again."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.said = set()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while (text := self.socket.recv(100)) != b"END":
            self.said.add(text)

    def wait(self):
        until(lambda: {b"READY=1", b"WATCHDOG=1"} <= self.said, lambda: f"it is ready, and shows signs of life: {self.said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


def test_service_manager(node):
    """Sockets are given, readiness and signs of life come back; a plane of somebody else's is waited for and not started."""
    notify_path, plane_path = str(node.folder / "notify"), str(node.folder / "plane.sock")
    (node.folder / "state").mkdir(mode=0o700)
    with Manager(notify_path) as manager, socket.create_server((node.address, 8504)) as tcp, socket.socket(socket.AF_UNIX) as plane_listener:
        plane_listener.bind(plane_path)
        plane_listener.listen()
        node.options = ("--plane-socket", plane_path)

        def start(command, listeners, log):
            # As the manager does it: the sockets from number 3 on, and the process's own number.
            program = (
                "import os,sys;n=[int(x) for x in sys.argv[1].split()];[os.dup2(x,100+i) for i,x in enumerate(n)];"
                "[os.dup2(100+i,3+i) for i in range(len(n))];os.closerange(3+len(n),200);"
                "os.environ['LISTEN_PID']=str(os.getpid());os.execv(sys.argv[2],sys.argv[2:])"
            )
            numbers = [listener.fileno() for listener in listeners]
            extra = {"NOTIFY_SOCKET": notify_path, "WATCHDOG_USEC": "200000", "LISTEN_FDS": str(len(listeners))}
            with environment(**extra), open(node.folder / log, "a", encoding="utf-8") as out:
                words = [sys.executable, "-c", program, " ".join(map(str, numbers)), *command]
                return subprocess.Popen(words, stderr=out, stdin=subprocess.DEVNULL, pass_fds=numbers)

        node.process = start(node.command(), [tcp], "daemon.log")
        manager.wait()
        node.client = Client(CONTRACT, f"{node.address}:8504")
        until(node.answers, "penstockd answers on the socket that it was given")
        client = node.client
        assert client.DiskCreate(disk_name="d1", disk_path=disk_file(node))["state"] == "creating"
        manager.said = set()
        plane = start([PLANE, "-r", plane_path, "--poll=never", "--log-format", "json"], [plane_listener], "plane.log")
        try:
            until(lambda: client.DiskGet(disk_name="d1")["state"] == "ready", "the plane is found")
            manager.wait()
            assert os.path.exists(plane_path) and not os.path.exists(plane_path + ".lock"), "the path is its maker's"
            for line in (node.folder / "plane.log").read_text(encoding="utf-8").split("\n")[:-1]:  # those that are whole
                assert json.loads(line)["program"] == "penstock-block", line
        finally:
            plane.terminate()
            assert plane.wait(60) == 0
        assert os.path.exists(plane_path), "a socket that was given is left where it is"
        until(lambda: re.search("storage plane: .*trying again", node.log()), "its end is seen, though nobody reads the signs of life")
        assert "started" not in node.log(), "and it starts none"
        assert node.kill(signal.SIGTERM) == 0


if __name__ == "__main__":
    run_tests(globals(), "penstockd-ops-", DAEMON, PLANE, CONTRACT, sys.argv[4] if len(sys.argv) > 4 else None)
