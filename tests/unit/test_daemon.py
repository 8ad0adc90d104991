"""The daemon in this process: what no test from outside can bring about."""

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chucky import cookie, daemon_addresses, daemon_reload
from chucky.config import parse
from chucky.core import events as ev
from chucky.daemon import Daemon, new_incarnation
from chucky.daemon_options import Options
from chucky.errors import EXIT_CONFIG, EXIT_TEMPORARY, ChuckyError, ConfigError, NodeNameError
from chucky.messages import Answer, Ask, Epoch, Status
from chucky.names import Address, NodeName, NodePattern
from chucky.net.interfaces import Interface
from chucky.net.service import FactService, Relay
from chucky.priority import PriorityList
from chucky.settings import Discovery, Distributed, Facts, Node, Settings
from tests.unit.test_interfaces import refuse_thread
from tests.unit.test_links import Node as Peer

KEY = bytes(32)
ROOT = Path(__file__).parents[2]


def run(folder: Path, check: Callable[[Daemon], Awaitable[None]], tick_ms: int = 250) -> int:
    """Let the check look at a daemon on loopback; return the daemon's exit code."""
    (folder / "facts").write_text("a fact\n")
    (folder / "cookie").write_text("an old cookie of this test\n")
    (folder / "cookie").chmod(0o400)
    first = random.randrange(10_000, 32_000, 20)
    options = Options("a", str(folder / "node.toml"), str(folder / "cookie"), "", str(folder))
    settings = Settings(
        node=Node(listen="127.0.0.1", port=first, tick_ms=tick_ms),
        discovery=Discovery(group="", group6="", port=first + 10),
        facts=Facts(file=str(folder / "facts"), listen="127.0.0.1", port=0),
    )

    async def main() -> int:
        daemon = Daemon(options, settings, NodeName("a", "manticore"), KEY)
        running = asyncio.create_task(daemon.run())
        async with asyncio.timeout(30):
            while not hasattr(daemon, "_node"):
                await asyncio.sleep(0)
            await check(daemon)
            return await running

    return asyncio.run(main())


def test_a_node_that_starts_a_millisecond_later_has_the_higher_incarnation() -> None:
    for _ in range(50):
        first, now_ms = new_incarnation(), time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == now_ms:
            pass
        assert first < new_incarnation() < 2**64


def test_a_bug_in_a_step_ends_the_node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check(daemon: Daemon) -> None:
        bug: ev.Event = object()  # type: ignore[assignment]
        asyncio.get_running_loop().call_soon(daemon._step, bug)

    with caplog.at_level(logging.ERROR):
        assert run(tmp_path, check) == EXIT_TEMPORARY
    assert "AssertionError" in caplog.text


def test_a_bug_after_a_step_ends_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a timer it would do nothing for ever, and feed its watchdog."""

    async def check(daemon: Daemon) -> None:
        monkeypatch.setattr(daemon._service, "changed", lambda: 1 // 0)
        asyncio.get_running_loop().call_soon(daemon._step, ev.ApplicationFailed("a test"))

    with caplog.at_level(logging.ERROR):
        assert run(tmp_path, check) == EXIT_TEMPORARY
    assert "ZeroDivisionError" in caplog.text


def test_of_two_reloads_the_one_that_read_last_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "node.toml"
    derive = cookie.key

    second_is_through = threading.Event()

    def slowly(secret: bytes) -> bytes:
        if secret.startswith(b"an old"):
            second_is_through.wait(0.5)  # in vain, when the second waits for the first
        return derive(secret)

    async def check(daemon: Daemon) -> None:
        monkeypatch.setattr(cookie, "key", slowly)
        config.write_text(f'[facts]\nfile = "{tmp_path}/facts"\n')
        first = asyncio.create_task(daemon._reload())
        await asyncio.sleep(0)
        (tmp_path / "cookie").unlink()
        (tmp_path / "cookie").write_text("a new cookie of this test\n")
        (tmp_path / "cookie").chmod(0o400)
        await daemon._reload()
        second_is_through.set()
        await first
        assert daemon._links.key == derive(b"a new cookie of this test")
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0


def test_signals_that_come_before_a_reload_begins_ask_for_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "node.toml").write_text(f'[facts]\nfile = "{tmp_path}/facts"\n')

    async def check(daemon: Daemon) -> None:
        for _ in range(3):  # while the first goes on, the others ask for a second
            daemon._on_reload_signal()
        while not daemon._reloads.locked():
            await asyncio.sleep(0)
        for _ in range(3):
            daemon._on_reload_signal()
        while caplog.text.count("reloaded the config") < 2:
            await asyncio.sleep(0)
        daemon._step(ev.ShutdownRequested())

    with caplog.at_level(logging.INFO):
        assert run(tmp_path, check) == 0
    assert caplog.text.count("reloaded the config") == 2


def test_who_asks_for_a_reload_and_leaves_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, derived = threading.Event(), []
    (tmp_path / "node.toml").write_text(f'[facts]\nfile = "{tmp_path}/facts"\n')

    def slowly(secret: bytes) -> bytes:
        derived.append(left.wait(5))
        return KEY

    async def check(daemon: Daemon) -> None:
        monkeypatch.setattr(cookie, "key", slowly)
        reload = asyncio.create_task(daemon._reload())
        while not daemon._reloads.locked():
            await asyncio.sleep(0)
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        left.set()
        while not derived:
            await asyncio.sleep(0)
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0
    assert derived == [True]


def test_a_reload_without_a_thread_is_refused_and_the_node_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.toml").write_text(f'[facts]\nfile = "{tmp_path}/facts"\n')

    async def check(daemon: Daemon) -> None:
        while daemon._tasks:  # the first look at the interfaces, which fails as well
            await asyncio.sleep(0)
        with pytest.raises(ChuckyError, match="^the cookie's key: can't start new thread; try"):
            await daemon._reload()
        daemon._step(ev.ShutdownRequested())

    monkeypatch.setattr(threading.Thread, "start", refuse_thread)
    assert run(tmp_path, check) == 0  # its end takes no thread either


def test_a_reload_tells_another_link_port_from_the_one_that_was_free(tmp_path: Path) -> None:
    facts = f'[facts]\nfile = "{tmp_path}/facts"\n'

    async def check(daemon: Daemon) -> None:
        first = daemon._first_port
        node = replace(daemon._settings.node, port=first + 1)  # as if the first was taken
        daemon._settings = replace(daemon._settings, node=node)
        for port, told in ((first, False), (first + 1, True)):
            (tmp_path / "node.toml").write_text(f"[node]\nport = {port}\n{facts}")
            assert ("node.port" in (await daemon._reload())[-1]) is told
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0


def test_a_reload_takes_the_cookie_file_that_it_read() -> None:
    running = Settings(distributed=Distributed(timeout_ms=5000))
    read = Settings(node=Node(cookie_file="/other"), distributed=Distributed(timeout_ms=6000))
    taken, kept = daemon_reload.merge(running, read)
    assert taken.node.cookie_file == "/other"
    assert kept == ("distributed.timeout",)


def test_a_reload_never_changes_the_electorate() -> None:
    running = Distributed(quorum="majority")
    for changed, key in (
        (Distributed(), "quorum"),
        (Distributed(quorum="majority", timeout_ms=6000), "timeout"),
        (Distributed(quorum="majority", nodes=PriorityList(((NodePattern("a"),),))), "nodes"),
    ):
        taken, kept = daemon_reload.merge(Settings(running), Settings(changed))
        assert taken == Settings(running) and kept == (f"distributed.{key}",)
    taken, kept = daemon_reload.merge(Settings(running), Settings(running, Node(tick_ms=500)))
    assert taken == Settings(running) and kept == ("node.tick",)


def test_a_reload_says_what_is_changed_with_all_nodes_stopped(tmp_path: Path) -> None:
    # With majority there would be two owners while one machine has the old and one the new.
    config, three = tmp_path / "node.toml", 'nodes = ["a@x", "b@x", "c@x"]'
    rest = f'timeout = 6000\n[node]\ntick = 100\n[facts]\nfile = "{tmp_path}/facts"\n'

    async def check(daemon: Daemon) -> None:
        config.write_text(f"[distributed]\n{rest}")
        reachable = await daemon._reload()
        assert reachable[-1].startswith("a restart is needed for: distributed.timeout, ")
        config.write_text(f'[distributed]\nquorum = "majority"\n{three}\n{rest}')
        said = await daemon._reload()
        assert said[-2].startswith("a restart is needed for: distributed.nodes, ")
        assert said[-1] == (
            'change these with all nodes stopped, for quorum "majority": distributed.nodes,'
            " distributed.timeout, distributed.quorum"
        )
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0


def test_a_reload_with_another_cookie_says_which_links_had_the_old_one(tmp_path: Path) -> None:
    async def check(daemon: Daemon) -> None:
        (tmp_path / "node.toml").write_text(f'[facts]\nfile = "{tmp_path}/facts"\n')
        daemon._links.key = cookie.key(b"an old cookie of this test")
        for link, name in ((-7, "b"), (-8, "c")):
            daemon._step(ev.LinkUp(link, NodeName(name, "h"), 7, Address("127.0.0.9", 4041)))
            daemon._step(ev.MessageReceived(link, Status(1, 0, b"", "standby")))
        assert not any("cookie stay" in line for line in await daemon._reload())
        daemon._links.key = KEY
        assert (
            "links made with the old cookie stay until they end, with b@h, c@h: reload with the"
            " new one there, then restart one node after the other"
        ) in await daemon._reload()
        assert not any("cookie stay" in line for line in await daemon._reload())
        daemon._links.key = KEY
        for link in (-7, -8):
            daemon._step(ev.LinkDown(link, ev.Ended.CLOSED, None, None))
        assert not any("cookie stay" in line for line in await daemon._reload())
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0


@pytest.mark.parametrize(
    ("text", "name", "host", "ports"),
    [
        ("b", "b@own", "own", (5000, 5001, 5002)),
        ("b@beta:4050", "b@beta", "beta", (4050,)),
        ("b@[fd00::2]", "b@[fd00::2]", "fd00::2", (5000, 5001, 5002)),
        ("b@[fe80::2%eth0]:4050", "b@[fe80::2]", "fe80::2%eth0", (4050,)),
        ("b@[fe80::2%eth0]", "b@[fe80::2]", "fe80::2%eth0", (5000, 5001, 5002)),
    ],
)
def test_where_a_node_is_dialled(text: str, name: str, host: str, ports: tuple[int, ...]) -> None:
    found, addresses = daemon_addresses.of_node(text, "own", 5000)
    assert str(found) == name
    assert addresses == tuple(Address(host, port) for port in ports)


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [
        ("", ["10.0.0.1", "fd00::1", "10.1.0.1"]),
        ("::", ["10.0.0.1", "fd00::1", "10.1.0.1"]),
        ("0::0", ["10.0.0.1", "fd00::1", "10.1.0.1"]),
        ("0.0.0.0", ["10.0.0.1", "10.1.0.1"]),
        ("fd00::1", ["fd00::1"]),
        ("10.0.0.2", []),
    ],
)
def test_a_node_that_listens_on_every_address_tells_every_one(
    listen: str, hosts: list[str]
) -> None:
    interfaces = (Interface(1, "e", ("10.0.0.1", "fd00::1")), Interface(2, "f", ("10.1.0.1",)))
    node = parse(f'[node]\nlisten = "{listen}"\nport = 4050\n')[0].node
    told = daemon_addresses.of_links(node, interfaces)
    assert told == tuple(Address(host, 4050) for host in hosts)


@pytest.mark.parametrize("text", ["b@[fe80::2]", "b@[fd00::2%eth0]", "b@be%ta", "b%eth0@beta"])
def test_where_no_node_is_dialled(text: str) -> None:
    with pytest.raises((NodeNameError, ConfigError)):
        daemon_addresses.of_node(text, "own", 5000)


def test_a_node_says_once_that_the_address_it_listens_on_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = "192.0.2.1"  # of a network for documentation (RFC 5737): nobody has it

    async def check(daemon: Daemon) -> None:
        here = daemon._settings
        for listen in ("", "0.0.0.0", "::1", "fe80::1%gone", lost, lost, "127.0.0.1", lost):
            node, facts = replace(here.node, listen=listen), replace(here.facts, listen=lost)
            daemon._settings = replace(here, node=node, facts=facts)
            daemon._on_interfaces(())
        daemon._settings = here
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0
    said = [r.getMessage() for r in caplog.records if "listen" in r.getMessage()]
    scope, links = (
        f"no interface has [node] listen = {listen}: no other node is linked until one has it"
        for listen in ("fe80::1%gone", lost)
    )
    clients = f"no interface has [facts] listen = {lost}: no client is let in until one has it"
    assert said == [clients, scope, links, links]


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
def test_connect_to_an_address_of_the_other_family_says_what_listen_does(
    host: str, tmp_path: Path
) -> None:
    async def check(daemon: Daemon) -> None:
        asked = {"command": "connect", "node": f"b@{host}:9"}
        (told,) = [answer async for answer in daemon._answer(asked)]
        why = "with [node] listen = 127.0.0.1 nodes are dialled over IPv4 only"
        why = why if ":" in host else "connection refused: the host is up, no node listens there"
        assert told == {"connected": False, "sentence": f"b@{host}: {why}"}
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check) == 0


def test_a_node_that_stops_takes_no_new_request(tmp_path: Path) -> None:
    # One that came between its handover and its end would be refused; a node that shares the port
    # can answer it.
    async def check(daemon: Daemon) -> None:
        assert daemon._service.bound
        daemon._on_stop_signal()
        assert not daemon._service.bound

    assert run(tmp_path, check) == 0


def test_a_node_that_ends_is_not_reloaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Later still it would ask for a thread of an executor that is shut, and log a traceback.
    async def check(daemon: Daemon) -> None:
        daemon._step(ev.ShutdownRequested())
        assert daemon._exit.done()
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in range(20):  # turns of the loop: the signal comes, a task begins, a file is read
            await asyncio.sleep(0)

    with caplog.at_level(logging.INFO):
        assert run(tmp_path, check) == 0
    assert "reload" not in caplog.text


def test_who_waits_for_a_relayed_answer_has_it_before_the_node_leaves(tmp_path: Path) -> None:
    async def check(daemon: Daemon) -> None:
        owner = Peer(NodeName("b", "manticore"), KEY)
        owner.dial(1, Address("127.0.0.1", daemon._settings.node.port))
        await owner.until("up")
        epoch = Epoch(1, NodeName("b", "manticore"))
        owner.send(1, Status(1, 0, b"", "owner", synced=True, highest=epoch, running=epoch))
        while not isinstance(daemon._way, Relay):
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon._service.port)
        while not owner.of("message") or not isinstance(owner.of("message")[-1][1], Ask):
            await asyncio.sleep(0)
        daemon._on_stop_signal()
        owner.send(1, Answer(owner.of("message")[-1][1].request, epoch, ("a fact of b",)))
        assert await reader.read() == b"a fact of b\n"
        writer.close()
        await owner.links.stop()

    assert run(tmp_path, check) == 0


def test_a_node_that_stops_waits_for_the_answer_to_what_it_holds(tmp_path: Path) -> None:
    """As where the owner just hands over: the next one answers in a moment."""

    async def check(daemon: Daemon) -> None:
        while not daemon._service.bound:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon._service.port)
        while not daemon._service.waiting:  # it looks around yet, and owns nothing
            await asyncio.sleep(0)
        daemon._on_stop_signal()
        assert not daemon._exit.done()
        writer.close()

    assert run(tmp_path, check) == 0


def test_who_comes_to_own_while_answers_land_leaves_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(daemon: Daemon) -> None:
        waiting, bound = iter((1, 0)), []

        def step(event: ev.Event) -> None:
            bound.append(daemon._service.bound)
            Daemon._step(daemon, event)

        monkeypatch.setattr(FactService, "waiting", property(lambda _: next(waiting)))
        monkeypatch.setattr(daemon, "_step", step)
        daemon._on_stop_signal()
        daemon._service.bind()  # as a failover does
        bound.clear()
        while not daemon._exit.done():
            await asyncio.sleep(0)
        assert bound[-1] is False

    assert run(tmp_path, check) == 0


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_with_its_standard_error_closed_it_starts_and_ends_as_else(closed: str) -> None:
    command = f'exec "$0" -m chucky.daemon --config /nowhere/node.toml a {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=ROOT)
    assert done.returncode == EXIT_CONFIG


def test_a_node_that_reads_all_the_time_judges_who_is_silent_and_not_whose_words_wait(
    tmp_path: Path,
) -> None:
    """Each turn of its loop reads b, then c for longer than a tick time; d has fallen silent."""
    links = {NodeName(key, "h"): -1_000_000 - n for n, key in enumerate("bcd")}
    b, c, d = links

    async def check(daemon: Daemon) -> None:
        loop, (ready, other), tick = asyncio.get_running_loop(), socket.socketpair(), 0

        def hear(name: NodeName) -> None:
            nonlocal tick
            tick += 1
            said = Status(tick, 0, b"", "standby")
            daemon._step(ev.MessageReceived(links[name], said))

        def turn() -> None:
            hear(b)
            for _ in range(6):
                time.sleep(0.08)  # not half a tick time: the node is busy, not stalled
                hear(c)

        for name, link in links.items():
            daemon._step(ev.LinkUp(link, name, 7, Address("127.0.0.9", 4041)))
            hear(name)
        loop.add_reader(ready, turn)
        other.send(b"x")
        async with asyncio.timeout(30):
            while d in daemon._node._members.links:
                await asyncio.sleep(0)
        for _ in range(4):
            assert {b, c} <= set(daemon._node._members.links)
            await asyncio.sleep(0)
        loop.remove_reader(ready)
        ready.close()
        other.close()
        daemon._step(ev.ShutdownRequested())

    assert run(tmp_path, check, tick_ms=100) == 0
