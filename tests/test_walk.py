"""The walk through small worlds: what it finds when the rules are right, and when they are not."""

from typing import Any

import pytest

from chucky.core import ownership, startup, verdict
from chucky.messages import Epoch
from tests.sim import parts, walk

# Far enough for a failover and a return; the rest is `make walk`.
DEPTHS = {
    "two-1": 200, "two-cold": 9, "two-return": 11, "two-sync": 13, "three-1": 45, "majority-1": 45,
    "two-takeover": 200, "two-standby": 200, "majority-takeover": 6, "majority-standby": 6,
}  # fmt: skip


def case(name: str) -> walk.Case:
    """Return the case of this name."""
    return next(c for c in walk.CASES if c.name == name)


def test_all_cases(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [(case(name), depth, 1e9) for name, depth in DEPTHS.items()]
    found = list(walk.walk_all(jobs))
    with capsys.disabled():
        print(*("", *found), sep="\n")
    assert not [done for done in found if done.broken]
    for done in found:
        assert done.complete or done.depth == DEPTHS[done.case.name]


def test_a_walk_goes_the_same_way_each_time() -> None:
    one, other = (walk.walk(case("two-cold"), 6) for _ in range(2))
    assert (one.worlds, one.moves, one.depth) == (other.worlds, other.moves, other.depth)
    assert one.worlds > 300 and not one.broken


def test_a_node_taken_apart_is_the_same_again() -> None:
    for body in case("three-1").world().bodies:
        assert body
        node = parts.together(body.parts)
        assert parts.apart(node) == body.parts
        assert node.snapshot().owner == walk.small.name(0)


# What it must object to, and after how many moves.

real = verdict._vacancy_ends


def early(*args: Any) -> int | None:
    """A failover 400 ms too early."""
    ends_ms = real(*args)
    return None if ends_ms is None else ends_ms - 400


def never(*args: Any) -> None:
    """A vacancy that lasts for ever."""


def old_epoch(self: ownership.Ownership) -> Epoch:
    """An ownership that takes the number that it has heard of."""
    self.highest = Epoch(self.highest.number if self.highest else 1, self.me)
    return self.highest


def never_yields(*args: Any) -> bool:
    """An owner that finds itself the better one, always."""
    return True


def deaf(*args: Any) -> None:
    """A node that is told to stand by, and does not."""


real_settle = startup.Sync.settle


def alone(self: startup.Sync, *args: Any) -> startup.Missing | None:
    """A sync that waits for nobody."""
    self._mandatory = []
    return real_settle(self, *args)


def stays(self: startup.Sync, *args: Any) -> None:
    """A sync that never fails."""
    real_settle(self, *args)


def hasty(self: startup.Sync, formed: bool, looking: bool, now_ms: int) -> startup.Missing | None:
    """A sync that fails too early."""
    return real_settle(self, formed, looking, now_ms + 400)


BUGS = [
    (startup.Sync, "settle", alone, "two-sync", "S3: it starts at", 2),
    (startup.Sync, "settle", stays, "two-sync", "S3: it still runs at", 2),
    (startup.Sync, "settle", hasty, "two-sync", "S3: it exits at", 7),
    (ownership.Ownership, "stand_by", deaf, "two-standby", "L7: all is well, and a@h serves", 3),
    (verdict, "_vacancy_ends", early, "two-cold", "S4: b@h starts 750000 us after", 10),
    (ownership.Ownership, "_new_epoch", old_epoch, "two-return", "epochs: a@h begins 1 of a@h", 4),
    (verdict, "outranks", never_yields, "two-2", "S1: a and b serve and hear each other", 4),
    (verdict, "_vacancy_ends", never, "two-2", "L7: all is well, and nobody serves", 4),
]


@pytest.mark.parametrize(
    "where, what, bug, name, says, depth", BUGS, ids=lambda v: getattr(v, "__name__", "")
)
def test_the_walk_objects(
    where: Any, what: str, bug: Any, name: str, says: str, depth: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(where, what, bug)
    found = walk.walk(case(name), depth)
    assert found.broken.startswith(says)
    words = " ".join(":".join(map(str, step)) for step in found.path)
    assert f"--case {name} --replay '{words}'" in str(found)
    with pytest.raises(AssertionError, match=says):
        walk.replay(case(name), words)
    assert len(capsys.readouterr().out.splitlines()) == len(found.path)


def test_a_bug_of_the_walk_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(world: Any) -> None:
        raise StopIteration("of its own")

    monkeypatch.setattr(walk, "moves", stops)
    assert "StopIteration: of its own" in walk.walk(case("two-1"), 2).broken
