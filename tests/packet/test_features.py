"""What a plane is asked for besides wiring: cores by masks, retagging in place, policies, neighbours that meet, captures. From file to
file, so that it needs no rights."""

import os
import subprocess
import sys
import threading
import unittest

from plane import Plane, Refused, dissect, frame, read_pcap, until, write_pcap

A, B = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
ALL = "ff:ff:ff:ff:ff:ff"
ROUNDS = int(os.environ.get("ROUNDS", "40"))


def two_cpus():
    """Two processors that this process may use, or the same one twice."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


class Features(unittest.TestCase):
    def start(self, *options):
        self.plane = Plane(PROGRAM, *options).__enter__()
        self.addCleanup(lambda: self.plane.__exit__())
        return self.plane.call, self.plane.attach

    def file(self, name):
        return os.path.join(self.plane.folder.name, name)

    def assertRefused(self, code, method, field=None, **params):
        with self.assertRaises(Refused) as caught:
            self.plane.call(method, **params)
        self.assertEqual(caught.exception.code, code, caught.exception)
        if field is not None:
            self.assertEqual(caught.exception.data.get("field"), field)
        return caught.exception

    # ---- cores ----

    def test_the_example_of_core_masks(self):
        """SPP_PRIMARY_CORE_MASK=0x2, DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys2#2#0xfc02 verbatim on two processors: two cards
        with two machines each, every component on a core of its own, and frames pass."""
        first, second = two_cpus()
        call, attach = self.start("--workers", "none", "--cpu-map", f"1={first},2-7={first},10-15={second}")
        self.assertEqual(call("packet_get_status")["workers"], [])
        self.assertRefused(-22, "packet_component_create", "worker", name="c", type="forward")
        vhost = 0
        frames = {}
        for vf, mask, vhosts in ((1, "0xfe", 2), (2, "0xfc02", 2)):
            made = call("packet_vf_create", id=vf, core_mask=mask, num_vhost=vhosts)
            self.assertEqual(made["master"], 1)
            cores = [worker["core"] for worker in made["workers"]]
            self.assertEqual(cores, list(range(2, 8)) if vf == 1 else list(range(10, 16)))
            self.assertEqual({worker["cpu"] for worker in made["workers"]}, {first if vf == 1 else second})
            frames[vf] = [frame(A, n, [100 + v]) for n in range(40) for v in range(vhosts)]
            write_pcap(self.file(f"card{vf}"), frames[vf])
            call("packet_port_create", name=f"phy:{vf - 1}", kind="pcap", rx_file=self.file(f"card{vf}"), tx_file=self.file(f"out{vf}"))
            cores = iter(cores)
            for v in range(vhosts):
                call("packet_port_create", name=f"vhost:{vhost}", kind="pcap", tx_file=self.file(f"vm{vhost}"))
                for ring in (2 * vhost, 2 * vhost + 1):
                    call("packet_port_create", name=f"ring:{ring}", kind="ring", size=256)
                call("packet_component_create", name=f"vf{vf}:forward_{vhost}_tx", type="forward", vf=vf, core=next(cores))
                call("packet_component_create", name=f"vf{vf}:forward_{vhost}_rx", type="forward", vf=vf, core=next(cores))
                attach(f"vf{vf}:forward_{vhost}_tx", f"vhost:{vhost}", "tx")
                attach(f"vf{vf}:forward_{vhost}_tx", f"ring:{2 * vhost}", "rx")
                attach(f"vf{vf}:forward_{vhost}_rx", f"ring:{2 * vhost + 1}", "tx")
                vhost += 1
            call("packet_component_create", name=f"vf{vf}:classifier", type="classifier", vf=vf, core=next(cores))
            call("packet_component_create", name=f"vf{vf}:merger", type="merge", vf=vf, core=next(cores))
            self.assertRaises(StopIteration, next, cores)  # as many as are asked for
            for v in range(vhosts):
                ring = 2 * (vhost - vhosts + v)
                attach(f"vf{vf}:classifier", f"ring:{ring}", "tx", {"operation": "del"})
                call("packet_classifier_add_entry", component=f"vf{vf}:classifier", mac=A, vlan=100 + v, port=f"ring:{ring}")
            attach(f"vf{vf}:classifier", f"phy:{vf - 1}", "rx")
        for number in range(vhost):
            self.assertTrue(until(lambda: self.plane.port(f"vhost:{number}")["tx"]["packets"] == 40))
        workers = call("packet_get_status")["workers"]
        self.assertEqual(sorted((worker["vf"], worker["core"]) for worker in workers), [(1, n) for n in range(2, 8)] + [(2, n) for n in range(10, 16)])
        self.assertEqual([vf["core_mask"] for vf in call("packet_get_vfs")], ["0xfe", "0xfc02"])
        self.assertRefused(-16, "packet_vf_delete", id=1)
        for component in call("packet_get_components"):
            if component["name"].startswith("vf1:"):
                call("packet_component_delete", name=component["name"])
        call("packet_vf_delete", id=1)
        self.assertEqual(len(call("packet_get_status")["workers"]), 6)
        self.assertRefused(-19, "packet_get_vfs", id=1)
        call("packet_vf_create", id=3, core_mask="0xfe", num_vhost=2)
        self.assertEqual(self.plane.stop(), 0)
        for number in range(vhost):
            self.assertEqual([dissect(data) for data in read_pcap(self.file(f"vm{number}"))], [((), n) for n in range(40)])

    def test_masks_that_are_refused(self):
        first, _ = two_cpus()
        call, _ = self.start("--cpu-map", f"0-15={first}")
        create = "packet_vf_create"
        for mask in ("", "0x", "0", "zz", "0x1", "0x10001", "0xffffffffffffffff"):
            self.assertRefused(-22, create, "core_mask", id=1, core_mask=mask)
        self.assertRefused(-22, create, "core_mask", id=1, core_mask="0x3e", num_vhost=2)
        call(create, id=1, core_mask="0x3f", num_vhost=1)
        self.assertRefused(-17, create, id=1, core_mask="0xfc0")
        self.assertRefused(-16, create, id=2, core_mask="0x61")
        self.assertRefused(-16, create, id=2, core_mask="0x61", share=True)
        call(create, id=2, core_mask="0x1c1", share=True, num_vhost=9)
        call(create, id=3, core_mask="0x1c1", share=True)
        for params, field in (({"vf": 1, "core": 0}, "core"), ({"vf": 1, "core": 6}, "core")):
            self.assertRefused(-22, "packet_component_create", field, name="c", type="forward", **params)
        self.assertRefused(-32602, "packet_component_create", "core", name="c", type="forward", vf=1)
        self.assertRefused(-32602, "packet_component_create", "worker", name="c", type="forward", vf=1, core=1, worker=0)
        self.assertRefused(-19, "packet_component_create", name="c", type="forward", vf=9, core=1)
        self.assertEqual(call("packet_get_components"), [])
        for number in (2, 1, 3):
            call("packet_vf_delete", id=number)
        self.assertEqual(len(call("packet_get_status")["workers"]), 1)
        self.assertEqual(self.plane.stop(), 0)

    def test_a_map_that_is_none_is_refused(self):
        for text in ("", "1", "1=0,1=0", "64=0"):
            done = subprocess.run([PROGRAM, "--cpu-map", text], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, "--cpu-map" in done.stderr), (64, True))

    # ---- ports ----

    def forward(self, frames, **more):
        call, attach = self.plane.call, self.plane.attach
        write_pcap(self.file("in"), frames)
        call("packet_port_create", name="in", kind="pcap", rx_file=self.file("in"))
        call("packet_port_create", name="out", kind="pcap", tx_file=self.file("out"))
        call("packet_component_create", name="forward", type="forward")
        attach("forward", "out", "tx", **more)

    def test_policies(self):
        call, attach = self.start()
        frames = [frame(B, n, source=A) for n in range(10)] + [frame(B, 100 + n, source=B) for n in range(7)]
        frames += [frame(B, 200 + n, [200], source=A) for n in range(5)] + [frame(B, 300 + n, [100], source=A) for n in range(3)]
        self.forward(frames)
        given = {"macs": [A.upper()], "vlan_check": True, "vlans": [100]}
        call("packet_port_set_policy", name="in", **given)
        call("packet_port_set_policy", name="out", tx_rate={"packets_per_s": 1})
        attach("forward", "in", "rx")
        # Counted last: what the card has taken, behind what was too much for it.
        self.assertTrue(until(lambda: (sent := self.plane.port("out")["tx"])["drops"]["over_rate"] == 12 and sent["packets"] == 1))
        port = self.plane.port("in")
        self.assertEqual(port["rx"]["packets"], 25)
        self.assertEqual(port["rx"]["drops"], {"spoofed_mac": 7, "spoofed_vlan": 5, "over_rate": 0})
        none = {"bits_per_s": 0, "packets_per_s": 0}
        self.assertEqual(port["policy"], {"macs": [A], "vlan_check": True, "vlans": [100], "rx_rate": none, "tx_rate": none})
        call("packet_port_set_policy", name="in")
        self.assertNotIn("policy", self.plane.port("in"))
        for wrong, field in (({"macs": ["x"]}, "macs"), ({"vlan_check": True, "vlans": [4096]}, "vlans"), ({"vlans": [1]}, "vlan_check")):
            self.assertRefused(-32602, "packet_port_set_policy", field, name="in", **wrong)
        self.assertRefused(-19, "packet_port_set_policy", name="x")
        self.assertEqual(self.plane.stop(), 0)

    def test_retagging_in_place(self):
        call, attach = self.start()
        call("packet_port_create", name="ring", kind="ring")
        self.forward([frame(B, n) for n in range(5)], vlan={"operation": "add", "id": 7})
        call("packet_component_set_vlan", component="forward", port="out", direction="tx", vlan={"operation": "add", "id": 9, "pcp": 2})
        self.assertEqual(self.plane.component("forward")["tx"][0]["vlan"], {"operation": "add", "id": 9, "pcp": 2})
        self.assertRefused(-2, "packet_component_set_vlan", component="forward", port="in", direction="rx")
        self.assertRefused(-32602, "packet_component_set_vlan", "vlan.id", component="forward", port="out", direction="tx", vlan={"operation": "add"})
        attach("forward", "in", "rx")
        self.assertTrue(until(lambda: self.plane.port("out")["tx"]["packets"] == 5))
        call("packet_component_set_vlan", component="forward", port="out", direction="tx")
        self.assertEqual(self.plane.component("forward")["tx"][0]["vlan"], {"operation": "none"})
        self.assertEqual(self.plane.stop(), 0)
        self.assertEqual([dissect(data) for data in read_pcap(self.file("out"))], [(((9, 2),), n) for n in range(5)])

    def test_neighbours_meet_through_a_ring(self):
        """Two machines on different workers than the card's classifier and merge, as the agent wires them, and the ring besides."""
        call, attach = self.start("--workers", "-,-,-")
        write_pcap(self.file("a_in"), [frame(B, n, source=A) for n in range(20)] + [frame(ALL, 50, source=A), frame("02:00:00:00:00:01", 60, source=A)])
        call("packet_port_create", name="card", kind="pcap", tx_file=self.file("card"))
        call("packet_port_create", name="source", kind="null")
        call("packet_port_create", name="a_in", kind="pcap", rx_file=self.file("a_in"))
        call("packet_component_create", name="merger", type="merge", worker=0)
        call("packet_component_create", name="classifier", type="classifier", worker=1)
        for name, mac in (("a", A), ("b", B)):
            call("packet_port_create", name=name, kind="pcap", tx_file=self.file(name))
            attach("classifier", name, "tx", {"operation": "del"})
            call("packet_classifier_add_entry", component="classifier", mac=mac, vlan=100, port=name)
        call("packet_port_create", name="turn", kind="ring")
        self.assertRefused(-22, "packet_component_attach", "hairpin", component="merger", port="turn", direction="rx", hairpin=True)
        call("packet_component_attach", component="merger", port="turn", direction="tx", hairpin=True)
        call("packet_component_attach", component="classifier", port="turn", direction="rx", hairpin=True)
        attach("classifier", "source", "rx")
        attach("merger", "card", "tx")
        self.assertTrue(self.plane.component("merger")["tx"][0]["hairpin"])
        attach("merger", "a_in", "rx", {"operation": "add", "id": 100})
        self.assertTrue(until(lambda: self.plane.port("b")["tx"]["packets"] == 21 and self.plane.port("card")["tx"]["packets"] == 2))
        self.assertEqual(self.plane.port("a")["tx"]["packets"], 0)
        self.assertEqual(self.plane.stop(), 0)
        self.assertEqual([dissect(data) for data in read_pcap(self.file("b"))], [((), n) for n in [*range(20), 50]])
        self.assertEqual([dissect(data)[1] for data in read_pcap(self.file("card"))], [50, 60])

    # ---- captures ----

    def test_captures(self):
        call, attach = self.start()
        frames = [frame(B, n, [100 + n % 2], length=60 + n) for n in range(100)]
        self.forward(frames, vlan={"operation": "del"})
        call("packet_capture_start", port="in", file=self.file("captured_in"), filter="vlan 101")
        call("packet_capture_start", port="out", file=self.file("captured_out"), direction="tx", snap_length=40)
        self.assertRefused(-17, "packet_capture_start", port="out", file=self.file("x"))
        self.assertRefused(-19, "packet_capture_start", port="x", file=self.file("x"))
        call("packet_port_create", name="idle", kind="null")
        self.assertRefused(-2, "packet_capture_stop", port="idle")
        self.assertRefused(-22, "packet_capture_start", "filter", port="idle", file=self.file("x"), filter="no filter at all")
        self.assertRefused(-2, "packet_capture_start", port="idle", file="/nowhere/at/all")
        attach("forward", "in", "rx")
        self.assertTrue(until(lambda: self.plane.port("out")["tx"]["packets"] == 100))
        self.assertTrue(self.plane.port("in")["captured"])
        listed = {one["port"]: one for one in call("packet_get_captures")}
        self.assertEqual((listed["in"]["packets"], listed["in"]["filter"], listed["in"]["direction"]), (50, "vlan 101", "both"))
        self.plane.detach("forward", "out", "tx")
        self.assertRefused(-16, "packet_port_delete", name="out")
        stopped = call("packet_capture_stop", port="in")
        self.assertEqual((stopped["packets"], stopped["lost"]), (50, 0))
        self.assertEqual(stopped["bytes"], os.path.getsize(self.file("captured_in")))
        self.assertEqual(read_pcap(self.file("captured_in")), frames[1::2])
        self.assertEqual(self.plane.stop(), 0)  # which ends the other one
        cut = [(data[:12] + data[16:])[:40] for data in frames]
        self.assertEqual(read_pcap(self.file("captured_out")), cut)

    def test_a_capture_into_a_pipe_and_one_with_a_limit(self):
        call, attach = self.start()
        os.mkfifo(self.file("pipe"))
        self.forward([frame(B, n) for n in range(200)])
        call("packet_capture_start", port="in", file=self.file("pipe"))
        call("packet_capture_start", port="out", file=self.file("limited"), limit_bytes=1000)
        got = []

        def read():
            with open(self.file("pipe"), "rb") as pipe:
                got.append(pipe.read(24 + 200 * (16 + 60)))

        thread = threading.Thread(target=read)
        thread.start()
        attach("forward", "in", "rx")
        thread.join(60)
        with open(self.file("copy"), "wb") as file:
            file.write(got[0])
        self.assertEqual([dissect(data)[1] for data in read_pcap(self.file("copy"))], list(range(200)))
        self.assertTrue(until(lambda: any(one["full"] for one in call("packet_get_captures"))))
        call("packet_capture_stop", port="in")
        call("packet_capture_stop", port="out")
        self.assertLessEqual(os.path.getsize(self.file("limited")), 1000)
        self.assertEqual(self.plane.stop(), 0)

    def test_rights_are_given_up(self):
        self.start()
        with open(f"/proc/{self.plane.process.pid}/status", encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines())
        capabilities = int(status["CapPrm"], 16)
        self.assertEqual(status["NoNewPrivs"], "1")
        for number in (16, 18, 19, 21, 25):  # modules, chroot, ptrace, administration, the clock
            self.assertEqual(capabilities >> number & 1, 0)
        self.assertEqual(self.plane.stop(), 0)

    def test_a_memif_reader_that_sleeps_before_its_peer_comes(self):
        """Nothing of memif's driver wakes anybody."""
        call, attach = self.start("--buffers", "2048")
        socket = self.file("memif")
        call("packet_port_create", name="m", kind="memif", socket=socket, server=True)
        call("packet_port_create", name="o", kind="null")
        call("packet_component_create", name="f", type="forward")
        attach("f", "o", "tx")
        attach("f", "m", "rx")
        for coming in (1, 2):
            self.assertTrue(until(lambda: call("packet_get_status")["workers"][0]["asleep"]))
            with Plane(PROGRAM, "--buffers", "2048") as peer:
                file = os.path.join(peer.folder.name, "in")
                write_pcap(file, [b"y" * 60] * 3)
                peer.call("packet_port_create", name="m", kind="memif", socket=socket)
                self.assertTrue(until(lambda: peer.port("m")["up"] and self.plane.port("m")["up"]))  # noqa: B023
                peer.call("packet_port_create", name="i", kind="pcap", rx_file=file)
                peer.call("packet_component_create", name="f", type="forward")
                peer.attach("f", "m", "tx")
                peer.attach("f", "i", "rx")
                self.assertTrue(until(lambda: self.plane.port("o")["tx"]["packets"] == 3 * coming))  # noqa: B023
            self.assertTrue(until(lambda: not self.plane.port("m")["up"]))
        self.assertEqual(self.plane.stop(), 0)

    def test_memif_peers_that_go_in_the_middle_of_bursts(self):
        """The driver takes a connection down in another thread than those that are in it: frames go both ways without end."""
        call, attach = self.start("--buffers", "4096", "--workers", "-,-", "--poll", "always")
        socket = self.file("memif")

        def flood(plane, **options):
            plane.call("packet_port_create", name="m", kind="memif", socket=socket, **options)
            for name, rx, tx, worker in (("in", "m", "o", 0), ("out", "g", "m", 1)):
                plane.call("packet_component_create", name=name, type="forward", worker=worker)
                plane.attach(name, tx, "tx")
                plane.attach(name, rx, "rx")

        def empty(plane):
            for name in ("in", "out"):
                plane.call("packet_component_delete", name=name)
            plane.call("packet_port_delete", name="m")

        for name, generate in (("o", False), ("g", True)):
            call("packet_port_create", name=name, kind="null", generate=generate)
        flood(self.plane, server=True)
        with Plane(PROGRAM, "--buffers", "4096", "--workers", "-,-", "--poll", "always") as peer:
            for name, generate in (("o", False), ("g", True)):
                peer.call("packet_port_create", name=name, kind="null", generate=generate)
            for _ in range(ROUNDS):
                flood(peer)
                before = self.plane.port("o")["tx"]["packets"]
                self.assertTrue(until(lambda: self.plane.port("o")["tx"]["packets"] > before))  # noqa: B023
                empty(peer)
                self.assertTrue(until(lambda: not self.plane.port("m")["up"]))
        self.assertEqual(self.plane.stop(), 0)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=0)
