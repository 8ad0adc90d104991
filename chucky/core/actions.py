"""Everything a node can ask for: the core's output. Carry them out in the order given."""

from dataclasses import dataclass
from enum import IntEnum

from chucky.messages import Epoch, Message
from chucky.names import Address, NodeName


@dataclass(frozen=True, slots=True)
class Announce:
    """Send a beacon: to every group and configured peer, or (`to`) to one address."""

    asks: bool
    to: Address | None = None


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect and shake hands; LinkUp or LinkDown of this id follows. With a node of another name
    than `expected` no link comes of it: a stranger could pass the handshake on to one. Nor with the
    start of it whose incarnation is `former`: this asks whether that one is still there."""

    link: int
    address: Address
    expected: NodeName | None = None
    former: int | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """End the link or dial, without a further event; flush what was sent before."""

    link: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message over a link."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Prepare:
    """Do all that can be done before a start; ApplicationReady or ApplicationFailed follows."""


@dataclass(frozen=True, slots=True)
class StartApplication:
    """Serve under this epoch; ApplicationStarted or ApplicationFailed follows. Where it runs
    already, only the epoch changes."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class StopApplication:
    """Stop serving before the next action is carried out."""


@dataclass(frozen=True, slots=True)
class RequestDone:
    """The end of a ConnectRequested, TakeoverRequested or StandbyRequested: whether what was asked
    for is so, and a sentence for who asked."""

    request: int
    done: bool
    sentence: str


class Level(IntEnum):
    """How much a report matters (the numbers are logging's)."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Report:
    """Log a sentence, with what it is about in words that a tool can look for: `cause` is what
    happened, `peer` and `epoch` whom and which ownership it concerns."""

    level: Level
    sentence: str
    cause: str
    peer: NodeName | None = None
    epoch: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process with this code; nothing follows."""

    code: int
    sentence: str


Action = (
    Announce | Dial | Close | Send | Prepare | StartApplication | StopApplication
    | RequestDone | Report | Exit
)  # fmt: skip
