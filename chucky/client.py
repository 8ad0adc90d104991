"""Asks a node for one fact over TCP 4040; needs nothing but the standard library's socket."""

import socket
import time
from contextlib import ExitStack
from typing import Any

from chucky.errors import Unavailable

# A fact is at most 1000 bytes; more than this without a newline is not a fact service.
_LINE_BYTES = 4096


def fact(host: str = "localhost", port: int = 4040, timeout: float = 5.0) -> str:
    """Return one fact from the node at host and port.

    `timeout` is in seconds and for all of it; only the look-up of a name may take longer. Raises
    Unavailable with one sentence when nobody answers in time; a node without an owner keeps a
    request for its `hold` (10 s as shipped), so wait longer than that to sit out a failover.
    """
    until = time.monotonic() + timeout
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        line = _read_line(host, port, until)
    except UnicodeError:  # what the resolver says to an empty or an overlong part
        raise Unavailable(f"no fact from {where}: want a host name or an address") from None
    except TimeoutError:
        raise Unavailable(f"no fact from {where} within {timeout:g} s") from None
    except OSError as error:
        raise Unavailable(f"no fact from {where}: {error.strerror or error}") from None
    if not line:
        raise Unavailable(f"no fact from {where}: no node there runs the application now")
    if not line.endswith(b"\n"):
        raise Unavailable(f"no fact from {where}: the answer is not one whole line")
    try:
        return line[:-1].decode()
    except UnicodeDecodeError:
        raise Unavailable(f"no fact from {where}: the answer is not UTF-8") from None


def _read_line(host: str, port: int, until: float) -> bytes:
    """Return what comes up to the first newline or the end, at most about _LINE_BYTES."""
    received = b""
    with _connected(host, port, until) as connection:
        while b"\n" not in received and len(received) < _LINE_BYTES:
            connection.settimeout(_left(until))
            chunk = connection.recv(_LINE_BYTES)
            if not chunk:
                break
            received += chunk
    line, newline, _ = received.partition(b"\n")
    return line + newline


def _connected(host: str, port: int, until: float) -> socket.socket:
    """Return a connection to the first of the host's addresses that lets us in."""
    failure: OSError = TimeoutError()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        for number, (family, *_, address) in enumerate(found):
            try:
                # Its share of what is left: one that is silent leaves time for those after it.
                return _connect(family, address, _left(until) / (len(found) - number))
            except OSError as error:
                failure = error
        raise failure
    finally:
        del failure  # which holds this frame


def _connect(family: int, address: Any, timeout: float) -> socket.socket:
    with ExitStack() as undo:
        connection = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        connection.settimeout(timeout)
        connection.connect(address)
        undo.pop_all()
        return connection


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
