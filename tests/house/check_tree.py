#!/usr/bin/env python3
"""Fails on a folder of src/ without a README, on a file of src/ that is too long, and on text that points outside this tree."""

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
    folders = {str(pathlib.PurePosixPath(name).parent) for name in house.files(root, ".c", ".h") if name.startswith("src/")}
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
    return check_readmes(root) + check_lengths(root) + check_words(root)


def self_test():
    house.expect(check, {"src/block/a.c": "\n", "src/block/README.md": "# block\n"})
    house.expect(check, {"src/block/sub/a.h": "\n"}, "src/block/sub: no README")
    house.expect(check, {"src/block/README.md": "\n", "src/block/a.c": "\n" * (LINES_MAX + 1)}, "1001 lines")
    house.expect(check, {"a.md": "x\nsee /wo" + "rk/notes and iss" + "ue #7\n"}, "a.md:2:", "a.md:2:")
    house.expect(check, {"a.c": "// ../sh" + "ared/x, sess" + "ion 12, TO" + "DO\n"}, "shared", "12", "DO")
    house.expect(check, {"a.md": "a session of TLS; an issue with nine sides; networks/ and /workshop\n"})


if __name__ == "__main__":
    self_test()
    house.report(check(house.ROOT), "tree")
