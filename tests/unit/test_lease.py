"""The lease by itself (design rule 7), in plain numbers: who may count on what, and until when."""

import pytest

from chucky.core.lease import ECHO_MS, Lease
from chucky.core.view import PeerView
from chucky.messages import Backing, Status
from chucky.names import NodeName

A, B, C = (NodeName(n, "h") for n in "abc")
TIMEOUT_MS, LEASE_MS = 1000, 970
LATER_MS = 5000  # long after every start


def lease(me: NodeName = A, incarnation: int = 1) -> Lease:
    """Return one that started long ago."""
    return Lease(me, incarnation, TIMEOUT_MS, LATER_MS - 10 * TIMEOUT_MS)


def says(
    name: NodeName, tick: int, claim: int = 0, backing: Backing | None = None, incarnation: int = 1
) -> PeerView:
    status = Status(tick, 0, b"", "", claim=claim, backing=backing)
    return PeerView(name, incarnation, status)


def claims(name: NodeName = A, tick: int = 1, claim: int = 1, incarnation: int = 1) -> PeerView:
    return says(name, tick, claim, incarnation=incarnation)


def backs(name: NodeName, tick: int, claim: int = 1, incarnation: int = 1) -> PeerView:
    """A Status of this peer that backs a."""
    return says(name, 1, backing=Backing(A, incarnation, claim, tick))


def claimant() -> Lease:
    """Return a's, with its own vote, and tick n sent at LATER_MS + 100 * n."""
    found = lease()
    found.make_claim()
    found.settle([PeerView(A, 1, None)], LATER_MS)
    for tick in range(1, 10):
        found.sent(tick, LATER_MS + 100 * tick)
    return found


# The claimant's half


def test_it_ends_0_97_timeouts_after_the_send_of_the_tick_that_was_echoed() -> None:
    a = claimant()
    heard_ms = LATER_MS + 900  # however late
    a.hear(backs(B, 2), True, heard_ms)
    assert a.view(3, heard_ms).until_ms == LATER_MS + 200 + LEASE_MS
    a.hear(backs(B, 4), True, heard_ms)
    a.hear(backs(B, 3), True, heard_ms)
    assert a.view(3, heard_ms).until_ms == LATER_MS + 400 + LEASE_MS


def test_however_long_the_timeout_few_ticks_are_kept() -> None:
    a = Lease(A, 1, 86_400_000, 0)
    a.make_claim()
    a.settle([PeerView(A, 1, None)], 86_400_000)
    for tick in range(3000):
        a.sent(tick, 86_400_000 + ECHO_MS // 1000 * tick)
    assert len(a._sent_ms) == 1001
    last_ms = 86_400_000 + 3 * ECHO_MS
    a.hear(backs(B, 1998), True, last_ms)
    assert a.view(3, last_ms).until_ms is None
    a.hear(backs(B, 1999), True, last_ms)
    assert a.view(3, last_ms).until_ms is not None


def test_of_five_it_ends_with_the_second_best_vote_of_the_others() -> None:
    a = claimant()
    for number, tick in enumerate((7, 3, 5), 1):
        a.hear(backs(NodeName(f"p{number}", "h"), tick), True, LATER_MS + 900)
    assert a.view(5, LATER_MS + 900).until_ms == LATER_MS + 500 + LEASE_MS


@pytest.mark.parametrize(
    "peer",
    [
        backs(B, 2, claim=2),
        backs(B, 2, incarnation=2),
        backs(B, 99),
        says(B, 1, backing=Backing(C, 1, 1, 2)),
        says(B, 1),
    ],
    ids=["another claim", "another incarnation", "a tick not sent", "another node", "nobody"],
)
def test_what_is_no_vote(peer: PeerView) -> None:
    a = claimant()
    a.hear(peer, True, LATER_MS + 900)
    assert a.view(3, LATER_MS + 900).until_ms is None


def test_an_observer_and_one_that_is_not_listed_here_have_no_vote() -> None:
    a = claimant()
    a.hear(backs(B, 2), False, LATER_MS + 900)
    assert a.view(3, LATER_MS + 900).until_ms is None


def test_an_echo_of_a_tick_before_the_present_claim_never_counts() -> None:
    a = claimant()
    a.withdraw()
    a.make_claim()
    a.sent(10, LATER_MS + 1000)
    a.hear(backs(B, 9, claim=2), True, LATER_MS + 1000)
    assert a.view(1, LATER_MS + 1000).until_ms is None
    a.hear(backs(B, 10, claim=2), True, LATER_MS + 1000)
    assert a.view(1, LATER_MS + 1000).until_ms == LATER_MS + 1000 + LEASE_MS


def test_a_withdrawn_claim_leaves_nothing_to_serve_on() -> None:
    a = claimant()
    a.hear(backs(B, 2), True, LATER_MS + 200)
    a.withdraw()
    assert a.view(3, LATER_MS + 200).until_ms is None and a.backing is None and a.claim == 0
    a.make_claim()
    assert a.view(1, LATER_MS + 200).backers == 0, "a vote was for the claim that it was given to"


def test_a_majority_is_more_than_half() -> None:
    found = {size: lease().view(size, LATER_MS).needed for size in range(1, 8)}
    assert found == {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4}


# The backer's half


def test_a_vote_is_bound_for_one_timeout_from_receipt() -> None:
    c = lease(C)
    c.settle([claims(A)], LATER_MS)
    c.hear(claims(A, tick=2), True, LATER_MS + 600)
    c.settle([claims(B)], LATER_MS + 600 + TIMEOUT_MS - 1)
    assert c.backing == Backing(A, 1, 1, 2)
    c.settle([claims(B)], LATER_MS + 600 + TIMEOUT_MS)
    assert c.backing is not None and c.backing.holder == B


def test_who_has_just_started_backs_nobody_for_one_timeout_not_even_itself() -> None:
    for claimants in ([claims(A)], [PeerView(C, 1, None)]):
        c = Lease(C, 1, TIMEOUT_MS, LATER_MS)
        c.make_claim()
        c.settle(claimants, LATER_MS + TIMEOUT_MS - 1)
        assert c.backing is None
        c.settle(claimants, LATER_MS + TIMEOUT_MS)
        assert c.backing is not None


def test_who_backs_another_does_not_count_itself() -> None:
    c = lease(C)
    c.settle([claims(A)], LATER_MS)
    c.make_claim()
    c.settle([PeerView(C, 1, None)], LATER_MS + TIMEOUT_MS - 1)
    assert c.view(1, LATER_MS).backers == 0 and c.backing is not None and c.backing.holder == A


@pytest.mark.parametrize(
    "news",
    [says(A, 2), claims(A, tick=2, claim=2), claims(A, tick=1, incarnation=2)],
    ids=["it withdrew", "it claims anew", "it restarted"],
)
def test_the_holder_itself_sets_a_vote_free(news: PeerView) -> None:
    c = lease(C)
    c.settle([claims(A)], LATER_MS)
    c.hear(claims(B), True, LATER_MS + 1)
    assert c.backing is not None and c.backing.holder == A, "nobody else does"
    c.hear(news, True, LATER_MS + 2)
    assert c.backing is None
