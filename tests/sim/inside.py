"""What holds inside a node after each of its steps, whatever it was told."""

from collections.abc import Collection

from chucky.core.node import Node
from chucky.messages import End


def broken(node: Node, ends: Collection[int]) -> str | None:
    """Return what is broken; `ends`: the links that the shell around the node has."""
    own, members = node._own, node._members
    if sum(x is not None for x in (own.running, own.starting, own.naming)) > 1:
        return f"inside: it runs {own.running}, starts {own.starting}, and says {own.naming}"
    if own.running is not None:
        if not any(r.epoch == own.running and r.end is End.RUNNING for r in own.records):
            return f"inside: it runs {own.running}, and remembers no such ownership"
        if own.lease is not None and not own.lease.claim:
            return f"inside: it runs {own.running}, and claims nothing"
    if not members.links.keys().isdisjoint(members.gone):
        return "inside: it has a link with a node that it takes for lost"
    if any(link.name != name for name, link in members.links.items()):
        return "inside: it takes one node for another"
    if any(link.name not in members.links for link in members._newcomers.values()):
        return "inside: one waits for a name that nobody uses"
    if not all(link.id in ends for link in members._all()):
        return "inside: it keeps a link that is no more"
    if not all(link in ends for link in members.contacts._dials):
        return "inside: it keeps a dial that is no more"
    return None
