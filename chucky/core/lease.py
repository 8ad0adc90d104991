"""The lease of a majority (design rule 7): whom this node backs, and who backs it until when.

As in PaxosLease: a backer promises its one vote for `timeout` from the receipt of a tick, and the
holder counts on it from when it sent that tick, for a little less. Clocks need not agree, only run
at rates within 1 % of each other. A holder that says it no longer claims frees its backers at once:
it stopped serving before it said so.
"""

from collections.abc import Iterable, Iterator

from chucky.core.view import LeaseView, PeerView
from chucky.messages import Backing, Status
from chucky.names import NodeName

# Of the timeout: 0.97 on the holder's clock is at most 0.98 of true time, and the backer's promise
# at least 0.99.
SHARE_PERCENT = 97
SLOW_PERCENT = 75  # of the timeout: a lease cannot rely on who takes as long to answer
ECHO_MS = 60_000  # an echo that takes longer counts for nothing: no tick time is as long


def majority(voters: int) -> int:
    """Return how many of this many listed nodes are a majority."""
    return voters // 2 + 1


class Lease:
    """Both halves of one node's lease: its own claim, and its promise as a backer."""

    def __init__(self, me: NodeName, incarnation: int, timeout_ms: int, now_ms: int) -> None:
        self.claim = 0  # the number of the present claim; 0: none
        self.backing: Backing | None = None
        self.backs_until_ms = 0
        # What its former incarnation promised is not known any more.
        self.free_from_ms = now_ms + timeout_ms
        self._me = me
        self._incarnation = incarnation
        self._timeout_ms = timeout_ms
        self._claims = 0
        self._sent_ms: dict[int, int] = {}  # of the ticks that carried the present claim
        self._votes: dict[NodeName, int] = {}  # when the tick that each backer holds was sent

    @property
    def slow_ms(self) -> int:
        """How long a peer's echo must take for its vote to be too late."""
        return self._timeout_ms * SLOW_PERCENT // 100

    # The claimant's half.

    def make_claim(self) -> None:
        """Claim from the next Status on, unless there is a claim already."""
        if self.claim == 0:
            self._claims += 1
            self.claim = self._claims

    def withdraw(self) -> None:
        """Claim no more; the next Status frees all backers, so nothing may be served after it."""
        self.claim = 0
        self._sent_ms.clear()
        self._votes.clear()
        if self.backing is not None and self.backing.holder == self._me:
            self.backing = None

    def sent(self, tick: int, now_ms: int) -> None:
        """A Status with this tick went out."""
        if self.claim:
            self._sent_ms[tick] = now_ms
            kept_ms = min(self._timeout_ms, ECHO_MS)
            while now_ms - next(iter(self._sent_ms.values())) > kept_ms:
                del self._sent_ms[next(iter(self._sent_ms))]

    def view(self, voters: int, now_ms: int) -> LeaseView:
        """Return how the present claim stands among this many listed nodes."""
        votes = sorted(self._votes.values(), reverse=True)
        if self.claim and self._backs(self._me, self._incarnation, self.claim):
            votes.insert(0, now_ms)
        needed = majority(voters)
        until_ms = None
        if len(votes) >= needed:
            until_ms = votes[needed - 1] + self._timeout_ms * SHARE_PERCENT // 100
        return LeaseView(until_ms, len(votes), needed, self.backing, self.free_from_ms)

    # The backer's half.

    def hear(self, peer: PeerView, votes: bool, now_ms: int) -> None:
        """Take a peer's Status: its vote for us, when it has one, and what we back it for."""
        status = peer.status
        assert status is not None
        theirs = status.backing
        if votes and theirs is not None and self.claim:
            mine = (theirs.holder, theirs.incarnation, theirs.claim)
            if mine == (self._me, self._incarnation, self.claim) and theirs.tick in self._sent_ms:
                at_ms = self._sent_ms[theirs.tick]
                self._votes[peer.name] = max(at_ms, self._votes.get(peer.name, at_ms))
        backed = self.backing
        if backed is None or backed.holder != peer.name:
            return
        if (peer.incarnation, status.claim) != (backed.incarnation, backed.claim):
            # It withdrew, or is a new incarnation: no two machines run a node of one name (S2).
            self.backing = None
        else:
            self._back(peer.name, peer.incarnation, status, now_ms)

    def settle(self, claimants: Iterable[PeerView], now_ms: int) -> None:
        """Give the vote, where it is free, to the first of these, the best-standing first; this
        node itself may be among them, as a peer with its own name."""
        backed = self.backing
        if backed is not None and backed.holder != self._me and now_ms >= self.backs_until_ms:
            self.backing = None
        if self.backing is not None or now_ms < self.free_from_ms:
            return
        for peer in claimants:
            if peer.name == self._me:
                self.backing = Backing(self._me, self._incarnation, self.claim, 0)
            elif peer.status is not None:
                self._back(peer.name, peer.incarnation, peer.status, now_ms)
            return

    def deadlines(self, now_ms: int) -> Iterator[int]:
        """Yield when time alone sets the vote free."""
        if self.backing is not None and self.backing.holder != self._me:
            yield self.backs_until_ms
        if self.free_from_ms > now_ms:
            yield self.free_from_ms

    def _back(self, holder: NodeName, incarnation: int, status: Status, now_ms: int) -> None:
        self.backing = Backing(holder, incarnation, status.claim, status.tick, status.digest)
        self.backs_until_ms = now_ms + self._timeout_ms

    def _backs(self, holder: NodeName, incarnation: int, claim: int) -> bool:
        b = self.backing
        return b is not None and (b.holder, b.incarnation, b.claim) == (holder, incarnation, claim)
