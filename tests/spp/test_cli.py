#!/usr/bin/env python3
"""The command line of the packet plane: `packet setup` on a real etcd, the verbs on what is wired, `packet top`.

Usage: test_cli.py PENSTOCK PENSTOCKD PENSTOCK-PACKET"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import etcd as etcd_module
import rig

MAPPINGS = "DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys2#2#0xfc02"
# The seed's listing just after construction, byte by byte.
SEED = '[{"num_vhost": 2, "pci_address": "00:04.0", "physical_network": "phys1", "core_mask": "0xfe"}, {"num_vhost": 2, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xfc02"}]'


class Line:
    def __init__(self, program, *options):
        self.program, self.options = program, options

    def run(self, *words):
        result = subprocess.run([self.program, *words, *self.options], capture_output=True, text=True, timeout=60, check=False)
        return result.returncode, result.stdout, result.stderr

    def ok(self, *words):
        status, out, err = self.run(*words)
        assert status == 0, (words, status, out, err)
        return out

    def bad(self, *words):
        status, out, err = self.run(*words)
        assert status not in (0, 134, 139) and err, (words, status, out)
        return err


def setup(program, etcd):
    line = Line(program, "--etcd", f"{etcd.address}:2379")
    for words, what in (
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#2"], "PCI#NETWORK#VHOSTS#COREMASK"),
        (["DPDK_PORT_MAPPINGS="], "PCI#NETWORK"),
        ([MAPPINGS + ","], "PCI#NETWORK"),
        (["DPDK_PORT_MAPPINGS=eth0#phys1#2#0xfe"], "an address like 00:04.0"),
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#0#0xfe"], "1 to 30"),
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0x7e"], "6 cores beside the lowest"),
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys2#2#0x1fc"], "core 3 is that of 00:04.0"),
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:04.0#phys2#2#0xfc02"], "each NIC once"),
        (["DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys1#2#0xfc02"], "a network of its own"),
        ([MAPPINGS, "SPP_PRIMARY_CORE_MASK=0x6"], "a mask of one core"),
        ([MAPPINGS, "SPP_PRIMARY_CORE_MASK=0x4"], "no NIC works on"),
        ([MAPPINGS, "X=1"], "SPP_PRIMARY_CORE_MASK"),
        (["SPP_PRIMARY_CORE_MASK=0x2"], "DPDK_PORT_MAPPINGS= is not given"),
    ):
        err = line.bad("packet", "setup", "spp4", *words)
        assert what in err, (words, err)
    assert etcd.prefix("/spp/") == {}, "refused, and written all the same"
    line.ok("packet", "setup", "spp4", "--check", MAPPINGS, "SPP_PRIMARY_CORE_MASK=0x2")
    assert etcd.prefix("/spp/") == {}, "only checked"

    line.ok("packet", "setup", "spp4", MAPPINGS, "SPP_PRIMARY_CORE_MASK=0x2")
    root = "/spp/openstack/"
    assert etcd.prefix("/spp/") == {root + "configuration/spp4": SEED, root + "vhost/spp4/phys1/0": "None", root + "vhost/spp4/phys1/1": "None",
                                    root + "vhost/spp4/phys2/2": "None", root + "vhost/spp4/phys2/3": "None"}, etcd.prefix("/spp/")  # fmt: skip
    # Again: what is in use stays.
    etcd.put(root + "vhost/spp4/phys2/3", "port-x")
    line.ok("packet", "setup", "spp4", MAPPINGS)
    assert etcd.get(root + "vhost/spp4/phys2/3") == "port-x"
    # Fewer: not below what is used, which nothing of it changes.
    before = etcd.prefix("/spp/")
    err = line.bad("packet", "setup", "spp4", "DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys2#1#0xfc02")
    assert "vhost/spp4/phys2/3 is used by port port-x" in err, err
    assert etcd.prefix("/spp/") == before
    line.bad("packet", "setup", "spp4", "DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe")
    etcd.put(root + "vhost/spp4/phys2/3", "None")
    out = line.ok("packet", "setup", "spp4", "DPDK_PORT_MAPPINGS=00:04.0#phys1#3#0x3fe,00:05.0#phys2#1#0xfc02")
    assert out == "spp4: 2 NICs, 4 vhosts (1 new, 1 gone)\n", out
    assert sorted(key for key in etcd.prefix("/spp/") if "vhost" in key) == [root + "vhost/spp4/" + rest for rest in ("phys1/0", "phys1/1", "phys1/2", "phys2/3")]
    # Again: what the words cannot say is kept, or nothing is changed.
    where, words = root + "configuration/kept", "DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe"
    nic = json.loads(SEED)[0]
    mirrors = [{"core": 16, "ports": ["ring:20", "ring:21"]}, {"core": 17, "ports": ["ring:22", "ring:23"]}]
    components = [{"core": 2, "type": "forward", "name": "f", "rx_port": ["vhost:0"], "tx_port": ["phy:0"]}]
    for was in ({"vf": [nic], "mirror": mirrors}, {"vf": [{**nic, "components": components}], "mirror": mirrors}, [{**nic, "components": components}]):
        etcd.put(where, json.dumps(was))
        for _ in range(2):
            line.ok("packet", "setup", "kept", words)
            assert json.loads(etcd.get(where)) == was, etcd.get(where)
    etcd.put(where, json.dumps({"vf": [nic], "mirror": mirrors}))
    line.ok("packet", "setup", "kept", words + ",00:05.0#phys2#2#0xfc02")
    assert json.loads(etcd.get(where)) == {"vf": json.loads(SEED), "mirror": mirrors}
    for was, given, what in (
        ({"vf": [nic], "mirror": mirrors}, words + ",00:05.0#phys2#2#0x3f0002", "a core that no NIC works on: it is one of 00:05.0's"),
        ([{**nic, "components": components}], "DPDK_PORT_MAPPINGS=00:04.0#phys1#3#0x3fe", "00:04.0 has components of its own, for 2 vhosts from 0 on and cores 0xfe"),
        ("what?", words, "not JSON"),
    ):  # fmt: skip
        etcd.put(where, json.dumps(was))
        err = line.bad("packet", "setup", "kept", given)
        assert what in err and where in err, err
        assert json.loads(etcd.get(where)) == was
    # Many, in batches.
    nics = ",".join(f"00:{i:02x}.0#net{i}#30#0x{0x7FFFFFFFFFFFFFFF:x}" for i in range(1, 2))
    line.ok("packet", "setup", "large", "DPDK_PORT_MAPPINGS=" + nics)
    assert len(etcd.prefix(root + "vhost/large/")) == 30
    assert "is penstockd" not in line.bad("packet", "setup", "a/b", MAPPINGS)


def setup_under_tls(program, etcd, folder):
    """The agent's options, and what is said where they do not fit."""
    etcd.kill()
    if not etcd.secure():
        print("note: no openssl command: TLS is not looked at")
        return
    etcd.start()
    etcd.enable_users("setup", "a word", "/spp/openstack/")
    word = folder / "word"
    word.write_text("a word\n", encoding="utf-8")
    line = Line(program, "--etcd", f"{etcd.address}:2379")
    files = ["--etcd-ca", etcd.file("ca.crt"), "--etcd-certificate", etcd.file("client.crt"), "--etcd-key", etcd.file("client.key")]
    named = [*files, "--etcd-name", "etcd.test"]
    user = ["--etcd-user", "setup", "--etcd-password-file", str(word)]
    wrong = folder / "wrong"
    wrong.write_text("another\n", encoding="utf-8")
    cases = (
        (files[:2], "--etcd-ca, --etcd-certificate and --etcd-key go together"),
        ([*files[:4], "--etcd-key", "/nowhere"], "/nowhere cannot be read"),
        ([*files[:4], "--etcd-key", etcd.file("ca.crt")], "the private key (key) is unfit"),
        (["--etcd-name", "etcd.test"], "--etcd-ca beside it"),
        ([*named, *user[:2]], "--etcd-user and --etcd-password-file go together"),
        (named, "permission denied"),
        (user, "the peer has closed the connection"),  # no TLS
        ([*files, *user], "IP address mismatch"),
        ([*files, "--etcd-name", "else.test", *user], "hostname mismatch"),
        ([*named, *user[:2], "--etcd-password-file", str(wrong)], "invalid user ID or password"),
    )
    # Those that wait for an etcd that may yet come do so at the same time.
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        told = pool.map(lambda case: line.bad("packet", "setup", "tls", MAPPINGS, *case[0]), cases)
        for (options, what), err in zip(cases, told):
            assert what in err, (options, err)
    assert etcd.prefix("/spp/openstack/vhost/tls/") == {}
    assert line.ok("packet", "setup", "tls", MAPPINGS, *named, *user) == "tls: 2 NICs, 4 vhosts (4 new, 0 gone)\n"
    assert etcd.get("/spp/openstack/configuration/tls") == SEED


def verbs(program, daemon):
    line = Line(program, "--rest", f"{daemon.address}:7777")
    assert "--spp-rest" in Line(program, "--rest", "127.0.0.1:1").bad("packet", "list")
    line.ok("packet", "create", "vf/1", "0xfe")
    line.ok("packet", "create", "nfv/2", "1,9")
    assert "core 5 is vf:1's" in line.bad("packet", "create", "vf/3", "1,5")
    for words in (["packet", "create", "x/1", "0xfe"], ["packet", "create", "vf/x", "0xfe"], ["packet", "create", "vf/3", "70"], ["packet", "delete", "vf/9"]):
        line.bad(*words)
    line.ok("component", "create", "vf/1", "classifier", "classifier", "2")
    line.ok("component", "create", "vf/1", "merger", "merge", "3")
    line.ok("port", "attach", "vf/1", "classifier", "phy:0", "rx")
    line.ok("port", "attach", "vf/1", "classifier", "vhost:0", "tx", "--pop")
    line.ok("port", "attach", "vf/1", "merger", "vhost:0", "rx", "--push", "100:3")
    line.ok("port", "attach", "vf/1", "merger", "phy:0", "tx")
    for words in (["port", "attach", "vf/1", "merger", "vhost:1", "rx", "--push", "5000"], ["port", "attach", "vf/1", "merger", "vhost:1", "rx", "--push", "1:9"],
                  ["port", "attach", "vf/1", "merger", "vhost:1", "rx", "--push", "1", "--pop"], ["port", "attach", "vf/1", "none", "vhost:1", "rx"],
                  ["port", "attach", "vf/1", "a/b", "vhost:1", "rx"], ["component", "create", "vf/1", "x", "merge", "two"],
                  ["classifier", "add", "vf/1", "nonsense", "vhost:0"], ["classifier", "add", "vf/1", "default", "vhost:0", "--vlan", "9999"]):  # fmt: skip
        line.bad(*words)
    line.ok("classifier", "add", "vf/1", "fa:16:3e:00:00:01", "vhost:0", "--vlan", "100")
    line.ok("classifier", "add", "vf/1", "default", "vhost:0")
    assert line.ok("classifier", "list", "vf/1") == "ADDRESS            VLAN  PORT\nfa:16:3e:00:00:01   100  vhost:0\ndefault               -  vhost:0\n"
    assert line.ok("component", "list", "vf/1") == ("COMPONENT   TYPE        CORE  RX           TX\n"
                                                     "classifier  classifier     2  phy:0        vhost:0-tag\n"
                                                     "merger      merge          3  vhost:0+100  phy:0\n")  # fmt: skip
    assert line.ok("port", "list", "vf/1") == "phy:0\nvhost:0\n"
    assert line.ok("packet", "list") == "PROCESS    MASTER  CORES\nprimary/0       0  \nvf/1            1  2,3\nnfv/2           1  9\n", line.ok("packet", "list")
    assert json.loads(line.ok("classifier", "list", "vf/1", "-o", "json"))[1]["value"] == "default"
    out = subprocess.run([program, "-s", str(daemon.plane_socket), "packet", "top", "--interval-ms", "50", "--count", "2"],
                         capture_output=True, text=True, timeout=60, check=True).stdout  # fmt: skip
    assert out.count("COMPONENT") == 2 and "vf:1:classifier" in out and "worker 0: " in out and "buffers: " in out, out
    assert line.ok("port", "policy", "vhost:0") == "addresses: any\ntags: any\nin: any\nout: any\n"
    line.ok("port", "policy", "vhost:0", "--macs", "fa:16:3e:00:00:01,fa:16:3e:00:00:02", "--untagged", "--rx-bits", "10G", "--tx-frames", "5k")
    assert line.ok("port", "policy", "vhost:0") == ("addresses: fa:16:3e:00:00:01, fa:16:3e:00:00:02\ntags: none\n"
                                                     "in: 10000000000 bit/s\nout: 5000 frames/s\n")  # fmt: skip
    line.ok("port", "policy", "vhost:0", "--vlans", "100,200")
    assert line.ok("port", "policy", "vhost:0") == "addresses: any\ntags: none, or: 100, 200\nin: any\nout: any\n"
    assert json.loads(line.ok("port", "policy", "vhost:0", "-o", "json"))["vlans"] == [100, 200]
    for words in (["--macs", "x"], ["--vlans", "100,x"], ["--vlans", "5000"], ["--rx-bits", "500G"], ["--rx-bits", "G"], ["--none", "--untagged"]):
        line.bad("port", "policy", "vhost:0", *words)
    line.ok("port", "policy", "vhost:0", "--none")
    assert line.ok("port", "policy", "vhost:0", "-o", "json").split() == ["{}"]
    line.ok("port", "attach", "vf/1", "merger", "ring:9", "tx", "--hairpin")
    line.ok("port", "attach", "vf/1", "classifier", "ring:9", "rx", "--hairpin")
    line.bad("port", "attach", "vf/1", "merger", "ring:8", "rx", "--hairpin")
    told = json.loads(line.ok("component", "list", "vf/1", "-o", "json"))["components"]
    assert [[end["port"] for end in component["tx_port"] if end.get("hairpin")] for component in told] == [[], ["ring:9"]], told
    line.ok("port", "detach", "vf/1", "merger", "ring:9", "tx")
    line.ok("port", "detach", "vf/1", "classifier", "ring:9", "rx")

    plane_line = Line(program, "-s", str(daemon.plane_socket))
    with tempfile.TemporaryDirectory(prefix="spp-cli-") as folder:
        file = pathlib.Path(folder) / "frames.pcap"
        assert "not captured" in plane_line.bad("port", "capture", "phy:0")
        plane_line.ok("port", "capture", "phy:0", str(file), "--filter", "ip", "--direction", "rx", "--limit-bytes", "100000")
        assert plane_line.ok("port", "capture", "phy:0") == "0 frames, 24 bytes, 0 lost\n", plane_line.ok("port", "capture", "phy:0")
        for words in (["phy:0", str(file)], ["phy:9", str(file)], ["vhost:0", str(file), "--filter", "no such"], ["vhost:0", str(file), "--snap-length", "x"]):
            plane_line.bad("port", "capture", *words)
        assert plane_line.ok("port", "capture", "phy:0", "--stop") == "0 frames, 24 bytes, 0 lost\n"
        plane_line.bad("port", "capture", "phy:0", "--stop")
        assert file.stat().st_size == 24
    line.ok("classifier", "remove", "vf/1", "default", "vhost:0")
    line.ok("port", "detach", "vf/1", "merger", "vhost:0", "rx")
    line.ok("component", "delete", "vf/1", "merger")
    line.ok("packet", "delete", "vf/1")
    assert daemon.get("/v1/processes") == [{"type": "primary"}, {"type": "nfv", "client-id": 2}]


def main():
    program, daemon_program, plane = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="spp-cli-") as folder, rig.Daemon(daemon_program, plane, folder, ["--interface", "null"]) as daemon:
        daemon.start()
        try:
            verbs(program, daemon)
        except Exception:
            print(daemon.log())
            raise
        if etcd_module.find() is None:
            print("packet setup is skipped: there is no etcd (Debian: etcd-server)")
            return
        with etcd_module.Etcd(pathlib.Path(folder), daemon.address) as etcd:
            setup(program, etcd)
            setup_under_tls(program, etcd, pathlib.Path(folder))


main()
