"""Throughput: facts a second of the owner, its peers and a relaying node, in the same repetition.

One connection, one fact, 64 at a time; each server is pinned to one core and the clients to
another. A core's speed changes from one minute to the next, so what counts is the ratio within a
repetition, in which every server has its turn, in random order.
"""

import os
import random
import sys
from collections.abc import Callable, Sequence
from statistics import median

from bench import peers
from bench.facts import write_facts
from bench.load import Load, compiled, rate
from bench.nodes import formed
from bench.plan import Plan
from bench.table import CHUCKY, ELIXIR, MISSING, NGINX, C, Row, Table, spread
from tests.lan.bed import Bed
from tests.lan.cluster import Cluster, loopback

CLIENTS = 64
WARM_UP_S = 0.3
RELAY = "relay"  # a node that does not own, as the owner's row has it
OF_C, OF_ELIXIR, OF_OWNER = 0.8, 2.5, 0.5  # the aims


def cores() -> tuple[int, int, int]:
    """Return the core of the servers, of the clients, and of the owner while another node relays.

    With less than three the owner shares that of the clients, since it has the least to do.
    """
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[min(1, len(found) - 1)], found[min(2, len(found) - 1)]


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process on a core."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})


def pair(bed: Bed) -> Cluster:
    """Return two nodes on loopback: a owns, b relays."""
    cluster = loopback(bed, {"distributed": {"timeout": 5000}}, labels="ab")
    for label in "ab":
        write_facts(cluster[label].facts, label)
    return formed(cluster, "ab")


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    bed = Bed()
    try:
        rates = _rates(bed, plan)
    finally:
        bed.close()
    for row in rows(rates):
        table.add(row)


def _rates(bed: Bed, plan: Plan) -> dict[str, list[float]]:
    server_core, client_core, owner_core = cores()
    program = compiled("load.c", bed.dir)
    cluster = pair(bed)
    ports = peers.servers(bed, cluster["a"].facts, server_core)
    for port in ports.values():
        peers.answers("127.0.0.1", port)
    ports |= {CHUCKY: cluster["a"].facts_port, RELAY: cluster["b"].facts_port}
    rates: dict[str, list[float]] = {name: [] for name in ports}
    pin(cluster["b"].pid, server_core)
    for repetition in range(1, plan.repetitions + 1):
        for name in random.sample(list(ports), len(ports)):
            pin(cluster["a"].pid, owner_core if name == RELAY else server_core)
            seconds = WARM_UP_S + plan.load_s
            load = Load(program, ports[name], CLIENTS, seconds=seconds, core=client_core)
            rates[name].append(rate(load.start().wait(), WARM_UP_S, plan.load_s))
        print(f"throughput: {repetition} of {plan.repetitions}", file=sys.stderr)
    return rates


def rows(rates: dict[str, list[float]]) -> list[Row]:
    """Return the rows: facts a second, and ratios within a repetition."""

    def cells(say: Callable[[list[float]], str], *columns: str) -> dict[str, str]:
        return {x: say(rates[x]) if x in rates else MISSING for x in columns}

    def ratio(what: str, of: str, to: str, column: str, aim: float) -> Row:
        if to not in rates:
            return Row(what, {column: MISSING}, f">= {aim}")
        found = ratios(rates[of], rates[to])
        return Row(what, {column: spread(found, 2)}, f">= {aim}", median(found) >= aim)

    to_c = ratio("owner, to C's rate", CHUCKY, C, CHUCKY, OF_C)
    to_c.cells |= cells(lambda x: spread(ratios(x, rates[C]), 2), NGINX, ELIXIR)
    return [
        Row("owner, facts/s", cells(spread, CHUCKY, C, NGINX, ELIXIR)),
        to_c,
        ratio("owner, to Elixir's rate", CHUCKY, ELIXIR, CHUCKY, OF_ELIXIR),
        Row("relaying node, facts/s", {CHUCKY: spread(rates[RELAY])}),
        ratio("relaying node, to the owner's", RELAY, CHUCKY, CHUCKY, OF_OWNER),
    ]


def ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Return the one by the other, repetition by repetition."""
    return [a / b for a, b in zip(these, those, strict=True)]
