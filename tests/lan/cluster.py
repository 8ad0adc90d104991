"""Three (or more) daemons that make one cluster: on loopback without root, or on a Lan."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lan.bed import HOST, Bed, Config, Daemon, Line, merged, now_ms, until
from tests.lan.eye import Eye
from tests.lan.lan import Lan
from tests.lan.stall import Stall

CHAPTER_NODES = ["a", ["b", "c"]]
TIMEOUT_MS, TICK_MS = 1000, 100
TICK_TIME_MS = 4 * TICK_MS

# What the promises allow on top of the timeout (L1), and after a heal (L5, S1).
FAILOVER_MARGIN_MS = 100
HEAL_MS = 500

# From READY to the first fact of a node that comes back (L3): it looks for 200 ms and to the end
# of each handshake begun, is then synced, and has 500 ms. The rest is one restart of the look by
# an interface.
RETURN_MS = 200 + TICK_TIME_MS + 500 + 200

QUICK: Config = {
    "distributed": {"nodes": CHAPTER_NODES, "timeout": TIMEOUT_MS},
    "node": {"tick": TICK_MS},
}

# The chapter's: "nothing happens until c is started".
ALL_MANDATORY: Config = {
    "distributed": {"sync_nodes_mandatory": ["a", "b", "c"], "sync_nodes_timeout": 30000}
}


class Cluster:
    """Daemons by label, an eye on each that was started, and the machine's own lateness."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.eye = Eye()
        bed.at_end(self.eye.close)
        self._daemons: dict[str, Daemon] = {}
        self.stall = Stall(lambda: [daemon.pid for daemon in [*self._daemons.values()]])
        bed.at_end(self.stall.close)
        self._watched: set[str] = set()

    def __getitem__(self, label: str) -> Daemon:
        return self._daemons[label]

    def add(self, daemon: Daemon) -> Daemon:
        """Make it one of the cluster."""
        self._daemons[daemon.label] = daemon
        return daemon

    def start(self, labels: str) -> None:
        """Start these at once and ask each from the moment it is ready on."""
        for label in labels:
            self[label].start()
        for label in labels:
            self[label].ready()
        new = [label for label in labels if label not in self._watched]
        self._watched |= set(new)
        self.eye.watch(self[label] for label in new)

    def form(self, labels: str = "abc", owner: str = "a") -> None:
        """Start these, and wait until each has a link to each and answers with the owner's facts.

        What was answered before that is forgotten: without sync lists a node that starts first
        may own the application for a moment, and on a busy machine one that hears nobody.
        """
        self.start(labels)
        self.meet(labels)
        for label in labels:
            until(
                lambda: self[label].status()["phase"] in ("owner", "standby"),
                f"{label} has looked around and is synced",
            )
        self.eye.served_everywhere(owner, labels)
        self.eye.since_ms = now_ms()
        self.eye.served_everywhere(owner, labels)

    def moves(self) -> list[Line]:
        """Return the log lines of failovers and takeovers since it was formed."""
        daemons, moved = self._daemons.values(), "failing over|taking over"
        return [line for x in daemons for line in x.log.find(moved, self.eye.since_ms)]

    def meet(self, labels: str) -> None:
        """Wait until each of these has a link to each other of them."""
        for label in labels:
            others = {str(self[other]) for other in labels if other != label}
            until(
                lambda: others <= set(self[label].nodes()),
                f"{label} has links to {', '.join(sorted(others))}",
            )


def loopback(
    bed: Bed, *configs: Config, labels: Sequence[str] = "abc",
    each: Callable[[str], Config] | None = None,
    cookies: dict[str, Path] | None = None, host: str = HOST,
) -> Cluster:  # fmt: skip
    """Return a cluster on 127.0.0.1 that finds itself by `peers` alone; nothing leaves the host.

    `each` gives what is one node's own; `cookies` the cookie of those that have another.
    """
    cluster = Cluster(bed)
    # A node tries its link port and the nine above it, so each has its own row of them.
    ports = {label: bed.ports() for label in labels}
    everywhere: Config = {
        # The shipped tick: a busy machine may keep a node silent for longer than 400 ms, and what
        # happens on loopback, where no cable is pulled, is not about silence.
        "node": {"listen": "127.0.0.1", "tick": 250},
        "discovery": {
            "group": "", "group6": "", "port": ports[labels[0]][10],
            "peers": [f"127.0.0.1:{ports[label][0]}" for label in labels],
        },
        "facts": {"listen": "127.0.0.1"},
    }  # fmt: skip
    for label in labels:
        own: Config = {"node": {"port": ports[label][0]}, "facts": {"port": ports[label][11]}}
        config = merged(QUICK, everywhere, own, *configs, each(label) if each else {})
        cookie = (cookies or {}).get(label)
        cluster.add(bed.daemon(label[0], config, cookie, host=host, label=label))
    return cluster


def one_file(bed: Bed, *configs: Config) -> Cluster:
    """Return a cluster on loopback whose nodes all have one config, as three nodes on one machine
    have: one port for each purpose, found by multicast, in a group of its own."""
    cluster = Cluster(bed)
    ports = bed.ports()
    group = ".".join(["239.192", *(str(random.randrange(1, 255)) for _ in range(2))])
    everywhere: Config = {
        "node": {"listen": "127.0.0.1", "port": ports[0], "tick": 250},
        "discovery": {
            "group": group, "group6": "", "port": ports[10], "interfaces": ["lo"],
        },
        "facts": {"listen": "127.0.0.1", "port": ports[11]},
    }  # fmt: skip
    for label in "abc":
        cluster.add(bed.daemon(label, merged(QUICK, everywhere, *configs)))
    return cluster


def on_lan(bed: Bed, lan: Lan, *configs: Config, labels: str = "abc") -> Cluster:
    """Return a cluster with one node in each namespace, on the shipped ports and groups."""
    cluster = Cluster(bed)
    for label in labels:
        config = merged(QUICK, *configs)
        cluster.add(bed.daemon(label, config, host=f"{HOST}-{label}", netns=lan.netns(label)))
    return cluster
