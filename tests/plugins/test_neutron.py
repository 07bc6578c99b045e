#!/usr/bin/env python3
"""The ML2 mechanism driver on Debian's neutron, with a real etcd, penstockd's agent and a packet plane: neutron's own manager loads and
calls it.

Usage: test_neutron.py PENSTOCKD PENSTOCK-PACKET. Ends with 77 where there is no neutron (make neutron installs it)."""

import contextlib
import itertools
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import unittest

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
    cfg.CONF.set_override("retry_interval", 1, "spp")
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
        assert bound(driver, port) == ("segment", "vhostuser", {"port_filter": False, "connectivity": "l2", "vhostuser_mode": "server", "vhostuser_socket": f"/tmp/sock{vhost}"},
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


def segment(kind, network, vlan=None, name="segment"):
    return {api.ID: name, api.NETWORK_TYPE: kind, api.PHYSICAL_NETWORK: network, api.SEGMENTATION_ID: vlan}


def case_segments(driver, daemon, etcd):
    """Which of a port's segments is taken, on a host with two networks; and which ports are another driver's."""
    for number, (segments, wanted) in enumerate((
        ([], None),
        ([segment("vlan", "phys9", 5), segment("geneve", None, 7), segment("local", "phys1"), segment("gre", "phys1", 1)], None),
        ([segment("vlan", None, 5), segment("flat", None)], None),
        ([segment("vlan", "phys9", 5), segment("vlan", "phys2", 6, "second"), segment("flat", "phys1", name="third")], ("second", 2, 6)),
        ([segment("flat", "phys1", name="third"), segment("vlan", "phys2", 6, "second")], ("third", 0, None)),
        ([segment("vlan", "phys1", 4094, "first")], ("first", 0, 4094)),
    )):  # fmt: skip
        port = Port(f"s{number}", f"fa:16:3e:00:01:0{number}", "phys1")
        port.segments_to_bind = segments
        got = bound(driver, port)
        asked = etcd.get(f"/spp/openstack/bind_port/spp4/s{number}")
        if wanted is None:
            assert got is None and asked is None, (segments, got, asked)
            continue
        name, vhost, vlan = wanted
        assert got[0] == name and got[2]["vhostuser_socket"] == f"/tmp/sock{vhost}", (segments, got)
        assert json.loads(asked) == {"vhost_id": vhost, "mac_address": port.current["mac_address"], **({} if vlan is None else {"vlan_id": vlan})}, asked
        driver.delete_port_postcommit(port)
        rig.until(lambda number=number: etcd.get(f"/spp/openstack/action/spp4/s{number}") is None, "it is unplugged")
    for kind in ("direct", "macvtap", "baremetal", "virtio-forwarder"):
        port = Port("t", "fa:16:3e:00:01:09", "phys1")
        port.current["binding:vnic_type"] = kind
        assert bound(driver, port) is None, kind
    port.current["binding:vnic_type"] = "normal"
    assert bound(driver, port)
    # Of hosts that are not ours, and ports that were never bound, nothing is written.
    since = etcd.revision()
    for host, vif_type in (("elsewhere", "vhostuser"), (HOST, "unbound"), (HOST, "ovs"), ("", "vhostuser"), (None, "vhostuser")):
        other = Port("u" if host != HOST else "t", "fa:16:3e:00:01:09", "phys1", host=host)
        other.vif_type = vif_type
        driver.delete_port_postcommit(other)
    port.original_host, port.original_vif_type = HOST, "vhostuser"
    driver.update_port_postcommit(port)  # changed, and where it was
    assert etcd.history(since) == []
    driver.delete_port_postcommit(port)
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/t") is None, "it is unplugged")


def case_heartbeat_program(driver, daemon, etcd):
    """As it is run: its options from a file, what neutron is told, and again after the interval."""
    config = daemon.folder / "agent.conf"
    config.write_text(f"[DEFAULT]\nhost = {HOST}\n[AGENT]\nreport_interval = 7\n[spp]\netcd_host = {daemon.address}\n", encoding="utf-8")
    script = """
import json, runpy, sys, time
from neutron.agent import rpc
class Api:
    def __init__(self, topic): print("topic", topic)
    def report_state(self, context, state): print("state", json.dumps(state, sort_keys=True))
rpc.PluginReportStateAPI = Api
naps = []
def sleep(seconds):
    print("sleep", seconds)
    naps.append(seconds)
    if len(naps) == 2:
        sys.exit(3)
time.sleep = sleep
sys.argv[0] = "heartbeat"
runpy.run_module("penstock_neutron.heartbeat", run_name="__main__")
"""
    rig.until(lambda: etcd.get("/spp/openstack/agent/spp4") is not None, "the agent lives")
    ended = subprocess.run([sys.executable, "-B", "-c", script, "--config-file", str(config)], cwd=ROOT / "plugins" / "neutron", capture_output=True,
                           encoding="utf-8", timeout=rig.DEADLINE_S, check=False)  # fmt: skip
    assert ended.returncode == 3, ended
    state = {"agent_type": "SPP neutron agent", "binary": "neutron-spp-agent", "host": HOST, "topic": "N/A",
             "configurations": {"free_vhosts": {"phys1": 2, "phys2": 2}, "physical_networks": ["phys1", "phys2"]}}  # fmt: skip
    told = [line.split(" ", 1) for line in ended.stdout.splitlines() if line.split(" ", 1)[0] in ("topic", "state", "sleep")]
    assert [word for word, _ in told] == ["topic", "state", "sleep", "state", "sleep"], ended
    assert told[0][1] == "q-reports-plugin" and told[2][1] == told[4][1] == "7.0"
    assert [json.loads(told[i][1]) for i in (1, 3)] == [{**state, "start_flag": True}, state], told


def case_etcd_comes_back(driver, daemon, etcd):
    """An etcd that goes while a port is being bound, while one is deleted, and while neutron is told of the agent."""
    from penstock_neutron import heartbeat

    told = []
    beat = heartbeat.Heartbeat(HOST, driver.etcd, lambda context, state: told.append(state))
    port = Port("v", "fa:16:3e:00:02:01", "phys1")
    cfg.CONF.set_override("plug_timeout", 40, "spp")
    daemon.process.send_signal(signal.SIGSTOP)
    binding = threading.Thread(target=driver.bind_port, args=(port,))
    binding.start()
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/v") == "plug", "it is asked for")
    etcd.kill()
    assert not beat.beat() and not told
    etcd.start()
    daemon.process.send_signal(signal.SIGCONT)
    binding.join(rig.DEADLINE_S)
    assert port.binding and port.binding[1] == "vhostuser", "the answer is not missed"
    cfg.CONF.set_override("plug_timeout", 5, "spp")
    rig.until(beat.beat, "neutron is told again")
    assert told[0]["start_flag"] and told[0]["configurations"]["free_vhosts"] == {"phys1": 1, "phys2": 2}, told
    # Moved while etcd is away: said, with what is to be done about it.
    moved = Port("v", "fa:16:3e:00:02:01", "phys1", host="elsewhere")
    moved.original_host, moved.original_vif_type = HOST, "vhostuser"
    etcd.kill()
    with unittest.TestCase().assertLogs("penstock_neutron.driver", "ERROR") as logged:
        driver.update_port_postcommit(moved)
    assert 'unless "unplug" is put at /spp/openstack/action/spp4/v' in logged.output[0], logged.output
    assert not driver._deleted
    etcd.start()
    # One that says no to neutron is not the end of it either.
    failing = heartbeat.Heartbeat(HOST, driver.etcd, lambda context, state: 1 / 0)
    assert not failing.beat() and failing.first
    etcd.kill()
    driver.delete_port_postcommit(port)  # neutron goes on
    driver.delete_port_postcommit(port)
    etcd.start()
    rig.until(lambda: etcd.get("/spp/openstack/vhost/spp4/phys1/0") == "None", "the deleted port gives its vhost back")
    rig.until(lambda: not driver._deleted, "nothing is left to be done")


class Nonsense(threading.Thread):
    """What stands where etcd should, and answers each with the next text. Of plain sockets: neutron's are green, http.server's loop is not."""

    def __init__(self, address):
        super().__init__()
        self.texts, self.listener = iter(()), socket.create_server((address, 0))
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                head = list(iter(stream.readline, b"\r\n"))
                stream.read(next(int(line.split()[1]) for line in head if line.lower().startswith(b"content-length:")))
                text = next(self.texts)
                if text is None:
                    return
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())


def case_nonsense(driver, daemon, etcd):
    """Answers that are none end nothing; nor does what nobody thought of."""
    from penstock_neutron import etcd as client

    texts = ("{}", "[]", "7", "null", '{"header": {}}', '{"header": {"revision": "1"}, "kvs": 7}', '{"header": {"revision": "1"}, "kvs": [{"key": "eA==", "value": "?", "mod_revision": "x"}]}',
             '{"header": {"revision": "1"}, "kvs": [{"key": "a", "value": "a", "mod_revision": "1"}]}')  # fmt: skip
    port = Port("w", "fa:16:3e:00:02:02", "phys1")
    assert bound(driver, port)
    real, unplug, raised = driver.etcd, driver._unplug, threading.Event()
    server = Nonsense(daemon.address)
    with server.listener:
        driver.etcd = nonsense = client.Etcd(daemon.address, server.listener.getsockname()[1])
        try:
            for text in texts:
                server.texts = itertools.repeat(text)
                for call in (lambda: driver.etcd.read("x"), lambda: driver.etcd.list("x"), lambda: driver.etcd.transact([], [])):
                    try:
                        call()
                    except client.Failure:
                        continue
                    assert text.startswith('{"header": {"revision"'), text
            server.texts = itertools.cycle(['{"result": 7}', "[]", '{"result": {"events": [{}]}}'])
            assert not driver.etcd.wait_for("x", "y", 1, 1)
            server.texts = itertools.chain(texts[:4], itertools.repeat("{}"))
            driver.delete_port_postcommit(port)
            assert driver._deleted == {(HOST, "w")}

            def fail(*_):
                raised.set()
                raise ZeroDivisionError("on purpose")

            driver._unplug = fail
            assert raised.wait(rig.DEADLINE_S)
        finally:
            driver.etcd, driver._unplug = real, unplug
            server.texts = iter((None,))
            with contextlib.suppress(client.Failure):
                nonsense.get("x")
            server.join()
    rig.until(lambda: etcd.get("/spp/openstack/action/spp4/w") is None, "it is unplugged")
    rig.until(lambda: not driver._deleted, "nothing is left to be done")


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
            for case in (case_flat_and_vlan, case_segments, case_races, case_heartbeat_program, case_etcd_comes_back, case_nonsense, case_heartbeat, case_without_etcd):
                try:
                    case(driver, daemon, etcd)
                except Exception:
                    print(f"--- {case.__name__}")
                    traceback.print_exc(file=sys.stdout)
                    print(daemon.log()[-5000:])
                    sys.exit(1)


main()
