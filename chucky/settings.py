"""What can be configured, as values: one frozen tree, its defaults those of the shipped file.

The key in node.toml is the field's name without `_ms`. What each key means to an administrator
stands in etc/chucky/node.toml; here stands what the code must know.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from chucky.names import NodePattern
from chucky.priority import PriorityList

TICKS_PER_TICK_TIME = 4  # as Erlang's net_tickintensity: silence is judged on four missed ticks
# Below 10 ms a busy machine's scheduler is slower than the tick time; above 10000 it would take
# more than 40 s to see that a node is dead.
TICK_MS = range(10, 10_001)


def _shipped_list() -> PriorityList:
    a, b, c = map(NodePattern, "abc")
    return PriorityList(((a,), (b, c)))


@dataclass(frozen=True, slots=True)
class Distributed:
    """[distributed]: who owns the application, and when it moves."""

    application: str = "chucky"
    nodes: PriorityList = field(default_factory=_shipped_list)
    timeout_ms: int | None = 5000  # None: never fail over (`inf`)
    sync_nodes_mandatory: tuple[NodePattern, ...] = ()
    sync_nodes_optional: tuple[NodePattern, ...] = ()
    sync_nodes_timeout_ms: int | None = 30000  # None: wait for ever (`inf`)
    quorum: str = "reachable"
    takeover: bool = True
    takeover_delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """[node]: this node and its links."""

    host: str = ""  # "": the machine's short host name
    cookie_file: str = "/etc/chucky/cookie"
    listen: str = ""  # "": every address, IPv4 and IPv6
    port: int = 4041
    tick_ms: int = 250


@dataclass(frozen=True, slots=True)
class Discovery:
    """[discovery]: how nodes find each other."""

    group: str = "239.192.64.41"  # "": no IPv4 multicast
    group6: str = "ff02::6368:7563"  # "": no IPv6 multicast
    port: int = 4041
    interfaces: tuple[str, ...] = ()  # (): every multicast-capable one that is up
    interval_ms: int = 1000
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """[facts]: the application."""

    file: str = "/usr/share/chucky/facts.txt"
    listen: str = ""
    port: int = 4040
    standby: str = "relay"  # or "closed"
    hold_ms: int = 0  # 0: see Settings.hold_ms
    max_connections: int = 10000


@dataclass(frozen=True)
class Settings:
    """The whole of node.toml."""

    distributed: Distributed = field(default_factory=Distributed)
    node: Node = field(default_factory=Node)
    discovery: Discovery = field(default_factory=Discovery)
    facts: Facts = field(default_factory=Facts)

    @cached_property
    def tick_time_ms(self) -> int:
        """The silence after which a peer is down."""
        return TICKS_PER_TICK_TIME * self.node.tick_ms

    @property
    def hold_ms(self) -> int:
        """How long a request waits for an owner: longer than a failover takes, and that takes the
        tick time where the owner falls silent. With timeout inf as long as with its default: no
        wait is without an end."""
        timeout_ms = self.distributed.timeout_ms
        failover_ms = 5000 if timeout_ms is None else timeout_ms
        return self.facts.hold_ms or max(failover_ms + 5000, 2 * self.tick_time_ms)

    @cached_property
    def shared(self) -> tuple[tuple[str, str], ...]:
        """What must be the same on every node, as (key, value) in the file's order."""
        d = self.distributed
        return (
            ("application", d.application),
            ("nodes", str(d.nodes)),
            ("timeout", "inf" if d.timeout_ms is None else str(d.timeout_ms)),
            ("quorum", d.quorum),
            ("takeover", str(d.takeover).lower()),
            ("takeover_delay", str(d.takeover_delay_ms)),
        )

    @property
    def told(self) -> tuple[tuple[str, str], ...]:
        """What peers compare with theirs: `shared`, and the tick, on which they judge silence."""
        return (*self.shared, ("tick", str(self.node.tick_ms)))

    def patience_ms(self, told: tuple[tuple[str, str], ...]) -> int:
        """The silence after which a peer that told this is down: four ticks of the slower of the
        two, so that the links stay while the tick is being changed, one node after the other."""
        theirs = dict(told).get("tick", "")
        tick_ms = int(theirs) if theirs.isascii() and theirs.isdigit() and len(theirs) < 6 else 0
        theirs_ms = TICKS_PER_TICK_TIME * tick_ms if tick_ms in TICK_MS else 0
        return max(self.tick_time_ms, theirs_ms)

    @cached_property
    def digest(self) -> bytes:
        """Eight bytes that differ when `shared` does."""
        return hashlib.sha256(repr(self.shared).encode()).digest()[:8]
