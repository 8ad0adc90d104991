"""False alarms: how often the application moves though no node ever fails.

Three nodes on a network that loses 5 % of the frames and delays each by up to 200 ms, on a machine
whose cores are all busy. The peers stand beside, each on such a network of its own, in the same
minutes. A client at each node of ours asks ten times a second.
"""

import os
import subprocess
import sys
from contextlib import ExitStack

from bench import peers
from bench.load import FAILED, Load, compiled, inside, pinned, waits_ms
from bench.nodes import SHIPPED, STARTED, formed, lines
from bench.peer_clusters import Elixir, Keepalived, PeerCluster
from bench.plan import Plan
from bench.table import CHUCKY, ELIXIR, KEEPALIVED, MISSING, Row, Table, tail
from chucky.demo_nodes import dying_with_us
from tests.lan.bed import REPO, Bed, at, now_ms, until
from tests.lan.cluster import Cluster, on_lan
from tests.lan.lan import Lan, port, run
from tests.lan.lan import missing as no_lan

LOSS_PERCENT, JITTER_MS = 5, 200
BETWEEN_MS = 100  # two requests of a client
PROGRESS_MS = 60_000
SETTLE_MS = 5000
LINK_ENDED = "(is silent|ended its link): it is down"
NETWORK_NICE = -10  # a network does not wait for a processor
MOVED = {
    ELIXIR: "Application is started|is failing over|is taking over",
    KEEPALIVED: "Entering MASTER STATE",
}


def measure(table: Table, plan: Plan) -> None:
    """Add the rows."""
    what = f"{LOSS_PERCENT} % loss, {JITTER_MS} ms jitter, busy cores, {plan.alarm_minutes:g} min"
    if why := no_lan():
        table.add(Row(what, {CHUCKY: why}))
        return
    if plan.busy_nice:
        what += f", the busy at nice {plan.busy_nice}"
    for row in _rows(what, plan):
        table.add(row)


class BadNetwork:
    """Puts a bad switch in the place of a LAN's good one until it is closed."""

    def __init__(self, lan: Lan, nodes: str) -> None:
        self._lan, self._nodes = lan, nodes
        for node in nodes:
            lan.drop(node)
            for family in ("ipv4", "ipv6"):  # the kernel's own: three tries, one a second
                path = f"/proc/sys/net/{family}/neigh/eth0/retrans_time_ms"
                run(*inside(lan.netns(node)), "sh", "-c", f"echo 1000 > {path}")
        self._process = subprocess.Popen(
            [*inside(lan.switch), "nice", "-n", str(NETWORK_NICE), *dying_with_us(),
             sys.executable, "-m", "bench.bad_network", str(LOSS_PERCENT), str(JITTER_MS),
             *map(port, nodes)],
            cwd=REPO, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout and self._process.stdout.readline() == "begun\n"

    def close(self) -> None:
        """Let the good switch pass the frames again."""
        peers.ended(self._process)
        for node in self._nodes:
            self._lan.undrop(node)


def busy(nice: int) -> list["subprocess.Popen[bytes]"]:
    """Keep every core busy, from sessions of their own: the kernel shares the processor between
    sessions first (sched(7), autogroup), and nice counts within one only."""
    loop = "echo $0 >/proc/self/autogroup; while :; do :; done"
    command = ["setsid", *dying_with_us(), "nice", "-n", str(nice), "sh", "-c", loop, str(nice)]
    return [subprocess.Popen([*pinned(core), *command]) for core in os.sched_getaffinity(0)]


def _rows(what: str, plan: Plan) -> list[Row]:
    cells = {x: MISSING for x in peers.missing() if x in MOVED}
    with ExitStack() as end:
        bed = _bed(end)
        lan, eager_lan = Lan(bed), Lan(bed)
        cluster = formed(on_lan(bed, lan, SHIPPED))
        eager = formed(on_lan(_bed(end), eager_lan, SHIPPED, {"distributed": {"timeout": 0}}))
        others: dict[str, PeerCluster] = {}
        for peer in MOVED.keys() - cells.keys():
            own = _bed(end)
            others[peer] = Elixir(own, 5000) if peer == ELIXIR else Keepalived(own, 0.1)
            others[peer].form()
        program, since_ms = compiled("load.c", bed.dir), now_ms()
        before = {peer: other.said(MOVED[peer]) for peer, other in others.items()}
        with ExitStack() as bad:
            for network in (lan, eager_lan, *(other.lan for other in others.values())):
                bad.callback(BadNetwork(network, "abc").close)
            for process in busy(plan.busy_nice):
                bad.callback(peers.ended, process)
            loads = [
                Load(program, cluster[x].facts_port, 1, BETWEEN_MS, netns=cluster[x].netns).start()
                for x in "abc"
            ]
            _wait(cluster, since_ms, plan)
            moves, eager_moves = (len(lines(x, "abc", STARTED, since_ms)) for x in (cluster, eager))
            ends = len(lines(cluster, "abc", LINK_ENDED, since_ms))
            moved = {peer: other.said(MOVED[peer]) for peer, other in others.items()}
            asked = [request for load in loads for request in load.stop()]
        for peer, other in others.items():
            cells[peer] = f"{moved[peer] - before[peer]}, then {_settled(other)} own"
    failed = sum(request.owner == FAILED for request in asked)
    return [
        Row(f"{what}: moves", {CHUCKY: str(moves)} | cells, "0", moves == 0),
        Row(f"{what}: links lost, counted at either end", {CHUCKY: str(ends)}),
        Row(f"{what}: failed requests", {CHUCKY: f"{failed} of {len(asked)}"}),
        Row(f"{what}: requests, ms p50/p99/max", {CHUCKY: tail(waits_ms(asked))}),
        Row(f"{what}: moves with timeout 0", {CHUCKY: str(eager_moves)}),
    ]


def _bed(end: ExitStack) -> Bed:
    bed = Bed()
    end.callback(bed.close)
    return bed


def _wait(cluster: Cluster, since_ms: int, plan: Plan) -> None:
    end_ms = since_ms + round(plan.alarm_minutes * 60_000)
    while now_ms() < end_ms:
        begun_ms = now_ms()
        at(min(end_ms, begun_ms + PROGRESS_MS))
        for ms, text in lines(cluster, "abc", f"{STARTED}|{LINK_ENDED}", begun_ms):
            print(f"alarms: {ms - since_ms} ms: {text}", file=sys.stderr)
        minutes = (now_ms() - since_ms) / 60_000
        print(f"alarms: {minutes:.1f} of {plan.alarm_minutes:g} minutes", file=sys.stderr)


def _settled(peer: PeerCluster) -> str:
    """Return who serves when the network has been good again for some time."""
    at(now_ms() + SETTLE_MS)
    return until(peer.owners, "somebody serves")
