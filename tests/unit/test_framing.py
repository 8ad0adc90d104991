"""Frames come out as they went in, however they are cut; sealed ones only in their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chucky.errors import BadMessage, FrameTooBig, LocalProtocolError
from chucky.wire.framing import MAX_LINK_FRAME, FrameReader, Opener, Sealer, frame

payload_lists = st.lists(st.binary(max_size=40), max_size=6)


@given(payload_lists, st.data())
def test_however_it_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    reader = FrameReader(40)
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == payloads
    assert reader.rest() == b""


@given(st.binary(max_size=60))
def test_byte_by_byte_is_all_at_once(stream: bytes) -> None:
    def read(chunks: list[bytes]) -> tuple[list[bytes], bool]:
        reader = FrameReader(20)
        found: list[bytes] = []
        try:
            for chunk in chunks:
                for payload in reader.feed(chunk):
                    found.append(payload)
        except FrameTooBig:
            return found, True
        return found, False

    assert read([stream]) == read([stream[at : at + 1] for at in range(len(stream))])


def test_too_big_is_known_from_the_length_and_after_the_good_ones() -> None:
    reader = FrameReader(3)
    frames = reader.feed(frame(b"abc") + frame(b"abcd")[:4])
    assert next(frames) == b"abc"
    with pytest.raises(FrameTooBig):
        next(frames)
    with pytest.raises(LocalProtocolError):
        frame(bytes(MAX_LINK_FRAME + 1))


def test_what_is_not_taken_stays() -> None:
    reader = FrameReader(3)
    assert next(reader.feed(frame(b"one") + frame(b"two") + b"\0")) == b"one"
    assert list(reader.feed(b"\0\0\0")) == [b"two", b""]
    assert next(reader.feed(frame(b"one") + b"rest")) == b"one"
    assert reader.rest() == b"rest"
    assert reader.rest() == b""


@given(payload_lists)
def test_sealed_in_order_opens(payloads: list[bytes]) -> None:
    sealer, opener = Sealer(b"key"), Opener(b"key")
    assert [opener.open(sealer.seal(payload)) for payload in payloads] == payloads


def test_altered_repeated_skipped_reflected_or_short_does_not_open() -> None:
    sealed = Sealer(b"key").seal(b"payload")
    for at in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[at] ^= 1 << bit
            with pytest.raises(BadMessage):
                Opener(b"key").open(bytes(altered))
    for end in range(len(sealed)):
        with pytest.raises(BadMessage):
            Opener(b"key").open(sealed[:end])
    opener = Opener(b"key")
    assert opener.open(sealed) == b"payload"
    with pytest.raises(BadMessage):  # repeated
        opener.open(sealed)
    sealer = Sealer(b"key")
    sealer.seal(b"lost")
    with pytest.raises(BadMessage):  # one before it is missing
        Opener(b"key").open(sealer.seal(b"payload"))
    with pytest.raises(BadMessage):  # the other direction's key
        Opener(b"other").open(sealed)
