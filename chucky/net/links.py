"""The links: TCP between nodes, from the dial or accept through the handshake to messages.

Everything happens on the loop's own turns: no callback runs inside dial, send or close. A link ends
once: by our close, and then nothing is said, or by itself, and then link_down says why:

    refused    the host answered that nobody listens there
    unreached  no route, no such host, no answer in time, to the dial or in the handshake
    cookie     the handshake was refused for the cookie, by either end
    protocol   the peer broke the protocol, speaks another version, or is this node itself
    closed     the connection ended
"""

import asyncio
import logging
import secrets
from typing import Protocol, cast

from chucky.errors import HandshakeRefused, RemoteProtocolError
from chucky.messages import Message
from chucky.names import Address, NodeName
from chucky.net import tcp
from chucky.wire import codec
from chucky.wire.framing import MAX_LINK_FRAME, FrameReader, Opener, Sealer, frame
from chucky.wire.handshake import NONCE_BYTES, Acceptor, Initiator

logger = logging.getLogger("chucky.links")

# Strangers at the door. A handshake takes two round trips, 1 ms on a LAN; the newest is always let
# in and the oldest turned out, so holding all places keeps nobody out unless they are all taken
# anew within that time. 128 connections of 20 KiB each are 2.5 MiB. Ten nodes of one host that all
# start at once come with nine from one source.
MAX_HANDSHAKES = 128
MAX_HANDSHAKES_PER_SOURCE = 16
# Waiting in the kernel. With less a flood fills the queue, and who finds it full comes again after
# a second only.
BACKLOG = 128
# Accepted in one turn of the loop: 16 of 0.1 ms each. It is three turns of asyncio from there to a
# place here and to the end of who had it: a flood holds that many descriptors beyond the places.
ACCEPT_BATCH = 16
# Read in one turn: 16 KiB are 780 of the smallest frames (4 + 1 + 16), of 10 us each: 8 ms.
READ_BYTES = 16 * 1024
# Four of the biggest frames: who is further behind than that does not read.
MAX_WRITE_BUFFER = 4 * MAX_LINK_FRAME
# How long a closed link may take to get rid of what was sent before.
LINGER_MS = 1000
# One line per source in this time, and of so many sources: 3 lines a second, whoever invents them.
COMPLAINT_MS = 10_000
MAX_COMPLAINTS = 32


class LinkHandler(Protocol):
    """What the links tell. Dialled links have the caller's ids, accepted ones ids below 0."""

    def link_began(self, link: int, name: NodeName, incarnation: int) -> None:
        """Somebody connected, and claims to be this; link_up or link_down of this id follows."""

    def link_up(self, link: int, name: NodeName, incarnation: int, address: Address) -> None:
        """The handshake is done: the peer has the cookie."""

    def link_down(
        self, link: int, why: str, name: NodeName | None, address: Address | None
    ) -> None:
        """It ended by itself; before link_up, `name` is only what the peer claimed."""

    def link_message(self, link: int, message: Message) -> None:
        """A message came."""


class Links:
    """All links of one node. `key` may be replaced at any time; handshakes begun later use it."""

    def __init__(
        self,
        identity_name: NodeName,
        incarnation: int,
        key: bytes,
        handler: LinkHandler,
        handshake_timeout_ms: int,
        connect_timeout_ms: int = 250,
    ) -> None:
        self.key = key
        self.turned_away = 0  # connections that never said who they are
        self.identity = (identity_name, incarnation)
        self.handler = handler
        self.handshake_timeout_ms = handshake_timeout_ms
        self.stopped = False
        self._server: asyncio.Server | None = None
        self._last_accepted = 0
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._dialer = tcp.Dialer(connect_timeout_ms)
        self._connections: dict[int, _Connection] = {}  # those with an id that still counts
        self._handshaking: dict[_Connection, str] = {}  # accepted ones, the oldest first: source
        self._open: set[_Connection] = set()  # every one that has a socket
        self._complaints: dict[str, float] = {}  # source: when, the oldest first

    async def listen(self, host: str, port: int) -> int:
        """Listen on the first free of `port` and the next nine, and return which. `host` is an
        address, or "" for every one, IPv4 and IPv6. Raises as `tcp.listening_socket`."""
        sock = tcp.listening_socket(host, port, BACKLOG)
        bound, taken, *scope = sock.getsockname()
        if host:  # a peer takes where a dial comes from for where this node listens
            self._dialer.source = sock.family, (bound, 0, *scope)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), sock=sock, backlog=ACCEPT_BATCH
        )
        sock.listen(BACKLOG)  # asyncio has one number for both
        return int(taken)

    def dial(
        self,
        link: int,
        address: Address,
        expected: NodeName | None = None,
        former: int | None = None,
    ) -> None:
        """Connect and shake hands, with a node of the expected name if there is one, but not with
        its former incarnation; link_up or link_down of this id follows."""
        dialling = self._dial(link, address, expected, former)
        self._dials[link] = asyncio.get_running_loop().create_task(dialling)

    def send(self, link: int, message: Message) -> None:
        """Send over a link that is up; an id that is not is ignored. Raises LocalProtocolError for
        what the wire cannot carry."""
        if link in self._connections:
            self._connections[link].send(message)

    def close(self, link: int) -> None:
        """End a link or dial, after what was sent on it; an id that is not known is ignored."""
        if link in self._dials:
            self._dials.pop(link).cancel()
        if link in self._connections:
            self._connections.pop(link).finish()

    async def stop(self) -> None:
        """Listen no more, close everything as `close` does, and wait for it, at most LINGER_MS."""
        self.stopped = True
        if self._server:
            self._server.close()
        dials = tuple(self._dials.values())
        for link in (*self._dials, *self._connections):
            self.close(link)
        for connection in self._open:
            connection.finish()
        gone = (connection.gone for connection in self._open)
        await asyncio.gather(*dials, *gone, return_exceptions=True)

    async def _dial(
        self, link: int, address: Address, expected: NodeName | None, former: int | None
    ) -> None:
        connected = await self._dialer.connect(address)
        if isinstance(connected, str):
            del self._dials[link]
            self.handler.link_down(link, connected, None, address)
            return
        sock, peer = connected
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self, link, peer, expected, former), sock=sock
        )

    # What follows is for _Connection.

    def opened(self, connection: "_Connection", link: int, source: str) -> int:
        """Note a connection that has a socket now; return its id, a new one for a link of 0."""
        self._open.add(connection)
        if link:
            if self._dials.pop(link, None):  # not closed in the very turn of its success
                self._connections[link] = connection
            return link
        self._last_accepted -= 1
        self._make_room(source)
        self._handshaking[connection] = source
        self._connections[self._last_accepted] = connection
        return self._last_accepted

    def _make_room(self, source: str) -> None:
        waiting = self._handshaking
        same = [connection for connection, other in waiting.items() if other == source]
        if len(same) >= MAX_HANDSHAKES_PER_SOURCE:
            same[0].end("closed")
        elif len(waiting) >= MAX_HANDSHAKES:
            next(iter(waiting)).end("closed")

    def handshake_over(self, connection: "_Connection") -> None:
        """Note that it takes no place at the door any more."""
        self._handshaking.pop(connection, None)

    def ended(self, connection: "_Connection", link: int) -> bool:
        """Forget the id; return whether it still counted: nobody had closed it."""
        if self._connections.get(link) is not connection:
            return False
        del self._connections[link]
        return True

    def lost(self, connection: "_Connection") -> None:
        """Note that its socket is gone."""
        self._open.discard(connection)
        self.handshake_over(connection)

    def turn_away(self, source: str, sentence: str) -> None:
        """Count a stranger, and tell of it."""
        self.turned_away += 1
        self.complain(source, f"not a node: {sentence}; {self.turned_away} such so far")

    def complain(self, source: str, sentence: str) -> None:
        """Log one line about a source, unless there was one lately."""
        now_ms = asyncio.get_running_loop().time() * 1000
        for other, told_ms in tuple(self._complaints.items()):
            if now_ms - told_ms < COMPLAINT_MS:
                break
            del self._complaints[other]
        if source not in self._complaints and len(self._complaints) < MAX_COMPLAINTS:
            self._complaints[source] = now_ms
            logger.info("connection with %s: %s", source, sentence)


class _Connection(asyncio.BufferedProtocol):
    """One socket: the handshake, then messages, then maybe a while of getting rid of the rest."""

    def __init__(
        self,
        links: Links,
        link: int = 0,
        address: Address | None = None,
        expected: NodeName | None = None,
        former: int | None = None,
    ) -> None:
        """`link` and `address` are those of a dial; one that was accepted has none yet."""
        self._links = links
        self._link = link
        self._address = address or Address("", 0)
        self._dialled = address is not None
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        identity, nonce = links.identity, secrets.token_bytes(NONCE_BYTES)
        self._handshake: Initiator | Acceptor
        if self._dialled:
            self._handshake = Initiator(identity, links.key, nonce, expected, former)
        else:
            self._handshake = Acceptor(identity, links.key, nonce)
        self._reader = FrameReader(MAX_LINK_FRAME)
        self._chunk = bytearray(READ_BYTES)
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None  # with it, the link is up
        self._ending = False  # nothing is told or sent any more
        self._why = "closed"
        self._stranger = "it did not say who it is"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._dialled:
            self._address = tcp.address_of(transport.get_extra_info("peername"))
        self._link = self._links.opened(self, self._link, self._address.host)
        self._timer = self._wait()
        if self._links.stopped:  # accepted in the very turn of the stop
            self._links.close(self._link)
        elif isinstance(self._handshake, Initiator):
            self._transport.write(self._handshake.begin())

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        if self._ending:
            return
        data = bytes(self._chunk[:nbytes])
        try:
            if self._opener is None:
                data = self._shake_hands(data)
            if self._opener is not None:
                self._read(data, self._opener)
        except HandshakeRefused as refusal:
            self._refused(refusal)
        except RemoteProtocolError as error:
            self._stranger = str(error)
            if self._opener is not None:  # the core can say only that the link ended
                sentence = f"{self._handshake.peer} broke the protocol: {error}"
                self._links.complain(self._address.host, sentence)
            self.end("protocol")

    def _shake_hands(self, data: bytes) -> bytes:
        """Return what came for the link, when that is up now."""
        met = self._handshake.peer
        answer = self._handshake.receive(data)
        self._transport.write(answer)
        peer, incarnation = self._handshake.peer, self._handshake.peer_incarnation
        if answer:
            self._timer.cancel()
            self._timer = self._wait()
        if peer and not met and not self._dialled:
            self._links.handler.link_began(self._link, peer, incarnation)
        if not self._handshake.done or peer is None:
            return b""
        self._timer.cancel()
        self._links.handshake_over(self)
        self._sealer, self._opener, rest = self._handshake.session()
        self._links.handler.link_up(self._link, peer, incarnation, self._address)
        return rest

    def _wait(self) -> asyncio.TimerHandle:
        """Wait for the peer's next word: on a busy machine each takes a turn of a slow loop."""
        timeout = self._links.handshake_timeout_ms / 1000
        return self._loop.call_later(timeout, self.end, "unreached")

    def _refused(self, refusal: HandshakeRefused) -> None:
        self._transport.write(self._handshake.farewell)
        if refusal.reason == "version":
            self._links.complain(self._address.host, str(refusal))
        self._tell("cookie" if refusal.reason == "cookie" else "protocol")
        self.finish()

    def _read(self, data: bytes, opener: Opener) -> None:
        status = b""  # the newest of a row of them: it says all that those before it said
        for sealed in self._reader.feed(data):
            opened = opener.open(sealed)
            if opened.startswith(codec.STATUS):
                status = opened
                continue
            if status:
                self._take(status)
                status = b""
            self._take(opened)
        if status:
            self._take(status)

    def _take(self, opened: bytes) -> None:
        if self._ending:  # closed by the handler of the message before
            return
        message = codec.decode(opened)
        if message is not None:
            self._links.handler.link_message(self._link, message)

    def send(self, message: Message) -> None:
        """Send, if it is up."""
        if self._ending or self._sealer is None or self._transport.is_closing():
            return  # the last: a write has failed, and the loop is about to say so
        self._transport.write(frame(self._sealer.seal(codec.encode(message))))
        if self._transport.get_write_buffer_size() > MAX_WRITE_BUFFER:
            self.end("closed")

    def finish(self) -> None:
        """Close after what was sent has gone, and after the peer has closed: to close a socket
        with bytes unread resets it, which can take the last message with it."""
        if self._ending:
            return
        if self._opener is None and not self._handshake.farewell:  # nothing was sent that matters
            self.end("closed")
            return
        self._ending = True
        self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_MS / 1000, self._transport.abort)
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the peer has reset it, and the loop is about to say so
                self._transport.abort()

    def end(self, why: str) -> None:
        """Close at once; link_down follows, unless the id was closed before."""
        self._why = why
        self._ending = True
        self._links.handshake_over(self)
        self._transport.abort()

    def eof_received(self) -> None:
        """The peer has closed. What we may still have for it, it would throw away."""
        if not self._ending:
            self.end("closed")

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._timer.cancel()
        self._links.lost(self)
        if self._tell(self._why) and not self._dialled and not self._handshake.peer:
            self._links.turn_away(self._address.host, self._stranger)
        self.gone.set_result(None)

    def _tell(self, why: str) -> bool:
        told = self._links.ended(self, self._link)
        if told:
            self._links.handler.link_down(self._link, why, self._handshake.peer, self._address)
        return told
