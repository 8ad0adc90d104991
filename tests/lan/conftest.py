"""Fixtures of the tests with real daemons; a failure prints what every daemon said and is at."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from chucky.net.control_client import call
from tests.lan.bed import Bed, Daemon


@pytest.fixture
def bed() -> Iterator[Bed]:
    """A directory and its daemons; none of them may have logged an uncaught error."""
    bed = Bed()
    try:
        yield bed
    finally:
        bed.close()
    assert not bed.uncaught(), f"an uncaught error in the log of: {bed.uncaught()}"


def state(daemon: Daemon) -> str:
    """Return what a daemon says of itself now, and the connections of its fact port: they tell a
    client that nobody lets in from one that waits for its fact. Whatever fails is told instead."""
    port = daemon.facts_port
    ss = ["ss", "-tano", "exclude", "time-wait", f"( sport = :{port} or dport = :{port} )"]
    inside = ["ip", "netns", "exec", daemon.netns] if daemon.netns else []
    told = [daemon.label]
    try:
        told.append(next(call(str(daemon.control), {"command": "status"}, 1))["sentence"])
    except Exception as error:
        told.append(repr(error))
    try:
        told.append(subprocess.run([*inside, *ss], capture_output=True, text=True).stdout)
    except OSError as error:
        told.append(repr(error))
    return "\n".join(told)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the logs to the report of a test that failed, in its body or at its end."""
    outcome = yield
    report = outcome.get_result()
    bed = getattr(item, "funcargs", {}).get("bed")
    if report.failed and isinstance(bed, Bed):
        living = "\n".join(state(daemon) for daemon in bed.daemons if daemon.alive)
        report.sections.append(("the daemons that live", living))
        report.sections.append(("the daemons' logs (| log, = sd_notify)", bed.logs()))
