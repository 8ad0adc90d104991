"""The log: where it can go, and what the core reports, with the journal's fields (chuckyd(8))."""

import logging
import os

from chucky.core.actions import Exit, Report
from chucky.core.snapshot import Snapshot

_log = logging.getLogger("chucky")


def keep_standard_descriptors() -> None:
    """Open what of 0, 1 and 2 was closed at the start: else a socket of ours would be stderr."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)


def log_report(action: Report | Exit, snapshot: Snapshot, application: str) -> None:
    """Log what the core reports, with the journal's fields; `snapshot` is of after that."""
    epoch, fields = snapshot.epoch, {"NODE": str(snapshot.node), "APPLICATION": application}
    if isinstance(action, Report):
        level: int = action.level
        fields["CAUSE"] = action.cause
        epoch = action.epoch or epoch
        if action.peer is not None:
            fields["PEER"] = str(action.peer)
    else:
        level, fields["CAUSE"] = logging.ERROR if action.code else logging.INFO, "exit"
    if epoch is not None:
        fields |= {"OWNER": str(epoch.node), "EPOCH": str(epoch.number)}
    _log.log(level, "%s", printable(action.sentence), extra={"journal_fields": fields})


def printable(sentence: str) -> str:
    """Return it so that a peer's words in it cannot add lines, or commands of a terminal."""
    return sentence if sentence.isprintable() else ascii(sentence)
