"""The cookie file: reads it under strict rules, makes it, and derives what may leave it.

The cookie itself never travels and is never shown. Whoever holds it is a node of the cluster, so a
file that anybody else could have read or written is refused, each time with the command that mends
it.
"""

import grp
import hashlib
import os
import pwd
import secrets
import shlex
import stat
import tempfile

from chucky import files
from chucky.errors import CookieError

# 16 random bytes cannot be guessed; `make` gives 32, as 64 hex digits. What a person thinks up is
# weaker at any length: against that, scrypt in `_derive` makes each guess cost 16 MiB.
MIN_BYTES = 16
MAX_BYTES = 4096  # of the whole file: a key of any kind fits, a log or a device does not

SERVICE_GROUP = "chucky"  # made by the package; the daemon runs in it

_ROOT = 0
_ANOTHER = "name another as node.cookie_file in node.toml"
_GROUP_BEYOND_READ = stat.S_IWGRP | stat.S_IXGRP


def read(path: str, group_id: int | None = None) -> bytes:
    """Return the cookie, without the white space at its end.

    The file's group may read it when the process is in that group. One more group is allowed, for
    root who is in none: `group_id`, by default the package's. Raises CookieError, or ChuckyError
    for what may pass.
    """
    # Symbolic links are followed: secrets are often linked to where a tool keeps them. All checks
    # are of the opened file, so it does not matter who could exchange the link meanwhile.
    # O_NONBLOCK: opening a FIFO would wait for a writer; O_NOCTTY: a terminal would become ours.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        files.raise_passing(path, error)
        raise CookieError(f"{path}: {_unopened(path, error)}") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise CookieError(f"{path}: is not a regular file; {_ANOTHER}")
        _check_access(path, info, _service_group() if group_id is None else group_id)
        raw = os.read(descriptor, MAX_BYTES + 1)
    except OSError as error:
        raise CookieError(f"{path}: {error.strerror}; {_ANOTHER}") from None
    finally:
        os.close(descriptor)
    return _check_content(path, raw)


def make(path: str) -> None:
    """Create the file with a new random cookie: 0400, or 0640 root:chucky when run as root where
    that group exists. Never touches a file that is there. Raises CookieError."""
    group = _service_group() if os.geteuid() == _ROOT else None
    quoted = shlex.quote(path)
    exists = CookieError(
        f'{path}: exists already; "sudo chucky cookie {quoted}" shows its fingerprint, and only'
        f' after "sudo rm {quoted}" a new one is made'
    )
    if os.path.lexists(path):
        raise exists
    try:
        # A draft and a link to it: link() never overwrites, and whoever sees the file sees all of
        # it, with its rights. mkstemp() creates with O_EXCL and 0600. What a process leaves that
        # was killed, debian/postrm finds by its prefix.
        descriptor, draft = tempfile.mkstemp(prefix=".cookie.", dir=os.path.dirname(path) or ".")
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode() + b"\n")
                if group is not None:
                    os.fchown(descriptor, _ROOT, group)
                os.fchmod(descriptor, 0o400 if group is None else 0o640)
                file.flush()
                os.fsync(descriptor)
            os.link(draft, path)
        finally:
            os.unlink(draft)
    except FileExistsError:
        raise exists from None
    except FileNotFoundError:
        folder = shlex.quote(os.path.dirname(path))
        raise CookieError(f'{path}: no such directory; "sudo mkdir -p {folder}" makes it') from None
    except OSError as error:
        way_out = "run it with sudo" if isinstance(error, PermissionError) else "mend that first"
        raise CookieError(f"{path}: cannot be made: {error.strerror}; {way_out}") from None


def fingerprint(cookie: bytes) -> str:
    """Return what tells two cookies apart and may be shown: eight groups of four hex digits."""
    return _derive(cookie, b"chucky fingerprint v1", 16).hex(" ", 2)


def key(cookie: bytes) -> bytes:
    """Return the 32-byte key that the handshake proves; takes some 50 ms and 16 MiB."""
    return _derive(cookie, b"chucky link v1", 32)


def _derive(cookie: bytes, salt: bytes, length: int) -> bytes:
    """Slow on purpose: who has a result (a fingerprint, a recorded handshake) and searches a weak
    cookie pays 128 * r * n = 16 MiB for each guess. The salt is fixed, as it must be the same on
    all nodes; it keeps the uses apart. `maxmem` is above that, OpenSSL counts a little more."""
    return hashlib.scrypt(cookie, salt=salt, n=2**14, r=8, p=1, maxmem=2**25, dklen=length)


def _check_access(path: str, info: os.stat_result, service: int | None) -> None:
    """Refuse what somebody else may have written or may read."""
    mode = stat.S_IMODE(info.st_mode)
    allowed_group = info.st_gid in (service, *_own_groups())
    if info.st_uid not in (_ROOT, os.geteuid()):
        us = "" if os.geteuid() == _ROOT else f" or {_user_name(os.geteuid())}"
        complaint = f"belongs to {_user_name(info.st_uid)}, want root{us}"
    elif mode & stat.S_IRWXO:
        complaint = f"has mode {mode:04o}, which lets everyone in"
    elif mode & _GROUP_BEYOND_READ:
        complaint = f"has mode {mode:04o}, which lets its group do more than read"
    elif mode & stat.S_IRGRP and not allowed_group:
        complaint = f"may be read by the group {_group_name(info.st_gid)}, which is not ours"
    else:
        return
    raise CookieError(f'{path}: {complaint}; "{_mend(path, info, allowed_group)}"')


def _check_content(path: str, raw: bytes) -> bytes:
    cookie = raw.rstrip(b" \r\n")  # an editor or an echo may have left it
    if len(raw) > MAX_BYTES:
        complaint = f"has more than {MAX_BYTES} bytes"
    elif len(cookie) < MIN_BYTES:
        complaint = f"has {len(cookie)} bytes, want at least {MIN_BYTES}"
    elif any(byte < 0x20 or byte == 0x7F for byte in cookie):
        complaint = "has a control character, want one line of text"
    else:
        return cookie
    quoted = shlex.quote(path)
    raise CookieError(
        f"{path}: {complaint}; copy that of another machine, or make one:"
        f' "sudo rm {quoted} && sudo chucky cookie {quoted}"'
    )


def _unopened(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        make_one = f'"sudo chucky cookie {shlex.quote(path)}" makes one'
        return f"no such file; {make_one}, or copy that of another machine"
    if not isinstance(error, PermissionError):
        return f"{error.strerror}; {_ANOTHER}"
    way_out = "run this with sudo"
    if _is_service():
        way_out = files.way_in(path, f'"{_give_to_service(path)}"')
    return f"{_user_name(os.geteuid())} may not read it; {way_out}"


def _mend(path: str, info: os.stat_result, allowed_group: bool) -> str:
    """Return the command that gives the file the owner, group and mode it needs for us."""
    quoted, user = shlex.quote(path), os.geteuid()
    if info.st_uid == user != _ROOT:
        return f"chmod 0400 {quoted}"
    if info.st_uid == _ROOT and allowed_group and info.st_gid != _ROOT:
        return f"sudo chmod 0640 {quoted}"
    if _is_service() or (user == _ROOT and _service_group() is not None):
        return _give_to_service(path)
    return f"sudo chown {_user_name(user)}: {quoted} && sudo chmod 0400 {quoted}"


def _give_to_service(path: str) -> str:
    quoted = shlex.quote(path)
    return f"sudo chown root:{SERVICE_GROUP} {quoted} && sudo chmod 0640 {quoted}"


def _own_groups() -> tuple[int, ...]:
    return (os.getegid(), *os.getgroups())


def _is_service() -> bool:
    return _service_group() in _own_groups()


def _service_group() -> int | None:
    try:
        return grp.getgrnam(SERVICE_GROUP).gr_gid
    except KeyError:
        return None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
