"""What one seed draws before time begins: the machines, the settings, the network, the faults."""

import random
from dataclasses import dataclass, field, replace

from chucky.names import Address, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Node, Settings
from tests.sim.clock import MS
from tests.sim.cluster import Cluster

LEAST_HOLD_MS = 5000  # with timeout 0; a node knows no other's tick when it begins to hold
MAJORITY = True  # draw quorum = "majority", too

FAULTS = (
    "kill", "power_off", "freeze", "suspend", "stop", "cut", "cut_one_way", "split", "isolate",
    "slow", "reset", "fails", "unready", "crash", "reload", "addresses", "spoof", "twin", "flap",
    "takeover", "standby", "clock", "move", "stall", "hiccup", "connect", "peers",
)  # fmt: skip
LEASE_FAULTS = ("mute", "forget")  # what an owner's lease must outlast, seldom drawn by chance


@dataclass
class Options:
    """All that a seed decides beforehand."""

    keys: str
    settings: dict[str, Settings]  # by key
    differs: bool  # [distributed] is not the same everywhere
    majority: bool
    base_us: int
    jitter_us: int
    late_us: int
    app_us: int
    beacon_loss: float
    beacon_twice: float
    beacon_extra_us: int
    respawn_us: int  # systemd's RestartSec
    fault_every_us: int
    fault_lasts_us: int
    stable_us: int  # a fault lasts at least so long
    most_faults: int
    bad_us: int  # how long phase one takes
    faults: dict[str, float] = field(default_factory=dict)  # weight of each kind

    @property
    def slowest(self) -> Settings:
        """What all have in common but for the longest tick: silence is judged on that."""
        common = self.settings[self.keys[0]]
        tick_ms = max(s.node.tick_ms for s in self.settings.values())
        return replace(common, node=Node(tick_ms=tick_ms))

    @property
    def one_electorate(self) -> bool:
        """Whether all lists, however they differ, have the same entries."""
        lists = [s.distributed.nodes.tiers for s in self.settings.values()]
        return len({frozenset(p for tier in tiers for p in tier) for tiers in lists}) == 1


def draw(rng: random.Random) -> Options:
    """Draw everything."""
    keys = "abcdefg"[: rng.choices(range(2, 8), (12, 20, 6, 2, 1, 1))[0]]
    majority = MAJORITY and rng.random() < 0.4
    # What a seed costs grows with the square of the nodes, and with the ticks: the dearest kinds
    # are drawn too, each in one seed of about fifty, and the time goes into many of the others.
    weights = (1, 2, 4, 12, 24, 8, 3) if len(keys) < 4 else (0, 0, 1, 4, 16, 5, 2)
    tick_ms = rng.choices((25, 50, 100, 250, 500, 1000, 2500), weights)[0]
    common = _settings(rng, keys, tick_ms, majority)
    settings = dict.fromkeys(keys, common)
    differs = rng.random() < 0.1
    if differs:
        for key in keys:
            if rng.random() < 0.4:
                settings[key] = _other(rng, common, keys)
    fast = min(tick_ms, 500) * MS // 8
    kinds = [k for k in FAULTS if rng.random() < 0.5 and (k != "twin" or not majority)]
    options = Options(
        keys=keys,
        settings=settings,
        differs=differs and len({s.digest for s in settings.values()}) > 1,
        majority=majority,
        base_us=rng.choice((50, 200, 1000, fast)),
        jitter_us=rng.choice((0, 50, 1000, fast)),
        late_us=rng.choice((0, 1000, 1000, min(20_000, fast))),
        app_us=rng.choice((0, 0, 0, 1000, fast)),
        beacon_loss=rng.choice((0.0, 0.0, 0.1, 0.4)),
        beacon_twice=rng.choice((0.0, 0.1)),
        beacon_extra_us=rng.choice((0, 10_000)),
        respawn_us=rng.choice((1_000_000, 1_000_000, 200_000)),
        fault_every_us=rng.choice((300, 1000, 2000, 5000)) * MS,
        fault_lasts_us=rng.choice((200, 1000, 3000, 8000)) * MS,
        stable_us=rng.choice((0, 100, 500, 2000)) * MS,
        most_faults=rng.choice((1, 2, 3, 6)),
        bad_us=rng.choice((40, 50)) * 1000 * MS,
        faults={kind: rng.choice((1.0, 1.0, 3.0)) for kind in kinds or ["kill"]},
    )
    if majority:
        options.faults.update({kind: 1.0 for kind in LEASE_FAULTS if rng.random() < 0.5})
    if rng.random() < 0.1:
        _change_ticks(rng, settings)
    return options


def _settings(rng: random.Random, keys: str, tick_ms: int, majority: bool) -> Settings:
    host = "h" if majority or rng.random() < 0.3 else ""
    nodes = _tiers(rng, keys, host, 3 if majority else 1)
    tick_time_ms = 4 * tick_ms
    timeout_ms: int | None
    if majority:
        timeout_ms = max(2 * tick_time_ms, rng.choice((500, 1000, 2000, 5000)))
    else:
        timeout_ms = rng.choice((0, 500, 1000, 2000, 3000, 5000, 5000, None))
    patterns = [p for tier in nodes.tiers for p in tier]
    mandatory = _some(rng, patterns) if rng.random() < 0.2 else ()
    # A shorter wait would be over before nodes that systemd restarts every second meet.
    waits_ms = (3000, 8000) if mandatory else (0, 300, 1000, 3000, 8000)
    optional = [NodePattern(k) for k in keys if rng.random() < 0.5]
    return Settings(
        Distributed(
            nodes=nodes,
            timeout_ms=timeout_ms,
            sync_nodes_mandatory=mandatory,
            sync_nodes_optional=tuple(optional) if rng.random() < 0.4 else (),
            sync_nodes_timeout_ms=rng.choice(waits_ms),
            quorum="majority" if majority else "reachable",
            takeover=rng.random() < 0.75,
            takeover_delay_ms=rng.choice((0, 0, 0, 500, 2000)),
        ),
        Node(tick_ms=tick_ms),
    )


def _some(rng: random.Random, patterns: list[NodePattern]) -> tuple[NodePattern, ...]:
    return tuple(p for p in patterns if rng.random() < 0.4)


def _tiers(rng: random.Random, keys: str, host: str, least: int) -> PriorityList:
    listed = list(keys)
    rng.shuffle(listed)
    if len(listed) > max(2, least) and rng.random() < 0.25:
        listed = listed[: max(2, least, len(listed) - 2)]  # the others are observers
    tiers = []
    while listed:
        size = rng.choice((1, 1, 2, 3))
        tiers.append(tuple(NodePattern(k, host) for k in listed[:size]))
        del listed[:size]
    return PriorityList(tuple(tiers))


def _other(rng: random.Random, common: Settings, keys: str) -> Settings:
    """A file that was edited on one machine only."""
    d = common.distributed
    host = d.nodes.tiers[0][0].host
    changed = rng.choice(
        (
            {"takeover": not d.takeover},
            {"takeover_delay_ms": 300},
            {"nodes": _tiers(rng, keys, host, 3)},
        )
    )
    return replace(common, distributed=replace(d, **changed))


def _change_ticks(rng: random.Random, settings: dict[str, Settings]) -> None:
    """The tick is being changed, one node after the other."""
    for key, one in settings.items():
        slower = replace(one, node=Node(tick_ms=one.node.tick_ms * rng.choice((2, 4))))
        d = one.distributed
        votes = d.quorum != "majority" or (d.timeout_ms or 0) >= 2 * slower.tick_time_ms
        if votes and slower.tick_time_ms < LEAST_HOLD_MS and rng.random() < 0.4:
            settings[key] = slower


def build(options: Options, seed: int) -> Cluster:
    """Make the cluster; nothing runs yet."""
    cluster = Cluster(keys="", seed=seed)
    cluster.early_share = 0.02
    rng = cluster.rng
    for key in options.keys:
        delay_us = (options.base_us, options.jitter_us)
        host = cluster.add(key, options.settings[key], delay_us=delay_us)
        host.clock.ppm = rng.randint(-4900, 4900)
        host.clock.offset_us = rng.randrange(10**9) * MS
        host.late_us, host.app_us = options.late_us, options.app_us
        if rng.random() < 0.1:
            host.wall_s += rng.randint(-100_000, 100_000)
        if rng.random() < 0.5:
            several = [f"192.168.{ord(key)}.1", f"10.8.0.{ord(key)}", "172.17.0.1", "172.18.0.1"]
            told = rng.sample(several, rng.randint(1, 3))
            host.others = tuple(Address(a, 4041) for a in told)
            host.others_first = rng.random() < 0.5
    stranger = cluster.add("x", options.settings[options.keys[0]], delay_us=(200, 0))
    stranger.stranger = True
    lan = cluster.lan
    lan.beacon_loss, lan.beacon_twice = options.beacon_loss, options.beacon_twice
    lan.beacon_extra_us = options.beacon_extra_us
    return cluster
