"""Walks through every order of a few events in small worlds: `python3 -m tests.sim.walk`.

From each world every move is made that the case allows: deliver the next message, let it be late,
or lost with its link; let time pass; crash, start or stop a node, let its application fail, ask it
for a takeover or put it on standby; cut two nodes apart, or one from all; heal. All but deliver,
time and heal are faults, and of those a case has only so many. Worlds that are the same but for
what time it is are walked once, so a case may be walked to its end. After each move the S-promises
are checked (judge.py); and from each world with nothing under way, once all is healed and no more
happens, the best node must come to own alone.

Deliveries to different nodes commute, and so do faults of one node with deliveries to another: so
the node that comes first in order is served first, and faults of the others wait until no message
is under way. Where two links have something for one node, both orders are walked.
"""

import argparse
import os
import sys
import time
import traceback
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from chucky.core import events as ev
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Discovery, Distributed, Settings
from tests.sim import judge, liveness, small
from tests.sim.move import Move, forget
from tests.sim.parts import NOW_MS
from tests.sim.small import Pair, World

Step = tuple[str | int, ...]
SETTLED_MS = 12_000  # a vacancy, a back-off and a takeover, one after the other
MAX_WORLDS = 1_000_000  # in one case: about 1.5 kB each


@dataclass(frozen=True)
class Case:
    """A small cluster, and what may happen to it."""

    name: str
    tiers: tuple[str, ...]  # "a", "bc": b and c are equal
    quorum: str
    first: str  # the nodes that run at the beginning
    warm: bool  # begin with their cluster formed, or with them just started
    events: int  # faults in all
    budget: tuple[tuple[str, int], ...]  # and of each kind
    mandatory: str = ""  # the sync lists
    optional: str = ""

    def __str__(self) -> str:
        start = "formed" if self.warm else "cold"
        start += f", mandatory {self.mandatory}" * bool(self.mandatory)
        nodes = " > ".join("=".join(tier) for tier in self.tiers)
        return f"{nodes}, {self.quorum}, {self.first} {start}, {self.events} faults"

    def settings(self) -> Settings:
        """What its nodes are configured with."""
        named = (*self.tiers, self.mandatory, self.optional)
        lists = [tuple(NodePattern(s, "h") for s in names) for names in named]
        distributed = Distributed(
            nodes=PriorityList(tuple(lists[:-2])),
            timeout_ms=2000 if self.quorum == "majority" else 1000,
            quorum=self.quorum,
            sync_nodes_mandatory=lists[-2],
            sync_nodes_optional=lists[-1],
            sync_nodes_timeout_ms=1000 if self.mandatory else None,
        )
        return Settings(distributed, discovery=Discovery(interval_ms=small.GRID_MS))

    def world(self) -> World:
        """The first world."""
        count = sum(map(len, self.tiers))
        pairs = [(i, j) for j in range(count) for i in range(j)]
        world = World(
            self.settings(), (None,) * count, (0,) * count, tuple((p, NOW_MS) for p in pairs)
        )
        for place in (ord(short) - 97 for short in self.first):
            move = Move(world)
            move.start(place)
            world = move.settle()
        seen: set[int] = set()
        while self.warm and world.key() not in seen:
            seen.add(world.key())
            world = calmly(world)
        world.budget = (("events", self.events), *self.budget)
        return world


def _cases() -> Iterator[Case]:
    two, three, line = ("a", "b"), ("a", "bc"), ("a", "b", "c")
    budget = tuple((kind, 2) for kind in "start crash stop fail cut drop late".split())
    for events in (1, 2, 3):
        yield Case(f"two-{events}", two, "reachable", "ab", True, events, budget)
    yield Case("two-cold", two, "reachable", "ab", False, 2, budget)
    yield Case("two-return", two, "reachable", "b", True, 2, budget)
    for name, tiers in (("three", three), ("majority", line)):
        quorum = "majority" if name == "majority" else "reachable"
        for events in (1, 2):
            yield Case(f"{name}-{events}", tiers, quorum, "abc", True, events, budget)
        yield Case(f"{name}-cold", tiers, quorum, "abc", False, 1, budget)
        yield Case(f"{name}-return", tiers, quorum, "bc", True, 2, budget)
    yield Case("two-sync", two, "reachable", "a", False, 2, budget, "ab")
    yield Case("three-sync", three, "reachable", "a", False, 2, budget, "ab", "c")
    for kind in ("takeover", "standby"):
        asked = ((kind, 1), *budget)
        yield Case(f"two-{kind}", two, "reachable", "ab", True, 1, ((kind, 1),))
        yield Case(f"three-{kind}", three, "reachable", "abc", True, 2, asked)
        yield Case(f"majority-{kind}", line, "majority", "abc", True, 2, asked)


CASES = list(_cases())


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
        if world.cuts:
            yield ("heal",)
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
            for kind in ("crash", "stop", "fail", "takeover", "standby"):
                if budget.get(kind) and (kind != "fail" or body.runs):
                    yield (kind, place)
    if budget.get("cut"):
        yield from _cuts(world, {small.pair(*world.wires[n].ends) for n, _ in here if ready})


def _cuts(world: World, ready: set[Pair]) -> Iterator[Step]:
    """Yield what may be cut: two nodes, or with three one from both others."""
    pairs = [between for between, _ in world.since_ms]
    for between in pairs:
        if between not in world.cuts and (not ready or between in ready):
            yield ("cut", *between)
    for place in range(len(world.bodies)) if len(pairs) > 1 else ():
        off = {between for between in pairs if place in between}
        if not off & set(world.cuts) and (not ready or off & ready):
            yield ("cut", place)


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
            move.drop(rest[0])
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
            move.fail(*rest)
        case "takeover":
            move.ask(*rest, ev.TakeoverRequested(1))
        case "standby":
            move.ask(*rest, ev.StandbyRequested(1, True))
        case "cut":
            move.cut([p for p, _ in world.since_ms if set(rest) <= set(p)])
        case "heal":
            move.heal()
        case _:
            raise ValueError(f"no move: {step}")
    return move.settle()


def calmly(world: World) -> World:
    """Return the world after what comes next when nothing happens."""
    for number, end in (*small.under_way(world), *small.under_way(world, late=True)):
        return moved(world, ("deliver", number, end))
    return moved(world, ("wait",))


# What must come of every world.


def settles(world: World, known: set[int]) -> None:
    """Let the links heal and nothing more happen: in the end the best node serves, alone. The
    worlds of which that is `known` are not walked again. Raises AssertionError."""
    world = world.copy()
    world.budget = ()
    if world.cuts:
        world = moved(world, ("heal",))
    passed: list[int] = []
    waited_ms = 0
    while (key := world.key()) not in known:
        passed.append(key)
        if not small.under_way(world):
            best = best_of(world)
            serving = [small.name(p) for p in small.serving(world)]
            broken = liveness.l_in_the_end(serving, best) if best else None
            if broken is None:
                break
            assert waited_ms < SETTLED_MS, f"{broken}, after {waited_ms} ms"
            waited_ms += small.GRID_MS
        world = calmly(world)
        judge.check(world)
    known.update(passed)


def best_of(world: World) -> set[NodeName]:
    """Return the running nodes of the best tier, but for those on standby, and where it is placed;
    none where no majority runs, or nobody else."""
    d = world.settings.distributed
    here = [(small.name(p), body) for p, body in enumerate(world.bodies) if body]
    names = [n for n, body in here if not body.standby]
    if not names or (d.quorum == "majority" and 2 * len(here) <= d.nodes.size):
        return set()
    tiers = {n: d.nodes.tier(n) for n in names}
    best = {n for n in names if tiers[n] == min(t for t in tiers.values() if t is not None)}
    return best | {n for n, body in here if body.placed}


# The walk.


@dataclass
class Walked:
    """How far a case was walked."""

    case: Case
    depth: int = 0  # moves; of all that are less far every one was made
    complete: bool = False  # there is nothing deeper
    worlds: int = 0
    moves: int = 0
    took_s: float = 0.0
    broken: str = ""
    path: tuple[Step, ...] = ()  # to what broke: there is no shorter one

    def __str__(self) -> str:
        depth = f"{'complete at' if self.complete else 'to'} depth {self.depth}"
        rate = self.worlds / max(self.took_s, 0.001)
        text = (
            f"{self.case.name}: {self.case}: {depth}, {self.worlds:,} worlds,"
            f" {self.moves:,} moves, {rate:,.0f} worlds/s"
        )
        if self.broken:
            words = " ".join(":".join(map(str, step)) for step in self.path)
            replay = f"python3 -m tests.sim.walk --case {self.case.name} --replay '{words}'"
            text += f"\n  broken: {self.broken}\n  replay: {replay}"
        return text


class Walk:
    """A case on its way: every world met, and how it was met first."""

    def __init__(self, case: Case) -> None:
        forget()
        self.found = Walked(case)
        world = case.world()
        self.seen = {world.key()}
        self.settled: set[int] = set()
        self.before = array("q", [-1])
        self.by: list[Step] = [()]
        self.steps: dict[Step, Step] = {}  # each kept once
        self.level = [(0, world)]

    def run(self, depth: int, seconds: float) -> Walked:
        """Walk breadth first, to a depth or until the time is over."""
        began_s = time.monotonic()
        found = self.found
        while self.level and found.depth < depth:
            deeper: list[tuple[int, World]] = []
            for number, world in self.level:
                late = time.monotonic() - began_s > seconds or len(self.seen) > MAX_WORLDS
                if late or not self._spread(number, world, deeper):
                    depth = 0
                    break
            else:
                found.depth += 1
                self.level = deeper
        found.complete = not self.level
        found.worlds, found.took_s = len(self.seen), time.monotonic() - began_s
        return found

    def _spread(self, number: int, world: World, deeper: list[tuple[int, World]]) -> bool:
        """Make every move from a world; return whether all went well."""
        for step in moves(world):
            self.found.moves += 1
            try:
                after = moved(world, step)
                key = after.key()
                if key in self.seen:
                    continue
                judged(after, self.settled)
            except Exception as error:  # noqa: BLE001 - whatever breaks is found
                self.found.broken = str(error) or repr(error)
                self.found.path = (*self._path(number), step)
                return False
            self.seen.add(key)
            deeper.append((len(self.by), after))
            self.before.append(number)
            self.by.append(self.steps.setdefault(step, step))
        return True

    def _path(self, number: int) -> Iterator[Step]:
        steps = []
        while number:
            steps.append(self.by[number])
            number = self.before[number]
        return reversed(steps)


def judged(world: World, settled: set[int]) -> None:
    """Check a new world. Raises AssertionError."""
    judge.check(world)
    if not small.under_way(world) and not small.under_way(world, late=True):
        settles(world, settled)


def walk(case: Case, depth: int = 10**9, seconds: float = 1e9) -> Walked:
    """Walk a case; a bug of the walk itself is told as one of the case's."""
    try:
        return Walk(case).run(depth, seconds)
    except Exception:  # noqa: BLE001 - it must reach the parent, whatever it is
        return Walked(case, broken=traceback.format_exc())


def walk_all(jobs: Iterable[tuple[Case, int, float]]) -> Iterator[Walked]:
    """Walk cases on all cores, each to a depth or for some seconds; yield what was found."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done in as_completed([pool.submit(walk, *job) for job in jobs]):
            yield done.result()


def replay(case: Case, words: str) -> None:
    """Go a path, and tell who serves before each move, and the move. Raises AssertionError."""
    world = case.world()
    for word in words.split():
        step = tuple(int(w) if w.isdigit() else w for w in word.split(":"))
        who = "".join(chr(97 + p) for p in small.serving(world))
        print(f"[{who:3}] {told(world, step)}", flush=True)
        world = moved(world, step)
        judged(world, set())


def told(world: World, step: Step) -> str:
    """Say a move in words."""
    if len(step) < 3 or step[0] == "cut":
        return " ".join(w if isinstance(w, str) else chr(97 + w) for w in step)
    wire, end = world.wires[int(step[1])], int(step[2])
    parts = wire.queues[end][0][1]
    what = parts.shape.kind.__name__ if parts else "the end of the link"
    return f"{step[0]} {chr(97 + wire.ends[1 - end])} -> {chr(97 + wire.ends[end])}: {what}"


def main() -> int:
    """Walk every case for its share of the time, or replay; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim.walk")
    parser.add_argument("--seconds", type=float, default=300, help="for all cases, on all cores")
    parser.add_argument("--case", choices=[c.name for c in CASES])
    parser.add_argument("--replay", metavar="MOVES")
    arguments = parser.parse_args()
    cases = [c for c in CASES if arguments.case in (None, c.name)]
    if arguments.replay:
        try:
            replay(cases[0], arguments.replay)
        except AssertionError as broken:
            print(f"broken: {broken}")
            return 1
        return 0
    share_s = arguments.seconds * min(os.cpu_count() or 1, len(cases)) / len(cases)
    broken = worlds = 0
    for done in walk_all((case, 10**9, share_s) for case in cases):
        print(done, flush=True)
        broken += bool(done.broken)
        worlds += done.worlds
    print(f"{len(cases) - broken} passed, {broken} failed, {worlds:,} worlds")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
