"""Takes a node or a message apart into values, and puts it together again.

What is left of a node is its shape, which is hashable, and its numbers of three kinds: times, ticks
and link ids. The walk renames those, so that nodes which differ only in what time it is, how often
they spoke or how often they dialled are one. A number tells its kind by its size: the walk's clock,
each node's ticks and its link ids begin far apart, and nothing else in a node is as large.
"""

from collections import deque
from enum import Enum
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from chucky.core.node import Node
from chucky.messages import Epoch
from chucky.names import Address, NodeName
from chucky.settings import Settings

NOW_MS = 10**12
LINKS = 10**7  # a node's first dial; the links that it accepts begin at the negative
TICKS = 10**9  # times the incarnation: its ticks
TOP = TICKS // 2  # and this much above: its newest
TIMES = NOW_MS // 2  # what is above is a time
OLD_MS = 4_000  # no wait of the walked clusters is longer: of what is older only the order counts

# What sets the rhythm of dials and answers, and nothing else: always as at the first.
RHYTHM = {"_seed": 1, "turn": 0, "_answers": (0, 0)}
AGES = {"age_ms", "uptime_ms"}
LEAVES = {type(None), bool, str, bytes, float, FunctionType, NodeName, Address, Epoch}


class Parts(NamedTuple):
    """A shape (its number in SHAPES) and the numbers that belong into it, in order."""

    shape: int
    times: tuple[int, ...]
    ticks: tuple[int, ...]
    links: tuple[int, ...]


class Hole(Enum):
    """Where a number was."""

    TIME = 0
    TICK = 1
    LINK = 2


SHAPES: list[Any] = []
_SETTINGS: list[Settings] = []  # their hash is slow
_SAME: dict[Any, Any] = {}  # shapes of parts, each kept once
_NUMBERS: dict[Any, int] = {}  # of each shape
_FIELDS: dict[type, tuple[tuple[str, ...], bool]] = {}  # and whether it may be shared


def new_node(settings: Settings, name: Any, incarnation: int) -> Node:
    """Return a node whose ticks and links are told from other numbers; TICKS says how."""
    node = Node(settings, name, incarnation, NOW_MS)
    node._members.tick = incarnation * TICKS + TOP
    node._members.contacts._last_link = LINKS
    return node


def apart(thing: Any) -> Parts:
    """Take it apart."""
    taking = _Taking()
    shape = taking.shape(thing)
    number = _NUMBERS.get(shape)
    if number is None:
        number = _NUMBERS[shape] = len(SHAPES)
        SHAPES.append(shape)
    return Parts(number, *map(tuple, taking.numbers))


def together(parts: Parts) -> Any:
    """Put it together."""
    return _Putting(parts).thing(SHAPES[parts.shape])


def _fields(thing: Any) -> tuple[tuple[str, ...], bool]:
    kind = type(thing)
    params = getattr(kind, "__dataclass_params__", None)
    frozen = params is not None and params.frozen
    slots = getattr(kind, "__slots__", None)
    names = tuple(sorted(vars(thing)) if slots is None else slots)
    found = _FIELDS[kind] = (names, not frozen)
    return found


class _Taking:
    """One thing under way."""

    def __init__(self) -> None:
        self.numbers: tuple[list[int], list[int], list[int]] = ([], [], [])
        self.seen: dict[int, int] = {}

    def shape(self, thing: Any) -> Any:
        kind = type(thing)
        if kind is int:
            return self._number(thing)
        if kind in LEAVES:
            return thing
        if kind is Settings:
            if thing not in _SETTINGS:
                _SETTINGS.append(thing)
            return (kind, _SETTINGS.index(thing))
        if isinstance(thing, tuple):
            return (kind, *map(self.shape, thing))
        if kind is dict:
            return (kind, *[self.shape(t) for pair in thing.items() for t in pair])
        if kind in (list, deque):
            return (kind, *[self.shape(t) for t in thing])
        if kind in (set, frozenset):
            return (kind, *sorted([self.shape(t) for t in thing], key=repr))
        if kind is MethodType:
            return (kind, self.shape(thing.__self__), thing.__name__)
        if isinstance(thing, Enum):
            return thing
        names, shared = _FIELDS.get(kind) or _fields(thing)
        if shared:
            if id(thing) in self.seen:
                return (None, self.seen[id(thing)])
            self.seen[id(thing)] = len(self.seen)
        shape = (kind, *[self._field(name, getattr(thing, name)) for name in names])
        return _SAME.setdefault(shape, shape)

    def _field(self, name: str, value: Any) -> Any:
        if name in RHYTHM:
            return self.shape(RHYTHM[name])
        if name in AGES:
            return min(value, OLD_MS)
        return self.shape(value)

    def _number(self, number: int) -> Any:
        if -LINKS < number < LINKS:
            return number
        which = Hole.LINK if number < TICKS else Hole.TICK if number < TIMES else Hole.TIME
        self.numbers[which.value].append(number)
        return which


class _Putting:
    """One thing under way."""

    def __init__(self, parts: Parts) -> None:
        self.numbers = {h: iter(parts[h.value + 1]) for h in Hole}
        self.seen: list[Any] = []

    def thing(self, shape: Any) -> Any:
        if type(shape) is Hole:
            return next(self.numbers[shape])
        if type(shape) is not tuple or not shape:
            return shape
        kind, *rest = shape
        if kind is None:
            return self.seen[rest[0]]
        if kind is Settings:
            return _SETTINGS[rest[0]]
        if kind is MethodType:
            return getattr(self.thing(rest[0]), rest[1])
        if kind is dict:
            flat = [self.thing(r) for r in rest]
            return dict(zip(flat[::2], flat[1::2]))
        if kind in (list, deque, set, frozenset):
            return kind([self.thing(r) for r in rest])
        if issubclass(kind, tuple):
            return tuple.__new__(kind, [self.thing(r) for r in rest])
        names, shared = _FIELDS[kind]
        made = object.__new__(kind)
        if shared:
            self.seen.append(made)
        for name, part in zip(names, rest):
            object.__setattr__(made, name, self.thing(part))
        return made
