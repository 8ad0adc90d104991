"""Planned moves: what they cost the clients, of whom eight ask at each living node without pause.

Three nodes on loopback. A node that lives is asked throughout the move: in a takeover or a standby
all three are, in a stop, a return or a restart the two others.
"""

import sys
from collections.abc import Callable
from signal import SIGTERM

from bench.load import compiled
from bench.nodes import formed
from bench.peer_clusters import Elixir, Keepalived, gaps, unmeasured
from bench.plan import Plan
from bench.seen import Seen, Watch, Watcher, agreed, started
from bench.table import CHUCKY, ELIXIR, KEEPALIVED, Row, Table, quantile, tail
from chucky.net.control_client import call
from tests.lan.bed import LIMIT_MS, Bed
from tests.lan.cluster import Cluster, loopback

TIMEOUT_MS, TICK_MS = 5000, 250  # the shipped ones
WAIT_MS = 50  # the aim
ADVERTS_S = (1, 0.1)  # keepalived's
PLANNED = Watch(8, 0)
STOP, RETURN, TAKEOVER = "stop", "return of the better", "takeover"
STANDBY_ON, STANDBY_OFF, UPGRADE = "standby on", "standby off", "upgrade, one node after the other"


class Mover:
    """Three nodes of which a is the best and owns, and what was seen of each kind of move."""

    def __init__(self, bed: Bed) -> None:
        timing = {"distributed": {"timeout": TIMEOUT_MS}, "node": {"tick": TICK_MS}}
        self.cluster: Cluster = formed(loopback(bed, timing))
        self.seen: dict[str, Seen] = {}
        self._watcher = Watcher(compiled("load.c", bed.dir), self.cluster, PLANNED)

    def stop_and_return(self) -> None:
        """Stop a as systemctl does and start it again."""
        self._restart("a", STOP, RETURN)

    def upgrade(self) -> None:
        """Restart every node, the owner last."""
        for label in "cba":
            self._restart(label, UPGRADE, UPGRADE)

    def takeover(self) -> None:
        """Let b take it from a, and a from b."""
        for old, new in ("ab", "ba"):
            self._asked(new, {"command": "takeover"}, TAKEOVER, old, new)
            agreed(self.cluster, new)

    def standby(self) -> None:
        """Let a give it away, and have it again."""
        new = self._asked("a", {"command": "standby", "to": "on"}, STANDBY_ON, "a", "bc")
        agreed(self.cluster, new)
        self._asked("a", {"command": "standby", "to": "off"}, STANDBY_OFF, new, "a")
        agreed(self.cluster, "a")

    def _restart(self, label: str, stop: str, back: str) -> None:
        """Stop a node and start it again: if it owns, another does meanwhile."""
        node, others = self.cluster[label], "abc".replace(label, "")

        def gone(since_ms: int) -> str:
            if label == "a":
                return started(self.cluster, others, since_ms)
            return "" if node.alive else "a"

        def is_back(since_ms: int) -> str:
            if label == "a":
                return started(self.cluster, "a", since_ms)
            return "a" if node.notes.find("^STATUS=standby; a", since_ms) else ""

        meanwhile = self._see(others, node.stop, gone, stop, "a")
        node.exit_code()
        self._see(others, node.start, is_back, back, meanwhile)
        agreed(self.cluster, "a")

    def _asked(self, of: str, request: dict[str, str], what: str, old: str, new: str) -> str:
        """Ask a node for a move; return the new owner."""

        def act() -> None:
            done = next(call(str(self.cluster[of].control), request, LIMIT_MS / 1000))
            assert done["granted"], f"{request}: {done}"

        return self._see("abc", act, lambda x: started(self.cluster, new, x), what, old)

    def _see(
        self, labels: str, act: Callable[[], object], done: Callable[[int], str], what: str,
        old: str,
    ) -> str:  # fmt: skip
        return self._watcher.see(labels, act, done, self.seen.setdefault(what, Seen()), old)


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    bed = Bed()
    try:
        mover = Mover(bed)
        kinds = [
            (mover.stop_and_return, plan.moves), (mover.takeover, plan.moves),
            (mover.standby, plan.moves), (mover.upgrade, plan.upgrades),
        ]  # fmt: skip
        for move, times in kinds:
            for number in range(1, times + 1):
                move()
                if number % 10 == 0:
                    print(f"moves: {move.__name__}: {number} of {times}", file=sys.stderr)
    finally:
        bed.close()
    others = _at_peers(plan)
    for what, seen in mover.seen.items():
        for row in _rows(what, seen, others.get(what, {})):
            table.add(row)


def _rows(what: str, seen: Seen, others: dict[str, str]) -> list[Row]:
    kept = quantile(seen.waits_ms, 0.99) <= WAIT_MS
    waits = Row(f"{what}: requests open in the move, ms p50/p99/max",
                {CHUCKY: tail(seen.waits_ms, 1)}, f"p99 <= {WAIT_MS}", kept)  # fmt: skip
    return [seen.gap_row(what, others), waits, seen.failed_row(what)]


def _at_peers(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the peers' gaps when the owner is stopped and when it returns."""
    stop, back = dict[str, str](), dict[str, str]()
    for peer in (ELIXIR, KEEPALIVED):
        if why := unmeasured(peer):
            stop[peer] = back[peer] = why
            continue
        if peer == ELIXIR:
            found = [gaps(lambda bed: Elixir(bed, TIMEOUT_MS), plan.peer_moves, SIGTERM)]
        else:
            found = [_keepalived(advert_s, plan) for advert_s in ADVERTS_S]
        stop[peer], back[peer] = ("; ".join(cells) for cells in zip(*found, strict=True))
    return {STOP: stop, RETURN: back}


def _keepalived(advert_s: float, plan: Plan) -> tuple[str, str]:
    lost, returned = gaps(lambda bed: Keepalived(bed, advert_s), plan.peer_moves, SIGTERM)
    return f"{lost} (adverts {advert_s:g} s)", f"{returned} (adverts {advert_s:g} s)"
