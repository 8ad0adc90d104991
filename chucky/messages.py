"""What travels between nodes: values, each sent whole, each idempotent.

A field may be added at the end of a class with a default; the codec lets an older node skip it.
Ages and uptimes are milliseconds at the moment of sending. A node never sends its clock.
"""

from enum import IntEnum
from typing import NamedTuple

from chucky.names import Address, NodeName

# The limits of a message, which the codec enforces and whoever fills one keeps.
# A cluster of 64 nodes is ten times the LAN this is for: 64 members, 64 signs, 64 holders.
MAX_NODES = 64
# A machine with bridges and IPv6 privacy addresses has about ten.
MAX_ADDRESSES = 16


class Epoch(NamedTuple):
    """The number of an ownership and its node; each new ownership has a higher one."""

    number: int
    node: NodeName

    def __str__(self) -> str:
        return f"{self.number} of {self.node}"


class End(IntEnum):
    """How an ownership stands, as far as the one who tells it knows. A later one outweighs."""

    RUNNING = 0  # the last sign was a tick in which it ran
    ENDED = 1  # the link to its owner ended, or its application failed: its last tick
    NAMED = 2  # the owner stopped serving and named a successor
    RELEASED = 3  # the owner stopped in good order: no vacancy


class Sign(NamedTuple):
    """The last sign of life of an ownership, numbered by its owner's own tick (design rule 3)."""

    epoch: Epoch
    incarnation: int  # of the owner
    tick: int
    end: End
    age_ms: int
    successor: NodeName | None = None  # with NAMED
    successor_incarnation: int = 0
    dead: bool = False  # a node that had a link with the owner has proven that its process ended


class Holds(IntEnum):
    """In which way a node holds the application; each keeps others from starting."""

    RUNNING = 0
    STARTING = 1  # has decided to start, does not serve yet
    NAMING = 2  # has stopped, and waits for the successor it named


class Heard(NamedTuple):
    """A holder that the sender of a Status hears directly."""

    epoch: Epoch  # with STARTING the epoch it starts, with NAMING the one it had
    incarnation: int
    holds: Holds
    digest: bytes
    age_ms: int
    began: int = 0  # as the holder says


class Naming(NamedTuple):
    """The owner stopped serving `epoch` and names who is to serve next (design rule 5)."""

    epoch: Epoch
    successor: NodeName
    incarnation: int
    ready_tick: int  # the successor's tick that said it was ready


class Backing(NamedTuple):
    """The sender promised its vote to this claim, as of the claimant's tick (design rule 7)."""

    holder: NodeName
    incarnation: int
    claim: int
    tick: int
    digest: bytes = b""  # the holder's


class Placed(NamedTuple):
    """An administrator placed the application on the sender, which owns it."""

    tick: int  # the first of its ticks that told so: the placement's number
    age_ms: int


class Status(NamedTuple):
    """All that a node says about ownership; sent on link-up, on change and with every tick."""

    tick: int  # numbers the sender's Statuses; grows by at least one each
    echo: int  # the highest tick of the receiver that the sender has read; 0: none
    digest: bytes  # of Settings.shared
    phase: str  # for people: syncing standby vacant owner yielding stopping
    listed: bool = False  # in the sender's own priority list
    synced: bool = False
    able: bool = False  # could start the application now, and may
    stopping: bool = False
    highest: Epoch | None = None  # the highest epoch heard of
    running: Epoch | None = None
    starting: Epoch | None = None
    ready: Epoch | None = None  # has got ready to succeed the owner of this epoch
    naming: Naming | None = None
    signs: tuple[Sign, ...] = ()
    hears: tuple[Heard, ...] = ()
    claim: int = 0  # the number of the sender's claim to a lease; 0: none, and it does not serve
    backing: Backing | None = None
    wants: bool = False  # an administrator asked for a takeover to the sender
    on_standby: bool = False  # an administrator told the sender to give it away, and not to take it
    placed: Placed | None = None
    anew: int = 0  # with ready: the number of the placement that the sender started after
    # With running or starting: the number that this ownership counts from where owners meet (design
    # rule 6), that of its first epoch (docs/decisions/0027).
    began: int = 0

    @property
    def news(self) -> tuple[object, ...]:
        """All of it but the ages and the numbers of ticks, which grow while nothing changes, and
        `began`, which changes with the epoch only."""
        return (
            self[2:13], [(s[:2], s[3], s[5:]) for s in self.signs], [h[:4] for h in self.hears],
            self.claim, self.backing and self.backing[:3], self.wants, self.on_standby,
            self.placed and self.placed.tick, self.anew,
        )  # fmt: skip


class Member(NamedTuple):
    """A node that the sender has a link with, and where others can dial it."""

    name: NodeName
    addresses: tuple[Address, ...]


class Hello(NamedTuple):
    """Who the sender is, beyond its name; sent first on a link, again when it changes, and for
    members that are new."""

    version: str
    uptime_ms: int
    port: int  # where its links are dialled
    addresses: tuple[Address, ...]  # its own global ones
    shared: tuple[tuple[str, str], ...]  # Settings.told, to say which key differs
    members: tuple[Member, ...] = ()  # in the first all, then those that are new since the last


class NameTaken(NamedTuple):
    """The last message on a link: another live node has your name (design rule 10)."""

    address: Address  # the first's


class Goodbye(NamedTuple):
    """The last message on a link: the sender leaves in good order."""

    reason: str


class Ask(NamedTuple):
    """Wants so many facts; `hops` more relays may pass it on."""

    request: int
    wanted: int
    hops: int


class Answer(NamedTuple):
    """The facts of one Ask and the epoch they were chosen in; none when nobody could be asked."""

    request: int
    epoch: Epoch | None
    facts: tuple[str, ...]


Message = Status | Hello | NameTaken | Goodbye | Ask | Answer


class Beacon(NamedTuple):
    """The datagram "I am here": a hint, never trusted, never on a link."""

    name: NodeName
    incarnation: int
    port: int  # of its links
    asks: bool = False  # answer at once, to where this came from
