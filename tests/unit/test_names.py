"""Node names, patterns and addresses: what parses, what is refused, what is equal to what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chucky.errors import NodeNameError
from chucky.names import Address, NodeName, NodePattern

PARTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}", fullmatch=True)
HOSTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", fullmatch=True) | st.ip_addresses(
    v=6
).map(lambda address: f"[{address}]")

MALFORMED = [
    "",
    "@",
    "@manticore",
    "a@",
    "a@@manticore",
    "a@b@c",
    "a b@manticore",
    "a@man ticore",
    "-a@manticore",
    ".a@manticore",
    "a.b@manticore",
    "../a@manticore",
    "a/b@manticore",
    "a@-manticore",
    "a@.manticore",
    "a@../manticore",
    "a@man/ticore",
    "a\n@manticore",
    "a@manticore\n",
    "é@manticore",
    "a@é",
    "a@fd00::1",
    "a@[fd00::1",
    "a@[fe80::1%eth0]",
    "a@[]",
    "a" * 64 + "@manticore",
    "a@" + "h" * 254,
]


@pytest.mark.parametrize(
    ("text", "name", "host"),
    [
        ("a@manticore", "a", "manticore"),
        ("one@192.168.0.100", "one", "192.168.0.100"),
        ("a@[fd00::1]", "a", "[fd00::1]"),
        ("_A-9@db_1.example.org", "_A-9", "db_1.example.org"),
        ("a" * 63 + "@" + "h" * 253, "a" * 63, "h" * 253),
    ],
)
def test_full_names(text: str, name: str, host: str) -> None:
    assert NodeName.parse(text) == NodeName(name, host)
    assert NodeName.parse(text, host="other") == NodeName(name, host)
    assert NodePattern.parse(text) == NodePattern(name, host)


def test_a_bare_name_is_on_the_given_host() -> None:
    assert NodeName.parse("a", host="manticore") == NodeName("a", "manticore")
    assert NodePattern.parse("a") == NodePattern("a", "")


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text: str) -> None:
    for parse in (NodeName.parse, NodePattern.parse):
        with pytest.raises(NodeNameError) as caught:
            parse(text)
        assert len(str(caught.value).splitlines()) == 1
        assert repr(text) in str(caught.value)


def test_a_bare_name_needs_a_good_host() -> None:
    for host in ("", "man ticore", "-x"):
        with pytest.raises(NodeNameError, match=rf"on host '{host}' .of --host, \[node\] host or"):
            NodeName.parse("a", host=host)


@given(PARTS, HOSTS)
def test_text_and_back(name: str, host: str) -> None:
    assert NodeName.parse(str(NodeName(name, host))) == NodeName(name, host)
    assert NodePattern.parse(str(NodePattern(name, host))) == NodePattern(name, host)
    assert NodePattern.parse(str(NodePattern(name))) == NodePattern(name)


@given(st.text())
def test_any_text_parses_to_itself_or_is_refused(text: str) -> None:
    try:
        assert str(NodeName.parse(text)) == text
    except NodeNameError:
        pass


def test_order_is_by_name_then_host() -> None:
    names = [NodeName("b", "a"), NodeName("a", "z"), NodeName("a", "b"), NodeName("B", "z")]
    assert [str(name) for name in sorted(names)] == ["B@z", "a@b", "a@z", "b@a"]


@pytest.mark.parametrize(
    ("pattern", "node", "matches"),
    [
        ("a", "a@manticore", True),
        ("a", "b@manticore", False),
        ("a@manticore", "a@manticore", True),
        ("a@manticore", "a@chimera", False),
        ("a@manticore", "b@manticore", False),
        ("a", "aa@manticore", False),
    ],
)
def test_a_pattern_matches(pattern: str, node: str, matches: bool) -> None:
    assert NodePattern.parse(pattern).matches(NodeName.parse(node)) is matches


@pytest.mark.parametrize(
    ("host", "text", "loopback", "link_local"),
    [
        ("10.0.0.1", "10.0.0.1:4041", False, False),
        ("127.0.0.1", "127.0.0.1:4041", True, False),
        ("127.9.9.9", "127.9.9.9:4041", True, False),
        ("169.254.1.2", "169.254.1.2:4041", False, True),
        ("::1", "[::1]:4041", True, False),
        ("fd00::1", "[fd00::1]:4041", False, False),
        ("fe80::1%eth0", "[fe80::1%eth0]:4041", False, True),
        ("FEBF::1%eth0", "[FEBF::1%eth0]:4041", False, True),
        ("fec0::1", "[fec0::1]:4041", False, False),
        ("manticore", "manticore:4041", False, False),
    ],
)
def test_addresses(host: str, text: str, loopback: bool, link_local: bool) -> None:
    address = Address(host, 4041)
    assert str(address) == text
    assert (address.is_loopback, address.is_link_local) == (loopback, link_local)
