"""Two thousand seeds of the simulator on all cores; `make sim` runs as many as one likes.

They run compiled where gcc is: that takes half the time, and the same steps, as is seen here too.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import compiled

SEEDS = 2000
ALIKE = 40  # seeds that are run both ways


def run(at: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=at, capture_output=True, text=True)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiled.missing():
        return compiled.ROOT
    directory = tmp_path_factory.mktemp("compiled")
    made = run(compiled.ROOT, "tests.sim.compiled", str(directory))
    assert made.returncode == 0, made.stdout + made.stderr
    return directory


def test_swarm(fast: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = run(fast, "tests.sim.run", "--seeds", f"{SEEDS}")
    with capsys.disabled():
        print("\n" + "".join(seeds.stdout.splitlines(keepends=True)[-2:]))
    assert seeds.returncode == 0, seeds.stdout + seeds.stderr


def test_compiled_code_takes_the_same_steps(fast: Path) -> None:
    if fast == compiled.ROOT:
        pytest.skip(f"not compiled: {compiled.missing()} is missing")
    assert list(fast.glob("chucky/core/node.*.so"))
    command = ("tests.sim.run", "--digests", "--seeds", f"{ALIKE}")
    there, here = run(fast, *command), run(compiled.ROOT, *command)
    assert len(here.stdout.splitlines()) == ALIKE, here.stderr
    assert there.stdout == here.stdout, there.stderr
