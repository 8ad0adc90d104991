"""Whether the keys of node.toml, each good by itself, go together.

A problem comes with the keys it compares, the one to change first, and says what was got and what
is wanted. What is allowed but dangerous is a warning, and names its key itself.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from chucky.names import NodePattern
from chucky.settings import TICKS_PER_TICK_TIME, Settings

Problem = tuple[tuple[str, ...], str]

# DESIGN 3.1: a lease that is shorter would run out between two ticks of a peer that is up.
LEAST_TICK_TIMES = 2
MORE_PORTS = 9  # a second node on a host takes the next port, up to this many above the first
# A look around is 200 ms, an interface that comes up prolongs it, a beacon is lost now and then.
MEETING_MS = 1000


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield what makes these settings no good."""
    d = settings.distributed
    synced = (*d.sync_nodes_mandatory, *d.sync_nodes_optional)
    for complaint in repeated(synced, "each node in one of the two sync lists"):
        yield ("distributed.sync_nodes_optional", "distributed.sync_nodes_mandatory"), complaint
    if d.quorum == "majority":
        yield from _majority_problems(settings)
    if settings.facts.port == settings.node.port and _listens_meet(settings):
        wish = "want another port than node.port, where the links are"
        yield ("facts.port", "node.port"), f"got {settings.facts.port}, {wish}"


def _listens_meet(settings: Settings) -> bool:
    """Whether facts and links are on one address, at least among others."""
    facts, links = settings.facts.listen, settings.node.listen
    return takes(facts, links) or takes(links, facts)


def takes(listen: str, host: str) -> bool:
    """Whether what listens on the address `listen`, or on "", takes connections to `host`."""
    return listen in ("", host) or (listen == "0.0.0.0" and ":" not in host)


def _majority_problems(settings: Settings) -> Iterator[Problem]:
    """A majority is of a known number of machines, and its lease must outlive a few lost ticks."""
    d, nodes = settings.distributed, ("distributed.nodes",)
    for pattern in chain(*d.nodes.tiers):
        if not pattern.host:
            # It stands for the node of this name on each host, and all of them would have a vote.
            yield nodes, f'got "{pattern}", want its host, as "{pattern}@manticore", for majority'
    if d.nodes.size == 1:
        yield nodes, "got 1 entry, want at least 3 for majority: one alone protects nothing"
    timing = ("distributed.timeout", "node.tick")
    least_ms = LEAST_TICK_TIMES * settings.tick_time_ms
    wish = f"{least_ms} for majority ({LEAST_TICK_TIMES * TICKS_PER_TICK_TIME} x node.tick)"
    if d.timeout_ms is None:
        yield timing, f"got inf, want a time of at least {wish}"
    elif d.timeout_ms < least_ms:
        yield timing, f"got {d.timeout_ms}, want at least {wish}"


def warnings(settings: Settings) -> Iterator[str]:
    """Yield a line for each dangerous combination."""
    timeout_ms, hold_ms = settings.distributed.timeout_ms, settings.facts.hold_ms
    sync_ms = settings.distributed.sync_nodes_timeout_ms
    if settings.distributed.sync_nodes_mandatory and sync_ms is not None and sync_ms < MEETING_MS:
        yield (
            f"distributed.sync_nodes_timeout: {sync_ms} is too short for nodes to meet in, and one"
            f" that misses a mandatory node exits; {MEETING_MS} or more"
        )
    if settings.distributed.quorum == "majority":
        yield from _majority_warnings(settings.distributed.nodes.size)
    first, port = settings.node.port, settings.facts.port
    if first < port <= first + MORE_PORTS and _listens_meet(settings):
        yield (
            f"facts.port: {port} is one of {first} to {first + MORE_PORTS}, and a second node on"
            " this host may take it for its links; choose another"
        )
    if timeout_ms is None:
        return
    if 0 < hold_ms < timeout_ms:
        yield (
            f"facts.hold: {hold_ms} is below distributed.timeout, {timeout_ms}: requests are given"
            " up before a failover can answer them; 0 waits long enough"
        )
    elif 0 < hold_ms < settings.tick_time_ms:
        yield (
            f"facts.hold: {hold_ms} is below the tick time, {settings.tick_time_ms} (4 x"
            " node.tick): requests are given up before a silent owner is down; 0 waits long enough"
        )
    if timeout_ms == 0 and settings.distributed.quorum == "reachable":
        yield (
            'distributed.timeout: 0 with quorum "reachable": each short cut of the network makes'
            " two owners; 1000 or more rides it out"
        )
    if timeout_ms < settings.tick_time_ms:
        yield (
            f"distributed.timeout: {timeout_ms} is below the tick time, {settings.tick_time_ms}"
            " (4 x node.tick): from a node cut off or frozen the application moves after that"
        )


def _majority_warnings(size: int) -> Iterator[str]:
    entries = f'distributed.nodes: {size} entries with quorum "majority"'
    if size == 2:
        yield f"{entries}: when one is away, the other does not serve; a third entry mends that"
    elif size % 2 == 0:
        spare = size // 2 - 1
        yield f"{entries}: {spare} of them may be away, as with {size - 1}; use one more or less"


def repeated(patterns: Iterable[NodePattern], want: str = "each node once") -> Iterator[str]:
    """Yield a complaint for each entry that can stand for the node of an earlier one: `a` twice,
    and `a` beside `a@h`."""
    seen: dict[str, dict[str, NodePattern]] = {}
    for pattern in patterns:
        hosts = seen.setdefault(pattern.name, {})
        same = {"", pattern.host} & hosts.keys() if pattern.host else hosts.keys()
        if same:
            yield f'got "{pattern}" beside "{hosts[min(same)]}", want {want}'
        hosts[pattern.host] = pattern
