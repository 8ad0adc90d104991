"""The demo for real: it keeps its promises, twice at once; it says what was broken; it is tidy."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest

from chucky.demo_nodes import Node
from tests.lan.bed import REPO, until
from tests.unit.test_interfaces import needs_namespaces, play

LIMIT_S = 40  # what the demo promises for itself, whatever happens in it
DEMO = "from chucky.cli import main; raise SystemExit(main(['demo']))"


class Outcome(NamedTuple):
    """What a demo ended with, told, and left: files, and names of nodes."""

    code: int
    stdout: str
    stderr: str
    left: list[str]


class Demo:
    """One `chucky demo`, with a temporary directory of its own to see what it leaves there."""

    def __init__(self, before: str = "") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="d-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{DEMO}"], cwd=REPO, text=True,
            env=os.environ | {"TMPDIR": self._directory.name},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._stdout = ""

    def tells(self, words: str) -> None:
        """Read on to the line that ends in these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._stdout += line
            if line.rstrip("\n").endswith(words):
                return
        raise AssertionError(f"it never told {words!r}: {self.outcome()}")

    def outcome(self) -> Outcome:
        """Wait for its end."""
        stdout, stderr = self.process.communicate(timeout=LIMIT_S)
        left = [*os.listdir(self._directory.name), *self.nodes()]
        return Outcome(self.process.returncode, self._stdout + stdout, stderr, left)

    def nodes(self) -> dict[str, int]:
        """Return the processes that have its directory in their command line, by node name."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:  # it ended meanwhile
                continue
            if any(word.startswith(self._directory.name) for word in words):
                found[words[words.index("chucky.daemon") + 1]] = int(entry.name)
        return found

    def file(self, name: str) -> Path:
        """Return the file of that name in its directory."""
        return Path(self._directory.name, name)

    def close(self) -> None:
        """End it, if a test broke off, and clean up after it. What it left is for tests to find."""
        self.process.kill()
        self.process.communicate()
        for pid in self.nodes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._directory.cleanup()


@functools.cache
def two_at_once() -> tuple[Outcome, Outcome]:
    """Return how two demos went that ran side by side."""
    one, other = Demo(), Demo()
    try:
        return one.outcome(), other.outcome()
    finally:
        one.close()
        other.close()


Start = Callable[..., Demo]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start demos that end with the test."""
    with ExitStack() as stack:

        def start(before: str = "") -> Demo:
            demo = Demo(before)
            stack.callback(demo.close)
            return demo

        yield start


def assert_broken(outcome: Outcome, what: str) -> None:
    """It ended with 1 and one line that says so, and left nothing."""
    assert outcome.code == 1, outcome
    assert re.fullmatch(f"chucky: not as promised: {what}\n", outcome.stderr), outcome
    assert "all as promised" not in outcome.stdout and not outcome.left


def scene_two_ports() -> None:
    """A machine that has two ports to give, of which the nodes of a demo link on one."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40001 40002")
    with tempfile.TemporaryDirectory() as directory:
        for link_port, facts_port in ((40001, 40002), (40002, 40001)) * 4:
            node = Node("a", Path(directory), f"port = {link_port}\n[facts]\n", print)
            assert node._address[1] == facts_port
            node.close()


@needs_namespaces
def test_a_fact_port_is_another_than_the_link_port() -> None:
    play(scene_two_ports)


def test_two_at_once_keep_every_promise_and_leave_nothing() -> None:
    for outcome in two_at_once():
        assert (outcome.code, outcome.stderr, outcome.left) == (0, "", []), outcome
        last = outcome.stdout.splitlines()[-1]
        told = re.search(
            r"all as promised: (\d+) requests to nodes that were up, (\d+) facts$", last
        )
        assert told and told[1] == told[2] and int(told[1]) > 200, last


def by_node(lines: Iterable[str]) -> list[str]:
    """Return the lines with those that nodes logged in a row sorted by node: the log of each is
    written by a thread of its own, so which of two nodes is read first is chance."""
    rows = groupby(lines, lambda line: " logs: " in line)
    return [x for _, row in rows for x in sorted(row, key=logger_of)]


def logger_of(line: str) -> str:
    """Return the name of the node that logged the line; "" when none did."""
    before, logs, _ = line.partition(" logs: ")
    return before[-1] if logs else ""


def test_it_tells_the_chapter() -> None:
    expected = [
        "start a and b", "a says: waiting for c", "b says: waiting for c", "start c",
        "a logs: Application is started on a@localhost",
        "a is asked, a answers:", "b is asked, a answers:", "c is asked, a answers:",
        "kill -9 a", "b logs: a@localhost is failing over to b@localhost",
        "b logs: Application is started on b@localhost", "b served ",
        "kill -9 b", "c logs: b@localhost is failing over to c@localhost",
        "c logs: Application is started on c@localhost", "c served ",
        "start a again", "a logs: a@localhost is taking over c@localhost",
        "a logs: Application is started on a@localhost",
        "c logs: Application chucky exited: stopped", "a serves again",
        "stop a", "a logs: Application chucky exited: stopped",
        "c logs: Application is started on c@localhost", "c serves", "all as promised",
    ]  # fmt: skip
    for outcome in two_at_once():
        lines = iter(by_node(outcome.stdout.splitlines()))
        for words in expected:
            assert any(words in line for line in lines), f"no {words!r} in its place: {outcome}"


def test_a_node_that_dies_by_itself(start: Start) -> None:
    demo = start()
    demo.tells("kill -9 a, the owner")
    os.kill(demo.nodes()["c"], signal.SIGKILL)
    assert_broken(demo.outcome(), "(c ended by itself, with -9; .*|a request to c failed .*)")


def test_a_node_that_stands_still(start: Start) -> None:
    demo = start("import chucky.demo_nodes; chucky.demo_nodes.ANSWER_S = 2")
    demo.tells("kill -9 a, the owner")
    os.kill(demo.nodes()["b"], signal.SIGSTOP)
    assert_broken(demo.outcome(), "b tells its status: .* is silent; .*")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (
            "d.TIMEOUT_MS, d.LATE_MS = 1000, -999",
            r"late \(promised: 1,000 to 1, and \d+ ms in .*\)",
        ),
        ("of = d.config; d.config = lambda _: of(1000)", r"early \(promised: 5,000 to 5,100\)"),
    ],
    ids=["late", "early"],
)
def test_a_failover_at_another_time(start: Start, before: str, told: str) -> None:
    demo = start(f"import chucky.demo as d; {before}")
    assert_broken(demo.outcome(), rf"b served 1,[\d]+ ms after the kill, too {told}")


@pytest.mark.parametrize(
    ("most_bytes", "told"),
    [(0, "No usable temporary directory found in .*"), (99, "File too large")],
)
def test_a_place_for_its_files_that_will_not_do(start: Start, most_bytes: int, told: str) -> None:
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes}))"
    outcome = start(f"import resource; {limit}").outcome()
    assert outcome.code == 1 and not outcome.left
    sentence = f"chucky: no place for the demo's files: {told}; set TMPDIR .*\n"
    assert re.fullmatch(sentence, outcome.stderr), outcome


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_all_of_it(start: Start, number: signal.Signals) -> None:
    # A shell may have let the tests ignore it.
    demo = start(f"import signal; signal.signal({number:d}, signal.default_int_handler)")
    demo.tells("start c")
    assert demo.nodes().keys() >= {"a", "b"}
    demo.process.send_signal(number)
    outcome = demo.outcome()
    assert (outcome.code, outcome.stderr, outcome.left) == (128 + number, "", [])


SETPRIV_LATE = """
import os, pathlib, shutil, signal, tempfile, chucky.demo_nodes as nodes
late = pathlib.Path(tempfile.gettempdir(), "setpriv")
waits = f'for _ in $(seq 1000); do [ -e {late.parent}/go ] && break; sleep 0.01; done'
late.write_text(f'#!/bin/sh\\n{waits}\\nexec {shutil.which("setpriv")} "$@"\\n')
late.chmod(0o700)
os.environ["PATH"] = f"{late.parent}:{os.environ['PATH']}"
start = nodes.Node.start
nodes.Node.start = lambda self: (start(self), os.kill(os.getpid(), signal.SIGKILL))
"""


def test_no_node_outlives_a_demo_that_is_killed_as_it_starts_it(start: Start) -> None:
    demo = start(SETPRIV_LATE)
    demo.process.wait(LIMIT_S)
    assert demo.nodes()  # not yet a chuckyd
    demo.file("go").touch()
    until(lambda: not demo.nodes(), "the node ends before it begins")


def test_no_node_outlives_a_demo_that_is_killed(start: Start) -> None:
    demo = start()
    demo.tells("start c")
    assert demo.nodes()
    demo.process.kill()
    until(lambda: not demo.nodes(), "the nodes are gone")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
