"""What is counted over the answers of a scenario, and the table of all scenarios."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.lan.eye import Asked


@dataclass(frozen=True, slots=True)
class Span:
    """A time from one moment to another at one node."""

    node: str
    from_ms: int
    to_ms: int

    def meets(self, one: Asked) -> bool:
        """Whether the request was open in this time at this node."""
        return self.node == one.node and one.began_ms <= self.to_ms and one.ended_ms >= self.from_ms


@dataclass(slots=True)
class Tally:
    """The requests of one scenario, with the owners that may answer, in this order.

    Each node's facts begin with its label, so an answer tells who chose it, at some moment between
    the beginning and the end of the request. `down` says when a node was not live, `deaf` when it
    could not hear the others and may have owned as well.
    """

    owners: str
    asked: Sequence[Asked]
    down: Sequence[Span] = ()
    deaf: Sequence[Span] = ()

    def lost(self) -> list[Asked]:
        """Return the requests that failed at a node that was live all the while."""
        failed = [x for x in self.asked if x.problem]
        return [x for x in failed if not any(span.meets(x) for span in self.down)]

    def twofold(self) -> list[Asked]:
        """Return the answers that no sequence of these owners, one at a time, explains."""
        facts = [x for x in self._facts() if not any(span.meets(x) for span in self.deaf)]
        turns = self._turns(facts)
        ends = [ms for _, ms in turns[1:]] + [max((x.ended_ms for x in facts), default=0)]
        return [
            x for x in facts
            if not any(
                x.owner == owner and x.ended_ms >= from_ms and x.began_ms <= to_ms
                for (owner, from_ms), to_ms in zip(turns, ends)
            )
        ]  # fmt: skip

    def complete(self) -> bool:
        """Return whether each of the owners answered in its turn."""
        return len(self._turns(self._facts())) == len(self.owners)

    def gap_ms(self, nodes: Iterable[str]) -> int | None:
        """Return the longest time between two facts in a row at these nodes, taken together: where
        the owner changed, or for "aa" anywhere; None where nothing moves."""
        if len(self.owners) < 2:
            return None
        facts = [x for x in self._facts() if x.node in nodes]
        return max(
            (
                after.ended_ms - before.ended_ms
                for before, after in zip(facts, facts[1:])
                if before.owner != after.owner or len(set(self.owners)) == 1
            ),
            default=0,
        )

    def _facts(self) -> list[Asked]:
        return sorted((x for x in self.asked if x.fact), key=lambda x: x.ended_ms)

    def _turns(self, facts: Sequence[Asked]) -> list[tuple[str, int]]:
        """Return each owner and when its first fact of that turn came. For one that had a turn
        before, that is to a request begun after that turn's end."""
        turns: list[tuple[str, int]] = []
        for number, owner in enumerate(self.owners):
            before = self.owners.rfind(owner, 0, number)
            end_of_that = min(before + 1, number - 1)
            since_ms = 0 if before < 0 else turns[end_of_that][1]
            came = [x.ended_ms for x in facts if x.owner == owner and x.began_ms >= since_ms]
            if turns:
                came = [ended_ms for ended_ms in came if ended_ms >= turns[-1][1]]
            if not came:
                break
            turns.append((owner, min(came)))
        return turns


@dataclass(slots=True)
class Row:
    """A line of the table."""

    what: str
    owners: str = ""
    gap_ms: int | None = None
    answers: int = 0
    lost: int = 0
    twofold: int = 0
    note: str = "FAILED"


@dataclass(slots=True)
class Table:
    """The rows of one run."""

    rows: list[Row] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it as text."""
        head = ["what was done", "owner", "gap ms", "answers", "lost", "by two", "note"]
        rows = [
            [
                x.what, " ".join(x.owners), "-" if x.gap_ms is None else f"{x.gap_ms:,}",
                f"{x.answers:,}", str(x.lost), str(x.twofold), x.note,
            ]
            for x in self.rows
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *rows)]
        shapes = [f"{'>' if 2 <= n <= 5 else '<'}{width}" for n, width in enumerate(widths)]
        lines = [head, ["-" * width for width in widths], *rows]
        return ["  ".join(map(format, line, shapes)).rstrip() for line in lines]


TABLE = Table()
