"""Real daemons on a LAN of network namespaces: cables, silence, splits, strangers. Needs root.

Each node is asked at its own loopback, so the client reaches every node, whatever the LAN does.
"""

import subprocess
import sys

import pytest

from tests.lan.bed import REPO, Bed, Config, at, merged, now_ms, throughout, until
from tests.lan.cluster import (
    ALL_MANDATORY,
    FAILOVER_MARGIN_MS,
    HEAL_MS,
    RETURN_MS,
    TICK_MS,
    TICK_TIME_MS,
    TIMEOUT_MS,
    Cluster,
    on_lan,
)
from tests.lan.lan import Lan, missing, run

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

STOPPED = "Application chucky exited: stopped"


def formed(bed: Bed, lan: Lan, *configs: Config) -> Cluster:
    cluster = on_lan(bed, lan, ALL_MANDATORY, *configs)
    cluster.form()
    return cluster


def assert_silence_in_time(
    cluster: Cluster, to: str, before_ms: int, silent_ms: int,
    timeout_ms: int = TIMEOUT_MS, tick_ms: int = TICK_MS, margin_ms: int = FAILOVER_MARGIN_MS,
) -> int:  # fmt: skip
    """The first fact by `to`: when the timeout since the last tick is over, and not later.

    The owner was heard until some moment after `before_ms`, and not after `silent_ms`. Return when
    that fact came.
    """
    first_ms = cluster.eye.first(to, before_ms)
    early_ms = 2 * tick_ms  # its last tick was so long before, at most
    earliest_ms = before_ms + timeout_ms - early_ms
    cluster.stall.assert_from(earliest_ms, first_ms, before_ms - early_ms, before_ms)
    due_ms = silent_ms + max(timeout_ms, 4 * tick_ms)
    cluster.stall.assert_by(due_ms + margin_ms, first_ms, due_ms)
    return first_ms


def settled_ms(cluster: Cluster, healed_ms: int) -> int:
    """Return when a heal must be over: after its time, and what the machine was late in that."""
    return healed_ms + HEAL_MS + cluster.stall.during_ms(healed_ms, healed_ms + HEAL_MS)


def assert_healed(cluster: Cluster, healed_ms: int, owner: str = "a", labels: str = "abc") -> None:
    """From 500 ms after the heal on every answer is this one owner's."""
    from_ms = settled_ms(cluster, healed_ms)
    cluster.eye.served_everywhere(owner, labels, from_ms)
    at(from_ms + TIMEOUT_MS)
    late_ms = from_ms - healed_ms - HEAL_MS
    assert cluster.eye.owners(labels, from_ms) == [owner], f"the machine was late by {late_ms} ms"


@pytest.mark.parametrize("ipv4", [True, False], ids=["both", "ipv6-only"])
def test_nodes_find_each_other_by_multicast(bed: Bed, ipv4: bool) -> None:
    lan = Lan(bed, ipv4=ipv4)
    cluster = formed(bed, lan)
    assert cluster.eye.owners() == ["a"] and not cluster.eye.failed("abc")


def test_nodes_find_each_other_by_ipv4_multicast_alone(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed, ipv6=False))
    assert cluster.eye.owners() == ["a"] and not cluster.eye.failed("abc")


def test_nodes_find_each_other_by_peers_where_multicast_is_dropped(bed: Bed) -> None:
    lan = Lan(bed)
    peers = [lan.address("a"), f"[{lan.address('b', ipv6=True)}]:4041", f"{lan.address('c')}:4041"]
    cluster = formed(bed, lan, {"discovery": {"group": "", "group6": "", "peers": peers}})
    assert cluster.eye.owners() == ["a"] and not cluster.eye.failed("abc")


@pytest.mark.parametrize(("timeout_ms", "tick_ms"), [(TIMEOUT_MS, TICK_MS), (5000, 250)])
def test_the_owner_s_cable_is_pulled_and_put_back(bed: Bed, timeout_ms: int, tick_ms: int) -> None:
    lan = Lan(bed)
    timing = {"distributed": {"timeout": timeout_ms}, "node": {"tick": tick_ms}}
    cluster = formed(bed, lan, timing)
    cut_ms = now_ms()
    lan.cut("a")
    assert_silence_in_time(cluster, "b", cut_ms, now_ms(), timeout_ms, tick_ms)
    cluster["b"].says(f"{cluster['a']} is failing over to {cluster['b']}", cut_ms)
    cluster.eye.served_everywhere("b", "bc", cut_ms)
    assert cluster.eye.owners("bc") == ["a", "b"]
    lan.heal("a")
    assert_healed(cluster, now_ms())
    cluster["b"].says(STOPPED, cut_ms)
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners("bc") == ["a", "b", "a"]


def test_the_owner_falls_silent_without_losing_its_carrier(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    cut_ms = now_ms()
    lan.drop("a")
    assert_silence_in_time(cluster, "b", cut_ms, now_ms())
    lan.undrop("a")
    assert_healed(cluster, now_ms())
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners("bc") == ["a", "b", "a"]


def test_a_cut_shorter_than_the_timeout_moves_nothing(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan, {"distributed": {"timeout": 3000}})
    cut_ms = now_ms()
    lan.drop("a")
    at(cut_ms + TICK_TIME_MS)
    until(lambda: str(cluster["a"]) not in cluster["b"].nodes(), "b does not hear a any more")
    lan.undrop("a")
    assert now_ms() < cut_ms + 2500, "the cut was too long for what this test shows"
    assert_healed(cluster, now_ms())
    at(cut_ms + 3000 + FAILOVER_MARGIN_MS)
    assert not cluster.moves()
    assert not cluster.eye.failed("abc")
    assert cluster.eye.owners() == ["a"]


def test_an_owner_that_lost_power_and_is_back_before_it_is_missed_gets_it_back(bed: Bed) -> None:
    """What the others sent meanwhile went into the void, so TCP tells them late of its end."""
    lan, tick_ms = Lan(bed, ipv6=False), 3000
    cluster = formed(bed, lan, {"distributed": {"timeout": 60_000}, "node": {"tick": tick_ms}})
    lan.drop("a")
    lost_ms = cluster["a"].kill()
    cluster["a"].exit_code()
    lan.forget("a")
    for label in "bc":
        until(lambda: "backoff:5" in lan.streams(label), f"{label} sends nothing for a while")
    lan.undrop("a")
    back_ms = cluster["a"].start()
    ready_ms = cluster["a"].ready()
    first_ms = cluster.eye.first("a", back_ms)
    assert first_ms < lost_ms + 4 * tick_ms, "a was missed: nothing is shown"
    cluster.stall.assert_by(ready_ms + RETURN_MS, first_ms, ready_ms)
    assert not cluster.moves()
    assert cluster.eye.owners() == ["a"]


def test_a_frozen_owner_thaws_after_the_failover(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed))
    frozen_ms = cluster["a"].freeze()
    assert_silence_in_time(cluster, "b", frozen_ms, now_ms())
    cluster.eye.served_everywhere("b", "bc", frozen_ms)
    thawed_ms = cluster["a"].thaw()
    assert_healed(cluster, thawed_ms)
    # What a answers on waking, it chose after it had listened: b's last is within the heal's time.
    assert cluster.eye.last_began("b") <= settled_ms(cluster, thawed_ms)
    assert not cluster.eye.failed("bc")


def test_an_owner_frozen_for_less_than_the_timeout_keeps_it(bed: Bed) -> None:
    cluster = formed(bed, Lan(bed), {"distributed": {"timeout": 3000}})
    frozen_ms = cluster["a"].freeze()
    at(frozen_ms + 3 * TICK_TIME_MS)
    thawed_ms = cluster["a"].thaw()
    assert_healed(cluster, thawed_ms)
    at(frozen_ms + 3000 + FAILOVER_MARGIN_MS)
    assert not cluster.moves()
    assert not cluster.eye.failed("bc")
    assert cluster.eye.owners() == ["a"]


def test_a_split_has_two_owners_and_its_heal_leaves_the_better(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    split_ms = now_ms()
    lan.split("c")
    assert_silence_in_time(cluster, "c", split_ms, now_ms())
    assert cluster.eye.owners("ab") == ["a"]
    lan.join()
    assert_healed(cluster, now_ms())
    cluster["c"].says(STOPPED, split_ms)
    assert not cluster["a"].said(STOPPED, split_ms)
    assert not cluster.eye.failed("abc")
    assert cluster.eye.owners("ab") == ["a"] and cluster.eye.owners("c") == ["a", "c", "a"]


def test_a_witness_that_hears_both_keeps_one_owner(bed: Bed) -> None:
    lan = Lan(bed)
    cluster = formed(bed, lan)
    blocked_ms = now_ms()
    lan.block("a", "b")
    until(lambda: str(cluster["a"]) not in cluster["b"].nodes(), "b does not hear a any more")
    at(blocked_ms + 3 * TIMEOUT_MS)
    cluster.eye.served_everywhere("a", "abc", now_ms())  # b's through c
    lan.unblock()
    cluster.meet("abc")
    assert not cluster.moves()
    assert not cluster.eye.failed("abc")
    assert cluster.eye.owners() == ["a"]


def test_an_interface_that_comes_later_is_joined_and_one_that_goes_is_left(bed: Bed) -> None:
    lan = Lan(bed, unplugged="c")
    cluster = on_lan(bed, lan)
    cluster.form("a")
    cluster.form("b")
    cluster.start("c")
    cluster.eye.served_everywhere("c", "c")  # alone, as it must believe
    for _ in range(2):
        plugged_ms = now_ms()
        lan.plug("c")
        cluster.meet("abc")
        cluster.eye.served_everywhere("a", "abc", plugged_ms)
        lan.unplug("c")
        for label in "ab":
            until(lambda: len(cluster[label].nodes()) == 1, f"{label} lost c")
        cluster.eye.served_everywhere("c", "c", now_ms())
    assert cluster.eye.owners("ab") == ["a"] and not cluster.eye.failed("ab")


def test_a_node_with_no_interface_at_all_runs_and_answers_its_commands(bed: Bed) -> None:
    lan = Lan(bed, "a", unplugged="a")
    lan.lo("a", "down")
    cluster = on_lan(bed, lan, labels="a")
    a = cluster["a"]
    a.start()
    a.says(f"Application is started on {a}")
    assert a.reaches("owner")["owner"] == str(a)
    assert a.chucky("fact").stdout.startswith("a: fact ")
    lan.lo("a", "up")
    cluster.eye.watch([a])
    cluster.eye.served_everywhere("a", "a")


def test_a_link_local_address_to_listen_on_that_is_replaced_is_missed(bed: Bed) -> None:
    lan = Lan(bed, "a")
    eth0 = "dev eth0 scope link nodad".split()
    run("ip", "-n", lan.netns("a"), "addr", "add", "fe80::1/64", *eth0)
    a = on_lan(bed, lan, {"node": {"listen": "fe80::1%eth0"}}, labels="a")["a"]
    a.start()
    a.reaches("owner")
    assert not a.log.find("no interface")
    run("ip", "-n", lan.netns("a"), "addr", "add", "fe80::2/64", *eth0)
    run("ip", "-n", lan.netns("a"), "addr", "del", "fe80::1/64", "dev", "eth0")
    a.log.wait(r"no interface has \[node\] listen = fe80::1%eth0: no other node is linked")


@pytest.mark.parametrize(
    ("kind", "port", "least"),
    [("noise", 4041, 2000), ("beacons", 4041, 2000), ("talkers", 4041, 100),
     ("listeners", 4041, 1), ("talkers", 4040, 100), ("listeners", 4040, 1)],
)  # fmt: skip
def test_a_flood_disturbs_nobody(bed: Bed, kind: str, port: int, least: int) -> None:
    lan = Lan(bed, "abcx")
    cluster = formed(bed, lan, {"node": {"tick": 250}})
    before_kib = cluster["a"].memory_kib()
    began_ms = now_ms()
    host = "239.192.64.41" if kind == "beacons" else lan.address("a")
    flood = subprocess.run(
        ["ip", "netns", "exec", lan.netns("x"), sys.executable, "-m", "tests.lan.flood",
         kind, host, str(port), "3000"],
        cwd=REPO, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert int(flood.stdout) >= least, "the flood did not take place"
    ended_ms = now_ms()
    cluster.eye.served_everywhere("a", "abc", ended_ms)
    cluster.meet("abc")
    assert cluster["a"].memory_kib() < before_kib + 20 * 1024
    assert len(cluster["a"].log.find("", began_ms)) < 200, "a line for each would fill the disk"
    assert cluster.eye.gap_ms("abc", began_ms, ended_ms) < TIMEOUT_MS
    assert not cluster.eye.failed("abc")
    assert cluster.eye.owners() == ["a"]


def test_strangers_on_the_lan_are_remembered_in_bounded_memory(bed: Bed) -> None:
    lan = Lan(bed, "ax")
    cluster = on_lan(bed, lan, labels="a")
    cluster.form("a")
    a = cluster["a"]
    stranger = on_lan(bed, lan, {"distributed": {"nodes": ["x"]}}, labels="x")["x"]
    stranger.cookie = bed.cookie_file("other")
    stranger.configure(merged(stranger.config))
    stranger.start()
    a.log.wait(f"disallowed (by )?node {stranger}")
    throughout(2000, lambda: a.alive and not a.nodes(), "x is no peer")
    assert len(a.log.find(str(stranger))) < 20, "one stranger, some lines"
