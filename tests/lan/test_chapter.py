"""The chapter with real daemons on loopback: failover, takeover, and what must not happen.

Needs no root. Every node is asked throughout; the last line of a test says who owned it, in order.
"""

from collections.abc import Callable

import pytest

from tests.lan.bed import Bed, Daemon, at, merged, now_ms, throughout, until
from tests.lan.cluster import (
    ALL_MANDATORY,
    FAILOVER_MARGIN_MS,
    RETURN_MS,
    TIMEOUT_MS,
    Cluster,
    loopback,
    one_file,
)

STOPPED = "Application chucky exited: stopped"


def is_started_on(node: object) -> str:
    return f"Application is started on {node}"


def assert_failover_in_time(
    cluster: Cluster, to: str, lost_ms: int, timeout_ms: int = TIMEOUT_MS
) -> int:
    """The first fact by `to` comes when the timeout is over, and not later than promised."""
    first_ms, due_ms = cluster.eye.first(to, lost_ms), lost_ms + timeout_ms
    assert due_ms <= first_ms
    cluster.stall.assert_by(due_ms + FAILOVER_MARGIN_MS, first_ms, due_ms)
    return first_ms


@pytest.mark.parametrize("timeout_ms", [TIMEOUT_MS, 5000])
def test_the_chapter(bed: Bed, timeout_ms: int) -> None:
    def others(label: str) -> dict[str, dict[str, object]]:
        mandatory = [other for other in "abc" if other != label]
        return {"distributed": {"sync_nodes_mandatory": mandatory, "sync_nodes_timeout": 30000}}

    cluster = loopback(bed, {"distributed": {"timeout": timeout_ms}}, each=others)
    a, b, c = (cluster[label] for label in "abc")

    # Nothing happens until c is started.
    cluster.start("ab")
    until(lambda: all(cluster.eye.waiting_ms(x) for x in "ab"), "a and b are asked")
    throughout(2000, lambda: not cluster.eye.asked("ab"), "every request waits")
    assert not any(x.log.find("Application is started") for x in (a, b))
    assert [x.status()["phase"] for x in (a, b)] == ["syncing", "syncing"]

    # Then a serves, and b and c answer with its facts.
    cluster.start("c")
    cluster.meet("abc")
    a.says(is_started_on("a@manticore"))
    cluster.eye.served_everywhere("a", "abc")

    # a is killed: b, not c, after the timeout.
    killed_ms = a.kill()
    assert_failover_in_time(cluster, "b", killed_ms, timeout_ms)
    failing_over = b.says("a@manticore is failing over to b@manticore", killed_ms)
    assert failing_over.ms <= b.says(is_started_on("b@manticore"), killed_ms).ms
    cluster.eye.served_everywhere("b", "bc", killed_ms)

    # "Now c is next in line."
    killed_ms = b.kill()
    assert_failover_in_time(cluster, "c", killed_ms, timeout_ms)
    c.says("b@manticore is failing over to c@manticore", killed_ms)

    # a comes back and takes it over.
    back_ms = a.start()
    ready_ms = a.ready()
    cluster.stall.assert_by(ready_ms + RETURN_MS, cluster.eye.first("a", back_ms), ready_ms)
    taking_over = a.says("a@manticore is taking over c@manticore", back_ms)
    assert taking_over.ms <= a.says(is_started_on("a@manticore"), back_ms).ms
    c.says(STOPPED, back_ms)
    cluster.eye.served_everywhere("a", "ac", back_ms)

    assert not cluster.eye.failed("c")
    assert cluster.eye.owners() == ["a", "b", "c", "a"]


def test_a_planned_stop_moves_it_at_once_and_loses_no_request(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"timeout": 5000}})
    cluster.form()
    stopped_ms = cluster["a"].stop()
    first_ms = cluster.eye.first("b", stopped_ms)
    assert cluster["a"].exit_code() == 0
    cluster.stall.assert_by(stopped_ms + 1000, first_ms, stopped_ms)  # not the timeout
    cluster["a"].says(STOPPED, stopped_ms)
    cluster["b"].says(is_started_on("b@manticore"), stopped_ms)
    cluster.eye.served_everywhere("b", "bc", stopped_ms)
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "b"]


def test_an_owner_back_within_the_timeout_gets_it_back(bed: Bed) -> None:
    timeout_ms = 10_000  # a busy machine takes some seconds to start a process
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"timeout": timeout_ms}})
    cluster.form()
    killed_ms = cluster["a"].kill()
    cluster["a"].exit_code()
    back_ms = cluster["a"].start()
    ready_ms = cluster["a"].ready()
    first_ms = cluster.eye.first("a", back_ms)
    cluster.stall.assert_by(min(ready_ms + RETURN_MS, killed_ms + timeout_ms), first_ms, killed_ms)
    at(killed_ms + timeout_ms + FAILOVER_MARGIN_MS)  # nothing that was armed goes off
    cluster.eye.served_everywhere("a", "abc", now_ms())
    assert not cluster.moves()
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a"]


def test_an_owner_whose_process_ends_again_and_again_leaves_it_to_the_next(bed: Bed) -> None:
    """Back within the timeout each time, it would own for a moment of each, for ever."""
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"timeout": 5000}})
    cluster.form()
    for crash in (1, 2, 3):
        killed_ms = cluster["a"].kill()
        cluster["a"].exit_code()
        cluster["a"].start(again=True)
        cluster["a"].ready()
        if crash < 3:
            until(lambda: cluster["a"].status()["phase"] == "owner", "a owns again")
    cluster["b"].says("a@manticore is failing over to b@manticore", killed_ms)
    assert len(cluster["b"].log.find("failing over", killed_ms)) == 1
    sentence = cluster["a"].status()["sentence"]
    assert "cannot run the application: 3 times in a row its process ended" in sentence
    cluster.eye.served_everywhere("b", "abc", now_ms())
    until(lambda: cluster["a"].status()["phase"] == "owner", "a has it back")
    assert now_ms() - cluster["a"].started_ms >= 13_000


@pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill])
def test_what_waits_for_its_crashes_owns_when_no_other_can(
    bed: Bed, end: Callable[[Daemon], int]
) -> None:
    cluster = loopback(bed, {"distributed": {"timeout": 0}}, labels="ab")
    cluster.form("ab")
    cluster["a"].kill()
    cluster["a"].exit_code()
    cluster["b"].reaches("owner")
    cluster["a"].crashes.write_text("5")
    cluster["a"].start(again=True)
    at(cluster["a"].ready() + 8000)  # its tries are some seconds apart by now
    assert "cannot run the application: 5 times" in cluster["a"].status()["sentence"]
    ended_ms = end(cluster["b"])
    first_ms = cluster.eye.first("a", ended_ms)
    cluster.stall.assert_by(ended_ms + RETURN_MS, first_ms, ended_ms)


def test_a_second_failure_during_the_wait_does_not_lengthen_it(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY)
    cluster.form()
    killed_ms = cluster["a"].kill()
    at(killed_ms + TIMEOUT_MS // 2)
    cluster["b"].kill()
    assert_failover_in_time(cluster, "c", killed_ms)
    assert not cluster.eye.failed("c")
    assert cluster.eye.owners() == ["a", "c"]


def test_with_a_timeout_of_0_it_moves_at_once(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"timeout": 0}})
    cluster.form()
    assert_failover_in_time(cluster, "b", cluster["a"].kill(), 0)
    assert cluster.eye.owners("bc") == ["a", "b"]


def test_with_a_timeout_of_inf_it_waits_for_its_owner(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"timeout": float("inf")}})
    cluster.form()
    cluster["a"].kill()
    cluster["a"].exit_code()
    dead_ms = now_ms()
    throughout(1500, lambda: not cluster.eye.facts("bc", dead_ms), "nobody serves")
    back_ms = cluster["a"].start()
    cluster.eye.served_everywhere("a", "abc", back_ms)
    assert cluster.eye.owners() == ["a"]


def test_an_equal_tier_never_takes_over(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY)
    cluster.form()
    for label, successor in ("ab", "bc"):
        assert_failover_in_time(cluster, successor, cluster[label].kill())
    cluster["b"].exit_code()
    back_ms = cluster["b"].start()
    cluster["b"].reaches("standby")
    cluster.meet("bc")
    moved = "taking over|Application is started"
    throughout(1500, lambda: not cluster["b"].log.find(moved, back_ms), "b takes nothing over")
    cluster.eye.served_everywhere("c", "bc", now_ms())
    assert not cluster.eye.failed("c")
    assert cluster.eye.owners() == ["a", "b", "c"]


def test_a_mandatory_node_missing_at_the_deadline_is_the_end(bed: Bed) -> None:
    sync = {"sync_nodes_mandatory": ["a", "b", "c"], "sync_nodes_timeout": 1500}
    cluster = loopback(bed, {"distributed": sync})
    cluster.start("ab")
    for label in "ab":
        daemon = cluster[label]
        ready_ms = daemon.ready()
        assert daemon.exit_code() == 75
        ended_ms = daemon.log.find("")[-1].ms
        assert daemon.started_ms + 1500 <= ended_ms
        cluster.stall.assert_by(ready_ms + 1500 + 500, ended_ms, ready_ms)
        assert daemon.log.find(r"\bc\b")[-1].ms >= daemon.started_ms + 1500, "c is not named"
        assert not daemon.log.find("Application is started")
    assert not cluster.eye.facts()


def test_an_optional_node_missing_ends_the_wait_at_the_deadline(bed: Bed) -> None:
    sync = {"sync_nodes_optional": ["a", "b", "c"], "sync_nodes_timeout": 2000}
    cluster = loopback(bed, {"distributed": sync})
    cluster.start("ab")
    first_ms = cluster.eye.first("a", 0)
    assert cluster["a"].started_ms + 2000 <= first_ms
    ready_ms = cluster["a"].ready()
    cluster.stall.assert_by(ready_ms + 2000 + 500, first_ms, ready_ms)
    cluster.eye.served_everywhere("a", "ab")
    assert not cluster.eye.failed("ab")
    assert cluster.eye.owners() == ["a"]


def test_without_takeover_a_better_node_stays_standby(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"takeover": False}})
    cluster.form()
    assert_failover_in_time(cluster, "b", cluster["a"].kill())
    cluster["a"].exit_code()
    back_ms = cluster["a"].start()
    cluster["a"].reaches("standby")
    cluster.meet("abc")
    moved = "taking over"
    throughout(1500, lambda: not cluster["a"].log.find(moved, back_ms), "a takes nothing over")
    cluster.eye.served_everywhere("b", "abc", now_ms())
    assert cluster.eye.owners() == ["a", "b"]


def test_a_takeover_waits_for_its_delay(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"distributed": {"takeover_delay": 2000}})
    cluster.form()
    assert_failover_in_time(cluster, "b", cluster["a"].kill())
    cluster["a"].exit_code()
    back_ms = cluster["a"].start()
    ready_ms = cluster["a"].ready()
    cluster.eye.served_everywhere("b", "abc", ready_ms)  # it relays meanwhile
    first_ms = cluster.eye.first("a", back_ms)
    assert back_ms + 2000 <= first_ms
    cluster.stall.assert_by(ready_ms + 2000 + RETURN_MS, first_ms, ready_ms)
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "b", "a"]


def test_a_failover_that_cannot_start_goes_to_the_next(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY)
    cluster.form()
    cluster["b"].facts.unlink()
    killed_ms = cluster["a"].kill()
    first_ms = cluster.eye.first("c", killed_ms)
    assert killed_ms + TIMEOUT_MS <= first_ms
    cluster.stall.assert_by(killed_ms + 2 * TIMEOUT_MS, first_ms, killed_ms)
    cluster["b"].log.wait(str(cluster["b"].facts), killed_ms)
    cluster.eye.served_everywhere("c", "bc", killed_ms)
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "c"]


def test_a_takeover_that_cannot_start_moves_nothing(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY)
    cluster.form()
    for label, successor in ("ab", "bc"):
        assert_failover_in_time(cluster, successor, cluster[label].kill())
    cluster["a"].exit_code()
    cluster["a"].facts.unlink()
    back_ms = cluster["a"].start()
    said = cluster["a"].log.wait(str(cluster["a"].facts), back_ms)
    cluster.meet("ac")
    throughout(1000, lambda: not cluster["c"].said(STOPPED, back_ms), "c keeps it")
    assert "\n" not in said.text and not cluster["a"].log.find("Application is started", back_ms)
    cluster.eye.served_everywhere("c", "ac", now_ms())
    cluster["a"].write_facts()  # and once it can, it does
    cluster.eye.served_everywhere("a", "ac", now_ms())
    assert not cluster.eye.failed("c")
    assert cluster.eye.owners() == ["a", "b", "c", "a"]


def test_a_differing_config_stops_nobody_and_takes_nothing_over(bed: Bed) -> None:
    cluster = loopback(bed)
    cluster.form("b", owner="b")
    cluster.form("c", owner="b")
    better = merged(cluster["a"].config, {"distributed": {"timeout": 2 * TIMEOUT_MS}})
    cluster["a"].configure(better)
    cluster.start("a")
    cluster.meet("abc")
    mine, theirs = r"\btimeout\b.*\b2000\b.*\b1000\b", r"\btimeout\b.*\b1000\b.*\b2000\b"
    for label in "abc":
        cluster[label].log.wait(f"{mine}|{theirs}")
    throughout(1500, lambda: not cluster["b"].said(STOPPED), "b keeps it")
    cluster.eye.served_everywhere("b", "abc", now_ms())
    assert not cluster["a"].log.find("taking over|Application is started")
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["b"]


def test_a_wrong_cookie_is_refused_with_a_sentence_at_both_ends(bed: Bed) -> None:
    cluster = loopback(bed, labels="ab", cookies={"b": bed.cookie_file("other")})
    cluster.start("ab")
    for own, other in ("ab", "ba"):
        daemon, peer = cluster[own], str(cluster[other])
        daemon.log.wait(f"disallowed (by )?node {peer}")
        until(
            lambda: {"cookie", peer} <= _words(daemon.chucky("status").stdout),
            f"the first line of {own}'s status names {peer} and the cookie",
        )
    disallowed = "** Connection attempt from disallowed node {} **"
    until(
        lambda: (
            cluster["a"].said(disallowed.format(cluster["b"]))
            or cluster["b"].said(disallowed.format(cluster["a"]))
        ),
        "one of them refused the other's attempt",
    )
    assert cluster["a"].nodes() == cluster["b"].nodes() == []


def _words(status: str) -> set[str]:
    first_line = status.partition("\n")[0]
    return {word.strip(".,:;()'\"").removesuffix("s") for word in first_line.split()}


def test_an_observer_relays_and_never_owns(bed: Bed) -> None:
    cluster = loopback(bed, labels="az")
    cluster.form("a")
    cluster.start("z")
    cluster.meet("az")
    cluster.eye.served_everywhere("a", "az")
    cluster["a"].kill()
    cluster["a"].exit_code()
    # its request waits, and no moment comes at which it answers by itself
    until(lambda: cluster.eye.waiting_ms("z") > 2 * TIMEOUT_MS, "z's request waits")
    assert len(cluster["z"].log.find("observer")) == 1
    assert not cluster["z"].log.find("Application is started|failing over")
    back_ms = cluster["a"].start()
    cluster.eye.served_everywhere("a", "az", back_ms)
    assert cluster.eye.owners() == ["a"]


@pytest.mark.parametrize("same_directory", [False, True])
def test_the_second_node_of_a_name_leaves_and_the_first_stays(
    bed: Bed, same_directory: bool
) -> None:
    cluster = loopback(bed, ALL_MANDATORY, labels="abc")
    cluster.form()
    a = cluster["a"]
    same_peers = {"discovery": {"peers": a.config["discovery"]["peers"]}}
    other = loopback(bed, same_peers, labels=["a2"])["a2"]
    if same_directory:
        other.runtime = a.runtime
    other.start()
    assert other.exit_code() == 75
    if not same_directory:
        assert other.log.find(rf"127\.0\.0\.1:{a.link_port}\b"), "it does not say where a is"
    assert not other.log.find("Application is started")
    assert a.status()["phase"] == "owner"
    assert not cluster.eye.failed("abc")
    assert cluster.eye.owners() == ["a"]


def test_three_nodes_with_one_file_on_one_machine(bed: Bed) -> None:
    cluster = one_file(bed, ALL_MANDATORY)
    cluster.form()
    killed_ms = cluster["a"].kill()
    cluster["b"].says(is_started_on("b@manticore"), killed_ms)
    cluster.eye.served_everywhere("b", "bc", killed_ms)
    assert cluster.eye.owners() == ["a", "b"]


def test_whom_one_knows_all_get_to_know(bed: Bed) -> None:
    cluster = loopback(bed, {"discovery": {"peers": []}})
    for label, known in (("b", "a"), ("c", "b")):
        peers = [f"127.0.0.1:{cluster[known].link_port}"]
        cluster[label].configure(merged(cluster[label].config, {"discovery": {"peers": peers}}))
    for label in "abc":
        cluster.start(label)
    cluster.meet("abc")
    cluster.eye.served_everywhere("a", "abc")


def test_closed_standbys_do_not_listen(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"facts": {"standby": "closed"}})
    cluster.start("abc")
    cluster.eye.served_everywhere("a", "a")
    cluster.meet("abc")
    assert {x.problem for x in cluster.eye.failed("bc")} == {"Connection refused"}
    assert not cluster.eye.facts("bc")
    killed_ms = cluster["a"].kill()
    assert_failover_in_time(cluster, "b", killed_ms)
    assert not cluster.eye.facts("c")
    assert cluster.eye.owners() == ["a", "b"]
