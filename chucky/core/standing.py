"""Who stands before whom: of the nodes that could start, and of two owners that meet."""

from chucky.core.view import PeerView, View
from chucky.messages import Backing, Heard
from chucky.names import NodeName
from chucky.priority import PriorityList


def precedence(view: View, name: NodeName, incarnation: int) -> tuple[int, NodeName]:
    """What orders the nodes that could start, the least first."""
    # 8: while lists differ, rank means nothing to the other side, so all use one order. An
    # incarnation begins with the time of its start (docs/decisions/0001): the lower is up longer.
    tier = view.nodes.tier(name)
    return (incarnation if view.mixed or tier is None else tier, name)


def turn(view: View, peer: PeerView) -> tuple[bool, tuple[int, NodeName]]:
    """What orders the nodes that a move may be to: first whom an administrator asked for."""
    wants = peer.status is not None and peer.status.wants
    return not wants, precedence(view, peer.name, peer.incarnation)


def before_me(view: View, peer: PeerView) -> bool:
    """Whether this peer is listed and has precedence over this node."""
    mine = precedence(view, view.me, view.incarnation)
    listed = view.nodes.tier(peer.name) is not None
    return listed and precedence(view, peer.name, peer.incarnation) < mine


def better_tier(view: View, one: NodeName, other: NodeName) -> bool:
    tier, than = view.nodes.tier(one), view.nodes.tier(other)
    return tier is not None and (than is None or tier < than)


def seniority(
    nodes: PriorityList, takeover: bool, began: int, node: NodeName
) -> tuple[int, int, NodeName]:
    """6: what orders the owners of one list, the one that goes on the least."""
    tier = _tier(nodes, node)
    return (tier, began, node) if takeover else (began, tier, node)


def outranks(view: View, rival: Heard) -> bool:
    """6: whether this node, which runs or starts, stands better than the rival."""
    if rival.digest != view.digest:  # 8: only what both sides see alike is compared
        return (view.began, view.me) < (rival.began, rival.epoch.node)
    mine = seniority(view.nodes, view.takeover, view.began, view.me)
    return mine < seniority(view.nodes, view.takeover, rival.began, rival.epoch.node)


def goes_first(view: View, rival: Heard) -> bool:
    """Whether this node, which starts, goes on before the rival, which starts, too: in an order
    that leads in no circle, so that of all that start at once one goes on."""
    # `outranks` orders two: beside a third one of another list it may.
    if rival.digest != view.digest:
        return view.digest < rival.digest
    return outranks(view, rival)


def claims_first(view: View, backed: Backing) -> bool:
    """Whether the claim that is backed goes on before one of this node."""
    peer = view.peer(backed.holder)
    if peer is not None and peer.status is not None:
        return _alike(view, peer)
    # Who backs it tells its list; its age would mean nothing to who hears only one list (8).
    if backed.digest not in (b"", view.digest):
        return backed.digest < view.digest
    return _rank(view, backed.holder) < _rank(view, view.me)


def gets_ready_first(view: View, peer: PeerView) -> bool:
    """Whether this peer, which hears the same owner, is to succeed it before this node."""
    wants = peer.status is not None and peer.status.wants
    return wants if wants != view.wants else _alike(view, peer)


def _alike(view: View, peer: PeerView) -> bool:
    """Whether this peer comes before this node, in an order in which both answer alike, whoever of
    another list only one of them hears (8), and which leads in no circle."""
    if peer.status is not None and peer.status.digest != view.digest:
        return peer.status.digest < view.digest
    return _rank(view, peer.name) < _rank(view, view.me)


def _rank(view: View, name: NodeName) -> tuple[int, NodeName]:
    return _tier(view.nodes, name), name


def _tier(nodes: PriorityList, name: NodeName) -> int:
    tier = nodes.tier(name)
    return len(nodes.tiers) if tier is None else tier
