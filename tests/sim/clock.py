"""Time: the heap of what is to come in true microseconds, and each machine's own clock."""

import heapq
from collections.abc import Callable
from typing import Any

MS = 1000  # microseconds


class Time:
    """True time, which no node can read, and what is due."""

    def __init__(self) -> None:
        self.now_us = 0
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when_us: int, what: Callable[..., None], *args: Any) -> None:
        """Let something happen then, after all that was planned for that moment before."""
        self._order += 1
        due_us = when_us if when_us > self.now_us else self.now_us
        heapq.heappush(self._due, (due_us, self._order, what, args))

    def after(self, delay_us: int, what: Callable[..., None], *args: Any) -> None:
        """Let something happen so much later."""
        self.at(self.now_us + delay_us, what, *args)

    def run_to(self, end_us: int) -> None:
        """Let all happen that is due until then."""
        due = self._due
        while due and due[0][0] <= end_us:
            self.now_us, _, what, args = heapq.heappop(due)
            what(*args)
        self.now_us = end_us

    def step(self, end_us: int) -> bool:
        """Let the next thing happen; return False when nothing is due until then."""
        if not self._due or self._due[0][0] > end_us:
            return False
        self.now_us, _, what, args = heapq.heappop(self._due)
        what(*args)
        return True


class Clock:
    """A machine's clock: `ppm` millionths faster than true time, `offset_us` ahead at 0."""

    __slots__ = ("offset_us", "ppm")

    def __init__(self, offset_us: int = 0, ppm: int = 0) -> None:
        self.offset_us = offset_us
        self.ppm = ppm

    def read_ms(self, now_us: int) -> int:
        """Return what it shows at a true time."""
        return (self.offset_us + now_us + now_us * self.ppm // 1_000_000) // MS

    def when_us(self, shows_ms: int) -> int:
        """Return the true time at which it comes to show this."""
        at_us = (shows_ms * MS - self.offset_us) * 1_000_000 // (1_000_000 + self.ppm)
        while self.read_ms(at_us) < shows_ms:
            at_us += 1
        return at_us

    def reboot(self, now_us: int) -> None:
        """Begin again at 0, as a clock that counts from the boot does."""
        self.offset_us = -(now_us + now_us * self.ppm // 1_000_000)
