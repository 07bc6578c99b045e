"""What the plane's threads share, while they share it: ports, tables and captures change, counters are read and a guest comes and goes, while
two workers move frames by DPDK's drivers and rings. Frames by ports that are not touched come in order, every one. For the thread
sanitizer above all, with tsan.supp. Usage: test_races.py PENSTOCK-PACKET [SEED]."""

import os
import sys
import tempfile
import threading

from changes import Changes
from guest import Guest
from plane import Plane, dissect, frame, until

CHANGES, WINDOW, VISITS = 60, 32, 8
TO = "fa:16:3e:00:00:0b"


class Background(threading.Thread):
    """Does something again and again, until it is told to end; what it failed of is raised by end()."""

    def __init__(self, again):
        super().__init__(daemon=True)
        self.again, self.ends, self.times, self.failure = again, False, 0, None

    def run(self):
        try:
            while not self.ends:
                self.again(self.times)
                self.times += 1
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def end(self):
        self.ends = True
        self.join()
        if self.failure is not None:
            raise self.failure


class Races:
    def __init__(self, plane, folder):
        self.plane, self.folder = plane, folder
        self.guests = {name: Guest(self.path(name), server=True) for name in ("from", "to", "visitor")}

    def path(self, name):
        return os.path.join(self.folder, name)

    def forward(self, name, rx, tx, worker, vlan=None):
        self.plane.call("packet_component_create", name=name, type="forward", worker=worker)
        self.plane.attach(name, tx, "tx", vlan)
        self.plane.attach(name, rx, "rx")

    def wire(self):
        """from → classifier → ring → forward (the other worker) → memif → forward → to, with a tag between; and a visitor that gets back
        what it sends."""
        call = self.plane.call
        for name in self.guests:
            call("packet_port_create", name=name, kind="vhost_user", socket=self.path(name), client=True)
        for name in ("from", "to"):
            self.guests[name].start()
        for name in ("way", "round"):
            call("packet_port_create", name=name, kind="ring")
        call("packet_port_create", name="left", kind="memif", socket=self.path("memif"), server=True)
        call("packet_port_create", name="right", kind="memif", socket=self.path("memif"))
        call("packet_component_create", name="in", type="classifier", worker=0)
        self.plane.attach("in", "way", "tx", {"operation": "add", "id": 100})
        self.plane.attach("in", "from", "rx")
        call("packet_classifier_add_entry", component="in", mac=TO, port="way")
        self.forward("across", "way", "left", 1)
        self.forward("out", "right", "to", 0, {"operation": "del"})
        self.forward("visit", "visitor", "round", 0, {"operation": "add", "id": 200})
        self.forward("back", "round", "visitor", 1, {"operation": "del"})
        assert until(lambda: all(self.plane.port(name)["up"] for name in ("from", "to", "left", "right")), 60)

    def pass_window(self, number):
        frames = [frame(TO, number * WINDOW + n) for n in range(WINDOW)]
        self.guests["from"].send(*frames, seconds=60)
        got = self.guests["to"].receive(WINDOW, seconds=60)
        assert got == frames, f"{[dissect(data) for data in got]} of {number * WINDOW} and on"

    def visit(self, number):
        """Its frames may be lost: it does not wait for all before it goes."""
        guest = self.guests["visitor"]
        guest.start()
        guest.send(*[frame(TO, number)] * 8, seconds=60)
        assert guest.receive(1, seconds=60), "nothing comes back"
        guest.disconnect()

    def look(self):
        """Counters, of what runs; they never go back."""
        sums = {}
        for port in self.plane.call("packet_get_ports"):
            if not port["name"].startswith("x"):
                sums[port["name"]] = (port["rx"]["packets"], port["tx"]["packets"], port["rx"]["bytes"], port["tx"]["bytes"])
        self.plane.call("packet_get_components")
        self.plane.call("packet_get_status")
        return sums

    def change(self, changes, traffic, visits):
        before = self.look()
        while changes.done < CHANGES or traffic.times == 0 or visits.times < VISITS:
            for background in (traffic, visits):
                assert background.is_alive() or background.end()
            captured = changes.tried % 8 == 0
            if captured:
                self.plane.call("packet_capture_start", port="way", file=self.path("captured"))
            changes.step()
            now = self.look()
            assert all(new >= old for name in before for new, old in zip(now[name], before[name])), (before, now)
            before = now
            if captured:
                self.plane.call("packet_capture_stop", port="way")
        changes.check()

    def run(self, seed):
        self.wire()
        traffic, visits = Background(self.pass_window), Background(self.visit)
        traffic.start()
        visits.start()
        changes = Changes(self.plane.call, seed, self.folder, 2)
        self.change(changes, traffic, visits)
        visits.end()
        traffic.end()
        sent = traffic.times * WINDOW
        for name, side in (("from", "rx"), ("way", "tx"), ("left", "tx"), ("right", "rx"), ("to", "tx")):
            assert until(lambda: self.plane.port(name)[side]["packets"] == sent, 60), (name, sent, self.plane.port(name))  # pylint: disable=cell-var-from-loop
        print(f"note: {changes.done} changes, {visits.times} visits, {sent} frames, none lost")


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(os.environ.get("PENSTOCK_SEED", "1"))
    print("seed", seed, flush=True)
    with tempfile.TemporaryDirectory(prefix="packet-races-") as folder, Plane(sys.argv[1], "-w", "-,-", "--buffers", "1024") as plane:
        races = Races(plane, folder)
        races.run(seed)
        for guest in races.guests.values():
            guest.close()
        assert plane.stop() == 0


main()
