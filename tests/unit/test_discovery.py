"""Discovery on loopback, and in network namespaces (see test_interfaces for scenes)."""

import asyncio
import logging
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chucky import settings
from chucky.messages import Beacon
from chucky.names import Address, NodeName
from chucky.net import discovery
from chucky.net.discovery import Discovery
from chucky.net.interfaces import Interface, InterfaceWatch
from chucky.net.limits import MAX_SOURCES, SOURCE_BURST, SOURCE_PER_S, SourceLimit, TokenBucket
from chucky.net.multicast import LOOPBACK_INDEX
from chucky.wire.beacon import MAX_BEACON, encode
from tests.unit.test_interfaces import (
    LIMIT_S,
    ROOT,
    heard_log,
    needs_namespaces,
    play,
    refuse_thread,
    run,
)
from tests.unit.test_multicast import NO_INTERFACE, free_port, needs_ipv6, random_group

GROUP6 = "ff02::6368:7563"


def beacon(name: str, *, asks: bool = False) -> Beacon:
    return Beacon(NodeName(name, "host"), 7, 4041, asks)


class Ear:
    """A Discovery, open on some interfaces, and what it hears."""

    def __init__(self, config: settings.Discovery, indexes: tuple[int, ...] = (1,)) -> None:
        self.heard: asyncio.Queue[tuple[Beacon, Address]] = asyncio.Queue()
        self.discovery = Discovery(config, lambda *heard: self.heard.put_nowait(heard))
        self.discovery.open()
        self.discovery.set_interfaces(indexes)

    async def next(self) -> tuple[str, Address]:
        """Wait for the next beacon; return whose it is, and its source."""
        async with asyncio.timeout(LIMIT_S / 2):
            got, source = await self.heard.get()
            return got.name.name, source

    async def announce_until(
        self, mine: Beacon, condition: Callable[[str, Address], bool]
    ) -> tuple[str, Address]:
        """Announce again and again until a beacon comes that is so; return it."""
        async with asyncio.timeout(LIMIT_S / 2):
            while True:
                self.discovery.announce(mine)
                try:
                    async with asyncio.timeout(0.1):
                        while True:
                            got, source = await self.heard.get()
                            if condition(got.name.name, source):
                                return got.name.name, source
                except TimeoutError:
                    pass


@pytest.fixture
def config() -> settings.Discovery:
    """IPv4 only: without a route for it there is no IPv6 multicast on loopback."""
    return settings.Discovery(group=random_group(), group6="", port=free_port())


def test_two_nodes_hear_each_other(config: settings.Discovery) -> None:
    async def main() -> None:
        a, b = Ear(config), Ear(config)
        a.discovery.announce(beacon("a"))
        name, source = await b.next()
        assert (name, source.host) == ("a", "127.0.0.1")
        assert await a.next() == ("a", source)  # itself too: whose it is, the daemon tells
        b.discovery.announce(beacon("b"))
        assert (await a.next())[0] == (await b.next())[0] == "b"
        a.discovery.close()
        b.discovery.close()

    asyncio.run(main())


def test_an_answer_reaches_the_one_that_asked(config: settings.Discovery) -> None:
    async def main() -> None:
        a, b, c = Ear(config), Ear(config), Ear(config)
        a.discovery.announce(beacon("a", asks=True))
        for ear in (a, b, c):
            name, source = await ear.next()
            assert name == "a"
        b.discovery.answer(beacon("b"), source)
        name, answered_from = await a.next()
        assert name == "b" and answered_from != source
        a.discovery.announce(beacon("a2"))
        assert [(await ear.next())[0] for ear in (a, b, c)] == ["a2", "a2", "a2"]
        for ear in (a, b, c):
            ear.discovery.close()

    asyncio.run(main())


def test_a_port_that_another_program_had_is_heard_once_it_is_free(
    config: settings.Discovery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", config.port))  # without SO_REUSEADDR: it does not share
            ear = Ear(config)
            ear.discovery.announce(beacon("a"))
        await ear.announce_until(beacon("a"), lambda name, _: name == "a")
        ear.discovery.close()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == [
        f"beacons are sent but not heard over IPv4: UDP port {config.port}: Address already in use"
        " (sudo ss -ulpn tells who has it)",
        "beacons are heard over IPv4 now",
    ]


def scene_answer(group: str, port: str) -> None:
    """The other process: answers whoever is heard, until it is killed."""

    async def main() -> None:
        config = settings.Discovery(group=group, group6="", port=int(port))
        ear = Ear(config)
        print("ready", flush=True)
        while True:
            got, source = await ear.heard.get()
            if got.asks:
                ear.discovery.answer(beacon("other"), source)

    asyncio.run(main())


def test_two_processes_hear_each_other(config: settings.Discovery) -> None:
    async def main() -> None:
        command = [sys.executable, "-m", __name__, "scene_answer", config.group, str(config.port)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == b"ready\n"
                ear = Ear(config)
                ear.discovery.announce(beacon("a", asks=True))
                assert {(await ear.next())[0], (await ear.next())[0]} == {"a", "other"}
                ear.discovery.close()
            finally:
                process.kill()

    asyncio.run(main())


def test_peers_without_a_group_are_reached_by_unicast() -> None:
    async def main() -> None:
        config = settings.Discovery(group="", group6="", port=free_port(), peers=("localhost",))
        ear = Ear(config)
        ear.discovery.announce(beacon("a"), [Address("127.0.0.1", config.port)])
        assert (await ear.next())[0] == "a"
        by_name = [Address("localhost", config.port)]
        ear.discovery.announce(beacon("b"), by_name)  # sent when the name has been looked up
        assert (await ear.next())[0] == "b"
        ear.discovery.announce(beacon("c"), by_name)
        while (await ear.next())[0] != "c":  # b a second time when localhost has two addresses
            pass
        ear.discovery.close()

    asyncio.run(main())


@needs_ipv6
def test_the_first_peers_may_come_with_a_reload() -> None:
    async def main() -> None:
        port = free_port()
        ear = Ear(settings.Discovery(group="", group6="", port=port))
        hosts = {"127.0.0.1", "::1"}
        ear.discovery.announce(beacon("a"), [Address(host, port) for host in hosts])
        assert {(await ear.next())[1].host for _ in hosts} == hosts
        ear.discovery.close()

    asyncio.run(main())


class Log(logging.Handler):
    """The lines of WARNING and above; `line` waits for the next."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.queue.put_nowait(record.getMessage())


@pytest.fixture
def log() -> Any:
    handler = Log()
    logger = logging.getLogger("chucky.net.discovery")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_bad_name_is_logged_once_until_it_works(
    log: Log, config: settings.Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LOOK_UP_S", 0.0)

    class Failures(discovery._Failures):
        def __init__(self) -> None:
            super().__init__()
            self.count = asyncio.Semaphore(0)

        def failed(self, what: str, error: OSError, index: int = 0) -> None:
            super().failed(what, error, index)
            self.count.release()

    async def main() -> None:
        ear, failures, bad = Ear(config), Failures(), Address("a..b", 1)
        names = discovery._Names(failures)
        async with asyncio.timeout(LIMIT_S / 2):
            for _ in range(3):
                names.look_up(bad, lambda targets: None)
                await failures.count.acquire()
        assert log.lines == ["looking up a..b: not a host name"]
        ear.discovery.announce(beacon("a"), [Address("fe80::1%nowhere", 1), bad])
        assert (await ear.next())[0] == "a"
        ear.discovery.close()

    asyncio.run(main())


def test_a_name_waits_for_a_thread_that_cannot_be_had(
    log: Log, config: settings.Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LOOK_UP_S", 0.0)

    async def main() -> None:
        ear, peer = Ear(config), Address("localhost", config.port)
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse_thread)
            for _ in range(2):
                ear.discovery.announce(beacon("a"), [peer])
                assert (await ear.next())[0] == "a"  # by the group
        assert log.lines == ["looking up localhost: can't start new thread"]
        ear.discovery._groups.clear()
        ear.discovery.announce(beacon("b"), [peer])
        assert (await ear.next())[0] == "b"
        ear.discovery.close()

    asyncio.run(main())


def test_garbage_is_dropped_and_told_once(log: Log, config: settings.Discovery) -> None:
    async def main() -> None:
        ear = Ear(config)
        good = encode(beacon("good"))
        rubbish = [b"", b"\0", good[:14], good[:20], good + bytes(MAX_BEACON), b"x" * 9000]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in (*rubbish, good):
                stranger.sendto(data, ("127.0.0.1", config.port))
        assert (await ear.next())[0] == "good"
        assert ear.heard.empty()
        assert log.lines == [
            f"dropped 1 datagrams on UDP port {config.port} that were no beacon or too many,"
            " the last from 127.0.0.1: what sends there?"
        ]
        ear.discovery.close()

    asyncio.run(main())


def test_a_flood_of_one_source_leaves_room_for_others(config: settings.Discovery) -> None:
    async def main() -> None:
        ear = Ear(config)
        began = asyncio.get_running_loop().time()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(2 * SOURCE_BURST):
                stranger.sendto(encode(beacon("flood")), ("127.0.0.1", config.port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.2", 0))
            other.sendto(encode(beacon("other")), ("127.0.0.1", config.port))
        names = [(await ear.next())[0]]
        while names[-1] != "other":
            names.append((await ear.next())[0])
        took_s = asyncio.get_running_loop().time() - began
        assert 1 < len(names) <= 2 + SOURCE_BURST + took_s * SOURCE_PER_S
        ear.discovery.close()

    asyncio.run(main())


def test_reading_pauses_when_the_whole_is_too_much(
    config: settings.Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "READS_PER_S", 100)
    monkeypatch.setattr(discovery, "READS_BURST", 10)

    async def main() -> None:
        ear = Ear(config)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for n in range(30):
                stranger.sendto(encode(beacon(f"n{n}")), ("127.0.0.1", config.port))
        began = loop.time()
        assert [(await ear.next())[0] for _ in range(30)] == [f"n{n}" for n in range(30)]
        assert loop.time() - began >= 19 / 100  # the 20 beyond the burst come at the rate
        ear.discovery.close()

    asyncio.run(main())


def test_many_sources_together_are_too_much_too(
    log: Log, config: settings.Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "PARSED_PER_S", 0)
    monkeypatch.setattr(discovery, "PARSED_BURST", 5)

    async def main() -> None:
        ear = Ear(config)
        for n in range(1, 7):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((f"127.0.0.{n}", 0))
                stranger.sendto(encode(beacon(f"n{n}")), ("127.0.0.1", config.port))
        assert [(await ear.next())[0] for _ in range(5)] == ["n1", "n2", "n3", "n4", "n5"]
        async with asyncio.timeout(LIMIT_S / 2):
            assert "the last from 127.0.0.6" in await log.queue.get()
        assert ear.heard.empty()
        ear.discovery.close()

    asyncio.run(main())


def test_token_bucket() -> None:
    bucket = TokenBucket(per_s=10, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]


def test_sources_are_apart_and_their_table_is_bounded() -> None:
    limit = SourceLimit()
    assert all(limit.take("a", 100.0) for _ in range(SOURCE_BURST))
    assert not limit.take("a", 100.0)
    assert limit.take("b", 100.0)
    for number in range(3 * MAX_SOURCES):
        limit.take(str(number), 100.0)
        assert len(limit) <= MAX_SOURCES
        assert not limit.take("a", 100.0)  # heard just now, so it stays
    assert len(limit) == MAX_SOURCES


def test_a_port_that_another_has_does_not_stop_sending(
    log: Log, config: settings.Discovery
) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
            selfish.bind(("", config.port))
            mreqn = socket.inet_aton(config.group) + socket.inet_aton("127.0.0.1")
            selfish.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
            selfish.settimeout(5)
            ear = Ear(config)
            ear.discovery.announce(beacon("a"))
            data, source = selfish.recvfrom(2048)
            assert data == encode(beacon("a"))
            selfish.sendto(encode(beacon("b")), source)  # answers come to a port of our own
            assert (await ear.next())[0] == "b"
            ear.discovery.close()
        assert len(log.lines) == 1
        assert f"UDP port {config.port}: Address already in use" in log.lines[0]

    asyncio.run(main())


def test_a_family_that_cannot_be_opened_is_left_out(config: settings.Discovery) -> None:
    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no socket can be made
        try:
            ear = Ear(config)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        ear.discovery.announce(beacon("a"), [Address("127.0.0.1", config.port)])
        ear.discovery.answer(beacon("a"), Address("127.0.0.1", config.port))
        ear.discovery.close()

    asyncio.run(main())


def test_an_interface_left_is_not_heard(config: settings.Discovery) -> None:
    async def main() -> None:
        a, b = Ear(config), Ear(config)
        b.discovery.set_interfaces(())
        a.discovery.announce(beacon("group"))
        assert (await a.next())[0] == "group"  # so it is delivered
        b.discovery.set_interfaces((LOOPBACK_INDEX,))
        a.discovery.announce(beacon("again"))
        assert (await b.next())[0] == "again"
        a.discovery.close()
        b.discovery.close()

    asyncio.run(main())


def test_failures_are_told_once_until_it_works(log: Log) -> None:
    failures = discovery._Failures()
    denied, full = PermissionError(1, "denied"), OSError(105, "full")
    for error in (denied, denied, full, denied):
        failures.failed("beacons", error, LOOPBACK_INDEX)
    assert log.lines == [
        "beacons on lo: denied: a firewall rule of this machine drops them",
        "beacons on lo: full",
    ]
    failures.worked("beacons", LOOPBACK_INDEX)
    failures.failed("beacons", full, LOOPBACK_INDEX)
    failures.forget(LOOPBACK_INDEX)
    failures.failed("beacons", full, LOOPBACK_INDEX)
    assert len(log.lines) == 4
    failures.failed("beacons", OSError(101, "Network is unreachable"))  # not worth a warning
    assert len(log.lines) == 4


def test_an_interface_that_comes_back_is_told_anew(
    config: settings.Discovery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "chucky.net.discovery")

    async def main() -> None:
        ear = Ear(config, (NO_INTERFACE,))
        ear.discovery.announce(beacon("a"))
        ear.discovery.announce(beacon("a"))
        ear.discovery.set_interfaces(())
        ear.discovery.announce(beacon("a"))
        ear.discovery.set_interfaces((NO_INTERFACE,))
        ear.discovery.announce(beacon("a"))
        ear.discovery.close()

    asyncio.run(main())
    line = f"beacons to {config.group} on interface {NO_INTERFACE}: No such device"
    told = [record.getMessage() for record in caplog.records if "beacons" in record.getMessage()]
    assert told == [line, line]


# In namespaces: this one is node a's; node b, in another, answers whoever asks.


class Follower(Ear):
    """An Ear that follows the interfaces, as the daemon does."""

    def __init__(self, config: settings.Discovery) -> None:
        super().__init__(config, ())
        self.present: frozenset[str] = frozenset()
        self.changed = asyncio.Event()
        self.watch = InterfaceWatch((), self._on_change)

    def _on_change(self, interfaces: tuple[Interface, ...]) -> None:
        self.present = frozenset(interface.name for interface in interfaces)
        self.discovery.set_interfaces(interface.index for interface in interfaces)
        self.changed.set()

    async def until_present(self, *names: str) -> None:
        async with asyncio.timeout(LIMIT_S / 2):
            while self.present != frozenset(names):
                self.changed.clear()
                await self.changed.wait()


def scene_other_machine() -> None:
    async def main() -> None:
        other = Follower(settings.Discovery())
        await other.watch.start()
        print("ready", flush=True)
        while True:
            got, source = await other.heard.get()
            if got.asks:
                other.discovery.answer(beacon("b"), source)

    asyncio.run(main())


class OtherMachine:
    """A process in a namespace of its own, with node b; `plug` gives it the end of a cable."""

    def __enter__(self) -> "OtherMachine":
        command = ["unshare", "--net", sys.executable, "-m", "tests.unit.test_discovery"]
        self._process = subprocess.Popen(
            [*command, "scene_other_machine"], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def plug(self, interface: str, *commands: str) -> None:
        pid = self._process.pid
        run(f"ip link set {interface} netns {pid}")
        for command in (*commands, f"ip link set {interface} up"):
            run(f"nsenter -t {pid} -n {command}")


def scene_cable() -> None:
    """A cable is plugged in, beacons pass in both families; it is gone, nothing fails."""

    async def main() -> None:
        log = heard_log()
        run("ip link set lo up")
        a = Follower(settings.Discovery())
        await a.watch.start()
        await a.until_present("lo")
        with OtherMachine() as other:
            run("ip link add v0 type veth peer name v1")
            run("ip addr add 10.9.0.1/24 dev v0")
            run("ip link set v0 up")
            other.plug("v1", "ip addr add 10.9.0.2/24 dev v1")
            asks = beacon("a", asks=True)
            _, source = await a.announce_until(asks, lambda name, s: name == "b" and "." in s.host)
            assert source.host == "10.9.0.2"
            _, source = await a.announce_until(asks, lambda name, s: name == "b" and ":" in s.host)
            assert source.is_link_local and source.host.endswith("%v0")
            # Other nodes of this host hear us there too.
            await a.announce_until(asks, lambda name, s: name == "a" and s.host == "10.9.0.1")
            await a.announce_until(asks, lambda name, s: name == "a" and s.host.endswith("%v0"))
            run("ip link del v0")
            await a.until_present("lo")
        await a.announce_until(beacon("a"), lambda name, s: s.host == "127.0.0.1")
        for proc in ("igmp", "igmp6"):
            with open(f"/proc/self/net/{proc}", encoding="ascii") as file:
                assert "v0" not in file.read()
        a.watch.stop()
        a.discovery.close()
        assert log.getvalue() == ""

    asyncio.run(main())


def scene_ipv6_only() -> None:
    async def main() -> None:
        a = Follower(settings.Discovery())
        await a.watch.start()
        with OtherMachine() as other:
            run("ip link add v0 type veth peer name v1")
            run("ip link set v0 up")
            other.plug("v1")
            asks = beacon("a", asks=True)
            hosts = []

            def is_b(name: str, source: Address) -> bool:
                hosts.append(source.host)
                return name == "b"

            await a.announce_until(asks, is_b)
            assert all(host.startswith("fe80::") and host.endswith("%v0") for host in hosts)
        a.watch.stop()
        a.discovery.close()

    asyncio.run(main())


def scene_ipv6_comes_later() -> None:
    """Below an MTU of 1280 an interface has no IPv6, and cannot be joined."""

    async def main() -> None:
        log = heard_log()
        run("ip link add v0 mtu 1000 type veth peer name v1 mtu 1000")
        run("ip link set v0 up")
        run("ip link set v1 up")
        a = Ear(settings.Discovery(), (socket.if_nametoindex("v0"),))
        a.discovery.announce(beacon("a"))
        run("ip link set v0 mtu 1500")
        await a.announce_until(beacon("a"), lambda name, s: s.host.endswith("%v0"))
        a.discovery.close()
        group = settings.Discovery().group6
        why = "it carries no IPv6 (its MTU is below 1280)"
        assert log.getvalue() == f"hearing {group} on v0: {why}\n"

    asyncio.run(main())


def at_once(*commands: str) -> None:
    """Run them in one process: faster than the watch waits for the end of a burst."""
    run_all = ["ip", "-batch", "-"]
    subprocess.run(run_all, input="\n".join(commands), text=True, check=True)


CABLE = (
    "link add v0 index 77 type veth peer name v1 index 78",
    "addr add 10.9.0.1/24 dev v0",
    "link set v0 up",
    "link set v1 up",
)


async def hears_itself(ear: Ear, name: str, *also: Ear) -> None:
    """The group is heard on v0 in both families: what a host sends there it gets itself, too."""
    for sign in (".", ":"):
        await ear.announce_until(beacon(name), lambda n, s: n == name and on_v0(s, sign))
        for other in also:
            await other.announce_until(beacon("x"), lambda n, s: n == name and on_v0(s, sign))


def on_v0(source: Address, sign: str) -> bool:
    return sign in source.host and (source.host == "10.9.0.1" or source.host.endswith("%v0"))


def blink(*commands: str) -> None:
    """Something is gone and back sooner than the watch looks: the group is heard again."""

    async def main() -> None:
        log = heard_log()
        at_once(*CABLE)
        a = Follower(settings.Discovery())
        await a.watch.start()
        await hears_itself(a, "before")
        at_once(*commands)
        await hears_itself(a, "after")
        a.watch.stop()
        a.discovery.close()
        assert log.getvalue() == ""

    asyncio.run(main())


def scene_back_under_its_index() -> None:
    blink("link del v0", *CABLE)


def scene_ipv6_is_back() -> None:
    blink("link set v0 mtu 1000", "link set v0 mtu 1500")


def scene_who_leaves_takes_the_group_along() -> None:
    """Of two nodes that lost it, one had the kernel join again: the other hears on without it."""

    async def main() -> None:
        at_once(*CABLE)
        a, b = Follower(settings.Discovery()), Follower(settings.Discovery())
        await a.watch.start()
        await b.watch.start()
        await hears_itself(a, "before", b)
        at_once("link del v0", *CABLE)
        await hears_itself(a, "after", b)
        for left in (b, a):
            left.watch.stop()
        b.discovery.close()
        await hears_itself(a, "alone")
        a.discovery.close()

    asyncio.run(main())


def scene_no_interface() -> None:
    """Loopback is down, there is nothing else; and then it comes up."""

    async def main() -> None:
        log = heard_log()
        a = Follower(settings.Discovery(peers=("10.0.0.1",)))
        await a.watch.start()
        a.discovery.set_interfaces([LOOPBACK_INDEX])
        a.discovery.announce(beacon("a"), [Address("10.0.0.1", 4041)])
        a.discovery.answer(beacon("a"), Address("fe80::1%v0", 4041))
        a.discovery.set_interfaces([])
        run("ip link set lo up")
        await a.until_present("lo")
        a.discovery.announce(beacon("a"))
        assert (await a.next())[1].host == "127.0.0.1"
        a.watch.stop()
        a.discovery.close()
        assert log.getvalue() == ""

    asyncio.run(main())


SCENES = [
    scene_cable,
    scene_ipv6_only,
    scene_ipv6_comes_later,
    scene_back_under_its_index,
    scene_ipv6_is_back,
    scene_who_leaves_takes_the_group_along,
    scene_no_interface,
]


@needs_namespaces
@pytest.mark.parametrize("scene", SCENES)
def test_discovery_in_a_namespace(scene: Callable[[], None]) -> None:
    play(scene)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
