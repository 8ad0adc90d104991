"""When a node's own beacon is due."""

from chucky.core.beacons import CALLERS, Beacons
from chucky.core.contact import REDIAL_MS
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings

KEYS = "abcdefghijkl"
NODES = PriorityList(tuple((NodePattern(key, ""),) for key in KEYS))
SETTINGS = Settings(Distributed(nodes=NODES))
INTERVAL_MS = SETTINGS.discovery.interval_ms


def waits_ms(me: str, linked: str) -> list[int]:
    """Step it at each ms; return how far apart its beacons are."""
    beacons = Beacons(NodeName(me, "h"), 0)
    names = [NodeName(key, "h") for key in linked]
    sent = [ms for ms in range(5 * INTERVAL_MS) if beacons.due(names, SETTINGS, ms)]
    return [b - a for a, b in zip(sent, sent[1:])]


def test_one_that_misses_a_listed_node_calls_as_often_as_it_dials() -> None:
    assert set(waits_ms("l", "")) == set(waits_ms("a", "b")) == {REDIAL_MS}


def test_of_many_that_are_linked_few_call_so_often() -> None:
    here = KEYS[:-1]
    often = [me for me in here if set(waits_ms(me, here.replace(me, ""))) == {REDIAL_MS}]
    assert often == list(KEYS[:CALLERS])
    assert set(waits_ms("k", here.replace("k", ""))) == {INTERVAL_MS}


def test_where_all_have_met_it_waits_a_little_for_a_step_that_comes_anyhow() -> None:
    assert set(waits_ms("a", KEYS[1:])) == {INTERVAL_MS}
    beacons, names = Beacons(NodeName("a", "h"), 0), [NodeName(key, "h") for key in KEYS[1:]]
    assert beacons.by_ms == REDIAL_MS
    assert beacons.due(names, SETTINGS, REDIAL_MS)
    assert beacons.by_ms == REDIAL_MS + INTERVAL_MS + INTERVAL_MS // 4


def test_when_a_listed_node_is_lost_it_calls_at_once_and_no_more_often() -> None:
    for me, soon_ms in (("a", REDIAL_MS), ("k", INTERVAL_MS)):  # k leaves it to those before it
        beacons = Beacons(NodeName(me, "h"), 0)
        names = [NodeName(key, "h") for key in KEYS if key != me]
        assert beacons.due(names, SETTINGS, REDIAL_MS)
        assert not beacons.due(names[:-1], SETTINGS, REDIAL_MS + 1)
        assert beacons.by_ms == REDIAL_MS + soon_ms
        assert not beacons.due(names[:-1], SETTINGS, beacons.by_ms - 1)
        assert beacons.due(names[:-1], SETTINGS, beacons.by_ms)
    late, names = Beacons(NodeName("a", "h"), 0), [NodeName(key, "h") for key in KEYS[1:]]
    assert late.due(names, SETTINGS, REDIAL_MS)
    assert late.due(names[:-1], SETTINGS, REDIAL_MS + INTERVAL_MS // 2)
