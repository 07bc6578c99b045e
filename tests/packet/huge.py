"""Huge pages for a test, given back after it; and DPDK's own files, away with them.

Must not know: what is tested."""

import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

COUNT = "/proc/sys/vm/nr_hugepages"
RUNTIME = "/var/run/dpdk"
DEADLINE_S = 60


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def count():
    with open(COUNT, encoding="ascii") as file:
        return int(file.read())


def set_count(pages):
    with open(COUNT, "w", encoding="ascii") as file:
        file.write(str(pages))


def unmount(folder):
    """A plane that was killed, and the processes that end because it was, hold the pages until the kernel has taken them down."""
    deadline = time.monotonic() + DEADLINE_S
    while (done := subprocess.run(["umount", folder], capture_output=True, text=True, check=False)).returncode != 0:
        assert time.monotonic() < deadline, f"somebody still holds the huge pages: {done.stderr.strip()}"
        time.sleep(0.02)


def give_back(lock):
    """What a test left that was killed: where they are mounted, and how many there were before it, is in the lock's file."""
    lock.seek(0)
    before, _, folder = lock.read().partition(" ")
    if os.path.ismount(folder) and subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0:
        os.rmdir(folder)
        set_count(int(before))
    note(lock, "")


def note(lock, text):
    lock.seek(0)
    lock.truncate()
    lock.write(text)
    lock.flush()


@contextlib.contextmanager
def pages(wanted):
    """A hugetlbfs of its own with at least that many free pages of 2 MiB. Ends the program, as skipped, where it cannot be."""
    if os.geteuid() != 0:
        skip("huge pages need root")
    with open(os.path.join(tempfile.gettempdir(), "penstock-huge-pages.lock"), "a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test at a time, so that each puts back what it found
        give_back(lock)
        before = count() if os.path.exists(COUNT) else None
        if before is None:
            skip("there are no huge pages here")
        folder = tempfile.mkdtemp(prefix="huge-")
        note(lock, f"{before} {folder}")
        mounted = False
        try:
            try:
                set_count(before + wanted)
            except OSError as error:
                skip(f"huge pages cannot be had: {error}")
            if count() < before + wanted:
                skip(f"there is no memory for {wanted} huge pages: {count() - before}")
            done = subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "nodev", folder], capture_output=True, text=True, check=False)
            mounted = done.returncode == 0
            if not mounted:
                skip(f"no hugetlbfs: {done.stderr.strip()}")
            known = set(glob.glob(RUNTIME + "/penstock-*"))
            yield folder
            for path in set(glob.glob(RUNTIME + "/penstock-*")) - known:
                shutil.rmtree(path, ignore_errors=True)
        finally:
            if mounted:
                unmount(folder)
            os.rmdir(folder)
            with contextlib.suppress(OSError):
                set_count(before)
            note(lock, "")
