"""The config file: every setting, every refusal, word for word."""

import configparser
import os
import re
import socket
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from chucky import config
from chucky.errors import ConfigError
from chucky.names import Address, NodePattern
from chucky.priority import PriorityList
from chucky.settings import Distributed, Facts, Settings

SHIPPED = Path(__file__).parents[2] / "etc" / "chucky" / "node.toml"
SECTIONS = {field.name: field for field in fields(Settings)}


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    assert all(len(problem.splitlines()) == 1 for problem in caught.value.problems)
    return list(caught.value.problems)


def setting(section: str, key: str, value: str) -> Any:
    """What one `key = value` line is read as; no other setting may change."""
    settings, _ = config.parse(f"[{section}]\n{key} = {value}\n")
    part = getattr(settings, section)
    name = key if hasattr(part, key) else f"{key}_ms"
    default = getattr(getattr(Settings(), section), name)
    assert replace(settings, **{section: replace(part, **{name: default})}) == Settings()
    return getattr(part, name)


# The shipped file


def test_the_shipped_file_says_what_the_defaults_are() -> None:
    assert config.load(SHIPPED) == (Settings(), ())


def test_the_shipped_file_has_every_key_once_and_explains_it() -> None:
    lines = SHIPPED.read_text().splitlines()
    keys = {
        section: [field.name.removesuffix("_ms") for field in fields(getattr(Settings(), section))]
        for section in SECTIONS
    }
    assert {name: list(table) for name, table in tomli.loads("\n".join(lines)).items()} == keys
    for number, line in enumerate(lines):
        if re.match(r"[a-z]", line):
            assert "#" not in line, "a comment stands on a line of its own"
            above = lines[number - 1]
            assert above.startswith("#") or above.startswith("group ="), f"{line}: no comment"


def test_the_shipped_file_loads_as_ini_too() -> None:
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(SHIPPED.read_text())
    read = {
        section: {key: tomli.loads("x = " + value)["x"] for key, value in ini.items(section)}
        for section in ini.sections()
    }
    assert read == tomli.loads(SHIPPED.read_text())
    assert read.keys() == SECTIONS.keys()


def test_the_shipped_file_says_what_an_ini_reader_of_its_peers_needs() -> None:
    head = SHIPPED.read_text().partition("\n\n")[0]
    (peer,) = re.findall(r'"\S+%\S+"', SHIPPED.read_text())
    text = f"[discovery]\npeers = [{peer}]\n"
    by_default, without = configparser.ConfigParser(), configparser.ConfigParser(interpolation=None)
    for ini in (by_default, without):
        ini.read_string(text)
    with pytest.raises(configparser.InterpolationSyntaxError):
        by_default.get("discovery", "peers")
    assert without.get("discovery", "peers") == f"[{peer}]"
    assert "interpolation=None" in head and "%" in head


def test_an_empty_file_is_all_defaults() -> None:
    assert config.parse("") == (Settings(), ())
    assert config.parse("# nothing\n[node]\r\n[facts]\n") == (Settings(), ())


def test_every_field_has_a_reader() -> None:
    """A value of no type that fits anywhere is refused for every key, so every key is known."""
    text = "".join(
        f"[{name}]\n"
        + "".join(
            f"{field.name.removesuffix('_ms')} = 1979-05-27\n"
            for field in fields(getattr(Settings(), name))
        )
        for name in SECTIONS
    )
    found = problems(text)
    assert len(found) == text.count("1979")
    assert all(": got 1979-05-27, want " in problem for problem in found)


# Values that fit

A, B, C = map(NodePattern, "abc")


@pytest.mark.parametrize(
    ("section", "key", "value", "means"),
    [
        ("distributed", "application", '"my_app-2"', "my_app-2"),
        ("distributed", "nodes", '["c"]', PriorityList(((C,),))),
        ("distributed", "nodes", '[["c"]]', PriorityList(((C,),))),
        ("distributed", "nodes", '["b", ["a", "c"]]', PriorityList(((B,), (A, C)))),
        (
            *("distributed", "nodes", '["a@x", ["a@y", "b@[fd00::1]"]]'),
            PriorityList(
                ((NodePattern("a", "x"),), (NodePattern("a", "y"), NodePattern("b", "[fd00::1]")))
            ),
        ),
        ("distributed", "timeout", "0", 0),
        ("distributed", "timeout", "1_000", 1000),
        ("distributed", "timeout", "inf", None),
        ("distributed", "timeout", "31622400000", config.MAX_MS),
        ("distributed", "sync_nodes_mandatory", '["a", "b"]', (A, B)),
        ("distributed", "sync_nodes_optional", '["a@x", "a@y"]', None),
        ("distributed", "sync_nodes_timeout", "1", 1),
        ("distributed", "sync_nodes_timeout", "inf", None),
        ("distributed", "quorum", '"reachable"', "reachable"),
        ("distributed", "takeover", "false", False),
        ("distributed", "takeover_delay", "7", 7),
        ("node", "host", '"manticore"', "manticore"),
        ("node", "host", '"10.0.0.1"', "10.0.0.1"),
        ("node", "host", '"[fd00::1]"', "[fd00::1]"),
        ("node", "cookie_file", '"/run/my cookie"', "/run/my cookie"),
        ("node", "listen", '"10.0.0.1"', "10.0.0.1"),
        ("node", "listen", '"0.0.0.0"', "0.0.0.0"),
        ("node", "listen", '"::"', ""),
        ("node", "listen", '"fe80::1%eth0"', "fe80::1%eth0"),
        ("node", "port", "1", 1),
        ("node", "port", "65526", 65526),
        ("node", "tick", "10", 10),
        ("discovery", "group", '""', ""),
        ("discovery", "group", '"224.0.0.251"', "224.0.0.251"),
        ("discovery", "group6", '""', ""),
        ("discovery", "group6", '"FF05::1"', "FF05::1"),
        ("discovery", "port", "65535", 65535),
        ("discovery", "interfaces", '["eth0", "enp0s31f6.100-a"]', ("eth0", "enp0s31f6.100-a")),
        ("discovery", "interval", "100", 100),
        ("discovery", "peers", '["b", "[fd00::1]:4041"]', ("b", "[fd00::1]:4041")),
        ("facts", "file", '"/a"', "/a"),
        ("facts", "listen", '"::1"', "::1"),
        ("facts", "port", "1", 1),
        ("facts", "standby", '"closed"', "closed"),
        ("facts", "hold", "9000", 9000),
        ("facts", "max_connections", "1", 1),
        ("facts", "max_connections", "1000000", 1_000_000),
    ],
)
def test_reads(section: str, key: str, value: str, means: object) -> None:
    if key == "sync_nodes_optional":
        means = (NodePattern("a", "x"), NodePattern("a", "y"))
    assert setting(section, key, value) == means


# Values that do not

NAME = "a name as a or a@manticore"
NAMES = "a list of names as a or a@manticore"
TIERS = "a list of names and lists of names"
TIER = f"{NAME}, or a list of such names"
LISTEN = 'a numeric address as 10.0.0.1, fd00::1 or fe80::1%eth0, or ""'
PATH = "the absolute path of a file"
GROUP = 'IPv4 multicast as 239.192.64.41, or ""'
GROUP6 = 'IPv6 multicast as ff02::6368:7563, or ""'
PEERS = "host, host:port, [fd00::1]:port or [fe80::1%eth0]:port"
WORD = "a word of at most 63 letters, digits, _ and -"
QUORUM = '"reachable" or "majority"'
TOO_LONG = "at most 31622400000, a year"
INTERFACE = "an interface's name, at most 15 letters, as eth0"
HOST = 'a host as manticore or 10.0.0.1, or ""'


def times(least: int) -> str:
    return f"whole milliseconds of at least {least}"


@pytest.mark.parametrize(
    ("key", "value", "want"),
    [
        ("distributed.application", '""', WORD),
        ("distributed.application", '"two words"', WORD),
        ("distributed.application", "1", WORD),
        ("distributed.application", f'"{"a" * 64}"', WORD),
        ("distributed.nodes", "[]", "at least one name"),
        ("distributed.nodes", '"a"', TIERS),
        ("distributed.timeout", '"5s"', f"{times(0)}, or inf"),
        ("distributed.timeout", "-1", f"{times(0)}, or inf"),
        ("distributed.timeout", "5.0", f"{times(0)}, or inf"),
        ("distributed.timeout", "-inf", f"{times(0)}, or inf"),
        ("distributed.timeout", "nan", f"{times(0)}, or inf"),
        ("distributed.timeout", "true", f"{times(0)}, or inf"),
        ("distributed.timeout", "[]", f"{times(0)}, or inf"),
        ("distributed.timeout", "31622400001", f"{TOO_LONG}, or inf"),
        ("distributed.sync_nodes_mandatory", '"a"', NAMES),
        ("distributed.sync_nodes_mandatory", "{}", NAMES),
        ("distributed.sync_nodes_timeout", "0", f"{times(1)}, or inf"),
        ("distributed.sync_nodes_timeout", "false", f"{times(1)}, or inf"),
        ("distributed.quorum", '"half"', QUORUM),
        ("distributed.quorum", "2", QUORUM),
        ("distributed.takeover", "1", "true or false"),
        ("distributed.takeover", '"true"', "true or false"),
        ("distributed.takeover_delay", "-1", times(0)),
        ("distributed.takeover_delay", "inf", times(0)),
        ("distributed.takeover_delay", "31622400001", TOO_LONG),
        ("node.host", '"man ticore"', HOST),
        ("node.host", '"a@manticore"', HOST),
        ("node.host", '"10.0.0.256"', HOST),
        ("node.host", "10", HOST),
        ("node.cookie_file", '""', PATH),
        ("node.cookie_file", '"cookie"', PATH),
        ("node.cookie_file", '"/etc/chucky/"', PATH),
        ("node.cookie_file", '"/"', PATH),
        ("node.cookie_file", r'"/etc/a\u0000b"', PATH),
        ("node.cookie_file", r'"/etc/a\nb"', PATH),
        ("node.listen", '"manticore"', LISTEN),
        ("node.listen", '"10.0.0"', LISTEN),
        ("node.listen", '"[fd00::1]"', LISTEN),
        ("node.listen", '"239.192.64.41"', LISTEN),
        ("node.listen", '"255.255.255.255"', LISTEN),
        ("node.listen", '"fe80::1"', LISTEN),
        ("node.listen", '"fd00::1%eth0"', LISTEN),
        ("node.listen", '"fe80::1%longer-than-fifteen"', LISTEN),
        ("node.listen", "4041", LISTEN),
        ("node.port", "0", "a port from 1 to 65526"),
        ("node.port", "65527", "a port from 1 to 65526"),
        ("node.port", "true", "a port from 1 to 65526"),
        ("node.tick", "9", "whole milliseconds from 10 to 10000"),
        ("node.tick", "10001", "whole milliseconds from 10 to 10000"),
        ("discovery.group", '"10.0.0.1"', GROUP),
        ("discovery.group", '"ff02::1"', GROUP),
        ("discovery.group", "false", GROUP),
        ("discovery.group6", '"fd00::1"', GROUP6),
        ("discovery.group6", '"239.192.64.41"', GROUP6),
        ("discovery.group6", '"ff02::1%eth0"', GROUP6),
        ("discovery.port", "65536", "a port from 1 to 65535"),
        ("discovery.interfaces", '"eth0"', "a list of interface names"),
        ("discovery.interval", "99", times(100)),
        ("discovery.peers", '"b"', "a list of peers"),
        ("facts.file", '"facts.txt"', PATH),
        ("facts.listen", '"localhost"', LISTEN),
        ("facts.port", '"4040"', "a port from 1 to 65535"),
        ("facts.standby", '"open"', '"relay" or "closed"'),
        ("facts.standby", "true", '"relay" or "closed"'),
        ("facts.hold", "-1", times(0)),
        ("facts.max_connections", "0", "a whole number from 1 to 1000000"),
        ("facts.max_connections", "1000001", "a whole number from 1 to 1000000"),
    ],
)
def test_refuses(key: str, value: str, want: str) -> None:
    section, _, name = key.partition(".")
    (problem,) = problems(f"[{section}]\n{name} = {value}\n")
    got = re.escape(value) if len(value) <= 60 and value != "{}" else ".*"
    assert re.fullmatch(f"{re.escape(key)}: got {got}, want {re.escape(want)}", problem), problem


@pytest.mark.parametrize(
    ("key", "value", "complaints"),
    [
        ("distributed.nodes", '["a b", 1]', [f'got "a b", want {NAME}', f"got 1, want {TIER}"]),
        ("distributed.nodes", '["a", []]', [f"got [], want {TIER}"]),
        ("distributed.nodes", '[["a", ["b"]]]', [f'got ["b"], want {NAME}']),
        ("distributed.nodes", '["a", "a"]', ['got "a" beside "a", want each node once']),
        ("distributed.nodes", '["a", ["b", "a"]]', ['got "a" beside "a", want each node once']),
        ("distributed.nodes", '["a", "a@h"]', ['got "a@h" beside "a", want each node once']),
        ("distributed.nodes", '["a@h", "a"]', ['got "a" beside "a@h", want each node once']),
        ("distributed.nodes", '["a@h", "a@h"]', ['got "a@h" beside "a@h", want each node once']),
        (
            *("distributed.nodes", '["a", "b", "b", "a", "-"]'),
            [
                f'got "-", want {NAME}',
                'got "b" beside "b", want each node once',
                'got "a" beside "a", want each node once',
            ],
        ),
        ("distributed.sync_nodes_optional", '[["a"]]', [f'got ["a"], want {NAME}']),
        (
            *("distributed.sync_nodes_mandatory", '["a", "a"]'),
            [
                'got "a" beside "a", want each node once',
            ],
        ),
        (
            *(
                "discovery.interfaces",
                '["eth0", "", "a/b", "a:1", "..", "sixteen-letters-", "e 0"]',
            ),
            [
                f"got {name}, want {INTERFACE}"
                for name in ('""', '"a/b"', '"a:1"', '".."', '"sixteen-letters-"', '"e 0"')
            ],
        ),
        (
            "discovery.peers",
            '["b:0", 4041]',
            [f'got "b:0", want {PEERS}', f"got 4041, want {PEERS}"],
        ),
    ],
)
def test_tells_all_that_is_wrong_in_a_list(key: str, value: str, complaints: list[str]) -> None:
    section, _, name = key.partition(".")
    assert problems(f"[{section}]\n{name} = {value}\n") == [f"{key}: {text}" for text in complaints]


@pytest.mark.parametrize(
    ("mandatory", "optional", "complaint"),
    [
        ('["a"]', '["a"]', 'got "a" beside "a"'),
        ('["b", "a"]', '["c", "a@h"]', 'got "a@h" beside "a"'),
        ('["a@h"]', '["a"]', 'got "a" beside "a@h"'),
    ],
)
def test_a_node_in_both_sync_lists(mandatory: str, optional: str, complaint: str) -> None:
    assert problems(
        f"[distributed]\nsync_nodes_mandatory = {mandatory}\nsync_nodes_optional = {optional}\n"
    ) == [
        f"distributed.sync_nodes_optional: {complaint}, want each node in one of the two sync lists"
    ]


KEYS = "application, nodes, timeout, sync_nodes_mandatory, sync_nodes_optional, sync_nodes_timeout"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[distributed]\ntimeot = 1",
            "distributed.timeot: got an unknown key, want timeout",
        ),
        (
            "[distributed]\nsync_node_mandatory = []",
            "distributed.sync_node_mandatory: got an unknown key, want sync_nodes_mandatory",
        ),
        (
            "[node]\nstandby = true",
            "node.standby: got an unknown key, want it under [facts]",
        ),
        (
            "[distributed]\nxyzzy = 1",
            f"distributed.xyzzy: got an unknown key, want one of {KEYS}, quorum, takeover,"
            " takeover_delay",
        ),
        (
            '[node]\n"a\\nb" = 1',
            'node."a\\nb": got an unknown key, want one of host, cookie_file, listen, port, tick',
        ),
        (
            "[node.port]\nx = 1",
            "node.port: got a table, want a port from 1 to 65526",
        ),
        (
            "[node]\nhots.name = 1",
            "node.hots: got an unknown key, want host",
        ),
        (
            "[distrbuted]\ntimeout = 1",
            "distrbuted: got an unknown section, want [distributed]",
        ),
        (
            "[xyzzy]",
            "xyzzy: got an unknown section, want [distributed] or [node] or [discovery] or [facts]",
        ),
        (
            "timeout = 1",
            "timeout: got a key outside a section, want it under [distributed]",
        ),
        (
            "fact = 1",
            "fact: got a key outside a section, want [facts]",
        ),
        (
            "node = 1",
            "node: got 1, want a section [node]",
        ),
        (
            "[[node]]\nport = 1",
            "node: got [a table], want a section [node]",
        ),
    ],
)
def test_unknown_names(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_all_problems_at_once() -> None:
    text = '[node]\nport = 0\nprt = 1\n[facts]\nfile = ""\n[discovry]\n[distributed]\nnodes = 1\n'
    found = problems(text)
    assert [problem.split(":")[0] for problem in found] == [
        *("distributed.nodes", "node.port", "node.prt", "facts.file", "discovry"),
    ]
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "/etc/other.toml")
    assert str(caught.value).startswith("/etc/other.toml: distributed.nodes: got 1, want ")
    assert caught.value.where == "/etc/other.toml"
    assert len(str(caught.value).splitlines()) == 1


A_LINE = "a line is [section], key = value or # comment"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[node]\nport 4041\n", f"line 2: Expected '=' after a key in a key/value pair; {A_LINE}"),
        ("[node]\n\nport = 4041x\n", "line 3: Expected newline or end of document"),
        ('[node]\nhost = "x\n', "line 2: Illegal character '\\n'"),
        ('[node]\nhost = "x', "line 2: Unterminated string"),
        ("[node]\nport = 1\nport = 2\n", "line 3: Cannot overwrite a value; want each key once"),
        (
            "[node]\n[node]\n",
            "line 2: Cannot declare [node] twice;"
            " want each section once: change its lines where they are",
        ),
        (
            "[distributed]\nquorum = majority\n",
            'line 2: Invalid value; want "text" in quotes, a number, true, false or a [list]',
        ),
        ("[facts]\nport = 1\n[discovery]\npeers = [1\n", "line 4: Unclosed array"),
        ("x = " + "[" * 20000, "got lists nested too deep to read, want [section]s"),
        ("x = " + "1" * 5000, "got a number of more than 4300 digits, want a smaller one"),
    ],
)
def test_syntax_errors_tell_the_line(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"é\\u2028\\n\\u001b"', '"\\u00e9\\u2028\\n\\u001b"'),
        (f'"{"x" * 1000}"', f'"{"x" * 59}...'),
        ("0x" + "f" * 9000, f"0x{'f' * 58}..."),
        ("[" * 50 + "]" * 50, "[[[...]]]"),
        ('[1, true, "x", {a = 1}]', '[1, true, "x", a table]'),
        (f"[{'1, ' * 10000}]", f"[{'1, ' * 19}1,..."),
    ],
)
def test_shows_any_value_on_one_short_line(value: str, shown: str) -> None:
    (problem,) = problems(f"[node]\nport = {value}\n")
    assert problem == f"node.port: got {shown}, want a port from 1 to 65526"


# Warnings


def warnings(text: str) -> list[str]:
    _, found = config.parse(text)
    assert all(len(warning.splitlines()) == 1 for warning in found)
    return [warning.partition(";")[0].partition(" (4")[0] for warning in found]


BELOW_TIMEOUT = (
    "facts.hold: {} is below distributed.timeout, {}: requests are given up before a failover can"
    " answer them"
)
AT_ONCE = (
    'distributed.timeout: 0 with quorum "reachable": each short cut of the network makes two owners'
)
BELOW_SILENCE = "facts.hold: 4999 is below the tick time, 5000"
BELOW_TICK_TIME = "distributed.timeout: {} is below the tick time, {}"


@pytest.mark.parametrize(
    ("timeout", "hold", "tick", "expected"),
    [
        ("5000", 0, 250, []),
        ("5000", 5000, 250, []),
        ("5000", 4999, 250, [BELOW_TIMEOUT.format(4999, 5000)]),
        ("1000", 0, 250, []),
        ("999", 0, 250, [BELOW_TICK_TIME.format(999, 1000)]),
        ("1000", 0, 251, [BELOW_TICK_TIME.format(1000, 1004)]),
        ("0", 0, 250, [AT_ONCE, BELOW_TICK_TIME.format(0, 1000)]),
        ("inf", 1, 250, []),
        ("4000", 4999, 1250, [BELOW_SILENCE, BELOW_TICK_TIME.format(4000, 5000)]),
        ("4000", 5000, 1250, [BELOW_TICK_TIME.format(4000, 5000)]),
        ("900", 1, 250, [BELOW_TIMEOUT.format(1, 900), BELOW_TICK_TIME.format(900, 1000)]),
    ],
)
def test_warns(timeout: str, hold: int, tick: int, expected: list[str]) -> None:
    text = f"[distributed]\ntimeout = {timeout}\n[facts]\nhold = {hold}\n[node]\ntick = {tick}\n"
    assert warnings(text) == expected


@pytest.mark.parametrize(
    ("mandatory", "sync_timeout", "warns"),
    [('["b"]', "999", True), ('["b"]', "1000", False), ('["b"]', "inf", False), ("[]", "1", False)],
)
def test_warns_of_a_sync_too_short_to_meet(mandatory: str, sync_timeout: str, warns: bool) -> None:
    lists = f"sync_nodes_mandatory = {mandatory}\nsync_nodes_timeout = {sync_timeout}\n"
    told = "distributed.sync_nodes_timeout: 999 is too short for nodes to meet in, and one that"
    found = warnings(f"[distributed]\n{lists}")
    assert found == ([f"{told} misses a mandatory node exits"] if warns else [])


def ports(facts: int, facts_listen: str = "", node_listen: str = "") -> str:
    node = f'[node]\nport = 4050\nlisten = "{node_listen}"\n'
    return f'{node}[facts]\nport = {facts}\nlisten = "{facts_listen}"\n'


@pytest.mark.parametrize("section", ["node", "facts"])
@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("FD77:0::2", "fd77::2"),
        ("fe80:0:0::AB%eth0", "fe80::ab%eth0"),
        ("fd00:0:0:1:0:0:0:1", "fd00:0:0:1::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_address_to_listen_on_is_spelled_as_the_kernel_does(
    section: str, text: str, spelled: str
) -> None:
    parsed = config.parse(f'[{section}]\nlisten = "{text}"\n')[0]
    assert getattr(parsed, section).listen == spelled
    if "%" not in spelled:
        family = socket.AF_INET6 if ":" in spelled else socket.AF_INET
        assert socket.inet_ntop(family, socket.inet_pton(family, text)) == spelled


@pytest.mark.parametrize(
    ("text", "meant"), [("::ffff:10.0.0.1", "10.0.0.1"), ("::ffff:0:0", "0.0.0.0")]
)
def test_an_address_of_the_other_family_in_disguise_is_that_one(text: str, meant: str) -> None:
    assert config.parse(f'[node]\nlisten = "{text}"\n')[0].node.listen == meant


@pytest.mark.parametrize(
    "listens",
    [
        ("", ""), ("10.0.0.1", ""), ("", "::1"), ("::1", "::1"), ("::1", "0::1"),
        ("::", "10.0.0.1"), ("::1", "::"), ("10.0.0.1", "0.0.0.0"), ("0.0.0.0", "::"),
    ],
)  # fmt: skip
def test_facts_and_links_cannot_share_a_port(listens: tuple[str, str]) -> None:
    wish = "want another port than node.port, where the links are"
    assert problems(ports(4050, *listens)) == [f"facts.port: got 4050, {wish}"]
    assert warnings(ports(4049, *listens)) == []
    for port in (4051, 4059):
        assert warnings(ports(port, *listens)) == [
            f"facts.port: {port} is one of 4050 to 4059, and a second node on this host may take it"
            " for its links"
        ]
    assert warnings(ports(4060, *listens)) == []


def test_on_two_addresses_facts_and_links_share_a_port() -> None:
    assert warnings(ports(4050, "10.0.0.1", "10.0.0.2")) == []
    assert warnings(ports(4050, "0.0.0.0", "fd00::1")) == []


# Peers


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("manticore", "manticore", None),
        ("manticore.example.org:1", "manticore.example.org", 1),
        ("10.0.0.2", "10.0.0.2", None),
        ("10.0.0.2:65535", "10.0.0.2", 65535),
        ("fd00::1", "fd00::1", None),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("[fd00::1]", "fd00::1", None),
        ("[fd00::1]:4050", "fd00::1", 4050),
        ("[fe80::1%eth0]:4050", "fe80::1%eth0", 4050),
    ],
)
def test_peers(entry: str, host: str, port: int | None) -> None:
    ports = (4041, 4042, 4043) if port is None else (port,)
    assert config.peer_addresses(entry, 4041) == tuple(Address(host, number) for number in ports)


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", ":4041", "b:", "b:0", "b:65536", "b:x", "b:-1", "b:4041:1", "b 1", "a@b"),
        *("10.0.0.256", "10.1", "10.0.0.1.", "239.192.64.41", "0.0.0.0", "255.255.255.255"),
        *("[", "[]", "[]:1", "[b]:1", "[10.0.0.1]:1", "[fd00::1", "fd00::1]", "[fd00::1]1"),
        *("[fd00::1]:", "[fe80::1]:1", "[fd00::1%eth0]:1", "[fe80::1%a/b]:1", "[ff02::1]:1"),
        *("::", "[::]:1", "http://b", "b/c", "-b", "b\n", "b:1\n", "b:١", "[[fd00::1]]:1"),
    ],
)
def test_no_peers(entry: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f", want {PEERS}")):
        config.peer_addresses(entry, 4041)


# Files


def test_loads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[facts]\nport = 99 # "ä"\n', encoding="utf-8")
    assert config.load(path) == config.load(str(path)) == (Settings(facts=Facts(port=99)), ())


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).replace(str(path), "F")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda path: None,
            'F: No such file or directory; "sudo touch F" makes one that leaves every key at its'
            " default",
        ),
        (
            lambda path: path.mkdir(),
            "F: Is a directory; give the file in it, as F/node.toml",
        ),
        (
            lambda path: path.symlink_to(path.name),
            "F: Too many levels of symbolic links; give another file",
        ),
        (
            lambda path: path.write_bytes(b'[node]\nhost = "\xe9"\n'),
            "F: line 2: got byte 0xe9, want UTF-8 text",
        ),
        (
            lambda path: path.write_bytes(b"#" * (config.MAX_BYTES + 1)),
            "F: got more than 65536 bytes, want a config file",
        ),
        (
            lambda path: path.symlink_to("/dev/zero"),
            "F: got something else, want a regular file",
        ),
        (os.mkfifo, "F: got something else, want a regular file"),  # nobody writes to it
        (
            lambda path: path.write_bytes(b'\xef\xbb\xbf[node]\nhost = "\xe9"\n'),
            "F: line 2: got byte 0xe9, want UTF-8 text",
        ),
        (
            lambda path: path.write_text("[node]\nport = 0\n"),
            "F: node.port: got 0, want a port from 1 to 65526",
        ),
    ],
)
def test_what_cannot_be_loaded(
    tmp_path: Path, make: Callable[[Path], object], expected: str
) -> None:
    path = tmp_path / "node.toml"
    make(path)
    assert refusal(path) == expected


def test_a_file_in_no_directory(tmp_path: Path) -> None:
    missing = "No such file or directory; its folder is not there either, give another file"
    assert refusal(tmp_path / "nowhere" / "node.toml") == f"F: {missing}"


def test_a_file_in_the_working_directory_is_in_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert '"sudo touch F" makes one' in refusal(Path("node.toml"))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[facts]\nport = 99\n", encoding="utf-8-sig")
    assert config.load(path) == (Settings(facts=Facts(port=99)), ())


def test_the_file_in_a_directory_is_named_as_it_is() -> None:
    with pytest.raises(ConfigError, match="give the file in it, as /node.toml$"):
        config.load("/")


def test_a_file_of_the_greatest_size(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"#" * config.MAX_BYTES)
    assert config.load(tmp_path / "node.toml") == (Settings(), ())


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.touch(mode=0o000)
    child = os.fork()
    if child == 0:
        try:
            os.chdir(tmp_path)  # whose parents another user may not enter
            if os.geteuid() == 0:
                os.chmod(tmp_path, 0o755)
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            assert refusal(Path("node.toml")) == (
                'F: Permission denied; "sudo chmod a+r F" lets everyone read it'
            )
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


# Majority


def majority(*lines: str) -> str:
    return "\n".join(["[distributed]", 'quorum = "majority"', *lines])


def pinned(count: int) -> str:
    return f"nodes = {[f'{letter}@h{letter}' for letter in 'abcdefg'[:count]]}"


def test_majority_needs_each_entry_pinned_and_says_so_of_each() -> None:
    assert problems(majority('nodes = ["a", ["b@beta", "c"]]')) == [
        f'distributed.nodes: got "{x}", want its host, as "{x}@manticore", for majority'
        for x in "ac"
    ]
    assert len(problems(majority())) == 3, "the list that is the default is not pinned"


def test_majority_needs_more_than_one_entry() -> None:
    assert problems(majority(pinned(1))) == [
        "distributed.nodes: got 1 entry, want at least 3 for majority: one alone protects nothing"
    ]


@pytest.mark.parametrize(
    ("timeout", "tick", "problem"),
    [
        ("2000", 250, ""),
        ("1999", 250, "got 1999, want at least 2000 for majority (8 x node.tick)"),
        ("80", 10, ""),
        ("0", 10, "got 0, want at least 80 for majority (8 x node.tick)"),
        ("inf", 500, "got inf, want a time of at least 4000 for majority (8 x node.tick)"),
    ],
)
def test_majority_needs_a_timeout_of_two_tick_times(timeout: str, tick: int, problem: str) -> None:
    text = majority(pinned(3), f"timeout = {timeout}", "[node]", f"tick = {tick}")
    if problem:
        assert problems(text) == [f"distributed.timeout: {problem}"]
    else:
        settings, _ = config.parse(text)
        assert settings.distributed.quorum == "majority"


def test_majority_tells_everything_at_once() -> None:
    text = majority('nodes = ["a"]', "timeout = inf", 'takeover = "no"')
    keys = [problem.partition(": ")[0] for problem in problems(text)]
    assert keys == ["distributed.takeover", *["distributed.nodes"] * 2, "distributed.timeout"]


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (["nodes = 5", "timeout = 5000"], "distributed.nodes"),
        ([pinned(3), "timeout = -1"], "distributed.timeout"),
        ([pinned(3), "timeout = 1000", "[node]", "tick = 5"], "node.tick"),
    ],
)
def test_a_wrong_key_is_not_blamed_twice(lines: list[str], key: str) -> None:
    assert [problem.partition(": ")[0] for problem in problems(majority(*lines))] == [key]


@pytest.mark.parametrize(
    ("count", "warned"),
    [
        (2, "when one is away, the other does not serve; a third entry mends that"),
        (3, ""),
        (4, "1 of them may be away, as with 3; use one more or less"),
        (5, ""),
        (6, "2 of them may be away, as with 5; use one more or less"),
    ],
)
def test_majority_warns_of_a_number_that_gains_nothing(count: int, warned: str) -> None:
    _, warnings = config.parse(majority(pinned(count)))
    entries = f'distributed.nodes: {count} entries with quorum "majority"'
    assert warnings == ((f"{entries}: {warned}",) if warned else ())


def test_without_majority_none_of_it_is_asked_for() -> None:
    for lines in (["nodes = ['a']"], ["timeout = inf"], [pinned(2)], [pinned(4)]):
        assert config.parse("\n".join(["[distributed]", *lines]))[1] == ()


# Any text


VALUES = st.recursive(
    st.sampled_from(
        ['""', '"a"', '"a@b"', "0", "-1", "1e9", "inf", "nan", "true", "07:32:00", "{}"]
    )
    | st.integers().map(str)
    | st.text("ab@:[]%.0/ ", max_size=8).map(lambda text: f'"{text}"'),
    lambda inside: st.lists(inside, max_size=4).map(lambda values: f"[{', '.join(values)}]"),
)
KNOWN = [
    (section, field.name.removesuffix("_ms"))
    for section in SECTIONS
    for field in fields(getattr(Settings(), section))
]


@given(st.text() | st.text("[]\"'=.#\n abn{}0,_-\\", max_size=40))
def test_any_text_is_settings_or_a_config_error(text: str) -> None:
    try:
        settings, _ = config.parse(text)
        assert isinstance(settings, Settings)
    except ConfigError as error:
        assert error.problems
        assert all(len(problem.splitlines()) == 1 for problem in error.problems)


@given(st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=5))
def test_any_value_is_a_setting_or_told_by_its_key(values: dict[tuple[str, str], str]) -> None:
    text = "".join(
        f"[{section}]\n"
        + "".join(
            f"{key} = {value}\n" for (where, key), value in values.items() if where == section
        )
        for section in SECTIONS
    )
    try:
        config.parse(text)
    except ConfigError as error:
        told = {problem.partition(": got ")[0] for problem in error.problems}
        assert told <= {f"{section}.{key}" for section, key in values}
        assert all(", want " in problem for problem in error.problems)


NODES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["", "x", "y"])).map(
        lambda p: NodePattern(*p)
    ),
    min_size=1,
    max_size=4,
)


@given(NODES)
def test_a_list_is_accepted_when_no_two_entries_can_be_one_node(nodes: list[NodePattern]) -> None:
    """Against a slower twin: compare each with each."""
    clash = any(
        one.name == other.name and (one.host == other.host or "" in (one.host, other.host))
        for number, one in enumerate(nodes)
        for other in nodes[:number]
    )
    listed = ", ".join(f'"{node}"' for node in nodes)
    try:
        settings, _ = config.parse(f"[distributed]\nnodes = [{listed}]\n")
        assert not clash
        assert settings == Settings(Distributed(nodes=PriorityList(tuple((n,) for n in nodes))))
    except ConfigError:
        assert clash
