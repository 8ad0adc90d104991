"""README against the program: what it shows parses, exists, and is what is printed."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bench import docs
from chucky import cli, config, report
from chucky.daemon_options import parse_options
from chucky.names import NodeName
from chucky.settings import Settings
from tests.lan.test_demo import by_node, two_at_once
from tests.mutants import MUTANTS
from tests.sim.cluster import Cluster
from tests.test_swarm import SEEDS
from tests.unit.test_daemon_history import utc as utc

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))

SECTIONS = {
    key.name.removesuffix("_ms"): part.name
    for part in fields(Settings)
    for key in fields(getattr(Settings(), part.name))
}
# Words in `code` that are no keys of the config.
OTHER_WORDS = {
    "a", "b", "c", "alpha", "beta", "gamma", "chucky", "chuckyd", "make", "sudoedit",
    "true", "false", "unknown", "connect",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indent of a list that they are in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def spans() -> list[str]:
    """Return each `code` of the running text, on one line."""
    text = re.sub(r"^ *```.*?^ *```$", "", README, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(program: str) -> list[list[str]]:
    """Return the arguments of each command of a program that is shown, with or without sudo."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    optional = [re.sub(r"[][]", "", span) for span in spans()]  # [FILE] is as good as FILE
    words = [shlex.split(text.removeprefix("sudo "), comments=True) for text in lines + optional]
    found = [w[1:] for w in words if len(w) > 1 and w[0] == program]
    assert found, f"README shows no {program}"
    return found


def known_commands() -> set[str]:
    """Return what the command line knows."""
    (choices,) = (a.choices for a in cli._parser()._actions if a.dest == "command")
    assert choices
    return set(choices)


# -- commands


@pytest.mark.parametrize("words", commands("chucky"), ids=" ".join)
def test_chucky_understands(words: list[str]) -> None:
    cli._parser().parse_args(words)


@pytest.mark.parametrize("words", commands("chuckyd"), ids=" ".join)
def test_chuckyd_understands(words: list[str]) -> None:
    parse_options(words)


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_make_has(words: list[str]) -> None:
    assert set(words) <= TARGETS


def test_each_command_is_shown() -> None:
    shown = {word for words in commands("chucky") for word in words}
    assert known_commands() <= shown


# -- the config


@pytest.mark.parametrize("text", blocks("toml"))
def test_a_config_shown_is_good(text: str) -> None:
    assert config.parse(text)[1] == ()


@pytest.mark.parametrize("section, key", re.findall(r"`\[(\w+)\] (\w+)`", README))
def test_a_key_shown_is_in_its_section(section: str, key: str) -> None:
    assert SECTIONS[key] == section


@pytest.mark.parametrize("word", sorted({s for s in spans() if re.fullmatch("[a-z_]+", s)}))
def test_a_word_shown_is_a_key_or_known(word: str) -> None:
    assert word in SECTIONS or word in OTHER_WORDS | known_commands()


def test_majority_is_shown_and_its_sentence_is_what_status_says() -> None:
    (shown,) = (text for text in blocks("toml") if "majority" in text)
    d = config.parse(shown)[0].distributed
    assert (d.quorum, d.nodes.size) == ("majority", 3)
    cluster = Cluster(Settings(d), "a")
    cluster.hosts["a"].name = NodeName("a", "alpha")
    cluster.start("a")
    cluster.run(1000)
    (sentence,) = (s for s in spans() if s.startswith("no majority"))
    assert cluster.snapshot("a").sentence == f"standby; {sentence}"


# -- what is printed


def _node(name: str, tier: int, state: str, address: str | None, heard: int | None) -> Any:
    owner = name == "a@alpha"
    return {
        "name": name, "tier": tier, "state": state, "owner": owner, "address": address,
        "last_heard_ms": heard, "differs": [],
    }  # fmt: skip


def test_status_is_printed_as_shown() -> None:
    nodes = [
        _node("a@alpha", 0, "up", "10.0.0.11:4041", 120),
        _node("b@beta", 1, "self", None, None),
        _node("c@gamma", 1, "up", "10.0.0.13:4041", 230),
    ]
    found = {"sentence": "standby; a@alpha is the owner, epoch 1", "nodes": nodes}
    assert report.status_text(found) + "\n" in blocks("text")


@pytest.mark.usefixtures("utc")
def test_why_is_printed_as_shown() -> None:
    said = [
        ("03:10:55.896", "a@alpha is silent: it is down"),
        ("03:10:55.896", "no owner is heard of here"),
        ("03:10:59.904", "a@alpha is failing over to b@beta"),
        ("03:10:59.905", "Application is started on b@beta"),
    ]
    lines = [{"time": f"2026-11-27T{at}+00:00", "sentence": sentence} for at, sentence in said]
    move = {"owner": "b@beta", "epoch": 2, "since": lines[-1]["time"], "until": None}
    found = {"application": "chucky", "moves": [{**move, "lines": lines}]}
    assert report.why_text(found) + "\n" in blocks("text")


def test_the_demo_tells_what_is_shown() -> None:
    def timeless(text: str) -> list[str]:
        idle = re.sub(r", and [0-9,]+ ms in which a processor was waited for", "", text)
        told = by_node(line.strip() for line in idle.splitlines())
        return [re.sub(r"[0-9][0-9.,]*", "0", line) for line in told]

    (shown,) = (text for text in blocks("text") if "kill -9 a" in text)
    fact = re.compile(r"^ {13}(\S.*)$", re.MULTILINE)
    assert " ".join(fact.findall(shown)) in (TOP / "facts.txt").read_text().splitlines()
    told = iter(timeless(two_at_once()[0].stdout))
    for line in timeless(fact.sub("", shown)):
        if line and line != "[...]":
            assert line in told, f"the demo does not tell {line!r} in this place"


def test_the_proofs_are_as_many_as_is_said() -> None:
    proved = README.partition("## How it is proved")[2].partition("## Commands")[0]
    stories = len(list((TOP / "tests" / "scenarios").glob("*.txt")))
    assert f"| {stories} | `make scenarios`" in proved
    assert f"| {len(MUTANTS)}; it" in proved and f"| {SEEDS:,} in each" in proved


def test_the_figures_beside_the_peers_are_those_of_the_docs() -> None:
    table = docs.readme_table(docs.BENCH.read_text())
    missing = 2 + len(docs.CHOSEN) - len(table.splitlines())
    assert missing == 0, f"docs/bench.md lacks {missing} of README's rows"
    assert docs.with_table(README, table) == README
