"""A link as the core sees it, and what stays of a peer whose link is gone."""

from dataclasses import dataclass
from enum import Enum

from chucky.core.view import held
from chucky.messages import Heard, Hello, Member, Status
from chucky.names import Address, NodeName


class Lost(Enum):
    """How a link ended, but for a goodbye."""

    ENDED = "ended its link"
    SILENT = "is silent"
    ANEW = "started anew"  # which another start proved


@dataclass(slots=True)
class Link:
    """An authenticated connection with one incarnation of a node."""

    id: int
    name: NodeName
    incarnation: int
    address: Address
    heard_ms: int  # the last frame
    alive_ms: int  # what silence is counted from
    patience_ms: int  # so long a silence means that it is down
    spared_ms: int | None = None  # the heard_ms of the silence that a stall of this node excused
    echo: int = 0  # the highest tick of the peer that was read
    since_tick: int = 0  # what the peer says is news once it echoes this tick of ours
    status: Status | None = None
    news: tuple[object, ...] | None = None  # that of the Status
    repeats: bool = False  # whether it was that of the Status before, too
    hello: Hello | None = None
    said: Hello | None = None  # our last, without uptime and members
    told: frozenset[Member] = frozenset()  # the members that it has been told of
    probe_tick: int = 0  # of a newcomer: goes out at once, and the first must answer it
    leaving: bool = False
    asked_tick: int = 0  # the tick of ours whose echo is timed; 0: none
    asked_ms: int = 0  # when it was sent
    late: bool = False  # whether the last echo that was timed came late
    slow: bool = False  # whether the one before did, too: no hiccup
    mute_ms: int | None = None  # since when its node, over however many links, has said no Status

    def succeed(self, old: "Link") -> None:
        """Take the place of another one with the same process: what was said on that holds."""
        self.status, self.news, self.echo = old.status, old.news, old.echo
        self.since_tick, self.mute_ms = old.since_tick, old.mute_ms

    def asks(self, tick: int, now_ms: int) -> None:
        """A Status with this tick of ours goes out on it."""
        if self.asked_tick == 0:
            self.asked_tick, self.asked_ms = tick, now_ms

    def answers(self, echo: int, limit_ms: int, now_ms: int) -> bool:
        """Its node has read this tick of ours; return whether that made it slow, or slow no more:
        there and back takes as long as the limit, or less."""
        if not 0 < self.asked_tick <= echo:
            return False
        was_slow, was_late = self.slow, self.late
        # Back in time is who is so by far: on the edge each echo would say another thing.
        self.late = now_ms - self.asked_ms >= (limit_ms * 2 // 3 if self.slow else limit_ms)
        self.slow = self.late and was_late
        self.asked_tick = 0
        return self.slow != was_slow

    def hears(self, now_ms: int) -> Heard | None:
        """Return what its node holds now, by rule 6: what was heard before this node slept, or
        waited to be read, is no news."""
        age_ms = max(0, now_ms - self.heard_ms)
        if (s := self.status) and (what := held(s)) and age_ms < self.patience_ms:
            if s.echo >= self.since_tick:
                return Heard(what[1], self.incarnation, what[0], s.digest, age_ms, s.began)
        return None

    def is_silent(self, at_ms: int) -> bool:
        """Whether it has said nothing for as long as means that it is down."""
        return self.alive_ms + self.patience_ms <= at_ms

    @property
    def dialled(self) -> bool:
        """Whether this node was the one who dialled."""
        return self.id > 0

    @property
    def dialled_at(self) -> tuple[Address, ...]:
        """Where its node can be dialled, once it has told: all of it at one time."""
        if self.hello is None:
            return ()
        here = () if self.listens is None else (self.listens,)
        return tuple(dict.fromkeys((*here, *self.hello.addresses)))

    @property
    def listens(self) -> Address | None:
        """Where its node listens on the host that this link goes to, when that is known."""
        if self.dialled:
            return self.address
        if self.hello is None or self.address.lacks_scope:
            return None
        return self.listens_at(self.hello)

    def may_tell(self, address: Address) -> bool:
        """Whether what the other end tells of this address holds here, too (rule 11)."""
        here = self.address.is_loopback or not address.is_loopback
        return here and address.is_numeric and not address.is_link_local

    def listens_at(self, hello: Hello) -> Address:
        """Where the sender of this Hello takes links, on the host that this one goes to."""
        return Address(self.address.host, hello.port)


@dataclass(slots=True)
class Gone:
    """A peer that was up and is not any more."""

    incarnation: int
    heard_ms: int
    ended_ms: int
    dead: bool = False  # it said goodbye, or its host refused a dial after its link had ended
    mute_ms: int | None = None  # that of the link
    asked_by_ms: int | None = None  # until when the dial that asks whether it lives is waited for
