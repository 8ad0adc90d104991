"""What administrators asked of the nodes, and what must hold of that (docs/decisions/0008)."""

from dataclasses import dataclass, field
from typing import Any

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.messages import Naming
from chucky.names import NodeName
from tests.sim import safety
from tests.sim.clock import MS
from tests.sim.cluster import Cluster, Watch
from tests.sim.host import Host

# A takeover that ended is over for all within a tick time of 2 s, on paths slower by up to 3 s.
ASKED_US = 5_000 * MS
# A Status told how old a placement is, and was under way, or waited for a node that was paused.
DOUBT_US = 10_000 * MS


@dataclass
class Orders:
    """What is true of one incarnation."""

    free_us: int  # since when it may own: its start, or its last `standby off`
    asked: bool = False  # a takeover to it
    answered_us: int = 0  # when the last of those was
    on_standby: bool = False
    off_us: int | None = None  # when it was last put off standby
    placed_us: int | None = None  # when the application, which it owns, was placed on it
    left_us: int | None = None  # the same of the ownership that it stopped last
    takeovers: set[int] = field(default_factory=set)  # their requests, until answered


class Administrators(Watch):
    """Gathers it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.orders: dict[str, Orders] = {}
        self.of: dict[tuple[NodeName, int], Orders] = {}
        cluster.watch(self)

    def began(self, host: Host) -> None:
        """A restart forgets what was asked."""
        orders = Orders(self.cluster.time.now_us)
        self.orders[host.key] = self.of[host.name, host.incarnation] = orders

    def before(self, host: Host, event: Any) -> None:
        """A node is asked for something, or its application fails."""
        orders = self.orders[host.key]
        match event:
            case ev.TakeoverRequested(request):
                orders.asked = True
                orders.takeovers.add(request)
            case ev.StandbyRequested(_, on):
                if orders.on_standby and not on:
                    orders.free_us = orders.off_us = self.cluster.time.now_us
                orders.on_standby = on
            case ev.ApplicationFailed():
                orders.placed_us = None

    def acts(self, host: Host, action: ac.Action) -> None:
        """A placement ends with its ownership."""
        orders = self.orders[host.key]
        match action:
            case ac.RequestDone(request, done) if request in orders.takeovers:
                orders.answered_us = self.cluster.time.now_us
                orders.takeovers.remove(request)  # the next of this number may be another command
                if done:
                    orders.placed_us = self.cluster.time.now_us
            case ac.StopApplication():
                orders.left_us, orders.placed_us = orders.placed_us, None

    def starts(self, host: Host, resumes: bool) -> str | None:
        """Return what is broken when this node starts the application."""
        return safety.standby_does_not_start(self.orders[host.key].on_standby, resumes)

    def names(self, host: Host, stopping: bool, naming: Naming) -> str | None:
        """Return what is broken when this node, which has stopped serving, names a successor."""
        orders, nodes = self.orders[host.key], host.settings.distributed.nodes
        there = self.of.get((naming.successor, naming.incarnation))
        asked = there is not None and there.asked
        if there is not None and not there.takeovers:  # one that was paused hears of it late
            lately_us = self.cluster.time.now_us - ASKED_US
            asked = asked and max(there.answered_us, host.alive_us) > lately_us
        moved = stopping or orders.on_standby or asked
        broken = safety.s4_only_a_better_tier_takes_over(nodes, host.name, moved, naming.successor)
        if broken is None and there is not None and not moved and orders.left_us is not None:
            now_us = self.cluster.time.now_us
            return safety.a_placement_stays(host.name, orders.left_us, there.free_us, now_us)
        return broken

    def gives_away(self, name: NodeName) -> bool:
        """Whether this node is on standby, or was until just now: with timeout inf nobody waits for
        it."""
        lately_us = self.cluster.time.now_us - ASKED_US
        orders = [self.orders[h.key] for h in self.cluster.hosts.values() if h.name == name]
        return any(o.on_standby or (o.off_us is not None and o.off_us > lately_us) for o in orders)

    def kept_from(self, owner: Host, better: list[Host], doubt_us: int = DOUBT_US) -> bool:
        """Whether all of these may be bound by a placement on the owner, also one that started so
        shortly after it that nobody can say; with less than no doubt: whether they are for sure."""
        placed_us = self.orders[owner.key].placed_us
        if placed_us is None:
            return False
        return all(self.orders[h.key].free_us < placed_us + doubt_us for h in better)
