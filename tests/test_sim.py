"""Some seeds of the simulator, and for each of its checks a history that must make it fire."""

import contextlib
import os
import random
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.membership import Gone
from chucky.core.node import Node
from chucky.core.ownership import Ownership
from chucky.messages import Epoch, Heard, Holds, Naming, Status
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Facts, Settings
from tests.sim import inside, liveness, requests, run, safety, swarm, witness
from tests.sim.clock import MS, Clock
from tests.sim.cluster import Cluster
from tests.sim.nemesis import Nemesis
from tests.sim.requests import Requests
from tests.sim.witness import Witness

SEEDS = 12  # thousands more in `make sim`

A, B, C = (NodeName(n, "h") for n in "abc")
NODES = PriorityList(((NodePattern("a"),), (NodePattern("b"), NodePattern("c"))))
SETTINGS = Settings(Distributed(nodes=NODES, timeout_ms=1000))
INF = Settings(Distributed(nodes=NODES, timeout_ms=None))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed(seed: int) -> None:
    run.live(seed)


def told(seed: int) -> list[str]:
    """Return a seed's story."""
    story: list[str] = []
    run.live(seed, story.append)
    return story


def test_a_seed_tells_the_same_story_each_time() -> None:
    assert told(3) == told(3)


def test_a_process_that_dies_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "live", os._exit)  # its children have it, too
    with pytest.raises(BrokenProcessPool):
        list(run.outcomes(range(1, 3), 2))


# The checks: (what breaks it, what does not).


def syncing(seen: str = "", formed: bool = False, deadline_ms: int | None = 100) -> safety.Syncing:
    """Return a sync that waits for b, and for c if it comes."""
    names = {NodeName(s, "h") for s in seen}
    return safety.Syncing([NodePattern("b")], [NodePattern("c")], deadline_ms, formed, names)


def sign(node: NodeName, at_us: int) -> safety.Sign:
    """Return a last sign of life."""
    return safety.Sign(Epoch(1, node), 7, at_us)


def heard(us: int | None) -> Callable[[str, str], int | None]:
    """Return that any two hear each other for so long."""
    return lambda one, other: us


s1 = safety.s1_none_serve_that_hear_each_other
s4 = safety.s4_no_failover_before_the_timeout
tier = safety.s4_only_a_better_tier_takes_over
exits = safety.s3_exits_at_the_deadline
an_exit = safety.an_exit_has_a_cause
l1, l7 = liveness.l1_failover, liveness.l7_failed_application


def stays(free_us: int, now_us: int) -> str | None:
    """Let an owner that was placed at 100 s give way."""
    return safety.a_placement_stays(B, 10**8, free_us, now_us)


FIRES = {
    "S1": s1("ab", heard(500_002), 1),
    "S1 of three": s1("abc", lambda x, y: 600_000 if (x, y) == ("b", "c") else None, 1),
    "S2": safety.s2_at_most_one_serves("ab"),
    "S3 runs": safety.s3_nothing_runs_before_the_sync(syncing("b"), 99),
    "S3 runs without the mandatory": safety.s3_nothing_runs_before_the_sync(syncing("c"), 100),
    "S3 stays": exits(syncing("c"), 103, 3),
    "S3 goes early": safety.s3_exits_for_cause(syncing("c"), 99),
    "S3 goes for nothing": safety.s3_exits_for_cause(syncing("b"), 100),
    "S4": s4(B, sign(A, 0), 1000, 980_000),
    "S4 inf": s4(B, sign(A, 0), None, 10**12),
    "S4 equal tier": tier(NODES, B, False, C),
    "S4 worse tier": tier(NODES, A, False, B),
    "S4 observer": tier(NODES, A, True, NodeName("z", "h")),
    "S4 restart": safety.s4_a_restart_takes_nothing(B, ["a, epoch 1"], ["b, epoch 2"]),
    "rule 10 stop": an_exit(0, "stopped", False, False),
    "rule 10 name": an_exit(75, "the name a@h is taken by the node at x", True, False),
    "0008 from where it was placed": stays(10**8 - 12_001, 10**8 + 10**6),
    "0008 standby": safety.standby_does_not_start(True, False),
    "0008 late": liveness.asked_for(500_001, True, True, 0),
    "0008 never": liveness.asked_for(None, False, False, 0),
    "0008 refused": liveness.asked_for(1, False, True, 0),
    "0008 says so only": liveness.asked_for(1, True, False, 0),
    "0008 taken back": liveness.placed_stays(B, [A]),
    "S5 owner": safety.s5_strangers_change_nothing(("a", Epoch(1, A)), ("b", Epoch(2, B))),
    "S5 epoch": safety.s5_strangers_change_nothing(("a", Epoch(1, A)), ("a", Epoch(2, A))),
    "0020 starts": safety.nothing_goes_round("starts", 20, 999_999, 1_000_000),
    "epoch below": safety.an_epoch_is_new(Epoch(1, A), Epoch(2, B), A),
    "epoch again": safety.an_epoch_is_new(Epoch(2, A), Epoch(2, A), A),
    "epoch of another": safety.an_epoch_is_new(Epoch(2, B), None, A),
    "epoch of two": safety.an_epoch_has_one_node(Epoch(1, A), "a", "A"),
    "L1 death": l1(SETTINGS, False, 0, 1_110_001, 0),
    "L1 silence": l1(SETTINGS, True, 0, 1_110_001, 0),
    "L1 never": l1(SETTINGS, True, 0, None, 10**9),
    "L1 two": l1(SETTINGS, True, 1, 2_110_001, 0),
    "L2 late": liveness.l2_return(500_001, A, A, 0),
    "L2 another": liveness.l2_return(1, A, B, 0),
    "L2 lease": liveness.l2_after_one_lease(SETTINGS, 1_510_001, 0),
    "S2 lease": liveness.s2_the_rest_stops(SETTINGS, 981_701),
    "rule 8": safety.rule8_a_difference_moves_nothing("a", "b"),
    "rule 8 stops": safety.rule8_a_difference_moves_nothing("a", ""),
    "L3": liveness.l3_takeover(SETTINGS, 500_001, 0),
    "L4": liveness.l4_planned_stop(500_001, 0),
    "L5 two": liveness.l5_one_owner([A, B], None),
    "L5 none": liveness.l5_one_owner([], None),
    "L5 the worse": liveness.l5_one_owner([B], A),
    "L5 late": liveness.l5_somebody_serves(SETTINGS, 1_110_001, 0),
    "L5 never": liveness.l5_somebody_serves(SETTINGS, None, 0),
    "L5 move": liveness.l5_a_move_ends(500_001, 0),
    "rule 5": liveness.rule5_a_stop_ends(5_050_001, 0),
    "rest": liveness.nothing_moves(["a, epoch 1"], ["a, epoch 2"]),
    "rest words": liveness.few_words(81, 40),
    "L7 late": l7(SETTINGS, 1_110_001, None, 0),
    "L7 never": l7(SETTINGS, None, None, 0),
    "L7 no back-off": l7(SETTINGS, None, 900_000, 0),
    "end nobody": liveness.l_in_the_end([], None),
    "end two": liveness.l_in_the_end([A, B], None),
    "end the worse": liveness.l_in_the_end([B], {A}),
    "L8 no deadline": liveness.l8_answers(None, False, "standby"),
    "L8 no status": liveness.l8_answers(5, False, ""),
    "order": requests.answered_in_order(Epoch(1, B), Epoch(2, A)),
    "held too long": requests.not_lost(True, 111, 100, 10),
    "L6": requests.l6_answered("refused", 1),
}  # fmt: skip

STILL = {
    "S1 500 ms": s1("ab", heard(500_001), 1),
    "S1 apart": s1("ab", heard(None), 1),
    "S1 one": s1("a", heard(10**9), 1),
    "S2 one": safety.s2_at_most_one_serves("a"),
    "S3 seen": safety.s3_nothing_runs_before_the_sync(syncing("bc"), 0),
    "S3 joins": safety.s3_nothing_runs_before_the_sync(syncing(formed=True), 0),
    "S3 late": safety.s3_nothing_runs_before_the_sync(syncing("b"), 100),
    "S3 waits": exits(syncing("c"), 102, 3),
    "S3 for ever": exits(syncing(deadline_ms=None), 10**9, 3),
    "S3 exits": safety.s3_exits_for_cause(syncing("c"), 100),
    "S4 in time": s4(B, sign(A, 0), 1000, 1_000_000),
    "S4 back": s4(A, sign(A, 0), 1000, 1),
    "S4 unknown": s4(B, None, None, 1),
    "S4 better tier": tier(NODES, B, False, A),
    "S4 handover": tier(NODES, A, True, B),
    "S4 stays": safety.s4_a_restart_takes_nothing(B, ["a, epoch 1"], ["a, epoch 1"]),
    "rule 10 asked": an_exit(0, "stopped", True, False),
    "rule 10 twin": an_exit(75, "the name a@h is taken by the node at x", False, True),
    "rule 10 mandatory": an_exit(75, "mandatory nodes are missing: c", False, False),
    "S4 from an observer": tier(NODES, NodeName("z", "h"), False, B),
    "0008 to one that started anew": stays(10**8 + 1, 10**9),
    "0008 clocks apart": stays(10**8 - 12_000, 10**8 + 10**6),
    "0008 takes it back": safety.standby_does_not_start(True, True),
    "0008 off standby": safety.standby_does_not_start(False, False),
    "0008 in time": liveness.asked_for(500_000, True, True, 0),
    "0008 stays": liveness.placed_stays(B, [B]),
    "S5": safety.s5_strangers_change_nothing(("a", Epoch(1, A)), ("a", Epoch(1, A))),
    "0020 starts": safety.nothing_goes_round("starts", 20, 1_000_000, 1_000_000),
    "epoch": safety.an_epoch_is_new(Epoch(2, A), Epoch(1, B), A),
    "L1": l1(SETTINGS, False, 0, 1_110_000, 0),
    "L1 two": l1(SETTINGS, True, 1, 2_110_000, 0),
    "L2": liveness.l2_return(500_000, A, A, 0),
    "L2 lease": liveness.l2_after_one_lease(SETTINGS, 1_510_000, 0),
    "S2 lease": liveness.s2_the_rest_stops(SETTINGS, 981_700),
    "rule 8": safety.rule8_a_difference_moves_nothing("a", "a"),
    "L3": liveness.l3_takeover(SETTINGS, 500_000, 0),
    "L4": liveness.l4_planned_stop(500_000, 0),
    "L5": liveness.l5_one_owner([A], A),
    "L5 soon": liveness.l5_somebody_serves(SETTINGS, 1_110_000, 0),
    "L5 move": liveness.l5_a_move_ends(500_000, 0),
    "rule 5": liveness.rule5_a_stop_ends(5_050_000, 0),
    "rest": liveness.nothing_moves(["a, epoch 1"], ["a, epoch 1"]),
    "rest words": liveness.few_words(80, 40),
    "L7": l7(SETTINGS, 1_110_000, None, 0),
    "L7 inf": l7(INF, None, 2_000_000, 0),
    "end": liveness.l_in_the_end([A], {A}),
    "L8": liveness.l8_answers(None, True, "stopping"),
    "order": requests.answered_in_order(Epoch(2, A), Epoch(2, A)),
    "held": requests.not_lost(True, 110, 100, 10),
    "L6": requests.l6_answered("answered", 10**9),
}  # fmt: skip


@pytest.mark.parametrize("what", FIRES)
def test_a_check_fires(what: str) -> None:
    assert FIRES[what]


@pytest.mark.parametrize("what", STILL)
def test_a_check_stays_still(what: str) -> None:
    assert STILL[what] is None


# The witness: the same with a cluster that was made to lie.


def calm(settings: Settings = SETTINGS) -> tuple[Cluster, Witness]:
    """Return a watched cluster where a serves."""
    cluster = Cluster(settings, "abc")
    witness = Witness(cluster)
    cluster.start("a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(1000)
    return cluster, witness


def test_the_witness_sees_two_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, _ = calm()
    b = cluster.hosts["b"]
    b.running, b.serve_until_ms = Epoch(9, B), 10**9
    monkeypatch.setattr(b, "stepped", lambda: None)
    with pytest.raises(AssertionError, match="^S1: a and b serve"):
        cluster.run(500)


def test_with_timeout_inf_a_failed_owner_gives_it_away_when_it_is_told_to() -> None:
    cluster, _ = calm(INF)
    cluster.hosts["a"].fails = cluster.hosts["a"].unready = "its file is broken"
    cluster.give("a", ev.ApplicationFailed("its file is broken"))
    cluster.run(5000)
    assert cluster.serving == ""
    cluster.give("a", ev.StandbyRequested(1, True))
    cluster.run_until(lambda: cluster.serving == "b", 100)


@pytest.mark.parametrize("limit", ["STARTS", "STEPS"])
def test_the_witness_sees_what_goes_round(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, limit, 1)
    with pytest.raises(AssertionError, match=f"^0020: 1 {limit.lower()} within 0 us"):
        calm()


INSIDE: dict[str, Callable[[Node, set[int]], object]] = {
    "runs 1 of a@h, starts 9": lambda node, ends: setattr(node._own, "starting", Epoch(9, A)),
    "remembers no such": lambda node, ends: node._own.records._records.clear(),
    "claims nothing": lambda node, ends: node._lease.withdraw(),  # type: ignore[union-attr]
    "takes for lost": lambda node, ends: node._members.gone.update({B: Gone(1, 0, 0)}),
    "one node for another": lambda node, ends: setattr(node._members.links[B], "name", C),
    "a name that nobody uses": lambda node, ends: node._members._newcomers.update(
        {99: replace(node._members.links[B], name=NodeName("z", "h"))}
    ),
    "a link that is no more": lambda node, ends: ends.clear(),
    "a dial that is no more": lambda node, ends: node._members.contacts._dials.update({99: None}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("words", INSIDE)
def test_it_is_seen_what_is_broken_inside(words: str) -> None:
    votes = replace(SETTINGS.distributed, quorum="majority")
    cluster = Cluster(replace(SETTINGS, distributed=votes), "abc")
    cluster.start("a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    node, ends = cluster.hosts["a"].node, set(cluster.hosts["a"].ends)
    assert node is not None and inside.broken(node, ends) is None
    INSIDE[words](node, ends)
    assert words in (inside.broken(node, ends) or "")


def test_the_witness_looks_inside() -> None:
    cluster, _ = calm()
    INSIDE["takes for lost"](cluster.hosts["a"].node, set())  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="^inside: it has a link with a node that it takes"):
        cluster.run(500)


@pytest.mark.parametrize(
    ("code", "sentence"), [(0, "stopped"), (75, "the name a@h is taken by the node at x")]
)
def test_the_witness_sees_an_exit_without_cause(code: int, sentence: str) -> None:
    cluster, witness = calm()
    with pytest.raises(AssertionError, match=f"^rule 10: it exits {code}, "):
        witness.acts(cluster.hosts["a"], ac.Exit(code, sentence))


def test_the_witness_sees_a_stop_that_does_not_end() -> None:
    cluster, witness = calm()
    witness.lives["a"].stop_us = cluster.time.now_us
    with pytest.raises(AssertionError, match="^rule 5: it was asked to stop 5"):
        cluster.run(6000)


def test_a_naming_excuses_a_start_for_a_tick_time_only() -> None:
    cluster, witness = calm(INF)
    cluster.kill("a")
    cluster.run(50)
    b, life = cluster.hosts["b"], witness.lives["b"]
    naming = Naming(Epoch(1, A), B, b.incarnation, 1)
    named = Status(1, 0, b"", "standby", naming=naming)
    link = next(k for k, end in b.ends.items() if end.peer and end.peer.host.key == "c")
    start = ac.StartApplication(Epoch(2, B))
    for wait_ms, lawful in ((500, True), (600, False)):
        witness.before(b, ev.MessageReceived(link, named))
        cluster.run(wait_ms)
        witness.before(b, ev.MessageReceived(link, named))  # told again, it is no younger
        life.begun, life.named = None, True
        with contextlib.nullcontext() if lawful else pytest.raises(AssertionError, match="^S4: "):
            witness.acts(b, start)


def test_only_what_was_given_up_in_good_order_leaves_no_vacancy() -> None:
    cluster, witness = calm()
    a, stops = cluster.hosts["a"], ac.StopApplication()
    for cause, given_up in (("lapse", set()), ("handover", {(Epoch(1, A), a.incarnation)})):
        witness.acts(a, ac.Report(ac.Level.INFO, "it stops", cause))
        witness.acts(a, stops)
        assert witness.given_up == given_up


def test_two_hear_each_other_on_a_path_that_is_a_bit_slow() -> None:
    cluster, witness = calm()
    for extra_us, hear in ((100 * MS, True), (248 * MS, False), (400 * MS, False)):
        cluster.lan.set_slow(cluster.hosts["a"], cluster.hosts["b"], extra_us)
        cluster.cut("a", "c")
        cluster.run(1500)
        assert (witness._pair_us(cluster.hosts["a"], cluster.hosts["b"]) is not None) == hear


def test_checks_rest_while_two_machines_have_one_name_and_no_longer() -> None:
    cluster, _ = calm()
    cluster.add("A", SETTINGS, A)
    cluster.twins.add("A")
    assert not cluster.twins_now
    cluster.start("A")
    assert cluster.twins_now
    cluster.run(500)
    assert cluster.hosts["A"].exit is not None and cluster.twins_now
    cluster.run(10_000)
    assert not cluster.twins_now


def test_the_witness_sees_a_failover_that_comes_early() -> None:
    cluster, _ = calm()
    cluster.kill("a")
    cluster.run(300)
    for key in "bc":
        node = cluster.hosts[key].node
        assert node is not None
        node._own.records._records.clear()
    with pytest.raises(AssertionError, match="^S4: b@h starts"):
        cluster.run(2000)


def test_the_witness_sees_an_epoch_that_was_heard_of() -> None:
    cluster, witness = calm()
    cluster.kill("a")
    witness.lives["b"].heard = Epoch(5, A)
    with pytest.raises(AssertionError, match="^epochs: b@h begins 2 of b@h"):
        cluster.run(2000)


def test_the_witness_sees_a_placement_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, witness = calm()
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.run(1000)
    assert cluster.serving == "b" and witness.administrators.kept_from(cluster.hosts["b"], [])
    better = [cluster.hosts["a"]]
    assert witness.administrators.kept_from(cluster.hosts["b"], better)
    for node in (cluster.hosts["a"].node, cluster.hosts["b"].node):
        assert node is not None
    cluster.hosts["a"].node._placements.came_off_standby(0)  # type: ignore[union-attr]
    with pytest.raises(AssertionError, match="^0008: b@h was placed at"):
        cluster.run(1000)


def test_the_witness_sees_a_takeover_that_nobody_asked_for() -> None:
    cluster, witness = calm()
    cluster.give("b", ev.TakeoverRequested(1))
    witness.administrators.orders["b"].asked = False
    with pytest.raises(AssertionError, match="^S4: a@h of tier 0 names b@h of tier 1"):
        cluster.run(1000)


def test_the_witness_sees_a_start_on_standby() -> None:
    cluster, witness = calm()
    cluster.kill("a")
    witness.administrators.orders["b"].on_standby = True
    with pytest.raises(AssertionError, match="^0008: a node on standby starts"):
        cluster.run(2000)


def test_what_starts_long_after_a_placement_is_not_kept_from_it() -> None:
    cluster, witness = calm()
    cluster.give("b", ev.TakeoverRequested(1))
    cluster.run(11_000)
    cluster.kill("a")
    cluster.start("a")
    assert not witness.administrators.kept_from(cluster.hosts["b"], [cluster.hosts["a"]])


def test_only_the_answer_to_a_takeover_places_the_application() -> None:
    cluster, witness = calm()
    b = cluster.hosts["b"]
    for event in (ev.TakeoverRequested(0), ev.StandbyRequested(0, True)):
        cluster.give("b", event)  # a number may be used again
        cluster.run(1000)
        assert b.answers.pop().done
        assert witness.administrators.kept_from(b, []) == (cluster.serving == "b")
    assert cluster.serving == "a"


def test_a_reload_finds_a_formed_cluster() -> None:
    cluster, _ = calm()
    cluster.kill("b", "c")
    waits = replace(INF.distributed, sync_nodes_mandatory=(NodePattern("c"),))
    cluster.start("b", settings=replace(INF, distributed=waits))
    cluster.run(1000)
    assert not cluster.snapshot("b").synced  # c is off, and a has another timeout
    cluster.give("b", ev.Reloaded(SETTINGS))
    cluster.kill("a")
    cluster.run_until(lambda: cluster.serving == "b")


def test_a_timeout_holds_until_its_node_reads_another() -> None:
    cluster, _ = calm()
    cluster.hosts["b"].settings = INF  # of a reload that a paused node has yet to read
    cluster.kill("a")
    cluster.run_until(lambda: cluster.serving == "b")


def test_the_witness_knows_of_an_owner_that_tells_nobody() -> None:
    cluster = Cluster(INF, "a")
    witness = Witness(cluster)
    cluster.start("a")
    cluster.run_until(lambda: cluster.serving == "a")
    a = cluster.hosts["a"]
    assert witness.lives["a"].signs == {(a.running, a.incarnation): (0, 0)}
    cluster.kill("a")
    cluster.start("a")
    cluster.run_until(lambda: cluster.serving == "a")  # under the same epoch: nobody told it
    assert witness.lives["a"].signs == {(Epoch(1, A), a.incarnation): (0, 0)}


def test_with_timeout_inf_who_lost_it_and_is_back_starts_unless_it_was_succeeded() -> None:
    cluster = Cluster(INF, "ab")
    witness = Witness(cluster)
    cluster.start("a", "b")
    cluster.run(50)
    a, e1, e2 = cluster.hosts["a"], Epoch(1, A), Epoch(2, B)
    witness.lives["a"].signs = {(e1, 7): (9, 0), (e2, 8): (5, 0)}
    witness.sent_us[e2, 8] = {5: cluster.time.now_us}
    later = safety.Sign(e2, 5, cluster.time.now_us)
    assert witness.last_sign(a) is None
    witness.lives["a"].settings = SETTINGS
    assert witness.last_sign(a) == later
    witness.lives["a"].settings = INF
    told = Status(1, 0, b"", "standby", hears=(Heard(e2, 8, Holds.RUNNING, b"", 0),))
    own = told._replace(hears=(Heard(e1, 7, Holds.RUNNING, b"", 0),))
    witness.before(a, ev.MessageReceived(next(iter(a.ends)), own))
    assert witness.last_sign(a) is None
    witness.before(a, ev.MessageReceived(next(iter(a.ends)), told))
    assert witness.last_sign(a) == later


def test_a_start_is_judged_by_the_timeout_of_its_moment() -> None:
    cluster = Cluster(SETTINGS, "ab")
    witness = Witness(cluster)
    cluster.start("a", "b")
    cluster.run(50)
    a, life, e2, e3 = cluster.hosts["a"], witness.lives["a"], Epoch(2, B), Epoch(3, A)
    life.signs = {(e2, 8): (5, 0)}
    witness.sent_us[e2, 8] = {5: cluster.time.now_us}
    at_once = replace(SETTINGS, distributed=Distributed(nodes=NODES, timeout_ms=0))
    telling = ac.Send(1, Status(1, 0, b"", "standby", starting=e3))
    for told, started, lawful in ((SETTINGS, at_once, True), (at_once, SETTINGS, False)):
        life.settings, life.begun = told, None
        witness.acts(a, telling)
        life.settings = started  # a reload
        with contextlib.nullcontext() if lawful else pytest.raises(AssertionError, match="^S4: "):
            witness.acts(a, ac.StartApplication(e3))


def test_the_witness_lets_a_twin_wait_while_the_first_of_its_name_is_linked() -> None:
    cluster, witness = calm()
    before_us = witness.heard_us("b", "a") or 0
    cluster.add("A", SETTINGS, A)
    cluster.twins.add("A")
    cluster.start("A")
    cluster.run(SETTINGS.tick_time_ms // 4)
    assert before_us > 0 and (witness.heard_us("b", "a") or 0) > before_us  # the first is heard
    assert cluster.hosts["A"].exit is not None  # refused by then


def test_the_witness_lets_a_twin_wait_until_the_first_is_silent() -> None:
    cluster, witness = calm()
    cluster.kill("c")
    cluster.power_off("a")
    cluster.add("A", SETTINGS, A)
    cluster.twins.add("A")
    cluster.start("A")
    waited_ms = 0
    while "a@h is silent: it is down" not in cluster.log("b"):
        assert witness.heard_us("b", "A") == 0
        cluster.run(10)
        waited_ms += 10
    cluster.run(200)
    assert waited_ms > SETTINGS.tick_time_ms // 2
    assert 200 * MS <= (witness.heard_us("b", "A") or 0) <= 210 * MS


def test_requests_see_a_refusal() -> None:
    cluster = Cluster(INF, "ab")
    clients = Requests(cluster)
    clients.calm = True
    cluster.start("a", "b")
    cluster.run(2000)
    cluster.kill("a")
    with pytest.raises(AssertionError, match="^L6: a request was refused"):
        cluster.run(20_000)
    assert clients.fates["answered"] > 5


def test_requests_see_an_answer_of_an_epoch_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SETTINGS, "ab")
    clients = Requests(cluster)
    cluster.start("a", "b")
    cluster.run(3000)
    assert clients.services["b"].given == Epoch(1, A)
    monkeypatch.setattr(Ownership, "_new_epoch", lambda own: Epoch(0, own.me))
    cluster.kill("a")
    with pytest.raises(AssertionError, match="^requests: an answer of 0 of b@h after one of 1 of"):
        cluster.run(5000)


def test_requests_see_one_that_waits_past_its_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(replace(INF, facts=Facts(hold_ms=100)), "ab")
    clients = Requests(cluster, every_us=20 * MS)
    over = clients._expire

    def waits_for_its_answer(request: requests.Request, service: requests.Service) -> None:
        if request.over is None or request.fate:
            over(request, service)
        else:
            cluster.time.after(100 * MS, clients._expire, request, service)

    monkeypatch.setattr(clients, "_expire", waits_for_its_answer)
    cluster.start("a", "b")
    cluster.run(2000)
    assert cluster.serving == "a"
    cluster.freeze("a")
    with pytest.raises(AssertionError, match="^requests: one waits at"):
        cluster.run(2000)


# The machinery.


def test_a_clock_comes_to_show_what_it_was_asked_for() -> None:
    for ppm in (-4900, 0, 4900):
        clock = Clock(123_456_789, ppm)
        for shows_ms in (123_457, 130_000, 10_000_000):
            at_us = clock.when_us(shows_ms)
            assert clock.read_ms(at_us) == shows_ms
            assert clock.read_ms(at_us - 1) < shows_ms


def test_a_short_cut_loses_nothing_on_a_link() -> None:
    cluster, _ = calm()
    cluster.cut("a", "b")
    cluster.run(300)
    cluster.heal()
    cluster.run(900)
    assert not [line for line in cluster.log("b") if line.endswith("it is down")]


def test_a_path_is_clear_when_what_was_slow_has_arrived() -> None:
    cluster, _ = calm()
    lan, a, b = cluster.lan, cluster.hosts["a"], cluster.hosts["b"]
    for extra_us in (1000 * MS, 0, 0):
        lan.set_slow(a, b, extra_us)
    lan.set_cut(a, b, True)
    lan.set_cut(a, b, False)
    path = lan.path(a, b)
    assert path.clear_us == path.arrived_us == cluster.time.now_us + 1000 * MS


def test_a_cut_one_way_silences_one_way() -> None:
    cluster, _ = calm()
    cluster.cut("a", "b", one_way=True)
    cluster.run_until(lambda: "a@h is silent: it is down" in cluster.log("b"), 1200)
    assert "b@h is silent: it is down" not in cluster.log("a")


def test_who_moves_is_found_where_it_is_now() -> None:
    cluster, _ = calm()
    b = cluster.hosts["b"]
    before = set(b.ends.values())
    cluster.move("b", "10.0.1.1")
    path = cluster.lan.path(cluster.hosts["a"], b)
    assert path.clear_us == path.arrived_us == cluster.time.now_us + SETTINGS.tick_time_ms * MS
    assert all(end.path.cut for end in before) and not path.cut
    cluster.run_until(lambda: any("b@h at 10.0.1.1:" in s for s in cluster.log("a")), 3000)
    cluster.run(500)
    assert before.isdisjoint(b.ends.values()) and cluster.serving == "a"


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("after_ms", [1, 6, 11, 16])
def test_a_handshake_with_who_moves_meanwhile_comes_to_nothing(who: str, after_ms: int) -> None:
    cluster, _ = calm()
    a, b = cluster.hosts["a"], cluster.hosts["b"]
    cluster.lan.beacon_loss = 1.0
    for one, other in ((a, b), (b, a)):
        cluster.lan.set_slow(one, other, 5 * MS)
    cluster.reset("a", "b")
    cluster.run(after_ms)
    other = "ab".replace(who, "")
    before, there = len(cluster.log(other)), f"{who}@h at {cluster.hosts[who].address.host}:"
    cluster.move(who, "10.0.1.1")
    cluster.run(SETTINGS.tick_time_ms // 2)
    assert not [s for s in cluster.log(other)[before:] if s.startswith(there)]


def test_what_a_node_says_whose_former_start_is_not_silent_yet_is_not_heard() -> None:
    cluster, witness = calm()
    cluster.move("b", "10.0.1.1")  # of c's end no word comes there
    cluster.cut("a", "b")
    cluster.kill("c")
    cluster.run_until(lambda: "c@h ended its link: it is down" in cluster.log("a"), 10)
    cluster.move("c", "10.0.1.3")  # nobody answers where the former start listened
    cluster.start("c")
    met = "b@h at 10.0.1.1:4041 is up"
    cluster.run_until(lambda: met in cluster.log("c"), SETTINGS.tick_time_ms)
    signs = dict(witness.lives["b"].signs)
    cluster.run(SETTINGS.node.tick_ms)
    assert witness.lives["b"].signs == signs
    cluster.kill("c")
    cluster.run(2 * SETTINGS.tick_time_ms)
    assert cluster.serving == "ab"  # they do not hear each other


def test_the_end_of_a_link_is_a_sign_of_who_spoke_on_the_one_before_it() -> None:
    cluster, witness = calm()
    cluster.kill("a")
    cluster.kill("b")
    cluster.run_until(lambda: cluster.serving == "c")
    cluster.start("b")
    cluster.run(1000)
    b, c = cluster.hosts["b"], cluster.hosts["c"]
    before = set(b.ends)
    cluster.give("c", ev.ConnectRequested(1, (b.address,)))
    cluster.run_until(lambda: set(b.ends) - before and not before <= set(b.ends), 50)
    cluster.kill("c")  # before it knows that the new one is up
    cluster.run_until(lambda: f"{c.name} ended its link: it is down" in cluster.log("b"), 50)
    signs = {key[0].node: end_us for key, (_, end_us) in witness.lives["b"].signs.items()}
    assert signs[c.name] == cluster.time.now_us


def test_a_stream_that_is_held_up_is_late_and_loses_nothing() -> None:
    cluster, _ = calm()
    a, now_us = cluster.hosts["a"], cluster.time.now_us
    for end in a.ends.values():
        cluster.links.hold_up(end, 400 * MS)
        assert end.path.clear_us == end.path.arrived_us == end.last_us == now_us + 400 * MS
    cluster.kill("a")
    assert cluster.run_until(lambda: "a@h ended its link: it is down" in cluster.log("b")) == 400


def test_a_node_dials_the_peers_of_its_file_at_each_start() -> None:
    cluster = Cluster(SETTINGS, "ab")
    cluster.lan.beacon_loss = 1.0
    cluster.hosts["b"].peers = (cluster.hosts["a"].address,)
    cluster.start("a", "b")
    cluster.run_until(lambda: "a@h at 10.0.0.1:4041 is up" in cluster.log("b"), 1000)


def test_a_loop_that_is_held_up_goes_on_each_time_and_is_mended_at_the_end() -> None:
    options = swarm.draw(random.Random(0))
    cluster = swarm.build(options, 0)
    nemesis = Nemesis(cluster, options)
    host = cluster.hosts["a"]
    cluster.start("a")
    undo, states = nemesis._stall(host), []
    for _ in range(host.settings.tick_time_ms):
        states.append(host.frozen)
        cluster.run(1)
    assert {True, False} == set(states) and states[0]
    undo()
    cluster.run(1000)
    assert host.lives


def test_the_kernel_of_a_frozen_process_resets_what_comes_for_a_link_that_is_reset() -> None:
    cluster, _ = calm()
    cluster.freeze("a")
    cluster.reset("a", "b")
    cluster.run_until(lambda: "a@h ended its link: it is down" in cluster.log("b"), 900)


def test_a_process_that_sleeps_finds_its_clock_far_ahead() -> None:
    cluster, _ = calm()
    cluster.suspend("a")
    cluster.run(3000)
    assert cluster.serving == "b"
    cluster.thaw("a")
    cluster.run(500)
    assert cluster.serving == "a"


def test_a_dial_tells_a_dead_process_from_a_dead_machine() -> None:
    for how, after_ms in (("kill", 990), ("power_off", 740)):
        cluster, _ = calm()
        getattr(cluster, how)("a")
        took_ms = cluster.run_until(lambda: cluster.serving == "b", 3000)
        assert after_ms <= took_ms <= 1100


def test_a_reload_reaches_a_node() -> None:
    cluster, _ = calm()
    cluster.give("a", ev.Reloaded(INF))
    cluster.run(10)
    assert cluster.serving == "a"
    assert cluster.time.now_us > 1000 * MS
