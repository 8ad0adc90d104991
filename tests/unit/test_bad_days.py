"""Random bad days: kills, cuts, freezes, failing starts; then all heals and one node must serve.

A failure names its seed; `python3 -m tests.unit.test_bad_days SEED` tells that day's story.
"""

import random
import sys

import pytest

from chucky.core import events as ev
from chucky.core.ownership import STOP_LIMIT_MS
from chucky.names import NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Settings
from tests.unit.cluster import Cluster

SEEDS = 16
EVENTS = 25
HEALED_MS = 500  # S1 and L5: from here on after a heal
LONGEST_BACKOFF_MS = 61_000


def drawn_settings(rng: random.Random, shorts: str) -> Settings:
    """Draw tiers, timeouts and takeover settings."""
    order = list(shorts)
    rng.shuffle(order)
    tiers: list[tuple[NodePattern, ...]] = []
    while order:
        size = rng.randint(1, min(2, len(order)))
        tiers.append(tuple(NodePattern(order.pop()) for _ in range(size)))
    return Settings(
        distributed=Distributed(
            nodes=PriorityList(tuple(tiers)),
            timeout_ms=rng.choice((1000, 2000, 5000)),
            takeover=rng.random() < 0.8,
            takeover_delay_ms=rng.choice((0, 0, 1000)),
        )
    )


def one_fault(rng: random.Random, cluster: Cluster) -> str:
    """Let something happen; return its words."""
    short = rng.choice(list(cluster.hosts))
    host = cluster.hosts[short]
    if host.node is None:
        cluster.start(short)
        return f"start {short}"
    if host.frozen:
        cluster.thaw(short)
        return f"thaw {short}"
    match rng.randrange(7):
        case 0:
            cluster.kill(short)
            return f"kill {short}"
        case 1:
            cluster.power_off(short)
            return f"power_off {short}"
        case 2:
            cluster.freeze(short)
            return f"freeze {short}"
        case 3:
            cluster.give(short, ev.ShutdownRequested())
            return f"stop {short}"
        case 4:
            host.fails = "" if host.fails else "broken"
            return f"fails {short}: {host.fails!r}"
        case 5:
            cluster.heal()
            return "heal"
        case _:
            other = rng.choice([s for s in cluster.hosts if s != short])
            cluster.cut(short, other)
            return f"cut {short} {other}"


def bad_day(seed: int, tell: bool = False) -> Cluster:
    """Live one bad day and return the cluster after it; raises AssertionError when it ends ill."""
    rng = random.Random(seed)
    shorts = "abcde"[: rng.randint(2, 5)]
    cluster = Cluster(drawn_settings(rng, shorts), shorts)
    for _ in range(EVENTS):
        words = one_fault(rng, cluster)
        if tell:
            print(cluster.now_ms, repr(cluster.serving), words)
        cluster.run(rng.choice((0, 1, 2, 5, 50, 300, 1000, 3000, 9000)))
        if not cluster.cuts and not any(h.frozen for h in cluster.hosts.values()):
            since_ms = cluster.now_ms
            cluster.run(HEALED_MS)
            assert len(cluster.serving) <= 1, f"two serve at {since_ms + HEALED_MS}"
    end_well(cluster)
    return cluster


def end_well(cluster: Cluster) -> None:
    """Mend everything; the best-ranked node must come to serve, alone, and stay."""
    cluster.heal()
    for short, host in cluster.hosts.items():
        host.fails = ""
        if host.frozen:
            cluster.thaw(short)
    cluster.run(STOP_LIMIT_MS + 100)
    for short, host in cluster.hosts.items():
        if host.node is None:
            cluster.start(short)
    d = next(iter(cluster.hosts.values())).settings.distributed
    tiers = [[p.name for p in tier] for tier in d.nodes.tiers]
    cluster.run(HEALED_MS)
    assert len(cluster.serving) <= 1, "two serve after the heal"
    assert d.timeout_ms is not None
    cluster.run_until(lambda: len(cluster.serving) == 1, d.timeout_ms + 2000 + LONGEST_BACKOFF_MS)
    cluster.run(LONGEST_BACKOFF_MS + 2000)
    owner = cluster.serving
    cluster.run(10_000)
    assert cluster.serving == owner and len(owner) == 1
    if d.takeover:
        assert owner in tiers[0], f"{owner} serves, {tiers} are the tiers"
    views = {cluster.snapshot(s).epoch for s in cluster.hosts}
    assert len(views) == 1, f"views differ: {views}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_bad_day(seed: int) -> None:
    bad_day(seed)


if __name__ == "__main__":
    print(bad_day(int(sys.argv[1]), tell=True))
