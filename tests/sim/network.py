"""The LAN: paths between hosts, what can go wrong on them, and the beacons.

A path leads from one host to another. Its frames pass unless it is cut or one of the two is off.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chucky.core.events import BeaconHeard
from chucky.errors import BadMessage
from chucky.messages import Beacon
from chucky.names import Address
from chucky.wire import beacon as beacons
from tests.sim.clock import MS, Time

if TYPE_CHECKING:
    from tests.sim.host import Host

PORT = 4041


class Path:
    """One direction between two hosts; `clear_us` is since when its frames pass as they should,
    `arrived_us` since when none is under way that was sent while it was slow."""

    __slots__ = (
        "source", "target", "base_us", "jitter_us", "extra_us", "cut", "clear_us", "arrived_us",
        "known",
    )  # fmt: skip

    def __init__(self, source: "Host", target: "Host", base_us: int, jitter_us: int) -> None:
        self.source = source
        self.target = target
        self.base_us = base_us
        self.jitter_us = jitter_us
        self.extra_us = 0
        self.cut = False
        self.clear_us = self.arrived_us = 0
        self.known = (0, 0)  # the incarnations that last had a link: they need no beacon

    @property
    def passes(self) -> bool:
        """Whether a frame that arrives now does."""
        return not self.cut and self.source.on and self.target.on


class Lan:
    """All paths. What a node hears goes to `tell(host, event)`."""

    def __init__(self, time: Time, rng: random.Random, tell: Callable[["Host", Any], None]) -> None:
        self.time = time
        self.rng = rng
        self.tell = tell
        self.mended: Callable[[], None] = lambda: None  # called when paths may pass again
        self.hosts: list[Host] = []
        self.paths: dict[tuple[str, str], Path] = {}
        self.beacon_loss = 0.0
        self.beacon_twice = 0.0
        self.beacon_extra_us = 0

    def add(self, host: "Host", base_us: int, jitter_us: int) -> None:
        """Plug in a host; its paths take base to base + jitter each way."""
        for other in self.hosts:
            self.paths[host.key, other.key] = Path(host, other, base_us, jitter_us)
            self.paths[other.key, host.key] = Path(other, host, base_us, jitter_us)
        self.hosts.append(host)

    def path(self, one: "Host", other: "Host") -> Path:
        """Return the path from one host to another."""
        return self.paths[one.key, other.key]

    def delay_us(self, path: Path) -> int:
        """Draw how long a frame is under way."""
        return path.base_us + int(self.rng.random() * path.jitter_us) + path.extra_us

    # What breaks and mends.

    def set_cut(self, one: "Host", other: "Host", cut: bool) -> None:
        """Let frames from one host to another vanish, or pass again."""
        path = self.path(one, other)
        if path.cut != cut:
            path.cut = cut
            path.clear_us = max(path.clear_us, self.time.now_us)
            self.mended()

    def set_slow(self, one: "Host", other: "Host", extra_us: int) -> None:
        """Let frames take so much longer."""
        path = self.path(one, other)
        # What is under way keeps its place in the stream, so the slow spell outlasts its end.
        path.arrived_us = max(path.arrived_us, self.time.now_us + path.extra_us)
        path.clear_us = max(path.clear_us, path.arrived_us)
        path.extra_us = extra_us

    def moved(self, host: "Host") -> None:
        """A host has another address. Who had a link with it takes it for up until that is silent,
        and only a beacon tells where it is."""
        until_us = self.time.now_us + max(h.settings.tick_time_ms for h in self.hosts) * MS
        for path in self.paths.values():
            if host in (path.source, path.target):
                path.clear_us = max(path.clear_us, until_us)
                path.arrived_us = max(path.arrived_us, until_us)
                path.known = (0, 0)

    def hiccup(self, path: Path, until_us: int) -> None:
        """A stream on this path is held up until then, as where a segment is sent again."""
        path.clear_us = max(path.clear_us, until_us)
        path.arrived_us = max(path.arrived_us, until_us)

    # Beacons.

    def announce(self, host: "Host", asks: bool, to: Address | None) -> None:
        """Send a node's beacon to all, or to one."""
        assert host.node is not None
        data = beacons.encode(Beacon(host.name, host.incarnation, PORT, asks))
        for other in self.hosts:
            if other is not host and (to is None or to.host == other.address.host):
                self.datagram(host, other, data, Address(host.address.host, PORT))

    def datagram(self, host: "Host", other: "Host", data: bytes, source: Address) -> None:
        """Send a datagram: it may be lost, come twice, late, and before one sent earlier."""
        path = self.path(host, other)
        if self.rng.random() < self.beacon_loss:
            if path.known != (host.incarnation, other.incarnation):
                path.clear_us = max(path.clear_us, self.time.now_us)  # frames did not pass
            return
        for _ in range(1 + (self.rng.random() < self.beacon_twice)):
            extra_us = int(self.rng.random() * self.beacon_extra_us)
            delay_us = self.delay_us(path) + extra_us
            self.time.after(delay_us, self._datagram_arrives, path, data, source)

    def _datagram_arrives(self, path: Path, data: bytes, source: Address) -> None:
        if path.passes and path.target.node is not None:
            path.target.input(None, self._hear, path.target, data, source)

    def _hear(self, host: "Host", data: bytes, source: Address) -> None:
        try:
            beacon = beacons.decode(data)
        except BadMessage:
            return
        if (beacon.name, beacon.incarnation) != (host.name, host.incarnation):
            self.tell(host, BeaconHeard(beacon, source))
