"""What planes that were killed leave in the machine's shared memory (src/host/linux/kept.c): a file a store, with a note of the disk
that it is about. A plane takes it away when that disk is gone and another store is opened; tests leave none behind themselves."""

import glob
import os
import struct
import tempfile

NOTE = struct.Struct("=QQQ4096s")
MAGIC = 0x3165746F6E745350


def forget(folder):
    """Removes those about disks in this folder: when no plane that had one lives any more, and while the folder is there."""
    inside = os.path.realpath(folder) + "/"
    for path in glob.glob("/dev/shm/penstock-store-*"):
        try:
            with open(path, "rb") as file:
                file.seek(-NOTE.size, os.SEEK_END)
                magic, _, _, about = NOTE.unpack(file.read(NOTE.size))
            if magic == MAGIC and about.split(b"\0")[0].decode(errors="replace").startswith(inside):
                os.unlink(path)
        except OSError:
            pass  # another's, or gone meanwhile


class Folder(tempfile.TemporaryDirectory):
    """One for disks of planes that may be killed; all of them have ended when it does."""

    def cleanup(self):
        forget(self.name)
        super().cleanup()
