"""A Status that says nothing new while all is well is worth no look at the peers: what is spared
changes nothing, and what is not spared would."""

import pytest

from chucky.core import events as ev
from chucky.core.actions import Action, Announce, Prepare, Report, StartApplication
from chucky.core.node import Node
from chucky.core.view import rests
from chucky.messages import End, Epoch, Heard, Holds, Naming, Placed, Sign, Status
from chucky.names import Address, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings
from tests.sim import cluster as simulated
from tests.sim import run
from tests.unit.cluster import Cluster, name
from tests.unit.test_majority import formed, slow_down

SEEDS = 12
NODES = PriorityList(((NodePattern("a"),), (NodePattern("b"),)))


class Careful(Node):
    """A node that settles after a Status that says nothing new as after any other."""

    spared = 0  # such Statuses of all of these
    kept: object = None  # what it believed after its last step with news

    def step(self, event: ev.Event, now_ms: int) -> list[Action]:
        """As of any node."""
        actions = super().step(event, now_ms)
        if self.news:
            self.kept = self.believes()
        return actions

    def _is_quiet(self, now_ms: int) -> bool:
        quiet = super()._is_quiet(now_ms)
        if quiet:
            Careful.spared += 1
            self._settle(None, now_ms)
            # A beacon goes out with any step from some time on, and with the next as well.
            assert [a for a in self._out if not isinstance(a, Announce)] == []
            assert self.believes() == self.kept
            deadline_ms = self.deadline()
            assert deadline_ms is not None and deadline_ms <= min(self._deadlines(now_ms))
        return quiet

    def believes(self) -> object:
        """All that others see of it, but for times that wander with the clock."""
        own, lease = self._own, self._lease
        held = (own.state, own.running, own.ready, own.able, own.hold.why, own.hold.vacancy)
        owner, epoch, serve_until_ms, relay, highest = self.route
        serves = serve_until_ms is not None if lease is None else serve_until_ms
        backs = lease and (lease.claim, lease.backing and lease.backing[:3])
        knows = (self.sentence, self._members.tick, own.records.ends())
        return held, owner, epoch, serves, relay, highest, backs, knows


def test_a_status_that_repeats_another_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "Node", Careful)
    for seed in range(SEEDS):
        run.live(seed)
    assert Careful.spared > 500 * SEEDS


def test_that_votes_come_too_late_and_do_no_more_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "Node", Careful)
    cluster = formed("abc")
    slow_down(cluster, "b", 1400)
    assert not cluster.snapshot("b").quorate
    slow_down(cluster, "b", 100)
    cluster.run(3000)
    assert cluster.snapshot("b").quorate


def test_a_placement_that_binds_no_more_is_news() -> None:
    told = Settings(Distributed(nodes=NODES))
    epoch, made_ms = Epoch(1, name("b")), 990
    node = Node(told, name("a"), 20, 1000)

    def says(tick: int, age_ms: int) -> ev.MessageReceived:
        said = Status(tick, 0, told.digest, "owner", True, True, True, highest=epoch)
        return ev.MessageReceived(-1, said._replace(running=epoch, placed=Placed(5, age_ms)))

    node.step(ev.ApplicationReady(), 1000)
    node.step(ev.LinkUp(-1, name("b"), 10, Address("10.0.0.1", 4041)), 1001)
    node.step(says(1, 0), 1002)
    while (now_ms := node.deadline()) is not None and now_ms < 1300:
        node.step(ev.Wake(), now_ms)
    assert not any(isinstance(a, Prepare) for a in node.step(says(2, 0), 1310)) and not node.news
    # That one came late: the placement was made before this node was there.
    assert any(isinstance(a, Prepare) for a in node.step(says(3, 1330 - made_ms), 1330))


def test_a_word_that_a_lost_owner_lives_is_news_though_it_is_said_again() -> None:
    told = Settings(Distributed(nodes=NODES))
    owns, lost = Epoch(5, name("b")), Epoch(7, name("d"))
    node = Node(told, name("a"), 20, 1000)

    def says(link: int, tick: int, sign: Sign) -> ev.MessageReceived:
        said = Status(tick, 0, told.digest, "", True, True, True, highest=lost, signs=(sign,))
        return ev.MessageReceived(link, said._replace(running=owns if link == -1 else None))

    for link, who in ((-1, "b"), (-2, "c")):
        node.step(ev.LinkUp(link, name(who), 10, Address(f"10.0.0.{-link}", 4041)), 1001)
    node.step(says(-2, 1, Sign(lost, 7, 10, End.RUNNING, 0)), 1002)
    node.step(says(-1, 1, Sign(lost, 7, 11, End.ENDED, 0)), 1003)
    while (now_ms := node.deadline()) is not None and now_ms < 1300:
        node.step(ev.Wake(), now_ms)
    for link, tick, sign, news in (
        (-1, 2, Sign(lost, 7, 11, End.ENDED, 300), False),
        (-2, 2, Sign(lost, 7, 12, End.RUNNING, 0), True),
    ):
        node.step(says(link, tick, sign), 1310)
        assert node.news is news


def test_a_handshake_that_ends_ends_a_look_that_waits_for_it_only() -> None:
    node = Node(Settings(Distributed(nodes=NODES)), name("a"), 20, 1000)
    node.step(ev.ApplicationReady(), 1000)
    node.step(ev.LinkBegan(-1, name("z"), 5), 1100)
    node.step(ev.Wake(), 1200)
    assert node.running is None
    ended = ev.LinkDown(-1, ev.Ended.CLOSED, None, Address("10.0.0.99", 4041))
    assert any(isinstance(a, StartApplication) for a in node.step(ended, 1201))


def test_a_connection_that_comes_to_nothing_is_no_news_but_for_its_cookie() -> None:
    cluster = Cluster(Settings(Distributed(nodes=NODES)))
    cluster.start("a", "b")
    cluster.run(1000)
    node, now_ms, at = cluster.hosts["a"].node, cluster.now_ms, Address("10.0.0.99", 4041)
    assert node is not None
    for event, reports in (
        (ev.LinkBegan(-99, name("z"), 5), 0),
        (ev.LinkDown(-99, ev.Ended.CLOSED, None, at), 0),
        (ev.LinkDown(-99, ev.Ended.COOKIE, name("z"), at), 1),
    ):
        actions = node.step(event, now_ms)
        assert node.news == (len(actions) > 0)
        assert sum(isinstance(action, Report) for action in actions) == reports


def test_who_names_or_starts_does_not_rest() -> None:
    one, other = Epoch(1, name("b")), Epoch(2, name("a"))
    heard = Status(1, 0, b"", "", hears=(Heard(one, 10, Holds.RUNNING, b"", 0),))
    assert rests(heard) and rests(Status(1, 0, b"", "", running=one))
    assert not rests(heard._replace(starting=other))
    assert not rests(heard._replace(naming=Naming(other, name("b"), 10, 1)))
    assert not rests(Status(1, 0, b"", "", hears=(Heard(one, 10, Holds.STARTING, b"", 0),)))


@pytest.mark.parametrize("key", ["a", "b"])  # one of them has dialled
def test_who_says_anew_who_it_is_is_heard_and_who_repeats_it_is_not(key: str) -> None:
    cluster = Cluster(Settings(Distributed(nodes=NODES)))
    cluster.start("a", "b")
    cluster.run(1000)
    node, now_ms = cluster.hosts[key].node, cluster.now_ms
    assert node is not None
    (link,) = node._members.links.values()
    assert link.hello is not None
    other = link.hello._replace(shared=(("timeout", "77"),), uptime_ms=5000)
    actions = node.step(ev.MessageReceived(link.id, other), now_ms)
    assert any(isinstance(a, Report) and "differs" in a.sentence for a in actions)
    node.step(ev.Wake(), now_ms + 1)
    assert node.step(ev.MessageReceived(link.id, other), now_ms + 2) == [] and not node.news
