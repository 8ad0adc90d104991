"""What systemd is told: READY, STATUS, WATCHDOG and the rest over sdnotify; the log to journald."""

import atexit
import contextlib
import logging
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TextIO

import sdnotify

# systemd reads at most 4096 bytes (NOTIFY_BUFFER_MAX) and drops a longer message whole; a name or
# two beyond what a status line of a terminal shows is far below that.
_STATUS_BYTES = 1024
# Lines of the log kept while nobody reads it, beside those that the socket or pipe holds, about as
# many: 100 kB, or some MB should each be a traceback.
LOG_LINES = 1000
# How long an exit waits for the last of them. systemd waits 15 s, and a handover takes 5 of those.
LAST_WORDS_S = 1


class Notifier:
    """Speaks to the service manager; does nothing where there is none (no NOTIFY_SOCKET).

    Never blocks and never raises. What a manager that does not read would lose goes along with the
    next message: a READY that is lost would cost the node its start.
    """

    def __init__(self) -> None:
        self._notifier = None
        self._stops = False
        self._owed: dict[str, str] = {}  # the last message of each kind that did not get through
        if os.environ.get("NOTIFY_SOCKET"):
            with contextlib.suppress(OSError):  # nobody is there
                self._notifier = sdnotify.SystemdNotifier(debug=True)  # it raises, then
                self._notifier.socket.setblocking(False)

    def ready(self) -> None:
        """The node's sockets are bound; also ends a reload."""
        if not self._stops:  # a reload may end while the node stops
            self._notify("READY=1")

    def status(self, sentence: str) -> None:
        """Show this sentence in `systemctl status`."""
        # A newline in it (from a peer's name, say) would start an assignment of its own, MAINPID=
        # for one. isprintable is false for every control character and for lone surrogates.
        printable = "".join(c if c.isprintable() else " " for c in sentence)
        self._notify("STATUS=" + printable.encode()[:_STATUS_BYTES].decode(errors="ignore"))

    def watchdog(self) -> None:
        """The loop turns; call it from the loop itself, every `watchdog_interval_ms`."""
        self._notify("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload began; `ready` ends it."""
        # Type=notify-reload (systemd 253) wants the time too; older ones ignore it.
        if not self._stops:
            self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The node leaves in good order."""
        self._stops = True
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if self._notifier is None:
            return
        kind = state.partition("=")[0]
        self._owed.pop(kind, None)
        self._owed[kind] = state
        with contextlib.suppress(OSError):
            # sdnotify encodes to Latin-1: give it text whose Latin-1 bytes are the UTF-8 bytes that
            # systemd wants.
            self._notifier.notify("\n".join(self._owed.values()).encode().decode("latin-1"))
            self._owed.clear()


def watchdog_interval_ms(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return how often to call `watchdog`, a third of WatchdogSec=; None when not asked to.

    Source: sd_watchdog_enabled(3).
    """
    limit_us = environ.get("WATCHDOG_USEC", "")
    if not (limit_us.isascii() and limit_us.isdecimal() and int(limit_us)):
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return max(1, int(limit_us) // 3000)


class LogStream:
    """Has a thread write to `fd`: a node that stands still for a log that nobody reads (a journald
    that hangs, a terminal after Ctrl-S) loses the application.

    A thread, since O_NONBLOCK would be set for all who share what is open, the user's shell too.
    `before` goes before the line that tells how many are lost.
    """

    def __init__(self, fd: int, before: str = "") -> None:
        self._fd = fd
        self._before = before
        self._lines: deque[str] = deque()
        self._lost = 0
        self._writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Take some whole lines. Of more than LOG_LINES that wait the oldest are lost."""
        if not self._starts():
            self._put(text)
            return
        with self._changed:
            if len(self._lines) >= LOG_LINES:
                self._lines.popleft()
                self._lost += 1
            self._lines.append(text)
            self._changed.notify_all()

    def _starts(self) -> bool:
        """Return whether there is a thread; the system may refuse one, and grant the next."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            atexit.register(self._wait)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                text, lost = "".join(self._lines), self._lost
                self._lines.clear()
                self._writing, self._lost = True, 0
            if lost:
                self._put(f"{self._before}{lost} lines of the log are lost: nobody read it\n")
            self._put(text)

    def _put(self, text: str) -> None:
        raw = text.encode(errors="backslashreplace")
        while raw:
            try:
                raw = raw[os.write(self._fd, raw) :]
            except BlockingIOError:  # somebody else set O_NONBLOCK
                select.select([], [self._fd], [])
            except OSError:  # whoever read it is gone
                return

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing), LAST_WORDS_S)


class JournalHandler(logging.StreamHandler[TextIO | LogStream]):
    """Gives journald each record: its `journal_fields`, a dict, as fields CHUCKY_...

    Only a record that has some goes to journald's own socket, in its native protocol (35 lines of
    it here, against a C library that would be one more dependency). All others go to stderr as
    sd-daemon(3) says, and so do those that the socket does not take. journald knows the unit of
    stderr, but of a datagram only while the sender lives: the last words of a start that fails
    must not be lost.
    """

    def __init__(
        self, stream: TextIO | LogStream, path: str = "/run/systemd/journal/socket"
    ) -> None:
        super().__init__(stream)
        self.setFormatter(logging.Formatter("%(message)s"))  # or basicConfig() sets one of its own
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        """Give one record to journald."""
        fields: dict[str, str] = getattr(record, "journal_fields", {})
        if not (fields and self._sent(record, fields)):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines, each behind `<3>` (error) to `<7>` (debug)."""
        priority = _priority(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))

    def _sent(self, record: logging.LogRecord, fields: Mapping[str, str]) -> bool:
        """Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL. Each value goes with its length, so
        that no newline in one can begin a field."""
        whole = {
            "MESSAGE": record.getMessage(),
            "PRIORITY": str(_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": "chuckyd",
            **{f"CHUCKY_{key}": value for key, value in fields.items()},
        }
        datagram = bytearray()
        for key, value in whole.items():
            raw = value.encode(errors="replace")
            datagram += key.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
        try:
            self._socket.sendto(datagram, self._path)
        except OSError:  # not there, too busy, too long
            return False
        return True


def log_handler(fd: int = 2, environ: Mapping[str, str] = os.environ) -> logging.Handler:
    """Return a JournalHandler when `fd` is the journal's stream, else one that tells the time."""
    found = os.fstat(fd)
    if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
        return JournalHandler(LogStream(fd, "<4>"))
    handler = logging.StreamHandler(LogStream(fd))
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return handler


def _priority(level: int) -> int:
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7
