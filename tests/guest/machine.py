"""A Linux machine under QEMU without KVM: Debian's kernel, unpacked and not installed, and an initramfs made here.

The guest runs a shell script and speaks to us over its console: a line that begins with "@@ " is for us, and what we write is
read by the script's `read`. Nothing of it needs root, the network, or an image."""

import gzip
import io
import os
import pathlib
import queue
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("PENSTOCK_CACHE", pathlib.Path.home() / ".cache" / "penstock")) / "kernel"
MODULES = "virtio_pci virtio_net nvme_tcp dm_mod ext4 crc32c_generic crc32c_intel".split()
PROGRAMS = "mke2fs e2fsck fstrim".split()


class Missing(Exception):
    """Something this machine has not: the test is skipped, and says so."""


def kernel_package():
    """The name of the package that linux-image-amd64 stands for."""
    shown = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True)
    found = re.search(r"Depends: (linux-image-\S+-amd64)", shown.stdout)
    if not found:
        raise Missing("no kernel package: apt-cache knows no linux-image-amd64 (run apt-get update)")
    return found.group(1)


def unpack_kernel(cache=CACHE):
    """Debian's kernel below `cache`; fetched once. Returns (vmlinuz, modules folder)."""
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("boot/vmlinuz-*")):
        if not list(cache.glob("linux-image-*.deb")):
            package = kernel_package()
            done = subprocess.run(["apt-get", "download", package], cwd=cache, capture_output=True, text=True)
            if done.returncode != 0:
                raise Missing(f"cannot fetch {package}: {done.stderr.strip().splitlines()[-1:]}")
        deb = next(cache.glob("linux-image-*.deb"))
        subprocess.run(["dpkg-deb", "-x", deb, cache], check=True)
        deb.unlink()
    kernel = next(cache.glob("boot/vmlinuz-*"))
    return kernel, next(cache.glob("lib/modules/*"))


class Archive:
    """An initramfs: cpio's "newc" format."""

    def __init__(self):
        self.parts, self.made, self.inode = [], set(), 0

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        parts = name.strip("/").split("/")
        for length in range(1, len(parts) + 1):
            path = "/".join(parts[:length])
            if path and path not in self.made:
                self.made.add(path)
                self.entry(path, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        self.folder(os.path.dirname(name) or "/")
        self.entry(name.strip("/"), stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.folder(os.path.dirname(name) or "/")
        self.entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def program(self, path):
        """A program with the libraries it loads."""
        self.file("opt/bin/" + os.path.basename(path), pathlib.Path(path).read_bytes())
        shown = subprocess.run(["ldd", path], capture_output=True, text=True)
        for library in re.findall(r"(/\S+) \(0x", shown.stdout):
            if library not in self.made:
                self.made.add(library)
                self.file(library, pathlib.Path(library).read_bytes())

    def write(self, path):
        self.entry("TRAILER!!!", 0)
        with gzip.open(path, "wb", compresslevel=1) as out:
            for part in self.parts:
                out.write(part)


def module_order(folder, wanted):
    """The files of these modules and of all they depend on, in the order in which they can be loaded."""
    files = {path.name.split(".")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    order = []

    def visit(name):
        path = files.get(name)
        if path is None or path in order:
            return  # built in
        text = subprocess.run(["xz", "-dc", path], capture_output=True, check=True).stdout if path.suffix == ".xz" else path.read_bytes()
        for field in (b"depends=", b"softdep=pre: "):
            found = re.search(re.escape(field) + rb"([^\0]*)\0", text)
            for other in re.split(r"[ ,]+", found.group(1).decode()) if found else []:
                if other and not other.startswith("post:"):
                    visit(other.replace("-", "_"))
        if path not in order:
            order.append(path)

    for name in wanted:
        visit(name)
    return order


def find_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    if path is None:
        raise Missing(f"no {name}")
    return path


USER_NETWORK = ["ip link set eth0 up", "ip addr add 10.0.2.15/24 dev eth0", "ip route add default via 10.0.2.2"]


def build_initramfs(modules, script, files, to, wanted=MODULES, programs=PROGRAMS, network=USER_NETWORK):
    """`files` maps names in the guest to bytes. The script is its /init, after the modules are loaded and the network is up."""
    archive = Archive()
    busybox = find_program("busybox")
    if b"dynamically" in subprocess.run(["ldd", busybox], capture_output=True).stdout:
        raise Missing("busybox is not static: install busybox-static")
    for name in ("proc", "sys", "dev", "tmp", "mnt", "etc"):
        archive.folder(name)
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.file("bin/busybox", pathlib.Path(busybox).read_bytes())
    archive.link("bin/sh", "busybox")
    for name in programs:
        archive.program(find_program(name))
    archive.file("etc/mtab", b"", 0o644)
    loads = []
    for path in module_order(modules, wanted):
        archive.file("modules/" + path.name, path.read_bytes(), 0o644)
        loads.append(f"insmod /modules/{path.name} 2>/dev/null")
    for name, data in files.items():
        archive.file(name, data, 0o644)
    init = "\n".join(
        ["#!/bin/sh", "/bin/busybox --install -s /bin", "export PATH=/opt/bin:/bin:/sbin", "mount -t proc proc /proc", "mount -t sysfs sys /sys",
         "mount -t devtmpfs dev /dev", "stty -echo", *loads, "ip link set lo up", *network, script, "poweroff -f"]
    )
    archive.file("init", init.encode())
    archive.write(to)


USER_CARD = ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]


class Machine:
    """A running guest."""

    def __init__(self, kernel, initramfs, log, memory_mb=512, processors=2, devices=USER_CARD, words=""):
        command = [
            find_program("qemu-system-x86_64"), "-machine", "q35,accel=tcg", "-cpu", "max", "-m", str(memory_mb), "-smp", str(processors), "-nographic",
            "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initramfs),
            "-append", f"console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off random.trust_cpu=on no_timer_check {words}",
            *devices,
        ]  # fmt: skip
        self.log = open(log, "w")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.log.write(f"{time.monotonic():.2f} {text}\n")
            self.log.flush()
            at = text.find("@@ ")  # the firmware's last words may stand before it
            if at >= 0:
                self.lines.put(text[at + 3 :])
        self.lines.put(None)

    def wait(self, word, seconds):
        """The rest of the next line for us, which must begin with this word."""
        deadline = time.monotonic() + seconds
        try:
            line = self.lines.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"the guest said nothing for {seconds} s; waited for '{word}'") from None
        assert line is not None, f"the guest ended; waited for '{word}'"
        assert line.split(" ")[0] == word, f"the guest said '{line}', not '{word}'"
        return line[len(word) :].strip()

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def end(self):
        if self.process.poll() is None:
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def tree_tar():
    """The sources: a real tree that is at hand everywhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("src", "tests", "docs", "meson.build", "LICENSE"):
            if (ROOT / name).exists():
                tar.add(ROOT / name, arcname=name)
    return out.getvalue()


def boot(work, name, script, words, tar, programs=(), memory_mb=512):
    """A machine that runs this script of the folder; it finds `words` in /etc/test, the tar as /tree.tar and the programs in its path."""
    kernel, modules = unpack_kernel()
    initramfs = work / f"{name}.initramfs"
    text = (pathlib.Path(__file__).resolve().parent / script).read_text()
    build_initramfs(modules, text, {"tree.tar": tar, "etc/test": words.encode() + b"\n"}, initramfs, programs=[*PROGRAMS, *map(str, programs)])
    return Machine(kernel, initramfs, work / f"{name}.log", memory_mb)


def facts(text):
    return dict(part.split("=", 1) for part in text.split() if "=" in part)
