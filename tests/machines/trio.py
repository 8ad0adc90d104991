"""Three machines on one LAN, each with the package, one cookie and the chapter's config."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chucky import __version__
from chucky.errors import ChuckyError
from chucky.net.control_client import call
from tests.lan.bed import now_ms
from tests.lan.stall import Stall
from tests.machines.client import Client, Seen
from tests.machines.lab import TOP, Lab, Machine, at_once, until

LABELS = "abc"
NEWER = f"{__version__}+newer"
CONFIG, COOKIE, FACTS = "/etc/chucky/node.toml", "/etc/chucky/cookie", "/srv/facts.txt"

# The chapter's: nothing happens until all three are there. All else is as shipped.
CHAPTER = {"sync_nodes_mandatory": '["a", "b", "c"]', "file": f'"{FACTS}"'}


def newer_package(work: Path) -> Path:
    """Return a package of this source with a higher version, built in a copy of the tree."""
    copy = work / "newer"
    skip = shutil.ignore_patterns(".*", "__pycache__", "chucky.deb")
    shutil.copytree(TOP, copy, ignore=skip)
    for name, before in (("debian/changelog", "chucky ("), ("chucky/__init__.py", 'version__ = "')):
        text = (copy / name).read_text()
        assert before + __version__ in text, f"{name}: no {before}{__version__}"
        (copy / name).write_text(text.replace(before + __version__, before + NEWER, 1))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", "-s", "chucky.deb"], cwd=copy, env=environment, check=True)
    return copy / "chucky.deb"


class Trio:
    """The machines a, b and c, each with the node of its name, and the client that asks them."""

    def __init__(self, lab: Lab, package: Path) -> None:
        """Boot the machines and install the package; the nodes are enabled but not started."""
        self.lab = lab
        self.machines = dict(zip(LABELS, lab.boot(LABELS), strict=True))
        self.cookie = secrets.token_hex(32)
        at_once(lambda label: self.install(label, package), LABELS)
        at_once(self.configure, LABELS)
        self.each(lambda label: f"systemctl enable -q {unit(label)}")
        self.client = Client(lab.pid, {x: m.address for x, m in self.machines.items()})
        self.stall = Stall(lambda: [pid for label in LABELS for pid in self.pids(label)])

    def close(self) -> None:
        """Ask no more."""
        self.client.close()
        self.stall.close()

    def __getitem__(self, label: str) -> Machine:
        return self.machines[label]

    # -- the package and its files

    def install(self, label: str, package: Path) -> None:
        """Install or upgrade."""
        shutil.copy(package, self[label].root / "root/chucky.deb")
        self[label].run("apt-get update -q && apt-get install -q -y /root/chucky.deb")

    def configure(self, label: str, **keys: str) -> None:
        """Give the machine the cookie, its facts and the config, with these keys as well."""
        edits = "".join(f"s|^{k} = .*|{k} = {v}|;" for k, v in {**CHAPTER, **keys}.items())
        # Into the files that are there, so that they keep their owner and mode.
        self[label].run(
            f"[ -e /root/shipped ] || cp {CONFIG} /root/shipped; sed '{edits}' /root/shipped >"
            f" {CONFIG}; echo {self.cookie} > {COOKIE}; seq -f '{label}: fact %g' 50 > {FACTS}"
        )

    def set_cookie(self, label: str, cookie: str) -> None:
        """Give the machine another cookie."""
        self[label].run(f"echo {cookie} > {COOKIE}")

    # -- the nodes

    def start(self, labels: str) -> int:
        """Start nodes all at once, and return when the last was ready."""
        at_once(lambda label: self[label].run(f"systemctl start {unit(label)}"), labels)
        return max(self.ready_ms(label) for label in labels)

    def stop(self, labels: str) -> None:
        """Stop nodes all at once, in good order."""
        at_once(lambda label: self[label].run(f"systemctl stop {unit(label)}"), labels)

    def restart(self, label: str) -> None:
        """Stop and start a node."""
        self[label].run(f"systemctl restart {unit(label)}")

    def pids(self, label: str) -> list[int]:
        """Return the processes of a node."""
        return self[label].pids(f"system-chucky.slice/{unit(label)}.service")

    def signal(self, label: str, number: signal.Signals) -> int:
        """Send a signal to a node's daemon; return the moment just before."""
        (pid,) = self.pids(label)
        moment_ms = now_ms()
        os.kill(pid, number)
        return moment_ms

    @contextmanager
    def no_restart(self, label: str) -> Iterator[None]:
        """Have systemd leave a node that ends alone."""
        drop_in = f"/run/systemd/system/{unit(label)}.service.d"
        self[label].run(
            f"mkdir -p {drop_in} && printf '[Service]\\nRestart=no\\n' > {drop_in}/no.conf"
            " && systemctl daemon-reload"
        )
        try:
            yield
        finally:
            self[label].run(f"rm -r {drop_in}; systemctl daemon-reload")

    def show(self, label: str, key: str) -> str:
        """Return a property of the node's unit."""
        return self[label].run(f"systemctl show -P {key} {unit(label)}")

    def when_ms(self, label: str, key: str) -> int:
        """Return a moment that systemd noted; its clock is the client's."""
        return int(self.show(label, f"{key}TimestampMonotonic")) // 1000

    def ready_ms(self, label: str) -> int:
        """Return when the node was ready."""
        return self.when_ms(label, "ActiveEnter")

    def status(self, label: str) -> dict[str, Any]:
        """Return the node's status; {} when there is none to be had."""
        path = self[label].root / f"run/chucky/{label}/{label}.sock"
        try:
            return next(call(str(path), {"command": "status"}, 5.0))
        except ChuckyError:
            return {}

    def synced_ms(self, label: str) -> int:
        """Wait until the node is synced, and return when that was seen."""
        until(f"{label} is synced", lambda: self.status(label).get("synced"))
        return now_ms()

    def logs(self, label: str, pattern: str, after_ms: int) -> None:
        """Wait until its journal has a line in which the pattern is found, since then."""
        since = time.time() - (now_ms() - after_ms) / 1000
        log = f"journalctl --sync && journalctl -q -o cat -u {unit(label)} --since=@{since:.3f}"
        until(f"{label} logs {pattern}", lambda: re.search(pattern, self[label].run(log), re.M))

    # -- all of them

    def seen(self, what: str, owners: str, dead: str = "") -> Seen:
        """Return what the client sees of one scenario, as a context."""
        return Seen(self.client, what, owners, dead)

    def each(self, script: Callable[[str], str], labels: str = LABELS) -> list[str]:
        """Run a script of its own on each machine, all at once."""
        return at_once(lambda label: self[label].run(script(label)), labels)

    def stand(self) -> None:
        """Bring all back to where every scenario begins: all up, linked and synced, a the owner;
        whatever state a test left."""
        for machine in self.machines.values():
            if machine.powered:
                machine.thaw()
                machine.undrop()
                machine.plug()
            else:
                machine.power_on()
                machine.booted()
        at_once(self._mend, LABELS)
        until("all stand", lambda: all(self.stands(label) for label in LABELS))

    def _mend(self, label: str) -> None:
        for pid in self.pids(label):
            os.kill(pid, signal.SIGCONT)
        before = self[label].run(f"cat {CONFIG} {COOKIE}")
        self.configure(label)
        if self[label].run(f"cat {CONFIG} {COOKIE}") != before:
            self.restart(label)
        if self[label].run(f"systemctl is-active {unit(label)}", None) != "active":
            self.start(label)

    def linked(self, label: str) -> bool:
        """Whether the node is up, synced and linked to all others."""
        status = self.status(label)
        up = sum(node["state"] in ("up", "self") for node in status.get("nodes", ()))
        return up == len(LABELS) and bool(status["synced"])

    def stands(self, label: str) -> bool:
        """Whether it is, and knows a as the owner."""
        return self.linked(label) and self.status(label).get("owner") == full("a")

    def journals(self) -> str:
        """Return what every node logged."""
        lines = []
        for label, machine in self.machines.items():
            try:
                log = machine.run(f"journalctl -q -o short-monotonic -u {unit(label)}", None)
            except (AssertionError, subprocess.SubprocessError) as error:
                log = str(error)
            lines += [f"--- {label}", log]
        return "\n".join(lines)


def unit(label: str) -> str:
    """Return the unit of a node."""
    return f"chucky@{label}"


def full(label: str) -> str:
    """Return the full name of a node: its machine has the same one."""
    return f"{label}@{label}"
