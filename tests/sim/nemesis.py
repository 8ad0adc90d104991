"""Breaks things: draws a fault, lets it last, mends it; and at the end mends all."""

from collections.abc import Callable
from dataclasses import replace

from chucky.core import events as ev
from chucky.messages import Beacon
from chucky.names import Address, NodeName
from chucky.wire import beacon as beacons
from tests.sim.clock import MS
from tests.sim.cluster import Cluster, Watch
from tests.sim.host import Host
from tests.sim.swarm import Options

Undo = Callable[[], None]


class Nemesis(Watch):
    """Phase one. `begin` lets it loose, `rest` ends it and mends everything."""

    def __init__(self, cluster: Cluster, options: Options) -> None:
        self.cluster = cluster
        self.options = options
        self.rng = cluster.rng
        self.on = False
        self._phase = 0  # what was planned in phase one does not come true in a drill
        self.open: dict[int, Undo] = {}  # faults that last
        self._number = 0
        self.counts: dict[str, int] = {}
        cluster.watch(self)

    @property
    def nodes(self) -> list[Host]:
        """The machines that have a node of the cluster."""
        return [h for h in self.cluster.hosts.values() if h.key in self.options.keys]

    def begin(self) -> None:
        """Start the nodes, some later than others, and the faults."""
        self.on = True
        for host in self.nodes:
            wait_us = self.rng.choice((0, 0, 0, 50, 300, 3000)) * MS
            self.cluster.time.after(wait_us, self._start, host)
        self._plan()

    def rest(self) -> None:
        """No fault any more: all is mended, and every node that does not run is started."""
        self.on = False
        self._phase += 1
        for number in list(self.open):
            self._undo(number)
        for twin in [self.cluster.hosts[k] for k in self.cluster.twins]:
            self.cluster.thaw(twin.key)
            if twin.node is not None:
                self.cluster.kill(twin.key)
        cluster, lan = self.cluster, self.cluster.lan
        cluster.heal()
        lan.beacon_loss = 0.0
        for path in lan.paths.values():
            lan.set_slow(path.source, path.target, 0)
            path.base_us, path.jitter_us = min(path.base_us, 500), min(path.jitter_us, 500)
        for host in self.nodes:
            host.fails = host.unready = ""
            cluster.thaw(host.key)
            settings = self.options.settings[host.key]
            if host.node is not None and host.settings != settings:
                host.settings = settings
                cluster.give(host.key, ev.Reloaded(settings))
            if host.node is None:
                self._start(host)

    def _plan(self) -> None:
        wait_us = int(self.rng.expovariate(1 / self.options.fault_every_us))
        self.cluster.time.after(wait_us, self._fault)

    def _fault(self) -> None:
        if not self.on:
            return
        self._plan()
        if len(self.open) >= self.options.most_faults:
            return
        faults = self.options.faults
        kind = self.rng.choices(list(faults), list(faults.values()))[0]
        undo = getattr(self, f"_{kind}")(self.rng.choice(self.nodes))
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if undo is not None:
            self._number += 1
            self.open[self._number] = undo
            lasts_us = self.options.stable_us
            lasts_us += int(self.rng.expovariate(1 / self.options.fault_lasts_us))
            self.cluster.time.after(lasts_us, self._undo, self._number)

    def _undo(self, number: int) -> None:
        undo = self.open.pop(number, None)
        if undo is not None:
            undo()

    def _start_in(self, wait_us: int, host: Host) -> None:
        phase, ended = self._phase, host.incarnation

        def start() -> None:
            if (phase, ended) == (self._phase, host.incarnation):  # nobody has started it since
                self._respawn(host)

        self.cluster.time.after(wait_us, start)

    def _start(self, host: Host) -> None:
        if host.node is None and (self.on or host.key in self.options.keys):
            self.cluster.start(host.key, settings=self.options.settings.get(host.key))

    def ended(self, host: Host) -> None:
        """systemd restarts what failed."""
        if host.exit is not None and host.exit[0] != 0 and host.key in self.options.keys:
            self._start_in(self.options.respawn_us, host)

    # The faults; each does nothing where it cannot, and returns how to undo it.

    def _kill(self, host: Host) -> Undo | None:
        if host.node is None:
            return None
        self.cluster.kill(host.key)
        if self.rng.random() < 0.5:
            self._start_in(self.options.respawn_us, host)
            return None
        return lambda: self._respawn(host)

    def _respawn(self, host: Host) -> None:
        if host.powered:
            self._start(host)

    def _power_off(self, host: Host) -> Undo | None:
        if not host.powered:
            return None
        self.cluster.power_off(host.key)

        def undo() -> None:
            if not host.powered:
                self.cluster.power_on(host.key)
                boot_us = self.rng.randint(0, 3000) * MS if self.on else 0
                self._start_in(boot_us, host)

        return undo

    def _freeze(self, host: Host) -> Undo | None:
        if not host.lives:
            return None
        self.cluster.freeze(host.key)
        return lambda: self.cluster.thaw(host.key)

    def _suspend(self, host: Host) -> Undo | None:
        if not host.lives:
            return None
        self.cluster.suspend(host.key)
        return lambda: self.cluster.thaw(host.key)

    def _stop(self, host: Host) -> Undo | None:
        if not host.lives:
            return None
        self.cluster.stop(host.key)
        return lambda: self._respawn(host)

    def _other(self, host: Host) -> Host:
        return self.rng.choice([h for h in self.nodes if h is not host])

    def _cut(self, host: Host) -> Undo | None:
        other = self._other(host)
        self.cluster.cut(host.key, other.key)

        def undo() -> None:
            self.cluster.heal(host.key, other.key)
            self.cluster.heal(other.key, host.key)

        return undo

    def _cut_one_way(self, host: Host) -> Undo | None:
        other = self._other(host)
        self.cluster.cut(host.key, other.key, one_way=True)
        return lambda: self.cluster.heal(host.key, other.key)

    def _split(self, host: Host) -> Undo | None:
        side = [h.key for h in self.nodes if h is host or self.rng.random() < 0.5]
        rest = [h.key for h in self.nodes if h.key not in side]
        self.cluster.split("".join(side), "".join(rest))

        def undo() -> None:
            for one in side:
                for other in rest:
                    self.cluster.heal(one, other)
                    self.cluster.heal(other, one)

        return undo

    def _isolate(self, host: Host) -> Undo | None:
        rest = [h.key for h in self.nodes if h is not host]
        self.cluster.split(host.key, "".join(rest))

        def undo() -> None:
            self.cluster.heal(host.key)
            self.cluster.heal("", host.key)

        return undo

    def _mute(self, host: Host) -> Undo:
        """All that an owner sends is lost: it hears who backs it, and nobody hears it."""
        key = self._owner(host).key
        for other in self.nodes:
            if other.key != key:
                self.cluster.cut(key, other.key, one_way=True)
        return lambda: self.cluster.heal(key)

    def _forget(self, host: Host) -> Undo | None:
        """An owner is cut off; all others are killed and come back: none knows what it promised."""
        owner = self._owner(host)
        undo = self._isolate(owner)
        for other in self.nodes:
            if other is not owner and other.node is not None:
                self.cluster.kill(other.key)
                self._start_in(self.options.respawn_us, other)
        return undo

    def _owner(self, host: Host) -> Host:
        """The owner where there is one, else this one."""
        return next((h for h in self.nodes if h.running is not None), host)

    def _slow(self, host: Host) -> Undo | None:
        other = self._other(host)
        extra_us = self.rng.choice((20, 200, 1000, 3000)) * MS
        self.cluster.tell(f"{host.key} -> {other.key}: slower by {extra_us // MS} ms")
        self.cluster.lan.set_slow(host, other, extra_us)
        return lambda: self.cluster.lan.set_slow(host, other, 0)

    def _flap(self, host: Host) -> Undo | None:
        """A switch port that comes and goes a few times."""
        for number in range(self.rng.randint(1, 4)):
            at_us = number * 300 * MS + self.rng.randint(0, 200) * MS
            self.cluster.time.after(at_us, self._blink, host)
        return None

    def _blink(self, host: Host) -> None:
        if self.on:
            undo = self._isolate(host)
            assert undo is not None
            self._number += 1
            self.open[self._number] = undo
            self.cluster.time.after(self.rng.randint(1, 100) * MS, self._undo, self._number)

    def _reset(self, host: Host) -> Undo | None:
        self.cluster.reset(host.key, self._other(host).key)
        return None

    def _fails(self, host: Host) -> Undo | None:
        host.fails = "its file is broken"
        self.cluster.tell(f"{host.key}: starts would fail")

        def undo() -> None:
            host.fails = ""

        return undo

    def _unready(self, host: Host) -> Undo | None:
        host.fails = host.unready = "its file is gone"
        self.cluster.tell(f"{host.key}: could not get ready")

        def undo() -> None:
            host.fails = host.unready = ""

        return undo

    def _crash(self, host: Host) -> Undo | None:
        if host.lives and host.running is not None:
            self.cluster.tell(f"{host.key}: its application crashes")
            self.cluster.give(host.key, ev.ApplicationFailed("it crashed"))
        return None

    def _reload(self, host: Host) -> Undo | None:
        """An administrator changes what a node takes over while it runs: on all machines, one after
        the other."""
        if self.options.differs:
            return None
        d = self.options.settings[host.key].distributed
        takeover, delay_ms = self.rng.random() < 0.5, self.rng.choice((0, 500))
        changed = replace(d, takeover=takeover, takeover_delay_ms=delay_ms)
        for number, node in enumerate(self.nodes):
            settings = replace(self.options.settings[node.key], distributed=changed)
            self.cluster.time.after(number * 100 * MS, self._reloads, node, settings)
        return None

    def _reloads(self, host: Host, settings: object) -> None:
        if self.on and host.node is not None:
            self.cluster.tell(f"{host.key}: reloads")
            host.settings = settings  # type: ignore[assignment]
            self.cluster.give(host.key, ev.Reloaded(settings))  # type: ignore[arg-type]

    def _takeover(self, host: Host) -> Undo | None:
        """An administrator wants the application there, now and then on two nodes at once."""
        for node in dict.fromkeys((host, self.rng.choice((host, self._other(host))))):
            self._number += 1
            self.cluster.tell(f"{node.key}: is asked for a takeover")
            self.cluster.give(node.key, ev.TakeoverRequested(self._number))
        return None

    def _standby(self, host: Host) -> Undo | None:
        """An administrator has work to do there."""
        self._stands_by(host, True)
        return lambda: self._stands_by(host, False)

    def _stands_by(self, host: Host, on: bool) -> None:
        self._number += 1
        self.cluster.tell(f"{host.key}: is put {'on' if on else 'off'} standby")
        self.cluster.give(host.key, ev.StandbyRequested(self._number, on))

    def _clock(self, host: Host) -> Undo | None:
        """The wall clock is set: starts from now on have other incarnations."""
        step_s = self.rng.choice((-86_400, -60, -1, 1, 60, 86_400))
        self.cluster.tell(f"{host.key}: its clock is set by {step_s} s")
        host.wall_s += step_s
        return None

    def _addresses(self, host: Host) -> Undo | None:
        """An interface comes up."""
        self.cluster.give(host.key, ev.AddressesChanged(host.addresses, came_up=True))
        return None

    def _spoof(self, host: Host) -> Undo | None:
        """A stranger sends what looks like beacons, and what does not."""
        going = [True]
        gap_us = self.rng.choice((5, 20, 100, 500)) * MS

        def again() -> None:
            if going[0]:
                spoof(self.cluster, self.nodes)
                self.cluster.time.after(gap_us, again)

        def undo() -> None:
            going[0] = False

        self.cluster.tell("x: sends forged beacons")
        again()
        return undo

    def _move(self, host: Host) -> Undo | None:
        """Its machine gets another address: a lease of DHCP that is not given again."""
        if host.powered:
            self._number += 1
            self.cluster.move(host.key, f"10.0.{1 + self._number // 250}.{1 + self._number % 250}")
        return None

    def _stall(self, host: Host) -> Undo:
        """A machine that is busy holds up its process for a part of a tick time, again and again;
        what it starts anew meanwhile, too."""
        going = [True]
        tick_ms = host.settings.node.tick_ms
        stands_us = self.rng.randint(1, 3 * tick_ms) * MS
        runs_us = self.rng.randint(1, tick_ms) * MS

        def stands() -> None:
            if going[0]:
                if host.lives:
                    self.cluster.freeze(host.key)
                self.cluster.time.after(stands_us, runs)

        def runs() -> None:
            if going[0]:
                if host.frozen:
                    self.cluster.thaw(host.key)
                self.cluster.time.after(runs_us, stands)

        def undo() -> None:
            going[0] = False
            self.cluster.thaw(host.key)

        stands()
        return undo

    def _hiccup(self, host: Host) -> Undo | None:
        """A segment is lost on each of its links, and sent again."""
        self.cluster.tell(f"{host.key}: what it sends is held up")
        for end in host.ends.values():
            if end.peer is not None:
                self.cluster.links.hold_up(end, self.rng.choice((200, 400, 600)) * MS)
        return None

    def _connect(self, host: Host) -> Undo | None:
        """An administrator connects it to a node, where that is or not."""
        other, there = self._other(host), self._other(host)
        name = self.rng.choice((None, other.name))
        self._number += 1
        self.cluster.tell(f"{host.key}: is asked to connect to {name} at {there.address}")
        addresses = tuple(dict.fromkeys((there.address, other.address)))
        self.cluster.give(host.key, ev.ConnectRequested(self._number, addresses, name))
        return None

    def _peers(self, host: Host) -> Undo:
        """[discovery] peers are changed and read: some are right, some wrong."""
        hosts = [h.address.host for h in self.cluster.hosts.values()] + ["10.9.9.9"]
        draws = [Address(self.rng.choice(hosts), self.rng.choice((4041, 4042))) for _ in range(4)]
        self._configure(host, tuple(dict.fromkeys(draws)))
        return lambda: self._configure(host, ())

    def _configure(self, host: Host, peers: tuple[Address, ...]) -> None:
        self.cluster.tell(f"{host.key}: its peers are {' '.join(map(str, peers)) or 'none'}")
        host.peers = peers
        self.cluster.give(host.key, ev.PeersConfigured(peers))

    def _twin(self, host: Host) -> Undo | None:
        """A second machine starts a node of the same name."""
        key = host.key.upper()
        if key in self.cluster.hosts:
            return None
        delay_us = (self.options.base_us, self.options.jitter_us)
        twin = self.cluster.add(key, host.settings, host.name, delay_us)
        twin.clock.offset_us = self.rng.randrange(10**9) * MS
        self.cluster.twins.add(key)
        self.cluster.start(key)

        def undo() -> None:
            self.cluster.thaw(key)
            if twin.node is not None:
                self.cluster.kill(key)

        return undo


def spoof(cluster: Cluster, nodes: list[Host]) -> None:
    """Send one datagram as a stranger would: a node's name, or anybody's, or noise."""
    rng, stranger = cluster.rng, cluster.hosts["x"]
    target = rng.choice(nodes)
    kind = rng.randrange(4)
    if kind == 0:
        data = rng.randbytes(rng.randint(0, 600))
    else:
        name = rng.choice(nodes).name if kind < 3 else NodeName(f"z{rng.randrange(200)}", "x")
        beacon = Beacon(name, rng.getrandbits(63), rng.choice((4041, 4041, 1)), rng.random() < 0.5)
        data = beacons.encode(beacon)
    source = rng.choice([stranger.address, *(h.address for h in nodes), Address("10.9.9.9", 4041)])
    cluster.lan.datagram(stranger, target, data, source)
