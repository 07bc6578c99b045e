#!/usr/bin/env python3
"""Fails on what shellcheck finds in the shell scripts, and on Python that does not parse."""

import re
import shutil
import subprocess

import house


def interpreter(root, name):
    if name.endswith(".sh"):
        return "sh"
    if name.endswith(".py"):
        return "python"
    with open(root / name, "rb") as file:
        first = file.readline(200)
    match = re.match(rb"#!\s*\S*?(?:env\s+)?(?:.*/)?(bash|dash|sh|python)3?\b", first)
    return match.group(1).decode() if match else None


def check(root):
    found = []
    shell = []
    for name in house.files(root):
        kind = interpreter(root, name)
        if kind == "python":
            try:
                compile(house.read(root, name), name, "exec")
            except SyntaxError as error:
                found.append(f"{name}:{error.lineno}: {error.msg}")
        elif kind:
            shell.append(name)
    if shell:
        done = subprocess.run(["shellcheck", "--format=gcc"] + shell, cwd=root, capture_output=True, text=True, check=False)
        found += done.stdout.splitlines()
        if done.returncode > 1:
            found.append(done.stderr)
    return found


def self_test():
    house.expect(check, {"a": "#!/bin/sh\necho \"$1\"\n", "b": "#!/usr/bin/env python3\nprint(1)\n", "c.md": "#!x\n"})
    house.expect(check, {"a": "#!/usr/bin/env bash\necho $1\n"}, "a:2:")
    house.expect(check, {"a": "#!/usr/bin/env python3\nprint(\n"}, "a:2:")


if __name__ == "__main__":
    if shutil.which("shellcheck") is None:
        house.skip("shellcheck is not here")
    self_test()
    house.report(check(house.ROOT), "scripts")
