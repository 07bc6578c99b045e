#!/usr/bin/env python3
"""A vf whose process does not start, ends again and again, or hangs: it says why, its own changes wait for it, and those of others do not.

Usage: test_broken_process.py PENSTOCK PENSTOCKD PENSTOCK-PACKET. Needs root and 160 huge pages; skipped without."""

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import rig

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "packet"))
import huge

# What stands in for the plane's program: as FOLDER/how.vf-ID says, the process of that vf ends, or hangs.
STAND_IN = """#!/bin/sh
for word in "$@"; do
    [ "$last" = --vf ] && vf=$word
    last=$word
done
case $(cat "FOLDER/how.vf-$vf" 2>/dev/null) in
    ends) exit 9 ;;
    hangs) echo $$ >FOLDER/pid; exec sleep 1000 ;;
esac
exec PROGRAM "$@"
"""


def launch(daemon, vf, cores):
    body = {"client_id": vf, "proc_name": "spp_vf", "eal": {"-l": cores, "--proc-type": "secondary"}, "app": {"--vhost-client": ""}}
    return daemon.rest("PUT", "/v1/primary/launch", json.dumps(body))[::2]


def components(daemon, vf):
    return {component["name"] for component in daemon.plane("packet_get_components", vf) or []}


def change_something(daemon, vf, core, name):
    """What needs the vf's process, and is answered when that has done it."""
    path = f"/v1/vfs/{vf}/components"
    daemon.do("POST", path, name=name, core=core, type="forward")
    daemon.do("PUT", f"{path}/{name}/ports", action="attach", port=f"ring:{core}", dir="rx")
    daemon.do("PUT", f"{path}/{name}/ports", action="attach", port=f"vhost:{core}", dir="tx")
    assert f"vf:{vf}:{name}" in components(daemon, vf), (name, components(daemon, vf))


def why(daemon, vf):
    """What it says is wrong with it; "": nothing, or it is not known yet."""
    status, _, text = daemon.rest("GET", f"/v1/vfs/{vf}")
    return json.loads(text).get("error", "") if status == 200 else ""


def run(programs, folder, pages, pool):
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
            shown = subprocess.run([cli, "component", "list", "vf/2", "--rest", f"{daemon.address}:7777"], capture_output=True, text=True, timeout=60, check=True)
            assert "x" in shown.stdout and shown.stderr == "", shown
            be(2, "ends")
            daemon.kill_plane(2)  # and with it all others; they come again
            rig.until(lambda: "ended with status 9" in why(daemon, 2), "it says why again")
            rig.until(lambda: {"vf:1:a", "vf:1:b", "vf:1:c"} <= components(daemon, 1), "the others are there again")
            daemon.do("DELETE", "/v1/vfs/1/components/a")
            shown = subprocess.run([cli, "component", "list", "vf/2", "--rest", f"{daemon.address}:7777"], capture_output=True, text=True, timeout=60, check=True)
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
                os.kill(int((stand_in.parent / "pid").read_text(encoding="ascii")), signal.SIGKILL)


def main():
    with huge.pages(160) as pages, tempfile.TemporaryDirectory(prefix="broken-") as folder, concurrent.futures.ThreadPoolExecutor(4) as pool:
        run(sys.argv[1:4], folder, pages, pool)


main()
