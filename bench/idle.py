"""Idle cost of three nodes on a LAN with the shipped ticks, and how soon a node serves."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import peers
from bench.alarms import busy
from bench.nodes import SHIPPED, formed
from bench.peer_clusters import Elixir, Keepalived, PeerCluster
from bench.plan import Plan
from bench.table import CHUCKY, ELIXIR, KEEPALIVED, MISSING, Row, Table, tail
from tests.lan.bed import Bed, at, now_ms
from tests.lan.cluster import loopback, on_lan
from tests.lan.eye import ask
from tests.lan.lan import Lan, run
from tests.lan.lan import missing as no_lan

LEAST_NICE = 19
CPU_PERCENT, MEMORY_MB, PACKETS_PER_S, START_MS = 0.5, 45, 40, 500  # the aims


class Cost(NamedTuple):
    """What the nodes a, b and c cost, each."""

    cpu_percent: list[float]
    awake_percent: list[float]  # the same while loops at nice 19 keep every core awake
    memory_mb: list[float]
    packets_per_s: list[float]
    wakes_per_s: list[float]


# What a machine takes for waking up, in Python and with nothing to do.
WAKES = "import select, sys\nwhile True: select.poll().poll(float(sys.argv[1]))"


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    if why := no_lan():
        table.add(Row("idle, each of 3 nodes", {CHUCKY: why}))
    else:
        for row in _idle_rows(plan):
            table.add(row)
    starts = [_start_ms() for _ in range(plan.starts)]
    what, kept = "start, exec to first fact, ms p50/p99/max", max(starts) <= START_MS
    table.add(Row(what, {CHUCKY: tail(starts)}, f"<= {START_MS}", kept))


def cpu_ns(pid: int) -> int:
    """Return the processor time of a process, all its threads that live."""
    tasks = f"/proc/{pid}/task"
    return sum(int(Path(tasks, x, "schedstat").read_text().split()[0]) for x in os.listdir(tasks))


def wakes(pid: int) -> int:
    """Return how often a process has slept, all its threads that live."""
    texts = [Path(x, "status").read_text() for x in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", x, re.M)[0]) for x in texts)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def packets_out(netns: str) -> int:
    """Return how many packets the namespace's eth0 has sent."""
    return int(
        run("ip", "netns", "exec", netns, "cat", "/sys/class/net/eth0/statistics/tx_packets")
    )


def _idle_rows(plan: Plan) -> list[Row]:
    costs = {CHUCKY: _chucky(plan)}
    bare = _bare(costs[CHUCKY].wakes_per_s, plan)
    # At the ticks that tell silence within about a second, as the shipped ones here do.
    if ELIXIR not in peers.missing():
        costs[ELIXIR] = _peer(lambda bed: Elixir(bed, 5000), plan)
    if KEEPALIVED not in peers.missing():
        costs[KEEPALIVED] = _peer(lambda bed: Keepalived(bed, 0.1), plan)

    def row(
        what: str, most: float | None, values: Callable[[Cost], list[float]], digits: int
    ) -> Row:
        cells = {x: MISSING for x in peers.missing() if x in (ELIXIR, KEEPALIVED)}
        cells |= {x: _each(values(cost), digits) for x, cost in costs.items()}
        if most is None:
            return Row(what, cells)
        return Row(what, cells, f"<= {most:g}", max(values(costs[CHUCKY])) <= most)

    return [
        row("idle, a b c: CPU, % of a core", CPU_PERCENT, lambda x: x.cpu_percent, 2),
        row("idle, cores kept awake: CPU, % of a core", None, lambda x: x.awake_percent, 2),
        row("idle, a b c: wake-ups/s", None, lambda x: x.wakes_per_s, 1),
        Row("as many wake-ups of a bare Python: CPU, % of a core", {CHUCKY: _each(bare, 2)}),
        row("idle, a b c: resident memory, MB", MEMORY_MB, lambda x: x.memory_mb, 1),
        row("idle, a b c: packets out/s", PACKETS_PER_S, lambda x: x.packets_per_s, 1),
    ]


def _chucky(plan: Plan) -> Cost:
    bed = Bed()
    try:
        cluster = formed(on_lan(bed, Lan(bed), SHIPPED))
        return _cost([([cluster[x].pid], cluster[x].netns) for x in "abc"], plan)
    finally:
        bed.close()


def _peer(make: Callable[[Bed], PeerCluster], plan: Plan) -> Cost:
    bed = Bed()
    try:
        cluster = make(bed)
        cluster.form()
        return _cost([(cluster.pids(x), cluster.lan.netns(x)) for x in "abc"], plan)
    finally:
        bed.close()


def _bare(wakes_per_s: list[float], plan: Plan) -> list[float]:
    """Return the processor time of processes that do nothing but wake up so often, in percent."""
    with ExitStack() as end:
        pids = []
        for rate in wakes_per_s:
            process = subprocess.Popen([sys.executable, "-c", WAKES, f"{1000 / rate}"])
            end.callback(process.wait)
            end.callback(process.kill)
            pids.append(process.pid)
        return _watched(lambda: [cpu_ns(pid) / 1e7 for pid in pids], plan)


def _cost(nodes: list[tuple[list[int], str]], plan: Plan) -> Cost:
    """Watch nodes, each with its processes and its namespace."""

    def used() -> list[float]:
        found = [(sum(map(cpu_ns, p)) / 1e7, packets_out(n), sum(map(wakes, p))) for p, n in nodes]
        return [x for node in found for x in node]

    spent = _watched(used, plan)
    memory = [sum(map(resident_mb, pids)) for pids, _ in nodes]
    with ExitStack() as end:
        for process in busy(LEAST_NICE):
            end.callback(peers.ended, process)
        awake = _watched(used, plan)
    return Cost(spent[::3], awake[::3], memory, spent[1::3], spent[2::3])


def _watched(read: Callable[[], list[float]], plan: Plan) -> list[float]:
    """Return by how much each of these grows a second."""
    time.sleep(plan.quiet_s)
    print(f"idle: {plan.idle_s:g} s", file=sys.stderr)
    before, began = read(), time.monotonic()
    at(now_ms() + round(plan.idle_s * 1000))
    after, for_s = read(), time.monotonic() - began
    return [(b - a) / for_s for a, b in zip(before, after, strict=True)]


def _each(values: list[float], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def _start_ms() -> float:
    """Start a node alone, without sync lists; return how long its first fact took."""
    bed = Bed()
    try:
        node = loopback(bed, SHIPPED, {"discovery": {"peers": []}}, labels="a")["a"]
        began_ns = time.monotonic_ns()
        node.start()
        while not ask("a", "127.0.0.1", node.facts_port).fact:
            time.sleep(0.001)
        return (time.monotonic_ns() - began_ns) / 1e6
    finally:
        bed.close()
