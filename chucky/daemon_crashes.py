"""How often in a row this node's process ended just after it had begun to own, whatever ended it.

An application that fails is counted by the core, which waits longer each time. What ends the whole
process (a bug, the kernel's OOM killer, the watchdog) leaves no memory of it, and systemd starts it
anew after a second: it would own at once (L2), end again, and keep all others off for ever. So the
count is in a file, where the next start finds it (docs/decisions/0022).
"""

import asyncio
import os
import time
from contextlib import suppress

from chucky import files
from chucky.errors import NotAFile

PROVEN_S = 60.0  # who has owned for so long has not crashed, as for an application that fails
TOLERATED = 2  # crashes in a row after which it owns at once: somebody may have killed it
LEAST_WAIT_MS, MOST_WAIT_MS = 8_000, 60_000  # beyond the timeout, doubled with each crash more
MEETING_MS = 3_000  # in which it meets those that could own instead
# A count that is so old tells of another time: a process that is not proven ends, at the latest by
# the watchdog, and is started anew long before.
FORGOTTEN_S = 120


class Crashes:
    """The count of one node, whose process began at `began_ms`. With `timeout_ms` None (inf) no
    other node may own, and it waits for nobody."""

    def __init__(self, path: str, timeout_ms: int | None, began_ms: int) -> None:
        self._path = path
        self._count = _read(path)
        self._began_ms = self._until_ms = began_ms
        if timeout_ms is not None and self._count > TOLERATED:
            more_ms = LEAST_WAIT_MS << min(self._count - TOLERATED - 1, 3)
            self._until_ms += timeout_ms + min(more_ms, MOST_WAIT_MS)
        self._owns: asyncio.TimerHandle | None = None

    def trouble(self, others_can: bool, now_ms: int) -> str:
        """Return why this node must not own yet, or "". `others_can`: another node could."""
        met = now_ms - self._began_ms >= MEETING_MS
        if not self._count or now_ms >= self._until_ms or (met and not others_can):
            return ""
        return (
            f"{self._count} times in a row its process ended just after it had begun to own: see"
            " its log before that"
        )

    def began(self, now_ms: int) -> None:
        """It owns: if its process ends now, that is one more."""
        if now_ms - self._until_ms >= FORGOTTEN_S * 1000:
            self._count = 0
        with suppress(OSError), open(self._path, "w", encoding="ascii") as file:
            file.write(str(self._count + 1))
        self._cancel()
        self._owns = asyncio.get_running_loop().call_later(PROVEN_S, self.over)

    def over(self) -> None:
        """It has owned for long, or an administrator ends it: what comes is the first again."""
        self._cancel()
        self._count = 0
        with suppress(OSError):
            os.unlink(self._path)

    def _cancel(self) -> None:
        if self._owns is not None:
            self._owns.cancel()
            self._owns = None


def _read(path: str) -> int:
    try:
        old = abs(time.time() - os.stat(path).st_mtime) >= FORGOTTEN_S  # or the clock was set
        return 0 if old else max(0, int(files.read(path, 10)))
    except (OSError, ValueError, NotAFile):
        return 0
