#!/usr/bin/env python3
"""The NVMe/TCP target on real sockets and threads: reads and writes, small and large, with digests, from several hosts at once; one
of them is killed in the middle. Everything ends in order.

    loopback.py TARGET LOAD"""

import signal
import subprocess
import sys
import time


def main():
    target, load = sys.argv[1:3]
    served = subprocess.Popen([target, "--port", "0", "--reactors", "2", "--size", "16M"], stdout=subprocess.PIPE, text=True)
    try:
        port = served.stdout.readline().split()[-1]

        def run(*options):
            return subprocess.Popen([load, "--port", port, "--seconds", "1", *options], stdout=subprocess.DEVNULL)

        hosts = [
            run("--write", "--verify", "--depth", "64"),
            run("--verify", "--depth", "100"),
            run("--write", "--verify", "--depth", "8", "--size", "128K"),
            run("--header-digest", "--data-digest", "--verify", "--depth", "16", "--size", "64K", "--no-success"),
        ]
        for host in hosts:
            assert host.wait(120) == 0, f"a host ended with {host.returncode}"
        victim = subprocess.Popen([load, "--port", port, "--write", "--seconds", "60"], stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        victim.kill()
        victim.wait()
        assert run("--verify").wait(120) == 0, "the target does not serve after a host was killed"
        last = subprocess.Popen([load, "--port", port, "--seconds", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        served.send_signal(signal.SIGTERM)  # under load
        assert served.wait(60) == 0, f"the target ended with {served.returncode}"
        last.wait(60)
    finally:
        served.kill()
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
