"""Membership: of several links with one name, which stays; every order of events."""

from dataclasses import dataclass, field

import pytest

from chucky.core import actions as ac
from chucky.core.contact import REDIAL_MS
from chucky.core.contacts import MAX_ASIDE
from chucky.core.events import Ended
from chucky.core.link import Link
from chucky.core.membership import ANSWERS_PER_S, DYING_MS, Membership
from chucky.core.refusals import REFUSAL_MS, REFUSALS
from chucky.core.startup import Look
from chucky.messages import Beacon, Epoch, Hello, Member, NameTaken, Status
from chucky.names import Address, NodeName
from chucky.settings import Settings
from tests.sim.cluster import Cluster
from tests.unit.cluster import name

SETTINGS = Settings()
TICK_TIME_MS = SETTINGS.tick_time_ms
A, B, C = name("a"), name("b"), name("c")


def at(node: NodeName) -> Address:
    return Address(f"10.0.0.{ord(node.name)}", 4041)


@dataclass
class End:
    """One node's membership, and what it asked for."""

    me: NodeName
    incarnation: int = 10
    out: list[ac.Action] = field(default_factory=list)
    taken: list[Address] = field(default_factory=list)
    ended: list[tuple[int, bool]] = field(default_factory=list)
    dead: list[tuple[NodeName, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = Membership(
            SETTINGS, self.me, self.incarnation, Look(TICK_TIME_MS), 0, self.out.append,
            self.taken.append, lambda link, heard, _: self.ended.append((link.id, heard)),
            lambda name, incarnation: self.dead.append((name, incarnation)),
        )  # fmt: skip

    def up(self, id: int, peer: NodeName, incarnation: int = 10, now_ms: int = 0) -> None:
        link = Link(id, peer, incarnation, at(peer), now_ms, now_ms, TICK_TIME_MS)
        self.members.link_up(link, now_ms)

    def wake(self, now_ms: int) -> None:
        self.members.settle(now_ms, now_ms)

    @property
    def closed(self) -> list[int]:
        return [a.link for a in self.out if isinstance(a, ac.Close)]

    @property
    def told(self) -> list[int]:
        return [
            a.link for a in self.out if isinstance(a, ac.Send) and isinstance(a.message, NameTaken)
        ]

    def in_use(self, peer: NodeName) -> int | None:
        link = self.members.links.get(peer)
        return None if link is None else link.id


def status(tick: int, echo: int = 0) -> Status:
    return Status(tick, echo, SETTINGS.digest, "standby")


@pytest.mark.parametrize("first_at_a", [0, 1])
@pytest.mark.parametrize("first_at_b", [0, 1])
def test_simultaneous_dials_keep_the_same_link_at_both_ends(
    first_at_a: int, first_at_b: int
) -> None:
    """Wire 0 is a's dial (1 at a, -1 at b), wire 1 is b's (-1 at a, 1 at b): b's stays."""
    a, b = End(A), End(B)
    ids = {0: (1, -1), 1: (-1, 1)}
    for wire in (first_at_a, 1 - first_at_a):
        a.up(ids[wire][0], B)
    for wire in (first_at_b, 1 - first_at_b):
        b.up(ids[wire][1], A)
    assert (a.in_use(B), b.in_use(A)) == ids[1]
    assert a.closed == [1]  # its own dial, whichever came first; b, which need not, may wait for it
    assert b.closed == ([] if first_at_b == 1 else [-1])
    b.members.link_down(-1, Ended.CLOSED, None, None, 5)
    assert b.in_use(A) == 1 and b.ended == []


def test_simultaneous_dials_survive_that_the_peer_closes_the_loser_first() -> None:
    a = End(A)
    a.up(1, B)
    a.members.link_down(1, Ended.CLOSED, None, None, 5)  # b has seen both already
    assert a.in_use(B) is None and a.ended == [(1, True)]
    a.up(-1, B)
    assert a.in_use(B) == -1 and a.closed == []


@pytest.mark.parametrize(
    ("order", "closed_by_b"),
    [((1, 2), [-1]), ((2, 1), [])],  # a segment of the first was lost: then its dialler closes it
)
def test_two_dials_of_one_node_keep_the_newer_at_both_ends(
    order: tuple[int, int], closed_by_b: list[int]
) -> None:
    a, b = End(A), End(B)
    for number in order:
        a.up(number, B)
        b.up(-number, A)
    assert (a.in_use(B), b.in_use(A)) == (2, -2)
    assert (a.closed, b.closed) == ([1], closed_by_b)


def test_a_peer_that_lost_the_link_gets_in_at_once() -> None:
    b = End(B)
    b.up(-1, A)
    b.up(-2, A)  # the half-open first one has not been heard to end
    assert b.in_use(A) == -2 and b.closed == [-1] and not b.told


def test_a_peer_that_lost_a_link_of_our_dial_gets_in_when_it_speaks() -> None:
    b = End(B)
    b.up(1, A)
    b.up(-1, A)
    assert b.in_use(A) == 1 and b.closed == []  # a may have both, and will close its own
    assert b.members.status(-1, status(7), 5) is not None
    assert b.in_use(A) == -1 and b.closed == [1] and b.ended == [] and not b.told


def test_a_peer_that_lost_a_link_of_our_dial_gets_in_when_that_ends() -> None:
    b = End(B)
    b.up(1, A)
    b.up(-1, A)
    b.members.link_down(1, Ended.CLOSED, None, None, 5)
    assert b.in_use(A) == -1 and b.closed == []


def test_a_second_link_of_the_first_is_never_refused_nor_outrun() -> None:
    for order in ((-1, -2), (-2, -1)):
        b = End(B)
        b.up(1, A, incarnation=10)
        for id in order:
            b.up(id, A, incarnation={-1: 10, -2: 11}[id])
        b.members.status(1, status(1, echo=0), 5)
        b.members.link_down(1, Ended.CLOSED, None, None, 5)
        assert b.in_use(A) == -1 and b.closed == [] and not b.told
        b.members.status(-1, status(2, echo=1), 6)
        assert b.told == [-2] and b.closed == [-2]


def test_a_second_link_of_the_first_outlives_that_the_first_speaks() -> None:
    b = End(B)
    b.up(1, A)
    b.up(-1, A)
    b.members.status(1, status(1, echo=5), 5)  # on its way when a lost the link
    assert b.closed == [] and not b.told
    b.members.status(-1, status(2), 6)
    assert b.in_use(A) == -1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("one, other", [("a", "b"), ("b", "a"), ("a", "c"), ("b", "c")])
def test_a_link_that_is_reset_at_one_end_is_made_anew_once(one: str, other: str, seed: int) -> None:
    cluster = Cluster(seed=seed)
    cluster.start("a")
    cluster.run(300)
    cluster.start("b", "c")
    cluster.run(4000 + 77 * seed)
    before = len(cluster.log(one))
    cluster.reset(one, other)
    cluster.run(20)
    at_ = cluster.hosts[other].address
    assert cluster.log(one)[before:] == [
        f"{other}@h ended its link: it is down",
        f"{other}@h at {at_} is up",
    ]
    hears = cluster.hosts[one].node.snapshot().nodes  # type: ignore[union-attr]
    assert [n.last_heard_ms < 20 for n in hears if n.name.name == other] == [True]


def test_a_second_of_one_name_waits_and_is_refused_when_the_first_speaks() -> None:
    b = End(B)
    b.up(-1, A, incarnation=10)
    b.up(-2, A, incarnation=11)
    assert b.in_use(A) == -1 and b.closed == []
    b.members.status(-1, status(1, echo=0), 5)  # sent before our tick 1: proves nothing
    assert b.told == []
    b.members.status(-1, status(2, echo=1), 6)
    assert b.in_use(A) == -1 and b.told == [-2] and b.closed == [-2]


def test_a_second_of_one_name_replaces_a_silent_first() -> None:
    b = End(B)
    b.up(-1, A, incarnation=10)
    b.up(-2, A, incarnation=11, now_ms=500)
    b.wake(TICK_TIME_MS)
    assert b.in_use(A) == -2 and b.closed == [-1] and b.ended == [(-1, False)] and not b.told


def test_a_second_of_one_name_replaces_a_first_whose_link_ends() -> None:
    b = End(B)
    b.up(-1, A, incarnation=10)
    b.up(-2, A, incarnation=11)
    b.members.link_down(-1, Ended.CLOSED, None, None, 5)
    assert b.in_use(A) == -2 and b.ended == [(-1, True)] and not b.told


@pytest.mark.parametrize("tick_ms, silent_ms", [(1000, 4000), (25, TICK_TIME_MS)])
def test_a_link_waits_for_the_slower_of_its_two_nodes(tick_ms: int, silent_ms: int) -> None:
    b = End(B)
    b.up(-1, A)
    b.members.hello(-1, Hello("1", 0, 4041, (), (("tick", str(tick_ms)),)), 0)
    b.wake(silent_ms - 1)
    assert b.in_use(A) == -1 and b.members.deadlines(silent_ms - 1)[0] == silent_ms
    b.wake(silent_ms)
    assert b.in_use(A) is None and b.closed == [-1]


def test_a_stall_excuses_the_silence_of_a_slower_node_for_half_its_time() -> None:
    b = End(B)
    b.up(-1, A)
    b.members.hello(-1, Hello("1", 0, 4041, (), (("tick", "1000"),)), 0)
    b.members.stalled(3900)
    b.wake(5899)
    assert b.in_use(A) == -1
    b.wake(5900)
    assert b.in_use(A) is None


def test_a_silent_newcomer_does_not_replace_a_silent_first() -> None:
    b = End(B)
    b.up(-1, A, incarnation=10)
    b.up(-2, A, incarnation=11)
    b.wake(TICK_TIME_MS)
    assert b.in_use(A) is None and sorted(b.closed) == [-2, -1]
    assert all(deadline > TICK_TIME_MS for deadline in b.members.deadlines(TICK_TIME_MS))


@pytest.mark.parametrize("third", [11, 9])
def test_a_third_of_one_name_waits_in_place_of_the_second(third: int) -> None:
    """The first has proved nothing yet; and the third may be one that died long ago."""
    b = End(B)
    for number, incarnation in ((-1, 10), (-2, 12), (-3, third)):
        b.up(number, A, incarnation)
    assert b.told == [] and b.closed == [-2] and b.in_use(A) == -1
    b.members.status(-1, status(1, echo=1), 5)
    assert b.told == [-3]


def test_a_newcomer_that_dials_twice_is_one_newcomer() -> None:
    b = End(B)
    for number, incarnation in ((-1, 10), (-2, 11), (-3, 11)):
        b.up(number, A, incarnation)
    assert b.told == [] and b.closed == [-2] and b.in_use(A) == -1


def test_one_that_is_leaving_makes_room_at_once() -> None:
    b = End(B)
    b.up(-1, A, incarnation=10)
    b.up(-2, A, incarnation=11)
    b.members.links[A].leaving = True
    b.up(-3, A, incarnation=11)
    assert b.in_use(A) == -3 and sorted(b.closed) == [-2, -1]


@pytest.mark.parametrize("mine_ms, theirs_ms, first", [(5000, 100, True), (100, 5000, False)])
def test_of_two_of_one_name_the_one_up_longer_stays(
    mine_ms: int, theirs_ms: int, first: bool
) -> None:
    a = End(A, incarnation=99)
    a.up(-1, A, incarnation=1, now_ms=mine_ms)
    (sent,) = [x.message for x in a.out if isinstance(x, ac.Send)]
    assert isinstance(sent, Hello) and sent.uptime_ms == mine_ms
    a.members.hello(-1, Hello("", theirs_ms, 4041, (), ()), mine_ms)
    assert (a.told == [-1]) is first and (a.taken == [at(A)]) is not first


def test_of_two_of_one_name_started_at_once_the_lower_incarnation_stays() -> None:
    for incarnation, first in ((1, True), (3, False)):
        a = End(A, incarnation)
        a.up(-1, A, incarnation=2, now_ms=300)
        a.members.hello(-1, Hello("", 900, 4041, (), ()), 300)
        assert (a.taken == []) is first


def test_one_of_our_name_that_says_nothing_is_closed() -> None:
    a = End(A, incarnation=99)
    a.up(-1, A, incarnation=1)
    assert min(a.members.deadlines(0)) == TICK_TIME_MS
    a.wake(TICK_TIME_MS)
    assert a.closed == [-1] and a.taken == [] and a.members.deadlines(TICK_TIME_MS) == []


def test_a_dial_that_reached_this_node_is_closed() -> None:
    a = End(A)
    a.up(1, A)
    assert a.closed == [1] and a.members.links == {} and a.taken == []


def test_a_status_is_news_once_and_in_order() -> None:
    b = End(B)
    b.up(-1, A)
    assert b.members.status(-1, status(5), 1) is not None
    assert b.members.status(-1, status(5), 2) is None
    assert b.members.status(-1, status(4), 3) is None
    assert b.members.status(-9, status(6), 4) is None  # a link that is no more


DIALLED = 99  # a dial of before


def heard(b: End, incarnation: int, now_ms: int, source: NodeName = A) -> list[ac.Dial]:
    """A beacon of a start of a comes to b: which dials ask where the first of that name listens?"""
    before = len(b.out)
    b.members.beacon(Beacon(A, incarnation, 4041, False), at(source), now_ms)
    return [x for x in b.out[before:] if isinstance(x, ac.Dial)]


@pytest.mark.parametrize("listens", [at(A), Address("10.0.0.97", 5000)])
def test_at_a_beacon_of_another_start_the_first_is_dialled_where_it_listens(
    listens: Address,
) -> None:
    b = End(B)
    b.up(-1, A)  # its other end has any port
    assert heard(b, 11, 0) == []  # it has not said where it listens
    b.members.hello(-1, Hello("1", 0, listens.port, (), ()), 0)
    assert heard(b, 10, 0) == []
    assert heard(b, 11, 0, C) == [ac.Dial(1, listens, A, former=10)]


def test_a_first_that_was_dialled_listens_there() -> None:
    b = End(B)
    b.up(DIALLED, A)
    (asks,) = heard(b, 11, 0)
    assert (asks.address, asks.former) == (at(A), 10)


def test_beacons_of_other_starts_cost_few_dials() -> None:
    b = End(B)
    b.up(DIALLED, A)
    asked = [t for t in range(0, 3000, 50) if heard(b, 11 + t, t)]
    assert asked == list(range(0, 3000, REDIAL_MS))
    b.members.settle(None, 3000)  # a start that hangs lets each of them in
    dials = [x.link for x in b.out if isinstance(x, ac.Dial)]
    assert b.closed == dials[:-MAX_ASIDE]
    b.up(dials[-MAX_ASIDE], A, incarnation=3000, now_ms=3000)  # the machine was switched off
    assert b.in_use(A) == dials[-MAX_ASIDE]


@pytest.mark.parametrize("why", [Ended.REFUSED, Ended.PROTOCOL, Ended.UNREACHED])
def test_how_a_dial_ends_that_began_with_the_first_linked_is_no_evidence(why: Ended) -> None:
    b = End(B)
    b.up(DIALLED, A)
    b.members.status(DIALLED, status(1), 5)
    (asks,) = heard(b, 11, 500)
    b.members.link_down(DIALLED, Ended.CLOSED, A, at(A), 500)
    b.members.link_down(asks.link, why, None, at(A), 510)
    assert not b.dead and not b.members.gone[A].dead
    assert b.members.gone[A].asked_by_ms == 500 + TICK_TIME_MS


def test_where_a_link_local_address_without_its_interface_leads_nobody_knows() -> None:
    b = End(B)
    lacking = Link(-1, A, 10, Address("fe80::9", 50000), 0, 0, TICK_TIME_MS)
    b.members.link_up(lacking, 0)
    b.members.hello(-1, Hello("1", 0, 4041, (at(A),), ()), 0)
    assert heard(b, 11, 500) == [] and lacking.dialled_at == (at(A),)


@pytest.mark.parametrize("second", [9, 11])  # a clock may have been set back
def test_another_start_where_the_first_listened_proves_that_it_ended(second: int) -> None:
    b = End(B)
    b.up(DIALLED, A)
    (asks,) = heard(b, second, 500)
    b.up(asks.link, A, incarnation=second, now_ms=510)
    assert b.in_use(A) == asks.link and b.closed == [DIALLED]
    assert b.dead == [(A, 10)] and b.ended == [(DIALLED, False)]  # its end is no sign of its life
    says = [x.sentence for x in b.out if isinstance(x, ac.Report)]
    assert says[1:] == [f"{A} started anew: it is down", f"{A} at {at(A)} is up"]


def test_another_start_that_waits_for_the_name_has_the_first_dialled() -> None:
    b = End(B)
    b.up(DIALLED, A)
    b.up(-1, A, incarnation=11)
    (asks,) = [x for x in b.out if isinstance(x, ac.Dial)]
    assert asks == ac.Dial(asks.link, at(A), A, former=10) and b.in_use(A) == DIALLED
    b.up(asks.link, A, incarnation=11, now_ms=5)
    assert b.members.links[A].incarnation == 11 and b.dead == [(A, 10)]
    assert sorted(b.closed) == [-1, DIALLED]  # b, the greater, keeps of two the one that it dialled


def test_a_dial_from_before_the_first_was_linked_proves_nothing() -> None:
    b = End(B)
    b.members.beacon(Beacon(A, 11, 4041, False), at(A), 0)
    b.wake(0)
    (early,) = [x.link for x in b.out if isinstance(x, ac.Dial)]
    b.up(-1, A, incarnation=10)
    b.up(early, A, incarnation=11)
    assert b.in_use(A) == -1 and not b.dead and not b.closed


def test_a_second_link_of_a_first_that_ended_does_not_come_in() -> None:
    b = End(B)
    b.up(DIALLED, A)
    b.up(-1, A)  # of the same start: it waits for its dialler to close it
    (asks,) = heard(b, 11, 500)
    b.up(asks.link, A, incarnation=11, now_ms=510)
    assert b.in_use(A) == asks.link and b.closed == [DIALLED, -1]


def test_beacons_are_answered_so_many_times_a_second() -> None:
    b = End(B)
    for number in range(100):
        b.members.beacon(Beacon(NodeName(f"n{number}", "h"), 1, 4041, True), at(A), 500)
    assert len([x for x in b.out if isinstance(x, ac.Announce)]) == ANSWERS_PER_S
    b.members.beacon(Beacon(A, 1, 4041, True), at(A), 1000)
    assert len([x for x in b.out if isinstance(x, ac.Announce)]) == ANSWERS_PER_S + 1


def test_refused_names_are_few_and_said_once() -> None:
    b = End(B)
    for number in range(100):
        for _ in range(2):
            who = NodeName(f"n{number % REFUSALS}", "h")
            b.members.link_down(-number - 1, Ended.COOKIE, who, at(A), 0)
    b.members.link_down(-500, Ended.COOKIE, NodeName("other", "h"), at(A), 0)
    assert len(b.members.refusals.names) == REFUSALS
    said = [x for x in b.out if isinstance(x, ac.Report)]
    assert len(said) == REFUSALS
    assert said[0].sentence == "** Connection attempt from disallowed node n0@h **"


def test_a_dial_that_a_dying_process_let_in_is_made_again_at_once() -> None:
    a = End(A)
    a.up(-1, B)
    a.members.hello(-1, Hello("1", 0, 4041, (Address("fd00::2", 4041),), ()), 0)
    dials = []
    for why in (Ended.CLOSED, Ended.CLOSED, Ended.REFUSED):
        a.members.link_down(dials[-1] if dials else -1, why, None, None, 10)
        a.wake(10)
        dials = [x.link for x in a.out if isinstance(x, ac.Dial)]
    dialled = [x.address for x in a.out if isinstance(x, ac.Dial)]
    assert dialled == [at(B), at(B), Address("fd00::2", 4041)]  # nobody there: then the other
    gone = a.members.gone[B]
    assert gone.dead and gone.asked_by_ms is None and a.dead == [(B, 10)]


def test_a_link_whose_place_another_takes_takes_nothing_of_the_rate_of_dials() -> None:
    b, dialled = End(B), []
    b.up(DIALLED, A, now_ms=4990)
    b.up(-1, A, now_ms=4990)
    for link, now_ms in ((DIALLED, 5000), (-1, 5010), (1, 5140)):
        if link == 1:
            b.up(1, A, now_ms=5020)  # the dial that the last loss led to
        b.members.link_down(link, Ended.CLOSED, None, None, now_ms)
        b.wake(now_ms)
        dialled.append([x.link for x in b.out if isinstance(x, ac.Dial)])
    assert dialled == [[], [1], [1, 2]]


def test_a_listener_that_lets_in_and_closes_is_not_dialled_without_pause() -> None:
    a = End(A)
    a.up(-1, B)
    a.members.hello(-1, Hello("1", 0, 4041, (), ()), 0)
    a.members.link_down(-1, Ended.CLOSED, None, None, 0)
    a.wake(0)
    a.members.link_down(1, Ended.CLOSED, None, None, DYING_MS)
    a.wake(DYING_MS)
    assert [x.link for x in a.out if isinstance(x, ac.Dial)] == [1]
    assert not a.members.gone[B].dead and not a.dead


def test_a_stranger_that_says_it_is_us_at_each_address_of_a_member_ends_nothing() -> None:
    # The member is off, and the stranger has its address, too; that it is us needs no cookie.
    a, now_ms, aside = End(A), 0, []
    a.up(1, B)
    a.members.link_down(1, Ended.CLOSED, None, None, 0)

    def called(host: str, port: int = 4041) -> Address:
        a.members.beacon(Beacon(B, 99, port, False), Address(host, 4041), now_ms)
        return Address(host, port)

    def dials() -> list[ac.Dial]:
        a.out.clear()
        a.wake(now_ms)
        assert all(due_ms > now_ms for due_ms in a.members.deadlines(now_ms))
        return [x for x in a.out if isinstance(x, ac.Dial)]

    def is_us(dial: ac.Dial) -> None:
        a.members.link_down(dial.link, Ended.PROTOCOL, A, dial.address, now_ms)

    hints = called("10.0.9.1"), called("10.0.9.2")
    while a.members.contacts.addresses(B) != hints:
        for dial in dials():
            if dial.address != at(B):
                aside.append(dial)  # says nothing yet
            elif len(aside) < 2:
                a.members.link_down(dial.link, Ended.UNREACHED, None, dial.address, now_ms)
            else:
                is_us(dial)
        now_ms += 10
    moved = called("10.0.9.2", 4042)
    (last,) = dials()
    called("10.0.9.2")
    for dial in aside:
        is_us(dial)
    assert last.address == moved and a.members.contacts.addresses(B) == () and not dials()
    a.members.link_down(last.link, Ended.REFUSED, None, moved, now_ms)
    assert not dials() and not a.dead


def test_a_stranger_s_hint_is_not_passed_on() -> None:
    a = End(A)
    a.up(1, B)
    a.up(2, name("c"))
    for id in (1, 2):
        a.members.hello(id, Hello("1", 0, 4041, (), ()), 0)
    a.wake(0)
    a.out.clear()
    for i in range(4):  # more than a contact keeps, so that each drives out another
        hint = Address(f"10.9.9.{i}", 9)
        a.members.beacon(Beacon(B, 77 + i, 4041), hint, 0)
        a.wake(0)
    assert not [x for x in a.out if isinstance(x, ac.Send)]
    a.up(3, name("d"))  # a reason to say hello
    a.wake(0)
    hellos = [x.message for x in a.out if isinstance(x, ac.Send)]
    assert "10.0.0." in str(hellos) and "10.9.9." not in str(hellos)


def test_a_stranger_that_claims_the_name_of_a_peer_does_not_make_it_a_refused_one() -> None:
    b = End(B)
    b.up(-1, A)
    b.members.link_down(-2, Ended.COOKIE, A, at(name("x")), 0)
    assert not b.members.refusals.names
    said = [x.sentence for x in b.out if isinstance(x, ac.Report)]
    assert said[1:] == ["** Connection attempt from disallowed node a@h **"]


@pytest.mark.parametrize("host", ["example.org", "\x1b[2J", "", "a\0b", "cafe", "ä.1"])
def test_what_a_member_tells_is_dialled_only_where_it_is_an_address(host: str) -> None:
    b = End(B)
    b.up(-1, A)
    there = (Address(host, 4041), Address("fd00::2", 4041), Address("10.0.0.9", 4041))
    b.members.hello(-1, Hello("1", 0, 4041, there, (), (Member(name("c"), there),)), 0)
    assert b.members.contacts.addresses(A) == (at(A), *there[1:])
    assert b.members.contacts.addresses(name("c")) == there[1:]


@pytest.mark.parametrize("claimed", [A, None])
def test_a_refused_node_that_claims_our_name_or_none_is_said_once_in_a_while(
    claimed: NodeName | None,
) -> None:
    a = End(A)
    for now_ms in (0, 1, REFUSAL_MS - 1, REFUSAL_MS, REFUSAL_MS + 1):
        a.members.link_down(-1, Ended.COOKIE, claimed, at(B), now_ms)
    assert len([x for x in a.out if isinstance(x, ac.Report)]) == 2
    assert not a.members.refusals.names


def test_an_address_that_a_beacon_told_first_is_no_hint_once_its_node_says_it() -> None:
    a, known, other = End(A), at(B), Address("10.9.0.1", 4041)
    a.members.beacon(Beacon(B, 10, known.port), known, 0)
    a.up(-1, B)
    a.members.hello(-1, Hello("1", 0, known.port, (), ()), 0)
    a.members.link_down(-1, Ended.CLOSED, B, known, 1)
    a.members.link_up(Link(1, B, 10, other, 1, 1, TICK_TIME_MS), 1)  # that is the best from now on
    for number in range(3):
        source = Address(f"10.66.0.{number}", 4041)
        a.members.contacts.hint(B, 1, source, True, 2)
    assert a.members.contacts.addresses(B)[:2] == (other, known)


def linked_anew(b: End, now_ms: int) -> None:
    """A link of c that ends at once and is made anew, without a word on it."""
    b.members.link_down(1, Ended.CLOSED, C, at(C), now_ms)
    b.up(1, C, now_ms=now_ms)


def test_a_node_that_never_speaks_holds_up_nobody_however_often_it_links() -> None:
    b = End(B)
    b.up(1, C)
    for now_ms in range(0, 2 * TICK_TIME_MS, TICK_TIME_MS // 2):
        linked_anew(b, now_ms)
        assert [p.name for p in b.members.views(now_ms)[0]] == [C]
    b.members.link_down(1, Ended.CLOSED, C, at(C), 2 * TICK_TIME_MS)
    assert b.members.views(2 * TICK_TIME_MS)[1][C].asked_by_ms is None  # nor while it is dialled
    b.up(1, C, now_ms=2 * TICK_TIME_MS)
    assert b.members.views(2 * TICK_TIME_MS)[0] == ()
    b.members.status(1, status(1), 2 * TICK_TIME_MS)
    assert [p.name for p in b.members.views(2 * TICK_TIME_MS)[0]] == [C]


def test_what_was_said_on_a_link_holds_on_the_one_that_takes_its_place() -> None:
    """Else an owner is not heard for a moment, and who yielded to it starts again."""
    b, epoch = End(B), Epoch(1, C)
    b.up(1, C)
    b.members.status(1, status(7)._replace(running=epoch), 5)
    b.up(-1, C, now_ms=6)
    assert b.in_use(C) == -1
    assert [h.epoch for h in b.members.hears(6)] == [epoch]
    assert b.members.status(-1, status(7), 7) is None  # it was read
    c = End(C)
    c.up(1, B)
    c.members.status(1, status(7)._replace(running=Epoch(1, B)), 5)
    c.up(2, B, incarnation=11, now_ms=6)
    c.members.link_down(1, Ended.CLOSED, B, at(B), 7)  # its former start said that
    assert not list(c.members.hears(7))


def test_nor_where_each_link_takes_the_place_of_the_last() -> None:
    b = End(B)
    for number in range(9):
        b.up(number + 1, C, now_ms=number * TICK_TIME_MS // 4)
    assert b.in_use(C) == 9
    assert b.members.views(2 * TICK_TIME_MS)[0] == ()


def test_a_node_that_was_away_for_a_tick_time_is_waited_for_anew() -> None:
    b = End(B)
    b.up(1, C)
    linked_anew(b, TICK_TIME_MS)
    b.members.link_down(1, Ended.CLOSED, C, at(C), TICK_TIME_MS)
    b.up(1, C, now_ms=2 * TICK_TIME_MS)
    assert [p.name for p in b.members.views(3 * TICK_TIME_MS)[0]] == [C]


def test_a_node_that_has_spoken_is_asked_whether_it_lives() -> None:
    b = End(B)
    b.up(1, C)
    b.members.status(1, status(1), 5)
    b.members.link_down(1, Ended.CLOSED, C, at(C), 3 * TICK_TIME_MS)
    assert b.members.views(3 * TICK_TIME_MS)[1][C].asked_by_ms == 4 * TICK_TIME_MS


def test_a_refusal_where_an_administrator_sent_a_dial_proves_nobody_dead() -> None:
    """a lived there once, on another port than now."""
    b, alpha = End(B), Address("alpha", 4041)
    b.members.contacts.configure((alpha,), 0)
    b.wake(0)
    b.up(1, A)
    b.members.status(1, status(1), 5)
    b.members.link_down(1, Ended.CLOSED, A, at(A), REDIAL_MS)
    b.wake(REDIAL_MS)
    dials = {d.address: d.link for d in b.out if isinstance(d, ac.Dial) and d.link > 1}
    assert set(dials) == {alpha, at(A)}
    b.members.link_down(dials[alpha], Ended.REFUSED, None, alpha, REDIAL_MS + 1)
    assert not b.dead and b.members.gone[A].asked_by_ms is not None
    b.members.link_down(dials[at(A)], Ended.REFUSED, None, at(A), REDIAL_MS + 1)
    assert b.dead == [(A, 10)] and b.members.gone[A].asked_by_ms is None
