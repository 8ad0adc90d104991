"""The control socket: both halves over a real Unix socket."""

import asyncio
import json
import os
import resource
import select
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chucky.errors import ChuckyError, CookieError, RequestFailed, Unavailable
from chucky.net import control
from chucky.net.control import CLIENTS, REQUEST_BYTES, ControlServer, Handler
from chucky.net.control_client import call, find_sockets


class Daemon:
    """A handler with one verb for each thing a handler can do."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.waiting = asyncio.Event()

    async def __call__(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        match request.get("verb"):
            case "count":
                for number in range(request["to"]):
                    yield {"number": number}
            case "unavailable":
                raise Unavailable("no owner within 10 s")
            case "cookie":
                yield {"so": "far"}
                raise CookieError("the cookie is too short")
            case "flood":
                while True:
                    yield {"text": "x" * 10_000}
            case "wait":
                try:
                    self.waiting.set()
                    await asyncio.get_running_loop().create_future()
                finally:
                    self.closed.set()
            case other:
                raise ChuckyError(f"no verb {other!r}")


@asynccontextmanager
async def listening(path: Path, handler: Handler) -> AsyncIterator[ControlServer]:
    server = ControlServer(str(path), handler)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def with_daemon(path: Path, check: Callable[[Daemon], Awaitable[None]]) -> None:
    async def main() -> None:
        daemon = Daemon()
        async with listening(path, daemon), asyncio.timeout(20):  # type: ignore[arg-type]
            await check(daemon)

    asyncio.run(main())


async def ask(path: Path, request: dict[str, Any], timeout: float = 10) -> list[dict[str, Any]]:
    """The synchronous client, in a thread, since the server is on this loop."""
    return await asyncio.to_thread(lambda: list(call(str(path), request, timeout)))


async def raw(path: Path, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(sent)
    received = await reader.read()
    writer.close()
    return received


def test_answers_come_in_order_until_done(tmp_path: Path) -> None:
    async def check(_: Daemon) -> None:
        path = tmp_path / "a.sock"
        assert await ask(path, {"verb": "count", "to": 3}) == [{"number": n} for n in range(3)]
        assert await ask(path, {"verb": "count", "to": 0}) == []
        clients = [ask(path, {"verb": "count", "to": 50}) for _ in range(5)]
        assert all(len(answers) == 50 for answers in await asyncio.gather(*clients))

    with_daemon(tmp_path / "a.sock", check)


def test_errors_reach_the_client_with_their_code(tmp_path: Path) -> None:
    async def check(_: Daemon) -> None:
        path = tmp_path / "a.sock"
        with pytest.raises(Unavailable, match="no owner within 10 s"):
            await ask(path, {"verb": "unavailable"})
        with pytest.raises(RequestFailed, match="the cookie is too short") as caught:
            await ask(path, {"verb": "cookie"})
        assert caught.value.exit_code == 78
        with pytest.raises(RequestFailed, match="no verb 'dance'") as caught:
            await ask(path, {"verb": "dance"})
        assert caught.value.exit_code == 1

    with_daemon(tmp_path / "a.sock", check)


@pytest.mark.parametrize(
    "sent",
    [
        b"rubbish\n",
        b"[1]\n",
        b"\n",
        b"\xff\xfe\n",
        b"[" * (REQUEST_BYTES - 2) + b"\n",
        b'"' + b"x" * REQUEST_BYTES * 2 + b'"\n',
    ],
)
def test_rubbish_costs_only_its_sender(tmp_path: Path, sent: bytes) -> None:
    async def check(_: Daemon) -> None:
        path = tmp_path / "a.sock"
        answer = json.loads(await raw(path, sent))
        assert answer == {"error": "control request: want one JSON object on one line", "code": 1}
        assert await ask(path, {"verb": "count", "to": 1}) == [{"number": 0}]

    with_daemon(tmp_path / "a.sock", check)


def test_a_handler_is_closed_when_its_client_leaves(tmp_path: Path) -> None:
    async def check(daemon: Daemon) -> None:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "a.sock"))
        writer.write(b'{"verb": "wait"}\n')
        await daemon.waiting.wait()
        assert not daemon.closed.is_set()
        writer.close()
        await daemon.closed.wait()

    with_daemon(tmp_path / "a.sock", check)


def test_clients_are_bounded_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    async def check(daemon: Daemon) -> None:
        path = str(tmp_path / "a.sock")
        waiting = [await asyncio.open_unix_connection(path) for _ in range(CLIENTS)]
        for _, writer in waiting:
            writer.write(b'{"verb": "wait"}\n')
        answer = json.loads(await raw(tmp_path / "a.sock", b'{"verb": "count", "to": 1}\n'))
        said = "more than 64 clients on the control socket; end some and ask again"
        assert answer == {"error": said, "code": 75}
        waiting[0][1].close()
        await daemon.closed.wait()
        answer = {}
        while answer != {"number": 0}:
            answers = await raw(tmp_path / "a.sock", b'{"verb": "count", "to": 1}\n')
            answer = json.loads(answers.splitlines()[0])
        for _, writer in waiting:
            writer.close()

    with_daemon(tmp_path / "a.sock", check)


def test_without_descriptors_a_client_that_waits_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check(_: Daemon) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                client.connect(str(tmp_path / "a.sock"))
                while not caplog.records:
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b'{"verb": "count", "to": 0}\n')
            assert await loop.sock_recv(client, 100) == b'{"done": true}\n'  # a second later

    with_daemon(tmp_path / "a.sock", check)
    assert len(caplog.records) <= 2  # Python 3.13 tries once more than it is told


def test_a_client_that_is_slow_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.05)

    async def check(_: Daemon) -> None:
        # It says nothing; it says half a request; it asks and never reads.
        assert await raw(tmp_path / "a.sock", b"") == b""
        assert await raw(tmp_path / "a.sock", b'{"verb"') == b""
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(tmp_path / "a.sock"))
            deaf.sendall(b'{"verb": "flood"}\n')
            deaf.setblocking(False)
            await hung_up(deaf)

    with_daemon(tmp_path / "a.sock", check)


async def hung_up(connection: socket.socket) -> None:
    """Return when the other end has closed, without reading anything."""
    poll = select.poll()
    poll.register(connection, 0)
    while not poll.poll(0):
        await asyncio.sleep(0.001)


def test_the_mode_lets_owner_and_group_in(tmp_path: Path) -> None:
    async def check(_: Daemon) -> None:
        assert stat.S_IMODE(os.stat(tmp_path / "a.sock").st_mode) == 0o660

    old = os.umask(0)
    try:
        with_daemon(tmp_path / "a.sock", check)
    finally:
        os.umask(old)


def test_the_socket_goes_with_the_daemon_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "a.sock"

    async def check(_: Daemon) -> None:
        assert path.exists()

    with_daemon(path, check)
    assert not path.exists()


def test_a_dead_daemons_socket_is_replaced_a_live_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def check(_: Daemon) -> None:
        second = ControlServer(str(path), Daemon())  # type: ignore[arg-type]
        with pytest.raises(ChuckyError, match="another chuckyd runs as a on this machine"):
            await second.start()
        await second.close()
        assert await ask(path, {"verb": "count", "to": 1}) == [{"number": 0}]

    with_daemon(path, check)
    with_daemon(path, check)  # and again after a close


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, words in [
        (tmp_path / ("x" * 120) / "a.sock", "longer than 107 bytes"),
        (tmp_path / "file" / "a.sock", "--runtime-dir"),
    ]:
        with pytest.raises(ChuckyError, match=words) as caught:
            asyncio.run(ControlServer(str(path), Daemon()).start())  # type: ignore[arg-type]
        assert str(path) in str(caught.value)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="systemctl start chucky@a"):
        call(str(tmp_path / "a.sock"), {}, 1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    with pytest.raises(Unavailable, match="systemctl start chucky@a"):
        call(str(tmp_path / "a.sock"), {}, 1)


def test_a_daemon_that_is_silent_or_breaks_off(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        answers = call(path, {"verb": "x"}, 0.05)
        with pytest.raises(Unavailable, match="is silent"):
            next(answers)
        answers = call(path, {"verb": "x"}, 10)
        listener.accept()  # the first one, which gave up
        connection, _ = listener.accept()
        connection.recv(100)
        connection.sendall(b'{"a": 1}\n{"b"')
        connection.close()
        assert next(answers) == {"a": 1}
        with pytest.raises(Unavailable, match="broke off"):
            next(answers)


def test_find_sockets(tmp_path: Path) -> None:
    assert find_sockets(str(tmp_path / "none")) == []
    with ExitStack() as opened:
        for name in ("one@192.168.0.100", "busy", "a", "killed", "empty"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "other.sock").touch()
        for name in ("one@192.168.0.100", "busy", "a", "killed"):
            listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / name / f"{name}.sock"))
            if name != "killed":
                listener.listen(0)
            if name == "busy":
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(listener.getsockname())
        assert find_sockets(str(tmp_path)) == [
            str(tmp_path / name / f"{name}.sock") for name in ("a", "busy", "one@192.168.0.100")
        ]


def test_a_killed_daemons_socket_is_no_node_that_runs_here(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "b" / "b.sock"))

    path = tmp_path / "a" / "a.sock"

    async def check(_: Daemon) -> None:
        assert await asyncio.to_thread(find_sockets, str(tmp_path)) == [str(path)]
        assert await ask(path, {"verb": "count", "to": 1}) == [{"number": 0}]

    with_daemon(path, check)


def test_the_client_half_needs_no_asyncio() -> None:
    code = "import sys, chucky.net.control_client; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
