"""The target that the guest connects to: the small test target on a memory device."""

import signal
import subprocess

UUID = "5d1cf2a4-7a77-4f5f-9be0-31f0e2f7c0de"


class MemoryTarget:
    """tests/tools/nvme_tcp_target: one memory device. What it holds is gone with the process."""

    keeps_data = False

    def __init__(self, build, work, nqn):
        self.program, self.nqn, self.uuid = build / "tests/tools/nvme_tcp_target", nqn, UUID
        self.port, self.process = 0, None
        self.log = open(work / "target.log", "w")

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "--port", str(self.port), "--size", "256M", "--nqn", self.nqn, "--uuid", self.uuid, "--block", "512"],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), f"the target did not start: {line}"
        self.port = int(line.split()[-1])

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        """An orderly end: it must come."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, f"the target ended with {self.process.returncode}"
        self.process = None

    def clone(self):
        return None


def choose(build, work, nqn):
    return MemoryTarget(build, work, nqn)
