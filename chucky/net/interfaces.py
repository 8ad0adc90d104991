"""Which network interfaces to use, and their changes as they happen.

Two stages. `initial` asks the kernel with two cheap calls, so that the first beacons go out at
once. `InterfaceWatch` reads links and addresses with pyroute2, whose import costs 100 ms and
16 MiB: it happens in a thread, after the node is ready.
"""

import asyncio
import fcntl
import ipaddress
import logging
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

_log = logging.getLogger(__name__)

# Interface flags (linux/if.h).
_UP = 0x1
_LOOPBACK = 0x8
_RUNNING = 0x40
_MULTICAST = 0x1000
_USABLE = _UP | _RUNNING | _MULTICAST

# Address flags (linux/if_addr.h): not proved unique yet, or proved not to be.
_TENTATIVE = 0x40
_DAD_FAILED = 0x8
_SCOPE_LINK = 253  # linux/rtnetlink.h: this and above (host, nowhere) mean nothing elsewhere

_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_CHANGES = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

# One cable brings a burst of some ten messages; wait for its end. A host that changes all the time
# (containers) then costs one dump of 5 ms each 100 ms at most, 5 % of one CPU in a thread.
_SETTLE_S = 0.1
# How soon to look again where the kernel cannot tell us, or pyroute2 failed.
_POLL_S = 5.0
# A burst is read in a few wake-ups, and never more than this between two other callbacks.
_READS_PER_WAKE_UP = 64


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface to use, and the addresses that it can use by now: those that other machines can
    use for good, and the others."""

    index: int
    name: str
    addresses: tuple[str, ...] = ()
    local: tuple[str, ...] = ()  # `listen` may be one


def initial(wanted: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Return index and name of the interfaces to use now, without pyroute2.

    `wanted` as in InterfaceWatch. Bridge and bond ports are still among them.
    """
    found = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for index, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", os.fsencode(name)))
            except OSError:  # it went away between the two calls
                continue
            if _chosen(name, struct.unpack_from("H", answer, 16)[0], wanted):
                found.append((index, name))
    return found


class InterfaceWatch:
    """Tells the interfaces to use, at the start and at each change.

    `wanted` empty: loopback, and every one that is up, has a carrier and can multicast, but for
    the ports of a bridge or bond, whose traffic is the bridge's. Else: the named ones that are up.
    `on_change` gets the whole list, ordered by index, from the event loop.
    """

    def __init__(
        self, wanted: tuple[str, ...], on_change: Callable[[tuple[Interface, ...]], None]
    ) -> None:
        self._wanted = wanted
        self._on_change = on_change
        self._known: tuple[Interface, ...] | None = None
        self._missing: frozenset[str] = frozenset()
        self._warned = False
        self._stopped = False
        # Not the loop's, whose end takes one more thread.
        self._thread = ThreadPoolExecutor(1)
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, call `on_change`, and follow the changes from then on until `stop`.

        Never raises: where pyroute2 or netlink fails, a warning says so and `initial` is polled.
        """
        try:
            self._socket = _change_socket()
        except OSError as error:
            self._warn(error)
        else:  # before the first look, so that no change falls between the two
            asyncio.get_running_loop().add_reader(self._socket, self._changed)
        await self._look()

    def stop(self) -> None:
        """Follow no more; `on_change` is not called again."""
        self._stopped = True
        self._thread.shutdown(wait=False)
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _changed(self) -> None:
        """Something changed; what it was, the next look sees."""
        assert self._socket is not None
        for _ in range(_READS_PER_WAKE_UP):
            try:
                self._socket.recv(1)  # of each message the kernel drops the rest
            except OSError:  # nothing more; or ENOBUFS: messages were lost, which is a change too
                break
        self._look_in(_SETTLE_S)

    def _look_in(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay_s, self._look_now)

    def _look_now(self) -> None:
        self._timer = None
        if self._task is not None and not self._task.done():
            self._look_in(_SETTLE_S)
        else:
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        if self._stopped:
            return
        found, poll = self._known, True
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, _dump, self._wanted)
            poll = self._socket is None
        except (ImportError, OSError, RuntimeError) as error:  # the last: no thread can be had
            self._thread = ThreadPoolExecutor(1)  # the old one would do all that it was given yet
            self._warn(error)
            with suppress(OSError):  # no descriptor either
                found = tuple(Interface(index, name) for index, name in initial(self._wanted))
        if self._stopped:
            return
        if poll:
            self._look_in(_POLL_S)
        elif found is None:
            self._look_in(_SETTLE_S)
        if found is not None and found != self._known:
            self._tell_missing(frozenset(interface.name for interface in found))
            self._known = found
            self._on_change(found)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "cannot follow the network interfaces (%s): looking every %d s; is"
                " python3-pyroute2 whole, and AF_NETLINK allowed?",
                error,
                _POLL_S,
            )

    def _tell_missing(self, up: frozenset[str]) -> None:
        missing = frozenset(self._wanted) - up
        for name in sorted(missing - self._missing):
            _log.warning(
                "interface %s of [discovery] interfaces is not there or down:"
                " it is used as soon as it comes up",
                name,
            )
        self._missing = missing


def _chosen(name: str, flags: int, wanted: tuple[str, ...]) -> bool:
    if wanted:
        return name in wanted and bool(flags & _UP)
    if flags & _LOOPBACK:  # it lacks the flag for multicast, yet carries it
        return bool(flags & _UP)
    return flags & _USABLE == _USABLE


def _change_socket() -> socket.socket:
    """Return a netlink socket that becomes readable when a link or an address changes."""
    sock = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        socket.NETLINK_ROUTE,
    )
    try:
        sock.bind((0, _CHANGES))
    except OSError:
        sock.close()
        raise
    return sock


def _dump(wanted: tuple[str, ...]) -> tuple[Interface, ...] | None:
    """Return the interfaces to use, or None: a change came meanwhile. Blocks: run it in a thread.
    Raises ImportError, OSError."""
    from pyroute2 import IPRoute  # here, and so late, for what it costs
    from pyroute2.netlink import exceptions as ex

    try:
        with IPRoute() as netlink:
            links, addresses = list(netlink.get_links()), list(netlink.get_addr())
    except ex.NetlinkDumpInterrupted:
        return None
    except (ex.NetlinkError, ex.NetlinkDecodeError) as error:
        raise OSError(f"netlink: {error}") from error
    there: defaultdict[tuple[int, bool], list[str]] = defaultdict(list)
    for address in addresses:
        # On a point-to-point link IFA_ADDRESS is the other end; IPv6 has IFA_LOCAL only there.
        text = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        if text is not None and not address["flags"] & (_TENTATIVE | _DAD_FAILED):
            there[address["index"], _is_global(text, address["scope"])].append(text)
    found = []
    for link in links:
        index, name = link["index"], link.get_attr("IFLA_IFNAME")
        port_of = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND")
        if not wanted and port_of not in (None, "vrf"):
            continue
        if _chosen(name, link["flags"], wanted):
            both = (tuple(sorted(there[index, is_global])) for is_global in (True, False))
            found.append(Interface(index, name, *both))
    return tuple(sorted(found, key=lambda interface: interface.index))


def _is_global(text: str, scope: int) -> bool:
    # An administrator may give 169.254.x.y global scope.
    return scope < _SCOPE_LINK and not ipaddress.ip_address(text).is_link_local
