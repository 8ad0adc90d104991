"""Phase two: all is well, then one thing at a time goes wrong, and each L-promise has its bound."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from chucky.core import events as ev
from chucky.core.lease import SHARE_PERCENT
from chucky.settings import Settings
from tests.sim import liveness, safety
from tests.sim.clock import MS
from tests.sim.cluster import Cluster
from tests.sim.host import Host
from tests.sim.nemesis import Nemesis, spoof
from tests.sim.orders import DOUBT_US, Administrators
from tests.sim.requests import Requests
from tests.sim.swarm import Options
from tests.sim.witness import HINT_US

STOPS_MS = 5_100  # chucky/core/ownership.py, STOP_LIMIT_MS
REST_MS = 4_000
BACKOFF_MS = 61_000  # the longest that a node stands aside after failures in phase one


@dataclass
class Drills:
    """The cluster after the heal; `run` goes through all of it."""

    cluster: Cluster
    options: Options
    nemesis: Nemesis
    requests: Requests
    administrators: Administrators
    slack_us: int

    def __post_init__(self) -> None:
        self.rng: random.Random = self.cluster.rng
        self.settings: Settings = self.options.slowest
        self.nodes = [self.cluster.hosts[k] for k in self.options.keys]
        nodes = self.settings.distributed.nodes
        self.listed = [h for h in self.nodes if nodes.tier(h.name) is not None]
        self.done: list[str] = []

    def run(self) -> None:
        """Heal, see that one owner comes of it, and drill."""
        self.heal()
        if self.options.differs:
            self.mixed()
            return
        if len(self.listed) < 2:
            return
        drills = [
            self.kill, self.power, self.freezes, self.returns, self.stops, self.partition,
            self.crash, self.broken_standby, self.strangers, self.two_at_once, self.takes,
            self.takes, self.gives, self.gives, self.shaken, self.shaken,
        ]  # fmt: skip
        if self.options.majority:
            drills += [self.no_majority, self.few_backers]
        for drill in self.rng.sample(drills, 3):
            self._ready()
            self.cluster.tell(f"drill: {drill.__name__}")
            self.requests.calm = True
            drill()
            self.done.append(drill.__name__)
            self.mend()
        self._ready()
        self._rests()
        self.requests.calm = False

    def _ready(self) -> None:
        """Wait until all is at rest, and will be."""
        self.settle()
        # Who came off standby when the application was placed may be bound or not: a node has a
        # tick time to judge that, and clocks run up to 1 % apart.
        self.cluster.run(10 + self.settings.tick_time_ms // 50)
        # A better node that may be bound or not takes it within its delay, or not at all.
        if not self.serving or not self._is_sure(self._owner()):
            self.cluster.run(self.settings.distributed.takeover_delay_ms + REST_MS)
            self.settle()

    def _rests(self) -> None:
        """At rest nothing moves, and nobody says much more than its ticks."""
        before, sends = self._owners(), dict(self.cluster.sends)
        sure = self._is_sure(self._owner())
        rest_ms = max(REST_MS, 2 * self.settings.tick_time_ms)
        self.cluster.run(rest_ms)
        if sure:
            self._must(liveness.nothing_moves(before, self._owners()))
        said = [self.cluster.sends[h.key] - sends[h.key] for h in self.nodes]
        ticks = rest_ms / min(h.settings.node.tick_ms for h in self.nodes)
        self._must(liveness.few_words(max(said) / (len(self.nodes) - 1), ticks))

    def _owners(self) -> list[str]:
        return [f"{h.name}, epoch {h.running}" for h in self.serving]

    def _is_sure(self, owner: Host) -> bool:
        """Whether no better node, which may or may not be bound, may be about to take it."""
        better = self._better(owner)
        if not self.settings.distributed.takeover or not better:
            return True
        return self.administrators.kept_from(owner, better, doubt_us=-DOUBT_US)

    # What drills are made of.

    def _must(self, broken: str | None) -> None:
        if broken is not None:
            raise AssertionError(f"{broken}\n{self.cluster}")

    def took_us(self, condition: Callable[[], object], limit_us: int) -> int | None:
        """Let time pass until it holds; return how long that took, or None."""
        began_us = self.cluster.time.now_us
        while not condition():
            if not self.cluster.time.step(began_us + limit_us):
                return None
        return self.cluster.time.now_us - began_us

    @property
    def serving(self) -> list[Host]:
        """Who serves now."""
        now_us = self.cluster.time.now_us
        return [h for h in self.cluster.hosts.values() if h.serves(now_us)]

    def _best(self) -> set[object]:
        """The keys of the best tier of those listed."""
        nodes = self.settings.distributed.nodes
        least = min(nodes.tier(h.name) or 0 for h in self.listed)
        return {h.name for h in self.listed if nodes.tier(h.name) == least}

    def _better(self, owner: Host) -> list[Host]:
        """Those of a better tier."""
        nodes = self.settings.distributed.nodes
        return [h for h in self.listed if (nodes.tier(h.name) or 0) < (nodes.tier(owner.name) or 0)]

    def _is_placed(self, owner: Host) -> bool:
        return self.administrators.kept_from(owner, self._better(owner))

    def _at_rest(self) -> bool:
        serving = self.serving
        if len(serving) != 1:
            return False
        epoch, owner = serving[0].running, serving[0]
        if self.settings.distributed.takeover and not self.options.differs:
            if self._better(owner) and not self._is_placed(owner):
                return False
        known = all(h.node is not None and h.view().epoch == epoch for h in self.nodes)
        return known and self._all_met() and not self._passes_over(owner)

    def _all_met(self) -> bool:
        """Whether every node runs, has a link with each other and not with a former start of it, is
        synced, could own or vote, does not look around as after a pause, and has done all that it
        was asked for, and what was slow has arrived: a bound counts from when a node was last
        heard."""
        now_us, paths = self.cluster.time.now_us, self.cluster.lan.paths.values()
        views = [h.view() for h in self.nodes if h.node is not None]
        met = all(sum(n.state in ("up", "self") for n in v.nodes) == len(self.nodes) for v in views)
        met = met and not any(h.node and h.node._members._newcomers for h in self.nodes)
        # A standby that failed in phase one is not able yet.
        able = all(h.node is not None and h.node._own.able for h in self.listed)
        votes = all(map(self._votes, self.listed))
        looks = any(h.node is not None and h.node._look.goes_on for h in self.nodes)
        arrived = all(path.clear_us <= now_us for path in paths)
        asked = any(h.node is not None and h.node._commands.pending for h in self.nodes)
        synced = all(v.synced for v in views)
        return met and able and votes and arrived and synced and not (looks or asked)

    def _passes_over(self, owner: Host) -> bool:
        """Whether it names none of those who declined in phase one for some seconds yet."""
        assert owner.node is not None
        until_ms = max(owner.node._own.declined.values(), default=0)
        return self.cluster.local_ms(owner) < until_ms

    def _votes(self, host: Host) -> bool:
        """Whether it backs somebody, or could: who has just started does not (rule 7)."""
        lease = host.node._lease if host.node is not None else None
        return lease is None or self.cluster.local_ms(host) >= lease.free_from_ms

    def settle(self) -> None:
        """Wait until all is at rest; at the latest after the longest back-off that is."""
        for _ in range((BACKOFF_MS + 20_000) // 50):
            if self._at_rest():
                break
            self.cluster.run(50)
        else:
            best = self._best() if self.settings.distributed.takeover else None
            placed = [h for h in self.serving if self._is_placed(h)]
            best = best and {*best, *(h.name for h in placed)}
            names = [h.name for h in self.serving]
            self._must(liveness.l_in_the_end(names, best))  # type: ignore[arg-type]
            raise AssertionError(f"L7: all is well, and it does not come to rest\n{self.cluster}")

    def mend(self) -> None:
        """Undo a drill."""
        self.cluster.heal()
        for host in self.nodes:
            host.fails = host.unready = ""
            self.cluster.thaw(host.key)
            if host.node is None:
                self.cluster.start(host.key)

    def heal(self) -> None:
        """End phase one; L5, and then one owner."""
        self.nemesis.rest()
        began_us = self.cluster.time.now_us
        ran = [h for h in self.nodes if h.running is not None and h.node is not None]
        late_us = max(path.arrived_us for path in self.cluster.lan.paths.values()) - began_us
        self.cluster.run((self._heal_us() + self.slack_us + max(0, late_us)) // MS)
        self._check_l5(ran)
        self._somebody_serves()
        # A node that was stopping when phase one ended stops yet, and is started again.
        for _ in range(3):
            if all(h.node is not None and h.view().phase != "stopping" for h in self.nodes):
                break
            self.cluster.run(STOPS_MS)
            for host in self.nodes:
                if host.node is None and (host.exit is None or host.exit[0] == 0):
                    self.cluster.start(host.key)
        if not self.options.differs:
            self.settle()
            return
        limit_us = (BACKOFF_MS + 20_000) * MS
        if self.took_us(lambda: len(self.serving) == 1, limit_us) is None and self._one_majority:
            self._must(liveness.l_in_the_end([h.name for h in self.serving], None))
        self.cluster.tell(f"at rest {self.cluster.time.now_us - began_us} us after the heal")

    def _heal_us(self) -> int:
        """L5's 500 ms; where a machine moved, only beacons tell where it is (0009: within 1 s)."""
        return 500_000 + (HINT_US if any(h.moved for h in self.nodes) else 0)

    def _check_l5(self, ran: list[Host]) -> None:
        """Where exactly the owners that ran at the heal are still what they were."""
        still = [h for h in ran if h.lives and h.running is not None]
        stopping = any(h.node is not None and h.view().phase == "stopping" for h in self.nodes)
        if len(self.serving) > 1 and self._hear_each_other(self.serving):
            self._must(liveness.l5_one_owner([h.name for h in self.serving], None))
        votes = all(map(self._votes, self.listed))
        if len(ran) == 1 and still == ran and votes and not stopping:
            self._must(liveness.l5_one_owner([h.name for h in self.serving], ran[0].name))

    def _somebody_serves(self) -> None:
        """L5, L7: where each node runs and stays, and not all stand aside, one serves soon."""
        if self.options.differs or self.settings.distributed.timeout_ms is None:
            return
        if any(h.node is None for h in self.nodes):
            return
        if all(h.node is not None and h.node._own.retry_ms is not None for h in self.listed):
            return
        took_us = self.took_us(lambda: self.serving, self._limit_us())
        if all(h.node is not None and h.view().phase != "stopping" for h in self.nodes):
            self._must(liveness.l5_somebody_serves(self.settings, took_us, self.slack_us))

    def _hear_each_other(self, owners: list[Host]) -> bool:
        """Whether frames pass between these for 500 ms: what a dead link keeps back on a stream
        comes when TCP sends it again, and only its answer ends that link. Where a machine moved,
        one that has just gone on waits until its link of before that is silent. (S1 counts so,
        too.)"""
        pairs = itertools.permutations(owners, 2)
        clear_us = max(self.cluster.lan.path(*pair).clear_us for pair in pairs)
        if any(h.moved for h in owners):
            silent_us = max(h.alive_us for h in owners) + self.settings.tick_time_ms * MS
            clear_us = max(clear_us, silent_us)
        return self.cluster.time.now_us - clear_us >= safety.HEALED_US

    def _owner(self) -> Host:
        return self.serving[0]

    def _next(self, owner: Host) -> Callable[[], bool]:
        return lambda: any(h is not owner for h in self.serving)

    def _limit_us(self) -> int:
        if self.settings.distributed.timeout_ms is None:
            return 90_000 * MS
        return liveness.failover_us(self.settings, True) + 20_000 * MS

    @property
    def _one_majority(self) -> bool:
        """Whether all need the same majority: lists of other nodes need another one, and then
        nothing is promised."""
        return not self.options.majority or self.options.one_electorate

    def _quorate(self, down: int) -> bool:
        """Whether those that stay can elect an owner."""
        return not self.options.majority or 2 * (len(self.listed) - down) > len(self.listed)

    # The drills.

    def _loses(self, silent: bool, how: Callable[[str], None]) -> None:
        owner = self._owner()
        if self.settings.distributed.timeout_ms is None or not self._quorate(1):
            return
        how(owner.key)
        took_us = self.took_us(self._next(owner), self._limit_us())
        self._must(liveness.l1_failover(self.settings, silent, 0, took_us, self.slack_us))
        self._comes_back(owner)

    def _comes_back(self, owner: Host) -> None:
        """L3: the better node returns."""
        now = self._owner()
        d = self.settings.distributed
        mine, other = d.nodes.tier(owner.name), d.nodes.tier(now.name)
        self.cluster.run(self.rng.randint(0, 1500))
        lived = owner.node is not None  # one that was frozen: both own, and rule 6 decides
        before = self._owners()
        self.mend()
        assert mine is not None and other is not None
        if not d.takeover or mine >= other:
            if not lived:
                self.cluster.run(2500)
                after = self._owners()
                self._must(safety.s4_a_restart_takes_nothing(owner.name, before, after))
            return
        self.took_us(lambda: owner.node is not None and owner.view().synced, 10_000 * MS)
        took_us = self.took_us(lambda: owner in self.serving, 20_000 * MS)
        self._must(liveness.l3_takeover(self.settings, took_us, self.slack_us))

    def kill(self) -> None:
        """L1: the process dies; L3: it returns."""
        self._loses(False, self.cluster.kill)

    def shaken(self) -> None:
        """L1, L3, L4: something small, and no sooner is all at rest than the owner dies."""
        owner = self._owner()
        self.requests.calm = False
        self._shake(owner, self.rng.choice([h for h in self.nodes if h is not owner]))
        self.took_us(self._at_rest, self._limit_us())
        self.cluster.run(self.rng.choice((0, self.rng.randint(0, 600))))
        if self._at_rest() and self._is_sure(self._owner()):
            self.requests.calm = True
            self.rng.choice((self.kill, self.kill, self.power, self.stops))()

    def _shake(self, owner: Host, other: Host) -> None:
        lasts_ms = self.rng.randint(0, self.rng.choice((300, 5000)))
        match self.rng.choice(("reset", "restart", "freeze", "cut")):
            case "reset":
                self.cluster.reset(owner.key, other.key)
            case "restart":
                self.cluster.kill(other.key)
                self.cluster.run(lasts_ms)
                self.cluster.start(other.key)
            case "freeze":
                frozen = self.rng.choice((owner, other))
                self.cluster.freeze(frozen.key)
                self.cluster.run(lasts_ms)
                self.cluster.thaw(frozen.key)
            case "cut":
                rest = "".join(h.key for h in self.nodes if h is not other)
                self.cluster.split(other.key, rest)
                self.cluster.run(lasts_ms)
                self.cluster.heal()

    def power(self) -> None:
        """L1: the machine falls silent; L3: it returns."""
        self._loses(True, self.cluster.power_off)

    def freezes(self) -> None:
        """L1: the process is frozen."""
        self._loses(True, self.cluster.freeze)

    def returns(self) -> None:
        """L2: the owner is back within the timeout."""
        owner, timeout_ms = self._owner(), self.settings.distributed.timeout_ms
        least_ms = 1000 + self.slack_us // MS
        if timeout_ms is not None and timeout_ms < least_ms or not self._quorate(1):
            return
        self.cluster.kill(owner.key)
        self.cluster.run(self.rng.randint(0, (timeout_ms or 5000) - least_ms + 200))
        self.cluster.start(owner.key)
        took_us = self.took_us(lambda: self.serving, 20_000 * MS)
        who = self.serving[0].name if self.serving else None
        self._must(liveness.l2_return(took_us, owner.name, who, self.slack_us))

    def stops(self) -> None:
        """L4: a planned stop."""
        owner = self._owner()
        if not self._quorate(1):
            return
        self.cluster.stop(owner.key)
        took_us = self.took_us(self._next(owner), 20_000 * MS)
        self._must(liveness.l4_planned_stop(took_us, self.slack_us))
        self.took_us(lambda: owner.node is None, 20_000 * MS)

    def _asks(self, host: Host, event: Callable[[int], ev.Event]) -> tuple[int | None, bool]:
        """Let an administrator ask; return how long the answer took, and whether it was yes."""
        host.answers.clear()
        self.cluster.give(host.key, event(0))
        took_us = self.took_us(lambda: host.answers, 20_000 * MS)
        return took_us, bool(host.answers) and host.answers[-1].done

    def takes(self) -> None:
        """0008: a takeover to any node, where it stays until a better one starts anew."""
        host = self.rng.choice(self.listed)
        took_us, done = self._asks(host, ev.TakeoverRequested)
        self._must(liveness.asked_for(took_us, done, self.serving == [host], self.slack_us))
        self.cluster.run(self.rng.randint(0, 3000))
        better = self._better(host)
        self._must(liveness.placed_stays(host.name, [h.name for h in self.serving]))
        if not better or not self._quorate(1) or self.rng.random() < 0.5:
            return
        anew = self.rng.choice(better)
        self.cluster.kill(anew.key)
        self.cluster.run(self.rng.randint(0, 1500))
        self.cluster.start(anew.key)
        if self.settings.distributed.takeover:
            self.took_us(lambda: anew.node is not None and anew.view().synced, 10_000 * MS)
            took_us = self.took_us(lambda: anew in self.serving, 20_000 * MS)
            self._must(liveness.l3_takeover(self.settings, took_us, self.slack_us))
        else:
            self.cluster.run(1000)
            self._must(liveness.placed_stays(host.name, [h.name for h in self.serving]))

    def gives(self) -> None:
        """0008: standby on at the owner, and off."""
        owner, d = self._owner(), self.settings.distributed
        took_us, done = self._asks(owner, lambda n: ev.StandbyRequested(n, True))
        moved = self.serving != [owner] and len(self.serving) == 1
        self._must(liveness.asked_for(took_us, done, moved, self.slack_us))
        self.cluster.run(self.rng.randint(0, 3000))
        now = self._owner()
        self._must(liveness.placed_stays(now.name, [h.name for h in self.serving]))
        self._asks(owner, lambda n: ev.StandbyRequested(n, False))
        if d.takeover and owner in self._better(now):
            others = [h for h in self._better(now) if h is not owner]
            took_us = self.took_us(lambda: owner in self.serving, 20_000 * MS)
            if not others or took_us is not None:
                self._must(liveness.l3_takeover(self.settings, took_us, self.slack_us))

    def partition(self) -> None:
        """L5: a partition, long enough for two owners, heals; S5: a stranger cannot prolong it."""
        owner = self._owner()
        side = [h for h in self.nodes if h is owner or self.rng.random() < 0.4]
        rest = [h for h in self.nodes if h not in side]
        if not rest or self.settings.distributed.timeout_ms is None:
            return
        self.requests.calm = False
        self.cluster.split(*("".join(h.key for h in part) for part in (side, rest)))
        if self.rng.random() < 0.5:
            self._forges()
        self.cluster.run(self.rng.randint(100, self._limit_us() // MS - 15_000))
        ran = [h for h in self.nodes if h.running is not None]
        best = self._standing(ran) if len(ran) > 1 else None
        self.cluster.heal()
        # What is kept back on a stream comes when TCP sends it again.
        clear_us = max(p.clear_us for p in self.cluster.lan.paths.values())
        self.cluster.time.run_to(max(self.cluster.time.now_us, clear_us))
        self.cluster.run((self._heal_us() + self.slack_us) // MS)
        serving = [h.name for h in self.serving]
        # A move to a better tier may be under way at this moment.
        moving = not serving and any(h.view().phase == "yielding" for h in self.nodes)
        if moving:
            took_us = self.took_us(lambda: self.serving, 20_000 * MS)
            self._must(liveness.l5_a_move_ends(took_us, self.slack_us))
        # Where no part had a majority nobody ran, and all could: so one does.
        if (ran or self.options.majority) and not moving:
            self._must(liveness.l5_one_owner(serving, best.name if best else None))

    def _standing(self, owners: list[Host]) -> Host | None:
        """Rule 6: better tier, then lower epoch that its ownership began with (with takeover =
        false that first), then name. A takeover from the outside may follow at once: then only the
        number is certain."""
        d = self.settings.distributed
        if d.takeover and not any(h.name in self._best() for h in owners):
            return None

        def standing(host: Host) -> tuple[object, ...]:
            tier = d.nodes.tier(host.name)
            assert tier is not None and host.began
            ordered = (tier, host.began) if d.takeover else (host.began, tier)
            return (*ordered, host.name)

        return min(owners, key=standing)

    def crash(self) -> None:
        """L7: the application fails on a live owner."""
        owner = self._owner()
        if not self._quorate(0):
            return
        if self.settings.distributed.timeout_ms is None:
            # Nobody else may have it, and what failed in phase one makes the back-off longer than
            # the hold: nothing says that these requests are answered.
            self.requests.calm = False
        self.cluster.give(owner.key, ev.ApplicationFailed("it crashed"))
        took_us = self.took_us(lambda: self.serving, self._limit_us())
        back = owner in self.serving
        self._must(
            liveness.l7_failed_application(
                self.settings, None if back else took_us, took_us if back else None, self.slack_us
            )
        )

    def broken_standby(self) -> None:
        """L7: the first that would fail over cannot start."""
        owner, d = self._owner(), self.settings.distributed
        rest = [h for h in self.listed if h is not owner]
        if d.timeout_ms is None or len(rest) < 2 or not self._quorate(1):
            return
        first = min(rest, key=lambda h: d.nodes.rank(h.name) or (0, h.name))
        first.fails = "its file is broken"
        self.cluster.kill(owner.key)
        took_us = self.took_us(lambda: self.serving, self._limit_us())
        slack_us = self.slack_us + self.options.app_us
        self._must(liveness.l1_failover(self.settings, False, 0, took_us, slack_us))

    def strangers(self) -> None:
        """S5: forged beacons, noise, and resets in a calm cluster."""
        if not self._is_sure(self._owner()):
            return
        before = (self._owner().key, self._owner().running)
        self._forges()
        lasts_ms = self.settings.distributed.timeout_ms or 5000
        if self.options.majority:
            lasts_ms = lasts_ms * SHARE_PERCENT // 100  # then the lease of an owner without links
        if lasts_ms > (self._heal_us() + self.slack_us) // MS:
            for other in self.nodes:
                self.cluster.reset(before[0], other.key)
            self.cluster.run((self._heal_us() + self.slack_us) // MS)
        serving = self.serving
        now = serving[0] if len(serving) == 1 else None
        after = ("", None) if now is None else (now.key, now.running)
        self._must(safety.s5_strangers_change_nothing(before, after))

    def _lease_us(self) -> int:
        """How long a node that has just started backs nobody."""
        return liveness.lease_us(self.settings)

    def no_majority(self) -> None:
        """S2: too few are left, and the owner stops; L1: one lease after enough are back, one
        serves."""
        owner, size = self._owner(), len(self.listed)
        others = [h for h in self.listed if h is not owner]
        down = self.rng.sample(others, self.rng.randint((size + 1) // 2, size - 1))
        self.requests.calm = False  # for longer than `hold`
        self.cluster.power_off(*(h.key for h in down))
        took_us = self.took_us(lambda: not self.serving, 20_000 * MS + self._lease_us())
        self._must(liveness.s2_the_rest_stops(self.settings, took_us))
        self.cluster.run(self.rng.randint(0, 3 * self._lease_us() // MS))
        if self.serving:
            raise AssertionError(f"S2: {self.serving[0].name} serves\n{self.cluster}")
        for host in down:
            self.cluster.start(host.key)
        self._after_one_lease()

    def _after_one_lease(self) -> None:
        took_us = self.took_us(lambda: self.serving, 20_000 * MS + self._lease_us())
        self._must(liveness.l2_after_one_lease(self.settings, took_us, self.slack_us))

    def few_backers(self) -> None:
        """L2: the owner is back within the timeout, but most backers have just started, too."""
        owner = self._owner()
        others = [h for h in self.listed if h is not owner]
        down = [owner, *self.rng.sample(others, len(self.listed) // 2)]
        self.requests.calm = False
        self.cluster.kill(*(h.key for h in down))
        self.cluster.run(self.rng.randint(0, 300))
        for host in down:
            self.cluster.start(host.key)
        self._after_one_lease()

    def mixed(self) -> None:
        """Rule 8: [distributed] is not the same everywhere."""
        for _ in range(2):
            # One that does not see the difference may be taking it over at this moment.
            if self.took_us(lambda: len(self.serving) == 1, 1000 * MS) is None:
                if not self._one_majority:
                    return
                self._must(liveness.l5_one_owner([h.name for h in self.serving], None))
            owner = self._owner()
            self._keeps(owner)
            others = [h for h in self.nodes if h is not owner and self._lists_itself(h)]
            timeout_ms = self.settings.distributed.timeout_ms
            if not self._quorate(1) or not self._one_majority or timeout_ms is None or not others:
                return
            if self.took_us(self._all_met, 20_000 * MS) is None or self.serving != [owner]:
                return  # nodes that do not list each other may back off for a minute
            self.cluster.tell("drill: mixed")
            self.cluster.kill(owner.key)
            took_us = self.took_us(self._next(owner), self._limit_us())
            self._must(liveness.l1_failover(self.settings, False, 0, took_us, self.slack_us))
            self.cluster.run(self.rng.randint(0, 1500))
            self.mend()
            if self.took_us(lambda: len(self.serving) == 1, 1000 * MS) is None:
                self._must(liveness.l5_one_owner([h.name for h in self.serving], None))
            self._keeps(self._owner())

    def _keeps(self, owner: Host) -> None:
        """Rule 8: as long as it sees a difference, the owner stays who it is."""
        # A lease may run out before one that has just started may vote (rule 7).
        self.took_us(lambda: all(map(self._votes, self.listed)), 20_000 * MS)
        if self.serving != [owner]:
            return
        for _ in range(40):
            now_ms = self.cluster.local_ms(owner)
            mixed = owner.node is not None and owner.node._view(now_ms).mixed
            self.cluster.run(100)
            now = [h.key for h in self.serving]
            if mixed:
                self._must(safety.rule8_a_difference_moves_nothing(owner.key, now))
            elif now != [owner.key]:
                return

    def _lists_itself(self, host: Host) -> bool:
        return host.settings.distributed.nodes.tier(host.name) is not None

    def _forges(self) -> None:
        for _ in range(100):
            spoof(self.cluster, self.nodes)
            self.cluster.run(self.rng.randint(0, 20))

    def two_at_once(self) -> None:
        """L1: the owner and another node fall silent together."""
        owner = self._owner()
        others = [h for h in self.nodes if h is not owner]
        down = self.rng.choice(others)
        able = [h for h in self.listed if h not in (owner, down)]
        if self.settings.distributed.timeout_ms is None or not able or not self._quorate(2):
            return
        self.cluster.power_off(owner.key, down.key)
        took_us = self.took_us(lambda: self.serving, self._limit_us())
        self._must(liveness.l1_failover(self.settings, True, 1, took_us, self.slack_us))
