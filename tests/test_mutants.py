"""The list of mutants: every bug can still be planted, and is one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, PYTEST, TOO_LONG, TREE, Mutant, failed_in, plant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_each_mutant_can_be_planted(mutant: Mutant, tmp_path: Path) -> None:
    shutil.copytree(TREE / "chucky" / "core", tmp_path / "chucky" / "core")
    plant(mutant, tmp_path)
    for module, old, _ in mutant.edits:
        path = tmp_path / "chucky" / "core" / f"{module}.py"
        compile(path.read_text(), str(path), "exec")
        assert old in (TREE / "chucky" / "core" / f"{module}.py").read_text()


def test_a_mutant_whose_place_is_gone_is_refused(tmp_path: Path) -> None:
    shutil.copytree(TREE / "chucky" / "core", tmp_path / "chucky" / "core")
    gone = Mutant("1", "gone", (("node", "no such text", ""),))
    with pytest.raises(ValueError, match="gone: 0 times in node.py: no such text"):
        plant(gone, tmp_path)


@pytest.mark.parametrize(
    "body, by", [("assert False", "test_x.py::test_it"), ("while True: pass", "which hangs")]
)
def test_a_test_that_fails_or_hangs_is_named(body: str, by: str, tmp_path: Path) -> None:
    place = tmp_path / "tests" / "test_x.py"
    place.parent.mkdir()
    place.write_text(f"def test_it():\n    {body}\n")
    quick = ["-o", "faulthandler_timeout=5", "--rootdir", str(tmp_path), str(place)]
    done = subprocess.run(
        [sys.executable, "-m", *PYTEST, *quick], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    found = failed_in(done.stdout + done.stderr)
    assert found.startswith("tests/test_x.py::test_it") and by in found
    assert failed_in("") == TOO_LONG
