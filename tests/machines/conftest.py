"""Prints the table of what the trio went through at the end of the run, and logs of a failure."""

from typing import Any

import pytest

from tests.machines.tally import TABLE
from tests.machines.trio import Trio


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the logs to the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    trio = getattr(item, "funcargs", {}).get("trio")
    if report.failed and isinstance(trio, Trio):
        report.sections.append(("the nodes' logs", trio.journals()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if TABLE.rows:
        terminalreporter.section("three machines: gap, answers lost at live nodes, by two owners")
        for line in TABLE.lines():
            terminalreporter.write_line(line)
