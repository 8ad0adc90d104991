"""Planned moves under load: eight clients of each node, without a pause, and no request is lost."""

import pytest

from tests.lan.bed import Bed, until
from tests.lan.cluster import ALL_MANDATORY, Cluster, loopback
from tests.lan.eye import Eye

CLIENTS = 8
MAJORITY = {"nodes": ["a@manticore", ["b@manticore", "c@manticore"]], "quorum": "majority"}


def ask(cluster: Cluster, label: str, *command: str) -> None:
    """Give a node a command that succeeds."""
    done = cluster[label].chucky(*command)
    assert (done.returncode, done.stderr) == (0, ""), command


def owns(cluster: Cluster, label: str) -> None:
    until(lambda: cluster[label].status()["phase"] == "owner", f"{label} owns")


@pytest.mark.parametrize("quorum", [{}, MAJORITY], ids=["reachable", "majority"])
def test_no_request_is_lost_in_a_planned_move(bed: Bed, quorum: dict[str, object]) -> None:
    timeout = {"distributed": {"timeout": 3000, **quorum}}
    cluster = loopback(bed, ALL_MANDATORY, timeout)
    cluster.form()
    crowd = Eye(CLIENTS, period_ms=0).watch(cluster[label] for label in "abc")
    bed.at_end(crowd.close)
    until(lambda: all(crowd.facts(label) for label in "abc"), "all are asked")
    for label in "cba":
        ask(cluster, label, "takeover")
        owns(cluster, label)
    ask(cluster, "a", "standby", "on")  # to b
    owns(cluster, "b")
    ask(cluster, "b", "standby", "on")
    owns(cluster, "c")
    ask(cluster, "a", "standby", "off")
    owns(cluster, "a")
    ask(cluster, "b", "standby", "off")
    assert not crowd.failed("abc")
    cluster["a"].stop()
    owns(cluster, "b")
    assert cluster["a"].exit_code() == 0
    cluster["a"].start()
    cluster["a"].ready()
    owns(cluster, "a")
    crowd.close()
    cluster.eye.close()
    assert not crowd.failed("bc") and not cluster.eye.failed("bc")
    assert crowd.owners("bc") == list("acbabcaba")
    assert cluster.eye.owners("bc") == list("acbabcaba")
