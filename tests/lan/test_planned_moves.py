"""Planned moves under load: eight clients of each node, without a pause, and no request is lost."""

import pytest

from tests.lan.bed import Bed, now_ms, until
from tests.lan.cluster import ALL_MANDATORY, Cluster, loopback
from tests.lan.eye import Eye

CLIENTS = 8
MAJORITY = {"nodes": ["a@manticore", ["b@manticore", "c@manticore"]], "quorum": "majority"}


def ask(cluster: Cluster, label: str, *command: str) -> None:
    """Give a node a command that succeeds."""
    done = cluster[label].chucky(*command)
    assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.parametrize("quorum", [{}, MAJORITY], ids=["reachable", "majority"])
def test_no_request_is_lost_in_a_planned_move(bed: Bed, quorum: dict[str, object]) -> None:
    timeout = {"distributed": {"timeout": 3000, **quorum}}
    cluster = loopback(bed, ALL_MANDATORY, timeout)
    cluster.form()
    crowd = Eye(CLIENTS, period_ms=0).watch(cluster[label] for label in "abc")
    bed.at_end(crowd.close)
    until(lambda: all(crowd.facts(label) for label in "abc"), "all are asked")

    def owned_by(label: str, since_ms: int) -> None:
        """Wait until it owns, and all have a fact of that: else nobody could tell of this move."""
        until(lambda: cluster[label].status()["phase"] == "owner", f"{label} owns")
        for eye in (crowd, cluster.eye):
            eye.served_everywhere(label, "bc", since_ms)

    def move(to: str, label: str, *command: str) -> None:
        since_ms = now_ms()
        ask(cluster, label, *command)
        owned_by(to, since_ms)

    for label in "cba":
        move(label, label, "takeover")
    move("b", "a", "standby", "on")
    move("c", "b", "standby", "on")
    move("a", "a", "standby", "off")
    ask(cluster, "b", "standby", "off")
    assert not crowd.failed("abc")
    stopped_ms = now_ms()
    cluster["a"].stop()
    owned_by("b", stopped_ms)
    assert cluster["a"].exit_code() == 0
    started_ms = cluster["a"].start()
    cluster["a"].ready()
    owned_by("a", started_ms)
    crowd.close()
    cluster.eye.close()
    assert not crowd.failed("bc") and not cluster.eye.failed("bc")
    assert crowd.owners("bc") == list("acbabcaba")
    assert cluster.eye.owners("bc") == list("acbabcaba")
