"""Clients that ask a fact port over and over (load.c), and what became of their requests."""

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM

from chucky.demo_nodes import dying_with_us

HERE = Path(__file__).resolve().parent
FAILED = "!"
OPEN_LIMIT_S = 20  # load.c's own 15 s for what is open at its end, and its printing


@dataclass(frozen=True, slots=True)
class Request:
    """When it was made, when it ended, the first letter of the fact or FAILED."""

    began_us: int
    ended_us: int
    owner: str


def compiled(source: str, into: Path) -> Path:
    """Return the program made of this C file."""
    program = into / source.removesuffix(".c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", program, HERE / source], check=True)
    return program


def pinned(core: int | None) -> list[str]:
    """Return what to put before a command to keep it on a core."""
    return [] if core is None else ["taskset", "-c", str(core)]


def inside(netns: str) -> list[str]:
    """Return what to put before a command to run it in a network namespace."""
    return ["ip", "netns", "exec", netns] if netns else []


@dataclass(slots=True)
class Load:
    """So many clients of one port, each with one request open at a time and a pause between."""

    program: Path
    port: int
    clients: int = 1
    pause_ms: int = 0
    seconds: float = 3600
    limit_ms: int = 60_000  # a request open for so long is given up as failed
    host: str = "127.0.0.1"
    netns: str = ""
    core: int | None = None
    _process: "subprocess.Popen[str]" = field(init=False)

    def start(self) -> "Load":
        """Begin; the first requests are being made when this returns."""
        numbers = (self.port, self.clients, self.pause_ms, self.seconds, self.limit_ms)
        command = [
            *inside(self.netns), *pinned(self.core), *dying_with_us(), str(self.program), self.host,
            *map(str, numbers),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert first == "begun\n", f"{self.program} said {first!r}"
        return self

    def stop(self, *, give_up: bool = False) -> list[Request]:
        """Ask no more, let what is open end or give it up as failed, and return all."""
        self._process.send_signal(SIGINT if give_up else SIGTERM)
        return self.wait()

    def wait(self) -> list[Request]:
        """Return all when its seconds are over."""
        out, _ = self._process.communicate(timeout=self.seconds + OPEN_LIMIT_S)
        assert self._process.returncode == 0, f"{self.program}: {self._process.returncode}"
        return [Request(int(a), int(b), c) for a, b, c in map(str.split, out.splitlines())]


def rate(requests: Sequence[Request], warm_up_s: float, for_s: float) -> float:
    """Return the facts a second in the time after the warm-up. None may have failed."""
    from_us = requests[0].began_us + warm_up_s * 1e6
    counted = [x for x in requests if from_us <= x.ended_us < from_us + for_s * 1e6]
    failed = len(counted) - len(answered(counted))
    assert not failed, f"{failed} of {len(counted)} requests failed"
    return len(counted) / for_s


def answered(requests: Iterable[Request]) -> list[Request]:
    """Return those that got a fact."""
    return [x for x in requests if x.owner != FAILED]


def gap_ms(requests: Iterable[Request], after_us: int) -> float:
    """Return the longest time without an answer that ended after this moment: from the first
    request made to the end of the last one."""
    every = list(requests)
    moments = sorted([
        *(x.ended_us for x in answered(every)),
        min((x.began_us for x in every), default=0), max((x.ended_us for x in every), default=0),
    ])  # fmt: skip
    pairs = zip(moments, moments[1:], strict=False)
    return max((b - a for a, b in pairs if b >= after_us), default=0) / 1000


def waits_ms(requests: Iterable[Request]) -> list[float]:
    """Return how long each waited that got a fact."""
    return [(x.ended_us - x.began_us) / 1000 for x in answered(requests)]


def overlapping(requests: Sequence[Request], old: str, new: str) -> int:
    """Return how many requests the old owner answered that were made after the new one's first."""
    first_us = min((x.ended_us for x in requests if x.owner == new), default=None)
    if first_us is None:
        return 0
    return sum(x.owner == old and x.began_us > first_us for x in requests)
