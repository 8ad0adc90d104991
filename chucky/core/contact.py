"""One node to dial: its addresses, which of them comes next, and the dials under way."""

from dataclasses import dataclass, field

from chucky.names import Address, NodeName

REDIAL_MS = 250  # with ± 20 %, so that two nodes do not go on dialling each other in step
# A dial at an address that only a hint gives holds up another one for no longer than this: a
# stranger that lets in and says nothing would keep the node itself from being dialled for a tick
# time. A handshake takes some ms. Where it takes longer it goes on beside the next dial; in a crowd
# of unproven contacts it ends, for want of places, and gets twice as long each time.
LEASH_MS = 100
HEARD_MS = 1000  # so much sooner is it an address's turn when a beacon has come from there
MAX_ADDRESSES = 4  # of one node: two address families on two networks


@dataclass(slots=True)
class Contact:
    """A node, or a configured address whose node is not known yet."""

    name: NodeName | None
    listed: bool
    seen_ms: int
    addresses: list[Address] = field(default_factory=list)
    trusted: set[Address] = field(default_factory=set)  # of these: by a link or a member's word
    proven: bool = False  # a handshake with it succeeded, or a member told us of it
    configured: bool = False
    dial: int | None = None  # the link id of the attempt that the next one waits for
    dial_address: Address | None = None
    aside: dict[int, Address] = field(default_factory=dict)  # those that no other waits for
    began_ms: int = 0
    first_ms: int = -REDIAL_MS  # when the first of two dials in turn was begun, or the only one
    next_ms: int = 0
    urgent: bool = False  # whether its next dial is the first since a link was lost
    urged_ms: int = -2 * REDIAL_MS  # when one of those is due by their rate
    backoff_ms: int = 0
    refused: set[Address] = field(default_factory=set)  # of these: for the cookie, or by another
    turn: int = 0
    dialled: dict[Address, int] = field(default_factory=dict)  # when each was last
    heard: set[Address] = field(default_factory=set)  # in a beacon, and not dialled since
    given_up: int = 0  # dials, since it was last linked
    incarnation: int = 0  # of its last beacon
    checked_ms: int = -REDIAL_MS  # when a dial last asked whether the start that is linked is there
    former: int | None = None  # of such a dial: the incarnation of that start

    @property
    def unproven(self) -> bool:
        """Whether only a beacon speaks for it."""
        return not self.proven and not self.configured

    @property
    def free(self) -> list[Address]:
        """The addresses that are not being dialled aside."""
        if not self.aside:
            return self.addresses
        return [a for a in self.addresses if a not in self.aside.values()]

    def waits_for(self, link: int) -> bool:
        """Whether it matters to its next dial how this one ends."""
        return link == self.dial or link in self.aside

    def begin(self, link: int, now_ms: int) -> Address:
        """Take note that a dial begins, and return where.

        Two go in turn: the first to the best address, the second to one of the others, each second
        time to one that a link or a member told, however many hints there are. Of several it goes
        to that where none went for the longest time, or to one that a beacon gave since.
        """
        self.turn += 1
        self.dialled = {a: at_ms for a, at_ms in self.dialled.items() if a in self.addresses}
        free, best = self.free, None if self.unproven else self.addresses[0]
        others = [a for a in free if a != best] or free
        told = [a for a in others if a in self.trusted]
        if 0 < len(told) < len(others):
            others = told if self.turn // 2 % 2 else [a for a in others if a not in self.trusted]
        if self.is_first and best in free:
            at = self.addresses[0]
        else:
            at = min(others, key=self._turn_ms)
        self.heard.discard(at)
        self.dial, self.dial_address = link, at
        self.began_ms = self.dialled[at] = now_ms
        if self.is_first or len(free) == 1:
            self.first_ms = now_ms
        return at

    def _turn_ms(self, address: Address) -> int:
        last_ms = self.dialled.get(address, -HEARD_MS)
        return last_ms - HEARD_MS if address in self.heard else last_ms

    @property
    def is_first(self) -> bool:
        """Whether the last dial was the first of two."""
        return self.turn % 2 == 1

    @property
    def leash_ms(self) -> int | None:
        """How long the dial may hold up others; None when it may as long as it likes."""
        if self.dial is None or self.configured or self.name is None:
            return None
        if self.proven:
            return None if self.dial_address in self.addresses[:1] else LEASH_MS
        return LEASH_MS << min(self.given_up, 3)

    def least_aside(self) -> int:
        """Return the link id of the dial aside to end first: the oldest that only a hint led to."""
        hinted = (link for link, at in self.aside.items() if at not in self.trusted)
        return next(hinted, next(iter(self.aside)))

    def note(self, address: Address | None, refused: bool) -> None:
        """Remember whether the last dial at an address was refused."""
        self.refused.intersection_update(self.addresses)
        if refused and address in self.addresses:
            self.refused.add(address)
        else:
            self.refused -= {address}

    def trust(self, address: Address, first: bool) -> None:
        """Add an address that is no hint; `first` when it is the best."""
        self.trusted.add(address)
        self.learn(address, first)
        self.trusted.intersection_update(self.addresses)

    def hear(self, address: Address) -> None:
        """Add an address that a beacon gives: a hint."""
        self.learn(address)
        self.heard.add(address)
        self.heard.intersection_update(self.addresses)

    def learn(self, address: Address, first: bool = False) -> None:
        """Add an address; `first` when it is the best."""
        if address in self.addresses:
            if not first:
                return
            self.addresses.remove(address)
        elif not first:
            # A host has one node of a name: its new port goes to the place of the former one.
            for at, other in enumerate(self.addresses):
                if other.host == address.host and (at or not self.proven):
                    self.addresses[at] = address
                    if other in self.dialled:
                        self.dialled[address] = self.dialled.pop(other)
                    return
        self.addresses.insert(0 if first else len(self.addresses), address)
        if len(self.addresses) > MAX_ADDRESSES:
            # The newest hint has a place, however many addresses the node told: it may have moved.
            old = self.addresses[1:] if first else self.addresses[1:-1]
            hints = [a for a in old if a not in self.trusted]  # the oldest first
            self.addresses.remove(hints[0] if hints else old[-1 if first else 0])
            self.trusted.intersection_update(self.addresses)
