"""A stranger between two nodes: it has no cookie, and passes on what they say to each other."""

import contextlib
import secrets
import socket
import struct
import threading

from chucky.messages import Beacon
from chucky.names import NodeName
from chucky.wire import beacon as wire

RESETS = struct.pack("ii", 1, 0)  # SO_LINGER: to close is to reset (socket(7))


class Between:
    """Whoever connects to it is connected with the node at port `behind`, all on 127.0.0.1, until
    the handshake is done: then it resets the connection of the one that dialled."""

    def __init__(self, behind: int) -> None:
        self.dialled = 0
        self.proofs = 0  # handshakes in which the one that dialled has proven itself
        self._behind = ("127.0.0.1", behind)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def claim(self, name: NodeName, port: int) -> None:
        """Say in a beacon to this UDP port that the node of that name is here."""
        beacon = Beacon(name, secrets.randbits(63), self._listener.getsockname()[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(wire.encode(beacon), ("127.0.0.1", port))

    def close(self) -> None:
        """Go away."""
        self._listener.shutdown(socket.SHUT_RD)  # which wakes who accepts (bed.Daemon.close)
        self._thread.join()
        for sock in (self._listener, *self._open):
            sock.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self.dialled += 1
                node = socket.create_connection(self._behind)
                self._open += [caller, node]
                for ends in ((caller, node), (node, caller)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while head := one.recv(4, socket.MSG_WAITALL):
                body = one.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                other.sendall(head + body)
                self.proofs += body[:1] == b"P"
                if body[:1] == b"A":
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
                    other.shutdown(socket.SHUT_RD)  # the thread that reads it lets go of it
                    other.close()
