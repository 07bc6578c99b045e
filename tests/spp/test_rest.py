#!/usr/bin/env python3
"""spp-ctl's REST of penstockd, over a real packet plane: transcripts, deaths of either process, hostile requests.

Usage: test_rest.py PENSTOCKD PENSTOCK-PACKET [CASE]"""

import concurrent.futures
import json
import os
import pathlib
import random
import re
import signal
import socket
import sys
import tempfile
import traceback

import rig

HERE = pathlib.Path(__file__).parent
INTERFACES = ["--interface", "null", "--interface", "null"]


def launch(daemon, client_id, cores, program="spp_vf", **app):
    daemon.do("PUT", "/v1/primary/launch", client_id=client_id, proc_name=program,
              eal={"-l": cores, "--proc-type": "secondary"}, app={"--vhost-client": "", **app})  # fmt: skip


def attach(daemon, vf, component, port, direction, **vlan):
    more = {"vlan": vlan} if vlan else {}
    daemon.do("PUT", f"/v1/vfs/{vf}/components/{component}/ports", action="attach", port=port, dir=direction, **more)


def wire(daemon, vf=1, cores="1-7", first=0, nic=0):
    """What networking-spp's agent builds for a NIC with two vhosts, by the calls that it makes."""
    launch(daemon, vf, cores)
    low = int(cores.split("-", maxsplit=1)[0].split(",")[-1]) + (1 if cores[1] == "-" else 0)
    core = iter(range(low, low + 6))
    for vhost in (first, first + 1):
        for side, rx, tx in (("tx", f"ring:{2 * vhost}", f"vhost:{vhost}"), ("rx", f"vhost:{vhost}", f"ring:{2 * vhost + 1}")):
            name = f"forward_{vhost}_{side}"
            daemon.do("POST", f"/v1/vfs/{vf}/components", name=name, core=next(core), type="forward")
            attach(daemon, vf, name, tx, "tx")
            attach(daemon, vf, name, rx, "rx")
    daemon.do("POST", f"/v1/vfs/{vf}/components", name="classifier", core=next(core), type="classifier_mac")
    daemon.do("POST", f"/v1/vfs/{vf}/components", name="merger", core=next(core), type="merge")
    for vhost in (first, first + 1):
        attach(daemon, vf, "classifier", f"ring:{2 * vhost}", "tx")
        attach(daemon, vf, "merger", f"ring:{2 * vhost + 1}", "rx")
    attach(daemon, vf, "classifier", f"phy:{nic}", "rx")
    attach(daemon, vf, "merger", f"phy:{nic}", "tx")


def entry(daemon, vf, action, mac, port, vlan=None):
    more = {} if vlan is None else {"vlan": vlan}
    daemon.do("PUT", f"/v1/vfs/{vf}/classifier_table", action=action, type="mac" if vlan is None else "vlan", mac_address=mac, port=port, **more)


def test_transcripts(daemon):
    for path in sorted(HERE.glob("rest/*.txt")):
        rig.play(daemon, path)


def test_deaths(daemon):
    """Of the plane, of the daemon, of both: what was is there again, without anybody's doing."""
    wire(daemon, 1, "1-7")
    wire(daemon, 2, "1,10-15", first=2, nic=1)
    entry(daemon, 1, "add", "fa:16:3e:00:00:01", "ring:0", 100)
    entry(daemon, 1, "add", "default", "ring:0")
    daemon.do("PUT", "/v1/vfs/1/components/classifier/ports", action="detach", port="ring:2", dir="tx")
    body, tables, pid = daemon.get("/v1/vfs/1"), daemon.tables(), daemon.plane_pid()
    assert tables[0]["vf:2:merger"][1].keys() == {"ring:5", "ring:7"}, tables[0]

    daemon.kill_plane()
    rig.until(lambda: daemon.plane_pid() not in (None, pid), "the plane is started again")
    rig.until(lambda: daemon.tables() == tables, "the tables are as before")
    assert daemon.get("/v1/vfs/1") == body

    pid = daemon.plane_pid()
    daemon.kill()
    assert daemon.tables() == tables, "the plane goes on without the daemon"
    daemon.start()
    assert daemon.get("/v1/vfs/1") == body
    entry(daemon, 1, "del", "default", "ring:0")
    entry(daemon, 1, "add", "default", "ring:0")
    assert (daemon.tables(), daemon.plane_pid()) == (tables, pid), "nothing was touched"

    daemon.kill()
    daemon.kill_plane()
    daemon.start()
    rig.until(lambda: daemon.plane_pid() is not None and daemon.tables() == tables, "the tables are as before, once more")

    # Somebody's hand in the plane does not stay.
    daemon.plane("packet_component_delete", name="vf:1:merger")
    daemon.plane("packet_component_create", name="stranger", type="merge", worker=0)
    daemon.kill()
    daemon.start()
    rig.until(lambda: daemon.tables() == tables, "the tables are mended")

    assert daemon.kill(signal.SIGTERM) == 0
    assert daemon.plane_pid() is not None
    daemon.start()


def test_refused_by_the_plane(daemon):
    """A port that cannot be opened: the words come through, nothing is changed, and nothing else is disturbed."""
    launch(daemon, 1, "1-7")
    daemon.do("POST", "/v1/vfs/1/components", name="m", core=2, type="merge")
    attach(daemon, 1, "m", "ring:0", "rx")
    before, tables = daemon.get("/v1/vfs/1"), daemon.tables()
    # No file there to read.
    status, _, text = daemon.rest("PUT", "/v1/vfs/1/components/m/ports", json.dumps({"action": "attach", "port": "pcap:77", "dir": "rx"}))
    assert status == 400 and text.startswith("command error: ") and len(text) > 20, (status, text)
    assert (daemon.get("/v1/vfs/1"), daemon.tables()) == (before, tables)
    attach(daemon, 1, "m", "ring:1", "rx")
    daemon.kill()
    daemon.start()
    assert {port["port"] for component in daemon.get("/v1/vfs/1")["components"] for port in component["rx_port"]} == {"ring:0", "ring:1"}


def test_cores(daemon):
    """A process is a vf of the plane, on the cores of its mask; cores that are not there are refused, or left out after a restart."""
    cpu = min(os.sched_getaffinity(0))
    daemon.kill()
    daemon.cpu_map = f"1-15={cpu}"
    daemon.start()
    launch(daemon, 1, "1-7")
    launch(daemon, 2, "1,10-11", program="spp_mirror")
    assert [(vf["id"], vf["core_mask"]) for vf in daemon.plane("packet_get_vfs")] == [(1, "0xfe"), (2, "0xc02")]
    status, _, text = daemon.rest("PUT", "/v1/primary/launch", json.dumps({"client_id": 3, "proc_name": "spp_vf", "app": {},
                                                                           "eal": {"-l": "1,20", "--proc-type": "secondary"}}))  # fmt: skip
    assert status == 400 and "there is no core 20" in text, (status, text)
    assert len(daemon.get("/v1/processes")) == 3 and len(daemon.plane("packet_get_vfs")) == 2, "nothing of it stays"
    for core in (2, 7):
        daemon.do("POST", "/v1/vfs/1/components", name=f"f{core}", core=core, type="forward")
    daemon.do("POST", "/v1/mirrors/2/components", name="m", core=10, type="mirror")
    attach(daemon, 1, "f2", "ring:0", "rx")
    want = {"vf:1:f2": (1, 2, cpu), "vf:1:f7": (1, 7, cpu), "mirror:2:m": (2, 10, cpu)}
    assert daemon.places() == want, daemon.places()
    # What has no core of its own has the worker that is nobody's.
    daemon.do("PUT", "/v1/primary/ports", action="add", port="ring:5")
    daemon.do("PUT", "/v1/primary/ports", action="add", port="nullpmd:0")
    daemon.do("PUT", "/v1/primary/patches", src="ring:5", dst="nullpmd:0")
    daemon.do("PUT", "/v1/primary/forward", action="start")
    want["primary:0:to:nullpmd:0"] = (None, None, None)
    assert daemon.places() == want, daemon.places()
    # Another machine, with fewer cores.
    daemon.kill()
    daemon.kill_plane()
    daemon.cpu_map = f"1-9={cpu}"
    daemon.start()
    del want["mirror:2:m"]
    rig.until(lambda: daemon.plane_pid() is not None and daemon.places() == want, "what can run runs")
    assert "there is no core 10" in daemon.log()
    launch(daemon, 3, "1,8")
    daemon.do("DELETE", "/v1/mirrors/2")
    # A process that goes takes its cores with it, and one that comes again has others.
    daemon.do("DELETE", "/v1/vfs/1")
    assert [vf["id"] for vf in daemon.plane("packet_get_vfs")] == [3]
    launch(daemon, 1, "1,3-5")
    assert {vf["id"]: vf["core_mask"] for vf in daemon.plane("packet_get_vfs")} == {1: "0x3a", 3: "0x102"}


def test_policies(daemon):
    """A policy is there with its port, before frames come by, and again after the plane's death; a hand in the plane does not stay."""

    def policy(port):
        return daemon.plane("packet_get_ports", name=port)[0].get("policy")

    daemon.do("PUT", "/v1/ports/vhost:0/policy", macs=["fa:16:3e:00:00:01"], vlan_check=True)
    wire(daemon, 1, "1-7")
    want = {"macs": ["fa:16:3e:00:00:01"], "vlan_check": True, "vlans": [], "rx_rate": {"bits_per_s": 0, "packets_per_s": 0},
            "tx_rate": {"bits_per_s": 0, "packets_per_s": 0}}  # fmt: skip
    assert policy("vhost:0") == want == daemon.get("/v1/ports/vhost:0/policy") and policy("vhost:1") is None
    want["tx_rate"]["bits_per_s"] = 1000000
    daemon.do("PUT", "/v1/ports/vhost:0/policy", **want)
    assert policy("vhost:0") == want
    daemon.plane("packet_port_set_policy", name="vhost:0")
    daemon.plane("packet_port_set_policy", name="vhost:1", macs=["fa:16:3e:00:00:09"])
    daemon.kill()
    daemon.start()
    rig.until(lambda: policy("vhost:0") == want and policy("vhost:1") is None, "it is mended")
    pid = daemon.plane_pid()
    daemon.kill_plane()
    rig.until(lambda: daemon.plane_pid() not in (None, pid), "the plane is started again")
    rig.until(lambda: "vf:1:merger" in daemon.tables()[0] and policy("vhost:0") == want, "it is there again")
    daemon.do("DELETE", "/v1/ports/vhost:0/policy")
    assert policy("vhost:0") is None and daemon.get("/v1/ports/vhost:0/policy") == {}


def test_many_at_once(daemon):
    """Requests of many callers: each takes effect once, as if they had come one after the other."""
    launch(daemon, 1, "1-7")
    daemon.do("POST", "/v1/vfs/1/components", name="c", core=2, type="classifier")
    attach(daemon, 1, "c", "ring:0", "tx")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        body = [{"action": "add", "type": "mac", "mac_address": f"fa:16:3e:00:00:{i % 40:02x}", "port": "ring:0"} for i in range(80)]
        answers = list(pool.map(lambda one: daemon.rest("PUT", "/v1/vfs/1/classifier_table", json.dumps(one))[0], body))
    assert sorted(answers) == [204] * 40 + [400] * 40, answers
    assert len(daemon.get("/v1/vfs/1")["classifier_table"]) == 40
    assert len(daemon.plane("packet_get_classifier", component="vf:1:c")) == 40


def raw(daemon, data, wait=True):
    """Bytes as they are; the first line of the answer, "" = the connection was closed."""
    with socket.create_connection((daemon.address, 7777), timeout=rig.DEADLINE_S) as connection:
        try:
            connection.settimeout(0.5)  # half a request may wait for its rest, longer than we do
            connection.sendall(data)
            if wait:
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(4096).split(b"\r\n", 1)[0].decode(errors="replace")
        except OSError: # closed on us
            pass
    return ""


def random_body(dice):
    atoms = [None, True, -1, 0, 1, 4096, 1 << 62, 1.5, "", "x", "vf", "ring:0", "phy:0", "vhost:-1", "\0", "default", "é" * 40, [], {}, "a" * 3000]
    keys = ["action", "port", "dir", "vlan", "type", "mac_address", "name", "core", "client_id", "proc_name", "eal", "app", "src", "dst", "rule", "x"]
    words = {"action": ["attach", "add", "start", "detach", "del", "stop"], "dir": ["rx", "tx"], "type": ["mac", "vlan", "merge", "classifier"],
             "port": ["ring:0", "phy:0", "vhost:1"], "core": [2, 3], "mac_address": ["fa:16:3e:00:00:01", "default"]}  # fmt: skip
    body = {}
    for key in dice.sample(keys, dice.randrange(len(keys))):
        body[key] = dice.choice(words[key]) if key in words and dice.random() < 0.7 else dice.choice(atoms)
    if "vlan" in body and dice.random() < 0.5:
        body["vlan"] = {"operation": dice.choice(["none", "add", "del", 7, "x"]), "id": dice.choice(atoms), "pcp": dice.choice(atoms)}
    return json.dumps(body)


def test_hostile(daemon):
    """What nobody should send: an answer or a closed connection, and all goes on as before."""
    seed = int(os.environ.get("PENSTOCK_SEED", "1"))
    dice = random.Random(seed)
    print("seed", seed)
    launch(daemon, 1, "1-7")
    daemon.do("POST", "/v1/vfs/1/components", name="m", core=2, type="merge")
    whole = b'PUT /v1/vfs/1/classifier_table HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{"action": "add", "type": "mac"'
    for data in (b"", b"\0" * 200, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 20000 + b" HTTP/1.1\r\n\r\n", whole,
                 b"POST /v1/vfs/1/components HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"A" * 40000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                 b"POST /v1/vfs/1/components HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"):  # fmt: skip
        line = raw(daemon, data)
        assert line == "" or line.startswith("HTTP/1."), (data[:60], line)
        assert " 2" not in line and " 500" not in line, (data[:60], line)
    assert daemon.rest("POST", "/v1/vfs/1/components", "x" * 70000)[0] == 413
    assert daemon.rest("POST", "/v1/vfs/1/components", "[" * 60000)[::2] == (400, "Not in json format.")
    assert daemon.rest("POST", "/v1/vfs/1/components", '{"name": "a", "name": "b"}')[0] == 400, "a key twice"
    waiting = [socket.create_connection((daemon.address, 7777)) for _ in range(30)]  # which say nothing
    for one in waiting:
        one.sendall(whole[: dice.randrange(len(whole))])
    paths = ["vfs/1", "vfs/1/components", "vfs/1/components/m", "vfs/1/components/m/ports", "vfs/1/classifier_table", "mirrors/1", "nfvs/1/ports",
             "primary/status", "primary/launch", "primary/ports", "primary/patches", "primary/forward", "processes", "x", "vfs/%00/%ff", "vfs//1", "../etc"]  # fmt: skip
    for _ in range(400):
        method, path = dice.choice(["PUT", "POST", "GET", "HEAD", "PATCH", "DELETE"]), dice.choice(paths)
        if method == "DELETE" and path == "vfs/1":
            continue
        before = daemon.get("/v1/vfs/1")
        body = dice.choice([None, random_body(dice), "{", "[]", "\udcff", random_body(dice), random_body(dice)])
        status, kind, text = daemon.rest(method, "/v1/" + path, body.encode("utf-8", "surrogateescape") if body else None)
        assert status in (200, 204, 400, 404, 405), (method, path, body, status, text)
        assert status != 200 or kind == "application/json", (method, path)
        if status >= 400:
            assert text or method == "HEAD", "a refusal without a word"
            assert daemon.get("/v1/vfs/1") == before, "refused, and changed all the same"
    for one in waiting:
        one.close()
    assert daemon.process.poll() is None
    assert daemon.kill(signal.SIGTERM) == 0
    daemon.start()


def test_captures(daemon):
    """A pcap starts and stops; its file is named as spp_pcap's; a folder that is not there is said."""
    cores = {"-l": "1,3,4", "--proc-type": "secondary"}
    daemon.do("PUT", "/v1/primary/launch", client_id=1, proc_name="spp_pcap", eal=cores, app={"-c": "phy:0", "--out-dir": str(daemon.folder)})
    daemon.do("PUT", "/v1/pcaps/1/capture", action="start")
    told = daemon.get("/v1/pcaps/1")
    file = told["core"][1].pop("filename")
    assert re.fullmatch(re.escape(str(daemon.folder)) + r"/spp_pcap\.[0-9]{14}\.phy0\.1\.pcap", file), file
    assert told == {"client-id": 1, "status": "running", "core": [{"core": 3, "role": "receive", "rx_port": [{"port": "phy:0"}]}, {"core": 4, "role": "write"}]}, told
    assert pathlib.Path(file).exists()
    assert daemon.rest("PUT", "/v1/pcaps/1/capture", '{"action": "start"}')[::2] == (400, f"command error: it captures already, into {file}")
    assert daemon.get("/v1/pcaps/1")["core"][1]["filename"] == file
    daemon.do("PUT", "/v1/pcaps/1/capture", action="stop")
    told = daemon.get("/v1/pcaps/1")
    assert (told["status"], told["core"][1]["filename"]) == ("idle", ""), told
    assert pathlib.Path(file).stat().st_size == 24, "the head of a file without frames"
    daemon.do("DELETE", "/v1/pcaps/1")
    assert daemon.plane("packet_get_components") == [] and daemon.plane("packet_get_ports") == []
    daemon.do("PUT", "/v1/primary/launch", client_id=1, proc_name="spp_pcap", eal=cores, app={"-c": "phy:0", "--out-dir": "/nowhere"})
    status, _, text = daemon.rest("PUT", "/v1/pcaps/1/capture", '{"action": "start"}')
    assert status == 400 and "/nowhere/spp_pcap." in text, (status, text)
    assert daemon.get("/v1/pcaps/1")["status"] == "idle"


def main():
    daemon_program, plane, *choice = sys.argv[1:]
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_") and choice in ([], [name])]
    failed = 0
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="spp-") as folder, rig.Daemon(daemon_program, plane, folder, INTERFACES) as daemon:
            try:
                daemon.start()
                test(daemon)
            except Exception:
                failed += 1
                print(f"--- {test.__name__}")
                traceback.print_exc(file=sys.stdout)
                print(daemon.log()[-6000:])
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0 or not tests)


main()
