"""What people and their tools are told: status as JSON and as text, and what a check found."""

import configparser
import datetime
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from chucky import config, cookie, facts
from chucky.core.snapshot import NodeState, Snapshot
from chucky.errors import ChuckyError, ConfigError
from chucky.settings import Settings


def status(snapshot: Snapshot, settings: Settings, since: float) -> dict[str, Any]:
    """Return `chucky status --json` (DESIGN 3.2); `since` in seconds of the wall clock is when the
    owner, or its absence, was first seen. Fields are only ever added."""
    began = datetime.datetime.fromtimestamp(since, datetime.UTC)
    return {
        "sentence": snapshot.sentence,
        "node": str(snapshot.node),
        "phase": snapshot.phase,
        "application": settings.distributed.application,
        "owner": None if snapshot.owner is None else str(snapshot.owner),
        "epoch": None if snapshot.epoch is None else snapshot.epoch.number,
        "since": began.isoformat(timespec="milliseconds"),
        "synced": snapshot.synced,
        "quorum": settings.distributed.quorum,
        "quorate": snapshot.quorate,
        "standby": any(state.standby for state in snapshot.nodes if state.state == "self"),
        "placed": any(state.placed for state in snapshot.nodes if state.owner),
        "nodes": [_node(state) for state in snapshot.nodes],
    }


def _node(state: NodeState) -> dict[str, Any]:
    return {
        "name": str(state.name),
        "tier": state.tier,
        "state": state.state,
        "owner": state.owner,
        "address": None if state.address is None else str(state.address),
        "last_heard_ms": state.last_heard_ms,
        "differs": list(state.differs),
        "standby": state.standby,
        "placed": state.placed,
    }


def status_text(found: dict[str, Any]) -> str:
    """Return what `chucky status` prints of such an object: the sentence, then a line a node."""
    lines = [found["sentence"]]
    width = max(len(node["name"]) for node in found["nodes"])
    for node in found["nodes"]:
        notes = ["owner"] if node["owner"] else []
        notes += [
            word for key, word in (("placed", "placed"), ("standby", "on standby")) if node.get(key)
        ]
        if node["state"] in ("up", "down") and node["last_heard_ms"] is not None:
            notes.append(f"heard {node['last_heard_ms'] / 1000:.1f} s ago")
        if node["address"]:
            notes.append(node["address"])
        if node["differs"]:
            notes.append(f"its config differs in {', '.join(node['differs'])}")
        tier = "-" if node["tier"] is None else node["tier"]
        line = f"  {node['name']:{width}}  tier {tier}  {node['state']:7}  {', '.join(notes)}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def check(path: str, cookie_file: str = "") -> int:
    """Check a config file, print all that is wrong with it, and return the exit code. `cookie_file`
    is read instead of the one that it names."""
    try:
        settings, warnings = config.load(path)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{path}: {problem}", file=sys.stderr)
        return error.exit_code
    for warning in (*warnings, *_ini_warnings(path), *_unloaded(settings, cookie_file)):
        print(f"{path}: warning: {warning}", file=sys.stderr)
    print(f"{path}: good")
    return 0


def _ini_warnings(path: str) -> Iterator[str]:
    """Yield what a tool for INI files takes otherwise than we do, in a config that is good."""
    text, ini = Path(path).read_text("utf-8-sig"), configparser.ConfigParser(interpolation=None)
    want = "a value wants one line, and a comment one of its own"
    try:
        ini.read_string(text, os.path.basename(path))
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


def _unloaded(settings: Settings, cookie_file: str) -> Iterator[str]:
    """Yield what is wrong with the other files. The config is good, and for the service's user they
    may be, too: so it is a warning."""
    try:
        cookie.read(cookie_file or settings.node.cookie_file)
    except ChuckyError as error:
        yield str(error)
    try:
        facts.load(settings.facts.file)
    except ChuckyError as error:
        yield str(error)
