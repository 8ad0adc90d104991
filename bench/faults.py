"""Unplanned moves: for how long nobody answers at the nodes that live when the owner is lost.

Three nodes on a LAN of namespaces. In each repetition the owner a is killed, frozen or cut off, b
or c takes over, then a is back and has the service again. One client at each living node asks.
Process death is measured by itself, with a request every ms. Silence lasts by far longer than
anything that a processor does, so several clusters stand side by side, with a request every 5 ms.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from signal import SIGKILL, SIGSTOP
from typing import NamedTuple

from bench.load import compiled, gap_ms
from bench.nodes import formed
from bench.peer_clusters import CUT, Elixir, Keepalived, gaps, unmeasured
from bench.plan import Plan
from bench.seen import SETTLE_MS, Seen, Watch, Watcher, agreed, started
from bench.table import CHUCKY, ELIXIR, KEEPALIVED, Row, Table, tail
from tests.lan.bed import Bed, at, now_ms
from tests.lan.cluster import Cluster, on_lan
from tests.lan.lan import Lan
from tests.lan.lan import missing as no_lan

Do = Callable[[Cluster, Lan], object]
TICKS_MS = (250, 100, 25)
ON_TOP_MS, AT_ONCE_MS, SILENCE_MS, PROOF_MS = 100, 30, 50, 50  # the aims
SHORT_MS, LONG_MS = 500, 1000  # timeouts
SIDE_BY_SIDE = 4  # clusters
PROVEN = r"no owner: a@\S+ is lost"  # and not "asking whether it lives"; never with timeout 0
DEATH, SILENCE = Watch(1, 1), Watch(1, 5)
ADVERTS_S = {250: 1, 100: 0.1, 25: 0.01}  # keepalived's, beside our ticks


class Fault(NamedTuple):
    """One way to lose the owner a, and how it comes back."""

    what: str
    hurt: Do
    heal: Do
    at_peers: int | None


def _start_anew(cluster: Cluster, lan: Lan) -> None:
    cluster["a"].exit_code()
    lan.undrop("a")
    cluster["a"].start()
    cluster["a"].ready()


def _power_cut(cluster: Cluster, lan: Lan) -> None:
    lan.drop("a")  # first, since nothing may tell that the process ended
    cluster["a"].kill()


KILL = Fault("kill -9", lambda cluster, _: cluster["a"].kill(), _start_anew, SIGKILL)
SILENT = [
    Fault("power cut", _power_cut, _start_anew, None),
    Fault("frozen", lambda c, _: c["a"].freeze(), lambda c, _: c["a"].thaw(), SIGSTOP),
    Fault("cable cut", lambda _, lan: lan.cut("a"), lambda _, lan: lan.heal("a"), CUT),
    Fault("frames dropped", lambda _, x: x.drop("a"), lambda _, x: x.undrop("a"), None),
]


class Case(NamedTuple):
    """One row: a fault, and the times of the config."""

    fault: Fault
    timeout_ms: int
    tick_ms: int

    def __str__(self) -> str:
        return f"{self.fault.what}, timeout {self.timeout_ms}, tick {self.tick_ms}"

    @property
    def most_ms(self) -> int:
        """The aim."""
        if self.fault is KILL:
            return self.timeout_ms + ON_TOP_MS if self.timeout_ms else AT_ONCE_MS
        silence_ms = 4 * self.tick_ms
        return silence_ms + SILENCE_MS if not self.timeout_ms else (
            max(self.timeout_ms, silence_ms) + ON_TOP_MS
        )  # fmt: skip


def measure_kills(table: Table, plan: Plan) -> None:
    """Add the rows of process death."""
    if why := no_lan():
        table.add(Row("kill -9", {CHUCKY: why}))
        return
    table.add(Row("no fault: longest gap, ms p50/p99/max", {CHUCKY: tail(_undisturbed(plan), 1)}))
    every, proofs_ms = Seen(), list[float]()
    for case in (Case(KILL, 0, 250), Case(KILL, SHORT_MS, 250)):
        seen = _repeated(case, plan, DEATH, proofs_ms)
        table.add(seen.gap_row(str(case), _at_peers(case, plan), case.most_ms))
        _add(every, seen)
    assert proofs_ms, "no standby told that the owner's death was proven"
    table.add(Row("kill -9 to its proof at a standby, ms p50/p99/max", {CHUCKY: tail(proofs_ms)},
                  f"<= {PROOF_MS}", max(proofs_ms) <= PROOF_MS))  # fmt: skip
    table.add(every.failed_row("all of these"))


def measure_silence(table: Table, plan: Plan) -> None:
    """Add the rows of silence."""
    if why := no_lan():
        table.add(Row("silence", {CHUCKY: why}))
        return
    cases = [Case(fault, 0, tick_ms) for tick_ms in TICKS_MS for fault in SILENT]
    cases += [Case(fault, LONG_MS, 100) for fault in SILENT[1:3]]
    every = Seen()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as lanes:
        ours = [lanes.submit(_repeated, case, plan, SILENCE, []) for case in cases]
        theirs = [lanes.submit(_at_peers, case, plan) for case in cases]
        for case, own, other in zip(cases, ours, theirs, strict=True):
            table.add(own.result().gap_row(str(case), other.result(), case.most_ms))
            _add(every, own.result())
    table.add(every.failed_row("all of these"))


def _add(every: Seen, seen: Seen) -> None:
    every.requests += seen.requests
    every.failed += seen.failed
    every.twice += seen.twice


def _at_peers(case: Case, plan: Plan) -> dict[str, str]:
    """Return the peers' gaps in what is the same for them."""
    fault, cells = case.fault.at_peers, dict[str, str]()
    if fault is None:
        return cells
    if case.fault is KILL or (case.tick_ms == TICKS_MS[0] and not case.timeout_ms):
        cells[ELIXIR] = unmeasured(ELIXIR) or gaps(
            lambda bed: Elixir(bed, case.timeout_ms), plan.peer_moves, fault
        )[0]  # fmt: skip
    if not case.timeout_ms:
        advert_s = min(ADVERTS_S.values()) if case.fault is KILL else ADVERTS_S[case.tick_ms]
        cells[KEEPALIVED] = unmeasured(KEEPALIVED) or gaps(
            lambda bed: Keepalived(bed, advert_s), plan.peer_moves, fault
        )[0] + f" (adverts {advert_s:g} s)"  # fmt: skip
    return cells


def _cluster(bed: Bed, timeout_ms: int, tick_ms: int) -> tuple[Cluster, Lan]:
    lan = Lan(bed)
    config = {"distributed": {"timeout": timeout_ms}, "node": {"tick": tick_ms}}
    return formed(on_lan(bed, lan, config)), lan


def _undisturbed(plan: Plan) -> list[float]:
    """Return the longest gaps in as many whiles without a fault: what the machine itself costs."""
    bed = Bed()
    try:
        cluster, _ = _cluster(bed, 5000, 250)
        watcher, found = Watcher(compiled("load.c", bed.dir), cluster, DEATH), []
        for _ in range(plan.moves):
            loads = watcher.loads("bc")
            at(now_ms() + 2 * SETTLE_MS)
            found.append(max(gap_ms(load.stop(), 0) for load in loads))
        return found
    finally:
        bed.close()


def _repeated(case: Case, plan: Plan, watch: Watch, proofs_ms: list[float]) -> Seen:
    """Lose the owner so and let it return, so often. Add how long its loss took to be proven, each
    time that a standby said so. When nobody takes over or a does not return, all start anew."""
    seen = Seen()
    while (done := len(seen.gaps_ms) + seen.astray) < plan.moves:
        if seen.astray > plan.moves // 10:
            break
        bed = Bed()
        try:
            _some(bed, case, plan.moves - done, watch, seen, proofs_ms)
        except AssertionError as error:
            print(f"faults: {case}: {error}", file=sys.stderr)
            seen.astray += 1
        finally:
            bed.close()
    return seen


def _some(
    bed: Bed, case: Case, count: int, watch: Watch, seen: Seen, proofs_ms: list[float]
) -> None:
    cluster, lan = _cluster(bed, case.timeout_ms, case.tick_ms)
    watcher, hurt_ms = Watcher(compiled("load.c", bed.dir), cluster, watch), 0

    def hurt() -> None:
        nonlocal hurt_ms
        hurt_ms = now_ms()
        case.fault.hurt(cluster, lan)

    for number in range(1, count + 1):
        watcher.see("bc", hurt, lambda x: started(cluster, "bc", x), seen, "a")
        said = [note.ms for x in "bc" for note in cluster[x].notes.find(PROVEN, hurt_ms)]
        proofs_ms += [min(said) - hurt_ms] if said else []
        case.fault.heal(cluster, lan)
        agreed(cluster, "a")
        if number % 10 == 0:
            print(f"faults: {case}: {number} of {count}", file=sys.stderr)
