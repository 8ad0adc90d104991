"""Idle cost of three nodes on a LAN with the shipped ticks, and how soon a node serves."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.plan import Plan
from bench.table import CHUCKY, Row, Table, tail
from chucky.settings import Settings
from tests.lan.bed import Bed, Config, at, now_ms
from tests.lan.cluster import loopback, on_lan
from tests.lan.eye import ask
from tests.lan.lan import Lan, can_make_namespaces, run

NEEDS_ROOT = "needs root"
SHIPPED: Config = {
    "distributed": {"timeout": Settings().distributed.timeout_ms},
    "node": {"tick": Settings().node.tick_ms},
}
CPU_PERCENT, MEMORY_MB, PACKETS_PER_S, START_MS = 0.5, 45, 40, 500  # the aims


class Cost(NamedTuple):
    """What one node has used so far."""

    cpu_ns: int
    packets_out: int


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    if can_make_namespaces():
        for row in _idle_rows(plan):
            table.add(row)
    else:
        table.add(Row("idle, each of 3 nodes", {CHUCKY: NEEDS_ROOT}))
    starts = [_start_ms() for _ in range(plan.starts)]
    table.add(_at_most("start, exec to first fact, ms p50/p99/max", starts, START_MS, tail))


def cpu_ns(pid: int) -> int:
    """Return the processor time of a process, all its threads that live."""
    tasks = f"/proc/{pid}/task"
    return sum(int(Path(tasks, x, "schedstat").read_text().split()[0]) for x in os.listdir(tasks))


def packets_out(netns: str) -> int:
    """Return how many packets the namespace's eth0 has sent."""
    return int(
        run("ip", "netns", "exec", netns, "cat", "/sys/class/net/eth0/statistics/tx_packets")
    )


def _idle_rows(plan: Plan) -> list[Row]:
    bed = Bed()
    try:
        cluster = on_lan(bed, Lan(bed), SHIPPED)
        cluster.form()
        cluster.eye.close()
        cluster.stall.close()

        def cost(label: str) -> Cost:
            return Cost(cpu_ns(cluster[label].pid), packets_out(cluster[label].netns))

        time.sleep(2)  # nobody asks any more, and what was asked last has lingered
        before, began = {x: cost(x) for x in "abc"}, time.monotonic()
        print(f"idle: {plan.idle_s:g} s", file=sys.stderr)
        at(now_ms() + round(plan.idle_s * 1000))
        after, for_s = {x: cost(x) for x in "abc"}, time.monotonic() - began
        memory = [cluster[x].memory_kib() * 1024 / 1e6 for x in "abc"]
    finally:
        bed.close()
    cpu = [(after[x].cpu_ns - before[x].cpu_ns) / for_s / 1e7 for x in "abc"]
    packets = [(after[x].packets_out - before[x].packets_out) / for_s for x in "abc"]
    return [
        _at_most("idle, a b c: CPU, % of a core", cpu, CPU_PERCENT, _each(2)),
        _at_most("idle, a b c: resident memory, MB", memory, MEMORY_MB, _each(1)),
        _at_most("idle, a b c: packets out/s", packets, PACKETS_PER_S, _each(1)),
    ]


def _each(digits: int) -> Callable[[list[float]], str]:
    return lambda values: " ".join(f"{value:.{digits}f}" for value in values)


def _at_most(what: str, values: list[float], most: float, say: Callable[[list[float]], str]) -> Row:
    return Row(what, {CHUCKY: say(values)}, f"<= {most:g}", max(values) <= most)


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
