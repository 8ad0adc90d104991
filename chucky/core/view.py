"""What a node believes at one moment: all that a verdict depends on, as values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chucky.core.vacancy import Record
from chucky.messages import End, Epoch, Heard, Holds, Naming, Status
from chucky.names import NodeName
from chucky.priority import PriorityList


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer that is up: who it is and the newest thing it said since its link came up."""

    name: NodeName
    incarnation: int
    status: Status | None

    @property
    def able(self) -> bool:
        """Whether it could start the application now, as it says itself."""
        s = self.status
        return s is not None and s.listed and s.synced and s.able and not s.stopping


@dataclass(frozen=True, slots=True)
class DownView:
    """A peer that was up: when it was last heard, and which incarnation is proven dead.

    `asked_by_ms` is set while a dial asks whether it lives (rule 4): until then that is open.
    """

    heard_ms: int
    dead_incarnation: int | None
    asked_by_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseView:
    """How this node's claim stands, with quorum = "majority"."""

    until_ms: int | None  # None: no majority backs it
    backers: int
    needed: int


@dataclass(frozen=True, slots=True)
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
    up_since_ms: int
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
    lease: LeaseView | None = None  # None: quorum = "reachable"
    asked_tick: int = 0  # of ours, that first told of `starting`; 0: nobody need echo it
    asked_by_ms: int = 0  # when that no longer waits for an echo
    lapsed: Epoch | None = None  # the last ownership here whose lease ran out

    @property
    def leased(self) -> bool:
        """Whether this node may serve as far as a majority is concerned."""
        until_ms = self.lease.until_ms if self.lease else None
        return self.lease is None or (until_ms is not None and self.now_ms < until_ms)

    @property
    def mixed(self) -> bool:
        """Whether a peer with another digest is up, of those that a priority list concerns."""
        return any(
            p.status is not None
            and p.status.digest != self.digest
            and (p.status.listed or self.nodes.tier(p.name) is not None)
            for p in self.peers
        )

    def peer(self, name: NodeName) -> PeerView | None:
        """Return the peer of this name that is up."""
        return next((p for p in self.peers if p.name == name), None)


def holders(view: View) -> Iterator[Heard]:
    """Yield everyone who holds the application, as heard directly or by a peer that is up.

    What a peer says of itself outweighs what another one heard of it, unless that is of an epoch
    above all that the peer itself had heard of: then it is newer. What is known of the end of an
    ownership outweighs both.
    """
    stopped = {(r.epoch, r.incarnation) for r in view.records if r.end >= End.NAMED}
    direct = {p.name: p for p in view.peers if p.status is not None}
    for peer in view.peers:
        if peer.status is None:
            continue
        own = held(peer.status)
        if own is not None:
            yield Heard(own[1], peer.incarnation, own[0], peer.status.digest, 0)
        for heard in peer.status.hears:
            if heard.holds is Holds.RUNNING and (heard.epoch, heard.incarnation) in stopped:
                continue
            itself = direct.get(heard.epoch.node)
            if heard.epoch.node != view.me and (itself is None or _is_news(heard, itself)):
                yield heard


def _is_news(heard: Heard, of: PeerView) -> bool:
    assert of.status is not None
    highest = of.status.highest
    return heard.incarnation == of.incarnation and (highest is None or heard.epoch > highest)


def held(status: Status) -> tuple[Holds, Epoch] | None:
    """Return in which way, and under which epoch, the sender of a Status holds the application."""
    if status.running is not None:
        return Holds.RUNNING, status.running
    if status.starting is not None:
        return Holds.STARTING, status.starting
    if status.naming is not None:
        return Holds.NAMING, status.naming.epoch
    return None
