"""Links over real loopback sockets: nodes find each other, strangers get nowhere."""

import asyncio
import itertools
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chucky.messages import Answer, Ask, Goodbye, Message, NameTaken, Status
from chucky.names import Address, NodeName
from chucky.net import links as links_module
from chucky.net import tcp
from chucky.net.links import MAX_HANDSHAKES, MAX_HANDSHAKES_PER_SOURCE, Links
from chucky.wire.framing import frame
from chucky.wire.handshake import Acceptor, Initiator
from tests.unit.test_interfaces import needs_namespaces, play, refuse_thread
from tests.unit.test_interfaces import run as run_command
from tests.unit.test_multicast import has_ipv6, needs_ipv6

A, B = NodeName("a", "manticore"), NodeName("b", "manticore")
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
STATUS = Status(1, 0, b"digest", "standby")


class Node:
    """A node's end of the links: what it was told, in order."""

    def __init__(self, name: NodeName, key: bytes = KEY, handshake_timeout_ms: int = 5000) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.links = Links(name, 7, key, self, handshake_timeout_ms)
        self.on_message: Callable[[int, Message], None] = lambda link, message: None
        self.busy = False  # inside dial, send or close: nothing may be told
        self._changed = asyncio.Event()
        self.home = Address("127.0.0.1", 0)

    def _tell(self, *what: Any) -> None:
        assert not self.busy
        self.told.append(what)
        self._changed.set()

    def link_began(self, link: int, name: NodeName, incarnation: int) -> None:
        self._tell("began", link, name, incarnation)

    def link_up(self, link: int, name: NodeName, incarnation: int, address: Address) -> None:
        self._tell("up", link, name, incarnation, address)

    def link_down(
        self, link: int, why: str, name: NodeName | None, address: Address | None
    ) -> None:
        self._tell("down", link, why, name, address)

    def link_message(self, link: int, message: Message) -> None:
        self._tell("message", link, message)
        self.on_message(link, message)

    def dial(self, link: int, address: Address) -> None:
        self.busy = True
        self.links.dial(link, address)
        self.busy = False

    def send(self, link: int, message: Message) -> None:
        self.busy = True
        self.links.send(link, message)
        self.busy = False

    def close(self, link: int) -> None:
        self.busy = True
        self.links.close(link)
        self.busy = False

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [what[1:] for what in self.told if what[0] == kind]

    async def until(self, kind: str, count: int = 1) -> tuple[Any, ...]:
        """Wait until it was told `count` of these; return the last."""
        async with asyncio.timeout(30):
            while len(self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind)[count - 1]


@asynccontextmanager
async def node(
    name: NodeName, key: bytes = KEY, handshake_timeout_ms: int = 5000, home: str = "127.0.0.1"
) -> AsyncIterator[Node]:
    one = Node(name, key, handshake_timeout_ms)
    one.home = Address(home, await one.links.listen(home, 0))
    try:
        yield one
    finally:
        await one.links.stop()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    """a and b, with link 1 of a being link -1 of b."""
    async with node(A) as a, node(B) as b:
        a.dial(1, b.home)
        await a.until("up")
        await b.until("up")
        yield a, b


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def connect(address: Address) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=10)


async def read_all(sock: socket.socket) -> bytes:
    """Read until the end, or the reset, of the connection."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    data = b""
    try:
        async with asyncio.timeout(30):
            while chunk := await loop.sock_recv(sock, 65536):
                data += chunk
    except ConnectionError:
        pass
    return data


def test_a_dial_comes_from_where_its_node_listens() -> None:
    """A peer takes the source for where the node listens, and a refusal there for its death."""

    async def scenario() -> None:
        async with node(A, home="127.0.0.7") as a, node(B) as b:
            a.dial(1, b.home)
            _, _, _, address = await b.until("up")
            assert address.host == "127.0.0.7"

    run(scenario)


@needs_ipv6
def test_a_node_that_listens_in_one_family_dials_in_no_other() -> None:
    async def scenario() -> None:
        async with node(A, home="127.0.0.7") as a, node(B, home="::1") as b:
            a.dial(1, b.home)
            assert await a.until("down") == (1, "unreached", None, b.home)

    run(scenario)


def scene_two_ports() -> None:
    """A machine with two ports to dial from: four peers are dialled, as without `listen`."""

    async def scenario() -> None:
        run_command("ip link set lo up")
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40001 40002")
        for host in ("127.0.0.1", "::1"):
            async with AsyncExitStack() as stack:
                a = await stack.enter_async_context(node(A, home=host))
                for link in range(1, 5):
                    peer = Node(NodeName(f"b{link}", "manticore"))
                    peer.home = Address(host, await peer.links.listen(host, 5000 + link))
                    stack.push_async_callback(peer.links.stop)
                    a.dial(link, peer.home)
                await a.until("up", 4)

    asyncio.run(scenario())


@needs_namespaces
def test_dials_from_where_a_node_listens_share_a_port() -> None:
    play(scene_two_ports)


def test_up_both_ways_and_messages_both_ways() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            assert a.told == [("up", 1, B, 7, b.home)]
            assert b.told[0] == ("began", -1, A, 7)
            link, name, incarnation, address = b.of("up")[0]
            assert (link, name, incarnation, address.host) == (-1, A, 7, "127.0.0.1")
            big = Answer(1, None, ("x" * 1024,) * 1000)
            for message in (STATUS, big, Ask(1, 2, 3)):
                a.send(1, message)
                b.send(-1, message)
            await a.until("message", 3)
            await b.until("message", 3)
            assert a.of("message") == [(1, STATUS), (1, big), (1, Ask(1, 2, 3))]
            assert b.of("message") == [(-1, STATUS), (-1, big), (-1, Ask(1, 2, 3))]

    run(scenario)


@pytest.mark.parametrize("option", [socket.TCP_NODELAY, tcp.TCP_THIN_LINEAR_TIMEOUTS])
def test_sockets_do_not_wait_for_acks_nor_longer_for_each_loss(option: int) -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            for one in (a, b):
                for connection in one.links._open:
                    sock = connection._transport.get_extra_info("socket")
                    assert sock.getsockopt(socket.IPPROTO_TCP, option)

    run(scenario)


def test_close_flushes_and_tells_only_the_other_end() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            big = Answer(1, None, ("x" * 1024,) * 1000)
            b.send(-1, STATUS)  # unread bytes at the end that closes must not reset the rest
            a.send(1, big)
            a.send(1, Goodbye("stopped"))
            a.close(1)
            a.send(1, STATUS)
            a.close(1)
            assert (await b.until("down"))[:3] == (-1, "closed", A)
            assert b.of("message") == [(-1, big), (-1, Goodbye("stopped"))]
            assert a.told == [("up", 1, B, 7, b.home)]
            a.close(99)

    run(scenario)


def test_close_from_within_a_message_ends_the_messages() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            b.on_message = lambda link, message: b.links.close(link)
            for _ in range(5):
                a.send(1, STATUS)
            await a.until("down")
            assert len(b.of("message")) == 1 and b.of("down") == []

    run(scenario)


def test_a_dial_closed_at_any_moment_tells_nothing() -> None:
    async def scenario() -> None:
        async with node(A) as a, node(B) as b:
            for turns in itertools.count():
                a.told.clear()
                a.dial(turns + 1, b.home)
                for _ in range(turns):
                    await asyncio.sleep(0)
                before = list(a.told)
                a.close(turns + 1)
                if before:  # up already: every earlier moment has been tried
                    assert turns > 3 and before == [("up", turns + 1, B, 7, b.home)]
                    break
                marker = 10**6 + turns
                a.dial(marker, b.home)
                await a.until("up")
                assert [what[1] for what in a.told] == [marker]
                a.close(marker)

    run(scenario)


def test_stop_closes_everything_and_tells_nothing() -> None:
    async def scenario() -> None:
        async with node(B) as b:
            a = Node(A)
            a.dial(1, b.home)
            await a.until("up")
            stranger = connect(b.home)
            while not b.links._handshaking:
                await asyncio.sleep(0)
            a.dial(2, b.home)
            told = list(a.told)
            await a.links.stop()
            assert a.told == told
            assert (await b.until("down"))[0] == -1
            told = [what for what in b.told if what[0] == "down"]
            await b.links.stop()
            assert await read_all(stranger) == b""
            assert b.of("down") == [what[1:] for what in told]
            with pytest.raises(ConnectionRefusedError):
                connect(b.home)
            stranger.close()

    run(scenario)


def test_another_cookie_is_told_at_both_ends_and_a_new_key_mends_it() -> None:
    async def scenario() -> None:
        async with node(A) as a, node(B, OTHER_KEY) as b:
            a.dial(1, b.home)
            assert await a.until("down") == (1, "cookie", B, b.home)
            link, why, name, address = await b.until("down")
            assert (link, why, name, address.host) == (-1, "cookie", A, "127.0.0.1")
            assert a.of("up") == b.of("up") == []
            b.links.key = KEY
            a.dial(2, b.home)
            await a.until("up")

    run(scenario)


def test_a_node_that_dials_itself() -> None:
    async def scenario() -> None:
        async with node(A) as a:
            a.dial(1, a.home)
            await a.until("down", 2)
            assert {what[:3] for what in a.of("down")} == {(-1, "protocol", A), (1, "protocol", A)}
            assert a.of("up") == []

    run(scenario)


def test_a_dial_that_asks_for_another_start_ends_at_the_former_one() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            for link, former, ends in ((2, 7, "down"), (3, 6, "up")):
                a.links.dial(link, b.home, B, former)
                assert (await a.until(ends, link - 1))[0] == link
                assert (await b.until(ends, link - 1))[0] == -link
            assert a.of("down") == [(2, "protocol", B, b.home)] and len(a.of("up")) == 2

    run(scenario)


def test_refused_and_unreached() -> None:
    async def scenario() -> None:
        async with node(A) as a:
            with socket.create_server(("127.0.0.1", 0)) as free:
                nobody = Address("127.0.0.1", free.getsockname()[1])
            a.dial(1, nobody)
            assert await a.until("down") == (1, "refused", None, nobody)
            # A full backlog drops the SYN: nobody answers.
            with socket.socket() as deaf:
                deaf.bind(("127.0.0.1", 0))
                deaf.listen(0)
                silent = Address("127.0.0.1", deaf.getsockname()[1])
                with connect(silent):
                    a.dial(2, silent)
                    assert await a.until("down", 2) == (2, "unreached", None, silent)
            for link, host in ((3, "no-such-host.invalid"), (4, "x" * 70), (5, "fe80::1%nowhere")):
                a.dial(link, Address(host, 1))
                assert await a.until("down", link) == (link, "unreached", None, Address(host, 1))

    run(scenario)


def test_a_node_that_stood_still_itself_does_not_give_up_a_dial_that_was_answered() -> None:
    async def scenario() -> None:
        a, loop = Node(A), asyncio.get_running_loop()
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            at = Address(*server.getsockname())
            with connect(at):  # that fills the backlog: the dial's SYN is dropped
                a.dial(1, at)
                for _ in range(5):
                    await asyncio.sleep(0)
                began = loop.time()
                server.accept()[0].close()
                dialled, _ = server.accept()  # once it was sent again; the loop stands meanwhile
                assert loop.time() - began > 0.25
        dialled.setblocking(False)
        assert await asyncio.wait_for(loop.sock_recv(dialled, 1024), 30)
        dialled.close()
        await a.until("down")
        await a.links.stop()

    run(scenario)


@pytest.mark.parametrize("late", [False, True])
def test_a_dial_let_in_and_reset_at_once_is_no_more_unreached_than_any_that_ends(
    late: bool,
) -> None:
    """As a process does that is being killed: its listening socket is the last that is closed."""

    async def scenario() -> None:
        a = Node(A)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            at = Address(*server.getsockname())
            first = [connect(at)] if late else []  # fills the backlog: the SYN is sent twice
            a.links._dialer = tcp.Dialer(30_000)
            a.dial(1, at)
            for _ in range(5 if late else 2):
                await asyncio.sleep(0)
            for _ in (*first, "the dial"):
                sock = server.accept()[0]
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
        assert (await a.until("down"))[:2] == (1, "closed")
        for sock in first:
            sock.close()
        await a.links.stop()

    run(scenario)


def test_a_host_name_is_resolved() -> None:
    async def scenario() -> None:
        async with node(A) as a, node(B) as b:
            a.dial(1, Address("localhost", b.home.port))
            assert await a.until("up") == (1, B, 7, b.home)

    run(scenario)


def test_a_name_that_no_thread_can_look_up_is_unreached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with node(A) as a, node(B) as b:
            there = Address("localhost", b.home.port)
            with monkeypatch.context() as full:
                full.setattr(threading.Thread, "start", refuse_thread)
                for dial in range(1, tcp.MAX_RESOLVING + 1):
                    a.dial(dial, there)
                    assert await a.until("down", dial) == (dial, "unreached", None, there)
            a.dial(100, there)
            assert (await a.until("up"))[0] == 100

    run(scenario)


def test_an_acceptor_that_says_nothing_is_unreached() -> None:
    async def scenario() -> None:
        a = Node(A, handshake_timeout_ms=50)
        with socket.create_server(("127.0.0.1", 0)) as server:
            silent = Address(*server.getsockname())
            a.dial(1, silent)
            assert await a.until("down") == (1, "unreached", None, silent)
        await a.links.stop()

    run(scenario)


def test_a_handshake_begins_as_the_peer_says_who_it_is() -> None:
    """A stranger that says nothing holds up nobody who looks who is there."""

    async def scenario() -> None:
        async with node(A) as a:
            with connect(a.home), connect(a.home) as peer:
                first = Initiator((B, 7), KEY, bytes(16)).begin()
                peer.sendall(first[:-1])
                while len(a.links._handshaking) < 2:
                    await asyncio.sleep(0)
                peer.sendall(first[-1:])
                assert await a.until("began") == (-2, B, 7)
                assert len(a.told) == 1

    run(scenario)


def test_slow_strangers_are_closed_and_told_of_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with node(B, handshake_timeout_ms=50) as b:
            first = Initiator((A, 1), KEY, bytes(16)).begin()
            for count, sent in ((1, b""), (2, first[:-1]), (3, first[:1])):
                with connect(b.home) as slow:
                    slow.sendall(sent)
                    assert await read_all(slow) == b""
                down = await b.until("down", count)
                assert down[:3] == (-count, "unreached", None)
            assert b.links.turned_away == 3

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    lines = [record for record in caplog.records if record.name == "chucky.links"]
    assert [record.getMessage() for record in lines] == [
        "connection with 127.0.0.1: not a node: it did not say who it is; 1 such so far"
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        frame(b"N"),
        frame(b"Nchucky\1\2@a"),
        frame(b"R\6cookie\1"),
        b"\xff" * 100_000,
    ],
)
def test_garbage_is_closed(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with node(A) as a, node(B) as b:
            with connect(b.home) as stranger:
                try:
                    stranger.sendall(garbage)
                except ConnectionError:
                    pass
                assert await read_all(stranger) == b""
            assert (await b.until("down"))[:3] == (-1, "protocol", None)
            assert b.links.turned_away == 1
            a.dial(1, b.home)
            await a.until("up")

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    records = [record for record in caplog.records if record.name != "asyncio"]
    assert [record.name for record in records] == ["chucky.links"]
    assert "\n" not in records[0].getMessage()
    assert not any(record.exc_info for record in caplog.records)


def test_a_server_of_something_else_is_told_as_such() -> None:
    async def scenario() -> None:
        async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.org ESMTP\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mail, "127.0.0.1", 0)
        address = Address(*server.sockets[0].getsockname())
        a = Node(A)
        a.dial(1, address)
        assert await a.until("down") == (1, "protocol", None, address)
        await a.links.stop()
        server.close()
        await server.wait_closed()

    run(scenario)


async def shake_hands(sock: socket.socket) -> tuple[Any, Any]:
    """Be a by hand; return what seals and opens."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    me = Initiator((A, 7), KEY, bytes(16))
    await loop.sock_sendall(sock, me.begin())
    while not me.done:
        await loop.sock_sendall(sock, me.receive(await loop.sock_recv(sock, 65536)))
    return me.session()[:2]


def test_bad_frames_cost_the_link_and_unknown_tags_do_not() -> None:
    async def scenario() -> None:
        async with node(B) as b:
            bad: list[Callable[[Any], bytes]] = [
                lambda sealer: frame(b"no MAC at all"),
                lambda sealer: frame(b""),
                lambda sealer: frame(sealer.seal(b"\1")),
                lambda sealer: b"\x7f\xff\xff\xff",
            ]
            for count, make in enumerate(bad, 1):
                with connect(b.home) as sock:
                    sealer, _ = await shake_hands(sock)
                    sock.setblocking(True)
                    sock.sendall(frame(sealer.seal(b"\xfffrom a newer version")))
                    sock.sendall(make(sealer))
                    assert (await b.until("down", count))[:3] == (-count, "protocol", A)
            assert b.of("message") == [] and len(b.of("up")) == len(bad)
            assert b.links.turned_away == 0

    run(scenario)


def test_who_breaks_the_protocol_on_a_link_is_told_of_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with node(B) as b:
            for count in (1, 2):  # a node dials anew at once; its fault is told once in a while
                with connect(b.home) as sock:
                    sealer, _ = await shake_hands(sock)
                    sock.setblocking(True)
                    sock.sendall(frame(sealer.seal(b"\1")))
                    await b.until("down", count)

    with caplog.at_level(logging.INFO):
        run(scenario)
    assert [record.getMessage() for record in caplog.records] == [
        "connection with 127.0.0.1: a@manticore broke the protocol: Status is cut short"
    ]


def test_messages_that_come_with_the_last_handshake_bytes() -> None:
    async def scenario() -> None:
        async with node(B) as b:
            with connect(b.home) as sock:
                loop = asyncio.get_running_loop()
                sock.setblocking(False)
                me = Initiator((A, 7), KEY, bytes(16))
                await loop.sock_sendall(sock, me.begin())
                proof = me.receive(await loop.sock_recv(sock, 65536))
                # The proof's last byte brings the link up, and what comes with it belongs to it.
                await loop.sock_sendall(sock, proof + frame(b"no MAC at all"))
                await b.until("down")
            assert [what[0] for what in b.told] == ["began", "up", "down"]
            assert b.of("down")[0][1] == "protocol"

    run(scenario)


def test_of_statuses_that_wait_in_a_row_the_last_is_taken() -> None:
    async def scenario() -> None:
        async with pair() as (a, b):
            one, two, three, four = (STATUS._replace(tick=tick) for tick in range(1, 5))
            for message in (one, two, Ask(1, 2, 3), three, four, Ask(2, 2, 3)):
                a.send(1, message)
            await b.until("message", 4)
            wants = [two, Ask(1, 2, 3), four, Ask(2, 2, 3)]
            assert b.of("message") == [(-1, message) for message in wants]
            a.send(1, one)
            assert await b.until("message", 5) == (-1, one)

    run(scenario)


def test_each_word_of_a_handshake_has_its_own_time() -> None:
    async def scenario() -> None:
        a, loop, there = Node(A), asyncio.get_running_loop(), Acceptor((B, 7), KEY, bytes(16))
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            a.dial(1, Address(*server.getsockname()))
            sock, _ = await loop.sock_accept(server)
            limits_s = []
            while not there.done:
                answer = there.receive(await loop.sock_recv(sock, 1024))
                limits_s += [connection._timer.when() for connection in a.links._open]
                await loop.sock_sendall(sock, answer)
            assert limits_s == sorted(set(limits_s)) and len(limits_s) == 2
            await a.until("up")
            sock.close()
        await a.until("down")
        await a.links.stop()

    run(scenario)


async def up_and_reset(b: Node, sock: socket.socket) -> int:
    """Link with b, and end with a reset, as the kernel does for a killed process that has unread
    bytes; return the link."""
    await shake_hands(sock)
    link: int = (await b.until("up"))[0]
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0)) + bytes(4))
    return link


def test_an_abrupt_end_is_closed() -> None:
    async def scenario() -> None:
        async with node(B) as b:
            with connect(b.home) as sock:
                await up_and_reset(b, sock)
            assert (await b.until("down"))[:3] == (-1, "closed", A)

    run(scenario)


@pytest.mark.parametrize("end", ["close", "stop"])
def test_a_link_that_was_reset_just_now_can_be_closed(end: str) -> None:
    async def scenario() -> None:
        async with node(B) as b:
            with connect(b.home) as sock:
                link = await up_and_reset(b, sock)
            if end == "close":  # in the same turn of the loop: the node has not seen the reset
                b.close(link)
            await b.links.stop()
            assert b.of("down") == []

    run(scenario)


def test_what_a_reset_link_is_still_sent_is_no_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with node(B) as b:
            with connect(b.home) as sock:
                link = await up_and_reset(b, sock)
            for _ in range(16):  # in the same turn of the loop: the node has not seen the reset
                b.send(link, STATUS)
            assert (await b.until("down"))[:3] == (link, "closed", A)

    run(scenario)
    assert not caplog.records


def test_who_does_not_read_is_closed() -> None:
    async def scenario() -> None:
        async with node(B) as b:
            with connect(b.home) as sock:
                await shake_hands(sock)
                link = (await b.until("up"))[0]
                big = Answer(1, None, ("x" * 1024,) * 1000)
                for _ in range(100):
                    b.send(link, big)
                assert (await b.until("down"))[:3] == (link, "closed", A)

    run(scenario)


def test_strangers_take_a_bounded_number_of_places_and_nodes_still_get_in() -> None:
    async def scenario() -> None:
        # Time enough to dial them all: none is to leave by itself.
        async with node(A) as a, node(B, handshake_timeout_ms=60_000) as b:
            # One source: 127.0.0.1.
            crowd = [connect(b.home) for _ in range(MAX_HANDSHAKES_PER_SOURCE + 5)]
            await b.until("down", 5)
            assert [what[:2] for what in b.of("down")] == [(-n, "closed") for n in range(1, 6)]
            a.dial(1, b.home)
            await a.until("up")
            # Many sources: 127.0.1.1 and on.
            for number in range(MAX_HANDSHAKES):
                sock = socket.create_connection(
                    (b.home.host, b.home.port), 10, (f"127.0.1.{number + 1}", 0)
                )
                crowd.append(sock)
            await b.until("down", len(crowd) - MAX_HANDSHAKES)
            assert len(b.links._handshaking) == MAX_HANDSHAKES
            a.dial(2, b.home)
            await a.until("up", 2)
            for sock in crowd:
                sock.close()
            await b.until("down", len(crowd))
            assert len(b.links._open) == 2 and not b.links._handshaking

    run(scenario)


def test_a_flood_takes_few_descriptors_beyond_its_places() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def scenario() -> None:
        async with node(B, handshake_timeout_ms=60_000) as b:
            home = (b.home.host, b.home.port)
            before = descriptors()
            # All wait in the kernel: the loop has no turn.
            sources = [f"127.0.1.{number + 1}" for number in range(MAX_HANDSHAKES)]
            crowd = [socket.create_connection(home, 10, (source, 0)) for source in sources]
            while len(b.links._handshaking) < MAX_HANDSHAKES:
                await asyncio.sleep(0)
            most = 0
            for turn in range(20):
                for number in range(links_module.BACKLOG):
                    with socket.socket() as stranger:
                        stranger.bind((f"127.0.{turn + 2}.{number + 1}", 0))
                        stranger.setblocking(False)
                        stranger.connect_ex(home)
                await asyncio.sleep(0)
                most = max(most, descriptors() - before - len(crowd))
            assert len(b.of("down")) > MAX_HANDSHAKES
            assert most <= MAX_HANDSHAKES + 51  # what fact_port.RESERVED counts with
            for sock in crowd:
                sock.close()

    run(scenario)


def test_complaints_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        one = Node(A)
        for number in range(2 * links_module.MAX_COMPLAINTS):
            one.links.complain(f"10.0.{number // 256}.{number % 256}", "x")
        assert len(one.links._complaints) == links_module.MAX_COMPLAINTS

    with caplog.at_level(logging.INFO):
        run(scenario)
    assert len(caplog.records) == links_module.MAX_COMPLAINTS


def test_the_next_free_port_of_ten() -> None:
    async def scenario() -> None:
        async with node(A) as a:
            b = Node(B)
            port = await b.links.listen("127.0.0.1", a.home.port)
            assert a.home.port < port < a.home.port + tcp.PORTS_TRIED
            await b.links.stop()

    run(scenario)


def test_all_ten_ports_taken_and_no_such_address() -> None:
    async def scenario() -> None:
        one = Node(A)
        taken: list[socket.socket] = []
        port = 0
        while len(taken) < tcp.PORTS_TRIED:
            try:
                sock = socket.create_server(("127.0.0.1", port + len(taken) if port else 0))
            except OSError:
                for other in taken:
                    other.close()
                taken, port = [], 0
                continue
            taken.append(sock)
            port = port or sock.getsockname()[1]
        with pytest.raises(OSError, match=f"{port} to {port + 9} on 127.0.0.1 are all taken"):
            await one.links.listen("127.0.0.1", port)
        for sock in taken:
            sock.close()
        with pytest.raises(OSError, match="link port 4041 on 192.0.2.1: Cannot assign"):
            await one.links.listen("192.0.2.1", 4041)

    run(scenario)


def test_every_address_is_ipv4_and_ipv6() -> None:
    async def scenario() -> None:
        a, b = Node(A), Node(B)
        port = await b.links.listen("", 0)
        hosts = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
        for count, host in enumerate(hosts, 1):
            a.dial(count, Address(host, port))
            assert (await a.until("up", count))[3] == Address(host, port)
            assert (await b.until("up", count))[3].host == host
        await a.links.stop()
        await b.links.stop()

    run(scenario)


def test_addresses_are_shown_as_people_write_them() -> None:
    assert tcp.address_of(("10.0.0.1", 5)) == Address("10.0.0.1", 5)
    assert tcp.address_of(("::ffff:10.0.0.1", 5, 0, 0)) == Address("10.0.0.1", 5)
    assert tcp.address_of(("2001:db8::1", 5, 0, 0)) == Address("2001:db8::1", 5)
    assert tcp.address_of(("fe80::1", 5, 0, 1)) == Address("fe80::1%lo", 5)
    assert tcp.address_of(("fe80::1%lo", 5, 0, 1)) == Address("fe80::1%lo", 5)
    assert tcp.address_of(("fe80::1", 5, 0, 2**31 - 1)) == Address(f"fe80::1%{2**31 - 1}", 5)


def test_the_last_message_of_a_refusal_at_a_distance() -> None:
    """NameTaken and the like are read although the other end writes all the while."""

    async def scenario() -> None:
        async with pair() as (a, b):
            taken = NameTaken(a.home)
            for _ in range(50):
                b.send(-1, STATUS)
            a.send(1, taken)
            a.close(1)
            await b.until("down")
            assert b.of("message") == [(-1, taken)]

    run(scenario)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
