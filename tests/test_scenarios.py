"""Golden scenarios: each file of tests/scenarios goes as it says, word for word.

`make scenarios` with REWRITE=1 writes what follows each command anew; commit the change only when
you understand what caused it. The `expect` lines hold in any case.
"""

import os
from pathlib import Path

import pytest

from tests.scenarios.player import Unexpected, checks, play

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
REWRITE = os.environ.get("REWRITE") == "1"

STORY = """\
# Told by the test of the runner.

start a b c
----

until serving=a 1000
----
     6 a: b@h at 10.0.0.2:50000 is up
     6 a: c@h at 10.0.0.3:50000 is up
     6 b: a@h at 10.0.0.1:50000 is up
     6 b: c@h at 10.0.0.3:50000 is up
     6 c: a@h at 10.0.0.1:50000 is up
     6 c: b@h at 10.0.0.2:50000 is up
   202 a: Application is started on a@h
   202 serving: a

run 800
----

kill a
----
  1002 serving: -

run 6000
----
  1003 b: a@h ended its link: it is down
  1003 c: a@h ended its link: it is down
  6005 b: a@h is failing over to b@h
  6005 b: Application is started on b@h
  6005 serving: b
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    played = play(text)
    if REWRITE:
        path.write_text(played, encoding="utf-8")
    else:
        assert played.splitlines() == text.splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_has_a_title_and_checks_of_its_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wanted = checks(text)
    assert text.startswith("# ")
    assert any(w.startswith("serving=") for w in wanted), "who serves in the end?"
    assert any(w.startswith(("never two serve", "one serves from")) for w in wanted), "and alone?"


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 50


# -- the runner itself


def test_a_story_goes_as_it_is_told() -> None:
    assert play(STORY) == STORY


def test_a_story_that_tells_otherwise_differs() -> None:
    other = STORY.replace("6005 serving: b", "6005 serving: c")
    assert other != STORY and play(other) == STORY


def test_a_story_without_its_traces_is_filled_in() -> None:
    bare = [line for line in STORY.splitlines() if line[:1] not in (" ", "-")]
    assert play("\n".join(bare)) == STORY


HOLDS = [
    "serving=b",
    "never two serve",
    "one serves from 500 after kill a",
    "owners a b",
    "b serves within 5000..5003 of kill a",
    "a stops within 0..0 of kill a",
    "c never serves after kill a",
    "unserved at most 5003 after kill a",
    "b says a@h is failing over to b@h",
    "c never says a@h is failing over to b@h",
]


@pytest.mark.parametrize("check", HOLDS)
def test_a_check_that_holds_passes(check: str) -> None:
    play(f"{STORY}\nexpect {check}\n")


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ("serving=a", "serving: b"),
        ("serving=-", "serving: b"),
        ("one serves from 9000 after kill a", "not over yet"),
        ("owners a", "owners: a b"),
        ("owners a b a", "owners: a b"),
        ("b serves within 5000..5002 of kill a", "after 5003"),
        ("b serves within 5004..6000 of kill a", "after 5003"),
        ("c serves within 0..9999 of kill a", "it did not"),
        ("a stops within 1..9 of kill a", "after 0"),
        ("c stops within 0..9 of kill a", "it did not serve then"),
        ("b never serves after kill a", "at 6005"),
        ("unserved at most 5002 after kill a", "for 5003"),
        ("c says a@h is failing over to b@h", "it did not"),
        ("b never says a@h is failing over to b@h", "it did"),
        ("b exits 0", "exit: None"),
        ("serving=b within kill c", "no such check"),
        ("b serves within 0..9999 of kill c", "no command 'kill c' before"),
    ],
)
def test_a_check_that_is_wrong_fails(check: str, problem: str) -> None:
    with pytest.raises(Unexpected) as caught:
        play(f"{STORY}\nexpect never two serve\nexpect {check}\n")
    last = len(STORY.splitlines()) + 3
    assert str(caught.value).startswith(f"line {last}: expect {check}: ")
    assert problem in str(caught.value)


SPLIT = """\
# Both sides serve.

start a b

until serving=a 1000

run 1000

cut a b

until serving=ab 9000

run 100
"""


@pytest.mark.parametrize("check", ["never two serve", "one serves from 0 after cut a b"])
def test_two_that_serve_are_noticed(check: str) -> None:
    with pytest.raises(Unexpected, match="ab at"):
        play(f"{SPLIT}\nexpect {check}\n")


def test_an_exit_is_told_and_checked() -> None:
    text = "config sync_nodes_mandatory=[b] sync_nodes_timeout=900\n\nstart a\n\nrun 1000\n\n"
    assert "   900 a exits 75: mandatory nodes are missing: b" in play(text + "expect a exits 75\n")
    with pytest.raises(Unexpected, match="exit: "):
        play(text + "expect a exits 0\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("start a\n\ncrash a\n", "line 3: crash a: no such command"),
        ("start a\nrun 10\n", "line 1: start a: got 'run 10' after a command, want ----"),
        ("start a\n\nuntil serving=a 100\n", "line 3: until serving=a 100: not within 100 ms"),
        ("start a\n\nuntil a hopes 100\n", "until hopes: want serving=, says or shows"),
        ("start a\n\nconfig timeout=1\n", "config and nodes come first"),
        ("config time=1\n", "no such key: time; want tick or application"),
    ],
)
def test_a_story_that_cannot_be_played_says_where(text: str, problem: str) -> None:
    with pytest.raises(Unexpected) as caught:
        play(text)
    assert problem in str(caught.value)
