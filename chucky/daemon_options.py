"""The command line of chuckyd."""

import argparse
import socket
from dataclasses import dataclass

from chucky import __version__, cli
from chucky.names import NodeName
from chucky.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; "" leaves it to the config."""

    instance: str
    config: str
    cookie_file: str
    host: str
    runtime_dir: str

    def node_name(self, settings: Settings) -> NodeName:
        """Return the full name of the node. Raises NodeNameError."""
        host = self.host or settings.node.host or socket.gethostname().partition(".")[0]
        return NodeName.parse(self.instance, host)


def parse_options(arguments: list[str] | None) -> Options:
    """Return the options; --check, --help and --version end here, with SystemExit."""
    parser, to_run = _parser(), list[Options]()

    def command() -> int:
        found = parser.parse_args(arguments)
        if found.check:
            from chucky import check  # here, for what it costs

            return check.check(found.config, found.cookie_file, found.host)
        if found.name is None:
            parser.error("NAME is missing, as in: chuckyd a")
        to_run.append(
            Options(found.name, found.config, found.cookie_file, found.host, found.runtime_dir)
        )
        return 0

    cli.open_outputs()
    code = cli.run("chuckyd", command)
    if not to_run:
        raise SystemExit(code)
    return to_run[0]


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("chuckyd", description="Run one node, in the foreground.")
    parser.add_argument("name", metavar="NAME", nargs="?", help="a, or a full one@192.168.0.100")
    config = "/etc/chucky/node.toml"
    parser.add_argument("--config", metavar="F", default=config, help=f"instead of {config}")
    parser.add_argument("--cookie-file", metavar="F", default="", help="instead of the config's")
    parser.add_argument("--host", metavar="H", default="", help="instead of the config's")
    parser.add_argument(
        "--runtime-dir",
        metavar="D",
        default="/run/chucky",
        help="where the socket D/NAME/NAME.sock is, instead of in /run/chucky",
    )
    parser.add_argument("--check", action="store_true", help="check the config and exit")
    parser.add_argument("--version", action="version", version=f"chuckyd {__version__}")
    return parser
