"""Three booted machines, each with the package and one node, asked by a client over the LAN.

Each test begins where all stand: all up, linked and synced, a the owner.
"""

import itertools
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lan.bed import now_ms, throughout
from tests.machines.client import Seen
from tests.machines.lab import TOP, Lab, at_once, missing, until
from tests.machines.trio import CONFIG, LABELS, NEWER, Trio, full, newer_package, unit

TIMEOUT_MS, TICK_MS = 5000, 250  # as shipped
MARGIN_MS = 100  # L1
RETURN_MS = 500  # L3, from synced
HEAL_MS = 500  # S1, L5
# From READY to synced: it looks for 200 ms, once more when an interface comes up meanwhile, and to
# the end of each handshake that it began, of a tick time each.
LOOK_MS = 200 + 200 + 4 * TICK_MS
SYNC_MS = 30_000


if reason := missing():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return newer_package(tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="module")
def booted(newer: Path) -> Iterator[Trio]:
    with Lab() as lab:
        trio = Trio(lab, TOP / "chucky.deb")
        yield trio
        trio.close()


@pytest.fixture
def trio(booted: Trio) -> Trio:
    booted.stand()
    return booted


def assert_failover(seen: Seen, trio: Trio, before_ms: int, says: str = "is silent") -> None:
    """L1 and S4: b serves when the timeout since the last sign of a is over, and not later.

    The fault came after `before_ms`, and has come. A silent owner was last heard up to a tick
    before that, and says no goodbye.
    """
    silent_ms = now_ms()
    came_ms = seen.first("b", before_ms)
    seen.everywhere("b", before_ms)
    seen.note = f"b served {came_ms - before_ms:,} ms after it"
    unheard_ms = 2 * TICK_MS if says == "is silent" else 0
    assert came_ms >= before_ms + TIMEOUT_MS - unheard_ms
    due_ms = silent_ms + TIMEOUT_MS
    trio.stall.assert_by(due_ms + MARGIN_MS, came_ms, due_ms)
    trio.logs("b", f"{full('a')} {says}: it is down$", before_ms)


def assert_return(seen: Seen, trio: Trio) -> None:
    """L3: a serves 500 ms after it is synced, and that is soon."""
    synced_ms, ready_ms = trio.synced_ms("a"), trio.ready_ms("a")
    came_ms = seen.first("a", ready_ms)
    seen.note = f"a served {came_ms - ready_ms} ms after it was ready"
    trio.stall.assert_by(synced_ms + RETURN_MS, came_ms, ready_ms)
    trio.stall.assert_by(ready_ms + LOOK_MS + RETURN_MS, came_ms, ready_ms)
    seen.back("a")
    seen.everywhere("a", ready_ms)


def assert_heal(seen: Seen, trio: Trio, before_ms: int) -> int:
    """S1 and L5: 500 ms after frames pass again a is the one owner; return when that is. They
    passed after `before_ms`, and pass."""
    settled_ms = now_ms() + HEAL_MS
    seen.back("a")
    seen.everywhere("a", settled_ms)
    other_ms = seen.record.last_began("b")
    seen.note = f"b's last was asked for {max(0, other_ms - before_ms)} ms after it"
    trio.stall.assert_by(settled_ms, other_ms, before_ms)
    return max(settled_ms, other_ms)


@pytest.mark.parametrize("order", ["".join(x) for x in itertools.permutations(LABELS)])
def test_cold_start(trio: Trio, order: str) -> None:
    trio.stop(LABELS)
    with trio.seen(f"cold start: {', '.join(order)}", "", LABELS) as seen:
        began_ms, last = now_ms(), order[2]
        for label in order[:2]:
            trio.start(label)
            seen.back(label)
        for label in order[:2]:
            waits = f"waiting for {last}"
            until(f"{label}: {waits}", lambda: waits in trio.status(label).get("sentence", ""))
        assert not seen.record.facts(after_ms=began_ms), "S3: served before its sync was done"
        ready_ms = trio.start(last)
        seen.back(last)
        served_ms = seen.first("a", began_ms)
        seen.everywhere("a", began_ms)
        # A node that has seen all tells one that has not yet met a that a cluster is formed
        # (rule 1): that one may own until it does.
        seen.owners = "".join(seen.record.owners())
        assert seen.owners in ("a", "ba", "ca")
        seen.note = f"a served {served_ms - ready_ms} ms after {last} was ready"
        trio.stall.assert_by(ready_ms + LOOK_MS + RETURN_MS, served_ms, ready_ms)


def test_nc_gets_a_fact_from_each_machine_at_each(trio: Trio) -> None:
    with trio.seen("nc from each to each", "a") as seen:
        asking = "; ".join(f"nc -w 5 {m.address} 4040" for m in trio.machines.values())
        got = "\n".join(trio.each(lambda label: asking)).splitlines()
        seen.note = f"{len(got)} facts"
        assert len(got) == 9 and all(line.startswith("a: fact ") for line in got)


def test_a_killed_daemon_comes_back_in_time(trio: Trio) -> None:
    with trio.seen("kill -9 of the daemon; systemd starts it", "aa", "a") as seen:
        killed_ms = trio.signal("a", signal.SIGKILL)
        until("a restart", lambda: trio.ready_ms("a") > killed_ms)
        assert_return(seen, trio)


def test_a_killed_daemon_stays_away(trio: Trio) -> None:
    with trio.no_restart("a"):
        with trio.seen("kill -9 of the daemon; kept down", "ab", "a") as seen:
            assert_failover(seen, trio, trio.signal("a", signal.SIGKILL), "ended its link")
            trio.logs("b", f"{full('a')} is failing over to {full('b')}$", now_ms() - TIMEOUT_MS)
    with trio.seen("systemctl start", "ba", "a") as seen:
        trio.start("a")
        assert_return(seen, trio)


def test_a_stop_is_planned(trio: Trio) -> None:
    with trio.seen("systemctl stop", "ab", "a") as seen:
        stopped_ms = now_ms()
        trio.stop("a")
        came_ms = seen.everywhere("b", stopped_ms)
        seen.note = f"b served {came_ms - stopped_ms} ms after the command"
        # L4 gives no figure but that it does not wait for the timeout.
        trio.stall.assert_by(stopped_ms + TIMEOUT_MS // 2, came_ms, stopped_ms)
    with trio.seen("systemctl start", "ba", "a") as seen:
        trio.start("a")
        assert_return(seen, trio)


def test_a_machine_loses_power(trio: Trio) -> None:
    with trio.seen("power cut of the machine", "ab", "a") as seen:
        cut_ms = now_ms()
        trio["a"].power_cut()
        assert_failover(seen, trio, cut_ms)
    with trio.seen("power back", "ba", "a") as seen:
        trio["a"].power_on()
        trio["a"].booted()
        assert_return(seen, trio)


def test_a_cable_is_pulled(trio: Trio) -> None:
    with trio.seen("cable pulled (carrier lost)", "ab", "a") as seen:
        cut_ms = now_ms()
        trio["a"].unplug()
        assert "NO-CARRIER" in trio["a"].run("ip link show host0")
        assert_failover(seen, trio, cut_ms)
    with trio.seen("cable put back", "ba", "a") as seen:
        healed_ms = now_ms()
        trio["a"].plug()
        seen.deaf("a", assert_heal(seen, trio, healed_ms))


def test_frames_are_dropped(trio: Trio) -> None:
    with trio.seen("frames dropped (carrier kept)", "ab", "a") as seen:
        cut_ms = now_ms()
        trio["a"].drop()
        assert "LOWER_UP" in trio["a"].run("ip link show host0")
        assert_failover(seen, trio, cut_ms)
    with trio.seen("frames pass again", "ba", "a") as seen:
        healed_ms = now_ms()
        trio["a"].undrop()
        seen.deaf("a", assert_heal(seen, trio, healed_ms))


def test_a_machine_is_frozen_and_thawed(trio: Trio) -> None:
    with trio.seen("machine frozen", "ab", "a") as seen:
        frozen_ms = now_ms()
        trio["a"].freeze()
        assert_failover(seen, trio, frozen_ms)
    with trio.seen("machine thawed", "ba", "a") as seen:
        thawed_ms = now_ms()
        trio["a"].thaw()
        assert_heal(seen, trio, thawed_ms)  # it heard all the while, and listens before it answers


def test_a_daemon_hangs(trio: Trio) -> None:
    run = trio.show("a", "InvocationID")
    with trio.seen("daemon hung (SIGSTOP); the watchdog ends it", "aba", "a") as seen:
        assert_failover(seen, trio, trio.signal("a", signal.SIGSTOP))
        note = seen.note
        until("a restart", lambda: trio.show("a", "InvocationID") not in (run, ""))
        until("it is ready", lambda: trio.show("a", "ActiveState") == "active")
        assert_return(seen, trio)
        seen.note = f"{note}; {seen.note}"
    assert "Watchdog timeout" in trio["a"].run(f"journalctl -q -o cat -b -u {unit('a')}")


def test_all_three_reboot_at_once(trio: Trio) -> None:
    with trio.seen("reboot of all three at once", "", LABELS) as seen:
        seen.first("a", 0, LABELS)
        began_ms = now_ms()
        at_once(lambda label: trio[label].begin_reboot(), LABELS)
        for label in LABELS:
            trio[label].booted()
        seen.back(LABELS)
        ready_ms = max(trio.ready_ms(label) for label in LABELS)
        seen.everywhere("a", ready_ms)
        # While they go down it moves as with a stop, to whoever is left; then it is a cold start.
        seen.owners = "".join(seen.record.owners())
        assert re.fullmatch("a([bc]{1,3}a)?", seen.owners), "two owners, or the wrong one"
        seen.owners = seen.owners if len(seen.owners) > 1 else "aa"
        served_ms = seen.first("a", ready_ms, LABELS)
        seen.note = f"a served {served_ms - began_ms:,} ms after the command"


def test_a_wrong_cookie(trio: Trio) -> None:
    with trio.seen("wrong cookie at c", "a", "c") as seen:
        began_ms = now_ms()
        trio.set_cookie("c", "ab" * 32)
        trio.restart("c")
        ready_ms, run = trio.ready_ms("c"), trio.show("c", "InvocationID")
        for label in "ab":  # as it is told where it called, and where it was called
            trio.logs(label, rf"disallowed (by )?node {full('c')}\b", began_ms)
        first_line = trio["c"].run("chucky status").splitlines()[0]
        assert first_line.startswith("the cookie here is not that of ")
        leaves_s = SYNC_MS / 1000 + 30
        until("c leaves", lambda: trio.show("c", "InvocationID") not in (run, ""), leaves_s)
        took_ms = trio.when_ms("c", "ActiveExit") - ready_ms
        seen.note = f"c left {took_ms:,} ms after it was ready"
        log = trio["c"].run(f"journalctl -q -o cat _SYSTEMD_INVOCATION_ID={run}")
        assert "mandatory nodes are missing: a, b" in log and "Application is started" not in log
        trio.logs("c", "status=75", began_ms)
        assert took_ms >= SYNC_MS - 1000  # it began a little before it was ready
        left_ms = ready_ms + took_ms
        trio.stall.assert_by(ready_ms + SYNC_MS + 500, left_ms, ready_ms + SYNC_MS)  # it exits, too
    with trio.seen("the right cookie at c, and reload", "a", "c") as seen:
        trio.set_cookie("c", trio.cookie)
        until("c is ready", lambda: trio.show("c", "ActiveState") == "active")
        trio["c"].run(f"systemctl reload {unit('c')}")
        seen.back("c")
        seen.everywhere("a", now_ms())


def test_a_differing_config(trio: Trio) -> None:
    with trio.seen("another timeout at c", "a", "c") as seen:
        began_ms = now_ms()
        # Of nodes whose lists differ that with the lesser digest gets ready: with this timeout b,
        # whether or not c is synced as a stops.
        trio.configure("c", timeout="11000")
        trio.restart("c")
        for label, other in (("a", "c"), ("c", "a")):
            trio.logs(label, rf"node\.toml differs from {full(other)}'s: timeout is", began_ms)
        seen.back("c")
        seen.everywhere("a", now_ms())
    with trio.seen("systemctl stop meanwhile", "ab", "a") as seen:
        trio.stop("a")
        seen.everywhere("b", now_ms())
    with trio.seen("systemctl start: it takes nothing over", "b", "a") as seen:
        trio.start("a")
        until("all are linked", lambda: all(trio.linked(label) for label in LABELS))
        began_ms = now_ms()
        seen.back("a")
        throughout(2 * RETURN_MS, lambda: trio.status("a")["owner"] == full("b"), "b owns it")
        seen.everywhere("b", began_ms)
    with trio.seen("c's config is mended", "ba", "c") as seen:
        began_ms = now_ms()
        trio.configure("c")
        trio.restart("c")
        seen.everywhere("a", began_ms)


def test_an_upgrade_of_all_three(trio: Trio, newer: Path) -> None:
    with trio.seen("upgrade of all three, one after the other", "aba") as seen:
        for label in LABELS:
            run = trio.show(label, "InvocationID")
            trio.install(label, newer)
            assert trio.show(label, "InvocationID") != run
            seen.stopped(label, trio.when_ms(label, "ActiveExit"), trio.ready_ms(label))
            until("all stand again", lambda: all(trio.stands(x) for x in LABELS))
        versions = trio.each(
            lambda label: "dpkg-query -W -f '${Version} ' chucky; chucky --version"
        )
        assert versions == [f"{NEWER} chucky {NEWER}"] * 3
        assert 'sync_nodes_mandatory = ["a"' in trio["a"].run(f"cat {CONFIG}")


def test_remove_and_purge(trio: Trio) -> None:
    for what, owners, dead in (("a", "ab", "a"), ("b", "bc", "ab")):
        machine = trio[what]
        with trio.seen(f"apt remove on {what}", owners, dead) as seen:
            began_ms = now_ms()
            machine.run("apt-get remove -q -y chucky")
            seen.everywhere(owners[1], began_ms)
            assert machine.run("ls -A /etc/chucky") == "cookie\nnode.toml"
        with trio.seen(f"apt purge on {what}", owners[1], dead):
            machine.run("apt-get purge -q -y chucky")
    with trio.seen("apt purge on c: nobody is left", "c", LABELS) as seen:
        seen.first("c", 0, "c")
        trio["c"].run("apt-get purge -q -y chucky")
    nothing = "rm /root/chucky.deb; find / -xdev -iname '*chucky*'; find /run -iname '*chucky*'"
    assert trio.each(lambda label: nothing) == [""] * 3
