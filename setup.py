"""Packs Chucky: modules, two commands and what they depend on. No network, no setup_requires."""

import re
from pathlib import Path

from setuptools import find_packages, setup

INIT = Path(__file__).with_name("chucky") / "__init__.py"
VERSION = re.search(r'^__version__ = "(.+)"$', INIT.read_text(encoding="utf-8"), re.M)
if VERSION is None:
    raise SystemExit(f'{INIT}: no line __version__ = "..."')

setup(
    name="chucky",
    version=VERSION[1],
    description="Erlang/OTP distributed applications: one service on exactly one machine of a LAN",
    license="MIT",
    packages=find_packages(include=["chucky", "chucky.*"]),
    # Not console_scripts: those look their distribution up at each start, 23 ms and 3 MiB.
    scripts=["debian/bin/chucky", "debian/bin/chuckyd"],
    python_requires=">=3.11",
    install_requires=["sdnotify", "pyroute2", "tomli"],
)
