"""Whom to dial, where and when: known addresses, the rhythm of redialling, and its bounds (rule 4).

What a beacon says is a hint that costs at most a few dials: contacts that never proved the cookie
are few, forgotten soon, and dialled a few at a time.
"""

from collections.abc import Container

from chucky.core.contact import REDIAL_MS, Contact
from chucky.core.events import Ended
from chucky.names import Address, NodeName

BACKOFF_MS = 1000  # doubled each time, for refused cookies and unlisted nodes
BACKOFF_LIMIT_MS = 60_000
# A configured host that refuses has no node there now; one that starts will call us itself.
NOBODY_THERE_MS = 1000
# A dial may take the place of a link that is lost: its node ended that once this was up, so the end
# of the handshake is not far behind.
SETTLED_MS = 50
# Contacts known from beacons only: a LAN of 50 nodes and some strangers. Listed names and others
# have a table and places each: names that a stranger invents crowd out no listed node.
MAX_UNPROVEN = 64
# At a time, or as many as nodes are listed, without those aside: with them up to five times as many
# sockets, each for at most the connect and handshake time. Who has the cookie and resets its links
# can have one more each REDIAL_MS of that time, which nobody waits for.
MAX_UNPROVEN_DIALS = 16
MAX_ASIDE = 4  # of one node: a dial at each address
MAX_TOLD = 256  # names, past which no member's word adds one: four full clusters
UNPROVEN_MS = 10_000  # ten beacons of the default interval
UNLISTED_MS = 600_000  # an observer that left: ten dials at the back-off limit


class Contacts:
    """All contacts, and which of them to dial; `listed` is how many nodes are in the list."""

    def __init__(self, me: NodeName, seed: int, listed: int = 0) -> None:
        self._me = me
        self._places = {True: max(MAX_UNPROVEN_DIALS, listed), False: MAX_UNPROVEN_DIALS}
        self._seed = seed
        self._named: dict[NodeName, Contact] = {}
        self._configured: dict[Address, Contact] = {}
        self._dials: dict[int, Contact] = {}
        self._given_up: list[int] = []  # dials that had to go for others
        self._last_link = 0
        self._sweep_ms = 0  # no contact can be due to be forgotten before
        self._changed = True  # since `deadline` was last reckoned, which is a look at all of them
        self._due_ms: int | None = None

    def hint(
        self, name: NodeName, incarnation: int, address: Address, listed: bool, now_ms: int
    ) -> None:
        """A beacon says that this node is there; dial it now unless that was done just now."""
        contact = self._named.get(name)
        if contact is None:
            self._make_room(listed)
            contact = self._named[name] = Contact(name, listed, now_ms, next_ms=now_ms)
        if incarnation > contact.incarnation:  # a former start was refused, or there was none
            contact.incarnation, contact.backoff_ms = incarnation, 0
        contact.seen_ms = now_ms
        known = address in contact.addresses
        contact.hear(address)
        soon_ms = max(now_ms, contact.first_ms + REDIAL_MS)
        if not known or (contact.backoff_ms == 0 and soon_ms < contact.next_ms):
            contact.next_ms = min(contact.next_ms, soon_ms)
            self._changed = True

    def told(self, name: NodeName, address: Address, listed: bool, now_ms: int) -> None:
        """A member says that this node is there; its word is as good as the node's own."""
        contact = self._named.get(name)
        if contact is None:
            if len(self._named) >= MAX_TOLD:
                return
            contact = self._named[name] = Contact(name, listed, now_ms, next_ms=now_ms)
        if contact.backoff_ms:  # it is up: what kept it from us may be over
            contact.backoff_ms = contact.turn = 0
            contact.next_ms = max(now_ms, contact.began_ms + REDIAL_MS)
            self._changed = True
        if contact.proven and address in contact.trusted and address in contact.addresses:
            return
        self._changed = True
        contact.trust(address, first=not contact.proven)  # better than any hint
        contact.proven = True

    def configure(self, addresses: tuple[Address, ...], now_ms: int) -> None:
        """Take these as the configured ones: each is dialled until its node is linked."""
        kept = {a: c for a, c in self._configured.items() if a in addresses}
        for address in addresses:
            if address not in kept:
                kept[address] = Contact(
                    None, False, now_ms, [address], configured=True, next_ms=now_ms
                )
        self._configured = kept
        self._changed = True

    def came_up(self, link: int, name: NodeName, listed: bool, at: Address | None) -> None:
        """A link with this node is up; `at` is where it can be dialled, when known."""
        self._changed = True
        contact = self._named.setdefault(name, Contact(name, listed, 0))
        contact.proven = True
        contact.backoff_ms = contact.given_up = 0
        contact.refused.clear()
        if at is not None:
            contact.trust(at, first=True)
        dialled = self._dials.pop(link, None)
        if dialled is None:
            return
        dialled.backoff_ms = 0
        dialled.refused.clear()
        if dialled.aside.pop(link, None) is not None or dialled.dial != link:
            return
        dialled.dial = None
        if dialled.configured:
            dialled.name = name
            dialled.next_ms = dialled.began_ms + REDIAL_MS  # where no name is known by its address
        elif dialled.name != name and dialled.dial_address in dialled.addresses:
            dialled.addresses.remove(dialled.dial_address)  # somebody else lives there now

    def lost(self, name: NodeName, at_once: bool, now_ms: int) -> None:
        """The link with this node is gone; dial it at once when it did not say goodbye, but one
        that is lost again and again no more often than one that does not answer."""
        self._changed = True
        contact = self._named[name]
        contact.seen_ms, contact.turn, contact.urgent = now_ms, 0, at_once
        if not at_once:
            contact.next_ms = now_ms + NOBODY_THERE_MS
        elif contact.dial is None:
            contact.next_ms = max(now_ms, contact.urged_ms)
        else:
            soon_ms = min(now_ms + SETTLED_MS, contact.began_ms + REDIAL_MS)
            contact.next_ms = max(now_ms, contact.urged_ms, soon_ms)
        # They may be at a former start and come to nothing: they go on, and nobody waits for them.
        contact.dial, contact.aside = None, {}

    def ended(self, link: int, why: Ended, now_ms: int) -> Contact | None:
        """A dial failed; return whose it was, unless it was one aside, for which the next does not
        wait, or asked for a start: that was linked when it began."""
        contact = self._dials.pop(link, None)
        if contact is None or contact.former is not None or not contact.waits_for(link):
            return None
        self._changed = True
        at = aside = contact.aside.pop(link, None)
        if aside is None:
            at, contact.dial = contact.dial_address, None
        refused = why in (Ended.COOKIE, Ended.PROTOCOL)
        contact.note(at, refused)
        # One address that refuses may be a stranger's, who sends beacons with this name.
        refuses = contact.refused.issuperset(contact.addresses)
        if refuses or not (contact.listed or contact.configured):
            contact.backoff_ms = min(max(BACKOFF_MS, 2 * contact.backoff_ms), BACKOFF_LIMIT_MS)
            # Another takes no turn from the best.
            best = contact.addresses[:1] == [at]
            since_ms = now_ms if best or refuses else contact.first_ms
            contact.next_ms = max(now_ms, since_ms + self._jitter(contact.backoff_ms))
        elif aside is not None:
            # It was dialled long ago, perhaps before a path was back: it waits for no turn more.
            if why is Ended.UNREACHED and at in contact.trusted:
                contact.next_ms = min(contact.next_ms, now_ms)
        elif contact.is_first and (refused or why is Ended.REFUSED) and len(contact.free) > 1:
            contact.next_ms = now_ms  # it does not live there now: that takes no turn from others
        elif contact.configured and why is Ended.REFUSED:
            contact.next_ms = now_ms + self._jitter(NOBODY_THERE_MS)
        else:
            contact.next_ms = max(now_ms, contact.first_ms + self._jitter(REDIAL_MS))
        return contact if aside is None else None

    def itself(self, link: int, now_ms: int) -> None:
        """That dial reached this very node, or so it seems: do not dial there again soon."""
        contact = self._dials.pop(link, None)
        if contact is not None and contact.waits_for(link):
            self._changed = True
            at = contact.aside.pop(link, None)
            if at is None:
                at, contact.dial = contact.dial_address, None
            if contact.configured:  # an administrator's word: another node may come to live there
                contact.next_ms = now_ms + self._jitter(BACKOFF_LIMIT_MS)
            else:
                contact.addresses = [a for a in contact.addresses if a != at]

    def due(self, linked: Container[NodeName], now_ms: int) -> list[tuple[int, Address]]:
        """Begin the dials that are due; return them as (new link id, address)."""
        due = [c for c in self._idle(linked) if c.next_ms <= now_ms]
        hints: list[Contact] = []
        for listed in (True, False):  # those never dialled first, of them the newest
            kind = [c for c in reversed(due) if c.unproven and c.listed is listed]
            hints += sorted(kind, key=lambda c: c.began_ms)[: self._room(listed)] if kind else []
        return [self.dial(c, now_ms) for c in (*(c for c in due if not c.unproven), *hints)]

    def give_up(self, linked: Container[NodeName], now_ms: int) -> list[int]:
        """Let nobody wait any more for a dial that took too long; return the link ids of those that
        end with it."""
        given_up, self._given_up = self._given_up, []
        for at_ms, contact in self._leashed(linked):
            if at_ms <= now_ms and contact.dial is not None and contact.dial_address is not None:
                self._changed = True
                contact.aside[contact.dial] = contact.dial_address
                contact.dial = None
                no_place = contact.unproven and self._crowded(contact.listed)
                if len(contact.aside) > (0 if no_place else MAX_ASIDE):
                    oldest = contact.least_aside()
                    given_up.append(oldest)
                    del contact.aside[oldest], self._dials[oldest]
                    contact.given_up += 1
                # Without another address it is its turn again when the others have had theirs.
                alone = len(contact.addresses) == 1
                wait_ms = self._jitter(REDIAL_MS) if alone else 0
                contact.next_ms = max(contact.next_ms, now_ms + wait_ms)  # one aside may back off
        return given_up

    def dial(self, contact: Contact, now_ms: int) -> tuple[int, Address]:
        """Begin a dial of this contact and return (link id, address)."""
        self._changed = True
        self._last_link += 1
        at = contact.begin(self._last_link, now_ms)
        if contact.urgent:
            # Three at once, then one each 250 ms: who is killed may have been lost just now, and a
            # dial of its own, which was under way, may come up and end after that.
            contact.urged_ms = max(now_ms - 2 * REDIAL_MS, contact.urged_ms) + REDIAL_MS
            contact.urgent = False
        self._dials[self._last_link] = contact
        return self._last_link, at

    def check(self, name: NodeName, incarnation: int, at: Address, now_ms: int) -> int | None:
        """Begin to ask whether this start, which is linked, still listens there, unless that was
        done just now; return the link id."""
        known = self._named[name]
        if now_ms - known.checked_ms < REDIAL_MS:
            return None
        known.checked_ms = now_ms
        asking = [i for i, c in self._dials.items() if c.name == name and c.former is not None]
        if len(asking) >= MAX_ASIDE:  # that start may have let them in, and hang
            self._let_go(asking[0])
        once = Contact(name, known.listed, now_ms, [at], proven=True, former=incarnation)
        return self.dial(once, now_ms)[0]

    def checks(self, link: int, incarnation: int) -> bool:
        """Return whether that dial asks whether the start of this incarnation is still there."""
        contact = self._dials.get(link)
        return contact is not None and contact.former == incarnation

    def dials(self, name: NodeName) -> list[int]:
        """Return the link ids of the dials under way at the node of this name."""
        return [link for link, contact in self._dials.items() if contact.name == name]

    def expected(self, link: int) -> NodeName | None:
        """Return who alone may answer that dial; None where an administrator gave the address."""
        contact = self._dials[link]
        return None if contact.configured else contact.name

    def is_due(self, now_ms: int) -> bool:
        """Return whether `give_up` or `due` may have something to do."""
        return self._changed or (self._due_ms is not None and now_ms >= self._due_ms)

    def deadline(self, linked: Container[NodeName]) -> int | None:
        """When the next dial is due."""
        if self._changed:
            self._changed, self._due_ms = False, self._reckon(linked)
        return self._due_ms

    def _reckon(self, linked: Container[NodeName]) -> int | None:
        idle = self._idle(linked)
        if any(c.unproven for c in idle):  # where there is no room, a dial that ends is an event
            room = {listed: self._room(listed) for listed in (True, False)}
            idle = [c for c in idle if not c.unproven or room[c.listed]]
        times = [c.next_ms for c in idle]
        if self._dials:
            times += [at_ms for at_ms, _ in self._leashed(linked)]
        return min(times, default=None)

    def forget_strangers(self, linked: Container[NodeName], now_ms: int) -> list[NodeName]:
        """Drop silent contacts that never proved themselves, and unlisted ones long gone; return
        the names dropped."""
        dropped: list[NodeName] = []
        if now_ms < self._sweep_ms:
            return dropped
        self._sweep_ms = now_ms + UNPROVEN_MS  # for what comes from now on
        for name, contact in list(self._named.items()):
            if name in linked or (contact.proven and contact.listed):
                continue
            limit_ms = UNLISTED_MS if contact.proven else UNPROVEN_MS
            if now_ms - contact.seen_ms < limit_ms or contact.dial is not None:
                self._sweep_ms = min(self._sweep_ms, contact.seen_ms + limit_ms)
            else:
                del self._named[name]
                dropped.append(name)
                self._changed = True
        return dropped

    def addresses(self, name: NodeName) -> tuple[Address, ...]:
        """Return where this node can be dialled, the best first."""
        contact = self._named.get(name)
        return tuple(contact.addresses) if contact else ()

    def names(self) -> tuple[NodeName, ...]:
        """Return all nodes known."""
        return tuple(self._named)

    def _idle(self, linked: Container[NodeName]) -> list[Contact]:
        configured = [c for c in self._configured.values() if self._is_its_own(c)]
        contacts = (*self._named.values(), *configured)
        return [c for c in contacts if c.dial is None and c.name not in linked and c.free]

    def _is_its_own(self, contact: Contact) -> bool:
        """A configured address whose node is known is dialled under that node's name, unless that
        was refused: another one may live there now."""
        known = self._named.get(contact.name) if contact.name else None
        if known is None:
            return True
        at = contact.addresses[0]
        return at not in known.addresses or at in known.refused

    def _unproven(self, listed: bool) -> list[Contact]:
        return [c for c in self._named.values() if not c.proven and c.listed is listed]

    def _room(self, listed: bool) -> int:
        dials = [c for id, c in self._dials.items() if c.unproven and c.dial == id]
        return max(0, self._places[listed] - sum([c.listed is listed for c in dials]))

    def _crowded(self, listed: bool) -> bool:
        return len(self._unproven(listed)) > self._places[listed]

    def _leashed(self, linked: Container[NodeName]) -> list[tuple[int, Contact]]:
        """Return the dials that hold up others, and until when each may."""
        crowded = {listed: self._crowded(listed) for listed in (True, False)}
        found = []
        for id, contact in self._dials.items():
            leash_ms = contact.leash_ms
            if leash_ms is not None and id == contact.dial:
                full = contact.unproven and crowded[contact.listed]
                if full or len(contact.addresses) > 1 or contact.name in linked:
                    found.append((contact.began_ms + leash_ms, contact))
        return found

    def _make_room(self, listed: bool) -> None:
        """The newest hint is always taken, and the oldest name goes: a stranger that invents names
        keeps nobody out."""
        unproven = self._unproven(listed)
        if len(unproven) >= MAX_UNPROVEN:
            oldest = unproven[0]
            assert oldest.name is not None
            del self._named[oldest.name]
            for link in [id for id, contact in self._dials.items() if contact is oldest]:
                self._let_go(link)

    def _let_go(self, link: int) -> None:
        del self._dials[link]
        self._given_up.append(link)

    def _jitter(self, wait_ms: int) -> int:
        # Knuth's LCG (The Art of Computer Programming 3.3.4): the core draws no random numbers,
        # and two nodes have different seeds.
        self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) % 2**64
        return wait_ms * (80 + (self._seed >> 33) % 41) // 100
