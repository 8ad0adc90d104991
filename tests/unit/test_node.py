"""Whole nodes on a virtual clock: each rule of the design as a short story."""

import copy
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.node import STALLS, Node
from chucky.core.startup import LOOK_MS
from chucky.messages import (
    MAX_NODES,
    Backing,
    Beacon,
    End,
    Epoch,
    Goodbye,
    Heard,
    Holds,
    NameTaken,
    Naming,
    Placed,
    Sign,
    Status,
)
from chucky.names import Address, NodeName, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings
from chucky.settings import Node as NodeSettings
from chucky.wire.codec import decode, encode
from tests.sim.clock import MS
from tests.sim.host import Host
from tests.unit.cluster import Cluster, name

START_THEM = "start them, or take them off sync_nodes_mandatory"

A, B, C = map(NodePattern, "abc")
ALL = (A, B, C)
TICK_TIME_MS = Settings().tick_time_ms


def settings(**distributed: object) -> Settings:
    return Settings(distributed=Distributed(**distributed))  # type: ignore[arg-type]


def linear(**distributed: object) -> Settings:
    return settings(nodes=PriorityList(((A,), (B,), (C,))), **distributed)


def running(cluster: Cluster, *order: str) -> Cluster:
    """Start the nodes and wait until the first of them serves."""
    cluster.start(*order)
    cluster.run_until(lambda: cluster.serving == order[0])
    cluster.run(1000)
    return cluster


# Cold start.


def test_nothing_runs_before_the_mandatory_nodes_are_there() -> None:
    cluster = Cluster(settings(sync_nodes_mandatory=ALL))
    cluster.start("a", "b")
    cluster.run(20_000)
    assert cluster.serving == "" and cluster.snapshot("a").phase == "syncing"
    assert cluster.snapshot("a").sentence == "waiting for c: 10 s left"
    cluster.start("c")
    assert cluster.run_until(lambda: cluster.serving == "a") < 500
    cluster.run(5000)
    assert cluster.most_served() == 1 and cluster.log("a")[-1] == "Application is started on a@h"


def test_a_missing_mandatory_node_ends_the_node_at_the_deadline_not_later() -> None:
    cluster = Cluster(settings(sync_nodes_mandatory=ALL, sync_nodes_timeout_ms=3000))
    cluster.start("a", "b")
    began_ms = cluster.now_ms
    cluster.run_until(lambda: cluster.hosts["a"].exit is not None)
    assert cluster.now_ms - began_ms == 3000
    assert cluster.hosts["a"].exit == (75, f"mandatory nodes are missing: c; {START_THEM}")
    assert cluster.most_served() == 0


def test_the_deadline_holds_during_a_look_too() -> None:
    cluster = Cluster(settings(sync_nodes_mandatory=ALL, sync_nodes_timeout_ms=3000))
    cluster.start("a")
    cluster.run(1800)
    cluster.freeze("a")
    cluster.run(1100)
    cluster.thaw("a")  # it looks anew, until 3100
    cluster.run_until(lambda: cluster.hosts["a"].exit is not None)
    assert cluster.now_ms == 4000


def test_a_missing_optional_node_is_waited_for_until_the_timeout() -> None:
    cluster = Cluster(settings(sync_nodes_optional=ALL, sync_nodes_timeout_ms=3000))
    cluster.start("a", "b")
    assert cluster.run_until(lambda: cluster.serving == "a") == 3002


def test_a_node_seen_once_counts_though_it_left() -> None:
    cluster = Cluster(settings(sync_nodes_mandatory=ALL))
    cluster.start("a", "c")
    cluster.run(1000)
    cluster.kill("c")
    cluster.run(2000)
    assert cluster.serving == ""
    cluster.start("b")
    assert cluster.run_until(lambda: cluster.serving == "a") < 500


def test_mandatory_is_for_forming_a_cluster_not_for_joining_one() -> None:
    cluster = running(Cluster(settings(sync_nodes_mandatory=ALL)), "a", "b", "c")
    cluster.kill("c")
    cluster.kill("a")
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500  # L2 as well


def test_a_cluster_of_another_digest_is_not_joined() -> None:
    cluster = running(Cluster(settings()), "b")
    others = settings(takeover=False, sync_nodes_mandatory=(C,), sync_nodes_timeout_ms=3000)
    cluster.start("a", settings=others)
    assert cluster.run_until(lambda: cluster.hosts["a"].exit is not None) == 3000
    assert cluster.hosts["a"].exit == (75, f"mandatory nodes are missing: c; {START_THEM}")


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_a_cold_start_ends_with_the_best_and_moves_nothing(order: str) -> None:
    cluster = Cluster(settings())
    for short in order:
        cluster.start(short)
        cluster.run(50)
    cluster.run(5000)
    assert cluster.serving == "a" and cluster.most_served() == 1
    assert [who for _, who in cluster.owners if who] == [("a",)]


def test_a_lone_node_serves_after_the_look() -> None:
    cluster = Cluster(settings())
    cluster.start("c")
    assert cluster.run_until(lambda: cluster.serving == "c") == 200


def test_a_node_that_is_synced_first_waits_for_a_better_one() -> None:
    cluster = Cluster(settings())
    for short, timeout_ms in (("a", 4000), ("b", 2000)):
        waits = settings(sync_nodes_optional=(C,), sync_nodes_timeout_ms=timeout_ms)
        cluster.start(short, settings=waits)
    cluster.run_until(lambda: cluster.serving != "")
    assert cluster.serving == "a" and cluster.now_ms == 3003  # b told a that a cluster is formed
    cluster.run(3000)
    assert [who for _, who in cluster.owners if who] == [("a",)]


# Failover.


@pytest.mark.parametrize("timeout_ms", [1000, 5000])
def test_a_killed_owner_is_replaced_at_the_timeout(timeout_ms: int) -> None:
    cluster = running(Cluster(settings(timeout_ms=timeout_ms)), "a", "b", "c")
    cluster.kill("a")
    took_ms = cluster.run_until(lambda: cluster.serving != "")
    assert timeout_ms <= took_ms <= timeout_ms + 20 and cluster.serving == "b"
    assert cluster.log("b")[-2:] == [
        "a@h is failing over to b@h",
        "Application is started on b@h",
    ]


def test_with_timeout_0_a_death_proven_by_refusal_moves_it_at_once() -> None:
    cluster = running(Cluster(settings(timeout_ms=0)), "a", "b", "c")
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving == "b") <= 30


def test_a_refusal_at_an_address_where_it_never_was_proves_nothing() -> None:
    cluster = running(Cluster(settings(timeout_ms=0), "abd"), "a", "b")
    claims = Beacon(name("a"), 99, 4041, False)  # a stranger's: a is where nobody listens
    cluster.give("b", ev.BeaconHeard(claims, cluster.hosts["d"].address))
    cluster.cut("a", "b")
    cluster.reset("b", "a")
    assert cluster.run_until(lambda: "b" in cluster.serving) >= TICK_TIME_MS - 250


def test_with_timeout_0_silence_moves_it_after_the_tick_time() -> None:
    cluster = running(Cluster(settings(timeout_ms=0)), "a", "b", "c")
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert TICK_TIME_MS - 250 <= took_ms <= TICK_TIME_MS + 50


@pytest.mark.parametrize("how, from_ms, to_ms", [("kill", 290, 400), ("power_off", 750, 1100)])
def test_one_that_starts_as_the_owner_dies_is_told_the_proof(
    how: str, from_ms: int, to_ms: int
) -> None:
    """With a timeout below the tick time; silence proves nothing before that."""
    cluster = running(Cluster(settings(timeout_ms=300)), "b", "c")
    getattr(cluster, how)("b")
    cluster.start("a")  # better, and the others stand aside for it
    took_ms = cluster.run_until(lambda: cluster.serving != "")
    assert cluster.serving == "a" and from_ms <= took_ms <= to_ms


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert 5000 - 250 <= took_ms <= 5000 + 50


def test_timeout_inf_never_fails_over() -> None:
    cluster = running(Cluster(settings(timeout_ms=None)), "a", "b", "c")
    cluster.kill("a")
    cluster.run(60_000)
    assert cluster.serving == ""
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") < 500


def test_a_second_failure_in_the_wait_does_not_lengthen_it() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.kill("a")
    cluster.run(3000)
    cluster.kill("b")
    assert cluster.run_until(lambda: cluster.serving == "c") <= 2020


def test_a_standby_that_hangs_in_the_wait_adds_at_most_a_tick_time() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.kill("a")
    cluster.run(4900)
    cluster.freeze("b")
    assert cluster.run_until(lambda: cluster.serving == "c") <= 100 + TICK_TIME_MS + 50


def test_an_owner_back_within_the_timeout_gets_it_back_without_failover() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.kill("a")
    cluster.run(1500)
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500
    cluster.run(10_000)
    assert cluster.serving == "a" and cluster.log("a")[-1] == "Application is started on a@h"
    assert not any("failing over" in line for s in "abc" for line in cluster.log(s))


def test_an_owner_that_dies_again_has_its_whole_timeout_again() -> None:
    # OTP never cancels the first timer: 1.55 s instead of 5 (erlang.md E7b).
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.kill("a")
    cluster.run(1500)
    cluster.start("a")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(1000)
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving == "b") >= 5000


def test_a_restarted_standby_adopts_the_vacancy() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.kill("a")
    cluster.run(2000)
    cluster.kill("b")
    cluster.start("b")
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert 2980 <= took_ms <= 3050


def test_an_owner_that_began_the_same_epoch_anew_is_lost_anew() -> None:
    """It was cut off when it came back, and is gone again before it hears of its former life."""
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.run(10_000)  # its ticks are far above those that follow
    cluster.power_off("a")
    cluster.split("a", "bc")
    cluster.start("a")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(2000)
    cluster.heal("a", "b")
    cluster.heal("b", "a")
    cluster.run_until(lambda: cluster.snapshot("b").owner == name("a"))
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b", 20_000)
    assert 4900 <= took_ms <= 5100


def test_standbys_that_tell_each_other_do_not_refresh_the_loss() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.cut("a", "c")
    cluster.run(200)
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b", 20_000)
    assert 4700 <= took_ms <= 5100


def test_nobody_starts_while_a_reachable_peer_hears_the_owner() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.cut("a", "b")
    cluster.run(20_000)
    assert cluster.serving == "a" and cluster.most_served() == 1
    assert cluster.snapshot("b").owner == name("a")
    assert cluster.snapshot("b").relay is not None  # through c


def test_b_dying_while_it_starts_is_no_second_delay() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.kill("a")
    cluster.run_until(lambda: "starting" in cluster.snapshot("b").sentence)
    cluster.kill("b")
    assert cluster.run_until(lambda: cluster.serving == "c") <= 6


# Takeover.


def test_a_better_node_takes_over_and_nobody_serves_twice() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500
    cluster.run(2000)
    assert cluster.most_served() == 1
    assert cluster.log("a")[-2:] == ["a@h is taking over b@h", "Application is started on a@h"]
    assert "Application chucky exited: stopped" in cluster.log("b")


def test_an_equal_tier_never_takes_over() -> None:
    cluster = running(Cluster(settings()), "c")
    cluster.start("b")
    cluster.run(20_000)
    assert [who for _, who in cluster.owners if who] == [("c",)]


def test_takeover_false_leaves_it_where_it_is() -> None:
    cluster = running(Cluster(settings(takeover=False)), "b", "c")
    cluster.start("a")
    cluster.run(20_000)
    assert cluster.serving == "b"


def test_takeover_delay_is_waited_for() -> None:
    cluster = running(Cluster(settings(takeover_delay_ms=3000)), "b", "c")
    cluster.start("a")
    assert 3000 <= cluster.run_until(lambda: cluster.serving == "a") <= 3050


def test_a_successor_that_cannot_get_ready_causes_no_move() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.hosts["a"].unready = "facts are gone"
    cluster.start("a")
    cluster.run(10_000)
    assert [who for _, who in cluster.owners if who] == [("b",)]
    assert "cannot run the application: facts are gone" in cluster.snapshot("a").sentence


@pytest.mark.parametrize(
    ("strangers", "told"),
    [
        (1, "b@h (10.0.0.1)"),
        (2, "b@h (10.0.0.1), x1@h (10.0.0.2)"),
        (3, "b@h (10.0.0.1), x1@h (10.0.0.2) and 1 more"),
        (16, "b@h (10.0.0.1), x1@h (10.0.0.2) and 14 more"),
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_strangers_do_not_push_the_owner_out_of_the_sentence(
    strangers: int, told: str, long: bool
) -> None:
    cluster = running(Cluster(linear(), "a"), "a")
    for number in range(strangers):
        stranger = NodeName(f"x{number}" if number else "b", "h" + 252 * "h" * long)
        at = Address(f"10.0.0.{number + 1}", 4041)
        why = ev.LinkDown(-number - 1, ev.Ended.COOKIE, stranger, at)
        cluster.hosts["a"].node.step(why, cluster.now_ms)
    if long:
        told = told.replace("b@h", f"b@{58 * 'h'}...").replace("x1@h", f"x1@{57 * 'h'}...")
    said = f"the cookie here is not that of {told}; a@h is the owner, epoch 1"
    assert cluster.snapshot("a").sentence == said


def test_a_named_successor_that_cannot_start_gives_it_back() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.hosts["a"].fails = "no memory"
    cluster.start("a")
    cluster.run(700)
    assert cluster.serving == "b" and cluster.most_served() == 1
    cluster.hosts["a"].fails = ""
    assert cluster.run_until(lambda: cluster.serving == "a") <= 5000


def test_a_named_successor_that_dies_gives_it_back() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a")
    cluster.run_until(lambda: cluster.snapshot("b").phase == "yielding")
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving == "b") <= 50
    assert cluster.most_served() == 1


def test_a_named_successor_that_freezes_gives_it_back_after_the_tick_time() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a")
    cluster.run_until(lambda: cluster.snapshot("b").phase == "yielding")
    cluster.freeze("a")
    took_ms = cluster.run_until(lambda: cluster.serving != "")
    assert cluster.serving == "b" and took_ms <= TICK_TIME_MS + 50
    cluster.run(3000)
    cluster.thaw("a")  # with the naming in its backlog
    cluster.run(5000)
    assert cluster.serving == "a" and cluster.most_served() == 1


def test_an_owner_that_dies_after_naming_leaves_one_owner() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a")
    cluster.run_until(lambda: cluster.snapshot("b").phase == "yielding")
    cluster.kill("b")
    cluster.run_until(lambda: cluster.serving != "", 6000)
    cluster.run(2000)
    assert cluster.serving == "a" and cluster.most_served() == 1


# Planned moves.


def test_a_stopping_owner_hands_over_without_the_timeout() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.give("a", ev.ShutdownRequested())
    assert cluster.run_until(lambda: cluster.serving == "b") <= 20
    cluster.run(100)
    assert cluster.hosts["a"].exit == (0, "stopped") and cluster.most_served() == 1
    assert cluster.log("b")[-3:] == [
        "b@h is taking over a@h",
        "Application is started on b@h",
        "a@h left: it is down",
    ]


def stopping(cluster: Cluster) -> Cluster:
    """Stop a, until it has named b."""
    running(cluster, "a", "b", "c").give("a", ev.ShutdownRequested())
    cluster.run_until(lambda: "a@h hands over to b@h" in cluster.log("a"))
    return cluster


@pytest.mark.parametrize("how, limit_ms", [("kill", 50), ("freeze", TICK_TIME_MS + 50)])
def test_a_stopping_owner_whose_successor_is_gone_leaves_it_to_a_third(
    how: str, limit_ms: int
) -> None:
    cluster = stopping(Cluster(linear()))
    getattr(cluster, how)("b")
    assert cluster.run_until(lambda: cluster.serving == "c") <= limit_ms
    assert cluster.hosts["a"].exit == (0, "stopped")
    cluster.run(10_000)
    assert cluster.serving == "c" and cluster.most_served() == 1


def test_a_stopping_owner_that_is_in_doubt_of_its_successor_leaves_a_vacancy() -> None:
    slow = Settings(linear(timeout_ms=20_000).distributed, NodeSettings(tick_ms=2000))
    cluster = stopping(Cluster(slow))
    cluster.power_off("b")  # within the 5 s nothing tells that from a slow start
    assert 4900 < cluster.run_until(lambda: cluster.hosts["a"].exit is not None) <= 5000
    cluster.run(12_900)
    assert cluster.serving == ""
    assert cluster.run_until(lambda: cluster.serving == "c") <= 2200


def test_a_stopping_owner_alone_stops_at_once() -> None:
    cluster = running(Cluster(settings()), "a")
    cluster.give("a", ev.ShutdownRequested())
    assert cluster.hosts["a"].exit == (0, "stopped")
    assert cluster.log("a")[-1] == "Application chucky exited: stopped"


def test_a_stopping_owner_waits_at_most_5_s_for_a_successor() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.freeze("b")
    cluster.give("a", ev.ShutdownRequested())
    took_ms = cluster.run_until(lambda: cluster.hosts["a"].exit is not None)
    assert took_ms <= 5000


def test_a_standby_that_stops_is_nobody_s_business() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.give("b", ev.ShutdownRequested())
    assert cluster.hosts["b"].exit == (0, "stopped")
    cluster.run(10_000)
    assert cluster.serving == "a"


# Failures of the application.


def test_a_twin_is_not_where_the_first_of_its_name_is_dialled() -> None:
    """It was told its own address as the first's; and a refusal there proved the first dead."""
    cluster = running(Cluster(linear(timeout_ms=0)), "a", "b")
    twin = cluster.add("A", linear(timeout_ms=0), name("a"))
    cluster.reports["A"] = []
    cluster.cut("a", "A")
    cluster.start("A")
    cluster.run_until(lambda: twin.node is None)
    assert twin.exit is not None and "taken by the node at 10.0.0.1:4041" in twin.exit[1]
    cluster.reset("b", "a")
    cluster.run(2000)
    assert cluster.serving == "a" and cluster.most_served() == 1


def test_who_has_waited_for_a_name_is_dialled_where_it_is() -> None:
    cluster = running(Cluster(linear()), "a", "b")
    moved = cluster.add("A", linear(), name("a"))
    cluster.reports["A"] = []
    cluster.power_off("a")
    cluster.start("A")
    cluster.run(TICK_TIME_MS + 100)
    node = cluster.hosts["b"].node
    assert node is not None
    assert node._members.contacts.addresses(name("a"))[0] == moved.address


@pytest.mark.parametrize("how", ["standby", "stop"])
def test_a_better_standby_that_does_not_hear_the_owner_holds_nobody_up(how: str) -> None:
    cluster = running(Cluster(linear(takeover=False)), "c")
    cluster.cut("a", "c")
    cluster.start("a", "b")
    cluster.run(1000)
    if how == "standby":
        cluster.give("c", ev.StandbyRequested(1, True))
    else:
        cluster.stop("c")
    cluster.run_until(lambda: cluster.serving == "b", 1000)


def test_a_failed_start_lets_the_next_node_have_it() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.hosts["b"].fails = "port in use"
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving == "c") <= 5100
    assert any("b@h cannot run chucky: port in use" in line for line in cluster.log("b"))


def test_a_reload_ends_the_wait_for_a_new_try() -> None:
    cluster = Cluster(settings(timeout_ms=0))
    cluster.hosts["a"].unready = "no facts"
    cluster.start("a")
    cluster.run(20_000)
    cluster.hosts["a"].unready = ""
    cluster.give("a", ev.Reloaded(settings(timeout_ms=0)))
    assert cluster.run_until(lambda: cluster.serving == "a") <= 50


def test_two_that_a_third_node_hears_never_start_at_once() -> None:
    cluster = running(Cluster(settings(), "abcz"), "a", "b", "c", "z")
    cluster.cut("b", "c")
    cluster.run(4000)
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving in ("b", "c")) <= 5010
    cluster.run(3000)
    assert cluster.serving in ("b", "c") and cluster.most_served() == 1


def test_an_owner_answers_for_a_tick_time_after_its_last_step() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    node = cluster.hosts["a"].node
    assert node is not None
    node.step(ev.Wake(), cluster.now_ms)
    assert cluster.snapshot("a").serve_until_ms == cluster.now_ms + TICK_TIME_MS


def test_an_application_that_fails_on_a_live_owner_is_failed_over() -> None:
    cluster = running(Cluster(settings()), "a", "b", "c")
    cluster.hosts["a"].unready = "still broken"
    cluster.give("a", ev.ApplicationFailed("broken"))
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert 4700 <= took_ms <= 5100
    cluster.run(2000)
    cluster.hosts["a"].unready = ""
    cluster.run_until(lambda: cluster.serving == "a", 120_000)


def test_the_back_off_grows() -> None:
    cluster = Cluster(settings())
    cluster.hosts["a"].unready = "no facts"
    cluster.start("a")
    waits = []
    for _ in range(4):
        cluster.run(0)
        retry_ms = cluster.hosts["a"].node._own.retry_ms  # type: ignore[union-attr]
        assert retry_ms is not None
        waits.append(retry_ms - cluster.now_ms)
        cluster.run(waits[-1])
    assert waits == [1000, 2000, 4000, 5000]


# Partitions.


def test_after_a_split_the_better_one_goes_on_under_a_higher_epoch() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    for other in "bc":
        cluster.cut("a", other)
    cluster.run_until(lambda: cluster.serving == "ab")
    cluster.run(3000)
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500
    cluster.run(1000)
    assert cluster.serving == "a"
    epochs = {cluster.snapshot(s).epoch for s in "abc"}
    assert len(epochs) == 1 and epochs.pop().number == 3  # type: ignore[union-attr]
    cluster.kill("a")  # and failover still works, unlike in OTP (E11c)
    assert 5000 <= cluster.run_until(lambda: cluster.serving == "b") <= 5050


def test_with_takeover_false_the_older_ownership_stays_after_a_split() -> None:
    cluster = running(Cluster(linear(takeover=False)), "b", "c")
    cluster.cut("b", "c")
    cluster.run_until(lambda: cluster.serving == "bc")
    cluster.heal()
    cluster.run(1500)
    assert cluster.serving == "b"


def test_a_witness_between_two_owners_makes_the_worse_yield() -> None:
    cluster = Cluster(linear())
    cluster.cut("a", "b")
    cluster.start("a", "b")
    cluster.run(1000)
    assert cluster.serving == "ab"
    cluster.start("c")
    assert cluster.run_until(lambda: cluster.serving == "a") <= 700
    cluster.run(10_000)
    assert cluster.serving == "a"


def test_a_thawed_owner_listens_before_it_serves() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.freeze("a")
    cluster.run_until(lambda: cluster.serving == "b")
    cluster.run(2000)
    cluster.thaw("a")
    assert cluster.serving == "b"
    cluster.run_until(lambda: cluster.serving == "a", 1000)
    cluster.run(2000)
    assert cluster.serving == "a" and cluster.most_served() == 1


def test_a_thawed_owner_waits_for_no_handshake_with_who_is_linked_meanwhile() -> None:
    cluster = running(Cluster(settings(timeout_ms=60_000)), "a", "b", "c")
    for key in "ca":
        cluster.freeze(key)
        cluster.run(TICK_TIME_MS + 200)
    cluster.thaw("a")  # its dial is let in by c's kernel, and nothing comes of it
    cluster.run(50)
    cluster.power_off("c")
    cluster.run(50)
    assert cluster.serving == ""
    cluster.start("c")
    assert cluster.run_until(lambda: cluster.serving == "a") <= 110


@pytest.mark.parametrize(
    ("later", "answers", "longest_ms"),
    [(0, True, LOOK_MS + 50), (1, True, LOOK_MS + 50), (1, False, TICK_TIME_MS)],
)
def test_a_thawed_owner_waits_for_no_handshake_with_who_it_hears(
    later: int, answers: bool, longest_ms: int
) -> None:
    """Its peer has left that handshake, and the word of that was lost. One of a later start may
    tell more, unless the former answers what was told since: it was a clock that went back."""
    cluster = running(Cluster(settings(timeout_ms=60_000)), "a", "b")
    b = cluster.hosts["b"]
    cluster.freeze("a")
    cluster.run(TICK_TIME_MS + 200)
    cluster.give("a", ev.LinkBegan(-99, b.name, b.incarnation + later))
    if not answers:
        cluster.freeze("b")
    cluster.thaw("a")
    assert cluster.serving == ""
    took_ms = cluster.run_until(lambda: cluster.serving == "a")
    assert LOOK_MS <= took_ms <= longest_ms and (longest_ms - took_ms) <= 50


def test_a_thawed_owner_waits_for_a_handshake_whatever_a_newcomer_said_before() -> None:
    """It has moved, and waits for the name of its former start: what a reads of it is of long ago,
    and it may serve by now."""
    cluster = running(Cluster(settings(timeout_ms=60_000)), "a", "b")
    b = cluster.hosts["b"]
    cluster.move("b", "10.0.1.2")
    cluster.power_off("b")
    cluster.start("b")
    cluster.run(200)
    cluster.freeze("a")
    cluster.run(TICK_TIME_MS + 200)
    cluster.give("a", ev.LinkBegan(-99, b.name, b.incarnation))
    cluster.freeze("b")
    cluster.thaw("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "a")
    assert TICK_TIME_MS - 50 <= took_ms <= TICK_TIME_MS


def test_a_thawed_standby_does_not_start_beside_the_owner() -> None:
    cluster = running(Cluster(linear()), "a", "b")
    cluster.freeze("b")
    cluster.run(20_000)
    cluster.thaw("b")
    cluster.run(5000)
    assert cluster.serving == "a" and cluster.most_served() == 1


def starve(cluster: Cluster, key: str, stalls: int, stall_ms: int = 1150) -> None:
    """Let it run for moments only, each with a stall before it."""
    for _ in range(stalls):
        cluster.freeze(key)
        cluster.run(stall_ms)
        cluster.thaw(key)
        cluster.run(50)


def stall_until(cluster: Cluster, key: str, condition: Callable[[], bool]) -> None:
    """Let it stall for less than a tick time, again and again: for 5.2 s at the most."""
    for _ in range(8):
        starve(cluster, key, 1, stall_ms=600)
        if condition():
            return
    raise AssertionError(str(cluster))


def test_a_standby_that_stalls_again_and_again_finds_that_the_owner_is_silent() -> None:
    cluster = running(Cluster(linear(timeout_ms=2000)), "a", "b", "c")
    starve(cluster, "b", 4, stall_ms=600)
    cluster.power_off("a")
    stall_until(cluster, "b", lambda: cluster.snapshot("b").owner == name("b"))


def test_an_owner_that_stalls_again_and_again_finds_that_its_successor_is_silent() -> None:
    cluster = running(Cluster(linear(timeout_ms=2000)), "b", "c")
    node = cluster.hosts["b"].node
    assert node is not None
    cluster.start("a")
    cluster.run_until(lambda: node._own.naming is not None)
    cluster.power_off("a")
    stall_until(cluster, "b", lambda: cluster.snapshot("b").phase == "owner")


@pytest.mark.parametrize("quorum", ["reachable", "majority"])
def test_an_owner_that_runs_for_moments_only_stands_aside_and_comes_back(quorum: str) -> None:
    a, b, c = (NodePattern(short, "h") for short in "abc")
    pinned = PriorityList(((a,), (b, c)))
    cluster = running(Cluster(settings(nodes=pinned, quorum=quorum)), "a", "b", "c")
    began_ms = cluster.now_ms
    while cluster.serving not in ("b", "c"):
        assert cluster.now_ms - began_ms < STALLS * 1200 + 5000 + 2 * TICK_TIME_MS, cluster
        starve(cluster, "a", 1)
    assert any("lets it run for moments only" in line for line in cluster.log("a"))
    cluster.run_until(lambda: cluster.serving == "a")
    assert cluster.most_served() == 1


def test_an_owner_on_standby_that_runs_for_moments_only_gives_it_away_or_keeps_it() -> None:
    cluster = running(Cluster(linear()), "a")
    cluster.give("a", ev.StandbyRequested(1, True))
    starve(cluster, "a", STALLS + 1)
    cluster.run(LOOK_MS + 10)
    assert cluster.serving == "a"  # nobody else is there
    cluster.start("b")
    starve(cluster, "a", 2)
    assert cluster.serving == "b" and cluster.most_served() == 1


# Configs that differ, observers, names.


def test_a_running_owner_is_not_stopped_for_a_differing_config() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a", settings=settings(timeout_ms=7000))
    cluster.run(5000)
    assert cluster.serving == "b"  # and nothing is taken over
    said = "node.toml differs from a@h's: timeout is 5000 here and 7000 there"
    assert any(line.startswith(said) for line in cluster.log("b"))
    assert any("timeout is 7000 here and 5000 there" in line for line in cluster.log("a"))
    differs = {n.name: n.differs for n in cluster.snapshot("b").nodes}
    assert differs[name("a")] == ("timeout",)


def test_a_differing_tick_is_told_and_changes_no_verdict() -> None:
    # With 25 here and 500 there each finds the other silent, and nobody would know why.
    cluster = Cluster(settings())
    cluster.start("a")
    cluster.start("b", settings=Settings(node=NodeSettings(tick_ms=500)))
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(1000)
    said = "node.toml differs from a@h's: tick is 500 here and 250 there; make the files the same"
    assert said in cluster.log("b")
    cluster.kill("a")
    assert cluster.run_until(lambda: cluster.serving == "b") <= 5100


def test_a_reload_begins_and_ends_a_difference_at_both_ends() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    for reloaded, differing in (("a", ("takeover",)), ("b", ())):
        cluster.give(reloaded, ev.Reloaded(settings(takeover=False)))
        cluster.run(100)
        for one, other in ("ab", "ba"):
            differs = {n.name: n.differs for n in cluster.snapshot(one).nodes}
            assert differs[name(other)] == differing
    assert any("takeover is false here and true there" in line for line in cluster.log("a"))
    assert any("takeover is true here and false there" in line for line in cluster.log("b"))


def test_a_difference_is_told_of_a_node_that_had_to_wait_for_its_name() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.power_off("b")
    cluster.start("b", settings=settings(timeout_ms=7000))
    cluster.run(5000)
    assert any("timeout is 5000 here and 7000 there" in line for line in cluster.log("a"))


def test_with_differing_configs_a_loss_is_still_failed_over_once() -> None:
    cluster = running(Cluster(settings()), "b", "c")
    cluster.start("a", settings=settings(timeout_ms=7000))
    cluster.run(2000)
    cluster.kill("b")
    cluster.run_until(lambda: cluster.serving != "")
    cluster.run(5000)
    assert cluster.serving == "c" and cluster.most_served() == 1  # up longer than a


def test_two_digests_with_uptime_and_rank_in_a_cycle_still_serve() -> None:
    shorts = "abcde"
    patterns = tuple((NodePattern(s),) for s in shorts)
    one = settings(nodes=PriorityList(patterns))
    other = settings(nodes=PriorityList(patterns[::-1]))
    cluster = Cluster(one, shorts)
    for short in "edcba":
        cluster.start(short, settings=one if short in "ace" else other)
        cluster.run(30)
    cluster.run(5000)
    assert len(cluster.serving) == 1 and cluster.most_served() == 1
    cluster.kill(cluster.serving)
    cluster.run(10_000)
    assert len(cluster.serving) == 1 and cluster.most_served() == 1


def test_an_observer_relays_and_never_owns() -> None:
    cluster = Cluster(settings(), "abz")
    cluster.start("z")
    cluster.run(3000)
    assert cluster.serving == "" and cluster.snapshot("z").sentence.startswith("observer")
    assert sum("is an observer" in line for line in cluster.log("z")) == 1
    cluster.start("a")
    cluster.run(1000)
    assert cluster.serving == "a" and cluster.snapshot("z").relay is not None
    cluster.kill("a")
    cluster.run(20_000)
    assert cluster.serving == ""


def namesakes(cluster: Cluster) -> None:
    """The machine of c runs a second a@h."""
    cluster.hosts["c"].name = name("a")
    cluster.start("c")


def test_a_second_node_of_one_name_exits_and_never_serves() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    namesakes(cluster)
    cluster.run(3000)
    assert cluster.hosts["c"].exit is not None and cluster.hosts["c"].exit[0] == 75
    assert "the name a@h is taken by the node at 10.0.0.1:4041" in cluster.hosts["c"].exit[1]
    assert cluster.serving == "a" and cluster.most_served() == 1
    (itself,) = (n for n in cluster.snapshot("a").nodes if n.state == "self")
    assert itself.address is None  # though the second dialled it


def encoded(actions: list[ac.Action]) -> list[object]:
    """What goes out, as the other end reads it."""
    return [decode(encode(a.message)) for a in actions if isinstance(a, ac.Send)]


def test_of_more_owners_than_a_status_has_room_for_as_many_are_told() -> None:
    """A large cluster that was cut into single nodes heals."""
    node = Node(settings(), name("b"), 1, 0)
    for id in range(1, MAX_NODES + 5):
        peer = NodeName(f"n{id}", "h")
        epoch = Epoch(1, peer)
        sent = node.step(ev.LinkUp(id, peer, id, Address("10.0.0.1", 4041)), id)
        status = Status(1, 0, settings().digest, "owner", listed=True, highest=epoch, running=epoch)
        sent += node.step(ev.MessageReceived(id, status), id)
        told = [len(m.hears) for m in encoded(sent) if isinstance(m, Status)]
        assert told and max(told) == min(id, MAX_NODES)


def test_a_goodbye_that_names_many_missing_nodes_is_cut() -> None:
    missing = tuple(NodePattern(f"{number}{'n' * 60}", "h" * 250) for number in range(70))
    alone = linear(sync_nodes_mandatory=missing, sync_nodes_timeout_ms=1000)
    node = Node(alone, name("b"), 1, 0)
    node.step(ev.LinkUp(1, name("c"), 1, Address("10.0.0.1", 4041)), 0)
    sent: list[object] = []
    while (due_ms := node.deadline()) is not None:
        node.step(ev.MessageReceived(1, Status(due_ms, 0, alone.digest, "standby")), due_ms - 1)
        sent = encoded(node.step(ev.Wake(due_ms), due_ms))
    (goodbye,) = (m for m in sent if isinstance(m, Goodbye))
    assert goodbye.reason.startswith("mandatory nodes are missing: 0nnn")


def test_a_second_node_of_one_name_exits_when_only_a_third_knows_both() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.cut("a", "c")
    namesakes(cluster)
    cluster.run(3000)
    assert cluster.hosts["c"].exit is not None and cluster.hosts["c"].exit[0] == 75
    assert cluster.serving == "a" and cluster.most_served() == 1


def test_a_restarted_node_whose_old_link_is_silent_gets_in_after_the_tick_time() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.power_off("a")
    cluster.run(100)
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") <= TICK_TIME_MS + 500
    assert cluster.most_served() == 1


def test_a_machine_that_starts_anew_is_linked_anew_at_its_beacon() -> None:
    """Within the tick time its old link is not silent yet."""
    slow = Settings(settings().distributed, NodeSettings(tick_ms=2500))
    cluster = running(Cluster(slow), "a", "b")
    cluster.power_off("b")
    cluster.cut("a", "b")
    cluster.start("b")
    cluster.run(100)  # its first beacon is lost
    cluster.heal()
    b = cluster.hosts["b"]
    assert cluster.run_until(lambda: bool(b.view().nodes[0].last_heard_ms)) <= 200


def test_an_owner_that_yielded_a_higher_epoch_to_goes_on_above_it() -> None:
    # (1, a) and (1, b): the same number, but a relay throws away what is below (1, b).
    cluster = Cluster(linear())
    cluster.cut("a", "b")
    cluster.start("a", "b")
    cluster.run(1000)
    cluster.heal()
    cluster.run(1000)
    assert cluster.serving == "a"
    epoch = cluster.snapshot("a").epoch
    assert epoch is not None and epoch > Epoch(1, name("b"))


@pytest.mark.parametrize("phase_ms", [0, 250, 500, 750])
def test_owners_that_never_met_find_each_other_in_time(phase_ms: int) -> None:
    cluster = Cluster(linear(), "ab")
    cluster.cut("a", "b")
    cluster.start("a", "b")
    cluster.run(3000 + phase_ms)
    assert cluster.serving == "ab"
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500


@pytest.mark.parametrize("phase_ms", [0, 250, 500, 750])
def test_a_host_that_lets_all_in_and_says_nothing_does_not_hold_up_a_heal(phase_ms: int) -> None:
    cluster = Cluster(Settings(linear().distributed, NodeSettings(tick_ms=1000)), "abd")
    cluster.start("d")
    cluster.freeze("d")
    running(cluster, "a", "b")
    cluster.cut("a", "b")
    cluster.run_until(lambda: cluster.serving == "ab")
    for here, there in ("ab", "ba"):  # a stranger's beacon says that the other is at d's address
        claims = Beacon(name(there), 99, 4041, False)
        cluster.give(here, ev.BeaconHeard(claims, cluster.hosts["d"].address))
    cluster.run(1000 + phase_ms)
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500


@pytest.mark.parametrize("phase_ms", range(0, 1000, 125))
def test_a_host_that_lets_all_in_and_says_nothing_does_not_keep_strangers_apart(
    phase_ms: int,
) -> None:
    cluster = Cluster(Settings(linear().distributed, NodeSettings(tick_ms=1000)), "abd")
    cluster.start("d")
    cluster.freeze("d")
    cluster.cut("a", "b")
    cluster.start("a", "b")
    for here, there in ("ab", "ba"):
        claims = Beacon(name(there), 99, 4041, False)
        cluster.give(here, ev.BeaconHeard(claims, cluster.hosts["d"].address))
        true = Beacon(name(there), cluster.hosts[there].incarnation, 4041, False)
        cluster.give(here, ev.BeaconHeard(true, cluster.hosts[there].address))
    cluster.run(8000 + phase_ms)
    assert cluster.serving == "ab"
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500


@pytest.mark.parametrize("delay_ms", [1, 20, 60])
def test_names_that_a_stranger_invents_do_not_keep_two_apart_that_never_met(delay_ms: int) -> None:
    tick = NodeSettings(tick_ms=1000)
    cluster = Cluster(Settings(linear().distributed, tick), "abdef", delay_us=(delay_ms * MS, 0))
    cluster.start("d", "e", "f")
    cluster.freeze("d", "e", "f")  # they let all in and say nothing
    cluster.cut("a", "b")
    cluster.start("a", "b")
    names = itertools.cycle([NodeName(f"z{number}", "x") for number in range(64)])
    for at in 8 * 20 * "def":
        for here, there in ("ab", "ba"):
            for claims in (name(there), next(names)):
                beacon = Beacon(claims, 99, 4041, False)
                cluster.give(here, ev.BeaconHeard(beacon, cluster.hosts[at].address))
        cluster.run(17)
    assert cluster.serving == "ab"
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500 + 12 * delay_ms


@pytest.mark.parametrize("delay_ms", [1, 20, 60, 120])
def test_two_that_moved_while_cut_off_meet_however_slow_a_handshake_is(delay_ms: int) -> None:
    # Nobody but a beacon says where either is now.
    cluster = Cluster(linear(), "ab", delay_us=(delay_ms * MS, 0))
    running(cluster, "a", "b")
    cluster.cut("a", "b")
    cluster.run_until(lambda: cluster.serving == "ab")
    for number, host in enumerate(cluster.hosts.values()):
        host.address = Address(f"10.0.1.{number}", host.address.port)
        cluster.give(host.key, ev.AddressesChanged((host.address,)))
    cluster.run(2000)
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "a") <= 500 + 12 * delay_ms


def test_two_owners_that_only_hear_of_each_other_do_not_outbid_each_other() -> None:
    # A chain b - c - d - e: the owners b and e are too far apart to yield to each other, and
    # rule 6 lets neither go above the other.
    patterns = tuple((NodePattern(s),) for s in "becd")
    cluster = Cluster(settings(nodes=PriorityList(patterns)), "bcde")
    for one, other in ("bd", "be", "ce", "cd"):
        cluster.cut(one, other)
    cluster.start("b", "c", "e", "d")
    cluster.run(2000)
    cluster.heal("c", "d")
    cluster.heal("d", "c")
    cluster.run(10_000)
    assert cluster.serving == "be"
    assert max(e.number for s in "bcde" if (e := cluster.snapshot(s).epoch)) <= 2
    cluster.heal()
    assert cluster.run_until(lambda: cluster.serving == "b") <= 500


def test_connect_answers_true_and_false() -> None:
    cluster = running(Cluster(settings(), "abc"), "a", "b")
    cluster.give("a", ev.ConnectRequested(1, (cluster.hosts["b"].address,), name("b")))
    assert cluster.log("a")[-1].startswith("done: ")
    cluster.give("a", ev.ConnectRequested(2, (Address("10.0.0.77", 4041),), name("x")))
    cluster.run(1000)
    assert cluster.log("a")[-1].startswith("not done: ")


def test_joining_through_one_member_links_all() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.cut("b", "c")  # c hears no beacon of b's
    cluster.cut("a", "c")
    cluster.start("c")
    cluster.run(50)
    cluster.heal()
    cluster.give("c", ev.PeersConfigured((cluster.hosts["a"].address,)))
    cluster.run(30)
    up = {str(n.name) for n in cluster.snapshot("c").nodes if n.state == "up"}
    assert up == {"a@h", "b@h"}


# Schedules that once broke something.


def test_a_silent_successor_is_waited_for_while_a_peer_has_not_been_asked() -> None:
    cluster = running(Cluster(linear()), "b")
    cluster.start("a")
    cluster.run_until(lambda: cluster.snapshot("b").phase == "yielding")
    cluster.freeze("a")
    cluster.run(900)
    cluster.start("c")
    cluster.run_until(
        lambda: any(n.name == name("c") and n.state == "up" for n in cluster.snapshot("b").nodes)
    )
    cluster.freeze("c")  # linked, and says nothing
    cluster.run(300)
    assert cluster.snapshot("b").phase == "yielding"
    cluster.run_until(lambda: cluster.serving == "b", TICK_TIME_MS)


@pytest.mark.parametrize("since_a_tick_ms", range(250, 5000, 1000))
def test_who_is_back_behind_a_cut_is_taken_soon_however_long_a_tick_is(
    since_a_tick_ms: int,
) -> None:
    """The link to its former start stands yet, and only a word to that makes its host reset it."""
    cluster = Cluster(Settings(node=NodeSettings(tick_ms=5000)), "ab")
    cluster.start("a", "b")
    cluster.run(2000)
    for short in "ba":  # else a has news to tell at the heal
        cluster.give(short, ev.TakeoverRequested(1))
        cluster.run(2000)
    cluster.run(1000 + since_a_tick_ms)
    cluster.cut("a", "b")
    cluster.power_off("b")
    cluster.run(100)
    cluster.start("b")
    cluster.run(400)
    assert cluster.serving == "ab"
    cluster.heal()
    assert cluster.run_until(lambda: len(cluster.serving) == 1) <= 1000


def test_an_owner_that_goes_on_awaits_no_handshake_of_a_start_whose_next_it_hears() -> None:
    """That waits for its name: its machine had moved, so nothing proves the end of the former."""
    cluster = running(Cluster(settings()), "a", "b")
    cluster.freeze("a")
    forged = Beacon(name("a"), 2**60, 4041, False)
    cluster.give("b", ev.BeaconHeard(forged, Address("10.0.0.9", 4041)))
    cluster.run(10)  # b has asked who listens where a does, and a's kernel has let that in
    cluster.move("b", "10.0.1.2")
    cluster.run(20)
    cluster.power_off("b")
    cluster.start("b")
    cluster.run(TICK_TIME_MS + 500)
    cluster.thaw("a")
    assert cluster.run_until(lambda: "a" in cluster.serving, TICK_TIME_MS) <= LOOK_MS + 60


def test_a_newcomer_and_the_link_it_waits_for_fall_silent_together() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.power_off("b")
    cluster.run(5)
    cluster.start("b")
    cluster.run(20)
    cluster.power_off("b")
    cluster.run(2)
    cluster.freeze("a")
    cluster.run(600)
    cluster.thaw("a")
    cluster.run(3000)
    assert {str(n.name): n.state for n in cluster.snapshot("a").nodes}["b@h"] == "down"


def test_no_peer_is_silent_whose_word_waits_behind_that_of_another() -> None:
    """On a busy machine a turn of the loop, which reads each link once, may take a tick time."""
    node, tick_time_ms = Node(settings(), name("x"), 1, 0), settings().tick_time_ms
    for id, peer in ((1, "a"), (2, "b")):
        node.step(ev.LinkUp(id, name(peer), id, Address(f"10.0.0.{id}", 4041)), 0)

    def ended(event: ev.Event, now_ms: int) -> list[int]:
        return [a.link for a in node.step(event, now_ms) if isinstance(a, ac.Close)]

    def hears(link: int, tick: int, now_ms: int) -> list[int]:
        status = Status(tick, 0, settings().digest, "syncing")
        return ended(ev.MessageReceived(link, status), now_ms)

    for now_ms in range(0, tick_time_ms, 100):
        assert ended(ev.Wake(), now_ms) == []
    assert hears(1, 1, tick_time_ms) == []
    assert ended(ev.Wake(busy=True), tick_time_ms) == []
    assert node.deadline() == tick_time_ms + 1
    assert hears(2, 1, tick_time_ms + 1) == [] and ended(ev.Wake(), tick_time_ms + 1) == []
    for now_ms in range(tick_time_ms + 100, 2 * tick_time_ms, 100):
        assert ended(ev.Wake(), now_ms) == []
    # This turn began before: what came since waits.
    assert ended(ev.Wake(2 * tick_time_ms - 1), 2 * tick_time_ms) == []
    assert ended(ev.Wake(2 * tick_time_ms), 2 * tick_time_ms) == [1]
    assert node.deadline() == 2 * tick_time_ms + 1


@pytest.mark.parametrize("another_hears_it_end", [False, True])
def test_an_owner_lives_while_its_link_waits_for_its_name(another_hears_it_end: bool) -> None:
    node, at = Node(settings(), name("b"), 20, 0), Address("10.0.0.1", 4041)
    again = Epoch(2, name("a"))

    def says(link: int, epoch: Epoch) -> ev.MessageReceived:
        said = Status(1, 0, settings().digest, "owner", True, True, highest=epoch, running=epoch)
        return ev.MessageReceived(link, said)

    sign = Sign(again, 11, 0, End.ENDED, 0)  # it was told no tick after the first
    tells = Status(1, 0, settings().digest, "", True, True, highest=again, signs=(sign,))
    for now_ms, event in (
        (0, ev.ApplicationReady()),
        (0, ev.LinkUp(-1, name("a"), 10, at)),
        (0, ev.LinkUp(-3, name("c"), 30, at)),
        (1, says(-1, Epoch(1, name("a")))),
        (500, ev.LinkUp(-2, name("a"), 11, at)),  # it has restarted
        (700, says(-2, again)),
        (900, ev.LinkDown(-2, ev.Ended.CLOSED, name("a"), at)),
        (901, ev.MessageReceived(-3, tells)),
    )[: 8 if another_hears_it_end else 7]:
        node.step(event, now_ms)
    while not any(isinstance(a, ac.StartApplication) for a in node.step(ev.Wake(), now_ms)):
        now_ms = node.deadline() or 0
    assert now_ms == 900 + 5000


def test_an_epoch_told_on_a_link_that_waits_for_its_name_is_not_begun_again() -> None:
    node, at = Node(settings(), name("b"), 20, 0), Address("10.0.0.1", 4041)
    highest = Epoch(7, name("b"))  # of a former start of this node
    said = Status(1, 0, settings().digest, "standby", True, True, highest=highest)
    for now_ms, event in (
        (0, ev.LinkUp(-1, name("a"), 10, at)),
        (500, ev.LinkUp(-2, name("a"), 11, at)),  # it has restarted
        (700, ev.MessageReceived(-2, said)),
    ):
        node.step(event, now_ms)
    assert node.snapshot().highest == highest


def comes_in(shared: Settings, said: Status) -> list[ac.Action]:
    """What b does as a link of a's next start, which waited for its name and said this, is used."""
    node, at, actions = Node(shared, name("b"), 20, 0), Address("10.0.0.1", 4041), []
    for now_ms, event in (
        (0, ev.ApplicationReady()),
        (0, ev.LinkUp(-1, name("a"), 10, at)),
        (0, ev.LinkUp(-3, name("c"), 30, at)),
        (1, ev.MessageReceived(-3, Status(1, 0, shared.digest, "", True, True))),
        (500, ev.LinkUp(-2, name("a"), 11, at)),
        (500, ev.MessageReceived(-2, said._replace(digest=shared.digest))),
        (500, ev.LinkDown(-1, ev.Ended.CLOSED, name("a"), at)),
    ):
        actions = node.step(event, now_ms)
    return actions


def test_what_is_said_while_a_link_waits_for_its_name_counts_as_it_comes_in() -> None:
    sign = Sign(Epoch(7, name("d")), 40, 9, End.ENDED, 100)
    actions = comes_in(linear(), Status(1, 0, b"", "", True, True, True, signs=(sign,)))
    told = [m for m in encoded(actions) if isinstance(m, Status)][-1]
    assert [s[:4] for s in told.signs] == [sign[:4]]


@pytest.mark.parametrize("placed", [None, Placed(8, 10)])
def test_a_placement_told_while_its_link_waits_for_its_name_binds(placed: Placed | None) -> None:
    """Else a better node gets ready, tells the placement's number, and is named."""
    epoch, shared = Epoch(3, name("a")), settings(nodes=PriorityList(((B,), (A,), (C,))))
    owner = Status(9, 0, b"", "", True, True, True, running=epoch, placed=placed, began=3)
    takes_it = any(isinstance(a, ac.Prepare) for a in comes_in(shared, owner))
    assert takes_it == (placed is None)


def test_an_ownership_counts_from_its_first_epoch_until_it_ends() -> None:
    """Rule 6 (docs/decisions/0027): whatever it goes on under, a new one counts anew."""
    node, now_ms = Node(settings(), name("a"), 10, 0), 0
    told: list[tuple[Epoch | None, int]] = []

    def step(event: ev.Event) -> None:
        for action in node.step(event, now_ms):
            if isinstance(action, ac.StartApplication):
                step(ev.ApplicationStarted(action.epoch))
            elif isinstance(action, ac.Prepare):
                step(ev.ApplicationReady())
            elif isinstance(action, ac.Send) and isinstance(action.message, Status):
                told.append((action.message.running, action.message.began))

    def knows(number: int) -> ev.MessageReceived:
        highest = Epoch(number, name("c")) if number else None
        said = Status(number + 1, 0, settings().digest, "", highest=highest)
        return ev.MessageReceived(1, said)

    def owns(event: ev.Event) -> None:
        nonlocal now_ms
        step(event)
        while node.running is None:
            now_ms = node.deadline() or 0
            step(ev.Wake())

    owns(ev.Wake())
    step(ev.LinkUp(1, name("b"), 20, Address("10.0.0.1", 4041)))
    for event in (knows(0), knows(4), knows(7)):
        step(event)
    owns(ev.ApplicationFailed("it crashed"))
    step(ev.LinkUp(2, name("b"), 21, Address("10.0.0.1", 4041)))
    assert [t for t in dict.fromkeys(told) if t[0]] == [
        (Epoch(1, name("a")), 1), (Epoch(5, name("a")), 1), (Epoch(8, name("a")), 1),
        (Epoch(9, name("a")), 9),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "shared", [settings(nodes=PriorityList(((A, B, C),))), linear(takeover=False)]
)
def test_a_relay_goes_to_the_owner_that_will_go_on(shared: Settings) -> None:
    """The one that began to own first, though it goes on under a higher epoch: of two equals, and
    of any two where nothing is taken over."""
    node = Node(shared, name("c"), 30, 0)
    older, younger = Epoch(3, name("b")), Epoch(2, name("a"))
    for link, owner, epoch, began in ((1, "a", younger, 2), (2, "b", older, 1)):
        node.step(ev.LinkUp(link, name(owner), link, Address("10.0.0.1", 4041)), 1)
        said = Status(1, 0, shared.digest, "owner", highest=older, running=epoch, began=began)
        node.step(ev.MessageReceived(link, said), 1)
    assert (node.route.owner, node.route.relay) == (name("b"), 2)


def test_whose_application_is_being_started_relays_nothing() -> None:
    """It would answer under a lower epoch than the owner that it met meanwhile."""
    shared = settings()
    node = Node(shared, name("a"), 10, 0)
    node.step(ev.ApplicationReady(), 0)
    now_ms = LOOK_MS
    assert any(isinstance(x, ac.StartApplication) for x in node.step(ev.Wake(), now_ms))
    node.step(ev.LinkUp(1, name("b"), 20, Address("10.0.0.1", 4041)), now_ms)
    theirs = Epoch(1, name("b"))
    said = Status(1, 0, shared.digest, "owner", highest=theirs, running=theirs, began=1)
    node.step(ev.MessageReceived(1, said), now_ms)
    assert node.route.highest == theirs and node.route.relay is None
    node.step(ev.ApplicationFailed("it cannot"), now_ms)
    assert node.route.relay == 1


def test_a_newcomer_that_dials_twice_is_not_taken_for_two() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.power_off("b")
    cluster.run(5)
    cluster.start("b")
    cluster.give("b", ev.PeersConfigured((cluster.hosts["a"].address,)))
    cluster.run(2000)
    assert cluster.hosts["b"].exit is None
    assert {str(n.name): n.state for n in cluster.snapshot("b").nodes}["a@h"] == "up"


def test_a_node_dialled_over_two_addresses_keeps_its_link() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.give("b", ev.ConnectRequested(1, (cluster.hosts["a"].address,)))
    cluster.run(3000)
    assert cluster.log("b")[-1].startswith("done: ")
    assert not any("down" in line for short in "ab" for line in cluster.log(short))


def test_of_two_of_one_name_that_meet_late_the_first_stays() -> None:
    cluster = Cluster(settings())
    cluster.cut("a", "c")
    cluster.start("a")
    cluster.run(5000)
    namesakes(cluster)
    cluster.run(5000)
    cluster.heal()
    cluster.run(1500)
    assert cluster.hosts["c"].exit is not None and cluster.hosts["c"].exit[0] == 75
    assert cluster.hosts["a"].exit is None and cluster.serving == "a"


def test_an_owner_that_leaves_since_its_name_is_taken_leaves_no_vacancy() -> None:
    cluster = running(Cluster(settings()), "a", "b")
    cluster.give("a", ev.MessageReceived(0, NameTaken(Address("10.0.0.9", 4041))))
    assert cluster.hosts["a"].exit is not None and cluster.hosts["a"].exit[0] == 75
    assert cluster.run_until(lambda: cluster.serving == "b") <= 20


def test_what_a_sleeper_heard_long_ago_moves_nothing() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.freeze("c")
    cluster.power_off("a")
    cluster.run_until(lambda: cluster.serving == "b")
    cluster.run(2000)
    changes = len(cluster.owners)
    cluster.thaw("c")  # its link with a looks alive for half a tick time
    cluster.run(5000)
    assert cluster.serving == "b" and len(cluster.owners) == changes


def test_what_waited_for_a_sleeper_to_read_it_moves_nothing() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.freeze("c")
    cluster.run(600)  # what a says now waits for c
    cluster.freeze("a")
    cluster.run_until(lambda: cluster.serving == "b")
    cluster.run(2000)
    changes = len(cluster.owners)
    cluster.thaw("c")
    cluster.run(5000)
    assert cluster.serving == "b" and len(cluster.owners) == changes


def test_a_restarted_owner_does_not_go_on_under_the_epoch_of_its_former_start() -> None:
    cluster = running(Cluster(linear()), "a", "b")
    cluster.run(20_000)  # the ticks of the first start are far above those of the second
    cluster.cut("a", "b")
    cluster.kill("a")
    cluster.start("a")  # alone: nobody tells it which epochs there were
    cluster.run(1000)
    assert cluster.serving == "a"
    cluster.heal()
    cluster.run(6000)
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert 5000 - 250 <= took_ms <= 5000 + 50


def test_a_former_start_that_looks_later_does_not_make_a_loss_look_older() -> None:
    """The clock was set back, and one who does not hear the owner tells of that start."""
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.split("a", "bc")
    cluster.kill("a")
    cluster.hosts["a"].wall_s -= 3600
    cluster.start("a")  # alone: it begins the same epoch
    cluster.run(1000)
    assert cluster.serving == "a"
    cluster.heal("a", "b")
    cluster.heal("b", "a")
    cluster.run(6000)
    assert cluster.serving == "a"
    cluster.power_off("a")
    took_ms = cluster.run_until(lambda: cluster.serving == "b")
    assert 5000 - 250 <= took_ms <= 5000 + 50


def test_with_timeout_inf_a_failed_application_is_retried_where_it_failed() -> None:
    cluster = running(Cluster(settings(timeout_ms=None)), "b", "c")
    cluster.give("b", ev.ApplicationFailed("broken"))
    assert cluster.run_until(lambda: cluster.serving != "") <= 1050
    assert cluster.serving == "b"


def test_the_back_off_of_contacts_is_that_of_strangers_only() -> None:
    """A node that is gone for an hour is met again as soon as it is back."""
    cluster = running(Cluster(settings()), "a", "b")
    cluster.power_off("b")
    cluster.run(3_600_000)
    cluster.start("b")
    assert cluster.run_until(lambda: cluster.snapshot("b").owner == name("a")) <= 500


_NAMES = st.sampled_from([name(s) for s in "abcd"])
_NUMBERS = st.sampled_from([0, 1, 2, 3, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])
_EPOCHS = st.builds(Epoch, _NUMBERS, _NAMES)
_MAYBE = st.none() | _EPOCHS
_STATUSES = st.builds(
    Status,
    _NUMBERS,
    _NUMBERS,
    st.sampled_from([settings().digest, b""]),
    st.just("odd"),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    _MAYBE,
    _MAYBE,
    _MAYBE,
    _MAYBE,
    st.none() | st.builds(Naming, _EPOCHS, _NAMES, _NUMBERS, _NUMBERS),
    st.lists(
        st.builds(
            Sign, _EPOCHS, _NUMBERS, _NUMBERS, st.sampled_from(End), _NUMBERS, _NAMES, _NUMBERS
        ),
        max_size=12,
    ).map(tuple),
    st.lists(
        st.builds(
            Heard, _EPOCHS, _NUMBERS, st.sampled_from(Holds), st.just(b""), _NUMBERS, _NUMBERS
        ),
        max_size=5,
    ).map(tuple),
    claim=_NUMBERS,
    backing=st.none() | st.builds(Backing, _NAMES, _NUMBERS, _NUMBERS, _NUMBERS),
    wants=st.booleans(),
    on_standby=st.booleans(),
    placed=st.none() | st.builds(Placed, _NUMBERS, _NUMBERS),
    anew=_NUMBERS,
    began=_NUMBERS,
)


@given(
    st.lists(st.tuples(st.sampled_from("bc"), _STATUSES, st.sampled_from([0, 1, 250])), max_size=8)
)
@hypothesis_settings(deadline=None, max_examples=150)
def test_nothing_that_a_peer_says_raises(said: list[tuple[str, Status, int]]) -> None:
    cluster = EncodingCluster(settings(timeout_ms=1000))
    cluster.start("a")
    cluster.run(300)
    for link, short in ((-1, "b"), (-2, "c")):
        cluster.give("a", ev.LinkUp(link, name(short), 7, Address("10.0.0.9", 50000)))
    for number, (short, status, wait_ms) in enumerate(said):
        tick = max(status.tick, number)
        status = status._replace(tick=tick)
        cluster.give("a", ev.MessageReceived(-1 if short == "b" else -2, status))
        cluster.run(wait_ms)
    cluster.run(3000)
    assert cluster.hosts["a"].exit is None


class EncodingCluster(Cluster):
    """One that encodes what is sent: a message that cannot be is a failure."""

    def acts(self, host: Host, action: ac.Action) -> None:
        super().acts(host, action)
        if isinstance(action, ac.Send):
            assert decode(encode(action.message)) == action.message


def test_a_slow_peer_that_still_hears_the_old_owner_stops_nobody() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    hosts = cluster.hosts
    for other in "ab":
        cluster.lan.set_slow(hosts["c"], hosts[other], 60 * MS)
    cluster.give("a", ev.ShutdownRequested())
    cluster.run(3000)
    assert [who for _, who in cluster.owners if who] == [("a",), ("b",)]


def test_a_tick_goes_along_with_a_peers_at_most_half_a_tick_early() -> None:
    node = Node(settings(), name("x"), 1, 0)  # an observer: it has nothing else to say
    tick_ms, ticks = NodeSettings().tick_ms, itertools.count(1)

    def sends(event: ev.Event, now_ms: int) -> int:
        return sum(isinstance(action, ac.Send) for action in node.step(event, now_ms))

    def hears(now_ms: int) -> int:
        status = Status(next(ticks), 0, settings().digest, "syncing")
        return sends(ev.MessageReceived(1, status), now_ms)

    def waits_until(end_ms: int) -> int:
        """Return when the last tick went out."""
        last_ms = 0
        while (at_ms := node.deadline()) is not None and at_ms <= end_ms:
            last_ms = at_ms if sends(ev.Wake(), at_ms) else last_ms
        return last_ms

    sends(ev.Wake(), 0)
    sends(ev.LinkUp(1, name("b"), 2, Address("10.0.0.2", 4041)), 0)
    ticked_ms = waits_until(2 * tick_ms)
    assert hears(ticked_ms + tick_ms // 2 - 1) == 0
    assert hears(ticked_ms + tick_ms // 2) == 1
    assert hears(ticked_ms + tick_ms // 2) == 0
    # And the next one a whole tick after that.
    assert waits_until(ticked_ms + tick_ms + tick_ms // 2) == ticked_ms + tick_ms + tick_ms // 2


def test_no_more_than_from_a_wake_follows_from_a_beacon_that_is_not_heeded() -> None:
    cluster = running(Cluster(settings()), *"abc")
    node, now_ms = cluster.hosts["a"].node, cluster.now_ms
    assert node is not None
    incarnation = cluster.hosts["b"].incarnation

    def follows(event: ev.Event) -> tuple[object, ...]:
        beside = copy.deepcopy(node)
        return beside.step(event, now_ms), beside.deadline(), beside.snapshot()

    for beacon, heeded in (
        (Beacon(name("b"), incarnation, 4041, False), False),
        (Beacon(name("b"), incarnation, 4041, True), True),
        (Beacon(name("b"), incarnation + 1, 4041, False), True),
        (Beacon(name("d"), incarnation, 4041, False), True),
    ):
        assert node.heeds(beacon) == heeded
        at = Address("10.0.0.99", 4041)
        assert heeded or follows(ev.BeaconHeard(beacon, at)) == follows(ev.Wake())


@pytest.mark.parametrize("every_ms", [1000, 2000, 4000])
def test_standing_aside_ends_though_another_comes_and_goes(every_ms: int) -> None:
    """The three of schedule-one-list-differs-and-a-link-is-cut, and an observer whose process ends
    again and again: each time there was something to wait for, and the wait began anew."""
    cluster = Cluster(linear(timeout_ms=2000), "abcz")
    cluster.cut("b", "c")
    for short, delay_ms in (("b", 0), ("a", 0), ("c", 300)):
        cluster.start(short, settings=linear(timeout_ms=2000, takeover_delay_ms=delay_ms))
        cluster.run(5)
    for _ in range(12_000 // every_ms):
        cluster.start("z")
        cluster.run(every_ms // 2)
        cluster.kill("z")
        cluster.run(every_ms // 2)
    assert len(cluster.serving) == 1


def test_two_that_decline_in_turn_are_not_named_at_once_either() -> None:
    tiers = PriorityList(((B, C), (A,)))
    cluster = Cluster(settings(nodes=tiers, takeover_delay_ms=2000), "abc")
    cluster.start("a")
    cluster.run(3000)
    cluster.start("b", "c")
    cluster.run(1000)
    for one, other in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")):  # too slow for a naming
        cluster.lan.set_slow(cluster.hosts[one], cluster.hosts[other], 250 * MS)
    cluster.run(60_000)
    assert 8 <= sum("hands over" in said for said in cluster.log("a")) <= 20
    began_ms = cluster.now_ms
    cluster.heal()
    cluster.stop("a")  # who stops does not wait
    assert cluster.run_until(lambda: cluster.serving == "b") <= 1000, cluster.now_ms - began_ms


def test_three_of_two_lists_that_start_at_once_do_not_beat_one_another_in_a_circle() -> None:
    """All stand aside for o, whose own timeout is longer, and cease in one moment: z is of a better
    tier than a of the same list, and of the others the name decided."""
    listed = PriorityList(tuple((NodePattern(key),) for key in "ozam"))
    cluster = Cluster(settings(nodes=listed, timeout_ms=2000), "ozamx")
    with_x = PriorityList((*listed.tiers, (NodePattern("x"),)))
    cluster.start("x", settings=settings(nodes=with_x, timeout_ms=600_000))
    cluster.run(1500)
    cluster.start("o", settings=settings(nodes=listed, timeout_ms=600_000))
    cluster.run(900)
    cluster.start("z", "a")
    cluster.start("m", settings=settings(nodes=listed, timeout_ms=2000, takeover_delay_ms=300))
    cluster.run(4000)
    assert cluster.serving == "x"
    cluster.power_off("x")
    cluster.run(5)
    cluster.run_until(lambda: cluster.serving != "", 7000)  # 2000, and 4 tick times aside
