"""The client half of the control socket: asks the daemon on this machine; without asyncio."""

import json
import os
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO

from chucky.errors import EXIT_UNAVAILABLE, RequestFailed, Unavailable

# The longest answer is a status of some hundred nodes at about 200 bytes each.
_LINE_BYTES = 1024 * 1024


def find_sockets(runtime_dir: str = "/run/chucky") -> list[str]:
    """Return the control sockets `NAME/NAME.sock` below the directory that a daemon listens on, in
    order of name."""
    try:
        names = sorted(os.listdir(runtime_dir))
    except OSError:
        return []
    paths = (os.path.join(runtime_dir, name, f"{name}.sock") for name in names)
    return [path for path in paths if os.path.exists(path) and not _is_left_over(path)]


def _is_left_over(path: str) -> bool:
    """Whether it is that of a daemon that was killed, with no systemd to clean up after it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # the queue of one that hangs may be full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:  # call() says what it is
            pass
    return False


def call(path: str, request: dict[str, Any], timeout: float | None) -> Iterator[dict[str, Any]]:
    """Send the request to the daemon at `path`; return its answers as they come.

    `timeout` is in seconds and for each answer; None waits for ever. Raises Unavailable at once
    when no daemon listens, and from the iterator when it falls silent, breaks off or says so
    itself; RequestFailed for its every other error.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
    except OSError as error:
        connection.close()
        raise Unavailable(_nobody(path, error)) from None
    return _answers(connection, path)


def _nobody(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: permission denied; run it as root or join the group chucky"
    name = os.path.basename(path).removesuffix(".sock")
    return (
        f"no chuckyd answers on {path} ({error.strerror or error});"
        f" start it: systemctl start chucky@{name}"
    )


def _answers(connection: socket.socket, path: str) -> Iterator[dict[str, Any]]:
    with connection, connection.makefile("rb") as lines:
        while True:
            answer = _next(lines, path)
            if "error" in answer:
                sentence, code = str(answer["error"]), answer.get("code", 1)
                if code == EXIT_UNAVAILABLE:
                    raise Unavailable(sentence)
                raise RequestFailed(sentence, code)
            if answer.get("done") is True:
                return
            yield answer


def _next(lines: BinaryIO, path: str) -> dict[str, Any]:
    try:
        line = lines.readline(_LINE_BYTES)
    except TimeoutError:
        raise Unavailable(
            f"chuckyd on {path} is silent; see: systemctl status 'chucky@*'"
        ) from None
    except OSError as error:
        raise Unavailable(f"chuckyd on {path} broke off: {error.strerror or error}") from None
    if not line.endswith(b"\n"):
        raise Unavailable(f"chuckyd on {path} broke off its answer; see: journalctl -u 'chucky@*'")
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer
