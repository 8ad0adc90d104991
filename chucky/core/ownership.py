"""What this node holds of the application, and the transitions that a verdict causes.

Everything that changes who holds the application is in TRANSITIONS: state, verdict, sentence,
effect. A pair that is not in the table cannot come up; if it does, that is a bug and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from chucky.core.actions import (
    Action,
    Level,
    Prepare,
    Report,
    StartApplication,
    StopApplication,
)  # fmt: skip
from chucky.core.lease import Lease
from chucky.core.vacancy import Records
from chucky.core.verdicts import (
    Advance,
    Claim,
    GetReady,
    Hold,
    Lapse,
    Name,
    Release,
    Resume,
    Run,
    Start,
    Succeed,
    Succeeded,
    Verdict,
    Withdraw,
    Yield,
)  # fmt: skip
from chucky.messages import Epoch, Naming
from chucky.names import NodeName

BACKOFF_MS = 1000  # doubled with each failure in a row
PREPARE_LIMIT_MS = 5_000  # a port that is freed, a file that is back: look often, it costs a bind
FAILURE_LIMIT_MS = 60_000  # an application that fails while it runs moves at most once a minute
PROVEN_MS = 60_000  # having run this long, its earlier failures are forgotten
EPOCH_LIMIT = 2**63  # half of the codec's numbers: no peer, however ill, can use them up
STOP_LIMIT_MS = 5_000  # rule 5: how long a stopping owner waits for a successor


class State(Enum):
    """What this node holds."""

    STANDBY = "standby"
    STARTING = "starting"
    OWNER = "owner"
    YIELDING = "yielding"


class Ownership:
    """One node's part in the ownership; `emit` takes the actions."""

    def __init__(
        self,
        me: NodeName,
        incarnation: int,
        application: str,
        lease: Lease | None,
        tick_time_ms: int,
        emit: Callable[[Action], None],
    ) -> None:
        self.me = me
        self.incarnation = incarnation
        self.application = application
        self.records = Records()
        self.highest: Epoch | None = None
        self.running: Epoch | None = None
        self.began = 0  # with running or starting: as in Status
        self.starting: Epoch | None = None
        self.asked_tick = self.asked_by_ms = 0  # while the peers have yet to hear of `starting`
        self.naming: Naming | None = None
        self.naming_tick = 0
        self.ready: Epoch | None = None
        self.anew = 0  # with ready, as in Status
        self.stop_by_ms: int | None = None
        self.lease = lease
        self.lapsed: Epoch | None = None
        self.aside_ms: int | None = None  # since when it stands aside
        self.declined: dict[tuple[NodeName, int], int] = {}
        self.wants = False  # a takeover to this node is asked for
        self.on_standby = False
        self.placed_tick = self.placed_ms = 0  # since when it is placed here; 0: it is not
        self.hold = Hold()
        self.prepared = False
        self.retry_ms: int | None = None
        self.trouble = ""  # why the application cannot run here
        self._tick_time_ms = tick_time_ms
        self._emit = emit
        self._readying: Epoch | None = None
        self._cause = "start"  # of the last transition
        self._moved = ""  # the sentence that precedes "Application is started"
        self._declines = self._failures = 0  # in a row
        self._started_ms = 0
        self._emit(Prepare())

    @property
    def state(self) -> State:
        """What this node holds now."""
        if self.running is not None:
            return State.OWNER
        if self.naming is not None:
            return State.YIELDING
        return State.STANDBY if self.starting is None else State.STARTING

    @property
    def able(self) -> bool:
        """Whether the application could start here now."""
        return self.prepared and self.stop_by_ms is None

    def heard_of(self, epoch: Epoch | None) -> None:
        """Remember the highest epoch heard of."""
        if epoch is not None and epoch.number < EPOCH_LIMIT:
            if self.highest is None or epoch > self.highest:
                self.highest = epoch

    def knew_nobody(self) -> None:
        """It began where it was alone: no number of others was known, so it is as one that begins
        above the highest that they tell of now."""
        if self.highest is not None and self.highest not in (self.running, self.starting):
            self.began = self.highest.number + 1

    def _new_epoch(self) -> Epoch:
        self.highest = Epoch(1 if self.highest is None else self.highest.number + 1, self.me)
        return self.highest

    def apply(self, verdict: Verdict, tick: int, now_ms: int) -> bool:
        """Carry out a verdict; return whether anything changed. `tick` is that of our next Status,
        which tells the peers."""
        if not isinstance(verdict, GetReady):
            self.ready = self._readying = None
        self.hold = verdict if isinstance(verdict, Hold) else Hold()
        if self.hold.aside:
            self.aside_ms = now_ms if self.aside_ms is None else self.aside_ms
        elif not self.hold.passing and not isinstance(verdict, (Claim, GetReady, Start)):
            self.aside_ms = None
        state, claimed = self.state, self.lease.claim if self.lease else 0
        claims = self.hold.passing or isinstance(verdict, (Claim, Start, Succeed, Resume))
        if self.lease and not claims and state in (State.STANDBY, State.YIELDING):
            self.lease.withdraw()
        row = TRANSITIONS[state][type(verdict)]
        if row.effect is None:
            return self.lease is not None and self.lease.claim != claimed  # its own vote is free
        before = (state, self.running, self.asked_tick)
        self._cause = row.cause or self._cause
        if row.sentence:
            words = {"me": self.me, "running": self.running, "verdict": verdict}
            self._report(row.level, row.sentence.format(**words), self.running)
        row.effect(self, verdict, tick, now_ms)
        claim = self.lease.claim if self.lease else 0
        return (self.state, self.running, self.asked_tick) != before or claim != claimed

    # What the application did.

    def application_ready(self) -> None:
        """It could start now."""
        self.prepared = True
        self.trouble = ""
        self.ready, self._readying = self._readying, None

    def application_started(self, epoch: Epoch, now_ms: int) -> None:
        """It answers under this epoch."""
        if self.starting != epoch:
            return
        self.running, self.starting = epoch, None
        self._started_ms = now_ms
        self.records.runs_here(epoch, self.incarnation, 0, now_ms)
        if self._moved:
            self._report(Level.INFO, self._moved, epoch)
        self._report(Level.INFO, f"Application is started on {self.me}", epoch)

    def application_failed(self, why: str, now_ms: int) -> None:
        """It cannot get ready, cannot start, or stopped by itself: stand aside for a while (L7)."""
        limit_ms = PREPARE_LIMIT_MS
        self._cause, epoch = "failure", self.running or self.starting
        if self.running is not None:
            self.records.ended(self.running, self.incarnation, now_ms)
            self._report(Level.ERROR, f"Application {self.application} exited: {why}", epoch)
        if self.running is not None or self.starting is not None:
            limit_ms = FAILURE_LIMIT_MS
            if self.running is not None and now_ms - self._started_ms >= PROVEN_MS:
                self._failures = 0
        self.running = self.starting = self.ready = self._readying = None
        self.asked_tick = self.placed_tick = 0
        if self.lease:
            self.lease.withdraw()
        self.prepared = False
        wait_ms = min(BACKOFF_MS << min(self._failures, 6), limit_ms)
        self._failures += 1
        self.retry_ms = now_ms + wait_ms
        if why != self.trouble:
            what = f"cannot run {self.application}: {why}; it stands aside, then retries"
            self._report(Level.ERROR, f"{self.me} {what}", epoch)
        self.trouble = why

    def stand_by(self, on: bool) -> None:
        """From now on give it away and do not take it, or (off) own again."""
        if on != self.on_standby:
            self.on_standby = on
            what = f"gives {self.application} away and does not take it" if on else "may own again"
            sentence = f"{self.me} is {'on' if on else 'off'} standby: it {what}"
            self._emit(Report(Level.INFO, sentence, "standby", None, self.running))

    def place(self, tick: int, now_ms: int) -> None:
        """It runs here, and stays until a better node starts anew; `tick` tells the peers."""
        self.placed_tick, self.placed_ms = tick, now_ms
        sentence = f"Application {self.application} is placed on {self.me}"
        self._emit(Report(Level.INFO, sentence, "takeover", None, self.running))

    def give_up(self) -> None:
        """Stop at once and in good order: this node is about to exit."""
        if self.running is not None:
            self._cause = "stop"
            self.records.released(self._stop(), self.incarnation)

    def retry_now(self, now_ms: int) -> None:
        """An administrator may have mended what kept the application from running."""
        if self.retry_ms is not None:
            self.retry_ms = now_ms

    def retry(self, now_ms: int) -> None:
        """Get ready anew when the back-off is over."""
        if self.retry_ms is not None and now_ms >= self.retry_ms:
            self.retry_ms = None
            self._emit(Prepare())
        elif self.running is not None and now_ms - self._started_ms >= PROVEN_MS:
            self._failures = 0

    def _report(self, level: Level, sentence: str, epoch: Epoch | None) -> None:
        self._emit(Report(level, sentence, self._cause, None, epoch))

    # What a verdict does.

    def _get_ready(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        assert isinstance(verdict, GetReady)
        self.anew = verdict.anew
        if verdict.epoch not in (self.ready, self._readying):
            self.ready, self._readying = None, verdict.epoch
            self._emit(Prepare())

    def _start(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        self._moved = ""
        if isinstance(verdict, Start) and verdict.lost is not None:
            self._cause = "failover"
            self._moved = f"{verdict.lost} is failing over to {self.me}"
        elif isinstance(verdict, Succeed):
            self._moved = f"{self.me} is taking over {verdict.old}"
        if self.naming is not None:
            self._was_declined(self.naming, now_ms)
            self.records.released(self.naming.epoch, self.incarnation)
            self.naming = None
        self.starting = self._new_epoch()
        self.began = self.starting.number
        if self.lease is None and isinstance(verdict, Start):
            # A lease, or having been named, keeps all others away; else the peers have to hear. One
            # that is up and does not has not heard this node either: it ends the link by then.
            self.asked_tick, self.asked_by_ms = tick, now_ms + 2 * self._tick_time_ms
        else:
            self._run(verdict, tick, now_ms)

    def _was_declined(self, naming: Naming, now_ms: int) -> None:
        """What keeps a successor from starting may last: at first it may be named at once, then
        after a while only."""
        self.declined = {w: t for w, t in self.declined.items() if now_ms - t < PROVEN_MS}
        self._declines = self._declines + 1 if self.declined else 0
        wait_ms = BACKOFF_MS << min(self._declines - 1, 3) if self._declines else 0
        self.declined[naming.successor, naming.incarnation] = now_ms + wait_ms

    def _run(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        assert self.starting is not None
        self.asked_tick = 0
        self._emit(StartApplication(self.starting))

    def _withdraw(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        self.starting = None
        self.asked_tick = 0

    def _stop(self) -> Epoch:
        assert self.running is not None
        epoch, self.running = self.running, None
        self.placed_tick = 0
        if self.lease:
            self.lease.withdraw()
        self._emit(StopApplication())
        self._report(Level.INFO, f"Application {self.application} exited: stopped", epoch)
        return epoch

    def _claim(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        assert self.lease is not None and isinstance(verdict, Claim)
        self.lease.make_claim()
        if now_ms < self.lease.free_from_ms:
            why = "who has just started backs nobody for one timeout"
            self.hold = Hold(why, self.lease.free_from_ms)
        else:
            self.hold = Hold(verdict.lacks)

    def _lapse(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        self.lapsed = self._stop()
        self.records.lapsed(self.lapsed)

    def _name(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        assert isinstance(verdict, Name)
        epoch = self._stop()
        self.naming = Naming(epoch, verdict.successor, verdict.incarnation, verdict.ready_tick)
        self.naming_tick = tick
        self.records.named(self.naming)

    def _release(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        if self.running is not None:
            self.records.released(self._stop(), self.incarnation)
        elif self.naming is not None:
            assert isinstance(verdict, Release)
            if not verdict.in_doubt:
                self.records.released(self.naming.epoch, self.incarnation)
            self.naming = None

    def _succeeded(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        assert self.naming is not None
        self.records.released(self.naming.epoch, self.incarnation)
        self.naming = None

    def _advance(self, verdict: Verdict, tick: int, now_ms: int) -> None:
        self.running = self._new_epoch()
        self.records.runs_here(self.running, self.incarnation, tick, now_ms)


@dataclass(frozen=True, slots=True)
class Row:
    """One transition: its words, for the log and the status, and what it does."""

    sentence: str = ""
    level: Level = Level.INFO
    effect: Callable[[Ownership, Verdict, int, int], None] | None = None
    cause: str = ""  # one word for it, for tools


_STAY = Row()
TRANSITIONS: dict[State, dict[type[Verdict], Row]] = {
    State.STANDBY: {
        Hold: _STAY,
        GetReady: Row("", Level.DEBUG, Ownership._get_ready),
        Claim: Row("", Level.DEBUG, Ownership._claim),
        Start: Row("", Level.INFO, Ownership._start, "start"),
        Succeed: Row("", Level.INFO, Ownership._start, "takeover"),
    },
    State.STARTING: {
        Hold: _STAY,
        Run: Row("", Level.DEBUG, Ownership._run),
        Withdraw: Row("", Level.DEBUG, Ownership._withdraw),
    },
    State.OWNER: {
        Hold: _STAY,
        Name: Row(
            "{me} hands over to {verdict.successor}", Level.INFO, Ownership._name, "handover"
        ),
        Yield: Row(
            "{me} yields to {verdict.to}, which stands better",
            Level.WARNING,  # there were two owners
            Ownership._release,
            "yield",
        ),
        Advance: Row(
            "{me} goes on under a new epoch: it has heard of one above {running}",
            Level.INFO,
            Ownership._advance,
            "advance",
        ),
        Lapse: Row(
            "{me} stops: fewer than a majority of the nodes back it",
            Level.WARNING,
            Ownership._lapse,
            "lapse",
        ),
        Release: Row(
            "{me} stops with nobody to hand over to", Level.INFO, Ownership._release, "stop"
        ),
    },
    State.YIELDING: {
        Hold: _STAY,
        Claim: Row("", Level.DEBUG, Ownership._claim),
        Succeeded: Row(
            "{verdict.by} has taken over", Level.DEBUG, Ownership._succeeded, "handover"
        ),
        Resume: Row(
            "{me} takes it back: its successor did not start",
            Level.WARNING,
            Ownership._start,
            "resume",
        ),
        Release: Row("", Level.INFO, Ownership._release),
    },
}
