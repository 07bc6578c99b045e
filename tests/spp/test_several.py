#!/usr/bin/env python3
"""The packet plane as several processes under penstockd: what each of them counts is shown as one; one that does not start holds up nobody else.

Usage: test_several.py PENSTOCK PENSTOCKD PENSTOCK-PACKET. Needs root and 160 huge pages; skipped without."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import etcd as etcd_module
import rig

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "packet"))
import guest as virtio
import huge
from plane import frame

# What stands in for the plane's program: as FOLDER/how.vf-ID says, the process of that vf ends, or hangs.
STAND_IN = """#!/bin/sh
for word in "$@"; do
    [ "$last" = --vf ] && vf=$word
    last=$word
done
case $(cat "FOLDER/how.vf-$vf" 2>/dev/null) in
    ends) exit 9 ;;
    hangs) echo $$ >FOLDER/pid; exec sleep 1000 ;;
    refuses*) exec python3 FOLDER/refuser FOLDER/state/packet.sock.vf-$vf "$(cut -d' ' -f2 FOLDER/how.vf-$vf)" ;;
esac
exec PROGRAM "$@"
"""

# A plane that has nothing and takes everything, but refuses one method.
REFUSER = """
import contextlib, json, os, socketserver, sys

TOLD = {"rpc_get_methods": [], "packet_get_vfs": [], "packet_get_ports": [], "packet_get_components": [],
        "packet_get_status": {"pid": os.getpid(), "workers": [], "generation": 1}}

class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        decoder, text = json.JSONDecoder(), ""
        while more := self.request.recv(1 << 16).decode():
            text += more
            with contextlib.suppress(ValueError):
                while text.strip():
                    request, end = decoder.raw_decode(text.lstrip())
                    text = text.lstrip()[end:]
                    answer = {"jsonrpc": "2.0", "id": request["id"]}
                    if request["method"] == sys.argv[2]:
                        answer["error"] = {"code": -22, "message": "not by me"}
                    else:
                        answer["result"] = TOLD.get(request["method"], {"generation": 1})
                    self.wfile.write(json.dumps(answer).encode() + b"\\n")

with contextlib.suppress(FileNotFoundError):
    os.unlink(sys.argv[1])
socketserver.ThreadingUnixStreamServer(sys.argv[1], Connection).serve_forever()
"""


def launch(daemon, vf, cores):
    body = {"client_id": vf, "proc_name": "spp_vf", "eal": {"-l": cores, "--proc-type": "secondary"}, "app": {"--vhost-client": ""}}
    return daemon.rest("PUT", "/v1/primary/launch", json.dumps(body))[::2]


def components(daemon, vf):
    return {component["name"] for component in daemon.plane("packet_get_components", vf) or []}


def change_something(daemon, vf, core, name, rx=None, tx=None):
    """What needs the vf's process, and is answered when that has done it."""
    path = f"/v1/vfs/{vf}/components"
    daemon.do("POST", path, name=name, core=core, type="forward")
    daemon.do("PUT", f"{path}/{name}/ports", action="attach", port=rx or f"ring:{core}", dir="rx")
    daemon.do("PUT", f"{path}/{name}/ports", action="attach", port=tx or f"vhost:{core}", dir="tx")
    assert f"vf:{vf}:{name}" in components(daemon, vf), (name, components(daemon, vf))


def why(daemon, vf):
    """What it says is wrong with it; "": nothing, or it is not known yet."""
    status, _, text = daemon.rest("GET", f"/v1/vfs/{vf}")
    return json.loads(text).get("error", "") if status == 200 else ""


def line(cli, *words):
    done = subprocess.run([cli, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done)
    return done


def counters(programs, folder, pages, _):
    """From a machine in vf 1 by a ring to vf 2, and from there to the card, which is the primary's."""
    cli, penstockd, packet = programs
    with rig.Daemon(penstockd, packet, folder) as daemon, contextlib.closing(virtio.Guest(f"{folder}/sock1", server=True)) as machine:
        daemon.options = ["--packet-processes", pages, "--interface", "null", "--interface", "null"]

        def shown(kind, number):
            return next((port for port in daemon.get("/v1/primary/status")[kind] if port["id"] == number), {})

        try:
            daemon.start()
            for vf, cores, rx, tx in ((1, "0,1", "vhost:1", "ring:1"), (2, "0,2", "ring:1", "phy:1")):
                assert launch(daemon, vf, cores)[0] == 204
                change_something(daemon, vf, vf, "f", rx, tx)
            machine.start()
            machine.send(*(frame("02:00:00:00:00:0a", number) for number in range(32)))
            rig.until(lambda: shown("phy_ports", 1).get("tx") == 32, "all frames are counted where they leave")
            ring = {"id": 1, "rx": 32, "rx_drop": 0, "tx": 32, "tx_drop": 0}  # one side of it in each process
            rig.until(lambda: shown("ring_ports", 1) == ring, "and on the way there, a little later than they passed")
            assert [port["id"] for port in daemon.get("/v1/primary/status")["phy_ports"]] == [1]  # and not what leads to it
            daemon.do("DELETE", "/v1/primary/status")
            assert shown("ring_ports", 1) == {**ring, "rx": 0, "tx": 0} and shown("phy_ports", 1)["tx"] == 0
            told = line(cli, "-s", str(daemon.plane_socket), "packet", "top", "--interval-ms", "10", "--count", "1").stdout
            rows = [row.split() for row in told.splitlines() if row]
            places = {(row[0], row[-1]) for row in rows}
            assert {("vhost:1", "vf/1"), ("ring:1", "vf/1"), ("ring:1", "vf/2"), ("phy:1", "primary"), ("vf:1:f", "vf/1"), ("vf:2:f", "vf/2"),
                    ("bridge:phy:1.tx", "primary")} <= places, told  # fmt: skip
            assert all(f"(vf/{vf}, core {vf}): " in told for vf in (1, 2)), told
        except Exception:
            print(daemon.log()[-6000:])
            raise


def broken(programs, folder, pages, pool):
    cli, penstockd, packet = programs
    stand_in = pathlib.Path(folder) / "stand-in"
    stand_in.write_text(STAND_IN.replace("FOLDER", folder).replace("PROGRAM", packet), encoding="utf-8")
    stand_in.chmod(0o755)

    def be(vf, how):
        (pathlib.Path(folder) / f"how.vf-{vf}").write_text(how, encoding="utf-8")

    with rig.Daemon(penstockd, str(stand_in), folder) as daemon:
        daemon.options = ["--packet-processes", pages]
        try:
            daemon.start()
            assert launch(daemon, 1, "0,1,2,3")[0] == 204
            be(2, "ends")
            waiting = pool.submit(launch, daemon, 2, "0,5,6")
            rig.until(lambda: "ended with status 9" in why(daemon, 2), "it says why")
            assert why(daemon, 1) == ""
            change_something(daemon, 1, 1, "a")
            assert not waiting.done(), waiting.result()
            # What is changed of it waits, too, and others do not.
            more = pool.submit(daemon.rest, "POST", "/v1/vfs/2/components", '{"name": "x", "core": 5, "type": "forward"}')
            rig.until(lambda: daemon.get("/v1/vfs/2")["components"], "it is recorded")
            change_something(daemon, 1, 2, "b")
            be(2, "")
            for change in (waiting, more):
                status, *_, text = change.result(rig.DEADLINE_S)
                assert status == 204 or (status == 503 and "status 9" in text), (status, text)
            rig.until(lambda: "vf:2:x" in components(daemon, 2), "it is carried out when it can be")
            rig.until(lambda: why(daemon, 2) == "", "nothing is wrong with it any more")
            # One that neither ends nor answers, and is not wanted any more.
            be(3, "hangs")
            waiting = pool.submit(launch, daemon, 3, "0,8,9")
            rig.until(lambda: why(daemon, 3), "it says so")
            change_something(daemon, 1, 3, "c")
            gone = pool.submit(daemon.rest, "DELETE", "/v1/vfs/3")
            assert gone.result(rig.DEADLINE_S)[0] == 204
            assert waiting.result(rig.DEADLINE_S)[0] == 204  # nobody wants it any more
            hanging = pathlib.Path("/proc", (stand_in.parent / "pid").read_text(encoding="ascii").strip())
            rig.until(lambda: not hanging.exists(), "and it is ended")
            shown = line(cli, "component", "list", "vf/2", "--rest", f"{daemon.address}:7777")
            assert "x" in shown.stdout and shown.stderr == "", shown
            be(2, "ends")
            daemon.kill_plane(2)  # and with it all others; they come again
            rig.until(lambda: "ended with status 9" in why(daemon, 2), "it says why again")
            rig.until(lambda: {"vf:1:a", "vf:1:b", "vf:1:c"} <= components(daemon, 1), "the others are there again")
            daemon.do("DELETE", "/v1/vfs/1/components/a")
            shown = line(cli, "component", "list", "vf/2", "--rest", f"{daemon.address}:7777")
            assert "ended with status 9" in shown.stderr, shown
            # After its own restart the daemon knows nothing of them, and takes none of the others' for gone.
            daemon.kill()
            daemon.start()
            daemon.do("DELETE", "/v1/vfs/1/components/b")
            assert components(daemon, 1) == {"vf:1:c"}
        except Exception:
            print(daemon.log()[-6000:])
            raise
        finally:
            if (stand_in.parent / "pid").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int((stand_in.parent / "pid").read_text(encoding="ascii")), signal.SIGKILL)


def agent(programs, folder, pages, _):
    """The vf of one NIC never comes up: ports of another one are plugged all the same, and flows between them end as they are to."""
    _, penstockd, packet = programs
    folder = pathlib.Path(folder)
    stand_in = folder / "stand-in"
    stand_in.write_text(STAND_IN.replace("FOLDER", str(folder)).replace("PROGRAM", packet), encoding="utf-8")
    stand_in.chmod(0o755)
    (folder / "how.vf-1").write_text("ends", encoding="utf-8")

    def key(kind, *rest):
        return "/".join(("/spp/openstack", kind, "host", *map(str, rest)))

    with rig.Daemon(penstockd, str(stand_in), folder) as daemon, etcd_module.Etcd(folder, daemon.address) as etcd:
        daemon.options = ["--packet-processes", pages, "--interface", "null", "--interface", "null", "--etcd", f"{daemon.address}:2379", "--agent-host", "host",
                          "--agent-retry-ms", "100"]  # fmt: skip
        nics = [{"num_vhost": 3, "pci_address": "00:04.0", "physical_network": "phys1", "core_mask": "0x3fe"},
                {"num_vhost": 2, "pci_address": "00:05.0", "physical_network": "phys2", "core_mask": "0xfc02"}]  # fmt: skip
        mirrors = [{"core": 16, "ports": ["ring:20", "ring:21"]}]
        etcd.put(key("configuration"), json.dumps({"vf": nics, "mirror": mirrors}))
        etcd.put(key("mirror", 0), "None")
        for vhost, port in enumerate("abcde"):
            etcd.put(key("vhost", f"phys{1 + vhost // 3}", vhost), port)
            etcd.put(key("bind_port", port), json.dumps({"vhost_id": vhost, "mac_address": f"fa:16:3e:00:00:0{vhost}"}))
            etcd.put(key("action", port), "plug")

        def tap(action):
            etcd.put(key("mirror", 0), "flow")
            etcd.put(key("tap_info", "flow"), json.dumps({"service_port": "e", "source_port": "d", "mirror_in": 0, "mirror_out": None}))
            etcd.put(key("tap_action", "flow"), action)

        try:
            daemon.start()
            up = {key("port_status", port): "up" for port in "de"}
            rig.until(lambda: etcd.prefix(key("port_status") + "/") == up, "the ports behind those that cannot be plugged are plugged")
            for port in "abc":
                etcd.delete(key("action", port))
            tap("plug")
            rig.until(lambda: etcd.get(key("tap_status", "flow")) == "up", "the flow is up")
            # Again after a restart, when there is nothing to be changed.
            daemon.kill()
            etcd.delete(key("tap_status", "flow"))
            daemon.start()
            rig.until(lambda: etcd.get(key("tap_status", "flow")) == "up", "the flow is up again")
            # Its end; and once more, as if the agent had died before it could say so.
            for _ in range(2):
                tap("unplug")
                rig.until(lambda: etcd.get(key("tap_action", "flow")) is None, "the flow is unplugged")
                assert etcd.get(key("mirror", 0)) == "None"
        except Exception:
            print(daemon.log()[-6000:])
            raise


def refused(programs, folder, pages, pool):
    """What is refused of a change that is not waited for any more is tried again, and holds up nobody."""
    _, penstockd, packet = programs
    stand_in = pathlib.Path(folder) / "stand-in"
    stand_in.write_text(STAND_IN.replace("FOLDER", folder).replace("PROGRAM", packet), encoding="utf-8")
    stand_in.chmod(0o755)
    (pathlib.Path(folder) / "refuser").write_text(REFUSER, encoding="utf-8")
    how = pathlib.Path(folder) / "how.vf-2"

    def post(path, **body):
        return pool.submit(daemon.rest, "PUT" if "ports" in path else "POST", f"/v1/vfs/2/components{path}", json.dumps(body))

    def recorded(name):
        return any(component["name"] == name for component in daemon.get("/v1/vfs/2")["components"])

    with rig.Daemon(penstockd, str(stand_in), folder) as daemon:
        daemon.options = ["--packet-processes", pages]
        try:
            daemon.start()
            assert launch(daemon, 3, "0")[0] == 204
            assert why(daemon, 3) == ""  # it has no workers, and so needs no plane
            daemon.do("DELETE", "/v1/vfs/3")
            assert launch(daemon, 1, "0,1,2,3,4")[0] == 204
            how.write_text("ends", encoding="utf-8")
            waiting = [pool.submit(launch, daemon, 2, "0,5,6")]
            rig.until(lambda: "ended with status 9" in why(daemon, 2), "it says why")
            waiting.append(post("", name="x", core=5, type="forward"))
            rig.until(lambda: recorded("x"), "it is recorded")
            change_something(daemon, 1, 1, "a")
            how.write_text("refuses packet_component_create", encoding="utf-8")
            rig.until(lambda: "not by me" in why(daemon, 2), "what it refuses")
            change_something(daemon, 1, 2, "b")
            assert not any(change.done() for change in waiting)
            how.write_text("refuses nothing", encoding="utf-8")
            daemon.kill_plane(2)
            for change in waiting:
                assert change.result(rig.DEADLINE_S)[0] == 204
            # A port that cannot be opened: only who adds it waits for it.
            how.write_text("ends", encoding="utf-8")
            daemon.kill_plane(2)
            rig.until(lambda: "ended with status 9" in why(daemon, 2), "it says why")
            adding = post("/x/ports", action="attach", port="vhost:5", dir="rx")
            rig.until(lambda: "vhost:5" in daemon.rest("GET", "/v1/vfs/2")[2], "it is recorded")
            change_something(daemon, 1, 3, "c")
            later = post("", name="y", core=6, type="forward")
            rig.until(lambda: recorded("y"), "it is recorded")
            change_something(daemon, 1, 4, "d")
            how.write_text("refuses packet_port_create", encoding="utf-8")
            assert later.result(rig.DEADLINE_S)[0] == 204
            status, _, text = adding.result(rig.DEADLINE_S)
            assert status == 503 and "port vhost:5 cannot be opened: " in text and "not by me" in text, (status, text)
        except Exception:
            print(daemon.log()[-6000:])
            raise


def main():
    cases = [counters, broken, refused]
    if etcd_module.find() is None:
        print("note: without etcd (Debian: etcd-server) no agent")
    else:
        cases.append(agent)
    with huge.pages(160) as pages, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="several-") as folder:
                case(sys.argv[1:4], folder, pages, pool)


main()
