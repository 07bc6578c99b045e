#!/usr/bin/env python3
"""Fails on C files that clang-format would change. Its versions differ, so that only the one the tree is formatted with judges."""

import re
import shutil
import subprocess

import house

VERSION = 14


def check(root):
    names = house.files(root, ".c", ".h")
    if not names:
        return []
    done = subprocess.run(
        ["clang-format", "--dry-run", "--Werror", "--ferror-limit=1"] + names, cwd=root, capture_output=True, text=True, check=False
    )
    wrong = sorted(set(re.findall(r"^(\S+?:\d+):\d+: error", done.stderr, re.M)))
    if done.returncode != 0 and not wrong:
        return [done.stderr]
    return [f"{place}: not formatted: make format" for place in wrong]


def self_test():
    style = house.read(house.ROOT, ".clang-format")
    house.expect(check, {".clang-format": style, "a.c": "int f(int a) { return a; }\n"})
    house.expect(check, {".clang-format": style, "a.c": "int  f( int a ){ return a; }\n"}, "a.c:1")


if __name__ == "__main__":
    if shutil.which("clang-format") is None:
        house.skip("clang-format is not here")
    told = subprocess.check_output(["clang-format", "--version"], text=True)
    if f"version {VERSION}." not in told:
        house.skip(f"the tree is formatted with clang-format {VERSION}, here is {told.strip()}")
    self_test()
    house.report(check(house.ROOT), "format")
