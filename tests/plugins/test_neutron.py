#!/usr/bin/env python3
"""The ML2 mechanism driver on Debian's neutron, with a real etcd, penstockd's agent and a packet plane: neutron's own manager loads and
calls it.

Usage: test_neutron.py PENSTOCKD PENSTOCK-PACKET. Ends with 77 where there is no neutron (make neutron installs it)."""

import json
import pathlib
import signal
import sys
import tempfile
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "spp"), str(ROOT / "plugins" / "neutron")]

import etcd as etcd_module  # noqa: E402
import rig  # noqa: E402

try:
    from neutron.plugins.ml2 import managers
    from neutron_lib import constants
    from neutron_lib.plugins.ml2 import api
    from oslo_config import cfg
except ImportError as missing:
    print(f"skipped: {missing}; make neutron installs Debian's python3-neutron")
    sys.exit(77)

HOST = "spp4"
MAPPINGS = '[{"num_vhost": 2, "pci_address": "00:04.0", "physical_network": "phys1", "core_mask": "0xfe"}, {"num_vhost": 2, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xfc02"}]'


class Port(api.PortContext):
    """What ML2 hands to a driver, without its database."""

    current = original = network = host = original_host = vif_type = original_vif_type = status = original_status = None
    original_bound_segment = original_top_bound_segment = original_bottom_bound_segment = vif_details = original_vif_details = None
    binding_levels = original_binding_levels = top_bound_segment = bottom_bound_segment = bound_segment = None
    segments_to_bind = ()

    def __init__(self, port, mac, network, vlan=None, host=HOST, alive=True):
        self.current = {"id": port, "mac_address": mac}
        self.host, self.alive, self.binding = host, alive, None
        self.segments_to_bind = [
            {api.ID: "other", api.NETWORK_TYPE: "vxlan", api.PHYSICAL_NETWORK: None, api.SEGMENTATION_ID: 1},
            {api.ID: "segment", api.NETWORK_TYPE: "flat" if vlan is None else "vlan", api.PHYSICAL_NETWORK: network, api.SEGMENTATION_ID: vlan},
        ]

    def host_agents(self, agent_type):
        assert agent_type == "SPP neutron agent"
        return [{"alive": self.alive}]

    def set_binding(self, segment_id, vif_type, vif_details, status=None):
        self.binding = (segment_id, vif_type, vif_details, status)
        self.vif_type = vif_type

    def allocate_dynamic_segment(self, segment):
        raise NotImplementedError

    def continue_binding(self, segment_id, next_segments_to_bind):
        raise NotImplementedError

    def release_dynamic_segment(self, segment_id):
        raise NotImplementedError

    def is_partial_segment(self, segment):
        return False


def classifier(daemon, vf):
    return sorted((entry["mac"], entry.get("vlan"), entry["port"]) for entry in daemon.plane("packet_get_classifier", component=f"vf:{vf}:classifier"))


def load(folder, address):
    """By its entry point, as neutron-server does."""
    info = folder / "penstock_neutron-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-neutron\nVersion: 0.1.0\n")
    wanted = [line for line in (ROOT / "plugins/neutron/pyproject.toml").read_text().splitlines() if line.startswith("penstock_spp = ")]
    (info / "entry_points.txt").write_text("[neutron.ml2.mechanism_drivers]\n" + wanted[0].replace('"', "") + "\n")
    sys.path.insert(0, str(folder))
    from neutron.conf.plugins.ml2 import config
    from penstock_neutron import driver

    config.register_ml2_plugin_opts()
    driver.register_options()
    cfg.CONF([], project="neutron")
    cfg.CONF.set_override("mechanism_drivers", ["penstock_spp"], "ml2")
    cfg.CONF.set_override("etcd_host", address, "spp")
    cfg.CONF.set_override("plug_timeout", 60, "spp")
    manager = managers.MechanismManager()
    manager.initialize()
    assert list(manager.mech_drivers) == ["penstock_spp"]
    return manager.mech_drivers["penstock_spp"].obj


def bound(driver, port):
    driver.bind_port(port)
    return port.binding


def case_flat_and_vlan(driver, daemon, etcd):
    """Two virtual machines on each kind of network."""
    ports = [Port("a", "fa:16:3e:00:00:01", "phys1"), Port("b", "fa:16:3e:00:00:02", "phys1"), Port("c", "fa:16:3e:00:00:03", "phys2", 100),
             Port("d", "fa:16:3e:00:00:04", "phys2", 100)]  # fmt: skip
    for vhost, port in enumerate(ports):
        assert bound(driver, port) == ("segment", "vhostuser", {"port_filter": False, "vhostuser_mode": "server", "vhostuser_socket": f"/tmp/sock{vhost}"},
                                       constants.PORT_STATUS_ACTIVE), port.binding  # fmt: skip
    assert classifier(daemon, 1) == [("fa:16:3e:00:00:01", None, "ring:0"), ("fa:16:3e:00:00:02", None, "ring:2")]
    assert classifier(daemon, 2) == [("fa:16:3e:00:00:03", 100, "ring:4"), ("fa:16:3e:00:00:04", 100, "ring:6")]
    late = Port("e", "fa:16:3e:00:00:05", "phys1")
    assert bound(driver, late) is None, "there is no vhost left"
    assert etcd.get("/spp/openstack/bind_port/spp4/e") is None
    assert bound(driver, Port("f", "fa:16:3e:00:00:06", "phys9")) is None, "no such network"
    assert bound(driver, Port("f", "fa:16:3e:00:00:06", "phys1", host="elsewhere")) is None, "no such host"
    # Again: what is bound is bound, on the same vhost.
    again = Port("a", "fa:16:3e:00:00:01", "phys1")
    assert bound(driver, again)[2]["vhostuser_socket"] == "/tmp/sock0"
    for port in ports:
        driver.delete_port_postcommit(port)
    rig.until(lambda: set(etcd.prefix("/spp/openstack/vhost/spp4/").values()) == {"None"}, "all vhosts are free")
    rig.until(lambda: classifier(daemon, 1) == classifier(daemon, 2) == [], "no entry is left")
    # Moved away: unplugged where it was.
    assert bound(driver, late)
    moved = Port("e", "fa:16:3e:00:00:05", "phys1", host="elsewhere")
    moved.original_host, moved.original_vif_type = HOST, "vhostuser"
    driver.update_port_postcommit(moved)
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/e") is None, "it is unplugged")
    # Deleted and made again at once: the unplugging ends first.
    assert bound(driver, late)
    driver.delete_port_postcommit(late)
    assert bound(driver, late)
    driver.delete_port_postcommit(late)
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/e") is None, "it is unplugged")


def case_races(driver, daemon, etcd):
    """A binding that was begun by one who died; an agent that is faster than the driver's watch; one that does not answer."""
    etcd.put("/spp/openstack/vhost/spp4/phys1/1", "g")
    etcd.put("/spp/openstack/bind_port/spp4/g", json.dumps({"vhost_id": 1, "mac_address": "fa:16:3e:00:00:07"}))
    port = Port("g", "fa:16:3e:00:00:07", "phys1")
    assert bound(driver, port)[2]["vhostuser_socket"] == "/tmp/sock1"
    revision = etcd.revision()
    etcd.put("/spp/openstack/port_status/spp4/z", "up")
    assert driver.etcd.wait_for("/spp/openstack/port_status/spp4/z", "up", revision, 60), "what came before the watch counts"
    assert not driver.etcd.wait_for("/spp/openstack/port_status/spp4/z", "up", etcd.revision(), 1), "what is older does not"
    etcd.delete("/spp/openstack/port_status/spp4/z")
    driver.delete_port_postcommit(port)
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/g") is None, "it is unplugged")
    assert bound(driver, Port("h", "fa:16:3e:00:00:08", "phys1", alive=False)) is None
    daemon.process.send_signal(signal.SIGSTOP)
    port = Port("h", "fa:16:3e:00:00:08", "phys1")
    cfg.CONF.set_override("plug_timeout", 1, "spp")
    assert bound(driver, port) is None, "nobody plugs it"
    cfg.CONF.set_override("plug_timeout", 60, "spp")
    daemon.process.send_signal(signal.SIGCONT)
    assert bound(driver, port), "a second try goes on with the first"
    driver.delete_port_postcommit(port)
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/h") is None, "it is unplugged")


def case_heartbeat(driver, daemon, etcd):
    from penstock_neutron import heartbeat

    told = []
    beat = heartbeat.Heartbeat(HOST, driver.etcd, lambda context, state: told.append(state))
    rig.until(beat.beat, "the agent lives")
    assert told == [{"agent_type": "SPP neutron agent", "binary": "neutron-spp-agent", "host": HOST, "topic": "N/A", "start_flag": True,
                     "configurations": {"free_vhosts": {"phys1": 2, "phys2": 2}, "physical_networks": ["phys1", "phys2"]}}], told  # fmt: skip
    rig.until(beat.beat, "it lives on")  # in between it may be without a lease
    assert "start_flag" not in told[-1]
    daemon.kill()
    rig.until(lambda: not beat.beat(), "an agent that is gone is not spoken for")


def case_without_etcd(driver, daemon, etcd):
    etcd.kill()
    port = Port("i", "fa:16:3e:00:00:09", "phys1")
    assert bound(driver, port) is None
    port.vif_type = "vhostuser"
    driver.delete_port_postcommit(port)  # said in the log, and neutron goes on


def main():
    daemon_program, plane = sys.argv[1:]
    if etcd_module.find() is None:
        print("skipped: there is no etcd (Debian: etcd-server)")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="spp-neutron-") as folder, rig.Daemon(daemon_program, plane, folder) as daemon:
        daemon.options = ["--interface", "null", "--interface", "null", "--etcd", f"{daemon.address}:2379", "--agent-host", HOST, "--agent-lease", "2",
                          "--agent-retry-ms", "100"]  # fmt: skip
        with etcd_module.Etcd(pathlib.Path(folder), daemon.address) as etcd:
            etcd.put("/spp/openstack/configuration/spp4", MAPPINGS)
            for vhost in range(4):
                etcd.put(f"/spp/openstack/vhost/spp4/phys{1 + vhost // 2}/{vhost}", "None")
            daemon.start()
            driver = load(pathlib.Path(folder), daemon.address)
            for case in (case_flat_and_vlan, case_races, case_heartbeat, case_without_etcd):
                try:
                    case(driver, daemon, etcd)
                except Exception:
                    print(f"--- {case.__name__}")
                    traceback.print_exc(file=sys.stdout)
                    print(daemon.log()[-5000:])
                    sys.exit(1)


main()
