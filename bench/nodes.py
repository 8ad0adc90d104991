"""Chucky's own nodes as the parts of the bench use them: formed, and asked by nobody else."""

from chucky.settings import Settings
from tests.lan.bed import Config, Line
from tests.lan.cluster import Cluster

SHIPPED: Config = {
    "distributed": {"timeout": Settings().distributed.timeout_ms},
    "node": {"tick": Settings().node.tick_ms},
}
STARTED = "Application is started on"


def formed(cluster: Cluster, labels: str = "abc") -> Cluster:
    """Form it and stop all watching of it, which costs time that is to be measured."""
    cluster.form(labels)
    cluster.eye.close()
    cluster.stall.close()
    return cluster


def lines(cluster: Cluster, labels: str, pattern: str, since_ms: int) -> list[Line]:
    """Return the lines since then of all these nodes in which the pattern is found, in order."""
    return sorted(line for x in labels for line in cluster[x].log.find(pattern, since_ms))
