"""The docs that the bench writes: docs/bench.md, docs/scale.md with its plot, README's table.

What stands before the first `## ` is written by hand. Each section after it is what one command
printed; a run replaces those of the parts that it measured.
"""

import re
from collections.abc import Iterator

from bench.plot import svg
from bench.table import CHUCKY, COLUMNS, NGINX, NOTHING_TO_MEASURE, Table, cells_of, table_text
from tests.lan.bed import REPO

BENCH, SCALE, PLOT = (REPO / "docs" / x for x in ("bench.md", "scale.md", "scale.svg"))
README = REPO / "README.md"
SCALE_PART = "scale"
CHAPTER = "## Beside its peers"  # README's, with one table
# The rows of docs/bench.md that are README's, as they begin.
CHOSEN = (
    "owner, to C's rate", "owner, to Elixir's rate", "relaying node, to the owner's",
    "idle, a b c: CPU", "idle, a b c: resident memory", "idle, a b c: packets out/s",
    "start, exec to first fact",
    "stop: gap", "takeover: requests open", "takeover: failed", "upgrade, one node after the other",
    "kill -9, timeout 0, tick 250: gap", "frozen, timeout 0, tick 100: gap",
    "frozen, timeout 0, tick 25: gap", "cable cut, timeout 0, tick 250: gap",
    "5 % loss, 200 ms jitter, busy cores, 60 min",
)  # fmt: skip


def write(part: str, command: str, said: str, table: Table) -> None:
    """Put what a command printed in the place of what it had printed before."""
    path = SCALE if part == SCALE_PART else BENCH
    text = path.read_text() if path.exists() else f"# {part}\n\n"
    path.write_text(with_section(text, f"`{command}`", said))
    if table.plot:
        PLOT.write_text(svg(table.plot))
    if path == BENCH:
        README.write_text(with_table(README.read_text(), readme_table(BENCH.read_text())))


def with_section(text: str, title: str, body: str) -> str:
    """Return the document with this section, in its old place or at the end."""
    before, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    new = f"{title}\n\n{body}\n"
    found = [i for i, section in enumerate(sections) if section.partition("\n")[0] == title]
    if found:
        sections[found[0]] = new
    else:
        sections.append(new)
    return before.rstrip("\n") + "".join(f"\n\n## {x.rstrip(chr(10))}" for x in sections) + "\n"


def measured(text: str) -> Iterator[dict[str, str]]:
    """Yield each row of the tables of a document, by the names of its columns."""
    head: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            head = []
        elif not head:
            head = cells_of(line)
        elif not line.startswith("| -"):
            yield dict(zip(head, cells_of(line), strict=True))


def readme_table(bench: str) -> str:
    """Return README's table: some rows of docs/bench.md as they are there."""
    columns = [x for x in COLUMNS if x != NGINX]
    lines = [["", *columns]]
    for begin in CHOSEN:
        row = next((x for x in measured(bench) if x[""].startswith(begin) and CHUCKY in x), None)
        if row:
            lines.append([row[""], *(row.get(x, NOTHING_TO_MEASURE) for x in columns)])
    return table_text(lines)


def with_table(readme: str, table: str) -> str:
    """Return README with this table in its chapter."""
    before, chapter, after = readme.partition(CHAPTER)
    new = re.sub(r"(?:^\|.*\n)+", lambda _: table + "\n", after, count=1, flags=re.MULTILINE)
    return before + chapter + new
