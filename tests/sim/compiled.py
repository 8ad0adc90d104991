"""Compiles the core, the codec and the simulator: `python3 -m tests.sim.compiled DIRECTORY`.

The copy in DIRECTORY takes the same steps in half the time. mypyc, which comes with mypy, makes C
of the modules that seeds spend their time in; all else is as it was (docs/decisions/0026).
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("chucky/core", "chucky/wire", "tests/sim")
UNABLE = {"connects", "handshake"}  # as mypyc 2.4 is
AS_THEY_ARE = {"__init__", "compiled", "run"} | UNABLE
OF_THE_WALK = {"inside", "judge", "move", "parts", "small", "walk"}


def missing() -> str:
    """Return what is missing to compile, or ""."""
    if shutil.which("gcc") is None:
        return "gcc"
    return "" if Path(sysconfig.get_path("include"), "Python.h").exists() else "Python.h"


def compile_in(directory: Path) -> None:
    """Copy the project there and compile. Raises SystemExit when that fails."""
    from mypyc.build import mypycify
    from setuptools import setup

    shutil.rmtree(directory, ignore_errors=True)
    for place in ("chucky", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / place, directory / place, ignore=ignored)
    os.chdir(directory)
    found = [path for place in PLACES for path in sorted(Path(place).glob("*.py"))]
    paths = [str(p) for p in found if p.stem not in AS_THEY_ARE | OF_THE_WALK]
    modules = mypycify(paths, opt_level="1", debug_level="0", multi_file=True)
    setup(name="sim", packages=[], ext_modules=modules, script_args=["-q", "build_ext", "-i"])


if __name__ == "__main__":
    if missing():
        sys.exit(f"not compiled: {missing()} is missing: sudo apt-get install gcc python3-dev")
    compile_in(Path(sys.argv[1]).absolute())
