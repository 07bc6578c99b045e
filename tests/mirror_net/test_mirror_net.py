#!/usr/bin/env python3
"""A mirror over three real nodes on one machine, and what happens to them: test_mirror_net.py BUILD [CASE …]. Without cases: the short
ones; "all": all of them. Prints one line a case; the nodes' logs of one that failed. Each case has a process and a network namespace of
its own, and several run at a time (PENSTOCK_JOBS), since most of their time they wait. Cases that need network namespaces, nftables or
traffic control say so where those are missing."""

import concurrent.futures
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import kept
from net import MIB, NQN, Node, Relay, RpcError, World, check

BUILD = os.path.abspath(sys.argv[1])
UNTIL_STOPPED = 3600  # seconds
# In cases that are not about the longest stall a busy machine is no reason to set a leg aside, nor to copy slowly.
PATIENT = {"longest_stall_ms": 4000, "share_percent": 100}


def told(result, back=None, world=None):
    """What the load saw as its longest stall; and of that, the engine's longest change, with whom it waited for."""
    text = f"longest stall {result['longest_stall_ms']:.0f} ms"
    if world is not None:
        seen = world.status()["counters"]
        text += (f" (the engine's change: {seen['longest_stall_ms']} ms, {seen['longest_stall_before_record_ms']} ms of it before the record, "
                 f"{seen['longest_stall_leg']} stored it last)")
    return text + (f", whole again after {back:.1f} s" if back is not None else "")


def through(world, harm, mend):
    """Harm comes to the second leg under load, until it is set aside; it is mended, and comes back. All data is checked."""
    world.start()
    victim = world.replicas[1]
    load = world.load(UNTIL_STOPPED)
    time.sleep(0.7)
    watch = world.watch()
    harm(victim)
    watch.lost(victim)
    time.sleep(0.5)
    mend(victim)
    back = watch.whole(victim)
    load.stop()
    result = load.result()
    check(world.status()["counters"]["legs_set_aside"] >= 1, "no leg was set aside")
    world.check_equal()
    return result, back, world


def case_a_leg_is_killed(world):
    """A short stall, nothing lost; it comes back by itself with what it missed."""
    result, back, _ = through(world, Node.kill, lambda victim: victim.start())
    copied = world.leg(world.replicas[1])["bytes_copied"]
    check(0 < copied <= world.size_mib << 20, f"{copied} bytes copied")
    return f"{told(result, back, world)}, {copied >> 10} KiB copied"


def case_a_leg_hangs(world):
    return told(*through(world, lambda victim: victim.signal(signal.SIGSTOP), lambda victim: victim.signal(signal.SIGCONT)))


def case_a_leg_is_unplugged(world):
    return told(*through(world, lambda victim: victim.link.unplug(), lambda victim: victim.link.plug()))


def case_all_to_a_leg_is_dropped(world):
    return told(*through(world, lambda victim: victim.link.drop(100, from_leg=False), lambda victim: victim.link.drop_nothing()))


def case_all_from_a_leg_is_dropped(world):
    return told(*through(world, lambda victim: victim.link.drop(100, to_leg=False), lambda victim: victim.link.drop_nothing()))


def steady(world, harm, mend):
    """Harm that a leg may live with, or not: it is whole at the end, and all data is right."""
    world.start()
    victim = world.replicas[1]
    load = world.load(5)
    time.sleep(0.7)
    harm(victim)
    time.sleep(3)
    mend(victim)
    result = load.result()
    world.check_equal()
    return f"{told(result)}, set aside {world.status()['counters']['legs_set_aside']} times"


def case_a_leg_is_lossy(world):
    return steady(world, lambda victim: victim.link.drop(3), lambda victim: victim.link.drop_nothing())


def case_a_leg_is_slow(world):
    return steady(world, lambda victim: victim.link.rate(20), lambda victim: victim.link.rate_any())


def fill_store(replica):
    """As much of it as it gives."""
    store = replica.call("bdev_lvol_get_lvstores")[0]
    room = store["free_clusters"] * store["cluster_size"] >> 20
    for size in (room - 2, room - 8, room - 16):
        try:
            replica.call("bdev_lvol_create", lvs_name="disk", lvol_name="filler", size_in_mib=size, thin_provision=False)
            return
        except RpcError:
            pass
    raise AssertionError("the store cannot be filled")


def case_a_leg_is_full(world):
    """Its store has no room for what it would have to write, behind a new snapshot; it comes back when there is some."""
    def fill(victim):
        fill_store(victim)
        world.engine.call("mirror_snapshot_create", name="m", snapshot="s")
    result, back, _ = through(world, fill, lambda victim: victim.call("bdev_lvol_delete", name="disk/filler"))
    world.check_trees("s")
    return told(result, back, world)


def case_a_disk_has_no_room_for_what_its_leg_had(world):
    """A leg that returns keeps a copy of what it had; where that takes the room of what it missed it goes without, and becomes whole."""
    def write_all(seed):
        world.bench("-p", "write", "-b", "64K", "-n", str(world.size_mib * 16), "--seed", str(seed), "--verify")

    world.start()
    victim = world.replicas[1]
    write_all(1)
    fill_store(victim)
    world.lose(victim, Node.kill)
    write_all(2)
    wanted = world.sum()
    victim.start()
    back = world.wait_leg(victim, "whole")
    lost = world.leg(victim)["times_lost"]
    check(lost >= 2, f"there was room for both: it was lost {lost} times")
    check(world.sum() == wanted, "the mirror reads otherwise when the leg is back")
    victim.call("bdev_lvol_delete", name="disk/filler")
    world.check_trees()
    return f"whole after {back:.1f} s, lost {lost} times"


def case_a_disk_fails(world):
    """Writes of one leg fail for a while."""
    world.replicas[1].filter = "error"
    return told(*through(world, lambda victim: victim.call("bdev_error_inject_error", name=victim.device, io_type="write", error_type="failure",
                                                           num=20),
                         lambda victim: victim.call("bdev_error_inject_error", name=victim.device, io_type="clear", error_type="failure")))


def case_bytes_come_late_to_a_leg_without_record(world):
    """As below; no record tells such a leg whom to refuse: the target has ended the old connection when the new one is ready."""
    world.replicas[1].plain = True
    return case_bytes_of_a_given_up_connection_come_late(world)


def case_bytes_of_a_given_up_connection_come_late(world):
    """Writes that were held on their way to a leg reach it long after it came back by another connection: they must not land."""
    victim = world.replicas[1]
    victim.relay = Relay(victim.address, victim.port)
    world.start()
    load = world.load(UNTIL_STOPPED)
    time.sleep(0.7)
    watch = world.watch()
    held = victim.relay.hold()
    watch.lost(victim)
    back = watch.whole(victim)
    time.sleep(0.3)
    victim.relay.release(held)
    time.sleep(1)
    load.stop()
    result = load.result()
    world.check_equal()
    return told(result, back)


def case_a_leg_is_far_away(world):
    """5 ms each way to one of them."""
    victim = world.replicas[1]
    victim.relay = Relay(victim.address, victim.port)
    victim.relay.delay_s = 0.005
    world.start()
    result = world.load(2).result()
    check(world.status()["counters"]["legs_set_aside"] == 0, "a leg that is far away was set aside")
    world.check_equal()
    return told(result)


def case_each_leg_alone_is_right(world):
    """After a leg came back, each of them alone reads as all together."""
    result, back, _ = through(world, Node.kill, lambda victim: victim.start())
    world.check_legs_equal()
    return told(result, back, world)


def case_two_legs_are_lost_and_return(world):
    """Any two of the three, one after the other or at once, under load, and back in either order."""
    world.start()
    load = world.load(UNTIL_STOPPED)
    for first, second in itertools.permutations(world.replicas, 2):
        for back in ((first, second), (second, first)):
            for victim in (first, second):
                world.lose(victim, Node.kill)
                time.sleep(0.3)
            for victim in back:
                victim.start()
                world.wait_leg(victim, "whole")
        watch = world.watch()
        first.kill()
        second.kill()
        watch.lost(first, second)
        for victim in (second, first):
            victim.start()
        world.wait_whole()
    load.stop()
    result = load.result()
    world.check_equal()
    return told(result)


def case_only_the_newest_may_start(world):
    """The legs were lost one after the other, the engine last: it starts in no order of their return before the newest is there."""
    world.start()
    load = world.load(2)
    load.result()
    wanted = None
    for order in itertools.permutations(range(3)):
        world.wait_whole()
        for i in (0, 1):
            world.lose(world.replicas[i], Node.kill)
            world.bench("-p", "write", "-b", "64K", "-n", "64", "--seed", str(i + 7 * sum(k * 3 ** n for n, k in enumerate(order))), "--verify")
        wanted = world.sum()
        world.engine.kill()
        world.replicas[2].kill()
        world.engine.start()
        attached = []
        for i in order:
            world.replicas[i].start()
            world.attach(world.replicas[i])
            attached.append(i)
            if len(attached) == 1:
                world.engine.call("mirror_create", name="m", legs=[r.leg for r in world.replicas])
            if 2 not in attached:
                time.sleep(1.5)
                state = world.status()["state"]
                check(state == "configuring", f"without the newest leg it is {state}: {world.status()}")
            else:
                world.wait_state("serving")
        world.engine.transport()
        world.engine.export("m", f"{NQN}m", world.port)
        check(world.sum() == wanted, f"after {order} it reads otherwise")
    world.check_equal()


def case_all_nodes_are_cut(world):
    """Every process dies at once, under load; what was flushed is there."""
    world.start()
    load = world.load(UNTIL_STOPPED)
    for _ in range(2):
        time.sleep(1)
        cut_power(world.engine, *world.replicas, load=load)
        for replica in world.replicas:
            replica.start()
        world.start_engine()
    load.stop()
    result = load.result()
    world.check_equal()
    return told(result)


def cut_power(*nodes, load=None):
    """At once, or as nearly as signals are. The load is told that what was not flushed may be gone: when nothing is answered any more."""
    for node in nodes:
        node.process.kill()
    for node in nodes:
        node.process.wait()
        node.socket.close()
    if load is not None:
        load.unflushed_may_be_gone()


def with_power_to_lose(world):
    for replica in world.replicas:
        replica.loses_power = True
    world.start()


def unflushed_were_lost(world):
    """The disks' caches do what they are there for."""
    return sum(replica.call("bdev_get_bdevs", name="cache")[0]["driver_specific"]["volatile"]["unflushed_bytes"] for replica in world.replicas)


def case_all_nodes_lose_power(world):
    """All at once, under load, with what their disks had not flushed; what was flushed is there."""
    with_power_to_lose(world)
    load = world.load(UNTIL_STOPPED)
    lost = 0
    for _ in range(3):
        time.sleep(1)
        lost += unflushed_were_lost(world)
        cut_power(world.engine, *world.replicas, load=load)
        for replica in world.replicas:
            replica.start()
        world.start_engine()
    load.stop()
    result = load.result()
    check(lost > 0, "no disk had anything to lose")
    world.check_equal()
    return f"{told(result)}, about {lost >> 10} KiB had not been flushed"


def case_nodes_lose_power_in_turn(world):
    """One after the other, each while the others are whole: nothing at all is lost."""
    with_power_to_lose(world)
    load = world.load(UNTIL_STOPPED)
    for victim in (*world.replicas, *world.replicas):
        time.sleep(0.3)
        watch = world.watch()
        cut_power(victim)
        watch.lost(victim)
        time.sleep(0.2)
        victim.start()
        watch.whole(victim)
    load.stop()
    result = load.result()
    world.check_legs_equal()
    return told(result)


def case_the_engine_and_a_leg_lose_power(world):
    """At once, each of the legs in turn; the other two are up all the time, so nothing at all is lost."""
    with_power_to_lose(world)
    load = world.load(UNTIL_STOPPED)
    for victim in world.replicas:
        time.sleep(0.7)
        cut_power(world.engine, victim)
        victim.start()
        world.start_engine()
        world.wait_whole()
    load.stop()
    result = load.result()
    world.check_equal()
    return told(result)


def case_legs_lose_power_until_none_is_left(world):
    """One after the other and none comes back, then the engine's node too; the legs are back in every order."""
    with_power_to_lose(world)
    for order in itertools.permutations(world.replicas):
        load = world.load(UNTIL_STOPPED)
        time.sleep(0.4)
        for victim in order[:2]:
            world.lose(victim, Node.kill)
            time.sleep(0.2)
        cut_power(world.engine, order[2], load=load)
        for replica in order:
            replica.start()
        world.start_engine()
        world.wait_whole()
        load.stop()
        load.result()
    world.check_legs_equal()


def take_over(world, before, after, **options):
    """The load reaches the engine through a relay. Another engine takes over; from then on the relay leads to it. What the old one
    has acknowledged is there, and what it wrote afterwards, on whatever connection, is not: the load is one and the same."""
    world.start()
    world.relay = Relay(world.engine.address, world.port)
    load = world.load(UNTIL_STOPPED)
    time.sleep(0.7)
    identity = world.status()["uuid"]  # by which a host recognizes the namespace
    before(world.engine)
    other = Node(world, 8)
    world.others.append(other)
    world.start_engine(other, **options, uuid=identity)
    check(world.status(other)["term"] == 2, "the new engine has not a higher term")
    world.relay.turn_to(other.address, world.port)
    time.sleep(0.5)
    after(world.engine)
    world.wait_state("ended")
    time.sleep(0.5)
    load.stop()
    result = load.result()
    world.engine.kill()
    world.engine = other
    world.check_legs_equal()
    return told(result)


def case_an_old_engine_writes_on(world):
    """It is stopped with writes under way, another one takes over, and it goes on: it is refused, and ends."""
    return take_over(world, lambda old: old.signal(signal.SIGSTOP), lambda old: old.signal(signal.SIGCONT))


def case_an_old_engine_writes_during_a_switch_over(world):
    """Nobody stops it: it serves writes until the standby that is promoted has claimed the legs."""
    return take_over(world, lambda old: None, lambda old: None, standby=True)


def case_the_tree_changes_while_a_leg_is_away(world):
    """A snapshot, a deletion, a revert, a shrink and a growth that a leg has missed: then its tree and all its content are the others'."""
    world.start()
    victim, number = world.replicas[1], itertools.count(1)

    def write():
        world.bench("-p", "randwrite", "-b", "16K", "-n", "300", "--length", "40M", "--seed", str(next(number)), "--verify")

    def away(change, *snapshots):
        world.lose(victim, Node.kill)
        change()
        write()
        wanted = world.sum()
        victim.start()
        world.wait_leg(victim, "whole")
        check(world.sum() == wanted, "the mirror reads otherwise when the leg is back")
        world.check_trees(*snapshots)

    def resize():
        for size in (world.size_mib // 2, world.size_mib):
            world.engine.call("mirror_resize", name="m", size_in_mib=size)
        half = world.size_mib * MIB // 2
        check(world.content()[half:].count(0) == half, "what was beyond a smaller size is there again")

    for name in ("a", "b"):
        write()
        world.engine.call("mirror_snapshot_create", name="m", snapshot=name)
    write()
    away(lambda: world.engine.call("mirror_snapshot_create", name="m", snapshot="c"), "a", "b", "c")
    away(lambda: world.engine.call("mirror_snapshot_delete", name="m", snapshot="b"), "a", "c")
    away(lambda: world.engine.call("mirror_snapshot_revert", name="m", snapshot="a"), "a", "c")
    away(resize, "a", "c")
    world.check_legs_equal()


def case_a_node_comes_up_while_a_leg_is_away(world):
    """The engine's node is started from its file with a leg's node away: it serves, and takes that leg when it is there."""
    world.start()
    victim = world.replicas[1]
    world.lose(victim, Node.kill)
    world.load(1).result()
    wanted, path = world.sum(), world.engine.save_config()
    world.engine.kill()
    world.engine.start("--json", path)
    world.wait_state("serving")
    check(world.sum() == wanted, "it reads otherwise than before")
    victim.start()
    world.wait_leg(victim, "whole")
    check(world.sum() == wanted, "it reads otherwise with the leg that was away")
    world.check_equal()


SHORT = [case_a_leg_is_killed, case_a_leg_hangs, case_all_nodes_lose_power, case_an_old_engine_writes_on]
NEED_LINKS = [case_a_leg_is_unplugged, case_all_to_a_leg_is_dropped, case_all_from_a_leg_is_dropped, case_a_leg_is_lossy, case_a_leg_is_slow]
# About the longest stall: the others do not set a leg aside because the machine is busy.
PROMPT = [case_a_leg_is_killed, case_a_leg_hangs, *NEED_LINKS]
# The longest first.
ALL = [case_two_legs_are_lost_and_return, case_legs_lose_power_until_none_is_left, case_nodes_lose_power_in_turn,
       case_the_tree_changes_while_a_leg_is_away, case_only_the_newest_may_start, case_each_leg_alone_is_right, *SHORT,
       case_an_old_engine_writes_during_a_switch_over, case_all_nodes_are_cut, case_the_engine_and_a_leg_lose_power,
       case_bytes_of_a_given_up_connection_come_late, case_bytes_come_late_to_a_leg_without_record, *NEED_LINKS, case_a_leg_is_full,
       case_a_disk_has_no_room_for_what_its_leg_had, case_a_disk_fails, case_a_leg_is_far_away, case_a_node_comes_up_while_a_leg_is_away]


def run(case, namespaces):
    with kept.Folder(prefix="penstock-net-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        begin = time.monotonic()
        world = None
        try:
            world = World(BUILD, folder, namespaces, {} if case in PROMPT else PATIENT)
            with world:
                note = case(world)
            print(f"ok      {case.__name__} ({time.monotonic() - begin:.0f} s){': ' + note if note else ''}", flush=True)
            return True
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"FAILED  {case.__name__}: {type(error).__name__}: {error}", flush=True)
            for node in [] if world is None else [world.engine, *world.others, *world.replicas]:
                if os.path.exists(os.path.join(node.folder, "log")):
                    print(f"--- node {node.index}\n{node.log_text()[-3000:]}", flush=True)
            return False


def namespace_words():
    """What runs a command in a network namespace of its own, where it may do what it likes; None where that is not to be had."""
    missing = [name for name in ("ip", "nft", "tc", "unshare", "nsenter") if shutil.which(name) is None]
    words = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    probe = "ip link add probe0 type veth peer name probe1 && nft list ruleset && tc qdisc add dev probe0 root tbf rate 1mbit burst 32k latency 1ms"
    if not missing and subprocess.run([*words, "sh", "-c", probe], capture_output=True, check=False).returncode == 0:
        return words
    print(f"note: no links of their own for the legs: {' '.join(missing) + ' missing' if missing else 'namespaces are refused here'}")
    return None


def run_apart(case, words):
    """One case in a process of its own; its lines are printed together."""
    done = subprocess.run([*(words or []), sys.executable, "-B", *sys.argv[:2], case.__name__[5:]], capture_output=True, text=True, check=False,
                          env=dict(os.environ, PENSTOCK_NET_INSIDE="links" if words else "none"))
    print(done.stdout, done.stderr, sep="", end="", flush=True)
    return done.returncode == 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its nodes end with it
    inside = os.environ.get("PENSTOCK_NET_INSIDE")
    if inside:
        if inside == "links":
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return not all([run(case, inside == "links") for case in ALL if case.__name__[5:] in sys.argv[2:]])
    cases = SHORT
    if sys.argv[2:] == ["all"]:
        cases = ALL
    elif len(sys.argv) > 2:
        unknown = set(sys.argv[2:]) - {case.__name__[5:] for case in ALL}
        if unknown:
            sys.exit(f"no case {', '.join(sorted(unknown))}; there are: {' '.join(case.__name__[5:] for case in ALL)}")
        cases = [case for case in ALL if case.__name__[5:] in sys.argv[2:]]
    begin, words = time.monotonic(), namespace_words()
    if words is None:
        for case in [case for case in cases if case in NEED_LINKS]:
            print(f"skipped {case.__name__}: it needs a link that can be cut")
        cases = [case for case in cases if case not in NEED_LINKS]
    # Without namespaces they would have the same addresses.
    jobs = int(os.environ.get("PENSTOCK_JOBS", "4")) if words is not None else 1
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda case: run_apart(case, words), cases))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed, {time.monotonic() - begin:.0f} s")
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
