"""Ten thousand silent clients: what they cost the others, and the node in memory.

At an owner they have a fact sent to them, do not read it and never close. At a node that knows of
no owner each is a request that waits; there the next one is over `max_connections`.
"""

import contextlib
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from statistics import median

from bench.load import Load, compiled, waits_ms
from bench.plan import Plan
from bench.table import CHUCKY, Row, Table, quantile, spread
from tests.lan.bed import Bed, Config, until
from tests.lan.cluster import loopback

OTHERS = 8  # clients that ask all the time
MEMORY_MB, TIMES, AT_ONCE_MS = 50, 2.0, 50  # the aims; the last says what "at once" is
WAITING: Config = {
    "distributed": {"sync_nodes_mandatory": ["a", "b"], "sync_nodes_timeout": 600_000},
    "facts": {"hold": 600_000},
}


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    _beside_an_owner(table, plan)
    _without_an_owner(table, plan)


def come(crowd: contextlib.ExitStack, port: int, count: int) -> list[socket.socket]:
    """Let so many clients connect, say nothing and stay."""
    return [
        crowd.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)
    ]


def answered(clients: list[socket.socket]) -> int:
    """Wait until each of them has been sent something or was closed; return how many got a fact."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        facts = 0
        while selector.get_map() and (ready := selector.select(10)):
            for key, _ in ready:
                selector.unregister(key.fileobj)
                with contextlib.suppress(OSError):
                    facts += key.fileobj.recv(4096).endswith(b"\n")  # type: ignore[union-attr]
    return facts


def _beside_an_owner(table: Table, plan: Plan) -> None:
    bed = Bed()
    try:
        program = compiled("load.c", bed.dir)
        node = loopback(bed, {"discovery": {"peers": []}}, labels="a")["a"]
        node.start()
        node.reaches("owner")

        def p99_ms() -> float:
            return _p99_ms(program, node.facts_port, plan.load_s)

        p99_ms()  # it has grown to what it needs for these
        without, beside, grown = [], [], []
        for repetition in range(1, plan.repetitions + 1):
            before_kib = node.memory_kib()
            without.append(p99_ms())
            with contextlib.ExitStack() as crowd:
                come(crowd, node.facts_port, plan.connections)
                beside.append(p99_ms())
                grown.append((node.memory_kib() - before_kib) * 1024 / 1e6)
            print(f"connections: {repetition} of {plan.repetitions}", file=sys.stderr)
    finally:
        bed.close()
    times = [a / b for a, b in zip(beside, without, strict=True)]
    crowd_of = f"{plan.connections} silent clients at the owner"
    table.add(Row("p99 of the others without, ms", {CHUCKY: spread(without, 2)}))
    table.add(Row(f"{crowd_of}: p99 of the others, ms", {CHUCKY: spread(beside, 2)}))
    table.add(Row(f"{crowd_of}: times the p99 without", {CHUCKY: spread(times, 2)},
                  f"< {TIMES:g}", median(times) < TIMES))  # fmt: skip
    table.add(Row(f"{crowd_of}: memory, MB more", {CHUCKY: spread(grown, 1)},
                  f"< {MEMORY_MB}", max(grown) < MEMORY_MB))  # fmt: skip


def _without_an_owner(table: Table, plan: Plan) -> None:
    bed = Bed()
    try:
        config = {"facts": {"max_connections": plan.connections}}
        cluster = loopback(bed, WAITING, config, labels="ab")
        node = cluster["b"]
        node.start()
        node.ready()
        before_kib = node.memory_kib()
        with contextlib.ExitStack() as crowd:
            clients = come(crowd, node.facts_port, plan.connections)
            # Without its other descriptors: how many those are changes while it starts.
            until(lambda: _descriptors(node.pid) >= len(clients), "all of them wait")
            grown_mb = (node.memory_kib() - before_kib) * 1024 / 1e6
            began = time.monotonic()
            (extra,) = come(crowd, node.facts_port, 1)
            refused = extra.recv(1) == b""
            refused_ms = (time.monotonic() - began) * 1000
            cluster["a"].start()
            facts = answered(clients)
    finally:
        bed.close()
    assert refused, "one over max_connections was answered"
    waiting = f"{plan.connections} requests that wait"
    table.add(Row(f"{waiting}: memory, MB more", {CHUCKY: f"{grown_mb:.1f}"},
                  f"< {MEMORY_MB}", grown_mb < MEMORY_MB))  # fmt: skip
    table.add(Row(f"{waiting}: the next one is closed after, ms", {CHUCKY: f"{refused_ms:.1f}"},
                  f"<= {AT_ONCE_MS}", refused_ms <= AT_ONCE_MS))  # fmt: skip
    table.add(Row(f"{waiting}: facts when an owner comes", {CHUCKY: str(facts)},
                  f"{plan.connections}", facts == plan.connections))  # fmt: skip


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _p99_ms(program: Path, port: int, for_s: float) -> float:
    asked = Load(program, port, OTHERS, pause_ms=1, seconds=for_s).start().wait()
    return quantile(waits_ms(asked), 0.99)
