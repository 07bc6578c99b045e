"""Processes that tests leave to themselves: planes outlive the daemon that started them, and those who stand by them end a little later
than they do."""

import os
import select
import signal

DEADLINE_S = 60


def end_all(folder):
    """Ends every process that has something below this folder in its command line, and waits for that. Afterwards nobody writes there: when
    whoever starts them has ended."""
    inside = os.path.join(os.path.abspath(folder), "").encode()
    while True:
        handles = [handle for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid() and (handle := held(pid, inside)) is not None]
        if not handles:
            return
        for handle in handles:
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            assert select.select([handle], [], [], DEADLINE_S)[0], f"a process at {folder} does not end"
            os.close(handle)


def held(pid, inside):
    """A descriptor of the process, if it is one of those; None: it is not, or has ended."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if any(inside in word for word in file.read().split(b"\0")):
                return handle
    except OSError:
        pass
    os.close(handle)
    return None
