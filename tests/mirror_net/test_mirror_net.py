#!/usr/bin/env python3
"""A mirror over three real nodes on one machine, and what happens to them: test_mirror_net.py BUILD [CASE …]. Without cases: the short
ones, or all with PENSTOCK_TEST_BUDGET=long. Prints one line a case; the nodes' logs of one that failed."""

import os
import subprocess
import sys
import tempfile
import time

from net import World

BUILD = os.path.abspath(sys.argv[1])


def case_a_leg_is_killed(world):
    """kill -9 of a leg's node under load: a short stall, nothing lost, and it comes back by itself with what it missed."""
    world.start()
    load = world.load(4)
    time.sleep(1)
    victim = world.replicas[1]
    victim.kill()
    world.wait_not_whole(victim)
    time.sleep(0.5)
    victim.start()
    back = world.wait_leg(victim, "whole")
    result = load.result()
    copied = world.leg(victim)["bytes_copied"]
    assert world.status()["counters"]["legs_set_aside"] == 1
    assert 0 < copied <= world.size_mib << 20
    world.check_legs_equal()
    return f"stall {result['longest_stall_ms']:.0f} ms, whole {back:.1f} s after its node was up, {copied >> 10} KiB copied"


SHORT = [case_a_leg_is_killed]
LONG = []


def run(case):
    with tempfile.TemporaryDirectory(prefix="penstock-net-") as folder:
        world = World(BUILD, folder)
        begin = time.monotonic()
        try:
            with world:
                note = case(world)
            print(f"ok      {case.__name__} ({time.monotonic() - begin:.0f} s){': ' + note if note else ''}", flush=True)
            return True
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"FAILED  {case.__name__}: {type(error).__name__}: {error}", flush=True)
            for node in [world.engine, *world.replicas]:
                if os.path.exists(os.path.join(node.folder, "log")):
                    print(f"--- node {node.index}\n{node.log_text()[-3000:]}", flush=True)
            return False


def main():
    cases = SHORT + (LONG if os.environ.get("PENSTOCK_TEST_BUDGET") == "long" else [])
    if len(sys.argv) > 2:
        cases = [case for case in SHORT + LONG if case.__name__[5:] in sys.argv[2:]]
    results = [run(case) for case in cases]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
