"""A small world for the walk: real nodes, links with queues, and what the promises are judged by.

A world is made of values only, so a step of a node is made once: the same step from the same state
is looked up. Nodes are called by their place: 0 is a. Time goes in steps of GRID_MS; a timer fires
up to that late. A message takes no time, or (late) longer than a timer. A cut holds back what is
under way, as TCP does; a dial, and a beacon, arrive at once or not at all.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.messages import Beacon, Epoch, Message, Naming, Status
from chucky.names import Address, NodeName
from chucky.settings import Settings
from tests.sim import safety
from tests.sim.parts import LINKS, NOW_MS, OLD_MS, TICKS, TOP, Parts, Shape, apart, new_node, together

GRID_MS = 250
LAG_MS = 2 * GRID_MS  # a message that is late, and a timer
PORT = 4041
MAX_STEPS = 100_000  # remembered: about 5 kB each

Acts = tuple[Any, ...]
What = Any  # an event, or (link id, the parts of the message that came over it)


class Outcome(NamedTuple):
    """What a step leads to."""

    parts: Parts
    deadline_ms: int | None
    until_ms: int | None  # the node says that it serves, until then
    acts: Acts


class Body(NamedTuple):
    """A node that runs; the last six are facts, not what it believes."""

    parts: Parts
    deadline_ms: int | None
    until_ms: int | None
    runs: Epoch | None  # the application was started, and not stopped
    life: int  # its incarnation
    heard: Epoch | None  # the highest
    signs: tuple[tuple[Epoch, int], ...]  # of each owner the newest Status: when it was sent
    named: bool  # it was told that it is to succeed
    names: bool  # it says that it has named another


class Wire(NamedTuple):
    """A connection; of each pair the dialler's is the first."""

    ends: tuple[int, int]
    ids: tuple[int, int]  # 0: closed at this end
    queues: tuple[tuple[tuple[int, Parts | None], ...], ...]  # to that end: (sent at, message)
    late: tuple[bool, bool]  # what is on its way to that end waits


Pair = tuple[int, int]


@dataclass(slots=True)
class World:
    """See the module. The time is always NOW_MS; `settle` makes it so."""

    settings: Settings
    bodies: tuple[Body | None, ...]
    lives: tuple[int, ...]
    since_ms: tuple[tuple[Pair, int], ...]  # since when frames pass
    wires: tuple[Wire, ...] = ()
    cuts: tuple[Pair, ...] = ()
    given_up: tuple[Epoch, ...] = ()  # in good order
    began: tuple[tuple[Epoch, int], ...] = ()  # just now
    budget: tuple[tuple[str, int], ...] = ()

    def key(self) -> int:
        """A number that tells this world from others."""
        rest = (self.lives, self.since_ms, self.cuts, self.given_up, self.began, self.budget)
        return hash((self.bodies, self.wires, *rest))

    def copy(self) -> "World":
        """Another one, to be moved."""
        return replace(self)


class News(NamedTuple):
    """What a Status says of ownerships."""

    highest: Epoch | None
    running: Epoch | None
    naming: Naming | None


_NEWS: dict[Shape, News | None] = {}
_STEPS: dict[tuple[Parts, What, int], Outcome] = {}


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


def _news(parts: Parts) -> News | None:
    if parts.shape not in _NEWS:
        message = together(parts)
        _NEWS[parts.shape] = None
        if isinstance(message, Status):
            epochs = [message.highest, message.running, *(h.epoch for h in message.hears)]
            epochs += [s.epoch for s in message.signs]
            highest = max((e for e in epochs if e is not None), default=None)
            _NEWS[parts.shape] = News(highest, message.running, message.naming)
    return _NEWS[parts.shape]


def name(place: int) -> NodeName:
    """What the node in this place is called."""
    return NodeName(chr(97 + place), "h")


def address(place: int) -> Address:
    """Where the node in this place is dialled."""
    return Address(f"10.0.0.{place + 1}", PORT)


_PLACES = {address(p): p for p in range(3)}


def pair(one: int, other: int) -> Pair:
    """The two, in order."""
    return (one, other) if one < other else (other, one)


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
        body = Body(apart(node), NOW_MS, None, None, life, None, (), False, False)
        self.bodies[place] = body
        self._since(p for p, _ in world.since_ms if place in p)
        self.pending.append((place, ev.Wake()))

    def give(self, place: int, event: ev.Event) -> None:
        """Something happens to one node."""
        self.pending.append((place, event))

    def end(self, place: int) -> None:
        """The process is gone; its host closes its connections."""
        self.bodies[place] = None
        for number, wire in enumerate(self.wires):
            if place in wire.ends:
                self._hang_up(number, wire.ends.index(place))

    def cut(self, between: Pair) -> None:
        """No frame passes between the two."""
        self.world.cuts = tuple(sorted((*self.world.cuts, between)))

    def heal(self, between: Pair) -> None:
        """Frames pass again."""
        self.world.cuts = tuple(c for c in self.world.cuts if c != between)
        self._since([between])

    def take(self, number: int, end: int) -> tuple[int, Parts | None]:
        """Take the first from a queue."""
        wire = self.wires[number]
        first, *rest = wire.queues[end]
        self.wires[number] = _with(wire, end, queue=tuple(rest))
        return first

    def deliver(self, number: int, end: int) -> None:
        """The first in a queue arrives."""
        sent_ms, parts = self.take(number, end)
        wire = self.wires[number]
        place, link = wire.ends[end], wire.ids[end]
        if parts is None:
            self.wires[number] = _with(wire, end, id=0)
            self.pending.append((place, ev.LinkDown(link, ev.Ended.CLOSED)))
        else:
            self._hears(place, parts, sent_ms)
            self.pending.append((place, (link, parts)))

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
        self.world.wires = tuple(sorted((w for w in self.wires if w.ids != (0, 0)), key=_order))
        if self.now_ms != NOW_MS:
            _shift(self.world, self.now_ms - NOW_MS)
        _rename(self.world)
        return self.world

    def _step(self, place: int, body: Body, what: What) -> None:
        done = step(self.world.settings, body.parts, what, self.now_ms)
        self.bodies[place] = body._replace(
            parts=done.parts, deadline_ms=done.deadline_ms, until_ms=done.until_ms
        )
        for act in done.acts:
            self._act(place, act)

    def _act(self, place: int, act: Any) -> None:
        match act:
            case (link, parts, message):
                self._send(place, link, parts, message)
            case ac.Close(link):
                for number, wire in enumerate(self.wires):
                    for end in (0, 1):
                        if (wire.ends[end], wire.ids[end]) == (place, link):
                            self._hang_up(number, end)
            case ac.Dial(link, at):
                self._dial(place, link, _PLACES[at])
            case ac.Announce(asks, to):
                self._announce(place, asks, to)
            case ac.Prepare():
                self.pending.append((place, ev.ApplicationReady()))
            case ac.StartApplication(epoch):
                self._starts(place, epoch)
                self.pending.append((place, ev.ApplicationStarted(epoch)))
            case ac.StopApplication():
                self._stops(place)
            case ac.Exit():
                self.end(place)

    def _send(self, place: int, link: int, parts: Parts, message: Message) -> None:
        if isinstance(message, Status):
            self._says(place, message)
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

    def _dial(self, place: int, link: int, other: int) -> None:
        there = self.bodies[other]
        if pair(place, other) in self.world.cuts:
            self.pending.append((place, ev.LinkDown(link, ev.Ended.UNREACHED)))
        elif there is None:
            self.pending.append((place, ev.LinkDown(link, ev.Ended.REFUSED)))
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

    # The facts, and what must hold of them.

    def _since(self, pairs: Iterable[Pair]) -> None:
        anew = dict.fromkeys(pairs, self.now_ms)
        self.world.since_ms = tuple((p, anew.get(p, at)) for p, at in self.world.since_ms)

    def _hears(self, place: int, parts: Parts, sent_ms: int) -> None:
        body = self.bodies[place]
        news = _news(parts)
        if body is None or news is None:
            return
        signs = dict(body.signs)
        if news.running is not None:
            signs[news.running] = max(sent_ms, signs.get(news.running, 0))
        newest = {max(signs), max(signs, key=lambda e: signs[e])} if signs else set()
        named = body.named
        if news.naming is not None and news.naming.successor == name(place):
            named = news.naming.incarnation == body.life
        self.bodies[place] = body._replace(
            heard=max_epoch(body.heard, news.highest),
            signs=tuple(sorted((e, signs[e]) for e in newest)),
            named=named,
        )

    def _says(self, place: int, status: Status) -> None:
        body = self.bodies[place]
        assert body is not None
        if status.naming is not None and not body.names:
            nodes, to = self.world.settings.distributed.nodes, status.naming.successor
            _must(safety.s4_only_a_better_tier_takes_over(nodes, name(place), status.stopping, to))
        runs = body.runs
        if status.running is not None and status.running != runs:
            _must(safety.an_epoch_is_new(status.running, max_epoch(body.heard, runs), name(place)))
            runs = status.running  # it goes on under a new one
        self.bodies[place] = body._replace(names=status.naming is not None, runs=runs)

    def _starts(self, place: int, epoch: Epoch) -> None:
        body = self.bodies[place]
        assert body is not None
        _must(safety.an_epoch_is_new(epoch, body.heard, name(place)))
        if not body.named and not body.names:
            timeout_ms = self.world.settings.distributed.timeout_ms
            lost = self._last_sign(place)
            now_us = self.now_ms * 1000
            _must(safety.s4_no_failover_before_the_timeout(name(place), lost, timeout_ms, now_us))
        self.bodies[place] = body._replace(runs=epoch, named=False)
        young = [(e, at) for e, at in self.world.began if self.now_ms - at <= LAG_MS]
        self.world.began = tuple(sorted([*young, (epoch, self.now_ms)]))

    def _stops(self, place: int) -> None:
        body = self.bodies[place]
        assert body is not None and body.runs is not None
        self.world.given_up = tuple(sorted({*self.world.given_up, body.runs}))
        self.bodies[place] = body._replace(runs=None)

    def fails(self, place: int) -> None:
        """The application stops by itself."""
        body = self.bodies[place]
        assert body is not None
        self.bodies[place] = body._replace(runs=None)
        self.give(place, ev.ApplicationFailed("broken"))

    def _last_sign(self, place: int) -> safety.Sign | None:
        """As witness.last_sign."""
        signs: dict[Epoch, int] = {}
        just = {e for e, _ in self.world.began}
        for other, body in enumerate(self.bodies):
            near = other == place or self._heard_ms(place, other) > 500 + LAG_MS
            for epoch, at_ms in body.signs if body and near else ():
                if epoch not in just:
                    signs[epoch] = max(at_ms, signs.get(epoch, 0))
        owners = {max(signs), max(signs, key=lambda e: signs[e])} if signs else set()
        if not owners or any(e in self.world.given_up or e.node == name(place) for e in owners):
            return None
        at_ms, epoch = min((signs[e], e) for e in owners)
        return safety.Sign(epoch, 0, at_ms * 1000)

    def _heard_ms(self, one: int, other: int) -> int:
        """For how long frames have passed between the two; 0 when they do not."""
        between = pair(one, other)
        if between in self.world.cuts or not self.bodies[one] or not self.bodies[other]:
            return 0
        return self.now_ms - dict(self.world.since_ms)[between]


def max_epoch(one: Epoch | None, other: Epoch | None) -> Epoch | None:
    """The higher, of those that are there."""
    return max((e for e in (one, other) if e is not None), default=None)


def under_way(world: World, late: bool = False) -> list[tuple[int, int]]:
    """Return (wire, end) of all that could arrive now."""
    return [
        (number, end)
        for number, wire in enumerate(world.wires)
        if pair(*wire.ends) not in world.cuts
        for end in (0, 1)
        if wire.queues[end] and world.bodies[wire.ends[end]] and wire.late[end] is late
    ]


def serving(world: World) -> list[int]:
    """Who serves now."""
    return [
        place
        for place, body in enumerate(world.bodies)
        if body and body.runs and body.until_ms is not None and body.until_ms > NOW_MS
    ]


def check(world: World, calm: bool) -> None:
    """Check S2 always and S1 when nothing is under way (`calm`). Raises AssertionError."""
    who = serving(world)
    if len(who) < 2:
        return
    if world.settings.distributed.quorum == "majority":
        _must(safety.s2_at_most_one_serves([str(name(p)) for p in who]))
    if calm:
        move = Move(world)

        def heard_us(one: str, other: str) -> int | None:
            x, y = ord(one) - 97, ord(other) - 97
            times = [move._heard_ms(x, y)]
            times += [
                min(move._heard_ms(x, z), move._heard_ms(y, z))
                for z in range(len(world.bodies))
                if z not in (x, y)
            ]
            return max(times) * 1000 or None

        keys = [chr(97 + p) for p in who]
        _must(safety.s1_none_serve_that_hear_each_other(keys, heard_us, LAG_MS * 1000))


def _must(broken: str | None) -> None:
    if broken is not None:
        raise AssertionError(broken)


def _with(wire: Wire, end: int, **anew: Any) -> Wire:
    """The wire with something else at one end."""
    ids, queues, late = list(wire.ids), list(wire.queues), list(wire.late)
    ids[end] = anew.get("id", ids[end])
    queues[end] = anew.get("queue", queues[end])
    late[end] = anew.get("late", late[end]) and bool(queues[end])
    return Wire(wire.ends, (ids[0], ids[1]), tuple(queues), (late[0], late[1]))


def _order(wire: Wire) -> tuple[Any, ...]:
    return (wire.ends, wire.ids)


# Renaming: worlds that differ in these only are one.


def _shift(world: World, by_ms: int) -> None:
    """Make it NOW_MS again."""

    def back(at_ms: int | None) -> int | None:
        return None if at_ms is None else max(at_ms - by_ms, NOW_MS - OLD_MS)

    world.bodies = tuple(
        b
        and b._replace(
            parts=b.parts._replace(times=_younger(b.parts.times, by_ms)),
            deadline_ms=back(b.deadline_ms),
            until_ms=back(b.until_ms),
            signs=tuple((e, back(at)) for e, at in b.signs),
        )
        for b in world.bodies
    )
    world.since_ms = tuple((p, back(at)) for p, at in world.since_ms)
    began = [(e, back(at)) for e, at in world.began]
    world.began = tuple((e, at) for e, at in began if at is not None and NOW_MS - at <= LAG_MS)
    world.wires = tuple(
        w._replace(queues=tuple(tuple((back(at), m) for at, m in q) for q in w.queues))
        for w in world.wires
    )


def _younger(times: tuple[int, ...], by_ms: int) -> tuple[int, ...]:
    """The times, earlier; those that are old keep only their order."""
    limit_ms = NOW_MS - OLD_MS
    moved = [t - by_ms for t in times]
    old = sorted({t for t in moved if t < limit_ms})
    if not old:
        return tuple(moved)
    ranks = {t: limit_ms - len(old) + rank for rank, t in enumerate(old)}
    return tuple(ranks.get(t, t) for t in moved)


def _rename(world: World) -> None:
    """Number ticks and link ids anew: only their order counts."""
    ticks = {t for b in world.bodies if b for t in b.parts.ticks}
    ticks.update(t for w in world.wires for q in w.queues for _, m in q if m for t in m.ticks)
    names: dict[int, int] = {}
    life = rank = 0
    for tick in sorted(ticks, reverse=True):
        if tick // TICKS != life:
            life, rank = tick // TICKS, 0
        names[tick] = life * TICKS + TOP - rank
        rank += 1
    new = [_links(world, place) for place in range(len(world.bodies))]
    world.bodies = tuple(
        b and b._replace(parts=_renamed(b.parts, names, new[p])) for p, b in enumerate(world.bodies)
    )
    world.wires = tuple(
        Wire(
            w.ends,
            (new[w.ends[0]].get(w.ids[0], 0), new[w.ends[1]].get(w.ids[1], 0)),
            tuple(tuple((at, m and _renamed(m, names, {})) for at, m in q) for q in w.queues),
            w.late,
        )
        for w in world.wires
    )


def _links(world: World, place: int) -> dict[int, int]:
    body = world.bodies[place]
    ids = {w.ids[e] for w in world.wires for e in (0, 1) if w.ends[e] == place} - {0}
    ids.update(body.parts.links if body else ())
    dialled = sorted(i for i in ids if i > 0)
    accepted = sorted((i for i in ids if i < 0), reverse=True)
    names = {i: LINKS + rank for rank, i in enumerate(dialled)}
    return names | {i: -LINKS - rank for rank, i in enumerate(accepted)}


def _renamed(parts: Parts, ticks: dict[int, int], links: dict[int, int]) -> Parts:
    return parts._replace(
        ticks=tuple([ticks[t] for t in parts.ticks]), links=tuple([links[i] for i in parts.links])
    )
