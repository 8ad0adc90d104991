"""What clients see when the application moves: they ask at nodes that live throughout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

from bench.load import Load, Request, gap_ms, overlapping, waits_ms
from bench.nodes import STARTED
from bench.table import CHUCKY, Row, tail
from chucky.errors import ChuckyError
from chucky.net.control_client import call
from tests.lan.bed import LIMIT_MS, Daemon, at, now_ms, until
from tests.lan.cluster import Cluster

SETTLE_MS = 50  # watched before and after, to see a second owner or a second gap
MOVE_LIMIT_MS = 10_000


class Watch(NamedTuple):
    """How many clients ask at each node, and how long each pauses."""

    clients: int
    pause_ms: int


@dataclass(slots=True)
class Seen:
    """What the clients saw of all moves of one kind."""

    gaps_ms: list[float] = field(default_factory=list)  # the longest at any living node, by move
    waits_ms: list[float] = field(default_factory=list)  # of the requests open in the moves
    requests: int = 0
    failed: int = 0
    twice: int = 0  # answers by the old owner to requests made after an answer of the new one
    astray: int = 0  # faults or returns that moved nothing

    def add(self, asked: Sequence[Sequence[Request]], fault_us: int, old: str, new: str) -> None:
        """Count one move; `asked` has the requests of each living node. A restart of a node that
        does not own moves nothing: then the old owner is the new one."""
        every = [request for requests in asked for request in requests]
        self.gaps_ms.append(max(gap_ms(requests, fault_us) for requests in asked))
        self.requests += len(every)
        self.failed += sum(request.owner not in (old, new) for request in every)
        if old == new:
            self.waits_ms += waits_ms(every)
            return
        self.twice += overlapping(every, old, new)
        last_us = max((x.ended_us for x in every if x.owner == old), default=fault_us)
        first_us = min((x.ended_us for x in every if x.owner == new), default=fault_us)
        between = [x for x in every if x.began_us <= first_us and x.ended_us >= last_us]
        self.waits_ms += waits_ms(between)

    def gap_row(self, what: str, others: dict[str, str], most_ms: int | None = None) -> Row:
        """Return the row of the gaps, and whether none was longer than that."""
        astray = f", {self.astray} astray" * bool(self.astray)
        said = (tail(self.gaps_ms, 1) if self.gaps_ms else "none seen") + astray
        row = Row(f"{what}: gap, ms p50/p99/max", {CHUCKY: said} | others)
        if most_ms is not None:
            row.aim = f"<= {most_ms}"
            row.kept = not self.astray and max(self.gaps_ms, default=0) <= most_ms
        return row

    def failed_row(self, what: str) -> Row:
        """Return the row of what must not be."""
        said = f"{self.failed}, {self.twice} of {self.requests}"
        return Row(f"{what}: failed, by two owners", {CHUCKY: said}, "0, 0",
                   not self.failed and not self.twice)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Watcher:
    """Clients that can be sent to the nodes of one cluster."""

    program: Path
    cluster: Cluster
    watch: Watch

    def loads(self, labels: str) -> list[Load]:
        """Let the clients ask these nodes; return when they have asked for a while."""
        loads = [
            Load(self.program, self.cluster[x].facts_port, *self.watch, netns=self.cluster[x].netns)
            for x in labels
        ]
        for load in loads:
            load.start()
        at(now_ms() + SETTLE_MS)
        return loads

    def see(
        self, labels: str, act: Callable[[], object], done: Callable[[int], str],
        seen: Seen, old: str,
    ) -> str:  # fmt: skip
        """Do this while clients ask these nodes; return the owner's label once `done` gives it.

        `done` is given the moment at which it was done. AssertionError when it gives none in ten
        seconds.
        """
        loads = self.loads(labels)
        since_ms, fault_us = now_ms(), monotonic_ns() // 1000
        act()
        new = until(lambda: done(since_ms), "the application has moved", MOVE_LIMIT_MS)
        at(now_ms() + SETTLE_MS)
        seen.add([load.stop() for load in loads], fault_us, old, new)
        return new


def started(cluster: Cluster, labels: str, since_ms: int) -> str:
    """Return which of these has started the application since then, or ""."""
    for label in labels:
        if cluster[label].said(f"{STARTED} {cluster[label]}", since_ms):
            return label
    return ""


def agreed(cluster: Cluster, owner: str, labels: str = "abc") -> None:
    """Wait until each of these has a link to each other and gives out this one's facts."""
    cluster.meet(labels)
    until(lambda: all(_fact(cluster[x]).startswith(f"{owner}:") for x in labels), f"{owner} serves")


def _fact(node: Daemon) -> str:
    try:
        return str(next(call(str(node.control), {"command": "fact"}, LIMIT_MS / 1000))["fact"])
    except ChuckyError:
        return ""
