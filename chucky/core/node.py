"""One node: folds an event into what it knows, decides, and returns what is to be done.

    node = Node(settings, name, incarnation, now_ms)
    actions = node.step(event, now_ms)   # carry them out in order
    node.deadline()                      # step(Wake(), then) at this time, if nothing comes before

The first step looks around (rule 1), so make it at once. Not thread-safe; never raises on what a
peer sends. `settings.node.port` must be the port that links are really accepted on. Times are on
one clock of the caller's that never goes back and counts time asleep.
"""

from typing import assert_never

from chucky.core import events as ev
from chucky.core import snapshot as snapshots
from chucky.core.actions import Action, Announce, Close, Exit, Level, Report, Send, StopApplication
from chucky.core.beacons import Beacons
from chucky.core.commands import Commands
from chucky.core.connects import Connects
from chucky.core.differences import Differences
from chucky.core.lease import Lease
from chucky.core.link import Link
from chucky.core.membership import Membership
from chucky.core.ownership import STOP_LIMIT_MS, Ownership, State
from chucky.core.placements import Placements
from chucky.core.snapshot import Route, Snapshot
from chucky.core.speech import Speech
from chucky.core.startup import Look, Sync
from chucky.core.verdict import claimants, decide
from chucky.core.view import PeerView, View
from chucky.errors import EXIT_TEMPORARY
from chucky.messages import Beacon, Epoch, Goodbye, Hello, Holds, NameTaken, Status
from chucky.names import Address, NodeName
from chucky.settings import Settings

# After so many stalls, each during the look that followed the one before, an owner stands aside: it
# has not served for as many tick times, and nobody else does while it says that it runs.
STALLS = 4
NO_PROCESSOR = "this machine lets it run for moments only"
GOODBYE_TEXT = 1000  # it may name all mandatory nodes, however many and long
MAX_VERDICTS = 8  # a step settles in two or three; more would be two rules that undo each other


class Node:
    """The whole core of one node; see the module."""

    def __init__(self, settings: Settings, name: NodeName, incarnation: int, now_ms: int) -> None:
        self._settings = settings
        self._me = name
        self._incarnation = incarnation
        self._out: list[Action] = []
        self._exited = False
        self._deadline_ms: int | None = now_ms  # the first step is due at once
        self._started_ms = self._stepped_ms = now_ms
        self._has_news = True
        self._beacons = Beacons(name, now_ms)
        self._look = Look(settings.tick_time_ms)
        self._sync = Sync(settings, name, now_ms)
        d = settings.distributed
        self._lease: Lease | None = None
        if d.quorum == "majority" and d.nodes.tier(name) is not None:  # an observer has no vote
            assert d.timeout_ms is not None
            self._lease = Lease(name, incarnation, d.timeout_ms, now_ms)
        self._own = Ownership(
            name, incarnation, d.application, self._lease, settings.tick_time_ms, self._emit
        )
        self._members = Membership(
            settings, name, incarnation, self._look, now_ms,
            self._emit, self._name_taken, self._link_ended, self._own.records.died,
        )  # fmt: skip
        self._speech = Speech(self._own, self._members, self._lease, self._sync, self._emit, now_ms)
        self._connects = Connects(self._members, self._emit)
        self._commands = Commands(self._own, self._emit)
        self._placements = Placements(settings.tick_time_ms, now_ms)
        self._differences = Differences(self._emit)
        self._look_around(now_ms)
        if settings.distributed.nodes.tier(name) is None:
            sentence = f"{name} is not in nodes: it is an observer, it relays and never owns"
            self._emit(Report(Level.WARNING, sentence, "observer"))

    # The surface.

    def step(self, event: ev.Event, now_ms: int) -> list[Action]:
        """Take an event at `now_ms` and return the actions to carry out, in order."""
        assert now_ms >= self._stepped_ms, "the clock went back"
        if self._exited:
            return []
        gap_ms = now_ms - self._stepped_ms
        if gap_ms >= self._settings.tick_time_ms // 2:
            self._members.stalled(now_ms)
        if gap_ms >= self._settings.tick_time_ms:
            self._members.slept()
            self._look_around(now_ms)  # much may have happened meanwhile: listen, then judge
            # On standby it gives it away to anyone who is able, in the first of its moments.
            own = self._own
            if self._look.begun >= STALLS and own.running is not None and not own.on_standby:
                self._emit(StopApplication())
                own.application_failed(NO_PROCESSOR, now_ms)
        self._stepped_ms = now_ms
        self._has_news, self._speech.heard_tick = True, False
        self._fold(event, now_ms)
        if not self._has_news:
            return []
        self._settle(event.read_ms(now_ms) if isinstance(event, ev.Wake) else None, now_ms)
        self._deadline_ms = min(self._deadlines(now_ms), default=None)
        assert self._deadline_ms is None or self._deadline_ms > now_ms, "the caller would spin"
        out, self._out = self._out, []
        return out

    @property
    def news(self) -> bool:
        """Whether the last step may have changed what the deadline, the route and the sentence are;
        when not, those of the step before may be kept."""
        return self._has_news

    def deadline(self) -> int | None:
        """Return when to step with Wake if nothing happens before; None after Exit."""
        return self._deadline_ms

    def _deadlines(self, now_ms: int) -> list[int]:
        if self._exited:
            return []
        times = [self._speech.tick_by_ms, self._beacons.by_ms, *self._members.deadlines(now_ms)]
        if self._look.goes_on:
            times.append(self._look.deadline())
        sync_ms = self._sync.deadline_ms
        if not self._sync.synced and sync_ms is not None and sync_ms > now_ms:
            times.append(sync_ms)
        times += [t for t in (self._own.hold.until_ms, self._own.retry_ms) if t is not None]
        if self._lease is not None:
            times += self._lease.deadlines(now_ms)
        return times + self._commands.deadlines(now_ms)

    @property
    def running(self) -> Epoch | None:
        """The epoch under which the application runs here."""
        return self._own.running

    def heeds(self, beacon: Beacon) -> bool:
        """Return whether a beacon of another node is worth a step: most are of linked peers."""
        return self._members.heeds(beacon)

    @property
    def route(self) -> Route:
        """The part of the snapshot that says where a request is answered, for a tenth of it."""
        return snapshots.route(
            self._settings, self._members, self._own, self._look, self._stepped_ms
        )

    @property
    def sentence(self) -> str:
        """The snapshot's sentence, as cheap."""
        return snapshots.sentence(
            self._settings, self._members, self._own, self._sync, self._look, self._stepped_ms
        )

    def snapshot(self) -> Snapshot:
        """Return what this node believes, as of its last step."""
        return snapshots.take(
            self._settings, self._members, self._own, self._sync, self._look,
            self._differences.keys, self._stepped_ms,
        )  # fmt: skip

    # Folding events.

    def _fold(self, event: ev.Event, now_ms: int) -> None:
        match event:
            case ev.Wake():
                pass
            case ev.MessageReceived(link, message):
                self._message(link, message, now_ms)
            case ev.BeaconHeard(beacon, source):
                self._members.beacon(beacon, source, now_ms)
                self._has_news = not self._is_idle(now_ms)
            case ev.LinkBegan(link, name, incarnation):
                next_tick = self._members.tick + 1
                self._look.handshake_began(link, (name, incarnation), next_tick, now_ms)
                self._has_news = self._is_due(now_ms)
            case ev.LinkUp(id, name, incarnation, address):
                patience_ms = self._settings.tick_time_ms  # until its Hello tells more
                up = Link(id, name, incarnation, address, now_ms, now_ms, patience_ms)
                self._link_up(up, now_ms)
            case ev.LinkDown(id, why, name, address):
                known, waits = self._members.knows(id), self._members.newcomer(id)
                if waits is not None:
                    self._owner_ended(waits, now_ms)
                self._members.link_down(id, why, name, address, now_ms)
                self._has_news = known or self._is_due(now_ms)
                self._connects.ended(id, None, why.value)
            case ev.ApplicationReady():
                self._own.application_ready()
            case ev.ApplicationStarted(epoch):
                self._own.application_started(epoch, now_ms)
            case ev.ApplicationFailed(why):
                self._own.application_failed(why, now_ms)
            case ev.AddressesChanged(addresses, came_up):
                self._members.hellos.addresses = addresses
                if came_up:
                    self._look.interface_came_up(now_ms)
                    self._emit(Announce(asks=True))
            case ev.PeersConfigured(addresses):
                self._members.contacts.configure(addresses, now_ms)
            case ev.ConnectRequested():
                self._connects.request(event, now_ms)
            case ev.TakeoverRequested() | ev.StandbyRequested():
                if self._own.on_standby and event == ev.StandbyRequested(event.request, False):
                    self._placements.came_off_standby(now_ms)
                self._commands.request(event, self._settings, now_ms)
            case ev.Reloaded(settings):
                self._settings = self._members.settings = settings
                self._own.retry_now(now_ms)
            case ev.ShutdownRequested():
                if self._own.stop_by_ms is None:
                    self._own.stop_by_ms = now_ms + STOP_LIMIT_MS
            case _:
                assert_never(event)

    def _link_up(self, link: Link, now_ms: int) -> None:
        self._members.link_up(link, now_ms)
        self._connects.ended(link.id, link.name, "")
        if link.name != self._me:
            self._sync.saw(link.name)

    def _message(self, id: int, message: object, now_ms: int) -> None:
        match message:
            case Status():
                link = self._members.status(id, message, now_ms)
                waits = self._members.newcomer(id)
                spoke = link or waits  # who waits is told no tick: it counts on a link made since
                if spoke is not None and message.echo >= spoke.since_tick:
                    self._look.heard(spoke.name, spoke.incarnation, message.echo)
                if link is not None:
                    self._speech.heard_tick = True
                    binding = self._placements.binding
                    slow = self._hear(link, message, now_ms)
                    repeats = link.repeats and not slow and binding == self._placements.binding
                    self._has_news = not (repeats and self._is_quiet(now_ms))
                elif waits is not None:
                    self._hear_owner(waits, message, now_ms)  # whoever has the name
            case Hello():
                known = not self._members.hello(id, message, now_ms)
                self._has_news = not (known and self._is_idle(now_ms))
            case NameTaken(address):
                self._name_taken(address)
            case Goodbye():
                link = self._members.by_id(id)
                if link is not None:
                    link.leaving = True
                    if link.status is not None and link.status.running is not None:
                        # It stops, then says so.
                        self._own.records.released(link.status.running, link.incarnation)

    def _is_due(self, now_ms: int) -> bool:
        """Whether there is something to do whatever the event was."""
        assert self._deadline_ms is not None
        return bool(self._out) or self._look.goes_on or now_ms >= self._deadline_ms

    def _is_idle(self, now_ms: int) -> bool:
        """Whether there is nothing to do, not even to dial, if who is up said nothing new."""
        return not (self._is_due(now_ms) or self._members.contacts.is_due(now_ms))

    def _is_quiet(self, now_ms: int) -> bool:
        """Whether a Status that repeats the one before changes nothing (docs/decisions/0015)."""
        claims = self._lease is not None and self._lease.claim != 0
        return not (self._is_due(now_ms) or claims) and self._speech.is_quiet(now_ms)

    def _hear(self, link: Link, status: Status, now_ms: int) -> bool:
        """Take what a peer's Status says of ownerships; return whether it answers in time, if that
        is news, since a lease takes that."""
        own, records = self._own, self._own.records
        self._hear_owner(link, status, now_ms)
        if self._members.listed(link.name):
            self._placements.hear(link.name, link.incarnation, status, now_ms)
        for sign in status.signs:
            own.heard_of(sign.epoch)
            if (sign.epoch.node, sign.incarnation) == (self._me, self._incarnation):
                continue
            if sign.epoch == own.running:
                # An earlier start of this node had this very epoch: go on above it.
                own.heard_of(Epoch(sign.epoch.number + 1, sign.epoch.node))
            else:
                records.merge(sign, now_ms)
        for heard in status.hears:
            own.heard_of(heard.epoch)
        if self._lease is not None:
            votes = status.listed and self._members.listed(link.name)
            self._lease.hear(PeerView(link.name, link.incarnation, status), votes, now_ms)
            return link.answers(status.echo, self._lease.slow_ms, now_ms)
        return False

    def _hear_owner(self, link: Link, status: Status, now_ms: int) -> None:
        """Take that these epochs were, and that an owner which says so lives: the timeout counts
        from here (S4)."""
        self._own.heard_of(status.highest)
        if status.running is not None:
            self._own.heard_of(status.running)
            self._own.records.running(status.running, link.incarnation, status.tick, now_ms)

    def _link_ended(self, link: Link, heard: bool, newcomer: Link | None) -> None:
        if heard:
            self._owner_ended(link, self._stepped_ms)
        self._differences.forget(link.name)
        if newcomer and newcomer.status:  # said while it waited, it counts from now on
            self._hear(newcomer, newcomer.status, newcomer.heard_ms)

    def _owner_ended(self, link: Link, now_ms: int) -> None:
        """The end of a link is a sign of the owner's life, whoever has its name (S4)."""
        if link.status is not None and link.status.running is not None:
            self._own.records.ended(link.status.running, link.incarnation, now_ms)

    def _name_taken(self, address: Address) -> None:
        self._own.give_up()
        sentence = f"the name {self._me} is taken by the node at {address}; stop one of the two"
        self._exit(EXIT_TEMPORARY, sentence)

    # Settling: all that follows from what is known now.

    def _settle(self, read_ms: int | None, now_ms: int) -> None:
        if self._exited:
            return
        if self._members.settle(read_ms, now_ms):
            self._differences.compare(self._members.links.values(), self._settings)
        self._own.retry(now_ms)
        if self._beacons.due(self._members.links, self._settings, now_ms):
            self._emit(Announce(asks=False))
        looking = not self._look.over(now_ms)
        synced = self._sync.synced
        missing = None if synced else self._sync.settle(self._members.formed(), looking, now_ms)
        if missing is not None:
            names = ", ".join(map(str, missing.nodes))
            way_out = "start them, or take them off sync_nodes_mandatory"
            self._exit(EXIT_TEMPORARY, f"mandatory nodes are missing: {names}; {way_out}")
            return
        self._command(now_ms)
        self._decide(now_ms)
        self._command(now_ms)
        stopped = self._own.stop_by_ms is not None and self._own.state is State.STANDBY
        self._speech.speak(now_ms)
        if stopped:
            self._exit(0, "stopped")

    def _decide(self, now_ms: int) -> None:
        if self._speech.alone:
            self._own.knew_nobody()
        for _ in range(MAX_VERDICTS):
            view = self._view(now_ms)
            if self._lease is not None:
                self._lease.settle(claimants(view, self._lease.claim), now_ms)
                view.lease = self._lease.view(view.nodes.size, now_ms)
            alive = [h.epoch for h in view.holders if h.holds is Holds.RUNNING]
            self._own.records.succeed([*alive, self._own.running] if self._own.running else alive)
            if not self._own.apply(decide(view), self._members.tick + 1, now_ms):
                return
        raise AssertionError("verdicts that undo each other")

    def _command(self, now_ms: int) -> None:
        if self._commands.pending:
            tick = self._members.tick + 1
            self._commands.settle(self._view(now_ms), self.sentence, tick)

    def _view(self, now_ms: int) -> View:
        d, own = self._settings.distributed, self._own
        peers, down = self._members.views(now_ms)
        # Where all answer too late, who says so may still be in time.
        others = self._lease is not None and any([peer.able for peer in peers])
        able = own.able and not snapshots.lacks_majority(self._settings, self._members, others)
        # In the order of its fields: by name they would take three times as long.
        return View(
            self._me, self._incarnation, d.nodes, self._settings.digest, d.timeout_ms,
            self._settings.tick_time_ms, d.takeover, d.takeover_delay_ms, now_ms,
            self._placements.free_ms, self._look.goes_on, self._sync.synced, able,
            own.stop_by_ms, own.highest, own.running, own.starting, own.naming, own.naming_tick,
            self._speech.ready_sent_ms, tuple(own.records), peers, down,
            own.asked_tick, own.asked_by_ms, own.wants, own.on_standby, own.placed_tick,
            self._placements.binding, own.lapsed, own.aside_ms, own.declined,
            self._speech.alone, own.began,
        )  # fmt: skip

    # Speaking.

    def _look_around(self, now_ms: int) -> None:
        self._look.begin(now_ms)
        self._emit(Announce(asks=True))

    def _exit(self, code: int, sentence: str) -> None:
        self._commands.give_up(sentence)
        self._connects.give_up(sentence)
        for link in self._members.links.values():
            self._emit(Send(link.id, Goodbye(sentence[:GOODBYE_TEXT])))
            self._emit(Close(link.id))
        self._emit(Exit(code, sentence))
        self._exited = True

    def _emit(self, action: Action) -> None:
        self._out.append(action)
