"""A small world for the walk, made of values: nodes taken apart, links with queues, and facts.

Nodes are called by their place: 0 is a. The time is always NOW_MS. Worlds that differ only in what
time it is, how often who spoke, or how often who dialled are renamed so that they are equal.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from chucky.messages import Epoch
from chucky.names import Address, NodeName
from chucky.settings import Settings
from tests.sim.parts import LINKS, NOW_MS, OLD_MS, TICKS, TOP, Parts

GRID_MS = 250  # time goes in such steps; a timer fires up to that late
LAG_MS = 2 * GRID_MS  # how long a message is under way at most, and a timer late
PORT = 4041

Pair = tuple[int, int]


class Sync(NamedTuple):
    """What is true of a node's sync."""

    deadline_ms: int
    formed: bool = False  # it heard a synced peer
    seen: tuple[NodeName, ...] = ()  # it had a link with these


class Body(NamedTuple):
    """A node that runs; all from `begun` on are facts, not what it believes."""

    parts: Parts
    deadline_ms: int | None
    until_ms: int | None
    begun: Epoch | None  # the last that it said it starts, or that it started
    runs: Epoch | None  # the application was started, and not stopped
    life: int  # its incarnation
    heard: Epoch | None  # the highest
    signs: tuple[tuple[Epoch, int], ...]  # of each owner the newest Status: when it was sent
    named: Epoch | None  # it was told to succeed this
    taken: Epoch | None  # and did so
    names: bool  # it says that it has named another
    sync: Sync | None  # None: the case has no sync lists
    asked: bool = False  # for a takeover
    placed: bool = False  # what runs here was placed here
    standby: bool = False


class Wire(NamedTuple):
    """A connection; of each pair the dialler's is the first."""

    ends: tuple[int, int]
    ids: tuple[int, int]  # 0: closed at this end
    queues: tuple[tuple[tuple[int, Parts | None], ...], ...]  # to that end: (sent at, message)
    late: tuple[bool, bool]  # what is on its way to that end waits


@dataclass(slots=True)
class World:
    """See the module. The time is always NOW_MS; `renamed` makes it so."""

    settings: Settings
    bodies: tuple[Body | None, ...]
    lives: tuple[int, ...]
    since_ms: tuple[tuple[Pair, int], ...]  # since when frames pass
    wires: tuple[Wire, ...] = ()
    cuts: tuple[Pair, ...] = ()
    given_up: tuple[Epoch, ...] = ()  # in good order
    budget: tuple[tuple[str, int], ...] = ()

    def key(self) -> int:
        """A number that tells this world from others."""
        rest = (self.lives, self.since_ms, self.cuts, self.given_up, self.budget)
        return hash((self.bodies, self.wires, *rest))

    def copy(self) -> "World":
        """Another one, to be moved."""
        return replace(self)


def name(place: int) -> NodeName:
    """What the node in this place is called."""
    return NodeName(chr(97 + place), "h")


def address(place: int) -> Address:
    """Where the node in this place is dialled."""
    return Address(f"10.0.0.{place + 1}", PORT)


PLACES = {address(p): p for p in range(3)}


def pair(one: int, other: int) -> Pair:
    """The two, in order."""
    return (one, other) if one < other else (other, one)


def under_way(world: World, late: bool = False) -> list[tuple[int, int]]:
    """Return (wire, end) of all that could arrive now."""
    return [
        (number, end)
        for number, wire in enumerate(world.wires)
        if pair(*wire.ends) not in world.cuts
        for end in (0, 1)
        if wire.queues[end] and world.bodies[wire.ends[end]] and wire.late[end] is late
    ]


def heard_ms(world: World, one: int, other: int) -> int:
    """For how long frames have passed between the two; 0 when they do not."""
    between = pair(one, other)
    if between in world.cuts or not world.bodies[one] or not world.bodies[other]:
        return 0
    return NOW_MS - dict(world.since_ms)[between]


def serving(world: World) -> list[int]:
    """Who serves now."""
    return [
        place
        for place, body in enumerate(world.bodies)
        if body and body.runs and body.until_ms is not None and body.until_ms > NOW_MS
    ]


def order(wire: Wire) -> tuple[Any, ...]:
    """Sort by this."""
    return (wire.ends, wire.ids)


# Renaming: worlds that differ in these only are one.


def shift(world: World, by_ms: int) -> None:
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
            sync=b.sync and b.sync._replace(deadline_ms=back(b.sync.deadline_ms)),
        )
        for b in world.bodies
    )
    world.since_ms = tuple((p, back(at)) for p, at in world.since_ms)
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


def rename(world: World) -> None:
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
