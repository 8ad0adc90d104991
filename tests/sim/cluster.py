"""A cluster of real Nodes on a simulated LAN, and the verbs to tell a story with.

    cluster = Cluster(Settings(), "abc")
    cluster.start("a", "b", "c")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.cut("a", "b", one_way=True)

Nodes are called by their host's key, one letter. Times are true milliseconds. Nothing is random
but what the seed draws, and time moves only in `run` and `run_until`.
"""

import random
from collections.abc import Callable
from typing import Any

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.node import Node
from chucky.core.snapshot import Snapshot
from chucky.messages import Message
from chucky.names import Address, NodeName
from chucky.settings import Settings
from tests.sim.clock import MS, Time
from tests.sim.host import Host
from tests.sim.links import End, Links, as_one
from tests.sim.network import Lan

TWIN_US = 10_000 * MS  # what a twin said goes with its links, by the longest tick time drawn
ADDRESSES_US = 100 * MS  # what the daemon takes to learn its addresses: it imports pyroute2
NETLINK_US = 10 * MS  # and until it hears of another


class Watch:
    """What a checker may look at, as it happens; by itself it looks at nothing."""

    def before(self, host: Host, event: Any) -> None:
        """A node is about to be stepped with this."""

    def acts(self, host: Host, action: ac.Action) -> None:
        """A node wants this done."""

    def stepped(self, host: Host) -> None:
        """All that was to be done is done."""

    def began(self, host: Host) -> None:
        """A node was started."""

    def ended(self, host: Host) -> None:
        """A node is gone; host.exit is set when it went by itself."""

    def data(self, host: Host, link: int, message: Message) -> None:
        """An Ask or Answer came."""

    def lost(self, host: Host, link: int) -> None:
        """A link was closed or ended."""


HOOKS = ("before", "acts", "stepped", "began", "ended", "data", "lost")


class Cluster:
    """Hosts by key, their LAN, and true time."""

    def __init__(
        self,
        settings: Settings | None = None,
        keys: str = "abc",
        seed: int = 0,
        delay_us: tuple[int, int] = (MS, 0),
    ) -> None:
        self.rng = random.Random(seed)
        self.time = Time()
        self.time.now_us = 1000 * MS
        self.lan = Lan(self.time, self.rng, self.step)
        self.links = Links(self.lan, self._data, self._lost)
        self.hosts: dict[str, Host] = {}
        self._hooks: dict[str, list[Callable[..., None]]] = {hook: [] for hook in HOOKS}
        self.telling: Callable[[str], None] | None = None
        self.twins: set[str] = set()
        self._ended_us: dict[str, int] = {}
        self.early_share = 0.0  # of the timers that fire early
        self.steps = 0
        self.sends: dict[str, int] = {}  # messages of the core, by host
        for key in keys:
            self.add(key, settings or Settings(), delay_us=delay_us)

    @property
    def twins_now(self) -> bool:
        """Whether two machines use one name, or did just now."""
        lately_us = self.time.now_us - TWIN_US
        return any(
            self.hosts[k].node is not None or self._ended_us.get(k, -TWIN_US) > lately_us
            for k in self.twins
        )

    def watch(self, watch: Watch) -> None:
        """Let somebody look, at what it has a method of its own for."""
        for hook, looks in self._hooks.items():
            if getattr(type(watch), hook) is not getattr(Watch, hook):
                looks.append(getattr(watch, hook))

    def add(
        self,
        key: str,
        settings: Settings,
        name: NodeName | None = None,
        delay_us: tuple[int, int] = (MS, 0),
    ) -> Host:
        """Add a machine; its node is called KEY@h unless told otherwise."""
        host = Host(key, len(self.hosts) + 1, settings, name or NodeName(key, "h"))
        self.hosts[key] = host
        self.lan.add(host, *delay_us)
        return host

    # The verbs of a story.

    def start(self, *keys: str, settings: Settings | None = None) -> None:
        """Start nodes, each a new incarnation; a machine without power gets it back."""
        for key in keys:
            host = self.hosts[key]
            assert host.node is None, f"{key} runs already"
            if not host.powered:
                host.powered = True
                host.clock.reboot(self.time.now_us)
            host.settings = settings or host.settings
            wall_ms = host.wall_s * 1000 + self.time.now_us // 1000
            host.incarnation = wall_ms << 20 | self.rng.getrandbits(20)
            host.exit, host.last_accepted = None, 0
            host.alive_us = self.time.now_us
            host.node = Node(host.settings, host.name, host.incarnation, self.local_ms(host))
            self.tell(f"{key}: starts")
            for began in self._hooks["began"]:
                began(host)
            self.step(host, ev.PeersConfigured(host.peers))
            known = ev.AddressesChanged(host.addresses)
            self.time.after(ADDRESSES_US, self._later, host, host.incarnation, known)
            self.lan.mended()

    def kill(self, *keys: str) -> None:
        """SIGKILL: the host closes the connections and refuses new ones."""
        for key in keys:
            self._gone(self.hosts[key], "is killed")
            self.links.process_died(self.hosts[key])

    def power_off(self, *keys: str) -> None:
        """No power: nothing is sent any more, and nothing answers."""
        for key in keys:
            host = self.hosts[key]
            self.links.power_failed(host)
            host.powered, host.asleep = False, False
            if host.node is not None:
                self._gone(host, "loses power")

    def power_on(self, *keys: str) -> None:
        """The machine is back, and refuses links: its node does not run yet."""
        for key in keys:
            host = self.hosts[key]
            host.powered = True
            host.clock.reboot(self.time.now_us)
            self.lan.mended()

    def stop(self, *keys: str) -> None:
        """systemctl stop: in good order."""
        for key in keys:
            host = self.hosts[key]
            self.tell(f"{key}: is asked to stop")
            self._later(host, host.incarnation, ev.ShutdownRequested())

    def freeze(self, *keys: str) -> None:
        """SIGSTOP: the kernel still answers for it, the node does not."""
        for key in keys:
            self.hosts[key].frozen = True
            self.tell(f"{key}: is frozen")

    def suspend(self, *keys: str) -> None:
        """The whole machine sleeps; its clock counts that."""
        for key in keys:
            self.hosts[key].asleep = True
            self.tell(f"{key}: sleeps")

    def move(self, key: str, address: str) -> None:
        """The machine gets another address instead of its own: its links are dead, and nobody says
        so."""
        host = self.hosts[key]
        self.tell(f"{key}: moves to {address}")
        host.address, host.moved = Address(address, host.address.port), True
        self.links.lead_nowhere(host)
        self.lan.moved(host)
        known = ev.AddressesChanged(host.addresses, came_up=True)
        self.time.after(NETLINK_US, self._later, host, host.incarnation, known)

    def thaw(self, *keys: str) -> None:
        """SIGCONT, or the machine wakes: the timer and what came meanwhile, in any order that
        keeps each link's own."""
        for key in keys:
            host = self.hosts[key]
            if not host.paused:
                continue
            self.tell(f"{key}: goes on")
            host.frozen = host.asleep = False
            host.alive_us = self.time.now_us
            backlog, host.backlog = host.backlog, []
            self._catch_up(host, backlog)
            self.lan.mended()

    def cut(self, one: str, other: str, one_way: bool = False) -> None:
        """Frames from one to the other vanish, and back unless `one_way`."""
        self.tell(f"{one} {'->' if one_way else '<->'} {other}: cut")
        self.lan.set_cut(self.hosts[one], self.hosts[other], True)
        if not one_way:
            self.lan.set_cut(self.hosts[other], self.hosts[one], True)

    def split(self, *groups: str) -> None:
        """Cut all that leads from one group to another: split("a", "bc")."""
        for group in groups:
            for other in groups:
                for one in group if other != group else ():
                    for there in other:
                        self.cut(one, there, one_way=True)

    def heal(self, one: str = "", other: str = "") -> None:
        """Frames pass again: from one to the other, or all."""
        self.tell(f"{one or 'all'} -> {other or 'all'}: heals")
        for path in self.lan.paths.values():
            if one in ("", path.source.key) and other in ("", path.target.key):
                self.lan.set_cut(path.source, path.target, False)

    def reset(self, one: str, other: str) -> None:
        """A forged reset ends the link of one with the other."""
        self.tell(f"{one}: gets a forged reset for its links with {other}")
        there = self.hosts[other]
        for end in list(self.hosts[one].ends.values()):
            if end.peer is not None and end.peer.host is there:
                self.links.reset_link(end)

    def give(self, key: str, event: ev.Event) -> None:
        """Let something else happen to a node now, or when it goes on."""
        host = self.hosts[key]
        self._later(host, host.incarnation, event)

    def run(self, for_ms: int) -> None:
        """Let time pass."""
        self.time.run_to(self.time.now_us + for_ms * MS)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 60_000) -> int:
        """Let time pass until the condition holds; return how many ms that took."""
        began_us = self.time.now_us
        while not condition():
            if not self.time.step(began_us + limit_ms * MS):
                raise AssertionError(f"not within {limit_ms} ms\n{self}")
        return -(-(self.time.now_us - began_us) // MS)

    # What a story looks at.

    @property
    def now_ms(self) -> int:
        """True time."""
        return self.time.now_us // MS

    @property
    def serving(self) -> str:
        """Who serves now, as "a" or "ab"; a paused or stale node does not."""
        now_us = self.time.now_us
        return "".join(k for k, h in self.hosts.items() if h.serves(now_us))

    def snapshot(self, key: str) -> Snapshot:
        """Return the node's own view."""
        return self.hosts[key].view()

    def log(self, key: str) -> list[str]:
        """Return what the node reported."""
        return [sentence for _, sentence in self.hosts[key].log]

    def local_ms(self, host: Host) -> int:
        """Return what a machine's clock shows."""
        return host.clock.read_ms(self.time.now_us)

    def tell(self, words: str) -> None:
        """Add to the story."""
        if self.telling is not None:
            self.telling(f"{self.time.now_us / 1e6:11.6f} [{self.serving:2}] {words}")

    def __str__(self) -> str:
        lines = [f"at {self.now_ms} ms, serving: {self.serving!r}"]
        for key, host in self.hosts.items():
            if host.stranger:
                continue
            state = "asleep " * host.asleep + "frozen " * host.frozen + "off" * (not host.powered)
            if host.node is None:
                lines.append(f"{key}: down {state} {host.exit or ''}")
            else:
                view = host.view()
                links = " ".join(f"{n.name.name}:{n.state}" for n in view.nodes)
                believes = f"{view.phase}; {view.sentence}; {view.highest}; {links}"
                lines.append(f"{key}: {state}{believes}")
            lines += [f"    {at_ms} {sentence}" for at_ms, sentence in host.log[-3:]]
        cuts = [f"{p.source.key}->{p.target.key}" for p in self.lan.paths.values() if p.cut]
        return "\n".join([*lines, f"cut: {' '.join(cuts) or 'nothing'}"])

    # The shell around a core, as chucky/daemon.py is.

    def step(self, host: Host, event: Any) -> None:
        """Step a core; what its actions cause at once is stepped after them, in order."""
        host.events.append(event)
        if host.stepping:
            return
        host.stepping = True
        node, hooks, news = host.node, self._hooks, False
        assert node is not None
        while host.events and host.node is node:
            event = host.events.popleft()
            self.steps += 1
            for before in hooks["before"]:
                before(host, event)
            for action in node.step(event, self.local_ms(host)):
                for acts in hooks["acts"]:
                    acts(host, action)
                self._act(host, action)
            news |= node.news
        host.stepping = False
        if news:
            host.stepped()
        for stepped in hooks["stepped"]:
            stepped(host)
        self._arm(host)

    def _arm(self, host: Host) -> None:
        at_ms = None if host.node is None else host.node.deadline()
        soon_ms = min(at_ms or 0, self.local_ms(host) + 1)
        if at_ms == host.armed_ms or (host.armed_ms is not None and host.armed_ms <= soon_ms):
            return
        host.armed_ms = at_ms
        host.timer += 1
        if at_ms is not None:
            assert at_ms > self.local_ms(host), f"{host.key}'s deadline {at_ms} is not ahead"
            late_us = int(self.rng.random() * host.late_us)
            if self.rng.random() < self.early_share:
                late_us = -MS + 1  # timers that count from a truncated clock do that
            due_us = host.clock.when_us(at_ms) + late_us
            self.time.at(due_us, self._wake, host, host.timer)

    def _wake(self, host: Host, timer: int) -> None:
        if host.timer != timer or host.node is None:
            return
        due_ms, host.armed_ms = host.armed_ms, None
        if host.paused:
            host.overdue = due_ms
        else:
            self.step(host, ev.Wake(due_ms))

    def _catch_up(
        self, host: Host, backlog: list[tuple[End | None, Callable[..., None], tuple[Any, ...]]]
    ) -> None:
        streams: dict[int, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        for source, what, args in backlog:
            streams.setdefault(id(source) if source else 0, []).append((what, args))
        waiting = [as_one(s) if self.rng.random() < 0.5 else s for s in streams.values()]
        for items in waiting:
            items.reverse()
        if host.overdue is not None:  # what it had not read by then may come after it
            at = len(waiting) if self.rng.random() < 0.5 else 0
            waiting.insert(at, [(self.step, (host, ev.Wake(host.overdue)))])
            host.overdue = None
        node = host.node
        while waiting and host.node is node and node is not None:
            items = self.rng.choice(waiting) if len(waiting) > 1 else waiting[0]
            what, args = items.pop()
            if not items:
                waiting.remove(items)
            what(*args)

    def _later(self, host: Host, incarnation: int, event: Any) -> None:
        if host.node is not None and host.incarnation == incarnation:
            host.input(None, self.step, host, event)

    def _act(self, host: Host, action: ac.Action) -> None:
        match action:
            case ac.Send(link, message):
                self.sends[host.key] = self.sends.get(host.key, 0) + 1
                self.links.send(host, link, message)
            case ac.Announce(asks, to):
                self.lan.announce(host, asks, to)
            case ac.Dial(link, address, expected, former):
                self.links.dial(host, link, address, expected, former)
            case ac.Close(link):
                if link in host.ends:
                    self._lost(host, link)
                    self.links.close(host.ends[link])
            case ac.Prepare():
                failed = ev.ApplicationFailed(host.unready) if host.unready else None
                self._application(host, failed or ev.ApplicationReady())
            case ac.StartApplication(epoch):
                failed = ev.ApplicationFailed(host.fails) if host.fails else None
                self._application(host, failed or ev.ApplicationStarted(epoch))
            case ac.Report(_, sentence):
                host.log.append((self.now_ms, sentence))
                self.tell(f"{host.key}: {sentence}")
            case ac.RequestDone():
                host.answers.append(action)
            case ac.Exit(code, sentence):
                host.exit = (code, sentence)
                for end in list(host.ends.values()):
                    self.links.close(end)
                self._gone(host, f"exits {code}: {sentence}")

    def _application(self, host: Host, event: ev.Event) -> None:
        if host.app_us:
            wait_us = int(self.rng.random() * host.app_us)
            self.time.after(wait_us, self._later, host, host.incarnation, event)
        else:
            host.events.append(event)

    def _gone(self, host: Host, how: str) -> None:
        host.forget()
        self._ended_us[host.key] = self.time.now_us
        host.asleep = False
        self.tell(f"{host.key}: {how}")
        for ended in self._hooks["ended"]:
            ended(host)

    def _data(self, host: Host, link: int, message: Message) -> None:
        for data in self._hooks["data"]:
            data(host, link, message)

    def _lost(self, host: Host, link: int) -> None:
        for lost in self._hooks["lost"]:
            lost(host, link)
