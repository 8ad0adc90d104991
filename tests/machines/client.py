"""The client on the LAN that asks all machines throughout, and what it sees of a scenario."""

import ctypes
import threading
import time
from dataclasses import dataclass, field

from tests.lan.bed import now_ms
from tests.lan.eye import ASK_LIMIT_MS, PERIOD_MS, Record, ask
from tests.machines.lab import until
from tests.machines.tally import TABLE, Row, Span, Tally

DEAD_LIMIT_MS = 500  # a request to a node that may be dead is given up so soon


class Client:
    """Asks every node over and over, one request at a time for each node."""

    def __init__(self, lab_pid: int, addresses: dict[str, str]) -> None:
        self.record = Record()
        self.addresses = addresses
        self._namespace = f"/proc/{lab_pid}/ns/net"
        self._rounds = dict.fromkeys(addresses, 0)
        self._closed = threading.Event()
        for node in addresses:
            self.ask(node, ASK_LIMIT_MS)

    def ask(self, node: str, limit_ms: int) -> None:
        """Ask this node with this limit from now on; an open request is left to its own end."""
        self._rounds[node] += 1
        arguments = (node, self._rounds[node], limit_ms)
        threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _run(self, node: str, turn: int, limit_ms: int) -> None:
        with open(self._namespace) as namespace:  # os.setns is Python 3.12's
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET, of this thread alone
                raise OSError(ctypes.get_errno(), f"setns {self._namespace}")
        while self._rounds[node] == turn and not self._closed.is_set():
            began_ms, record = now_ms(), self.record
            record.add(ask(node, self.addresses[node], 4040, limit_ms))
            time.sleep(max(0, PERIOD_MS - (now_ms() - began_ms)) / 1000)


@dataclass(slots=True)
class Seen:
    """What the client sees of one scenario: a context that ends in a row of the table.

    `owners` are the labels that may answer, in this order; those in `dead` are not live, until they
    are back.
    """

    client: Client
    what: str
    owners: str
    dead: str = ""
    note: str = ""
    record: Record = field(default_factory=Record)
    _began_ms: int = 0
    _down: list[Span] = field(default_factory=list)
    _deaf: list[Span] = field(default_factory=list)

    def __enter__(self) -> "Seen":
        self._began_ms = now_ms()
        for node in self.dead:
            self.client.ask(node, DEAD_LIMIT_MS)
        self.client.record = self.record
        if len(self.owners) > 1:  # else nothing moves, or nobody is up yet
            self.everywhere(self.owners[0], 0)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for node in self.dead:  # whatever a test left, the next begins with all of them asked well
            self.client.ask(node, ASK_LIMIT_MS)
        row = Row(self.what, self.owners)
        TABLE.rows.append(row)
        if kind is None:
            # A fact to a request begun from now on: every request before it has ended.
            now = now_ms()
            for node in self.live:
                until(f"{self.what}: {node} answers", lambda: self.record.facts(node, now))
        down = self._down + [Span(node, self._began_ms, now_ms()) for node in self.dead]
        tally = Tally(self.owners, self.record.asked(), down, self._deaf)
        lost, twofold = tally.lost(), tally.twofold()
        row.gap_ms, row.answers = tally.gap_ms(self.live), len(self.record.facts())
        row.lost, row.twofold = len(lost), len(twofold)
        if kind is None:
            assert tally.complete(), f"{self.what}: want answers by {self.owners} in turn"
            assert not lost, f"{self.what}: lost at live nodes: {lost[:5]}"
            assert not twofold, f"{self.what}: by a second owner: {twofold[:5]}"
            row.note = self.note

    # -- who is there

    @property
    def live(self) -> str:
        """The nodes that are live."""
        return "".join(node for node in self.client.addresses if node not in self.dead)

    def back(self, nodes: str) -> None:
        """These are live from now on."""
        for node in nodes:
            self.down(node, self._began_ms, now_ms())
            self.client.ask(node, ASK_LIMIT_MS)
        self.dead = "".join(node for node in self.dead if node not in nodes)

    def down(self, node: str, from_ms: int, to_ms: int) -> None:
        """It was not up in this time."""
        self._down.append(Span(node, from_ms, to_ms))

    def stopped(self, node: str, stopped_ms: int, ready_ms: int) -> None:
        """It stopped and was ready again: it was not up from its last fact before that on, since
        systemd notes the moment only when the signal has been sent."""
        facts = self.record.facts(node)
        self.down(node, max(x.ended_ms for x in facts if x.ended_ms <= stopped_ms), ready_ms)

    def deaf(self, node: str, to_ms: int) -> None:
        """It did not hear the others until then: it may have owned as well."""
        self._deaf.append(Span(node, 0, to_ms))

    # -- what came of it

    def first(self, owner: str, after_ms: int, nodes: str = "") -> int:
        """Wait for this owner's first fact since then at one of these nodes (the live ones); return
        when it came."""
        nodes = nodes or self.live
        return min(
            until(
                f"{self.what}: a fact by {owner} at {nodes}",
                lambda: [
                    x.ended_ms
                    for x in self.record.facts(nodes)
                    if x.owner == owner and x.ended_ms >= after_ms
                ],
            )
        )

    def everywhere(self, owner: str, after_ms: int) -> int:
        """Wait until each live node has given this owner's fact since then; return when."""
        return max(self.first(owner, after_ms, node) for node in self.live)
