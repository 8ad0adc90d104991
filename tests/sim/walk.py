"""Walks through every order of a few events in small clusters: `python3 -m tests.sim.walk`.

Real nodes; between them links whose messages arrive in any order across links, but each within
DELAY_MS. A move is: deliver the head of one queue, let time pass to the next deadline, or one of a
bounded number of faults. Worlds that are the same but for how they came about are walked once.
"""

import argparse
import hashlib
import multiprocessing
import pickle
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.node import Node
from chucky.messages import Beacon, Message
from chucky.names import Address, NodeName, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings
from chucky.settings import Node as NodeSettings

DELAY_MS = 100  # the longest a message is under way; the tick time is ten times that
TIMEOUT_MS = 2000
PORT = 4041


@dataclass(slots=True)
class Wire:
    """One connection: at each end the link id, and what is on its way to that end."""

    ids: dict[str, int]
    queues: dict[str, deque[tuple[int, Message | None]]]  # (sent at, message or the end of it)


@dataclass(slots=True)
class World:
    """Everything there is; pickled to go back to it."""

    settings: Settings
    names: str
    budget: dict[str, int]  # faults that are left
    now_ms: int = 1000
    nodes: dict[str, Node] = field(default_factory=dict)
    incarnations: dict[str, int] = field(default_factory=dict)
    serving: dict[str, bool] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    cut: frozenset[str] = frozenset()
    healed_ms: int = 0
    started: int = 0
    ids: int = 0
    pending: deque[tuple[str, ev.Event]] = field(default_factory=deque)

    # Moves.

    def moves(self) -> Iterator[tuple[str, ...]]:
        """Yield every move that is possible now."""
        waiting = []
        for number, wire in enumerate(self.wires):
            for end, queue in wire.queues.items():
                if queue and end in self.nodes:
                    waiting.append(queue[0][0])
                    yield ("deliver", str(number), end)
        deadline = self.deadline()
        if deadline is not None and deadline <= min(waiting, default=deadline) + DELAY_MS:
            yield ("pass",)
        for short in self.names:
            if short not in self.nodes:
                if self.budget.get("start"):
                    yield ("start", short)
                continue
            for fault in ("crash", "stop", "fail"):
                if self.budget.get(fault):
                    yield (fault, short)
        if self.budget.get("cut") and not self.cut:
            for one in self.names:
                for other in self.names:
                    if one < other:
                        yield ("cut", one, other)
        if self.cut:
            yield ("heal",)

    def move(self, what: tuple[str, ...]) -> None:
        """Make one move, and all that follows from it at once."""
        match what:
            case ("deliver", number, end):
                self._deliver(self.wires[int(number)], end)
            case ("pass",):
                self._pass()
            case ("start", short):
                self._spend("start")
                self._start(short)
            case ("crash", short):
                self._spend("crash")
                self._end(short)
            case ("stop", short):
                self._spend("stop")
                self.pending.append((short, ev.ShutdownRequested()))
            case ("fail", short):
                self._spend("fail")
                self.pending.append((short, ev.ApplicationFailed("broken")))
            case ("cut", one, other):
                self._spend("cut")
                self.cut = frozenset((one, other))
            case ("heal",):
                self.cut, self.healed_ms = frozenset(), self.now_ms
        self._settle()
        self._check()

    def deadline(self) -> int | None:
        """The next deadline of any node."""
        found = [d for d in (n.deadline() for n in self.nodes.values()) if d is not None]
        return min(found, default=None)

    def _spend(self, fault: str) -> None:
        self.budget = {**self.budget, fault: self.budget[fault] - 1}

    def _start(self, short: str) -> None:
        self.started += 1
        self.incarnations[short] = self.started
        node = Node(self.settings, NodeName(short, "h"), self.started, self.now_ms)
        self.nodes[short], self.serving[short] = node, False
        self.pending.append((short, ev.Wake()))

    def _end(self, short: str) -> None:
        self.nodes.pop(short, None)
        self.serving[short] = False
        for wire in [w for w in self.wires if short in w.ids]:
            self._hang_up(wire, short)

    def _hang_up(self, wire: Wire, by: str) -> None:
        for end, queue in wire.queues.items():
            if end != by and end in self.nodes:
                queue.append((self.now_ms, None))
            else:
                queue.clear()

    def _deliver(self, wire: Wire, end: str) -> None:
        _, message = wire.queues[end].popleft()
        if frozenset(wire.ids) == self.cut:
            return
        if message is None:
            self.wires.remove(wire)
            self.pending.append((end, ev.LinkDown(wire.ids[end], ev.Ended.CLOSED)))
        else:
            self.pending.append((end, ev.MessageReceived(wire.ids[end], message)))

    def _pass(self) -> None:
        deadline = self.deadline()
        assert deadline is not None
        self.now_ms = max(self.now_ms, deadline)
        for short, node in self.nodes.items():
            at_ms = node.deadline()
            if at_ms is not None and at_ms <= self.now_ms:
                self.pending.append((short, ev.Wake()))

    # What follows at once: steps, dials, beacons, the application.

    def _settle(self) -> None:
        for _ in range(10_000):
            if not self.pending:
                return
            short, event = self.pending.popleft()
            node = self.nodes.get(short)
            if node is None:
                continue
            for action in node.step(event, self.now_ms):
                self._act(short, action)
            deadline = node.deadline()
            assert deadline is None or deadline > self.now_ms
        raise AssertionError("it never settles")

    def _act(self, short: str, action: ac.Action) -> None:
        match action:
            case ac.Send(link, message):
                for wire in self.wires:
                    if wire.ids.get(short) == link:
                        other = next(e for e in wire.ids if e != short)
                        if other in self.nodes:
                            wire.queues[other].append((self.now_ms, message))
            case ac.Close(link):
                for wire in [w for w in self.wires if w.ids.get(short) == link]:
                    wire.ids[short] = 0
                    self._hang_up(wire, short)
            case ac.Dial(link, address):
                self._dial(short, link, address)
            case ac.Announce(asks, to):
                self._announce(short, asks, to)
            case ac.Prepare():
                self.pending.append((short, ev.ApplicationReady()))
            case ac.StartApplication(epoch):
                self.serving[short] = True
                self.pending.append((short, ev.ApplicationStarted(epoch)))
            case ac.StopApplication():
                self.serving[short] = False
            case ac.Exit():
                self._end(short)

    def _address(self, short: str) -> Address:
        return Address(f"10.0.0.{ord(short) - 96}", PORT)

    def _dial(self, short: str, link: int, address: Address) -> None:
        other = next(s for s in self.names if self._address(s) == address)
        if frozenset((short, other)) == self.cut:
            self.pending.append((short, ev.LinkDown(link, ev.Ended.UNREACHED)))
        elif other not in self.nodes:
            self.pending.append((short, ev.LinkDown(link, ev.Ended.REFUSED)))
        else:
            self.ids += 1
            queues: dict[str, deque[tuple[int, Message | None]]] = {short: deque(), other: deque()}
            self.wires.append(Wire({short: link, other: -self.ids}, queues))
            for one, peer, id in ((short, other, link), (other, short, -self.ids)):
                up = ev.LinkUp(id, *self._who(peer), self._address(peer))
                self.pending.append((one, up))

    def _who(self, short: str) -> tuple[NodeName, int]:
        return NodeName(short, "h"), self.incarnations[short]

    def _announce(self, short: str, asks: bool, to: Address | None) -> None:
        beacon = Beacon(*self._who(short), PORT, asks)
        for other in self.nodes:
            reached = other != short and frozenset((short, other)) != self.cut
            if reached and to in (None, self._address(other)):
                self.pending.append((other, ev.BeaconHeard(beacon, self._address(short))))

    # What must hold, always.

    def _check(self) -> None:
        serving = [s for s in self.nodes if self._serves(s)]
        if self.settings.distributed.quorum == "majority":
            assert len(serving) <= 1, f"S2: {serving} serve"
        elif not self.cut and self.now_ms - self.healed_ms > 500:
            assert len(serving) <= 1, f"S1: {serving} serve"
        epochs = [self.nodes[s].snapshot().epoch for s in serving]
        assert len(set(epochs)) == len(epochs), f"one epoch twice: {epochs}"

    def _serves(self, short: str) -> bool:
        until_ms = self.nodes[short].snapshot().serve_until_ms
        return self.serving[short] and until_ms is not None and self.now_ms < until_ms

    def fingerprint(self) -> bytes:
        """Sixteen bytes that tell this world from others."""
        return hashlib.blake2b(repr(_plain(self)).encode(), digest_size=16).digest()


def _plain(thing: object) -> object:
    """Return the thing as nested tuples; methods are left out, they hold no state."""
    kind = type(thing)
    if kind in _LEAVES or isinstance(thing, Enum):
        return thing
    if kind is dict:
        return tuple(sorted((repr(_plain(k)), _plain(v)) for k, v in thing.items()))
    if kind is set or kind is frozenset:
        return tuple(sorted(repr(_plain(v)) for v in thing))
    if kind in (list, tuple, deque):
        return tuple([_plain(v) for v in thing])
    if kind is Settings or callable(thing):
        return None
    if isinstance(thing, tuple):
        return hash(thing)  # the messages; 64 bits, for some million of them
    names = _FIELDS.get(kind)
    if names is None:
        slots = [f.name for f in fields(thing)] if is_dataclass(thing) else sorted(vars(thing))
        names = _FIELDS[kind] = tuple(slots)
        _FROZEN[kind] = is_dataclass(thing) and kind.__dataclass_params__.frozen
    if _FROZEN[kind]:
        return hash(thing)
    return tuple([_plain(getattr(thing, name)) for name in names])


_LEAVES = {type(None), int, str, bytes, bool}
_FIELDS: dict[type, tuple[str, ...]] = {}
_FROZEN: dict[type, bool] = {}


@dataclass(frozen=True)
class Case:
    """One small world and the faults that may happen in it."""

    names: str
    quorum: str
    budget: tuple[tuple[str, int], ...]
    warm: bool  # begin with the cluster formed, or with all nodes just started

    def world(self) -> World:
        """Return its first world."""
        tiers = tuple((NodePattern(s, "h"),) for s in self.names)
        settings = Settings(
            distributed=Distributed(
                nodes=PriorityList(tiers), timeout_ms=TIMEOUT_MS, quorum=self.quorum
            ),
            node=NodeSettings(tick_ms=250),
        )
        world = World(settings, self.names, dict(self.budget))
        for short in self.names:
            world._start(short)
            world._settle()
        while self.warm and world.now_ms < 3 * TIMEOUT_MS:
            world.move([m for m in world.moves() if m[0] in ("deliver", "pass")][0])
        return world


FAULTS = (("crash", 1), ("start", 1), ("stop", 1), ("cut", 1), ("fail", 1))
CASES = [
    Case(names, quorum, FAULTS, warm)
    for names, quorum in (("ab", "reachable"), ("abc", "reachable"), ("abc", "majority"))
    for warm in (True, False)
]


def walk(case: Case, until_s: float) -> tuple[int, int, str]:
    """Walk deeper and deeper until the time is up; return (depth completed, worlds, what broke)."""
    first = pickle.dumps(case.world())
    done, worlds = 0, 0
    seen: set[bytes] = set()
    frontier: list[tuple[bytes, tuple[tuple[str, ...], ...]]] = [(first, ())]
    while frontier:
        deeper: list[tuple[bytes, tuple[tuple[str, ...], ...]]] = []
        for state, path in frontier:
            if time.monotonic() > until_s:
                return done, worlds, ""
            for move in list(pickle.loads(state).moves()):
                world: World = pickle.loads(state)
                try:
                    world.move(move)
                except Exception as error:
                    return done, worlds, f"{error!r} after {(*path, move)}"
                key = world.fingerprint()
                if key not in seen:
                    seen.add(key)
                    worlds += 1
                    deeper.append((pickle.dumps(world), (*path, move)))
        frontier, done = deeper, done + 1
    return done, worlds, ""


def _one(job: tuple[Case, float]) -> tuple[Case, int, int, str]:
    case, seconds = job
    return case, *walk(case, time.monotonic() + seconds)


def main() -> int:
    """Walk every case for its share of the time and print how deep it came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="for all of it, on all cores")
    seconds = parser.parse_args().seconds
    cores = multiprocessing.cpu_count()
    share_s = seconds * cores / len(CASES)
    broken = 0
    with multiprocessing.Pool(cores) as pool:
        for case, depth, worlds, error in pool.imap(_one, [(c, share_s) for c in CASES]):
            start = "formed" if case.warm else "cold"
            print(
                f"{len(case.names)} nodes, {case.quorum}, {start}: depth {depth}, {worlds} worlds"
            )
            if error:
                broken += 1
                print(f"  broken: {error}")
            sys.stdout.flush()
    print(f"{len(CASES) - broken} passed, {broken} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
