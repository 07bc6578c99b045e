"""The packet plane at rest: what it costs with nobody sending, and how soon it is awake."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "tests" / "packet")]

from figures import Figure, Node, Skip, median, row  # noqa: E402
from network import enter_namespace, ip, quiet  # noqa: E402

MACHINES = 16
WAKE_TURNS = 4  # of each, one after the other


def plane_at_rest(program, folder):
    """A card on a quiet veth and 16 machines' ports, wired as Soft Patch Panel's users have them."""
    ip("link", "add", "card", "type", "veth", "peer", "name", "wire")
    for name in ("card", "wire"):
        quiet(name)
        ip("link", "set", name, "up")
    node = Node(program, os.path.join(folder, "rpc"))
    call = node.call
    call("packet_port_create", name="phy:0", kind="af_packet", interface="card")
    call("packet_component_create", name="in", type="classifier")
    call("packet_component_create", name="out", type="merge")
    call("packet_component_attach", component="in", port="phy:0", direction="rx")
    call("packet_component_attach", component="out", port="phy:0", direction="tx")
    for number in range(MACHINES):
        port = f"vhost:{number}"
        call("packet_port_create", name=port, kind="vhost_user", socket=os.path.join(folder, f"sock{number}"))
        call("packet_component_attach", component="in", port=port, direction="tx")
        call("packet_component_attach", component="out", port=port, direction="rx")
        call("packet_classifier_add_entry", component="in", mac=f"fa:16:3e:00:00:{number:02x}", port=port)
    return node


def measure_idle(program, folder, seconds):
    """Share of a core, all threads."""
    node = plane_at_rest(program, folder)
    try:
        time.sleep(1)
        before, begin = node.cpu_ns(), time.monotonic_ns()
        time.sleep(seconds)
        return (node.cpu_ns() - before) / (time.monotonic_ns() - begin)
    finally:
        node.end()


def measure_wake(program, folder, rounds, client):
    """Times in µs of a frame every 3 ms over two veths, sorted: by a plane whose worker sleeps in between, and by a process that blocks in recv()."""
    for number in range(2):
        ip("link", "add", f"card{number}", "type", "veth", "peer", "name", f"wire{number}")
        for name in (f"card{number}", f"wire{number}"):
            quiet(name)
            ip("link", "set", name, "up")

    def times(count, *near):
        done = subprocess.run([client, "wire0", "wire1", str(count), *near], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)["us"]

    def times_of_plane(count):
        node = Node(program, os.path.join(folder, "rpc"))
        try:
            for number in range(2):
                node.call("packet_port_create", name=f"phy:{number}", kind="af_packet", interface=f"card{number}")
            node.call("packet_component_create", name="way", type="forward")
            node.call("packet_component_attach", component="way", port="phy:0", direction="rx")
            node.call("packet_component_attach", component="way", port="phy:1", direction="tx")
            return times(count)
        finally:
            node.end()

    took = {"plane": [], "bare": []}
    for _ in range(WAKE_TURNS):
        took["plane"] += times_of_plane(rounds // WAKE_TURNS)
        took["bare"] += times(rounds // WAKE_TURNS, "card0", "card1")
    return {name: sorted(values) for name, values in took.items()}


def in_namespace(what, bench, number):
    """In a process of its own, since a namespace cannot be left again."""
    done = subprocess.run(
        [sys.executable, "-B", str(HERE), what, bench.program("penstock-packet"), str(number), bench.program("frame_wake")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        raise Skip(done.stdout.strip())
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-1500:])
    return json.loads(done.stdout)


@row("packet_idle", "processor time at rest, ports for 16 machines (not there) and an af_packet card on a quiet veth", "%", ("<=", 0.5))
def idle(bench):
    got = [100 * in_namespace("idle", bench, 3 if bench.quick else 8) for _ in range(1 if bench.quick else 3)]
    return Figure(sorted(got)[len(got) // 2], samples={"percent": got})


@row("packet_wake", "one frame every 3 ms from veth to veth, asleep in between, p50", "µs", ("<=", 50))
def wake(bench):
    """Both ends of the measurement sleep, too: beside a process that does nothing but recv() and send()."""
    got = in_namespace("wake", bench, 300 if bench.quick else 4000)
    ours, bare = got["plane"], got["bare"]
    samples = {f"{name} p{part}": values[len(values) * part // 100] for name, values in got.items() for part in (50, 90, 99)}
    return Figure(median(ours), median(bare), "a process in recv()", samples=samples, note=", ".join(f"{name} {us:.0f}" for name, us in samples.items()))


def main():
    what, program, number, client = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if reason := enter_namespace():
        print(reason)
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        got = measure_idle(program, folder, number) if what == "idle" else measure_wake(program, folder, number, client)
    print(json.dumps(got))


if __name__ == "__main__":
    main()
