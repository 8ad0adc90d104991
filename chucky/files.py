"""Reads a file that an administrator named: it may be anything, and must keep nobody waiting."""

import os
import stat

from chucky.errors import NotAFile


def read(path: str, most_bytes: int) -> bytes:
    """Return what a regular file begins with. Raises OSError; NotAFile for anything else."""
    # Without O_NONBLOCK a FIFO would keep us waiting for who writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("got something else, want a regular file")
        return file.read(most_bytes)
