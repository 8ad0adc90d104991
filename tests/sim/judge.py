"""The facts of the walk's world, and the S-promises that are judged by them."""

from typing import NamedTuple

from chucky.messages import Epoch, Naming, Status
from chucky.names import NodeName
from tests.sim import safety
from tests.sim.parts import NOW_MS, Parts, Shape, together
from tests.sim.small import LAG_MS, Body, Sync, World, heard_ms, name, serving


class News(NamedTuple):
    """What a Status says of ownerships."""

    highest: Epoch | None
    running: Epoch | None
    naming: Naming | None
    synced: bool


_NEWS: dict[Shape, News | None] = {}


def _news(parts: Parts) -> News | None:
    if parts.shape not in _NEWS:
        message = together(parts)
        _NEWS[parts.shape] = None
        if isinstance(message, Status):
            epochs = [message.highest, message.running, *(h.epoch for h in message.hears)]
            epochs += [s.epoch for s in message.signs]
            highest = max((e for e in epochs if e is not None), default=None)
            _NEWS[parts.shape] = News(highest, message.running, message.naming, message.synced)
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
        sync=body.sync and body.sync._replace(formed=body.sync.formed or news.synced),
        heard=_max(body.heard, news.highest),
        signs=tuple(sorted((e, signs[e]) for e in _owners(signs))),
        named=named,
    )


def said(world: World, body: Body, place: int, status: Status) -> Body:
    """Return what is true of a node that says this. Raises AssertionError."""
    if status.naming is not None and not body.names:
        nodes, to = world.settings.distributed.nodes, status.naming.successor
        asked = any(b and b.asked and name(p) == to for p, b in enumerate(world.bodies))
        moved = status.stopping or body.standby or asked
        _must(safety.s4_only_a_better_tier_takes_over(nodes, name(place), moved, to))
    for epoch in (status.starting, status.running):
        if epoch is not None:
            body = _begins(body, place, epoch)
    # It may go on under a new one.
    return body._replace(names=status.naming is not None, runs=status.running or body.runs)


def _begins(body: Body, place: int, epoch: Epoch) -> Body:
    if epoch != body.begun:
        _must(safety.an_epoch_is_new(epoch, _max(body.heard, body.begun), name(place)))
    return body._replace(begun=epoch)


def started(world: World, body: Body, place: int, epoch: Epoch, now_ms: int) -> Body:
    """Return what is true of a node that starts the application. Raises AssertionError."""
    body = _begins(body, place, epoch)
    if body.sync is not None:
        _must(safety.s3_nothing_runs_before_the_sync(_syncing(world, body.sync, place), now_ms))
    _must(safety.standby_does_not_start(body.standby, body.names))
    if body.named is None and not body.names:
        lost = _last_sign(world, body, place, now_ms)
        timeout_ms = world.settings.distributed.timeout_ms
        broken = safety.s4_no_failover_before_the_timeout(
            name(place), lost, timeout_ms, now_ms * 1000
        )
        _must(broken)
    return body._replace(runs=epoch, named=None, taken=body.named or body.taken)


def linked(body: Body, to: NodeName) -> Body:
    """Return what is true of a node that has a link with another."""
    if body.sync is None:
        return body
    return body._replace(sync=body.sync._replace(seen=tuple(sorted({*body.sync.seen, to}))))


def exits(world: World, body: Body, place: int, now_ms: int) -> None:
    """Check that a node which exits for its sync has cause to."""
    assert body.sync is not None
    _must(safety.s3_exits_for_cause(_syncing(world, body.sync, place), now_ms))


def _syncing(world: World, sync: Sync, place: int) -> safety.Syncing:
    d = world.settings.distributed
    mandatory, optional = (
        [p for p in patterns if not p.matches(name(place))]
        for patterns in (d.sync_nodes_mandatory, d.sync_nodes_optional)
    )
    return safety.Syncing(mandatory, optional, sync.deadline_ms, sync.formed, set(sync.seen))


def _last_sign(world: World, body: Body, place: int, now_ms: int) -> safety.Sign | None:
    """As witness.last_sign."""
    signs: dict[Epoch, int] = {}
    for other, there in enumerate(world.bodies):
        if other == place:
            there = body
        elif now_ms - NOW_MS + heard_ms(world, place, other) <= 500 + LAG_MS:
            continue
        for epoch, at_ms in there.signs if there else ():
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
    """Check S1, S2 and S3. Raises AssertionError."""
    for place, body in enumerate(world.bodies):
        if body is not None and body.sync is not None:
            _must(safety.s3_exits_at_the_deadline(_syncing(world, body.sync, place), NOW_MS, 0))
    who = serving(world)
    if len(who) < 2:
        return
    keys = [chr(97 + p) for p in who]
    if world.settings.distributed.quorum == "majority":
        _must(safety.s2_at_most_one_serves(keys))

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
