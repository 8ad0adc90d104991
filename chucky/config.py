"""Reads node.toml into `Settings`: every check of a key by itself, and every message of it.

`_SECTIONS` below is the file's grammar: one reader for each key. A reader takes the value that TOML
gave and returns the setting, or raises `_Wrong` with what it got and what it wants.
"""

import difflib
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain
from typing import Any

import tomli

from chucky import files
from chucky.config_checks import MORE_PORTS, repeated, warnings
from chucky.config_checks import problems as joint_problems
from chucky.errors import ConfigError, NodeNameError, NotAFile
from chucky.names import Address, NodePattern
from chucky.priority import PriorityList
from chucky.settings import TICK_MS, Discovery, Distributed, Facts, Node, Settings

# The shipped file has 5 KiB. This many hold 1000 nodes with names of 63 bytes, and a device or a
# log given by mistake is not read to its end.
MAX_BYTES = 64 * 1024
# A year: more is a slip of the keyboard or means inf, and every sum of times stays below 2**53.
MAX_MS = 366 * 24 * 3600 * 1000
BOM = "\ufeff"  # the byte order mark, which some editors put first
TRIED_PORTS = 3  # where a peer is given without one: enough for three nodes on its host
_MAX_SHOWN = 60  # of a wrong value: with key and wish it stays about a line of a terminal
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
# The kernel's rule for interface names (dev_valid_name): IFNAMSIZ is 16 with the ending zero.
_INTERFACE = re.compile(r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")
_PEER = re.compile(r"(?:\[(?P<six>[^][]+)\]|(?P<name>[^][:]+))(?::(?P<port>[0-9]{1,5}))?")
_SYNTAX = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")

_NAME = "a name as a or a@manticore"
_PEERS = "host, host:port, [fd00::1]:port or [fe80::1%eth0]:port"
_WAYS_OUT: dict[type[OSError], str] = {
    FileNotFoundError: '"sudo touch {}" makes one that leaves every key at its default',
    IsADirectoryError: "give the file in it, as {}/node.toml",
}
# What is wanted where TOML itself complains so; else it is what a line may be.
_SYNTAX_WISHES = {
    "Invalid value": 'want "text" in quotes, a number, true, false or a [list]',
    "Cannot overwrite a value": "want each key once",
    "Cannot declare": "want each section once: change its lines where they are",
}

Reader = Callable[[Any], Any]


class _Wrong(Exception):
    """A value does not fit; each argument is one `got X, want Y`."""


def load(path: str | os.PathLike[str]) -> tuple[Settings, tuple[str, ...]]:
    """Return `parse` of the file at `path`. Raises ConfigError, also when it cannot be read."""
    where = os.fspath(path)
    return parse(read(where), where)


def read(where: str) -> str:
    """Return the text of a config file. Raises ConfigError, or ChuckyError for what may pass."""
    try:
        raw = files.read(where, MAX_BYTES + 1)
        if len(raw) <= MAX_BYTES:
            return raw.decode()
        problem = f"got more than {MAX_BYTES} bytes, want a config file"
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: got byte 0x{raw[error.start]:02x}, want UTF-8 text"
    except OSError as error:
        files.raise_passing(where, error)
        problem = f"{error.strerror}; {_way_out(where, error)}"
    except NotAFile as error:
        problem = str(error)
    raise ConfigError(where, (problem,))


def _way_out(where: str, error: OSError) -> str:
    folder = os.path.dirname(where) or "."
    if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
        return "its folder is not there either, give another file"
    if isinstance(error, PermissionError):
        return files.way_in(where)
    way_out = _WAYS_OUT.get(type(error), "give another file")
    return way_out.format(shlex.quote(where).rstrip("/"))


def parse(text: str, where: str = "node.toml") -> tuple[Settings, tuple[str, ...]]:
    """Return the settings, and a one-line warning for each dangerous combination.

    Raises ConfigError with all problems, one line each; `where` is what it calls the file.
    """
    try:
        document = tomli.loads(text.removeprefix(BOM))
    except RecursionError:
        raise ConfigError(where, ("got lists nested too deep to read, want [section]s",)) from None
    except ValueError as error:  # tomli's own, and int() of more than 4300 digits
        raise ConfigError(where, (_syntax(str(error), text),)) from None
    problems: list[str] = []
    sections = {name: _section(name, document.pop(name, {}), problems) for name in _SECTIONS}
    problems += (_stranger(name, value) for name, value in document.items())
    settings = Settings(**sections)
    # A wrong key stands at its default here: nothing is to be said of what it was compared with.
    wrong = {problem.partition(": ")[0] for problem in problems}
    problems += (
        f"{keys[0]}: {complaint}"
        for keys, complaint in joint_problems(settings)
        if not wrong & set(keys)
    )
    if problems:
        raise ConfigError(where, tuple(problems))
    return settings, tuple(warnings(settings))


def peer_addresses(entry: str, first_port: int) -> tuple[Address, ...]:
    """Return where to look for an entry of `peers`: at its port, or else at the first three.

    Raises ConfigError when it is none of `host`, `host:port`, `[v6]`, `[v6]:port`, `v6`.
    """
    parts = _peer_parts(entry)
    if parts is None:
        raise ConfigError("peer", (f"got {_show(entry)}, want {_PEERS}",))
    host, port = parts
    ports = (port,) if port else range(first_port, first_port + TRIED_PORTS)
    return tuple(Address(host, number) for number in ports)


def _peer_parts(entry: str) -> tuple[str, int] | None:
    """Return an entry's host and port (0: none given), or None when it is no peer."""
    parts = _PEER.fullmatch(entry)
    six, name, port = parts.group("six", "name", "port") if parts else (entry, None, None)
    host = name or six
    fits = _is_host(name) if name else ":" in six and _is_numeric(six)
    if not fits or host in ("0.0.0.0", "::") or (port and not 1 <= int(port) <= 65535):
        return None
    return host, int(port or 0)


def _section(name: str, table: object, problems: list[str]) -> Any:
    """Return the section's settings, its wrong keys at their defaults and told in `problems`."""
    kind, readers = _SECTIONS[name]
    if not isinstance(table, dict):
        problems.append(f"{name}: got {_show(table)}, want a section [{name}]")
        return kind()
    field_names = {field.name.removesuffix("_ms"): field.name for field in fields(kind)}
    values = {}
    for key, value in table.items():
        try:
            if key not in readers:
                raise _Wrong(f"got an unknown key, want {_near(key, name)}")
            values[field_names[key]] = readers[key](value)
        except _Wrong as wrong:
            problems += (f"{name}.{_show_key(key)}: {complaint}" for complaint in wrong.args)
    return kind(**values)


def _near(key: str, section: str) -> str:
    """Return which known key was meant by one that the section does not have."""
    readers = _SECTIONS[section][1]
    near = difflib.get_close_matches(key[:_MAX_SHOWN], readers, 1)
    return near[0] if near else _home(key) or f"one of {', '.join(readers)}"


def _home(key: str) -> str:
    """Return the section that a known key belongs to, as a wish; "" when it is not known."""
    return next((f"it under [{name}]" for name in _SECTIONS if key in _SECTIONS[name][1]), "")


def _stranger(name: str, value: object) -> str:
    """Return the problem with what stands at the top of the file and is no known section."""
    near = difflib.get_close_matches(name[:_MAX_SHOWN], _SECTIONS, 1) or _SECTIONS
    wish = " or ".join(f"[{section}]" for section in near)
    if isinstance(value, dict):
        return f"{_show_key(name)}: got an unknown section, want {wish}"
    return f"{_show_key(name)}: got a key outside a section, want {_home(name) or wish}"


def _syntax(error: str, text: str) -> str:
    """Return a TOML error as one line that begins with where it is."""
    parts = _SYNTAX.fullmatch(error)
    if parts is None:
        return "got a number of more than 4300 digits, want a smaller one"
    line = parts["line"] or text.rstrip().count("\n") + 1
    what = re.sub(r"\('(\w+)',\) twice", r"[\1] twice", parts["what"][:200])
    wishes = (wish for begins, wish in _SYNTAX_WISHES.items() if what.startswith(begins))
    wish = next(wishes, "a line is [section], key = value or # comment")
    return f"line {line}: {what}; {wish}"


def _show(value: object, depth: int = 0) -> str:
    """Return a value as TOML writes it, on one line, in ASCII, cut to a bearable length."""
    if isinstance(value, str):
        text = json.dumps(value[:_MAX_SHOWN])
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int):  # str() refuses more than 4300 digits, hex() does not
        text = str(value) if abs(value) < 2**63 else hex(value)
    elif isinstance(value, list):  # the depth: it must not run into the recursion limit
        inside = (_show(entry, depth + 1) for entry in value[:_MAX_SHOWN])
        text = f"[{', '.join(inside) if depth < 2 else '...'}]"
    else:
        text = "a table" if isinstance(value, dict) else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _show_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _show(key)


def _wrong(value: object, want: str) -> _Wrong:
    return _Wrong(f"got {_show(value)}, want {want}")


def _value(fits: Callable[[Any], object], want: str) -> Reader:
    def read(value: Any) -> Any:
        if not fits(value):
            raise _wrong(value, want)
        return value

    return read


def _text(fits: Callable[[str], object], want: str) -> Reader:
    return _value(lambda value: isinstance(value, str) and fits(value), want)


def _or_empty(fits: Callable[[str], object], want: str) -> Reader:
    return _text(lambda text: text == "" or fits(text), f'{want}, or ""')


# `type(value) is int` here and below: a bool is an int to isinstance.
def _number(least: int, most: int, what: str = "a whole number") -> Reader:
    wish = f"{what} from {least} to {most}"
    return _value(lambda value: type(value) is int and least <= value <= most, wish)


def _time(least: int, inf: bool = False) -> Reader:
    """Whole milliseconds; where `inf` is allowed, it becomes None."""
    or_inf = ", or inf" if inf else ""

    def read(value: object) -> int | None:
        if inf and value == math.inf:
            return None
        if type(value) is not int or value < least:
            raise _wrong(value, f"whole milliseconds of at least {least}{or_inf}")
        if value > MAX_MS:
            raise _wrong(value, f"at most {MAX_MS}, a year{or_inf}")
        return value

    return read


def _list(
    read_entry: Reader, what: str, check: Callable[[list[Any]], Iterable[str]] = lambda _: ()
) -> Reader:
    """A list of which every entry fits, and all together; tells everything that does not."""

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(value, f"a list of {what}")
        found: list[Any] = []
        complaints: list[str] = []
        for entry in value:
            try:
                found.append(read_entry(entry))
            except _Wrong as wrong:
                complaints += wrong.args
        complaints += check(found)
        if complaints:
            raise _Wrong(*complaints)
        return tuple(found)

    return read


def _pattern(value: object) -> NodePattern:
    try:
        return NodePattern.parse(value if isinstance(value, str) else "")
    except NodeNameError:
        raise _wrong(value, _NAME) from None


def _tier(value: object) -> tuple[NodePattern, ...]:
    if value == [] or not isinstance(value, str | list):
        raise _wrong(value, f"{_NAME}, or a list of such names")
    return tuple(_PATTERNS(value if isinstance(value, list) else [value]))


def _nodes(value: object) -> PriorityList:
    if value == []:
        raise _wrong(value, "at least one name")
    return PriorityList(_TIERS(value))


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_group(text: str, version: int) -> bool:
    """Whether it is a multicast address; on which interfaces is another key."""
    address = _ip(text)
    return bool(address and address.version == version and address.is_multicast) and "%" not in text


def _is_numeric(text: str) -> bool:
    """Whether it is an address that a socket can have. A link-local IPv6 one needs its interface
    (RFC 4007 6), and any other may not have one."""
    address = _ip(text)
    if address is None or address.is_multicast or text == "255.255.255.255":
        return False
    if isinstance(address, IPv4Address):
        return True
    zone = address.scope_id
    return bool(zone and _INTERFACE.fullmatch(zone)) if address.is_link_local else zone is None


def _is_host(text: str) -> bool:
    """Whether it can be the host part of a node name."""
    try:
        NodePattern.parse(f"a@{text}")
    except NodeNameError:
        return False
    # What ends in a number is meant as an address; the resolver takes 10.1 for 10.0.0.1.
    return not text.rstrip(".").rpartition(".")[2].isdigit() or _is_numeric(text)


def _listen(value: object) -> str:
    """An address in the kernel's spelling, as that of an interface is compared with it, or ""."""
    text: str = _ADDRESS(value)
    if not text:
        return ""
    address = ip_address(text)
    spelled = str(getattr(address, "ipv4_mapped", None) or address)
    return "" if spelled == "::" else spelled  # for sockets of ours :: is IPv4 too


_PATTERNS = _list(_pattern, "names as a or a@manticore")
_TIERS = _list(_tier, "names and lists of names", lambda tiers: repeated(chain(*tiers)))
_SYNC_NODES = _list(_pattern, "names as a or a@manticore", repeated)
_PATH = _text(
    lambda text: text[:1] == "/" != text[-1:] and text.isprintable(), "the absolute path of a file"
)
_PORT = _number(1, 65535, "a port")
_ADDRESS = _or_empty(_is_numeric, "a numeric address as 10.0.0.1, fd00::1 or fe80::1%eth0")
_INTERFACE_NAME = _text(_INTERFACE.fullmatch, "an interface's name, at most 15 letters, as eth0")

_DISTRIBUTED: dict[str, Reader] = {
    "application": _text(_WORD.fullmatch, "a word of at most 63 letters, digits, _ and -"),
    "nodes": _nodes,
    "timeout": _time(0, inf=True),
    "sync_nodes_mandatory": _SYNC_NODES,
    "sync_nodes_optional": _SYNC_NODES,
    "sync_nodes_timeout": _time(1, inf=True),
    "quorum": _text(lambda text: text in ("reachable", "majority"), '"reachable" or "majority"'),
    "takeover": _value(lambda value: isinstance(value, bool), "true or false"),
    "takeover_delay": _time(0),
}
_NODE: dict[str, Reader] = {
    "host": _or_empty(_is_host, "a host as manticore or 10.0.0.1"),
    "cookie_file": _PATH,
    "listen": _listen,
    "port": _number(1, 65535 - MORE_PORTS, "a port"),
    "tick": _number(TICK_MS[0], TICK_MS[-1], "whole milliseconds"),
}
_DISCOVERY: dict[str, Reader] = {
    "group": _or_empty(lambda text: _is_group(text, 4), "IPv4 multicast as 239.192.64.41"),
    "group6": _or_empty(lambda text: _is_group(text, 6), "IPv6 multicast as ff02::6368:7563"),
    "port": _PORT,
    "interfaces": _list(_INTERFACE_NAME, "interface names"),
    "interval": _time(100),
    "peers": _list(_text(_peer_parts, _PEERS), "peers"),
}
_FACTS: dict[str, Reader] = {
    "file": _PATH,
    "listen": _listen,
    "port": _PORT,
    "standby": _text(lambda text: text in ("relay", "closed"), '"relay" or "closed"'),
    "hold": _time(0),
    "max_connections": _number(1, 1_000_000),
}
_SECTIONS: dict[str, tuple[type[Any], dict[str, Reader]]] = {
    "distributed": (Distributed, _DISTRIBUTED),
    "node": (Node, _NODE),
    "discovery": (Discovery, _DISCOVERY),
    "facts": (Facts, _FACTS),
}
