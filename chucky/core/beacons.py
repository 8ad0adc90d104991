"""When this node's own beacon is due: at `interval`, and more often while a listed node is missing.

L5 is for nodes that never met, too: while one is missing, a call goes out as often as known nodes
are dialled. Of many that are linked a few call so often for all, since whoever hears one of them
dials it and is told of the rest: each beacon goes to every node (docs/decisions/0013).
"""

from collections.abc import Collection

from chucky.core.contact import REDIAL_MS
from chucky.names import NodeName
from chucky.settings import Settings

CALLERS = 8  # those of the least names; not one only, since its frames may not reach the missing


class Beacons:
    """The rhythm of one node's beacons, from `now_ms` on."""

    def __init__(self, me: NodeName, now_ms: int) -> None:
        self.by_ms = self._from_ms = now_ms + REDIAL_MS
        self._last_ms: int | None = None
        self._linked = 0
        self._me = me

    def due(self, linked: Collection[NodeName], settings: Settings, now_ms: int) -> bool:
        """Return whether one is to go out in this step; then the next is later. Without news from
        elsewhere a step is wanted at `by_ms`: where all have met, a beacon waits a little for a
        step that comes anyhow."""
        lost = len(linked) < self._linked  # maybe a listed one: look who is missing
        self._linked = len(linked)
        if now_ms < self._from_ms and not lost:
            return False
        there = (self._me, *linked)
        tiers = settings.distributed.nodes.tiers
        met = all(any(p.matches(n) for n in there) for tier in tiers for p in tier)
        calls = not met and self._me in sorted(there)[:CALLERS]
        interval_ms = settings.discovery.interval_ms
        wait_ms = min(interval_ms, REDIAL_MS) if calls else interval_ms
        last_ms = self._last_ms
        if is_due := last_ms is None or now_ms >= last_ms + wait_ms:
            last_ms = self._last_ms = now_ms
        self._from_ms = last_ms + wait_ms
        self.by_ms = self._from_ms + (interval_ms // 4 if met else 0)
        return is_due
