"""What `chucky check` says of a config: what is wrong with it, and what may surprise."""

import configparser
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import tomli

from chucky import config, cookie, facts, files
from chucky.cli import complain
from chucky.errors import ChuckyError, ConfigError
from chucky.settings import Settings

# Where files are hidden from the service: the last two by PrivateTmp= in systemd/chucky@.service.
UNSEEN = (*files.CLOSED, "/tmp", "/var/tmp")

SERVICE_USER = "chucky"  # User= there
SERVICE_CONFIG = "/etc/chucky/node.toml"  # what it reads


def check(path: str, cookie_file: str = "", host: str = "") -> int:
    """Check a config file, print all that is wrong with it, and return the exit code. `cookie_file`
    and `host` are taken instead of what it names."""
    try:
        text = config.read(path)
        settings, warnings = config.parse(text, path)
    except ConfigError as error:
        complain(*(f"{path}: {problem}" for problem in error.problems))
        return error.exit_code
    for warning in (
        *warnings,
        *_ini_warnings(text, os.path.basename(path)),
        *_elsewhere(settings, host),
        *_unloaded(path, settings, cookie_file),
    ):
        complain(f"{path}: warning: {warning}")
    print(f"{path}: good")
    return 0


def _ini_warnings(text: str, source: str) -> Iterator[str]:
    """Yield what a tool for INI files takes otherwise than we do, in a config that is good."""
    ini = configparser.ConfigParser(interpolation=None)
    want = "a value wants one line, and a comment one of its own"
    if text.startswith(config.BOM):
        yield "it begins with a byte order mark, at which an INI reader fails; save it without one"
        text = text.removeprefix(config.BOM)
    try:
        ini.read_string(text, source)
    except configparser.Error as error:
        yield f"no INI reader takes it: {' '.join(str(error).split())[:200]}; {want}"
        return
    for section, table in tomli.loads(text).items():
        for key, value in table.items():
            got = ini.get(section, key, fallback="")
            try:  # in brackets, as the second of them would be part of a comment
                same = tomli.loads(f"x = [{got}]")["x"] == [value]
            except ValueError:
                same = False
            if not same:
                yield f"{section}.{key}: an INI reader gets {got[:60]!r} here; {want}"


def _elsewhere(settings: Settings, host: str) -> Iterator[str]:
    """Yield that each entry of nodes has the name of another host. Addresses as hosts are for
    instances with full names, which nobody can know here."""
    here = host or settings.node.host or socket.gethostname().partition(".")[0]
    listed = {pattern.host for tier in settings.distributed.nodes.tiers for pattern in tier}
    if not any(name in ("", here) or name[0] in "[0123456789" for name in listed):
        yield (
            f"distributed.nodes: no entry is for this machine, whose name is {here}: a node here"
            " would be an observer; mend the entry, or set node.host"
        )


def _unloaded(config_file: str, settings: Settings, cookie_file: str) -> Iterator[str]:
    """Yield what is wrong with the other files. The config is good, and for the service's user they
    may be, too: so it is a warning. And where they are good here, it may not see them."""
    secret = cookie_file or settings.node.cookie_file
    for load, path in ((cookie.read, secret), (facts.load, settings.facts.file)):
        places = path, os.path.realpath(path)  # a link is as little to be seen as what it leads to
        for folder in UNSEEN:
            if any(place.startswith(f"{folder}/") for place in places):
                yield (
                    f"{path}: is below {folder}, where chucky@.service sees nothing; keep it"
                    " elsewhere, as in /etc/chucky"
                )
        yield from _complaint(load, path)
    if config_file == SERVICE_CONFIG:
        yield from _complaint(config.read, config_file)


def _complaint(load: Callable[[str], object], path: str) -> Iterator[str]:
    """Yield what is wrong with a file, for us or for the service."""
    whose = ""
    try:
        load(path)
        whose = f"as the user {SERVICE_USER}: "
        with _as_the_service():
            load(path)
    except ChuckyError as error:
        yield f"{whose}{error}"


@contextmanager
def _as_the_service() -> Iterator[None]:
    """Let root, to whom every file is open, be the service's user; others stay who they are."""
    with ExitStack() as undo:
        with suppress(KeyError, OSError):  # no such user, or root of a namespace without it
            if os.geteuid() == 0:
                user, group, groups = pwd.getpwnam(SERVICE_USER), os.getegid(), os.getgroups()
                os.initgroups(SERVICE_USER, user.pw_gid)
                undo.callback(os.setgroups, groups)
                os.setegid(user.pw_gid)
                undo.callback(os.setegid, group)
                os.seteuid(user.pw_uid)
                undo.callback(os.seteuid, 0)
        yield
