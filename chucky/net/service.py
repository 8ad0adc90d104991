"""The fact service: answers each request here, over a link, or as soon as somebody owns.

A request is a connection on TCP 4040 or a `chucky fact` on this machine. It is *waiting* from its
arrival until it is answered, refused or gone; while waiting it is *held* or part of one *flight*,
an Ask on its way over a link. `route` tells at every single decision where a fact can be had; the
service keeps no opinion about that of its own, so it cannot disagree with the core.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from chucky.errors import Unavailable
from chucky.messages import Answer, Ask, Epoch, Message
from chucky.net.fact_port import FactPort
from chucky.settings import Facts

# Facts in one Ask; at 100 bytes each their Answer is 25 kB. An Answer stops at ANSWER_BYTES however
# long the facts are, far below the longest frame; what is missing is asked again.
ASK_FACTS = 256
ANSWER_BYTES = 32 * 1024
# Asks under way at once: 16 x 256 requests a round trip is 4 million a second on a LAN, and at
# most 16 x 32 KiB = 512 KiB waiting in the link of the node that answers.
FLIGHTS = 16
# Requests answered in one go before the loop sees to its links: 256 x 20 us = 5 ms.
DISPATCH_BATCH = 256
# Asks passed on for other nodes; each peer has at most FLIGHTS, so this is for 64 peers.
PASSED = 1024
# More relays that may pass our Ask on (design, "Port 4040": one extra hop, never more).
HOPS = 1
# When nobody could be asked, ask again after this, should the core have no news before.
RETRY_MS = 50


@dataclass(frozen=True, slots=True)
class Serve:
    """This node owns: choose answers under this epoch while the clock is below `until_ms`."""

    epoch: Epoch
    until_ms: int


@dataclass(frozen=True, slots=True)
class Relay:
    """Ask over this link."""

    link: int


@dataclass(frozen=True, slots=True)
class Nobody:
    """There is no owner, or nobody who hears it: hold."""


Route = Serve | Relay | Nobody


class Waiter(Protocol):
    """Who waits for one fact; one of the two is called, once."""

    def answer(self, line: bytes) -> None:
        """Take the fact, one line of UTF-8 with its newline."""

    def refuse(self, why: str) -> None:
        """There will be none; `why` is one sentence."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """An Ask that this node passed on over `over`: who wants the answer, and under which number."""

    over: int
    link: int
    request: int


class FactService:
    """Everything about one fact request; see the module's first lines.

    `clock_ms` is the daemon's one clock. `pick` chooses a fact: one line of UTF-8 with its newline.
    `send` puts a message on a link and neither blocks nor raises. Use it within a running asyncio
    loop.
    """

    def __init__(
        self,
        settings: Facts,
        hold_ms: int,
        clock_ms: Callable[[], int],
        route: Callable[[], Route],
        pick: Callable[[], bytes],
        send: Callable[[int, Message], None],
    ) -> None:
        self._limit = settings.max_connections
        self._hold_ms = hold_ms
        self._clock_ms = clock_ms
        self._route = route
        self._pick = pick
        self._send = send
        self._port = FactPort(
            settings.listen, settings.port, clock_ms, self._newcomers, self._arrive, self._leave
        )
        self._waiting: dict[Waiter, int] = {}  # until when, in that order: hold_ms is one for all
        self._held: dict[Waiter, None] = {}
        self._flights: dict[int, list[Waiter]] = {}  # by number of the Ask; all over one link:
        self._asked: int | None = None
        self._passed: dict[int, _Passed] = {}  # by number of the Ask, the oldest first
        self._number = 0
        self._highest: Epoch | None = None
        self._seen: tuple[Route, Epoch | None] | None = None  # at the last change
        self._expiry: asyncio.TimerHandle | None = None
        self._again: asyncio.Handle | None = None

    def bind(self) -> None:
        """Listen on TCP 4040, if not yet. Raises ChuckyError that names the port."""
        self._port.bind()

    def check(self) -> None:
        """Raise what `bind` would raise now."""
        self._port.check()

    def unbind(self) -> None:
        """Stop listening; who is connected already still gets an answer."""
        self._port.unbind()

    @property
    def bound(self) -> bool:
        """Whether it listens."""
        return self._port.number is not None

    @property
    def port(self) -> int | None:
        """The TCP port it listens on, or None."""
        return self._port.number

    @property
    def waiting(self) -> int:
        """How many requests wait for an answer."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop listening and refuse every request; nothing may be called after this."""
        for waiter in tuple(self._waiting):
            self._refuse(waiter, "this node stops")
        self._port.close()
        for timer in (self._expiry, self._again):
            if timer is not None:
                timer.cancel()

    async def request(self) -> str:
        """Return one fact for somebody on this machine. Raises Unavailable within hold_ms."""
        line = self._newcomers()
        if line is not None:
            return _fact(line)
        waiter = _Local(asyncio.get_running_loop().create_future())
        self._arrive([waiter])
        try:
            return _fact(await waiter.future)
        finally:
            self._leave(waiter)

    def changed(self) -> None:
        """Look at the route again; call it after every step of the core."""
        route = self._route()
        if isinstance(route, Serve):
            self.note_epoch(route.epoch)
        if self._flights and not (isinstance(route, Relay) and route.link == self._asked):
            self._recall()
        if self._seen != (route, self._highest):
            self._seen = (route, self._highest)
            self._forget_retry()
        if self._held:
            self._dispatch()

    def note_epoch(self, epoch: Epoch) -> None:
        """An ownership of this epoch exists or did; answers of lower ones count no more."""
        if self._highest is None or epoch > self._highest:
            self._highest = epoch

    def link_lost(self, link: int) -> None:
        """The link is gone, and every Ask on it."""
        if link == self._asked:
            self._recall()
            if self._held:
                self._dispatch_in(RETRY_MS)
        for number, passed in tuple(self._passed.items()):
            if passed.over == link:
                self._return_empty(number)
            elif passed.link == link:
                del self._passed[number]

    def answer_ask(self, link: int, ask: Ask) -> None:
        """A peer asks for facts: answer, or pass it on, or say that nobody can be asked."""
        facts, epoch = self._choose(min(ask.wanted, ASK_FACTS))
        route = self._route()
        if facts:
            self._send(link, Answer(ask.request, epoch, facts))
        elif ask.hops > 0 and isinstance(route, Relay) and route.link != link:
            if len(self._passed) >= PASSED:
                self._return_empty(next(iter(self._passed)))
            self._number += 1
            self._passed[self._number] = _Passed(route.link, link, ask.request)
            hops = min(ask.hops, HOPS) - 1
            self._send(route.link, Ask(self._number, min(ask.wanted, ASK_FACTS), hops))
        else:
            self._send(link, Answer(ask.request, None, ()))

    def on_answer(self, link: int, answer: Answer) -> None:
        """A peer answers what was asked of it; an answer to anything else is ignored."""
        facts = answer.facts if self._counts(answer.epoch) else ()
        passed = self._passed.get(answer.request)
        if passed is not None and passed.over == link:
            del self._passed[answer.request]
            epoch = answer.epoch if facts else None
            self._send(passed.link, Answer(passed.request, epoch, facts))
        elif answer.request in self._flights and link == self._asked:
            self._land(self._flights.pop(answer.request), facts)

    def _counts(self, epoch: Epoch | None) -> bool:
        """Return whether an answer of this epoch may be used: not one below the highest, nor one
        that the core has not heard of. An owner tells its epoch before it answers; what no owner
        tells is a lie, and if it were noted, no honest answer would ever count again."""
        return epoch is not None and epoch == self._highest

    def _serving(self) -> Epoch | None:
        """Return the epoch to choose one answer in, by a reading of route and clock for it."""
        route = self._route()
        if isinstance(route, Serve) and self._clock_ms() < route.until_ms:
            return route.epoch
        return None

    def _choose(self, count: int) -> tuple[tuple[str, ...], Epoch | None]:
        """Return up to `count` facts, and the epoch they were all chosen in."""
        facts: list[str] = []
        size = 0
        epoch = self._serving()
        while len(facts) < count and size < ANSWER_BYTES:
            if epoch is None or self._serving() != epoch:
                break
            line = self._pick()
            facts.append(_fact(line))
            size += len(line)
        return tuple(facts), epoch

    def _newcomers(self) -> bytes | None:
        """Choose for somebody who comes now; None: it has to wait, as those before it do."""
        return None if self._held or self._serving() is None else self._pick()

    def _arrive(self, waiters: Iterable[Waiter]) -> None:
        """Let these wait."""
        until_ms = self._clock_ms() + self._hold_ms
        for waiter in waiters:
            if len(self._waiting) >= self._limit and self._serving() is not None:
                self._dispatch()  # makes room
            if len(self._waiting) >= self._limit:
                waiter.refuse(f"{self._limit} requests wait already ([facts] max_connections)")
                continue
            self._waiting[waiter] = until_ms
            self._held[waiter] = None
        # While a retry is due nobody could be asked just now; that holds for newcomers too, and a
        # flood of them must not become a flood of Asks.
        if self._again is None or self._serving() is not None:
            self._dispatch()
        if self._waiting and self._expiry is None:
            self._expire_in(self._hold_ms)

    def _leave(self, waiter: Waiter) -> None:
        self._waiting.pop(waiter, None)
        self._held.pop(waiter, None)

    def _refuse(self, waiter: Waiter, why: str) -> None:
        self._leave(waiter)
        waiter.refuse(why)

    def _answer(self, waiter: Waiter, line: bytes) -> None:
        self._leave(waiter)
        waiter.answer(line)

    def _dispatch(self) -> None:
        """Give held requests to whoever can answer them now."""
        for _ in range(DISPATCH_BATCH):
            if not self._held or self._serving() is None:
                break
            self._answer(next(iter(self._held)), self._pick())
        else:
            self._dispatch_in(0)
            return
        route = self._route()
        if self._held and isinstance(route, Relay):
            self._ask(route.link)

    def _forget_retry(self) -> None:
        """What nobody could answer just now can be asked again: somebody else is asked, or the
        same under another epoch, or it did answer."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _dispatch_in(self, delay_ms: int) -> None:
        self._forget_retry()
        loop = asyncio.get_running_loop()
        self._again = loop.call_later(delay_ms / 1000, self._dispatch_again)

    def _dispatch_again(self) -> None:
        self._again = None
        if self._held:
            self._dispatch()

    def _ask(self, link: int) -> None:
        if link != self._asked:
            self._recall()
            self._asked = link
        for _ in range(FLIGHTS - len(self._flights)):
            flight = list(islice(self._held, ASK_FACTS))
            if not flight:
                break
            for waiter in flight:
                del self._held[waiter]
            self._number += 1
            self._flights[self._number] = flight
            self._send(link, Ask(self._number, len(flight), HOPS))

    def _recall(self) -> None:
        """Hold again what is in flight; answers that still come are ignored."""
        for flight in self._flights.values():
            self._hold(flight)
        self._flights.clear()
        self._asked = None

    def _hold(self, flight: Iterable[Waiter]) -> None:
        self._held.update((waiter, None) for waiter in flight if waiter in self._waiting)

    def _land(self, flight: list[Waiter], facts: tuple[str, ...]) -> None:
        """Deliver the facts of a flight to those of it that still wait."""
        still = [waiter for waiter in flight if waiter in self._waiting]
        self._hold(still[len(facts) :])
        for waiter, fact in zip(still, facts, strict=False):
            self._answer(waiter, fact.encode() + b"\n")
        if facts:
            self._forget_retry()
        if not self._held:
            return
        if facts:
            self._dispatch()
        else:
            self._dispatch_in(RETRY_MS)

    def _return_empty(self, number: int) -> None:
        passed = self._passed.pop(number)
        self._send(passed.link, Answer(passed.request, None, ()))

    def _expire_in(self, delay_ms: int) -> None:
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(max(1, delay_ms) / 1000, self._expire)

    def _expire(self) -> None:
        """Refuse who waited for hold_ms, and see when the next one will have."""
        self._expiry = None
        now_ms, why = self._clock_ms(), self._why()
        for waiter, until_ms in tuple(self._waiting.items()):
            if until_ms > now_ms:
                self._expire_in(until_ms - now_ms)
                break
            self._refuse(waiter, why)
        # A flight that nobody waits for any more must not take one of the FLIGHTS.
        for number, flight in tuple(self._flights.items()):
            if not any(waiter in self._waiting for waiter in flight):
                del self._flights[number]

    def _why(self) -> str:
        route = self._route()
        waited = f"within {self._hold_ms / 1000:g} s"
        if isinstance(route, Nobody):
            return f"no owner {waited}; see: chucky status"
        if isinstance(route, Serve):
            return f"this node owns, but could not be sure of it {waited}; see: chucky status"
        return f"no answer from the owner {waited}; see: chucky status"


class _Local:
    """A request from this machine's control socket."""

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future

    def answer(self, line: bytes) -> None:
        if not self.future.done():
            self.future.set_result(line)

    def refuse(self, why: str) -> None:
        if not self.future.done():
            self.future.set_exception(Unavailable(why))


def _fact(line: bytes) -> str:
    return line[:-1].decode()
