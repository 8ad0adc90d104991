"""The list of mutants: every bug can still be planted, and is one."""

import shutil
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, TREE, Mutant, plant


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
