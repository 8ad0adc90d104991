"""`chucky takeover` and `chucky standby`: whole nodes on a virtual clock, each rule as a story."""

import pytest

from chucky.core import events as ev
from chucky.core.placements import Placements
from chucky.core.verdict import ASIDE_TICK_TIMES
from chucky.messages import Epoch, NameTaken, Placed, Status
from chucky.names import Address, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings
from tests.unit.cluster import Cluster, name

A, B, C = map(NodePattern, "abc")
PINNED = PriorityList(tuple((NodePattern(x, "h"),) for x in "abc"))


def linear(**distributed: object) -> Settings:
    nodes = PriorityList(((A,), (B,), (C,)))
    return Settings(Distributed(**{"nodes": nodes, **distributed}))  # type: ignore[arg-type]


def running(cluster: Cluster, *order: str) -> Cluster:
    """Start the nodes and wait until the first of them serves and all have met."""
    cluster.start(*order)
    cluster.run_until(lambda: cluster.serving == order[0])
    cluster.run(3000)
    return cluster


def answers(cluster: Cluster, short: str) -> list[str]:
    """Return how the requests to a node ended."""
    return [line for line in cluster.log(short) if line.startswith(("done: ", "not done: "))]


def take_over(cluster: Cluster, short: str) -> int:
    """Ask for a takeover, wait until it is done; return how long nobody served."""
    cluster.give(short, ev.TakeoverRequested(1))
    before = len(answers(cluster, short))
    cluster.run_until(lambda: len(answers(cluster, short)) > before or cluster.serving == short)
    cluster.run(50)
    assert cluster.serving == short and cluster.most_served() == 1
    times = [at_ms for at_ms, _ in cluster.owners[-3:]]
    return times[-1] - times[-2]


def stand_by(cluster: Cluster, short: str, on: bool = True) -> None:
    cluster.give(short, ev.StandbyRequested(2, on))


@pytest.mark.parametrize("options", [{}, {"takeover": False}, {"takeover_delay_ms": 60_000}])
@pytest.mark.parametrize("quorum", ["reachable", "majority"])
def test_a_takeover_is_a_move_to_any_tier_and_stays(
    options: dict[str, object], quorum: str
) -> None:
    cluster = running(Cluster(linear(nodes=PINNED, quorum=quorum, **options)), "a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    gap_ms = take_over(cluster, "c")
    assert gap_ms <= 5
    epoch = cluster.snapshot("c").epoch
    assert epoch and answers(cluster, "c") == [
        f"done: c@h is the owner, epoch {epoch.number}, placed here"
    ]
    cluster.run(120_000)
    assert cluster.serving == "c"
    placed = f"c@h is the owner, epoch {epoch.number}, placed"
    assert [cluster.snapshot(x).sentence for x in "abc"] == [
        f"standby; {placed} there", f"standby; {placed} there", f"{placed} here",
    ]  # fmt: skip
    shown = {n.name: (n.placed, n.standby) for n in cluster.snapshot("a").nodes}
    assert shown == {name("a"): (False, False), name("b"): (False, False), name("c"): (True, False)}


def test_a_placement_ends_with_its_application() -> None:
    cluster = running(Cluster(linear(), "b"), "b")
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.run(50)
    assert "placed here" in cluster.snapshot("b").sentence
    cluster.give("b", ev.ApplicationFailed("it crashed"))
    cluster.run(50)
    assert cluster.serving == ""
    cluster.run_until(lambda: cluster.serving == "b")
    assert "placed" not in cluster.snapshot("b").sentence


def test_a_placement_outlasts_a_link_that_flaps() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b", "c")
    take_over(cluster, "c")
    for _ in range(3):
        cluster.cut("a", "c")
        cluster.run(5000)
        cluster.heal()
        cluster.run(5000)
    assert cluster.serving == "c" and len(cluster.owners) == 4  # nobody, a, nobody, c


@pytest.mark.parametrize("late", [False, True])
def test_a_node_that_was_cut_off_when_it_was_placed_was_up_all_the_same(late: bool) -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "c")
    stand_by(cluster, "a")
    cluster.run(1000)
    cluster.cut("a", "c")
    cluster.run(5000)
    for what in ("off", "placed") if not late else ("placed", "off"):
        if what == "off":
            stand_by(cluster, "a", False)
        else:
            cluster.give("c", ev.TakeoverRequested(1))
        cluster.run(20_000)
    assert cluster.serving == "c" and answers(cluster, "c")[0].startswith("done: ")
    cluster.heal()
    cluster.run(10_000)
    assert cluster.snapshot("a").owner == name("a" if late else "c")


def test_a_better_node_that_starts_anew_ends_the_placement() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    take_over(cluster, "c")
    cluster.kill("a")
    cluster.run(10_000)
    cluster.start("a")
    assert cluster.run_until(lambda: cluster.serving == "a") < 500
    cluster.run(10_000)
    assert cluster.serving == "a" and not any(n.placed for n in cluster.snapshot("b").nodes)


def test_one_better_node_that_is_bound_does_not_hold_up_one_that_is_not() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    take_over(cluster, "c")
    cluster.kill("b")
    cluster.run(3000)
    cluster.start("b")
    cluster.run_until(lambda: cluster.serving == "b", 500)
    cluster.run(1000)
    assert cluster.serving == "a"  # of b's ownership, which nobody placed


def test_it_is_placed_where_it_runs_even_if_a_better_one_is_about_to_take_it() -> None:
    cluster = running(Cluster(linear()), "b", "c")
    cluster.start("a")
    cluster.run_until(lambda: any(n.state == "up" for n in cluster.snapshot("a").nodes))
    cluster.run(150)
    cluster.give("b", ev.TakeoverRequested(1))
    assert answers(cluster, "b")[0].startswith("done: b@h is the owner")
    cluster.run(30_000)
    assert cluster.serving == "b"


def test_two_that_are_asked_at_once_both_have_it_once() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.give("c", ev.TakeoverRequested(1))
    cluster.run(1000)
    assert [who for _, who in cluster.owners if who] == [("a",), ("b",), ("c",)]
    assert all(answers(cluster, x)[0].startswith("done: ") for x in "bc")
    cluster.run(20_000)
    assert cluster.serving == "c" and cluster.most_served() == 1


def test_a_takeover_while_the_owner_stops_is_served_first() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.give("c", ev.TakeoverRequested(1))
    cluster.give("a", ev.ShutdownRequested())
    cluster.run(1000)
    assert cluster.serving == "c" and cluster.hosts["a"].exit == (0, "stopped")
    assert cluster.most_served() == 1


@pytest.mark.parametrize("quorum", ["reachable", "majority"])
def test_a_takeover_does_not_shorten_a_vacancy(quorum: str) -> None:
    cluster = running(Cluster(linear(nodes=PINNED, quorum=quorum)), "a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(6000)
    cluster.kill("a")
    cluster.give("c", ev.TakeoverRequested(1))
    took_ms = cluster.run_until(lambda: cluster.serving != "")
    assert 4700 <= took_ms <= 5300
    cluster.run(1000)
    assert cluster.serving == "c" and answers(cluster, "c")[0].startswith("done: ")


def test_a_takeover_in_a_vacancy_without_end_is_told_so_in_time() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b", "c")
    cluster.kill("a")
    cluster.give("c", ev.TakeoverRequested(1))
    assert cluster.run_until(lambda: bool(answers(cluster, "c"))) <= 5000
    assert answers(cluster, "c") == ["not done: no takeover to c@h: not in time: a@h is lost"]
    cluster.start("a")  # and is forgotten
    cluster.run(10_000)
    assert cluster.serving == "a"


@pytest.mark.parametrize("pause", ["freeze", "suspend"])
def test_a_takeover_where_it_was_paused_as_the_owner_comes_true(pause: str) -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    take_over(cluster, "c")
    getattr(cluster, pause)("c")
    cluster.run_until(lambda: cluster.serving == "a", 10_000)
    cluster.run(2000)
    cluster.give("c", ev.TakeoverRequested(2))
    cluster.thaw("c")
    cluster.run_until(lambda: len(answers(cluster, "c")) == 2)
    assert cluster.serving == "c"
    cluster.run(1000)
    assert cluster.serving == "c" and answers(cluster, "c")[1].startswith("done: ")


def test_a_machine_that_sleeps_once_it_has_named_takes_nothing_back_unheard() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.give("c", ev.TakeoverRequested(1))
    node = cluster.hosts["a"].node
    assert node is not None
    cluster.run_until(lambda: node._own.naming is not None, 1000)
    cluster.time.run_to(cluster.time.now_us + 1200)
    cluster.suspend("a")
    cluster.run(10_000)
    before = len(cluster.owners)
    cluster.thaw("a")
    cluster.run(5000)
    assert cluster.serving == "c" and len(cluster.owners) == before


def test_a_takeover_waits_for_the_sync() -> None:
    cluster = Cluster(linear(sync_nodes_mandatory=(A, B, C)))
    cluster.start("b", "c")
    cluster.give("c", ev.TakeoverRequested(1))
    cluster.run(3000)
    assert cluster.serving == "" and not answers(cluster, "c")
    cluster.start("a")
    cluster.run(2000)
    assert cluster.serving == "c" and answers(cluster, "c")[0].startswith("done: ")
    late = Cluster(linear(sync_nodes_mandatory=(A, B, C)))
    late.start("b", "c")
    late.give("c", ev.TakeoverRequested(1))
    late.run(10_000)
    assert answers(late, "c") == [
        "not done: no takeover to c@h: not in time: waiting for a: 20 s left"
    ]


def refused(cluster: Cluster, short: str) -> str:
    """Ask for a takeover that can never be; return why."""
    cluster.give(short, ev.TakeoverRequested(1))
    (answer,) = answers(cluster, short)
    return answer.removeprefix(f"not done: no takeover to {short}@h: ")


def test_a_takeover_that_can_never_be_is_refused_at_once() -> None:
    cluster = running(Cluster(linear(), "abcz"), "a", "b", "c", "z")
    assert refused(cluster, "z") == "z@h is an observer, not in nodes"
    stand_by(cluster, "b")
    cluster.hosts["b"].log.clear()
    assert refused(cluster, "b") == "b@h is on standby; say first: chucky standby off"
    cluster.give("c", ev.ApplicationFailed("the facts are gone"))
    assert refused(cluster, "c") == "c@h cannot run chucky: the facts are gone"
    other = running(Cluster(linear()), "a", "b")
    other.start("c", settings=linear(timeout_ms=4000))
    other.run(2000)
    why = "node.toml differs from that of c@h; make the files the same"
    assert refused(other, "b") == why
    assert other.serving == "a"


def test_a_node_that_is_to_stop_ends_what_it_was_asked() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b")
    cluster.kill("a")
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.give("b", ev.ShutdownRequested())
    assert answers(cluster, "b") == ["not done: no takeover to b@h: b@h is stopping"]


def test_a_successor_that_cannot_start_leaves_it_where_it_was() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.hosts["c"].fails = "its port is taken"
    cluster.give("c", ev.TakeoverRequested(1))
    cluster.run(3000)
    assert cluster.serving == "a" and cluster.most_served() == 1
    assert answers(cluster, "c") == [
        "not done: no takeover to c@h: c@h cannot run chucky: its port is taken"
    ]


def test_the_owner_dies_while_a_takeover_is_pending() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    cluster.freeze("a")
    cluster.give("c", ev.TakeoverRequested(1))
    cluster.run(20_000)
    assert cluster.serving == "c" and answers(cluster, "c")[0].startswith("done: ")


def test_a_placed_owner_that_was_lost_is_back_unplaced() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    take_over(cluster, "c")
    cluster.kill("c")
    cluster.run(1000)
    cluster.start("c")
    cluster.run_until(lambda: cluster.serving == "c", 1000)  # L2
    cluster.run(2000)
    assert cluster.serving == "a"  # which is better, and nobody placed it there now


def test_a_placement_is_kept_under_a_new_epoch() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b", "c")
    take_over(cluster, "c")
    ends = cluster.hosts["c"].ends.items()
    link = next(id for id, end in ends if end.peer and end.peer.host.key == "b")
    higher = Status(10**6, 1, b"", "", highest=Epoch(50, name("b")))
    cluster.give("c", ev.MessageReceived(link, higher))
    epoch = cluster.snapshot("c").epoch
    assert epoch and epoch.number == 51
    cluster.run(5000)
    assert cluster.serving == "c" and "epoch 51, placed there" in cluster.snapshot("a").sentence


# Standby.


@pytest.mark.parametrize("options", [{}, {"takeover": False}])
@pytest.mark.parametrize("quorum", ["reachable", "majority"])
def test_standby_gives_it_to_the_best_that_is_able(options: dict[str, object], quorum: str) -> None:
    cluster = running(Cluster(linear(nodes=PINNED, quorum=quorum, **options)), "a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    stand_by(cluster, "a")
    cluster.run(100)
    times = [at_ms for at_ms, _ in cluster.owners[-2:]]
    assert cluster.serving == "b" and times[1] - times[0] <= 5
    epoch = cluster.snapshot("b").epoch
    assert epoch and answers(cluster, "a") == [
        f"done: on standby; b@h is the owner, epoch {epoch.number}"
    ]
    stand_by(cluster, "a")  # once more
    assert answers(cluster, "a")[1:] == answers(cluster, "a")[:1]
    assert [n.standby for n in cluster.snapshot("b").nodes] == [True, False, False]
    cluster.run(5000)
    cluster.kill("b")
    cluster.run_until(lambda: cluster.serving == "c", 5400)  # a backs it, and does not take it
    cluster.run(20_000)
    stand_by(cluster, "a", False)
    assert answers(cluster, "a")[-1].startswith("done: a@h may own again; standby; c@h is the")
    cluster.run(500)
    assert cluster.serving == ("c" if options else "a") and cluster.most_served() == 1


def test_standby_waits_for_no_better_node_that_takes_for_ever_to_get_ready() -> None:
    cluster = running(Cluster(linear(takeover=False)), "c")
    cluster.start("a", "b")
    cluster.run(3000)
    cluster.hosts["a"].app_us = 10**15
    cluster.give("c", ev.StandbyRequested(1, True))
    aside_ms = ASIDE_TICK_TIMES * linear().tick_time_ms
    took_ms = cluster.run_until(lambda: cluster.serving == "b", aside_ms + 50)
    cluster.run(10)
    assert took_ms >= aside_ms
    assert answers(cluster, "c")[-1].startswith("done: on standby; b@h is the owner")


def test_off_standby_is_as_a_start_for_takeover_delay_and_for_a_placement() -> None:
    cluster = running(Cluster(linear(takeover_delay_ms=8000)), "a", "b", "c")
    take_over(cluster, "c")
    stand_by(cluster, "a")
    cluster.run(20_000)
    stand_by(cluster, "a", False)
    assert 8000 <= cluster.run_until(lambda: cluster.serving == "a") <= 8050
    take_over(cluster, "c")
    stand_by(cluster, "a", False)  # it was not on: nothing changes
    cluster.run(20_000)
    assert cluster.serving == "c"


def test_standby_with_nobody_else_goes_on_serving_and_says_so() -> None:
    cluster = running(Cluster(linear()), "a")
    stand_by(cluster, "a")
    sentence = "a@h is the owner, epoch 1, on standby: no other listed node is up"
    assert cluster.snapshot("a").sentence == sentence
    cluster.run(5000)
    assert answers(cluster, "a") == [
        f"not done: {sentence}; it hands over as soon as another node can"
    ]
    cluster.start("b")
    cluster.run_until(lambda: cluster.serving == "b", 500)
    assert cluster.owners[-1][0] - cluster.owners[-2][0] <= 5


def test_standby_on_all_nodes_leaves_it_where_it_is() -> None:
    cluster = running(Cluster(linear()), "a", "b", "c")
    for short in "bca":
        stand_by(cluster, short)
    cluster.run(30_000)
    assert cluster.serving == "a"
    cluster.kill("a")
    cluster.run(30_000)
    assert cluster.serving == "" and cluster.snapshot("b").sentence == "on standby; no owner"
    stand_by(cluster, "c", False)
    assert cluster.run_until(lambda: cluster.serving == "c") < 50
    cluster.start("a")  # a restart forgets it
    cluster.run(1000)
    assert cluster.serving == "a"


def test_standby_of_one_that_was_just_named() -> None:
    cluster = running(Cluster(linear()), "b", "c")
    cluster.start("a")
    cluster.run_until(lambda: "b@h hands over to a@h" in cluster.log("b"))
    stand_by(cluster, "a")
    cluster.run(50)
    assert cluster.serving == "b" and cluster.most_served() == 1
    assert answers(cluster, "a")[0].startswith("done: on standby; ")
    cluster.run(10_000)
    assert cluster.serving == "b"


def test_the_successor_of_one_on_standby_dies() -> None:
    cluster = running(Cluster(linear()), "a", "b")
    stand_by(cluster, "a")
    cluster.run_until(lambda: "a@h hands over to b@h" in cluster.log("a"))
    cluster.kill("b")
    cluster.run(1000)
    assert cluster.serving == "a" and cluster.most_served() == 1
    cluster.start("b")
    cluster.run(1000)
    assert cluster.serving == "b"
    assert answers(cluster, "a") == ["done: on standby; b@h is the owner, epoch 3"]


def test_a_cold_start_waits_for_nobody_on_standby() -> None:
    config = linear(sync_nodes_optional=(A, B, C), sync_nodes_timeout_ms=60_000)
    cluster = Cluster(config)
    cluster.start("a")
    stand_by(cluster, "a")
    cluster.start("b", settings=linear())
    cluster.run(1000)
    assert cluster.serving == "b"
    assert cluster.snapshot("a").sentence == "on standby; b@h is the owner, epoch 1"


def test_a_lost_owner_on_standby_does_not_start_again() -> None:
    cluster = running(Cluster(linear(nodes=PINNED, quorum="majority")), "a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    for short in "bc":
        stand_by(cluster, short)
    stand_by(cluster, "a")
    cluster.run(1000)
    cluster.cut("a", "b")
    cluster.cut("a", "c")
    cluster.run_until(lambda: cluster.serving == "")
    cluster.heal()
    cluster.run(20_000)
    assert cluster.serving == ""
    stand_by(cluster, "b", False)
    cluster.run(1000)
    assert cluster.serving == "b"


def test_standby_on_and_off_overtake_each_other() -> None:
    cluster = running(Cluster(linear()), "a")
    cluster.give("a", ev.StandbyRequested(1, True))
    cluster.give("a", ev.StandbyRequested(2, False))
    assert answers(cluster, "a") == [
        "not done: overtaken: somebody asked a@h for standby off",
        "done: a@h may own again; a@h is the owner, epoch 1",
    ]


def test_standby_ends_a_takeover_that_is_pending() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b")
    cluster.kill("a")
    cluster.give("b", ev.TakeoverRequested(1))
    stand_by(cluster, "b")
    assert answers(cluster, "b")[0].endswith("b@h is on standby; say first: chucky standby off")


def test_each_request_is_logged_with_its_cause() -> None:
    cluster = running(Cluster(linear()), "a", "b")
    take_over(cluster, "b")
    stand_by(cluster, "b")
    cluster.run(100)
    stand_by(cluster, "b", False)
    told = [(r.sentence, r.cause) for r in cluster.reports["b"] if "is up" not in r.sentence]
    assert told == [
        ("b@h is taking over a@h", "takeover"),
        ("Application is started on b@h", "takeover"),
        ("Application chucky is placed on b@h", "takeover"),
        ("b@h is on standby: it gives chucky away and does not take it", "standby"),
        ("b@h hands over to a@h", "handover"),
        ("Application chucky exited: stopped", "handover"),
        ("a@h has taken over", "handover"),
        ("b@h is off standby: it may own again", "standby"),
    ]


def test_requests_that_wait_are_bounded() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b")
    cluster.kill("a")
    for number in range(100):
        cluster.give("b", ev.TakeoverRequested(number))
    assert len(answers(cluster, "b")) == 100 - 64
    cluster.run(5000)
    assert len(answers(cluster, "b")) == 100
    cluster.give("b", ev.TakeoverRequested(100))
    assert len(answers(cluster, "b")) == 100


# What binds a node.


def runs(placed: Placed | None) -> Status:
    return Status(9, 0, b"", "", running=Epoch(1, name("c")), placed=placed)


def test_a_placement_is_judged_once() -> None:
    placements = Placements(800, 1000)
    c = name("c")
    placements.hear(c, 5, runs(Placed(7, 600)), 2000)  # this node is up for longer
    assert placements.binding == {c}
    placements.hear(c, 5, runs(Placed(7, 9000)), 2800)  # its clock is the faster one
    assert placements.binding == {c}
    placements.hear(c, 5, runs(Placed(8, 9000)), 3000)
    assert not placements.binding
    placements.hear(c, 6, runs(Placed(8, 100)), 3000)
    assert placements.binding == {c}
    placements.hear(c, 6, runs(None), 3000)
    assert not placements.binding


def test_a_placement_that_is_heard_of_late_is_judged_by_the_next_status_too() -> None:
    placements = Placements(800, 1000)
    c = name("c")
    placements.hear(c, 5, runs(Placed(7, 600)), 2000)  # was under way for long
    placements.hear(c, 5, runs(Placed(7, 1900)), 2799)
    assert not placements.binding  # it was placed before this node started
    placements.hear(c, 5, runs(Placed(7, 1850)), 2799)
    assert not placements.binding


def test_off_standby_frees_a_node_of_earlier_placements_only() -> None:
    placements = Placements(800, 0)
    b, c = name("b"), name("c")
    placements.hear(c, 5, runs(Placed(7, 600)), 2000)
    placements.came_off_standby(3000)
    assert not placements.binding
    placements.hear(c, 5, runs(Placed(7, 2600)), 4000)
    placements.hear(b, 5, runs(Placed(7, 500)), 4000)
    assert placements.binding == {b}


def test_who_waits_when_the_node_ends_is_told_why() -> None:
    cluster = running(Cluster(linear(timeout_ms=None)), "a", "b")
    cluster.kill("a")
    cluster.run(3000)
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.give("b", ev.ConnectRequested(2, (Address("10.0.0.77", 4041),), name("x")))
    cluster.give("b", ev.MessageReceived(0, NameTaken(Address("10.0.0.9", 4041))))
    assert cluster.hosts["b"].exit is not None
    why = "the name b@h is taken by the node at 10.0.0.9:4041; stop one of the two"
    assert sorted(answers(cluster, "b")) == [f"not done: {why}"] * 2
