"""Two thousand seeds of the simulator on all cores; `make sim` runs as many as one likes."""

import os
import time

import pytest

from tests.sim import run

SEEDS = 2000


def test_swarm(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    outcomes = run.outcomes(range(SEEDS), os.cpu_count() or 1)
    broken = [f"python3 -m tests.sim.run {seed}: {what}" for seed, what in outcomes if what]
    with capsys.disabled():
        print(f"\n{run.summary(SEEDS, len(broken), time.monotonic() - began)}")
    assert not broken, "\n\n".join(broken)
