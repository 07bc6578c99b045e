"""The generator's side outside the switch (generator.c): how it is told, and what it says. Must not know: which switch it is in."""

import mmap
import os
import struct
import time

WORDS = ("ready", "go", "sent", "returned", "lost", "wrong", "late", "tsc_hz")
BUCKETS = 20000  # of 10 ns


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


class Generator:
    """`path`: of the file that is shared. The other is as generator.c has it."""

    def __init__(self, path, library, flows=64, size=64, window=512, back_vlan=0, swapped=True, rate=0):
        self.library, self.flows = library, flows
        told = f"{path},flows={flows},size={size},window={window},back_vlan={back_vlan},swapped={int(swapped)},rate={rate}"
        self.environment = {**os.environ, "PENSTOCK_GENERATOR": told}
        with open(path, "w+b") as file:
            file.truncate(8 * (len(WORDS) + BUCKETS))
            self.memory = mmap.mmap(file.fileno(), 0)

    @staticmethod
    def flow(number):
        """(address, VLAN) of a flow."""
        return f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}", 100 + number % 50

    def read(self):
        return dict(zip(WORDS, struct.unpack_from(f"={len(WORDS)}Q", self.memory)))

    def go(self, on):
        struct.pack_into("=Q", self.memory, 8, int(on))

    def start(self):
        """Until frames come back, and those that met nobody are given up."""
        until(lambda: self.read()["ready"], "the generator is not in place")
        self.go(True)
        until(lambda: self.read()["returned"] > 0, "no frame comes back")
        time.sleep(0.3)

    def stop(self):
        """Until all that is out came back, or was given up."""
        self.go(False)
        until(lambda: (now := self.read())["sent"] == now["returned"] + now["lost"], "frames are out")

    def trouble(self, before):
        """What was not as it should be since then, or None. After stop()."""
        now = self.read()
        bad = {word: now[word] - before[word] for word in ("lost", "wrong", "late") if now[word] != before[word]}
        return f"{bad} of {now['sent'] - before['sent']} frames" if bad else None

    def rate(self, seconds):
        """Frames a second that came back; RuntimeError if one did not, or not as it should."""
        before, begin = self.read(), time.monotonic()
        time.sleep(seconds)
        after, took = self.read(), time.monotonic() - begin
        self.stop()
        if trouble := self.trouble(before):
            raise RuntimeError(trouble)
        return (after["returned"] - before["returned"]) / took

    def round_trip_us(self):
        """The median, of frames that went one at a time (window=1)."""
        counts = struct.unpack_from(f"={BUCKETS}Q", self.memory, 8 * len(WORDS))
        half, seen = sum(counts) / 2, 0
        for bucket, count in enumerate(counts):
            seen += count
            if seen >= half > 0:
                return (bucket + 0.5) / 100
        raise RuntimeError("no round trips")
