#!/usr/bin/env python3
"""The plane as several processes: frames pass between them in order, each refuses what is another's, and all live and die together.

Usage: test_processes.py PENSTOCK-PACKET. Needs root and 160 huge pages; skipped without."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import unittest

import guest as virtio
import huge
from plane import Plane, Refused, frame, read_pcap, until, write_pcap

PROGRAM = sys.argv.pop(1)
BUFFERS = 4096
LIBC = ctypes.CDLL(None)
FOLDER = None  # of huge pages
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
CPU = min(os.sched_getaffinity(0))
MAP = f"1={CPU},2-5={CPU},6-9={CPU}"


class Processes(unittest.TestCase):
    def setUp(self):
        self.planes, self.guests = {}, []
        self.start()

    def tearDown(self):
        for one in self.guests:
            one.close()
        for plane in self.planes.values():
            plane.__exit__()

    def start(self, path=None):
        self.primary = Plane(PROGRAM, "--primary", "--huge-dir", FOLDER, "--buffers", str(BUFFERS), "-w", "-,-", path=path)
        self.planes["primary"] = self.primary

    def vf(self, number, mask, *options):
        path = self.primary.path
        if number in self.planes:
            self.planes[number].__exit__()
        plane = Plane(PROGRAM, "--vf", str(number), "--core-mask", mask, "--cpu-map", MAP, *options, path=f"{path}.vf-{number}", given=path)
        self.planes[number] = plane
        return plane

    def path(self, name):
        return os.path.join(self.primary.folder.name, name)

    def assertRefused(self, code, what, call, **params):
        with self.assertRaises(Refused) as caught:
            call(**params)
        self.assertEqual(caught.exception.code, code)
        self.assertIn(what, str(caught.exception))

    def assertStartRefused(self, number, mask, path=None, environment=None):
        arguments = [PROGRAM, "-r", path or self.primary.path, "--vf", str(number), "--core-mask", mask, "--cpu-map", MAP]
        done = subprocess.run(arguments, timeout=60, check=False, env=environment)
        self.assertNotIn(done.returncode, (0, 23))  # 23: a sanitizer's
        self.assertGreater(done.returncode, 0)

    def add_ring(self, plane, name, **more):
        plane.call("packet_port_create", name=name, kind="ring", size=4096, **more)

    def forward(self, plane, name, rx, tx, **place):
        plane.call("packet_component_create", name=name, type="forward", **place)
        plane.attach(name, tx, "tx")
        plane.attach(name, rx, "rx")

    def all_free(self):
        status = self.primary.call("packet_get_status")
        return status["buffers"]["free"] == status["buffers"]["count"]

    def ended(self):
        return all(plane.process.poll() is not None for plane in self.planes.values())

    def test_frames_pass_through_all_in_order(self):
        one, two = self.vf(1, "0x3e"), self.vf(2, "0x3c2")
        frames = [frame(A, number) for number in range(2000)]
        write_pcap(self.path("in.pcap"), frames)
        for plane, rings in ((self.primary, "ac"), (one, "ab"), (two, "bc")):
            for ring in rings:
                self.add_ring(plane, ring)
        self.primary.call("packet_port_create", name="out", kind="pcap", tx_file=self.path("out.pcap"))
        self.forward(self.primary, "last", "c", "out", worker=1)
        self.forward(two, "two", "b", "c", vf=2, core=7)
        self.forward(one, "one", "a", "b", vf=1, core=2)
        self.primary.call("packet_port_create", name="in", kind="pcap", rx_file=self.path("in.pcap"))
        self.forward(self.primary, "first", "in", "a")
        self.assertTrue(until(lambda: self.primary.port("out")["tx"]["packets"] == len(frames)))
        self.assertEqual(one.component("one")["packets"], len(frames))
        # an orderly end of one: the others go on, its frames are given back, and its successor takes its place
        self.assertEqual(one.stop(), 0)
        one = self.vf(1, "0x3e")
        self.add_ring(one, "a")
        self.assertEqual(two.component("two")["packets"], len(frames))
        self.primary.call("packet_component_delete", name="first")
        self.primary.call("packet_port_delete", name="in")
        self.assertTrue(until(self.all_free))
        self.primary.call("packet_component_delete", name="last")
        self.primary.call("packet_port_delete", name="out")
        self.assertEqual(read_pcap(self.path("out.pcap")), frames)
        for plane in (two, one, self.primary):
            self.assertEqual(plane.stop(), 0)

    def test_what_is_another_process_s_is_refused(self):
        one = self.vf(1, "0x3e", "--vhosts", "1")
        self.assertEqual([(vf["id"], vf["core_mask"]) for vf in one.call("packet_get_vfs")], [(1, "0x3e")])
        self.assertStartRefused(1, "0x3c2")
        self.assertStartRefused(2, "0x22")  # core 5 is vf 1's
        elsewhere = os.path.join(self.primary.folder.name, ".", "rpc.sock")  # the same socket, and not the same name for DPDK
        self.assertStartRefused(2, "0x3c2", path=elsewhere)
        self.assertStartRefused(2, "0x3c2", environment={**os.environ, "RUNTIME_DIRECTORY": self.primary.folder.name})
        self.assertStartRefused(0, "0x3c2")  # that is the plane itself
        self.assertStartRefused(2, "0x402")  # there is no core 10 on the map
        for plane in (one, self.primary):
            self.assertRefused(-95, "processes", plane.call, method="packet_vf_create", id=3, core_mask="0x3e")
            self.assertRefused(-95, "processes", plane.call, method="packet_vf_delete", id=1)
            self.assertRefused(-22, "client", plane.call, method="packet_port_create", name="v", kind="vhost_user", socket=self.path("v"))
        self.assertRefused(-22, "kind", one.call, method="packet_port_create", name="n", kind="null")
        self.add_ring(self.primary, "a")
        self.assertRefused(-22, "size", one.call, method="packet_port_create", name="a", kind="ring", size=2048)
        self.assertIsNone(one.process.poll())

    def add_guest(self, plane, name):
        made = virtio.Guest(self.path(name), server=True)
        self.guests.append(made)
        self.plug(plane, name)
        return made.start()

    def plug(self, plane, name):
        plane.call("packet_port_create", name=name, kind="vhost_user", socket=self.path(name), client=True)

    def test_guests_of_two_processes_meet(self):
        """By a ring each way. A port that is closed and opened again in one process has its guest again."""
        one, two = self.vf(1, "0x3e"), self.vf(2, "0x3c2")
        for plane in (one, two):
            for ring in "ab":
                self.add_ring(plane, ring)
        a, b = self.add_guest(one, "g1"), self.add_guest(two, "g2")
        self.forward(one, "from1", "g1", "a", vf=1, core=2)
        self.forward(one, "to1", "b", "g1", vf=1, core=3)
        self.forward(two, "from2", "g2", "b", vf=2, core=6)
        self.forward(two, "to2", "a", "g2", vf=2, core=7)
        for n in range(2):
            for sender, taker in ((a, b), (b, a)):
                frames = [frame(A, 1000 * n + number) for number in range(50)]
                sender.send(*frames)
                self.assertEqual(taker.receive(50), frames)
            for component in ("from1", "to1"):
                one.call("packet_component_delete", name=component)
            one.call("packet_port_delete", name="g1")
            self.assertTrue(a.hung_up())
            a.disconnect()
            self.plug(one, "g1")
            a.start()
            self.forward(one, "from1", "g1", "a", vf=1, core=2)
            self.forward(one, "to1", "b", "g1", vf=1, core=3)

    def sleeps(self, *planes):
        """How often each worker has fallen asleep; None: one does not sleep."""
        workers = [worker for plane in planes for worker in plane.call("packet_get_status")["workers"]]
        return [worker["sleeps"] for worker in workers] if all(worker["asleep"] for worker in workers) else None

    def test_a_ring_wakes_its_reader_wherever_that_is(self):
        """Who sleeps beside a ring is woken by a frame, and by nothing else: it does not look into it now and then."""
        one, two = self.vf(1, "0x3e"), self.vf(2, "0x3c2")
        everybody = (self.primary, one, two)
        for plane in (one, two):
            for ring in "abc":
                self.add_ring(plane, ring)
        self.add_ring(self.primary, "b")
        self.add_ring(self.primary, "d")
        self.add_ring(one, "d")
        a, b = self.add_guest(one, "g1"), self.add_guest(two, "g2")
        # from g1 by another process, by the primary, by another worker of the first process, and back to the second
        self.forward(one, "from1", "g1", "a", vf=1, core=2)
        self.forward(two, "on", "a", "b", vf=2, core=6)
        self.forward(self.primary, "there", "b", "d", worker=1)
        self.forward(one, "back", "d", "c", vf=1, core=3)
        self.forward(two, "to2", "c", "g2", vf=2, core=7)
        for number in range(50):
            self.assertTrue(until(lambda: self.sleeps(*everybody) is not None))
            data = frame(A, number)
            a.send(data)
            self.assertEqual(b.receive(1), [data])
        self.assertTrue(until(lambda: self.rest(*everybody)))
        for plane in (one, two, self.primary):
            self.assertEqual(plane.stop(), 0)

    def rest(self, *planes):
        before = self.sleeps(*planes)
        time.sleep(0.5)  # who says that it is asleep may have a last look to end
        return before is not None and before == self.sleeps(*planes)

    def signal_all(self, plane):
        """Each of a process's eventfds, as a writer that was slow does whose ring has gone meanwhile."""
        pidfd_getfd = 438
        process = os.pidfd_open(plane.process.pid)
        for name in os.listdir(f"/proc/{plane.process.pid}/fd"):
            if os.readlink(f"/proc/{plane.process.pid}/fd/{name}") == "anon_inode:[eventfd]":
                fd = LIBC.syscall(pidfd_getfd, process, int(name), 0)
                self.assertGreaterEqual(fd, 0)
                os.eventfd_write(fd, 1)
                os.close(fd)
        os.close(process)

    def test_a_signal_that_comes_too_late_wakes_once(self):
        """Neither the worker that it was for goes on without a rest, nor its successor in another process."""
        one = self.vf(1, "0x3e")
        for ring in "ab":
            self.add_ring(one, ring)
        self.forward(one, "on", "a", "b", vf=1, core=2)
        one.call("packet_component_delete", name="on")
        self.assertTrue(until(lambda: self.rest(one)))
        self.signal_all(one)
        self.assertTrue(until(lambda: self.rest(one)))
        self.assertEqual(one.stop(), 0)
        one = self.vf(1, "0x3e")
        self.assertTrue(until(lambda: self.rest(one)))
        for plane in (one, self.primary):
            self.assertEqual(plane.stop(), 0)

    def test_a_process_that_cannot_have_what_it_needs_ends_alone(self):
        """Whether it has joined already or not."""
        one = self.vf(1, "0x3e")

        def start(limit, most):
            arguments = [PROGRAM, "-r", self.primary.path, "--vf", "2", "--core-mask", "0x3c2", "--cpu-map", MAP]
            done = subprocess.run(arguments, timeout=60, check=False, stderr=subprocess.PIPE, text=True,
                                  preexec_fn=lambda: resource.setrlimit(limit, (most, most)))  # noqa: PLW1509  # fmt: skip
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual([plane.process.poll() for plane in (self.primary, one)], [None, None], done.stderr)
            return done.stderr

        said, files = "", 40
        while "EAL: " not in said:  # more and more of them, until it is DPDK that has too few
            said += start(resource.RLIMIT_NOFILE, files)
            files += 1
        self.assertIn(".join.held: Too many open files", said)  # which it opens when the primary has counted it in
        start(resource.RLIMIT_AS, 8 << 30)
        two = self.vf(2, "0x3c2")
        for plane in (two, one, self.primary):
            self.assertEqual(plane.stop(), 0)

    def test_a_process_that_waits_for_its_primary_ends_when_it_is_told_to(self):
        arguments = [PROGRAM, "-r", self.path("silent"), "--vf", "1", "--core-mask", "0x3e", "--cpu-map", MAP]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("silent.join"))
            listener.listen()
            process = subprocess.Popen(arguments)
            connection, _ = listener.accept()
            with connection:
                self.assertTrue(connection.recv(256).startswith(b"1 62 "))
                process.send_signal(signal.SIGTERM)  # it would give up by itself after half a minute, and say that it has failed
                self.assertEqual(process.wait(60), 0)
                self.assertEqual(connection.recv(256), b"leave\n")
        with open(self.path("other.join.held"), "wb") as held:  # of an earlier primary's process
            fcntl.flock(held, fcntl.LOCK_SH)
            process = subprocess.Popen([PROGRAM, "-r", self.path("other"), "--primary", "--huge-dir", FOLDER])
            self.assertTrue(until(lambda: self.waits_for_signals(process)))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(60), 0)

    def waits_for_signals(self, process):
        """Instead of being ended by them, as at its beginning."""
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            blocked = next(line for line in file if line.startswith("SigBlk:"))
        return int(blocked.split()[1], 16) >> (signal.SIGTERM - 1) & 1 == 1

    def test_all_die_with_one_and_start_again(self):
        for victim in (1, "primary"):
            one, two = self.vf(1, "0x3e"), self.vf(2, "0x3c2")
            for plane in (self.primary, one):
                self.add_ring(plane, "a")
            self.primary.call("packet_port_create", name="gen", kind="null", generate=True)
            self.primary.call("packet_port_create", name="hole", kind="null")
            for ring in "bc":
                self.add_ring(one, ring)
            self.forward(one, "on", "a", "b", vf=1, core=2)
            self.forward(one, "back", "b", "c", vf=1, core=3)
            self.add_ring(self.primary, "c")
            self.forward(self.primary, "in", "gen", "a")
            self.forward(self.primary, "out", "c", "hole", worker=1)
            self.assertTrue(until(lambda: self.primary.port("hole")["tx"]["packets"] > 10000))
            self.planes[victim].process.kill()
            self.assertTrue(until(self.ended), f"all end with {victim}: {[p.process.poll() for p in self.planes.values()]}")
            old = self.primary
            self.start(old.path)
            self.addCleanup(old.__exit__)
            self.assertTrue(self.all_free())

    def states(self, plane):
        folder = f"/proc/{plane.process.pid}/task"
        found = set()
        for thread in os.listdir(folder):
            try:
                with open(f"{folder}/{thread}/stat", encoding="ascii") as file:
                    found.add(file.read().rsplit(")", 1)[1].split()[0])
            except (FileNotFoundError, ProcessLookupError):
                found.add("X")  # it has ended since
        return found

    def test_a_primary_waits_for_the_last_of_the_old(self):
        """A process that was stopped has what is shared still mapped when the primary is dead: nobody may build it anew under it."""
        one = self.vf(1, "0x3e")
        one.process.send_signal(signal.SIGSTOP)
        self.assertTrue(until(lambda: self.states(one) == {"T"}))  # all of its threads, so that none sees the primary die
        self.primary.process.kill()
        self.primary.process.wait()
        arguments = [PROGRAM, "-r", self.primary.path, "--primary", "--huge-dir", FOLDER, "--buffers", str(BUFFERS)]
        self.assertNotEqual(subprocess.run(arguments, timeout=60, check=False).returncode, 0)
        one.process.send_signal(signal.SIGCONT)
        self.assertTrue(until(self.ended))
        old = self.primary
        self.start(old.path)
        self.assertEqual(self.primary.stop(), 0)
        old.__exit__()


if __name__ == "__main__":
    with huge.pages(160) as FOLDER:
        result = unittest.main(exit=False, verbosity=1).result
    sys.exit(not result.wasSuccessful())
