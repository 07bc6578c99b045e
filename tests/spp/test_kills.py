#!/usr/bin/env python3
"""kill -9 of the plane, penstockd and etcd in random order while ports are plugged and unplugged: afterwards what is plugged is what was asked
for last, the plane's tables are that and nothing else, and no vhost is lost.

Usage: test_kills.py PENSTOCKD PENSTOCK-PACKET [SEED]. PENSTOCK_TEST_BUDGET=long: 200 kills."""

import http.client
import json
import os
import random
import sys
import tempfile
import time

import etcd as etcd_module
import rig

HOST = "spp4"
ROOT = "/spp/openstack/"
CONFIGURATION = '[{"num_vhost": 2, "pci_address": "00:04.0", "physical_network": "phys1", "core_mask": "0xfe"}, {"num_vhost": 2, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xfc02"}]'
PORTS = {"a": ("phys1", 0, None), "b": ("phys1", 1, 100), "c": ("phys2", 2, 200), "d": ("phys2", 3, None)}


def key(folder, *rest):
    return ROOT + "/".join((folder, HOST, *map(str, rest)))


def patient(what):
    """etcd may be down at this moment."""
    deadline = time.monotonic() + rig.DEADLINE_S
    while True:
        try:
            return what()
        except (OSError, ValueError, http.client.HTTPException):
            assert time.monotonic() < deadline, "etcd does not answer"
            time.sleep(0.02)


def mac(port):
    return f"fa:16:3e:00:00:{ord(port):02x}"


def plug(etcd, port):
    """As a driver that is sure of what it has done: each step until it is done. Only of a port whose unplugging has ended."""
    network, vhost, vlan = PORTS[port]
    rig.until(lambda: patient(lambda: etcd.get(key("action", port))) is None, f"{port} is unplugged")
    value = {"vhost_id": vhost, "mac_address": mac(port), **({} if vlan is None else {"vlan_id": vlan})}
    patient(lambda: etcd.put(key("bind_port", port), json.dumps(value)))
    patient(lambda: etcd.put(key("vhost", network, vhost), port))
    patient(lambda: etcd.put(key("action", port), "plug"))


def kill(dice, daemon, etcd):
    victim = dice.choice(("plane", "daemon", "etcd", "plane and daemon"))
    if "plane" in victim:
        daemon.kill_plane()
    if "daemon" in victim:
        daemon.kill()
        daemon.start()
    if victim == "etcd":
        etcd.kill()
        etcd.start()


def check(daemon, etcd, plugged):
    def settled():
        actions = patient(lambda: etcd.prefix(key("action") + "/"))
        status = patient(lambda: etcd.prefix(key("port_status") + "/"))
        return actions == {key("action", port): "plug" for port in plugged} and status == {key("port_status", port): "up" for port in plugged}

    rig.until(settled, f"{sorted(plugged)} are plugged, and the others not")
    owners = patient(lambda: etcd.prefix(key("vhost") + "/"))
    want = {key("vhost", network, vhost): port if port in plugged else "None" for port, (network, vhost, _) in PORTS.items()}
    assert owners == want, owners
    entries = []

    def tables_are_right():
        entries.clear()
        for vf in (1, 2):
            table = daemon.plane("packet_get_classifier", component=f"vf:{vf}:classifier")
            entries.extend((entry["mac"], entry.get("vlan"), entry["port"]) for entry in table or [])
        return sorted(entries, key=str) == sorted(((mac(p), PORTS[p][2], f"ring:{2 * PORTS[p][1]}") for p in plugged), key=str)

    rig.until(tables_are_right, f"the tables are those of {sorted(plugged)}: {entries}")


def main():
    programs, seed = sys.argv[1:3], int(sys.argv[3]) if len(sys.argv) > 3 else int(time.time())
    if etcd_module.find() is None:
        print("skipped: there is no etcd (Debian: etcd-server)")
        sys.exit(77)
    kills = 200 if os.environ.get("PENSTOCK_TEST_BUDGET") == "long" else 6
    print("seed", seed, flush=True)
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="spp-kills-") as folder, rig.Daemon(*programs, folder) as daemon:
        daemon.options = ["--interface", "null", "--interface", "null", "--etcd", f"{daemon.address}:2379", "--agent-host", HOST, "--agent-retry-ms", "100"]
        with etcd_module.Etcd(daemon.folder, daemon.address) as etcd:
            etcd.put(key("configuration"), CONFIGURATION)
            for network, vhost, _ in PORTS.values():
                etcd.put(key("vhost", network, vhost), "None")
            daemon.start()
            plugged = set()
            try:
                for number in range(kills):
                    for port in dice.sample(sorted(PORTS), dice.randrange(1, 4)):
                        if port in plugged:
                            patient(lambda one=port: etcd.put(key("action", one), "unplug"))
                            plugged.discard(port)
                        else:
                            plug(etcd, port)
                            plugged.add(port)
                        if dice.random() < 0.3:
                            time.sleep(dice.random() * 0.05)
                    kill(dice, daemon, etcd)
                    if number % 10 == 9 or number == kills - 1:
                        check(daemon, etcd, plugged)
            except Exception:
                print(daemon.log()[-6000:])
                raise
    print(f"note: {kills} kills")


main()
