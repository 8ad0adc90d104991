"""The facts that every system serves in a run: the shipped ones, labelled."""

from pathlib import Path

from tests.lan.bed import REPO


def write_facts(path: Path, label: str) -> None:
    """Write the shipped facts, each after the label, so that an answer tells who chose it."""
    facts = (REPO / "facts.txt").read_text().splitlines()
    path.write_text("".join(f"{label}: {fact}\n" for fact in facts))
