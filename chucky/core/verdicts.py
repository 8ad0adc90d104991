"""What may follow from a view: the verdicts, as values."""

from dataclasses import dataclass

from chucky.messages import Epoch
from chucky.names import NodeName


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave all as it is; `until_ms` is when time alone changes that."""

    why: str = ""
    until_ms: int | None = None
    vacancy: bool = False  # the owner is lost, and its timeout runs
    aside: bool = False  # for a node that could start
    passing: bool = False  # for what another has yet to say: that ends no standing aside or claim


@dataclass(frozen=True, slots=True)
class GetReady:
    """Be ready to succeed the owner of this epoch, and say so."""

    epoch: Epoch
    anew: int = 0  # the number of the owner's placement that this node started after


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask for the backing of a majority, to hold the application when it is there."""

    lacks: str


@dataclass(frozen=True, slots=True)
class Lapse:
    """Stop: the lease ran out."""


@dataclass(frozen=True, slots=True)
class Start:
    """Nobody holds the application, and this node is the one to start it."""

    lost: NodeName | None = None  # whose loss this is: a failover


@dataclass(frozen=True, slots=True)
class Run:
    """Every peer has heard that this node starts, and nobody else holds: run the application."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Do not start: somebody else holds the application, or is about to."""


@dataclass(frozen=True, slots=True)
class Succeed:
    """The owner named this node: start, as a takeover."""

    old: NodeName


@dataclass(frozen=True, slots=True)
class Resume:
    """The named successor did not take it: the old owner starts again."""


@dataclass(frozen=True, slots=True)
class Name:
    """Stop serving and name the successor, which is ready."""

    successor: NodeName
    incarnation: int
    ready_tick: int


@dataclass(frozen=True, slots=True)
class Yield:
    """Stop: a better-standing owner runs."""

    to: NodeName


@dataclass(frozen=True, slots=True)
class Advance:
    """Go on under a new epoch, above the highest heard of."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The named successor serves."""

    by: NodeName


@dataclass(frozen=True, slots=True)
class Release:
    """Stop in good order, with nobody to hand over to."""

    in_doubt: bool = False  # the named successor may yet start: a vacancy comes of it, if not


Verdict = (
    Hold
    | GetReady
    | Claim
    | Lapse
    | Start
    | Run
    | Withdraw
    | Succeed
    | Resume
    | Name
    | Yield
    | Advance
    | Succeeded
    | Release
)
