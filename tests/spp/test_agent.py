#!/usr/bin/env python3
"""The agent of penstockd on a real etcd, with a real packet plane: what a mechanism driver asks for, in the order in which the old one
does it, and what stands in etcd and in the plane afterwards.

Usage: test_agent.py PENSTOCKD PENSTOCK-PACKET [CASE]"""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import etcd as etcd_module
import rig

HOST = "spp4"
ROOT = "/spp/openstack/"
# The seed's example, as it stands there.
CONFIGURATION = '[{"num_vhost": 2, "pci_address": "00:04.0", "physical_network": "phys1", "core_mask": "0xfe"}, {"num_vhost": 2, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xfc02"}]'
PORT = "6160c9da-b2d5-4236-8413-7d646e5c0ae2"
OTHER = "0b0f4d0e-4e5c-4a6e-9f3c-7a52d6a7f9c1"
MAC = "fa:16:3e:a0:da:db"


def key(folder, *rest):
    return ROOT + "/".join((folder, HOST, *map(str, rest)))


def configure(etcd, configuration=CONFIGURATION):
    etcd.put(key("configuration"), configuration)
    vhost = 0
    nics = json.loads(configuration)
    for mirror in range(len(nics["mirror"]) if isinstance(nics, dict) and "mirror" in nics else 0):
        etcd.put(key("mirror", mirror), "None")
    for nic in nics["vf"] if isinstance(nics, dict) else nics:
        for _ in range(nic["num_vhost"]):
            etcd.put(key("vhost", nic["physical_network"], vhost), "None")
            vhost += 1


def bind(etcd, port=PORT, network="phys1", vhost=0, mac=MAC, vlan=None):
    """What the old driver does, up to its waiting."""
    assert etcd.replace(key("vhost", network, vhost), "None", port)
    more = {} if vlan is None else {"vlan_id": vlan}
    etcd.put(key("bind_port", port), json.dumps({"vhost_id": vhost, "mac_address": mac, **more}))
    etcd.put(key("action", port), "plug")


def wait_up(etcd, port=PORT):
    rig.until(lambda: etcd.get(key("port_status", port)) == "up", "the port is up")


def wait_gone(etcd, port=PORT):
    keys = [key(folder, port) for folder in ("action", "bind_port", "port_status")]
    rig.until(lambda: [etcd.get(one) for one in keys] == [None] * 3, "the port is unplugged")


def classifier(daemon, vf=1):
    return sorted((entry["mac"], entry.get("vlan"), entry["port"]) for entry in daemon.plane("packet_get_classifier", component=f"vf:{vf}:classifier"))


def end_of(daemon, component, side, port):
    for found in daemon.plane("packet_get_components", name=component):
        for end in found[side]:
            if end["port"] == port:
                return end["vlan"]
    return None


def wait_wired(daemon, name="vf:2:merger", count=2):
    def wired():
        components = daemon.plane("packet_get_components") or []
        return any(component["name"] == name and len(component["rx"]) == count and component["tx"] for component in components)

    rig.until(wired, "the NICs are wired")


def test_wiring_of_the_seed(daemon, etcd):
    """Two NICs with two vhosts each: names, ports and cores as networking-spp has them."""
    configure(etcd)
    cpus = sorted(os.sched_getaffinity(0))
    daemon.cpu_map = f"1={cpus[0]},2-7={cpus[0]},10-15={cpus[-1]}"  # two processors do for the seed's sixteen cores
    daemon.start()
    wait_wired(daemon)
    cores = {component["name"]: component["core"] for vf in (1, 2) for component in daemon.get(f"/v1/vfs/{vf}")["components"]}
    assert cores == {"forward_0_tx": 2, "forward_0_rx": 3, "forward_1_tx": 4, "forward_1_rx": 5, "forward_2_tx": 10, "forward_2_rx": 11,
                     "forward_3_tx": 12, "forward_3_rx": 13, "classifier": 14, "merger": 15}, cores  # fmt: skip
    first = {component["name"]: component for component in daemon.get("/v1/vfs/1")["components"]}
    assert (first["classifier"]["core"], first["merger"]["core"]) == (6, 7)
    assert [(vf["id"], vf["core_mask"], vf["master"]) for vf in daemon.plane("packet_get_vfs")] == [(1, "0xfe", 1), (2, "0xfc02", 1)]
    places = daemon.places()
    assert places["vf:1:classifier"] == (1, 6, cpus[0]) and places["vf:2:classifier"] == (2, 14, cpus[-1]), places
    assert {(vf, core) for vf, core, _ in places.values()} == {(1, core) for core in range(2, 8)} | {(2, core) for core in range(10, 16)}, places
    ends = {name: ([end["port"] for end in part["rx_port"]], [end["port"] for end in part["tx_port"]]) for name, part in first.items()}
    assert ends == {"forward_0_tx": (["ring:0"], ["vhost:0"]), "forward_0_rx": (["vhost:0"], ["ring:1"]), "forward_1_tx": (["ring:2"], ["vhost:1"]),
                    "forward_1_rx": (["vhost:1"], ["ring:3"]), "classifier": (["phy:0"], ["ring:0", "ring:2"]),
                    "merger": (["ring:1", "ring:3"], ["phy:0"])}, ends  # fmt: skip
    assert {part["type"] for part in first.values()} == {"forward", "classifier", "merge"}
    assert daemon.plane("packet_get_ports", name="vhost:3")[0]["where"] == str(daemon.folder / "sock3")
    assert daemon.get("/v1/processes") == [{"type": "primary"}, {"type": "vf", "client-id": 1}, {"type": "vf", "client-id": 2}]


def test_hairpin(daemon, etcd):
    """On and off again; nothing else of the wiring changes."""
    configure(etcd)
    plain = daemon.options
    turns = lambda: {(c["name"], end["port"]) for c in daemon.plane("packet_get_components") or [] for end in c["rx"] + c["tx"] if end["hairpin"]}  # noqa: E731
    for choice, wanted in (("off", set()), ("on", {(f"vf:{i}:{name}", f"ring:{59999 + i}") for i in (1, 2) for name in ("merger", "classifier")}),
                           ("off", set())):  # fmt: skip
        daemon.options = [*plain, "--agent-hairpin", choice]
        daemon.start()
        wait_wired(daemon)
        rig.until(lambda wanted=wanted: turns() == wanted, f"hairpin is {choice}")
        daemon.kill()
    daemon.start()


def test_plug_and_unplug(daemon, etcd):
    """Flat and VLAN: the transcript of etcd, and what the plane does with tags."""
    configure(etcd)
    daemon.start()
    rig.until(lambda: etcd.get(ROOT + "agent/" + HOST) is not None, "the agent's own key is there")
    since = etcd.revision()
    bind(etcd)
    wait_up(etcd)
    assert classifier(daemon) == [(MAC, None, "ring:0")]
    etcd.put(key("action", PORT), "unplug")
    wait_gone(etcd)
    assert classifier(daemon) == []
    history = etcd.history(since)
    assert history == [
        f"put {key('vhost', 'phys1', 0)} {PORT}",
        f"put {key('bind_port', PORT)} " + json.dumps({"vhost_id": 0, "mac_address": MAC}),
        f"put {key('action', PORT)} plug",
        f"put {key('port_status', PORT)} up",
        f"put {key('action', PORT)} unplug",
        f"put {key('vhost', 'phys1', 0)} None",
        f"delete {key('bind_port', PORT)}",
        f"delete {key('action', PORT)}",
        f"delete {key('port_status', PORT)}",
    ], "\n".join(history)

    since = etcd.revision()
    bind(etcd, OTHER, "phys2", 3, "FA:16:3E:00:00:03", 100)
    wait_up(etcd, OTHER)
    assert classifier(daemon, 2) == [("fa:16:3e:00:00:03", 100, "ring:6")]
    assert end_of(daemon, "vf:2:forward_3_rx", "rx", "vhost:3") == {"operation": "add", "id": 100, "pcp": 0}
    assert end_of(daemon, "vf:2:classifier", "tx", "ring:6") == {"operation": "del"}
    assert end_of(daemon, "vf:2:forward_2_rx", "rx", "vhost:2") == {"operation": "none"}
    table = daemon.get("/v1/vfs/2")["classifier_table"]
    assert table == [{"type": "vlan", "value": "100/fa:16:3e:00:00:03", "port": "ring:6"}], table
    etcd.put(key("action", OTHER), "unplug")
    wait_gone(etcd, OTHER)
    assert classifier(daemon, 2) == []
    assert end_of(daemon, "vf:2:forward_3_rx", "rx", "vhost:3") == {"operation": "none"}
    assert end_of(daemon, "vf:2:classifier", "tx", "ring:6") == {"operation": "none"}
    assert etcd.history(since)[3:] == [
        f"put {key('port_status', OTHER)} up",
        f"put {key('action', OTHER)} unplug",
        f"put {key('vhost', 'phys2', 3)} None",
        f"delete {key('bind_port', OTHER)}",
        f"delete {key('action', OTHER)}",
        f"delete {key('port_status', OTHER)}",
    ]
    # Another address, or another VLAN, on the same vhost takes effect.
    bind(etcd, vlan=7)
    wait_up(etcd)
    etcd.put(key("bind_port", PORT), json.dumps({"vhost_id": 0, "mac_address": MAC, "vlan_id": 8}))
    etcd.put(key("action", PORT), "plug")
    rig.until(lambda: classifier(daemon) == [(MAC, 8, "ring:0")], "the other VLAN")
    assert end_of(daemon, "vf:1:forward_0_rx", "rx", "vhost:0") == {"operation": "add", "id": 8, "pcp": 0}


def test_unplug_of_another_owners_vhost(daemon, etcd):
    """The vhost key is given back only if it is this port's."""
    configure(etcd)
    daemon.start()
    bind(etcd)
    wait_up(etcd)
    etcd.put(key("vhost", "phys1", 0), OTHER)
    etcd.put(key("bind_port", OTHER), "{}")
    etcd.put(key("action", PORT), "unplug")
    wait_gone(etcd)
    assert etcd.get(key("vhost", "phys1", 0)) == OTHER


def test_recovery(daemon, etcd):
    """Asked for while nobody was there; deaths of the agent, the plane and both; a watch whose history is compacted."""
    configure(etcd)
    bind(etcd)
    bind(etcd, OTHER, "phys2", 2, "fa:16:3e:00:00:02", 200)
    daemon.start()
    wait_up(etcd)
    wait_up(etcd, OTHER)
    tables = daemon.tables()

    daemon.kill()
    etcd.put(key("action", PORT), "unplug")
    daemon.start()
    wait_gone(etcd)
    assert classifier(daemon) == [] and classifier(daemon, 2) == [("fa:16:3e:00:00:02", 200, "ring:4")]
    bind(etcd)
    wait_up(etcd)
    assert daemon.tables() == tables

    daemon.kill_plane()
    etcd.put(key("action", OTHER), "unplug")
    wait_gone(etcd, OTHER)
    assert classifier(daemon) == [(MAC, None, "ring:0")] and classifier(daemon, 2) == []

    daemon.kill()
    daemon.kill_plane()
    bind(etcd, OTHER, "phys2", 2, "fa:16:3e:00:00:02", 200)
    daemon.start()
    wait_up(etcd, OTHER)
    rig.until(lambda: daemon.tables() == tables, "all is as it was")

    # While the agent hears nothing, its connection goes, and so does the history from where it listened.
    daemon.process.send_signal(signal.SIGSTOP)
    etcd.kill()
    etcd.start()
    etcd.put(key("action", OTHER), "unplug")
    for i in range(20):
        etcd.put(key("noise"), str(i))
    etcd.compact()
    daemon.process.send_signal(signal.SIGCONT)
    wait_gone(etcd, OTHER)
    bind(etcd, OTHER, "phys2", 2, "fa:16:3e:00:00:02", 200)
    wait_up(etcd, OTHER)
    assert daemon.tables() == tables


def test_bad_values(daemon, etcd):
    """What is wrong in etcd is told, changes nothing, stops nobody, and is taken up when it is mended."""
    daemon.start()
    for wrong in ("", "{", "[]", "{}", '"x"', "[1]", "null", CONFIGURATION[:40], CONFIGURATION.replace("0xfc02", "0x8e"), CONFIGURATION.replace("phys2", "phys1"),
                  CONFIGURATION.replace("00:05.0", "eth0"), CONFIGURATION.replace("0xfe", "0x3e"), CONFIGURATION.replace("2,", '"2",', 1),
                  CONFIGURATION.replace('"num_vhost": 2', '"num_vhost": 2, "num_vhost": 3', 1)):  # fmt: skip
        etcd.put(key("configuration"), wrong)
    rig.until(lambda: daemon.log().count("waiting for a configuration") >= 2, "it is told")
    assert daemon.plane_pid() is None and daemon.get("/v1/processes") == [{"type": "primary"}]
    configure(etcd)
    wait_wired(daemon)

    good = json.dumps({"vhost_id": 1, "mac_address": MAC})
    for index, wrong in enumerate(("", "{", good[:20], "[]", "7", '{"vhost_id": 1}', '{"vhost_id": "1", "mac_address": "fa:16:3e:00:00:01"}', good.replace("1", "4", 1),
                                   good.replace(MAC, "default"), good.replace(MAC, "fa:16:3e"), good.replace("}", ', "vlan_id": 4096}'),
                                   good.replace("}", ', "vlan_id": "7"}'), '{"vhost_id": -1, "mac_address": "fa:16:3e:00:00:01"}')):  # fmt: skip
        etcd.put(key("bind_port", f"bad{index}"), wrong)
        etcd.put(key("action", f"bad{index}"), "plug")
    etcd.put(key("action", "nothing"), "plug")
    etcd.put(key("action", "what"), "reboot")
    etcd.put(key("action") + "/", "plug")
    etcd.put(key("action", "a/b"), "plug")
    etcd.put(key("action", "x" * 200), "plug")
    tables = daemon.tables()
    bind(etcd)
    wait_up(etcd)
    assert [status for status in etcd.prefix(key("port_status"))] == [key("port_status", PORT)]
    assert classifier(daemon) == [(MAC, None, "ring:0")]
    # Mended: taken up, by itself.
    etcd.put(key("bind_port", "bad2"), good.replace(MAC, "fa:16:3e:00:00:02"))
    wait_up(etcd, "bad2")
    assert classifier(daemon) == [("fa:16:3e:00:00:02", None, "ring:2"), (MAC, None, "ring:0")]
    # Taken away: also those that never were well.
    for port in (PORT, *(f"bad{index}" for index in range(13))):
        etcd.put(key("action", port), "unplug")
    for port in (PORT, *(f"bad{index}" for index in range(13))):
        wait_gone(etcd, port)
    assert daemon.tables() == tables
    assert etcd.get(key("vhost", "phys1", 0)) == "None"
    # A configuration that is wrong later on leaves what there is.
    etcd.put(key("configuration"), "{")
    bind(etcd)
    wait_up(etcd)
    assert daemon.process.poll() is None


def test_a_vhost_that_leaked(daemon, etcd):
    """Taken, and then the driver died before it asked for anything: it is free again, but not one that is about to be plugged."""
    configure(etcd)
    daemon.options = [*daemon.options, "--agent-reclaim-ms", "400"]
    bind(etcd)  # earlier: what the agent sees half of for so long has leaked
    daemon.start()
    wait_up(etcd)
    assert etcd.replace(key("vhost", "phys1", 1), "None", OTHER)
    rig.until(lambda: etcd.get(key("vhost", "phys1", 1)) == "None", "the vhost is free again")
    assert etcd.get(key("vhost", "phys1", 0)) == PORT
    etcd.put(key("bind_port", OTHER), json.dumps({"vhost_id": 2, "mac_address": "fa:16:3e:00:00:09"}))
    assert etcd.replace(key("vhost", "phys2", 2), "None", OTHER)
    time.sleep(1.5)
    assert etcd.get(key("vhost", "phys2", 2)) == OTHER


def test_changed_its_mind(daemon, etcd):
    """Plug and unplug in turn, faster than they can be done: the last one counts, and nothing is left of the others."""
    configure(etcd)
    daemon.start()
    wait_wired(daemon)
    for _ in range(20):
        etcd.put(key("vhost", "phys1", 0), PORT)
        etcd.put(key("bind_port", PORT), json.dumps({"vhost_id": 0, "mac_address": MAC, "vlan_id": 5}))
        etcd.put(key("action", PORT), "plug")
        etcd.put(key("action", PORT), "unplug")
    wait_gone(etcd)
    left = lambda: (classifier(daemon), etcd.prefix(key("port_status")), etcd.prefix(key("action")), etcd.get(key("vhost", "phys1", 0)))  # noqa: E731
    rig.until(lambda: left() == ([], {}, {}, "None"), "nothing is left")
    bind(etcd)
    wait_up(etcd)


def test_the_later_form(daemon, etcd):
    """{"vf": [...]} with components of one's own: no forwards, and tags where the vhost meets the classifier and the merger."""
    nic = {"num_vhost": 1, "pci_address": "0000:00:04.0", "physical_network": "phys1", "core_mask": "0x7"}
    parts = [{"name": "classifier", "core": 1, "type": "classifier_mac", "rx_port": ["phy:0"], "tx_port": ["vhost:0"]},
             {"name": "merger", "core": 2, "type": "merge", "rx_port": ["vhost:0"], "tx_port": ["phy:0"]}]  # fmt: skip
    configure(etcd, json.dumps({"vf": [{**nic, "components": parts}]}))
    daemon.start()
    bind(etcd, vlan=9)
    wait_up(etcd)
    assert classifier(daemon) == [(MAC, 9, "vhost:0")]
    assert end_of(daemon, "vf:1:merger", "rx", "vhost:0") == {"operation": "add", "id": 9, "pcp": 0}
    assert end_of(daemon, "vf:1:classifier", "tx", "vhost:0") == {"operation": "del"}
    # More of it, later: the usual wiring beside what there is.
    configure(etcd, json.dumps({"vf": [{**nic, "components": parts}, {"num_vhost": 1, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xf01"}]}))
    wait_wired(daemon, count=1)
    bind(etcd, OTHER, "phys2", 1, "fa:16:3e:00:00:05")
    wait_up(etcd, OTHER)
    assert classifier(daemon, 2) == [("fa:16:3e:00:00:05", None, "ring:2")]


# ---- taps ----

MIRRORS = [{"core": 16, "ports": ["ring:8", "ring:9"]}, {"core": 17, "ports": ["ring:10", "ring:11"]}]
MIRRORED = json.dumps({"vf": json.loads(CONFIGURATION), "mirror": MIRRORS})
FLOW, ANOTHER = "7d1f9f0c-33a9-4d3e-8d0b-52b0a7c8e5d1", "f4b6c6ea-1a52-4c0b-93a2-0ad5c6c3fd02"


def tap(etcd, flow, source, service, mirror_in=None, mirror_out=None):
    """What the old service driver does, up to its waiting."""
    for mirror in (mirror_in, mirror_out):
        assert mirror is None or etcd.replace(key("mirror", mirror), "None", flow)
    etcd.put(key("tap_info", flow), json.dumps({"service_port": service, "source_port": source, "mirror_in": mirror_in, "mirror_out": mirror_out}))
    etcd.put(key("tap_action", flow), "plug")


def wait_tapped(etcd, flow=FLOW):
    rig.until(lambda: etcd.get(key("tap_status", flow)) == "up", "the flow is up")


def wait_untapped(etcd, flow=FLOW):
    keys = [key(folder, flow) for folder in ("tap_action", "tap_info", "tap_status")]
    rig.until(lambda: [etcd.get(one) for one in keys] == [None] * 3, "the flow is unplugged")


def ends(daemon, *names):
    """{component: (inputs, outputs)}"""
    components = daemon.tables()[0]
    return {name: (sorted(components[name][1]), sorted(components[name][2])) for name in names if name in components}


def begin_taps(daemon, etcd):
    """Two plugged ports: vhost 0, untagged, and vhost 2 in VLAN 200. The tables before any tap."""
    configure(etcd, MIRRORED)
    if daemon.process is None:
        daemon.start()
    bind(etcd)
    bind(etcd, OTHER, "phys2", 2, "fa:16:3e:00:00:02", 200)
    wait_up(etcd)
    wait_up(etcd, OTHER)
    return daemon.tables()


def test_taps(daemon, etcd):
    """Both ways of a port, copied to another one: the transcript of etcd, and what stands between."""
    tables = begin_taps(daemon, etcd)
    assert daemon.get("/v1/mirrors/3")["components"] == [{"core": 16 + i, "name": f"mirror_{i}", "type": "mirror", "rx_port": [], "tx_port": []} for i in range(2)]
    assert tables[0]["vf:1:forward_0_tx"][0] == "merge" and tables[0]["vf:1:forward_0_rx"][0] == "forward"
    since = etcd.revision()
    tap(etcd, FLOW, PORT, OTHER, 0, 1)
    wait_tapped(etcd)
    assert ends(daemon, "mirror:3:mirror_0", "mirror:3:mirror_1", "vf:1:forward_0_tx", "vf:1:forward_0_rx", "vf:2:forward_2_tx", "vf:1:classifier", "vf:1:merger") == {
        "mirror:3:mirror_0": (["ring:0"], ["ring:8", "ring:9"]), "mirror:3:mirror_1": (["ring:11"], ["ring:1", "ring:10"]),
        "vf:1:forward_0_tx": (["ring:9"], ["vhost:0"]), "vf:1:forward_0_rx": (["vhost:0"], ["ring:11"]),
        "vf:2:forward_2_tx": (["ring:10", "ring:4", "ring:8"], ["vhost:2"]), "vf:1:classifier": (["phy:0"], ["ring:0", "ring:2"]),
        "vf:1:merger": (["ring:1", "ring:3"], ["phy:0"])}  # fmt: skip
    etcd.put(key("tap_action", FLOW), "unplug")
    wait_untapped(etcd)
    assert daemon.tables() == tables
    history = etcd.history(since)
    assert history == [
        f"put {key('mirror', 0)} {FLOW}",
        f"put {key('mirror', 1)} {FLOW}",
        f"put {key('tap_info', FLOW)} " + json.dumps({"service_port": OTHER, "source_port": PORT, "mirror_in": 0, "mirror_out": 1}),
        f"put {key('tap_action', FLOW)} plug",
        f"put {key('tap_status', FLOW)} up",
        f"put {key('tap_action', FLOW)} unplug",
        f"put {key('mirror', 0)} None",
        f"put {key('mirror', 1)} None",
        f"delete {key('tap_info', FLOW)}",
        f"delete {key('tap_action', FLOW)}",
        f"delete {key('tap_status', FLOW)}",
    ], "\n".join(history)
    # What a guest in a VLAN sends is copied without the tag that the agent has it given.
    tap(etcd, FLOW, OTHER, PORT, None, 0)
    wait_tapped(etcd)
    assert ends(daemon, "mirror:3:mirror_0", "vf:2:forward_2_rx") == {"mirror:3:mirror_0": (["ring:9"], ["ring:5", "ring:8"]), "vf:2:forward_2_rx": (["vhost:2"], ["ring:9"])}
    assert end_of(daemon, "vf:1:forward_0_tx", "rx", "ring:8") == {"operation": "del"}
    etcd.put(key("bind_port", OTHER), json.dumps({"vhost_id": 2, "mac_address": "fa:16:3e:00:00:02"}))
    etcd.put(key("action", OTHER), "plug")
    tags = lambda: (end_of(daemon, "vf:1:forward_0_tx", "rx", "ring:8"), end_of(daemon, "vf:2:classifier", "tx", "ring:4"))  # noqa: E731
    rig.until(lambda: tags() == ({"operation": "none"}, {"operation": "none"}), "nothing is taken from what has no tag")
    # Another way of copying, asked for without an end of the first.
    etcd.put(key("tap_info", FLOW), json.dumps({"service_port": PORT, "source_port": OTHER, "mirror_in": 0}))
    etcd.put(key("tap_action", FLOW), "plug")
    rig.until(lambda: ends(daemon, "mirror:3:mirror_0") == {"mirror:3:mirror_0": (["ring:4"], ["ring:8", "ring:9"])}, "it copies what the port gets")
    # A port whose address or VLAN changes while it is tapped.
    etcd.put(key("bind_port", OTHER), json.dumps({"vhost_id": 2, "mac_address": "fa:16:3e:00:00:07", "vlan_id": 9}))
    etcd.put(key("action", OTHER), "plug")
    rig.until(lambda: classifier(daemon, 2) == [("fa:16:3e:00:00:07", 9, "ring:4")], "the other address")
    assert ends(daemon, "mirror:3:mirror_0") == {"mirror:3:mirror_0": (["ring:4"], ["ring:8", "ring:9"])}


def test_several_taps(daemon, etcd):
    """Two flows to one port; two of one port, and the first of them goes; one each way round."""
    tables = begin_taps(daemon, etcd)
    bind(etcd, "third", "phys1", 1, "fa:16:3e:00:00:03")
    wait_up(etcd, "third")
    tables = daemon.tables()
    for flows in (((FLOW, PORT, OTHER), (ANOTHER, "third", OTHER)), ((FLOW, PORT, OTHER), (ANOTHER, PORT, "third")), ((FLOW, PORT, OTHER), (ANOTHER, OTHER, PORT)),
                  ((FLOW, PORT, PORT), (ANOTHER, PORT, PORT))):  # fmt: skip
        for out in (False, True):
            for first_goes in (False, True):
                shapes = []
                for mirror, (flow, source, service) in enumerate(flows):
                    tap(etcd, flow, source, service, **{"mirror_out" if out else "mirror_in": mirror})
                    wait_tapped(etcd, flow)
                    shapes.append(daemon.tables())
                    assert all(len(component[1]) == 1 and len(component[2]) == 2 for name, component in shapes[-1][0].items()
                               if name.startswith("mirror") and int(name[-1]) <= mirror), shapes[-1]  # fmt: skip
                order = flows if first_goes else flows[::-1]
                etcd.put(key("tap_action", order[0][0]), "unplug")
                wait_untapped(etcd, order[0][0])
                if not first_goes:
                    assert daemon.tables() == shapes[0]
                etcd.put(key("tap_action", order[1][0]), "unplug")
                wait_untapped(etcd, order[1][0])
                assert daemon.tables() == tables, (flows, out, first_goes)


def test_taps_of_ports_that_go(daemon, etcd):
    """The source or the service port is unplugged while the flow is there: the flow ends first. Plugged again, and asked for anew, it is back."""
    tables = begin_taps(daemon, etcd)
    for gone, network, vhost, mac, vlan in ((PORT, "phys1", 0, MAC, None), (OTHER, "phys2", 2, "fa:16:3e:00:00:02", 200)):
        tap(etcd, FLOW, PORT, OTHER, 1, 0)
        wait_tapped(etcd)
        since = etcd.revision()
        etcd.put(key("action", gone), "unplug")
        wait_gone(etcd, gone)
        assert etcd.history(since) == [
            f"put {key('action', gone)} unplug",
            f"put {key('mirror', 0)} None",
            f"put {key('mirror', 1)} None",
            f"delete {key('tap_info', FLOW)}",
            f"delete {key('tap_action', FLOW)}",
            f"delete {key('tap_status', FLOW)}",
            f"put {key('vhost', network, vhost)} None",
            f"delete {key('bind_port', gone)}",
            f"delete {key('action', gone)}",
            f"delete {key('port_status', gone)}",
        ]
        assert ends(daemon, "mirror:3:mirror_0", "mirror:3:mirror_1") == {"mirror:3:mirror_0": ([], []), "mirror:3:mirror_1": ([], [])}
        # Asked for before the port is there again: it waits.
        tap(etcd, FLOW, PORT, OTHER, 0)
        rig.until(lambda gone=gone: f"port {gone} is not plugged on this host" in daemon.log(), "it says what it waits for")
        assert etcd.get(key("tap_status", FLOW)) is None
        bind(etcd, gone, network, vhost, mac, vlan)
        wait_tapped(etcd)
        etcd.put(key("tap_action", FLOW), "unplug")
        wait_untapped(etcd)
        assert daemon.tables() == tables
    # Without a tap_info that can be read, nothing is copied from a vhost any more when its port goes.
    tap(etcd, FLOW, PORT, OTHER, 0, 1)
    wait_tapped(etcd)
    etcd.put(key("tap_info", FLOW), "{")
    etcd.put(key("action", PORT), "unplug")
    wait_gone(etcd)
    assert ends(daemon, "mirror:3:mirror_0", "mirror:3:mirror_1") == {"mirror:3:mirror_0": ([], []), "mirror:3:mirror_1": ([], [])}
    etcd.put(key("tap_action", FLOW), "unplug")
    wait_untapped(etcd)
    assert set(etcd.prefix(key("mirror")).values()) == {"None"}


def test_recovery_of_taps(daemon, etcd):
    """Deaths of agent, plane and both; asked for while nobody listens; a watch whose history is compacted; other mirrors."""
    plain = begin_taps(daemon, etcd)
    tap(etcd, FLOW, PORT, OTHER, 0, 1)
    wait_tapped(etcd)
    tapped = daemon.tables()
    for kills in ((daemon.kill,), (daemon.kill_plane,), (daemon.kill, daemon.kill_plane)):
        for kill in kills:
            kill()
        if daemon.process is None:
            daemon.start()
        rig.until(lambda: daemon.plane("packet_get_ports") and daemon.tables() == tapped, "all is as it was")
    daemon.kill()
    etcd.put(key("tap_action", FLOW), "unplug")
    daemon.start()
    wait_untapped(etcd)
    assert daemon.tables() == plain
    daemon.process.send_signal(signal.SIGSTOP)
    etcd.kill()
    etcd.start()
    tap(etcd, FLOW, PORT, OTHER, 0, 1)
    for i in range(20):
        etcd.put(key("noise"), str(i))
    etcd.compact()
    daemon.process.send_signal(signal.SIGCONT)
    wait_tapped(etcd)
    assert daemon.tables() == tapped
    # Other rings: what is tapped is tapped by these. No mirrors: nothing is. Mirrors again: it is.
    others = [{"core": 17, "ports": ["ring:20", "ring:21"]}, {"core": 17, "ports": ["ring:22", "ring:23"]}]
    etcd.put(key("configuration"), json.dumps({"vf": json.loads(CONFIGURATION), "mirror": others}))
    rig.until(lambda: ends(daemon, "vf:2:forward_2_tx") == {"vf:2:forward_2_tx": (["ring:20", "ring:22", "ring:4"], ["vhost:2"])}, "copies come by other rings")
    etcd.put(key("configuration"), CONFIGURATION)
    rig.until(lambda: not any(name.startswith("mirror") for name in daemon.tables()[0]), "there are no mirrors")
    plain = {"vf:1:forward_0_tx": (["ring:0"], ["vhost:0"]), "vf:1:forward_0_rx": (["vhost:0"], ["ring:1"]), "vf:2:forward_2_tx": (["ring:4"], ["vhost:2"])}
    rig.until(lambda: ends(daemon, *plain) == plain, "nothing is between")
    assert daemon.tables()[0]["vf:1:forward_0_tx"][0] == "forward"
    etcd.put(key("configuration"), MIRRORED)
    rig.until(lambda: daemon.tables() == tapped, "it is tapped again")


def test_bad_taps(daemon, etcd):
    """What is wrong with flows is told, changes nothing, stops nobody, and is taken up when it is mended."""
    for wrong in ('[{"core": 16}]', '[{"core": 16, "ports": ["ring:8"]}]', '[{"core": 16, "ports": ["ring:8", "ring:8"]}]', '[{"core": 16, "ports": ["ring:7", "ring:8"]}]',
                  '[{"core": 16, "ports": ["phy:0", "ring:8"]}]', '[{"core": 5, "ports": ["ring:8", "ring:9"]}]', '[{"core": 1, "ports": ["ring:8", "ring:9"]}]',
                  '[{"core": 64, "ports": ["ring:8", "ring:9"]}]', '{"core": 16}', "7", '[{"core": 16, "ports": ["ring:8", "ring:60000"]}]'):  # fmt: skip
        etcd.put(key("configuration"), '{"vf": ' + CONFIGURATION + ', "mirror": ' + wrong + "}")
        if daemon.process is None:
            daemon.start()
        said = daemon.log().count("waiting for a configuration")
        etcd.put(key("configuration"), '{"vf": ' + CONFIGURATION + ', "mirror": ' + wrong + "}")
        rig.until(lambda said=said: daemon.log().count("waiting for a configuration") > said, f"it is told: {wrong}")
    tables = begin_taps(daemon, etcd)
    good = {"service_port": OTHER, "source_port": PORT, "mirror_in": 0, "mirror_out": None}
    wrongs = ("", "{", "[]", "7", "{}", json.dumps({**good, "service_port": None}), json.dumps({**good, "source_port": "a/b"}), json.dumps({**good, "mirror_in": "0"}),
              json.dumps({**good, "mirror_in": 1}), json.dumps({**good, "mirror_in": -1}), json.dumps({**good, "mirror_in": None}), json.dumps({**good, "mirror_out": 0}),
              json.dumps({**good, "mirror_in": 2}), json.dumps({**good, "service_port": "elsewhere"}), json.dumps({**good, "service_port": "x" * 70}))  # fmt: skip
    etcd.put(key("mirror", 2), FLOW)  # more than are configured
    etcd.put(key("mirror", 0), FLOW)
    etcd.put(key("mirror", "zero"), FLOW)
    etcd.put(f"{ROOT}bind_port/other/elsewhere", json.dumps({"vhost_id": 1, "mac_address": MAC}))
    etcd.put(key("tap_action", "nothing"), "plug")
    etcd.put(key("tap_action", "what"), "reboot")
    etcd.put(key("tap_action") + "/", "plug")
    etcd.put(key("tap_action", "x" * 200), "plug")
    for wrong in wrongs:
        said = daemon.log().count(f"tap flow {FLOW}: ")
        etcd.put(key("tap_info", FLOW), wrong)
        etcd.put(key("tap_action", FLOW), "plug")
        rig.until(lambda said=said: daemon.log().count(f"tap flow {FLOW}: ") > said, f"it is told: {wrong}")
        assert etcd.get(key("tap_status", FLOW)) is None, wrong
    assert daemon.tables() == tables
    etcd.put(key("tap_info", FLOW), json.dumps(good))  # mended: taken up, by itself
    wait_tapped(etcd)
    # A mirror that is another flow's is not to be had.
    etcd.put(key("tap_info", ANOTHER), json.dumps({**good, "source_port": OTHER}))
    etcd.put(key("tap_action", ANOTHER), "plug")
    rig.until(lambda: f"tap flow {ANOTHER}: tap_info: mirror_in is no mirror of this flow's" in daemon.log(), "it is told")
    for flow in (ANOTHER, FLOW, "nothing"):
        etcd.put(key("tap_action", flow), "unplug")
        wait_untapped(etcd, flow)
    assert daemon.tables() == tables
    assert etcd.prefix(key("mirror")) == {key("mirror", 0): "None", key("mirror", 1): "None", key("mirror", 2): "None", key("mirror", "zero"): FLOW}
    # In quick turn: the last one counts.
    for _ in range(20):
        etcd.put(key("mirror", 0), FLOW)
        etcd.put(key("tap_info", FLOW), json.dumps(good))
        etcd.put(key("tap_action", FLOW), "plug")
        etcd.put(key("tap_action", FLOW), "unplug")
    wait_untapped(etcd)
    rig.until(lambda: daemon.tables() == tables and etcd.get(key("mirror", 0)) == "None" and etcd.prefix(key("tap_status")) == {}, "nothing is left")


def test_lease(daemon, etcd):
    """A key that says that the agent lives, and goes with it."""

    def lease():
        kvs = etcd.call("kv/range", key=etcd_module.coded(ROOT + "agent/" + HOST)).get("kvs", [])
        return kvs[0]["lease"] if kvs else None

    configure(etcd)
    daemon.options[daemon.options.index("--agent-lease") + 1] = "2"
    daemon.start()
    rig.until(lambda: lease() is not None, "the key is there")
    # The lease runs out while nobody can be asked for another one.
    before = lease()
    etcd.kill()
    rig.until(lambda: "no lease" in daemon.log(), "it has run out, or never was heard of, and there is no other one to be had")
    etcd.start()
    rig.until(lambda: lease() not in (None, before), "the key is there again, with another lease")
    daemon.kill()
    rig.until(lambda: etcd.get(ROOT + "agent/" + HOST) is None, "the key goes")


def test_under_tls(daemon, etcd):
    """Mutual TLS, and a user who may do no more than the agent needs."""
    etcd.kill()
    if not etcd.secure():
        print("note: no openssl command: TLS is not looked at")
        return
    etcd.start()
    configure(etcd)
    etcd.enable_users("agent", "a word", ROOT)
    word = daemon.folder / "word"
    word.write_text("another\n", encoding="utf-8")
    tls = ["--etcd-ca", etcd.file("ca.crt"), "--etcd-certificate", etcd.file("client.crt"), "--etcd-key", etcd.file("client.key")]
    plain = daemon.options
    # What does not go together is told before anything is begun.
    for options, told in ((["--etcd-user", "agent"], "etcd-user and etcd-password-file go together"), (tls[:2], "go together"),
                          ([*tls, "--etcd-user", "agent", "--etcd-password-file", "/nowhere"], "a file that can be read")):  # fmt: skip
        ended = subprocess.run([daemon.programs[0], "--state-dir", str(daemon.folder / "other"), "--node-address", daemon.address, "--port", "0", *plain, *options],
                               stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=rig.DEADLINE_S, check=False)  # fmt: skip
        assert ended.returncode != 0 and told in ended.stderr, (options, ended)
    # Without TLS, with a name that the certificate has not, with a wrong password: it waits, and says why.
    user = ["--etcd-user", "agent", "--etcd-password-file", str(word)]
    for options in (user, [*tls, "--etcd-name", "else.test", *user], [*tls, "--etcd-name", "etcd.test", *user]):
        daemon.options = [*plain, *options]
        said = len(daemon.log()) if (daemon.folder / "daemon.log").exists() else 0
        daemon.start()
        rig.until(lambda said=said: "WARNING app: etcd: " in daemon.log()[said:], f"it says what is wrong with {options}")
        assert daemon.get("/v1/processes") == [{"type": "primary"}], "nothing is wired"
        daemon.kill()
    word.write_text("a word\n", encoding="utf-8")
    daemon.start()
    wait_wired(daemon)
    rig.until(lambda: etcd.get(ROOT + "agent/" + HOST) is not None, "its key is there")


def run(program, plane, test):
    """"" or why it failed. Each has a daemon and an etcd on an address of its own, and mostly waits."""
    with tempfile.TemporaryDirectory(prefix="spp-agent-") as folder:
        daemon = rig.Daemon(program, plane, folder)
        daemon.options = ["--interface", "null", "--interface", "null", "--etcd", f"{daemon.address}:2379", "--agent-host", HOST, "--agent-lease", "60",
                          "--agent-retry-ms", "100"]  # fmt: skip
        try:
            with daemon, etcd_module.Etcd(daemon.folder, daemon.address) as etcd:
                test(daemon, etcd)
            return ""
        except Exception:
            log = daemon.log()[-6000:] if (daemon.folder / "daemon.log").exists() else ""
            return f"--- {test.__name__}\n{traceback.format_exc()}{log}"


def main():
    daemon_program, plane, *choice = sys.argv[1:]
    if etcd_module.find() is None:
        print("skipped: there is no etcd (Debian: etcd-server)")
        sys.exit(77)
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_") and choice in ([], [name])]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda test: run(daemon_program, plane, test), tests))
    print("\n".join(result for result in results if result))
    failed = sum(1 for result in results if result)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0 or not tests)


main()
