"""quorum = "majority" with real daemons: never two that serve, and one in time. Needs root.

Each node is asked at its own loopback, so the client reaches every node, whatever the LAN does.
"""

import pytest

from tests.lan.bed import HOST, Bed, Config, at, now_ms, throughout, until
from tests.lan.cluster import FAILOVER_MARGIN_MS, HEAL_MS, TICK_MS, Cluster, on_lan
from tests.lan.lan import Lan, missing
from tests.lan.test_lan import assert_silence_in_time, settled_ms

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

TIMEOUT_MS = 2000
LEASE_MS = TIMEOUT_MS * 97 // 100
LONGER_MS = TIMEOUT_MS * 3 // 100 + FAILOVER_MARGIN_MS  # L1 under majority
MAJORITY: Config = {
    "distributed": {
        "nodes": [f"a@{HOST}-a", [f"b@{HOST}-b", f"c@{HOST}-c"]],
        "quorum": "majority",
        "timeout": TIMEOUT_MS,
    }
}
ALONE = "no majority: 1 of 3 listed nodes here"
LAPSED = "stops: fewer than a majority of the nodes back it"
MOVED = "failing over|taking over"


def formed(bed: Bed, lan: Lan, timeout_ms: int = TIMEOUT_MS) -> Cluster:
    """Return a cluster where a serves and each node has been up for a timeout, so has a vote."""
    cluster = on_lan(bed, lan, MAJORITY, {"distributed": {"timeout": timeout_ms}})
    cluster.start("abc")
    started_ms = now_ms()
    cluster.meet("abc")
    cluster.eye.served_everywhere("a", "abc")
    at(started_ms + timeout_ms)
    assert cluster["a"].status()["quorum"] == "majority" and cluster["a"].status()["quorate"]
    return cluster


def assert_failover_in_time(cluster: Cluster, to: str, lost_ms: int) -> int:
    """The first fact by `to`: when the timeout since the last tick is over, and not later."""
    return assert_silence_in_time(
        cluster, to, lost_ms, lost_ms, TIMEOUT_MS, TICK_MS, margin_ms=LONGER_MS
    )


def test_all_that_start_together_wait_one_timeout_and_have_one_owner(bed: Bed) -> None:
    cluster = on_lan(bed, Lan(bed), MAJORITY)
    cluster.start("abc")
    started_ms = max(cluster[x].started_ms for x in "abc")
    ready_ms = max(cluster[x].ready() for x in "abc")
    first_ms = cluster.eye.served_everywhere("a", "abc")
    assert started_ms + TIMEOUT_MS <= first_ms
    due_ms = ready_ms + TIMEOUT_MS + LONGER_MS
    cluster.stall.assert_by(due_ms, cluster.eye.first("a", 0), ready_ms)
    assert cluster.eye.owners() == ["a"] and not cluster.eye.failed("abc")


def test_the_owner_is_killed_and_comes_back(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed))
    killed_ms = cluster["a"].kill()
    assert_failover_in_time(cluster, "b", killed_ms)
    cluster["b"].says(f"{cluster['a']} is failing over to {cluster['b']}", killed_ms)
    cluster["a"].exit_code()
    cluster.start("a")
    cluster.eye.served_everywhere("a", "abc", cluster["a"].ready())
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "b", "a"]


def test_the_owner_is_back_within_the_timeout(bed: Bed) -> None:
    timeout_ms = 10_000  # a busy machine takes some seconds to start a process
    cluster = formed(bed, Lan(bed), timeout_ms)
    killed_ms = cluster["a"].kill()
    cluster["a"].exit_code()
    cluster.start("a")
    first_ms = cluster.eye.first("a", cluster["a"].ready(), "bc")
    assert first_ms < killed_ms + timeout_ms, "it waited for the failover"
    at(killed_ms + timeout_ms * 103 // 100 + FAILOVER_MARGIN_MS)
    assert not any(cluster[x].log.find(MOVED) for x in "abc")
    assert cluster.eye.owners() == ["a"] and not cluster.eye.failed("bc")


def test_an_owner_cut_off_stops_before_the_others_start(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    cut_ms = now_ms()
    lan.drop("a")
    first_ms = assert_failover_in_time(cluster, "b", cut_ms)
    lapse_ms = cut_ms + LEASE_MS
    stopped = cluster["a"].log.wait(LAPSED, cut_ms)
    cluster.stall.assert_by(lapse_ms + FAILOVER_MARGIN_MS, stopped.ms, lapse_ms)
    # The client at a was served to the end of the lease, and not at all once b served.
    last_a_ms = max(x.ended_ms for x in cluster.eye.facts("a") if x.owner == "a")
    early_ms = 2 * TICK_MS
    cluster.stall.assert_from(lapse_ms - early_ms, last_a_ms, cut_ms - early_ms, lapse_ms)
    cluster.stall.assert_by(first_ms - 1, last_a_ms, lapse_ms)
    until(lambda: ALONE in cluster["a"].status()["sentence"], "a says why it does not serve")
    status = cluster["a"].status()
    assert (status["phase"], status["owner"], status["quorate"]) == ("standby", None, False)
    until(lambda: cluster.eye.waiting_ms("a"), "a is asked")
    throughout(TIMEOUT_MS, lambda: cluster.eye.waiting_ms("a"), "a serves nothing")
    lan.undrop("a")
    healed_ms = now_ms()
    cluster.eye.served_everywhere("a", "abc", healed_ms)
    from_ms = settled_ms(cluster, healed_ms)
    at(from_ms + TIMEOUT_MS)
    assert cluster.eye.owners("abc", from_ms) == ["a"]
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "b", "a"]


def test_a_minority_of_one_serves_nothing(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    split_ms = now_ms()
    lan.split("c")
    until(lambda: ALONE in cluster["c"].status()["sentence"], "c says why it does not serve")
    at(split_ms + 2 * (TIMEOUT_MS + LONGER_MS))
    assert cluster.eye.waiting_ms("c")
    lan.join()
    healed_ms = now_ms()
    first_ms = cluster.eye.first("a", healed_ms, "c")
    cluster.stall.assert_by(healed_ms + HEAL_MS, first_ms, healed_ms)
    assert not any(cluster[x].log.find(f"{MOVED}|{LAPSED}") for x in "abc")
    assert not cluster.eye.failed("ab")
    assert cluster.eye.owners() == ["a"]


@pytest.mark.parametrize("hears", [True, False], ids=["hears", "deaf"])
def test_an_owner_frozen_for_longer_than_its_lease_answers_nothing_of_it(
    bed: Bed, hears: bool
) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    if not hears:
        lan.drop("a")  # so that on waking the first thing it sees is the client
    frozen_ms = cluster["a"].freeze()
    cluster.eye.served_everywhere("b", "bc", frozen_ms)
    waiting_ms = cluster.eye.waiting_ms("a")
    assert waiting_ms >= LEASE_MS - 2 * TICK_MS, "the client at a asks, and a is frozen"
    thawed_ms = cluster["a"].thaw()
    if not hears:
        until(lambda: ALONE in cluster["a"].status()["sentence"], "a says why it does not serve")
        lan.undrop("a")
    cluster.eye.served_everywhere("a", "abc", thawed_ms)
    taken_ms = cluster["a"].log.wait("is taking over", thawed_ms).ms
    since = [x for x in cluster.eye.facts("a") if x.ended_ms >= thawed_ms and x.owner == "a"]
    # Else that was an answer of the old epoch.
    first_ms = min(x.ended_ms for x in since)
    cluster.stall.assert_from(taken_ms - TICK_MS, first_ms, thawed_ms, taken_ms)
    assert cluster.eye.owners() == ["a", "b", "a"]
    assert not cluster.eye.failed("bc")


def test_two_of_three_lose_power(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    lost_ms = now_ms()
    for label in "bc":
        lan.drop(label)
        cluster[label].kill()
    cluster["a"].log.wait(LAPSED, lost_ms)
    last_a_ms = max(x.ended_ms for x in cluster.eye.facts("a"))
    lapse_ms = lost_ms + LEASE_MS
    cluster.stall.assert_by(lapse_ms + FAILOVER_MARGIN_MS, last_a_ms, lapse_ms)
    until(lambda: ALONE in cluster["a"].status()["sentence"], "a says why it does not serve")
    assert cluster["a"].chucky("status").stdout.startswith(f"standby; {ALONE}\n")
    throughout(TIMEOUT_MS, lambda: cluster.eye.waiting_ms("a"), "a serves nothing")
    lan.undrop("b")
    cluster["b"].exit_code()
    back_ms = cluster["b"].start()
    # b has forgotten whom it backed, and backs nobody for one timeout.
    first_ms = cluster.eye.first("a", back_ms)
    assert back_ms + TIMEOUT_MS <= first_ms
    ready_ms = cluster["b"].ready()
    cluster.stall.assert_by(ready_ms + TIMEOUT_MS + LONGER_MS, first_ms, ready_ms)
    assert cluster.eye.owners() == ["a"]


def test_all_three_restart_at_once(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed))
    killed_ms = now_ms()
    for label in "abc":
        cluster[label].kill()
    for label in "abc":
        cluster[label].exit_code()
    cluster.start("abc")
    first_ms = cluster.eye.served_everywhere("a", "abc", killed_ms)
    assert min(cluster[x].started_ms for x in "abc") + TIMEOUT_MS <= first_ms
    ready_ms = max(cluster[x].ready() for x in "abc")
    due_ms = ready_ms + TIMEOUT_MS + LONGER_MS
    cluster.stall.assert_by(due_ms, cluster.eye.first("a", ready_ms), ready_ms)
    assert cluster.eye.owners() == ["a"]


def test_a_planned_stop_moves_it_at_once(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed))
    stopped_ms = cluster["a"].stop()
    first_ms = cluster.eye.first("b", stopped_ms)
    cluster.stall.assert_by(stopped_ms + HEAL_MS, first_ms, stopped_ms)
    assert cluster["a"].exit_code() == 0
    cluster.eye.served_everywhere("b", "bc", now_ms())
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a", "b"]
