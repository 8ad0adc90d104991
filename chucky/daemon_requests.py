"""What clients of the control socket ask of the core; each waits until it says how that ended."""

import asyncio
from collections.abc import Callable

from chucky.core.actions import RequestDone
from chucky.core.events import Event


class Requests:
    """The requests under way, by the number that the core knows each by."""

    def __init__(self, step: Callable[[Event], None]) -> None:
        self._step = step
        self._number = 0
        self._waiting: dict[int, asyncio.Future[RequestDone]] = {}

    async def ask(self, event: Callable[[int], Event]) -> RequestDone:
        """Step the core with the event of this number and wait for its end, which comes all the
        same when the client leaves before."""
        self._number += 1
        done: asyncio.Future[RequestDone] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = done
        self._step(event(self._number))
        return await done

    def done(self, action: RequestDone) -> None:
        """The core has ended a request."""
        waiting = self._waiting.pop(action.request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(action)
