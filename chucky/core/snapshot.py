"""What a node tells of itself at one moment: for status, the fact service and systemd."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from chucky import __version__
from chucky.core.lease import majority
from chucky.core.link import Link
from chucky.core.membership import Membership
from chucky.core.ownership import Ownership
from chucky.core.standing import seniority
from chucky.core.startup import Look, Sync
from chucky.messages import Epoch, Heard, Holds
from chucky.names import Address, NodeName
from chucky.settings import Settings

REFUSED_SHOWN = 2
REFUSED_LETTERS = 60  # of a name, which may have 317


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as this one sees it."""

    name: NodeName
    tier: int | None
    state: str  # up down unknown self
    owner: bool
    address: Address | None
    last_heard_ms: int | None  # ago
    differs: tuple[str, ...] = ()  # keys of [distributed] that are not as here
    standby: bool = False  # told to give the application away, and not to take it
    placed: bool = False  # the application was placed on it, and runs there
    able: bool = False  # it could run the application, as it says
    version: str | None = None  # of its Chucky, as it says


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster as this node sees it; `sentence` is the first line of `chucky status`."""

    node: NodeName
    phase: str
    sentence: str
    owner: NodeName | None
    epoch: Epoch | None
    synced: bool
    quorate: bool  # whether enough listed nodes are up here for one of them to own
    serve_until_ms: int | None  # when set, this node serves until then, on its own clock
    relay: int | None  # the link that requests go over: the owner's, or one that hears the owner
    highest: Epoch | None  # heard of
    nodes: tuple[NodeState, ...]


class Route(NamedTuple):
    """Who answers a request: this node itself until `serve_until_ms`, or whoever is at `relay`."""

    owner: NodeName | None
    epoch: Epoch | None
    serve_until_ms: int | None
    relay: int | None
    highest: Epoch | None


def phase(own: Ownership, sync: Sync, owned: bool) -> str:
    """Return the word for what this node is at; `owned`: somebody else holds the application."""
    if own.stop_by_ms is not None:
        return "stopping"
    if own.running is not None:
        return "owner"
    if own.naming is not None:
        return "yielding"
    if not sync.synced:
        return "syncing"
    if own.starting is not None or (own.hold.vacancy and not owned):
        return "vacant"
    return "standby"


def take(
    settings: Settings,
    members: Membership,
    own: Ownership,
    sync: Sync,
    look: Look,
    differing: Mapping[NodeName, tuple[str, ...]],
    now_ms: int,
) -> Snapshot:
    """Return the snapshot at the time of the last step."""
    owner, epoch, serve_until_ms, relay, highest = route(settings, members, own, look, now_ms)
    word = _phase(own, sync, owner)
    said = sentence(settings, members, own, sync, look, now_ms)
    quorate = not lacks_majority(settings, members)
    nodes = tuple(_nodes(settings, members, own, owner, differing, now_ms))
    return Snapshot(
        own.me, word, said, owner, epoch, sync.synced, quorate,
        serve_until_ms, relay, highest, nodes,
    )  # fmt: skip


def sentence(
    settings: Settings, members: Membership, own: Ownership, sync: Sync, look: Look, now_ms: int
) -> str:
    """Return the snapshot's sentence."""
    if look.goes_on and not sync.synced:
        said = "looking for other nodes"
    else:
        owner, epoch, _ = _owner(settings, members, own)
        lacks = lacks_majority(settings, members)
        word, placed = _phase(own, sync, owner), _placed(members, own, owner)
        said = _sentence(word, settings, own, sync, owner, epoch, placed, lacks, now_ms)
    if members.refusals.names:
        said = f"the cookie here is not that of {_refused(members)}; {said}"
    return said


def _refused(members: Membership) -> str:
    """Return whom the cookie keeps out. A stranger invents as many and as long names as it likes,
    and what follows must still be seen: systemd cuts a status at 1024 bytes."""
    shown = []
    for name, (at, _) in list(members.refusals.names.items())[:REFUSED_SHOWN]:
        text = str(name)
        text = text if len(text) <= REFUSED_LETTERS else f"{text[:REFUSED_LETTERS]}..."
        shown.append(f"{text} ({at.host})" if at else text)
    more = len(members.refusals.names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _phase(own: Ownership, sync: Sync, owner: NodeName | None) -> str:
    return phase(own, sync, owner is not None and owner != own.me)


def _placed(members: Membership, own: Ownership, owner: NodeName | None) -> bool:
    """Whether the application was placed where it runs, as far as this node hears its owner."""
    if owner == own.me:
        return own.placed_tick != 0
    link = members.links.get(owner) if owner is not None else None
    return link is not None and link.status is not None and link.status.placed is not None


def lacks_majority(settings: Settings, members: Membership, in_time: bool = True) -> str:
    """Return what a majority of the listed nodes lacks here, or "" (rule 7); with `in_time` those
    that are slow count as missing."""
    if settings.distributed.quorum != "majority":
        return ""
    nodes = settings.distributed.nodes
    links = [link for name, link in members.links.items() if nodes.tier(name) is not None]
    slow = sum(link.slow for link in links) if in_time else 0
    here = len(links) - slow + (nodes.tier(members.me) is not None)
    if here >= majority(nodes.size):
        return ""
    more = f", {slow} more answer too late" if slow else ""
    return f"no majority: {here} of {nodes.size} listed nodes here{more}"


def route(
    settings: Settings, members: Membership, own: Ownership, look: Look, now_ms: int
) -> Route:
    """Return the route at the time of the last step."""
    owner, epoch, relay = _owner(settings, members, own)
    if own.starting is not None and own.asked_tick == 0:
        relay = None  # it is about to answer under an epoch that may be below this owner's
    serve_until_ms = _serve_until_ms(settings, own, look, now_ms)
    return Route(owner, epoch, serve_until_ms, relay, own.highest)


def _serve_until_ms(settings: Settings, own: Ownership, look: Look, now_ms: int) -> int | None:
    """DESIGN section 4: the lease, or with "reachable" the last step plus the tick time."""
    if own.running is None or look.goes_on:
        return None
    if own.lease is None:
        return now_ms + settings.tick_time_ms
    return own.lease.view(settings.distributed.nodes.size, now_ms).until_ms


def _owner(
    settings: Settings, members: Membership, own: Ownership
) -> tuple[NodeName | None, Epoch | None, int | None]:
    """Return the owner, its epoch, and the link to relay over: of several the best-standing."""
    if own.running is not None:
        return own.me, own.running, None

    direct = [
        (link.status.running, link.status.began, link.id)
        for link in members.links.values()
        if link.status is not None and link.status.running is not None
    ]
    found = direct or list(_heard_by_others(members, own.me))
    if not found:
        return None, None, None
    if len(found) > 1:
        d = settings.distributed
        found.sort(key=lambda f: seniority(d.nodes, d.takeover, f[1], f[0].node))
    epoch, _, link = found[0]
    return epoch.node, epoch, link


def _heard_by_others(members: Membership, me: NodeName) -> Iterator[tuple[Epoch, int, int]]:
    for link in members.links.values():
        heard: tuple[Heard, ...] = link.status.hears if link.status else ()
        for h in heard:
            if h.holds is Holds.RUNNING and h.epoch.node != me:
                yield h.epoch, h.began, link.id


def _sentence(
    word: str,
    settings: Settings,
    own: Ownership,
    sync: Sync,
    owner: NodeName | None,
    epoch: Epoch | None,
    placed: bool,
    lacks: str,
    now_ms: int,
) -> str:
    until_ms = own.hold.until_ms
    if word == "syncing":
        names = ", ".join(map(str, sync.awaited))
        on_standby = "on standby; " if own.on_standby else ""
        return f"{on_standby}waiting for {names}{_left(sync.deadline_ms, now_ms)}"
    if word == "owner" and epoch is not None:
        how = ", placed here" if placed else ""
        how += f", on standby: {own.hold.why}" if own.on_standby else ""
        return f"{own.me} is the owner, epoch {epoch.number}{how}"
    if word == "yielding" and own.naming is not None:
        return f"handing over to {own.naming.successor}"
    if word == "stopping":
        return "stopping"
    first = "on standby" if own.on_standby else "standby"
    if settings.distributed.nodes.tier(own.me) is None:
        first = "observer, not in nodes"
    if owner is not None and epoch is not None:
        state = f"{owner} is the owner, epoch {epoch.number}{', placed there' if placed else ''}"
    elif lacks:
        state = lacks  # whatever time is left: it is no wait that ends
    elif word == "vacant":
        state = f"no owner: {own.hold.why or 'starting'}{_left(until_ms, now_ms)}"
    else:
        why = own.hold.why
        state = f"no owner: {why}{_left(until_ms, now_ms)}" if why else "no owner"
    trouble = own.trouble or (lacks if owner is not None else "")
    trouble = f"; cannot run the application: {trouble}" if trouble else ""
    return f"{first}; {state}{trouble}"


def _left(until_ms: int | None, now_ms: int) -> str:
    return "" if until_ms is None else f": {max(0, -(-(until_ms - now_ms) // 1000))} s left"


def _nodes(
    settings: Settings,
    members: Membership,
    own: Ownership,
    owner: NodeName | None,
    differing: Mapping[NodeName, tuple[str, ...]],
    now_ms: int,
) -> Iterator[NodeState]:
    """Yield every node known and every listed one not seen yet, the best ranked first."""
    nodes = settings.distributed.nodes
    names = {members.me, *members.links, *members.gone}
    for name in sorted(names, key=lambda n: nodes.rank(n) or (len(nodes.tiers), n)):
        link: Link | None = members.links.get(name)
        heard_ms = link.heard_ms if link else None
        if link is None and name in members.gone:
            heard_ms = members.gone[name].heard_ms
        status = link.status if link else None
        standby, placed = status and status.on_standby, status and status.placed is not None
        version = link.hello.version if link and link.hello else None
        at = next(iter(members.contacts.addresses(name)), link.address if link else None)
        if name == members.me:  # what is known of its name is of another one, which was refused
            standby, placed, at = own.on_standby, own.placed_tick != 0, None
            version = __version__
        yield NodeState(
            name,
            nodes.tier(name),
            "self" if name == members.me else "up" if link else "down",
            name == owner,
            at,
            None if heard_ms is None else now_ms - heard_ms,
            differing.get(name, ()),
            bool(standby),
            bool(placed),
            own.able if name == members.me else bool(status and status.able and status.synced),
            version,
        )
    for tier, patterns in enumerate(nodes.tiers):
        for pattern in patterns:
            if not any(pattern.matches(n) for n in names):
                unknown = NodeName(pattern.name, pattern.host or "?")
                yield NodeState(unknown, tier, "unknown", False, None, None)
