"""Beacons survive the datagram; nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chucky.errors import BadMessage
from chucky.messages import Beacon
from chucky.names import NodeName
from chucky.wire import beacon
from tests.unit.strategies import beacons

LONGEST = Beacon(NodeName("n" * 63, "h" * 253), 2**64 - 1, 65535, True)


@given(beacons)
def test_round_trip(one: Beacon) -> None:
    assert beacon.decode(beacon.encode(one)) == one


@given(beacons, st.binary(max_size=20))
def test_what_a_newer_version_appends_is_skipped(one: Beacon, more: bytes) -> None:
    assert beacon.decode(beacon.encode(one) + more) == one


def test_the_longest_fits() -> None:
    data = beacon.encode(LONGEST)
    assert len(data) <= beacon.MAX_BEACON
    assert beacon.decode(data) == LONGEST


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_decode_or_are_bad(data: bytes, headed: bool) -> None:
    head = beacon.encode(LONGEST)[:14] if headed else b""
    try:
        found = beacon.decode(head + data)
    except BadMessage:
        return
    assert beacon.decode(beacon.encode(found)) == found


def test_other_magic_version_or_size_is_bad() -> None:
    good = beacon.encode(Beacon(NodeName("a", "manticore"), 1, 4041))
    for at in range(14):
        with pytest.raises(BadMessage):
            beacon.decode(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
    beacon.decode(good.ljust(beacon.MAX_BEACON, b"\0"))
    with pytest.raises(BadMessage):
        beacon.decode(good.ljust(beacon.MAX_BEACON + 1, b"\0"))
    for end in range(len(good) - 1):  # the last field has a default
        with pytest.raises(BadMessage):
            beacon.decode(good[:end])
