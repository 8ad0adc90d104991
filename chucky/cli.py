"""chucky: asks a running node over its Unix socket and prints what it says."""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from chucky import __version__
from chucky.errors import ChuckyError, Unavailable
from chucky.net.control_client import call, find_sockets

RUNTIME_DIR = "/run/chucky"
PATIENCE_S = 5.0
# A fact waits for `hold`, a connect for name servers and handshakes, a takeover for a vacancy: the
# daemon ends each, this is for a hung one.
LONG_PATIENCE_S = 3600.0
WATCH_S = 1.0

Command = Callable[[argparse.Namespace], int]


def _socket(options: argparse.Namespace) -> str:
    """Return the socket of the node asked for; Unavailable when there is none."""
    found = find_sockets(options.runtime_dir)
    names = ", ".join(os.path.basename(path).removesuffix(".sock") for path in found)
    if name := options.node:
        path = os.path.join(options.runtime_dir, name, f"{name}.sock")
        if found and path not in found:
            raise Unavailable(
                f"no node {name} runs here, but {names}; give --node that name, or start {name}:"
                f" systemctl start chucky@{name}"
            )
        return path
    if not found:
        raise Unavailable(
            "no node runs here; start one, as systemctl start chucky@a; why one that was started"
            " does not run: systemctl status 'chucky@*'"
        )
    if len(found) > 1:
        raise ChuckyError(f"several nodes run here: {names}; choose one with --node NAME")
    return found[0]


def _ask(options: argparse.Namespace, patience_s: float = PATIENCE_S, **more: str) -> Any:
    request = {"command": options.command, **more}
    return next(call(_socket(options), request, patience_s))


def _fact(options: argparse.Namespace) -> int:
    print(_ask(options, LONG_PATIENCE_S)["fact"])
    return 0


def _nodes(options: argparse.Namespace) -> int:
    for name in _ask(options)["nodes"]:
        print(name)
    return 0


def _applications(options: argparse.Namespace) -> int:
    for name in _ask(options)["applications"]:
        print(name)
    return 0


def _connect(options: argparse.Namespace) -> int:
    done = _ask(options, LONG_PATIENCE_S, node=options.target)
    print("true" if done["connected"] else "false")
    if not done["connected"]:
        complain(f"chucky: {done['sentence']}")
    return 0 if done["connected"] else 1


def _granted(options: argparse.Namespace, **more: str) -> int:
    """Ask for a change of who owns; say what came of it."""
    done = _ask(options, LONG_PATIENCE_S, **more)
    if not done["granted"]:
        complain(f"chucky: {done['sentence']}")
        return 1
    print(done["sentence"])
    return 0


def _takeover(options: argparse.Namespace) -> int:
    return _granted(options)


def _standby(options: argparse.Namespace) -> int:
    return _granted(options, to=options.to)


def _status(options: argparse.Namespace) -> int:
    from chucky import report

    found = _ask(options)
    print(json.dumps(found, indent=2) if options.json else report.status_text(found))
    return 0


def _watch(options: argparse.Namespace) -> int:
    """Print the status each second until the user has enough: on a terminal in its place, else
    only when its first line is another."""
    from chucky import report

    last = ""
    while True:
        try:
            text = report.status_text(_ask(options, command="status"))
        except ChuckyError as error:  # the node may be starting anew
            if not last:
                raise
            text = str(error)
        if sys.stdout.isatty():
            print(f"\033[H\033[J{text}", flush=True)
        elif text.partition("\n")[0] != last.partition("\n")[0]:
            print(text, flush=True)
        last = text
        time.sleep(WATCH_S)


def _why(options: argparse.Namespace) -> int:
    from chucky import report

    print(report.why_text(_ask(options, epoch=options.epoch)))
    return 0


def _reload(options: argparse.Namespace) -> int:
    for line in _ask(options)["lines"]:
        print(line)
    return 0


def _check(options: argparse.Namespace) -> int:
    from chucky.check import check

    return check(options.file)


def _cookie(options: argparse.Namespace) -> int:
    from chucky import cookie

    if not os.path.lexists(options.file):
        cookie.make(options.file)
        print(f"made {options.file}; copy it to the other machines")
    print(f"fingerprint {cookie.fingerprint(cookie.read(options.file))}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from chucky.demo import demo

    return demo()


class Parser(argparse.ArgumentParser):
    """As any, but that its error ends with 2 on a full disk, too: Python 3.11.2 raises there."""

    def error(self, message: str) -> NoReturn:
        """Say what was not understood."""
        complain(f"{self.format_usage()}{self.prog}: error: {message}")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("chucky", description="Ask the node that runs here.")
    parser.add_argument("--node", metavar="NAME", default="", help="which, when several run here")
    parser.add_argument(
        "--runtime-dir",
        metavar="D",
        default=RUNTIME_DIR,
        help=f"where the nodes have their sockets, instead of {RUNTIME_DIR}",
    )
    parser.add_argument("--version", action="version", version=f"chucky {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        return command

    add("fact", _fact, "print one fact")
    add("nodes", _nodes, "print the connected peers, one a line")
    add("applications", _applications, "print what runs on this node")
    connect = add("connect", _connect, "connect to a node; print true or false")
    connect.add_argument("target", metavar="NODE[:PORT]", help="as b@beta or b@[fd00::2]:4042")
    status = add("status", _status, "print the cluster as this node sees it")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    add("watch", _watch, "print it each second; in a pipe, when its first line changes")
    why = add("why", _why, "print what moved the application, and what was known when")
    why.add_argument("epoch", metavar="EPOCH", nargs="?", default="", help="a former one")
    add("takeover", _takeover, "run the application here now, until a better node starts anew")
    standby = add("standby", _standby, "give the application away and do not take it, or own again")
    standby.add_argument("to", metavar="on|off", choices=("on", "off"), help="on for maintenance")
    add("reload", _reload, "reread the config, the cookie and the facts; print what was done")
    check = add("check", _check, "check a config file; exit 78 when it is wrong")
    check.add_argument("file", metavar="FILE", nargs="?", default="/etc/chucky/node.toml")
    cookie = add("cookie", _cookie, "make a cookie file if there is none; print its fingerprint")
    cookie.add_argument("file", metavar="FILE", nargs="?", default="/etc/chucky/cookie")
    add("demo", _demo, "three nodes on loopback, a kill, a failover, a return, a takeover")
    return parser


def open_outputs() -> None:
    """Let every print() do its part, whatever we were started with."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: print(file=None) would take the other one
            setattr(sys, name, open(os.devnull, "w", errors="backslashreplace"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr has it: a fact may have letters that the locale lacks.
        sys.stdout.reconfigure(errors="backslashreplace")


def complain(*lines: str) -> None:
    """Print lines on standard error; where its disk is full, the exit code says it as well."""
    try:
        for line in lines:
            print(line, file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        _goes_nowhere(sys.stderr)


def _goes_nowhere(stream: TextIO) -> None:
    """Drop what Python still holds, or it would complain again when it closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(program: str, command: Callable[[], int]) -> int:
    """Return the exit code of a command; what goes wrong is one line, of this program."""
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # here, and not at the exit, where Python would complain by itself
    except ChuckyError as error:
        complain(f"{program}: {error}")
        return error.exit_code
    except OSError as error:  # of the standard output: all else is a ChuckyError by now
        _goes_nowhere(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 0  # whoever read our output has enough
        complain(f"{program}: standard output: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        complain()  # argparse leaves what it could not say for the exit


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""

    def command() -> int:
        options = _parser().parse_args(arguments)
        done: Command = options.run
        return done(options)

    open_outputs()
    return run("chucky", command)
