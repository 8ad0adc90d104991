"""What the scenarios count must be able to go wrong."""

from tests.lan.eye import Asked
from tests.machines.tally import Row, Span, Table, Tally


def facts(*turns: tuple[str, int, int]) -> list[Asked]:
    """Return a fact at b and at c every 10 ms, by each owner in its turn from one ms to another."""
    return [
        Asked(node, ms, ms + 1, f"{owner}: fact")
        for owner, from_ms, to_ms in turns
        for ms in range(from_ms, to_ms, 10)
        for node in "bc"
    ]


MOVE = facts(("a", 0, 100), ("b", 500, 600))
HELD = [Asked("b", 100, 495, "b: fact"), Asked("c", 103, 497, "b: fact")]


def test_a_failure_is_lost_unless_the_node_was_down() -> None:
    refused = Asked("a", 200, 201, problem="refused")
    assert Tally("ab", [*MOVE, refused]).lost() == [refused]
    assert Tally("ab", [*MOVE, refused], [Span("b", 0, 900)]).lost() == [refused]
    assert Tally("ab", [*MOVE, refused], [Span("a", 202, 900)]).lost() == [refused]
    assert Tally("ab", [*MOVE, refused], [Span("a", 201, 900)]).lost() == []


def test_one_owner_after_the_other_is_no_two() -> None:
    assert Tally("ab", MOVE + HELD).twofold() == []
    back = facts(("a", 700, 800))
    assert Tally("aba", MOVE + HELD + back).twofold() == []
    # Chosen by a before b began, and long on its way.
    assert Tally("ab", [*MOVE, Asked("c", 99, 560, "a: fact")]).twofold() == []
    # Asked of a frozen a before b's first fact that was seen, and answered when it thawed.
    thawed = [Asked("a", 490, 610, "a: fact"), *facts(("a", 620, 700))]
    assert Tally("ba", [*MOVE[20:], *thawed]).twofold() == []


def test_an_answer_out_of_its_turn_is_by_a_second_owner() -> None:
    late = Asked("c", 520, 521, "a: fact")
    assert Tally("ab", [*MOVE, *HELD, late]).twofold() == [late]
    assert Tally("ab", [*MOVE, late], deaf=[Span("c", 0, 520)]).twofold() == []
    early = Asked("c", 40, 41, "b: fact")  # as if b had begun then: a's later ones are the stray
    assert Tally("ab", [*MOVE, early]).twofold()
    third = Asked("c", 40, 41, "c: fact")
    assert Tally("ab", [*MOVE, third]).twofold() == [third]
    assert len(Tally("ab", MOVE + facts(("a", 700, 800))).twofold()) == 20
    assert len(Tally("a", MOVE).twofold()) == 20


def test_each_owner_has_to_have_its_turn() -> None:
    assert Tally("ab", MOVE).complete() and Tally("aa", facts(("a", 0, 100))).complete()
    assert not Tally("aba", MOVE).complete() and not Tally("ba", MOVE).complete()


def test_the_gap_is_from_the_last_of_one_to_the_first_of_the_other() -> None:
    assert Tally("ab", MOVE + HELD).gap_ms("bc") == 495 - 91
    assert Tally("ab", MOVE + HELD).gap_ms("c") == 497 - 91
    assert Tally("aba", MOVE + facts(("a", 2000, 2100))).gap_ms("bc") == 2001 - 591
    assert Tally("aa", facts(("a", 0, 100), ("a", 700, 800))).gap_ms("bc") == 701 - 91
    assert Tally("a", facts(("a", 0, 100), ("a", 700, 800))).gap_ms("bc") is None


def test_the_table_is_text() -> None:
    rows = [Row("kill -9", "ab", 5012, 1000, 0, 0, "so"), Row("cold start", "a")]
    assert Table(rows).lines() == [
        "what was done  owner  gap ms  answers  lost  by two  note",
        "-------------  -----  ------  -------  ----  ------  ------",
        "kill -9        a b     5,012    1,000     0       0  so",
        "cold start     a           -        0     0       0  FAILED",
    ]
