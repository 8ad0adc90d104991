"""Frames: a length and that many bytes; on a link each ends in a MAC that also counts.

    frame    length (4 bytes, big endian), payload
    sealed   a payload followed by the first 16 bytes of
             HMAC-SHA256(the sender's session key, counter (8 bytes, big endian) and payload)

The counter is not sent: each end counts the frames, so a frame that is lost, repeated, moved or
turned back to its sender does not open.
"""

import hmac
from collections.abc import Iterator

from chucky.errors import BadMessage, FrameTooBig, LocalProtocolError

_LENGTH = 4
_MAC = 16

# A handshake's biggest frame introduces a node: 8 of kind, magic and version, a name of 2 + 317, an
# incarnation of 9, a nonce of 17: 353 bytes. The rest is room for a later version.
MAX_HANDSHAKE_FRAME = 512
# A link's biggest payloads, as the codec's limits allow them: an Answer is 1000 facts of 3 + 1024,
# 1,027,000 bytes and an epoch. A Hello is 64 members with 16 addresses each and a shared list of
# 16 x 2 x (3 + 20,544): less than 0.97 million (a test counts). So all fit into 1 MiB, MAC and
# all, which is 84 ms of a 100 Mbit/s network: a third of the shipped tick.
MAX_LINK_FRAME = 1024 * 1024


def frame(payload: bytes) -> bytes:
    """Return the payload as a frame. Raises LocalProtocolError beyond MAX_LINK_FRAME."""
    if len(payload) > MAX_LINK_FRAME:
        raise LocalProtocolError(f"frame: got {len(payload)} bytes, want at most {MAX_LINK_FRAME}")
    return len(payload).to_bytes(_LENGTH, "big") + payload


class FrameReader:
    """Cuts a stream into frames; holds at most one unfinished frame and what was fed last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the data and return an iterator of the payloads now complete. One that is not taken
        stays for the next call or for `rest`. Raises FrameTooBig from the iterator, after the good
        frames before it, as soon as a length is beyond the limit."""
        self._buffer += data
        return self._frames()

    def _frames(self) -> Iterator[bytes]:
        while len(self._buffer) >= _LENGTH:
            size = int.from_bytes(self._buffer[:_LENGTH], "big")
            if size > self._limit:
                raise FrameTooBig(f"got a frame of {size} bytes, want at most {self._limit}")
            end = _LENGTH + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_LENGTH:end])
            del self._buffer[:end]
            yield payload

    def rest(self) -> bytes:
        """Return and forget the bytes that no frame has been made of."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class _Counted:
    def __init__(self, key: bytes) -> None:
        # Made once and copied: a node at rest, whose caches are cold, has half the cost of a digest
        # that begins with the key.
        self._keyed = hmac.new(key, digestmod="sha256")
        self._count = 0

    def _mac(self, payload: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(self._count.to_bytes(8, "big") + payload)
        return mac.digest()[:_MAC]


class Sealer(_Counted):
    """Seals what one end sends; one per direction of a link."""

    def seal(self, payload: bytes) -> bytes:
        """Return the payload with the MAC that its place in the stream has."""
        sealed = payload + self._mac(payload)
        self._count += 1
        return sealed


class Opener(_Counted):
    """Opens what the other end has sealed, in the same order."""

    def open(self, sealed: bytes) -> bytes:
        """Return the payload. Raises BadMessage when it was not sealed with our key, here."""
        payload, mac = sealed[:-_MAC], sealed[-_MAC:]
        if not hmac.compare_digest(mac, self._mac(payload)):
            raise BadMessage("a frame's MAC is wrong")
        self._count += 1
        return payload
