"""The demo's nodes: real chuckyd processes on loopback, and clients that ask them.

All that a node needs (config, cookie, sockets) is in the demo's own directory, and its ports are
nobody else's, so no node that is installed and no second demo is disturbed.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chucky.daemon_alarm import clock_ms
from chucky.errors import ChuckyError
from chucky.net.control_client import call
from chucky.settings import Settings

HOST = "localhost"  # of the nodes' names only
ASK_EVERY_MS = 100  # a client comes so often, whether the last one has its answer or not
ANSWER_S = 5.0  # for a status; only a node that hangs takes longer than a moment

_LOOPBACK = "127.0.0.1"
_HIGHEST_LINK_PORT = 65526  # config's: the nine above it are tried as well
_LOG_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
_PACKAGE = Path(__file__).resolve().parent

_CONFIG = """\
[distributed]
nodes = ["a", ["b", "c"]]
timeout = {timeout}
sync_nodes_mandatory = ["a", "b", "c"]
[node]
listen = "{loopback}"
port = {link_port}
[discovery]
group = "{group}"
group6 = ""
port = {discovery_port}
interfaces = ["lo"]
[facts]
file = {facts_file}
listen = "{loopback}"
"""


def config(timeout_ms: int) -> str:
    """Return the config of all nodes, with a group and ports of this demo's own; a node adds its
    fact port. Raises ChuckyError when there is no facts file."""
    return _CONFIG.format(
        timeout=timeout_ms,
        loopback=_LOOPBACK,
        # 239.192/14 is for one organisation's own groups (RFC 2365).
        group=f"239.192.{random.randrange(1, 255)}.{random.randrange(1, 255)}",
        link_port=_free_port(socket.SOCK_STREAM),
        discovery_port=_free_port(socket.SOCK_DGRAM),
        facts_file=json.dumps(_facts_file()),
    )


def dying_with_us() -> list[str]:
    """Return what to put before a command, so that it ends with this process, however this ends.

    The kernel kills it when its parent dies, but only from the moment on that setpriv asks for it:
    so the shell after that looks whether the parent is still this process.
    """
    alive = 'test "$PPID" = "$0" && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", alive, str(os.getpid())]


def waited_ns(*pids: int) -> dict[int, int]:
    """Return how long each thread of these processes was ready to run in its life and waited for a
    processor, by thread, and as 0 for how long the host of this machine ran others on them.

    From one moment to another, the sum of it is the most that a busy machine can have cost.
    """
    with open("/proc/stat", encoding="ascii") as stat:
        waited = {0: int(stat.readline().split()[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")}
    for pid in pids:
        tasks = f"/proc/{pid}/task"
        with contextlib.suppress(OSError):  # it, or one of its threads, has just ended
            for thread in os.listdir(tasks):
                words = Path(tasks, thread, "schedstat").read_text(encoding="ascii").split()
                waited[int(thread)] = int(words[1])
    return waited


def _facts_file() -> str:
    """Return the installed facts file, or that of the source tree."""
    candidates = [Settings().facts.file, str(_PACKAGE.with_name("facts.txt"))]
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate
    raise ChuckyError(f"no facts file: neither {' nor '.join(candidates)} is there")


def _free_port(kind: int) -> int:
    """Return a port that nobody has now. Two demos may still meet on it: then the second one's
    nodes link on the next ports, and another group and cookie keep the beacons apart."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind((_LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port <= _HIGHEST_LINK_PORT:
            return port


def _kept_port(config: str) -> socket.socket:
    """Return a socket that keeps a fact port, which is none that the config names: it is bound, but
    not listening. A node may have the port too (SO_REUSEPORT); the kernel gives it to nobody who
    asks for any port."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    keeper.bind((_LOOPBACK, 0))
    if f"port = {keeper.getsockname()[1]}\n" not in config:
        return keeper
    with keeper:  # the kernel gives another one while this is taken
        return _kept_port(config)


@dataclass(slots=True)
class Request:
    """One client's connection to a fact port. Times are those of `clock_ms`."""

    sent_ms: int
    answered_ms: int | None = None
    fact: str = ""

    @property
    def waited_ms(self) -> int:
        """How long the client waited, so far if it still does."""
        return (clock_ms() if self.answered_ms is None else self.answered_ms) - self.sent_ms


class Node:
    """One chuckyd, its log and its clients; it may live several times.

    `directory` is the demo's own and has the cookie; `on_failure` gets a sentence for each request
    that fails.
    """

    def __init__(
        self, name: str, directory: Path, config: str, on_failure: Callable[[str], None]
    ) -> None:
        self.name = name
        self.requests: list[Request] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._was_told_to_end = False
        self._directory = directory
        self._on_failure = on_failure
        self._log: list[tuple[int, str]] = []
        self._unread = b""
        self._clients: set[asyncio.Task[Request]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._keeper = _kept_port(config)  # for all lives of this node
        self._address = self._keeper.getsockname()
        self._config = directory / f"{name}.toml"
        self._config.write_text(f"{config}port = {self._address[1]}\n")

    def __str__(self) -> str:
        """The full node name, as the log has it."""
        return f"{self.name}@{HOST}"

    # Its process.

    def start(self) -> None:
        """Start its process."""
        path = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        # The service manager of the demo itself, if there is one, is not the node's.
        environ = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
        self._was_told_to_end = False
        self._process = subprocess.Popen(
            [
                *dying_with_us(),
                sys.executable, "-m", "chucky.daemon", self.name, "--config", str(self._config),
                "--cookie-file", str(self._directory / "cookie"), "--host", HOST,
                "--runtime-dir", str(self._directory),
            ],
            env=environ | {"PYTHONPATH": os.pathsep.join(path)},
            cwd=self._directory,  # where no file can be taken for a module
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo
        )  # fmt: skip
        assert self._process.stderr is not None
        asyncio.get_running_loop().add_reader(self._process.stderr, self._read_log)

    def signal(self, number: int) -> int:
        """Tell its process to end by this signal; return the moment just before."""
        assert self._process is not None
        self._was_told_to_end = True
        moment_ms = clock_ms()
        self._process.send_signal(number)
        return moment_ms

    @property
    def pid(self) -> int:
        """Its process, which was started and not reaped."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether its process was started and not told to end since."""
        return self._process is not None and not self._was_told_to_end

    @property
    def exit_code(self) -> int | None:
        """What its process ended with, or None while it runs and when it was reaped."""
        return None if self._process is None else self._process.poll()

    def reap(self) -> int:
        """Wait for the end of its process, which must be due, and return the exit code."""
        process, self._process = self._process, None
        assert process is not None and process.stderr is not None
        asyncio.get_running_loop().remove_reader(process.stderr)
        process.stderr.close()
        return process.wait()

    def close(self) -> None:
        """End what there still is of it, at once."""
        if self._process is not None:
            self._process.kill()
            self.reap()
        self._keeper.close()

    # What it says.

    def logged(self, sentence: str, since_ms: int) -> int | None:
        """Return when it first logged exactly this sentence from that moment on, or None."""
        found = (ms for ms, text in self._log if text == sentence and ms >= since_ms)
        return next(found, None)

    @property
    def last_words(self) -> str:
        """The last line that it logged."""
        return self._log[-1][1] if self._log else "it logged nothing"

    def status(self) -> dict[str, Any]:
        """Return `chucky status --json`. Raises ChuckyError."""
        path = self._directory / self.name / f"{self.name}.sock"
        return next(call(str(path), {"command": "status"}, ANSWER_S))

    def _read_log(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        chunk = os.read(self._process.stderr.fileno(), 65536)
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._process.stderr)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            self._log.append((clock_ms(), _LOG_TIME.sub("", line.decode(errors="replace"))))

    # Its clients.

    def listens(self) -> bool:
        """Return whether clients can connect."""
        with socket.socket() as probe:
            return probe.connect_ex(self._address) == 0

    def keep_asking(self) -> None:
        """Send a client every ASK_EVERY_MS from now on."""
        self._asking = asyncio.get_running_loop().create_task(self._keep_asking())

    async def leave_alone(self) -> None:
        """Send no more clients, and wait until all have their answer."""
        assert self._asking is not None
        self._asking.cancel()
        await asyncio.gather(*self._clients)

    async def _keep_asking(self) -> None:
        while True:
            client = asyncio.get_running_loop().create_task(self.ask())
            self._clients.add(client)
            client.add_done_callback(self._clients.discard)
            await asyncio.sleep(ASK_EVERY_MS / 1000)

    async def ask(self) -> Request:
        """Send one client: connect, take a fact, and return how that went."""
        request = Request(clock_ms())
        self.requests.append(request)
        try:
            reader, writer = await asyncio.open_connection(*self._address)
            with contextlib.closing(writer):
                line = await reader.readline()
            failure = "" if line.endswith(b"\n") else "closed without a fact"
        except OSError as error:
            failure = error.strerror or str(error)
        if failure:
            waited_ms = request.waited_ms
            self._on_failure(f"a request to {self.name} failed after {waited_ms:,} ms: {failure}")
        else:
            request.answered_ms, request.fact = clock_ms(), line.decode().strip()
        return request
