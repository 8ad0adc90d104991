"""What this node knew as the application moved: the last moves, each with what was said before."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from chucky import report
from chucky.core.actions import Level, Report
from chucky.daemon_log import printable
from chucky.errors import ChuckyError
from chucky.messages import Epoch

# A move a minute for an hour, and what a node says in one; more is in the journal.
MOVES = 64
LINES = 32
LETTERS = 300


class Move(NamedTuple):
    """An ownership, or the lack of one, as it was first seen here. Times are of the wall clock."""

    epoch: Epoch | None  # None: nobody owned
    began: float
    lines: tuple[tuple[float, str], ...] = ()  # what was said since the move before, and when
    lack: str = "no owner is heard of here"


class History:
    """The moves since this node started, the last MOVES of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns the seconds of the wall clock."""
        self._clock = clock
        self._lines: deque[tuple[float, str]] = deque(maxlen=LINES)
        self._moves: deque[Move] = deque(maxlen=MOVES)
        self._moves.append(Move(None, clock(), lack="this node started"))

    @property
    def since(self) -> float:
        """When the last move was."""
        return self._moves[-1].began

    def said(self, action: Report) -> None:
        """The core reports this. Of a cookie there is nothing here: strangers could fill it."""
        if action.level >= Level.INFO and action.cause != "cookie":
            self._lines.append((self._clock(), printable(action.sentence)[:LETTERS]))

    def owned(self, epoch: Epoch | None) -> None:
        """This is the ownership that the node knows of now."""
        if epoch == self._moves[-1].epoch:
            return
        if epoch is not None and len(self._moves) > 1 and epoch == self._moves[-2].epoch:
            self._moves.pop()  # it ran on, and was not heard of here for a while
            self._lines.clear()
        else:
            self._moves.append(Move(epoch, self._clock(), tuple(self._lines)))
            self._lines.clear()

    def why(self, number: str, application: str) -> dict[str, Any]:
        """Return the moves to an epoch of this number, or with "" the last one and, where nobody
        owns now, that, for `chucky why`. Raises ChuckyError when there is none."""
        found: list[dict[str, Any]] = []
        before: list[tuple[float, str]] = []
        ends = [move.began for move in self._moves][1:]
        for move, end in zip(self._moves, [*ends, None], strict=True):
            before += move.lines
            if move.epoch is None and end is not None:
                before.append((move.began, move.lack))
                continue
            if number in ("", str(move.epoch.number if move.epoch else "")):
                found.append(_told(move, end, before))
            before = []
        if not found:
            known = [move.epoch.number for move in self._moves if move.epoch is not None]
            here = f"those are {min(known)} to {max(known)}" if known else "there is none yet"
            raise ChuckyError(
                f"epoch {number:.20} was not seen by this node since it started: {here};"
                " see journalctl -u 'chucky@*'"
            )
        return {"application": application, "moves": found if number else found[-1:]}


def _told(move: Move, end: float | None, lines: list[tuple[float, str]]) -> dict[str, Any]:
    return {
        "owner": move.epoch and str(move.epoch.node),
        "epoch": move.epoch and move.epoch.number,
        "since": report.iso(move.began),
        "until": None if end is None else report.iso(end),
        "lines": [{"time": report.iso(at), "sentence": said} for at, said in lines[-LINES:]],
    }
