"""What each link is told of who this node is and whom it knows (design rule 11).

The first Hello on a link goes out at once and has all members; so does one when our own addresses
or settings change. A later one has the members that are new, gathered while more waits to be read,
and for a while after the last: nodes that start together each get a new member every few ms, and
have all others to tell it (docs/decisions/0012, 0017).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from chucky import __version__
from chucky.core.actions import Action, Send
from chucky.core.link import Link
from chucky.core.startup import LOOK_MS
from chucky.messages import MAX_ADDRESSES, MAX_NODES, Hello, Member
from chucky.names import Address
from chucky.settings import Settings

TOLD_TEXT = 1000  # of a key's value in a Hello: a list too long for it is told by its beginning
GATHER_MS = LOOK_MS // 2  # whom a common peer knows is still met while one looks around

Members = tuple[list[Member], list[Member]]  # as told to those elsewhere, to those on loopback


def members(links: Collection[Link]) -> Members:
    """Rule 11: loopback addresses go only to loopback, link-local ones to nobody.

    Only what a node told itself: never a beacon's hint, nor what another member told. So what is
    told never depends on what was heard of it, and comes to rest.
    """
    away: list[Member] = []
    here: list[Member] = []
    for link in sorted(links, key=lambda k: k.name):
        if not link.leaving:
            at = [a for a in link.dialled_at if not a.is_link_local]
            for told, addresses in ((away, [a for a in at if not a.is_loopback]), (here, at)):
                if addresses:
                    told.append(Member(link.name, tuple(addresses[:MAX_ADDRESSES])))
    return away, here


@dataclass(slots=True)
class Hellos:
    """The Hellos of a node that started at `started_ms`; `emit` takes them."""

    started_ms: int
    emit: Callable[[Action], None]
    addresses: tuple[Address, ...] = ()
    due_ms: int | None = None  # when to settle for the members that wait to be told
    _seen: tuple[object, ...] | None = None  # what a Hello is made of, as of the last look
    _members: Members = ([], [])  # as of then
    _spread: Members = ([], [])  # as all links know them
    _calm_ms: int = 0  # from when on a new member is told at once

    def settle(
        self,
        links: Collection[Link],
        waiting: Collection[Link],
        settings: Settings,
        busy: bool,
        now_ms: int,
    ) -> bool:
        """Say what is due to the links in use and to those that wait for a name. Return whether a
        link, what a peer said, our addresses or our settings are new. `busy`: more may be about to
        come, so new members wait."""
        everyone = (*links, *waiting)
        seen = (self.addresses, settings, [(k.id, k.leaving, k.hello) for k in everyone])
        news = seen != self._seen
        if news:
            self._seen = seen
            self._learn(links, everyone)
        if not news and (self.due_ms is None or now_ms < self.due_ms):
            return news
        calm = not busy and now_ms >= self._calm_ms
        me = self._me(settings)
        for link in everyone:
            greeted = link.said == me
            if calm or not greeted:
                said = self._say(link, me, self._members, now_ms)
                if said and greeted:
                    self._calm_ms = now_ms + GATHER_MS
        if calm:
            self._spread = self._members
        waits = self._members != self._spread
        self.due_ms = max(self._calm_ms, now_ms + 1) if waits else None
        return news

    def _learn(self, links: Collection[Link], everyone: Collection[Link]) -> None:
        before, self._members = self._members, members(links)
        left = {m for told in before for m in told}.difference(*self._members)
        if left:  # who returns is told of anew, though nothing was said meanwhile
            for link in everyone:
                link.told -= left
            away, here = self._spread
            self._spread = [m for m in away if m not in left], [m for m in here if m not in left]

    def greet(self, to: Link, links: Collection[Link], settings: Settings, now_ms: int) -> None:
        """Say the first Hello on a link that is not in use."""
        self._say(to, self._me(settings), members(links), now_ms)

    def _me(self, settings: Settings) -> Hello:
        shared = tuple((key, value[:TOLD_TEXT]) for key, value in settings.told)
        return Hello(__version__, 0, settings.node.port, self.addresses[:MAX_ADDRESSES], shared)

    def _say(self, to: Link, me: Hello, known: Members, now_ms: int) -> bool:
        others = [m for m in known[to.address.is_loopback] if m.name != to.name][:MAX_NODES]
        fresh = tuple(m for m in others if m not in to.told)
        to.told = frozenset(others)
        if not fresh and to.said == me:
            return False
        to.said = me
        uptime_ms = max(0, now_ms - self.started_ms)
        self.emit(Send(to.id, me._replace(uptime_ms=uptime_ms, members=fresh)))
        return True
