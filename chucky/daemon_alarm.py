"""The one timer of a daemon: wakes it at its core's deadline, after what the loop found to read."""

import asyncio
import time
from collections.abc import Callable


def clock_ms() -> int:
    """Return the one clock: it never goes back, and counts the time asleep."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Alarm:
    """Calls `wake` once for each time it is set, on the loop's own turn."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._at_ms = 0

    def set(self, at_ms: int | None) -> None:
        """Wake at this time on `clock_ms`, not at the one before; None: not at all.

        One that is due is not put off any more: with something to read in each turn, and each time
        a new deadline, it would never come.
        """
        now_ms = clock_ms()
        if self._timer is not None and at_ms is not None:
            if at_ms == self._at_ms or self._at_ms <= min(at_ms, now_ms + 1):
                return
        self.stop()
        if at_ms is not None:
            self._at_ms = at_ms
            delay_s = max(0, at_ms - now_ms) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def stop(self) -> None:
        """Do not wake."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._wake()
