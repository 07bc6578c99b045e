"""A small NVMe/TCP host that follows ANA: it keeps a path to each node that offers a volume, and sends a command by another one when
a path is lost or says that it is not the one. Nothing of ours reads or writes its bytes. No digests, one command at a time."""

import os
import socket
import struct
import time

CAPSULE, ANSWER, TO_HOST = 4, 5, 7
PATH_RELATED = 3  # status code type
HOST = "nqn.2014-08.org.nvmexpress:uuid:7a3d1f00-0000-4000-8000-0000000000cd"


class Refused(Exception):
    """A command's status, but success."""

    def __init__(self, status):
        super().__init__(f"status code type {status >> 8 & 7}, code {status & 0xff:#x}")
        self.path_related = status >> 8 & 7 == PATH_RELATED
        self.again = not status >> 14 & 1


class Queue:
    def __init__(self, address, port, nqn, host_id, qid, cntlid, seconds):
        self.link = socket.create_connection((address, port), seconds)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.sendall(struct.pack("<BBBBIHBBI", 0, 0, 128, 0, 128, 0, 0, 0, 0).ljust(128, b"\0"))
        assert self.take(128)[0] == 1, "no ICResp"
        data = host_id + struct.pack("<H", cntlid)
        data = (data.ljust(256, b"\0") + nqn.encode()).ljust(512, b"\0")
        data = (data + HOST.encode()).ljust(1024, b"\0")
        self.cntlid = self.fabrics(1, struct.pack("<HHHBBI", 0, qid, 31, 0, 0, 0), data) & 0xFFFF

    def take(self, size):
        data = bytearray()
        while len(data) < size:
            more = self.link.recv(size - len(data))
            if not more:
                raise ConnectionError("the target has closed the connection")
            data += more
        return data

    def command(self, opcode, nsid=0, tail=b"", data=b"", want=0, fctype=0):
        """Data in the capsule, or `want` bytes from the target; what comes back: the result and the data."""
        sgl = struct.pack("<QI3xB", 0, len(data), 0x01) if data else struct.pack("<QI3xB", 0, want, 0x5A)
        second = struct.pack("<B3x", fctype) if opcode == 0x7F else struct.pack("<I", nsid)
        sqe = struct.pack("<BBH", opcode, 0x40, 7) + second + bytes(16) + sgl + tail.ljust(24, b"\0")
        assert len(sqe) == 64
        self.link.sendall(struct.pack("<BBBBI", CAPSULE, 0, 72, 72 if data else 0, 72 + len(data)) + sqe + data)
        got = bytearray(want)
        while True:
            kind, flags, header, offset, length = struct.unpack("<BBBBI", self.take(8))
            body = self.take(length - 8)
            if kind == TO_HOST:
                _, at, size = struct.unpack_from("<HxxII", body)
                got[at : at + size] = body[offset - 8 : offset - 8 + size]
                if flags & 8:
                    return 0, bytes(got)
                continue
            assert kind == ANSWER, f"PDU {kind}"
            result, status = struct.unpack_from("<Q6xH", body)
            if status >> 1:
                raise Refused(status >> 1)
            return result, bytes(got)

    def fabrics(self, fctype, tail, data=b""):
        return self.command(0x7F, fctype=fctype, tail=tail, data=data)[0]


class Path:
    """A controller with one I/O queue."""

    def __init__(self, address, port, nqn, host_id=None, seconds=60):
        host_id = host_id or os.urandom(16)
        self.admin = Queue(address, port, nqn, host_id, 0, 0xFFFF, seconds)
        self.cntlid = self.admin.cntlid
        self.admin.fabrics(0, struct.pack("<BxxxIQ", 0, 0x14, 0x460001))
        for _ in range(1000):
            if self.admin.fabrics(4, struct.pack("<BxxxI", 0, 0x1C)) & 1:
                break
            time.sleep(0.002)
        self.io = Queue(address, port, nqn, host_id, 1, self.cntlid, seconds)
        namespace = self.admin.command(6, nsid=1, tail=struct.pack("<I", 0), want=4096)[1]
        self.block = 1 << namespace[128 + 4 * (namespace[26] & 15) + 2]
        self.size = struct.unpack_from("<Q", namespace)[0] * self.block
        self.nguid = namespace[104:120].hex()
        controller = self.admin.command(6, tail=struct.pack("<I", 1), want=4096)[1]
        self.serial = controller[4:24].decode().strip()
        self.ana = bool(controller[76] & 8)

    def write(self, offset, data):
        self.io.command(1, 1, struct.pack("<QI", offset // self.block, len(data) // self.block - 1), data=data)

    def read(self, offset, length):
        return self.io.command(2, 1, struct.pack("<QI", offset // self.block, length // self.block - 1), want=length)[1]

    def flush(self):
        self.io.command(0, 1)

    def ana_state(self):
        """Of the first group: 1 optimized, 2 non-optimized, 3 inaccessible, 15 in transition."""
        log = self.admin.command(2, 0xFFFFFFFF, struct.pack("<BBH", 0x0C, 0, 64 // 4 - 1), want=64)[1]
        return log[16 + 16] & 15

    def close(self):
        for queue in (getattr(self, "io", None), getattr(self, "admin", None)):
            if queue is not None:
                queue.link.close()


class Host:
    """The disk behind all paths; `places`: (address, port) of each."""

    def __init__(self, nqn, places, patience=60):
        self.nqn, self.places, self.host_id, self.patience = nqn, list(places), os.urandom(16), patience
        self.paths, self.current, self.longest = {}, 0, 0.0

    def run(self, what, seconds=None):
        """`what` is given a path. By another one, and again, until one does it."""
        began = time.monotonic()
        seconds, tried = seconds or self.patience, None
        while time.monotonic() < began + seconds:
            for turn in range(len(self.places)):
                at = (self.current + turn) % len(self.places)
                try:
                    if self.paths.get(at) is None:
                        self.paths[at] = Path(*self.places[at], self.nqn, self.host_id, 2)
                    done = what(self.paths[at])
                    self.current = at
                    self.longest = max(self.longest, time.monotonic() - began)
                    return done
                except Refused as refused:
                    tried = f"path {at}: {refused}"
                    if not refused.path_related:
                        raise
                except (OSError, AssertionError) as lost:
                    tried = f"path {at}: {lost}"
                    self.drop(at)
            time.sleep(0.002)
        raise AssertionError(f"no path for {seconds} s; {tried}")

    def drop(self, at):
        path = self.paths.pop(at, None)
        if path is not None:
            path.close()

    def write(self, offset, data):
        self.run(lambda path: path.write(offset, data))

    def read(self, offset, length):
        return self.run(lambda path: path.read(offset, length))

    def close(self):
        for at in list(self.paths):
            self.drop(at)
