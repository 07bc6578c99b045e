#!/usr/bin/env python3
"""Fails on a folder of src/ without a README, a file of src/ that is too long, a C file that is not built, text that points outside."""

import pathlib
import re

import house

LINES_MAX = 1000
# The project speaks of itself alone. Written in pieces, so that this file does not match.
FOREIGN = re.compile(
    "|".join(
        [
            r"/wo" + r"rk/",
            r"\.\./sh" + r"ared",
            r"\bissue" + r"s?\s*#?\d",
            r"\bsess" + r"ion #?\d+\b(?!\s*bytes)",
            r"\b(?:chat" + r"gpt|open" + r"ai|clau" + r"de|anth" + r"ropic)\b",
            r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
        ]
    ),
    re.IGNORECASE,
)


def check_readmes(root):
    folders = {str(pathlib.PurePosixPath(name).parent) for name in house.files(root, ".c") if name.startswith("src/")}
    return [
        f"{folder}: no README.md (a few lines: purpose, main types, what it must not know)"
        for folder in sorted(folders)
        if not (root / folder / "README.md").exists()
    ]


def check_lengths(root):
    found = []
    for name in house.files(root, ".c", ".h"):
        lines = house.read(root, name).count("\n") if name.startswith("src/") else 0
        if lines > LINES_MAX:
            found.append(f"{name}: {lines} lines, {LINES_MAX} are the limit: it is two things, part them")
    return found


def check_built(root):
    """A C file that no meson.build names is dead, a test among them never runs."""
    named = "\n".join(house.read(root, name) for name in house.files(root, "meson.build"))
    found = []
    for name in house.files(root, ".c"):
        base = pathlib.PurePosixPath(name)
        words = [f"{base.name}'", f"'{base.stem}'"] + ([f"'{base.stem[5:]}'"] if base.stem.startswith("fuzz_") else [])
        if name.startswith(("src/", "tests/", "bench/")) and not any(word in named for word in words):
            found.append(f"{name}: no meson.build names it: dead, or a test that never runs")
    return found


def check_words(root):
    found = []
    for name in house.files(root):
        if "/corpus/" in name:
            continue
        text = house.read(root, name)
        for match in FOREIGN.finditer(text):
            found.append(f"{name}:{house.line_of(text, match.start())}: '{match.group(0)}' is not about this project as it is")
    return found


def check(root):
    return check_readmes(root) + check_lengths(root) + check_built(root) + check_words(root)


def self_test():
    house.expect(check, {"src/block/a.c": "\n", "src/block/README.md": "# block\n", "meson.build": "files('a.c')"})
    house.expect(check, {"tests/block/test_a.c": "\n", "tests/block/test_b.c": "\n", "tests/meson.build": "'block/test_a.c'"}, "test_b")
    house.expect(check, {"tests/fuzz/fuzz_a.c": "\n", "tests/fuzz/fuzz_b.c": "\n", "tests/fuzz/meson.build": "'a': []"}, "fuzz_b")
    house.expect(check, {"src/block/sub/a.c": "\n", "meson.build": "'a.c'"}, "src/block/sub: no README")
    house.expect(check, {"src/block/README.md": "\n", "src/block/a.c": "\n" * (LINES_MAX + 1), "meson.build": "'a.c'"}, "1001 lines")
    house.expect(check, {"a.md": "x\nsee /wo" + "rk/notes and iss" + "ue #7\n"}, "a.md:2:", "a.md:2:")
    house.expect(check, {"a.h": "// ../sh" + "ared/x, sess" + "ion 12, TO" + "DO\n"}, "shared", "12", "DO")
    house.expect(check, {"a.md": "a session of TLS; an issue with nine sides; networks/ and /workshop\n"})


if __name__ == "__main__":
    self_test()
    house.report(check(house.ROOT), "tree")
