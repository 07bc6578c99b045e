#!/usr/bin/env python3
"""A storage plane that offers only what a stock SPDK target does: stands before a penstock-block (in $STOCK_PLANE) and, as a target
without them would, knows neither our methods nor those of Longhorn's fork, none of their parameters, and says nothing in listings that
a stock target does not say. Started as a plane is: -r SOCKET and more options."""

import asyncio
import json
import os
import pathlib
import signal
import sys

# Of the fork, by what is known of it; ours are marked in api/rpc.
FORK = {
    "bdev_lvol_set_xattr", "bdev_lvol_get_xattr", "bdev_lvol_get_fragmap", "bdev_lvol_detach_parent", "bdev_lvol_register_snapshot_checksum",
    "bdev_lvol_register_snapshot_range_checksums", "bdev_lvol_get_snapshot_checksum", "bdev_lvol_get_snapshot_range_checksums",
    "bdev_lvol_stop_snapshot_checksum", "bdev_lvol_start_range_shallow_copy", "bdev_lvol_start_deep_copy", "bdev_lvol_check_deep_copy",
    "bdev_raid_grow_base_bdev",
}  # fmt: skip
PARAMETERS = {"bdev_lvol_snapshot": {"xattrs"}}
OF_VOLUMES = ("used_bytes", "damaged", "creation_time")


def ours(folder):
    for path in folder.glob("*.json"):
        for method, facts in json.loads(path.read_text(encoding="utf-8"))["methods"].items():
            if facts.get("extension"):
                yield method


class Stand:
    def __init__(self, inner):
        self.inner = inner
        self.hidden = FORK | set(ours(pathlib.Path(__file__).parents[2] / "api" / "rpc"))

    def refuse(self, request):
        method = request.get("method")
        if method in self.hidden:
            return -32601, "Method not found"
        if set(request.get("params") or {}) & PARAMETERS.get(method, set()):
            return -32602, "Invalid parameters"
        return None

    def strip(self, method, result):
        if method == "rpc_get_methods":
            return [name for name in result if name not in self.hidden]
        for device in result if method == "bdev_get_bdevs" else []:
            for field in OF_VOLUMES:
                device.get("driver_specific", {}).get("lvol", {}).pop(field, None)
        return result

    async def serve(self, reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(self.inner, limit=1 << 26)
        methods = {}

        async def upward():
            while line := await inner_reader.readline():
                answer = json.loads(line)
                if "result" in answer:
                    answer["result"] = self.strip(methods.pop(answer["id"], ""), answer["result"])
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

        task, buffer, decoder = asyncio.create_task(upward()), "", json.JSONDecoder()
        try:
            while not task.done() and (data := await reader.read(1 << 16)):
                buffer += data.decode()
                while buffer := buffer.lstrip():
                    try:
                        request, end = decoder.raw_decode(buffer)
                    except json.JSONDecodeError:
                        break
                    buffer = buffer[end:]
                    refused = self.refuse(request)
                    if refused is None:
                        methods[request["id"]] = request["method"]
                        inner_writer.write(json.dumps(request).encode())
                    else:
                        error = {"code": refused[0], "message": refused[1]}
                        writer.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            task.cancel()
            inner_writer.close()
            writer.close()


async def run():
    arguments = sys.argv[1:]
    at = arguments.index("-r") + 1
    outer, arguments[at] = arguments[at], arguments[at] + ".inner"
    plane = await asyncio.create_subprocess_exec(os.environ["STOCK_PLANE"], *arguments)
    while plane.returncode is None:
        try:
            _, probe = await asyncio.open_unix_connection(arguments[at])
            probe.close()
            break
        except OSError:
            await asyncio.sleep(0.01)
    pathlib.Path(outer).unlink(missing_ok=True)
    await asyncio.start_unix_server(Stand(arguments[at]).serve, outer, limit=1 << 26)
    status = await plane.wait()
    pathlib.Path(outer).unlink(missing_ok=True)
    sys.exit(1 if status != 0 else 0)


signal.signal(signal.SIGINT, signal.SIG_DFL)
asyncio.run(run())
