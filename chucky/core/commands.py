"""What an administrator asks of a node: to take the application now, or to give it away.

Each request ends with one RequestDone: when it is so, when it can never be, when its time is up
(L8), or with the node. Nothing depends on whether the one who asked still waits for that.
"""

from collections.abc import Callable

from chucky.core.actions import Action, Level, Report, RequestDone
from chucky.core.events import StandbyRequested, TakeoverRequested
from chucky.core.ownership import STOP_LIMIT_MS, Ownership, State
from chucky.core.view import View
from chucky.settings import Settings

# Beyond the timeout, which a vacancy may take: a move, and a node that was only just started.
TAKEOVER_MARGIN_MS = 5_000

# One for each client of the control socket: who leaves before the end may come again.
MAX_PENDING = 64

Asked = TakeoverRequested | StandbyRequested


class Commands:
    """The requests under way; `own.wants` is whether one of them is a takeover."""

    def __init__(self, own: Ownership, emit: Callable[[Action], None]) -> None:
        self._own = own
        self._emit = emit
        self._pending: list[tuple[Asked, int]] = []  # with its time

    @property
    def pending(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._pending)

    def deadlines(self, now_ms: int) -> list[int]:
        """Return when each request is over."""
        return [until_ms for _, until_ms in self._pending if until_ms > now_ms]

    def request(self, asked: Asked, settings: Settings, now_ms: int) -> None:
        """Begin; `settle` tells the end."""
        if len(self._pending) >= MAX_PENDING:
            why = f"more than {MAX_PENDING} requests wait for their end; see: chucky status"
            self._emit(RequestDone(asked.request, False, why))
        elif isinstance(asked, StandbyRequested):
            self._own.stand_by(asked.on)
            self._pending.append((asked, now_ms + STOP_LIMIT_MS))
        else:
            # With timeout inf no vacancy ends by itself: there is nothing to wait out.
            wait_ms = (settings.distributed.timeout_ms or 0) + TAKEOVER_MARGIN_MS
            self._pending.append((asked, now_ms + wait_ms))

    def settle(self, view: View, status: str, tick: int) -> None:
        """End what is done, in vain or too late. `status`: the first line of `chucky status`;
        `tick`: that of our next Status, which tells the peers."""
        for asked, until_ms in list(self._pending):
            late = view.now_ms >= until_ms
            if isinstance(asked, TakeoverRequested):
                end = self._takeover(view, status, tick, late)
            else:
                end = self._standby(asked.on, status, late)
            if end is not None:
                self._pending.remove((asked, until_ms))
                self._emit(RequestDone(asked.request, *end))
        self._own.wants = any(isinstance(a, TakeoverRequested) for a, _ in self._pending)

    def give_up(self, why: str) -> None:
        """The node ends."""
        for asked, _ in self._pending:
            self._emit(RequestDone(asked.request, False, why))

    def _takeover(self, view: View, status: str, tick: int, late: bool) -> tuple[bool, str] | None:
        own = self._own
        why = _never_takes(view)
        # An owner that was paused looks first: it may find that it owns no more.
        if not why and own.running is not None and not view.listening:
            own.place(tick, view.now_ms)
            return True, f"{own.me} is the owner, epoch {own.running.number}, placed here"
        if not why and own.trouble:
            why = f"{own.me} cannot run {own.application}: {own.trouble}"
        # One that starts is past its waiting, and will soon serve or fail.
        if not why and late and own.state is not State.STARTING:
            why = f"not in time: {own.hold.why or status}"
        if not why:
            return None
        sentence = f"no takeover to {own.me}: {why}"
        self._emit(Report(Level.WARNING, sentence, "takeover", None, own.running))
        return False, sentence

    def _standby(self, on: bool, status: str, late: bool) -> tuple[bool, str] | None:
        own = self._own
        if on != own.on_standby:
            return False, f"overtaken: somebody asked {own.me} for standby {'off' if on else 'on'}"
        if not on:
            return True, f"{own.me} may own again; {status}"
        if own.state is State.STANDBY:
            return True, status
        if late:
            return False, f"{status}; it hands over as soon as another node can"
        return None


def _never_takes(view: View) -> str:
    """Why this node cannot be told to take the application now, or ""."""
    if view.nodes.tier(view.me) is None:
        return f"{view.me} is an observer, not in nodes"
    if view.stop_by_ms is not None:
        return f"{view.me} is stopping"
    if view.on_standby:
        return f"{view.me} is on standby; say first: chucky standby off"
    if view.running is None and view.mixed:
        statuses = {p.name: p.status for p in view.peers if p.status is not None}
        names = ", ".join(str(n) for n, s in statuses.items() if s.digest != view.digest)
        return f"node.toml differs from that of {names}; make the files the same"
    return ""
