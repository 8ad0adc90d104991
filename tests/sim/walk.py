"""Walks through every order of a few events in small worlds: `python3 -m tests.sim.walk`.

From each world every move is made that the case allows: deliver the next message, let it be late or
lost, let time pass; crash, start or stop a node, let its application fail, cut a link, heal it. The
rarer ones have budgets. Worlds that are the same but for what time it is are walked once, so a case
may be walked to its end. tests/sim/small.py says what a world is, and checks the S-promises after
each move; from each world with nobody under way, all healed, it must also come to one best owner.

Deliveries to different nodes commute, and so do faults of one node with deliveries to another: so
the node that comes first in order is served first, and faults of the others wait until no message
is under way. Where two links have something for one node, both orders are walked.
"""

import argparse
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from chucky.core import events as ev
from chucky.names import NodePattern
from chucky.priority import PriorityList
from chucky.settings import Discovery, Distributed, Settings
from tests.sim import liveness, small
from tests.sim.parts import NOW_MS
from tests.sim.small import Body, Move, World

Step = tuple[str | int, ...]
SETTLED_MS = 10_000  # a vacancy, a back-off and a takeover, one after the other


@dataclass(frozen=True)
class Case:
    """A small cluster, and what may happen to it."""

    name: str
    tiers: tuple[str, ...]  # "a", "bc": b and c are equal
    quorum: str
    warm: bool  # begin with the cluster formed, or with all nodes just started
    events: int  # faults in all
    budget: tuple[tuple[str, int], ...]  # and of each kind

    def settings(self) -> Settings:
        """What its nodes are configured with."""
        tiers = tuple(tuple(NodePattern(s, "h") for s in tier) for tier in self.tiers)
        majority = self.quorum == "majority"
        nodes, timeout_ms = PriorityList(tiers), 2000 if majority else 1000
        return Settings(
            Distributed(nodes=nodes, timeout_ms=timeout_ms, quorum=self.quorum, sync_nodes_timeout_ms=None),
            discovery=Discovery(interval_ms=small.GRID_MS),
        )

    def world(self) -> World:
        """The first world."""
        count = sum(map(len, self.tiers))
        pairs = [(i, j) for j in range(count) for i in range(j)]
        world = World(
            self.settings(), (None,) * count, (0,) * count, tuple((p, NOW_MS) for p in pairs)
        )
        for place in range(count):
            move = Move(world)
            move.start(place)
            world = move.settle()
        seen: set[int] = set()
        while self.warm and world.key() not in seen:
            seen.add(world.key())
            world = calmly(world)
        world.budget = (("events", self.events), *self.budget)
        return world


# Moves.


def moves(world: World) -> Iterator[Step]:
    """Yield every move of a world, by the reduction that the module tells of."""
    budget = dict(world.budget)
    places = [p for p, body in enumerate(world.bodies) if body]
    ready = small.under_way(world)
    held = [] if ready else small.under_way(world, late=True)
    first = min((world.wires[n].ends[end] for n, end in ready or held), default=None)
    here = [(n, end) for n, end in ready or held if world.wires[n].ends[end] == first]
    for number, end in here:
        yield ("deliver", number, end)
    if not ready:
        if places:
            yield ("wait",)
        yield from (("heal", *cut) for cut in world.cuts)
    if not budget["events"]:
        return
    for number, end in here:
        if budget.get("drop") and world.wires[number].queues[end][0][1] is not None:
            yield ("drop", number, end)
        if ready and budget.get("late"):
            yield ("late", number, end)
    for place, body in enumerate(world.bodies):
        if body is None:
            if budget.get("start") and not ready:
                yield ("start", place)
        elif not ready or place == first:
            for kind in ("crash", "stop", "fail"):
                if budget.get(kind) and (kind != "fail" or body.runs):
                    yield (kind, place)
    pairs = {small.pair(*world.wires[n].ends) for n, _ in here} if ready else None
    for between, _ in world.since_ms if budget.get("cut") else ():
        if between not in world.cuts and (pairs is None or between in pairs):
            yield ("cut", *between)


def moved(world: World, step: Step) -> World:
    """Return the world after a move, and after all that follows from it at once."""
    world = world.copy()
    kind, *rest = step
    counts = dict(world.budget)
    if kind in counts:
        counts[kind] -= 1
        counts["events"] -= 1
        world.budget = tuple(counts.items())
    move = Move(world)
    match kind:
        case "deliver":
            move.deliver(*rest)
        case "drop":
            move.take(*rest)
        case "late":
            move.late(*rest)
        case "wait":
            move.wait()
        case "start":
            move.start(*rest)
        case "crash":
            move.end(*rest)
        case "stop":
            move.give(*rest, ev.ShutdownRequested())
        case "fail":
            move.fails(*rest)
        case "cut":
            move.cut((rest[0], rest[1]))
        case "heal":
            move.heal((rest[0], rest[1]))
        case _:
            raise ValueError(f"no move: {step}")
    return move.settle()


def calmly(world: World) -> World:
    """Return the world after what comes next when nothing happens."""
    for number, end in (*small.under_way(world), *small.under_way(world, late=True)):
        return moved(world, ("deliver", number, end))
    return moved(world, ("wait",))
