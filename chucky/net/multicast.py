"""The UDP sockets that carry beacons: each socket option with its reason, each errno with its case.

Two kinds per family: the *receiver* is bound to the discovery port, which all nodes of a host
share, and hears the group; the *sender* has a port of its own, so an answer that is sent to where
a beacon came from reaches the node that asked and no other.

Every function raises OSError for what its docstring does not name.
"""

import errno
import socket
import struct
import sys

# Linux's numbers (linux/in.h, linux/in6.h) that Python 3.11's socket module does not name.
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

LOOPBACK_INDEX = 1  # every network namespace is born with lo under this index

# An interface that cannot carry the family now: gone (ENODEV, ENXIO), down (ENETDOWN), without a
# route or an address of the family (ENETUNREACH, EADDRNOTAVAIL). The last is also what a new IPv6
# address gives until duplicate address detection is over. All pass, or are as the admin wants it.
# IPv6 on lo is such a case: without a route for ff00::/8 there, nodes of one host meet over IPv4.
NOT_NOW = frozenset(
    (errno.ENODEV, errno.ENXIO, errno.ENETDOWN, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
)


def receiver(family: int, port: int) -> socket.socket:
    """Return a non-blocking socket on every address and `port` that hears the groups it joins.

    EADDRINUSE: a program that does not share the port has it. EAFNOSUPPORT: no such family here.
    """
    sock = _datagram_socket(family)
    try:
        # Several nodes on one host hear the group, and each gets a copy of a multicast datagram.
        # Not SO_REUSEPORT: it adds only the demand that all of them run as one user.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux's default hands a wildcard socket the groups that any program of the host joined;
        # we want what we joined, on the interfaces where we joined it.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock


def sender(family: int) -> socket.socket:
    """Return a non-blocking socket on a port of its own, to send from and be answered at."""
    sock = _datagram_socket(family)
    try:
        # One hop: a cluster is one LAN. Loop: the other nodes of this host are to hear us.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.bind(("", 0))
    except OSError:
        sock.close()
        raise
    return sock


def join(sock: socket.socket, group: str, ifindex: int) -> bool:
    """Join the group on one interface; return whether the socket is a member there now.

    False: the interface cannot carry the family now (NOT_NOW); try again after it changed.
    """
    try:
        _membership(sock, group, ifindex, joining=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # a member already
            return True
        if error.errno in NOT_NOW:
            return False
        if error.errno == errno.EINVAL and sock.family == socket.AF_INET6:
            why = "it carries no IPv6 (its MTU is below 1280)"
            raise OSError(error.errno, why) from error
        if error.errno == errno.ENOBUFS:  # IPv4: 20 memberships a socket, so 20 interfaces
            limit = "net.ipv4.igmp_max_memberships"
        elif error.errno == errno.ENOMEM:  # both families pay memberships from this
            limit = "net.core.optmem_max"
        else:
            raise
        way_out = f"too many interfaces: raise {limit}, or name the ones to use in the config"
        raise OSError(error.errno, way_out) from error
    return True


def leave(sock: socket.socket, group: str, ifindex: int) -> None:
    """Leave the group on one interface. Never raises for an interface that is gone."""
    try:
        _membership(sock, group, ifindex, joining=False)
    except OSError as error:
        # The kernel dropped the membership together with the interface: what we wanted.
        if error.errno not in NOT_NOW:
            raise


def members(family: int, group: str) -> frozenset[int]:
    """Return the interfaces that have joined the group, for whichever socket of this host.

    A socket that joined where nobody has any more hears nothing there: the kernel dropped the group
    with the interface, or with its IPv6 (MTU below 1280), which then came back under its index. The
    socket keeps its entry: it cannot join (EADDRINUSE) before it has left.
    """
    packed = socket.inet_pton(family, group)
    if family == socket.AF_INET6:  # a line for each: index, name, group, ...
        wanted = packed.hex().encode()
        with open("/proc/self/net/igmp6", "rb") as lines:
            return frozenset(int(line.split()[0]) for line in lines if wanted in line)
    # A heading, a line for each interface, which begins with its index, and after it one for each
    # of its groups: a number in the byte order of this machine.
    wanted = b"\t%08X " % int.from_bytes(packed, sys.byteorder)
    found, index = set(), 0
    with open("/proc/self/net/igmp", "rb") as lines:
        next(lines, b"")
        for line in lines:
            if line[:1] != b"\t":
                index = int(line.split()[0])
            elif wanted in line:
                found.add(index)
    return frozenset(found)


def send_to_group(sock: socket.socket, group: str, port: int, ifindex: int, data: bytes) -> None:
    """Multicast one datagram out of one interface, from an address of that interface.

    The interface goes with the datagram as ancillary data (ip(7), RFC 3542 6.1), not as
    IP_MULTICAST_IF on the socket: one call instead of two, and it needs no route to the group.
    """
    if sock.family == socket.AF_INET6:
        info = struct.pack("@16si", bytes(16), ifindex)
        ancillary = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
    else:
        # Left to itself the kernel sends from 0.0.0.0 on lo when lo is all there is, since
        # 127.0.0.1 has host scope; and from another interface's address when there is one.
        source = "127.0.0.1" if ifindex == LOOPBACK_INDEX else "0.0.0.0"
        info = struct.pack("@i4s4s", ifindex, socket.inet_aton(source), bytes(4))
        ancillary = (socket.IPPROTO_IP, _IP_PKTINFO, info)
    sock.sendmsg([data], [ancillary], 0, (group, port))


def _datagram_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        # Without this it would have the port in IPv4 as well: a second time, or although IPv4 is
        # off, or not at all because another program has it there.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _membership(sock: socket.socket, group: str, ifindex: int, *, joining: bool) -> None:
    """By interface index in both families: an interface may have no address yet, or several."""
    if sock.family == socket.AF_INET6:
        option = socket.IPV6_JOIN_GROUP if joining else socket.IPV6_LEAVE_GROUP
        request = struct.pack("@16si", socket.inet_pton(socket.AF_INET6, group), ifindex)
        sock.setsockopt(socket.IPPROTO_IPV6, option, request)
    else:
        option = socket.IP_ADD_MEMBERSHIP if joining else socket.IP_DROP_MEMBERSHIP
        request = struct.pack("@4s4si", socket.inet_aton(group), bytes(4), ifindex)
        sock.setsockopt(socket.IPPROTO_IP, option, request)
