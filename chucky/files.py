"""Reads a file that an administrator named: it may be anything, and must keep nobody waiting."""

import os
import shlex
import stat
from pathlib import Path

from chucky.errors import NotAFile


def read(path: str, most_bytes: int) -> bytes:
    """Return what a regular file begins with. Raises OSError; NotAFile for anything else."""
    # Without O_NONBLOCK a FIFO would keep us waiting for who writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("got something else, want a regular file")
        return file.read(most_bytes)


def way_in(path: str) -> str:
    """Return the command that lets us read a file that we may not."""
    for folder in reversed(Path(path).parents):
        if not os.access(folder, os.X_OK, effective_ids=True):
            return f'"sudo chmod a+x {shlex.quote(str(folder))}" lets everyone pass'
    return f'"sudo chmod a+r {shlex.quote(path)}" lets everyone read it'
