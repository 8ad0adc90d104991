"""Messages as bytes and back, compiled once from the NamedTuples in messages.py.

    message   tag (1 byte), then the fields in order
    int       below 248: itself; else 247+n (n = 1..8), then n bytes, big endian, none to spare
    bool      0 or 1
    enum      an int
    str       length, then UTF-8
    bytes     length, then the bytes
    X | None  0, or 1 and X
    tuple     (X, ...): count, then each; (X, Y): X, then Y
    NodeName  as a str, `a@manticore`
    others    a nested NamedTuple: length, then its fields in order

So a class can grow at its end: what a newer node has appended is skipped, and what an older one
does not send takes its default.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

from chucky.errors import BadMessage, LocalProtocolError, NodeNameError
from chucky.messages import (
    MAX_ADDRESSES,
    MAX_NODES,
    Answer,
    Ask,
    Beacon,
    Goodbye,
    Hello,
    Member,
    Message,
    NameTaken,
    Status,
)
from chucky.names import Address, NodeName

MAX_FACTS = 1000
# A fact is one line; 1 KiB is six times the longest that ships. Sentences for people are shorter.
MAX_TEXT = 1024
# DNS's longest (RFC 1035); fe80 and eight groups with %scope are 39 + 1 + 15.
MAX_HOST = 253
MAX_PORT = 65535
# 63 before the @, 253 after it.
MAX_NAME = 317
# The priority list as text: 64 patterns of a name, with [], a comma and a space.
MAX_SHARED_TEXT = MAX_NODES * (MAX_NAME + 4)
# Today six keys.
MAX_SHARED = 16
# Today's digests are 8, nonces 16.
MAX_BYTES = 64

_MAX_INT = 2**64 - 1
_INLINE = 248  # ints below it are one byte; 248..255 announce 1..8 bytes

T = TypeVar("T", bound=tuple[Any, ...])
Writer = Callable[[Any, bytearray], None]
Reader = Callable[[bytes, int], tuple[Any, int]]  # (data, at) -> (value, where it ended)


@dataclass(frozen=True, slots=True)
class _Limits:
    number: int = _MAX_INT
    text: int = MAX_TEXT
    items: int = MAX_NODES


_LIMITS = {
    (Address, "host"): _Limits(text=MAX_HOST),
    (Address, "port"): _Limits(number=MAX_PORT),
    (Beacon, "port"): _Limits(number=MAX_PORT),
    (Hello, "port"): _Limits(number=MAX_PORT),
    (Hello, "addresses"): _Limits(items=MAX_ADDRESSES),
    (Goodbye, "reason"): _Limits(text=MAX_SHARED_TEXT),  # it may name each mandatory node
    (Hello, "shared"): _Limits(text=MAX_SHARED_TEXT, items=MAX_SHARED),
    (Member, "addresses"): _Limits(items=MAX_ADDRESSES),
    (Answer, "facts"): _Limits(items=MAX_FACTS),
}


def _write_int(value: int, out: bytearray) -> None:
    if 0 <= value < _INLINE:
        out.append(value)
    elif 0 < value <= _MAX_INT:
        size = (value.bit_length() + 7) >> 3
        out.append(_INLINE - 1 + size)
        out += value.to_bytes(size, "big")
    else:
        raise LocalProtocolError(f"codec: got the number {value}, want 0 to 2^64 - 1")


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise BadMessage("the message ends where a number should be")
    first = data[at]
    at += 1
    if first < _INLINE:
        return first, at
    end = at + first - (_INLINE - 1)
    value = int.from_bytes(data[at:end], "big")
    # Only one way to write each number, so that equal messages are equal bytes.
    if end > len(data) or data[at] == 0 or value < _INLINE:
        raise BadMessage("a number is cut short or longer than it need be")
    return value, end


def _int(limit: int) -> tuple[Writer, Reader]:
    if limit == _MAX_INT:
        return _write_int, _read_int

    def write(value: int, out: bytearray) -> None:
        if value > limit:
            raise LocalProtocolError(f"codec: got the number {value}, want 0 to {limit}")
        _write_int(value, out)

    def read(data: bytes, at: int) -> tuple[int, int]:
        value, at = _read_int(data, at)
        if value > limit:
            raise BadMessage(f"got the number {value}, want 0 to {limit}")
        return value, at

    return write, read


def _read_bool(data: bytes, at: int) -> tuple[bool, int]:
    if at >= len(data) or data[at] > 1:
        raise BadMessage("want a 0 or a 1")
    return data[at] == 1, at + 1


def _enum(kind: type[IntEnum]) -> tuple[Writer, Reader]:
    members = {member.value: member for member in kind}

    def read(data: bytes, at: int) -> tuple[IntEnum, int]:
        value, at = _read_int(data, at)
        member = members.get(value)
        if member is None:
            raise BadMessage(f"{kind.__name__} has no {value}")
        return member, at

    return _write_int, read


def _bytes(limit: int) -> tuple[Callable[[bytes, bytearray], None], Reader]:
    def write(value: bytes, out: bytearray) -> None:
        if len(value) > limit:
            raise LocalProtocolError(f"codec: got {len(value)} bytes, want at most {limit}")
        _write_int(len(value), out)
        out += value

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        size, at = _read_int(data, at)
        end = at + size
        if size > limit or end > len(data):
            raise BadMessage(f"got {size} bytes to come, want at most {min(limit, len(data) - at)}")
        return data[at:end], end

    return write, read


def _str(limit: int) -> tuple[Writer, Reader]:
    write_bytes, read_bytes = _bytes(limit)

    def write(value: str, out: bytearray) -> None:
        try:
            data = value.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            raise LocalProtocolError(f"codec: got {value!r}, want what UTF-8 can say") from None
        write_bytes(data, out)

    def read(data: bytes, at: int) -> tuple[str, int]:
        text, at = read_bytes(data, at)
        try:
            return text.decode(), at
        except UnicodeDecodeError:
            raise BadMessage("a text is not UTF-8") from None

    return write, read


# Names and what ownerships consist of come again and again: a Status goes to every peer, and tells
# what the last one did. 256 is four times a full cluster, and of the bytes that came only the short
# are kept: a Sign has at most 691, and what a newer version makes longer costs time, not memory.
_CACHED, _CACHED_BYTES = 4 * MAX_NODES, 1024


@lru_cache(maxsize=_CACHED)
def _name_to_text(name: NodeName) -> bytes:
    try:
        NodeName.parse(str(name))
    except NodeNameError as error:
        raise LocalProtocolError(f"codec: {error}") from None
    return str(name).encode()


@lru_cache(maxsize=_CACHED)
def _name_from_text(text: bytes) -> NodeName:
    try:
        return NodeName.parse(text.decode())
    except (NodeNameError, UnicodeDecodeError):
        raise BadMessage("a node name is malformed") from None


def _node_name() -> tuple[Writer, Reader]:
    write_bytes, read_bytes = _bytes(MAX_NAME)

    def write(value: NodeName, out: bytearray) -> None:
        write_bytes(_name_to_text(value), out)

    def read(data: bytes, at: int) -> tuple[NodeName, int]:
        text, at = read_bytes(data, at)
        return _name_from_text(text), at

    return write, read


def _optional(inner: tuple[Writer, Reader]) -> tuple[Writer, Reader]:
    write_inner, read_inner = inner

    def write(value: Any, out: bytearray) -> None:
        out.append(value is not None)
        if value is not None:
            write_inner(value, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        present, at = _read_bool(data, at)
        return read_inner(data, at) if present else (None, at)

    return write, read


def _many(inner: tuple[Writer, Reader], limit: int) -> tuple[Writer, Reader]:
    write_inner, read_inner = inner

    def write(value: tuple[Any, ...], out: bytearray) -> None:
        if len(value) > limit:
            raise LocalProtocolError(f"codec: got {len(value)} items, want at most {limit}")
        _write_int(len(value), out)
        for item in value:
            write_inner(item, out)

    def read(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        count, at = _read_int(data, at)
        if count > limit:
            raise BadMessage(f"got {count} items to come, want at most {limit}")
        items = []
        for _ in range(count):
            item, at = read_inner(data, at)
            items.append(item)
        return tuple(items), at

    return write, read


def _each(parts: list[tuple[Writer, Reader]]) -> tuple[Writer, Reader]:
    def write(value: tuple[Any, ...], out: bytearray) -> None:
        for (write_part, _), item in zip(parts, value, strict=True):
            write_part(item, out)

    def read(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        items = []
        for _, read_part in parts:
            item, at = read_part(data, at)
            items.append(item)
        return tuple(items), at

    return write, read


def _nested(kind: type[Any]) -> tuple[Writer, Reader]:
    body = Body(kind)
    encode_body, decode_short = map(lru_cache(maxsize=_CACHED), (body.encode, body.decode))
    short = 0 if kind in (Member, Address) else _CACHED_BYTES  # those are rare

    def write(value: Any, out: bytearray) -> None:
        inner = (encode_body if short else body.encode)(value)
        _write_int(len(inner), out)
        out += inner

    def read(data: bytes, at: int) -> tuple[Any, int]:
        size, at = _read_int(data, at)
        end = at + size
        if end > len(data):
            raise BadMessage(f"{kind.__name__} is cut short")
        return (decode_short if size <= short else body.decode)(data[at:end]), end

    return write, read


def _compile(hint: Any, limits: _Limits) -> tuple[Writer, Reader]:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _optional(_compile(inner, limits))
    if typing.get_origin(hint) is tuple:
        if arguments[1:] == (...,):
            return _many(_compile(arguments[0], limits), limits.items)
        return _each([_compile(argument, limits) for argument in arguments])
    if hint is bool:
        return _write_int, _read_bool
    if hint is int:
        return _int(limits.number)
    if hint is str:
        return _str(limits.text)
    if hint is bytes:
        return _bytes(MAX_BYTES)
    if hint is NodeName:
        return _node_name()
    return _enum(hint) if issubclass(hint, IntEnum) else _nested(hint)


def _by_byte(hint: Any) -> tuple[Any, ...]:
    """Return the values that are told by one byte, by that byte: most fields hold one of them, and
    a look into a tuple is much cheaper than a call."""
    if isinstance(hint, types.UnionType):
        return (None,)
    if typing.get_origin(hint) is tuple:
        return ((),) if typing.get_args(hint)[1:] == (...,) else ()
    if issubclass(hint, IntEnum):
        values = tuple(hint)
        return values if list(values) == list(range(len(values))) else ()
    return {bool: (False, True), int: tuple(range(_INLINE)), str: ("",), bytes: (b"",)}.get(
        hint, ()
    )


class Body(Generic[T]):
    """The fields of one NamedTuple as bytes, without a tag or length around them."""

    def __init__(self, kind: type[T]) -> None:
        self._name = kind.__name__
        hints = typing.get_type_hints(kind)
        parts = [_compile(hints[name], _LIMITS.get((kind, name), _Limits())) for name in hints]
        self._writers = [write for write, _ in parts]
        self._readers = [
            (_by_byte(hint), len(_by_byte(hint)), read)
            for hint, (_, read) in zip(hints.values(), parts, strict=True)
        ]
        self._make: Callable[[list[Any]], T] = kind._make  # type: ignore[attr-defined]
        defaults = kind._field_defaults  # type: ignore[attr-defined]
        self._needed = len(hints) - len(defaults)  # those without a default come first
        self._defaults = [defaults.get(name) for name in hints]

    def encode(self, value: T) -> bytes:
        """Return the fields as bytes. Raises LocalProtocolError for what cannot be sent."""
        out = bytearray()
        for write, field in zip(self._writers, value, strict=True):
            # What is 0, False, None or empty is a zero byte, of whatever kind it is.
            if field:
                write(field, out)
            else:
                out.append(0)
        return bytes(out)

    def decode(self, data: bytes) -> T:
        """Return the value; a field that is not there takes its default, what follows the last is
        skipped. Raises BadMessage."""
        at = 0
        size = len(data)
        values: list[Any] = []
        for short, shorts, read in self._readers:
            if at >= size:
                if len(values) < self._needed:
                    raise BadMessage(f"{self._name} is cut short")
                values += self._defaults[len(values) :]
                break
            first = data[at]
            value, at = (short[first], at + 1) if first < shorts else read(data, at)
            values.append(value)
        return self._make(values)


# A tag is given once and never again to another class.
_TAGS: dict[type[Any], int] = {
    Status: 1, Hello: 2, NameTaken: 3, Goodbye: 4, Ask: 5, Answer: 6,
}  # fmt: skip
_WRITERS = {kind: (bytes((tag,)), Body(kind).encode) for kind, tag in _TAGS.items()}
_READERS = {tag: Body(kind).decode for kind, tag in _TAGS.items()}
STATUS = bytes((_TAGS[Status],))  # what each Status begins with


def encode(message: Message) -> bytes:
    """Return the message as bytes. Raises LocalProtocolError for what the other end would not take:
    a number below 0, a text or tuple beyond its limit above."""
    tag, write = _WRITERS[type(message)]
    return tag + write(message)


def decode(data: bytes) -> Message | None:
    """Return the message, or None for a newer version's tag, to be ignored. Raises BadMessage."""
    if not data:
        raise BadMessage("a message is empty")
    read = _READERS.get(data[0])
    message: Message | None = read(data[1:]) if read else None
    return message
