"""Three nodes of a peer on a LAN of namespaces: Elixir with the chapter's config, and keepalived.

A client on a fourth machine of that LAN asks wherever a fact may be had.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from time import monotonic_ns
from typing import NamedTuple

from bench import peers
from bench.facts import write_facts
from bench.load import Load, answered, compiled, gap_ms, inside
from bench.table import MISSING, tail
from tests.lan.bed import Bed, at, now_ms, until
from tests.lan.lan import Lan
from tests.lan.lan import missing as no_lan

PORT = 4040
CLIENT = "d"  # the fourth machine
SETTLE_MS = 200
CUT = 0  # in the place of a signal: the cable
LIMIT_MS = 250  # of a request: who serves now does not know of one that a frozen node accepted
LOST_MS = 15_000  # after so long nobody will serve any more

_VIRTUAL = "10.77.0.100"
_DISTRIBUTED = """\
[{{kernel, [{{distributed, [{{chucky, {timeout_ms}, ['{a}', {{'{b}', '{c}'}}]}}]}},
           {{sync_nodes_mandatory, ['{others}']}}, {{sync_nodes_timeout, 30000}},
           {{net_ticktime, 1}}]}}].
"""
_KEEPALIVED = """\
vrrp_instance chucky {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 64
    priority {priority}
    advert_int {advert_s}
    virtual_ipaddress {{
        {virtual}/24
    }}
}}
"""
_PRIORITIES = {"a": 200, "b": 150, "c": 100}


class PeerCluster:
    """Nodes a, b and c, of which a is the best; each answers with its own facts."""

    # One request a ms. A client that lost its node may wait for a second (the kernel repeats its
    # SYN), and must not keep the others from asking.
    clients, pause_ms = 500, 500

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.lan = Lan(bed, "abc" + CLIENT, ipv6=False)
        self._load = compiled("load.c", bed.dir)
        self._running: dict[str, list[subprocess.Popen[bytes]]] = {}
        for label in "abc":
            write_facts(self.facts(label), label)

    def facts(self, label: str) -> Path:
        """Return the node's facts file."""
        return self.bed.dir / f"{label}.txt"

    def hosts(self) -> list[str]:
        """Return where a client asks."""
        return [self.lan.address(label) for label in "abc"]

    def start(self, label: str) -> None:
        """Start a node."""
        raise NotImplementedError

    def form(self) -> None:
        """Start all and wait until a serves."""
        for label in "abc":
            self.start(label)
        until(lambda: self.owners() == "a", "a alone serves")

    def owners(self) -> str:
        """Ask everywhere for a moment; return the letters of those that answer."""
        loads = [self._asking(host, 1, 10) for host in self.hosts()]
        at(now_ms() + 50)
        found = {x.owner for load in loads for x in answered(load.stop(give_up=True))}
        return "".join(sorted(found))

    def lose(self, fault: int) -> float:
        """Send the owner a this signal, or CUT its cable; return the gap in ms, AssertionError if
        nobody takes over."""

        def act() -> None:
            if fault == CUT:
                self.lan.cut("a")
            else:
                self.signal("a", fault)

        gap = self._gap(act, "bc")
        if fault in (CUT, SIGSTOP):  # Elixir's nodes do not look for each other again
            self.signal("a", SIGKILL)
        return gap

    def come_back(self) -> float:
        """Plug a in and start it again; return the gap in ms, AssertionError if a does not serve
        again, alone."""
        self.lan.heal("a")
        for process in self._running["a"]:
            process.wait()
        return self._gap(lambda: self.start("a"), "a")

    def _gap(self, act: Callable[[], None], new: str) -> float:
        """Do this while clients ask; return the longest time without an answer until one of the new
        ones alone serves."""
        loads = [self._asking(host, self.clients, self.pause_ms) for host in self.hosts()]
        at(now_ms() + SETTLE_MS)
        fault_us = monotonic_ns() // 1000
        act()
        try:
            until(lambda: self.owners() in tuple(new), f"one of {new} serves", LOST_MS)
            at(now_ms() + SETTLE_MS)
        finally:
            asked = [request for load in loads for request in load.stop(give_up=True)]
        return gap_ms(asked, fault_us)

    def signal(self, label: str, number: int) -> None:
        """Send a node's processes this signal, each before those that it would start anew."""
        for pid in self.pids(label):
            with suppress(ProcessLookupError):  # it went with its parent
                os.kill(pid, number)

    def said(self, pattern: str) -> int:
        """Return how many lines of the nodes' logs the pattern is found in."""
        text = "".join((self.bed.dir / f"{x}.log").read_text(errors="replace") for x in "abc")
        return len(re.findall(pattern, text))

    def pids(self, label: str) -> list[int]:
        """Return the processes of a node."""
        mine = [process.pid for process in self._running[label]]
        return mine + [child for pid in mine for child in _children(pid)]

    def run(
        self, label: str, command: Sequence[str], env: Mapping[str, str] | None = None,
        *, stays: bool = False,
    ) -> None:  # fmt: skip
        """Start a program on a machine; it is of the node, unless it stays when the node ends."""
        process = peers.started(
            self.bed, [*inside(self.lan.netns(label)), *command], env=env, log=f"{label}.log"
        )
        if not stays:
            self._running.setdefault(label, []).append(process)

    def _asking(self, host: str, clients: int, pause_ms: int) -> Load:
        netns = self.lan.netns(CLIENT)
        load = Load(self._load, PORT, clients, pause_ms, limit_ms=LIMIT_MS, host=host, netns=netns)
        return load.start()


class Elixir(PeerCluster):
    """The chapter's, with the lowest net_ticktime."""

    def __init__(self, bed: Bed, timeout_ms: int) -> None:
        super().__init__(bed)
        self._timeout_ms = timeout_ms
        self._command = peers.elixir(bed)
        for label in "abc":
            self.run(label, ["epmd"], stays=True)

    def start(self, label: str) -> None:
        """Start a node."""
        self._running[label] = []
        names = {x: f"{x}@{self.lan.address(x)}" for x in "abc"}
        config = self.bed.dir / label
        config.with_suffix(".config").write_text(_DISTRIBUTED.format(
            timeout_ms=self._timeout_ms, others="','".join(set(names.values()) - {names[label]}),
            **names,
        ))  # fmt: skip
        distributed = ["--name", names[label], "--cookie", "bench"]
        erl = ["--erl", f"-config {config} -start_epmd false"]
        env = {"CHUCKY_PORT": str(PORT), "CHUCKY_FACTS": str(self.facts(label))}
        self.run(label, [*self._command, *distributed, *erl], env)


class Keepalived(PeerCluster):
    """A virtual address for a C server on each machine; both are one node."""

    def __init__(self, bed: Bed, advert_s: float) -> None:
        super().__init__(bed)
        self._advert_s = advert_s
        self._serve = compiled("serve.c", bed.dir)

    def hosts(self) -> list[str]:
        """Return where a client asks."""
        return [_VIRTUAL]

    def start(self, label: str) -> None:
        """Start a node."""
        self._running[label] = []
        config = self.bed.dir / f"{label}.conf"
        config.write_text(_KEEPALIVED.format(
            priority=_PRIORITIES[label], advert_s=self._advert_s, virtual=_VIRTUAL,
        ))  # fmt: skip
        pid_files = []
        for kind in ("pid", "vrrp_pid"):
            pid_file = self.bed.dir / f"{label}.{kind}"
            pid_file.unlink(missing_ok=True)  # one that was killed leaves it
            pid_files.append(f"--{kind}={pid_file}")
        self.run(label, [str(self._serve), "0.0.0.0", str(PORT), str(self.facts(label))])
        self.run(label, [peers.KEEPALIVED_PROGRAM, "-n", "-l", "-P", "-f", str(config), *pid_files])


class Gaps(NamedTuple):
    """How long nobody answered when the owner was lost, and when it came back, in ms each."""

    lost: list[float]
    returned: list[float]


def gaps(make: Callable[[Bed], PeerCluster], moves: int, fault: int) -> tuple[str, str]:
    """Let the owner be lost so and return, so often; return the cells that tell the gaps.

    When a move came to nobody, or a did not get it back, all start anew, since nobody would serve
    for ever; "never" counts those.
    """
    seen, never = Gaps([], []), 0
    while len(seen.lost) + never < moves:
        bed = Bed()
        try:
            _repeated(make(bed), moves - never, fault, seen)
        except AssertionError as error:
            print(f"gaps: {error}", file=sys.stderr)
            never += 1
        finally:
            bed.close()
    lost, returned = (tail(found, 1) if found else "none seen" for found in seen)
    return lost + f", {never} never" * bool(never), returned


def _repeated(cluster: PeerCluster, most: int, fault: int, seen: Gaps) -> None:
    """Add to the gaps seen until there are so many; AssertionError when one does not end."""
    cluster.form()
    while len(seen.lost) < most:
        gap = cluster.lose(fault)
        seen.returned.append(cluster.come_back())
        seen.lost.append(gap)
        print(f"gaps: {type(cluster).__name__}: {len(seen.lost)} of {most}", file=sys.stderr)


def unmeasured(peer: str) -> str:
    """Return why a peer cannot be measured, or ""."""
    if peer in peers.missing():
        return MISSING
    return no_lan()


def _children(pid: int) -> list[int]:
    with suppress(OSError):  # it is gone
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
