"""The facts file and the book."""

import os
import random
import sys
from collections import Counter
from pathlib import Path
from unicodedata import category

import pytest

from chucky import files
from chucky.errors import FactsError
from chucky.facts import FACT_BYTES, FILE_BYTES, FactBook, load, parse

SHIPPED = Path(__file__).parents[2] / "facts.txt"


def test_parse_strips_lines_and_drops_blank_ones() -> None:
    assert parse("  one \n\n\ttwo\r\n   \nthree") == ("one", "two", "three")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no fact"),
        (" \n\t\r\n", "no fact"),
        ("fine\nbell\a here", "line 2: got control character '\\x07'"),
        ("a\tb", "line 1: got control character '\\t'"),
        ("escape \x1b[2J", "line 1: got control character '\\x1b'"),
        ("c1 \x9b", "line 1: got control character"),
        ("\x0c", "line 1: got control character"),
        ("two\u2028lines", "line 1: got control character"),
        ("é" * 500 + "x", "line 1: got 1001 bytes, want at most 1000"),
    ],
)
def test_parse_refuses(text: str, words: str) -> None:
    with pytest.raises(FactsError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_controls_and_nothing_else_is_refused() -> None:
    refused = []
    for character in map(chr, range(sys.maxunicode + 1)):
        if not 0xD800 <= ord(character) < 0xE000:  # those are in no file
            try:
                parse(f"a{character}b")
            except FactsError:
                refused.append(character)
    controls = [c for c in map(chr, range(sys.maxunicode + 1)) if category(c) in ("Cc", "Zl", "Zp")]
    assert refused == [c for c in controls if c != "\n"]


def test_a_fact_of_the_longest_size_passes() -> None:
    assert parse("x" * FACT_BYTES) == ("x" * FACT_BYTES,)


def test_load_reads_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "facts"
    file.write_bytes("\ufeffé\r\nß\r\n".encode())
    assert load(str(file)) == ("é", "ß")


def test_load_says_where_and_the_way_out(tmp_path: Path) -> None:
    latin, empty, big, fifo = (tmp_path / name for name in ("latin", "empty", "big", "fifo"))
    latin.write_bytes(b"caf\xe9")
    empty.write_bytes(b"")
    big.write_bytes(b"x\n" * (FILE_BYTES // 2) + b"x")
    os.mkfifo(fifo)  # without a writer: opening it the plain way would block for ever
    for path, words in [
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (fifo, "regular file"),
        (latin, "byte 3 is not UTF-8"),
        (empty, "no fact"),
        (big, "more than"),
    ]:
        with pytest.raises(FactsError) as caught:
            load(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)
        assert "[facts] file" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_way_in_leads_through_links_and_opens_nothing_that_the_unit_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, closed = tmp_path / "link", tmp_path / "closed"
    link.symlink_to(closed / "facts")
    shut = (str(closed), "/root")
    monkeypatch.setattr(os, "access", lambda folder, *_, **__: str(folder) not in shut)
    assert files.way_in(str(link), "last") == f'"sudo chmod a+x {closed}" lets everyone pass'
    link.unlink()
    link.symlink_to("/root/facts")
    for path in (str(link), "/root/facts"):
        assert files.way_in(path) == "keep it elsewhere than below /root, as in /etc/chucky"
    assert files.way_in(str(tmp_path), "last") == "last"


def test_picks_are_uniform() -> None:
    facts = tuple(f"fact {number}" for number in range(10))
    book = FactBook(facts, random.Random(1))
    picks = 20_000
    counts = Counter(book.pick() for _ in range(picks))
    assert set(counts) == {f"{fact}\n".encode() for fact in facts}
    # Chi-squared with 9 degrees of freedom is above 33.7 once in 10,000 fair books.
    expected = picks / len(facts)
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 33.7


def test_a_seed_repeats_the_picks() -> None:
    def picks(seed: int) -> list[bytes]:
        book = FactBook(tuple("abcdefgh"), random.Random(seed))
        return [book.pick() for _ in range(20)]

    assert picks(7) == picks(7)
    assert picks(7) != picks(8)


def test_the_shipped_file() -> None:
    facts = load(str(SHIPPED))
    assert len(facts) >= 300
    assert len(FactBook(facts, random.Random(0))) == len(facts)
    assert len({fact.casefold() for fact in facts}) == len(facts)
    assert max(map(len, facts)) <= 200
    assert len(SHIPPED.read_text().splitlines()) == len(facts)  # no blank lines
