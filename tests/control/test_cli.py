#!/usr/bin/env python3
"""The command line's verbs of the control daemon: what they do, what they print for people and for programs, and what they say when
it goes wrong. Arguments: penstock, penstockd, penstock-block, the contract's table, and (optional) one test."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio and python3-yaml are
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import yaml
    from rig import Contract, run_tests, stop, until
except ImportError as reason:
    print(f"skipped: a module is missing for this interpreter: {reason}")
    sys.exit(77)

PENSTOCK, DAEMON, PLANE, TABLE = sys.argv[1:5]
CONTRACT = Contract(TABLE)
MIB = 1 << 20


def run(*words, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    return subprocess.run([PENSTOCK, *words], capture_output=True, text=True, timeout=60, check=False, env={**clean, **environment})


class Line:
    """The command line towards one node."""

    def __init__(self, node):
        self.node = node

    def ok(self, *words):
        done = run("--node", self.node.address, *words)
        assert done.returncode == 0, f"{words}: {done.returncode}: {done.stderr}"
        return done.stdout

    def fails(self, status, *texts_and_words):
        *texts, words = texts_and_words
        done = run("--node", self.node.address, *words)
        assert done.returncode == status, f"{words}: exit status {done.returncode}, expected {status}: {done.stderr}"
        for text in texts:
            assert text in done.stderr, f"{words}: {done.stderr!r} lacks {text!r}"
        return done.stderr

    def read(self, *words):
        return json.loads(self.ok(*words, "-o", "json"))


def disk_file(node, name="d1", size=256 * MIB):
    path = node.folder / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(size)
    return str(path)


def begin(node):
    node.start()
    line = Line(node)
    line.ok("disk", "create", "d1", disk_file(node))
    return line


def test_verbs(node):
    line = begin(node)
    disk = line.read("disk", "show", "d1")
    assert disk["state"] == "ready" and disk["total_bytes"] > 200 * MIB and disk["reason"] == "", disk
    assert "d1" in line.ok("disk", "list") and disk["uuid"] not in line.ok("disk", "list")
    assert disk["uuid"] in line.ok("disk", "list", "-o", "wide")
    place = line.ok("replica", "create", "r1", "d1", "64M", "--ports", "3").strip()
    assert place.startswith(f"{node.address}:2"), place
    replica = line.read("replica", "show", "r1")
    assert replica["state"] == "running" and replica["spec_size"] == 64 * MIB, replica
    assert replica["port_end"] == replica["port_start"] + 2, replica
    line.ok("snapshot", "create", "replica/r1", "first")
    line.ok("snapshot", "create", "replica/r1", "second")
    listed = {item["name"]: item for item in line.read("snapshot", "list", "replica/r1")}
    assert set(listed) == {"first", "second"} and listed["second"]["parent"] == "first", listed
    assert listed["first"]["children"] == {"second": True}, listed
    assert [row.split()[0] for row in line.ok("snapshot", "list", "replica/r1").splitlines()] == ["NAME", "first", "second"]
    line.fails(64, "--yes", ("snapshot", "revert", "replica/r1", "first"))
    line.ok("snapshot", "revert", "replica/r1", "first", "--yes")
    assert line.read("replica", "show", "r1")["head"]["parent"] == "first"
    line.ok("snapshot", "delete", "replica/r1", "second")
    assert [item["name"] for item in line.read("snapshot", "list", "replica/r1")] == ["first"]
    line.ok("replica", "expand", "r1", "128M")
    assert line.read("replica", "list")[0]["spec_size"] == 128 * MIB
    line.ok("replica", "stop", "r1")
    assert line.read("replica", "list")[0]["state"] == "stopped"
    line.ok("replica", "create", "r1", "d1", "128M")
    line.fails(64, "--yes", ("replica", "delete", "r1"))
    line.ok("replica", "delete", "r1", "--yes")
    assert line.read("replica", "list") == []
    line.ok("disk", "delete", "d1")
    assert line.read("disk", "list") == []


def test_what_goes_wrong(node):
    line = begin(node)
    line.fails(66, "there is no disk 'd2'", "penstock disk list", ("disk", "show", "d2"))
    line.fails(74, "d2", "penstock disk delete d2", ("disk", "create", "d2", str(node.folder / "absent")))
    line.fails(73, "d1", ("disk", "create", "d1", disk_file(node, "other")))
    line.fails(64, "10Q", "such as 10G", ("replica", "create", "r1", "d1", "10Q"))
    line.fails(64, "--ports", ("replica", "create", "r1", "d1", "10M", "--ports", "x"))
    line.fails(66, "replica", ("replica", "show", "none"))
    line.fails(64, "replica/NAME", ("snapshot", "list", "r1"))
    line.fails(69, "ShardList", ("grpc", "ShardList"))
    line.fails(66, "there is no method", ("grpc", "Shard"))
    line.fails(64, "has no field nam", ("grpc", "ReplicaGet", "nam=x"))
    line.fails(64, "spec_size", ("grpc", "ReplicaCreate", "name=x", "spec_size=-1"))
    line.fails(64, "labels", ("grpc", "ReplicaSnapshotCreate", "labels=3"))
    for wrong, text in (("there:1", "IP:PORT"), ("127.0.0.1:0", "IP:PORT"), ("[::1", "IP:PORT"), ("unix:", "IP:PORT"), (",", "IP:PORT")):
        done = run("--node", wrong, "disk", "list")
        assert done.returncode == 64 and text in done.stderr, (wrong, done)
    done = run("--node", f"{node.address}:1", "disk", "list")
    assert done.returncode == 75 and "is penstockd running there?" in done.stderr, done
    done = run("disk", "show", "d1", PENSTOCK_NODE=f"{node.address},{node.address}")
    assert done.returncode == 0, "a look at several"
    done = run("disk", "delete", "d1", PENSTOCK_NODE=f"{node.address},{node.address}")
    assert done.returncode == 64 and "2 are named" in done.stderr, done
    done = run("--node", node.address, "--tls-ca", "/absent", "--tls-cert", TABLE, "--tls-key", TABLE, "disk", "list")
    assert done.returncode == 66 and "/absent" in done.stderr, done
    done = run("--node", node.address, "--tls-ca", TABLE, "disk", "list")
    assert done.returncode == 64 and "--tls-key" in done.stderr, done


def test_formats(node):
    line = begin(node)
    line.ok("replica", "create", "true", "d1", "16M")  # a name that YAML would take for something else
    line.ok("replica", "create", "10", "d1", "16M")
    line.ok("snapshot", "create", "replica/10", "s-1.a")
    for words in (("replica", "list"), ("disk", "list"), ("node", "list"), ("snapshot", "list", "replica/10"), ("grpc", "GetNode")):
        there, again = line.read(*words), yaml.safe_load(line.ok(*words, "-o", "yaml"))
        for item in (there, again):
            for part in item if isinstance(item, list) else [item["node"]]:
                part.pop("up_ms", None)
        assert there == again, f"{words}: {there} is not {again}"
    line.fails(64, "wide", ("disk", "list", "-o", "xml"))
    by_unix = run("-n", f"unix:{node.folder}/state/penstockd.sock", "--output=json", "replica", "list")
    assert [item["name"] for item in json.loads(by_unix.stdout)] == ["10", "true"] or by_unix.returncode == 0, by_unix
    assert by_unix.returncode == 0 and len(json.loads(by_unix.stdout)) == 2, by_unix


def test_watch(node):
    line = begin(node)
    line.ok("replica", "create", "r1", "d1", "16M")
    assert line.ok("replica", "watch", "--once") == "r1 running\n"
    watch = subprocess.Popen([PENSTOCK, "--node", node.address, "replica", "watch"], stdout=subprocess.PIPE, text=True)
    try:
        assert watch.stdout.readline() == "r1 running\n"
        line.ok("replica", "create", "r2", "d1", "16M")
        seen = []
        while not seen or seen[-1] != "r2 running\n":
            seen.append(watch.stdout.readline())
        line.ok("replica", "delete", "r1", "--yes")
        while seen[-1] != "r1 deleted\n":
            seen.append(watch.stdout.readline())
            assert seen[-1] in ("r1 terminating\n", "r1 deleted\n"), seen
        node.kill(signal.SIGTERM)
        assert watch.wait(60) == 75, "the end of the daemon is the end of the watch"
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()


def test_status(node):
    line = begin(node)
    line.ok("replica", "create", "r1", "d1", "16M")
    said = line.ok("status")
    assert said.endswith("all is well\n") and "plane ready" in said and "1 disk, 1 replica," in said, said
    assert line.read("status")["well"] is True
    line.ok("replica", "create", "big", "d1", "210M")
    pid = node.plane_pid()
    stop(pid)  # it hangs: what was seen last is told all the same
    try:
        assert "2 replicas" in run("--node", node.address, "status").stdout
    finally:
        os.kill(pid, signal.SIGCONT)
    # A disk that is gone when the plane comes back
    image = node.folder / "d1.img"
    image.rename(node.folder / "away.img")
    node.kill_plane()

    def not_well():
        done = run("--node", node.address, "status")
        told = all(what in done.stdout for what in ("disk d1", "replica r1", "penstock disk create d1"))  # it is looked for, for a moment
        return done if done.returncode == 1 and told else None

    said = until(not_well, "the lost disk is told").stdout
    assert "all is well" not in said, said
    (node.folder / "away.img").rename(image)
    line.ok("disk", "create", "d1", str(image))
    until(lambda: run("--node", node.address, "status").returncode == 0, "all is well again")
    # Several nodes, of which one is away
    done = run("status", "-o", "json", PENSTOCK_NODE=f"{node.address},{node.address}:1")
    told = json.loads(done.stdout)
    assert done.returncode == 75 and [part["answers"] for part in told["nodes"]] == [True, False], done
    assert told["well"] is False and "systemctl start penstockd" in told["nodes"][1]["findings"][0]["advice"], told
    watch = subprocess.Popen([PENSTOCK, "--node", node.address, "status", "--watch", "-o", "json"], stdout=subprocess.PIPE, text=True)
    try:
        decoder, text, seen = json.JSONDecoder(), "", 0
        while seen < 2:
            text += watch.stdout.readline()
            try:
                value, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            assert value["well"] is True
            text, seen = text[end:].lstrip(), seen + 1
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()


def test_engine(node):
    line = begin(node)
    places = [line.ok("replica", "create", name, "d1", "16M").strip() for name in ("r1", "r2", "r3")]
    first = [f"r{at + 1}={place}" for at, place in enumerate(places)]
    line.fails(64, "REPLICA=IP:PORT", ("engine", "create", "e1", "r1"))
    line.fails(64, "--size", ("engine", "create", "e1", first[0]))
    line.ok("engine", "create", "e1", *first[:2], "--size", "16M", "--volume", "v1")
    until(lambda: " 2/2 " in line.ok("engine", "list"), "both replicas are whole")
    modes = {"r1": "RW", "r2": "RW"}  # a busy machine may lose one for a moment
    engine = until(lambda: (shown := line.read("engine", "show", "e1"))["replica_mode_map"] == modes and shown, "and shown so")
    assert engine["volume_name"] == "v1", engine
    assert line.read("snapshot", "list", "engine/e1") == []
    line.fails(64, "its engine's", ("snapshot", "list", "frontend/f1"))
    line.ok("engine", "add", "e1", first[2])
    until(lambda: " 3/3 " in line.ok("engine", "list"), "the third replica is whole")
    until(lambda: run("--node", node.address, "status").returncode == 0, "all is well")
    line.fails(66, "say --size", ("frontend", "create", "f1", "e2", f"{engine['ip']}:{engine['port']}", "--volume", "v1"))
    line.fails(64, "IP:PORT", ("frontend", "create", "f1", "e1", "here", "--volume", "v1"))
    line.ok("frontend", "create", "f1", "e1", f"{engine['ip']}:{engine['port']}", "--volume", "v1")
    assert "f1" in line.ok("frontend", "list")
    frontend = line.read("frontend", "show", "f1")
    assert frontend["engine_name"] == "e1" and frontend["spec_size"] == 16 * MIB, frontend
    assert line.ok("engine", "watch", "--once").startswith("e1 running")
    done = run("__complete", "engine", "show", "", PENSTOCK_NODE=node.address)
    assert done.stdout.split() == ["e1"], done
    # One replica goes: not well, and the way out is told.
    line.ok("replica", "stop", "r3")

    def degraded():
        done = run("--node", node.address, "status")
        return done if done.returncode == 1 else None

    assert "engine e1: 2 of its 3 replicas are whole" in until(degraded, "the lost replica is told").stdout
    line.ok("engine", "remove", "e1", first[2])
    until(lambda: run("--node", node.address, "status").returncode == 0, "with two of two all is well")
    line.ok("frontend", "delete", "f1")
    line.ok("engine", "delete", "e1")
    assert line.read("engine", "list") == [] and line.read("frontend", "list") == []
    line.fails(66, "e1", ("engine", "show", "e1"))


def test_support_bundle(node):
    line = begin(node)
    line.ok("replica", "create", "r1", "d1", "16M")
    with open(node.folder / "state" / "plane.log", "a", encoding="utf-8") as log:
        log.write('a line\npassword: hunter2 and more\n{"psk": "hunter2"} tail\nx token=hunter2\nkey_file=hunter2\n')
    path = node.folder / "bundle.tar.gz"
    assert line.ok("support-bundle", str(path)) == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600 and [p for p in node.folder.iterdir() if "bundle" in p.name] == [path]
    with tarfile.open(path) as bundle:
        files = {name.split("/", 1)[1]: bundle.extractfile(name).read().decode() for name in bundle.getnames()}
    assert json.loads(files["node-0/GetNode.json"])["node"]["disks"][0]["name"] == "d1", files.keys()
    assert "r1" in files["node-0/ReplicaList.json"] and "d1" in files["plane/bdev_get_bdevs.json"], files.keys()
    assert "Linux" in files["machine/kernel"] and "a line" in files["node-0/plane.log"]
    assert "(not shown)" in files["node-0/plane.log"] and not [name for name, text in files.items() if "hunter2" in text]
    assert "penstockd.yaml" in files["missing"] or "etc/penstockd.yaml" in files, files["missing"]
    line.fails(73, "is there already", ("support-bundle", str(path)))
    # With the daemon away, what there is.
    node.kill()
    other = node.folder / "other.tar.gz"
    line.ok("support-bundle", str(other))
    with tarfile.open(other) as bundle:
        missing = next(bundle.extractfile(name).read().decode() for name in bundle.getnames() if name.endswith("/missing"))
    assert "is penstockd" not in missing and "node-0/GetNode.json: no answer" in missing, missing


def test_completion(node):
    line = begin(node)
    line.ok("replica", "create", "r1", "d1", "16M")

    def offered(*words):
        return run("__complete", *words, PENSTOCK_NODE=node.address).stdout.split()

    assert {"node", "disk", "replica", "snapshot", "status", "block", "rpc", "grpc"} <= set(offered(""))
    assert offered("disk", "") == ["list", "show", "create", "delete"]
    assert offered("disk", "show", "") == ["d1"] and offered("replica", "expand", "r") == ["r1"]
    assert offered("snapshot", "list", "re") == ["replica/r1"] and offered("snapshot", "list", "en") == []
    assert "--no-wait" in offered("disk", "create", "--")
    assert "ReplicaCreate" in offered("grpc", "Rep") and offered("grpc", "GetN") == ["GetNode"]
    node.kill()
    done = run("__complete", "disk", "show", "", PENSTOCK_NODE=node.address)
    assert done.stdout == "" and done.stderr == "", "without a daemon nothing is offered, and nothing is said"


if __name__ == "__main__":
    run_tests(globals(), "penstock-cli-", DAEMON, PLANE, CONTRACT, sys.argv[5] if len(sys.argv) > 5 else None)
