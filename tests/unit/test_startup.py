"""The look round and the sync: how long a node waits before its first verdict."""

import dataclasses

from chucky.core.startup import LOOK_LIMIT_MS, LOOK_MS, Look, Missing, Sync
from chucky.names import NodePattern
from chucky.settings import Distributed, Settings
from tests.unit.cluster import name

A, B, C = map(NodePattern, "abc")


def look() -> Look:
    begun = Look(tick_time_ms=1000)
    begun.begin(0)
    return begun


def sync(me: str = "a", **distributed: object) -> Sync:
    d = dataclasses.replace(Distributed(), **distributed)  # type: ignore[arg-type]
    return Sync(Settings(distributed=d), name(me), 0)


def test_the_look_takes_200_ms() -> None:
    looking = look()
    assert looking.deadline() == LOOK_MS
    assert not looking.over(LOOK_MS - 1) and looking.goes_on
    assert looking.over(LOOK_MS) and not looking.goes_on
    assert looking.over(LOOK_MS - 1)  # once over it stays so


def test_a_handshake_begun_in_it_is_waited_for_until_its_end() -> None:
    looking = look()
    looking.handshake_began(-1, None, 1, 150)
    assert not looking.over(LOOK_MS) and looking.deadline() == 1150
    looking.handshake_ended(-1)
    assert looking.over(LOOK_MS)


def test_a_handshake_is_waited_for_at_most_one_tick_time() -> None:
    looking = look()
    looking.handshake_began(-1, None, 1, 150)
    assert not looking.over(1149) and looking.over(1150)


def test_a_handshake_begun_after_it_is_not_waited_for() -> None:
    looking = look()
    looking.handshake_began(-1, None, 1, 100)
    looking.handshake_began(-2, None, 1, LOOK_MS + 1)
    looking.handshake_ended(-1)
    assert looking.over(LOOK_MS + 1)


def test_a_handshake_with_who_is_heard_in_it_is_not_waited_for() -> None:
    looking, former, b, later = look(), *((name("b"), start) for start in (6, 7, 8))
    for at_ms, who in ((10, former), (20, b), (30, later)):  # the last may know more
        looking.handshake_began(-at_ms, who, 1, at_ms)
    looking.heard(*b, 0)
    looking.heard(*former, 0)
    for at_ms, who in ((40, former), (50, b)):
        looking.handshake_began(-at_ms, who, 1, at_ms)
    assert looking.deadline() == 1030
    looking.handshake_ended(-30)
    assert looking.deadline() == LOOK_MS
    looking.begin(2000)  # what was heard before is no news
    looking.handshake_began(-4, b, 1, 2010)
    assert looking.deadline() == 3010


def test_a_handshake_of_a_former_start_whose_clock_was_ahead_is_not_waited_for() -> None:
    looking, former, b = look(), (name("b"), 9), (name("b"), 8)
    for link, who, at_ms in ((1, None, 0), (-1, former, 20), (-2, (name("c"), 9), 30)):
        looking.handshake_began(link, who, 5, at_ms)
    looking.heard(*b, 4)  # said before the handshake began, which may be of a later start
    looking.handshake_ended(-2)
    assert looking.deadline() == 1020
    looking.heard(*b, 5)
    assert looking.deadline() == 1000
    looking.handshake_ended(1)
    assert looking.deadline() == LOOK_MS


def test_interfaces_that_keep_coming_up_hold_it_two_seconds_at_most() -> None:
    looking = look()
    for now_ms in range(0, 5000, 100):
        looking.interface_came_up(now_ms)
        if now_ms < LOOK_LIMIT_MS:
            assert looking.deadline() == min(now_ms + LOOK_MS, LOOK_LIMIT_MS)
    assert not looking.over(LOOK_LIMIT_MS - 1) and looking.over(LOOK_LIMIT_MS)


def test_an_interface_that_comes_up_after_it_changes_nothing() -> None:
    looking = look()
    assert looking.over(LOOK_MS)
    looking.interface_came_up(300)
    assert looking.over(301)


def test_without_lists_a_node_is_synced_at_once() -> None:
    waiting = sync()
    assert waiting.settle(False, False, 0) is None and waiting.synced


def test_all_of_both_lists_must_have_been_seen_but_oneself() -> None:
    waiting = sync(sync_nodes_mandatory=(A, B), sync_nodes_optional=(C,))
    assert waiting.awaited == (B, C)
    waiting.saw(name("b"))
    assert waiting.settle(False, False, 10) is None and not waiting.synced
    waiting.saw(name("c"))
    waiting.settle(False, False, 20)
    assert waiting.synced


def test_at_the_deadline_only_the_mandatory_ones_are_missed() -> None:
    waiting = sync(sync_nodes_mandatory=(B,), sync_nodes_optional=(C,))
    assert waiting.deadline_ms == 30_000
    assert waiting.settle(False, False, 29_999) is None and not waiting.synced
    assert waiting.settle(False, False, 30_000) == Missing((B,)) and not waiting.synced
    waiting.saw(name("b"))
    assert waiting.settle(False, False, 30_000) is None and waiting.synced


def test_a_formed_cluster_is_joined_whoever_is_missing() -> None:
    waiting = sync(sync_nodes_mandatory=(B,))
    assert waiting.settle(True, False, 10) is None and waiting.synced


def test_inf_waits_for_ever() -> None:
    waiting = sync(sync_nodes_mandatory=(B,), sync_nodes_timeout_ms=None)
    assert waiting.settle(False, False, 10**12) is None and not waiting.synced


def test_an_observer_waits_for_nobody() -> None:
    waiting = sync("z", sync_nodes_mandatory=(B,))
    waiting.settle(False, False, 0)
    assert waiting.synced and waiting.awaited == ()
