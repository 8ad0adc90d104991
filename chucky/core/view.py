"""What a node believes at one moment: all that a verdict depends on, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chucky.core.vacancy import Record
from chucky.messages import Backing, End, Epoch, Heard, Holds, Naming, Status
from chucky.names import NodeName
from chucky.priority import PriorityList


class PeerView(NamedTuple):
    """A peer that is up: who it is and the newest thing it said since its link came up."""

    name: NodeName
    incarnation: int
    status: Status | None

    @property
    def able(self) -> bool:
        """Whether it could start the application now, as it says itself."""
        s = self.status
        return s is not None and s.listed and s.synced and s.able and not s.stopping

    def hears(self, epoch: Epoch) -> bool:
        """Whether it says that it hears this epoch itself."""
        return self.status is not None and any(h.epoch == epoch for h in self.status.hears)


class DownView(NamedTuple):
    """A peer that was up: when it was last heard, and which incarnation is proven dead.

    `asked_by_ms` is set while a dial asks whether it lives (rule 4): until then that is open.
    """

    heard_ms: int
    dead_incarnation: int | None
    asked_by_ms: int | None = None


class LeaseView(NamedTuple):
    """How this node's claim stands, with quorum = "majority"."""

    until_ms: int | None  # None: no majority backs it
    backers: int
    needed: int
    backing: Backing | None = None  # this node's own vote
    free_from_ms: int = 0  # when it can first be given


# Not frozen, although nobody changes one: that would take eight times as long to make, and one is
# made at every step.
@dataclass(slots=True)
class View:
    """All that a verdict depends on."""

    me: NodeName
    incarnation: int
    nodes: PriorityList
    digest: bytes
    timeout_ms: int | None
    tick_time_ms: int
    takeover: bool
    takeover_delay_ms: int
    now_ms: int
    free_since_ms: int  # its start, or its last `standby off`
    listening: bool  # the look goes on: hear first, then judge
    synced: bool
    able: bool
    stop_by_ms: int | None  # set while stopping: when to stop without a successor
    highest: Epoch | None  # the highest epoch heard of
    running: Epoch | None
    starting: Epoch | None
    naming: Naming | None
    naming_tick: int  # of ours, that first carried the naming
    ready_sent_ms: Mapping[int, int]  # when each of our ticks that said `ready` was sent
    records: tuple[Record, ...] = ()
    peers: tuple[PeerView, ...] = ()
    down: Mapping[NodeName, DownView] = field(default_factory=dict)
    asked_tick: int = 0  # of ours, that first told of `starting`; 0: nobody need echo it
    asked_by_ms: int = 0  # when that no longer waits for an echo
    wants: bool = False  # an administrator asked for a takeover to this node
    on_standby: bool = False  # or told it to give the application away, and not to take it
    placed_tick: int = 0  # of ours, that first told that the application is placed here; 0: not so
    binding: frozenset[NodeName] = frozenset()  # owners placed while this node was up
    lapsed: Epoch | None = None  # the last ownership here whose lease ran out
    aside_ms: int | None = None  # since when this node stands aside for one that could start
    # Who was named and did not start, and until when it is named no more.
    declined: Mapping[tuple[NodeName, int], int] = field(default_factory=dict)
    alone: bool = False  # nobody was heard or told anything before this step
    began: int = 0  # as in Status
    lease: LeaseView | None = None  # None: quorum = "reachable"
    mixed: bool = field(init=False)  # a peer is up whose digest differs, where that concerns us
    holders: tuple[Heard, ...] = field(init=False)  # as heard directly or by a peer that is up

    def __post_init__(self) -> None:
        self.mixed = _mixed(self)
        self.holders = tuple(_holders(self))

    @property
    def leased(self) -> bool:
        """Whether this node may serve as far as a majority is concerned."""
        until_ms = self.lease.until_ms if self.lease else None
        return self.lease is None or (until_ms is not None and self.now_ms < until_ms)

    @property
    def vote_due_ms(self) -> int | None:
        """When this node's own vote is free, if the others that are here are no majority."""
        if self.lease is None or self.now_ms >= self.lease.free_from_ms:
            return None
        others = sum(self.nodes.tier(p.name) is not None for p in self.peers)
        return self.lease.free_from_ms if others < self.lease.needed else None

    def peer(self, name: NodeName) -> PeerView | None:
        """Return the peer of this name that is up."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        return None


def _mixed(view: View) -> bool:
    """Whether a peer with another digest is up, of those that a priority list concerns."""
    for peer in view.peers:
        s = peer.status
        if s is not None and s.digest != view.digest:
            if s.listed or view.nodes.tier(peer.name) is not None:
                return True
    return False


def _holders(view: View) -> list[Heard]:
    """Return everyone who holds the application.

    What a peer says of itself outweighs what another one heard of it, unless that is newer: of a
    later start, of an epoch above all that the peer itself had heard of, or of one that runs by now
    and that it was starting. What is known of the end of an ownership outweighs both.
    """
    found: list[Heard] = []
    counts: dict[object, bool] = {}  # without the age: nearly always all peers hear one holder
    for peer in view.peers:
        status = peer.status
        if status is None:
            continue
        own = held(status)
        if own is not None:
            found.append(Heard(own[1], peer.incarnation, own[0], status.digest, 0, status.began))
        for heard in status.hears:
            what = heard[:4]
            if what not in counts:
                counts[what] = _counts(view, heard)
            if counts[what]:
                found.append(heard)
    return found


def _counts(view: View, heard: Heard) -> bool:
    """Whether what a peer heard of a holder is true as far as this node knows."""
    if heard.epoch.node == view.me:
        return False
    if heard.holds is Holds.RUNNING:
        for r in view.records:
            if r.epoch == heard.epoch and r.incarnation == heard.incarnation:
                if r.end >= End.NAMED:
                    return False
    itself = view.peer(heard.epoch.node)
    if itself is None or itself.status is None:
        return True
    if heard.incarnation > itself.incarnation:
        return True  # it restarted, and its end is yet under way
    if heard.incarnation < itself.incarnation:
        # As here, but this node may have met another machine of its name (10): nobody starts beside
        # one that is heard to run. Who owns, or did, goes by what it knows itself.
        owns = view.running is not None or view.naming is not None
        return heard.holds is Holds.RUNNING and not owns
    highest = itself.status.highest
    if highest is None or heard.epoch > highest:
        return True
    return heard.epoch == itself.status.starting and heard.holds is not Holds.STARTING


def held(status: Status) -> tuple[Holds, Epoch] | None:
    """Return in which way, and under which epoch, the sender of a Status holds the application."""
    if status.running is not None:
        return Holds.RUNNING, status.running
    if status.starting is not None:
        return Holds.STARTING, status.starting
    if status.naming is not None:
        return Holds.NAMING, status.naming.epoch
    return None


def rests(status: Status) -> bool:
    """Return whether the sender of a Status owns the application or hears who does, and has itself
    no part in a move of it."""
    owned = status.running is not None or any(h.holds is Holds.RUNNING for h in status.hears)
    return owned and status.starting is None and status.naming is None
