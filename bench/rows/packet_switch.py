"""The packet plane beside testpmd and Open vSwitch: generator ⇄ switch ⇄ vhost ⇄ virtio-user, both ways.

The generator (bench/generator) is loaded into all three and turns their net_null port into a card. The switch has processor 1, the
"guest" (testpmd that swaps addresses, on virtio-user) processor 0. Same buffers, rings, memory and flows for all: the VLAN's tag is
popped, the address looked up, and on the way back VLAN 200 pushed; testpmd only hands on. Five runs in turn, medians."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from figures import ROOT, Figure, Node, Skip, median, row

sys.path[:0] = [str(ROOT / "bench" / "generator"), str(ROOT / "tests" / "packet")]

from changes import Changes  # noqa: E402
from generator import Generator, until  # noqa: E402

BUFFERS = 16384
HUGE_PAGES = 640  # of 2 MiB: switch and guest
BACK_VLAN = 200
OVS = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
TIMES = 5


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(*command, **more):
    """A process until the end of the block; what it says goes to a file, for when it fails."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **more)
        try:
            yield process
        except Skip:
            raise
        except Exception as error:
            said.seek(0)
            raise RuntimeError(f"{error}\n{command[0]} said: {said.read()[-1500:]}") from error
        finally:
            end(process)


class Ground:
    """Folders, huge pages and the guest."""

    def __init__(self, bench, folder, huge):
        self.bench, self.folder, self.huge = bench, pathlib.Path(folder), huge
        self.count = 0

    def memory(self, mebibytes):
        """DPDK's words for it."""
        return ["--in-memory", "--huge-dir", self.huge, "-m", str(mebibytes)] if self.huge else ["--no-huge", "-m", str(mebibytes)]

    def name(self, what):
        self.count += 1
        return str(self.folder / f"{what}{self.count}")

    def generator(self, flows, size=64, window=512, back_vlan=BACK_VLAN, rate=0):
        return Generator(self.name("generator"), self.bench.program("generator.so"), flows, size, window, back_vlan, rate=rate)

    @contextlib.contextmanager
    def guest(self, path):
        until(lambda: os.path.exists(path), "the switch has no socket")
        with running(
            testpmd(), *self.memory(160), "--no-pci", "--file-prefix", "guest", "--single-file-segments", "--lcores", "0@0,1@0",
            "--vdev", f"net_virtio_user0,path={path},queues=1,queue_size=1024", "--", "--forward-mode=macswap", "--auto-start",
            "--stats-period=1000", f"--total-num-mbufs={BUFFERS}",
        ):  # fmt: skip
            yield


def testpmd():
    path = shutil.which("dpdk-testpmd")
    if path is None:
        raise Skip("dpdk-testpmd is not installed (dpdk-dev)")
    return path


# ---- the three switches, each until the end of the block ----


@contextlib.contextmanager
def run_penstock(ground, generator, path, flows):
    options = ["-w", "1", "--poll", "always", "--buffers", str(BUFFERS), "-d", generator.library]
    if ground.huge:
        options += ["--huge-dir", ground.huge]
    node = Node(ground.bench.program("penstock-packet"), ground.name("rpc"), options, generator.environment)
    try:
        node.call("packet_port_create", name="phy:0", kind="null")
        node.call("packet_port_create", name="vhost:0", kind="vhost_user", socket=path)
        node.call("packet_component_create", name="in", type="classifier")
        node.call("packet_component_create", name="out", type="forward")
        node.call("packet_component_attach", component="in", port="phy:0", direction="rx")
        node.call("packet_component_attach", component="in", port="vhost:0", direction="tx", vlan={"operation": "del"})
        for flow in range(flows):
            mac, vlan = generator.flow(flow)
            node.call("packet_classifier_add_entry", component="in", mac=mac, vlan=vlan, port="vhost:0")
        node.call("packet_component_attach", component="out", port="vhost:0", direction="rx")
        node.call("packet_component_attach", component="out", port="phy:0", direction="tx", vlan={"operation": "add", "id": BACK_VLAN})
        yield node
    finally:
        node.end()


@contextlib.contextmanager
def run_testpmd(ground, generator, path, flows):
    del flows  # it looks at nothing
    with running(
        testpmd(), "-d", generator.library, *ground.memory(160), "--no-pci", "--file-prefix", "switch", "--lcores", "0@1,1@1",
        "--vdev", "net_null0,no-rx=1", "--vdev", f"net_vhost0,iface={path},queues=1", "--", "--forward-mode=io", "--auto-start",
        "--stats-period=1000", f"--total-num-mbufs={BUFFERS}", env=generator.environment,
    ):  # fmt: skip
        yield


def use_avx512(tell):
    """All of it that this build has; Skip: it has nothing of it."""
    has = {
        command: tell(f"dpif-netdev/{command}-get")
        for command in ("dpif-impl", "subtable-lookup-prio", "miniflow-parser")
    }
    if not any("avx512" in text for text in has.values()):
        raise Skip(f"this Open vSwitch was built without AVX-512: {' '.join(' '.join(has.values()).split())}")
    if "dpif_avx512" in has["dpif-impl"]:
        tell("dpif-netdev/dpif-impl-set", "dpif_avx512")
    if "avx512_gather" in has["subtable-lookup-prio"]:
        tell("dpif-netdev/subtable-lookup-prio-set", "avx512_gather", "5")
    if "avx512" in has["miniflow-parser"]:
        tell("dpif-netdev/miniflow-parser-set", "study")


@contextlib.contextmanager
def run_ovs(ground, generator, path, flows, avx512=False):
    """As its manual has it, without services: a database, the daemon, a bridge of the user space, flows."""
    if not os.path.exists(OVS):
        raise Skip("Open vSwitch with DPDK is not installed (openvswitch-switch-dpdk)")
    folder = pathlib.Path(ground.name("ovs"))
    folder.mkdir()
    environment = {**generator.environment, "OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder), "OVS_DBDIR": str(folder)}

    def call(*command, said=None):
        done = subprocess.run(command, env=environment, input=said, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    call("ovsdb-tool", "create", str(folder / "conf.db"), OVS_SCHEMA)
    with contextlib.ExitStack() as stack:
        stack.enter_context(running("ovsdb-server", str(folder / "conf.db"), f"--remote=punix:{folder}/db.sock", env=environment))
        until(lambda: (folder / "db.sock").exists(), "no database")
        database = ["ovs-vsctl", f"--db=unix:{folder}/db.sock"]
        extra = f"--no-pci --in-memory -d {generator.library}" + ("" if ground.huge else " --no-huge -m 160")
        settings = {
            "dpdk-init": "true", "dpdk-socket-mem": "160", "dpdk-hugepage-dir": ground.huge, "dpdk-lcore-mask": "0x2",
            "pmd-cpu-mask": "0x2", "dpdk-extra": extra, "vhost-sock-dir": ".",
        }  # fmt: skip
        control = folder / "control"
        call(*database, "--no-wait", "set", "Open_vSwitch", ".", *(f'other_config:{key}="{value}"' for key, value in settings.items()))
        stack.enter_context(running(OVS, f"--unixctl={control}", f"unix:{folder}/db.sock", env=environment))
        name = os.path.basename(path)
        call(
            *database, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "--", "add-port", "br0", "card", "--", "set",
            "Interface", "card", "type=dpdk", "options:dpdk-devargs=net_null0,no-rx=1", "ofport_request=1", "--", "add-port", "br0", name,
            "--", "set", "Interface", name, "type=dpdkvhostuser", "ofport_request=2",
        )  # fmt: skip
        flow_file = "".join(
            f"in_port=1,dl_vlan={vlan},dl_dst={mac},actions=strip_vlan,output:2\n" for mac, vlan in map(generator.flow, range(flows))
        )
        flow_file += f"in_port=2,actions=mod_vlan_vid:{BACK_VLAN},output:1\n"
        call("ovs-ofctl", "del-flows", f"unix:{folder}/br0.mgmt")
        call("ovs-ofctl", "add-flows", f"unix:{folder}/br0.mgmt", "-", said=flow_file)
        if avx512:
            use_avx512(lambda *words: call("ovs-appctl", "-t", str(control), *words))
        os.symlink(folder / name, path)
        yield


def run_ovs_avx512(ground, generator, path, flows):
    return run_ovs(ground, generator, path, flows, avx512=True)


SWITCHES = {"penstock": run_penstock, "testpmd": run_testpmd, "OVS": run_ovs, "OVS avx512": run_ovs_avx512}


# ---- what is measured ----


@contextlib.contextmanager
def huge_pages():
    """A hugetlbfs with pages in it; what there was before, afterwards."""
    setting = pathlib.Path("/proc/sys/vm/nr_hugepages")
    before = setting.read_text(encoding="ascii")
    if not os.access(setting, os.W_OK):
        raise Skip("huge pages need root")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-huge-") as folder:
        try:
            setting.write_text(str(max(HUGE_PAGES, int(before))), encoding="ascii")
            if int(setting.read_text(encoding="ascii")) < HUGE_PAGES:
                raise Skip(f"the system has no {HUGE_PAGES} huge pages")
            subprocess.run(["mount", "-t", "hugetlbfs", "nodev", folder], check=True, capture_output=True)
            try:
                yield folder
            finally:
                subprocess.run(["umount", folder], check=True)
        finally:
            setting.write_text(before, encoding="ascii")


def measure(bench, switch, huge, flows=64, size=64, window=512, round_trip=False):
    """Frames a second each way (or µs a round trip) of one run of one switch."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        ground = Ground(bench, folder, huge)
        generator = ground.generator(flows, size, window, 0 if switch == "testpmd" else BACK_VLAN)
        path = str(ground.folder / "guest.sock")
        with SWITCHES[switch](ground, generator, path, flows), ground.guest(path):
            generator.start()
            got = generator.rate(1.5)
            hz = generator.read()["tsc_hz"]
            return generator.round_trip_us() if round_trip else (got, hz)


def compare(bench, ours, theirs, **how):
    """Runs in turn; a list of results for each of the names."""
    if (os.cpu_count() or 1) < 2:
        raise Skip("two processors are needed: one for the switch, one for the guest")
    samples = {name: [] for name in (ours, *theirs)}
    with huge_pages() as huge:
        for turn in range(2 if bench.quick else TIMES):
            for name in list(samples)[:: 1 if turn % 2 == 0 else -1]:
                try:
                    samples[name].append(measure(bench, name, huge, **how))
                except Skip:
                    if name in (ours, theirs[0]):
                        raise
                    del samples[name]  # a build without that variant
    return samples


def rates_of(samples):
    """Mpps each way, and a sentence: spread, and the switch core's cycles a frame moved."""
    rates = {name: [rate / 1e6 for rate, _ in runs] for name, runs in samples.items()}
    words = []
    for name, runs in samples.items():
        cycles = median([hz / (2 * rate) for rate, hz in runs])
        words.append(f"{name} {median(rates[name]):.2f} Mpps each way ({min(rates[name]):.2f} … {max(rates[name]):.2f}), {cycles:.0f} cycles a frame moved")
    return rates, "; ".join(words)


def make_row(name, what, bound, theirs, **how):
    @row(name, what, "Mpps", bound, on="ratio")
    def measure_row(bench):
        rates, note = rates_of(compare(bench, "penstock", theirs, **how))
        best = max((other for other in theirs if other in rates), key=lambda other: median(rates[other]))
        if len(rates) <= len(theirs):
            note += "; this Open vSwitch was built without AVX-512"
        return Figure(median(rates["penstock"]), median(rates[best]), best, samples=rates, note=note)


ALL_OVS = ("OVS", "OVS avx512")
make_row("packet_ovs_64", "generator ⇄ vhost ⇄ virtio-user, 64 B, 64 entries ÷ OVS-DPDK", (">=", 2.0), ALL_OVS, flows=64)
make_row("packet_ovs_4096", "the same, 4096 entries ÷ OVS-DPDK", (">=", 2.0), ALL_OVS, flows=4096)
make_row("packet_testpmd_64", "the same, 64 entries ÷ testpmd io, which looks nothing up", (">=", 0.8), ("testpmd",), flows=64)
make_row("packet_testpmd_1518", "the same, 1518 B ÷ testpmd io", (">=", 0.9), ("testpmd",), flows=64, size=1518, window=256)


@row("packet_no_huge", "the same, 64 B, 64 entries, ordinary pages ÷ huge pages on both sides", "Mpps", (">=", 0.3), on="ratio")
def no_huge(bench):
    samples = {"ordinary pages": [], "huge pages": []}
    with huge_pages() as huge:
        for _ in range(2 if bench.quick else TIMES):
            samples["ordinary pages"].append(measure(bench, "penstock", None))
            samples["huge pages"].append(measure(bench, "penstock", huge))
    rates, note = rates_of(samples)
    return Figure(median(rates["ordinary pages"]), median(rates["huge pages"]), "huge pages", samples=rates, note=note)


@row("packet_round_trip", "busy round trip of one frame at a time, p50 ÷ testpmd io", "µs", ("<=", 1.1), on="ratio")
def round_trip(bench):
    samples = compare(bench, "penstock", ("testpmd",), window=1, round_trip=True)
    note = "; ".join(f"{name} {median(runs):.2f} µs ({min(runs):.2f} … {max(runs):.2f})" for name, runs in samples.items())
    return Figure(median(samples["penstock"]), median(samples["testpmd"]), "testpmd", samples=samples, note=note)


@row("packet_changes", "frames lost on other ports during 10,000 changes of tables and ports, at half load", "frames", ("<=", 0))
def changes(bench):
    """Half of what it moves at most, in the same minute, out of this very port."""
    count = 500 if bench.quick else 10000
    with huge_pages() as huge:
        most, _ = measure(bench, "penstock", huge)
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            ground = Ground(bench, folder, huge)
            generator = ground.generator(64, rate=int(most / 2))
            path = str(ground.folder / "guest.sock")
            with run_penstock(ground, generator, path, 64) as node, ground.guest(path):
                generator.start()
                before, changing = generator.read(), Changes(node.call, 1, folder, 1)
                while changing.done < count:
                    changing.step()
                changing.check()
                generator.stop()
                now = generator.read()
                ports = node.call("packet_get_ports")
    lost = sum(now[word] - before[word] for word in ("lost", "wrong", "late"))
    lost_here = sum(port["tx"]["full"] for port in ports if port["name"] in ("phy:0", "vhost:0"))
    sent = now["sent"] - before["sent"]
    return Figure(lost, samples={"sent": sent, "full since the start": lost_here}, note=f"{sent:,} frames, at {most / 2e6:.1f} Mpps")
