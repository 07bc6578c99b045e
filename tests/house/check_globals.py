#!/usr/bin/env python3
"""Fails on mutable state outside objects: data, bss and thread-local symbols of src/, but for src/programs and src/host/linux.

    check_globals.py BUILD_DIRECTORY

Reads what the compiler made (nm), so that static locals and macros count too. Constant tables with pointers lie in .data.rel.ro and
are fine. Not for sanitizer builds, whose runtime puts its own data into the objects.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import house

FREE = ("src/programs/", "src/host/linux/")
# The exceptions: which reactor this thread is executing; and whom a library means whose calls of us take no argument of ours.
ALLOWED = {("src/reactor/", "current"), ("src/packet/dpdk/guest.c", "guest_list"), ("src/packet/dpdk/remains.c", "watched"), ("src/packet/dpdk/remains.c", "memif_list")}
MUTABLE = (".data", ".bss", ".tdata", ".tbss", "*COM*", ".ldata", ".lbss", ".sdata", ".sbss")


def symbols(path):
    """(name, section) of the symbols of an object."""
    output = subprocess.check_output(["nm", "--format=sysv", "--defined-only", str(path)], text=True)
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[0] != "Name":
            yield cells[0], cells[6]


def faults_of(source, path):
    found = []
    for name, section in symbols(path):
        if not section.startswith(MUTABLE) or section.startswith(".data.rel.ro"):
            continue
        # A static local is called name.NUMBER.
        plain = name.split(".", 1)[0]
        if any(source.startswith(folder) and plain == allowed for folder, allowed in ALLOWED):
            continue
        found.append(f"{source}: '{plain}' is mutable state ({section}): hang it on an object, or make it const")
    return found


def objects(build):
    """(source relative to the root, object) of each C file of src/ in a build directory."""
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        try:
            name = source.relative_to(house.ROOT).as_posix()
        except ValueError:
            continue
        if name.startswith("src/"):
            yield name, pathlib.Path(entry["directory"], entry["output"])
        elif source.is_relative_to(build / "src"):
            yield "src/" + source.relative_to(build / "src").as_posix(), pathlib.Path(entry["directory"], entry["output"])


def check(build):
    found = []
    count = 0
    for source, path in objects(build):
        if source.startswith(FREE):
            continue
        if not path.exists():
            found.append(f"{source}: not built in {build}")
            continue
        found += faults_of(source, path)
        count += 1
    if count == 0:
        found.append(f"{build} has no object of src/")
    return found


def self_test(compiler):
    source = """
        #include <stddef.h>
        struct ops { void (*f)(void); const char *name; };
        static void f(void) {}
        extern const struct ops ops;
        const struct ops ops = {f, "x"};
        static const char *const names[] = {"a", "b"};
        const char *name(size_t i);
        const char *name(size_t i) { return names[i]; }
    """
    faults = {
        "": [],
        "int bare;": ["'bare'"],
        "int set = 1;": ["'set'"],
        "static int hidden; int *get(void); int *get(void) { return &hidden; }": ["'hidden'"],
        "int next(void); int next(void) { static int count; return count++; }": ["'count'"],
        "int *text(void); int *text(void) { static int count = 7; return &count; }": ["'count'"],
        "_Thread_local int mine;": ["'mine'"],
        "_Thread_local struct ops *current;": ["'current'"],
        "const char *moving = \"x\";": ["'moving'"],
    }
    with tempfile.TemporaryDirectory(prefix="house-") as directory:
        path = pathlib.Path(directory)
        for fault, expected in faults.items():
            (path / "a.c").write_text(source + fault + "\n", encoding="utf-8")
            subprocess.check_call(compiler + ["-fPIE", "-O2", "-fno-common", "-c", "-o", str(path / "a.o"), str(path / "a.c")])
            found = faults_of("src/block/a.c", path / "a.o")
            if len(found) != len(expected) or not all(word in line for word, line in zip(expected, found)):
                sys.exit(f"the check itself is wrong: planted {fault!r}, found {found}")
            if "current;" in fault and faults_of("src/reactor/a.c", path / "a.o"):
                sys.exit("the check itself is wrong: the current reactor is allowed")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: check_globals.py BUILD_DIRECTORY [COMPILER…]")
    self_test(sys.argv[2:] or ["cc"])
    house.report(check(pathlib.Path(sys.argv[1]).resolve()), "globals")
