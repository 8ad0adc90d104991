"""Following interfaces, each test in a network namespace of its own.

A `scene_…` runs in a process in a new namespace, which ends with it: there it may add, change and
delete interfaces. Where this process may not make one, the tests are skipped.
"""

import asyncio
import io
import logging
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from chucky.net import interfaces
from chucky.net.interfaces import Interface, InterfaceWatch, initial

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


def run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def can_unshare() -> bool:
    try:
        subprocess.run(
            ["unshare", "--net", "ip", "link", "set", "lo", "up"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return os.geteuid() == 0


needs_namespaces = pytest.mark.skipif(
    not can_unshare(), reason="only root with unshare and ip can make network namespaces"
)


def play(scene: Callable[[], None]) -> None:
    """Run a scene of a test module in a new network namespace; its failure is ours."""
    module = sys.modules[scene.__module__].__name__
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", module, scene.__name__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr


def heard_log() -> io.StringIO:
    """Return where the log goes from now on, one sentence a line."""
    text = io.StringIO()
    logging.basicConfig(stream=text, format="%(message)s", level=logging.INFO, force=True)
    return text


class Watched:
    """An InterfaceWatch whose changes are waited for."""

    def __init__(self, wanted: tuple[str, ...] = ()) -> None:
        self.changes: asyncio.Queue[tuple[Interface, ...]] = asyncio.Queue()
        self.seen: list[tuple[Interface, ...]] = []
        self.watch = InterfaceWatch(wanted, self.changes.put_nowait)

    async def until(self, condition: Callable[[dict[str, tuple[str, ...]]], bool]) -> None:
        """Wait until the addresses by interface name are so."""
        async with asyncio.timeout(LIMIT_S / 2):
            while not (self.seen and condition(by_name(self.seen[-1]))):
                self.seen.append(await self.changes.get())


def by_name(interfaces: tuple[Interface, ...]) -> dict[str, tuple[str, ...]]:
    return {interface.name: interface.addresses for interface in interfaces}


def add_veth() -> None:
    run("ip link add v0 type veth peer name v1")
    run("ip link set v0 up")
    run("ip link set v1 up")


def scene_follow() -> None:
    async def main() -> None:
        watched = Watched()
        await watched.watch.start()
        await watched.until(lambda now: now == {})  # lo is down, as it is born
        assert initial() == []
        run("ip link set lo up")
        await watched.until(lambda now: now == {"lo": ()})
        assert initial() == [(1, "lo")]
        run("ip link add v0 type veth peer name v1")
        run("ip addr add 10.9.0.1/24 dev v0")
        run("ip addr add 169.254.7.7/16 dev v0")
        run("ip addr add 10.9.8.1 peer 10.9.8.2 dev v0")
        run("ip link set v0 up")
        run("ip link set v1 up")
        ours = ("10.9.0.1", "10.9.8.1")
        await watched.until(lambda now: now == {"lo": (), "v0": ours, "v1": ()})
        assert {name for _, name in initial()} == {"lo", "v0", "v1"}
        run("ip link set v1 down")  # the cable of v0
        await watched.until(lambda now: now == {"lo": ()})
        assert initial() == [(1, "lo")]
        run("ip link set v1 up")
        await watched.until(lambda now: now == {"lo": (), "v0": ours, "v1": ()})
        run("ip link set v1 multicast off")
        await watched.until(lambda now: now == {"lo": (), "v0": ours})
        run("ip link del v0")
        await watched.until(lambda now: now == {"lo": ()})
        watched.watch.stop()

    asyncio.run(main())


def scene_tentative() -> None:
    async def main() -> None:
        watched = Watched()
        await watched.watch.start()
        # Three questions, one second for each: long enough to be seen on a busy machine.
        Path("/proc/sys/net/ipv6/conf/default/dad_transmits").write_text("3")
        add_veth()
        run("ip addr add fd00:9::1/64 dev v0")
        assert "fd00:9::1" in run("ip -6 addr show dev v0 tentative")
        await watched.until(lambda now: now.get("v0") == ("fd00:9::1",))
        assert "fd00:9::1" not in run("ip -6 addr show dev v0 tentative")
        assert any(by_name(seen).get("v0") == () for seen in watched.seen)
        watched.watch.stop()

    asyncio.run(main())


def scene_wanted() -> None:
    async def main() -> None:
        log = heard_log()
        run("ip link set lo up")
        watched = Watched(("v0", "v9"))
        await watched.watch.start()
        await watched.until(lambda now: now == {})
        assert initial(("v0",)) == []
        run("ip link add v0 type veth peer name v1")
        run("ip link set v1 up")
        run("ip link set v0 up")
        await watched.until(lambda now: now == {"v0": ()})
        assert [name for _, name in initial(("v0",))] == ["v0"]
        assert log.getvalue().splitlines() == [
            f"interface {name} of [discovery] interfaces is not there or down:"
            " it is used as soon as it comes up"
            for name in ("v0", "v9")
        ]
        watched.watch.stop()

    asyncio.run(main())


def scene_name_of_any_bytes() -> None:
    """The kernel takes nearly any bytes for a name."""

    async def main() -> None:
        name = os.fsdecode(b"caf\xe9")
        subprocess.run(f"ip link add {name} type veth peer name v1".split(), check=True)
        for end in (name, "v1"):
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        watched = Watched()
        await watched.watch.start()
        await watched.until(lambda now: len(now) == 2)  # the carrier takes a moment
        assert {found for _, found in initial()} == {name, "v1"}
        watched.watch.stop()

    asyncio.run(main())


def scene_bridge_port() -> None:
    async def main() -> None:
        add_veth()
        run("ip link add bridge0 type bridge")
        run("ip link set v1 master bridge0")
        run("ip link set bridge0 up")
        watched = Watched()
        await watched.watch.start()
        await watched.until(lambda now: now == {"bridge0": (), "v0": ()})
        watched.watch.stop()

    asyncio.run(main())


def scene_lost_messages() -> None:
    """More changes than the socket holds: the kernel drops some, and nothing is missed."""

    async def main() -> None:
        log = heard_log()
        run("ip link set lo up")
        watched = Watched()
        await watched.watch.start()
        await watched.until(lambda now: now == {"lo": ()})
        wanted = tuple(sorted(f"10.{n // 200}.{n % 200}.1" for n in range(2000)))
        batch = "".join(f"addr add {address}/32 dev lo\n" for address in wanted)
        subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        with open("/proc/self/net/netlink", encoding="ascii") as file:
            drops = [int(line.split()[8]) for line in file.readlines()[1:]]
        assert any(drops)
        await watched.until(lambda now: now == {"lo": wanted})
        assert log.getvalue() == ""
        watched.watch.stop()

    asyncio.run(main())


def scene_look_cut_short() -> None:
    """A change while the kernel tells of all (pyroute2 0.7 raises): what was known stays."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

    def cut_short(netlink: IPRoute) -> NoReturn:
        del IPRoute.get_addr  # once: the next one is the library's own
        run("ip addr add 10.9.0.2/32 dev lo")
        raise NetlinkDumpInterrupted

    async def main() -> None:
        log = heard_log()
        run("ip link set lo up")
        run("ip addr add 10.9.0.1/32 dev lo")
        await watched.watch.start()
        await watched.until(lambda now: now == {"lo": ("10.9.0.1",)})
        asyncio.get_running_loop().remove_reader(watched.watch._socket)  # it looks by itself
        IPRoute.get_addr = cut_short
        await watched.watch._look()
        await watched.until(lambda now: now == {"lo": ("10.9.0.1", "10.9.0.2")})
        assert all("10.9.0.1" in by_name(seen)["lo"] for seen in watched.seen)
        assert log.getvalue() == ""
        watched.watch.stop()

    watched = Watched()
    asyncio.run(main())


def scene_without_pyroute2() -> None:
    async def main() -> None:
        log = heard_log()
        sys.modules["pyroute2"] = None  # type: ignore[assignment]  # import raises ImportError
        watched = Watched()
        await watched.watch.start()
        await watched.until(lambda now: now == {})
        run("ip link set lo up")
        await watched.until(lambda now: now == {"lo": ()})
        assert re.fullmatch(r"cannot follow the network interfaces \(.*\n", log.getvalue())
        watched.watch.stop()

    asyncio.run(main())


def scene_without_threads_and_descriptors() -> None:
    """What the machine has none of for a while: the next look is due all the same."""

    async def main() -> None:
        log = heard_log()
        interfaces._POLL_S = 0.01
        watched, start = Watched(), threading.Thread.start
        threading.Thread.start = refuse_thread  # type: ignore[method-assign]
        await watched.watch.start()
        await watched.until(lambda now: now == {})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        await watched.watch._look()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        threading.Thread.start = start  # type: ignore[method-assign]
        run("ip link set lo up")
        await watched.until(lambda now: now == {"lo": ()})
        assert len(log.getvalue().splitlines()) == 1
        watched.watch.stop()

    asyncio.run(main())


def refuse_thread(thread: threading.Thread) -> None:
    """Threading.Thread.start where no process is left, or no memory for its stack."""
    raise RuntimeError("can't start new thread")


def scene_stop() -> None:
    async def main() -> None:
        watched, other = Watched(), Watched()
        await watched.watch.start()
        await other.watch.start()
        await watched.until(lambda now: now == {})
        watched.watch.stop()
        run("ip link set lo up")
        await other.until(lambda now: now == {"lo": ()})
        assert watched.changes.empty()
        other.watch.stop()
        early = Watched()
        starting = asyncio.create_task(early.watch.start())
        asyncio.get_running_loop().call_soon(early.watch.stop)  # while it looks
        await starting
        assert early.changes.empty()

    asyncio.run(main())


SCENES = [
    scene_follow,
    scene_tentative,
    scene_wanted,
    scene_name_of_any_bytes,
    scene_bridge_port,
    scene_lost_messages,
    scene_look_cut_short,
    scene_without_pyroute2,
    scene_without_threads_and_descriptors,
    scene_stop,
]


@needs_namespaces
@pytest.mark.parametrize("scene", SCENES)
def test_interfaces(scene: Callable[[], None]) -> None:
    play(scene)


def test_pyroute2_is_not_imported_before_it_is_needed() -> None:
    """Its import costs 100 ms, which the first beacon does not wait for."""
    code = "import sys; from chucky.net import interfaces as i; i.initial(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "chucky.net.interfaces" in done.stdout.split()
    assert "pyroute2" not in done.stdout.split()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
