"""The other end of a vhost_user port: what QEMU and a guest's driver are to it, in one process, so that a test can do with rings and
messages what no good guest does. Split rings; frames are numbered arrays of bytes.

Must not know: the plane, what is tested."""

import array
import mmap
import os
import select
import socket
import struct
import time

# vhost-user's requests
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 11, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
VERSION, REPLY = 1, 4
# features
CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6, MRG_RXBUF, MQ = 0, 1, 7, 8, 11, 12, 15, 22
INDIRECT_DESC, PROTOCOL_FEATURES, VERSION_1 = 28, 30, 32
PROTOCOL_MQ = 0
NEXT, WRITE, INDIRECT = 1, 2, 4  # of a descriptor
NO_NOTIFY = 1  # of a used ring

SIZE = 64  # descriptors of a ring
HEADER = 12  # virtio_net_hdr with its count of buffers
BUFFER = 4096
USER = 0x7000_0000_0000  # where the memory lies in our imagined process; 0 in the guest
RING = 0x4000  # bytes set aside for one ring's three parts


class Ring:
    """One ring of the guest, and its buffers."""

    def __init__(self, guest, index):
        self.guest, self.index = guest, index
        self.desc = index * RING
        self.avail = self.desc + SIZE * 16
        self.used = (self.avail + 4 + SIZE * 2 + 2 + 63) & ~63
        self.buffers = guest.rings_end + index * SIZE * BUFFER
        self.kick, self.call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.next_avail = self.next_used = 0

    def close(self):
        os.close(self.kick)
        os.close(self.call)

    def address(self, slot):
        return self.buffers + slot * BUFFER

    def put_desc(self, slot, address, length, flags=0, following=0):
        struct.pack_into("<QIHH", self.guest.memory, self.desc + slot * 16, address, length, flags, following)

    def offer(self, *slots):
        """Makes chains that begin at these descriptors available."""
        for slot in slots:
            struct.pack_into("<H", self.guest.memory, self.avail + 4 + self.next_avail % SIZE * 2, slot)
            self.next_avail = (self.next_avail + 1) & 0xFFFF
        self.guest.words[self.avail // 2 + 1] = self.next_avail

    def notify(self):
        os.eventfd_write(self.kick, 1)

    def wants_kicks(self):
        return self.guest.words[self.used // 2] & NO_NOTIFY == 0

    def used_index(self):
        return self.guest.words[self.used // 2 + 1]

    def take_used(self):
        """(slot, length) of the next chain that came back; None if there is none."""
        if self.next_used == self.used_index():
            return None
        at = self.used + 4 + self.next_used % SIZE * 8
        self.next_used = (self.next_used + 1) & 0xFFFF
        return struct.unpack_from("<II", self.guest.memory, at)


class Guest:
    def __init__(self, path, server=False, queues=1, features=(), size=None):
        self.path, self.queues = path, queues
        self.rings_end = 2 * queues * RING
        self.size = size or self.rings_end + 2 * queues * SIZE * BUFFER
        self.file = os.memfd_create("guest")
        os.ftruncate(self.file, self.size)
        self.memory = mmap.mmap(self.file, self.size)
        self.words = memoryview(self.memory).cast("H")  # whole: struct would go byte by byte, and the plane is not waiting for that
        self.rings = [Ring(self, index) for index in range(2 * queues)]
        self.wanted = sum(1 << bit for bit in {VERSION_1, PROTOCOL_FEATURES, *features, *([MQ] if queues > 1 else [])})
        self.connection = self.listener = self.plugged = None
        if server:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(1)

    def close(self):
        self.disconnect()
        if self.listener is not None:
            self.listener.close()
        for ring in self.rings:
            ring.close()
        self.words.release()
        self.memory.close()
        os.close(self.file)
        if self.plugged is not None:
            os.close(self.plugged)

    # ---- messages ----

    def connect(self, seconds=60):
        """Waits for the plane, or goes to it."""
        deadline = time.monotonic() + seconds
        if self.listener is not None:
            self.listener.settimeout(seconds)
            self.connection, _ = self.listener.accept()
            self.connection.settimeout(seconds)
            return self
        while True:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.settimeout(seconds)
            try:
                self.connection.connect(self.path)
                return self
            except OSError:
                self.connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send_message(self, request, payload=b"", files=(), flags=VERSION, length=None):
        head = struct.pack("<III", request, flags, len(payload) if length is None else length)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.connection.sendmsg([head + payload], ancillary)

    def ask(self, request, payload=b""):
        self.send_message(request, payload)
        head = self.connection.recv(12, socket.MSG_WAITALL)
        if len(head) < 12:
            raise ConnectionError("the plane hung up")
        answered, _, length = struct.unpack("<III", head)
        assert answered == request, f"answer to {answered}, not {request}"
        return self.connection.recv(length, socket.MSG_WAITALL)

    def ask_u64(self, request):
        return struct.unpack("<Q", self.ask(request))[0]

    def set_up_ring(self, ring, base=None, enable=True):
        index = ring.index
        base = ring.next_used if base is None else base
        self.send_message(SET_VRING_CALL, struct.pack("<Q", index), [ring.call])
        self.send_message(SET_VRING_NUM, struct.pack("<II", index, SIZE))
        self.send_message(SET_VRING_BASE, struct.pack("<II", index, base))
        self.send_message(SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, USER + ring.desc, USER + ring.used, USER + ring.avail, 0))
        self.send_message(SET_VRING_KICK, struct.pack("<Q", index), [ring.kick])
        if enable:
            self.send_message(SET_VRING_ENABLE, struct.pack("<II", index, 1))

    def set_memory(self):
        self.send_message(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, self.size, USER, 0), [self.file])

    def plug_memory(self, size):
        """More memory behind what there is, while the rings run, as when a DIMM is plugged into a virtual machine. Its file."""
        self.plugged = os.memfd_create("plugged")
        os.ftruncate(self.plugged, size)
        table = struct.pack("<IIQQQQQQQQ", 2, 0, 0, self.size, USER, 0, self.size, size, USER + self.size, 0)
        self.send_message(SET_MEM_TABLE, table, [self.file, self.plugged])
        self.ask(GET_FEATURES)
        return self.plugged

    def negotiate(self):
        """Up to where the rings are to be set up."""
        self.send_message(SET_OWNER)
        self.offered = self.ask_u64(GET_FEATURES)
        self.features = self.wanted & self.offered
        protocol = self.ask_u64(GET_PROTOCOL_FEATURES)
        self.send_message(SET_PROTOCOL_FEATURES, struct.pack("<Q", protocol & 1 << PROTOCOL_MQ))
        if self.queues > 1:
            assert self.ask_u64(GET_QUEUE_NUM) >= self.queues
        self.send_message(SET_FEATURES, struct.pack("<Q", self.features))
        self.set_memory()

    def start(self):
        """Connects, and has its rings used; frames can be received at once. Again after a disconnection, where it left off."""
        self.connect()
        self.negotiate()
        for ring in self.rings:
            if ring.index % 2 == 0 and ring.next_avail == 0:
                for slot in range(SIZE):
                    ring.put_desc(slot, ring.address(slot), BUFFER, WRITE)
                ring.offer(*range(SIZE))
        for ring in self.rings:  # all of them first, as QEMU does
            self.send_message(SET_VRING_CALL, struct.pack("<Q", ring.index), [ring.call])
        for ring in self.rings:
            self.set_up_ring(ring, ring.used_index())
        self.ask(GET_FEATURES)  # answered: all before it was taken
        return self

    # ---- frames ----

    def header(self, flags=0, gso=0, head_size=0, gso_size=0, sum_start=0, sum_offset=0):
        return struct.pack("<BBHHHHH", flags, gso, head_size, gso_size, sum_start, sum_offset, 1)

    def post(self, data, queue=0, header=None, pieces=1):
        """Sends one frame. False: the ring is full."""
        ring = self.rings[2 * queue + 1]
        while ring.take_used() is not None:
            pass
        in_flight = (ring.next_avail - ring.next_used) & 0xFFFF
        if in_flight > (SIZE - 1 if pieces == 1 else 0):  # a chain takes descriptors that frames behind it would use
            return False
        whole = (header or self.header()) + data
        step = -(-len(whole) // pieces)
        first = ring.next_avail % SIZE if pieces == 1 else 0
        for piece in range(pieces):
            slot = (first + piece) % SIZE
            part = whole[piece * step : (piece + 1) * step]
            assert len(part) <= BUFFER
            self.memory[ring.address(slot) : ring.address(slot) + len(part)] = part
            ring.put_desc(slot, ring.address(slot), len(part), NEXT if piece + 1 < pieces else 0, (slot + 1) % SIZE)
        ring.offer(first)
        return True

    def send(self, *frames, queue=0, seconds=60):
        """Sends all, waiting for room where there is none."""
        deadline = time.monotonic() + seconds
        for data in frames:
            while not self.post(data, queue):
                self.rings[2 * queue + 1].notify()
                if time.monotonic() > deadline:
                    raise TimeoutError("the ring stays full")
                time.sleep(0.0005)
        self.rings[2 * queue + 1].notify()

    def take(self, queue=0):
        """(header, frame) of what came next, its buffers given back; None if there is nothing."""
        ring = self.rings[2 * queue]
        whole, left = b"", 1
        if ring.next_used == ring.used_index():
            return None
        while left > 0:
            slot, length = ring.take_used()
            part = self.memory[ring.address(slot) : ring.address(slot) + length]
            if not whole:
                left = struct.unpack_from("<H", part, 10)[0] if self.features >> MRG_RXBUF & 1 else 1
            whole += part
            left -= 1
            ring.offer(slot)
        ring.notify()
        return struct.unpack("<BBHHHHH", whole[:HEADER]), whole[HEADER:]

    def receive(self, count, seconds=60, queues=None):
        """That many frames; fewer after the time."""
        got, deadline = [], time.monotonic() + seconds
        while len(got) < count:
            taken = [frame for queue in queues or range(self.queues) if (frame := self.take(queue)) is not None]
            got += [data for _, data in taken]
            if not taken:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.0005)
        return got

    def hung_up(self, seconds=60):
        """True once the plane has ended the connection."""
        self.connection.setblocking(False)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            select.select([self.connection], [], [], 0.05)
            try:
                if self.connection.recv(4096) == b"":
                    return True
            except BlockingIOError:
                continue
            except OSError:
                return True
        return False
