"""Who stands before whom: of the nodes that could start, and of two owners that meet."""

from chucky.core.view import PeerView, View
from chucky.messages import Backing, Epoch, Heard
from chucky.names import NodeName


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


def outranks(view: View, began: int, rival: Heard) -> bool:
    """6: whether this node, whose ownership began with this number, stands better than the rival.
    Of one that went on under a new epoch the first counts, so no standing is ever turned round."""
    one, other = began, rival.began or rival.epoch.number
    # Where the lists differ (8), only what both sides see alike is compared.
    tiers = (0, 0)
    if rival.digest == view.digest:
        tiers = (_tier(view, view.me), _tier(view, rival.epoch.node))
    mine, theirs = (tiers[0], one), (tiers[1], other)
    if not view.takeover or rival.digest != view.digest:
        mine, theirs = (one, tiers[0]), (other, tiers[1])
    return (*mine, view.me) < (*theirs, rival.epoch.node)


def goes_first(view: View, epoch: Epoch, rival: Heard) -> bool:
    """Whether this node, starting `epoch`, goes on before the rival, which starts, too: in an order
    that leads in no circle, so that of all that start at once one goes on."""
    # `outranks` orders two: beside a third one of another list it may.
    if rival.digest != view.digest:
        return view.digest < rival.digest
    return outranks(view, epoch.number, rival)


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
    return _tier(view, name), name


def _tier(view: View, name: NodeName) -> int:
    tier = view.nodes.tier(name)
    return len(view.nodes.tiers) if tier is None else tier
