"""The log of what the core reports: one line each, and the journal's fields."""

import logging

import pytest

from chucky.core.actions import Exit, Level, Report
from chucky.daemon_log import log_report
from chucky.messages import Epoch
from chucky.settings import Distributed, Settings
from tests.unit.cluster import Cluster, name


@pytest.fixture
def cluster() -> Cluster:
    """Two nodes, of which a owns."""
    cluster = Cluster(Settings(distributed=Distributed(timeout_ms=5000)), "ab")
    cluster.start("a", "b")
    cluster.run_until(lambda: cluster.serving == "a")
    cluster.run(1000)
    return cluster


def logged(
    caplog: pytest.LogCaptureFixture, cluster: Cluster, action: Report | Exit
) -> logging.LogRecord:
    with caplog.at_level(logging.DEBUG, logger="chucky"):
        log_report(action, cluster.snapshot("b"), "facts")
    return caplog.records[-1]


def test_a_peers_words_cannot_add_lines(caplog: pytest.LogCaptureFixture, cluster: Cluster) -> None:
    said = "timeout is 1 here and 2\nApplication is started on x@y there"
    record = logged(caplog, cluster, Report(Level.INFO, said, "config"))
    assert "\n" not in record.getMessage() and "2\\nApp" in record.getMessage()


def test_the_fields_of_a_report(caplog: pytest.LogCaptureFixture, cluster: Cluster) -> None:
    here = {"NODE": str(name("b")), "APPLICATION": "facts"}
    owned = {"OWNER": str(name("a")), "EPOCH": "1"}
    for action, level, more in [
        (Report(Level.WARNING, "s", "up", name("c")), 30, {"CAUSE": "up", "PEER": str(name("c"))}),
        (Exit(75, "s"), 40, {"CAUSE": "exit"}),
        (Exit(0, "s"), 20, {"CAUSE": "exit"}),
    ]:
        record = logged(caplog, cluster, action)
        assert (record.levelno, record.getMessage()) == (level, "s")
        assert record.journal_fields == here | owned | more
    action = Report(Level.INFO, "s", "stop", None, Epoch(7, name("b")))
    fields = logged(caplog, cluster, action).journal_fields
    assert (fields["OWNER"], fields["EPOCH"]) == (str(name("b")), "7")


def test_the_causes_of_moves(cluster: Cluster) -> None:
    def moves(short: str) -> list[tuple[str, str, int]]:
        return [
            (r.cause, r.sentence.split()[2], r.epoch.number)
            for r in cluster.reports[short]
            if r.sentence.startswith("Application") and r.epoch
        ]

    cluster.kill("a")
    cluster.run_until(lambda: cluster.serving == "b")
    cluster.start("a")
    cluster.run_until(lambda: cluster.serving == "a")
    assert moves("a") == [("start", "started", 1), ("takeover", "started", 3)]
    assert moves("b") == [("failover", "started", 2), ("handover", "exited:", 2)]
    peers = [(r.cause, r.peer) for r in cluster.reports["b"] if r.peer]
    assert peers == [("up", name("a")), ("down", name("a")), ("up", name("a"))]
