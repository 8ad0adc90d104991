"""The fact service: owner, clock and holds, on real loopback sockets."""

import asyncio

import pytest

from chucky.errors import Unavailable
from chucky.messages import Answer, Ask
from chucky.net import service
from chucky.net.service import Relay, Serve
from tests.unit.fact_nodes import (
    EPOCH_5,
    FOREVER_MS,
    Node,
    asks,
    owner,
    run,
)

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

        def pick() -> bytes:
            node.ahead_ms += 40_000  # the third is chosen too late
            return b"slow\n"

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
