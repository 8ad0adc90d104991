"""Scale: from two nodes to fifty, each with a network namespace of its own on this machine.

All start at once, without sync lists; then the owner is killed and returns, some times. A node's
processor time and packets are counted between, while nothing happens.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median
from string import ascii_letters
from typing import NamedTuple

from bench.idle import cpu_ns, packets_out, resident_mb
from bench.load import compiled
from bench.nodes import lines
from bench.plan import Plan
from bench.plot import Panel
from bench.seen import Seen, Watch, Watcher, started
from bench.table import CHUCKY, Row, Table, tail
from tests.lan.bed import Bed, Config, at, now_ms, until
from tests.lan.cluster import Cluster, on_lan
from tests.lan.lan import Lan
from tests.lan.lan import missing as no_lan

TICK_MS, MANY, MANY_TICK_MS = 250, 25, 1000  # so many nodes want two cores' calmer tick
TIMEOUT_MS = 1000
ASKING = Watch(1, 5)
NEIGHBOURS = 16384
LIMIT_MS = 180_000  # for fifty interpreters to start on a machine that is busy
ERROR_TEXT = 60
LINEAR = ((2, 10), (25, 50))  # pairs of one tick: the cost may grow as the nodes do
READY, OWNER, MET = "all ready, s", "one owner, s", "all linked, s"
GAP = "kill -9: gap, ms p50/p99/max"
CPU, PACKETS, MEMORY = "CPU, % of a core", "packets out/s", "memory, MB"


class Point(NamedTuple):
    """What so many nodes did and cost, each."""

    nodes: int
    ready_s: float  # from the start of the first until the last was ready
    owner_s: float  # and until the last knew the one owner
    met_s: float  # and until each had a link with every other
    gaps_ms: list[float]
    cpu_percent: float
    packets_per_s: float
    memory_mb: float


def measure(table: Table, plan: Plan) -> None:
    """Add the rows and the plot."""
    if why := no_lan():
        table.add(Row("scale", {CHUCKY: why}))
        return
    points = list[Point]()
    with _room_for_neighbours():
        for nodes in plan.sizes:
            try:
                points.append(_point(nodes, plan))
                table.add(_row(points[-1]))
            except AssertionError as error:
                why = " ".join(str(error).split())[:ERROR_TEXT]
                table.add(Row(_label(nodes), {OWNER: f"broke off: {why}"}, "one owner", False))
    for few, many in LINEAR:
        if {few, many} <= {p.nodes for p in points}:
            table.add(_growth(points, few, many))
    table.plot = [
        Panel("one owner after a cold start, s", [(p.nodes, p.owner_s) for p in points]),
        Panel("kill -9: gap beyond the timeout, ms",
              [(p.nodes, median(p.gaps_ms) - TIMEOUT_MS) for p in points]),
        Panel("CPU per node, % of a core", [(p.nodes, p.cpu_percent) for p in points]),
        Panel("packets out per node and second", [(p.nodes, p.packets_per_s) for p in points]),
    ]  # fmt: skip


@contextmanager
def _room_for_neighbours() -> Iterator[None]:
    """Let the kernel keep more addresses meanwhile: its 1024 are for all namespaces together, and
    fifty nodes have 2450 neighbours in IPv4 and twice as many in IPv6."""
    files = [Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh{number}")
             for family in ("ipv4", "ipv6") for number in (3, 2)]  # fmt: skip
    before = [file.read_text() for file in files]
    for file in files:
        file.write_text(str(max(NEIGHBOURS, int(file.read_text()))))
    try:
        yield
    finally:
        for file, text in reversed([*zip(files, before, strict=True)]):
            file.write_text(text)


def tick_ms(nodes: int) -> int:
    """Return the tick that so many nodes have here."""
    return TICK_MS if nodes < MANY else MANY_TICK_MS


def _label(nodes: int) -> str:
    return f"{nodes} nodes, tick {tick_ms(nodes)}"


def _row(p: Point) -> Row:
    return Row(_label(p.nodes), {
        READY: f"{p.ready_s:.1f}", OWNER: f"{p.owner_s:.1f}", MET: f"{p.met_s:.1f}",
        GAP: tail(p.gaps_ms),
        CPU: f"{p.cpu_percent:.2f}", PACKETS: f"{p.packets_per_s:.1f}",
        MEMORY: f"{p.memory_mb:.1f}",
    })  # fmt: skip


def _growth(points: list[Point], few: int, many: int) -> Row:
    """Return the row that tells how many times as much a node of many costs as one of few."""
    one, other = (next(p for p in points if p.nodes == n) for n in (few, many))
    cpu = other.cpu_percent / one.cpu_percent
    packets = other.packets_per_s / one.packets_per_s
    return Row(f"{many} nodes to {few}, times", {CPU: f"{cpu:.2f}", PACKETS: f"{packets:.2f}"},
               f"<= {many / few:g}", max(cpu, packets) <= many / few)  # fmt: skip


def _point(nodes: int, plan: Plan) -> Point:
    starts, few = [], nodes < MANY
    for number in range(plan.cold_starts if few else 1, 0, -1):
        bed = Bed()
        try:
            cluster = _cluster(bed, ascii_letters[:nodes])
            starts.append(_cold_start(cluster, ascii_letters[:nodes]))
            if number == 1:
                cpu, packets, memory = _costs(cluster, ascii_letters[:nodes], plan)
                seen = _kills(bed, cluster, ascii_letters[:nodes], plan)
        finally:
            bed.close()
    ready_s, owner_s, met_s = (median(times) for times in zip(*starts, strict=True))
    return Point(nodes, ready_s, owner_s, met_s, seen.gaps_ms, cpu, packets, memory)


def _cluster(bed: Bed, labels: str) -> Cluster:
    config: Config = {
        "distributed": {"nodes": list(labels), "timeout": TIMEOUT_MS},
        "node": {"tick": tick_ms(len(labels))},
    }
    cluster = on_lan(bed, Lan(bed, labels), config, labels=labels)
    cluster.stall.close()
    return cluster


def _cold_start(cluster: Cluster, labels: str) -> tuple[float, float, float]:
    """Start all; return after how many seconds the last was ready, knew the owner, had a link with
    every other."""
    begun_ms = now_ms()
    for label in labels:
        cluster[label].start()
    ready_ms = max(cluster[label].ready(LIMIT_MS) for label in labels)
    known_ms, met_ms = _know(cluster, labels, "a"), _met(cluster, labels)
    print(f"scale: {len(labels)} nodes: {known_ms - begun_ms} ms", file=sys.stderr)
    ready_s, known_s, met_s = ((x - begun_ms) / 1000 for x in (ready_ms, known_ms, met_ms))
    return ready_s, known_s, met_s


def _know(cluster: Cluster, labels: str, owner: str) -> int:
    """Wait until the newest STATUS of each of these names this owner; return when the last did."""
    sentence = f"{cluster[owner]} is the owner"

    def since_ms(label: str) -> int:
        newest = cluster[label].notes.find("^STATUS=", cluster[label].started_ms)[-1:]
        return next(iter([note.ms for note in newest if sentence in note.text]), 0)

    return _last_ms(since_ms, labels, f"all know {owner}")


def _met(cluster: Cluster, labels: str) -> int:
    """Wait until each has a link with each other; return when the last came up."""

    def since_ms(label: str) -> int:
        found = cluster[label].log.find(" at .* is up$|: it is down$", cluster[label].started_ms)
        newest = {line.text.split()[0]: line for line in found}
        up = [line.ms for line in newest.values() if line.text.endswith("up")]
        return max(up) if len(up) == len(labels) - 1 else 0

    return _last_ms(since_ms, labels, "all are linked")


def _last_ms(since_ms: Callable[[str], int], labels: str, what: str) -> int:
    """Wait until this is not 0 for any of the nodes; return the greatest. One node after the other:
    to look at all of them again and again would take a core from them."""

    def all_ms() -> list[int]:
        for label in labels:
            until(partial(since_ms, label), what, LIMIT_MS)
        found = [since_ms(label) for label in labels]
        return found if all(found) else []

    return max(until(all_ms, what, LIMIT_MS))


def _costs(cluster: Cluster, labels: str, plan: Plan) -> tuple[float, float, float]:
    """Return what a node costs in CPU, packets and memory, on average."""

    def used() -> list[tuple[int, int]]:
        return [(cpu_ns(cluster[x].pid), packets_out(cluster[x].netns)) for x in labels]

    time.sleep(plan.quiet_s * max(1, len(labels) // 10))  # the more, the longer until they rest
    before, began = used(), time.monotonic()
    at(now_ms() + round(plan.scale_idle_s * 1000))
    after, for_s = used(), time.monotonic() - began
    cpu = mean(b[0] - a[0] for a, b in zip(before, after, strict=True)) / for_s / 1e7
    packets = mean(b[1] - a[1] for a, b in zip(before, after, strict=True)) / for_s
    return cpu, packets, mean(resident_mb(cluster[x].pid) for x in labels)


def _kills(bed: Bed, cluster: Cluster, labels: str, plan: Plan) -> Seen:
    """Kill the owner and let it return, some times, seen at the next one and at the last."""
    seen, watched = Seen(), "".join(dict.fromkeys([labels[1], labels[-1]]))
    watcher = Watcher(compiled("load.c", bed.dir), cluster, ASKING)
    for _ in range(plan.scale_moves):
        watcher.see(
            watched, cluster["a"].kill, lambda x: started(cluster, labels[1:], x), seen, "a"
        )
        cluster["a"].exit_code()
        since_ms = cluster["a"].start()
        _know(cluster, labels, "a")
        for label in labels[1:]:
            cluster[label].log.wait(f"^{cluster['a']} at .* is up$", since_ms)
    moves = len(lines(cluster, labels[2:], "is failing over", 0))
    print(f"scale: {len(labels)} nodes: {moves} moves to others than the next", file=sys.stderr)
    return seen
