"""Everything that can happen to a node: the core's input."""

from dataclasses import dataclass
from enum import Enum

from chucky.messages import Beacon, Epoch, Message
from chucky.names import Address, NodeName
from chucky.settings import Settings


class Ended(Enum):
    """How a dial or a link ended."""

    REFUSED = "connection refused: the host is up, no node listens there"
    UNREACHED = "no answer: check the address and the network"
    COOKIE = "the cookies differ: copy the cookie of one machine to the other"
    PROTOCOL = "no other node of our protocol is there: give the link port of one"
    CLOSED = "the connection ended in the handshake"


@dataclass(frozen=True, slots=True)
class BeaconHeard:
    """A datagram came; `source` is where it was sent from, `beacon.port` where to dial."""

    beacon: Beacon
    source: Address


@dataclass(frozen=True, slots=True)
class LinkBegan:
    """Somebody connected to the link port, and claims to be this start of this node; LinkUp or
    LinkDown of this id follows."""

    link: int
    name: NodeName
    incarnation: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The handshake of this link is done: the peer has the cookie. Ids of dials are the core's own
    (above 0), those of accepted connections the endpoint's (below 0)."""

    link: int
    name: NodeName
    incarnation: int
    address: Address  # the other end of the connection


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A dial, handshake or link ended by itself; the core was not the one who closed it."""

    link: int
    why: Ended
    name: NodeName | None = None  # who it claimed to be, where the handshake came so far
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message came over a link. Ask and Answer are the data plane's and do not come here."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class ApplicationReady:
    """What Prepare asked for is done: the application could start now."""


@dataclass(frozen=True, slots=True)
class ApplicationStarted:
    """The application answers under this epoch."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ApplicationFailed:
    """It could not get ready, could not start, or stopped by itself; `why` is one sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """This machine's global addresses; `came_up` when an interface was added."""

    addresses: tuple[Address, ...]
    came_up: bool = False


@dataclass(frozen=True, slots=True)
class PeersConfigured:
    """The addresses of [discovery] peers; each is dialled until a link with its node is up."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """An administrator wants a link to one of these addresses; RequestDone follows."""

    request: int
    addresses: tuple[Address, ...]
    name: NodeName | None = None


@dataclass(frozen=True, slots=True)
class TakeoverRequested:
    """An administrator wants the application to run here now; RequestDone follows."""

    request: int


@dataclass(frozen=True, slots=True)
class StandbyRequested:
    """An administrator wants this node to give the application away and not to take it (`on`), or
    lets it own again; RequestDone follows."""

    request: int
    on: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The settings were read again; only what may change at run time differs."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """Stop in good order."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing happened but time. All that had come by `due_ms`, or else by now, was stepped before,
    unless `busy`."""

    due_ms: int | None = None
    busy: bool = False

    def read_ms(self, now_ms: int) -> int | None:
        """Until when all that had come was stepped; None: in the midst of it."""
        if self.busy:
            return None
        return now_ms if self.due_ms is None else min(self.due_ms, now_ms)


Event = (
    BeaconHeard | LinkBegan | LinkUp | LinkDown | MessageReceived | ApplicationReady
    | ApplicationStarted | ApplicationFailed | AddressesChanged | PeersConfigured
    | ConnectRequested | TakeoverRequested | StandbyRequested | Reloaded | ShutdownRequested | Wake
)  # fmt: skip
