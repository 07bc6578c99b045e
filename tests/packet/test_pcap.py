"""The packet plane from file to file, so that it needs no rights: what is in the answer's counters is in the files, and nothing else."""

import os
import sys
import unittest

from plane import Plane, Refused, dissect, frame, read_pcap, until, write_pcap

PROGRAM = sys.argv.pop(1)
A, B, C = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b", "fa:16:3e:00:00:0c"
ALL = "ff:ff:ff:ff:ff:ff"


class Files(unittest.TestCase):
    def setUp(self):
        self.plane = Plane(PROGRAM, "--workers", "-,-").__enter__()
        self.addCleanup(self.plane.__exit__)

    def file(self, name):
        return os.path.join(self.plane.folder.name, name)

    def read(self, name):
        return [dissect(data) for data in read_pcap(self.file(name))]

    def test_classify_forward_merge(self):
        """A classifier's outputs go through rings to forwards on the other worker, and are merged again with tags."""
        call, attach = self.plane.call, self.plane.attach
        frames = [frame(A, n, [100]) for n in range(300)]
        frames += [frame(B, 1000 + n, [200]) for n in range(200)]
        frames += [frame(A, 2000 + n, [200]) for n in range(50)]  # unknown there
        frames += [frame(C, 3000 + n, [300]) for n in range(40)]  # no such VLAN
        frames += [frame(ALL, 4000 + n, [100]) for n in range(30)]
        frames += [frame(A, 5000 + n) for n in range(20)]  # untagged: likewise
        frames += [b"short"] * 10
        frames += [frame(A, 6000, [100, 7])]  # a guest's own tag stays
        write_pcap(self.file("in"), frames)
        for name in ("a", "b"):
            call("packet_port_create", name="ring:" + name, kind="ring", size=2048)
            call("packet_port_create", name="back:" + name, kind="ring", size=2048)
            call("packet_component_create", name="forward_" + name, type="forward", worker=1)
            attach("forward_" + name, "ring:" + name, "rx")
            attach("forward_" + name, "back:" + name, "tx")
        call("packet_component_create", name="classifier", type="classifier")
        call("packet_component_create", name="merge", type="merge")
        attach("classifier", "ring:a", "tx", {"operation": "del"})
        attach("classifier", "ring:b", "tx", {"operation": "del"})
        call("packet_classifier_add_entry", component="classifier", mac=A, vlan=100, port="ring:a")
        call("packet_classifier_add_entry", component="classifier", mac=B.upper().replace(":", "-"), vlan=200, port="ring:b")
        attach("merge", "back:a", "rx", {"operation": "add", "id": 11, "pcp": 5})
        attach("merge", "back:b", "rx")
        call("packet_port_create", name="out", kind="pcap", tx_file=self.file("out"))
        attach("merge", "out", "tx")
        call("packet_port_create", name="in", kind="pcap", rx_file=self.file("in"))
        attach("classifier", "in", "rx")
        self.assertTrue(until(lambda: self.plane.port("out")["tx"]["packets"] == 531), self.plane.port("out"))

        classifier = self.plane.component("classifier")
        self.assertEqual(classifier["packets"], len(frames))
        self.assertEqual(
            classifier["drops"],
            {"short": 10, "no_entry": 50, "no_vlan": 60, "detached": 0, "no_member": 0, "no_headroom": 0, "no_memory": 0, "hairpin": 0},
        )
        self.assertEqual((classifier["copies"], classifier["unknown"]), (0, 0))
        self.assertEqual(self.plane.component("merge")["packets"], 531)
        self.assertEqual(
            call("packet_get_classifier", component="classifier"),
            [{"mac": A, "vlan": 100, "port": "ring:a"}, {"mac": B, "vlan": 200, "port": "ring:b"}],
        )
        self.assertTrue(until(lambda: call("packet_get_status")["buffers"]["free"] == 8192), call("packet_get_status"))
        self.assertEqual(self.plane.stop(), 0)
        out = self.read("out")
        to_a = [number for tags, number in out if tags == ((11, 5),)]
        self.assertEqual(to_a, list(range(300)) + list(range(4000, 4030)))  # in order
        self.assertEqual([number for tags, number in out if tags == ()], list(range(1000, 1200)))
        self.assertEqual([entry for entry in out if len(entry[0]) == 2], [(((11, 5), (7, 0)), 6000)])
        self.assertEqual(len(out), 531)

    def test_broadcast_and_mirror(self):
        """Copies are copies: what is done to the tag of one is not seen in another."""
        call, attach = self.plane.call, self.plane.attach
        write_pcap(self.file("in"), [frame(ALL, n, [(100, 3)]) for n in range(100)])
        for name in ("a", "b", "c", "d"):
            call("packet_port_create", name=name, kind="pcap", tx_file=self.file(name))
        call("packet_port_create", name="ring", kind="ring")
        call("packet_component_create", name="classifier", type="classifier")
        call("packet_component_create", name="mirror", type="mirror", worker=1)
        attach("classifier", "a", "tx", {"operation": "del"})
        attach("classifier", "ring", "tx", {"operation": "add", "id": 9})
        attach("classifier", "b", "tx")
        attach("mirror", "ring", "rx")
        attach("mirror", "c", "tx", {"operation": "del"})
        attach("mirror", "d", "tx")
        for mac, port in ((A, "a"), (B, "ring"), (C, "b"), ("default", "b")):
            call("packet_classifier_add_entry", component="classifier", mac=mac, vlan=100, port=port)
        call("packet_port_create", name="in", kind="pcap", rx_file=self.file("in"))
        attach("classifier", "in", "rx")
        self.assertTrue(until(lambda: self.plane.port("d")["tx"]["packets"] == 100))
        self.assertEqual(self.plane.component("classifier")["copies"], 200)
        self.assertEqual(self.plane.component("mirror")["copies"], 100)
        self.assertEqual(self.plane.stop(), 0)
        for name, tags in (("a", ()), ("b", ((100, 3),)), ("c", ((100, 3),)), ("d", ((9, 0), (100, 3)))):
            self.assertEqual(self.read(name), [(tags, n) for n in range(100)], name)

    def test_refusals_change_nothing(self):
        call = self.plane.call
        call("packet_port_create", name="r", kind="ring")
        call("packet_component_create", name="c", type="classifier")
        call("packet_component_create", name="f", type="forward")
        self.plane.attach("c", "r", "tx")
        generation = call("packet_get_status")["generation"]
        cases = [
            (-17, "packet_port_create", {"name": "r", "kind": "ring"}, None),
            (-32602, "packet_port_create", {"name": "x", "kind": "bridge"}, "kind"),
            (-32602, "packet_port_create", {"name": "x", "kind": "ring", "socket": "/tmp/x"}, "socket"),
            (-22, "packet_port_create", {"name": "x y", "kind": "ring"}, "name"),
            (-22, "packet_port_create", {"name": "x", "kind": "ring", "size": 1000}, "size"),
            (-22, "packet_port_create", {"name": "x", "kind": "tap"}, "interface"),
            (-22, "packet_port_create", {"name": "x", "kind": "tap", "interface": "a,b=c"}, "interface"),
            (-22, "packet_port_create", {"name": "x", "kind": "pcap"}, "rx_file"),
            (-17, "packet_component_create", {"name": "c", "type": "forward"}, None),
            (-22, "packet_component_create", {"name": "x", "type": "forward", "worker": 2}, "worker"),
            (-17, "packet_component_attach", {"component": "c", "port": "r", "direction": "tx"}, None),
            (-16, "packet_component_attach", {"component": "f", "port": "r", "direction": "tx"}, None),
            (-19, "packet_component_attach", {"component": "f", "port": "x", "direction": "rx"}, "port"),
            (-32602, "packet_component_attach", {"component": "f", "port": "r", "direction": "rx", "vlan": {"operation": "add"}}, "vlan.id"),
            (-32602, "packet_component_attach", {"component": "f", "port": "r", "direction": "rx", "vlan": {"operation": "add", "id": 4096}}, "vlan.id"),
            (-2, "packet_component_detach", {"component": "f", "port": "r", "direction": "rx"}, None),
            (-22, "packet_classifier_add_entry", {"component": "c", "mac": "fa:16", "port": "r"}, "mac"),
            (-22, "packet_classifier_add_entry", {"component": "f", "mac": A, "port": "r"}, "component"),
            (-2, "packet_classifier_delete_entry", {"component": "c", "mac": A, "port": "r"}, None),
            (-16, "packet_port_delete", {"name": "r"}, None),
            (-19, "packet_port_delete", {"name": "x"}, "port"),
        ]
        for code, method, params, field in cases:
            with self.subTest(method=method, params=params):
                with self.assertRaises(Refused) as refused:
                    call(method, **params)
                self.assertEqual(refused.exception.code, code, refused.exception)
                if field is not None:
                    self.assertEqual(refused.exception.data.get("field"), field, refused.exception)
        with self.assertRaises(Refused) as refused:
            call("packet_port_create", name="x", kind="pcap", rx_file="/nowhere/at/all")
        self.assertLess(refused.exception.code, 0)
        self.assertEqual(call("packet_get_status")["generation"], generation)
        self.assertEqual(len(call("packet_get_ports")), 1)
        # and it all still works
        self.plane.detach("c", "r", "tx")
        call("packet_port_delete", name="r")
        self.assertEqual(self.plane.stop(), 0)

    def test_sleeps_when_idle(self):
        call = self.plane.call
        call("packet_port_create", name="a", kind="ring")
        call("packet_port_create", name="b", kind="null")
        call("packet_port_create", name="v", kind="vhost_user", socket=self.file("vhost.sock"))
        call("packet_component_create", name="m", type="merge")
        self.plane.attach("m", "a", "rx")
        self.plane.attach("m", "v", "rx")
        self.plane.attach("m", "b", "tx")
        self.assertTrue(os.path.exists(self.file("vhost.sock")))
        self.assertFalse(self.plane.port("v")["up"])
        self.assertTrue(until(lambda: all(worker["asleep"] for worker in call("packet_get_status")["workers"])))
        self.assertTrue(until(lambda: self.plane.rests(0.5)))  # nothing wakes them
        self.assertEqual(self.plane.stop(), 0)
        self.assertFalse(os.path.exists(self.file("vhost.sock")))


if __name__ == "__main__":
    unittest.main(verbosity=0)
