"""What people and their tools are told of a node: its status as JSON and as text."""

import datetime
from typing import Any

from chucky.core.snapshot import NodeState, Snapshot
from chucky.settings import Settings


def status(snapshot: Snapshot, settings: Settings, since: float) -> dict[str, Any]:
    """Return `chucky status --json` (DESIGN 3.2); `since` in seconds of the wall clock is when the
    owner, or its absence, was first seen. Fields are only ever added."""
    return {
        "sentence": snapshot.sentence,
        "node": str(snapshot.node),
        "phase": snapshot.phase,
        "application": settings.distributed.application,
        "owner": None if snapshot.owner is None else str(snapshot.owner),
        "epoch": None if snapshot.epoch is None else snapshot.epoch.number,
        "since": iso(since),
        "synced": snapshot.synced,
        "quorum": settings.distributed.quorum,
        "quorate": snapshot.quorate,
        "standby": any(state.standby for state in snapshot.nodes if state.state == "self"),
        "placed": any(state.placed for state in snapshot.nodes if state.owner),
        "nodes": [_node(state) for state in snapshot.nodes],
    }


def iso(seconds: float) -> str:
    """Return a time of the wall clock as people's tools read it."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return at.isoformat(timespec="milliseconds")


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
        "version": state.version,
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


def why_text(found: dict[str, Any]) -> str:
    """Return what `chucky why` prints: a line for each move, and what was known before it."""
    lines = []
    for move in found["moves"]:
        since, until = _local(move["since"]), move["until"] and _local(move["until"])
        span = f"from {since} to {until}" if until else f"since {since}"
        if move["owner"] is None:
            lines.append(f"no owner of {found['application']} is heard of here, {span}")
        else:
            verb = "owned" if until else "owns"
            what = f"{verb} {found['application']}, epoch {move['epoch']}"
            lines.append(f"{move['owner']} {what}, {span}")
        lines += [f"  {_local(line['time'])}  {line['sentence']}" for line in move["lines"]]
    return "\n".join(lines)


def _local(time: str) -> str:
    """Return an ISO 8601 time as a clock on the wall here shows it, with ms."""
    at = datetime.datetime.fromisoformat(time).astimezone().replace(tzinfo=None)
    return at.isoformat(" ", "milliseconds")
