"""The application as the core has it got ready, started and stopped: the facts and their port."""

import errno
import hashlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chucky import facts
from chucky.core import events as ev
from chucky.daemon_alarm import clock_ms
from chucky.daemon_crashes import Crashes
from chucky.errors import AlreadyRuns, ChuckyError
from chucky.messages import Epoch
from chucky.names import NodeName
from chucky.net.service import FactService
from chucky.settings import Settings


@contextmanager
def only_one(name: NodeName, port: int) -> Iterator[None]:
    """Keep others of this name off the fact port. Raises AlreadyRuns.

    They would share it, and be dealt half of the clients until they are refused for their name.
    """
    # The kernel drops this lock with the process, and a name without a file is the same one in each
    # runtime directory. Nodes of two users cannot share a port, so they may well share a name.
    lock = hashlib.sha256(f"{os.geteuid()} {port} {name}".encode()).digest()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(b"\0chucky " + lock)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise AlreadyRuns(
                f"another chuckyd on this machine is {name} and has TCP port {port};"
                " stop it or choose another name"
            ) from None
        yield


class Application:
    """What an owner runs. The service itself is there on every node, to relay."""

    def __init__(self, settings: Settings, service: FactService, crashes: Crashes) -> None:
        self.settings = settings
        self._service = service
        self._crashes = crashes
        self.book = facts.FactBook(("",), random.Random())
        self._waits = False  # for what its crashes cost it

    def prepare(self, others_can: bool) -> ev.Event:
        """Do all but serve. With standby = "relay" the port is bound whatever the facts are.
        `others_can`: another node that is up could run it."""
        failed = self._load(bind=self.settings.facts.standby == "relay")
        trouble = "" if failed else self._crashes.trouble(others_can, clock_ms())
        self._waits = bool(trouble)
        if trouble:
            failed = ev.ApplicationFailed(trouble)
        return failed or ev.ApplicationReady()

    def waits_in_vain(self, others_can: Callable[[], bool]) -> bool:
        """Whether it waits for its crashes' sake, and need not any more: say so once."""
        in_vain = self._waits and not self._crashes.trouble(others_can(), clock_ms())
        self._waits &= not in_vain
        return in_vain

    def start(self, epoch: Epoch) -> ev.Event:
        """Serve from now on, if nothing fails."""
        failed = self._load(bind=True)
        if failed is None:
            self._crashes.began(clock_ms())
        return failed or ev.ApplicationStarted(epoch)

    def stop(self) -> None:
        """Serve no more: an end in good order."""
        self.forgive()
        self._unbind_if_closed()

    def forgive(self) -> None:
        """Count no crash of before: who ends it, or stops the node, may have mended it."""
        self._crashes.over()
        self._waits = False

    def take(self, lines: tuple[str, ...]) -> None:
        """Choose from these facts from now on."""
        self.book = facts.FactBook(lines, random.Random())

    def _load(self, bind: bool) -> ev.ApplicationFailed | None:
        """Bind the port, read the facts; return what failed."""
        try:
            if bind:
                self._service.bind()
            else:
                self._service.check()
            self.take(facts.load(self.settings.facts.file))
        except ChuckyError as error:
            self._unbind_if_closed()
            return ev.ApplicationFailed(str(error))
        return None

    def _unbind_if_closed(self) -> None:
        if self.settings.facts.standby == "closed":
            self._service.unbind()
