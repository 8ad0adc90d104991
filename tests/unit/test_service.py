"""The fact service on real loopback sockets: owner, relays, holds, and clients of every kind."""

import asyncio
import itertools
import resource
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest

from chucky.errors import ChuckyError, Unavailable
from chucky.messages import Answer, Ask, Epoch, Message
from chucky.names import NodeName
from chucky.net import fact_port, service
from chucky.net.service import FactService, Nobody, Relay, Route, Serve
from chucky.settings import Facts

FOREVER_MS = 1 << 60
EPOCH_4, EPOCH_5, EPOCH_6 = (Epoch(n, NodeName("a", "manticore")) for n in (4, 5, 6))


class Node:
    """A FactService with its clock, route and outbox laid open; not yet bound."""

    def __init__(
        self,
        route: Route = Nobody(),  # noqa: B008 - frozen
        hold_ms: int = 20_000,
        max_connections: int = 100,
        listen: str = "127.0.0.1",
        port: int = 0,
        fact: str = "fact",
    ) -> None:
        self.route = route
        self.ahead_ms = 0  # of the real clock
        self.picked = 0
        self.writers: list[asyncio.StreamWriter] = []  # of clients, closed at the end
        self.fact = fact
        self.sent: list[tuple[int, Message]] = []
        self.send: Callable[[int, Message], None] = lambda link, message: self.sent.append(
            (link, message)
        )
        self.service = FactService(
            Facts(listen=listen, port=port, max_connections=max_connections),
            hold_ms,
            self.clock_ms,
            lambda: self.route,
            self.pick,
            lambda link, message: self.send(link, message),
        )

    def clock_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms

    def pick(self) -> str:
        self.picked += 1
        return f"{self.fact} {self.picked}"

    def becomes(self, route: Route) -> None:
        self.route = route
        self.service.changed()

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.service.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def get(self, sent: bytes = b"") -> bytes:
        reader, writer = await self.connect(sent)
        received = await reader.read()
        writer.close()
        return received

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0)

    async def held(self, count: int) -> None:
        await self.until(lambda: self.service.waiting == count)


def run(check: Callable[..., Awaitable[None]], *nodes: Node, bind: bool = True) -> None:
    async def main() -> None:
        try:
            for node in nodes:
                if bind:
                    node.service.bind()
            async with asyncio.timeout(30):
                await check(*nodes)
        finally:
            for node in nodes:
                node.service.close()
                for writer in node.writers:
                    writer.close()

    asyncio.run(main())


def wire(left: Node, left_link: int, right: Node, right_link: int) -> None:
    """Join two nodes: what is sent on either's link comes out at the other's, in the next turn of
    the loop. Several joints may be made of one node."""

    def join(here: Node, link: int, there: Node, their_link: int) -> None:
        before = here.send

        def send(over: int, message: Message) -> None:
            if over != link:
                before(over, message)
                return
            here.sent.append((over, message))
            loop = asyncio.get_running_loop()
            if isinstance(message, Ask):
                loop.call_soon(there.service.answer_ask, their_link, message)
            else:
                loop.call_soon(there.service.on_answer, their_link, message)

        here.send = send

    join(left, left_link, right, right_link)
    join(right, right_link, left, left_link)


def asks(node: Node) -> list[Ask]:
    return [message for _, message in node.sent if isinstance(message, Ask)]


def owner(**changes: object) -> Node:
    return Node(Serve(EPOCH_5, FOREVER_MS), **changes)  # type: ignore[arg-type]


# The owner


def test_the_owner_answers_with_one_line_and_closes() -> None:
    async def check(node: Node) -> None:
        assert await node.get() == b"fact 1\n"
        assert await node.get() == b"fact 2\n"
        assert await node.service.request() == "fact 3"
        assert node.service.waiting == 0

    run(check, owner())


def test_a_thousand_at_once() -> None:
    async def check(node: Node) -> None:
        for _ in range(5):
            got = await asyncio.gather(*(node.get() for _ in range(200)))
            assert len(set(got)) == 200
        assert node.picked == 1000

    run(check, owner(max_connections=2))  # serving makes room at once


def test_every_address_by_default_or_the_one_given() -> None:
    async def check(every: Node, six: Node) -> None:
        for node, hosts in ((every, ("127.0.0.1", "::1")), (six, ("::1",))):
            for host in hosts:
                reader, writer = await asyncio.open_connection(host, node.service.port)
                assert await reader.read() == b"fact " + str(node.picked).encode() + b"\n"
                writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", six.service.port)

    run(check, owner(listen=""), owner(listen="::1"))


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    # No such family, as with ipv6.disable=1: asking the kernel for family 255 is refused by the
    # real call with the same errno.
    monkeypatch.setattr(fact_port.socket, "AF_INET6", 255)

    async def check(node: Node) -> None:
        assert await node.get() == b"fact 1\n"

    run(check, owner(listen=""))


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def check(node: Node) -> None:
            with pytest.raises(ChuckyError, match=f"TCP port {port} on 127.0.0.1: .*in use.*ss -l"):
                node.service.bind()
            assert not node.service.bound
            assert "\n" not in str(node)

        run(check, owner(port=port), bind=False)


@pytest.mark.parametrize("listen", ["203.0.113.7", "localhost", "rubbish"])
def test_an_address_that_is_not_this_machines(listen: str) -> None:
    async def check(node: Node) -> None:
        with pytest.raises(ChuckyError, match=f"TCP port 0 on {listen}"):
            node.service.bind()

    run(check, owner(listen=listen), bind=False)


def test_several_nodes_share_the_port() -> None:
    async def check(first: Node) -> None:
        second = owner(port=first.service.port, fact="other")
        second.service.bind()
        while not (first.picked and second.picked):
            assert (await first.get()).split()[0] in (b"fact", b"other")
        second.service.close()
        assert (await first.get()).startswith(b"fact")

    run(check, owner())


def test_unbind_frees_the_port_and_keeps_who_came_before() -> None:
    async def check(node: Node) -> None:
        port = node.service.port
        held, _ = await node.connect()
        await node.held(1)
        # This one is in the listen queue only: the loop has had no turn to accept it.
        with socket.create_connection(("127.0.0.1", port)) as queued:
            node.service.unbind()
            assert not node.service.bound
            assert node.service.waiting == 2
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            node.becomes(Serve(EPOCH_5, FOREVER_MS))
            assert await held.read() == b"fact 1\n"
            assert queued.recv(100) == b"fact 2\n"
        node.service.bind()
        node.service.bind()  # already bound: nothing happens
        assert await node.get() == b"fact 3\n"

    run(check, Node())


# The clock


def test_after_until_ms_the_owner_holds() -> None:
    async def check(node: Node) -> None:
        node.route = Serve(EPOCH_5, node.clock_ms() + 10_000)
        assert await node.get() == b"fact 1\n"
        node.ahead_ms = 10_000
        reader, _ = await node.connect()
        await node.held(1)
        node.service.changed()
        node.service.answer_ask(7, Ask(1, 1, 0))
        assert node.sent == [(7, Answer(1, None, ()))]
        assert node.picked == 1
        node.becomes(Serve(EPOCH_5, node.clock_ms() + 10_000))
        assert await reader.read() == b"fact 2\n"

    run(check, Node())


def test_the_clock_is_read_for_each_answer() -> None:
    async def check(node: Node) -> None:
        until_ms = node.clock_ms() + 100_000
        node.route = Serve(EPOCH_5, until_ms)

        def pick() -> str:
            node.ahead_ms += 40_000  # the third is chosen too late
            return "slow"

        node.service._pick = pick
        node.service.answer_ask(7, Ask(1, 10, 1))
        assert node.sent == [(7, Answer(1, EPOCH_5, ("slow",) * 3))]
        node.ahead_ms = 0
        local = [asyncio.ensure_future(node.service.request()) for _ in range(10)]
        await node.until(lambda: node.service.waiting == 7)
        assert sum(future.done() for future in local) == 3
        for future in local:
            future.cancel()
        await node.held(0)

    run(check, Node(), bind=False)


# Relays


def test_a_relay_asks_the_owner() -> None:
    async def check(relay: Node, served: Node) -> None:
        wire(relay, 1, served, 2)
        assert await relay.get() == b"fact 1\n"
        assert await relay.service.request() == "fact 2"
        assert asks(relay) == [Ask(1, 1, 1), Ask(2, 1, 1)]

    run(check, Node(Relay(1)), owner())


def test_what_is_accepted_at_once_is_asked_at_once() -> None:
    async def check(relay: Node, served: Node) -> None:
        wire(relay, 1, served, 2)
        clients = [socket.create_connection(("127.0.0.1", relay.service.port)) for _ in range(20)]
        await served.until(lambda: served.picked == 20)
        assert [ask.count for ask in asks(relay)] == [20]
        await relay.held(0)
        assert {client.recv(100) for client in clients} == {
            f"fact {number}\n".encode() for number in range(1, 21)
        }
        for client in clients:
            client.close()

    run(check, Node(Relay(1)), owner())


def test_one_extra_hop_and_never_more() -> None:
    async def check(relay: Node, middle: Node, served: Node) -> None:
        wire(relay, 1, middle, 2)
        wire(middle, 3, served, 4)
        assert await relay.get() == b"fact 1\n"
        assert [ask.hops for ask in asks(middle)] == [0]
        served.route = Relay(9)
        served.sent.clear()
        reader, _ = await relay.connect()
        await relay.until(lambda: len(served.sent) > 0)
        assert all(message.epoch is None for _, message in served.sent)  # type: ignore[union-attr]
        # However many hops a peer grants.
        middle.sent.clear()
        middle.service.answer_ask(8, Ask(1, 1, 200))
        assert [ask.hops for ask in asks(middle)] == [0]
        served.route = Serve(EPOCH_5, FOREVER_MS)
        assert (await reader.read()).startswith(b"fact ")

    run(check, Node(Relay(1)), Node(Relay(3)), owner())


def test_two_relays_of_each_other_do_not_ask_in_circles() -> None:
    async def check(left: Node, right: Node) -> None:
        wire(left, 1, right, 2)
        reader, _ = await left.connect()
        await left.until(lambda: len(right.sent) > 0)
        assert right.sent == [(2, Answer(1, None, ()))]
        right.route = Serve(EPOCH_5, FOREVER_MS)
        # Nothing else happens to the left: it asks again by itself.
        assert await reader.read() == b"fact 1\n"

    run(check, Node(Relay(1)), Node(Relay(2)))


def test_while_a_retry_is_due_newcomers_do_not_ask() -> None:
    async def check(node: Node) -> None:
        first = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 1)
        node.service.on_answer(1, Answer(1, None, ()))
        others = [asyncio.ensure_future(node.service.request()) for _ in range(9)]
        await node.held(10)
        assert len(node.sent) == 1
        node.service.changed()
        assert asks(node)[1:] == [Ask(2, 10, 1)]
        node.service.on_answer(1, Answer(2, EPOCH_5, tuple("0123456789")))
        assert await asyncio.gather(first, *others) == list("0123456789")

    run(check, Node(Relay(1)), bind=False)


def test_an_answer_below_the_highest_epoch_is_thrown_away() -> None:
    async def check(node: Node) -> None:
        first = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 1)
        node.service.on_answer(1, Answer(1, EPOCH_5, ("five",)))
        assert await first == "five"
        second = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 2)
        node.service.on_answer(1, Answer(2, EPOCH_4, ("from a past owner",)))
        await node.until(lambda: len(node.sent) == 3)  # asked again by itself
        node.service.note_epoch(EPOCH_6)
        node.service.note_epoch(EPOCH_4)  # never goes down
        node.service.on_answer(1, Answer(3, EPOCH_5, ("by now from the past too",)))
        await node.until(lambda: len(node.sent) == 4)
        node.service.on_answer(1, Answer(4, EPOCH_6, ("six",)))
        assert await second == "six"

    run(check, Node(Relay(1)), bind=False)


def test_the_node_in_the_middle_throws_old_answers_away_too() -> None:
    node = Node(Relay(1))
    node.service.note_epoch(EPOCH_5)
    node.service.answer_ask(2, Ask(77, 1, 1))
    node.service.on_answer(1, Answer(1, EPOCH_4, ("old",)))
    assert node.sent == [(1, Ask(1, 1, 0)), (2, Answer(77, None, ()))]


def test_the_epoch_this_node_served_counts_as_seen() -> None:
    async def check(node: Node) -> None:
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        node.becomes(Relay(1))
        waiting = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 1)
        node.service.on_answer(1, Answer(1, EPOCH_4, ("old",)))
        await node.until(lambda: len(node.sent) == 2)
        node.service.on_answer(1, Answer(2, EPOCH_6, ("new",)))
        assert await waiting == "new"

    run(check, Node(), bind=False)


def test_answers_to_nothing_that_was_asked_are_ignored() -> None:
    async def check(node: Node) -> None:
        waiting = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 1)
        node.service.on_answer(1, Answer(99, EPOCH_5, ("never asked",)))
        node.service.on_answer(2, Answer(1, EPOCH_5, ("not on that link",)))
        node.service.on_answer(1, Answer(1, EPOCH_5, ("right", "one too many")))
        node.service.on_answer(1, Answer(1, EPOCH_5, ("again",)))
        assert await waiting == "right"
        # Passed on over link 1, answered over link 3.
        node.service.answer_ask(2, Ask(5, 1, 1))
        node.service.on_answer(3, Answer(2, EPOCH_5, ("not on that link",)))
        assert node.sent[1:] == [(1, Ask(2, 1, 0))]

    run(check, Node(Relay(1)), bind=False)


def test_what_a_short_answer_leaves_is_asked_again_at_once() -> None:
    async def check(relay: Node, served: Node) -> None:
        wire(relay, 1, served, 2)
        served.fact = "x" * 990
        relay.route = Nobody()
        waiting = [asyncio.ensure_future(relay.service.request()) for _ in range(100)]
        await relay.held(100)
        relay.becomes(Relay(1))
        assert len(set(await asyncio.gather(*waiting))) == 100
        answers = [message for _, message in served.sent if isinstance(message, Answer)]
        assert len(answers) > 1
        for answer in answers:
            assert sum(map(len, answer.facts)) < service.ANSWER_BYTES + 1000

    run(check, Node(Relay(1)), owner(), bind=False)


def test_an_answer_is_bounded_whatever_is_asked() -> None:
    node = owner(fact="x")
    node.service.answer_ask(1, Ask(1, 2**63, 1))
    node.service.answer_ask(1, Ask(2, 0, 1))
    (_, most), (_, none) = node.sent
    assert isinstance(most, Answer)
    assert len(most.facts) == service.ASK_FACTS
    assert none == Answer(2, None, ())


def test_asks_under_way_are_bounded() -> None:
    async def check(node: Node) -> None:
        count = service.ASK_FACTS * (service.FLIGHTS + 3)
        waiting = [asyncio.ensure_future(node.service.request()) for _ in range(count)]
        await node.held(count)
        node.becomes(Relay(1))
        assert [ask.count for ask in asks(node)] == [service.ASK_FACTS] * service.FLIGHTS
        node.service.on_answer(1, Answer(1, EPOCH_5, ("fact",) * service.ASK_FACTS))
        assert len(asks(node)) == service.FLIGHTS + 1
        for number in itertools.count(2):
            if number > len(asks(node)):
                break
            node.service.on_answer(1, Answer(number, EPOCH_5, ("fact",) * service.ASK_FACTS))
        assert await asyncio.gather(*waiting) == ["fact"] * count

    run(check, Node(max_connections=100_000), bind=False)


def test_asks_passed_on_are_bounded_and_the_oldest_gives_way() -> None:
    node = Node(Relay(1))
    for number in range(service.PASSED + 2):
        node.service.answer_ask(2, Ask(number, 1, 1))
    assert [m for _, m in node.sent if isinstance(m, Answer)] == [
        Answer(0, None, ()),
        Answer(1, None, ()),
    ]


# Link loss and changes of route


def test_requests_on_a_lost_link_go_to_the_next_owner() -> None:
    async def check(node: Node, served: Node) -> None:
        wire(node, 2, served, 5)
        reader, _ = await node.connect()
        await node.until(lambda: len(node.sent) == 1)  # on link 1, which nobody answers
        node.service.link_lost(1)
        node.becomes(Nobody())
        assert node.service.waiting == 1
        node.becomes(Relay(2))
        assert await reader.read() == b"fact 1\n"
        node.service.on_answer(1, Answer(1, EPOCH_5, ("late",)))  # is ignored

    run(check, Node(Relay(1)), owner())


def test_without_a_change_a_lost_link_is_no_dead_end() -> None:
    async def check(node: Node, served: Node) -> None:
        reader, _ = await node.connect()
        await node.until(lambda: len(node.sent) == 1)
        wire(node, 1, served, 5)  # the link of that number is there again
        node.service.link_lost(1)
        assert await reader.read() == b"fact 1\n"

    run(check, Node(Relay(1)), owner())


def test_a_link_that_lives_but_is_no_longer_the_way_is_not_waited_for() -> None:
    async def check(node: Node) -> None:
        reader, _ = await node.connect()
        await node.until(lambda: len(node.sent) == 1)
        node.service.changed()
        assert len(node.sent) == 1  # the same route: nothing is asked twice
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert await reader.read() == b"fact 1\n"

    run(check, Node(Relay(1)))


def test_a_passed_ask_ends_with_either_link() -> None:
    node = Node(Relay(1))
    node.service.answer_ask(2, Ask(70, 1, 1))
    node.service.answer_ask(3, Ask(80, 1, 1))
    node.sent.clear()
    node.service.link_lost(2)
    assert node.sent == []
    node.service.link_lost(1)
    assert node.sent == [(3, Answer(80, None, ()))]
    node.service.link_lost(1)
    assert len(node.sent) == 1


# Holding


def test_requests_are_held_and_answered_in_their_order() -> None:
    async def check(node: Node) -> None:
        readers = []
        for number in range(5):
            readers.append((await node.connect())[0])
            await node.held(number + 1)
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        got = [await reader.read() for reader in readers]
        assert got == [f"fact {number}\n".encode() for number in range(1, 6)]

    run(check, Node())


def test_many_held_are_answered_in_portions() -> None:
    async def check(node: Node) -> None:
        count = service.DISPATCH_BATCH * 2 + 1
        waiting = [asyncio.ensure_future(node.service.request()) for _ in range(count)]
        await node.held(count)
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert node.picked == service.DISPATCH_BATCH
        assert len(set(await asyncio.gather(*waiting))) == count

    run(check, Node(max_connections=10_000), bind=False)


def test_after_hold_the_connection_closes_with_nothing_sent() -> None:
    async def check(node: Node) -> None:
        began = node.clock_ms()
        assert await node.get() == b""
        assert node.clock_ms() - began >= 49  # a millisecond's rounding
        with pytest.raises(Unavailable, match=r"no owner within 0.05 s"):
            await node.service.request()
        node.route = Relay(1)
        with pytest.raises(Unavailable, match=r"no answer from the owner within 0.05 s"):
            await node.service.request()
        node.route = Serve(EPOCH_5, 0)
        with pytest.raises(Unavailable, match=r"could not be sure of it"):
            await node.service.request()
        assert node.service.waiting == 0

    run(check, Node(hold_ms=50))


def test_flights_that_nobody_waits_for_make_room() -> None:
    async def check(node: Node) -> None:
        for number in range(service.FLIGHTS * 2):
            with pytest.raises(Unavailable):
                await node.service.request()
            assert len(asks(node)) == number + 1

    run(check, Node(Relay(1), hold_ms=2), bind=False)


def test_past_max_connections_the_newest_is_closed() -> None:
    async def check(node: Node) -> None:
        held = [(await node.connect())[0] for _ in range(3)]
        await node.held(3)
        assert await node.get() == b""
        with pytest.raises(Unavailable, match="3 requests wait already"):
            await node.service.request()
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert [await reader.read() for reader in held] == [b"fact 1\n", b"fact 2\n", b"fact 3\n"]
        assert await node.get() == b"fact 4\n"

    run(check, Node(max_connections=3))


def test_a_local_request_that_is_given_up_waits_no_more() -> None:
    async def check(node: Node) -> None:
        waiting = asyncio.ensure_future(node.service.request())
        await node.held(1)
        waiting.cancel()
        await node.held(0)

    run(check, Node(), bind=False)


def test_close_refuses_everybody() -> None:
    async def check(node: Node) -> None:
        reader, _ = await node.connect()
        waiting = asyncio.ensure_future(node.service.request())
        await node.held(2)
        node.service.close()
        assert await reader.read() == b""
        with pytest.raises(Unavailable, match="this node stops"):
            await waiting

    run(check, Node())


# Clients


def test_a_client_that_sends_much_first_still_gets_its_fact() -> None:
    async def check(node: Node) -> None:
        def send_then_read() -> bytes:
            with socket.create_connection(("127.0.0.1", node.service.port)) as client:
                client.sendall(bytes(1024 * 1024))
                client.shutdown(socket.SHUT_WR)
                received = b""
                while chunk := client.recv(100):
                    received += chunk
                return received

        assert await asyncio.to_thread(send_then_read) == b"fact 1\n"
        # And one that is held meanwhile.
        node.becomes(Nobody())
        getting = asyncio.ensure_future(asyncio.to_thread(send_then_read))
        await node.held(1)
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert await getting == b"fact 2\n"

    run(check, owner())


def test_what_comes_after_the_fact_resets_nothing() -> None:
    async def check(node: Node) -> None:
        reader, writer = await node.connect()
        assert await reader.read() == b"fact 1\n"  # with the server's end of the stream
        for _ in range(50):
            writer.write(bytes(10_000))  # would fail with a reset
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        await node.until(lambda: not node.service._port._clients)

    run(check, owner())


def test_a_half_closed_client_still_gets_its_fact() -> None:
    async def check(node: Node) -> None:
        reader, writer = await node.connect(b"hello\n")
        writer.write_eof()
        await node.held(1)
        (client,) = node.service._port._clients.values()
        await node.until(lambda: client.ended)
        assert node.service.waiting == 1
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert await reader.read() == b"fact 1\n"

    run(check, Node())


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_reset_ends_the_wait(half_closed: bool) -> None:
    async def check(node: Node) -> None:
        client = socket.create_connection(("127.0.0.1", node.service.port))
        await node.held(1)
        if half_closed:
            client.shutdown(socket.SHUT_WR)
            (held,) = node.service._port._clients.values()
            await node.until(lambda: held.ended)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await node.held(0)
        assert not node.service._port._clients

    run(check, Node())


def test_a_half_closed_client_costs_no_wakeups() -> None:
    async def check(node: Node) -> None:
        _, writer = await node.connect()
        writer.write_eof()
        await node.held(1)
        (client,) = node.service._port._clients.values()
        await node.until(lambda: client.ended)
        epoll = node.service._port._epoll
        assert epoll is not None
        assert epoll.poll(0) == []

    run(check, Node())


def test_silent_clients_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_port, "LINGER_MS", 20)

    async def check(node: Node) -> None:
        clients = [socket.create_connection(("127.0.0.1", node.service.port)) for _ in range(5)]
        await node.until(lambda: node.picked == 5)  # they neither read nor close
        await node.until(lambda: not node.service._port._clients)
        assert all(client.recv(100).startswith(b"fact") for client in clients)
        for client in clients:
            client.close()

    run(check, owner())


def test_lingering_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_port, "LINGERING", 3)

    async def check(node: Node) -> None:
        clients = [socket.create_connection(("127.0.0.1", node.service.port)) for _ in range(8)]
        await node.until(lambda: node.picked == 8)
        assert len(node.service._port._clients) <= 3
        assert all(client.recv(100).startswith(b"fact") for client in clients)
        for client in clients:
            client.close()

    run(check, owner())


def test_out_of_descriptors_it_rests_says_so_once_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check(node: Node) -> None:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
        limit = max(client.fileno() for client in clients) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        fill = []
        try:
            while True:
                fill.append(socket.socket())
        except OSError:
            pass
        try:
            for client in clients:
                client.connect_ex(("127.0.0.1", node.service.port))
            loop = asyncio.get_running_loop()
            await node.until(lambda: len(caplog.records) > 0)
            # It has left the loop: nothing spins, and it tries again before long.
            assert not loop.remove_reader(node.service._port._listener)
            tries = asyncio.Event()
            loop.call_later(0.25, tries.set)
            await tries.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fill:
                filler.close()
        for client in clients:
            assert (await loop.sock_recv(client, 100)).startswith(b"fact")
            client.close()
        (record,) = caplog.records
        assert "Too many open files" in record.getMessage()

    run(check, owner())
