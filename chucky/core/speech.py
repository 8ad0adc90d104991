"""What this node says of the ownership: its Status, to whom and when (design rule 2).

It goes to every peer with each tick and when there is news in it, and to a new link at once.
"""

from collections.abc import Callable

from chucky.core import snapshot as snapshots
from chucky.core.actions import Action, Send
from chucky.core.lease import Lease
from chucky.core.membership import Membership
from chucky.core.ownership import Ownership
from chucky.core.startup import Sync
from chucky.core.view import rests
from chucky.messages import MAX_NODES, Placed, Status

# An owner that was alone since its start lets the first that it meets speak first, for so long at
# most (docs/decisions/0024): a Status is sent at once on a new link.
LET_SPEAK_MS = 100


class Speech:
    """All that one node says; `emit` takes the actions."""

    def __init__(
        self,
        own: Ownership,
        members: Membership,
        lease: Lease | None,
        sync: Sync,
        emit: Callable[[Action], None],
        now_ms: int,
    ) -> None:
        self.tick_by_ms = now_ms + members.settings.node.tick_ms
        self.heard_tick = False  # a peer's Status came in this step
        self.alone = True  # nobody was heard or told anything before this step
        self._let_by_ms: int | None = None  # until when the first that is met may speak first
        self.ready_sent_ms: dict[int, int] = {}  # when each of our ticks that said `ready` was sent
        self._own = own
        self._members = members
        self._lease = lease
        self._sync = sync
        self._emit = emit
        self._rests = False  # whether the application does, as of the last `speak`
        self._news: object = None  # of what was said last
        self._ends: object = None  # of the ownerships in it
        self._greeted: set[int] = set()  # links that have had a Status
        self._grew_ms = now_ms  # when a link last came up, a tick time after the one before

    @property
    def _early_ms(self) -> int:
        # A tick goes out together with what woke this node, up to half a tick early, so that all
        # nodes come to tick at one time, and each to wake up once for all (docs/decisions/0007).
        return self._members.settings.node.tick_ms // 2 if self.heard_tick else 0

    def is_quiet(self, now_ms: int) -> bool:
        """Return whether there is an owner, no move is under way and nothing is to be said, as of
        the last `speak` and since: whether all that grew older is ages and ticks."""
        early = now_ms >= self.tick_by_ms - self._early_ms
        return self._rests and not early and self._ends == self._own.records.ends()

    def speak(self, now_ms: int) -> None:
        """Send what is due."""
        own, links, tick = self._own, self._members.links.values(), self._members.tick + 1
        if self.alone and links:
            if self._lets_speak(now_ms):
                return
            self.alone = False
        if own.running is not None:
            own.records.runs_here(own.running, own.incarnation, tick, now_ms)
        # A node that comes and goes does not make this one able for ever.
        new = not self._greeted.issuperset([k.id for k in links])
        if new and now_ms - self._grew_ms >= self._members.settings.tick_time_ms:
            self._grew_ms = now_ms
        status = self._status(tick, now_ms)
        self._rests = rests(status)
        due = now_ms >= self.tick_by_ms - self._early_ms
        said = status.news
        news = due or said != self._news
        probed = self._members.probed(tick)  # at once: a dead one's host resets its link then
        to = [k for k in links if news or k.id not in self._greeted or k.name in probed]
        if not news and not to:
            return
        if due:
            self.tick_by_ms = now_ms + self._members.settings.node.tick_ms
        self._news, self._ends = said, own.records.ends()
        self._greeted = {k.id for k in links}
        self._members.tick = tick
        if self._lease is not None:
            self._lease.sent(tick, now_ms)
        self._note_ready(status, now_ms)
        for link in to:
            link.asks(tick, now_ms)
            self._emit(Send(link.id, Status._make((tick, link.echo, *status[2:]))))

    def _lets_speak(self, now_ms: int) -> bool:
        if self._own.running is None or self.heard_tick:
            return False
        if self._let_by_ms is None:
            tick_time_ms = self._members.settings.tick_time_ms
            self._let_by_ms = self.tick_by_ms = now_ms + min(LET_SPEAK_MS, tick_time_ms // 2)
        return now_ms < self._let_by_ms

    def _note_ready(self, status: Status, now_ms: int) -> None:
        if status.ready is not None:
            self.ready_sent_ms[status.tick] = now_ms
        elif status.starting is None and not status.claim:
            self.ready_sent_ms.clear()  # who reads this takes it for a decline: so it is one
        for sent, at_ms in list(self.ready_sent_ms.items()):
            if now_ms - at_ms >= self._members.settings.tick_time_ms:
                del self.ready_sent_ms[sent]

    def _status(self, tick: int, now_ms: int) -> Status:
        """Return our Status, but for the echo, which each peer has its own of."""
        own, lease, settings = self._own, self._lease, self._members.settings
        listed = self._members.listed(own.me)
        # While links come up, others wait: after a heal the best has its majority in a moment.
        grows = now_ms - self._grew_ms < settings.tick_time_ms // 2
        able = own.able and (grows or not snapshots.lacks_majority(settings, self._members))
        hears = tuple(self._members.hears(now_ms)[:MAX_NODES])
        # In the order of its fields: by name they would take three times as long.
        return Status(
            tick, 0, settings.digest, snapshots.phase(own, self._sync, bool(hears)), listed,
            self._sync.synced and listed, able and listed and not own.on_standby,
            own.stop_by_ms is not None, own.highest, own.running, own.starting, own.ready,
            own.naming, own.records.signs(now_ms), hears, lease.claim if lease else 0,
            lease.backing if lease else None, own.wants, own.on_standby,
            Placed(own.placed_tick, now_ms - own.placed_ms) if own.placed_tick else None,
            own.anew if own.ready is not None else 0, own.began,
        )  # fmt: skip
