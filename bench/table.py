"""The table that a part prints: a row for each thing measured, a column for each system."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from bench.plot import Panel

CHUCKY, C, NGINX, ELIXIR, KEEPALIVED = "Chucky", "C epoll", "nginx", "Elixir", "keepalived"
COLUMNS = [CHUCKY, C, NGINX, ELIXIR, KEEPALIVED]

NOTHING_TO_MEASURE = "-"
MISSING = "missing"  # what was to be measured is not installed


@dataclass(slots=True)
class Row:
    """One thing measured, and what it should be; `kept` is None where there is no aim."""

    what: str
    cells: dict[str, str] = field(default_factory=dict)
    aim: str = ""
    kept: bool | None = None


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, the smallest and the largest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest of the values that is not below this share of them."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def tail(values: Sequence[float], digits: int = 0) -> str:
    """Return p50, p99 and the largest."""
    parts = (quantile(values, 0.5), quantile(values, 0.99), max(values))
    return " / ".join(f"{part:.{digits}f}" for part in parts)


def heading(what: str) -> str:
    """Return what figures hold for: this machine, now."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    return (
        f"{datetime.now():%Y-%m-%d %H:%M}, {len(os.sched_getaffinity(0))} cores of {model},"
        f" Linux {platform.release()}, Python {platform.python_version()}, load {load}; {what}"
    )


@dataclass(slots=True)
class Table:
    """What one part of a run measured: a table that is Markdown too, and perhaps a picture."""

    rows: list[Row] = field(default_factory=list)
    plot: list[Panel] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Put a row at the end."""
        self.rows.append(row)

    def text(self) -> str:
        """Return the whole table, without the columns in which there is nothing."""
        named = dict.fromkeys(x for row in self.rows for x in row.cells)
        columns = [x for x in COLUMNS if x in named] + [x for x in named if x not in COLUMNS]
        lines = [["", *columns, "aim", "kept"]]
        for row in self.rows:
            cells = [row.cells.get(column, NOTHING_TO_MEASURE) for column in columns]
            kept = {True: "yes", False: "NO", None: ""}[row.kept]
            lines.append([row.what, *cells, row.aim, kept])
        return table_text(lines)


def table_text(lines: list[list[str]]) -> str:
    """Return these lines of cells, the first of which is the head, as a table."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    whole = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in whole
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
