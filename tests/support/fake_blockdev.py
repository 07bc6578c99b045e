#!/usr/bin/env python3
"""penstock-blockdev without a kernel: answers on its socket as that one does, and writes down what it was asked, one line a request,
beside the socket (blockdev.asked). It refuses while a file of the method's name is there (blockdev_attach), with what is in it."""

import json
import os
import pathlib
import socket
import sys


def answer(folder, method, params, state):
    if method == "framework_get_reactors":
        return {"pid": os.getpid()}
    if method == "rpc_get_methods":
        return ["blockdev_attach", "blockdev_detach", "blockdev_get", "blockdev_resume", "blockdev_suspend"]
    with open(folder / "blockdev.asked", "a", encoding="utf-8") as asked:
        asked.write(json.dumps([method, params]) + "\n")
    refusal = folder / method
    if refusal.exists():
        raise OSError(refusal.read_text(encoding="utf-8"))
    if method == "blockdev_suspend":
        state["lease"] += 1
        return state["lease"]
    if method == "blockdev_attach":
        return {"device": f"/dev/longhorn/{params['volume']}", "bytes": params["bytes"], "suspended": False, "disk": "nvme0n1", "paths": []}
    return True


def main():
    path = pathlib.Path(sys.argv[sys.argv.index("--socket") + 1])
    assert "--host-nqn" in sys.argv and "--host-id" in sys.argv
    path.unlink(missing_ok=True)
    state = {"lease": 0}
    (path.parent / "blockdev.pid").write_text(str(os.getpid()), encoding="utf-8")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)
        while True:
            client, _ = listener.accept()
            with client, client.makefile("rb") as lines:
                decoder, text = json.JSONDecoder(), ""
                while data := lines.read1(65536):
                    text = (text + data.decode()).lstrip()
                    while text:
                        try:
                            request, end = decoder.raw_decode(text)
                        except ValueError:
                            break
                        text = text[end:].lstrip()
                        reply = {"jsonrpc": "2.0", "id": request["id"]}
                        try:
                            reply["result"] = answer(path.parent, request["method"], request.get("params"), state)
                        except OSError as refusal:
                            code, words = str(refusal).split(" ", 1)
                            reply["error"] = {"code": int(code), "message": words, "data": {"text": words}}
                        client.sendall(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    main()
