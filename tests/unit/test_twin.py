"""decide(view) against its naive twin, written from the rules of DESIGN section 5: they must agree.

The twin says which verdicts the rules allow. It is slow and obvious: it looks at every node, and
when time alone changes a verdict it finds out by asking again for each later ms.
"""

import dataclasses
from typing import Any, get_args

from hypothesis import given, settings

from chucky.core.vacancy import Record
from chucky.core.verdict import decide
from chucky.core.verdicts import Hold, Verdict
from chucky.core.view import PeerView, View
from chucky.messages import End, Epoch, Holds, Naming, Status
from chucky.names import NodeName
from tests.unit.strategies_core import (
    LISTS,
    NODES,
    NOW_MS,
    OTHER,
    QUIET,
    QUIET_VIEW,
    views,
    with_neighbours,
)

EXAMPLES = 2000
Essence = tuple[Any, ...]  # the verdict's name, then the fields that matter
HOLD: set[Essence] = {("Hold", False)}


def essence(verdict: Verdict) -> Essence:
    """Return what of a verdict the twin judges: not its words, nor when to ask again."""
    told = {"why", "until_ms", "aside", "passing", "lacks"}
    fields = [f.name for f in dataclasses.fields(verdict) if f.name not in told]
    return (type(verdict).__name__, *(getattr(verdict, name) for name in fields))


# -- the words of section 2


def listed(v: View, node: NodeName) -> bool:
    return any(pattern.matches(node) for tier in v.nodes.tiers for pattern in tier)


def tier(v: View, node: NodeName) -> int:
    """0 is the best; an unlisted node stands behind all."""
    for number, patterns in enumerate(v.nodes.tiers):
        for pattern in patterns:
            if pattern.matches(node):
                return number
    return len(v.nodes.tiers)


def up(v: View) -> dict[NodeName, PeerView]:
    return {p.name: p for p in v.peers}


def said(v: View) -> dict[NodeName, Status]:
    return {p.name: p.status for p in v.peers if p.status is not None}


def lists_differ(v: View) -> bool:
    """8: a peer with another digest is up, and it is in its own list or in this node's."""
    return any(s.digest != v.digest and (s.listed or listed(v, n)) for n, s in said(v).items())


def able_peers(v: View) -> set[NodeName]:
    """Who is in both lists, synced and able, and does not leave."""
    return {
        n
        for n, s in said(v).items()
        if listed(v, n) and s.listed and s.synced and s.able and not s.stopping
    }


def order(v: View, node: NodeName) -> tuple[int, NodeName]:
    """Rank; while lists differ (8): up longer, then name. An incarnation begins with its start."""
    if lists_differ(v):
        return (v.incarnation if node == v.me else up(v)[node].incarnation, node)
    return (tier(v, node), node)


def alike(v: View, node: NodeName) -> bool:
    """Whether it goes before this node, in an order in which both answer alike."""
    digest = said(v)[node].digest
    if digest != v.digest:
        return digest < v.digest
    return (tier(v, node), node) < (tier(v, v.me), v.me)


@dataclasses.dataclass(frozen=True)
class Holder:
    how: Holds
    epoch: Epoch
    digest: bytes
    direct: bool
    began: int  # what this ownership counts from where owners meet


def holders(v: View) -> set[Holder]:
    """Who holds the application, as it says itself, or as an up peer that hears it says."""
    found = set()
    for s in said(v).values():
        if s.running:
            found.add(Holder(Holds.RUNNING, s.running, s.digest, True, s.began))
        if s.starting:
            found.add(Holder(Holds.STARTING, s.starting, s.digest, True, s.began))
        if s.naming:
            found.add(Holder(Holds.NAMING, s.naming.epoch, s.digest, True, s.began))
        for h in s.hears:
            if h.epoch.node == v.me:
                continue
            itself = next((p for p in v.peers if p.name == h.epoch.node and p.status), None)
            if itself is not None and itself.status is not None:
                # It speaks for itself, unless it was not heard since it began that epoch or anew.
                before = itself.status.highest is None or itself.status.highest < h.epoch
                before |= itself.status.starting == h.epoch and h.holds is not Holds.STARTING
                if h.incarnation < itself.incarnation:
                    # Its former start, unless it is another machine of that name: nobody starts
                    # beside one that is heard to run; an owner goes by what it knows itself.
                    if h.holds is not Holds.RUNNING or v.running or v.naming:
                        continue
                elif h.incarnation == itself.incarnation and not before:
                    continue
            known_to_have_stopped = any(
                (r.epoch, r.incarnation) == (h.epoch, h.incarnation)
                and r.end in (End.NAMED, End.RELEASED)
                for r in v.records
            )
            if h.holds is not Holds.RUNNING or not known_to_have_stopped:
                found.add(Holder(h.holds, h.epoch, h.digest, False, h.began))
    return found


def running(v: View) -> set[Holder]:
    return {h for h in holders(v) if h.how is Holds.RUNNING}


def backed(v: View, verdict: Essence) -> set[Essence]:
    """7: under majority a verdict to start needs a majority's backing; without it, a claim, and no
    claim where a peer backs a better-ranked node."""
    if v.lease is None or (v.lease.until_ms is not None and v.now_ms < v.lease.until_ms):
        return {verdict}
    for n, s in said(v).items():
        b = s.backing
        if b is None or b.holder == v.me or not listed(v, b.holder) or not listed(v, n):
            continue
        # A claim that has ended, as who made it says itself, holds nobody up.
        holder = up(v).get(b.holder)
        if holder and holder.status:
            if holder.incarnation != b.incarnation or holder.status.claim != b.claim:
                continue
        first = (tier(v, b.holder), b.holder) < (tier(v, v.me), v.me)
        if alike(v, b.holder) if holder and holder.status else first:
            return HOLD
    own = v.lease.backing
    there = up(v).get(own.holder) if own else None
    if own and there and there.status and there.incarnation == own.incarnation:
        if there.status.claim == own.claim and alike(v, own.holder):
            return HOLD
    return {("Claim",)}


# -- the owner


def stands_better(v: View, rival: Holder) -> bool:
    """6: tier, then the number that an ownership counts from, then name; with takeover = false the
    number first; 8: where the lists differ a tier says nothing."""

    def standing(number: int, node: NodeName) -> tuple[Any, ...]:
        if rival.digest != v.digest:
            return (number, node)
        return (tier(v, node), number, node) if v.takeover else (number, tier(v, node), node)

    return standing(rival.began, rival.epoch.node) < standing(v.began, v.me)


def as_owner(v: View, mine: Epoch) -> set[Essence]:
    if v.lease is not None and (v.lease.until_ms is None or v.now_ms >= v.lease.until_ms):
        return {("Lapse",)}
    # Who was alone so far has no say where there is an owner.
    better = {h.epoch.node for h in running(v) if v.alone or stands_better(v, h)}
    if better:
        return {("Yield", node) for node in better}
    # An owner beyond the peers of its peers is heard of by its signs.
    afar = {
        r.epoch
        for r in v.records
        if r.epoch > mine and r.end is End.RUNNING and v.now_ms - r.heard_ms < v.tick_time_ms
        if r.epoch.node != v.me
    }
    asked_ms = [d.asked_by_ms for n, d in v.down.items() if v.highest and n == v.highest.node]
    asked = [t for t in asked_ms if t is not None and t > v.now_ms]
    others_hold = holders(v) or afar or asked or any(p.status is None for p in v.peers)
    if v.highest is not None and v.highest > mine and not others_hold and not v.listening:
        return {("Advance",)}
    able = able_peers(v)
    if v.stop_by_ms is not None:
        if v.now_ms >= v.stop_by_ms or not able:
            return {("Release", False)}
    elif not v.on_standby:
        if lists_differ(v):
            return HOLD
        able = {n for n in able if said(v)[n].wants or takes_over(v, n)}
    ready = [n for n in able if said(v)[n].ready == mine]
    if v.stop_by_ms is None:
        declined = {who for who, until_ms in v.declined.items() if v.now_ms < until_ms}
        ready = [n for n in ready if (n, up(v)[n].incarnation) not in declined]
    if not ready:
        return HOLD
    # 0008: whom an administrator asked for comes first.
    best = min([n for n in ready if said(v)[n].wants] or ready, key=lambda n: order(v, n))
    return {("Name", best, up(v)[best].incarnation, said(v)[best].tick)}


def takes_over(v: View, node: NodeName) -> bool:
    """5; 0008: from where it is placed, only what started after that."""
    if not v.takeover or tier(v, node) >= tier(v, v.me):
        return False
    return v.placed_tick == 0 or said(v)[node].anew == v.placed_tick


# -- the old owner that named a successor (5)


def as_yielding(v: View, naming: Naming) -> set[Essence]:
    after = {h for h in holders(v) if h.epoch > naming.epoch}
    serving = {h.epoch.node for h in after if h.how in (Holds.RUNNING, Holds.NAMING)}
    if serving:
        return {("Succeeded", node) for node in serving}
    if v.stop_by_ms is not None and v.now_ms >= v.stop_by_ms:
        return {("Release", True)}  # the named one may yet start, and if not, it is a loss
    if v.listening:
        return HOLD  # it slept
    there, down = up(v).get(naming.successor), v.down.get(naming.successor)
    if there is not None:
        restarted = there.incarnation != naming.incarnation
        s = there.status
        holds = s is not None and bool(s.running or s.starting or s.naming or s.claim)
        declines = s is not None and s.echo >= v.naming_tick and not holds
        will_not = restarted or declines
    elif down is not None:
        dead = down.dead_incarnation == naming.incarnation
        will_not = dead or v.now_ms - down.heard_ms >= v.tick_time_ms
    else:
        will_not = True  # nobody knows it any more
    all_asked = all(p.status is not None and p.status.echo >= v.naming_tick for p in v.peers)
    if not will_not or not all_asked:
        return HOLD
    if running(v):
        return {("Release", False)}  # an owner of a lower epoch, met after a partition, has it
    if holders(v):
        return HOLD
    if not v.able or v.stop_by_ms is not None:
        return {("Release", False)}  # as sure as this node would have to be to go on itself
    return backed(v, ("Resume",))


# -- the node that starts


def starts_first(v: View, rival: Holder) -> bool:
    """One order of all that start, whatever lists they have: the digests, and then 6."""
    same = rival.digest == v.digest
    return stands_better(v, rival) if same else rival.digest < v.digest


def as_starting(v: View) -> set[Essence]:
    """S1: all peers have heard that it starts, and no other holder is known; a tick time later it
    goes on without those that said nothing, and gives way to every other."""
    if v.asked_tick == 0:
        return HOLD
    over = v.now_ms >= v.asked_by_ms
    others = holders(v)
    ahead = {h for h in others if h.how is not Holds.STARTING or over or starts_first(v, h)}
    if v.listening or v.stop_by_ms is not None or v.on_standby or ahead:
        return {("Withdraw",)}
    unasked = [p for p in v.peers if p.status is None or p.status.echo < v.asked_tick]
    unasked += [n for n, d in v.down.items() if listed(v, n) and (d.asked_by_ms or 0) > v.now_ms]
    goes_on = HOLD if others or (unasked and not over) else {("Run",)}
    # S4: whose loss it is may have lived longer than it seemed before the peers were asked.
    last = last_losses(v)
    if last is None:
        return {("Withdraw",)}
    early = {not is_back(v, r) and is_early(v, r) for r in last} or {False}
    return set().union(*({("Withdraw",)} if e else goes_on for e in early))


# -- the standby


def as_standby(v: View) -> set[Essence]:
    if not listed(v, v.me) or v.stop_by_ms is not None or not v.synced or v.listening:
        return HOLD
    if v.on_standby:
        return HOLD
    # A naming is the owner's own word: it waits for nobody's first Status.
    namers = {n for n, s in said(v).items() if s.naming and is_for_me(v, s.naming)}
    if namers and not running(v):
        return set().union(*(backed(v, ("Succeed", n)) for n in namers))
    if any(p.status is None for p in v.peers):
        return HOLD
    if holders(v):
        return beside_a_holder(v)
    return vacant(v) if v.able else HOLD


def is_for_me(v: View, naming: Naming) -> bool:
    """5: it means this very incarnation, and its `ready` is less than half a tick time old."""
    if naming.successor != v.me or naming.incarnation != v.incarnation or not v.able:
        return False
    sent_ms = v.ready_sent_ms.get(naming.ready_tick)
    return sent_ms is not None and 2 * (v.now_ms - sent_ms) < v.tick_time_ms


def beside_a_holder(v: View) -> set[Essence]:
    """5: the best node that is able gets ready, to take over or to be handed over to."""
    owners = {h for h in running(v) if h.direct}
    if len(owners) != 1 or not v.able:
        return HOLD
    epoch = next(iter(owners)).epoch
    if any(h.how is not Holds.RUNNING or h.epoch != epoch for h in holders(v)):
        return HOLD  # named beside another holder it would not start
    owner = said(v)[epoch.node]
    leaves = owner.stopping or owner.on_standby
    for n in able_peers(v) - {epoch.node}:
        if not any(h.epoch == epoch for h in said(v)[n].hears):
            continue  # nothing that the owner says reaches it
        first = alike(v, n)
        if said(v)[n].wants != v.wants:  # 0008: whom an administrator asked for comes first
            first = said(v)[n].wants
        bound = owner.placed and not leaves and not said(v)[n].wants
        if first and (not bound or said(v)[n].ready == epoch) and (not leaves or stands_aside(v)):
            return HOLD
    binds = epoch.node in v.binding
    if not leaves:
        better = tier(v, v.me) < tier(v, epoch.node)
        long_enough = v.now_ms - v.free_since_ms >= v.takeover_delay_ms
        takes = v.takeover and better and long_enough and not binds
        if lists_differ(v) or not (takes or v.wants):
            return HOLD
    # 7: an owner gives its lease away only to one that can be backed. One that is able has a
    # majority around it (0019), but its own vote may be bound yet.
    if v.lease is not None and v.now_ms < v.lease.free_from_ms:
        if sum(listed(v, p.name) for p in v.peers) < v.lease.needed:
            return HOLD
    return {("GetReady", epoch, owner.placed.tick if owner.placed and not binds else 0)}


def vacant(v: View) -> set[Essence]:
    asked = {n for n, d in v.down.items() if d.asked_by_ms is not None and d.asked_by_ms > v.now_ms}
    if any(listed(v, n) for n in asked):
        return HOLD  # 4
    last = last_losses(v)
    if last is None:
        return HOLD
    if not last:
        return may_start(v, None, waits=True)
    return set().union(*(after_loss(v, r) for r in last))


def last_losses(v: View) -> list[Record] | None:
    """The loss that counts, or, heard at the same ms, each of those that may; None while a
    successor has yet to say whether there is one."""
    left = [(r, leaves_vacancy(v, r)) for r in v.records]
    if any(leaves is None for _, leaves in left):
        return None
    losses = [r for r, leaves in left if leaves]
    own = [r for r in losses if r.epoch.node == v.me and r.end in (End.RUNNING, End.ENDED)]
    if own and v.timeout_ms is None:
        return own[-1:]  # it is back, whoever was lost after it
    lost_ms = max((last_sign_ms(v, r) for r in losses), default=None)
    return [r for r in losses if last_sign_ms(v, r) == lost_ms]


def leaves_vacancy(v: View, record: Record) -> bool | None:
    """3, 5: not an ownership that was released, nor one whose successor says, after the naming,
    that it does not run; None while that one has yet to say so."""
    if record.end is End.RELEASED:
        return False
    if record.end is not End.NAMED or record.successor is None:
        return True
    if record.successor == v.me:
        return False
    successor = up(v).get(record.successor)
    if successor is None:
        return True
    if successor.incarnation != record.successor_incarnation:
        return False
    s = successor.status
    if s is None:
        return None
    told = any(g.epoch == record.epoch and g.end in (End.NAMED, End.RELEASED) for g in s.signs)
    knows = told or any(g.epoch > record.epoch for g in s.signs)
    return False if knows and not s.claim else None


def last_sign_ms(v: View, record: Record) -> int:
    """3; 5: in doubt of a naming, the later of the old owner's and the successor's."""
    signs = [record.heard_ms]
    if record.successor in v.down:
        signs.append(v.down[record.successor].heard_ms)
    return max(signs)


def is_back(v: View, lost: Record) -> bool:
    """L2: back within the timeout. An application that failed here is no such loss, but where
    nobody else ever may start (inf) this node does."""
    restarted, lapsed = lost.incarnation != v.incarnation, lost.epoch == v.lapsed
    mine = lost.epoch.node == v.me and lost.end in (End.RUNNING, End.ENDED)
    return mine and (restarted or lapsed or v.timeout_ms is None)


def is_early(v: View, lost: Record) -> bool:
    """S4: whether the timeout since the last sign of it is not over, or silence not yet proven."""
    if v.timeout_ms is None:
        there = said(v).get(lost.epoch.node)
        return there is None or not there.on_standby  # on standby it never takes it back
    owner, passed_ms = lost.epoch.node, v.now_ms - last_sign_ms(v, lost)
    down = v.down.get(owner)
    only_silent = owner != v.me and owner not in up(v)
    if lost.dead or (down is not None and down.dead_incarnation == lost.incarnation):
        only_silent = False
    return passed_ms < v.timeout_ms or (only_silent and passed_ms < v.tick_time_ms)


def after_loss(v: View, lost: Record) -> set[Essence]:
    owner = lost.epoch.node
    if is_back(v, lost):
        return backed(v, ("Start", None))
    if is_early(v, lost):
        return {("Hold", True)}
    return may_start(v, None if owner == v.me else owner, waits=False)


def stands_aside(v: View) -> bool:
    """0020: it waits for none that does not start, which may wait for this node (8), for a while
    only."""
    return v.aside_ms is None or v.now_ms - v.aside_ms < 4 * v.tick_time_ms


def may_start(v: View, lost: NodeName | None, waits: bool) -> set[Essence]:
    """2: the best able node starts; at a cold start it waits for a better one that still syncs."""
    better = any(order(v, n) < order(v, v.me) for n in able_peers(v))
    if better and stands_aside(v):
        return HOLD
    for n, s in said(v).items():
        syncs = listed(v, n) and s.listed and not s.synced and not s.stopping
        syncs = syncs and not s.on_standby
        ends = s.digest == v.digest  # what this node says, which is synced, ends its sync
        if waits and syncs and order(v, n) < order(v, v.me) and (ends or stands_aside(v)):
            return HOLD
    return backed(v, ("Start", lost))


def twin(v: View) -> set[Essence]:
    """Return the verdicts that the rules allow."""
    if v.running is not None:
        return as_owner(v, v.running)
    if v.naming is not None:
        return as_yielding(v, v.naming)
    return as_standby(v) if v.starting is None else as_starting(v)


@settings(max_examples=EXAMPLES, deadline=None)
@given(views())
def test_the_twin_agrees(view: View) -> None:
    for near in with_neighbours(view):
        assert essence(decide(near)) in twin(near), near


def test_an_owner_names_no_node_that_stands_only_in_its_own_list() -> None:
    b, a, _, d = NODES
    mine = Epoch(2, b)
    ready = QUIET._replace(digest=OTHER, ready=mine)
    stopping = {**QUIET_VIEW, "nodes": LISTS[4], "running": mine, "stop_by_ms": NOW_MS + 2}
    view = View(**stopping, peers=(PeerView(a, 5, QUIET), PeerView(d, 4, ready)))
    assert twin(view) == HOLD
    assert essence(decide(view)) in HOLD


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(views())
def test_a_hold_ends_before_time_alone_changes_the_verdict(view: View) -> None:
    for near in with_neighbours(view):
        verdict = decide(near)
        if isinstance(verdict, Hold):
            assert verdict.until_ms is None or verdict.until_ms > near.now_ms
            for now_ms in range(near.now_ms, verdict.until_ms or near.now_ms + 12):
                later = dataclasses.replace(near, now_ms=now_ms)
                assert essence(verdict) in twin(later), later


def test_the_views_lead_to_each_verdict() -> None:
    seen: set[str] = set()

    @settings(max_examples=2 * EXAMPLES, deadline=None, database=None, derandomize=True)
    @given(views())
    def look(view: View) -> None:
        seen.update(name for name, *_ in twin(view))

    look()
    assert seen == {kind.__name__ for kind in get_args(Verdict)}
