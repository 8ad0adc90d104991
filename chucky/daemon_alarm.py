"""The one timer of a daemon: wakes it at its core's deadline, after what the loop found to read."""

import asyncio
import time
from collections.abc import Callable


def clock_ms() -> int:
    """Return the one clock: it never goes back, and counts the time asleep."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Alarm:
    """Calls `wake` with the time that it was set to, once for each, on the loop's own turn.

    What had come by that time was read by then: the loop reads first.
    """

    def __init__(self, wake: Callable[[int], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._at_ms = 0  # when there is a timer

    def set(self, at_ms: int | None) -> None:
        """Wake at this time on `clock_ms`, not at the one before; None: not at all.

        One that is due is not put off any more: with something to read in each turn, and each time
        a new deadline, it would never come.
        """
        loop = asyncio.get_running_loop()
        if self._timer is not None and at_ms is not None:
            # By the loop's clock, which a machine's sleep stops; a ms is what clock_ms cuts off.
            if at_ms == self._at_ms or self._timer.when() <= loop.time() + 0.001:
                return
        self.stop()
        if at_ms is not None:
            self._at_ms, delay_s = at_ms, max(0, at_ms - clock_ms()) / 1000
            self._timer = loop.call_later(delay_s, self._ring, at_ms)

    def stop(self) -> None:
        """Do not wake."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, at_ms: int) -> None:
        self._timer = None
        self._wake(at_ms)
