"""Contacts: what a stranger's beacon can cost, and when whom to dial."""

import itertools
from collections.abc import Iterable, Iterator

import pytest

from chucky.core.contact import LEASH_MS, MAX_ADDRESSES, REDIAL_MS, Contact
from chucky.core.contacts import (
    BACKOFF_LIMIT_MS,
    MAX_ASIDE,
    MAX_TOLD,
    MAX_UNPROVEN,
    MAX_UNPROVEN_DIALS,
    NOBODY_THERE_MS,
    SETTLED_MS,
    UNLISTED_MS,
    UNPROVEN_MS,
    Contacts,
)
from chucky.core.events import Ended
from chucky.names import Address, NodeName
from tests.unit.cluster import name

ME, A, B = map(name, "mab")
AT = Address("10.0.0.1", 4041)


def contacts() -> Contacts:
    return Contacts(ME, seed=1)


def at(number: int) -> Address:
    return Address(f"10.0.{number // 250}.{number % 250 + 1}", 4041)


def wait_ms(known: Contacts, now_ms: int) -> int:
    due_ms = known.deadline(set())
    assert due_ms is not None
    return due_ms - now_ms


def test_beacons_cost_few_contacts_and_few_dials() -> None:
    known = contacts()
    for number in range(10_000):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, 0)
    assert len(known.names()) == MAX_UNPROVEN
    assert len(list(known.due(set(), 0))) == MAX_UNPROVEN_DIALS
    assert list(known.due(set(), 0)) == []
    assert known.deadline(set()) == LEASH_MS
    assert set(known.names()) == {NodeName(f"n{n}", "h") for n in range(10_000)[-MAX_UNPROVEN:]}


def test_beacons_of_one_name_cost_few_addresses_and_never_the_best() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    for number in range(100):
        known.hint(A, 1, at(number + 7), True, 0)
    assert len(known.addresses(A)) == MAX_ADDRESSES and known.addresses(A)[0] == AT


def test_a_node_that_told_many_addresses_and_moved_is_dialled_where_its_beacons_come_from() -> None:
    known = contacts()
    for number in range(MAX_ADDRESSES):
        known.told(A, at(number), True, 0)
    for number in (100, 101):  # it moves twice
        known.hint(A, 1, at(number), True, 0)
        assert known.addresses(A) == (AT, *map(at, range(2, MAX_ADDRESSES)), at(number))


def test_beacons_cannot_speed_up_the_dials_of_one_name() -> None:
    known = contacts()
    known.hint(A, 1, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    known.ended(link, Ended.UNREACHED, 5)
    known.hint(A, 1, at(9), True, 6)
    assert list(known.due(set(), REDIAL_MS * 8 // 10 - 1)) == []


def test_strangers_do_not_hold_up_members_or_configured_addresses() -> None:
    known = contacts()
    for number in range(MAX_UNPROVEN):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, 0)
    assert len(list(known.due(set(), 0))) == MAX_UNPROVEN_DIALS
    known.told(A, AT, True, 0)
    known.configure((at(900),), 0)
    assert known.deadline(set()) == 0
    assert {address for _, address in known.due(set(), 0)} == {AT, at(900)}


def test_configured_addresses_do_not_hold_up_a_node_that_calls() -> None:
    known = contacts()
    known.configure(tuple(at(n) for n in range(2 * MAX_UNPROVEN_DIALS)), 0)
    assert len(list(known.due(set(), 0))) == 2 * MAX_UNPROVEN_DIALS  # all powered off
    known.hint(A, 1, AT, True, 1)
    assert [address for _, address in known.due(set(), 1)] == [AT]


def test_silent_strangers_are_forgotten_and_listed_members_never() -> None:
    known = contacts()
    known.hint(A, 1, AT, True, 0)
    known.told(B, at(2), True, 0)
    known.told(name("z"), at(3), False, 0)
    assert known.forget_strangers(set(), UNPROVEN_MS - 1) == []
    assert known.forget_strangers(set(), UNPROVEN_MS) == [A]
    assert known.forget_strangers(set(), UNLISTED_MS) == [name("z")]
    assert known.forget_strangers(set(), 10**9) == [] and known.names() == (B,)


def test_a_listed_node_is_redialled_every_250_ms_give_or_take_a_fifth() -> None:
    known, now_ms, waits = contacts(), 0, set()
    known.told(A, AT, True, 0)
    for _ in range(200):
        ((link, _),) = known.due(set(), now_ms)
        known.ended(link, Ended.UNREACHED, now_ms + 2)
        waits.add(wait_ms(known, now_ms))
        now_ms += wait_ms(known, now_ms)
    assert 200 <= min(waits) < 210 and 290 < max(waits) <= 300


@pytest.mark.parametrize(
    ("listed", "why"),
    [(True, Ended.COOKIE), (True, Ended.PROTOCOL), (False, Ended.UNREACHED)],
)
def test_a_refused_cookie_and_an_unlisted_node_back_off(listed: bool, why: Ended) -> None:
    known, now_ms, waits = contacts(), 0, []
    known.told(A, AT, listed, 0)
    for _ in range(10):
        ((link, _),) = known.due(set(), now_ms)
        known.ended(link, why, now_ms)
        waits.append(wait_ms(known, now_ms))
        now_ms += waits[-1]
    for number, waited_ms in enumerate(waits):
        wanted_ms = min(1000 * 2**number, BACKOFF_LIMIT_MS)
        assert wanted_ms * 8 // 10 <= waited_ms <= wanted_ms * 12 // 10


def test_a_link_ends_the_back_off() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    for now_ms in (0, 100_000, 200_000):
        ((link, _),) = known.due(set(), now_ms)
        known.ended(link, Ended.COOKIE, now_ms)
    known.came_up(-1, A, True, None)
    known.lost(A, at_once=True, now_ms=200_001)
    assert known.deadline(set()) == 200_001


def test_a_node_that_left_is_not_dialled_at_once() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    known.came_up(-1, A, True, None)
    known.lost(A, at_once=False, now_ms=100)
    assert known.deadline(set()) == 100 + NOBODY_THERE_MS


def test_a_link_that_is_lost_again_and_again_is_dialled_at_once_thrice_then_every_250_ms() -> None:
    known, dials = contacts(), []
    known.told(A, AT, True, 0)
    known.came_up(-1, A, True, None)
    for now_ms in range(10_000, 12_000):
        known.lost(A, at_once=True, now_ms=now_ms)
        for link, _ in known.due(set(), now_ms):
            known.came_up(link, A, True, AT)
            dials.append(now_ms)
    assert dials == [*range(10_000, 10_003), *range(10_000 + REDIAL_MS, 12_000, REDIAL_MS)]


def test_a_link_that_is_lost_just_after_it_was_dialled_is_dialled_at_once() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    for _ in range(5):
        ((link, _),) = known.due(set(), 0)
        found = known.ended(link, Ended.CLOSED, 0)
        assert found is not None
        found.next_ms = 0  # a dying process let it in
    ((link, _),) = known.due(set(), 0)
    known.came_up(link, A, True, AT)
    known.lost(A, at_once=True, now_ms=1)
    assert known.deadline(set()) == 1


def test_a_dial_under_way_when_a_link_is_lost_holds_up_no_other() -> None:
    """It may be at a former start of the node, and come to nothing."""
    known = contacts()
    for address in (AT, at(7)):
        known.told(A, address, True, 0)
    formers = []
    for now_ms in (0, 1000):
        ((link, _),) = known.due(set(), now_ms)
        formers.append(link)
        if now_ms == 0:
            known.ended(link, Ended.UNREACHED, now_ms)
    known.give_up(set(), 1000 + LEASH_MS)  # that at the second address goes aside
    formers += [link for link, _ in known.due(set(), 2000)]
    known.came_up(-1, A, True, None)
    known.lost(A, at_once=True, now_ms=5000)
    for expected in (AT, at(7)):
        ((link, address),) = known.due(set(), 5000)
        assert address == expected
        for former in formers:
            assert known.ended(former, Ended.UNREACHED, 5000) is None
        found = known.ended(link, Ended.REFUSED, 5000)
        assert found is not None and found.name == A


@pytest.mark.parametrize(
    ("lost_ms", "due_ms"), [(10, 10 + SETTLED_MS), (REDIAL_MS - 10, REDIAL_MS), (400, 400)]
)
def test_a_dial_under_way_when_a_link_is_lost_may_soon_take_its_place(
    lost_ms: int, due_ms: int
) -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(-1, A, True, None)
    known.lost(A, at_once=True, now_ms=lost_ms)
    assert known.deadline(set()) == due_ms
    known.came_up(link, A, True, AT)
    assert known.deadline({A}) is None
    known.lost(A, at_once=True, now_ms=5000)
    assert known.deadline(set()) == 5000


def test_a_link_that_is_lost_while_a_dial_is_under_way_takes_nothing_of_the_rate() -> None:
    """A frozen node goes on: its link is gone, the next as soon, and then its peer is killed."""
    known = contacts()
    known.told(A, AT, True, 0)
    known.came_up(-1, A, True, AT)
    known.lost(A, at_once=True, now_ms=5000)
    ((link, _),) = known.due(set(), 5000)
    known.came_up(-2, A, True, AT)
    known.lost(A, at_once=True, now_ms=5001)
    known.came_up(link, A, True, AT)
    known.lost(A, at_once=True, now_ms=5140)
    assert known.deadline(set()) == 5140


def test_a_linked_node_is_not_dialled() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    assert list(known.due({A}, 0)) == [] and known.deadline({A}) is None


def test_the_best_address_is_dialled_each_second_time() -> None:
    known, dialled = contacts(), []
    for address in (AT, at(7), at(8)):
        known.told(A, address, True, 0)
    for now_ms in range(0, 6000, 1000):
        ((link, address),) = known.due(set(), now_ms)
        known.ended(link, Ended.UNREACHED, now_ms)
        dialled.append(address)
    assert dialled[::2] == [AT] * 3 and set(dialled[1::2]) == {at(7), at(8)}


def test_a_configured_address_is_dialled_under_its_node_s_name_once_known() -> None:
    known = contacts()
    known.configure((AT,), 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(link, A, False, AT)
    assert list(known.due({A}, 10_000)) == []
    known.lost(A, at_once=True, now_ms=20_000)
    assert [address for _, address in known.due(set(), 20_000)] == [AT]  # once


def test_a_configured_address_is_dialled_for_whom_it_finds_once_another_node_answers() -> None:
    # Two nodes of one host swap their ports, or a node is named anew: no beacon tells of it.
    known = contacts()
    known.configure((AT,), 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(link, A, True, AT)
    known.lost(A, at_once=True, now_ms=1000)
    ((link, _),) = known.due(set(), 1000)
    assert known.expected(link) == A
    known.ended(link, Ended.PROTOCOL, 1000)
    ((link, address),) = known.due(set(), 1000)
    assert (known.expected(link), address) == (None, AT)


def test_a_configured_name_whose_link_is_lost_again_and_again_is_dialled_every_250_ms() -> None:
    known, alpha, dials = contacts(), Address("alpha", 4041), []
    known.configure((alpha,), 0)
    for now_ms in range(1000):
        for link, address in known.due(set(), now_ms):
            known.came_up(link, A, True, AT)  # as it resolves
            dials += [now_ms] if address == alpha else []
            known.lost(A, at_once=False, now_ms=now_ms)
    assert dials == [*range(0, 1000, REDIAL_MS)]


def test_a_configured_address_is_dialled_though_its_node_was_forgotten() -> None:
    known = contacts()
    known.configure((AT,), 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(link, A, False, AT)
    known.lost(A, at_once=True, now_ms=0)
    assert known.forget_strangers(set(), UNLISTED_MS) == [A]
    assert [address for _, address in known.due(set(), UNLISTED_MS)] == [AT]


def test_a_configured_address_that_is_this_node_is_asked_again_a_minute_later() -> None:
    known = contacts()
    known.configure((AT,), 0)
    ((link, _),) = known.due(set(), 0)
    known.itself(link, 0)
    assert BACKOFF_LIMIT_MS * 8 // 10 <= wait_ms(known, 0) <= BACKOFF_LIMIT_MS * 12 // 10


def test_an_address_where_another_node_lives_now_is_dropped() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(link, B, True, AT)
    assert known.addresses(A) == () and known.addresses(B) == (AT,)


def test_a_stranger_that_claims_a_name_does_not_slow_the_dials_of_its_node() -> None:
    # It sends beacons with a's name and refuses the cookie; a itself is cut off for a while.
    known, now_ms, dialled = contacts(), 0, 0
    known.told(A, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    while now_ms < 20_000:
        ((link, address),) = known.due(set(), now_ms)
        dialled += address == AT
        known.ended(link, Ended.UNREACHED if address == AT else Ended.COOKIE, now_ms)
        now_ms += wait_ms(known, now_ms)
    assert dialled >= 20_000 // (2 * REDIAL_MS * 12 // 10)


def test_a_node_that_refuses_at_each_of_its_addresses_is_left_alone() -> None:
    known, now_ms, dials = contacts(), 0, 0
    known.told(A, AT, True, 0)
    known.told(A, at(7), True, 0)
    while now_ms < 100_000:
        ((link, _),) = known.due(set(), now_ms)
        dials += 1
        known.ended(link, Ended.COOKIE, now_ms)
        now_ms += wait_ms(known, now_ms)
    assert dials <= 10


@pytest.mark.parametrize(
    ("listed", "why"), [(True, Ended.COOKIE), (True, Ended.PROTOCOL), (False, Ended.CLOSED)]
)
def test_who_backs_off_does_so_however_slow_it_is(listed: bool, why: Ended) -> None:
    # Two addresses, as each node with IPv4 and IPv6 has, and a beacon a second from both.
    known, now_ms, dials, ends = contacts(), 0, 0, {}
    while now_ms < 60_000:
        for link in [link for link, at_ms in ends.items() if at_ms <= now_ms]:
            del ends[link]
            known.ended(link, why, now_ms)
        if now_ms % 1000 == 0:
            known.hint(A, 1, AT, listed, now_ms)
            known.hint(A, 1, at(7), listed, now_ms)
        assert not known.give_up(set(), now_ms)
        for link, _ in known.due(set(), now_ms):
            ends[link] = now_ms + LEASH_MS + 20
            dials += 1
        now_ms += 10
    assert dials <= 12


def test_a_stranger_that_claims_a_name_and_refuses_late_does_not_slow_its_node_s_dials() -> None:
    known, dialled, ends = contacts(), 0, {}
    known.told(A, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    for now_ms in range(0, 20_000, 10):
        for link in [link for link, at_ms in ends.items() if at_ms <= now_ms]:
            del ends[link]
            known.ended(link, Ended.COOKIE, now_ms)
        known.give_up(set(), now_ms)
        for link, address in known.due(set(), now_ms):
            if address == AT:
                dialled += 1
                known.ended(link, Ended.REFUSED, now_ms)
            else:
                ends[link] = now_ms + LEASH_MS + 20
    assert dialled >= 20_000 // (2 * REDIAL_MS * 12 // 10)


def dialled_within(known: Contacts, wanted: Address, limit_ms: int, now_ms: int = 0) -> int:
    """Whom it dials lets it in and says nothing; return when it dials the wanted address."""
    while now_ms <= limit_ms:
        known.give_up(set(), now_ms)
        if wanted in [address for _, address in known.due(set(), now_ms)]:
            return now_ms
        due_ms = known.deadline(set())
        assert due_ms is not None and due_ms > now_ms
        now_ms = due_ms
    raise AssertionError("not dialled in time")


def test_a_stranger_that_claims_a_name_and_says_nothing_does_not_hold_its_node_up() -> None:
    known = contacts()
    known.hint(A, 1, at(7), True, 0)  # the stranger was first
    assert dialled_within(known, at(7), 0) == 0
    known.hint(A, 1, AT, True, 1)
    for port in range(100):  # it claims that a is at each of its ports
        known.hint(A, 1, Address(at(7).host, port), True, 1)
    assert dialled_within(known, AT, LEASH_MS, 1) <= LEASH_MS


def test_a_stranger_that_says_nothing_gives_the_best_address_back_soon() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    ((link, _),) = known.due(set(), 0)
    known.ended(link, Ended.UNREACHED, 1)  # cut off at this moment
    assert dialled_within(known, AT, 500, 1) <= REDIAL_MS * 12 // 10 + LEASH_MS


def test_strangers_that_say_nothing_do_not_hold_up_a_node_that_is_new() -> None:
    known, now_ms = contacts(), 0
    for number in range(MAX_UNPROVEN):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, now_ms)
    assert len(known.due(set(), now_ms)) == MAX_UNPROVEN_DIALS
    known.hint(A, 1, AT, True, 1)
    assert dialled_within(known, AT, LEASH_MS, 1) <= LEASH_MS


def test_a_dial_that_new_hints_crowd_out_does_not_make_the_caller_spin() -> None:
    known = contacts()
    known.hint(A, 1, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    for number in range(MAX_UNPROVEN_DIALS):  # after a sleep
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, 5000)
    assert known.give_up(set(), 5000) == [link]
    assert len(known.due(set(), 5000)) == MAX_UNPROVEN_DIALS
    assert known.deadline(set()) == 5000 + LEASH_MS


def test_in_a_crowd_who_needs_longer_for_a_handshake_gets_it() -> None:
    known, now_ms, began_ms = contacts(), 0, {}
    longest_ms = 0
    for number in range(MAX_UNPROVEN_DIALS + 4):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, 0)
    while now_ms < 10_000:
        for link in known.give_up(set(), now_ms):
            longest_ms = max(longest_ms, now_ms - began_ms.pop(link))
        began_ms.update((link, now_ms) for link, _ in known.due(set(), now_ms))
        assert len(began_ms) <= MAX_UNPROVEN_DIALS
        due_ms = known.deadline(set())
        assert due_ms is not None and due_ms > now_ms
        now_ms = due_ms
    assert longest_ms == 8 * LEASH_MS


def test_each_listed_node_has_a_place_however_many_there_are() -> None:
    listed = 3 * MAX_UNPROVEN_DIALS
    known, now_ms, ended = Contacts(ME, 1, listed), 0, []
    for number in range(listed):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number), True, 0)
    assert len(known.due(set(), 0)) == listed
    for now_ms in range(0, 5000, LEASH_MS):  # they all take long
        ended += known.give_up(set(), now_ms)
    assert not ended
    known.hint(NodeName("another", "h"), 1, at(listed), True, 5000)
    assert len(known.due(set(), 5000)) == 0  # a crowd now


def invents_names(known: Contacts, now_ms: int) -> None:
    """A stranger calls under names that are in no list, and lets whoever dials them in."""
    for number in range(2 * MAX_UNPROVEN):
        known.hint(NodeName(f"z{number}", "x"), 1, at(number), False, now_ms)


def test_names_that_are_in_no_list_end_no_dial_of_one_that_is() -> None:
    known, dials = contacts(), []
    known.hint(A, 1, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    for now_ms in range(0, 2000, 10):
        invents_names(known, now_ms)
        assert link not in known.give_up(set(), now_ms)
        dials += known.due(set(), now_ms)
    assert A in known.names() and len(dials) > MAX_UNPROVEN_DIALS


def test_names_that_are_in_no_list_take_no_turn_from_one_that_is() -> None:
    known = contacts()
    invents_names(known, 0)
    assert len(known.due(set(), 0)) == MAX_UNPROVEN_DIALS
    for number in range(1, MAX_ADDRESSES):
        known.hint(A, 1, at(number), True, 1)
    known.hint(A, 1, AT, True, 1)
    assert len(known.due(set(), 1)) == 1
    assert dialled_within(known, AT, 1000, 1) <= 1 + MAX_ASIDE * LEASH_MS


def test_whom_a_member_told_gets_its_time_at_each_of_its_addresses() -> None:
    known, told, ended = contacts(), None, []
    known.told(A, AT, True, 0)
    known.told(A, at(7), True, 0)
    for now_ms in range(0, 5000, 10):
        if now_ms % REDIAL_MS == 0:  # a stranger claims that it is elsewhere, always elsewhere
            known.hint(A, 1, at(8 + now_ms), True, now_ms)
        ended += known.give_up(set(), now_ms)
        for link, address in known.due(set(), now_ms):
            if address == AT:
                known.ended(link, Ended.UNREACHED, now_ms)  # that network is cut
            elif address == at(7):
                assert told is None and now_ms < 1000
                told = link
    assert told is not None and told not in ended and len(ended) > MAX_ASIDE


def test_a_told_address_that_leads_nowhere_gives_the_best_one_back_soon() -> None:
    known = contacts()
    known.told(A, at(7), True, 0)
    known.told(A, AT, True, 0)
    known.came_up(-1, A, True, AT)
    known.lost(A, at_once=True, now_ms=0)
    ((link, address),) = known.due(set(), 0)
    assert address == AT
    known.ended(link, Ended.UNREACHED, REDIAL_MS)  # cut off until this moment
    now_ms = known.deadline(set()) or REDIAL_MS
    assert at(7) in [address for _, address in known.due(set(), now_ms)]
    assert dialled_within(known, AT, now_ms + LEASH_MS, now_ms) == now_ms + LEASH_MS


# How those end a dial that are not whom it looks for, and after how many ms.
SILENT = (Ended.UNREACHED, 1000)  # for the tick time
NOBODY = (Ended.UNREACHED, 250)  # for the connect time
REFUSES = (Ended.REFUSED, 3)
ANOTHER = (Ended.PROTOCOL, 3)


def dials_of(
    known: Contacts,
    ends: dict[Address, tuple[Ended, int]],
    beacons: Iterable[tuple[int, Address]],
    until_ms: int,
) -> Iterator[tuple[int, Address]]:
    """Yield when and where each dial begins; beacons come at these times from these addresses."""
    now_ms, links, calls = 0, {}, list(beacons)
    while now_ms < until_ms:
        while calls and calls[0][0] <= now_ms:
            known.hint(A, 1, calls.pop(0)[1], True, now_ms)
        for link in known.give_up(set(), now_ms):
            del links[link]
        for link in [link for link, (at_ms, _) in links.items() if at_ms <= now_ms]:
            known.ended(link, links.pop(link)[1], now_ms)
        for link, address in known.due(set(), now_ms):
            yield now_ms, address
            why, took_ms = ends[address]
            links[link] = now_ms + took_ms, why
        due_ms = known.deadline(set())
        assert due_ms is None or due_ms > now_ms
        times = [due_ms, *[at_ms for at_ms, _ in (*calls[:1], *links.values())]]
        now_ms = min([at_ms for at_ms in times if at_ms is not None])


@pytest.mark.parametrize("at_best, limit_ms", [(NOBODY, 1000), ((Ended.REFUSED, 0), 350)])
@pytest.mark.parametrize("hints", [0, 1, MAX_ADDRESSES])
@pytest.mark.parametrize("lost_ms", range(0, 3000, 50))
def test_strangers_hardly_delay_a_node_at_its_second_address(
    at_best: tuple[Ended, int], limit_ms: int, hints: int, lost_ms: int
) -> None:
    """Nobody is where it was linked last; frames pass to its other address from lost_ms on."""
    known, strangers = contacts(), [at(number + 8) for number in range(hints)]
    for address in (AT, at(7)):
        known.told(A, address, True, 0)
    ends = {AT: at_best, **dict.fromkeys((at(7), *strangers), NOBODY)}
    claims = [(0, address) for address in strangers]  # that it is elsewhere
    dials = dials_of(known, ends, claims, lost_ms + limit_ms + 1)
    assert any(at_ms >= lost_ms and to == at(7) for at_ms, to in dials)


@pytest.mark.parametrize(("beacon_ms", "limit_ms"), [(20, 520), (240, 520), (9999, 700)])
@pytest.mark.parametrize("place", range(MAX_ADDRESSES))
def test_who_claims_to_be_at_three_addresses_hardly_holds_up_the_fourth(
    place: int, beacon_ms: int, limit_ms: int
) -> None:
    """Beacons alone say where it is; frames pass to it from lost_ms on, and so does a beacon."""
    for kinds in itertools.product((SILENT, NOBODY, REFUSES, ANOTHER), repeat=MAX_ADDRESSES - 1):
        found = [(at(number), kind) for number, kind in enumerate(kinds, 7)]
        ends = dict([*found[:place], (AT, NOBODY), *found[place:]])
        for lost_ms in range(0, 3000, 170):
            beacons = [*[(0, address) for address in ends], (lost_ms + beacon_ms, AT)]
            dials = dials_of(contacts(), ends, beacons, lost_ms + limit_ms + 1)
            assert any(at_ms >= lost_ms and to == AT for at_ms, to in dials), (lost_ms, kinds)


@pytest.mark.parametrize(
    ("told", "hints", "end", "each_ms"),
    [(3, 0, NOBODY, 250), (3, 0, REFUSES, 20), (1, 2, REFUSES, 20), (0, 2, REFUSES, 1)],
)
def test_an_address_with_beacons_does_not_hold_up_one_without(
    told: int, hints: int, end: tuple[Ended, int], each_ms: int
) -> None:
    known, (*_, other, wanted) = contacts(), range(told + hints)
    for number in range(told):
        known.told(A, at(number), True, 0)
    for number in range(told, told + hints):
        known.hint(A, 1, at(number), True, 0)
    ends = {at(number): end if number == other else NOBODY for number in range(told + hints)}
    beacons = [(at_ms, at(other)) for at_ms in range(0, 20_000, each_ms)]
    dials = [at_ms for at_ms, to in dials_of(known, ends, beacons, 20_000) if to == at(wanted)]
    gaps = [b - a for a, b in zip([0, *dials], [*dials, 20_000], strict=True)]
    assert max(gaps) <= 2000


def test_beacons_without_end_of_four_addresses_make_few_dials() -> None:
    ends = {at(number): end for number, end in enumerate((NOBODY, NOBODY, REFUSES, REFUSES), 7)}
    beacons = ((at_ms, address) for at_ms in range(10_000) for address in ends)
    assert len(list(dials_of(contacts(), ends, beacons, 10_000))) <= 3 * 10_000 // REDIAL_MS


def test_the_only_address_that_is_free_is_dialled_every_250_ms() -> None:
    ends = {at(7): (Ended.UNREACHED, 10_000), AT: REFUSES}  # the first hangs aside
    dials = dials_of(contacts(), ends, [(0, address) for address in ends], 9000)
    times = [at_ms for at_ms, to in dials if to == AT]
    assert all(b - a >= REDIAL_MS * 8 // 10 for a, b in itertools.pairwise(times[1:]))


def test_beacons_of_one_name_that_is_linked_fill_no_memory() -> None:
    contact = Contact(A, True, 0, proven=True)
    contact.trust(AT, first=True)
    for number in range(2000):
        for port in (1, 2):
            contact.hear(Address(at(number + 7).host, port))
    assert len(contact.dialled) <= MAX_ADDRESSES and len(contact.heard) <= MAX_ADDRESSES


@pytest.mark.parametrize("why", [Ended.COOKIE, Ended.PROTOCOL, Ended.REFUSED])
def test_a_hint_that_refuses_takes_no_turn_from_the_others(why: Ended) -> None:
    known = contacts()
    known.hint(A, 1, at(7), True, 0)  # the stranger was first
    known.hint(A, 1, AT, True, 0)
    ((link, address),) = known.due(set(), 0)
    assert address == at(7)
    known.ended(link, why, 5)
    assert [address for _, address in known.due(set(), 5)] == [AT]


def test_a_stranger_that_refuses_at_the_best_address_makes_few_dials() -> None:
    ends = {at(7): (Ended.COOKIE, 0), AT: (Ended.UNREACHED, 0), at(8): (Ended.UNREACHED, 0)}
    dials = dials_of(contacts(), ends, [(0, address) for address in ends], 10_000)
    assert len(list(dials)) <= 2 * 10_000 // (REDIAL_MS * 8 // 10)


@pytest.mark.parametrize("at_best", [(Ended.REFUSED, 0), SILENT])
def test_a_stranger_that_refuses_elsewhere_makes_no_more_dials(at_best: tuple[Ended, int]) -> None:
    """Where nobody lives at the best address, or somebody who lets it in and says nothing."""
    ends = {AT: at_best, at(7): (Ended.PROTOCOL, 0), at(8): (Ended.PROTOCOL, 0)}
    beacons = [*[(0, address) for address in ends], *[(ms, at(7)) for ms in range(10_000)]]
    dials = dials_of(contacts(), ends, beacons, 10_000)
    assert len(list(dials)) <= 3 * 10_000 // (REDIAL_MS * 8 // 10)


def test_a_dial_that_a_hint_led_to_holds_nobody_up_when_its_node_is_linked() -> None:
    known = contacts()
    known.hint(A, 1, at(7), True, 0)
    ((link, _),) = known.due(set(), 0)
    known.came_up(-1, A, True, AT)
    assert known.deadline({A}) == LEASH_MS
    assert known.give_up({A}, LEASH_MS - 1) == [] and known.give_up({A}, LEASH_MS) == []
    assert known.deadline({A}) is None
    known.lost(A, at_once=True, now_ms=200)
    ((_, address),) = known.due(set(), 200)
    assert address == AT and known.ended(link, Ended.UNREACHED, 250) is None


def ask_for(known: Contacts, until_ms: int) -> tuple[dict[int, Address], list[int]]:
    """Where everybody lets it in and says nothing; return its dials, and those that it ended."""
    now_ms, dials, ended = 0, {}, []
    while now_ms <= until_ms:
        ended += known.give_up(set(), now_ms)
        for link, address in known.due(set(), now_ms):
            dials[link] = address
            if address == AT:
                known.ended(link, Ended.UNREACHED, now_ms)
        due_ms = known.deadline(set())
        if due_ms is None:
            break
        assert due_ms > now_ms
        now_ms = due_ms
    return dials, ended


def test_a_hinted_dial_of_a_known_node_goes_on_beside_the_others() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    known.hint(A, 1, at(8), True, 0)
    dials, ended = ask_for(known, 5000)
    addresses = list(dials.values())
    assert not ended and addresses.count(at(7)) == addresses.count(at(8)) == 1
    assert addresses.count(AT) >= 5000 // (REDIAL_MS * 12 // 10)
    (link,) = (x for x, address in dials.items() if address == at(7))
    known.came_up(link, A, True, at(7))
    assert known.addresses(A)[0] == at(7)
    known.lost(A, at_once=True, now_ms=5000)
    assert [address for _, address in known.due(set(), 5000)] == [at(7)]  # free again


def test_a_dial_aside_that_reached_this_very_node_is_not_made_again() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    dials, _ = ask_for(known, 1000)
    (link,) = (x for x, address in dials.items() if address == at(7))
    known.itself(link, 1000)
    assert known.addresses(A) == (AT,)


def test_hints_without_end_make_few_dials_go_on_at_a_time() -> None:
    known, now_ms, open_now = contacts(), 0, set()
    known.told(A, AT, True, 0)
    for number in range(100):
        known.hint(A, 1, at(number + 7), True, now_ms)
        open_now.difference_update(known.give_up(set(), now_ms))
        for link, address in known.due(set(), now_ms):
            if address == AT:
                known.ended(link, Ended.UNREACHED, now_ms)
            else:
                open_now.add(link)
        assert len(open_now) <= MAX_ASIDE + 1
        now_ms += LEASH_MS
    assert len(open_now) >= MAX_ASIDE


def test_a_place_at_the_table_that_is_lost_ends_the_dials() -> None:
    known = contacts()
    known.hint(A, 1, AT, True, 0)
    known.hint(A, 1, at(7), True, 0)
    ((one, _),) = known.due(set(), 0)
    assert known.give_up(set(), LEASH_MS) == []  # it goes on beside the other
    ((other, _),) = known.due(set(), LEASH_MS)
    for number in range(MAX_UNPROVEN):
        known.hint(NodeName(f"n{number}", "h"), 1, at(number + 8), True, LEASH_MS)
    assert A not in known.names() and known.give_up(set(), LEASH_MS) == [one, other]


def test_what_a_member_tells_is_better_than_a_hint() -> None:
    known = contacts()
    known.hint(A, 1, at(7), True, 0)
    known.told(A, AT, True, 0)
    assert known.addresses(A) == (AT, at(7))


def test_members_cannot_tell_of_nodes_without_end() -> None:
    known = contacts()
    for number in range(10_000):
        known.told(NodeName(f"n{number}", "h"), at(number), True, 0)
    assert len(known.names()) == MAX_TOLD


def test_only_where_an_administrator_sent_it_a_dial_takes_whom_it_finds() -> None:
    known = contacts()
    known.configure((AT,), 0)
    known.hint(A, 1, at(7), True, 0)
    expected = {address: known.expected(link) for link, address in known.due(set(), 0)}
    assert expected == {AT: None, at(7): A}


def test_a_node_that_left_is_dialled_when_its_beacon_says_that_it_is_back() -> None:
    known = contacts()
    known.came_up(-1, A, True, AT)
    known.lost(A, at_once=False, now_ms=1000)  # it said goodbye
    assert wait_ms(known, 1000) == NOBODY_THERE_MS
    known.hint(A, 1, AT, True, 1100)
    assert wait_ms(known, 1100) == 0


def test_an_address_that_had_to_go_is_learned_anew_when_it_is_told_anew() -> None:
    known = contacts()
    known.told(A, AT, True, 0)
    ((link, _),) = known.due(set(), 0)
    known.itself(link, 1)
    assert known.addresses(A) == ()
    known.told(A, AT, True, 2)
    assert known.addresses(A) == (AT,)
    known.told(A, at(9), True, 3)
    known.hint(A, 1, Address(at(9).host, 9), True, 4)
    known.told(A, at(9), True, 5)
    assert known.addresses(A) == (AT, at(9))


def test_hints_take_no_turn_from_the_best_address_of_who_backs_off() -> None:
    known, now_ms, dials, dialled = contacts(), 0, 0, [0]
    known.told(A, AT, False, 0)
    known.hint(A, 1, at(7), False, 0)  # a stranger that refuses
    while now_ms < 20 * BACKOFF_LIMIT_MS:
        ((link, address),) = known.due(set(), now_ms)
        known.ended(link, Ended.UNREACHED if address == AT else Ended.PROTOCOL, now_ms)
        dials += 1
        dialled += [now_ms] if address == AT else []
        now_ms += wait_ms(known, now_ms)
    gaps = [b - a for a, b in zip(dialled, dialled[1:], strict=False)]
    assert max(gaps) <= BACKOFF_LIMIT_MS * 12 // 10
    assert dials <= 2 * 20 * 10 // 8


def backed_off(known: Contacts, why: Ended) -> int:
    """Let each dial of its one contact end so, until it backs off for as long as it may; return
    when the last one ended."""
    now_ms = 0
    while now_ms < 10 * BACKOFF_LIMIT_MS:
        ((link, _),) = known.due(set(), now_ms)
        known.ended(link, why, now_ms)
        now_ms += wait_ms(known, now_ms)
    ((link, _),) = known.due(set(), now_ms)
    known.ended(link, why, now_ms)
    return now_ms


@pytest.mark.parametrize(("listed", "why"), [(False, Ended.REFUSED), (True, Ended.COOKIE)])
def test_a_beacon_of_another_start_ends_the_back_off(listed: bool, why: Ended) -> None:
    known = contacts()
    known.told(A, AT, listed, 0)
    known.hint(A, 7, AT, listed, 0)
    now_ms = backed_off(known, why)
    waits_ms = wait_ms(known, now_ms)
    for former in (7, 6):
        known.hint(A, former, AT, listed, now_ms)
        assert wait_ms(known, now_ms) == waits_ms > REDIAL_MS
    known.hint(A, 8, AT, listed, now_ms)
    assert wait_ms(known, now_ms) == REDIAL_MS


@pytest.mark.parametrize(("listed", "why"), [(False, Ended.UNREACHED), (True, Ended.COOKIE)])
def test_a_member_s_word_that_a_node_is_there_ends_its_back_off(listed: bool, why: Ended) -> None:
    known = contacts()
    known.told(A, AT, listed, 0)
    now_ms = backed_off(known, why)
    known.told(A, AT, listed, now_ms + 5)
    assert wait_ms(known, now_ms) == REDIAL_MS
    ((link, address),) = known.due(set(), now_ms + REDIAL_MS)
    assert address == AT
    known.ended(link, why, now_ms + REDIAL_MS)
    assert wait_ms(known, now_ms + REDIAL_MS) <= 1200
