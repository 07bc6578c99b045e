"""Random changes of ports, components and tables under full load: what goes by ports that are not touched comes back, every frame.

The load is bench/generator inside the plane: 64 flows by a classifier and a ring to a forward on another worker and back, as many
as come back. Usage: test_changes.py PENSTOCK-PACKET GENERATOR.SO [SEED]. PENSTOCK_TEST_BUDGET=long: PENSTOCK_TEST_SECONDS=3600 of it."""

import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench" / "generator"))

from changes import Changes  # noqa: E402
from generator import Generator  # noqa: E402
from plane import Plane  # noqa: E402

CHANGES, BACK_VLAN = 150, 200


def is_open_to_all(path):
    """DPDK takes no driver out of a folder that anybody may write to, such as one below /tmp."""
    return any(folder.stat().st_mode & 0o002 for folder in pathlib.Path(path).resolve().parents)


def wire(plane, generator):
    plane.call("packet_port_create", name="phy:0", kind="null")
    plane.call("packet_port_create", name="way", kind="ring")
    plane.call("packet_component_create", name="in", type="classifier", worker=0)
    plane.call("packet_component_create", name="out", type="forward", worker=1)
    plane.attach("in", "phy:0", "rx")
    plane.attach("in", "way", "tx", {"operation": "del"})
    plane.attach("out", "way", "rx")
    plane.attach("out", "phy:0", "tx", {"operation": "add", "id": BACK_VLAN})
    for flow in range(generator.flows):
        mac, vlan = generator.flow(flow)
        plane.call("packet_classifier_add_entry", component="in", mac=mac, vlan=vlan, port="way")


def main():
    program, library = sys.argv[1:3]
    if is_open_to_all(library):
        print("skipped: DPDK loads no driver from below a folder that anybody may write to")
        sys.exit(77)
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else int(os.environ.get("PENSTOCK_SEED", "1"))
    long = os.environ.get("PENSTOCK_TEST_BUDGET") == "long"
    end = time.monotonic() + float(os.environ.get("PENSTOCK_TEST_SECONDS", "3600")) if long else 0
    print("seed", seed, flush=True)
    with tempfile.TemporaryDirectory(prefix="packet-changes-") as folder:
        generator = Generator(os.path.join(folder, "generator"), library, back_vlan=BACK_VLAN, swapped=False)
        with Plane(program, "-w", "-,-", "--poll", "always", "-d", library, environment=generator.environment) as plane:
            wire(plane, generator)
            generator.start()
            before, changes = generator.read(), Changes(plane.call, seed, folder, 2)
            while changes.done < CHANGES or time.monotonic() < end:
                changes.step()
                if changes.tried % 1000 == 0:
                    changes.check()
            changes.check()
            generator.stop()
            trouble, sent = generator.trouble(before), generator.read()["sent"] - before["sent"]
            assert trouble is None, f"seed {seed}: {trouble}"
            assert sent > 0
            for name in ("phy:0", "way"):
                assert plane.port(name)["tx"]["full"] == 0, (name, plane.port(name))
            assert plane.stop() == 0
    print(f"note: {changes.done} changes of {changes.tried} tried, {sent} frames, none lost")


main()
