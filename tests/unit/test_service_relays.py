"""The fact service as a relay: asking, passing on, old answers, lost links."""

import asyncio
import itertools
import socket

import pytest

from chucky.messages import Answer, Ask, Epoch
from chucky.net import service
from chucky.net.service import Nobody, Relay, Serve
from tests.unit.fact_nodes import (
    EPOCH_4,
    EPOCH_5,
    EPOCH_6,
    FOREVER_MS,
    Node,
    asks,
    owner,
    run,
    wire,
)

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
        assert [ask.wanted for ask in asks(relay)] == [20]
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


@pytest.mark.parametrize("news", ["way", "epoch", "facts"])
def test_with_news_nobody_waits_for_a_retry(news: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY_MS", 3_600_000)  # not the way out here

    async def check(relay: Node, served: Node) -> None:
        wire(relay, 1, served, 2)
        await relay.connect()
        await relay.until(lambda: served.sent == [(2, Answer(1, None, ()))])
        served.route = Serve(EPOCH_5, FOREVER_MS)
        if news == "way":
            relay.becomes(Nobody())
            relay.becomes(Relay(1))
        elif news == "epoch":
            served.route = Serve(EPOCH_6, FOREVER_MS)
            relay.service.note_epoch(EPOCH_6)
            relay.service.changed()
        else:
            relay.service.changed()  # after a step without news those who wait ask again
        await relay.held(0)
        assert await relay.get() == b"fact 2\n"

    run(check, Node(Relay(1)), Node())


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


@pytest.mark.parametrize("number", [6, 2**63 + 5])
def test_an_epoch_that_only_an_answer_tells_is_not_believed(number: int) -> None:
    async def check(node: Node) -> None:
        waiting = asyncio.ensure_future(node.service.request())
        await node.until(lambda: len(node.sent) == 1)
        node.service.answer_ask(2, Ask(77, 1, 1))
        lie = Epoch(number, EPOCH_5.node)
        node.service.on_answer(1, Answer(1, lie, ("a lie",)))
        node.service.on_answer(1, Answer(2, lie, ("a lie",)))
        await node.until(lambda: len(node.sent) == 4)
        assert node.sent[2:] == [(2, Answer(77, None, ())), (1, Ask(3, 1, 1))]
        node.service.on_answer(1, Answer(3, EPOCH_5, ("five",)))
        assert await waiting == "five"

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
        node.service.note_epoch(EPOCH_6)
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
        assert [ask.wanted for ask in asks(node)] == [service.ASK_FACTS] * service.FLIGHTS
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
