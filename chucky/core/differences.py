"""Whose config is not as here, key by key (design rule 8)."""

from collections.abc import Callable, Iterable

from chucky.core.actions import Action, Level, Report
from chucky.core.hellos import TOLD_TEXT
from chucky.core.link import Link
from chucky.messages import Hello
from chucky.names import NodeName
from chucky.settings import Settings


class Differences:
    """The keys that differ, by peer; each difference is reported once."""

    def __init__(self, emit: Callable[[Action], None]) -> None:
        self.keys: dict[NodeName, tuple[str, ...]] = {}
        self._emit = emit

    def compare(self, links: Iterable[Link], settings: Settings) -> None:
        """Say which key differs from those of each peer that has said its own, and how."""
        for link in links:
            if link.hello is not None:
                self._compare(link.name, link.hello, settings)

    def _compare(self, name: NodeName, hello: Hello, settings: Settings) -> None:
        theirs, mine = dict(hello.shared), {k: v[:TOLD_TEXT] for k, v in settings.told}
        differing = tuple(key for key in mine if theirs.get(key) != mine[key])
        if differing and differing != self.keys.get(name):
            how = "; ".join(f"{k} is {mine[k]} here and {theirs.get(k)} there" for k in differing)
            sentence = f"node.toml differs from {name}'s: {how}; make the files the same"
            self._emit(Report(Level.WARNING, sentence, "config", name))
        self.keys[name] = differing

    def forget(self, name: NodeName) -> None:
        """The peer is down."""
        self.keys.pop(name, None)
