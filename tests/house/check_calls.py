#!/usr/bin/env python3
"""Fails on a call that calls.txt refuses. Comments, literals, members (x->time(...)) and definitions of ours are not calls."""

import pathlib
import re

import house

TABLE = pathlib.Path(__file__).resolve().parent / "calls.txt"


def rules():
    for names, may, instead in house.table(TABLE):
        words = "|".join(name.replace("*", r"\w*") for name in names.split())
        # Not after '.', '->' (a member) or a word character; `(*name)(` has the parenthesis elsewhere.
        yield re.compile(rf"(?<![\w.])(?<!->)({words})[ \t]*\("), may.split(), instead


def allowed(name, may):
    if name.startswith("tests/"):
        return "tests" in may
    return any(name.startswith(f"src/{folder}/") for folder in may)


def check(root):
    found = []
    table = list(rules())
    for name in house.files(root, ".c", ".h"):
        if not name.startswith(("src/", "tests/")):
            continue
        text = house.code_only(house.read(root, name))
        for pattern, may, instead in table:
            if allowed(name, may):
                continue
            for match in pattern.finditer(text):
                found.append(f"{name}:{house.line_of(text, match.start())}: {match.group(1)}() is not for here; instead: {instead}")
    return found


def self_test():
    house.expect(check, {"src/base/a.c": "void f(char *a) { strcpy(a, a); }\n"}, "strcpy")
    house.expect(check, {"src/base/a.c": "/* strcpy(a, b) */ const char *s = \"sprintf(x)\"; // rand()\n"})
    house.expect(check, {"src/base/a.c": "void f(struct x *x) { x->time(1); x->ops.rand(2); my_time(3); random_u64(x); }\n"})
    house.expect(check, {"src/block/a.c": "int f(void) {\n return rand ();\n}\n"}, ":2:")
    house.expect(check, {"src/host/linux/a.c": "void f(void) { clock_gettime(1, 0); fopen(0, 0); }\n"})
    house.expect(check, {"src/host/sim/a.c": "void f(void) { clock_gettime(1, 0); }\n"}, "clock_gettime")
    house.expect(check, {"src/programs/x/a.c": "void f(void) { printf(\"\"); atoi(\"\"); }\n"}, "atoi")
    house.expect(check, {"src/plane_rpc/a.c": "void f(void) { fprintf(stderr, \"\"); }\n"}, "fprintf")
    house.expect(check, {"tests/base/a.c": "void f(void) { printf(\"\"); strcat(a, b); srand(1); }\n"}, "strcat", "srand")
    house.expect(check, {"src/base/a.c": "void f(char c) { if (c == '\"') sprintf(0, 0); }\n"}, "sprintf")


if __name__ == "__main__":
    self_test()
    house.report(check(house.ROOT), "calls")
