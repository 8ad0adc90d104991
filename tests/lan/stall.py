"""How much the machine itself was late: what a test adds to a promised time, and not a ms more.

A promise says what a node does with a processor, not how soon the machine gives it one. The kernel
counts for each thread how long it was ready to run and had to wait for one (proc(5), schedstat),
and for the machine how long its host ran something else on them ("steal"). Added up over the nodes
and the client in the time in question, that is the most that a busy machine can have cost. It is
some ms on an idle one, so a node that is late by itself is found wherever the tests run.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable

from chucky.demo_nodes import waited_ns
from tests.lan.bed import now_ms

PERIOD_MS = 10


class Stall:
    """The waits of this process and of others, sampled all the time until `close`."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._waited: dict[int, int] = {}  # of threads that ended too
        self._samples = [(now_ms(), self._total_ms())]
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._run, daemon=True)
        self._sampler.start()

    def close(self) -> None:
        """Sample no more."""
        self._closed.set()

    def during_ms(self, from_ms: int, to_ms: int) -> int:
        """Return what was waited in this time, which is over: from sample to sample around it."""
        while self._samples[-1][0] < to_ms and self._sampler.is_alive():
            time.sleep(PERIOD_MS / 1000)
        samples = list(self._samples)
        before = [total for ms, total in samples if ms <= from_ms] or [samples[0][1]]
        after = [total for ms, total in samples if ms >= to_ms] or [samples[-1][1]]
        return round(after[0] - before[-1])

    def assert_by(self, limit_ms: int, moment_ms: int, since_ms: int) -> None:
        """The moment is no later than the limit and the machine's own lateness since then."""
        late_ms, stall_ms = moment_ms - limit_ms, self.during_ms(since_ms, moment_ms)
        assert late_ms <= stall_ms, (
            f"{late_ms} ms late, and in the {moment_ms - since_ms} ms before that the nodes and the"
            f" client waited for a processor for {stall_ms} ms only"
        )

    def assert_from(self, limit_ms: int, moment_ms: int, since_ms: int, until_ms: int) -> None:
        """The moment is no earlier than the limit, less what the machine itself was late in that
        time: with the last sign of a node, from which the limit counts."""
        early_ms, stall_ms = limit_ms - moment_ms, self.during_ms(since_ms, until_ms)
        assert early_ms <= stall_ms, (
            f"{early_ms} ms early, and in the {until_ms - since_ms} ms of its last sign the nodes"
            f" and the client waited for a processor for {stall_ms} ms only"
        )

    def _total_ms(self) -> float:
        self._waited |= waited_ns(os.getpid(), *self._pids())
        return sum(self._waited.values()) / 1_000_000

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_MS / 1000):
            ms = now_ms()
            self._samples.append((ms, self._total_ms()))
