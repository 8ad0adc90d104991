"""Fixtures of the tests with real daemons; a failure prints what every daemon said."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lan.bed import Bed


@pytest.fixture
def bed() -> Iterator[Bed]:
    """A directory and its daemons; none of them may have logged an uncaught error."""
    bed = Bed()
    try:
        yield bed
    finally:
        bed.close()
    assert not bed.uncaught(), f"an uncaught error in the log of: {bed.uncaught()}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the logs to the report of a test that failed, in its body or at its end."""
    outcome = yield
    report = outcome.get_result()
    bed = getattr(item, "funcargs", {}).get("bed")
    if report.failed and isinstance(bed, Bed):
        report.sections.append(("the daemons' logs (| log, = sd_notify)", bed.logs()))
