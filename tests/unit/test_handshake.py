"""Two nodes with one cookie get a link; anybody else, and any damage, gets none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chucky.errors import (
    BadMessage,
    FrameTooBig,
    HandshakeRefused,
    LocalProtocolError,
    RemoteProtocolError,
)
from chucky.names import NodeName
from chucky.wire.framing import MAX_HANDSHAKE_FRAME, frame
from chucky.wire.handshake import REFUSALS, VERSION, Acceptor, Identity, Initiator

A = (NodeName("a", "manticore"), 1)
B = (NodeName("b", "manticore"), 2**64 - 1)
C = (NodeName("c", "manticore"), 3)
KEY = b"k" * 32
OTHER_KEY = b"o" * 32


def initiator(who: Identity = A, key: bytes = KEY, nonce: bytes = b"i" * 16) -> Initiator:
    return Initiator(who, key, nonce)


def acceptor(who: Identity = B, key: bytes = KEY, nonce: bytes = b"a" * 16) -> Acceptor:
    return Acceptor(who, key, nonce)


def exchange() -> list[bytes]:
    """Return the four frames of a handshake: N, C, P, A."""
    i, a = initiator(), acceptor()
    frames = [i.begin()]
    frames.append(a.receive(frames[0]))
    frames.append(i.receive(frames[1]))
    frames.append(a.receive(frames[2]))
    assert i.receive(frames[3]) == b"" and i.done and a.done
    return frames


def test_one_cookie() -> None:
    i, a = initiator(), acceptor()
    assert i.receive(a.receive(i.receive(a.receive(i.begin())))) == b""
    assert i.done and a.done
    assert (i.peer, i.peer_incarnation) == B
    assert (a.peer, a.peer_incarnation) == A
    i_sealer, i_opener, i_rest = i.session()
    a_sealer, a_opener, a_rest = a.session()
    assert i_rest == a_rest == b""
    for payload in (b"one", b"two"):
        assert a_opener.open(i_sealer.seal(payload)) == payload
        assert i_opener.open(a_sealer.seal(payload)) == payload
    with pytest.raises(BadMessage):  # one direction's frames do not open in the other
        i_opener.open(i_sealer.seal(b"three"))


def test_an_initiator_proves_itself_to_nobody_but_whom_it_expects() -> None:
    for expected in (A[0], C[0]):
        i, a = Initiator(A, KEY, b"i" * 16, expected), acceptor()
        with pytest.raises(BadMessage, match="b@manticore answers, want"):
            i.receive(a.receive(i.begin()))
    i, a = Initiator(A, KEY, b"i" * 16, B[0]), acceptor()
    i.receive(a.receive(i.receive(a.receive(i.begin()))))
    assert i.done


def test_an_initiator_that_asks_for_another_start_proves_itself_to_no_former_one() -> None:
    for former, goes_on in ((B[1], False), (B[1] + 1, True), (None, True)):
        i, a = Initiator(A, KEY, b"i" * 16, B[0], former), acceptor()
        challenge = a.receive(i.begin())
        if goes_on:
            i.receive(a.receive(i.receive(challenge)))
        else:
            with pytest.raises(BadMessage, match="b@manticore is the start that is known"):
                i.receive(challenge)
        assert i.done is goes_on


def test_the_cookie_and_its_key_never_travel() -> None:
    assert not any(KEY in each for each in exchange())


@given(st.data())
def test_byte_by_byte(data: st.DataObject) -> None:
    whole = exchange()
    i, a = initiator(), acceptor()
    assert i.begin() == whole[0]
    for step, end in enumerate((a, i, a)):
        sent, answer = whole[step : step + 2]
        cut = data.draw(st.integers(0, len(sent)))
        assert end.receive(sent[:cut]) + end.receive(sent[cut:]) == answer
    for at in range(len(whole[3])):
        assert not i.done
        i.receive(whole[3][at : at + 1])
    assert i.done


def test_what_comes_after_the_last_frame_is_the_links() -> None:
    whole = exchange()
    i, a = initiator(), acceptor()
    i.begin()
    a.receive(whole[0])
    i.receive(whole[1])
    huge = b"\xff" * 600  # no handshake frame could be like this
    assert a.receive(whole[2] + huge) == whole[3]
    i.receive(whole[3] + huge)
    assert a.session()[2] == i.session()[2] == huge


def test_another_cookie_is_told_at_both_ends() -> None:
    i, a = initiator(), acceptor(key=OTHER_KEY)
    proof = i.receive(a.receive(i.begin()))
    with pytest.raises(HandshakeRefused, match="a@manticore has another cookie") as at_acceptor:
        a.receive(proof)
    assert at_acceptor.value.reason == "cookie"
    with pytest.raises(HandshakeRefused, match="b@manticore has another cookie") as at_initiator:
        i.receive(a.farewell)
    assert at_initiator.value.reason == "cookie"
    assert i.farewell == b""
    assert not i.done and not a.done
    for end in (i, a):
        with pytest.raises(LocalProtocolError):
            end.session()


def test_an_acceptor_that_cannot_prove_it_is_refused() -> None:
    i, a = initiator(), acceptor()
    i.receive(a.receive(i.begin()))
    with pytest.raises(HandshakeRefused) as refused:
        i.receive(frame(b"A" + bytes(32)))
    assert refused.value.reason == "cookie"
    assert i.farewell and not i.done


def test_another_version_is_told_at_both_ends() -> None:
    i, a = initiator(), acceptor()
    begin = bytearray(i.begin())
    assert begin[11] == VERSION
    begin[11] = VERSION + 1
    sentence = f"speaks protocol {VERSION + 1}, we {VERSION}"
    with pytest.raises(HandshakeRefused, match=sentence) as ours:
        a.receive(bytes(begin))
    assert ours.value.reason == "version"
    with pytest.raises(HandshakeRefused) as theirs:
        i.receive(a.farewell)
    assert theirs.value.reason == "version"


def test_a_node_that_reaches_itself_is_told_so() -> None:
    i, a = initiator(A), acceptor(A)
    with pytest.raises(HandshakeRefused) as at_acceptor:
        a.receive(i.begin())
    with pytest.raises(HandshakeRefused) as at_initiator:
        i.receive(a.farewell)
    assert at_acceptor.value.reason == at_initiator.value.reason == "self"
    assert i.peer == a.peer == A[0]
    # Another incarnation is not itself: the core decides who keeps the name.
    i, a = initiator(A), acceptor((A[0], 99))
    i.receive(a.receive(i.receive(a.receive(i.begin()))))
    assert i.done and a.done


def test_own_bytes_sent_back_are_not_taken() -> None:
    i = initiator()
    begin = i.begin()
    with pytest.raises(RemoteProtocolError):
        i.receive(begin)
    i = initiator()
    begin = i.begin()
    with pytest.raises(RemoteProtocolError):  # even as a challenge
        i.receive(begin[:4] + b"C" + begin[5:])
    i, a = initiator(), acceptor()
    proof = i.receive(a.receive(i.begin()))
    with pytest.raises(RemoteProtocolError):
        i.receive(proof)
    i, a = initiator(), acceptor()
    proof = i.receive(a.receive(i.begin()))
    with pytest.raises(HandshakeRefused):  # even as an ack
        i.receive(proof[:4] + b"A" + proof[5:])


def test_a_recorded_handshake_does_not_play_again() -> None:
    whole = exchange()
    later = acceptor(nonce=b"n" * 16)
    later.receive(whole[0])
    with pytest.raises(HandshakeRefused):
        later.receive(whole[2])
    again = initiator(nonce=b"n" * 16)
    again.begin()
    again.receive(whole[1])
    with pytest.raises(HandshakeRefused):
        again.receive(whole[3])


def test_a_proof_is_no_good_under_another_name() -> None:
    """The relay that Erlang's handshake lets through: c, without the cookie, is dialled by a and
    passes b's challenge on to it."""
    victim, b, c = initiator(A), acceptor(B), initiator(C, OTHER_KEY)
    victim.begin()
    proof = victim.receive(b.receive(c.begin()))
    with pytest.raises(HandshakeRefused):
        b.receive(proof)


@pytest.mark.parametrize("damaged", range(4))
def test_any_altered_bit_leaves_no_link(damaged: int) -> None:
    whole = exchange()
    for at in range(len(whole[damaged])):
        for bit in range(8):
            frames = list(whole)
            altered = bytearray(whole[damaged])
            altered[at] ^= 1 << bit
            i, a = initiator(), acceptor()
            try:
                sent = i.begin()
                for step, end in enumerate((a, i, a, i)):
                    sent = end.receive(bytes(altered) if step == damaged else sent)
            except RemoteProtocolError:
                pass
            assert not i.done, f"byte {at}, bit {bit} of {frames[damaged]!r}"
            assert not a.done or damaged == 3


@pytest.mark.parametrize("damaged", range(4))
def test_any_truncation_waits(damaged: int) -> None:
    whole = exchange()
    for cut in range(len(whole[damaged])):
        i, a = initiator(), acceptor()
        i.begin()
        for step, end in enumerate((a, i, a, i)[:damaged]):
            end.receive(whole[step])
        end = (a, i, a, i)[damaged]
        assert end.receive(whole[damaged][:cut]) == b""
        assert not end.done


def test_a_shorter_proof_is_refused() -> None:
    for size in range(32):
        a = acceptor()
        proof = initiator_proof(a)
        with pytest.raises(HandshakeRefused):
            a.receive(frame(proof[4 : 5 + size]))


def initiator_proof(a: Acceptor) -> bytes:
    i = initiator()
    return i.receive(a.receive(i.begin()))


def test_nobody_gets_a_second_guess() -> None:
    a = acceptor()
    proof = initiator_proof(a)
    with pytest.raises(HandshakeRefused):
        a.receive(frame(b"P" + bytes(32)) + proof)
    with pytest.raises(LocalProtocolError):
        a.receive(proof)
    assert not a.done


@pytest.mark.parametrize("begun", [False, True])
@given(st.binary(max_size=100))
def test_any_bytes_progress_or_raise(begun: bool, data: bytes) -> None:
    for stream in (data, frame(data), frame(b"N" + data), frame(b"C" + data), frame(b"R" + data)):
        end = initiator() if begun else acceptor()
        if isinstance(end, Initiator):
            end.begin()
        try:
            end.receive(stream)
        except RemoteProtocolError as error:
            assert not isinstance(error, HandshakeRefused) or error.reason in REFUSALS
        assert not end.done


def test_a_big_frame_is_refused_by_its_length() -> None:
    with pytest.raises(FrameTooBig):
        acceptor().receive((MAX_HANDSHAKE_FRAME + 1).to_bytes(4, "big"))


def test_a_refusal_must_make_sense() -> None:
    whole = exchange()
    refusal = acceptor(A)
    with pytest.raises(HandshakeRefused):
        refusal.receive(whole[0])
    farewell = refusal.farewell
    with pytest.raises(BadMessage):  # before a word was said
        acceptor().receive(farewell)
    i = initiator()
    i.begin()
    with pytest.raises(BadMessage):  # for a reason nobody knows
        i.receive(farewell.replace(b"self", b"sulk"))
    i = initiator()
    i.begin()
    cookie = frame(farewell[4:].replace(b"\4self", b"\6cookie"))
    with pytest.raises(BadMessage):  # for the cookie, by one that has not said who it is
        i.receive(cookie)


def test_keys_and_nonces_have_their_sizes() -> None:
    for key, nonce in ((b"", b"i" * 16), (KEY, b"")):
        with pytest.raises(LocalProtocolError):
            Initiator(A, key, nonce)
