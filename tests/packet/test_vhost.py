"""Ports of kind vhost_user, with the other end played by guest.py: frames, peers that go and come back, the plane killed and started
again, several queues, work on frames that is left to others, and guests that lie."""

import os
import random
import signal
import struct
import sys
import tempfile
import time
import unittest

import guest as virtio
from guest import BUFFER, HEADER, INDIRECT, INDIRECT_DESC, NEXT, SIZE, USER, WRITE, Guest
from plane import Plane, dissect, frame, until

A, B = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
SEED = int(os.environ.get("SEED", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "2"))


class Rig(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="vhost-")
        self.addCleanup(self.folder.cleanup)
        self.guests = {}
        self.addCleanup(lambda: [guest.close() for guest in self.guests.values()])
        self.plane = None
        self.addCleanup(lambda: self.plane.__exit__())

    def start_plane(self, *options, errors=None):
        self.plane = Plane(PROGRAM, "--workers", "-,-", *options, errors=errors).__enter__()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def add_guest(self, name, client=False, **options):
        """client: of the plane's port, as it is with QEMU as the server."""
        self.guests[name] = Guest(self.path(name), server=client, **options)
        return self.guests[name]

    def add_port(self, name, **more):
        guest = self.guests[name]
        options = {"client": guest.listener is not None, "queues": guest.queues, **more}
        self.plane.call("packet_port_create", name=name, kind="vhost_user", socket=guest.path, **options)

    def join(self, first, second, worker=0):
        """A pair of forwards, one each way."""
        for rx, tx in ((first, second), (second, first)):
            name = f"{rx}_{tx}"
            self.plane.call("packet_component_create", name=name, type="forward", worker=worker)
            self.plane.attach(name, tx, "tx")
            self.plane.attach(name, rx, "rx")

    def pair(self, client=True, **options):
        """Guests a and b, up and joined. As server DPDK takes a second to notice its first peer."""
        a, b = self.add_guest("a", client, **options), self.add_guest("b", client, **options)
        for name in ("a", "b"):
            self.add_port(name)
            self.guests[name].start()
        self.join("a", "b")
        self.assertTrue(until(lambda: self.plane.port("a")["up"] and self.plane.port("b")["up"]))
        return a, b

    def assertPasses(self, sender, taker, first=0, count=100, length=60):
        frames = [frame(A, n, length=length) for n in range(first, first + count)]
        got = []
        while frames:
            sender.send(*frames[:32])
            got += taker.receive(len(frames[:32]))
            frames = frames[32:]
        self.assertEqual([dissect(data) for data in got], [((), n) for n in range(first, first + count)])
        self.assertTrue(all(len(data) == length for data in got))

    def end_bursts(self):
        """What was taken has come where it goes: workers take up a change between two bursts."""
        self.plane.call("packet_component_create", name="change", type="forward")
        self.plane.call("packet_component_delete", name="change")

    def one(self, taker):
        """The next frame, which has to come."""
        got = taker.receive(1)
        self.assertTrue(got, "nothing comes")
        return got


class Peers(Rig):
    def test_frames_pass_between_two_guests(self):
        self.start_plane()
        a, b = self.pair()
        for length in (60, 1514, 4000):
            self.assertPasses(a, b, length=length)
            self.assertPasses(b, a, length=length)
        self.assertTrue(a.post(frame(A, 7, length=9000), pieces=4))  # more than a buffer of either side
        a.rings[1].notify()
        self.assertTrue(until(lambda: a.rings[1].used_index() == a.rings[1].next_avail))
        self.assertTrue(until(lambda: self.plane.port("a")["rx"]["packets"] >= 301))
        self.assertEqual(b.receive(1, 0.1), [])  # b has no chains of buffers
        self.assertEqual(self.plane.stop(), 0)

    def test_big_frames_take_several_buffers(self):
        self.start_plane()
        a, b = self.pair(features=[virtio.MRG_RXBUF])
        for n in range(20):
            data = frame(A, n, length=60000)
            self.assertTrue(until(lambda: a.post(data, pieces=16)))
            a.rings[1].notify()
            self.assertEqual(b.receive(1), [data])
        self.assertPasses(b, a)

    def test_a_kick_wakes_a_sleeping_plane(self):
        self.start_plane()
        a, b = self.pair()
        for n in range(20):
            asleep = until(lambda: all(worker["asleep"] for worker in self.plane.call("packet_get_status")["workers"]))
            self.assertTrue(asleep, "it does not sleep")
            sender, taker = (a, b) if n % 2 else (b, a)
            self.assertPasses(sender, taker, first=n, count=1)

    def assertKicksAreWanted(self, mode, wanted):
        """wanted: of rings that frames come by. Never of the others: a kick is a system call of the guest's, or leaves its machine."""
        self.start_plane("--poll", mode)
        guests = self.pair(queues=2)
        for n in range(2):
            self.assertPasses(*guests, first=n, count=1)
        rings = [ring for guest in guests for ring in guest.rings]
        expected = [wanted and ring.index % 2 == 1 for ring in rings]
        self.assertTrue(until(lambda: [ring.wants_kicks() for ring in rings] == expected), [ring.wants_kicks() for ring in rings])

    def test_who_polls_wants_no_kicks(self):
        self.assertKicksAreWanted("always", False)

    def test_who_sleeps_wants_kicks_of_frames_only(self):
        self.assertKicksAreWanted("adaptive", True)

    def test_sixteen_idle_guests_wake_nobody(self):
        self.start_plane()
        self.plane.call("packet_port_create", name="card", kind="null")
        self.plane.call("packet_component_create", name="merge", type="merge", worker=1)
        self.plane.attach("merge", "card", "tx")
        for n in range(16):
            guest = self.add_guest(f"vm{n}", client=True)
            self.add_port(f"vm{n}")
            guest.start()
            self.plane.attach("merge", f"vm{n}", "rx")
        self.assertTrue(until(lambda: self.plane.rests(1.5)), "they do not sleep")
        for n in (0, 7, 15):
            self.guests[f"vm{n}"].send(frame(A, n))
        self.assertTrue(until(lambda: self.plane.port("card")["tx"]["packets"] == 3))

    def test_a_peer_goes_and_comes_back(self):
        """As server the plane waits for it, as client it looks for it again; it wakes up for it as for the first one."""
        for client in (False, True):
            with self.subTest(client=client):
                self.start_plane()
                a, b = self.pair(client)
                for n in range(2):
                    self.assertPasses(a, b, 100 * n)
                    b.disconnect()
                    self.assertTrue(until(lambda: not self.plane.port("b")["up"]))
                    a.send(*(frame(A, 1000 + i) for i in range(10)))
                    self.assertTrue(until(lambda: self.plane.port("b")["tx"]["full"] == 10 * (n + 1)))  # noqa: B023
                    b.start()
                    self.assertTrue(until(lambda: self.plane.port("b")["up"]))
                    until(lambda: all(worker["asleep"] for worker in self.plane.call("packet_get_status")["workers"]))
                    self.assertPasses(b, a, 200)
                    self.assertPasses(a, b, 300)
                self.assertEqual(self.plane.port("b")["tx"]["full"], 20)
                self.assertEqual(self.plane.stop(), 0)
                for name in list(self.guests):
                    guest = self.guests.pop(name)
                    guest.close()
                    if client:
                        os.unlink(guest.path)
                self.plane.__exit__()

    def test_a_second_peer_is_sent_away(self):
        """A server's socket is one port's: whoever else connects changes nothing, and may have it when the first has gone."""
        self.start_plane()
        a, b = self.pair(client=False)
        other = self.guests["other"] = Guest(a.path)
        for n in range(3):
            with self.assertRaises(OSError):
                other.start()
            other.disconnect()
            self.assertTrue(self.plane.port("a")["up"])
            self.assertPasses(a, b, 1000 * n)
            self.assertPasses(b, a, 1000 * n)
        a.disconnect()
        self.assertTrue(until(lambda: not self.plane.port("a")["up"]))
        other.start()
        self.assertTrue(until(lambda: self.plane.port("a")["up"]))
        self.assertPasses(other, b, 5000)
        self.assertPasses(b, other, 6000)
        self.assertEqual(self.plane.stop(), 0)

    def test_the_plane_is_killed_and_put_back(self):
        """Guests listen, as QEMU does. They stay, and what was on its way is lost or comes, once."""
        self.start_plane()
        a, b = self.pair(client=True)
        rng = random.Random(SEED)
        number = 0
        for n in range(ROUNDS):
            self.assertPasses(a, b, number)
            number += 100
            a.send(*(frame(A, number + i) for i in range(rng.randrange(1, SIZE))))
            b.send(*(frame(B, number + i) for i in range(rng.randrange(1, SIZE))))
            time.sleep(rng.random() * 0.002)
            self.plane.process.send_signal(signal.SIGKILL)
            self.plane.process.wait()
            self.plane.__exit__()
            before = time.monotonic()
            self.start_plane()
            for guest in (a, b):
                guest.disconnect()
                self.add_port("a" if guest is a else "b")
                guest.start()
            self.join("a", "b")
            if n == 0:
                print(f"note: ports are back {time.monotonic() - before:.2f} s after the plane began to start")
            self.assertTrue(until(lambda: self.plane.port("a")["up"] and self.plane.port("b")["up"]))
            for sender, taker in ((a, b), (b, a)):
                sender.send(frame(A, number + 400))  # behind all that was on its way
                seen = []
                while seen[-1:] != [number + 400]:
                    seen += [dissect(data)[1] for data in self.one(taker)]
                self.assertEqual(seen, sorted(set(seen)), f"SEED={SEED} round {n}")
            self.assertPasses(a, b, number + 500)
            self.assertPasses(b, a, number + 700)
            number += 1000
        self.assertEqual(self.plane.stop(), 0)

    def test_a_socket_left_behind_is_replaced(self):
        self.start_plane()
        self.pair(client=False)
        self.plane.process.send_signal(signal.SIGKILL)
        self.plane.process.wait()
        self.plane.__exit__()
        self.assertTrue(os.path.exists(self.path("a")))
        self.start_plane()
        for name in ("a", "b"):
            self.guests[name].disconnect()
            self.add_port(name)
            self.guests[name].start()
        self.join("a", "b")
        self.assertPasses(self.guests["a"], self.guests["b"])

    def test_flows_are_spread_over_the_queues_that_a_guest_uses(self):
        self.start_plane()
        a, b = self.pair(queues=4)
        flows = [bytes([2, 0, 0, 0, 0, n]) for n in range(32)]
        sent = {}
        for n in range(20):
            for flow in flows:
                data = bytearray(frame(A, n))
                data[6:12] = flow
                a.send(bytes(data), queue=n % 4)
                sent.setdefault(flow, []).append(n)
            got = {}
            total = 0
            while total < len(flows):
                for queue in range(4):
                    while (taken := b.take(queue)) is not None:
                        got.setdefault(queue, []).append(taken[1])
                        total += 1
            for queue, frames in got.items():
                for data in frames:
                    key = ("queue of", data[6:12])
                    self.assertEqual(sent.setdefault(key, queue), queue)  # a flow stays where it is
            self.assertGreater(len(got), 1)
        for queue in (1, 2):
            b.send_message(virtio.SET_VRING_ENABLE, struct.pack("<II", 2 * queue, 0))
        b.ask(virtio.GET_FEATURES)
        for n in range(200, 210):
            a.send(*(bytes(frame(A, n, source="02:00:00:00:00:%02x" % i)) for i in range(32)))
            self.assertEqual(len(b.receive(32, queues=[0, 3])), 32)
        self.assertEqual(self.plane.port("b")["tx"]["full"], 0)

    def test_queues_that_a_guest_does_not_have_are_left_alone(self):
        """DPDK logs each look at one: a line a poll would fill the disk."""
        with open(self.path("log"), "w+", encoding="utf-8", errors="replace") as log:
            self.start_plane("--poll=always", errors=log)
            a, b = self.add_guest("a", client=True), self.add_guest("b", client=True)
            for name in ("a", "b"):
                self.add_port(name, queues=4)
                self.guests[name].start()
            self.join("a", "b")
            self.assertTrue(until(lambda: self.plane.port("a")["up"] and self.plane.port("b")["up"]))
            for n in range(5):
                self.assertPasses(a, b, 1000 * n)
                self.assertPasses(b, a, 1000 * n)
            self.assertEqual(self.plane.stop(), 0)
            log.seek(0)
            lines = log.read().splitlines()
            self.assertLess(len(lines), 1000, lines[-1:])


def sum16(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Packet:
    """TCP or UDP over IP in an Ethernet frame, as a guest that leaves the rest to us makes it: with the sum of the pseudo header."""

    def __init__(self, payload, v6=False, udp=False, tags=(), flags=0x18):
        self.payload, self.v6, self.udp = payload, v6, udp
        source, to = (bytes(range(16)), bytes(range(16, 32))) if v6 else (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
        protocol, self.l4_size = (17, 8) if udp else (6, 20)
        length = self.l4_size + len(payload)
        pseudo = sum16(source + to + struct.pack("!II", length, protocol))
        self.pseudo_without_length = sum16(source + to + struct.pack("!I", protocol))
        if udp:
            l4 = struct.pack("!HHHH", 1000, 2000, length, pseudo)
        else:
            l4 = struct.pack("!HHIIBBHHH", 1000, 2000, 7, 9, 0x50, flags, 1024, pseudo, 0)
        if v6:
            ip = struct.pack("!IHBB", 0x60000000, length, protocol, 64) + source + to
        else:
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 77, 0x4000, 64, protocol, 0) + source + to
            ip = ip[:10] + struct.pack("!H", ~sum16(ip) & 0xFFFF) + ip[12:]
        head = b"\xfa\x16\x3e\0\0\x0a\xfa\x16\x3e\0\0\x0b"
        for tag in tags:
            head += struct.pack("!HH", 0x8100, tag)
        head += struct.pack("!H", 0x86DD if v6 else 0x0800)
        self.sum_start, self.sum_offset = len(head) + len(ip), 6 if udp else 16
        self.data = head + ip + l4 + payload

    def header(self, guest, gso_size=0):
        gso = 0 if gso_size == 0 else 4 if self.v6 else 1
        return guest.header(1, gso, self.sum_start + self.l4_size, gso_size, self.sum_start, self.sum_offset)


def check(data, tags=0):
    """The TCP or UDP segment of a frame whose sums are right: (sequence number, TCP's flags, payload)."""
    at = 12 + 4 * tags
    v6 = data[at : at + 2] == b"\x86\xdd"
    ip = data[at + 2 :]
    if v6:
        length, protocol, l4 = struct.unpack_from("!H", ip, 4)[0], ip[6], ip[40:]
        addresses = ip[8:40]
        assert len(l4) == length, "lengths"
    else:
        assert sum16(ip[:20]) == 0xFFFF, "the sum of the IP header"
        total, protocol, l4 = struct.unpack_from("!H", ip, 2)[0], ip[9], ip[20:]
        addresses = ip[12:20]
        assert total == len(ip), "lengths"
    assert sum16(addresses + struct.pack("!II", len(l4), protocol) + l4) == 0xFFFF, "the sum of the segment"
    if protocol == 17:
        return 0, 0, l4[8:]
    return struct.unpack_from("!I", l4, 4)[0], l4[13], l4[20:]


ALL_WORK = [virtio.CSUM, virtio.GUEST_CSUM, virtio.GUEST_TSO4, virtio.GUEST_TSO6, virtio.HOST_TSO4, virtio.HOST_TSO6, virtio.MRG_RXBUF]


class Offload(Rig):
    def start(self, a_features, b_features, vlan=None):
        self.start_plane()
        self.a, self.b = self.add_guest("a", True, features=a_features), self.add_guest("b", True, features=b_features)
        for name in ("a", "b"):
            self.add_port(name)
            self.guests[name].start()
        self.plane.call("packet_component_create", name="forward", type="forward")
        self.plane.attach("forward", "b", "tx", vlan)
        self.plane.attach("forward", "a", "rx")
        self.assertTrue(until(lambda: self.plane.port("b")["up"]))
        self.assertEqual(self.a.features, self.a.wanted, "the plane offers less")

    def pass_one(self, packet, gso_size=0):
        pieces = -(-(len(packet.data) + HEADER) // BUFFER)
        self.assertTrue(until(lambda: self.a.post(packet.data, header=packet.header(self.a, gso_size), pieces=pieces)))
        self.a.rings[1].notify()

    def test_work_is_left_to_the_next_guest(self):
        """Sums and trains go through untouched, and where the headers are stays right under a tag of ours."""
        for vlan, tags in ((None, 0), ({"operation": "add", "id": 5}, 1)):
            self.start(ALL_WORK, ALL_WORK, vlan)
            for v6 in (False, True):
                for udp, gso_size in ((True, 0), (False, 0), (False, 1400)):
                    packet = Packet(os.urandom(20000 if gso_size else 1000), v6, udp)
                    self.pass_one(packet, gso_size)
                    self.assertTrue(until(lambda: self.b.rings[0].used_index() != self.b.rings[0].next_used))
                    header, data = self.b.take()
                    flags, gso, _, size, start, offset, _ = header
                    self.assertEqual((flags & 1, start, offset), (1, packet.sum_start + 4 * tags, packet.sum_offset))
                    self.assertEqual((gso, size), ((4 if v6 else 1) if gso_size else 0, gso_size))
                    expected = packet.data
                    if gso_size:  # DPDK leaves the length out of the pseudo header's sum of a train
                        at = packet.sum_start + packet.sum_offset
                        expected = expected[:at] + struct.pack("!H", packet.pseudo_without_length) + expected[at + 2 :]
                    self.assertEqual(data[:12] + data[12 + 4 * tags :], expected)
            self.assertEqual(self.plane.stop(), 0)
            self.plane.__exit__()
            for name in list(self.guests):
                self.guests[name].close()
                os.unlink(self.guests.pop(name).path)

    def test_work_is_done_for_who_cannot(self):
        self.start(ALL_WORK, [], {"operation": "add", "id": 5})
        for v6 in (False, True):
            for udp in (False, True):
                for size in (0, 1, 1000, 1001):
                    packet = Packet(os.urandom(size), v6, udp)
                    self.pass_one(packet)
                    (data,) = self.b.receive(1)
                    self.assertEqual(check(data, 1)[2], packet.payload)
            for size, gso_size in ((1400, 1400), (1401, 1400), (20000, 1448), (50000, 1000), (3000, 536)):
                packet = Packet(os.urandom(size), v6, flags=0x89 | 0x08)  # CWR, PSH, FIN
                self.pass_one(packet, gso_size)
                parts = [check(data, 1) for data in self.b.receive(-(-size // gso_size))]
                self.assertEqual(b"".join(part[2] for part in parts), packet.payload)
                self.assertEqual([part[0] for part in parts], [7 + n * gso_size for n in range(len(parts))])
                self.assertTrue(all(len(part[2]) == gso_size for part in parts[:-1]))
                for n, part in enumerate(parts):
                    last = n == len(parts) - 1
                    self.assertEqual(part[1] & 0x89, (0x80 if n == 0 else 0) | (0x09 if last else 0))
        self.assertEqual(self.plane.port("b")["tx"]["unfinished"], 0)

    def test_wrong_notes_on_frames(self):
        """What contradicts itself is dropped and counted, whoever it goes to; what does not, is passed."""
        rng = random.Random(SEED)
        self.start(ALL_WORK, [])
        packet = Packet(os.urandom(1200))
        good = packet.header(self.a)
        cases = [(packet.data, good[:2] + struct.pack("<HHHH", 0, 0, rng.randrange(65536), rng.randrange(65536)) + good[10:])
                 for _ in range(50)]  # fmt: skip
        cases += [(packet.data, packet.header(self.a, size)) for size in (1, 2, 63, 65535)]
        cases += [(packet.data[:cut], packet.header(self.a, rng.choice([0, 500]))) for cut in range(14, len(packet.data), 37)]
        for _ in range(300):
            broken = bytearray(packet.data)
            for _ in range(rng.randrange(1, 4)):
                broken[rng.randrange(12, 54)] = rng.randrange(256)
            cases.append((bytes(broken), packet.header(self.a, rng.choice([0, 0, 64, 500, 65535]))))
        for data, header in cases:
            while not self.a.post(data, header=header):
                time.sleep(0.0005)
            self.a.rings[1].notify()
            while self.b.take() is not None:
                pass

        def all_taken():
            while self.b.take() is not None:
                pass
            return self.a.rings[1].used_index() == self.a.rings[1].next_avail

        self.assertTrue(until(all_taken))
        self.end_bursts()
        all_taken()
        self.assertGreater(self.plane.port("b")["tx"]["unfinished"], 0)
        self.pass_one(packet)
        self.assertEqual(check(self.one(self.b)[0])[2], packet.payload)
        self.assertEqual(self.plane.stop(), 0)


class Hostile(Rig):
    """A third guest does what it can; a and b go on without losing a frame."""

    def start(self, features=(), size=None, joined=True):
        self.start_plane()
        self.a, self.b = self.pair()
        self.bad = self.add_guest("bad", features=features, size=size)
        self.add_port("bad")
        self.plane.call("packet_port_create", name="drain", kind="null")
        self.plane.call("packet_port_create", name="source", kind="null", generate=True)
        self.plane.call("packet_component_create", name="from_bad", type="forward")
        self.plane.attach("from_bad", "drain", "tx")
        self.plane.attach("from_bad", "bad", "rx")
        self.number = 0

    def assertOthersPass(self):
        self.number += 1000
        self.assertPasses(self.a, self.b, self.number)
        self.assertPasses(self.b, self.a, self.number)
        self.assertEqual(self.plane.port("b")["tx"]["full"], 0)

    def assertServed(self, others=False):
        """Frames of the third guest arrive, as anybody's do; others: and perhaps what a peer before it left."""
        before = self.plane.port("drain")["tx"]["packets"]
        self.bad.send(*(frame(A, i) for i in range(32)))

        def arrived():
            count = self.plane.port("drain")["tx"]["packets"] - before
            return count == 32 or (others and count > 32)

        self.assertTrue(until(arrived))

    def assertAnotherServed(self):
        """The peer after this one is served."""
        self.guests["bad"].close()
        self.bad = self.add_guest("bad").start()
        self.assertServed(others=True)
        self.assertEqual(self.plane.stop(), 0)

    def wait_a_little(self):
        until(lambda: self.bad.rings[1].used_index() == self.bad.rings[1].next_avail, 0.05)

    def flood(self):
        """Frames without end into the bad one."""
        self.plane.call("packet_component_create", name="to_bad", type="forward")
        self.plane.attach("to_bad", "bad", "tx")
        self.plane.attach("to_bad", "source", "rx")

    def test_descriptors(self):
        self.start(features=[INDIRECT_DESC])
        ring_size = self.bad.size
        wild = [0xFFFFFFFFFFFFFFFF, ring_size, ring_size - 8, USER, 1 << 63, ring_size + (1 << 32)]
        cases = [
            *([("desc", 0, address, 64, 0, 0)] for address in wild),
            [("desc", 0, 0x100000 % ring_size, 0xFFFFFFFF, 0, 0)],
            [("desc", 0, 0, 0, 0, 0)],
            [("desc", 0, 0, 5, 0, 0)],  # less than its header
            [("desc", 0, 0, HEADER, 0, 0)],
            [("desc", 0, 0, HEADER + 3, 0, 0)],  # a frame of three bytes
            [("desc", 0, 0, 64, NEXT, 0)],  # a loop
            [("desc", 0, 0, 64, NEXT, 1), ("desc", 1, 64, 64, NEXT, 0)],
            [("desc", 0, 0, 64, NEXT, SIZE)],  # out of the table
            [("desc", 0, 0, 64, NEXT, 0xFFFF)],
            [("desc", 0, 0, 64, WRITE, 0)],
            [("desc", 0, 0, 64, INDIRECT, 0)],
            [("desc", 0, 0, 17, INDIRECT, 0)],
            [("desc", 0, wild[0], 16, INDIRECT, 0)],
            [("desc", 0, 0, 0xFFFFFFF0, INDIRECT, 0)],
            [("desc", 0, 0, 64, INDIRECT | NEXT, 0)],
            [("offer", SIZE)], [("offer", 0xFFFF)], [("offer", SIZE + 1)],
            [("avail", 0xFFFF)], [("avail", SIZE * 3)],
        ]  # fmt: skip
        for case in cases:
            with self.subTest(case=case):
                self.bad.start()
                ring = self.bad.rings[1]
                for what, *values in case:
                    if what == "desc":
                        ring.put_desc(*values)
                    elif what == "offer":
                        ring.offer(*values)
                    else:
                        struct.pack_into("<H", self.bad.memory, ring.avail + 2, values[0])
                if case[0][0] == "desc":
                    ring.offer(0)
                ring.notify()
                self.wait_a_little()
                self.assertOthersPass()
                self.bad.disconnect()
                self.guests["bad"].close()
                self.bad = self.add_guest("bad", features=[INDIRECT_DESC])
                self.assertTrue(until(lambda: not self.plane.port("bad")["up"]))
        self.bad.start()
        self.bad.send(*(frame(A, n) for n in range(10)))
        before = self.plane.port("drain")["tx"]["packets"]
        self.assertTrue(until(lambda: self.plane.port("drain")["tx"]["packets"] >= before))
        self.assertEqual(self.plane.stop(), 0)

    def test_buffers_to_receive_in(self):
        """The same lies told by the ring that frames go into."""
        self.start()
        self.flood()
        rng = random.Random(SEED)
        for n in range(20):
            self.bad.start()
            ring = self.bad.rings[0]
            for slot in range(SIZE):
                ring.put_desc(slot, rng.choice([0, 1 << 63, self.bad.size - 4, self.bad.size, USER]), rng.choice([0, 1, 12, 4096, 0xFFFFFFFF]),
                              rng.choice([0, NEXT, WRITE, NEXT | WRITE, INDIRECT]), rng.choice([0, slot, SIZE, 0xFFFF]))  # fmt: skip
            ring.offer(*(rng.choice([n % SIZE, SIZE, 0xFFFF]) for n in range(SIZE)))
            ring.notify()
            if n % 5 == 0:
                self.assertOthersPass()
            self.bad.disconnect()
            self.guests["bad"].close()
            self.bad = self.add_guest("bad")
        self.assertOthersPass()
        self.assertEqual(self.plane.stop(), 0)

    def test_a_ring_that_is_never_emptied(self):
        self.start()
        self.bad.start()
        self.flood()
        self.assertTrue(until(lambda: self.plane.port("bad")["tx"]["full"] > 1000))
        self.assertOthersPass()

    def test_memory_that_goes_away(self):
        """The file behind it is cut short under load, both ways: that port is dead and says so, until its guest comes anew."""
        self.start()
        for n in range(3):
            self.bad.start()
            if n == 0:
                self.flood()
            self.bad.send(*(frame(A, i) for i in range(32)))
            self.assertTrue(until(lambda: self.plane.port("bad")["tx"]["packets"] > 0))
            os.ftruncate(self.bad.file, [0, 4096, self.bad.rings[1].desc][n])
            self.bad.rings[0].notify()
            self.bad.rings[1].notify()
            self.assertTrue(until(lambda: "fault" in self.plane.port("bad")))
            self.assertFalse(self.plane.port("bad")["up"])
            self.assertOthersPass()  # by the same worker: what it had of the bad one is counted
            port = self.plane.port("bad")
            for _ in range(2):
                self.assertOthersPass()
            for name in ("a", "b"):
                self.assertNotIn("fault", self.plane.port(name))
            self.assertEqual(self.plane.port("bad")["rx"]["packets"], port["rx"]["packets"])
            self.bad.disconnect()
            self.assertTrue(until(lambda: "fault" not in self.plane.port("bad")))
            os.ftruncate(self.bad.file, self.bad.size)  # so that closing it ends well
            self.guests["bad"].close()
            self.bad = self.add_guest("bad")
            if n == 2:
                self.plane.call("packet_component_delete", name="to_bad")
        self.bad.start()
        self.assertServed()
        self.assertEqual(self.plane.stop(), 0)

    def test_memory_that_was_plugged_in_goes_away(self):
        """A new table of memory comes while the rings run: what is mapped then counts."""
        self.start()
        self.bad.start()
        plugged = self.bad.plug_memory(1 << 20)
        self.assertServed()
        self.assertNotIn("fault", self.plane.port("bad"))
        os.ftruncate(plugged, 0)
        ring = self.bad.rings[1]
        ring.put_desc(ring.next_avail % SIZE, self.bad.size + 4096, HEADER + 60)
        ring.offer(ring.next_avail % SIZE)
        ring.notify()
        self.assertTrue(until(lambda: "fault" in self.plane.port("bad")))
        self.assertFalse(self.plane.port("bad")["up"])
        self.assertOthersPass()
        for name in ("a", "b"):
            self.assertNotIn("fault", self.plane.port(name))
        self.bad.disconnect()
        self.assertAnotherServed()

    def test_a_peer_that_falls_silent_within_a_message(self):
        """It holds up nobody for long: neither other ports' peers, nor who closes its port, nor the plane's end."""
        self.start_plane()
        silent = self.add_guest("silent", client=True)

        def begin():
            while True:  # as client, the plane comes again
                silent.disconnect()
                silent.connect()
                try:
                    silent.send_message(virtio.SET_FEATURES, length=8)
                    return
                except OSError:
                    pass  # a connection of the port that was closed

        self.add_port("silent")
        for _ in range(3):
            begin()
            self.assertTrue(silent.hung_up())
        begin()
        self.assertPasses(*self.pair())
        begin()
        self.plane.call("packet_port_delete", name="silent")
        self.add_port("silent")
        begin()
        self.assertTrue(silent.hung_up())
        silent.disconnect()
        silent.connect()
        silent.connection.setblocking(False)

        def asked():  # and it does not read the answers
            try:
                silent.send_message(virtio.GET_FEATURES)
            except BlockingIOError:
                return False
            except OSError:
                return True  # hung up on

        self.assertTrue(until(asked))
        self.assertTrue(silent.hung_up())
        self.assertEqual(self.plane.stop(), 0)

    def test_messages(self):
        """Nonsense on the socket ends that connection at most."""
        self.start()
        rng = random.Random(SEED)
        words = [0, 1, 2, 63, 64, 0xFFFF, 0xFFFFFFFF, 1 << 63, USER, self.bad.size]

        def word():
            return rng.choice(words) & 0xFFFFFFFFFFFFFFFF

        for n in range(60):
            self.bad.connect()
            try:
                if n % 2:
                    self.bad.negotiate()
                for _ in range(rng.randrange(1, 8)):
                    request = rng.choice([*range(1, 42), 200, 0xFFFFFFFF])
                    payload = b"".join(struct.pack("<Q", word()) for _ in range(rng.randrange(9)))
                    files = [self.bad.file] * rng.choice([0, 0, 1, 1, 2, 8])
                    self.bad.send_message(request, payload, files, flags=rng.choice([virtio.VERSION] * 3 + [0, 9, 0xFF]),
                                          length=rng.choice([None, None, None, len(payload) + 8, 0, 0xFFFFFFFF]))  # fmt: skip
            except OSError:
                pass  # it hung up: right so
            if n % 10 == 0:
                self.assertOthersPass()
            self.bad.disconnect()
        self.assertOthersPass()
        self.assertAnotherServed()


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=int(os.environ.get("VERBOSITY", "0")))
