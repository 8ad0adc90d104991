"""TCP sockets for the links: one that listens, one that is connected, and whose address that is."""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from chucky import files
from chucky.names import Address

PORTS_TRIED = 10  # the configured one and the next nine
# A name may have several addresses; each gets the connect time.
MAX_ADDRESSES_TRIED = 4
# The resolver asks the second name server after 5 s (resolv.conf(5), timeout).
RESOLVE_MS = 6000
# Threads that wait for the resolver: the names in `peers`, each once; 16 of 100 KiB.
MAX_RESOLVING = 16

TCP_THIN_LINEAR_TIMEOUTS = 16  # <linux/tcp.h>; the socket module does not name it

Target = tuple[int, Any]  # an address family and its sockaddr
Connected = tuple[socket.socket, Address]


class Dialer:
    """Connects, and tells a host that refuses from one that cannot be reached. `source`: what every
    connection comes from, and no other; None leaves that to the kernel."""

    def __init__(self, connect_timeout_ms: int) -> None:
        self.source: Target | None = None
        self._connect_timeout_ms = connect_timeout_ms
        self._resolving = 0

    async def connect(self, address: Address) -> Connected | str:
        """Return a connected non-blocking socket and whose it is, or how that failed, in a word of
        net/links.py: refused, unreached or closed."""
        outcomes = set()
        for target in (await self._resolve(address))[:MAX_ADDRESSES_TRIED]:
            outcome = await self._try(target)
            if not isinstance(outcome, str):
                return outcome
            outcomes.add(outcome)
        # Refused is evidence that a node is dead: one address in doubt is enough to doubt it.
        if "closed" in outcomes:
            return "closed"
        return "refused" if outcomes == {"refused"} else "unreached"

    async def _try(self, target: Target) -> Connected | str:
        family, sockaddr = target
        with ExitStack() as undo:
            try:
                sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _prompt(sock)
                sock.setblocking(False)
                if self.source is not None:
                    if self.source[0] != family:
                        return "unreached"
                    # The port as connect() chooses it: many connections may share one.
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
                    sock.bind(self.source[1])
                # A loop that was late itself finds the time up and the connection made.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._connect_timeout_ms / 1000):
                        await asyncio.get_running_loop().sock_connect(sock, sockaddr)
                if problem := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(problem, "")
                peer = address_of(sock.getpeername())  # raises when there is none (yet)
            except ConnectionRefusedError:
                return "refused"
            except ConnectionResetError:  # let in for a process that was ending, not unreached
                return "closed"
            except OSError:
                return "unreached"
            undo.pop_all()
            return sock, peer

    async def _resolve(self, address: Address) -> list[Target]:
        """Return where to connect to; nothing when nobody knows."""
        try:
            return _look_up(address, socket.AI_NUMERICHOST)
        except OSError:
            pass  # it is not numeric
        except ValueError:  # nor can it be a name
            return []
        if self._resolving >= MAX_RESOLVING:
            return []
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Target]] = loop.create_future()

        def done(targets: list[Target]) -> None:
            self._resolving -= 1
            if not found.done():
                found.set_result(targets)

        # Not the loop's executor: its threads are waited for at exit, and the resolver can take
        # half a minute.
        self._resolving += 1
        thread = threading.Thread(target=_look_up_slowly, args=(address, loop, done), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no process is left, or no memory for its stack
            done([])
        try:
            async with asyncio.timeout(RESOLVE_MS / 1000):
                return await found
        except TimeoutError:
            return []


def _look_up(address: Address, flags: int = 0) -> list[Target]:
    found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM, 0, flags)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


def _look_up_slowly(
    address: Address, loop: asyncio.AbstractEventLoop, done: Callable[[list[Target]], None]
) -> None:
    try:
        targets = _look_up(address)
    except (OSError, ValueError):
        targets = []
    try:
        loop.call_soon_threadsafe(done, targets)
    except RuntimeError:
        pass  # the loop is closed: nobody waits


def address_of(sockaddr: Any) -> Address:
    """Return a sockaddr as an address: IPv4 that comes in over IPv6 as IPv4, and with its %scope
    what means something on one link only."""
    host, port, *more = sockaddr
    if host.startswith("::ffff:") and "." in host:
        return Address(host[len("::ffff:") :], port)
    if not more or not more[1]:
        return Address(host, port)
    try:
        scope = socket.if_indextoname(more[1])
    except OSError:  # the interface is gone
        scope = str(more[1])
    return Address(f"{host.partition('%')[0]}%{scope}", port)


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """Return a socket that listens on the first free of `port` and the next nine. `host` is an
    address, or "" for every one, IPv4 and IPv6. Raises OSError, with a sentence, or ChuckyError for
    what may pass."""
    ports = range(port, min(port + PORTS_TRIED, 65536))
    shown = f" on {host}" if host else ""
    for candidate in ports:
        try:
            return _bound(host, candidate, backlog)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                where = f"link port {candidate}{shown}"
                files.raise_passing(where, error)
                sentence = f"{where}: {error.strerror}; set listen in [node]"
                raise OSError(error.errno, sentence) from None
    raise OSError(
        errno.EADDRINUSE,
        f"link port: {ports[0]} to {ports[-1]}{shown} are all taken; set port in [node]",
    )


def _bound(host: str, port: int, backlog: int) -> socket.socket:
    host = host or ("::" if _has_ipv6() else "0.0.0.0")
    family, sockaddr = _look_up(Address(host, port), socket.AI_NUMERICHOST)[0]
    with ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # A node that restarts gets its port although links of its last life are in TIME_WAIT.
        # Not REUSEPORT: two nodes of one host would share a port and get each other's peers.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _prompt(sock)  # what it accepts has it from here
        if family == socket.AF_INET6:
            # :: takes IPv4 as well, whatever net.ipv6.bindv6only says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(sockaddr)
        sock.listen(backlog)  # of two that were bound at the same time, one can listen
        undo.pop_all()
        return sock


def _prompt(sock: socket.socket) -> None:
    # A Status never waits for the ACK of the one before. asyncio does this only for sockets that
    # were made with proto=IPPROTO_TCP.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # What is lost again is sent again as soon as the first time, not after twice as long: with a
    # few packets a second that is no burden, and silence is judged after four ticks (tcp(7)).
    sock.setsockopt(socket.IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1)


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:  # the kernel was started with ipv6.disable=1
        return False
    return True
