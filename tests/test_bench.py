"""The sums of bench/: what it says of requests whose times are known."""

from xml.etree import ElementTree

from bench.docs import measured, readme_table, with_section, with_table
from bench.load import Request, gap_ms, overlapping, rate
from bench.plot import Panel, svg, top
from bench.seen import Seen
from bench.table import CHUCKY, ELIXIR, NGINX, Row, Table, cells_of, quantile


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile(range(1, 101), share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7], 0.99) == 7


def test_a_gap_is_from_fact_to_fact_and_ends_after_the_fault() -> None:
    ended = [1000, 9000, 10_000, 12_000, 15_000]
    asked = [Request(x - 500, x, "a") for x in ended] + [Request(12_500, 13_000, "!")]
    assert gap_ms(asked, 0) == 8
    assert gap_ms(asked, 9500) == 3  # what failed ends no gap
    assert gap_ms([Request(1000, 3000, "!"), Request(4000, 9000, "a")], 0) == 8
    assert gap_ms([*asked, Request(15_000, 30_000, "!")], 0) == 15
    assert gap_ms([], 0) == 0


def test_two_owners_show_in_a_request_made_after_the_new_ones_first_fact() -> None:
    handover = [Request(1, 5, "a"), Request(2, 6, "b"), Request(6, 9, "a")]
    assert overlapping(handover, "a", "b") == 0
    assert overlapping([*handover, Request(7, 9, "a")], "a", "b") == 1


def test_the_rate_leaves_the_warm_up_out() -> None:
    asked = [Request(x, x + 10_000, "a") for x in range(0, 2_000_000, 10_000)]
    assert rate(asked, 0.5, 1) == 100


def test_the_table_says_what_was_not_measured_and_has_no_empty_column() -> None:
    table = Table()
    table.add(Row("gap", {CHUCKY: "3"}, "<= 2", False))
    table.add(Row("stop", {ELIXIR: "9"}))
    head, rule, *rows = (cells_of(line) for line in table.text().splitlines())
    assert head == ["", CHUCKY, ELIXIR, "aim", "kept"] and len(rule) == len(head)
    assert rows == [["gap", "3", "-", "<= 2", "NO"], ["stop", "-", "9", "", ""]]


def test_a_move_is_counted_by_what_its_clients_saw() -> None:
    seen = Seen()
    b = [Request(0, 1000, "a"), Request(1500, 9000, "b"), Request(9000, 9500, "b")]
    c = [Request(0, 2000, "a"), Request(2500, 9100, "!"), Request(9100, 9200, "a")]
    seen.add([b, c], 3000, "a", "b")
    assert (seen.gaps_ms, seen.requests, seen.failed, seen.twice) == ([8.0], 6, 1, 1)
    assert not seen.failed_row("stop").kept and seen.gap_row("stop", {}, 8).kept
    assert not seen.gap_row("stop", {}, 7).kept


def test_a_fault_that_moved_nothing_is_said() -> None:
    row = Seen(astray=2).gap_row("cut", {}, 100)
    assert row.cells[CHUCKY] == "none seen, 2 astray" and row.kept is False


def test_a_run_replaces_its_own_section_and_no_other() -> None:
    text = "# Bench\n\nBy hand.\n"
    for title, body in (("one", "| 1 |"), ("two", "| 2 |"), ("one", "| 3 |")):
        text = with_section(text, title, body)
    assert text == "# Bench\n\nBy hand.\n\n## one\n\n| 3 |\n\n## two\n\n| 2 |\n"


def test_readme_has_rows_of_the_docs_as_they_are_there() -> None:
    table = Table()
    table.add(Row("owner, to C's rate", {CHUCKY: "1.00", NGINX: "1.1", ELIXIR: "0.4"}, ">= 0.8"))
    table.add(Row("another", {CHUCKY: "7"}))
    shown = readme_table(with_section("# Bench\n", "throughput", table.text()))
    (row,) = measured(shown)
    assert (row[""], row[CHUCKY], row[ELIXIR]) == ("owner, to C's rate", "1.00", "0.4")
    assert NGINX not in row and "another" not in shown
    readme = "# Chucky\n\n| a |\n\n## Beside its peers\n\nSaid.\n\n| old |\n| old |\n\nMore.\n"
    assert with_table(readme, shown) == readme.replace("| old |\n| old |", shown)


def test_a_plot_is_xml_and_its_axis_holds_every_value() -> None:
    assert [top(x) for x in (0.9, 1, 1.1, 2.4, 3, 60)] == [1, 1, 2, 2.5, 5, 100]
    points = [(2.0, 0.5), (3.0, 0.7), (50.0, 9.0)]
    drawn = ElementTree.fromstring(svg([Panel("a < b & c", points)] * 3))
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == 9
