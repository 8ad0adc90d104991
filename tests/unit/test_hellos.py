"""Hellos: what is told to whom and when, and what that costs a cluster that starts at once."""

from collections import Counter
from string import ascii_letters

import pytest

from chucky.core import actions as ac
from chucky.core.hellos import GATHER_MS, Hellos
from chucky.core.link import Link
from chucky.messages import Hello, Member, Status
from chucky.names import Address
from chucky.settings import Settings
from chucky.wire import codec
from tests.sim import cluster
from tests.sim.host import Host
from tests.unit.cluster import name

SETTINGS = Settings()
TICK_MS = SETTINGS.node.tick_ms


class Sent(cluster.Watch):
    """The messages that all nodes send, and their bytes, by kind."""

    def __init__(self) -> None:
        self.messages: Counter[type] = Counter()
        self.bytes: Counter[type] = Counter()

    def acts(self, host: Host, action: ac.Action) -> None:
        """Count."""
        if isinstance(action, ac.Send):
            self.messages[type(action.message)] += 1
            self.bytes[type(action.message)] += len(codec.encode(action.message))


def cold_start(nodes: int, every_ms: int) -> Sent:
    """Start nodes one by one; return what they sent until each had met all and rested."""
    lan = cluster.Cluster(SETTINGS, ascii_letters[:nodes], delay_us=(1000, 500))
    sent = Sent()
    lan.watch(sent)
    for key in lan.hosts:
        lan.start(key)
        lan.run(every_ms)
    lan.run(2 * TICK_MS)
    for key in lan.hosts:
        assert sum(n.state == "up" for n in lan.snapshot(key).nodes) == nodes - 1
    assert lan.serving == "a"
    return sent


@pytest.mark.parametrize("nodes", [12, 24])
@pytest.mark.parametrize("every_ms", [0, 10])
def test_in_a_cold_start_each_tells_each_a_few_times_however_many_there_are(
    nodes: int, every_ms: int
) -> None:
    sent, links = cold_start(nodes, every_ms), nodes * (nodes - 1)
    assert links <= sent.messages[Hello] <= 5 * links
    # A member is 25 bytes here, and is told once on a link; the rest of a Hello is 140 bytes.
    assert sent.bytes[Hello] <= (5 * 140 + 40 * nodes) * links
    assert links <= sent.messages[Status] <= 10 * links  # three or four of them are ticks


class Links:
    """The links of one node, and what it says on each."""

    def __init__(self, keys: str) -> None:
        self.out: list[ac.Action] = []
        self.hellos = Hellos(0, self.out.append)
        self.links: dict[str, Link] = {}
        self.up(keys)

    def up(self, keys: str) -> None:
        for key in keys:
            at = Address(f"10.0.0.{ord(key)}", 4041)
            link = self.links[key] = Link(ord(key), name(key), 1, at, 0, 0, 1000)
            link.hello = Hello("", 0, 4041, (), ())

    def said(self, now_ms: int, busy: bool = False) -> dict[str, str]:
        """Settle; return to whom of what members it spoke."""
        self.out.clear()
        self.hellos.settle(self.links.values(), (), SETTINGS, busy, now_ms)
        said = {}
        for action in self.out:
            assert isinstance(action, ac.Send) and isinstance(action.message, Hello)
            said[chr(action.link)] = "".join(m.name.name for m in action.message.members)
        return said


def test_the_first_hello_has_all_and_a_later_one_what_is_new() -> None:
    a = Links("bc")
    assert a.said(0) == {"b": "c", "c": "b"}
    a.up("d")
    assert a.said(5) == {"b": "d", "c": "d", "d": "bc"}
    assert a.hellos.due_ms is None


def test_what_comes_soon_after_a_hello_is_gathered_for_a_while() -> None:
    a = Links("bc")
    a.said(0)
    a.up("d")
    assert a.said(5)["b"] == "d"
    a.up("e")
    assert a.said(6) == {"e": "bcd"}
    a.up("f")
    assert a.said(5 + GATHER_MS - 1) == {"f": "bcde"}
    assert a.hellos.due_ms == 5 + GATHER_MS
    assert a.said(5 + GATHER_MS) == {"b": "ef", "c": "ef", "d": "ef", "e": "f"}
    assert a.hellos.due_ms is None and a.said(5 + 9 * GATHER_MS) == {}


def test_what_comes_in_one_turn_is_gathered_however_long_that_is() -> None:
    a = Links("bc")
    a.said(0)
    a.up("d")
    assert a.said(5, busy=True) == {"d": "bc"} and a.hellos.due_ms == 6
    a.up("e")
    assert a.said(9 * GATHER_MS, busy=True) == {"e": "bcd"}
    assert a.hellos.due_ms == 9 * GATHER_MS + 1
    assert a.said(9 * GATHER_MS + 1) == {"b": "de", "c": "de", "d": "e"}
    assert a.hellos.due_ms is None


def test_that_a_member_left_is_not_told_but_that_it_returned() -> None:
    a = Links("bcd")
    a.said(0)
    del a.links["d"]
    assert a.said(5) == {}
    a.up("d")
    assert a.said(6) == {"b": "d", "c": "d", "d": "bc"}


def test_a_member_that_leaves_and_returns_in_one_turn_is_told_anew() -> None:
    a = Links("bcd")
    a.said(0)
    del a.links["d"]
    assert a.said(5, busy=True) == {}
    a.up("d")
    assert a.said(6, busy=True) == {"d": "bc"} and a.hellos.due_ms == 7
    assert a.said(7) == {"b": "d", "c": "d"}


def test_our_own_new_addresses_are_told_at_once() -> None:
    a = Links("bc")
    a.said(0)
    a.up("d")
    a.said(5)
    a.hellos.addresses = (Address("10.0.0.97", 4041),)
    assert a.said(6) == {"b": "", "c": "", "d": ""}


def test_a_new_address_of_a_member_is_told() -> None:
    a = Links("bc")
    a.said(0)
    there = Address("10.1.0.1", 4041)
    a.links["b"].hello = Hello("", 0, 4041, (there,), ())
    a.said(1)
    (sent,) = [x.message for x in a.out if isinstance(x, ac.Send)]
    assert isinstance(sent, Hello)
    assert sent.members == (Member(name("b"), (Address("10.0.0.98", 4041), there)),)


def test_who_has_not_said_hello_is_told_of_when_it_has() -> None:
    a = Links("bc")
    a.links["c"].hello = None
    assert a.said(0) == {"b": "", "c": "b"}
    a.links["c"].hello = Hello("", 0, 4041, (), ())
    assert a.said(1) == {"b": "c"}
