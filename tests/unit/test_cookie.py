"""The cookie file's rules. As root, each rule about rights is tried in a child without them."""

import grp
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chucky import cookie
from chucky.errors import CookieError

NOBODY = 65534
STRANGER = 64321  # users and groups that no machine has
SERVICE = 64123
GOOD = b"correct horse battery staple"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another's file")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's tmp_path is not."""
    made = Path(tempfile.mkdtemp(prefix="cookie-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with the package's group."""
    entry = grp.struct_group(("chucky", "x", SERVICE, []))
    real = grp.getgrnam
    monkeypatch.setattr(grp, "getgrnam", lambda name: entry if name == "chucky" else real(name))
    return SERVICE


@pytest.fixture
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without it."""

    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", missing)


def place(folder: Path, mode: int, user: int = -1, group: int = -1, raw: bytes = GOOD) -> str:
    path = folder / "cookie"
    path.write_bytes(raw)
    if (user, group) != (-1, -1):
        os.chown(path, user, group)
    path.chmod(mode)
    return str(path)


def said(call: Callable[[], object]) -> str:
    """What the call returns, or the one line that it raises."""
    try:
        return repr(call())
    except CookieError as error:
        assert len(str(error).splitlines()) == 1
        return str(error)


def as_user(user: int, groups: list[int], call: Callable[[], object]) -> str:
    """`said`, in a child that is this user with these groups, the first its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups[1:])
            os.setgid(groups[0])
            os.setuid(user)
            os.write(writing, said(call).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_reads_a_private_file_of_mine(folder: Path, mode: int) -> None:
    path = place(folder, mode, raw=GOOD + b" \r\n\n")
    assert cookie.read(path) == GOOD


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "has 0 bytes, want at least 16"),
        (b"fifteen bytes..\n", "has 15 bytes, want at least 16"),
        (b" \n" * 40, "has 0 bytes, want at least 16"),
        (b"a" * 4097, "has more than 4096 bytes"),
        (b"a" * 16 + b"\n" * 4096, "has more than 4096 bytes"),
        (b"a tab and\tmore than 16", "has a control character, want one line of text"),
        (b"two lines of\nmore than 16", "has a control character, want one line of text"),
        (b"a zero and\0more than 16", "has a control character, want one line of text"),
        (b"a delete and\x7fmore than 16", "has a control character, want one line of text"),
    ],
)
def test_refuses_content(folder: Path, raw: bytes, problem: str) -> None:
    path = place(folder, 0o400, raw=raw)
    assert said(lambda: cookie.read(path)) == (
        f"{path}: {problem}; copy that of another machine, or make one:"
        f' "sudo rm {path} && sudo chucky cookie {path}"'
    )


@pytest.mark.parametrize("raw", [b"a" * 16, b"a" * 4096, b"\xff" * 16, " räksmörgås ok".encode()])
def test_accepts_content_at_the_bounds(folder: Path, raw: bytes) -> None:
    assert cookie.read(place(folder, 0o400, raw=raw)) == raw


def test_refuses_what_is_missing(folder: Path) -> None:
    path = str(folder / "none")
    assert said(lambda: cookie.read(path)) == (
        f'{path}: no such file; "sudo chucky cookie {path}" makes one, or copy that of another'
        " machine"
    )


def test_refuses_what_is_no_file_and_never_waits_for_a_fifo(folder: Path) -> None:
    another = "name another as node.cookie_file in node.toml"
    os.mkfifo(folder / "fifo", 0o400)
    for path in (folder, folder / "fifo", Path("/dev/null")):
        answer = said(partial(cookie.read, str(path)))
        assert answer == f"{path}: is not a regular file; {another}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        assert another in said(lambda: cookie.read(str(folder / "socket")))
    (folder / "loop").symlink_to("loop")
    assert said(lambda: cookie.read(str(folder / "loop"))) == (
        f"{folder}/loop: Too many levels of symbolic links; {another}"
    )


def test_leaves_no_descriptor_open(folder: Path) -> None:
    good, before = place(folder, 0o400), len(os.listdir("/proc/self/fd"))
    cookie.read(good)
    os.chmod(good, 0o404)
    for path in (str(folder), good + "x", good):
        with pytest.raises(CookieError):
            cookie.read(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_follows_a_link_and_judges_its_target(folder: Path) -> None:
    target = place(folder, 0o400)
    (folder / "link").symlink_to(target)
    assert cookie.read(str(folder / "link")) == GOOD
    os.chmod(target, 0o604)
    assert "has mode 0604, which lets everyone in" in said(
        lambda: cookie.read(str(folder / "link"))
    )


WIDE = "which lets everyone in"
GROUP = "which lets its group do more than read"
CHMOD = "chmod 0400 {}"
CHMOD_GROUP = "sudo chmod 0640 {}"
GIVE = "sudo chown root:chucky {0} && sudo chmod 0640 {0}"


@needs_root
@pytest.mark.parametrize(
    ("reader", "groups", "mode", "owner", "group", "problem", "way_out"),
    [
        # the daemon: nobody, in the package's group
        (NOBODY, [SERVICE], 0o640, 0, SERVICE, None, None),
        (NOBODY, [STRANGER, SERVICE], 0o640, 0, SERVICE, None, None),
        (NOBODY, [SERVICE], 0o400, NOBODY, STRANGER, None, None),
        (NOBODY, [SERVICE], 0o644, 0, SERVICE, f"has mode 0644, {WIDE}", CHMOD_GROUP),
        (NOBODY, [SERVICE], 0o641, 0, SERVICE, f"has mode 0641, {WIDE}", CHMOD_GROUP),
        (NOBODY, [SERVICE], 0o642, 0, SERVICE, f"has mode 0642, {WIDE}", CHMOD_GROUP),
        (NOBODY, [SERVICE], 0o660, 0, SERVICE, f"has mode 0660, {GROUP}", CHMOD_GROUP),
        (NOBODY, [SERVICE], 0o650, 0, SERVICE, f"has mode 0650, {GROUP}", CHMOD_GROUP),
        (NOBODY, [SERVICE], 0o644, 0, 0, f"has mode 0644, {WIDE}", GIVE),
        (NOBODY, [SERVICE], 0o400, 0, SERVICE, "nobody may not read it", GIVE),
        (NOBODY, [SERVICE], 0o640, 0, 0, "nobody may not read it", GIVE),
        (
            NOBODY,
            [SERVICE],
            0o640,
            STRANGER,
            SERVICE,
            "belongs to 64321, want root or nobody",
            GIVE,
        ),
        (NOBODY, [SERVICE], 0o606, NOBODY, SERVICE, f"has mode 0606, {WIDE}", CHMOD),
        (
            *(NOBODY, [SERVICE], 0o440, NOBODY, STRANGER),
            "may be read by the group 64321, which is not ours",
            CHMOD,
        ),
        # root, with the tool: in no group but its own
        (0, [0], 0o640, 0, SERVICE, None, None),
        (0, [0], 0o400, 0, 0, None, None),
        (0, [0], 0o644, 0, SERVICE, f"has mode 0644, {WIDE}", CHMOD_GROUP),
        (0, [0], 0o644, 0, 0, f"has mode 0644, {WIDE}", GIVE),
        (0, [0], 0o400, STRANGER, 0, "belongs to 64321, want root", GIVE),
        (
            *(0, [0], 0o640, 0, STRANGER),
            "may be read by the group 64321, which is not ours",
            GIVE,
        ),
        # somebody else
        (
            *(NOBODY, [STRANGER], 0o644, STRANGER, STRANGER),
            "belongs to 64321, want root or nobody",
            "sudo chown nobody: {0} && sudo chmod 0400 {0}",
        ),
    ],
)
def test_rights(
    folder: Path,
    service: int,
    reader: int,
    groups: list[int],
    mode: int,
    owner: int,
    group: int,
    problem: str | None,
    way_out: str,
) -> None:
    path = place(folder, mode, owner, group)
    answer = as_user(reader, groups, lambda: cookie.read(path))
    if problem is None:
        assert answer == repr(GOOD)
    else:
        assert answer == f'{path}: {problem}; "{way_out.format(path)}"'


@needs_root
def test_the_way_out_mends_it(folder: Path, no_service: None) -> None:
    """Each command of a user without the package's group, carried out, makes it readable."""
    for mode, owner in ((0o444, NOBODY), (0o644, 0), (0o644, STRANGER), (0o660, NOBODY)):
        path = place(folder, mode, owner, STRANGER)
        read = partial(cookie.read, path)
        command = as_user(NOBODY, [STRANGER + 1], read).split('"')[1].replace("sudo ", "")
        assert os.system(command) == 0
        assert as_user(NOBODY, [STRANGER + 1], read) == repr(GOOD), command


@needs_root
def test_who_is_neither_owner_nor_service_is_told_of_sudo(folder: Path, service: int) -> None:
    path = place(folder, 0o640, 0, SERVICE)
    answer = as_user(NOBODY, [STRANGER], lambda: cookie.read(path))
    assert answer == f"{path}: nobody may not read it; run this with sudo"


@needs_root
def test_a_given_group_is_allowed_in_place_of_the_package_s(folder: Path, service: int) -> None:
    path = place(folder, 0o640, 0, STRANGER)
    assert cookie.read(path, STRANGER) == GOOD
    path = place(folder, 0o640, 0, SERVICE)
    assert "which is not ours" in said(lambda: cookie.read(path, STRANGER))


def test_a_path_is_quoted_for_the_shell(folder: Path) -> None:
    (folder / "a b").mkdir()
    path = place(folder / "a b", 0o404)
    assert f" '{path}'\"" in said(lambda: cookie.read(path))


def test_makes_one_that_it_reads(folder: Path, no_service: None) -> None:
    path = folder / "cookie"
    cookie.make(str(path))
    info = path.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o400, os.geteuid())
    assert os.listdir(folder) == ["cookie"]
    made = cookie.read(str(path))
    assert len(bytes.fromhex(made.decode())) == 32
    path.unlink()
    cookie.make(str(path))
    assert cookie.read(str(path)) != made


@needs_root
def test_made_by_root_it_is_the_service_s(folder: Path, service: int) -> None:
    path = folder / "cookie"
    cookie.make(str(path))
    info = path.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o640, 0, SERVICE)
    answers = (as_user(NOBODY, [SERVICE], lambda: cookie.read(str(path))), repr(path.read_bytes()))
    assert answers[0] == answers[1].replace("\\n", "")


@needs_root
def test_made_by_a_user_it_is_the_user_s(folder: Path, service: int) -> None:
    folder.chmod(0o777)
    path = folder / "cookie"
    assert as_user(NOBODY, [SERVICE], lambda: cookie.make(str(path))) == "None"
    info = path.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o400, NOBODY)


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_never_overwrites(folder: Path, kind: str) -> None:
    path = folder / "cookie"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    assert said(lambda: cookie.make(str(path))) == (
        f'{path}: exists already; "sudo chucky cookie {path}" shows its fingerprint, and only'
        f' after "sudo rm {path}" a new one is made'
    )
    assert os.listdir(folder) == ["cookie"]
    assert kind != "file" or path.read_bytes() == b"precious"


def test_one_made_meanwhile_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "cookie"
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # looked just before
    path.write_bytes(b"precious")
    assert "exists already" in said(lambda: cookie.make(str(path)))
    assert (os.listdir(folder), path.read_bytes()) == (["cookie"], b"precious")


def test_cannot_make_one_without_its_directory(folder: Path) -> None:
    path = folder / "none" / "cookie"
    assert said(lambda: cookie.make(str(path))) == (
        f'{path}: no such directory; "sudo mkdir -p {path.parent}" makes it'
    )
    (folder / "file").touch()
    assert said(lambda: cookie.make(f"{folder}/file/cookie")) == (
        f"{folder}/file/cookie: cannot be made: Not a directory; mend that first"
    )


@needs_root
def test_cannot_make_one_where_only_root_may(folder: Path) -> None:
    answer = as_user(NOBODY, [STRANGER], lambda: cookie.make(f"{folder}/cookie"))
    assert answer == f"{folder}/cookie: cannot be made: Permission denied; run it with sudo"


def test_what_leaves_a_cookie_is_fixed_for_ever() -> None:
    """Another version of Chucky on another machine must come to the same."""
    assert cookie.fingerprint(b"x" * 64) == "3bd2 78c3 bc80 7b35 dadf 3eb6 0b0d 9c96"
    assert cookie.key(b"x" * 64).hex() == (
        "c866e2123d58582e7232b65f3e4e12364d371a41793ca3a99c82c85ca63ecf1b"
    )
    assert cookie.fingerprint(b"y" * 64) != cookie.fingerprint(b"x" * 64)
