"""A small cluster of real Nodes on a virtual clock: the network delivers in order after 1 ms.

Dials, handshakes and applications succeed unless told otherwise. Time moves only in `run`.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.node import Node
from chucky.core.snapshot import Snapshot
from chucky.messages import Answer, Ask, Beacon, Epoch, Message
from chucky.names import Address, NodeName
from chucky.settings import Settings

DELAY_MS = 1
PORT = 4041


def name(short: str) -> NodeName:
    """Return a's full name."""
    return NodeName(short, "h")


@dataclass
class Host:
    """A machine: its node when it runs, and what is wrong with it."""

    short: str
    settings: Settings
    node: Node | None = None
    incarnation: int = 0
    frozen: bool = False
    powered: bool = True
    fails: str = ""  # why the application cannot start; "" when it can
    unready: str = ""  # why it cannot get ready
    serving: Epoch | None = None
    armed_ms: int | None = None
    log: list[str] = field(default_factory=list)
    reports: list[ac.Report] = field(default_factory=list)
    exit: tuple[int, str] | None = None
    backlog: list[ev.Event] = field(default_factory=list)

    @property
    def address(self) -> Address:
        """Where it is dialled."""
        return Address(f"10.0.0.{ord(self.short) - 96}", PORT)


@dataclass
class Wire:
    """One TCP connection: its two ends and the link id at each."""

    ends: dict[str, int]
    incarnations: dict[str, int]


class Cluster:
    """Hosts by their short name, a clock, and a heap of what is to come."""

    def __init__(self, settings: Settings, shorts: str = "abc") -> None:
        self.now_ms = 1000
        self.hosts = {s: Host(s, settings) for s in shorts}
        self.wires: list[Wire] = []
        self.cuts: set[frozenset[str]] = set()
        self.ids = itertools.count(1)
        self.incarnations = itertools.count(1)
        self.names = {s: name(s) for s in shorts}  # what each calls itself
        self.owners: list[tuple[int, tuple[str, ...]]] = []  # (time, who serves), at each change
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # What a test does.

    def start(self, *shorts: str, settings: Settings | None = None) -> None:
        """Start nodes, each a new incarnation."""
        for short in shorts:
            host = self.hosts[short]
            host.settings = settings or host.settings
            host.incarnation = next(self.incarnations)
            host.exit, host.frozen, host.powered = None, False, True
            host.node = Node(host.settings, self.names[short], host.incarnation, self.now_ms)
            self._step(host, ev.Wake())

    def kill(self, *shorts: str) -> None:
        """SIGKILL: the host closes its connections and refuses new ones."""
        for short in shorts:
            host = self.hosts[short]
            host.node, host.serving = None, None
            self._note()
            for wire in [w for w in self.wires if short in w.ends]:
                self._break(wire, short)

    def power_off(self, short: str) -> None:
        """No power: nothing is sent any more."""
        self.hosts[short].powered = False
        self.hosts[short].node, self.hosts[short].serving = None, None
        self._note()

    def freeze(self, short: str) -> None:
        """SIGSTOP: the host still answers for it, the node does not."""
        self.hosts[short].frozen = True

    def thaw(self, short: str) -> None:
        """SIGCONT: the timer that is overdue first, then what came meanwhile."""
        host = self.hosts[short]
        host.frozen = False
        backlog, host.backlog = host.backlog, []
        self._step(host, ev.Wake())
        for event in backlog:
            self._step(host, event)

    def cut(self, one: str, other: str) -> None:
        """Frames between the two vanish."""
        self.cuts.add(frozenset((one, other)))

    def heal(self) -> None:
        """All frames pass again."""
        self.cuts.clear()

    def give(self, short: str, event: ev.Event) -> None:
        """Let something happen to a node now."""
        self._step(self.hosts[short], event)

    def run(self, for_ms: int) -> None:
        """Let time pass."""
        end_ms = self.now_ms + for_ms
        while self._due and self._due[0][0] <= end_ms:
            self.now_ms, _, what = heapq.heappop(self._due)
            what()
        self.now_ms = end_ms

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 60_000) -> int:
        """Let time pass until the condition holds; return how long that took."""
        began_ms, end_ms = self.now_ms, self.now_ms + limit_ms
        while not condition():
            assert self._due and self._due[0][0] <= end_ms, f"not within {limit_ms} ms\n{self}"
            self.now_ms, _, what = heapq.heappop(self._due)
            what()
        return self.now_ms - began_ms

    # What a test looks at.

    @property
    def serving(self) -> str:
        """Who serves now, as "a" or "ab"; a frozen or stale node does not."""
        return "".join(s for s in self.hosts if self._serves(self.hosts[s]))

    def snapshot(self, short: str) -> Snapshot:
        """Return the node's own view."""
        node = self.hosts[short].node
        assert node is not None
        return node.snapshot()

    def log(self, short: str) -> list[str]:
        """Return what the node reported."""
        return self.hosts[short].log

    def most_served(self) -> int:
        """Return the greatest number of nodes that ever served at once."""
        return max((len(who) for _, who in self.owners), default=0)

    def __str__(self) -> str:
        lines = [f"at {self.now_ms} ms, serving: {self.serving!r}"]
        for short, host in self.hosts.items():
            if host.node is not None:
                lines.append(f"{short}: {host.node.snapshot()}")
            lines += [f"  {line}" for line in host.log[-6:]]
        return "\n".join(lines)

    # The network.

    def _serves(self, host: Host) -> bool:
        if host.node is None or host.frozen or host.serving is None:
            return False
        until_ms = host.node.snapshot().serve_until_ms
        return until_ms is not None and self.now_ms < until_ms

    def _note(self) -> None:
        who = tuple(self.serving)
        if not self.owners or self.owners[-1][1] != who:
            self.owners.append((self.now_ms, who))

    def _later(self, delay_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_ms + delay_ms, next(self._order), what))

    def _passes(self, one: str, other: str) -> bool:
        on = self.hosts[one].powered and self.hosts[other].powered
        return on and frozenset((one, other)) not in self.cuts

    def _event(self, host: Host, incarnation: int, event: ev.Event) -> None:
        if host.node is not None and host.incarnation == incarnation:
            if host.frozen:
                host.backlog.append(event)
            else:
                self._step(host, event)

    def _step(self, host: Host, event: ev.Event) -> None:
        assert host.node is not None
        for action in host.node.step(event, self.now_ms):
            self._act(host, action)
        self._note()
        self._arm(host)

    def _arm(self, host: Host) -> None:
        if host.node is None:
            return
        at_ms = host.node.deadline()
        if at_ms is not None:
            assert at_ms > self.now_ms, f"deadline {at_ms} is not after {self.now_ms}\n{self}"
            incarnation, host.armed_ms = host.incarnation, at_ms
            self._later(at_ms - self.now_ms, lambda: self._wake(host, incarnation, at_ms))

    def _wake(self, host: Host, incarnation: int, at_ms: int) -> None:
        current = host.node is not None and host.incarnation == incarnation
        if current and not host.frozen and host.armed_ms == at_ms:
            self._step(host, ev.Wake())

    def _act(self, host: Host, action: ac.Action) -> None:
        match action:
            case ac.Announce(asks, to):
                self._announce(host, asks, to)
            case ac.Dial(link, address):
                self._dial(host, link, address)
            case ac.Close(link):
                for wire in [w for w in self.wires if w.ends.get(host.short) == link]:
                    self._later(DELAY_MS, lambda w=wire: self._break(w, host.short))  # type: ignore[misc]
            case ac.Send(link, message):
                self._send(host, link, message)
            case ac.Prepare():
                event = (
                    ev.ApplicationFailed(host.unready) if host.unready else ev.ApplicationReady()
                )
                self._later(0, lambda i=host.incarnation: self._event(host, i, event))  # type: ignore[misc]
            case ac.StartApplication(epoch):
                self._start_application(host, epoch)
            case ac.StopApplication():
                host.serving = None
            case ac.Report(_, sentence):
                host.reports.append(action)
                host.log.append(sentence)
            case ac.ConnectDone():
                host.log.append(f"connect: {action.connected}")
            case ac.Exit(code, sentence):
                host.exit = (code, sentence)
                host.node, host.serving = None, None

    def _start_application(self, host: Host, epoch: Epoch) -> None:
        if host.fails:
            failed = ev.ApplicationFailed(host.fails)
            self._later(0, lambda i=host.incarnation: self._event(host, i, failed))  # type: ignore[misc]
        else:
            host.serving = epoch
            done = ev.ApplicationStarted(epoch)
            self._later(0, lambda i=host.incarnation: self._event(host, i, done))  # type: ignore[misc]

    def _announce(self, host: Host, asks: bool, to: Address | None) -> None:
        beacon = Beacon(self.names[host.short], host.incarnation, PORT, asks)
        for other in self.hosts.values():
            if other is not host and to in (None, Address(other.address.host, 5)):
                event = ev.BeaconHeard(beacon, Address(host.address.host, 5))
                if self._passes(host.short, other.short):
                    self._later(
                        DELAY_MS,
                        lambda o=other, e=event: self._event(o, o.incarnation, e),  # type: ignore[misc]
                    )

    def _dial(self, host: Host, link: int, address: Address) -> None:
        other = next((h for h in self.hosts.values() if h.address == address), None)
        down = ev.LinkDown(link, ev.Ended.REFUSED)
        if other is None or not self._passes(host.short, other.short):
            down = ev.LinkDown(link, ev.Ended.UNREACHED)
            self._later(250, lambda i=host.incarnation: self._event(host, i, down))  # type: ignore[misc]
        elif other.node is None:
            self._later(2 * DELAY_MS, lambda i=host.incarnation: self._event(host, i, down))  # type: ignore[misc]
        elif other.frozen:
            down = ev.LinkDown(link, ev.Ended.PROTOCOL)
            self._later(1000, lambda i=host.incarnation: self._event(host, i, down))  # type: ignore[misc]
        else:
            wire = Wire(
                {host.short: link, other.short: -next(self.ids)},
                {host.short: host.incarnation, other.short: other.incarnation},
            )
            self._later(3 * DELAY_MS, lambda: self._connect(wire, host.short, other.short))

    def _connect(self, wire: Wire, dialler: str, other: str) -> None:
        self.wires.append(wire)
        for one, peer in ((dialler, other), (other, dialler)):
            up = ev.LinkUp(
                wire.ends[one], self.names[peer], wire.incarnations[peer],
                self.hosts[peer].address if one == dialler else Address(
                    self.hosts[peer].address.host, 50000),
            )  # fmt: skip
            self._event(self.hosts[one], wire.incarnations[one], up)

    def _send(self, host: Host, link: int, message: Message) -> None:
        assert not isinstance(message, (Ask, Answer))
        for wire in self.wires:
            if wire.ends.get(host.short) == link:
                other = next(s for s in wire.ends if s != host.short)
                if self._passes(host.short, other):
                    event = ev.MessageReceived(wire.ends[other], message)
                    self._later(DELAY_MS, lambda w=wire, o=other: self._arrive(w, o, event))  # type: ignore[misc]

    def _arrive(self, wire: Wire, at: str, event: ev.Event) -> None:
        if wire in self.wires:
            self._event(self.hosts[at], wire.incarnations[at], event)

    def _break(self, wire: Wire, by: str) -> None:
        if wire in self.wires:
            self.wires.remove(wire)
            other = next(s for s in wire.ends if s != by)
            if self._passes(by, other):
                down = ev.LinkDown(wire.ends[other], ev.Ended.CLOSED)
                self._later(
                    DELAY_MS,
                    lambda: self._event(self.hosts[other], wire.incarnations[other], down),
                )
