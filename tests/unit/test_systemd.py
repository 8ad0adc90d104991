"""What arrives at a real notify socket, and how log records look to journald."""

import contextlib
import io
import logging
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chucky.net.systemd import (
    JournalHandler,
    Notifier,
    log_handler,
    watchdog_interval_ms,
)


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end of the notify socket."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@chucky-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield receiver


def test_each_message(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    assert manager.recv(4096) == b"READY=1"
    notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"
    notifier.reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[1-9]\d+", manager.recv(4096))
    notifier.stopping()
    assert manager.recv(4096) == b"STOPPING=1"


def test_a_reload_that_ends_while_the_node_stops_does_not_say_that_it_is_ready(
    manager: socket.socket,
) -> None:
    notifier = Notifier()
    notifier.stopping()
    notifier.ready()
    notifier.reloading()
    notifier.watchdog()
    said = [manager.recv(4096) for _ in range(2)]
    assert said == [b"STOPPING=1", b"WATCHDOG=1"]


def test_status_is_utf8(manager: socket.socket) -> None:
    Notifier().status("warte auf b, c: 12 s – übrig")
    assert manager.recv(4096).decode() == "STATUS=warte auf b, c: 12 s – übrig"


def test_a_newline_in_a_status_starts_no_assignment(manager: socket.socket) -> None:
    Notifier().status("peer x\nMAINPID=1\r\0\u2028\udcff")
    assert manager.recv(4096) == b"STATUS=peer x MAINPID=1    "


def test_a_long_status_is_cut_at_a_whole_character(manager: socket.socket) -> None:
    Notifier().status("x" + "é" * 5000)
    text = manager.recv(65536).decode()
    assert text.startswith("STATUS=xé")
    assert len(text.encode()) <= 1024 + len("STATUS=")


def test_a_manager_that_does_not_read_does_not_block(manager: socket.socket) -> None:
    notifier = Notifier()
    for _ in range(10_000):  # the queue holds net.unix.max_dgram_qlen, 10 to 512
        notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_what_a_busy_manager_would_lose_goes_along_with_the_next_message(
    manager: socket.socket,
) -> None:
    notifier = Notifier()
    for number in range(10_000):
        notifier.status(str(number))
    notifier.ready()
    notifier.status("owner")
    with contextlib.suppress(BlockingIOError):
        while manager.recv(4096):
            pass
    notifier.watchdog()
    assert manager.recv(4096).decode().split("\n") == ["READY=1", "STATUS=owner", "WATCHDOG=1"]
    notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_without_a_manager_everything_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    for call in (notifier.ready, notifier.watchdog, notifier.reloading, notifier.stopping):
        call()
    notifier.status("nobody reads this")


def test_a_manager_that_is_gone_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    Notifier().ready()


@pytest.mark.parametrize(
    ("environ", "interval_ms"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 3333),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 3333),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "1"}, 1),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "ten"}, None),
        ({"WATCHDOG_USEC": "\u0663"}, None),
    ],
)
def test_the_watchdog_interval(environ: dict[str, str], interval_ms: int | None) -> None:
    assert watchdog_interval_ms(environ) == interval_ms


# -- the journal


def a_record(level: int, **fields: str) -> logging.LogRecord:
    record = logging.LogRecord("chucky", level, "", 0, "a\n%s", ("b",), None)
    record.journal_fields = fields
    return record


def told(datagram: bytes) -> dict[str, str]:
    """Read what journald would; every value here is in the form that gives its length."""
    fields = {}
    while datagram:
        key, _, rest = datagram.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        assert b"=" not in key and rest[8 + size :][:1] == b"\n"
        fields[key.decode()], datagram = rest[8 : 8 + size].decode(), rest[9 + size :]
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "journal"))
        receiver.setblocking(False)
        yield receiver


def test_a_record_with_fields_is_found_by_them(journal: socket.socket) -> None:
    stderr = io.StringIO()
    handler = JournalHandler(stderr, journal.getsockname())
    handler.emit(a_record(logging.WARNING, PEER="b@beta\nPRIORITY=0", CAUSE="über"))
    assert told(journal.recv(65536)) == {
        "MESSAGE": "a\nb",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "chuckyd",
        "CHUCKY_PEER": "b@beta\nPRIORITY=0",
        "CHUCKY_CAUSE": "über",
    }
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "<7>a\n<7>b"),
        (logging.INFO, "<6>a\n<6>b"),
        (logging.WARNING, "<4>a\n<4>b"),
        (logging.ERROR, "<3>a\n<3>b"),
        (logging.CRITICAL, "<2>a\n<2>b"),
    ],
)
def test_a_record_without_fields_goes_to_stderr_with_its_priority(
    journal: socket.socket, level: int, line: str
) -> None:
    stderr = io.StringIO()
    JournalHandler(stderr, journal.getsockname()).emit(a_record(level))
    assert stderr.getvalue() == f"{line}\n"
    with pytest.raises(BlockingIOError):
        journal.recv(1)


def test_what_the_journal_does_not_take_goes_to_stderr(
    journal: socket.socket, tmp_path: Path
) -> None:
    stderr = io.StringIO()
    handler = JournalHandler(stderr, str(tmp_path / "journal"))
    handler.emit(a_record(logging.INFO, CAUSE="x" * 2**20))  # more than a datagram
    assert stderr.getvalue() == "<6>a\n<6>b\n"
    while stderr.getvalue().count("a") == 1:  # until its queue is full: nobody reads it
        handler.emit(a_record(logging.INFO, CAUSE="x"))
    os.unlink(tmp_path / "journal")
    handler.emit(a_record(logging.INFO, CAUSE="x"))
    assert stderr.getvalue() == 3 * "<6>a\n<6>b\n"


def test_the_handler_depends_on_whose_stream_it_is(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        found = os.fstat(file.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert isinstance(log_handler(file.fileno(), ours), JournalHandler)
        for environ in ({}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": "rubbish"}):
            plain = log_handler(file.fileno(), environ)
            assert not isinstance(plain, JournalHandler)
            record = logging.LogRecord("chucky", logging.INFO, "", 0, "started", (), None)
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} started", plain.format(record)
            )


def test_the_journal_has_the_sentence_and_nothing_before_it(tmp_path: Path) -> None:
    shipped = str(Path(__file__).parents[2] / "etc/chucky/node.toml")
    with open(tmp_path / "log", "w+") as file:
        found = os.fstat(file.fileno())
        subprocess.run(
            [sys.executable, "-m", "chucky.daemon", "a b", "--config", shipped],
            env=os.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
            cwd=Path(__file__).parents[2], stderr=file, check=False,
        )  # fmt: skip
        file.seek(0)
        assert file.read().startswith("<3>node name: got 'a b'")


SPEAKER = """
import logging, sys
from chucky.net.systemd import log_handler
logging.basicConfig(level=logging.INFO, handlers=[log_handler()])
for number in range(5000):
    logging.info("line %d", number)
print("free", flush=True)
sys.stdin.readline()
logging.info("last words")
raise SystemExit(7)
"""


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_a_log_that_nobody_reads_holds_nobody_up(journal: bool, read: bool) -> None:
    ours, theirs = socket.socketpair()
    found = os.fstat(theirs.fileno())
    stream = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if journal else {}
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs, subprocess.Popen(
        [sys.executable, "-c", SPEAKER], env=os.environ | stream,
        cwd=Path(__file__).parents[2], stderr=theirs,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], 20)[0]
            theirs.close()
            if read:
                text = ""
                while "line 4999\n" not in text:
                    text += ours.recv(65536).decode()
                number, before = 0, "<4>" if journal else ""
                for line in text.splitlines():
                    if " lost" in line:
                        count = int(line.removeprefix(before).split()[0])
                        told = f"{before}{count} lines of the log are lost: nobody read it"
                        assert line == told and 0 < count <= 4000
                        number += count
                    else:
                        assert line.endswith(f"line {number}")
                        number += 1
                assert number == 5000 and " lost" in text
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(20) == 7
            if read:
                assert ours.recv(65536).decode().endswith("last words\n")
        finally:
            process.kill()


def test_without_a_thread_the_log_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with open(tmp_path / "log", "w+") as file:
        log_handler(file.fileno(), {}).emit(a_record(logging.INFO))
        file.seek(0)
        assert file.read().endswith("a\nb\n")


def test_it_needs_no_asyncio() -> None:
    code = "import sys, chucky.net.systemd; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
