"""Takes a node or a message apart into values, and puts it together again.

What is left of a node is its shape, which is hashable, and its numbers of three kinds: times, ticks
and link ids. The walk renames those, so that nodes which differ only in what time it is, how often
they spoke or how often they dialled are one. A number tells its kind by its size: the walk's clock,
each node's ticks and its link ids begin far apart, and nothing else in a node is as large.
"""

from collections import deque
from enum import Enum
from operator import attrgetter
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

# What sets the rhythm of dials and answers, or is reckoned anew: always as at the first.
RHYTHM = {
    "_seed": 1, "turn": 0, "_answers": (0, 0), "_sweep_ms": 0,
    "_changed": True, "_due_ms": None, "_has_news": True, "heard_tick": False, "repeats": False,
}  # fmt: skip
AGES = {"age_ms", "uptime_ms"}
LEAVES = {type(None), bool, str, bytes, float, FunctionType, NodeName, Address, Epoch}


class Parts(NamedTuple):
    """A shape and the numbers that belong into it, in order."""

    shape: "Shape"
    times: tuple[int, ...]
    ticks: tuple[int, ...]
    links: tuple[int, ...]


class Hole:
    """Where a number was. (An Enum would do, but is slow.)"""

    def __init__(self, kind: int) -> None:
        self.kind = kind


HOLES = TIME, TICK, LINK = Hole(0), Hole(1), Hole(2)


class Shape:
    """What is left of a thing without its numbers. Equal ones are one, so `is` compares them."""

    __slots__ = ("kind", "rest", "whole")

    def __init__(self, kind: Any, rest: list[Any]) -> None:
        self.kind = kind
        self.rest = rest
        self.whole: Any = None  # the thing itself, where nothing in it can change


_SHAPES: dict[tuple[Any, ...], Shape] = {}
_WHOLE: dict[int, Shape] = {}  # by the id of their thing, which they keep
_FIELDS: dict[type, tuple[Any, bool, bool]] = {}  # how to get all, whether shared, special ones
_NAMES: dict[type, tuple[str, ...]] = {}
_MANY = {tuple, list, deque, set, frozenset}


def new_node(settings: Settings, name: NodeName, incarnation: int) -> Node:
    """Return a node whose ticks and links are told from other numbers; TICKS says how."""
    node = Node(settings, name, incarnation, NOW_MS)
    node._members.tick = incarnation * TICKS + TOP
    node._members.contacts._last_link = LINKS
    return node


def apart(thing: Any) -> Parts:
    """Take it apart."""
    taking = _Taking()
    shape = taking.shape(thing)
    return Parts(shape, *map(tuple, taking.numbers))


def together(parts: Parts) -> Any:
    """Put it together."""
    return _Putting(parts).thing(parts.shape)


def _learn(kind: type, thing: Any) -> tuple[Any, bool, bool]:
    params = getattr(kind, "__dataclass_params__", None)
    slots = getattr(kind, "__slots__", None)
    names = tuple(sorted(vars(thing)) if slots is None else slots)
    _NAMES[kind] = names
    get = attrgetter(*names) if len(names) > 1 else lambda t: [getattr(t, n) for n in names]
    special = any(n in RHYTHM or n in AGES for n in names)
    _FIELDS[kind] = (get, not (params is not None and params.frozen), special)
    return _FIELDS[kind]


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
        whole = _WHOLE.get(id(thing))
        if whole is not None:
            return whole
        if kind in _MANY:
            rest = [t if type(t) in LEAVES else self.shape(t) for t in thing]
            if kind is set or kind is frozenset:
                rest.sort(key=repr)
            return _same(kind, rest, thing, kind is tuple)
        if kind is dict:
            return _same(kind, [self.shape(t) for pair in thing.items() for t in pair], thing)
        if kind is MethodType:
            return _same(kind, [self.shape(thing.__self__), thing.__name__], thing)
        if isinstance(thing, Enum):
            return thing
        if isinstance(thing, tuple):
            return _same(kind, [self.shape(t) for t in thing], thing, True)
        get, shared, special = _FIELDS.get(kind) or _learn(kind, thing)
        if shared:
            if id(thing) in self.seen:
                return _same(None, [self.seen[id(thing)]], thing)
            self.seen[id(thing)] = len(self.seen)
        values = get(thing)
        if special:
            values = [_plain(n, v) for n, v in zip(_NAMES[kind], values)]
        rest = [t if type(t) in LEAVES else self.shape(t) for t in values]
        return _same(kind, rest, thing, not shared and not special)

    def _number(self, number: int) -> Any:
        if -LINKS < number < LINKS:
            return number
        which = LINK if number < TICKS else TICK if number < TIMES else TIME
        self.numbers[which.kind].append(number)
        return which


def _same(kind: Any, rest: list[Any], thing: Any, fixed: bool = False) -> Shape:
    key = (kind, *rest)
    shape = _SHAPES.get(key)
    if shape is None:
        shape = _SHAPES[key] = Shape(kind, rest)
        if fixed and all(_is_whole(r) for r in rest):
            shape.whole = thing
            _WHOLE[id(thing)] = shape
    return shape


def _is_whole(rest: Any) -> bool:
    return type(rest) is not Hole and (type(rest) is not Shape or rest.whole is not None)


def _plain(name: str, value: Any) -> Any:
    return RHYTHM[name] if name in RHYTHM else min(value, OLD_MS) if name in AGES else value


class _Putting:
    """One thing under way."""

    def __init__(self, parts: Parts) -> None:
        self.numbers = tuple(iter(parts[h.kind + 1]) for h in HOLES)
        self.seen: list[Any] = []

    def thing(self, shape: Any) -> Any:
        if type(shape) is not Shape:
            return next(self.numbers[shape.kind]) if type(shape) is Hole else shape
        if shape.whole is not None:
            return shape.whole
        kind, rest = shape.kind, shape.rest
        if kind is None:
            return self.seen[rest[0]]
        if kind is MethodType:
            return getattr(self.thing(rest[0]), rest[1])
        if kind is dict:
            flat = [self.thing(r) for r in rest]
            return dict(zip(flat[::2], flat[1::2]))
        if kind in _MANY:
            return kind([self.thing(r) for r in rest])
        if issubclass(kind, tuple):
            return tuple.__new__(kind, [self.thing(r) for r in rest])
        made = object.__new__(kind)
        if _FIELDS[kind][1]:
            self.seen.append(made)
        for name, part in zip(_NAMES[kind], rest):
            if type(part) in LEAVES or type(part) is int:
                object.__setattr__(made, name, part)
            else:
                object.__setattr__(made, name, self.thing(part))
        return made
