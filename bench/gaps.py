"""Gaps: for how long nobody answers at nodes that live, when the owner dies or the service moves.

Three nodes on loopback. In each repetition the owner `a` is killed, frozen or stopped, `b` or `c`
takes over, then `a` returns and takes the service back. A death is watched by one client at each
living node that asks every ms; a planned move by eight that ask without pause.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from time import monotonic_ns
from typing import NamedTuple

from bench.load import Load, Request, compiled, gap_ms, overlapping, waits_ms
from bench.peer_clusters import Elixir, Keepalived, cells, gaps
from bench.plan import Plan
from bench.table import CHUCKY, ELIXIR, KEEPALIVED, Row, Table, quantile, tail
from tests.lan.bed import Bed, Daemon, at, now_ms, until
from tests.lan.cluster import Cluster, loopback

TICK_MS = 250  # the shipped one
ON_TOP_MS, AT_ONCE_MS, SILENCE_MS, WAIT_MS = 100, 30, 50, 50  # the aims; see `measure`
KILL_0, KILL_1000, STOP = "kill -9, timeout 0", "kill -9, timeout 1000", "SIGTERM, timeout 5000"
SETTLE_MS = 100  # watched before and after, to see a second owner or a second gap


class Watch(NamedTuple):
    """How many clients ask at each node, and how long each pauses."""

    clients: int
    pause_ms: int


DEATH, PLANNED = Watch(1, 1), Watch(8, 0)


@dataclass(slots=True)
class Seen:
    """What the clients saw of all moves of one kind."""

    gaps_ms: list[float] = field(default_factory=list)  # the longest at any living node, by move
    waits_ms: list[float] = field(default_factory=list)  # of the requests open between two owners
    requests: int = 0
    failed: int = 0
    twice: int = 0  # answers by the old owner to requests made after an answer of the new one

    def add(self, asked: Sequence[Sequence[Request]], fault_us: int, old: str, new: str) -> None:
        """Count one move; `asked` has the requests of each living node."""
        every = [request for requests in asked for request in requests]
        self.gaps_ms.append(max(gap_ms(requests, fault_us) for requests in asked))
        self.requests += len(every)
        self.failed += sum(request.owner not in (old, new) for request in every)
        self.twice += overlapping(every, old, new)
        last_us = max(x.ended_us for x in every if x.owner == old)
        first_us = min(x.ended_us for x in every if x.owner == new)
        between = [x for x in every if x.began_us <= first_us and x.ended_us >= last_us]
        self.waits_ms += waits_ms(between)


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    stall = _undisturbed(plan)
    table.add(Row("no fault: longest gap, ms p50/p99/max", {CHUCKY: tail(stall, 1)}))
    deaths: list[tuple[str, int, Callable[[Daemon], int], int]] = [
        (KILL_0, 0, Daemon.kill, AT_ONCE_MS),
        (KILL_1000, 1000, Daemon.kill, 1000 + ON_TOP_MS),
        ("frozen, timeout 0", 0, Daemon.freeze, 4 * TICK_MS + SILENCE_MS),
    ]
    for what, timeout_ms, fault, most_ms in deaths:
        seen, _ = _moves(plan.moves, timeout_ms, fault, DEATH, what)
        kept = max(seen.gaps_ms) <= most_ms
        table.add(_gap_row(what, seen, _peers(what, plan), f"<= {most_ms}", kept))
        table.add(_failed_row(what, seen))
    stopped, returned = _moves(plan.moves, 5000, Daemon.stop, PLANNED, "stop and return")
    for what, seen in ((STOP, stopped), ("return of the better", returned)):
        table.add(_gap_row(what, seen, _peers(what, plan), "", None))
        waited = quantile(seen.waits_ms, 0.99) <= WAIT_MS
        table.add(Row(
            f"{what}: requests open in the move, ms p50/p99/max",
            {CHUCKY: tail(seen.waits_ms, 1)}, f"p99 <= {WAIT_MS}", waited,
        ))  # fmt: skip
        table.add(_failed_row(what, seen))


def _peers(what: str, plan: Plan) -> dict[str, str]:
    """Return the peers' gaps in what is the same for them: one owner is lost, another serves."""

    def elixir(timeout_ms: int, number: Signals) -> str:
        return gaps(lambda bed: Elixir(bed, timeout_ms), plan.peer_moves, number)

    def keepalived(advert_s: float, number: Signals) -> str:
        found = gaps(lambda bed: Keepalived(bed, advert_s), plan.peer_moves, number)
        return f"{found} (adverts {advert_s:g} s)"

    if what == KILL_0:
        return cells({
            ELIXIR: lambda: elixir(0, SIGKILL), KEEPALIVED: lambda: keepalived(0.01, SIGKILL)
        })  # fmt: skip
    if what == KILL_1000:
        return cells({ELIXIR: lambda: elixir(1000, SIGKILL)})
    if what == STOP:
        return cells({
            ELIXIR: lambda: elixir(5000, SIGTERM), KEEPALIVED: lambda: keepalived(1, SIGTERM)
        })  # fmt: skip
    return {}


def _gap_row(what: str, seen: Seen, others: dict[str, str], aim: str, kept: bool | None) -> Row:
    cells = {CHUCKY: tail(seen.gaps_ms, 1)} | others
    return Row(f"{what}: gap, ms p50/p99/max", cells, aim, kept)


def _failed_row(what: str, seen: Seen) -> Row:
    said = f"{seen.failed}, {seen.twice} of {seen.requests}"
    good = not seen.failed and not seen.twice
    return Row(f"{what}: failed, by two owners", {CHUCKY: said}, "0, 0", good)


def formed(bed: Bed, timeout_ms: int) -> Cluster:
    """Return three nodes that serve, watched by nobody yet; the shipped tick."""
    cluster = loopback(bed, {"distributed": {"timeout": timeout_ms}, "node": {"tick": TICK_MS}})
    cluster.form()
    cluster.eye.close()
    cluster.stall.close()
    return cluster


def _undisturbed(plan: Plan) -> list[float]:
    """Return the longest gaps in as many whiles without a fault: what the machine itself costs."""
    bed = Bed()
    try:
        program, cluster, gaps = compiled("load.c", bed.dir), formed(bed, 5000), []
        for _ in range(plan.moves):
            loads = _watched(program, cluster, "bc", DEATH)
            at(now_ms() + 2 * SETTLE_MS)
            gaps.append(max(gap_ms(load.stop(), 0) for load in loads))
        return gaps
    finally:
        bed.close()


def _moves(
    count: int, timeout_ms: int, fault: Callable[[Daemon], int], watch: Watch, what: str
) -> tuple[Seen, Seen]:
    """Let the owner fail and return so often; return what was seen of the one and of the other."""
    lost, returned = Seen(), Seen()
    bed = Bed()
    try:
        program, cluster = compiled("load.c", bed.dir), formed(bed, timeout_ms)
        for number in range(1, count + 1):
            new = _lose(program, cluster, fault, watch, lost)
            _return(program, cluster, new, returned)
            print(f"gaps: {what}: {number} of {count}", file=sys.stderr)
    finally:
        bed.close()
    return lost, returned


def _watched(program: Path, cluster: Cluster, labels: Iterable[str], watch: Watch) -> list[Load]:
    loads = [Load(program, cluster[x].facts_port, *watch).start() for x in labels]
    at(now_ms() + SETTLE_MS)
    return loads


def _lose(
    program: Path, cluster: Cluster, fault: Callable[[Daemon], int], watch: Watch, seen: Seen
) -> str:
    """Hurt the owner a; return who owns then. b and c live throughout."""
    loads = _watched(program, cluster, "bc", watch)
    fault_us = monotonic_ns() // 1000
    since_ms = fault(cluster["a"])
    new = until(lambda: _started(cluster, "bc", since_ms), "b or c owns")
    at(now_ms() + SETTLE_MS)
    seen.add([load.stop() for load in loads], fault_us, "a", new)
    return new


def _return(program: Path, cluster: Cluster, old: str, seen: Seen) -> None:
    """Let a return and take over; b and c live throughout. At the end all agree that a owns."""
    if cluster["a"].alive:  # frozen, or not gone yet
        cluster["a"].kill()
    cluster["a"].exit_code()
    loads = _watched(program, cluster, "bc", PLANNED)
    fault_us = monotonic_ns() // 1000
    since_ms = cluster["a"].start()
    until(lambda: _started(cluster, "a", since_ms), "a owns again")
    at(now_ms() + SETTLE_MS)
    seen.add([load.stop() for load in loads], fault_us, old, "a")
    cluster.meet("abc")
    owner = str(cluster["a"])
    until(lambda: all(cluster[x].status()["owner"] == owner for x in "abc"), "all know that a owns")


def _started(cluster: Cluster, labels: str, since_ms: int) -> str:
    """Return which of these has started the application since then, or ""."""
    for label in labels:
        if cluster[label].said(f"Application is started on {cluster[label]}", since_ms):
            return label
    return ""
