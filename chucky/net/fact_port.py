"""The sockets of TCP 4040: listens, accepts in batches, keeps clients, delivers, lingers.

It decides nothing: whoever connects gets what `choose` has for it, or goes to `on_clients` where
that is nothing; whoever breaks the connection goes to `on_gone`, and `Client.answer` or
`Client.refuse` ends the wait.

Who still waits or lingers after a moment hangs on one epoll, itself one reader of the event loop:
that costs one system call for each client where loop.add_reader costs two and two objects.
"""

import asyncio
import errno
import logging
import resource
import select
import socket
from collections.abc import Callable
from typing import Any

from chucky.errors import ChuckyError

# The listen queue: the kernel's own bound (net.core.somaxconn) is 4096.
BACKLOG = 4096
# Connections taken in one go. At about 20 us each the loop is back at its links after 1.3 ms.
ACCEPT_BATCH = 64
# Clients read from in one go, 64 KiB each: 4 MiB, about 1 ms.
READ_BATCH = 64
_READ_BYTES = 64 * 1024
# How long a client may take to close after its fact: a reset sooner could cost it the fact when
# something that it sent is still on the way. 2 s is six retransmissions on a LAN.
LINGER_MS = 2000
# A client closes within one round trip: at 10,000 facts a second and 10 ms that is 100. Above 1024
# the oldest is cut off. Each costs a descriptor and no memory of ours.
LINGERING = 1024
# Descriptors that clients leave to the rest of the node, or half of them all if those are few: 128
# handshakes and 51 that come or go in a flood of those (three turns of 16, 17 in newer Pythons), 64
# links and as many dials, 128 control clients, 16 look-ups, and 20 of our own, which makes 471.
RESERVED = 512
# A client that came is looked at after this. On a LAN it has its fact and has closed by then, which
# spares two system calls and a wake-up. At 40,000 facts a second 200 wait for it.
_SETTLE_MS = 5
_UNSETTLED = 512
# How long to leave the queue alone when there is no descriptor or memory for another socket.
_EXHAUSTED_MS = 100
# Said at most so often: at the edge of them it comes and goes with each client.
_TOLD_MS = 60_000
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # not compiled in; switched off by sysctl

_WAYS_OUT = {
    errno.EADDRINUSE: (
        "; see who has it with sudo ss -ltnp 'sport = :{}', or set [facts] port or listen"
    ),
    errno.EADDRNOTAVAIL: "; no interface here has that address: set [facts] listen",
    errno.EACCES: "; it is for root only: set [facts] port",
    errno.EMFILE: "; raise LimitNOFILE= of the unit",
}

_log = logging.getLogger(__name__)


# MSG_MORE: the line leaves together with the end of the stream, as one packet.
_WITH_THE_END = int(socket.MSG_DONTWAIT | socket.MSG_MORE)
_DONTWAIT, _WRITES = int(socket.MSG_DONTWAIT), int(socket.SHUT_WR)
_STREAM = int(socket.SOCK_STREAM)


class Client:
    """One connection on TCP 4040 that waits for its fact, or has it and has not closed yet."""

    __slots__ = ("_port", "connection", "ended")

    def __init__(self, port: "FactPort", connection: socket.SocketType) -> None:
        self._port = port
        self.connection = connection
        self.ended = False  # the client will send no more; it may well still read

    def answer(self, line: bytes) -> None:
        """Deliver the fact and end the connection in good order."""
        if _deliver(self.connection, line):
            self._port.linger(self)
        else:
            self._port.drop(self)

    def refuse(self, why: str) -> None:
        """Close with nothing sent; the protocol has no place for `why`."""
        self._port.drop(self)


class FactPort:
    """TCP `port` on `listen` ("": every address, IPv4 and IPv6)."""

    def __init__(
        self,
        listen: str,
        port: int,
        clock_ms: Callable[[], int],
        choose: Callable[[], bytes | None],
        on_clients: Callable[[list[Client]], None],
        on_gone: Callable[[Client], None],
    ) -> None:
        """`choose` is asked for each newcomer by itself: its line, or None when it has to wait."""
        self._listen = listen
        self._port = port
        self._clock_ms = clock_ms
        self._choose = choose
        self._on_clients = on_clients
        self._on_gone = on_gone
        self._listener: socket.socket | None = None
        self._told_ms = -_TOLD_MS
        self._epoll: select.epoll | None = None
        self._scratch = bytearray(_READ_BYTES)
        self._answered: list[socket.SocketType] = []  # at once, and not looked at since
        self._clients: dict[int, Client] = {}  # by descriptor: all others that are open
        self._lingering: dict[Client, int] = {}  # until when, in that order
        self._sweeper: asyncio.TimerHandle | None = None
        self._fresh: list[Client] = []  # not watched yet
        self._settler: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int | None:
        """The TCP port while bound, else None."""
        return None if self._listener is None else int(self._listener.getsockname()[1])

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._clients) + len(self._answered)

    def bind(self) -> None:
        """Listen, if not yet. Raises ChuckyError that names the port."""
        if self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            if self._epoll is None:
                self._epoll = select.epoll()
                loop.add_reader(self._epoll, self._on_readable)
            self._listener = _listener(self._listen, self._port)  # last: who connects is served
        except OSError as error:
            raise self._trouble(error) from None
        loop.add_reader(self._listener, self._on_connections)

    def check(self) -> None:
        """Raise what `bind` would raise now; nobody is let in."""
        if self._listener is None:
            try:
                _listener(self._listen, self._port, listens=False).close()
            except OSError as error:
                raise self._trouble(error) from None

    def unbind(self) -> None:
        """Stop listening. Who is connected stays, and so does who had only reached the queue:
        closing the listener would reset them."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        for _ in range(BACKLOG // ACCEPT_BATCH):
            if not self._accept(self._listener):
                break
        self._listener.close()  # right after the last look into the queue
        self._listener = None

    def close(self) -> None:
        """Stop listening and drop every client."""
        self.unbind()
        for client in tuple(self._clients.values()):
            self.drop(client)
        for connection in self._answered:
            connection.close()
        for timer in (self._sweeper, self._settler):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._settler = None
        self._answered.clear()
        self._fresh.clear()
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll)
            self._epoll.close()
            self._epoll = None

    def linger(self, client: Client) -> None:
        """Close the client once it closes, or after LINGER_MS; until then read what it sends."""
        if client.ended:
            self.drop(client)
            return
        if len(self._lingering) >= LINGERING:
            self.drop(next(iter(self._lingering)))
        self._lingering[client] = self._clock_ms() + LINGER_MS
        if self._sweeper is None:
            self._sweep_in(LINGER_MS)

    def drop(self, client: Client) -> None:
        """Close the client now."""
        self._clients.pop(client.connection.fileno(), None)
        self._lingering.pop(client, None)
        client.connection.close()

    def _trouble(self, error: OSError) -> ChuckyError:
        where = self._listen or "every address"
        way_out = _WAYS_OUT.get(error.errno or 0, "").format(self._port)
        return ChuckyError(f"TCP port {self._port} on {where}: {error.strerror or error}{way_out}")

    def _on_connections(self) -> None:
        if self._listener is not None:
            self._accept(self._listener)

    def _accept(self, listener: socket.socket) -> int:
        """Take up to ACCEPT_BATCH connections from the queue; return how many."""
        # What socket.accept() does before and after this call, and IntEnums as arguments, take as
        # long as all that Python does for a connection here.
        accept = listener._accept  # type: ignore[attr-defined]
        family, room = int(listener.family), _most_clients() - self.open
        waiting: list[Client] = []
        taken = 0
        for _ in range(ACCEPT_BATCH):
            try:
                if taken >= room:
                    raise OSError(errno.EMFILE, "the other descriptors are for the links")
                descriptor, _address = accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listener, error)
                    break
                continue  # that connection died in the queue (accept(2), error handling)
            taken += 1
            connection = socket.SocketType(family, _STREAM, 0, descriptor)
            line = self._choose()
            if line is None:
                client = self._clients[descriptor] = Client(self, connection)
                waiting.append(client)
            elif _deliver(connection, line):
                self._answered.append(connection)
            else:
                connection.close()
        if waiting:
            self._fresh += waiting
            self._on_clients(waiting)
        if len(self._answered) >= _UNSETTLED:
            self._settle()
        elif (self._answered or self._fresh) and self._settler is None:
            loop = asyncio.get_running_loop()
            self._settler = loop.call_later(_SETTLE_MS / 1000, self._settle)
        return taken

    def _settle(self) -> None:
        """Close those who have their fact and closed, and watch everyone else who came lately."""
        if self._settler is not None:
            self._settler.cancel()
            self._settler = None
        answered, self._answered = self._answered, []
        for connection in answered:
            if _ended(connection, self._scratch):
                connection.close()
            else:
                client = self._clients[connection.fileno()] = Client(self, connection)
                self.linger(client)
                self._watch(client)
        fresh, self._fresh = self._fresh, []
        for client in fresh:
            if client in self._lingering and _ended(client.connection, self._scratch):
                self.drop(client)
            else:
                self._watch(client)

    def _watch(self, client: Client) -> None:
        """Have the loop say when the client sends something or closes, if it is still open."""
        assert self._epoll is not None
        if client.connection.fileno() >= 0:
            self._epoll.register(client.connection.fileno(), select.EPOLLIN)

    def _rest(self, listener: socket.socket, error: OSError) -> None:
        """Leave the queue alone for a while: it stays readable and the loop would spin."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_EXHAUSTED_MS / 1000, self._resume, listener)
        if (now_ms := self._clock_ms()) >= self._told_ms + _TOLD_MS:
            self._told_ms = now_ms
            _log.warning(
                "TCP port %d: cannot accept with %d connections open: %s; raise LimitNOFILE= or"
                " lower [facts] max_connections",
                self._port,
                self.open,
                error.strerror,
            )

    def _resume(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._on_connections)

    def _on_readable(self) -> None:
        assert self._epoll is not None
        for descriptor, events in self._epoll.poll(0, READ_BATCH):
            client = self._clients.get(descriptor)
            if client is not None:  # not dropped by what an earlier one of this round led to
                self._read(client, events)

    def _read(self, client: Client, events: int) -> None:
        """Throw away what the client sent; notice its end."""
        assert self._epoll is not None
        ended = _ended(client.connection, self._scratch)
        if client in self._lingering:
            if ended:
                self.drop(client)
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            # We have not shut our side, so HUP is no orderly end but a reset.
            self.drop(client)
            self._on_gone(client)
        elif ended:
            # A half-close (`echo | nc -N`): it still wants its fact. Its socket stays readable for
            # ever, so wait for a reset only, which epoll reports unasked.
            client.ended = True
            self._epoll.modify(client.connection.fileno(), 0)

    def _sweep_in(self, delay_ms: int) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(max(1, delay_ms) / 1000, self._sweep)

    def _sweep(self) -> None:
        """Drop who lingered long enough."""
        self._sweeper = None
        now_ms = self._clock_ms()
        for client, until_ms in tuple(self._lingering.items()):
            if until_ms > now_ms:
                self._sweep_in(until_ms - now_ms)
                return
            self.drop(client)


def _deliver(connection: socket.SocketType, line: bytes) -> bool:
    """Send the line and the end of the stream; return whether that went well."""
    try:
        # Never short: a fact is at most 1000 bytes, and the buffer of a connection on which nothing
        # was sent has room for 4096 (net.ipv4.tcp_wmem).
        connection.send(line, _WITH_THE_END)
        connection.shutdown(_WRITES)
    except OSError:
        return False
    return True


def _ended(connection: socket.SocketType, scratch: bytearray) -> bool:
    """Throw away what the client sent; return whether that was the end, good or bad."""
    try:
        return connection.recv_into(scratch, 0, _DONTWAIT) == 0
    except BlockingIOError:
        return False
    except OSError:
        return True


def _most_clients() -> int:
    """Return how many clients may be open at a time, by the limit that this process has now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(RESERVED, limit // 2)


def _listener(listen: str, port: int, listens: bool = True) -> socket.socket:
    if listen:
        flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
        found = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM, flags=flags)
        return _open(found[0][0], found[0][4], listens)
    try:
        return _open(socket.AF_INET6, ("::", port), listens)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        return _open(socket.AF_INET, ("0.0.0.0", port), listens)


def _open(family: int, address: Any, listens: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still in TIME_WAIT can be had at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Several nodes of one user share the port on one host; the kernel deals connections out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" takes IPv4 too, whatever net.ipv6.bindv6only says.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setblocking(False)
        listener.bind(address)
        if listens:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
