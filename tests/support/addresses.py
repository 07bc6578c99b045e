"""Addresses of 127/8 (all of it is this machine) that no test beside has: each is held by a name that only one process can have."""

import random
import socket


class Address:
    """Ends with its process, or end()."""

    def __init__(self):
        while True:
            # Below 16 are those that tests name themselves, above 250 those of the demonstrations.
            self.text = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
            self.holder = socket.socket(socket.AF_UNIX)
            try:
                self.holder.bind(f"\0penstock-test-{self.text}")
                return
            except OSError:
                self.holder.close()

    def end(self):
        self.holder.close()
