"""The UDP endpoint of discovery: beacons out to the group and the configured peers, beacons in.

Whoever is on the network can send here, so everything is bounded: how much is read, from whom,
and what is parsed. A beacon that comes through is still only a hint.
"""

import asyncio
import errno
import logging
import math
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chucky import settings
from chucky.errors import BadMessage
from chucky.messages import Beacon
from chucky.names import Address
from chucky.net import multicast
from chucky.net.limits import SourceLimit, TokenBucket
from chucky.wire import beacon as wire

_log = logging.getLogger(__name__)

# Reading one datagram costs some 5 us: 5000 a second are 3 % of a CPU. Past that the sockets are
# left alone for 100 ms, in which the kernel drops what does not fit in their buffers for nothing.
READS_PER_S = 5000
READS_BURST = 500
PAUSE_S = READS_BURST / READS_PER_S
# What one wake-up may read before other callbacks run: 32 x 5 us, plus what the parsing allows.
READS_PER_WAKE_UP = 32

# Parsing and believing one costs some 100 us: 500 a second are 5 % of a CPU. In good order 25 hosts
# with 10 nodes each stay below it.
PARSED_PER_S = 500
PARSED_BURST = 500

COMPLAINT_S = 60.0  # dropped datagrams are worth one line a minute

# A host name is looked up again after this: a changed lease is noticed, and a name server that
# comes up late is found. One query a name at a time, in a thread of its own: a name server that
# hangs must not use up the threads that others wait for.
LOOK_UP_S = 15.0
MAX_TARGETS = 4  # of one name: two families, twice

# The kernel says nothing when it drops a group, so it is asked with a beacon, this often at most:
# 30 us with a few interfaces, 10 ms with a thousand.
CHECK_S = 1.0

_FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_Target = tuple[int, tuple[Any, ...]]  # family and what sendto wants


class Discovery:
    """Sends and hears beacons. After `open`, call `set_interfaces` to say where.

    `on_beacon(beacon, source)` is called from the event loop for every beacon that comes, our own
    among them. A link-local IPv6 `source` carries its `%interface`.
    A family without a group multicasts nothing; it has its sockets for the peers of `announce`,
    which a reload may bring.
    """

    def __init__(
        self, config: settings.Discovery, on_beacon: Callable[[Beacon, Address], None]
    ) -> None:
        self._port = config.port
        groups: dict[int, str] = {socket.AF_INET: config.group, socket.AF_INET6: config.group6}
        self._groups = {family: group for family, group in groups.items() if group}
        self._on_beacon = on_beacon
        self._receivers: dict[int, socket.socket] = {}
        self._senders: dict[int, socket.socket] = {}
        self._deaf: set[int] = set()  # families whose receiver could not be opened yet
        self._pause: asyncio.TimerHandle | None = None
        self._interfaces: frozenset[int] = frozenset()
        self._joined: set[tuple[int, int]] = set()  # (family, interface)
        self._check_at = -math.inf
        self._failures = _Failures()
        self._names = _Names(self._failures)
        self._reads = TokenBucket(READS_PER_S, READS_BURST)
        self._sources = SourceLimit()
        self._parsed = TokenBucket(PARSED_PER_S, PARSED_BURST)
        self._dropped = 0
        self._complained = -math.inf

    def open(self) -> None:
        """Open the sockets and listen. Never raises: what cannot be opened is logged once; where to
        hear beacons is tried again, as another program may have the port."""
        for family in _FAMILIES:
            try:
                self._senders[family] = multicast.sender(family)
            except OSError as error:
                _log.info("discovery does without %s: %s", _FAMILIES[family], error.strerror)
                continue
            self._hear(family)
        self._listen()

    def close(self) -> None:
        """Close the sockets: `on_beacon` is not called again, and nothing is sent."""
        self._stop_listening()
        if self._pause is not None:
            self._pause.cancel()
        for sock in (*self._receivers.values(), *self._senders.values()):
            sock.close()
        self._receivers.clear()
        self._senders.clear()
        self._deaf.clear()

    def set_interfaces(self, indexes: Iterable[int]) -> None:
        """Join the groups on these interfaces, leave them on all others. Never raises."""
        wanted = frozenset(indexes)
        for index in self._interfaces - wanted:
            self._failures.forget(index)
            for family in self._receivers:
                self._leave(family, index)
        self._interfaces = wanted
        self._join()

    def announce(self, beacon: Beacon, unicast: Sequence[Address] = ()) -> None:
        """Send the beacon to the groups on every interface, and to each of these addresses.

        Host names among them are looked up in the background and remembered. Never raises.
        """
        self._join()  # an interface that could not be joined may be ready now
        data = wire.encode(beacon)
        for family, group in self._groups.items():
            if (sender := self._senders.get(family)) is None:
                continue
            for index in self._interfaces:
                try:
                    multicast.send_to_group(sender, group, self._port, index, data)
                except OSError as error:
                    self._failures.failed(f"beacons to {group}", error, index)
                else:
                    self._failures.worked(f"beacons to {group}", index)
        for peer in unicast:
            self._names.look_up(peer, lambda targets: self._send_to_peer(data, targets))

    def answer(self, beacon: Beacon, to: Address) -> None:
        """Send the beacon to one numeric address, that of a beacon that asked. Never raises."""
        data = wire.encode(beacon)
        try:
            for family, target in _resolve(to, numeric=True):
                if family in self._senders:
                    self._senders[family].sendto(data, target)
        except OSError as error:  # not worth more: the address is whatever a stranger wrote
            _log.debug("no answer to %s: %s", to, error.strerror)

    def _hear(self, family: int) -> None:
        try:
            self._receivers[family] = multicast.receiver(family, self._port)
        except OSError as error:
            if family not in self._deaf:
                self._deaf.add(family)
                _log.warning(
                    "beacons are sent but not heard over %s: UDP port %d: %s"
                    " (sudo ss -ulpn tells who has it)",
                    _FAMILIES[family],
                    self._port,
                    error.strerror,
                )
            return
        if family in self._deaf:
            self._deaf.remove(family)
            _log.info("beacons are heard over %s now", _FAMILIES[family])
            if self._pause is None:
                self._listen()

    def _leave(self, family: int, index: int) -> None:
        if (family, index) in self._joined:
            self._joined.remove((family, index))
            multicast.leave(self._receivers[family], self._groups[family], index)

    def _leave_lost(self, family: int, group: str) -> None:
        try:
            members = multicast.members(family, group)
        except OSError as error:
            self._failures.failed(f"seeing where {group} is heard", error)
            return
        for index in self._interfaces - members:
            self._leave(family, index)

    def _join(self) -> None:
        now = asyncio.get_running_loop().time()
        if check := now >= self._check_at:
            self._check_at = now + CHECK_S
            for family in tuple(self._deaf):
                self._hear(family)
        for family, group in self._groups.items():
            if (receiver := self._receivers.get(family)) is None:
                continue
            if check:
                self._leave_lost(family, group)
            for index in self._interfaces:
                if (family, index) in self._joined:
                    continue
                try:
                    if multicast.join(receiver, group, index):
                        self._joined.add((family, index))
                except OSError as error:
                    self._failures.failed(f"hearing {group}", error, index)

    def _send_to_peer(self, data: bytes, targets: Sequence[_Target]) -> None:
        for family, target in targets:
            if (sender := self._senders.get(family)) is None:
                continue
            try:
                sender.sendto(data, target)
            except OSError as error:
                self._failures.failed(f"beacons to {target[0]}", error)
            else:
                self._failures.worked(f"beacons to {target[0]}")

    def _listen(self) -> None:
        self._pause = None
        for sock in (*self._receivers.values(), *self._senders.values()):
            asyncio.get_running_loop().add_reader(sock, self._readable, sock)

    def _stop_listening(self) -> None:
        for sock in (*self._receivers.values(), *self._senders.values()):
            asyncio.get_running_loop().remove_reader(sock)

    def _readable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(READS_PER_WAKE_UP):
            if not self._reads.take(now):
                self._stop_listening()
                self._pause = loop.call_later(PAUSE_S, self._listen)
                return
            try:
                data, source = sock.recvfrom(wire.MAX_BEACON + 1)
            except OSError:  # nothing more, or closed by on_beacon
                return
            self._received(data, source, now)

    def _received(self, data: bytes, source: tuple[str, int, int, int], now: float) -> None:
        if (host := _source_host(source)) is None:
            return
        if (
            len(data) > wire.MAX_BEACON
            or not self._sources.take(host, now)
            or not self._parsed.take(now)
        ):
            self._drop(host, now)
            return
        try:
            beacon = wire.decode(data)
        except BadMessage:
            self._drop(host, now)
            return
        self._on_beacon(beacon, Address(host, source[1]))

    def _drop(self, host: str, now: float) -> None:
        self._dropped += 1
        if now - self._complained >= COMPLAINT_S:
            _log.warning(
                "dropped %d datagrams on UDP port %d that were no beacon or too many,"
                " the last from %s: what sends there?",
                self._dropped,
                self._port,
                host,
            )
            self._complained = now
            self._dropped = 0


class _Failures:
    """What failed, and was logged; it is logged again only after it worked meanwhile."""

    def __init__(self) -> None:
        self._told: dict[tuple[int, str], set[int | None]] = {}

    def failed(self, what: str, error: OSError, index: int = 0) -> None:
        """Log it once. `index` is the interface's, when it is about one."""
        told = self._told.setdefault((index, what), set())
        if error.errno in told:
            return
        told.add(error.errno)
        where = f" on {_interface_name(index)}" if index else ""
        why = error.strerror
        if error.errno == errno.EPERM:  # the packet filter's verdict, to the sender
            why = f"{why}: a firewall rule of this machine drops them"
        level = logging.DEBUG if error.errno in multicast.NOT_NOW else logging.WARNING
        _log.log(level, "%s%s: %s", what, where, why)

    def worked(self, what: str, index: int = 0) -> None:
        """It works now."""
        self._told.pop((index, what), None)

    def forget(self, index: int) -> None:
        """The interface is gone."""
        for key in [key for key in self._told if key[0] == index]:
            del self._told[key]


class _Names:
    """Addresses of the configured peers, looked up without stopping the loop."""

    def __init__(self, failures: _Failures) -> None:
        self._failures = failures
        self._known: dict[Address, Sequence[_Target]] = {}
        self._again: dict[Address, float] = {}  # when to look up next; inf while it runs

    def look_up(self, peer: Address, then: Callable[[Sequence[_Target]], None]) -> None:
        """Call `then` with what is known: now, or when a first look-up has found it."""
        try:
            targets = _resolve(peer, numeric=True)
        except OSError as error:
            if ":" in peer.host:  # numeric, but its %interface is not there
                self._failures.failed(f"looking up {peer.host}", error)
                return
        else:
            self._failures.worked(f"looking up {peer.host}")
            then(targets)
            return
        then(self._known.get(peer, ()))
        loop = asyncio.get_running_loop()
        if loop.time() >= self._again.get(peer, -math.inf):
            self._again[peer] = math.inf
            args = (loop, peer, then)
            try:
                threading.Thread(target=self._work, args=args, name="look-up", daemon=True).start()
            except RuntimeError as error:  # no process is left, or no memory for its stack
                self._found(loop, peer, OSError(errno.EAGAIN, str(error)), then)

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: Address,
        then: Callable[[Sequence[_Target]], None],
    ) -> None:
        try:
            found: Sequence[_Target] | OSError = _resolve(peer, numeric=False)
        except OSError as error:
            found = error
        try:
            loop.call_soon_threadsafe(self._found, loop, peer, found, then)
        except RuntimeError:  # the loop closed meanwhile: nobody waits
            pass

    def _found(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: Address,
        found: Sequence[_Target] | OSError,
        then: Callable[[Sequence[_Target]], None],
    ) -> None:
        self._again[peer] = loop.time() + LOOK_UP_S
        if isinstance(found, OSError):  # what was known stays: a name server may be down
            self._failures.failed(f"looking up {peer.host}", found)
            return
        self._failures.worked(f"looking up {peer.host}")
        if self._known.get(peer) is None:
            then(found)
        self._known[peer] = found


def _resolve(address: Address, *, numeric: bool) -> Sequence[_Target]:
    """Return where to send for this address; blocks unless `numeric`. Raises OSError."""
    flags = socket.AI_NUMERICHOST if numeric else 0
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM, flags=flags)
    except UnicodeError as error:  # no label of a host name may be empty or beyond 63 characters
        raise OSError(errno.EINVAL, "not a host name") from error
    return [(family, target) for family, _, _, _, target in found][:MAX_TARGETS]


def _source_host(source: tuple[str, int, int, int]) -> str | None:
    """Return a sender's numeric host with its scope, or None when nobody can be reached there."""
    host = source[0]
    if host == "0.0.0.0":  # sent where an interface has no IPv4 address
        return None
    scope = source[3] if len(source) == 4 else 0
    if not scope:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface went away after the datagram came
        return None


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
