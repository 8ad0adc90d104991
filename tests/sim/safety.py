"""The S-promises of the design (section 4), one function each, over plain facts.

Each returns a sentence when the promise is broken, else None. A fact is what the simulator knows to
be true, never what a node believes. tests/test_sim.py shows of each that it fires, and is still
where the promise makes an exception. tests/sim/witness.py gathers the facts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from chucky.messages import Epoch
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList

RATE = 0.99  # clocks run at rates within 1 % of each other
ROUND_US = 2_000  # two clocks read in whole milliseconds
HEALED_US = 500_000  # S1: "after a heal: from 500 ms on"


def s1_none_serve_that_hear_each_other(
    serving: Sequence[str], heard_us: Callable[[str, str], int | None], slack_us: int
) -> str | None:
    """S1: "No two nodes serve that hear each other, or that one third node hears both (after a
    heal: from 500 ms on). In a takeover or handover the old owner has stopped before the new one
    serves."

    `heard_us(x, y)`: for how long frames have passed both ways between x and y, both running
    unpaused, directly or both with one third node; None: they do not. `slack_us`: what the drawn
    network and timers need for a handshake and a Status. There is no grace for serving side by side
    once that time is over: then also the one that begins must find the other stopped.
    """
    for number, one in enumerate(serving):
        for other in serving[number + 1 :]:
            since_us = heard_us(one, other)
            if since_us is not None and since_us > HEALED_US + slack_us:
                return f"S1: {one} and {other} serve and hear each other for {since_us} us"
    return None


def s2_at_most_one_serves(serving: Sequence[str]) -> str | None:
    """S2: "With quorum = majority at most one node in the whole cluster serves at any instant,
    under any partition, pause or loss". The caller leaves out clusters with clocks beyond 1 %, two
    nodes of one name, or differing [distributed]."""
    return f"S2: {' and '.join(serving)} serve" if len(serving) > 1 else None


@dataclass
class Syncing:
    """The sync of one incarnation: what it waits for, whom it has seen."""

    mandatory: list[NodePattern]
    optional: list[NodePattern]
    deadline_ms: int | None  # on its own clock
    formed: bool = False  # a synced peer of the same digest was heard
    seen: set[NodeName] = field(default_factory=set)

    def missing(self, patterns: Iterable[NodePattern]) -> list[NodePattern]:
        """Return those of which no node was seen."""
        return [p for p in patterns if not any(p.matches(n) for n in self.seen)]

    def late(self, local_ms: int) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_ms is not None and local_ms >= self.deadline_ms


def s3_nothing_runs_before_the_sync(sync: Syncing, local_ms: int) -> str | None:
    """S3: "A node that found no formed cluster runs nothing before its sync is done". Done is: all
    mandatory and optional nodes were seen, be it that they left again; or, from the deadline on,
    the mandatory ones. To be called when it starts the application."""
    if sync.formed or not sync.missing((*sync.mandatory, *sync.optional)):
        return None
    if sync.late(local_ms) and not sync.missing(sync.mandatory):
        return None
    return f"S3: it starts at {local_ms}, its sync is not done: {sync}"


def s3_exits_at_the_deadline(sync: Syncing, local_ms: int, slack_ms: int) -> str | None:
    """S3: "if its mandatory nodes did not all show up it exits 75 at the deadline, not later". To
    be called while it runs; `slack_ms`: lateness of timers."""
    late = sync.late(local_ms - slack_ms)
    if late and not sync.formed and sync.missing(sync.mandatory):
        return f"S3: it still runs at {local_ms}: {sync}"
    return None


def s3_exits_for_cause(sync: Syncing, local_ms: int) -> str | None:
    """S3, the converse: it exits for a missing mandatory node only when one is, and the time is
    up."""
    if sync.late(local_ms) and sync.missing(sync.mandatory):
        return None
    return f"S3: it exits at {local_ms} for mandatory nodes that are not missing: {sync}"


@dataclass(frozen=True)
class Sign:
    """The last sign of life of an owner that any node reachable from the one that starts has heard
    of, and remembers: the highest tick of its owner, and when that was *sent*, or when the end of
    the link was first learned where that came after this very tick."""

    epoch: Epoch
    tick: int
    at_us: int


def s4_no_failover_before_the_timeout(
    me: NodeName, lost: Sign | None, timeout_ms: int | None, now_us: int
) -> str | None:
    """S4: "No failover before the timeout has passed since the owner's last sign of life to any
    reachable node (as long as one node that knew of the loss stays up and reachable)"; "a restart
    never works as a takeover".

    To be called when `me` starts the application without having been named. `lost` is None when no
    reachable node (itself included) remembers an ownership, or the one that lived last was given up
    in good order (yield, naming, goodbye): that leaves no vacancy of its own. The owner itself,
    back within the timeout, does not wait (L2). Counted from when the tick was sent, a bit earlier
    than when it was heard, and with a clock that may be 1 % fast.
    """
    if lost is None or lost.epoch.node == me:
        return None
    if timeout_ms is None:
        return f"S4: {me} starts although timeout is inf and {lost} was lost"
    if now_us - lost.at_us < timeout_ms * 1000 * RATE - ROUND_US:
        return f"S4: {me} starts {now_us - lost.at_us} us after {lost}, timeout is {timeout_ms} ms"
    return None


def s4_only_a_better_tier_takes_over(
    nodes: PriorityList, owner: NodeName, moved: bool, successor: NodeName
) -> str | None:
    """S4: "a node of an equal tier never takes over". To be called when an owner names a successor;
    one that stops or is on standby, or is `moved` by a takeover to the other, may name any listed
    node."""
    mine, other = nodes.tier(owner), nodes.tier(successor)
    if other is None or not (moved or mine is None or other < mine):
        return f"S4: {owner} of tier {mine} names {successor} of tier {other}"
    return None


def a_placement_stays(owner: NodeName, placed_us: int, free_us: int, now_us: int) -> str | None:
    """0008: "a better-tier node that was already running when the placement was made does not take
    it back". To be called when the owner gives way to a better tier that nobody asked for, with
    when it was placed, and since when the other one runs or is off standby. What a node that was
    cut off hears of it late it reckons with clocks that may be 1 % apart."""
    if free_us < placed_us - (now_us - placed_us) // 100 - ROUND_US:
        return f"0008: {owner} was placed at {placed_us}, and gives way to one free at {free_us}"
    return None


def standby_does_not_start(on_standby: bool, resumes: bool) -> str | None:
    """0008: a node on standby "never starts", but takes back what its named successor did not
    take. To be called when it starts the application."""
    return "0008: a node on standby starts" if on_standby and not resumes else None


def s4_a_restart_takes_nothing(
    back: NodeName, before: Sequence[str], after: Sequence[str]
) -> str | None:
    """S4: "a node of an equal tier never takes over; a restart never works as a takeover". `before`
    and `after` the return of a node that stands no better: who serves, and the epoch."""
    return None if before == after else f"S4: {back} is back, and {before} became {after}"


def an_exit_has_a_cause(code: int, sentence: str, asked: bool, twins: bool) -> str | None:
    """Rule 10: it is "a node refused for its name" that exits 75 for that, so there is another of
    that name; and only one that was `asked` to stop exits 0."""
    if not code and not asked:
        return f"rule 10: it exits 0, and nobody asked it to: {sentence}"
    if "is taken" in sentence and not twins:
        return f"rule 10: it exits {code}, and no other has its name: {sentence}"
    return None


def s5_strangers_change_nothing(
    before: tuple[str, Epoch | None], after: tuple[str, Epoch | None]
) -> str | None:
    """S5: "Without the cookie a host on the LAN can make no node connect, change its view, serve,
    stop". `before` and `after` a stay of such a host in a calm cluster: who serves, and the epoch.
    A reset of the owner's links "counts as a cut or a process death, never shortens timeout": an
    owner that lives keeps the application through it, so this holds with resets, too."""
    return None if before == after else f"S5: {before} before the stranger came, then {after}"


def rule8_a_difference_moves_nothing(owner: str, serving: Sequence[str]) -> str | None:
    """Rule 8: "A running owner is never stopped for a difference. While a peer with another digest
    is up, a node takes nothing over." To be called while all nodes see one."""
    return None if list(serving) == [owner] else f"rule 8: {owner} ran, and {serving} serve"


def an_epoch_is_new(epoch: Epoch, heard: Epoch | None, me: NodeName) -> str | None:
    """Section 4: "An epoch is (number, node name), higher than every one its node has heard of."
    To be called with each new ownership."""
    if epoch.node != me or (heard is not None and epoch <= heard):
        return f"epochs: {me} begins {epoch}, and has heard of {heard}"
    return None


def an_epoch_has_one_node(epoch: Epoch, node: str, first: str) -> str | None:
    """No two nodes ever serve under the same epoch: `first` was the first that did. Two machines
    that use one name are left out by the caller."""
    return None if node == first else f"epochs: {node} serves {epoch}, {first} did"


def nothing_goes_round(what: str, count: int, took_us: int, least_us: int) -> str | None:
    """0020: "Each wait has an end of its own", and what is tried anew is tried less and less often:
    so many starts of the application, or steps of all nodes, take so long at least."""
    return f"0020: {count} {what} within {took_us} us" if took_us < least_us else None
