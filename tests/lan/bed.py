"""Real daemons for the tests: started, watched, hurt, and always reaped.

Times are milliseconds of one clock (`now_ms`), the test's own, for everything it sees or does.
"""

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from chucky.demo_nodes import dying_with_us
from chucky.net.control_client import call

REPO = Path(__file__).resolve().parents[2]
HOST = "manticore"  # the chapter's

# For what the design gives no time. Only a test that fails waits this long.
LIMIT_MS = 30_000

# What no log may hold: an error that nobody caught, or a task that nobody waited for.
UNCAUGHT = re.compile(r"Traceback \(most recent call last\)|never retrieved|was never awaited")

# What stands before the sentence: the level that journald takes from it, or the time on a terminal.
BEFORE = re.compile(r"^(?:<\d>)?(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} )?")

Config = dict[str, dict[str, Any]]
T = TypeVar("T")


def now_ms() -> int:
    """Return the test's clock."""
    return time.monotonic_ns() // 1_000_000


def at(moment_ms: int) -> None:
    """Return at that moment: when a fault is due, not how a test passes."""
    time.sleep(max(0, moment_ms - now_ms()) / 1000)


def until(condition: Callable[[], T], what: str, limit_ms: int = LIMIT_MS) -> T:
    """Wait until the condition is true and return what it gave; AssertionError at the limit."""
    end_ms = now_ms() + limit_ms
    while True:
        found = condition()
        if found:
            return found
        assert now_ms() < end_ms, f"not within {limit_ms} ms: {what}"
        time.sleep(0.01)


def throughout(for_ms: int, condition: Callable[[], object], what: str) -> None:
    """Watch for that long; AssertionError as soon as the condition is false."""
    end_ms = now_ms() + for_ms
    while now_ms() < end_ms:
        assert condition(), f"did not stay so for {for_ms} ms: {what}"
        time.sleep(0.01)


def toml(config: Config) -> str:
    """Return the config as node.toml's text. JSON's values are TOML's, but for inf."""
    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines += [f"{k} = {'inf' if v == inf else json.dumps(v)}" for k, v in keys.items()]
    return "\n".join(lines) + "\n"


def merged(*configs: Config) -> Config:
    """Return the configs as one; a later one's keys win."""
    whole: Config = {}
    for config in configs:
        for section, keys in config.items():
            whole.setdefault(section, {}).update(keys)
    return whole


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


class Line(NamedTuple):
    """One line and when it came."""

    ms: int
    text: str


class Journal:
    """Lines as they come, from a thread of their own; a waiter is woken by each."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._grown = threading.Condition()

    def add(self, text: str) -> None:
        """Put a line at the end, stamped with now."""
        with self._grown:
            self._lines.append(Line(now_ms(), text))
            self._grown.notify_all()

    def find(self, pattern: str, after_ms: int = 0) -> list[Line]:
        """Return the lines since then in which the pattern is found."""
        with self._grown:
            lines = list(self._lines)
        return [x for x in lines if x.ms >= after_ms and re.search(pattern, x.text)]

    def wait(self, pattern: str, after_ms: int = 0, limit_ms: int = LIMIT_MS) -> Line:
        """Return the first such line as soon as there is one; AssertionError at the limit."""
        with self._grown:
            found = self._grown.wait_for(lambda: self.find(pattern, after_ms), limit_ms / 1000)
        assert found, f"no line {pattern!r} within {limit_ms} ms"
        return found[0]


class Daemon:
    """One chuckyd and all that a test may do with it; it may live several times.

    `label` tells it from another of the same name, and begins every line of its facts file.
    """

    def __init__(
        self, where: Path, name: str, config: Config, cookie: Path, *,
        host: str = HOST, netns: str = "", label: str = "", runtime: Path | None = None,
    ) -> None:  # fmt: skip
        self.name, self.host, self.netns, self.label = name, host, netns, label or name
        self.dir = where / self.label
        self.dir.mkdir()
        self.runtime = runtime or self.dir
        self.cookie, self.config_file, self.facts = (
            cookie, self.dir / "node.toml", self.dir / "facts.txt",
        )  # fmt: skip
        self.log, self.notes = Journal(), Journal()
        self.write_facts()
        self.configure(merged(config, {"facts": {"file": str(self.facts)}}))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.dir / "notify"))
        self._hearer = threading.Thread(target=self._hear, daemon=True)
        self._hearer.start()
        self.started_ms = 0
        self.crashes = self.runtime / name / "crashes"

    def __str__(self) -> str:
        """The full node name, as the log has it."""
        return self.name if "@" in self.name else f"{self.name}@{self.host}"

    # -- its files

    def configure(self, config: Config) -> None:
        """Write its node.toml; read at the next start."""
        self.config = config
        self.config_file.write_text(toml(config))

    def write_facts(self) -> None:
        """Write its facts file: each line tells who chose it."""
        self.facts.write_text("".join(f"{self.label}: fact {n}\n" for n in range(50)))

    @property
    def facts_port(self) -> int:
        """Where it answers."""
        return int(self.config.get("facts", {}).get("port", 4040))

    @property
    def link_port(self) -> int:
        """Where it is dialled."""
        return int(self.config.get("node", {}).get("port", 4041))

    @property
    def control(self) -> Path:
        """Its control socket, once it is ready."""
        (found,) = self.runtime.rglob(f"{self.name}.sock")
        return found

    # -- its lives

    @property
    def command(self) -> list[str]:
        """The command line of its process."""
        return [
            sys.executable, "-m", "chucky.daemon", "--config", str(self.config_file),
            "--cookie-file", str(self.cookie), "--host", self.host,
            "--runtime-dir", str(self.runtime), "--", self.name,
        ]  # fmt: skip

    def start(self, again: bool = False) -> int:
        """Start it and return when; it may not be ready yet. `again`: as systemd does after a
        crash; else it was killed for the first time, as far as it knows."""
        assert not self.alive, f"{self.label} runs already"
        if not again:
            self.crashes.unlink(missing_ok=True)
        self.started_ms = now_ms()
        self._process = subprocess.Popen(
            [*self._inside(), *dying_with_us(), *self.command], env=self._environment(), cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        return self.started_ms

    def ready(self, limit_ms: int = LIMIT_MS) -> int:
        """Wait for READY=1 of this life and return when it came; AssertionError when it ends."""

        def said() -> list[Line]:
            return self.notes.find("^READY=1$", self.started_ms)

        until(lambda: said() or not self.alive, f"{self.label} is ready, or has ended", limit_ms)
        lines = [line.text for line in self.log.find("", self.started_ms)[-3:]]
        assert said(), f"{self.label} ended with {self.exit_code()}: {lines}"
        return said()[0].ms

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is frozen)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process; 0 before its first start."""
        return self._process.pid if self._process else 0

    def kill(self) -> int:
        """SIGKILL it; return the moment just before."""
        return self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM it, as `systemctl stop` does; return the moment just before."""
        return self._signal(signal.SIGTERM)

    def freeze(self) -> int:
        """SIGSTOP it: the process stands still, its sockets stay."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> int:
        """SIGCONT it."""
        return self._signal(signal.SIGCONT)

    def exit_code(self, limit_ms: int = LIMIT_MS) -> int:
        """Wait for its end and its last line, and return its exit code."""
        assert self._process is not None and self._reader is not None
        until(lambda: not self.alive, f"{self.label} has ended", limit_ms)
        self._reader.join()
        return self._process.returncode

    def close(self) -> None:
        """Kill what still runs and wait until it is gone."""
        if self.alive:
            self.kill()
        if self._process is not None:
            self.exit_code()
        # A thread that still waits on a closed socket does so by number: when a signal interrupts
        # it, as the end of a process may do, the kernel has it wait on whatever has that by then.
        self._notify.shutdown(socket.SHUT_RD)
        self._hearer.join()
        self._notify.close()

    # -- what it says

    def said(self, sentence: str, after_ms: int = 0) -> list[Line]:
        """Return the log lines that are exactly this sentence."""
        return self.log.find(f"^{re.escape(sentence)}$", after_ms)

    def says(self, sentence: str, after_ms: int = 0, limit_ms: int = LIMIT_MS) -> Line:
        """Wait for the log line that is exactly this sentence."""
        return self.log.wait(f"^{re.escape(sentence)}$", after_ms, limit_ms)

    def memory_kib(self) -> int:
        """Return its resident memory."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def chucky(self, *arguments: str, limit_ms: int = LIMIT_MS) -> subprocess.CompletedProcess[str]:
        """Run the command line on this node."""
        return subprocess.run(
            [*self._inside(), sys.executable, "-m", "chucky", "--runtime-dir", str(self.runtime),
             "--node", self.name, *arguments],
            env=self._environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=limit_ms / 1000,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return what `chucky status --json` prints, without the cost of a process."""
        return self._ask("status")

    def nodes(self) -> list[str]:
        """Return what `chucky nodes` prints."""
        return list(self._ask("nodes")["nodes"])

    def reaches(self, phase: str, limit_ms: int = LIMIT_MS) -> dict[str, Any]:
        """Wait until it is ready and its status has this phase, and return the status."""
        self.ready(limit_ms)

        def there() -> dict[str, Any]:
            status = self.status()
            return status if status["phase"] == phase else {}

        return until(there, f"{self.label} is {phase}", limit_ms)

    # -- inside

    def _ask(self, command: str) -> dict[str, Any]:
        return next(call(str(self.control), {"command": command}, LIMIT_MS / 1000))

    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self.netns] if self.netns else []

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(REPO),
            "PYTHONUNBUFFERED": "1",
            "NOTIFY_SOCKET": str(self.dir / "notify"),
        }

    def _signal(self, number: int) -> int:
        assert self._process is not None
        moment_ms = now_ms()
        self._process.send_signal(number)
        return moment_ms

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for raw in stream:
                self.log.add(BEFORE.sub("", raw.decode(errors="replace").rstrip("\n")))

    def _hear(self) -> None:
        while datagram := self._notify.recv(4096):  # b"": the test is over
            for text in datagram.decode(errors="replace").splitlines():
                self.notes.add(text)


class Bed:
    """One test's directory, daemons and whatever else must go when it ends."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: a Unix socket's path has 107 bytes at most.
        self.dir = Path(tempfile.mkdtemp(prefix="chucky-"))
        self.cookie = self.cookie_file("cookie")
        self.daemons: list[Daemon] = []
        self._end = contextlib.ExitStack()
        self._end.callback(shutil.rmtree, self.dir)

    def cookie_file(self, name: str, text: str = "", mode: int = 0o400) -> Path:
        """Write a cookie file, by default a good one unlike every other."""
        path = self.dir / name
        path.write_text(text or secrets.token_hex(32) + "\n")
        path.chmod(mode)
        return path

    def ports(self) -> list[int]:
        """Return a row of 19 ports that nobody has, below those that the kernel itself hands out.

        The twentieth is bound until the test is over, so that no other cluster, of this test run
        or of one beside it, gets a port of the row before a node has bound it.
        """
        while True:
            first = random.randrange(10_000, 32_000, 20)
            keeper = socket.socket()
            self.at_end(keeper.close)
            with contextlib.suppress(OSError):
                keeper.bind(("", first + 19))
                if all(_is_free(port) for port in range(first, first + 19)):
                    return list(range(first, first + 19))
            keeper.close()

    def daemon(self, name: str, config: Config, cookie: Path | None = None, **rest: Any) -> Daemon:
        """Return a new daemon, not started."""
        daemon = Daemon(self.dir, name, config, cookie or self.cookie, **rest)
        self.daemons.append(daemon)
        self.at_end(daemon.close)
        return daemon

    def at_end(self, closer: Callable[[], None]) -> None:
        """Have this called when the test is over; the last one given is called first."""
        self._end.callback(closer)

    def logs(self) -> str:
        """Return what every daemon logged and notified, in the order it came."""
        lines = [
            (line.ms, f"{line.ms} {daemon.label:>3} {mark} {line.text}")
            for daemon in self.daemons
            for mark, journal in (("|", daemon.log), ("=", daemon.notes))
            for line in journal.find("")
        ]
        return "\n".join(text for _, text in sorted(lines, key=lambda line: line[0]))

    def uncaught(self) -> list[str]:
        """Return the labels of daemons that logged an uncaught error."""
        return [d.label for d in self.daemons if d.log.find(UNCAUGHT.pattern)]

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self._end.close()
