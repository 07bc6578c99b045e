#!/usr/bin/env python3
"""Searches the mirror's model with spin: what must hold, and that each planted fault is found.

usage: check_models.py SOURCE_ROOT [WORD…]    (words: only rows whose names contain one)

Each row names a build (blocks, power loss), the bounds and what is to come of it; see mirror.pml for what they mean. Rows of the long
budget (PENSTOCK_TEST_BUDGET=long) are searched by hashing (bitstate): that finds faults, and proves nothing about what it missed. Each is
searched for at most PENSTOCK_MODEL_SECONDS (900) of a processor's time, in 512 MiB and the stack. Its line tells what that covered: whether the
search came to its end, how deep it was, and the hash factor (bits for each state: above 100 next to nothing was taken for seen by mistake).
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

SKIPPED = 77
HERE = pathlib.Path(__file__).resolve().parent
SOURCES = ["blockdev/mirror/decide.c", "block/replica_record.c", "base/crc32c.c", "base/error.c", "base/uuid.c"]

BUILDS = {
    "one block": ["-DBLOCKS=1"],
    "one block, power": ["-DBLOCKS=1", "-DPOWER"],
    "two blocks": ["-DBLOCKS=2"],
    "two blocks, power": ["-DBLOCKS=2", "-DPOWER"],
    "one block, unproven": ["-DBLOCKS=1", "-DPOWER", "-DUNPROVEN"],
}

# engines, failures, writes, ids; then `majority` and `equal terms`
HOLDS = [
    ("one engine", "one block", (1, 2, 1, 6), "any"),
    ("one engine", "one block", (1, 2, 1, 6), "majority"),
    ("one engine, two blocks", "two blocks", (1, 1, 2, 5), "any"),
    ("one engine, power", "one block, power", (1, 1, 2, 5), "any"),
    ("two engines", "one block", (2, 1, 1, 4), "any"),
    ("two engines", "one block", (2, 1, 1, 4), "majority"),
    ("two engines, power", "one block, power", (2, 1, 1, 4), "any"),
    ("two engines, power", "one block, power", (2, 1, 1, 4), "majority"),
    ("two void attempts", "one block", (2, 2, 0, 5), "any"),
    ("two void attempts", "one block", (2, 2, 0, 5), "majority"),
    ("two engines, two blocks", "two blocks", (2, 0, 2, 5), "any"),
    ("one engine, unproven", "one block, unproven", (1, 2, 1, 6), "any"),
    ("two engines of one term", "one block", (2, 1, 1, 4), "any equal"),
]
LONG = [
    ("two engines, deep", "one block", (2, 2, 1, 6), "any"),
    ("two engines, deep", "one block", (2, 2, 1, 6), "majority"),
    ("two engines, two blocks, deep", "two blocks", (2, 2, 3, 7), "any"),
    ("two engines, two blocks, deep", "two blocks", (2, 2, 3, 7), "majority"),
    ("two engines, deeper", "two blocks", (2, 3, 3, 9), "any"),
    ("two engines, deeper", "two blocks", (2, 3, 3, 9), "majority"),
    ("two engines, power, deep", "two blocks, power", (2, 2, 3, 8), "any"),
    ("two engines, power, deep", "two blocks, power", (2, 2, 3, 8), "majority"),
]
FAULTS = {
    "FENCE": ("one block", (2, 0, 1, 4), "any"),
    "NUMBER": ("one block", (1, 1, 2, 5), "any"),
    "RAISED": ("one block", (2, 2, 1, 5), "any"),
    "MEMBERS_ONLY": ("one block", (2, 3, 1, 5), "majority"),
    "STATUS_IS_CLAIM": ("one block", (2, 1, 1, 4), "majority"),
    "ATTEMPTS": ("one block", (1, 3, 1, 6), "any"),
    "IN_FLIGHT": ("one block", (1, 2, 1, 6), "any"),
    "EPOCH_EARLY": ("one block", (2, 1, 1, 4), "any"),
    "TOO_DEEP": ("one block", (2, 2, 1, 5), "majority"),
    "WHOLE_EARLY": ("one block", (1, 1, 1, 5), "any"),
    "BARRIER": ("one block", (1, 1, 2, 5), "any"),
    "UNEQUAL": ("one block", (2, 2, 1, 6), "any"),
    "OWN_MARKS": ("one block", (2, 1, 1, 5), "majority"),
    "SENT_IN_CHANGE": ("one block", (2, 2, 1, 5), "any"),
    "ACK_IN_CHANGE": ("one block", (2, 1, 1, 4), "any"),
    "CLEAR": ("one block", (1, 1, 1, 5), "any"),
    "MARK_AFTER_DATA": ("one block", (2, 1, 1, 4), "any"),
    "NOT_EQUALISED": ("one block", (2, 0, 1, 4), "any"),
    "INCARNATION": ("one block, power", (2, 1, 1, 4), "any"),
    "VAIN": ("one block", (2, 1, 1, 4), "any"),
    "UNPROVEN": ("one block, unproven", (1, 2, 1, 6), "any"),
}


def fault_numbers():
    text = (HERE / "mirror.pml").read_text(encoding="utf-8")
    return {name: int(number) for name, number in re.findall(r"#define WRONG_(\w+) (\d+)", text)}


class Builds:
    """One program for each build and way of searching, made when it is first wanted."""

    def __init__(self, root, directory):
        self.root, self.directory, self.made = root, directory, {}

    def get(self, name, hashed):
        if (name, hashed) not in self.made:
            flags = BUILDS[name]
            where = self.directory / f"{len(self.made)}"
            where.mkdir()
            subprocess.run(["spin", *flags, "-a", str(HERE / "mirror.pml")], cwd=where, check=True, stdout=subprocess.DEVNULL)
            search = ["-DBITSTATE"] if hashed else ["-DCOLLAPSE"]
            command = ["gcc", "-O1" if not hashed else "-O2", "-w", "-std=gnu17", "-DSAFETY", "-DMEMLIM=4000", "-DVECTORSZ=1024"]
            command += [*search, *flags, f"-I{HERE}", f"-I{self.root / 'src'}", "-o", "pan", "pan.c"]
            subprocess.run(command + [str(self.root / "src" / source) for source in SOURCES], cwd=where, check=True)
            self.made[(name, hashed)] = where
        return self.made[(name, hashed)]


def cpu_seconds(pid):
    """What the process has used so far: how far a search comes must not depend on how busy the machine is."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def search(builds, build, bounds, rules, fault, seconds=None):
    """Returns whether something was found, whether all was searched, the number of states, and what was found."""
    where = builds.get(build, seconds is not None)
    words = [*bounds, int("majority" in rules), int("equal" in rules), fault]
    environment = dict(os.environ, MIRROR_MODEL=" ".join(str(word) for word in words))
    command = ["./pan", "-m1000000", "-w22"] if seconds is None else ["./pan", "-m1000000", "-w32"]
    process = subprocess.Popen(command, cwd=where, env=environment, stdout=subprocess.PIPE, text=True)
    while True:
        try:
            output = process.communicate(timeout=1)[0]
            break
        except subprocess.TimeoutExpired:
            if seconds is not None and cpu_seconds(process.pid) > seconds:
                process.send_signal(signal.SIGINT)  # it closes with its counts
                output = process.communicate()[0]
                break
    errors = re.search(r"errors: (\d+)", output)
    if errors is None:
        sys.exit(f"the search of {build} {bounds} broke off:\n{output}")
    states = int(re.search(r"(\S+) states, stored", output).group(1))
    what = re.search(r"^pan:1: (.*)", output, re.M)
    whole = "not completed" not in output
    factor, depth = re.search(r"hash factor: (\S+)", output), re.search(r"depth reached (\d+)", output)
    covered = f"{'to its end' if whole else 'broken off'}, {depth.group(1)} steps deep, hash factor {factor.group(1)}" if factor and depth else ""
    return errors.group(1) != "0", whole, states, what.group(1)[:200] if what else covered


def main():
    root, words = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            print(f"{tool} is not here")
            return SKIPPED
    long = os.environ.get("PENSTOCK_TEST_BUDGET") == "long"
    seconds_max = int(os.environ.get("PENSTOCK_MODEL_SECONDS", "900"))
    numbers = fault_numbers()
    if set(numbers) != set(FAULTS):
        sys.exit(f"mirror.pml and this list differ: {set(numbers) ^ set(FAULTS)}")
    passed = failed = total = 0
    rows = [(name, build, bounds, rules, 0, None) for name, build, bounds, rules in HOLDS]
    rows += [(fault, *FAULTS[fault], numbers[fault], None) for fault in numbers]
    if long:
        rows += [(name, build, bounds, rules, 0, seconds_max) for name, build, bounds, rules in LONG]
    with tempfile.TemporaryDirectory() as directory:
        builds = Builds(root, pathlib.Path(directory))
        for name, build, bounds, rules, fault, seconds in rows:
            if words and not any(word in name for word in words):
                continue
            found, whole, states, what = search(builds, build, bounds, rules, fault, seconds)
            good = found == (fault != 0) and (found or whole or seconds is not None)
            passed, failed, total = passed + good, failed + (not good), total + states
            verdict = f"found: {what}" if found else "holds" if whole and seconds is None else f"nothing found, {what}"
            print(f"{'ok  ' if good else 'FAIL'} {name}, {rules}, {build}, {bounds}: {verdict}, {states} states", flush=True)
    print(f"note: {total} states of the mirror's model")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
