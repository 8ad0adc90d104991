"""chucky demo: three nodes on loopback, a kill, a failover, a return, a takeover, as a timeline.

Clients ask every node throughout, and each promise is checked as it is told: the demo ends with 0
only when all of them were kept.
"""

import asyncio
import contextlib
import functools
import os
import signal
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chucky import cookie, files
from chucky.daemon_alarm import clock_ms
from chucky.demo_nodes import Node, Request, config, waited_ns
from chucky.errors import ChuckyError

# The promises, in milliseconds: a failover takes the timeout, and at most LATE_MS more; a better
# node that comes back serves at most RETURN_MS after it knows the cluster.
TIMEOUT_MS = 5000
LATE_MS = 100
RETURN_MS = 500

PAUSE_MS = 1000  # between steps, so that what they show can be watched
# For what has no promised time, as the start of a process on a busy machine.
PATIENCE_MS = 10_000
# It takes 17 s. This leaves room for a slow machine, and for the end of everything within 40 s.
LIMIT_MS = 35_000
_POLL_S = 0.005

_OPENING = """\
Three nodes a, b and c on this machine: a is the best, b and c come next.
Clients ask every node for a fact, ten times a second, all the time."""

T = TypeVar("T")


class _Broken(ChuckyError):
    """Something was not as promised."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not as promised: {what}")


def demo() -> int:
    """Tell the timeline on stdout; return 0, or 128 + its number when a signal ended it.

    Raises ChuckyError with one sentence when something was not as promised. Whatever happens, no
    process and no file is left.
    """
    return asyncio.run(_until_a_signal())


async def _until_a_signal() -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[int] = []

    def stop(number: int) -> None:
        if not came:  # once: the cleaning up is not for cancelling
            came.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, stop, number)
    with contextlib.ExitStack() as stack:
        try:
            directory = tempfile.TemporaryDirectory(prefix="chucky-demo-")
            story = _Story(Path(stack.enter_context(directory)))
        except OSError as error:
            files.raise_passing("the demo", error)
            trouble = error.strerror or str(error)
            raise ChuckyError(
                f"no place for the demo's files: {trouble}; set TMPDIR to a folder with room"
            ) from None
        try:
            async with asyncio.timeout(LIMIT_MS / 1000):
                await story.tell()
        except TimeoutError:
            raise _Broken(f"it did not end within {LIMIT_MS:,} ms") from None
        except asyncio.CancelledError:
            if not came:
                raise
            return 128 + came[0]
        finally:
            story.close()
    return 0


class _Story:
    """The steps of the timeline; `close` ends every node."""

    def __init__(self, directory: Path) -> None:
        self._began_ms = clock_ms()
        self._failures: list[str] = []
        cookie.make(str(directory / "cookie"))
        os.chmod(directory / "cookie", 0o400)
        text = config(TIMEOUT_MS)
        self._nodes = [Node(name, directory, text, self._failures.append) for name in "abc"]

    def close(self) -> None:
        """End every node."""
        for node in self._nodes:
            node.close()

    async def tell(self) -> None:
        """Live through it all. Raises ChuckyError."""
        a, b, c = self._nodes
        print(_OPENING, flush=True)
        await self._two_of_three(a, b)
        await self._third(a, c)
        await self._failover(a, b)
        await self._failover(b, c)
        await self._takeover(a, c)
        await self._planned_stop(a, c)
        await c.leave_alone()
        self._check()
        count = len(self._requests_since(0))
        self._step(f"all as promised: {count} requests to nodes that were up, {count} facts")

    # The steps.

    async def _two_of_three(self, a: Node, b: Node) -> None:
        """Nothing is served before the third is there."""
        self._step(f"start {a.name} and {b.name}")
        await self._start(a, b)
        await _pause()
        self._show_status(a, b)
        waiting = self._requests_since(0)
        early = any(request.answered_ms is not None for request in waiting)
        _promise(not early, "a fact was served with only two of three nodes up")
        self._say(f"{len(waiting)} requests wait, none is answered yet")

    async def _third(self, a: Node, c: Node) -> None:
        """The last one comes, the best one owns, and each node answers."""
        waiting = self._requests_since(0)
        self._step(f"start {c.name}")
        await self._start(c)
        await self._logged(0, (a, f"Application is started on {a}"))
        await self._answered(waiting)
        self._say(f"the {len(waiting)} requests that waited have their facts")
        for node in self._nodes:
            await self._owned_by(a)
            request = await node.ask()
            await self._owned_by(a)
            self._say(f"{node.name} is asked, {a.name} answers:")
            print(textwrap.indent(textwrap.fill(request.fact, 66), 13 * " "), flush=True)

    async def _failover(self, lost: Node, heir: Node) -> None:
        """kill -9: the next one serves when the timeout is over, and no request is lost."""
        await _pause()
        await lost.leave_alone()
        self._step(f"kill -9 {lost.name}, the owner")
        killed_ms = lost.signal(signal.SIGKILL)
        lost.reap()
        gone_ms = clock_ms()
        await _pause()
        self._show_status(heir)
        await asyncio.sleep((killed_ms + TIMEOUT_MS - clock_ms()) / 1000)
        stall_before_ms = self._stall_ms()
        await self._logged(
            killed_ms,
            (heir, f"{lost} is failing over to {heir}"),
            (heir, f"Application is started on {heir}"),
        )
        # Sent after its death, so that no answer to them can be the lost one's.
        held = self._requests_since(gone_ms + 1)
        first_ms = min(await self._answered(held))
        stall_ms = self._stall_ms() - stall_before_ms
        await self._owned_by(heir)
        took_ms, most_ms = first_ms - killed_ms, TIMEOUT_MS + LATE_MS
        took = f"{heir.name} served {took_ms:,} ms after the kill"
        promised = f"promised: {TIMEOUT_MS:,} to {most_ms:,}{_busy(took_ms - most_ms, stall_ms)}"
        _promise(TIMEOUT_MS <= took_ms, f"{took}, too early ({promised})")
        _promise(took_ms <= most_ms + stall_ms, f"{took}, too late ({promised})")
        self._say(f"{took} ({promised})")
        self._say(f"the {len(held)} requests that waited have their facts")

    async def _takeover(self, better: Node, old: Node) -> None:
        """The best one comes back and takes the application back."""
        await _pause()
        self._step(f"start {better.name} again")
        started_ms = clock_ms()
        await self._start(better)
        synced_ms = await self._until(
            lambda: self._status(better)["synced"] and clock_ms(), f"{better.name} knows the others"
        )
        stall_before_ms = self._stall_ms()
        await self._logged(
            started_ms,
            (old, "Application chucky exited: stopped"),
            (better, f"{better} is taking over {old}"),
            (better, f"Application is started on {better}"),
        )
        first_ms = await self._first_fact(better)
        late_ms = first_ms - synced_ms
        stall_ms = self._stall_ms() - stall_before_ms
        late = f"{better.name} served only {late_ms:,} ms after it knew the others"
        busy = _busy(late_ms - RETURN_MS, stall_ms)
        _promise(late_ms <= RETURN_MS + stall_ms, f"{late}, want {RETURN_MS} at most{busy}")
        self._say(f"{better.name} serves again {first_ms - started_ms:,} ms after its start")
        self._show_longest_wait(started_ms)

    async def _planned_stop(self, owner: Node, heir: Node) -> None:
        """The owner is stopped in good order: the next one serves at once."""
        await _pause()
        await owner.leave_alone()
        self._step(f"stop {owner.name}, the owner, as systemctl stop does")
        stopped_ms = owner.signal(signal.SIGTERM)
        await self._logged(
            stopped_ms,
            (owner, "Application chucky exited: stopped"),
            (heir, f"{heir} is taking over {owner}"),
            (heir, f"Application is started on {heir}"),
        )
        took_ms = await self._first_fact(heir) - stopped_ms
        took = f"{heir.name} serves {took_ms:,} ms after the stop"
        _promise(took_ms < TIMEOUT_MS, f"{took}, want it without the timeout of {TIMEOUT_MS:,}")
        await self._until(lambda: owner.exit_code is not None, f"{owner.name} ends")
        code = owner.reap()
        _promise(code == 0, f"{owner.name} was stopped and its exit code was {code}, want 0")
        self._say(took)
        self._show_longest_wait(stopped_ms)

    # What the steps are made of.

    async def _start(self, *nodes: Node) -> None:
        """Start them, and their clients as soon as they can connect."""
        for node in nodes:
            node.start()
        for node in nodes:
            await self._until(node.listens, f"{node.name} takes connections")
            node.keep_asking()

    async def _logged(self, since_ms: int, *expected: tuple[Node, str]) -> None:
        """Wait until each node has logged its line, and tell them in the order they came."""
        came = []
        for node, sentence in expected:
            logged = functools.partial(node.logged, sentence, since_ms)
            at_ms = await self._until(logged, f"{node.name} logs {sentence!r}")
            came.append((at_ms, f"   {node.name} logs: {sentence}"))
        for at_ms, text in sorted(came, key=lambda line: line[0]):
            self._say(text, at_ms)

    async def _answered(self, requests: Sequence[Request]) -> list[int]:
        """Wait until these have their facts, and return when each came."""

        def answers() -> list[int]:
            return [r.answered_ms for r in requests if r.answered_ms is not None]

        await self._until(lambda: len(answers()) == len(requests), "each request has its fact")
        return answers()

    async def _first_fact(self, node: Node) -> int:
        """Ask this node, which has just logged that it serves, and return when it answered."""
        answered_ms = await self._answered([await node.ask()])
        await self._owned_by(node)
        return answered_ms[0]

    async def _owned_by(self, owner: Node) -> None:
        """Wait until all that are up say who the owner is, and only the owner that it is."""

        def agreed() -> bool:
            told = [(node, self._status(node)) for node in self._nodes if node.is_up]
            return all(
                found["owner"] == str(owner) and (found["phase"] == "owner") == (node is owner)
                for node, found in told
            )

        await self._until(agreed, f"all say that {owner.name} is the owner")

    def _status(self, node: Node) -> dict[str, Any]:
        self._check()
        try:
            return node.status()
        except ChuckyError as error:
            raise _Broken(f"{node.name} tells its status: {error}") from None

    async def _until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait until the condition is true, and return what it gave."""
        end_ms = clock_ms() + PATIENCE_MS
        while not (found := condition()):
            self._check()
            if clock_ms() > end_ms:
                raise _Broken(f"{what}: not within {PATIENCE_MS:,} ms")
            await asyncio.sleep(_POLL_S)
        return found

    def _check(self) -> None:
        """No request has failed, and no node has ended but who was told to."""
        for node in self._nodes:
            if node.is_up and node.exit_code is not None:
                how = f"{node.name} ended by itself, with {node.exit_code}"
                raise _Broken(f"{how}; the last line of its log: {node.last_words}")
        if self._failures:
            raise _Broken(self._failures[0])

    def _requests_since(self, sent_ms: int) -> list[Request]:
        """Return all requests to all nodes from that moment on."""
        return [r for node in self._nodes for r in node.requests if r.sent_ms >= sent_ms]

    def _stall_ms(self) -> int:
        """Return how long the nodes and their clients have waited for a processor so far."""
        pids = (node.pid for node in self._nodes if node.is_up)
        return sum(waited_ns(os.getpid(), *pids).values()) // 1_000_000

    # What is told.

    def _step(self, text: str) -> None:
        print()
        self._say(text)

    def _say(self, text: str, at_ms: int | None = None) -> None:
        elapsed_ms = (clock_ms() if at_ms is None else at_ms) - self._began_ms
        print(f"{elapsed_ms / 1000:6.2f} s  {text}", flush=True)

    def _show_status(self, *nodes: Node) -> None:
        for node in nodes:
            self._say(f"   {node.name} says: {self._status(node)['sentence']}")

    def _show_longest_wait(self, since_ms: int) -> None:
        longest_ms = max(request.waited_ms for request in self._requests_since(since_ms))
        self._say(f"no request waited longer than {longest_ms:,} ms")


async def _pause() -> None:
    await asyncio.sleep(PAUSE_MS / 1000)


def _busy(late_ms: int, stall_ms: int) -> str:
    """Return what a busy machine adds to a promise, for a sentence in which that matters."""
    return f", and {stall_ms:,} ms in which a processor was waited for" if late_ms > 0 else ""


def _promise(kept: bool, otherwise: str) -> None:
    if not kept:
        raise _Broken(otherwise)
