"""The handshake: two nodes prove to each other that they hold the same cookie, and agree on keys.

As in Erlang's distribution protocol, one frame each:

    initiator                        acceptor
    N name: who I am, nonce    ->
                               <-    C challenge: who I am, nonce        (or R refusal: version)
    P proof                    ->
                               <-    A proof                             (or R refusal: cookie)

A proof is HMAC-SHA256, keyed by what scrypt makes of the cookie, over a label for its role and the
whole of N and C: both names, incarnations, nonces, and the version. So a proof is good for one
connection, one direction and these two nodes only; it cannot be replayed, reflected or relayed
under another name. The initiator proves first: who does not know the cookie gets nothing to guess
against by connecting. The keys of the two directions are made in the same way under other labels.

A refusal is not authenticated: it tells a person what to mend, and nothing else may rest on it.
"""

import hmac
from collections.abc import Callable
from typing import NamedTuple

from chucky.errors import BadMessage, HandshakeRefused, LocalProtocolError
from chucky.names import NodeName
from chucky.wire.codec import Body
from chucky.wire.framing import MAX_HANDSHAKE_FRAME, FrameReader, Opener, Sealer, frame

VERSION = 1
NONCE_BYTES = 16
KEY_BYTES = 32
# Why a handshake is refused: another cookie; another protocol version; the node reached itself
# (its own address in `peers`, or somebody who passes its own bytes back to it).
REFUSALS = ("cookie", "version", "self")

_MAGIC = b"chucky"
_NAME, _CHALLENGE, _PROOF, _ACK, _REFUSAL = b"N", b"C", b"P", b"A", b"R"

Identity = tuple[NodeName, int]  # name and incarnation


class _Introduction(NamedTuple):
    name: NodeName
    incarnation: int
    nonce: bytes


class _Refusal(NamedTuple):
    reason: str
    version: int  # of the refuser


_INTRODUCTION = Body(_Introduction)
_REFUSED = Body(_Refusal)


class _Handshake:
    """What both ends have in common; use Initiator or Acceptor."""

    _role: bytes
    _peer_role: bytes

    def __init__(self, identity: Identity, key: bytes, nonce: bytes) -> None:
        if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
            raise LocalProtocolError(
                f"handshake: got a key of {len(key)} and a nonce of {len(nonce)} bytes,"
                f" want {KEY_BYTES} and {NONCE_BYTES}"
            )
        self.peer: NodeName | None = None  # until done only what it claims
        self.peer_incarnation = 0
        self.done = False
        self.farewell = b""  # after a refusal by this end: what to send before closing
        self._identity = identity
        self._key = key
        self._introduction = (
            _MAGIC + bytes((VERSION,)) + _INTRODUCTION.encode(_Introduction(*identity, nonce))
        )
        self._reader = FrameReader(MAX_HANDSHAKE_FRAME)
        self._transcript = b""
        # Takes the next frame, returns what to send.
        self._step: Callable[[bytes], bytes] = self._over

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the peer; return what to send it now, maybe nothing.

        Raises HandshakeRefused, by either end (then send `farewell`, which may be empty), and other
        RemoteProtocolErrors. After a raise the handshake is over.
        """
        replies = b""
        for payload in self._reader.feed(data):
            # A step that raises leaves this one behind: nobody gets a second guess at a challenge.
            step, self._step = self._step, self._over
            replies += step(payload)
            if self.done:
                break
        return replies

    def session(self) -> tuple[Sealer, Opener, bytes]:
        """Return what seals, what opens, and the link's bytes that came with the last frame. Once,
        after `done`; raises LocalProtocolError before."""
        if not self.done:
            raise LocalProtocolError("handshake: asked for the session before it was done")
        sealer = Sealer(self._mac(b"frames of " + self._role))
        opener = Opener(self._mac(b"frames of " + self._peer_role))
        return sealer, opener, self._reader.rest()

    def _mac(self, label: bytes) -> bytes:
        return hmac.digest(self._key, label + b"\0" + self._transcript, "sha256")

    def _over(self, payload: bytes) -> bytes:
        raise LocalProtocolError("handshake: bytes were passed to it after its end")

    def _body(self, kind: bytes, payload: bytes) -> bytes:
        """Return what follows the kind of a frame. Raises when it is of another kind."""
        if payload[:1] == _REFUSAL and kind != _NAME:  # nothing to refuse before we said a thing
            refusal = _REFUSED.decode(payload[1:])
            # Only a node that has said who it is can have judged our proof.
            if refusal.reason not in REFUSALS or (refusal.reason == "cookie" and not self.peer):
                raise BadMessage("a refusal has no reason that we know")
            if refusal.reason == "self":
                self.peer, self.peer_incarnation = self._identity
            raise HandshakeRefused(refusal.reason, self._sentence(refusal.reason, refusal.version))
        if payload[:1] != kind:
            raise BadMessage("a handshake frame is out of turn")
        return payload[1:]

    def _meet(self, introduction: bytes) -> None:
        """Learn who the peer says it is."""
        magic, version, body = introduction[:6], introduction[6:7], introduction[7:]
        if magic != _MAGIC or not version:
            raise BadMessage("a handshake frame is not ours")
        if version[0] != VERSION:
            raise self._refuse("version", version[0])
        peer = _INTRODUCTION.decode(body)
        if len(peer.nonce) != NONCE_BYTES:
            raise BadMessage(f"got a nonce of {len(peer.nonce)} bytes, want {NONCE_BYTES}")
        self.peer, self.peer_incarnation = peer.name, peer.incarnation
        if (peer.name, peer.incarnation) == self._identity:
            raise self._refuse("self")

    def _prove(self) -> bytes:
        return self._mac(b"proof of " + self._role)

    def _verify(self, proof: bytes) -> None:
        if not hmac.compare_digest(proof, self._mac(b"proof of " + self._peer_role)):
            raise self._refuse("cookie")

    def _refuse(self, reason: str, version: int = VERSION) -> HandshakeRefused:
        self.farewell = frame(_REFUSAL + _REFUSED.encode(_Refusal(reason, VERSION)))
        return HandshakeRefused(reason, self._sentence(reason, version))

    def _sentence(self, reason: str, version: int) -> str:
        peer = self.peer or "the peer"
        if reason == "cookie":
            return f"{peer} has another cookie: copy one node's cookie file to the other"
        if reason == "version":
            return f"{peer} speaks protocol {version}, we {VERSION}: install one chucky on both"
        return f"{peer} is this node itself"


class Initiator(_Handshake):
    """The end that dialled. When it expects somebody it proves itself to no other, and not to the
    start of that node whose incarnation is `former`."""

    _role, _peer_role = b"initiator", b"acceptor"

    def __init__(
        self,
        identity: Identity,
        key: bytes,
        nonce: bytes,
        expected: NodeName | None = None,
        former: int | None = None,
    ) -> None:
        super().__init__(identity, key, nonce)
        self._expected = expected
        self._former = former

    def begin(self) -> bytes:
        """Return the first bytes to send."""
        self._step = self._challenged
        return frame(_NAME + self._introduction)

    def _challenged(self, payload: bytes) -> bytes:
        introduction = self._body(_CHALLENGE, payload)
        self._meet(introduction)
        if self._expected not in (None, self.peer):  # who is there may only pass it on to that one
            raise BadMessage(f"{self.peer} answers, want {self._expected}")
        if self.peer_incarnation == self._former:
            raise BadMessage(f"{self.peer} is the start that is known")
        self._transcript = frame(self._introduction) + frame(introduction)
        self._step = self._acknowledged
        return frame(_PROOF + self._prove())

    def _acknowledged(self, payload: bytes) -> bytes:
        self._verify(self._body(_ACK, payload))
        self.done = True
        return b""


class Acceptor(_Handshake):
    """The end that was dialled."""

    _role, _peer_role = b"acceptor", b"initiator"

    def __init__(self, identity: Identity, key: bytes, nonce: bytes) -> None:
        super().__init__(identity, key, nonce)
        self._step = self._named

    def _named(self, payload: bytes) -> bytes:
        introduction = self._body(_NAME, payload)
        self._meet(introduction)
        self._transcript = frame(introduction) + frame(self._introduction)
        self._step = self._replied
        return frame(_CHALLENGE + self._introduction)

    def _replied(self, payload: bytes) -> bytes:
        self._verify(self._body(_PROOF, payload))
        self.done = True
        return frame(_ACK + self._prove())
