"""The beacon as a datagram: magic, version, and the fields as the codec writes them.

It carries nothing secret and proves nothing: whoever acts on it dials, and the handshake decides.
"""

from chucky.errors import BadMessage
from chucky.messages import Beacon
from chucky.wire.codec import Body

_MAGIC = b"chucky beacon"
_VERSION = b"\1"
_HEAD = _MAGIC + _VERSION
_BODY = Body(Beacon)

# 14 of magic and version, a name of 3 + 317, an incarnation of 9, a port of 3 and a flag: 347. The
# rest is room for a later version; a socket need not read more than one byte beyond it.
MAX_BEACON = 512


def encode(beacon: Beacon) -> bytes:
    """Return the datagram, at most MAX_BEACON bytes. Raises LocalProtocolError."""
    return _HEAD + _BODY.encode(beacon)


def decode(data: bytes) -> Beacon:
    """Return the beacon. Raises BadMessage for anything else."""
    if len(data) > MAX_BEACON:
        raise BadMessage(f"got a datagram of more than {MAX_BEACON} bytes")
    if not data.startswith(_HEAD):
        raise BadMessage("a datagram is no beacon of our version")
    return _BODY.decode(data[len(_HEAD) :])
