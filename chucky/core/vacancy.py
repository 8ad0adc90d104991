"""The last signs of life of each ownership, from which a vacancy is counted (design rule 3).

A sign is numbered by its owner's own tick, so that all count from the same one: two standbys
that tell each other what they know cannot make a loss look younger than it is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from chucky.messages import End, Epoch, Naming, Sign
from chucky.names import NodeName

# A cluster has one ownership, one more for each part of a partition that healed just now, and some
# that ended.
MAX_RECORDS = 8
MAX_AGE_MS = 2**40  # 35 years: an age that is told on and on stays within the codec's 2^64


@dataclass(slots=True)
class Record:
    """What is known of one ownership; `heard_ms` is on this node's clock."""

    epoch: Epoch
    incarnation: int
    tick: int
    end: End
    heard_ms: int
    successor: NodeName | None = None
    successor_incarnation: int = 0
    dead: bool = False  # since that sign its owner's process was proven to have ended (rule 4)


class Records:
    """All ownerships that may still matter, by epoch."""

    def __init__(self) -> None:
        self._records: dict[Epoch, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def runs_here(self, epoch: Epoch, incarnation: int, tick: int, now_ms: int) -> None:
        """This very node runs it; `tick` is that of its next Status."""
        record = self._records.get(epoch)
        if record is None or (record.incarnation, record.end) != (incarnation, End.RUNNING):
            self._records[epoch] = Record(epoch, incarnation, tick, End.RUNNING, now_ms)
        else:
            record.tick, record.heard_ms = tick, now_ms
        self._tidy(epoch)

    def running(self, epoch: Epoch, incarnation: int, tick: int, now_ms: int) -> None:
        """A tick in which this ownership runs was heard from its owner itself."""
        record = self._records.get(epoch)
        if record is None or record.incarnation != incarnation:
            self._records[epoch] = Record(epoch, incarnation, tick, End.RUNNING, now_ms)
        elif record.end < End.NAMED and tick > record.tick:
            record.tick, record.end, record.heard_ms = tick, End.RUNNING, now_ms
            record.dead = False
        self._tidy(epoch)

    def ended(self, epoch: Epoch, incarnation: int, now_ms: int) -> None:
        """The link to its owner ended, or its application failed: this was its last tick."""
        record = self._of(epoch, incarnation)
        if record is not None and record.end is End.RUNNING:
            record.end, record.heard_ms = End.ENDED, now_ms

    def died(self, owner: NodeName, incarnation: int) -> None:
        """The process of this incarnation is proven to have ended."""
        for record in self:
            if (record.epoch.node, record.incarnation) == (owner, incarnation):
                record.dead = True

    def lapsed(self, epoch: Epoch) -> None:
        """It ran here, and its lease ran out: its last tick was the last sign."""
        record = self._records.get(epoch)
        if record is not None and record.end is End.RUNNING:
            record.end = End.ENDED

    def named(self, naming: Naming) -> None:
        """Its owner stopped serving and named a successor."""
        record = self._records.get(naming.epoch)
        if record is not None and record.end < End.NAMED:
            record.end = End.NAMED
            record.successor = naming.successor
            record.successor_incarnation = naming.incarnation

    def released(self, epoch: Epoch, incarnation: int) -> None:
        """Its owner stopped in good order: no vacancy comes of it."""
        record = self._of(epoch, incarnation)
        if record is not None:
            record.end = End.RELEASED

    def merge(self, sign: Sign, now_ms: int) -> None:
        """A peer reports what it knows of an ownership; it never makes a known sign younger."""
        heard_ms = now_ms - min(sign.age_ms, MAX_AGE_MS)
        record = self._records.get(sign.epoch)
        if record is not None and record.incarnation != sign.incarnation:
            # Who starts anew and hears of nobody may begin the same epoch: the later start counts,
            # in an order that is the same everywhere.
            if sign.incarnation < record.incarnation:
                return
            record = None
        if record is None:
            if any(r.epoch > sign.epoch and r.end is not End.RELEASED for r in self):
                return  # succeeded by one that is known
            self._records[sign.epoch] = Record(
                sign.epoch, sign.incarnation, sign.tick, sign.end, heard_ms,
                sign.successor, sign.successor_incarnation, sign.dead,
            )  # fmt: skip
            self._bound()
        elif sign.end >= End.NAMED or record.end >= End.NAMED:
            if sign.end > record.end:
                record.end = sign.end
                record.successor = sign.successor
                record.successor_incarnation = sign.successor_incarnation
        elif sign.tick >= record.tick:
            record.dead = sign.dead or (record.dead and sign.tick == record.tick)
            if (sign.tick, sign.end) > (record.tick, record.end):
                record.tick, record.end, record.heard_ms = sign.tick, sign.end, heard_ms
            elif sign.end is record.end:
                record.heard_ms = min(record.heard_ms, heard_ms)

    def succeed(self, alive: Collection[Epoch]) -> None:
        """No vacancy comes of what is older than the highest ownership that is heard to run now.

        One that stopped in good order is remembered: a slow peer may still say that it runs.
        """
        if not alive:
            return
        highest = max(alive)
        records = self._records.values()
        for record in [r for r in records if r.epoch < highest and r.epoch not in alive]:
            if record.end >= End.NAMED:
                record.end = End.RELEASED
            else:
                del self._records[record.epoch]

    def signs(self, now_ms: int) -> tuple[Sign, ...]:
        """What to report of them.

        Each age is told one ms short: what two clocks cut off would otherwise make a sign older
        with each report that comes back, since of a known one the oldest report counts.
        """
        return tuple([
            Sign(
                r.epoch, r.incarnation, r.tick, r.end, max(0, now_ms - r.heard_ms - 1),
                r.successor, r.successor_incarnation, r.dead,
            )
            for _, r in sorted(self._records.items())
        ])  # fmt: skip

    def ends(self) -> list[tuple[object, ...]]:
        """What of the signs is neither an age nor the number of a tick."""
        return [
            (epoch, r.incarnation, r.end, r.successor, r.successor_incarnation, r.dead)
            for epoch, r in sorted(self._records.items())
        ]

    def _of(self, epoch: Epoch, incarnation: int) -> Record | None:
        """The record of this very start: late words of a former one say nothing of it."""
        record = self._records.get(epoch)
        return record if record is not None and record.incarnation == incarnation else None

    def _tidy(self, epoch: Epoch) -> None:
        """An owner that runs a new epoch does not run its former one."""
        if len(self._records) > 1:
            for other in [e for e in self._records if e.node == epoch.node and e < epoch]:
                del self._records[other]
            self._bound()

    def _bound(self) -> None:
        while len(self._records) > MAX_RECORDS:
            least = min(self, key=lambda r: (r.end is not End.RELEASED, r.epoch))
            del self._records[least.epoch]
