#!/usr/bin/env python3
"""Fails on an #include in src/ that arrows.txt does not allow."""

import fnmatch
import pathlib

import house

PURE = set(
    "assert.h ctype.h inttypes.h limits.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h".split()
)
TABLE = pathlib.Path(__file__).resolve().parent / "arrows.txt"


class Arrows:
    def __init__(self):
        self.rows = {cells[0]: (cells[1].split(), cells[2].split()) for cells in house.table(TABLE)}

    def room(self, folder):
        """(the folder that has the row, its row) of a path below src/: the longest that fits; (None, None) if there is none."""
        parts = folder.split("/")
        for length in range(len(parts), 0, -1):
            prefix = "/".join(parts[:length])
            for pattern in sorted(self.rows, key=lambda pattern: "*" in pattern):
                if pattern.count("/") == length - 1 and fnmatch.fnmatchcase(prefix, pattern):
                    return prefix, self.rows[pattern]
        return None, None

    def wrong(self, source, name):
        """What is wrong with `source` (a path below src/) including `name` as written, or None."""
        here, row = self.room(str(pathlib.PurePosixPath(source).parent))
        if row is None:
            return "its folder has no row in tests/house/arrows.txt"
        folders, headers = row
        target = name[1:-1]
        if name[0] == "<":
            if target in PURE or any(fnmatch.fnmatchcase(target, pattern) for pattern in headers):
                return None
            return f"{name} is not for src/{here}: ask src/host, or the folder that owns this library"
        if "/" not in target:
            return f"{name}: ours are named from src/, as \"{here}/{target}\""
        there, _ = self.room(str(pathlib.PurePosixPath(target).parent))
        if there is None:
            return f"{name} is in no folder of tests/house/arrows.txt"
        if there == here or any(fnmatch.fnmatchcase(there, pattern) for pattern in folders):
            return None
        return f"{name} is against the arrows: src/{here} sees {', '.join(folders) or 'nothing but itself'}"


def check(root):
    arrows = Arrows()
    found = []
    for name in house.files(root, ".c", ".h"):
        if not name.startswith("src/"):
            continue
        text = house.code_only(house.read(root, name))
        for match in house.INCLUDE.finditer(text):
            wrong = arrows.wrong(name[len("src/") :], match.group(1))
            if wrong:
                found.append(f"{name}:{house.line_of(text, match.start(1))}: {wrong}")
    return found


def self_test():
    house.expect(check, {"src/base/a.c": '#include "base/b.h"\n#include <stdint.h>\n/* #include "block/c.h" */\n'})
    house.expect(check, {"src/wire/nvme/a.c": '#include "base/b.h"\n#include "block/c.h"\n'}, ":2:")
    house.expect(check, {"src/wire/nvme/a.h": '#include "wire/jsonrpc/b.h"\n'}, "against")
    house.expect(check, {"src/blockdev/memory/a.c": '#include "blockdev/null/b.h"\n#include "block/c.h"\n'}, ":1:")
    house.expect(check, {"src/blockdev/volume/map/a.c": '#include "blockdev/volume/b.h"\n#include "host/linux/c.h"\n'}, ":2:")
    house.expect(check, {"src/frontend/nvme_tcp/a.c": '#include "frontend/nvme/b.h"\n'})
    house.expect(check, {"src/frontend/nvme/a.c": '#include "frontend/nvme_tcp/b.h"\n'}, "against")
    house.expect(check, {"src/reactor/a.c": "#include <pthread.h>\n#include <sys/uio.h>\n"}, "pthread", "sys/uio")
    house.expect(check, {"src/host/linux/a.c": "#include <liburing.h>\n#include <unistd.h>\n"})
    house.expect(check, {"src/host/a.c": "#include <liburing.h>\n"}, "liburing")
    house.expect(check, {"src/cli/a.c": '#include <jansson.h>\n#include "block/b.h"\n'}, "against")
    house.expect(check, {"src/block/a.c": "#  include <cmocka.h>\n"}, "cmocka")
    house.expect(check, {"src/block/a.c": '#include "b.h"\n'}, "named from src/")
    house.expect(check, {"src/new/a.c": '#include "base/b.h"\n'}, "no row")


if __name__ == "__main__":
    self_test()
    house.report(check(house.ROOT), "includes")
