"""The facts of the walk's world, and the S-promises that are judged by them."""

from typing import NamedTuple

from chucky.messages import Epoch, Naming, Status
from tests.sim import safety
from tests.sim.parts import NOW_MS, Parts, Shape, together
from tests.sim.small import LAG_MS, Body, World, heard_ms, name, serving, under_way


class News(NamedTuple):
    """What a Status says of ownerships."""

    highest: Epoch | None
    running: Epoch | None
    naming: Naming | None


_NEWS: dict[Shape, News | None] = {}


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


def heard(body: Body, place: int, parts: Parts, sent_ms: int) -> Body:
    """Return what is true of a node once this message has arrived."""
    news = _news(parts)
    if news is None:
        return body
    signs = dict(body.signs)
    if news.running is not None:
        signs[news.running] = max(sent_ms, signs.get(news.running, 0))
    named = body.named
    if news.naming is not None and news.naming.successor == name(place):
        meant = news.naming.incarnation == body.life and news.naming.epoch != body.taken
        named = news.naming.epoch if meant else None
    return body._replace(
        heard=_max(body.heard, news.highest),
        signs=tuple(sorted((e, signs[e]) for e in _owners(signs))),
        named=named,
    )


def said(world: World, body: Body, place: int, status: Status) -> Body:
    """Return what is true of a node that says this. Raises AssertionError."""
    if status.naming is not None and not body.names:
        nodes, to = world.settings.distributed.nodes, status.naming.successor
        _must(safety.s4_only_a_better_tier_takes_over(nodes, name(place), status.stopping, to))
    runs = body.runs
    if status.running is not None and status.running != runs:
        _must(safety.an_epoch_is_new(status.running, _max(body.heard, runs), name(place)))
        runs = status.running  # it goes on under a new one
    return body._replace(names=status.naming is not None, runs=runs)


def started(world: World, body: Body, place: int, epoch: Epoch, now_ms: int) -> Body:
    """Return what is true of a node that starts the application. Raises AssertionError."""
    _must(safety.an_epoch_is_new(epoch, body.heard, name(place)))
    if body.named is None and not body.names:
        lost = _last_sign(world, body, place, now_ms)
        timeout_ms = world.settings.distributed.timeout_ms
        broken = safety.s4_no_failover_before_the_timeout(
            name(place), lost, timeout_ms, now_ms * 1000
        )
        _must(broken)
        young = [(e, at) for e, at in world.began if now_ms - at <= LAG_MS]
        world.began = tuple(sorted([*young, (epoch, now_ms)]))
    return body._replace(runs=epoch, named=None, taken=body.named or body.taken)


def _last_sign(world: World, body: Body, place: int, now_ms: int) -> safety.Sign | None:
    """As witness.last_sign."""
    signs: dict[Epoch, int] = {}
    just = {e for e, _ in world.began}
    for other, there in enumerate(world.bodies):
        if other == place:
            there = body
        elif now_ms - NOW_MS + heard_ms(world, place, other) <= 500 + LAG_MS:
            continue
        for epoch, at_ms in there.signs if there else ():
            if epoch not in just:
                signs[epoch] = max(at_ms, signs.get(epoch, 0))
    owners = _owners(signs)
    if not owners or any(e in world.given_up or e.node == name(place) for e in owners):
        return None
    at_ms, epoch = min((signs[e], e) for e in owners)
    return safety.Sign(epoch, 0, at_ms * 1000)


def _owners(signs: dict[Epoch, int]) -> set[Epoch]:
    """Who may have been "the owner": the one that lived last, or that of the highest epoch."""
    return {max(signs), max(signs, key=lambda e: signs[e])} if signs else set()


def _max(one: Epoch | None, other: Epoch | None) -> Epoch | None:
    return max((e for e in (one, other) if e is not None), default=None)


def check(world: World) -> None:
    """Check S1 and S2. Raises AssertionError."""
    who = serving(world)
    if len(who) < 2:
        return
    keys = [chr(97 + p) for p in who]
    if world.settings.distributed.quorum == "majority":
        _must(safety.s2_at_most_one_serves(keys))
    # Two that start at once, unnamed, do so until they hear of each other.
    news = under_way(world) or under_way(world, late=True)
    began = {e for e, _ in world.began if news}
    if all(b.runs in began for b in (world.bodies[p] for p in who) if b):
        return

    def heard_us(one: str, other: str) -> int | None:
        x, y = ord(one) - 97, ord(other) - 97
        times = [heard_ms(world, x, y)]
        others = [z for z in range(len(world.bodies)) if z not in (x, y)]
        times += [min(heard_ms(world, x, z), heard_ms(world, y, z)) for z in others]
        return max(times) * 1000

    _must(safety.s1_none_serve_that_hear_each_other(keys, heard_us, LAG_MS * 1000))


def _must(broken: str | None) -> None:
    if broken is not None:
        raise AssertionError(broken)
