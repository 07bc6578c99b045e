#!/usr/bin/env python3
"""The compiled descriptors of spdkrpc against the table of its contract: every message, field, number and type, every enumeration,
every method and its kind; nothing more, nothing less. docs/longhorn.md has each method once, and names tests that exist. Arguments:
protoc, the root of the .proto files, the table, the files."""

import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
from message import fields

TYPES = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 13: "uint32"}
MESSAGE, ENUM, REPEATED = 11, 14, 3


def every(data, number):
    return [value for found, value in fields(data) if found == number]


def text(data, number):
    return "".join(value.decode() for value in every(data, number)[-1:])


def number(data, which):
    return (every(data, which) or [0])[-1]


def type_of(field, entries):
    kind = number(field, 5)
    if kind not in (MESSAGE, ENUM):
        name = TYPES[kind]
    else:
        full = text(field, 6)
        if full in entries:
            key, value = entries[full]
            return f"map<{key}, {value}>"
        name = full.split(".")[-1]
    return f"repeated {name}" if number(field, 4) == REPEATED else name


def describe_message(prefix, message):
    name = text(message, 1)
    entries = {}
    for nested in every(message, 3):
        assert number(b"".join(every(nested, 7)), 7) == 1, f"{name} has a message inside that is no map"
        key, value = (type_of(field, {}) for field in every(nested, 2))
        entries[f"{prefix}.{name}.{text(nested, 1)}"] = (key, value)
    return [f"message {name} {number(field, 3)} {text(field, 1)} {type_of(field, entries)}" for field in every(message, 2)]


def describe(descriptors):
    rows = []
    for file in every(descriptors, 1):
        if text(file, 2) != "spdkrpc":
            continue
        for message in every(file, 4):
            rows += describe_message(".spdkrpc", message)
        for enum in every(file, 5):
            rows += [f"enum {text(enum, 1)} {number(value, 2)} {text(value, 1)}" for value in every(enum, 2)]
        for service in every(file, 6):
            assert text(service, 1) == "SPDKService"
            for method in every(service, 2):
                names = [text(method, which).split(".")[-1] for which in (2, 3)]
                assert number(method, 5) == 0, "no method takes a stream"
                rows.append(f"method {text(method, 1)} {names[0]} {names[1]} {'stream' if number(method, 6) else 'unary'}")
    return rows


def check_page(methods):
    """docs/longhorn.md: rows of methods, and `FILE test` for each that proves something."""
    root = pathlib.Path(__file__).resolve().parents[2]
    page = (root / "docs/longhorn.md").read_text(encoding="utf-8")
    told = [name for row in re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \|", page, re.MULTILINE) for name in row.split(", ")]
    assert sorted(told) == sorted(methods), set(told) ^ set(methods) or "one stands there twice"
    cited = re.findall(r"`([\w/]+\.(?:py|c)) (\w+)`", page)
    assert len(cited) > 60, cited
    for file, test in cited:
        path = root / (file if "/" in file else f"tests/control/{file}")
        assert re.search(rf"\b(test_)?{test}\(", path.read_text(encoding="utf-8")), f"{file} has no {test}"
    for path in re.findall(r"`(tests/[\w/.]+)", page):
        assert (root / path).exists(), path


def main():
    protoc, root, table, *files = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        path = pathlib.Path(folder, "set")
        subprocess.check_call([protoc, f"--proto_path={root}", f"--c_out={folder}", f"--descriptor_set_out={path}",
                               *(str(pathlib.Path(file).resolve()) for file in files)])  # fmt: skip
        compiled = describe(path.read_bytes())
    wanted = [line for line in pathlib.Path(table).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(wanted) > 600 and len(set(wanted)) == len(wanted)
    assert len(set(compiled)) == len(compiled)
    check_page([line.split()[1] for line in wanted if line.startswith("method ")])
    for row in sorted(set(wanted) - set(compiled)):
        print(f"missing: {row}")
    for row in sorted(set(compiled) - set(wanted)):
        print(f"not in the contract: {row}")
    if set(wanted) != set(compiled):
        sys.exit(1)
    print(f"{len(wanted)} passed, 0 failed")


if __name__ == "__main__":
    main()
