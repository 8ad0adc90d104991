"""The sums of bench/: what it says of requests whose times are known."""

from bench.load import Request, gap_ms, overlapping, rate
from bench.table import CHUCKY, Row, Table, quantile


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile(range(1, 101), share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7], 0.99) == 7


def test_a_gap_is_from_fact_to_fact_and_ends_after_the_fault() -> None:
    ended = [1000, 9000, 10_000, 12_000, 15_000]
    asked = [Request(x - 500, x, "a") for x in ended] + [Request(12_500, 13_000, "!")]
    assert gap_ms(asked, 0) == 8
    assert gap_ms(asked, 9500) == 3  # what failed ends no gap
    assert gap_ms([], 0) == 0


def test_two_owners_show_in_a_request_made_after_the_new_ones_first_fact() -> None:
    handover = [Request(1, 5, "a"), Request(2, 6, "b"), Request(6, 9, "a")]
    assert overlapping(handover, "a", "b") == 0
    assert overlapping([*handover, Request(7, 9, "a")], "a", "b") == 1


def test_the_rate_leaves_the_warm_up_out() -> None:
    asked = [Request(x, x + 10_000, "a") for x in range(0, 2_000_000, 10_000)]
    assert rate(asked, 0.5, 1) == 100


def test_the_table_says_what_was_not_measured() -> None:
    table = Table()
    table.add(Row("gap", {CHUCKY: "3"}, "<= 2", False))
    head, rule, row = (line.split("|")[1:-1] for line in table.text().splitlines())
    assert [cell.strip() for cell in row] == ["gap", "3", "-", "-", "-", "-", "<= 2", "NO"]
    assert len(head) == len(rule) == len(row)
