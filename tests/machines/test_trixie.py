"""The package on Debian 13: built there, installed and started, with its newer Python, systemd and
pyroute2; and the one from Debian 12, which is meant for both."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.machines.lab import TOP, Lab, Machine, missing, until

FACTS = set((TOP / "facts.txt").read_text(encoding="utf-8").splitlines())

if reason := missing():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    try:
        lab = Lab("trixie", (TOP / "debian/control").read_text())
    except AssertionError as error:
        if "does not have a Release file" in str(error):
            pytest.skip("the mirror has no trixie")
        raise
    with lab:
        (machine,) = lab.boot("a")
        machine.run("apt-get update -q")
        yield machine


def built_here(machine: Machine) -> str:
    """Build the package on the machine and return its path there."""
    skip = shutil.ignore_patterns(".*", "__pycache__", "chucky.deb")
    shutil.copytree(TOP, machine.root / "root/built/chucky", ignore=skip)
    machine.run(
        "cd /root/built/chucky && apt-get build-dep -q -y --no-install-recommends -P nocheck ."
        " && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -us -uc -b -Pnocheck"
    )
    return machine.run("ls /root/built/chucky_*_all.deb")


def given(machine: Machine) -> str:
    """Copy the package of Debian 12 to the machine and return its path there."""
    shutil.copy(TOP / "chucky.deb", machine.root / "root")
    return "/root/chucky.deb"


@pytest.mark.parametrize("package", [given, built_here])
def test_it_serves_on_debian_13(machine: Machine, package: Callable[[Machine], str]) -> None:
    assert machine.run(". /etc/os-release; echo $VERSION_CODENAME") == "trixie"
    path = package(machine)
    machine.run(f"apt-get install -q -y {path}")
    machine.run("systemctl start chucky@a || ! journalctl -q -o cat -n 30 -u chucky@a")
    until("a fact", lambda: machine.run("nc -w 5 localhost 4040", None) in FACTS)
    assert machine.run("chucky fact") in FACTS
    machine.run("systemctl reload chucky@a")
    machine.run("systemd-analyze --threshold=15 security chucky@a")
    assert machine.run("systemctl show -P NRestarts chucky@a") == "0"
    log = machine.run("journalctl --sync && journalctl -q -o cat -u chucky@a")
    assert "Application is started on a@a" in log
    assert "Traceback" not in log and "Warning" not in log
    machine.run("apt-get purge -q -y chucky")
    assert machine.run("systemctl list-units --no-legend 'chucky@*'") == ""
