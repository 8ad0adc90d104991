"""The client that asks every node throughout, and the checks over what it got.

Each node has its own facts file whose lines begin with its label, so an answer tells who chose it.
It was chosen at some moment between the connect and the answer; that is all a client can know, and
every check here holds for any such moment.
"""

import ctypes
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lan.bed import LIMIT_MS, Daemon, now_ms

PERIOD_MS = 10  # between two requests to one node; it has one outstanding at most
ASK_LIMIT_MS = 20_000  # beyond every `hold` in these tests: a request open so long is lost


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was made and when it ended; the fact, or what went wrong."""

    node: str
    began_ms: int
    ended_ms: int
    fact: str = ""
    problem: str = ""

    @property
    def owner(self) -> str:
        """The label of the node that chose the fact."""
        return self.fact.partition(":")[0]


def enter(netns: str) -> None:
    """Put the calling thread, and it alone, into a named network namespace."""
    if not netns:
        return
    with open(f"/run/netns/{netns}") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET; os.setns is Python 3.12's
            raise OSError(ctypes.get_errno(), f"setns {netns}")


def ask(node: str, host: str, port: int, limit_ms: int = ASK_LIMIT_MS) -> Asked:
    """Make one request and return what became of it; never raises for what the network does."""
    began_ms, received, problem = now_ms(), b"", ""
    try:
        with socket.create_connection((host, port), limit_ms / 1000) as connection:
            while chunk := connection.recv(4096):
                received += chunk
    except OSError as error:
        problem = os.strerror(error.errno) if error.errno else "timed out"
    ended_ms = now_ms()
    if not problem and not received:
        problem = "empty"
    if received and not (received.endswith(b"\n") and received.count(b"\n") == 1):
        problem = problem or f"not one line: {received!r}"
    fact = "" if problem else received.decode(errors="replace").rstrip("\n")
    return Asked(node, began_ms, ended_ms, fact, problem)


class Record:
    """What became of the requests so far, and every check over it."""

    def __init__(self, asked: Iterable[Asked] = ()) -> None:
        self.since_ms = 0  # a request begun before this counts for nothing
        self._asked = list(asked)
        self._grown = threading.Condition()

    def add(self, one: Asked) -> None:
        """Put a request at the end."""
        with self._grown:
            self._asked.append(one)
            self._grown.notify_all()

    def asked(self, nodes: str | Iterable[str] = "", after_ms: int = 0) -> list[Asked]:
        """Return the requests to these nodes (all, when none is named) begun since then."""
        with self._grown:
            asked = list(self._asked)
        labels, from_ms = set(nodes), max(after_ms, self.since_ms)
        return [x for x in asked if x.began_ms >= from_ms and (not labels or x.node in labels)]

    def facts(self, nodes: str | Iterable[str] = "", after_ms: int = 0) -> list[Asked]:
        """Return those of them that were answered."""
        return [x for x in self.asked(nodes, after_ms) if x.fact]

    def failed(self, nodes: str | Iterable[str], after_ms: int = 0) -> list[Asked]:
        """Return those of them that failed."""
        return [x for x in self.asked(nodes, after_ms) if x.problem]

    def first(
        self, owner: str, after_ms: int, nodes: str | Iterable[str] = "",
        limit_ms: int = LIMIT_MS,
    ) -> int:  # fmt: skip
        """Wait for the first fact by this owner that came after that moment; return when."""

        def came() -> list[int]:
            return [x.ended_ms for x in self.facts(nodes)
                    if x.owner == owner and x.ended_ms >= after_ms]  # fmt: skip

        with self._grown:
            found = self._grown.wait_for(came, limit_ms / 1000)
        assert found, f"no fact by {owner} at {nodes or 'any node'} within {limit_ms} ms"
        return min(found)

    def served_everywhere(self, owner: str, nodes: Iterable[str], after_ms: int = 0) -> int:
        """Wait until each of these nodes has answered with this owner's fact; return when."""
        return max(self.first(owner, after_ms, [node]) for node in nodes)

    def gap_ms(self, nodes: Iterable[str], from_ms: int, to_ms: int) -> int:
        """Return the longest time in which one of these nodes gave no fact."""
        longest = 0
        for node in nodes:
            came = [x.ended_ms for x in self.facts([node]) if from_ms <= x.ended_ms <= to_ms]
            moments = [from_ms, *sorted(came), to_ms]
            longest = max(longest, *(b - a for a, b in zip(moments, moments[1:])))
        return longest

    def owners(self, nodes: str | Iterable[str] = "", after_ms: int = 0) -> list[str]:
        """Return the shortest sequence of owners, one at a time, that explains the answers.

        Two owners at once, or out of order, show as more owners than there were moves: the first
        owner may have chosen until the first answer of another ended, and not a moment longer; a
        request begun after that and answered by the first again means that it came back.
        """
        left = self.facts(nodes, after_ms)
        sequence = [min(left, key=lambda x: x.ended_ms).owner] if left else []
        while others := [x for x in left if x.owner != sequence[-1]]:
            change = min(others, key=lambda x: x.ended_ms)
            again = [x for x in left if x.owner == sequence[-1] and x.began_ms > change.ended_ms]
            left = others + again
            sequence.append(change.owner)
        return sequence

    def last_began(self, owner: str) -> int:
        """Return when the last request was begun that this owner answered."""
        return max((x.began_ms for x in self.facts() if x.owner == owner), default=0)


class Eye(Record):
    """A record that grows by itself: a thread for each client asks a node over and over."""

    def __init__(self, clients: int = 1, period_ms: int = PERIOD_MS) -> None:
        super().__init__()
        self._clients = clients  # of each node
        self._period_ms = period_ms
        self._closed = threading.Event()
        self._waiting: dict[str, int] = {}

    def watch(self, daemons: Iterable[Daemon], host: str = "127.0.0.1") -> "Eye":
        """Begin to ask these nodes, each where it runs, at this address."""
        for daemon in daemons:
            for _ in range(self._clients):
                threading.Thread(target=self._run, args=(daemon, host), daemon=True).start()
        return self

    def waiting_ms(self, node: str) -> int:
        """Return how long the request now open at this node, of its only client, has been waiting;
        0: none is open."""
        began_ms = self._waiting.get(node, 0)
        return now_ms() - began_ms if began_ms else 0

    def close(self) -> None:
        """Ask no more; what is open ends with its daemon."""
        self._closed.set()

    def _run(self, daemon: Daemon, host: str) -> None:
        enter(daemon.netns)
        while not self._closed.is_set():
            began_ms = self._waiting[daemon.label] = now_ms()
            self.add(ask(daemon.label, host, daemon.facts_port))
            self._waiting[daemon.label] = 0
            time.sleep(max(0, self._period_ms - (now_ms() - began_ms)) / 1000)
