"""Watches a cluster, gathers what is true, and has each S-promise checked after every step."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.messages import End, Epoch, Holds, Naming, Status
from chucky.names import NodeName
from chucky.settings import Settings
from tests.sim import inside, links, liveness, safety
from tests.sim.clock import MS
from tests.sim.cluster import Cluster, Watch
from tests.sim.host import Host
from tests.sim.orders import Administrators

# Two hear each other on paths that got slower by a part of a tick time, there and back: unless no
# dial there is answered before it is abandoned (rule 4).
SLOW = 4
# A link of before a machine moved stands until it is silent, which a process that was paused finds
# out when it goes on; and only beacons tell where that machine is now (docs/decisions/0009).
HINT_US = 1000 * MS
# Lives of seven nodes with many faults have 20 starts in five seconds at most, with two takeovers
# asked for each 300 ms, and 2,000 steps in one.
STARTS, STARTS_US = 60, 5000 * MS
STEPS, STEPS_US = 10_000, 1000 * MS

Ownership = tuple[Epoch, int]  # with its owner's incarnation


@dataclass
class Life:
    """What one incarnation has heard and said."""

    sync: safety.Syncing
    settings: Settings  # as it was told: a paused node reads a reload when it goes on
    heard: Epoch | None = None  # the highest epoch
    ran: Epoch | None = None  # the highest that it was told runs: older ones are succeeded
    signs: dict[Ownership, tuple[int, int]] = field(default_factory=dict)  # tick, link ended at us
    told_us: dict[Ownership, int] = field(default_factory=dict)  # when a third one told of a sign
    statuses: dict[int, Status] = field(default_factory=dict)  # the newest, by link
    links: dict[int, str] = field(default_factory=dict)  # that are up: the machine there
    first: dict[NodeName, str] = field(default_factory=dict)  # the machine whose link came first
    freed_us: dict[str, int] = field(default_factory=dict)  # when a first one had none any more
    named: bool = False  # it was told of a naming of itself, and did not start since
    named_by: Naming | None = None  # that naming
    named_us: int = 0  # and when it was first told of it
    naming: Naming | None = None  # its own, as it says
    begun: Epoch | None = None  # the last that it said it starts
    stop_us: int | None = None  # when it was asked to stop
    lapses: bool = False  # it says that its lease is over: that is no end in good order
    wakes: bool = False  # nothing happened but time: what it closes now was silent


class Witness(Watch):
    """See the module. `slack_us`: what a handshake and a Status take on this network. Raises
    AssertionError with the promise's sentence."""

    def __init__(self, cluster: Cluster, slack_us: int = 8 * MS, majority: bool = False) -> None:
        self.cluster = cluster
        self.slack_us = slack_us
        self.majority = majority
        self.sent_us: dict[Ownership, dict[int, int]] = {}  # when each tick that runs it was sent
        self.given_up: set[Ownership] = set()  # in good order
        self.lives: dict[str, Life] = {}
        self.served: dict[Epoch, str] = {}
        self.checks = 0
        self.started_us: deque[int] = deque(maxlen=STARTS)
        self.paced_us = 0  # when STEPS of the checks were last done
        self.administrators = Administrators(cluster)  # who looks before this one does
        cluster.watch(self)

    # What is true.

    def heard_us(self, one: str, other: str) -> int | None:
        """Return for how long the two have heard each other, or one third node both."""
        hosts = self.cluster.hosts
        times = [self._pair_us(hosts[one], hosts[other])]
        for third in hosts.values():
            if third.key not in (one, other):
                both = (self._pair_us(third, hosts[one]), self._pair_us(third, hosts[other]))
                times.append(None if None in both else min(b for b in both if b is not None))
        return max((t for t in times if t is not None), default=None)

    def _pair_us(self, one: Host, other: Host) -> int | None:
        if not one.lives or not other.lives or one.cookie != other.cookie:
            return None
        lan = self.cluster.lan
        there, back = lan.path(one, other), lan.path(other, one)
        extra_us = there.extra_us + back.extra_us
        round_us = there.base_us + there.jitter_us + back.base_us + back.jitter_us + extra_us
        silence_us = max(one.settings.tick_time_ms, other.settings.tick_time_ms) * MS
        too_slow = extra_us > silence_us // SLOW or round_us >= links.CONNECT_US
        if there.cut or back.cut or (extra_us and too_slow):
            return None
        # Nodes that do not list each other may back off for a minute.
        lists = one.settings.distributed.nodes, other.settings.distributed.nodes
        if lists[0].tier(other.name) is None and lists[1].tier(one.name) is None:
            return None
        if one.name == other.name:
            return None  # they refuse each other: S2 and rule 10 say so
        since_us = max(one.alive_us, other.alive_us, there.clear_us, back.clear_us)
        since_us = max(since_us, self._waits_us(one, other), self._waits_us(other, one))
        if one.moved or other.moved:
            since_us += silence_us + HINT_US
        # As slack_us: a handshake and a Status each way.
        return max(0, self.cluster.time.now_us - since_us - 10 * extra_us)

    def _waits_us(self, one: Host, other: Host) -> int:
        """Return until when a link with another machine of its name stood before the other's: who
        comes second waits until the first is silent (rule 10, docs/decisions/0011)."""
        if not self.cluster.twins:
            return 0
        life, hosts = self.lives[one.key], self.cluster.hosts
        if life.first.get(other.name, other.key) != other.key:
            return self.cluster.time.now_us
        twins = [key for key in life.freed_us if key != other.key]
        return max((life.freed_us[k] for k in twins if hosts[k].name == other.name), default=0)

    def last_sign(self, host: Host) -> safety.Sign | None:
        """Return what S4 counts from for a node that starts now."""
        signs = dict(self.lives[host.key].signs)
        for other in self.cluster.hosts.values():
            if other is not host and other.lives:
                since_us = self._pair_us(host, other)
                if since_us is not None and since_us > safety.HEALED_US + self.slack_us:
                    for key, sign in self.lives[other.key].signs.items():
                        # What it has heard just now is yet under way to this node, and what it was
                        # told it passes on with its next tick.
                        sent_us = self.sent_us.get(key, {}).get(sign[0], 0)
                        told_us = self.lives[other.key].told_us.get(key, 0)
                        passed_us = told_us and told_us + other.settings.node.tick_ms * MS
                        at_us = max(sent_us, sign[1], passed_us)
                        late_us = self.cluster.lan.path(other, host).extra_us
                        if self.cluster.time.now_us - at_us > self.slack_us // 4 + late_us:
                            signs[key] = _later(signs.get(key, (0, 0)), sign)
        # A partition may have had two owners. "The owner" is then who lived last, or the one of
        # the highest epoch, which succeeded the others: what holds for either is enough.
        found = [
            (max(self.sent_us.get(key, {}).get(tick, 0), ended_us), key, tick)
            for key, (tick, ended_us) in signs.items()
        ]
        if not found or self._is_back(host, signs):
            return None
        owners = max(found), max(found, key=lambda f: f[1])
        if any(key in self.given_up or key[0].node == host.name for _, key, _ in owners):
            return None
        at_us, key, tick = min(owners)
        return safety.Sign(key[0], tick, at_us)

    def _is_back(self, host: Host, signs: dict[Ownership, tuple[int, int]]) -> bool:
        """Whether this node itself lost an ownership and the timeout is inf: it waits for nobody,
        whoever was lost last (docs/decisions/0014)."""
        life = self.lives[host.key]
        own = [k for k in signs if k[0].node == host.name and k not in self.given_up]
        succeeded = life.ran is not None and all(epoch < life.ran for epoch, _ in own)
        return bool(own) and life.settings.distributed.timeout_ms is None and not succeeded

    # Gathering.

    def began(self, host: Host) -> None:
        """A new incarnation knows nothing."""
        d = host.settings.distributed
        listed = d.nodes.tier(host.name) is not None
        lists = d.sync_nodes_mandatory, d.sync_nodes_optional
        mandatory, optional = (
            [p for p in patterns if listed and not p.matches(host.name)] for patterns in lists
        )
        limit_ms = d.sync_nodes_timeout_ms
        deadline_ms = None if limit_ms is None else self.cluster.local_ms(host) + limit_ms
        self.lives[host.key] = Life(safety.Syncing(mandatory, optional, deadline_ms), host.settings)

    def before(self, host: Host, event: Any) -> None:
        """What a node hears."""
        life = self.lives[host.key]
        life.wakes = isinstance(event, ev.Wake)
        match event:
            case ev.MessageReceived(link, Status() as status):
                end = host.ends.get(link)
                if end is not None and end.peer is not None:
                    life.statuses[link] = status
                    if not _waits(life, end, end.peer):
                        self._hears(host, life, status, end.peer.incarnation)
            case ev.ShutdownRequested():
                life.stop_us = life.stop_us or self.cluster.time.now_us
            case ev.Reloaded(settings):  # what it heard last may be a cluster to join now
                life.settings = settings
                for link in life.links:
                    if link in life.statuses:
                        _joins(life, life.statuses[link])
            case ev.LinkUp(link, name):
                life.sync.seen.add(name)
                end = host.ends.get(link)
                if end is not None and end.peer is not None:
                    life.links[link] = end.peer.host.key
                    life.first.setdefault(name, end.peer.host.key)
            case ev.LinkDown(link):
                last = life.statuses.pop(link, None)
                if last is not None and last.running is not None:
                    for key, sign in life.signs.items():
                        if key[0] == last.running:
                            ended = (sign[0], self.cluster.time.now_us)
                            life.signs[key] = _later(sign, ended)  # a peer may have told it before

    def lost(self, host: Host, link: int) -> None:
        """A link is gone; whoever waited for its name has it."""
        life = self.lives[host.key]
        key = life.links.pop(link, None)
        if key is not None and key not in life.links.values():
            name = self.cluster.hosts[key].name
            if life.first.get(name) == key:
                del life.first[name]
                life.freed_us[key] = self.cluster.time.now_us
                for other in life.links.values():
                    if self.cluster.hosts[other].name == name:
                        life.first.setdefault(name, other)

    def _hears(self, host: Host, life: Life, status: Status, incarnation: int) -> None:
        _joins(life, status)
        epochs = [status.highest, status.running, *[h.epoch for h in status.hears]]
        for epoch in (*epochs, *[s.epoch for s in status.signs]):
            if epoch is not None and (life.heard is None or epoch > life.heard):
                life.heard = epoch
        run = [h.epoch for h in status.hears if h.holds is Holds.RUNNING]
        if status.running is not None:
            run.append(status.running)
            _note(life, (status.running, incarnation), status.tick)
        life.ran = max([life.ran, *run] if life.ran else run, default=None)
        for sign in status.signs:
            key, end_us = (sign.epoch, sign.incarnation), 0
            if sign.end is End.ENDED:  # whoever told may be gone when its word is acted on
                end_us = max(1, self.cluster.time.now_us - sign.age_ms * 1010 - 2 * MS)
            known = life.signs.get(key, (0, 0))
            life.signs[key] = _later(known, (sign.tick, end_us))
            if life.signs[key] != known:
                life.told_us[key] = self.cluster.time.now_us
        naming = status.naming
        if naming is not None and naming.successor == host.name and naming != life.named_by:
            life.named = naming.incarnation == host.incarnation
            life.named_by, life.named_us = naming, self.cluster.time.now_us

    def acts(self, host: Host, action: ac.Action) -> None:
        """What a node says and does."""
        life = self.lives[host.key]
        match action:
            case ac.Send(_, Status() as status):
                if status.running is not None:
                    ticks = self.sent_us.setdefault((status.running, host.incarnation), {})
                    ticks.setdefault(status.tick, self.cluster.time.now_us)
                    _note(life, (status.running, host.incarnation), status.tick)
                if status.starting is not None:
                    self._begins(host, life, status.starting)
                if status.naming != life.naming:
                    life.naming = status.naming
                    if status.naming is not None:
                        stopping = status.stopping
                        self._must(self.administrators.names(host, stopping, status.naming))
            case ac.Close(link) if link in life.statuses and not life.wakes:
                said, closed = life.statuses.pop(link), host.ends.get(link)
                for other, end in host.ends.items():  # what was said holds for who took its place
                    if end is not closed and end.at is links.At.UP and _same_start(end, closed):
                        life.statuses.setdefault(other, said)
            case ac.StartApplication(epoch):
                self._starts(host, life, epoch)
            case ac.Report():  # what it does comes after the word for it
                life.lapses = action.cause == "lapse"
            case ac.StopApplication() if not life.lapses:
                for one in (host.running, life.begun):
                    if one is not None:
                        self.given_up.add((one, host.incarnation))
            case ac.Exit(code, sentence):
                asked, twins = life.stop_us is not None, bool(self.cluster.twins)
                self._must(safety.an_exit_has_a_cause(code, sentence, asked, twins))
                if code and "mandatory" in sentence:
                    local_ms = self.cluster.local_ms(host)
                    self._must(safety.s3_exits_for_cause(life.sync, local_ms))

    def _starts(self, host: Host, life: Life, epoch: Epoch) -> None:
        self.started_us.append(self.cluster.time.now_us)
        if len(self.started_us) == STARTS:
            took_us = self.started_us[-1] - self.started_us[0]
            self._must(safety.nothing_goes_round("starts", STARTS, took_us, STARTS_US))
        local_ms = self.cluster.local_ms(host)
        self._must(safety.s3_nothing_runs_before_the_sync(life.sync, local_ms))
        self._must(self.administrators.starts(host, life.naming is not None))
        self._begins(host, life, epoch)
        # A Status on a link that waits for its name is sent, and not heard: with twins nobody can
        # say which sign a node knew of.
        # Rule 5: a naming is void half a tick time after its `ready` was sent, so within a whole
        # one of its arrival; a process that was paused meanwhile judges that when it goes on.
        since_us = self.cluster.time.now_us - max(life.named_us, host.alive_us)
        named = life.named and since_us < host.settings.tick_time_ms * MS + self.slack_us
        if not named and life.naming is None and not self.cluster.twins_now:
            # A reload between the telling and the start counts: it asks and judges until then.
            timeout_ms = life.settings.distributed.timeout_ms
            lost, now_us = self.last_sign(host), self.cluster.time.now_us
            if lost and timeout_ms is None and self.administrators.gives_away(lost.epoch.node):
                lost = None
            broken = safety.s4_no_failover_before_the_timeout(host.name, lost, timeout_ms, now_us)
            self._must(broken)
        life.named = False

    def _begins(self, host: Host, life: Life, epoch: Epoch) -> None:
        if epoch != life.begun:
            if not self.cluster.twins_now:  # one that waits for its name is read, and not heard
                self._must(safety.an_epoch_is_new(epoch, life.heard, host.name))
            life.begun = epoch

    # Checking.

    def stepped(self, host: Host) -> None:
        """Check what must hold at every moment."""
        self.checks += 1
        life, cluster = self.lives[host.key], self.cluster
        if self.checks % STEPS == 0:
            took_us, self.paced_us = cluster.time.now_us - self.paced_us, cluster.time.now_us
            self._must(safety.nothing_goes_round("steps", STEPS, took_us, STEPS_US))
        if host.running is not None:
            _note(life, (host.running, host.incarnation), 0)  # alone it tells nobody
        if host.running is not None and self.served.get(host.running) != host.key:
            first = self.served.setdefault(host.running, host.key)
            if not cluster.twins:
                self._must(safety.an_epoch_has_one_node(host.running, host.key, first))
            if host.running != life.begun:  # it goes on under a new one
                self._begins(host, life, host.running)
        if host.node is not None and life.sync.deadline_ms is not None and life.sync.mandatory:
            local_ms = cluster.local_ms(host)
            awake_ms = (cluster.time.now_us - host.alive_us) // MS
            slack_ms = 3 + host.late_us // MS
            if awake_ms > slack_ms:
                self._must(safety.s3_exits_at_the_deadline(life.sync, local_ms, slack_ms))
        if host.node is not None:
            self._must(inside.broken(host.node, host.ends))
            if life.stop_us is not None:
                took_us = cluster.time.now_us - max(life.stop_us, host.alive_us)
                self._must(liveness.rule5_a_stop_ends(took_us, self.slack_us))
        owners = [k for k, h in cluster.hosts.items() if h.running is not None]
        if len(owners) > 1:
            now_us = cluster.time.now_us
            serving = [k for k in owners if cluster.hosts[k].serves(now_us)]
            if self.majority:
                self._must(safety.s2_at_most_one_serves(serving))
            self._must(
                safety.s1_none_serve_that_hear_each_other(serving, self.heard_us, self.slack_us)
            )

    def _must(self, broken: str | None) -> None:
        if broken is not None:
            raise AssertionError(f"{broken}\n{self.cluster}")


def _later(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Of two signs the one that outweighs: the higher tick, then its end, as first learned."""
    if one[0] != other[0]:
        return max(one, other)
    ends = [end_us for _, end_us in (one, other) if end_us]
    return (one[0], min(ends, default=0))


def _same_start(one: links.End, other: links.End | None) -> bool:
    """Whether both links go to one start of one machine."""
    if one.peer is None or other is None or other.peer is None:
        return False
    return one.peer.host is other.peer.host and one.peer.incarnation == other.peer.incarnation


def _waits(life: Life, end: links.End, peer: links.End) -> bool:
    """Whether it waits for its name: a link with another machine of that name, or with a former
    start of that very node, which ended where no word of it came, is not silent yet
    (docs/decisions/0011)."""
    if life.first.get(peer.host.name, peer.host.key) != peer.host.key:
        return True
    return any(
        one.peer is not None
        and one.peer.host is peer.host
        and one.peer.incarnation != peer.incarnation
        and one.at is links.At.UP
        for one in end.host.ends.values()
    )


def _joins(life: Life, status: Status) -> None:
    life.sync.formed |= status.synced and status.digest == life.settings.digest


def _note(life: Life, key: Ownership, tick: int) -> None:
    known = life.signs.get(key)
    if known is None or tick > known[0]:
        life.signs[key] = (tick, 0)
        life.told_us.pop(key, None)
