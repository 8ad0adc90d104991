"""Two thousand seeds of the simulator on all cores; `make sim` runs as many as one likes."""

import os
import time

import pytest

from tests.sim import run

SEEDS = 2000


def test_swarm(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    found = list(run.outcomes(range(SEEDS), os.cpu_count() or 1))
    broken = [f"python3 -m tests.sim.run {o.seed}: {o.broken}" for o in found if o.broken]
    with capsys.disabled():
        print(f"\n{run.summary(found, time.monotonic() - began)}")
    assert not broken, "\n\n".join(broken)
