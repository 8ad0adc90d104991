"""The bed itself: checks that can fail, and faults that do what they say."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from chucky.demo_nodes import waited_ns
from tests.lan.bed import Bed, Journal, at, now_ms, until
from tests.lan.cluster import loopback
from tests.lan.conftest import state
from tests.lan.eye import Asked, Record, ask, enter
from tests.lan.lan import Lan, missing
from tests.lan.stall import Stall


def record(*asked: tuple[str, int, int, str]) -> Record:
    """(node, began, ended, owner or "" for a failure) each."""
    return Record(
        Asked(node, began, ended, f"{owner}: fact" if owner else "", "" if owner else "empty")
        for node, began, ended, owner in asked
    )


@pytest.mark.parametrize(
    ("asked", "owners"),
    [
        ([], []),
        ([("a", 0, 1, "a"), ("b", 0, 2, "a")], ["a"]),
        # b's answer was chosen while a's request was still open: one move explains it
        ([("a", 0, 1, "a"), ("b", 2, 6, "b"), ("a", 3, 9, "a")], ["a", "b"]),
        # a answered a request begun after b's answer had come: both owned it
        ([("a", 0, 1, "a"), ("b", 2, 6, "b"), ("a", 7, 9, "a")], ["a", "b", "a"]),
        # begun in the same millisecond: nobody can tell
        ([("a", 0, 1, "a"), ("b", 2, 6, "b"), ("a", 6, 9, "a")], ["a", "b"]),
        # an old request that the new owner answers belongs to the new owner
        ([("b", 0, 9, "b"), ("a", 1, 5, "a"), ("c", 9, 12, "b")], ["a", "b"]),
        ([("a", 0, 1, "a"), ("b", 2, 3, "b"), ("c", 4, 5, "c"), ("a", 6, 7, "a")], list("abca")),
    ],
)
def test_owners(asked: list[tuple[str, int, int, str]], owners: list[str]) -> None:
    assert record(*asked).owners() == owners
    assert record(*asked[::-1]).owners() == owners


def test_gap_is_the_longest_of_any_node_with_both_ends() -> None:
    seen = record(("b", 0, 100, "a"), ("b", 100, 150, "a"), ("c", 0, 120, "a"), ("c", 0, 180, ""))
    assert seen.gap_ms("b", 90, 200) == 50
    assert seen.gap_ms("bc", 90, 200) == 80
    assert seen.gap_ms("x", 90, 200) == 110


def test_failed_requests_are_those_begun_in_time_at_the_nodes_named() -> None:
    seen = record(("b", 0, 9, ""), ("b", 5, 9, "a"), ("b", 7, 9, ""), ("c", 8, 9, ""))
    assert [x.began_ms for x in seen.failed("b", after_ms=5)] == [7]
    assert len(seen.failed("bc")) == 3


def test_what_began_before_counts_for_nothing() -> None:
    seen = record(("b", 0, 9, "c"), ("b", 5, 9, "a"))
    seen.since_ms = 5
    assert seen.owners() == ["a"] and seen.last_began("c") == 0


def test_first_waits_for_an_answer_by_that_owner() -> None:
    seen = record(("b", 0, 9, "a"))
    threading.Timer(0.05, seen.add, [Asked("b", 10, 20, "b: fact")]).start()
    assert seen.first("b", after_ms=5) == 20
    with pytest.raises(AssertionError, match="no fact by c"):
        seen.first("c", after_ms=5, limit_ms=20)


def test_a_journal_wakes_who_waits_and_knows_what_came_since() -> None:
    journal = Journal()
    journal.add("one")
    threading.Timer(0.05, journal.add, ["two"]).start()
    line = journal.wait("^t.o$")
    assert line.text == "two"
    assert journal.find("one", after_ms=line.ms + 1) == []
    with pytest.raises(AssertionError, match="no line 'three'"):
        journal.wait("three", limit_ms=20)


@pytest.mark.parametrize(
    ("answer", "fact", "problem"),
    [
        (b"a: fact\n", "a: fact", ""),
        (b"", "", "empty"),
        (b"a: fact", "", "not one line: b'a: fact'"),
        (b"a: fact\na: fact\n", "", "not one line: b'a: fact\\na: fact\\n'"),
    ],
)
def test_ask(answer: bytes, fact: str, problem: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)

        threading.Thread(target=serve).start()
        got = ask("a", "127.0.0.1", server.getsockname()[1])
    assert (got.fact, got.problem) == (fact, problem)


def test_ask_tells_a_refusal_from_silence(bed: Bed) -> None:
    assert ask("a", "127.0.0.1", bed.ports()[0]).problem == "Connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, nobody answers
        assert ask("a", "127.0.0.1", server.getsockname()[1], 50).problem == "timed out"


def test_no_thread_of_a_bed_is_left_to_steal_what_the_next_one_hears() -> None:
    before = set(threading.enumerate())
    with contextlib.closing(Bed()) as bed:
        bed.daemon("a", {})
    assert set(threading.enumerate()) <= before


@pytest.fixture
def rivals() -> Iterator[list[int]]:
    """Two processes that share one processor and are always ready to run, by pid."""
    command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-c"]
    with contextlib.ExitStack() as stack:
        started = [subprocess.Popen([*command, "while True: pass"]) for _ in range(2)]
        for process in started:
            stack.enter_context(process)
            stack.callback(process.kill)
        yield [process.pid for process in started]


def test_a_stall_is_what_ready_processes_wait_and_excuses_no_more(rivals: list[int]) -> None:
    with contextlib.closing(Stall(lambda: rivals)) as stall:
        began_ms = now_ms()
        until(lambda: stall.during_ms(began_ms, now_ms()) > 200, "each waits half of the time")
        ended_ms = now_ms()
        stall_ms = stall.during_ms(began_ms, ended_ms)
        # Four threads wait, each no longer than there was time, and the samples are around it.
        assert stall_ms < 4 * (ended_ms - began_ms + 1000)
        stall.assert_by(ended_ms - stall_ms, ended_ms, began_ms)
        told = f"^{stall_ms + 1} ms late, .* waited for a processor for {stall_ms} ms only$"
        with pytest.raises(AssertionError, match=told):
            stall.assert_by(ended_ms - stall_ms - 1, ended_ms, began_ms)
        stall.assert_from(ended_ms, ended_ms - stall_ms, began_ms, ended_ms)
        with pytest.raises(AssertionError, match=f"^{stall_ms + 1} ms early, .* {stall_ms} ms on"):
            stall.assert_from(ended_ms, ended_ms - stall_ms - 1, began_ms, ended_ms)


def test_a_process_that_stands_still_by_itself_is_no_stall(rivals: list[int]) -> None:
    pid = rivals[0]
    until(lambda: waited_ns(pid)[pid] > 0, "it waits for its rival while it runs")
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    before = waited_ns(pid)[pid]
    at(now_ms() + 200)
    assert waited_ns(pid)[pid] == before


def test_a_traceback_in_a_log_is_found(bed: Bed) -> None:
    daemon = bed.daemon("a", {})
    daemon.log.add("the facts file is gone")
    assert bed.uncaught() == []
    daemon.log.add("Traceback (most recent call last):")
    assert bed.uncaught() == ["a"]
    bed.daemons.clear()  # or the fixture fails this test, as it must


def test_a_failure_tells_what_a_daemon_is_at_even_when_it_is_frozen(bed: Bed) -> None:
    a = loopback(bed, labels="a")["a"]
    a.start()
    a.reaches("owner")
    shown = "LISTEN" if shutil.which("ss") else "No such file"
    assert "a@manticore is the owner" in state(a) and shown in state(a)
    a.freeze()
    assert "is silent" in state(a) and shown in state(a)


# -- the Lan

needs_root = pytest.mark.skipif(bool(missing()), reason=missing())


def test_a_machine_without_the_tools_is_a_reason_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing.__wrapped__()


def passes(lan: Lan, sender: str, receiver: str, ipv6: bool = False) -> bool:
    """Whether one of ten datagrams passes, each sent after 50 ms in which the last did not come."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    sockets: list[socket.socket] = []

    def inside(node: str) -> None:  # a socket stays in the namespace it was made in
        enter(lan.netns(node))
        sockets.append(socket.socket(family, socket.SOCK_DGRAM))

    for node in (receiver, sender):
        thread = threading.Thread(target=inside, args=[node])
        thread.start()
        thread.join()
    with sockets[0] as into, sockets[1] as out:
        into.bind(("::" if ipv6 else "", 4041))
        into.settimeout(0.05)
        for _ in range(10):
            with contextlib.suppress(OSError):  # no route, while the carrier is lost
                out.sendto(b"frame", (lan.address(receiver, ipv6), 4041))
            with contextlib.suppress(TimeoutError):
                return bool(into.recv(10))
    return False


@needs_root
def test_cut_takes_the_carrier_and_drop_does_not(bed: Bed) -> None:
    lan = Lan(bed, "ab")
    assert passes(lan, "a", "b") and passes(lan, "b", "a", ipv6=True) and lan.carrier("a")
    lan.cut("a")
    assert not lan.carrier("a") and lan.carrier("b") and not passes(lan, "a", "b")
    lan.heal("a")
    until(lambda: lan.carrier("a"), "the carrier is back")
    assert passes(lan, "a", "b") and passes(lan, "b", "a", ipv6=True)
    lan.drop("a")
    assert lan.carrier("a") and not passes(lan, "a", "b")
    lan.undrop("a")
    assert passes(lan, "a", "b")


@needs_root
def test_split_and_block_part_only_whom_they_name(bed: Bed) -> None:
    lan = Lan(bed, "abc")
    lan.split("bc")
    assert passes(lan, "b", "c") and not passes(lan, "a", "b") and not passes(lan, "c", "a")
    lan.join()
    assert passes(lan, "a", "b")
    lan.block("a", "b")
    assert not passes(lan, "a", "b") and passes(lan, "a", "c") and passes(lan, "c", "b")
    lan.unblock()
    assert passes(lan, "b", "a")


@needs_root
def test_an_interface_comes_goes_and_comes_again(bed: Bed) -> None:
    lan = Lan(bed, "ab", unplugged="b", ipv6=False)
    assert not passes(lan, "a", "b")
    lan.plug("b")
    assert passes(lan, "a", "b")
    lan.unplug("b")
    assert not passes(lan, "a", "b")
    lan.plug("b")
    assert passes(lan, "b", "a")


@needs_root
def test_nothing_of_a_lan_is_left() -> None:
    with contextlib.closing(Bed()) as bed:
        lan = Lan(bed, "a")
    with pytest.raises(OSError, match="No such file"):
        enter(lan.netns("a"))
