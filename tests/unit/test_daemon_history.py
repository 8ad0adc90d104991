"""`chucky why`: which moves are kept, with what was said before each, and how they are told."""

import itertools
import time
from collections.abc import Iterator

import pytest

from chucky.core.actions import Level, Report
from chucky.daemon_history import LETTERS, LINES, MOVES, History
from chucky.errors import ChuckyError
from chucky.messages import Epoch
from chucky.report import why_text
from tests.unit.cluster import name


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock on the wall here shows UTC."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def history() -> History:
    seconds = itertools.count()
    return History(lambda: float(next(seconds)))


def said(sentence: str, level: Level = Level.INFO, cause: str = "up") -> Report:
    return Report(level, sentence, cause)


def owned(number: int, node: str = "a") -> Epoch:
    return Epoch(number, name(node))


@pytest.mark.usefixtures("utc")
def test_a_move_is_told_with_what_was_known_before_it() -> None:
    kept = history()
    kept.said(said("b@h is up"))
    kept.owned(owned(1))
    kept.owned(owned(1))
    kept.said(said("a@h is silent: it is down"))
    kept.owned(None)
    kept.said(said("a@h is failing over to b@h"))
    kept.owned(owned(2, "b"))
    kept.said(said("c@h is up"))
    assert kept.since == 6
    last = f"""\
{name("b")} owns chucky, epoch 2, since 1970-01-01 00:00:06.000
  1970-01-01 00:00:03.000  a@h is silent: it is down
  1970-01-01 00:00:04.000  no owner is heard of here
  1970-01-01 00:00:05.000  a@h is failing over to b@h"""
    first = f"""\
{name("a")} owned chucky, epoch 1, from 1970-01-01 00:00:02.000 to 1970-01-01 00:00:04.000
  1970-01-01 00:00:00.000  this node started
  1970-01-01 00:00:01.000  b@h is up"""
    assert why_text(kept.why("", "chucky")) == why_text(kept.why("2", "chucky")) == last
    assert why_text(kept.why("1", "chucky")) == first
    kept.owned(None)
    nobody = """\
no owner of chucky is heard of here, since 1970-01-01 00:00:08.000
  1970-01-01 00:00:07.000  c@h is up"""
    assert why_text(kept.why("", "chucky")) == nobody


def test_an_owner_that_was_not_heard_of_for_a_while_is_the_same() -> None:
    kept = history()
    kept.owned(owned(1))
    story = kept.why("", "chucky")
    for _ in range(2 * MOVES):
        kept.said(said("a@h ended its link: it is down"))
        kept.owned(None)
        kept.said(said("a@h at 10.0.0.1:4041 is up"))
        kept.owned(owned(1))
    assert kept.why("", "chucky") == story
    kept.owned(owned(2))
    assert kept.why("", "chucky")["moves"][0]["lines"] == []


def test_two_of_one_number_are_both_told() -> None:
    kept = history()
    kept.owned(owned(1, "a"))
    kept.owned(owned(1, "b"))
    assert [move["owner"] for move in kept.why("1", "chucky")["moves"]] == [
        str(name("a")), str(name("b")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "here"), [((), "there is none yet"), ((4, 6), "those are 4 to 6")]
)
def test_an_epoch_that_was_not_seen_is_an_error(numbers: tuple[int, ...], here: str) -> None:
    kept = history()
    for number in numbers:
        kept.owned(owned(number))
    with pytest.raises(ChuckyError) as raised:
        kept.why("5", "chucky")
    said = f"epoch 5 was not seen by this node since it started: {here};"
    assert str(raised.value) == f"{said} see journalctl -u 'chucky@*'"


def test_what_is_kept_is_bounded_and_nothing_of_strangers() -> None:
    kept = history()
    for number in range(1, MOVES + 10):
        for count in range(LINES + 10):
            kept.said(said(f"{count} {'x' * LETTERS}"))
        for stranger in (said("y", cause="cookie"), said("y", Level.DEBUG)):
            kept.said(stranger)
        kept.owned(owned(number))
    last = kept.why("", "chucky")["moves"][0]
    assert len(last["lines"]) == LINES and last["lines"][0]["sentence"].startswith("10 x")
    assert {len(line["sentence"]) for line in last["lines"]} == {LETTERS}
    with pytest.raises(ChuckyError, match="those are 10 to"):
        kept.why("9", "chucky")


def test_a_peers_words_add_no_lines() -> None:
    kept = history()
    kept.said(said("b\n\x1b[2J@h is up"))
    kept.owned(owned(1))
    assert why_text(kept.why("", "chucky")).splitlines()[2].endswith("'b\\n\\x1b[2J@h is up'")
