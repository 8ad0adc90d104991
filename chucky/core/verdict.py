"""Who should hold the application now: `decide(view)`, a pure function.

The view holds the newest Status of each peer that is up and what this node knows of itself; a
lost, repeated or late Status makes a view older, never wrong. The rules are DESIGN section 5's:
the numbers in the comments are theirs. The caller carries the verdict out and asks again.
"""

from collections.abc import Container, Iterator

from chucky.core.standing import (
    before_me,
    better_tier,
    claims_first,
    gets_ready_first,
    goes_first,
    outranks,
    precedence,
    turn,
)
from chucky.core.vacancy import Record
from chucky.core.verdicts import (
    Advance,
    Claim,
    GetReady,
    Hold,
    Lapse,
    Name,
    Release,
    Resume,
    Run,
    Start,
    Succeed,
    Succeeded,
    Verdict,
    Withdraw,
    Yield,
)  # fmt: skip
from chucky.core.view import PeerView, View, held
from chucky.messages import Backing, End, Epoch, Holds, Naming
from chucky.names import NodeName

ASIDE_TICK_TIMES = 4  # longer than a start takes: two of them while the peers are asked


def decide(view: View) -> Verdict:
    """Return what follows from the view. Hold means: wait for an event, or for `until_ms`."""
    if view.running is not None:
        return _as_owner(view, view.running)
    if view.naming is not None:
        return _as_yielding(view, view.naming)
    if view.starting is not None:
        return _as_starting(view)
    return _as_standby(view)


def claimants(view: View, claim: int) -> Iterator[PeerView]:
    """Yield the nodes that claim a lease, the best-standing first (7); this one is among them
    when its `claim` is not 0. One that serves already stands before one that wants to."""
    found = [
        (p.status.running is None, precedence(view, p.name, p.incarnation), p)
        for p in view.peers
        if p.status is not None and p.status.claim and view.nodes.tier(p.name) is not None
    ]
    if claim:
        mine = precedence(view, view.me, view.incarnation)
        found.append((view.running is None, mine, PeerView(view.me, view.incarnation, None)))
    yield from (p for _, _, p in sorted(found, key=lambda f: f[:2]))


def _as_owner(view: View, epoch: Epoch) -> Verdict:
    if not view.leased:
        return Lapse()
    rivals = [h for h in view.holders if h.holds is Holds.RUNNING]
    for rival in sorted(rivals, key=lambda h: h.epoch):
        if view.alone or not outranks(view, rival):
            return Yield(rival.epoch.node)
    # Another holder would go above this one in turn, and so on.
    unheard_ms = list(_may_run_unheard(view, epoch))
    if view.highest and view.highest > epoch and not (view.holders or unheard_ms or view.listening):
        if all(p.status is not None for p in view.peers):
            return Advance()
    ready = [p for p in view.peers if p.status and p.status.ready == epoch and _candidate(view, p)]
    # Who declined would do so again; a stop has an end of its own.
    rest = {w: t for w, t in view.declined.items() if t > view.now_ms}
    if view.stop_by_ms is not None:
        rest = {}
        if view.now_ms >= view.stop_by_ms or not any(_candidate(view, p) for p in view.peers):
            return Release()
    elif not view.on_standby:
        ready = [p for p in ready if _may_take_over(view, p)]
    ready = [p for p in ready if (p.name, p.incarnation) not in rest]
    if ready:
        best = min(ready, key=lambda p: turn(view, p))
        assert best.status is not None
        return Name(best.name, best.incarnation, best.status.tick)
    why = _lacks_successor(view, rest) if view.on_standby else ""
    ends_ms = view.lease.until_ms if view.lease else None
    waits = (view.stop_by_ms, ends_ms, max(unheard_ms, default=None), *rest.values())
    return Hold(why, min([t for t in waits if t is not None], default=None))


def _may_take_over(view: View, peer: PeerView) -> bool:
    """5: whether this owner, which could stay, gives way to that node, which is ready."""
    s = peer.status
    if s is None or view.mixed:
        return False  # 8
    free = view.placed_tick in (0, s.anew)  # it started after the application was placed here
    return s.wants or (view.takeover and free and better_tier(view, peer.name, view.me))


def _lacks_successor(view: View, rest: Container[tuple[NodeName, int]]) -> str:
    """Say why an owner on standby goes on serving; `rest`: who declined just now."""
    found = []
    for peer in view.peers:
        if view.nodes.tier(peer.name) is not None:
            s = peer.status
            declined = (peer.name, peer.incarnation) in rest
            why = "declined" if declined else "gets ready" if peer.able else "cannot run it now"
            if s is None or not s.synced:
                why = "is not synced"
            elif s.on_standby:
                why = "is on standby, too"
            elif s.stopping:
                why = "is stopping"
            found.append(f"{peer.name} {why}")
    return "; ".join(found) or "no other listed node is up"


def _may_run_unheard(view: View, epoch: Epoch) -> Iterator[int]:
    """Yield until when an owner of a higher epoch may run that this one does not hear: beyond the
    peers of its peers, heard of by its signs only, or one whose link ended and is made anew."""
    for r in view.records:
        until_ms = r.heard_ms + view.tick_time_ms
        if r.epoch > epoch and r.end is End.RUNNING and view.now_ms < until_ms:
            if r.epoch.node != view.me:
                yield until_ms
    down = view.down.get(view.highest.node) if view.highest else None
    if down and down.asked_by_ms is not None and view.now_ms < down.asked_by_ms:
        yield down.asked_by_ms


def _as_yielding(view: View, naming: Naming) -> Verdict:
    for other in view.holders:
        if other.holds is not Holds.STARTING and other.epoch > naming.epoch:  # naming: it has run
            return Succeeded(other.epoch.node)
    if view.stop_by_ms is not None and view.now_ms >= view.stop_by_ms:
        return Release(in_doubt=True)
    gone, until_ms = _successor_gone(view, naming)
    # Nobody that is up, asked after the naming, may hear a holder. Who slept has asked nobody yet.
    tick = view.naming_tick
    asked = not view.listening and all(p.status and p.status.echo >= tick for p in view.peers)
    if gone and asked and any(h.holds is Holds.RUNNING for h in view.holders):
        return Release()  # an owner of a lower epoch, met after a partition: 6 is its matter now
    if gone and asked and not view.holders:
        # What would do to go on here will do for any other to start at once.
        resumes = view.able and view.stop_by_ms is None
        return _backed(view, Resume()) if resumes else Release()
    # Its silence may be proven already, while a peer has not yet been asked: that is an event.
    waits = [t for t in (until_ms, view.stop_by_ms) if t is not None and t > view.now_ms]
    return Hold(f"waiting for {naming.successor} to start", min(waits, default=None))


def _successor_gone(view: View, naming: Naming) -> tuple[bool, int | None]:
    """5: whether the named node cannot or will not start; else when its silence proves it."""
    peer = view.peer(naming.successor)
    if peer is not None:
        s = peer.status
        # The caller sees to it that the naming was heard before this was said.
        declined = s is not None and held(s) is None and not s.claim
        return peer.incarnation != naming.incarnation or declined, None
    down = view.down.get(naming.successor)
    if down is None or down.dead_incarnation == naming.incarnation:
        return True, None
    silent_ms = down.heard_ms + view.tick_time_ms
    return view.now_ms >= silent_ms, silent_ms


def _as_starting(view: View) -> Verdict:
    """S1: of two that start beside one peer the later one is told of the other, at the latest with
    the echo that it waits for. Of those that hear of each other one goes on."""
    if view.asked_tick == 0:
        return Hold("starting")
    rivals = view.holders
    late = view.now_ms >= view.asked_by_ms
    lost = any(h.holds is not Holds.STARTING or not goes_first(view, h) for h in rivals)
    leaves = view.on_standby or view.stop_by_ms is not None
    # S4: a peer, as it is asked, may tell that the owner lived longer than this node knew.
    if lost or (late and rivals) or view.listening or leaves or _loss(view)[0] is not None:
        return Withdraw()
    asked = all(p.status and p.status.echo >= view.asked_tick for p in view.peers)
    dialled = _dialled(view)
    if not rivals and ((asked and dialled is None) or late):
        return Run()
    return Hold("starting", min(view.asked_by_ms, dialled[0] if dialled else view.asked_by_ms))


def _as_standby(view: View) -> Verdict:
    if view.nodes.tier(view.me) is None or view.stop_by_ms is not None or view.on_standby:
        return Hold()
    if not view.synced or view.listening:
        return Hold()
    owned = any(h.holds is Holds.RUNNING for h in view.holders)
    for peer in view.peers:
        if not owned and peer.status is not None and _names_me(view, peer.status.naming):
            return _backed(view, Succeed(peer.name))
    for peer in view.peers:
        if peer.status is None:
            return Hold(f"waiting to hear what {peer.name} knows", passing=True)
    if view.holders:
        return _beside_owner(view)
    return _vacant(view) if view.able else Hold()


def _names_me(view: View, naming: Naming | None) -> bool:
    """5: whether this naming holds for this node: it is meant, able, and its `ready` is young."""
    if naming is None or (naming.successor, naming.incarnation) != (view.me, view.incarnation):
        return False
    sent_ms = view.ready_sent_ms.get(naming.ready_tick)
    return view.able and sent_ms is not None and view.now_ms - sent_ms < view.tick_time_ms // 2


def _beside_owner(view: View) -> Verdict:
    """An owner is heard: get ready to succeed it where that is due and nobody is more fit."""
    owners = [p for p in view.peers if p.status is not None and p.status.running is not None]
    if len(owners) != 1 or not view.able:
        return Hold()
    owner, s = owners[0], owners[0].status
    assert s is not None and s.running is not None
    # Named beside any other holder, whom that owner may not hear, this node would decline.
    if any((h.holds, h.epoch) != (Holds.RUNNING, s.running) for h in view.holders):
        return Hold()
    leaves = s.stopping or s.on_standby
    for peer in view.peers:
        # Only who hears the owner can be named; it may itself hear of a former start of its own.
        hears = peer is not owner and peer.hears(s.running)
        if hears and _candidate(view, peer) and gets_ready_first(view, peer):
            # One that does not get ready may be bound by the placement; this node is not.
            acts = peer.status and (peer.status.wants or peer.status.ready == s.running)
            if leaves:
                if aside := _aside(view, f"standing aside for {peer.name}"):
                    return aside  # it may take long to get ready, or decline
            elif s.placed is None or acts:
                return Hold(f"standing aside for {peer.name}")
    if not leaves and view.mixed:
        return Hold()
    if not leaves and not view.wants:
        if not view.takeover or not better_tier(view, view.me, owner.name):
            return Hold()
        if owner.name in view.binding:
            return Hold(f"{owner.name} is placed")
        due_ms = view.free_since_ms + view.takeover_delay_ms
        if view.now_ms < due_ms:
            return Hold("waiting for takeover_delay", due_ms)
    if view.vote_due_ms is not None:  # named before that it could not serve
        return Hold(f"waiting for the vote of {view.me}", view.vote_due_ms)
    free = s.placed if owner.name not in view.binding else None
    return GetReady(s.running, free.tick if free else 0)


def _dialled(view: View) -> tuple[int, NodeName] | None:
    """4: a listed node whose link ended, and until when a dial asks whether it lives."""
    for name, down in view.down.items():
        if down.asked_by_ms is not None and view.now_ms < down.asked_by_ms:
            if view.nodes.tier(name) is not None:
                return down.asked_by_ms, name
    return None


def _aside(view: View, why: str) -> Hold | None:
    """Stand aside, unless that was for long enough: what is waited for may never come."""
    since_ms = view.now_ms if view.aside_ms is None else view.aside_ms
    until_ms = since_ms + ASIDE_TICK_TIMES * view.tick_time_ms
    return Hold(why, until_ms, aside=True) if view.now_ms < until_ms else None


def _vacant(view: View) -> Verdict:
    """No owner is heard: wait out the vacancy, stand aside for a better node, or start."""
    dialled = _dialled(view)
    if dialled is not None:
        return Hold(f"asking whether {dialled[1]} lives", dialled[0], passing=True)
    wait, lost, back = _loss(view)
    if wait is not None:
        return wait
    for peer in view.peers:
        if back or not before_me(view, peer):
            continue
        if peer.able:
            # It may itself stand aside, for this node, where their orders differ (8).
            if aside := _aside(view, f"standing aside for {peer.name}"):
                return aside
            continue
        s = peer.status
        # 2: only a cold start waits for a better node's sync; in a vacancy the timeout was that.
        if lost is not None or s is None or s.synced or not s.listed or s.stopping or s.on_standby:
            continue
        why = f"waiting for {peer.name} to be synced"
        if s.digest == view.digest:
            return Hold(why)  # it is when it hears that this node, which it joins, is
        if aside := _aside(view, why):
            return aside  # it joins no cluster of another list, and its own sync may have no end
    whose = lost.epoch.node if lost is not None and lost.epoch.node != view.me else None
    return _backed(view, Start(whose))


def _loss(view: View) -> tuple[Hold | None, Record | None, bool]:
    """Return what a start has to wait for, the ownership whose loss that is, and whether it was of
    this node, which is back and waits for nobody (L2)."""
    lost = mine = None
    for record in view.records:
        settled = _is_settled(view, record)
        if settled is None:
            return Hold(f"waiting for {record.successor} to say whether it starts"), None, False
        if not settled and record.epoch.node == view.me and record.end < End.NAMED:
            mine = record
        if not settled and (lost is None or _heard_ms(view, record) >= _heard_ms(view, lost)):
            lost = record
    # Where no other ever may (timeout is inf) it is back, failed or not, whoever was lost last.
    back = mine if view.timeout_ms is None else lost
    if back is not None and back.epoch.node == view.me and back.end < End.NAMED:
        restarted = back.incarnation != view.incarnation or back.epoch == view.lapsed
        if restarted or view.timeout_ms is None:
            return None, back, True
    if lost is None:
        return None, None, False
    until_ms = _vacancy_ends(view, lost)
    if until_ms is None or view.now_ms < until_ms:
        return Hold(f"{lost.epoch.node} is lost", until_ms, vacancy=True), lost, False
    return None, lost, False


def _backed(view: View, verdict: Verdict) -> Verdict:
    """7: only with a majority's backing; two claimants do not block each other, the worse one
    withdraws as soon as a peer, or this node itself, backs the better one."""
    if view.lease is None or view.leased:
        return verdict
    own = view.lease.backing
    for peer in view.peers:
        b = peer.status.backing if peer.status and view.nodes.tier(peer.name) is not None else None
        if b is not None and b.holder != view.me and view.nodes.tier(b.holder) is not None:
            if claims_first(view, b) and _claims(view, b) is not False:
                return Hold(f"{peer.name} backs {b.holder}")
    if own is not None and _claims(view, own) and claims_first(view, own):
        return Hold(f"{view.me} backs {own.holder}")
    return Claim(f"{view.lease.backers} of the {view.lease.needed} nodes it needs back {view.me}")


def _claims(view: View, backing: Backing) -> bool | None:
    """Whether the claim that is backed goes on, as its own node says; one that has ended meanwhile
    holds nobody up. None: it is not heard."""
    holder = view.peer(backing.holder)
    if holder is None or holder.status is None:
        return None
    now = (holder.incarnation, holder.status.claim)
    return now == (backing.incarnation, backing.claim)


def _is_settled(view: View, record: Record) -> bool | None:
    """Whether no vacancy comes of this ownership; None while the named successor must tell."""
    if record.end is not End.NAMED or record.successor is None:
        return record.end is End.RELEASED
    if record.successor == view.me:
        return True  # it was for this node to start, and it did not
    peer = view.peer(record.successor)
    if peer is None:
        return False  # in doubt the vacancy counts
    if peer.incarnation != record.successor_incarnation:
        return True
    signs = peer.status.signs if peer.status is not None and not peer.status.claim else ()
    later = [s for s in signs if (s.epoch, s.end) >= (record.epoch, End.NAMED)]
    return True if later else None  # who knows of a later ownership is past that naming, too


def _heard_ms(view: View, record: Record) -> int:
    """3, 5: the last sign of life; of a naming, the later of the owner's and the successor's."""
    down = view.down.get(record.successor) if record.successor else None
    return max(record.heard_ms, down.heard_ms) if down else record.heard_ms


def _vacancy_ends(view: View, lost: Record) -> int | None:
    """When the application may start elsewhere, or None for never (timeout is inf)."""
    heard_ms = _heard_ms(view, lost)
    peer, down = view.peer(lost.epoch.node), view.down.get(lost.epoch.node)
    if view.timeout_ms is None:
        # One that is to give it away would never take it again.
        given = peer is not None and peer.status is not None and peer.status.on_standby
        return view.now_ms if given else None
    # 4: silence is judged on the tick time; a dial that was refused, to this node or to a peer that
    # had a link with it, a new incarnation, or the owner's own word that it does not run the
    # application need no such wait.
    proven = (
        lost.dead
        or lost.epoch.node == view.me
        or peer is not None
        or (down is not None and down.dead_incarnation == lost.incarnation)
    )
    return heard_ms + max(view.timeout_ms, 0 if proven else view.tick_time_ms)


def _candidate(view: View, peer: PeerView) -> bool:
    return peer.able and view.nodes.tier(peer.name) is not None
