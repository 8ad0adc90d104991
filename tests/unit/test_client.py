"""`from chucky import fact`, against real sockets on loopback."""

import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from chucky.client import fact
from chucky.errors import Unavailable
from tests.unit.test_multicast import needs_ipv6


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection on loopback is handed to `serve`; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)  # of a client that never comes

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def test_one_line_is_returned_without_its_newline() -> None:
    with server(lambda connection: connection.sendall("é fact\n".encode())) as port:
        assert fact("127.0.0.1", port) == "é fact"


def test_a_line_in_pieces() -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"one byte at a time\n":
            connection.sendall(bytes([byte]))

    with server(serve) as port:
        assert fact("127.0.0.1", port) == "one byte at a time"


def test_it_returns_at_the_newline_though_the_connection_stays_open() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"a fact\n")
        connection.recv(1)  # until the client closes

    with server(serve) as port:
        assert fact("127.0.0.1", port) == "a fact"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no node there runs the application now"),
        (b"half a fa", "not one whole line"),
        (b"x" * 5000, "not one whole line"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_what_is_not_a_fact(sent: bytes, words: str) -> None:
    with server(lambda connection: connection.sendall(sent)) as port:
        with pytest.raises(Unavailable) as caught:
            fact("127.0.0.1", port)
    assert words in str(caught.value)
    assert str(port) in str(caught.value)


def test_nobody_listens() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        with pytest.raises(Unavailable, match="refused"):
            fact("127.0.0.1", port)


def test_a_failure_leaves_nothing_for_the_collector() -> None:
    """An exception that names the frame it is in would keep all that the caller's frames hold."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        gc.collect()
        gc.disable()
        try:
            with suppress(Unavailable):
                fact("127.0.0.1", port)
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_silence_ends_with_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(Unavailable, match=r"within 0.05 s"):
            fact("127.0.0.1", listener.getsockname()[1], timeout=0.05)


def test_a_drip_does_not_renew_the_timeout() -> None:
    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.01)
        try:
            for _ in range(3000):
                connection.sendall(b"x")
                try:
                    if not connection.recv(1):
                        return
                except TimeoutError:
                    pass
        except OSError:
            return

    with server(serve) as port, pytest.raises(Unavailable, match=r"within 0.2 s"):
        fact("127.0.0.1", port, timeout=0.2)


@contextmanager
def silent(host: str) -> Iterator[int]:
    """Yield a port at which nobody answers: its queue is full, so the kernel drops each SYN."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def test_the_addresses_of_a_name_share_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        silent("127.0.0.1") as first,
        server(lambda connection: connection.sendall(b"a fact\n")) as second,
    ):
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            for port in (first, second)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert fact("of.two.addresses", timeout=1) == "a fact"


@pytest.mark.parametrize("host", ["a..b", 64 * "x", "a\udcff"])
def test_what_is_no_host_name_is_unavailable(host: str) -> None:
    with pytest.raises(Unavailable, match="no fact from .*:4040: want a host name or an address"):
        fact(host)


@needs_ipv6
def test_an_ipv6_address_is_put_in_brackets() -> None:
    with socket.socket(socket.AF_INET6) as unheard:
        unheard.bind(("::1", 0))
        port = unheard.getsockname()[1]
        with pytest.raises(Unavailable) as caught:
            fact("::1", port)
    assert f"[::1]:{port}" in str(caught.value)


def test_it_needs_no_asyncio() -> None:
    code = "import sys, chucky.client; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
