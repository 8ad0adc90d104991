"""The server half of the control socket: one JSON object a line asks, one a line answers.

A client sends one request and reads answers up to `{"done": true}` or, when it cannot be done,
`{"error": sentence, "code": exit code}`. Who may write to the socket may control the node: that
is its owner and its group (mode 0660).
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any

from chucky import files
from chucky.errors import EXIT_TEMPORARY, AlreadyRuns, ChuckyError, NodeNameError

# A request is a verb and a few names: 64 KiB is a hundred times the longest.
REQUEST_BYTES = 64 * 1024
# People who wait and scripts that poll; each costs a descriptor and about 100 kB.
CLIENTS = 64
# Waiting in the kernel; more wait in their connect(2).
BACKLOG = 100
# How long a client may take to send its request, and to make room for the next answer. It runs on
# this machine, so even one that swaps is faster.
PATIENCE_S = 10.0
# The longest path that bind(2) takes (sun_path has 108 bytes and ends with a zero).
_PATH_BYTES = 107

_CROWDED = f"more than {CLIENTS} clients on the control socket; end some and ask again"

Handler = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]

_log = logging.getLogger(__name__)


class ControlServer:
    """Listens on the Unix socket at `path` (its directory is made) and lets `handler` answer.

    The handler is an async generator; it is closed when its client leaves. A ChuckyError it raises
    goes to the client.
    """

    def __init__(self, path: str, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a dead daemon's socket is replaced. Raises ChuckyError, also when a live one
        has it."""
        if len(os.fsencode(self._path)) > _PATH_BYTES:
            raise NodeNameError(
                f"control socket {self._path}: the path is longer than {_PATH_BYTES} bytes;"
                " use a shorter node name or --runtime-dir"
            )
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o750, exist_ok=True)
            self._lock = self._take_lock()
            listener = self._listen()
        except OSError as error:
            self._drop_lock()
            files.raise_passing(f"control socket {self._path}", error)
            raise ChuckyError(
                f"control socket {self._path}: {error.strerror or error};"
                " make its directory writable for this user or use another --runtime-dir"
            ) from None
        # Accepted one by one: asyncio logs a traceback for each that it has no descriptor for, and
        # would try as many times in one turn as may wait.
        self._server = await asyncio.start_unix_server(
            self._on_client, sock=listener, limit=REQUEST_BYTES, backlog=1
        )
        listener.listen(BACKLOG)  # asyncio has one number for both

    async def close(self) -> None:
        """Stop listening, end every client, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        clients = tuple(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._drop_lock()

    def _take_lock(self) -> int:
        # A lock and not a trial connect: the kernel drops it with the process, and of two daemons
        # that start at once only one gets it. The file stays: unlinking it would let a third in.
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            name = os.path.basename(self._path).removesuffix(".sock")
            raise AlreadyRuns(
                f"another chuckyd runs as {name} on this machine (it has {self._path});"
                " stop it or choose another name"
            ) from None
        return lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _listen(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._path)
            # Before listen(2), so that nobody connects under the umask's mode.
            os.chmod(self._path, 0o660)
        except OSError:
            listener.close()
            raise
        return listener

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) <= 2 * CLIENTS:  # the second half is told why
                await self._serve(reader, writer, crowded=len(self._clients) > CLIENTS)
                await _part(reader, writer)
        except (OSError, TimeoutError) as error:
            _log.debug("a control client left: %r", error)
        except asyncio.CancelledError:
            # Only close() cancels. asyncio 3.11's own callback asks a cancelled task for its
            # exception and prints a traceback, so the task ends as if by itself.
            pass
        finally:
            self._clients.discard(task)
            # Without effect after an end in good order; a client that does not read would otherwise
            # keep its connection and what is buffered for it.
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, crowded: bool
    ) -> None:
        request = await _read_request(reader)
        if crowded:
            await _write(writer, _error(_CROWDED, EXIT_TEMPORARY))
            return
        if request is None:
            await _write(writer, _error("control request: want one JSON object on one line", 1))
            return
        answering = asyncio.ensure_future(self._answer(request, writer))
        leaving = asyncio.ensure_future(_end(reader))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            # Without effect when it is done; otherwise the client has left, or close() was called.
            answering.cancel()
            await asyncio.wait((answering, leaving))
        if not answering.cancelled():
            answering.result()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        try:
            async with contextlib.aclosing(self._handler(request)) as answers:
                async for answer in answers:
                    await _write(writer, answer)
            last: dict[str, Any] = {"done": True}
        except ChuckyError as error:
            last = _error(str(error), error.exit_code)
        await _write(writer, last)


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the request, or None when what came is not one."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            request = json.loads(await reader.readline())
    except (ValueError, RecursionError):  # too long, not UTF-8, not JSON, nested a thousand deep
        return None
    return request if isinstance(request, dict) else None


async def _end(reader: asyncio.StreamReader) -> None:
    """Return when the client has left; what else it sends is thrown away."""
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close once the client has: with something of it unread, closing would reset the connection
    and could cost the client its answer."""
    async with asyncio.timeout(PATIENCE_S):
        writer.write_eof()
        await _end(reader)
        writer.close()
        await writer.wait_closed()


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    async with asyncio.timeout(PATIENCE_S):
        await writer.drain()


def _error(sentence: str, code: int) -> dict[str, Any]:
    return {"error": sentence, "code": code}
