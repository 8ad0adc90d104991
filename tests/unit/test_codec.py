"""Messages survive the wire, strangers' bytes do no harm, and the bytes stay what they are."""

import os
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chucky.errors import BadMessage, LocalProtocolError
from chucky.messages import (
    Answer,
    Ask,
    Beacon,
    End,
    Epoch,
    Goodbye,
    Heard,
    Hello,
    Holds,
    Member,
    Message,
    NameTaken,
    Naming,
    Placed,
    Sign,
    Status,
)
from chucky.names import Address, NodeName
from chucky.wire import beacon, codec, framing
from tests.unit.strategies import messages

A = NodeName("a", "manticore")
B = NodeName("b", "manticore")
HOME = Address("192.168.0.100", 4041)
LINK_LOCAL = Address("fe80::1%eth0", 4042)

GOLDEN: dict[str, Message] = {
    "status": Status(
        tick=300,
        echo=2**40,
        digest=b"\x00\x01\x02\x03\x04\x05\x06\x07",
        phase="yielding",
        listed=True,
        able=True,
        highest=Epoch(3, NodeName("b", "h")),
        running=Epoch(3, A),
        naming=Naming(Epoch(3, A), B, 2**64 - 1, 247),
        signs=(Sign(Epoch(2, B), 7, 248, End.NAMED, 65536, A, 8, True),),
        hears=(Heard(Epoch(3, A), 8, Holds.RUNNING, b"", 0, 1),),
        wants=True,
        on_standby=True,
        placed=Placed(299, 60_000),
        anew=250,
        began=2,
    ),
    "hello": Hello(
        "1.0", 5000, 4041, (HOME, LINK_LOCAL), (("timeout", "inf"),), (Member(B, (HOME,)),)
    ),
    "name_taken": NameTaken(HOME),
    "goodbye": Goodbye("stopped"),
    "ask": Ask(1, 1, 1),
    "answer": Answer(1, Epoch(1, A), ("Chuck Norris a compté jusqu'à l'infini.",)),
}
BEACON = Beacon(A, 2**63, 4041, True)


@pytest.mark.parametrize("name", [*GOLDEN, "beacon"])
def test_golden_bytes(name: str) -> None:
    """CHUCKY_GOLDEN=write rewrites the files; do so only for a change of the wire that is meant."""
    data = beacon.encode(BEACON) if name == "beacon" else codec.encode(GOLDEN[name])
    path = Path(__file__).parent.parent / "golden" / f"{name}.hex"
    if os.environ.get("CHUCKY_GOLDEN") == "write":
        path.write_text(data.hex(" ", 2) + "\n")
    assert bytes.fromhex(path.read_text()) == data


def test_every_message_has_golden_bytes() -> None:
    assert {type(message) for message in GOLDEN.values()} == set(Message.__args__)


@given(messages)
def test_round_trip(message: Message) -> None:
    found = codec.decode(codec.encode(message))
    assert (type(found), found) == (type(message), message)  # tuples of two types may be equal


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_bad(data: bytes) -> None:
    try:
        codec.decode(data)
    except BadMessage:
        pass


@given(messages, st.data())
def test_damaged_bytes_decode_or_are_bad(message: Message, data: st.DataObject) -> None:
    good = bytearray(codec.encode(message))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        found = codec.decode(bytes(good))
    except BadMessage:
        return
    # What is accepted is a message like any other: it can be sent on.
    if found is not None:
        assert codec.decode(codec.encode(found)) == found


@given(messages, st.binary(max_size=20))
def test_what_a_newer_version_appends_is_skipped(message: Message, more: bytes) -> None:
    assert codec.decode(codec.encode(message) + more) == message


def test_what_an_older_version_does_not_send_takes_its_default() -> None:
    first_four = codec.encode(Status(1, 2, b"d", "standby"))[: 1 + 1 + 1 + 2 + 8]
    assert codec.decode(first_four) == Status(1, 2, b"d", "standby")
    with pytest.raises(BadMessage):
        codec.decode(first_four[:-8])


class Inner(NamedTuple):
    number: int


class NewerInner(NamedTuple):
    number: int
    more: str = "more"


class Outer(NamedTuple):
    inner: tuple[Inner, ...]
    after: int


class NewerOuter(NamedTuple):
    inner: tuple[NewerInner, ...]
    after: int


def test_nested_classes_can_grow_too() -> None:
    newer = codec.Body(NewerOuter).encode(NewerOuter((NewerInner(1), NewerInner(2, "")), 3))
    assert codec.Body(Outer).decode(newer) == Outer((Inner(1), Inner(2)), 3)
    older = codec.Body(Outer).encode(Outer((Inner(1),), 3))
    assert codec.Body(NewerOuter).decode(older) == NewerOuter((NewerInner(1),), 3)


def test_an_unknown_tag_is_ignored_and_no_tag_is_bad() -> None:
    assert codec.decode(b"\xffwhatever") is None
    with pytest.raises(BadMessage):
        codec.decode(b"")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("05 f8f7 01 01", "longer than it need be"),
        ("05 f900f8 01 01", "longer than it need be"),
        ("05 ff0102", "cut short"),
        ("05", "Ask is cut short"),
        ("04 05 61", "5 bytes to come"),
        ("04 01 ff", "not UTF-8"),
        ("02 f90401" + "61" * 1025, "1025 bytes to come, want at most 1024"),
        ("03 08 03312e31 fa010000", "got the number 65536, want 0 to 65535"),
        ("03 09 03312e31 fa010000", "Address is cut short"),
        ("06 01 02", "want a 0 or a 1"),
        ("06 01 01 04 01 024061", "node name"),
        ("06 01 01 04 01 0261ff", "node name"),
        ("06 01 00 f903e9" + "00" * 1001, "1001 items to come, want at most 1000"),
        ("06 01 00 02 0161", "ends where a number should be"),
    ],
)
def test_bad_bodies(body: str, sentence: str) -> None:
    with pytest.raises(BadMessage, match=sentence):
        codec.decode(bytes.fromhex(body))


def test_an_enum_has_only_its_values() -> None:
    sign = codec.Body(Sign)
    data = sign.encode(Sign(Epoch(1, A), 1, 1, End.RELEASED, 5))
    assert sign.decode(data).end is End.RELEASED
    at = len(data) - 5
    assert data[at] == End.RELEASED
    with pytest.raises(BadMessage, match="End has no 4"):
        sign.decode(data[:at] + b"\4" + data[at + 1 :])


@pytest.mark.parametrize(
    "message",
    [
        Ask(-1, 1, 1),
        Ask(2**64, 1, 1),
        NameTaken(Address("h", 65536)),
        NameTaken(Address("h" * 254, 1)),
        Goodbye("x" * (codec.MAX_SHARED_TEXT + 1)),
        Goodbye("\ud800"),
        Answer(1, None, ("",) * 1001),
        Answer(1, Epoch(1, NodeName("", "")), ()),
        Hello("1", 1, 1, (HOME,) * 17, ()),
        Status(1, 1, b"", "standby", signs=(Sign(Epoch(1, A), 1, 1, End.ENDED, 0),) * 65),
    ],
)
def test_what_the_peer_would_not_take_is_not_sent(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        codec.encode(message)


def test_the_biggest_messages_fit_into_a_frame() -> None:
    name = NodeName("n" * 63, "h" * 253)
    epoch = Epoch(2**64 - 1, name)
    address = Address("h" * 253, 65535)
    addresses = (address,) * codec.MAX_ADDRESSES
    text = "x" * codec.MAX_SHARED_TEXT
    big = 2**64 - 1
    sign = Sign(epoch, big, big, End.NAMED, big, name, big)
    heard = Heard(epoch, big, Holds.NAMING, b"d" * codec.MAX_BYTES, big, big)
    biggest: list[Message] = [
        Answer(big, epoch, ("x" * codec.MAX_TEXT,) * codec.MAX_FACTS),
        Hello(
            "x" * codec.MAX_TEXT,
            big,
            65535,
            addresses,
            ((text, text),) * codec.MAX_SHARED,
            (Member(name, addresses),) * codec.MAX_NODES,
        ),
        Status(
            big,
            big,
            b"",
            "standby",
            signs=(sign,) * codec.MAX_NODES,
            hears=(heard,) * codec.MAX_NODES,
        ),
    ]
    for message in biggest:
        data = codec.encode(message)
        assert codec.decode(data) == message
        framing.frame(framing.Sealer(b"k").seal(data))


def test_what_a_peer_appends_without_end_is_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            epoch = codec.Body(Epoch).encode(Epoch(number, A)) + bytes(60_000)
            nested = b"\xf9" + len(epoch).to_bytes(2, "big") + epoch
            answer = codec.decode(b"\x06\x01\x01" + nested + b"\x00")
            assert answer == Answer(1, Epoch(number, A), ())
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_goodbye_may_name_every_missing_node() -> None:
    names = ", ".join(["n" * 63 + "@" + "h" * 253] * codec.MAX_NODES)
    goodbye = Goodbye(f"mandatory nodes are missing: {names}")
    assert codec.decode(codec.encode(goodbye)) == goodbye
