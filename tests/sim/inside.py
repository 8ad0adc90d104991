"""What holds inside a node after each of its steps, whatever it was told."""

from collections.abc import Collection

from chucky.core.node import Node
from chucky.messages import End


def broken(node: Node, ends: Collection[int]) -> str | None:
    """Return what is broken; `ends`: the links that the shell around the node has."""
    own, members = node._own, node._members
    if own.running is not None:
        if own.starting is not None or own.naming is not None:
            return f"inside: it runs {own.running}, starts {own.starting}, and says {own.naming}"
        if not any([r.epoch == own.running and r.end is End.RUNNING for r in own.records]):
            return f"inside: it runs {own.running}, and remembers no such ownership"
        if own.lease is not None and not own.lease.claim:
            return f"inside: it runs {own.running}, and claims nothing"
    elif own.starting is not None and own.naming is not None:
        return f"inside: it starts {own.starting}, and says {own.naming}"
    for name, link in members.links.items():  # one loop: it is done at every step
        if name in members.gone:
            return "inside: it has a link with a node that it takes for lost"
        if link.name != name:
            return "inside: it takes one node for another"
    for link in members._newcomers.values():
        if link.name not in members.links:
            return "inside: one waits for a name that nobody uses"
    for link in members._all():
        if link.id not in ends:
            return "inside: it keeps a link that is no more"
    for dial in members.contacts._dials:
        if dial not in ends:
            return "inside: it keeps a dial that is no more"
    return None
