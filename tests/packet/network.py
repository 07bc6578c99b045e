"""A network of the test's own: namespaces, and interfaces in them. Must not know: the plane, what is tested."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess

NEW_USER, NEW_NET = 0x10000000, 0x40000000


def enter_namespace():
    """Leaves the machine's network for an empty one. Why that is not allowed, or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_NET if user == 0 else NEW_USER | NEW_NET) != 0:
        return f"no network namespace: {os.strerror(ctypes.get_errno())}; run it as root, or by unshare -Urn"
    if user != 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open("/proc/self/" + name, "w", encoding="ascii") as file:
                file.write(line)
    return None


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def quiet(interface):
    """No frames of its own accord."""
    with open(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", "w", encoding="ascii") as file:
        file.write("1")


def finish_checksums(interface):
    """Has the kernel finish them before a frame leaves by it, as on a wire: `ethtool -K … tx off`."""
    with socket.socket() as s:
        for command in (0x17, 0x1F, 0x24):  # ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO
            value = bytearray(struct.pack("II", command, 0))
            request = (ctypes.c_char * len(value)).from_buffer(value)
            try:
                fcntl.ioctl(s, 0x8946, struct.pack("16sP16x", interface.encode(), ctypes.addressof(request)))
            except OSError:
                pass  # it knows no such thing


class Namespace:
    """Another network, with one end of a veth pair as its interface; the other end, NAME, is here."""

    def __init__(self, name, address):
        self.name = name
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self.holder.stdout.readline()  # it is there
        ip("link", "add", name, "type", "veth", "peer", "name", name + "_in")
        for interface in (name, name + "_in"):
            quiet(interface)
            finish_checksums(interface)
        ip("link", "set", name + "_in", "netns", str(self.holder.pid))
        ip("link", "set", name, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", address, "dev", name + "_in")
        self.run("ip", "link", "set", name + "_in", "up")

    def command(self, *words):
        return ["nsenter", "-t", str(self.holder.pid), "-n", *words]

    def run(self, *words):
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=False)

    def mac(self):
        shown = self.run("ip", "-o", "link", "show", "dev", self.name + "_in").stdout.split()
        return shown[shown.index("link/ether") + 1]

    def close(self):
        self.holder.kill()
        self.holder.wait()
