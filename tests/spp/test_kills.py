#!/usr/bin/env python3
"""kill -9 of the plane, penstockd and etcd in random order while ports are plugged and unplugged: afterwards what is plugged is what was asked
for last, the plane's tables are that and nothing else, and no vhost is lost.

With the word processes, the plane is a primary and a process for each vf, on huge pages, with somebody listening where the machines' sockets are.

Usage: test_kills.py PENSTOCKD PENSTOCK-PACKET [SEED [processes]]. PENSTOCK_TEST_BUDGET=long: 200 kills, or 50 of processes."""

import contextlib

import http.client
import json
import os
import pathlib
import random
import socket
import sys
import tempfile
import time

import etcd as etcd_module
import rig

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "packet"))
import huge

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


class Machines:
    """Where the machines' sockets are: who is connected to them."""

    def __init__(self, folder):
        self.listeners, self.connections = {}, {}
        for _, vhost, _ in PORTS.values():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/sock{vhost}")
            listener.listen()
            listener.setblocking(False)
            self.listeners[vhost], self.connections[vhost] = listener, []

    def close(self):
        for vhost, listener in self.listeners.items():
            listener.close()
            for connection in self.connections[vhost]:
                connection.close()

    def count(self, vhost):
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.listeners[vhost].accept()
                connection.setblocking(False)
                self.connections[vhost].append(connection)
        for connection in list(self.connections[vhost]):
            try:
                gone = connection.recv(4096) == b""
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                self.connections[vhost].remove(connection)
                connection.close()
        return len(self.connections[vhost])

    def are_met_once(self):
        return all(self.count(vhost) == 1 for vhost in self.listeners)


def kill(dice, daemon, etcd, machines):
    if machines is None:
        victim = dice.choice(("plane", "daemon", "etcd", "plane and daemon"))
    else:
        victim = dice.choice(("plane", "vf 1", "vf 2", "daemon", "plane and daemon", "vf 1 and daemon", "vf 2 and plane"))
    for vf in (1, 2):
        if f"vf {vf}" in victim:
            daemon.kill_plane(vf)
    if "plane" in victim:
        daemon.kill_plane()
    if "daemon" in victim:
        daemon.kill()
        daemon.start()
    if victim == "etcd":
        etcd.kill()
        etcd.start()


def bridged(vf):
    return {f"phy:{vf - 1}.{direction}" for direction in ("rx", "tx")}


def check_processes(daemon, machines):
    """Each has what the wiring gives it, and nothing else; each machine is met by one."""

    def ports(process):
        return {port["name"] for port in daemon.plane("packet_get_ports", process) or []}

    def components(process):
        return {component["name"] for component in daemon.plane("packet_get_components", process) or []}

    def settled():
        for vf in (1, 2):
            vhosts = [vhost for _, vhost, _ in PORTS.values() if vhost // 2 == vf - 1]
            rings = {f"ring:{2 * vhost + end}" for vhost in vhosts for end in (0, 1)}
            if ports(vf) != {f"vhost:{vhost}" for vhost in vhosts} | rings | bridged(vf):
                return False
            forwards = {f"vf:{vf}:forward_{vhost}_{end}" for vhost in vhosts for end in ("rx", "tx")}
            if components(vf) != forwards | {f"vf:{vf}:classifier", f"vf:{vf}:merger"}:
                return False
        bridges = bridged(1) | bridged(2)
        return ports(0) == {"phy:0", "phy:1"} | bridges and components(0) == {"bridge:" + name for name in bridges} and machines.are_met_once()

    rig.until(settled, "each process has its part, and each machine one process")


def check(daemon, etcd, plugged, machines):
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
            table = daemon.plane("packet_get_classifier", vf if machines is not None else 0, component=f"vf:{vf}:classifier")
            entries.extend((entry["mac"], entry.get("vlan"), entry["port"]) for entry in table or [])
        return sorted(entries, key=str) == sorted(((mac(p), PORTS[p][2], f"ring:{2 * PORTS[p][1]}") for p in plugged), key=str)

    rig.until(tables_are_right, f"the tables are those of {sorted(plugged)}: {entries}")
    if machines is not None:
        check_processes(daemon, machines)


def run(programs, seed, kills, huge_folder):
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="spp-kills-") as folder, rig.Daemon(*programs, folder) as daemon:
        daemon.options = ["--interface", "null", "--interface", "null", "--etcd", f"{daemon.address}:2379", "--agent-host", HOST, "--agent-retry-ms", "100"]
        machines = None
        if huge_folder is not None:
            daemon.options += ["--packet-processes", huge_folder]
            machines = Machines(daemon.folder)
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
                    kill(dice, daemon, etcd, machines)
                    if number % (10 if machines is None else 5) == 0 or number == kills - 1:
                        check(daemon, etcd, plugged, machines)
            except Exception:
                print(daemon.log()[-6000:])
                print((daemon.folder / "state" / "packet.log").read_text(encoding="utf-8")[-3000:])
                raise
            finally:
                if machines is not None:
                    machines.close()


def main():
    programs, seed = sys.argv[1:3], int(sys.argv[3]) if len(sys.argv) > 3 else int(os.environ.get("PENSTOCK_SEED", "1"))
    processes, long = "processes" in sys.argv[4:], os.environ.get("PENSTOCK_TEST_BUDGET") == "long"
    if etcd_module.find() is None:
        print("skipped: there is no etcd (Debian: etcd-server)")
        sys.exit(77)
    kills = (50 if processes else 200) if long else 3 if processes else 6
    print("seed", seed, flush=True)
    with huge.pages(160) if processes else contextlib.nullcontext() as folder:
        run(programs, seed, kills, folder)
    print(f"note: {kills} kills{' of several processes' if processes else ''}")


main()
