"""Who was refused, or refused us, for the cookie: for the log and for the status."""

from collections.abc import Callable
from dataclasses import dataclass, field

from chucky.core.actions import Action, Level, Report
from chucky.names import Address, NodeName

REFUSALS = 16  # names of refused nodes to keep: enough for a person to see the pattern
REFUSAL_MS = 90_000  # a refused node is dialled again within the back-off limit of 60 s


@dataclass(slots=True)
class Refusals:
    """The nodes of another cookie: where each was met and when."""

    emit: Callable[[Action], None]
    names: dict[NodeName, tuple[Address | None, int]] = field(default_factory=dict)
    _unnamed_ms: int | None = None

    def met(
        self, dialled: bool, name: NodeName | None, taken: bool, at: Address | None, now_ms: int
    ) -> None:
        """A handshake failed for the cookie, with who claims this name, if any; `taken`: it is ours
        or that of a peer.

        Nothing that a stranger claims may fill the log: each name is said once, the first few
        names, and those that claim none, or one that is taken, once in a while.
        """
        if name is None or taken:
            if self._unnamed_ms is not None and now_ms - self._unnamed_ms < REFUSAL_MS:
                return
            self._unnamed_ms = now_ms
        else:
            said = name in self.names
            if said or len(self.names) < REFUSALS:
                self.names[name] = (at, now_ms)
            if said or name not in self.names:
                return
        who = str(name or at or "a node of unknown name")
        sentence = f"** Connection attempt from disallowed node {who} **"
        if dialled:
            sentence = f"** Our connection attempt was disallowed by node {who} at {at} **"
        self.emit(Report(Level.WARNING, sentence, "cookie", name))

    def forget(self, now_ms: int) -> None:
        """Drop those that were not met for long."""
        for name in [n for n, (_, t) in self.names.items() if now_ms - t >= REFUSAL_MS]:
            del self.names[name]
