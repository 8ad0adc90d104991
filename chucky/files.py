"""Reads a file that an administrator named: it may be anything, and must keep nobody waiting."""

import errno
import os
import shlex
import stat
from pathlib import Path

from chucky.errors import ChuckyError, NotAFile

# Closed to the service whatever their rights are: ProtectHome= in systemd/chucky@.service.
CLOSED = ("/home", "/root", "/run/user")
# Of opening something: it is no fault of its own, and may pass.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN)


def read(path: str, most_bytes: int) -> bytes:
    """Return what a regular file begins with. Raises OSError; NotAFile for anything else."""
    # Without O_NONBLOCK a FIFO would keep us waiting for who writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("got something else, want a regular file")
        return file.read(most_bytes)


def raise_passing(path: str, error: OSError) -> None:
    """Raise ChuckyError where opening something failed through no fault of its own."""
    if error.errno in _PASSING:
        raise ChuckyError(f"{path}: {error.strerror}; try again") from None


def way_in(path: str, last: str = "") -> str:
    """Return what lets us read a file that we may not: `last`, or that everyone may read it, where
    each folder lets us pass."""
    place = os.path.realpath(path) if os.path.isabs(path) else path  # of links, where they lead
    for folder in reversed(Path(place).parents):
        if os.access(folder, os.X_OK, effective_ids=True):
            continue
        if str(folder) in CLOSED:
            return f"keep it elsewhere than below {folder}, as in /etc/chucky"
        return f'"sudo chmod a+x {shlex.quote(str(folder))}" lets everyone pass'
    return last or f'"sudo chmod a+r {shlex.quote(path)}" lets everyone read it'
