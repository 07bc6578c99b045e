"""What a closed port leaves behind: nothing. Heap, buffers and descriptors are what they were after the first port of the kind,
however many there have been since."""

import os
import sys
import time
import unittest

from network import enter_namespace
from plane import Plane, until, write_pcap

PROGRAM = sys.argv.pop(1)
NO_NETWORK = enter_namespace()
ROUNDS, SLOW_ROUNDS = 150, 4  # the kernel takes a while to make interfaces


def taken(plane):
    """(bytes of the heap, buffers, descriptors)"""
    status = plane.call("packet_get_status")
    heap, buffers = status["heap"], status["buffers"]
    return heap["bytes"] - heap["free_bytes"], buffers["count"] - buffers["free"], len(os.listdir(f"/proc/{plane.process.pid}/fd"))


def most_taken(plane):
    """Of several looks: DPDK's interrupt thread closes its epoll descriptor and makes it anew whenever what it listens to has changed."""
    looks = []
    for _ in range(30):
        looks.append(taken(plane))
        time.sleep(0.01)
    return tuple(map(max, zip(*looks)))


class Remains(unittest.TestCase):
    def setUp(self):
        self.plane = self.start()
        self.folder = self.plane.folder.name

    def start(self):
        plane = Plane(PROGRAM, "--buffers", "1024").__enter__()
        self.addCleanup(plane.__exit__)
        return plane

    def rounds(self, once, count, planes):
        """What the first round leaves for good, such as a driver's tables, is not made again. DPDK's own threads close what peers have left, that
        of the first round as well: there may be less in the end."""
        once()
        first = [most_taken(plane) for plane in planes]
        for _ in range(count):
            once()

        def is_no_more():
            return all(now <= then for plane, before in zip(planes, first) for now, then in zip(taken(plane), before))

        self.assertTrue(until(is_no_more), ([taken(plane) for plane in planes], first))

    def open_and_close(self, count, kind, **options):
        def once():
            self.plane.call("packet_port_create", name="x", kind=kind, **options)
            self.plane.call("packet_port_delete", name="x")

        with self.subTest(kind=kind, options=options):
            self.rounds(once, count, [self.plane])

    def test_alone(self):
        """Each kind that needs no rights."""
        path = os.path.join(self.folder, "x")
        write_pcap(path, [bytes(60)] * 3)
        self.open_and_close(ROUNDS, "ring")
        self.open_and_close(ROUNDS, "null")
        self.open_and_close(ROUNDS, "null", generate=True)
        self.open_and_close(ROUNDS, "pcap", rx_file=path, tx_file=path + "-out")
        self.open_and_close(ROUNDS, "memif", socket=path + "-memif", server=True)
        self.open_and_close(ROUNDS, "vhost_user", socket=path + "-vhost")
        self.open_and_close(ROUNDS, "vhost_user", socket=path + "-vhost", client=True, queues=2)

    @unittest.skipIf(NO_NETWORK, NO_NETWORK)
    def test_interfaces(self):
        self.open_and_close(SLOW_ROUNDS, "tap", interface="x0")
        self.open_and_close(SLOW_ROUNDS, "af_packet", interface="lo")

    def test_refused(self):
        """A port that cannot be opened leaves nothing either."""

        def once():
            with self.assertRaisesRegex(Exception, "does not start"):  # nobody listens
                self.plane.call("packet_port_create", name="x", kind="memif", socket=os.path.join(self.folder, "nobody"))

        self.rounds(once, 20, [self.plane])

    def test_memif_with_peer(self):
        """A peer comes and goes at a socket of two ports: the first one's going does not close it, the last one's does."""
        peer, path = self.start(), os.path.join(self.folder, "memif")

        def once():
            for number in (0, 1):
                self.plane.call("packet_port_create", name=f"x{number}", kind="memif", socket=path, id=number, server=True)
            self.plane.call("packet_port_delete", name="x0")
            peer.call("packet_port_create", name="x", kind="memif", socket=path, id=1)
            self.assertTrue(until(lambda: self.plane.port("x1")["up"] and peer.port("x")["up"], 60))
            peer.call("packet_port_delete", name="x")
            self.assertTrue(until(lambda: not self.plane.port("x1")["up"], 60))
            self.plane.call("packet_port_delete", name="x1")
            self.assertFalse(os.path.exists(path))

        self.rounds(once, 20, [self.plane, peer])


unittest.main()
