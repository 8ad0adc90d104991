"""The waits before a node may decide: the look round (rule 1) and the sync (mandatory, optional).

The sync is Erlang's (kernel_config.erl), with two differences: it is only for forming a cluster,
never for joining one that is formed, and its deadline is exact.
"""

from dataclasses import dataclass

from chucky.names import NodeName, NodePattern
from chucky.settings import Settings

LOOK_MS = 200  # a LAN answers a beacon in a few ms; a busy machine in some tens
LOOK_LIMIT_MS = 2000  # interfaces that keep coming up cannot hold the look longer

Start = tuple[NodeName, int]  # one start of a node: its name and incarnation


class Look:
    """Listening before a verdict: 200 ms, and the end of every handshake begun in that time with
    a node that is not heard meanwhile."""

    def __init__(self, tick_time_ms: int) -> None:
        self._tick_time_ms = tick_time_ms
        self._until_ms: int | None = None
        self._limit_ms = 0
        # Of each link: by when, whose, and the first tick told after it began.
        self._handshakes: dict[int, tuple[int, Start | None, int]] = {}
        self._heard: dict[NodeName, int] = {}  # the latest incarnation of each
        self.begun = 0  # times since one was last over

    def begin(self, now_ms: int) -> None:
        """Start looking, or start anew: at the start of the node, and after it was stalled."""
        self.begun += 1
        self._until_ms = now_ms + LOOK_MS
        self._limit_ms = now_ms + LOOK_LIMIT_MS
        self._forget()

    def interface_came_up(self, now_ms: int) -> None:
        """An interface that comes up during the look restarts it, within its limit."""
        if self._until_ms is not None:
            self._until_ms = max(self._until_ms, min(now_ms + LOOK_MS, self._limit_ms))

    def handshake_began(self, link: int, who: Start | None, tick: int, now_ms: int) -> None:
        """A handshake begun while looking is waited for, at most one tick time. `who` connected
        here, as it says; None: this node dials. `tick` is the next one to be told."""
        if self._until_ms is not None and now_ms <= self._until_ms and not self._knows(who):
            self._handshakes[link] = now_ms + self._tick_time_ms, who, tick

    def handshake_ended(self, link: int) -> None:
        """It is done, well or badly."""
        self._handshakes.pop(link, None)

    def heard(self, name: NodeName, incarnation: int, echo: int) -> None:
        """A start of a node said what it knows now: neither it nor a former one tells more in a
        handshake, which it may have left without a word that arrived. Whose handshake began before
        a tick that this start answers is a former one, whatever its incarnation (a clock may have
        been set back)."""
        if self._until_ms is None:
            return
        self._heard[name] = max(incarnation, self._heard.get(name, 0))
        for link, (_, who, tick) in list(self._handshakes.items()):
            if self._knows(who) or (who is not None and who[0] == name and echo >= tick):
                del self._handshakes[link]

    def _knows(self, who: Start | None) -> bool:
        return who is not None and who[1] <= self._heard.get(who[0], -1)

    def over(self, now_ms: int) -> bool:
        """Return whether the look is over; once over it stays so until `begin`."""
        if self._until_ms is not None and now_ms >= self.deadline():
            self._until_ms = None
            self._forget()
            self.begun = 0
        return self._until_ms is None

    def deadline(self) -> int:
        """When the look is over if nothing happens; only while it goes on."""
        assert self._until_ms is not None
        return max([self._until_ms, *[by_ms for by_ms, _, _ in self._handshakes.values()]])

    @property
    def goes_on(self) -> bool:
        """Whether the look has not been seen to be over."""
        return self._until_ms is not None

    def _forget(self) -> None:
        self._handshakes.clear()
        self._heard.clear()


@dataclass(frozen=True, slots=True)
class Missing:
    """The sync failed: these mandatory nodes did not show up."""

    nodes: tuple[NodePattern, ...]


class Sync:
    """Who has to be seen before this node may form a cluster."""

    def __init__(self, settings: Settings, me: NodeName, now_ms: int) -> None:
        d = settings.distributed
        listed = d.nodes.tier(me) is not None  # an observer forms no cluster: it waits for nobody
        self._mandatory = [p for p in d.sync_nodes_mandatory if listed and not p.matches(me)]
        self._optional = [p for p in d.sync_nodes_optional if listed and not p.matches(me)]
        self.deadline_ms = (
            None if d.sync_nodes_timeout_ms is None else now_ms + d.sync_nodes_timeout_ms
        )
        self.synced = False

    def saw(self, node: NodeName) -> None:
        """A link with this node came up; that counts even if it leaves again."""
        self._mandatory = [p for p in self._mandatory if not p.matches(node)]
        self._optional = [p for p in self._optional if not p.matches(node)]

    @property
    def awaited(self) -> tuple[NodePattern, ...]:
        """The nodes not seen yet, the mandatory ones first."""
        return (*self._mandatory, *self._optional)

    def settle(self, formed: bool, looking: bool, now_ms: int) -> Missing | None:
        """Become synced where that is due; return what is missing when the time is up.

        `formed`: a peer of the same digest is synced, so there is a cluster to join. `looking`: the
        look goes on; it holds up becoming synced, but not the deadline (S3).
        """
        if not self.synced:
            late = self.deadline_ms is not None and now_ms >= self.deadline_ms
            if formed or not self.awaited or (late and not self._mandatory):
                self.synced = not looking
            elif late:
                return Missing(tuple(self._mandatory))
        return None
