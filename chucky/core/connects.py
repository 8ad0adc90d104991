"""The links that an administrator asks for: each request ends with one RequestDone."""

from collections.abc import Callable

from chucky.core.actions import Action, RequestDone
from chucky.core.events import ConnectRequested
from chucky.core.membership import Membership
from chucky.names import NodeName


class Connects:
    """The requests under way, and the dials of each."""

    def __init__(self, members: Membership, emit: Callable[[Action], None]) -> None:
        self._members = members
        self._emit = emit
        self._dials: dict[int, tuple[NodeName | None, list[int]]] = {}  # wanted, dials

    def request(self, asked: ConnectRequested, now_ms: int) -> None:
        """Dial each address once, unless the node is linked already or is this one."""
        if asked.name is not None and asked.name in (self._members.me, *self._members.links):
            self._emit(RequestDone(asked.request, True, f"{asked.name} is connected"))
        else:
            dials = [self._members.dial(address, now_ms) for address in asked.addresses]
            self._dials[asked.request] = (asked.name, dials)

    def give_up(self, why: str) -> None:
        """The node ends."""
        for request in self._dials:
            self._emit(RequestDone(request, False, why))

    def ended(self, link: int, name: NodeName | None, why: str) -> None:
        """A dial ended: with a link to `name`, or why not. Tell whoever asked for it."""
        for request, (wanted, dials) in list(self._dials.items()):
            if link not in dials:
                continue
            dials.remove(link)
            connected = name is not None and wanted in (None, name)
            if connected or not dials:
                del self._dials[request]
                sentence = f"{name} is there" if name else why
                if not connected:
                    sentence = f"{wanted}: {sentence}"
                self._emit(RequestDone(request, connected, sentence))
