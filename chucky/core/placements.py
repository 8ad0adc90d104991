"""Whose placement binds this node: an owner that an administrator placed keeps the application from
every node that was already up by then (docs/decisions/0008).

A placement is numbered by its owner's tick, and told with its age. Two clocks are never compared:
its age is held against how long this node is up, in the first tick time after it is heard of.
Judged for ever, two clocks that run apart would turn the answer round in the end; judged once, the
answer would hang on one Status that came late.
"""

from dataclasses import dataclass

from chucky.messages import Status
from chucky.names import NodeName


@dataclass(slots=True)
class _Judged:
    """One placement; the names of its fields but the last are Status's."""

    incarnation: int
    tick: int
    binds: bool
    heard_ms: int  # first


class Placements:
    """The newest placement of each owner, as judged here. `free_ms`: since when this node may own,
    its start or its last `standby off`."""

    def __init__(self, tick_time_ms: int, now_ms: int) -> None:
        self.free_ms = now_ms
        self.binding: frozenset[NodeName] = frozenset()  # the owners that it takes nothing from
        self._tick_time_ms = tick_time_ms
        self._judged: dict[NodeName, _Judged] = {}

    def hear(self, name: NodeName, incarnation: int, status: Status, now_ms: int) -> None:
        """Take what a listed peer says of a placement on it."""
        placed, known = status.placed, self._judged.get(name)
        if status.running is None or placed is None:
            self._judged.pop(name, None)
        else:
            binds = self.free_ms <= now_ms - placed.age_ms
            if known is None or (known.incarnation, known.tick) != (incarnation, placed.tick):
                self._judged[name] = _Judged(incarnation, placed.tick, binds, now_ms)
            elif now_ms - known.heard_ms < self._tick_time_ms:
                known.binds = known.binds and binds  # what is late makes it look younger only
        if placed is not None or known is not None:
            self._sum_up()

    def came_off_standby(self, now_ms: int) -> None:
        """From now on this node is as one that has just started."""
        self.free_ms = now_ms
        for judged in self._judged.values():
            judged.binds = False
        self._sum_up()

    def _sum_up(self) -> None:
        self.binding = frozenset([name for name, judged in self._judged.items() if judged.binds])
