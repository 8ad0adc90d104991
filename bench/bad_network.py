"""A switch that loses and delays frames, for kernels without netem.

    python -m bench.bad_network LOSS_PERCENT JITTER_MS PORT ...

Run in the namespace where the ports are. Each frame is lost with that chance; else it comes out
after a time of its own, from none to JITTER_MS and each as likely, so that frames overtake one
another. A frame for an address that was not heard of goes to all other ports, each copy by itself.
"""

import heapq
import itertools
import random
import selectors
import socket
import sys
import time

# <linux/if_packet.h>. The header before each frame says what the sender left to the card to do (a
# checksum, cutting what is too long), and is handed on with it, since here no card ever did it.
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
HEADER = 10
ETH_P_ALL = 3
LARGEST = 65536 + 256  # a segment that a card would have cut, and the headers


def opened(port: str) -> socket.socket:
    """Return a socket for the frames that come in at a port, and to put frames out there."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    found.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    found.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    found.setblocking(False)
    found.bind((port, ETH_P_ALL))
    return found


class Switch:
    """The ports, where each address is, and the frames that are under way."""

    def __init__(self, ports: list[str], loss: float, jitter_s: float) -> None:
        self._loss, self._jitter_s = loss, jitter_s
        self._ports = [opened(port) for port in ports]
        self._at: dict[bytes, socket.socket] = {}
        self._under_way: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        for port in self._ports:
            self._selector.register(port, selectors.EVENT_READ)

    def run(self) -> None:
        """Pass frames on until the process ends."""
        while True:
            due = self._under_way[0][0] - time.monotonic() if self._under_way else None
            for key, _ in self._selector.select(None if due is None else max(0, due)):
                assert isinstance(key.fileobj, socket.socket)
                self._take_in(key.fileobj)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, port, frame = heapq.heappop(self._under_way)
                _put_out(port, frame)

    def _take_in(self, port: socket.socket) -> None:
        frame = port.recv(LARGEST)
        to, sender = frame[HEADER : HEADER + 6], frame[HEADER + 6 : HEADER + 12]
        self._at[sender] = port
        for out in [self._at[to]] if to in self._at else self._ports:
            if out is not port and random.random() >= self._loss:
                at = time.monotonic() + random.uniform(0, self._jitter_s)
                heapq.heappush(self._under_way, (at, next(self._numbers), out, frame))


def _put_out(port: socket.socket, frame: bytes) -> None:
    try:
        port.send(frame)
    except OSError as error:  # a full queue loses frames, too
        print(f"bad_network: {error}", file=sys.stderr)


if __name__ == "__main__":
    percent, jitter_ms, *names = sys.argv[1:]
    print("begun", flush=True)
    Switch(names, float(percent) / 100, float(jitter_ms) / 1000).run()
