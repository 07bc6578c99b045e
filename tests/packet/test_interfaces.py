"""The packet plane on interfaces of the kernel, wired as Soft Patch Panel's agent does it for a card with two virtual machines:

    card → classifier → ring:0 → forward → vm a        vm a → forward → ring:1 → merge → card    (and b by ring:2, ring:3)

The card and the machines are ends of veth pairs, in a network namespace of the test's own. Needs root, or a kernel that lets others
make namespaces; else it is skipped."""

import collections
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

from network import enter_namespace, ip, quiet
from plane import Plane, Refused, dissect, frame, until

A, B = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
ALL = "ff:ff:ff:ff:ff:ff"
SEED = int(os.environ.get("SEED", "1"))


class End:
    """The far end of a veth pair, whose near end NAME is the plane's."""

    def __init__(self, name):
        self.name = name
        ip("link", "add", name, "type", "veth", "peer", "name", name + "_end")
        for interface in (name, name + "_end"):
            quiet(interface)
            ip("link", "set", interface, "up", "promisc", "on")
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel hands tags over beside the frame
        self.socket.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind((name + "_end", 0))

    def close(self):
        self.socket.close()
        ip("link", "delete", self.name)

    def send(self, *frames):
        for data in frames:
            self.socket.send(data)

    def receive(self, count, seconds=60):
        """That many frames of frame(), dissected; fewer after the time."""
        got = []
        deadline = time.monotonic() + seconds
        while len(got) < count and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data, more, _, _ = self.socket.recvmsg(2048, 256)
            except TimeoutError:
                break
            for level, kind, value in more:
                if (level, kind) == (263, 8):
                    status, _, _, _, _, tag, _ = struct.unpack("=IIIHHHH", value[:20])
                    if status & 0x10:
                        data = data[:12] + struct.pack("!HH", 0x8100, tag) + data[12:]
            if (known := dissect(data)) is not None:
                got.append(known)
        return got

    def nothing(self):
        return self.receive(1, 0.05) == []


class Interfaces(unittest.TestCase):
    kind, options, environment = "af_packet", (), None

    def setUp(self):
        self.ends = {}
        for name in ("card", "vm_a", "vm_b"):
            self.ends[name] = End(name)
            self.addCleanup(self.ends[name].close)
        self.card, self.a, self.b = self.ends["card"], self.ends["vm_a"], self.ends["vm_b"]
        self.start()

    def start(self):
        self.plane = Plane(PROGRAM, "--workers", "-,-", *self.options, environment=self.environment).__enter__()
        self.addCleanup(self.plane.__exit__)
        call, attach = self.plane.call, self.plane.attach
        for name in self.ends:
            call("packet_port_create", name=name, kind=self.kind, interface=name)
        call("packet_component_create", name="classifier", type="classifier")
        call("packet_component_create", name="merger", type="merge")
        for i, name in enumerate(("vm_a", "vm_b")):
            for ring in (2 * i, 2 * i + 1):
                call("packet_port_create", name=f"ring:{ring}", kind="ring")
            for component, rx, tx in ((f"forward_{i}_tx", f"ring:{2 * i}", name), (f"forward_{i}_rx", name, f"ring:{2 * i + 1}")):
                call("packet_component_create", name=component, type="forward", worker=1)
                attach(component, tx, "tx")
                if rx != name:
                    attach(component, rx, "rx")
            attach("merger", f"ring:{2 * i + 1}", "rx")
        attach("merger", "card", "tx")
        self.plug(0, "vm_a", A, 100)
        self.plug(1, "vm_b", B, 200)
        attach("classifier", "card", "rx")

    def plug(self, i, name, mac, vlan):
        self.plane.attach(f"forward_{i}_rx", name, "rx", {"operation": "add", "id": vlan})
        self.plane.attach("classifier", f"ring:{2 * i}", "tx", {"operation": "del"})
        self.plane.call("packet_classifier_add_entry", component="classifier", mac=mac, vlan=vlan, port=f"ring:{2 * i}")

    def unplug(self, i, name, mac, vlan):
        self.plane.detach(f"forward_{i}_rx", name, "rx")
        self.plane.detach("classifier", f"ring:{2 * i}", "tx")
        self.plane.call("packet_classifier_delete_entry", component="classifier", mac=mac, vlan=vlan, port=f"ring:{2 * i}")

    def test_vlans_of_two_machines(self):
        self.card.send(*(frame(A, n, [(100, 3)]) for n in range(100)), *(frame(B, n, [200]) for n in range(100)))
        self.card.send(frame(B, 1, [100]), frame(A, 2, [200]), frame(A, 3, [300]), frame(A, 4))
        self.card.send(*(frame(ALL, 500 + n, [100]) for n in range(20)))
        self.assertEqual(self.a.receive(120), [((), n) for n in [*range(100), *range(500, 520)]])
        self.assertEqual(self.b.receive(100), [((), n) for n in range(100)])
        self.assertTrue(self.a.nothing() and self.b.nothing() and self.card.nothing())
        drops = {name: n for name, n in self.plane.component("classifier")["drops"].items() if n != 0}
        self.assertEqual(drops, {"no_entry": 2, "no_vlan": 2})
        self.assertEqual(self.plane.port("card")["rx"]["packets"], 224)
        self.assertTrue(until(lambda: self.plane.port("vm_a")["tx"]["packets"] == 120))  # counted when they are on their way

        self.a.send(*(frame("02:00:00:00:00:99", n) for n in range(50)))
        self.assertEqual(self.card.receive(50), [(((100, 0),), n) for n in range(50)])
        self.b.send(*(frame("02:00:00:00:00:99", n) for n in range(50)))
        self.assertEqual(self.card.receive(50), [(((200, 0),), n) for n in range(50)])
        self.a.send(frame("02:00:00:00:00:99", 7, [200]))  # it does not choose its network
        self.assertEqual(self.card.receive(1), [(((100, 0), (200, 0)), 7)])
        self.assertTrue(self.b.nothing())
        self.assertEqual(self.plane.stop(), 0)

    def test_a_sleeping_plane_wakes_up(self):
        for n in range(20):
            asleep = until(lambda: all(worker["asleep"] for worker in self.plane.call("packet_get_status")["workers"]))
            self.assertTrue(asleep, "it does not sleep")
            self.card.send(frame(A, n, [100]))
            self.assertEqual(self.a.receive(1), [((), n)])
            self.b.send(frame(ALL, n))
            self.assertEqual(self.card.receive(1), [(((200, 0),), n)])
        self.assertEqual(self.plane.stop(), 0)

    def test_changes_of_one_port_lose_nothing_of_another(self):
        """Frames go to b and back from it in closed windows, so that no queue outside of the plane can overflow, while a is
        plugged, unplugged and retagged, and ports come and go."""
        lost, passed = [], collections.Counter()
        done = threading.Event()

        def traffic():
            n = 0
            while not done.is_set():
                window = range(n, n + 32)
                self.card.send(*(frame(B, i, [200]) for i in window))
                lost.extend({((), i) for i in window} - set(self.b.receive(32)))
                self.b.send(*(frame("02:00:00:00:00:99", i) for i in window))
                lost.extend({(((200, 0),), i) for i in window} - set(self.card.receive(32)))
                passed["frames"] += 64
                n += 32
                if lost:
                    return

        thread = threading.Thread(target=traffic)
        thread.start()
        self.addCleanup(done.set)
        rng = random.Random(SEED)
        plugged, generation = 100, 0
        try:
            for change in range(150):
                self.unplug(0, "vm_a", A, plugged)
                plugged = rng.choice([100, 101, 102, 200])
                if rng.randrange(3) == 0:
                    self.plane.call("packet_port_create", name="extra", kind="ring")
                    self.plane.call("packet_component_create", name="more", type="forward", worker=rng.randrange(2))
                    self.plane.attach("more", "extra", "rx")
                    self.plane.call("packet_component_delete", name="more")
                    self.plane.call("packet_port_delete", name="extra")
                self.plug(0, "vm_a", A, plugged)
                now = self.plane.call("packet_get_status")["generation"]
                self.assertGreater(now, generation)
                generation = now
                if change % 10 == 0:  # what was answered is so; behind the other one, that is not for the next wiring to see
                    self.card.send(frame(A, 999, [plugged + 1]), frame(A, change, [plugged]))
                    self.assertEqual(self.a.receive(1), [((), change)])
                self.assertEqual(lost, [], f"SEED={SEED}")
        finally:
            done.set()
            thread.join()
        self.assertEqual(lost, [], f"SEED={SEED}")
        self.assertGreater(passed["frames"], 0)
        for name in ("card", "vm_b", "ring:2", "ring:3"):
            port = self.plane.port(name)
            self.assertEqual((port["rx"]["full"], port["tx"]["full"]), (0, 0), port)
        print(f"note: {passed['frames']} frames during {generation} versions, none lost")
        self.assertEqual(self.plane.stop(), 0)

    def test_a_tap_is_made_and_goes_with_its_port(self):
        self.plane.call("packet_port_create", name="t", kind="tap", interface="tap_test")
        socket.if_nametoindex("tap_test")
        self.plane.call("packet_port_delete", name="t")
        self.assertRaises(OSError, socket.if_nametoindex, "tap_test")
        self.assertEqual(self.plane.stop(), 0)


def no_xdp():
    """Why this machine has no AF_XDP, or None."""
    try:
        socket.socket(44, socket.SOCK_RAW).close()
    except OSError as error:
        return f"no AF_XDP: {error}"
    return None


@unittest.skipIf(no_xdp() is not None, no_xdp() or "")
class InterfacesByXdp(Interfaces):
    """The same: frames come by a socket that the kernel's own path never sees."""

    kind, options = "af_xdp", ("--xdp",)

    def setUp(self):
        # DPDK's driver never gives back what describes its memory; a leak checker is told so.
        known = tempfile.NamedTemporaryFile("w", suffix=".supp")  # noqa: SIM115
        self.addCleanup(known.close)
        known.write("leak:xsk_umem__create\n")
        known.flush()
        self.environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={known.name}:print_suppressions=0"}
        super().setUp()

    def passes(self, n):
        self.card.send(frame(A, n, [100]))
        self.assertEqual(self.a.receive(1), [((), n)])
        self.b.send(frame(ALL, n))
        self.assertEqual(self.card.receive(1), [(((200, 0),), n)])

    def test_a_plane_that_is_killed_leaves_its_interfaces_usable(self):
        for n in range(3):
            self.passes(n)
            self.plane.process.kill()
            self.plane.process.wait()
            self.start()
        self.passes(99)
        self.assertEqual(self.plane.stop(), 0)

    def test_an_interface_comes_free_with_its_port(self):
        for n in range(3):
            self.plane.detach("forward_1_rx", "vm_b", "rx")
            self.plane.detach("forward_1_tx", "vm_b", "tx")
            self.plane.call("packet_port_delete", name="vm_b")
            self.plane.call("packet_port_create", name="vm_b", kind=self.kind, interface="vm_b")
            self.plane.attach("forward_1_tx", "vm_b", "tx")
            self.plane.attach("forward_1_rx", "vm_b", "rx", {"operation": "add", "id": 200})
            self.passes(n)
        self.assertEqual(self.plane.stop(), 0)

    def test_without_the_right_it_says_so(self):
        plane = Plane(PROGRAM).__enter__()
        self.addCleanup(plane.__exit__)
        with self.assertRaisesRegex(Refused, "--xdp"):
            plane.call("packet_port_create", name="p", kind="af_xdp", interface="card")
        self.assertEqual(plane.stop(), 0)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    if (reason := enter_namespace()) is not None:
        print("skipped:", reason)
        sys.exit(77)
    unittest.main(verbosity=0)
