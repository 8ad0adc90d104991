"""Addresses as people write them and as interfaces come to have them."""

import errno
import re
import socket
from collections.abc import Iterable
from functools import lru_cache

from chucky import config
from chucky.config_checks import takes
from chucky.names import Address, NodeName
from chucky.net.interfaces import Interface
from chucky.settings import Discovery, Node, Settings

# The last two: of a link-local address not even the interface is there.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.ENODEV, socket.EAI_NONAME)


@lru_cache(maxsize=1)  # asked with every beacon, and new with a reload only
def of_peers(discovery: Discovery, first_port: int) -> tuple[Address, ...]:
    """Return where the configured peers may be; those without a port at this one or just above."""
    return tuple(a for entry in discovery.peers for a in config.peer_addresses(entry, first_port))


def of_node(text: str, own_host: str, first_port: int) -> tuple[NodeName, tuple[Address, ...]]:
    """Return the name in NODE[:PORT] and where it may be: its host part, and without a port at
    `first_port` or just above. A scope as in `b@[fe80::2%eth0]` is where, and no part of the name.
    Raises NodeNameError or ConfigError."""
    node, _, port = text.rpartition(":")
    if not port.isdecimal():
        node, port = text, ""
    name = NodeName.parse(re.sub(r"%[^]]*]$", "]", node), own_host)
    host = node.partition("@")[2] or name.host
    return name, config.peer_addresses(f"{host}:{port}" if port else host, first_port)


def out_of_reach(listen: str, addresses: tuple[Address, ...]) -> str:
    """Return why a node that listens there can dial none of these, which have one host, or ""."""
    host, six = addresses[0].host, ":" in listen
    if not listen or not addresses[0].is_numeric or six == (":" in host):
        return ""
    return f"with [node] listen = {listen} nodes are dialled over IPv{6 if six else 4} only"


def of_links(node: Node, interfaces: Iterable[Interface]) -> tuple[Address, ...]:
    """Return where the others reach a node that listens as `node` says."""
    return tuple(
        Address(host, node.port)
        for interface in interfaces
        for host in interface.addresses
        if takes(node.listen, host)
    )


def listens_nowhere(settings: Settings) -> frozenset[str]:
    """Return a sentence for each `listen` that is no address of this machine now."""
    costs = (
        ("node", settings.node.listen, "no other node is linked"),
        ("facts", settings.facts.listen, "no client is let in"),
    )
    return frozenset(
        f"no interface has [{section}] listen = {listen}: {cost} until one has it"
        for section, listen, cost in costs
        if listen and not _is_here(listen)
    )


def _is_here(host: str) -> bool:
    """Whether a socket can be bound to this address."""
    flags = socket.AI_NUMERICHOST
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM, flags=flags)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError as error:
        return error.errno not in _NOT_HERE
    return True


def gained(known: dict[int, frozenset[str] | None], interface: Interface) -> bool:
    """Return whether the interface is new, or has an address that it had not.

    `known`: the addresses before, by index; None where they were not known yet.
    """
    if interface.index not in known:
        return True
    before = known[interface.index]
    return before is not None and not before.issuperset(interface.addresses)
