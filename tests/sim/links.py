"""The links: two ends each, and the stream that each end sends, as TCP and net/links.py do it.

A stream is in order and loses nothing while both ends stay; what does not pass is kept and sent
anew some time after it could. The handshake is modelled as time and outcome.
"""

import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from chucky.core.events import Ended, LinkBegan, LinkDown, LinkUp, MessageReceived
from chucky.messages import Answer, Ask, Message
from chucky.names import Address, NodeName
from chucky.wire import codec
from tests.sim.clock import MS, Time
from tests.sim.network import PORT, Lan, Path

if TYPE_CHECKING:
    from tests.sim.host import Host

CONNECT_US = 250 * MS  # net/links.py, connect_timeout_ms: design rule 4
LINGER_US = 1000 * MS  # net/links.py, LINGER_MS
FIRST_RETRY_US = 200 * MS  # Linux TCP_RTO_MIN; doubled with each loss, so
LAST_RETRY_US = 8000 * MS  # a stream is late by at most as long as it was cut, and this


class Seg(Enum):
    """What travels on a stream besides messages: the four of the handshake, and its ends."""

    NAME = 1
    CHALLENGE = 2
    PROOF = 3
    ACK = 4
    REFUSAL = 5
    FIN = 6
    RST = 7


class At(Enum):
    """Where an end of a link stands."""

    CONNECTING = 0
    HANDSHAKE = 1
    UP = 2
    CLOSING = 3  # closed by its node: flushes, and tells nothing any more
    GONE = 4


class End:
    """One end of a link, and the stream that it sends."""

    __slots__ = (
        "host", "incarnation", "link", "at", "peer", "path", "queue", "last_us", "stalled_us",
        "address", "claimed", "expected", "former", "late_us", "reset",
    )  # fmt: skip

    def __init__(self, host: "Host", link: int, address: Address, path: Path) -> None:
        self.host = host
        self.incarnation = host.incarnation
        self.link = link
        self.at = At.CONNECTING
        self.peer: End | None = None
        self.path = path  # that of what it sends
        self.queue: deque[tuple[int, Seg | bytes]] = deque()
        self.last_us = 0
        self.stalled_us: int | None = None
        self.address = address
        self.claimed: NodeName | None = None
        self.expected: NodeName | None = None
        self.former: int | None = None
        self.late_us = 0  # when the handshake's next word must have come
        self.reset = False  # its kernel had a reset: a paused process learns of it when it goes on


class Links:
    """All links. What a node is told goes to `tell(host, event)`, what the data plane gets to
    `data(host, link, message)`, and the end of a link also to `lost(host, link)`."""

    def __init__(
        self,
        lan: Lan,
        data: Callable[["Host", int, Message], None],
        lost: Callable[["Host", int], None],
    ) -> None:
        self.lan = lan
        self.time: Time = lan.time
        self.rng: random.Random = lan.rng
        self.tell = lan.tell
        self.data = data
        self.lost = lost
        self._stalled: list[End] = []
        lan.mended = self.changed

    def changed(self) -> None:
        """Paths pass or hosts are on that were not: send anew what was kept back."""
        for end in [e for e in self._stalled if e.path.passes]:
            self._stalled.remove(end)
            if end.stalled_us is None or not end.queue:
                continue
            late_us = min(self.time.now_us - end.stalled_us + FIRST_RETRY_US, LAST_RETRY_US)
            again_us = self.time.now_us + int(self.rng.random() * late_us)
            end.path.clear_us = max(end.path.clear_us, again_us)
            self.time.at(again_us, self._resume, end)

    def _resume(self, end: End) -> None:
        if not end.path.passes:
            self._stalled.append(end)
            return
        end.stalled_us = None
        if end.queue:
            now_us = self.time.now_us
            end.last_us = now_us
            end.queue = deque((now_us, seg) for _, seg in end.queue)
            self._pump(end)

    def reset_link(self, end: End) -> None:
        """A forged RST reaches one end; the other learns of it when it sends."""
        now_us = self.time.now_us
        end.path.clear_us = max(end.path.clear_us, now_us)
        if end.host.on and end.at is not At.GONE:
            self._arrives(end, Seg.RST)

    # Streams.

    def put(self, end: End, seg: Seg | bytes) -> None:
        """Send something on a stream."""
        due_us = max(end.last_us, self.time.now_us + self.lan.delay_us(end.path))
        end.last_us = due_us
        end.queue.append((due_us, seg))
        if len(end.queue) == 1 and end.stalled_us is None:
            self.time.at(due_us, self._pump, end)

    def _pump(self, end: End) -> None:
        queue, now_us = end.queue, self.time.now_us
        while queue and queue[0][0] <= now_us:
            if end.stalled_us is not None:
                return
            if not end.path.passes:
                end.stalled_us = now_us
                self._stalled.append(end)
                return
            seg = queue.popleft()[1]
            assert end.peer is not None
            self._arrives(end.peer, seg)
        if queue and end.stalled_us is None:
            self.time.at(queue[0][0], self._pump, end)

    def _reset(self, end: End) -> None:
        """Send a reset: after what was sent before, and nobody sends it again."""
        due_us = max(end.last_us, self.time.now_us + self.lan.delay_us(end.path))
        self.time.at(due_us, self._reset_arrives, end)

    def _reset_arrives(self, end: End) -> None:
        if end.path.passes and end.peer is not None and end.peer.at is not At.GONE:
            self._arrives(end.peer, Seg.RST)

    def _arrives(self, end: End, seg: Seg | bytes) -> None:
        """At the kernel: without the process whose link it was, it answers with a reset."""
        host = end.host
        if end.at is At.CLOSING:  # it only waits for the other to close, too
            if seg is Seg.FIN or seg is Seg.RST:
                end.at = At.GONE
            return
        over = end.at is At.GONE or end.reset
        if over or host.node is None or host.incarnation != end.incarnation:
            if seg is not Seg.RST:
                self._reset(end)
            return
        if seg is Seg.RST:
            end.reset = True
            end.queue.clear()
        host.input(end, self._read, end, seg)

    def _read(self, end: End, seg: Seg | bytes) -> None:
        """At the process: one thing is read."""
        if end.at in (At.GONE, At.CLOSING):
            return
        if isinstance(seg, bytes):
            if end.at is At.UP:
                message = codec.decode(seg)
                assert message is not None
                if isinstance(message, (Ask, Answer)):
                    self.data(end.host, end.link, message)
                else:
                    self.tell(end.host, MessageReceived(end.link, message))
        elif seg is Seg.FIN or seg is Seg.RST:
            if seg is Seg.FIN:
                self._reset(end)  # who was told of the end closes at once
            self._ends(end, Ended.CLOSED)
        else:
            self._handshake(end, seg)

    # Links.

    def dial(
        self,
        host: "Host",
        link: int,
        address: Address,
        expected: NodeName | None = None,
        former: int | None = None,
    ) -> None:
        """Connect and shake hands, as net/links.py does."""
        target = next((h for h in self.lan.hosts if h.address.host == address.host), None)
        target = host if address in host.others else target
        if target is None or target is host:
            why, took_us = (Ended.UNREACHED, CONNECT_US) if target is None else (Ended.PROTOCOL, MS)
            end = End(host, link, address, Path(host, host, 0, 0))
            host.ends[link] = end
            end.claimed = None if target is None else host.name
            if target is host:
                host.last_accepted -= 1
                self.tell(host, LinkBegan(host.last_accepted, host.name, host.incarnation))
                accepted = LinkDown(host.last_accepted, Ended.PROTOCOL, host.name, host.address)
                self.time.after(took_us, self._later, host, host.incarnation, accepted)
            self.time.after(took_us, self._fails, end, why)
            return
        end = End(host, link, address, self.lan.path(host, target))
        end.expected, end.former = expected, former
        host.ends[link] = end
        self.time.after(CONNECT_US, self._fails, end, Ended.UNREACHED)
        knocks = self._stranger_knocked if target.stranger else self._knocked
        self.time.after(self.lan.delay_us(end.path), knocks, end, target, address.port)

    def _later(self, host: "Host", incarnation: int, event: Any) -> None:
        if host.node is not None and host.incarnation == incarnation:
            host.input(None, self.tell, host, event)

    def _fails(self, end: End, why: Ended) -> None:
        """The connect time is over, or an answer says that it failed."""
        host = end.host
        if end.at is At.CONNECTING and host.node is not None:
            if host.incarnation == end.incarnation:
                host.input(end, self._failed, end, why)

    def _failed(self, end: End, why: Ended) -> None:
        if end.at is At.CONNECTING:
            self._ends(end, why)

    def _knocked(self, end: End, target: "Host", port: int) -> None:
        """A SYN arrives; one that is lost is lost, since its second comes after a second."""
        back = self.lan.path(target, end.host)
        if not end.path.passes or target.address.host != end.address.host:  # it moved meanwhile
            return
        if target.node is None or port != PORT:
            self.time.after(self.lan.delay_us(back), self._answered, end, back, None)
            return
        other = End(target, 0, Address(end.host.address.host, 50000), back)
        other.peer = end
        other.at = At.HANDSHAKE
        self.time.after(self.lan.delay_us(back), self._answered, end, back, other)

    def _answered(self, end: End, back: Path, other: End | None) -> None:
        if not back.passes or end.at is not At.CONNECTING or end.host.node is None:
            return
        if end.host.incarnation != end.incarnation:
            return
        if other is None:
            self._fails(end, Ended.REFUSED)
            return
        where = (other.host.address.host, end.host.address.host)
        if where != (end.address.host, other.address.host):  # one of them moved meanwhile
            return
        end.peer = other
        end.at = At.HANDSHAKE  # the kernel's word: the node hears of it with the handshake
        self._limit_handshake(end)
        self.put(end, Seg.NAME)

    def _stranger_knocked(self, end: End, target: "Host", port: int) -> None:
        """A host without the cookie: it refuses us, or never says a thing, or is not there."""
        if not end.path.passes or end.at is not At.CONNECTING:
            return
        end.claimed = self.rng.choice([None, *(h.name for h in self.lan.hosts if not h.stranger)])
        why = self.rng.choice((Ended.REFUSED, Ended.COOKIE, Ended.PROTOCOL, Ended.UNREACHED))
        wait_us = end.host.settings.tick_time_ms * MS if why is Ended.UNREACHED else 0
        self.time.after(wait_us + self.lan.delay_us(end.path), self._fails, end, why)

    def _limit_handshake(self, end: End) -> None:
        end.late_us = self.time.now_us + end.host.settings.tick_time_ms * MS
        self.time.at(end.late_us, self._handshake_late, end)

    def _handshake_late(self, end: End) -> None:
        if end.at is At.HANDSHAKE and end.host.node is not None:
            if end.host.incarnation == end.incarnation and self.time.now_us >= end.late_us:
                end.host.input(end, self._gives_up, end)

    def _gives_up(self, end: End) -> None:
        if end.at is At.HANDSHAKE:
            self._reset(end)
            self._ends(end, Ended.UNREACHED)

    def _handshake(self, end: End, seg: Seg) -> None:
        peer = end.peer
        assert peer is not None
        if seg is Seg.NAME:
            end.host.last_accepted -= 1
            end.link = end.host.last_accepted
            end.host.ends[end.link] = end
            end.claimed = peer.host.name
            self.tell(end.host, LinkBegan(end.link, peer.host.name, peer.incarnation))
            self._reply(end, Seg.CHALLENGE)
        elif seg is Seg.CHALLENGE:
            end.claimed = peer.host.name
            if end.expected in (None, end.claimed) and peer.incarnation != end.former:
                self._reply(end, Seg.PROOF)
            else:
                self._reset(end)
                self._ends(end, Ended.PROTOCOL)
        elif seg is Seg.REFUSAL:
            self._ends(end, Ended.COOKIE)
        elif seg is Seg.PROOF and end.host.cookie != peer.host.cookie:
            self._reply(end, Seg.REFUSAL)
            self.close(end, told=True)
        elif seg is Seg.PROOF:
            self._reply(end, Seg.ACK)
            self._up(end, peer)
        else:
            self._up(end, peer)

    def _reply(self, end: End, seg: Seg) -> None:
        if end.at is At.HANDSHAKE:  # not closed by the node meanwhile
            self._limit_handshake(end)
            self.put(end, seg)

    def _up(self, end: End, peer: End) -> None:
        if end.at is At.HANDSHAKE:
            end.at = At.UP
            end.path.known = (end.incarnation, peer.incarnation)
            up = LinkUp(end.link, peer.host.name, peer.incarnation, end.address)
            self.tell(end.host, up)

    def send(self, host: "Host", link: int, message: Message) -> None:
        """Send a message over a link that is up, as bytes."""
        end = host.ends.get(link)
        if end is not None and end.at is At.UP:
            self.put(end, codec.encode(message))

    def close(self, end: End, told: bool = False) -> None:
        """End a link after what was sent on it; `told`: with a LinkDown for a refused cookie."""
        host = end.host
        host.ends.pop(end.link, None)
        if end.at is At.UP or told:
            end.at = At.CLOSING
            self.put(end, Seg.FIN)
            self.time.after(LINGER_US, self._lingered, end)
        elif end.at is not At.GONE:
            connected = end.at is At.HANDSHAKE
            end.at = At.GONE
            end.queue.clear()
            if connected and end.peer is not None:
                self._reset(end)
        if told:
            self.tell(host, LinkDown(end.link, Ended.COOKIE, end.claimed, end.address))

    def _lingered(self, end: End) -> None:
        if end.at is At.CLOSING:
            end.at = At.GONE
            if end.queue:
                end.queue.clear()
                self._reset(end)

    def _ends(self, end: End, why: Ended) -> None:
        end.at = At.GONE
        end.queue.clear()
        if end.host.ends.pop(end.link, None) is not None:
            self.lost(end.host, end.link)
            self.tell(end.host, LinkDown(end.link, why, end.claimed, end.address))

    def lead_nowhere(self, host: "Host") -> None:
        """Nothing that is sent on its links arrives any more, either way."""
        for end in [end for one in self.lan.hosts for end in one.ends.values()]:
            if end.host is host or (end.peer is not None and end.peer.host is host):
                for one in (end, end.peer):
                    if one is not None:
                        one.path = Path(one.path.source, one.path.target, 0, 0)
                        one.path.cut = True

    def hold_up(self, end: End, for_us: int) -> None:
        """A segment of its stream is lost, and sent again after so long: what comes after waits."""
        end.last_us = max(end.last_us, self.time.now_us + for_us)
        self.lan.hiccup(end.path, end.last_us)

    def process_died(self, host: "Host") -> None:
        """The kernel closes what the process had open, after what it had sent."""
        for end in host.ends.values():
            if end.peer is not None and end.at in (At.UP, At.HANDSHAKE):
                self.put(end, Seg.FIN)
            end.at = At.GONE
        host.ends.clear()

    def power_failed(self, host: "Host") -> None:
        """Nothing is sent any more, not even an end."""
        for end in host.ends.values():
            end.at = At.GONE
            end.queue.clear()
        host.ends.clear()


def as_one(stream: list[tuple[Any, tuple[Any, ...]]]) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return what is left of a stream that waits when net/links.py reads all of it in one turn: of
    Statuses in a row the last."""
    left: list[tuple[Any, tuple[Any, ...]]] = []
    for one in stream:
        if left and _is_status(left[-1]) and _is_status(one):
            left.pop()
        left.append(one)
    return left


def _is_status(one: tuple[Any, tuple[Any, ...]]) -> bool:
    data = one[1][-1]
    return isinstance(data, bytes) and data.startswith(codec.STATUS)
