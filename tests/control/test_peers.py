#!/usr/bin/env python3
"""penstockd through clients of other makes, from npm: @grpc/grpc-js (peers.js) and buf, which also guards the contract's files.
Arguments: penstockd, penstock-block, the contract's table, the project's folder, api/proto."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's python3-grpcio is
sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import grpc  # the rig's
except ImportError as reason:
    print(f"skipped: no python3-grpcio for this interpreter: {reason}")
    sys.exit(77)

from rig import SERVICE, Client, Contract, Node, certificates

DAEMON, PLANE, TABLE, ROOT, PROTO = sys.argv[1:6]
HERE = pathlib.Path(__file__).parent
MODULES = pathlib.Path(ROOT) / "build-packages" / "npm" / "node_modules"
assert grpc


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT,
                          env={**os.environ, "NODE_PATH": str(MODULES)}, **more)  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done.stdout


def buf(*arguments):
    return run(MODULES / ".bin" / "buf", *arguments)


def contract_is_kept():
    """The files obey buf's rules, but for foreign names, and take nothing back of what was once promised."""
    config = ("--config", HERE / "buf.yaml")
    buf("lint", *config)
    buf("breaking", *config, "--against", HERE / "contract.binpb.gz")
    with tempfile.TemporaryDirectory(prefix="buf-") as folder:  # and it would be seen
        copy = pathlib.Path(folder)
        shutil.copytree(pathlib.Path(PROTO), copy / "api" / "proto")
        file = copy / "api" / "proto" / "spdkrpc" / "disk.proto"
        text = file.read_text(encoding="utf-8")
        changed = text.replace("string disk_path = 3;", "string disk_path = 13;", 1)
        assert changed != text
        file.write_text(changed, encoding="utf-8")
        done = subprocess.run([MODULES / ".bin" / "buf", "breaking", *config, "--against", HERE / "contract.binpb.gz"], cwd=copy,
                              capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
        assert done.returncode != 0 and "disk_path" in done.stdout + done.stderr, done


def buf_asks(address, scheme, *options):
    """By reflection: it has no files."""
    methods = buf("curl", "--protocol", "grpc", *options, f"{scheme}://{address}:8504", "--list-methods").split()
    assert "spdkrpc.SPDKService/ReplicaCreate" in methods and "grpc.health.v1.Health/Check" in methods, methods
    answer = json.loads(buf("curl", "--protocol", "grpc", *options, f"{scheme}://{address}:8504{SERVICE}VersionDetailGet"))
    assert answer["version"]["version"], answer
    health = json.loads(buf("curl", "--protocol", "grpc", *options, "-d", '{"service": "spdkrpc.SPDKService"}', f"{scheme}://{address}:8504/grpc.health.v1.Health/Check"))
    assert health == {"status": "SERVING"}, health


def disk_file(folder):
    path = folder / "js.img"
    with open(path, "wb") as file:
        file.truncate(512 << 20)
    return path


def main():
    if not (MODULES / ".bin" / "buf").exists() or shutil.which("node") is None:
        print("skipped: no buf and @grpc/grpc-js in build-packages/npm (npm is needed to have them)")
        sys.exit(77)
    contract_is_kept()
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        folder = pathlib.Path(directory)
        keys = certificates(folder)
        for tls in (False, True) if keys else (False,):
            files = [str(folder / name) for name in ("ca.crt", "client.crt", "client.key")]
            daemon = zip(("--tls-certificate", "--tls-key", "--tls-ca"), ("server.crt", "server.key", "ca.crt"), strict=True)
            options = [word for option, file in daemon for word in (option, str(folder / file))] if tls else []
            node = Node(DAEMON, PLANE, Contract(TABLE), folder / ("tls" if tls else "plain"), options)
            try:
                if tls:
                    node.client = Client(node.contract, f"unix:{node.folder}/state/penstockd.sock")
                node.start()
                theirs = ("--cacert", files[0], "--cert", files[1], "--key", files[2], "--servername", "server.test") if tls else ("--http2-prior-knowledge",)
                buf_asks(node.address, "https" if tls else "http", *theirs)
                if not tls:
                    told = run("node", HERE / "peers.js", f"{node.address}:8504", PROTO, disk_file(node.folder))
                    print(f"note: {told.strip()}")
            finally:
                node.end()
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
