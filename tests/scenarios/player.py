"""Plays a scenario, a story in text, on a cluster of real Nodes, and checks what it expects.

A scenario is paragraphs. One that starts with `#` is a comment. One that starts with `expect` holds
checks, one a line, which a rewrite cannot bless. Any other is a command, a line `----` and what the
nodes then said and who served, each with its time in ms since the scenario began.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chucky.core import events as ev
from chucky.names import NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Node, Settings
from tests.sim.host import Host
from tests.unit.cluster import Cluster

BEGAN_MS = 1000  # what a cluster's clock shows at first
LINE = "----"


class Unexpected(AssertionError):
    """A scenario does not go as it says, or cannot be read; the message names the line."""


@dataclass(frozen=True)
class Mark:
    """A command, when it was given, and how many changes of who serves there had been."""

    command: str
    at_ms: int
    moments: int


class Told(Cluster):
    """A cluster that writes down what each node says, and who serves, after each step."""

    def __init__(self, settings: Settings, shorts: str) -> None:
        super().__init__(settings, shorts)
        self.trace: list[str] = []
        self.moments: list[tuple[int, str]] = [(0, "")]  # (time, who serves from then on)
        self._read = dict.fromkeys(shorts, 0)
        self._exited: set[str] = set()

    @property
    def story_ms(self) -> int:
        return self.now_ms - BEGAN_MS

    def look(self) -> None:
        """Write down what is new."""
        for short, host in self.hosts.items():
            for _, sentence in host.log[self._read[short] :]:
                self.write(f"{short}: {sentence}")
            self._read[short] = len(host.log)
            if host.exit is None:
                self._exited.discard(short)
            elif short not in self._exited:
                self._exited.add(short)
                self.write(f"{short} exits {host.exit[0]}: {host.exit[1]}")
        if self.serving != self.moments[-1][1]:
            self.moments.append((self.story_ms, self.serving))
            self.write(f"serving: {self.serving or '-'}")

    def write(self, words: str) -> None:
        self.trace.append(f"{self.story_ms:6} {words}")

    def stepped(self, host: Host) -> None:
        super().stepped(host)
        self.look()


def _value(key: str, text: str) -> Any:
    if text == "inf":
        return None
    if text.startswith("["):
        names = json.loads(re.sub(r"[a-z]+", r'"\g<0>"', text))
        tiers = [[NodePattern(n) for n in ([t] if isinstance(t, str) else t)] for t in names]
        if key == "nodes":
            return PriorityList(tuple(map(tuple, tiers)))
        return tuple(pattern for tier in tiers for pattern in tier)
    return {"true": True, "false": False}.get(text, int(text) if text.isdigit() else text)


def configured(base: Settings, words: list[str]) -> Settings:
    """Return `base` with these KEY=VALUE: the keys of [distributed], and tick."""
    names = {f.name.removesuffix("_ms"): f.name for f in dataclasses.fields(Distributed)}
    pairs = dict(word.split("=", 1) for word in words)
    tick_ms = int(pairs.pop("tick", base.node.tick_ms))
    unknown = [key for key in pairs if key not in names]
    if unknown:
        raise Unexpected(f"no such key: {', '.join(unknown)}; want tick or {', '.join(names)}")
    values = {names[key]: _value(key, text) for key, text in pairs.items()}
    return Settings(dataclasses.replace(base.distributed, **values), Node(tick_ms=tick_ms))


class Player:
    """One scenario on its way."""

    def __init__(self) -> None:
        self.base = Settings()
        self.cluster = Told(Settings(), "abc")
        self.marks: list[Mark] = []

    # Commands.

    def config(self, *words: str) -> None:
        self.base = configured(self.base, list(words))
        self.nodes(*self.cluster.hosts)

    def nodes(self, *shorts: str) -> None:
        assert not self.marks, "config and nodes come first"
        self.cluster = Told(self.base, "".join(shorts))

    def start(self, *words: str) -> None:
        at = words.index("with") if "with" in words else len(words)
        settings = configured(self.base, list(words[at + 1 :]))
        self.cluster.start(*words[:at], settings=settings)

    def kill(self, *shorts: str) -> None:
        self.cluster.kill(*shorts)

    def power_off(self, short: str) -> None:
        self.cluster.power_off(short)

    def freeze(self, short: str) -> None:
        self.cluster.freeze(short)

    def thaw(self, short: str) -> None:
        self.cluster.thaw(short)

    def stop(self, short: str) -> None:
        self.cluster.give(short, ev.ShutdownRequested())

    def takeover(self, short: str) -> None:
        """`chucky takeover` there; its log tells the answer: `done: ...` or `not done: ...`."""
        self.cluster.give(short, ev.TakeoverRequested(1))

    def standby(self, short: str, to: str) -> None:
        """`chucky standby on` or `off` there."""
        self.cluster.give(short, ev.StandbyRequested(1, to == "on"))

    def cut(self, one: str, other: str) -> None:
        """`cut ab cde` cuts each of the ones off from each of the others."""
        for a in one:
            for b in other:
                self.cluster.cut(a, b)

    def heal(self) -> None:
        self.cluster.heal()

    def fails(self, short: str, *why: str) -> None:
        """From now on a start there fails."""
        self.cluster.hosts[short].fails = " ".join(why)

    def unready(self, short: str, *why: str) -> None:
        """From now on it cannot even get ready there."""
        self.cluster.hosts[short].unready = " ".join(why)

    def mends(self, short: str) -> None:
        self.cluster.hosts[short].fails = self.cluster.hosts[short].unready = ""

    def app_fails(self, short: str, *why: str) -> None:
        """The application, which runs there, stops by itself."""
        self.cluster.give(short, ev.ApplicationFailed(" ".join(why)))

    def run(self, for_ms: str) -> None:
        self.cluster.run(int(for_ms))

    def until(self, *words: str) -> None:
        """`until serving=b LIMIT`, `until b says SENTENCE LIMIT`, `until b shows WORDS LIMIT`."""
        *what, limit = words
        if what[0].startswith("serving="):
            wanted = what[0].removeprefix("serving=").strip("-")
            self.cluster.run_until(lambda: self.cluster.serving == wanted, int(limit))
            return
        short, verb, sentence = what[0], what[1], " ".join(what[2:])
        if verb == "says":
            before = self.cluster.log(short).count(sentence)
            said = lambda: self.cluster.log(short).count(sentence) > before  # noqa: E731
            self.cluster.run_until(said, int(limit))
        elif verb == "shows":
            self.cluster.run_until(
                lambda: sentence in self.cluster.snapshot(short).sentence, int(limit)
            )
        else:
            raise Unexpected(f"until {verb}: want serving=, says or shows")

    def state(self) -> None:
        """What `chucky status` prints first, on each node."""
        for short, host in self.cluster.hosts.items():
            view = host.node.snapshot() if host.node is not None else None
            self.cluster.write(f"{short}: {view.phase}: {view.sentence}" if view else f"{short}: -")

    COMMANDS = (
        "config nodes start kill power_off freeze thaw stop takeover standby cut heal fails unready"
        " mends app_fails run until state"
    ).split()

    def do(self, command: str) -> list[str]:
        """Carry a command out and return what followed, as lines."""
        verb, *words = command.split()
        if verb not in self.COMMANDS:
            raise Unexpected(f"no such command; want one of {', '.join(self.COMMANDS)}")
        if verb not in ("config", "nodes"):
            cluster = self.cluster
            self.marks.append(Mark(command, cluster.story_ms, len(cluster.moments)))
        getattr(self, verb)(*words)
        self.cluster.look()
        trace, self.cluster.trace = self.cluster.trace, []
        return trace

    # Checks: each returns what is wrong.

    def mark(self, command: str) -> Mark:
        found = [m for m in self.marks if m.command == command]
        if not found:
            raise Unexpected(f"no command {command!r} before")
        return found[-1]

    def after(self, mark: Mark) -> list[tuple[int, str]]:
        """Who served from the command on: first of all what the command itself left."""
        return [(mark.at_ms, self.cluster.moments[mark.moments - 1][1])] + self.cluster.moments[
            mark.moments :
        ]

    def expect_serving(self, who: str) -> str:
        serving = self.cluster.serving or "-"
        return "" if serving == who else f"serving: {serving}"

    def expect_never_two(self) -> str:
        return next((f"{w} at {t}" for t, w in self.cluster.moments if len(w) > 1), "")

    def expect_one_from(self, wait_ms: str, command: str) -> str:
        from_ms = self.mark(command).at_ms + int(wait_ms)
        if self.cluster.story_ms <= from_ms:
            return "that is not over yet"
        ends = [*(t for t, _ in self.cluster.moments[1:]), self.cluster.story_ms]
        spans = zip(self.cluster.moments, ends)
        return next((f"{w} at {t}" for (t, w), end in spans if end > from_ms and len(w) > 1), "")

    def expect_owners(self, wanted: str) -> str:
        owners: list[str] = []
        for _, who in self.cluster.moments:
            if who and owners[-1:] != [who]:
                owners.append(who)
        return "" if owners == wanted.split() else f"owners: {' '.join(owners)}"

    def expect_serves(self, who: str, low: str, high: str, command: str) -> str:
        mark = self.mark(command)
        took = [t - mark.at_ms for t, w in self.cluster.moments[mark.moments :] if who in w]
        if not took:
            return "it did not"
        return "" if int(low) <= took[0] <= int(high) else f"after {took[0]}"

    def expect_stops(self, who: str, low: str, high: str, command: str) -> str:
        mark = self.mark(command)
        if who not in self.after(mark)[0][1]:
            return "it did not serve then"
        took = [t - mark.at_ms for t, w in self.after(mark) if who not in w]
        if not took:
            return "it did not"
        return "" if int(low) <= took[0] <= int(high) else f"after {took[0]}"

    def expect_silent(self, who: str, command: str) -> str:
        moments = self.after(self.mark(command))
        return next((f"at {t}" for t, w in moments if who in w), "")

    def expect_unserved(self, limit: str, command: str) -> str:
        moments = self.after(self.mark(command))
        ends = [*(t for t, _ in moments[1:]), self.cluster.story_ms]
        longest = max((end - t for (t, w), end in zip(moments, ends) if not w), default=0)
        return "" if longest <= int(limit) else f"for {longest}"

    def expect_says(self, who: str, sentence: str) -> str:
        return "" if sentence in self.cluster.log(who) else "it did not"

    def expect_never_says(self, who: str, sentence: str) -> str:
        return "it did" if sentence in self.cluster.log(who) else ""

    def expect_exit(self, who: str, code: str) -> str:
        was = self.cluster.hosts[who].exit
        return "" if was is not None and was[0] == int(code) else f"exit: {was}"

    CHECKS: dict[str, Callable[..., str]] = {
        r"serving=(-|[a-z]+)": expect_serving,
        r"never two serve": expect_never_two,
        r"one serves from (\d+) after (.+)": expect_one_from,
        r"owners ([a-z ]+)": expect_owners,
        r"([a-z]) serves within (\d+)\.\.(\d+) of (.+)": expect_serves,
        r"([a-z]) stops within (\d+)\.\.(\d+) of (.+)": expect_stops,
        r"([a-z]) never serves after (.+)": expect_silent,
        r"unserved at most (\d+) after (.+)": expect_unserved,
        r"([a-z]) says (.+)": expect_says,
        r"([a-z]) never says (.+)": expect_never_says,
        r"([a-z]) exits (\d+)": expect_exit,
    }

    def check(self, wanted: str) -> None:
        """Raise Unexpected when this is not so."""
        for pattern, check in self.CHECKS.items():
            found = re.fullmatch(pattern, wanted)
            if found:
                wrong = check(self, *found.groups())
                if wrong:
                    raise Unexpected(wrong)
                return
        raise Unexpected(f"no such check; want one of {', '.join(self.CHECKS)}")


def paragraphs(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each paragraph with the number of its first line."""
    number, lines = 1, []
    for at, line in enumerate([*text.splitlines(), ""], 1):
        if line:
            if not lines:
                number = at
            lines.append(line)
        elif lines:
            yield number, lines
            lines = []


def checks(text: str) -> list[str]:
    """Return the checks of a scenario."""
    expects = (lines for _, lines in paragraphs(text) if lines[0].startswith("expect "))
    return [line.removeprefix("expect ") for lines in expects for line in lines]


def play(text: str) -> str:
    """Play a scenario and return it with what followed each command. Raises Unexpected."""
    player = Player()
    played: list[list[str]] = []
    for number, lines in paragraphs(text):
        try:
            if lines[0].startswith("#"):
                played.append(lines)
            elif lines[0].startswith("expect "):
                for line in lines:
                    player.check(line.removeprefix("expect "))
                    number += 1
                played.append(lines)
            elif lines[1:] and lines[1] != LINE:
                raise Unexpected(f"got {lines[1]!r} after a command, want {LINE}")
            else:
                played.append([lines[0], LINE, *player.do(lines[0])])
        except AssertionError as error:
            line = text.splitlines()[number - 1]
            raise Unexpected(f"line {number}: {line}: {error}") from error
    return "\n\n".join("\n".join(lines) for lines in played) + "\n"
