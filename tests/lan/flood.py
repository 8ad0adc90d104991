"""A stranger on the LAN: floods one port of one node, for some time, and prints what it sent.

Run inside the stranger's namespace: `python -m tests.lan.flood KIND HOST PORT MS`, where KIND is

    noise      datagrams of random bytes and lengths
    beacons    the beacons it hears in the multicast group HOST, as they are and with bytes changed
    talkers    connections that send random bytes and hang up
    listeners  connections that say nothing and stay
"""

import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

# Some thousands a second is what one core here can send without starving the nodes themselves.
DATAGRAMS_PER_S, CONNECTIONS_PER_S = 2000, 200
LARGEST = 1472  # the payload of an Ethernet frame
KEPT = 300  # connections that stay


def paced(per_s: int, for_ms: int) -> Iterator[int]:
    """Yield 0, 1, 2, ... at this rate until the time is over."""
    began = time.monotonic()
    number = 0
    while (passed := time.monotonic() - began) < for_ms / 1000:
        if number < passed * per_s:
            yield number
            number += 1
        else:
            time.sleep(0.001)


def noise(host: str, port: int, for_ms: int) -> int:
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in paced(DATAGRAMS_PER_S, for_ms):
            with contextlib.suppress(OSError):
                out.sendto(random.randbytes(random.randrange(LARGEST)), (host, port))
                sent += 1
    return sent


def on_eth0(group: str) -> bytes:
    """Return the ip_mreqn that names the group and the interface (ip(7)); there is no route."""
    return struct.pack("4s4xi", socket.inet_aton(group), socket.if_nametoindex("eth0"))


def heard(group: str, port: int) -> bytes:
    """Return the first beacon that comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        into.bind(("", port))
        into.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, on_eth0(group))
        into.settimeout(10)
        return into.recv(2048)


def beacons(group: str, port: int, for_ms: int) -> int:
    beacon = heard(group, port)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, on_eth0(group))
        for number in paced(DATAGRAMS_PER_S, for_ms):
            copy = bytearray(beacon)
            for _ in range(number % 4):
                copy[random.randrange(len(copy))] = random.randrange(256)
            with contextlib.suppress(OSError):
                out.sendto(copy, (group, port))
                sent += 1
    return sent


def talkers(host: str, port: int, for_ms: int) -> int:
    made = 0
    for _ in paced(CONNECTIONS_PER_S, for_ms):
        with contextlib.suppress(OSError), socket.create_connection((host, port), 0.2) as out:
            made += 1
            out.sendall(random.randbytes(random.randrange(4096)))
    return made


def listeners(host: str, port: int, for_ms: int) -> int:
    kept: list[socket.socket] = []
    for _ in paced(CONNECTIONS_PER_S, for_ms):
        with contextlib.suppress(OSError):
            if len(kept) < KEPT:
                kept.append(socket.create_connection((host, port), 0.2))
    return len(kept)


KINDS: dict[str, Callable[[str, int, int], int]] = {
    "noise": noise, "beacons": beacons, "talkers": talkers, "listeners": listeners,
}  # fmt: skip

if __name__ == "__main__":
    kind, host, port, for_ms = sys.argv[1:]
    print(KINDS[kind](host, int(port), int(for_ms)))
