"""One move of the walk's world, and all that follows from it at once.

A message takes no time, or (late) longer than a timer. A cut holds back what is under way, as TCP
does; a dial, and a beacon, arrive at once or not at all. A step of a node is made once: the same
step from the same state is looked up.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.messages import Beacon, Message, Status
from chucky.names import Address
from chucky.settings import Settings
from tests.sim import judge
from tests.sim.parts import LINKS, NOW_MS, Parts, apart, new_node, together
from tests.sim.small import (
    GRID_MS,
    PLACES,
    PORT,
    Body,
    Pair,
    Sync,
    Wire,
    World,
    address,
    name,
    order,
    pair,
    rename,
    shift,
)

MAX_STEPS = 100_000  # remembered: about 5 kB each

Acts = tuple[Any, ...]
What = Any  # an event, or (link id, the parts of the message that came over it)


class Outcome(NamedTuple):
    """What a step leads to."""

    parts: Parts
    deadline_ms: int | None
    until_ms: int | None  # the node says that it serves, until then
    acts: Acts


_STEPS: dict[tuple[Parts, What, int], Outcome] = {}


def forget() -> None:
    """Remember no step: the rules may be others from now on."""
    _STEPS.clear()


def step(settings: Settings, parts: Parts, what: What, now_ms: int) -> Outcome:
    """Step a node, or remember what came of it."""
    key = (parts, what, now_ms)
    found = _STEPS.get(key)
    if found is not None:
        return found
    node = together(parts)
    event = ev.MessageReceived(what[0], together(what[1])) if type(what) is tuple else what
    acts = tuple(
        (a.link, apart(a.message), a.message) if isinstance(a, ac.Send) else a
        for a in node.step(event, now_ms)
        if not isinstance(a, ac.Report)
    )
    view = node.snapshot()
    made = Outcome(apart(node), node.deadline(), view.serve_until_ms, acts)
    if len(_STEPS) >= MAX_STEPS:
        _STEPS.clear()
    _STEPS[key] = made
    return made


class Move:
    """One move of a world, and all that follows from it at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bodies = list(world.bodies)
        self.wires = list(world.wires)
        self.now_ms = NOW_MS
        self.pending: deque[tuple[int, What]] = deque()

    # What may happen.

    def start(self, place: int) -> None:
        """A new incarnation."""
        world, lives = self.world, list(self.world.lives)
        lives[place] += 1
        world.lives = tuple(lives)
        life = 10 * place + lives[place]
        node = new_node(world.settings, name(place), life)
        limit_ms = world.settings.distributed.sync_nodes_timeout_ms
        sync = None if limit_ms is None else Sync(NOW_MS + limit_ms)
        body = Body(apart(node), NOW_MS, None, None, None, life, None, (), None, None, False, sync)
        self.bodies[place] = body
        self._since(p for p, _ in world.since_ms if place in p)
        self.pending.append((place, ev.Wake()))

    def give(self, place: int, event: ev.Event) -> None:
        """Something happens to one node."""
        self.pending.append((place, event))

    def fail(self, place: int) -> None:
        """The application stops by itself."""
        body = self.bodies[place]
        assert body is not None
        self.bodies[place] = body._replace(runs=None, placed=False)
        self.give(place, ev.ApplicationFailed("broken"))

    def ask(self, place: int, event: ev.TakeoverRequested | ev.StandbyRequested) -> None:
        """An administrator asks one node for something."""
        body = self.bodies[place]
        assert body is not None
        takeover = isinstance(event, ev.TakeoverRequested)
        self.bodies[place] = body._replace(
            asked=body.asked or takeover, standby=body.standby or not takeover
        )
        self.give(place, event)

    def end(self, place: int) -> None:
        """The process is gone; its host closes its connections."""
        self.bodies[place] = None
        for number, wire in enumerate(self.wires):
            if place in wire.ends:
                self._hang_up(number, wire.ends.index(place))

    def cut(self, pairs: Iterable[Pair]) -> None:
        """No frame passes between these."""
        self.world.cuts = tuple(sorted({*self.world.cuts, *pairs}))

    def heal(self) -> None:
        """Frames pass again, everywhere."""
        self._since(self.world.cuts)
        self.world.cuts = ()

    def deliver(self, number: int, end: int) -> None:
        """The first in a queue arrives."""
        wire = self.wires[number]
        (sent_ms, parts), *rest = wire.queues[end]
        wire = self.wires[number] = _with(wire, end, queue=tuple(rest))
        place, link = wire.ends[end], wire.ids[end]
        if parts is None:
            self.wires[number] = _with(wire, end, id=0, queue=())
            self.pending.append((place, ev.LinkDown(link, ev.Ended.CLOSED)))
        else:
            body = self.bodies[place]
            assert body is not None
            self.bodies[place] = judge.heard(body, place, parts, sent_ms)
            self.pending.append((place, (link, parts)))

    def drop(self, number: int) -> None:
        """A link is reset, and with it is lost what was under way: TCP loses nothing less."""
        wire = self.wires.pop(number)
        for place, link in zip(wire.ends, wire.ids):
            if link:
                self.pending.append((place, ev.LinkDown(link, ev.Ended.CLOSED)))

    def late(self, number: int, end: int) -> None:
        """What is in a queue waits while other things happen."""
        self.wires[number] = _with(self.wires[number], end, late=True)

    def wait(self) -> None:
        """Time passes to the next deadline."""
        deadlines = [b.deadline_ms for b in self.bodies if b and b.deadline_ms is not None]
        ahead_ms = min(deadlines) - NOW_MS
        self.now_ms = NOW_MS + max(1, -(-ahead_ms // GRID_MS)) * GRID_MS
        for number, wire in enumerate(self.wires):
            for end in (0, 1):
                if wire.late[end]:
                    self._since([pair(*wire.ends)])
            self.wires[number] = wire._replace(late=(False, False))
        for place, body in enumerate(self.bodies):
            if body and body.deadline_ms is not None and body.deadline_ms <= self.now_ms:
                self.pending.append((place, ev.Wake()))

    # What follows.

    def settle(self) -> World:
        """Do all that follows at once; return the world after it. Raises AssertionError."""
        for _ in range(1000):
            if not self.pending:
                break
            place, what = self.pending.popleft()
            body = self.bodies[place]
            if body is not None:
                self._step(place, body, what)
        else:
            raise AssertionError("it never settles")
        self.world.bodies = tuple(self.bodies)
        self.world.wires = tuple(sorted((w for w in self.wires if w.ids != (0, 0)), key=order))
        if self.now_ms != NOW_MS:
            shift(self.world, self.now_ms - NOW_MS)
        rename(self.world)
        return self.world

    def _step(self, place: int, body: Body, what: What) -> None:
        if isinstance(what, ev.LinkUp):
            body = judge.linked(body, what.name)
        done = step(self.world.settings, body.parts, what, self.now_ms)
        self.bodies[place] = body._replace(
            parts=done.parts, deadline_ms=done.deadline_ms, until_ms=done.until_ms
        )
        for act in done.acts:
            self._act(place, act)

    def _act(self, place: int, act: Any) -> None:
        body = self.bodies[place]
        assert body is not None
        match act:
            case (link, parts, message):
                self._send(place, link, parts, message)
            case ac.Close(link):
                for number, wire in enumerate(self.wires):
                    for end in (0, 1):
                        if (wire.ends[end], wire.ids[end]) == (place, link):
                            self._hang_up(number, end)
            case ac.Dial(link, at, _, former):
                self._dial(place, link, PLACES[at], former)
            case ac.Announce(asks, to):
                self._announce(place, asks, to)
            case ac.Prepare():
                self.pending.append((place, ev.ApplicationReady()))
            case ac.StartApplication(epoch):
                self.bodies[place] = judge.started(self.world, body, place, epoch, self.now_ms)
                self.pending.append((place, ev.ApplicationStarted(epoch)))
            case ac.StopApplication():
                assert body.runs is not None
                self.world.given_up = tuple(sorted({*self.world.given_up, body.runs}))
                self.bodies[place] = body._replace(runs=None, placed=False)
            case ac.RequestDone(_, True) if body.runs is not None and not body.standby:
                self.bodies[place] = body._replace(placed=True)
            case ac.Exit(code):
                if code:
                    judge.exits(self.world, body, place, self.now_ms)
                self.end(place)

    def _send(self, place: int, link: int, parts: Parts, message: Message) -> None:
        if isinstance(message, Status):
            body = self.bodies[place]
            assert body is not None
            self.bodies[place] = judge.said(self.world, body, place, message)
        for number, wire in enumerate(self.wires):
            for end in (0, 1):
                if (wire.ends[end], wire.ids[end]) == (place, link):
                    if wire.ids[1 - end]:
                        queue = (*wire.queues[1 - end], (self.now_ms, parts))
                        self.wires[number] = _with(wire, 1 - end, queue=queue)

    def _hang_up(self, number: int, end: int) -> None:
        wire = _with(self.wires[number], end, id=0, queue=())
        if wire.ids[1 - end]:
            queue = (*wire.queues[1 - end], (self.now_ms, None))
            wire = _with(wire, 1 - end, queue=queue)
        self.wires[number] = wire

    def _dial(self, place: int, link: int, other: int, former: int | None) -> None:
        there = self.bodies[other]
        if pair(place, other) in self.world.cuts:
            self.pending.append((place, ev.LinkDown(link, ev.Ended.UNREACHED)))
        elif there is None:
            self.pending.append((place, ev.LinkDown(link, ev.Ended.REFUSED)))
        elif there.life == former:
            self.pending.append((place, ev.LinkDown(link, ev.Ended.PROTOCOL)))
        else:
            used = [w.ids[e] for w in self.wires for e in (0, 1) if w.ends[e] == other]
            accepted = min([-LINKS, *used, *there.parts.links]) - 1
            here = self.bodies[place]
            assert here is not None
            wire = Wire((place, other), (link, accepted), ((), ()), (False, False))
            self.wires.append(wire)
            self.pending.append((place, ev.LinkUp(link, name(other), there.life, address(other))))
            up = ev.LinkUp(accepted, name(place), here.life, address(place))
            self.pending.append((other, up))

    def _announce(self, place: int, asks: bool, to: Address | None) -> None:
        body = self.bodies[place]
        assert body is not None
        heard = ev.BeaconHeard(Beacon(name(place), body.life, PORT, asks), address(place))
        for other, there in enumerate(self.bodies):
            reached = there is not None and pair(place, other) not in self.world.cuts
            if reached and other != place and to in (None, address(other)):
                self.pending.append((other, heard))

    def _since(self, pairs: Iterable[Pair]) -> None:
        anew = dict.fromkeys(pairs, self.now_ms)
        self.world.since_ms = tuple((p, anew.get(p, at)) for p, at in self.world.since_ms)


def _with(wire: Wire, end: int, **anew: Any) -> Wire:
    """The wire with something else at one end."""
    ids, queues, late = list(wire.ids), list(wire.queues), list(wire.late)
    ids[end] = anew.get("id", ids[end])
    queues[end] = anew.get("queue", queues[end])
    late[end] = anew.get("late", late[end]) and bool(queues[end])
    return Wire(wire.ends, (ids[0], ids[1]), tuple(queues), (late[0], late[1]))
