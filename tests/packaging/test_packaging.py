#!/usr/bin/env python3
"""What packages bring beside the programs: units that systemd understands, that give little away and that the programs can live
with; a configuration that is right; a list of files that are there. Arguments: the source's root, penstock, penstockd,
penstock-block."""

import fnmatch
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-seccomp is
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
from addresses import Address

ROOT, PENSTOCK, DAEMON, PLANE = (pathlib.Path(word).resolve() for word in sys.argv[1:5])
PACKAGING = ROOT / "packaging"
PROGRAMS = {"penstockd": DAEMON, "penstock-block": PLANE}
EXPOSURE_MAX = 2.0  # of 10, by systemd-analyze security: "OK" begins at 5


class Skip(Exception):
    pass


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **more)


def units(folder):
    """Copies whose programs are those that were built."""
    made = []
    for path in sorted((PACKAGING / "systemd").iterdir()):
        text = path.read_text(encoding="utf-8")
        for name, program in PROGRAMS.items():
            text = text.replace(f"@bindir@/{name}", str(program))
        assert "@" not in re.sub(r"@[a-z-]+(?=[ \n,.])", "", text), f"{path}: something is not filled in"
        made.append(pathlib.Path(folder) / path.name.removesuffix(".in"))
        made[-1].write_text(text, encoding="utf-8")
    return made


def need_systemd():
    if shutil.which("systemd-analyze") is None:
        raise Skip("no systemd-analyze")


def case_units_are_understood(folder):
    need_systemd()
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units(folder))
    ours = [line for line in done.stderr.splitlines() if "penstock" in line]
    assert done.returncode == 0 and not ours, done.stderr
    broken = pathlib.Path(folder) / "penstockd.service"
    broken.write_text(broken.read_text(encoding="utf-8").replace("Type=notify", "Type=notfy"), encoding="utf-8")
    assert "penstock" in run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", broken).stderr, "a check that cannot fail"


def case_units_give_little_away(folder):
    need_systemd()
    for unit in units(folder):
        if unit.suffix != ".service":
            continue
        done = run("systemd-analyze", "security", "--offline=true", unit)
        exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
        assert exposure is not None, done
        assert float(exposure.group(1)) <= EXPOSURE_MAX, done.stdout
        text = unit.read_text(encoding="utf-8")
        assert "User=penstock" in text and "NoNewPrivileges=yes" in text and "CapabilityBoundingSet=\n" in text


def call_names(word, seen=()):
    """The system calls of a set, as systemd-analyze lists them."""
    if not word.startswith("@"):
        return {word}
    assert word not in seen
    names = set()
    for line in run("systemd-analyze", "syscall-filter", word).stdout.splitlines()[1:]:
        inner = line.strip()
        if inner and not inner.startswith("#"):
            names |= call_names(inner, (*seen, word))
    return names


def allowed(unit):
    """The system calls that a unit's lines leave."""
    names = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        words = line.removeprefix("~").split()
        for word in words:
            names = names - call_names(word) if line.startswith("~") else names | call_names(word)
    return names


def case_every_installed_file_has_a_package(_folder):
    build = next(folder for folder in PENSTOCK.parents if (folder / "meson-info").is_dir())
    info = build / "meson-info"
    prefix = next(o["value"] for o in json.loads((info / "intro-buildoptions.json").read_text(encoding="utf-8")) if o["name"] == "prefix")
    files = [str(pathlib.Path(to).relative_to(prefix)) for to in json.loads((info / "intro-installed.json").read_text(encoding="utf-8")).values()]
    assert "bin/penstock" in files, files
    taken = []
    for path in (ROOT / "debian").glob("*.install"):
        taken += [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line]
    taken = [word.removeprefix("usr/") for word in taken]
    homeless = [file for file in files if not any(fnmatch.fnmatch(file, word) or file.startswith(word + "/") for word in taken)]
    assert not homeless, f"in no debian/*.install: {homeless}"


WRAPPER = """#!{python}
import os, sys
sys.path.append("/usr/lib/python3/dist-packages")
import errno, seccomp
filter = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
for name in {names!r}.split():
    try:
        filter.add_rule(seccomp.ALLOW, name)
    except RuntimeError:
        pass # of another architecture
filter.load()
os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""


def case_programs_live_with_their_filters(folder):
    need_systemd()
    try:
        import seccomp  # noqa: F401
    except ImportError:
        raise Skip("no python3-seccomp") from None
    folder = pathlib.Path(folder)
    wrapped = {}
    for unit in units(folder):
        if unit.suffix == ".service":
            names = allowed(unit)
            assert {"read", "epoll_wait", "io_uring_setup"} <= names and not {"mount", "add_key", "setuid", "ptrace"} & names, names
            program = PROGRAMS[unit.stem]
            wrapped[unit.stem] = folder / f"{unit.stem}-filtered"
            wrapped[unit.stem].write_text(WRAPPER.format(python="/usr/bin/python3", names=" ".join(sorted(names)), program=str(program)))
            wrapped[unit.stem].chmod(0o755)
    held = Address()
    place = held.text
    plane_socket, log = str(folder / "plane.sock"), open(folder / "log", "ab")
    quiet = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # its look for leaks wants to trace, which the filters refuse
    plane = subprocess.Popen([wrapped["penstock-block"], "-r", plane_socket], stderr=log, stdin=subprocess.DEVNULL, env=quiet)
    daemon = subprocess.Popen([wrapped["penstockd"], "--state-dir", folder / "state", "--node-address", place, "--plane-socket", plane_socket,
                               "--http", f"{place}:9504"], stderr=log, stdin=subprocess.DEVNULL, env=quiet)  # fmt: skip
    try:
        disk = folder / "disk.img"
        with open(disk, "wb") as file:
            file.truncate(64 << 20)

        def penstock(*words):
            return run(PENSTOCK, "--node", place, *words)

        deadline = time.monotonic() + 60
        while penstock("node", "show").returncode == 75 and time.monotonic() < deadline:
            assert plane.poll() is None and daemon.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        for words in (("disk", "create", "d1", disk), ("replica", "create", "r1", "d1", "16M"), ("snapshot", "create", "replica/r1", "s1"),
                      ("replica", "expand", "r1", "32M"), ("status",)):  # fmt: skip
            done = penstock(*words)
            assert done.returncode == 0, (words, done, (folder / "log").read_text())
        with socket.create_connection((place, 9504)) as http:
            http.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert http.recv(100).startswith(b"HTTP/1.1 200"), "HTTP"
        assert "refused" not in (folder / "log").read_text(), (folder / "log").read_text()
    finally:
        for process in (daemon, plane):
            process.terminate()
            assert process.wait(60) == 0
        log.close()


def case_the_configuration_is_right(folder):
    config = PACKAGING / "penstockd.yaml"
    assert run(DAEMON, "--config", config, "--check").returncode == 0
    # What is commented out is right as well, and every option that it could have is known.
    text = re.sub(r"^# ?(?=[a-z-]+: [^ ]+$)", "", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert text.count("\ntls-") == 4, text
    more = pathlib.Path(folder) / "more.yaml"
    more.write_text(text.replace("a name that stays when the address changes", "node1"), encoding="utf-8")
    done = run(DAEMON, "--config", more, "--check")
    assert done.returncode == 0, done


def case_the_units_and_the_configuration_agree(_):
    config = (PACKAGING / "penstockd.yaml").read_text(encoding="utf-8")
    sockets = {path.stem: re.search(r"ListenStream=(\S+)", path.read_text(encoding="utf-8")).group(1) for path in (PACKAGING / "systemd").glob("*.socket")}
    assert f"plane-socket: {sockets['penstock-block']}\n" in config and f"\nsocket: {sockets['penstockd']}\n" in config, sockets
    assert f"-r {sockets['penstock-block']}\n" in (PACKAGING / "systemd" / "penstock-block.service.in").read_text(encoding="utf-8")
    assert "d /run/penstock " in (PACKAGING / "tmpfiles.conf").read_text(encoding="utf-8")


def main():
    cases = [case for name, case in sorted(globals().items()) if name.startswith("case_")]
    failed = skipped = 0
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="penstock-packaging-") as folder:
            try:
                case(folder)
                print(f"ok      {case.__name__}")
            except Skip as reason:
                skipped += 1
                print(f"skipped {case.__name__}: {reason}")
            except Exception:
                failed += 1
                print(f"FAILED  {case.__name__}")
                traceback.print_exc(file=sys.stdout)
    print(f"{len(cases) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
