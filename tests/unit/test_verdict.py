"""decide(View): each rule of the design as rows of a table, view in, verdict out."""

import dataclasses

import pytest

from chucky.core.vacancy import Record
from chucky.core.verdict import decide
from chucky.core.verdicts import (
    Advance,
    Claim,
    GetReady,
    Hold,
    Name,
    Release,
    Resume,
    Run,
    Start,
    Succeed,
    Succeeded,
    Verdict,
    Withdraw,
    Yield,
)
from chucky.core.view import DownView, LeaseView, PeerView, View
from chucky.messages import Backing, End, Epoch, Heard, Holds, Naming, Placed, Sign, Status
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList
from tests.unit.cluster import name

A, B, C, D, Z = map(name, "abcdz")
LIST = PriorityList(
    ((NodePattern("a"),), (NodePattern("b"), NodePattern("c")), (NodePattern("d"),))
)
MINE, OTHER = b"mine", b"other"
NOW_MS = 100_000
TIMEOUT_MS, TICK_TIME_MS = 5000, 1000
INCARNATIONS = {A: 10, B: 20, C: 30, D: 40, Z: 5}


def status(**said: object) -> Status:
    """What a listed, synced, able standby says, but for `said`."""
    standby = Status(50, 50, MINE, "standby", listed=True, synced=True, able=True)
    return standby._replace(**counted(said))  # type: ignore[arg-type]


def counted(said: dict[str, object]) -> dict[str, object]:
    """An ownership counts from its epoch, but where it is told otherwise."""
    holds = said.get("running") or said.get("starting")
    return {"began": holds.number if isinstance(holds, Epoch) else 0, **said}


def peer(node: object, **said: object) -> PeerView:
    return PeerView(node, INCARNATIONS[node], status(**said))  # type: ignore[index, arg-type]


def aside(node: object, until_ms: int = NOW_MS + 4 * TICK_TIME_MS) -> Hold:
    return Hold(f"standing aside for {node}", until_ms, aside=True)


def view(**seen: object) -> View:
    """What b sees: alone, synced, able, nothing known, but for `seen`."""
    alone = View(
        me=B, incarnation=20, nodes=LIST, digest=MINE, timeout_ms=TIMEOUT_MS,
        tick_time_ms=TICK_TIME_MS, takeover=True, takeover_delay_ms=0, now_ms=NOW_MS,
        free_since_ms=0, listening=False, synced=True, able=True, stop_by_ms=None, highest=None,
        running=None, starting=None, naming=None, naming_tick=0, ready_sent_ms={},
    )  # fmt: skip
    return dataclasses.replace(alone, **counted(seen))  # type: ignore[arg-type]


def lost(node: object = A, ago_ms: int = 0, **known: object) -> Record:
    """The record of an owner last heard `ago_ms` ago."""
    epoch = Epoch(1, node)  # type: ignore[arg-type]
    record = Record(epoch, INCARNATIONS[node], 9, End.RUNNING, NOW_MS - ago_ms)  # type: ignore[index]
    return dataclasses.replace(record, **known)  # type: ignore[arg-type]


def heard(epoch: Epoch, holds: Holds = Holds.RUNNING, digest: bytes = MINE) -> Heard:
    return Heard(epoch, INCARNATIONS[epoch.node], holds, digest, 0, epoch.number)


NAMED_C = {"end": End.NAMED, "successor": C, "successor_incarnation": 30}
E1, E3, E5 = Epoch(1, A), Epoch(3, B), Epoch(5, A)
STOP_MS = NOW_MS + 4000

OWNER = {
    "alone": ({}, Hold()),
    "6: a better tier runs": ({"peers": (peer(A, running=E5),)}, Yield(A)),
    "6: a worse tier runs": ({"peers": (peer(D, running=Epoch(2, D)),)}, Hold()),
    "6: an equal tier runs, older": ({"peers": (peer(C, running=Epoch(2, C)),)}, Yield(C)),
    "6: an equal tier runs, younger": ({"peers": (peer(C, running=Epoch(4, C)),)}, Hold()),
    "6: an equal epoch number, by name": ({"peers": (peer(C, running=Epoch(3, C)),)}, Hold()),
    "6: an equal tier runs, younger than the epoch that this ownership began with": (
        {"began": 1, "peers": (peer(C, running=Epoch(2, C)),)},
        Hold(),
    ),
    "6: an equal tier runs, which was older before it went on under a new epoch": (
        {"peers": (peer(C, running=Epoch(5, C), began=2),)},
        Yield(C),
    ),
    "6: one that a peer hears, which was older before it went on under a new epoch": (
        {"peers": (peer(A, hears=(heard(Epoch(5, C))._replace(began=2),)),)},
        Yield(C),
    ),
    "6: a better tier that an up peer hears": ({"peers": (peer(C, hears=(heard(E5),)),)}, Yield(A)),
    "6: one that a peer hears, but is known to have stopped": (
        {"peers": (peer(C, hears=(heard(E1),)),), "records": (lost(end=End.RELEASED),)},
        Hold(),
    ),
    "6: takeover = false, older": (
        {"takeover": False, "peers": (peer(D, running=Epoch(2, D)),)},
        Yield(D),
    ),
    "6: takeover = false, younger": ({"takeover": False, "peers": (peer(A, running=E5),)}, Hold()),
    "6: an observer's list has it in no tier": ({"peers": (peer(Z, running=Epoch(2, Z)),)}, Hold()),
    "6: a worse tier runs, and it was alone so far": (
        {"alone": True, "peers": (peer(D, running=Epoch(9, D)),)},
        Yield(D),
    ),
    "6: a worse tier that a peer hears runs, and it was alone so far": (
        {"alone": True, "peers": (peer(C, hears=(heard(Epoch(9, D)),)),)},
        Yield(D),
    ),
    "6: nobody runs, and it was alone so far": ({"alone": True, "peers": (peer(C),)}, Hold()),
    "6: a better tier that only starts": ({"peers": (peer(A, starting=E5),)}, Hold()),
    "8: another digest, younger": ({"peers": (peer(A, running=E5, digest=OTHER),)}, Hold()),
    "8: another digest, older": (
        {"peers": (peer(D, running=Epoch(2, D), digest=OTHER),)},
        Yield(D),
    ),
    "8: another digest, an equal epoch number: by name, whatever this list says": (
        {
            "nodes": PriorityList(((NodePattern("b"),), (NodePattern("a"),))),
            "peers": (peer(A, running=Epoch(3, A), digest=OTHER),),
        },
        Yield(A),
    ),
    "6: heard of a higher epoch": ({"highest": E5}, Advance()),
    "6: of one as high, of a later name": ({"highest": Epoch(3, C)}, Advance()),
    "6: of its own": ({"highest": E3}, Hold()),
    "6: of a higher one, while another runs": (
        {"highest": Epoch(5, D), "peers": (peer(D, running=Epoch(5, D)),)},
        Hold(),
    ),
    "6: of a higher one, while it listens": ({"highest": E5, "listening": True}, Hold()),
    "6: of a higher one, whose owner is asked whether it lives": (
        {"highest": E5, "down": {A: DownView(NOW_MS, None, NOW_MS + 9)}},
        Hold("", NOW_MS + 9),
    ),
    "6: of a higher one, while another is asked whether it lives": (
        {"highest": E5, "down": {C: DownView(NOW_MS, None, NOW_MS + 9)}},
        Advance(),
    ),
    "6: of a higher one, before a peer has said what it knows": (
        {"highest": E5, "peers": (PeerView(A, 10, None),)},
        Hold(),
    ),
    "5: a better tier is ready": ({"peers": (peer(A, ready=E3),)}, Name(A, 10, 50)),
    "5: ready for another epoch": ({"peers": (peer(A, ready=E1),)}, Hold()),
    "5: ready, but not able any more": ({"peers": (peer(A, ready=E3, able=False),)}, Hold()),
    "S4: an equal tier is ready": ({"peers": (peer(C, ready=E3),)}, Hold()),
    "5: takeover = false": ({"takeover": False, "peers": (peer(A, ready=E3),)}, Hold()),
    "8: lists differ": ({"peers": (peer(A, ready=E3), peer(C, digest=OTHER))}, Hold()),
    "8: an observer's list differs": (
        {"peers": (peer(A, ready=E3), peer(Z, digest=OTHER, listed=False))},
        Name(A, 10, 50),
    ),
    "5: a better tier is ready that declined just now": (
        {
            "peers": (peer(A, ready=E3), peer(D, ready=E3)),
            "declined": {(A, 10): NOW_MS + 9},
            "nodes": PriorityList(tuple((NodePattern(k),) for k in "adbc")),
        },
        Name(D, 40, 50),
    ),
    "5: it stops, and who is ready declined just now": (
        {
            "peers": (peer(A, ready=E3), peer(D, ready=E3)),
            "declined": {(A, 10): NOW_MS + 9},
            "stop_by_ms": STOP_MS,
        },
        Name(A, 10, 50),
    ),
    "5: one is asked for that declined just now": (
        {"peers": (peer(D, ready=E3, wants=True),), "declined": {(D, 40): NOW_MS + 9}},
        Hold("", NOW_MS + 9),
    ),
    "5: all that are ready declined just now": (
        {
            "peers": (peer(A, ready=E3), peer(D, ready=E3)),
            "declined": {(A, 10): NOW_MS + 9, (D, 40): NOW_MS + 5},
            "nodes": PriorityList(tuple((NodePattern(k),) for k in "adbc")),
        },
        Hold("", NOW_MS + 5),
    ),
    "5: nobody is ready but who declined just now": (
        {"peers": (peer(A, ready=E3),), "declined": {(A, 10): NOW_MS + 9}},
        Hold("", NOW_MS + 9),
    ),
    "5: a former start of it declined": (
        {"peers": (peer(A, ready=E3),), "declined": {(A, 9): NOW_MS + 9}},
        Name(A, 10, 50),
    ),
    "5: it declined a while ago": (
        {"peers": (peer(A, ready=E3),), "declined": {(A, 10): NOW_MS}},
        Name(A, 10, 50),
    ),
    "5: stopping, alone": ({"stop_by_ms": STOP_MS}, Release()),
    "5: stopping, a candidate": ({"stop_by_ms": STOP_MS, "peers": (peer(D),)}, Hold("", STOP_MS)),
    "5: stopping, one that is stopping too": (
        {"stop_by_ms": STOP_MS, "peers": (peer(D, stopping=True),)},
        Release(),
    ),
    "5: stopping, only an observer": ({"stop_by_ms": STOP_MS, "peers": (peer(Z),)}, Release()),
    "5: stopping, the best that is ready": (
        {"stop_by_ms": STOP_MS, "peers": (peer(D, ready=E3), peer(C, ready=E3))},
        Name(C, 30, 50),
    ),
    "5: stopping, the time is over": ({"stop_by_ms": NOW_MS, "peers": (peer(D),)}, Release()),
    "asked for: a worse tier wants it": (
        {"takeover": False, "peers": (peer(A, ready=E3), peer(D, ready=E3, wants=True))},
        Name(D, 40, 50),
    ),
    "asked for: it is not ready": ({"peers": (peer(D, wants=True),)}, Hold()),
    "asked for, while it stops": (
        {"stop_by_ms": STOP_MS, "peers": (peer(C, ready=E3), peer(D, ready=E3, wants=True))},
        Name(D, 40, 50),
    ),
    "asked for, 8: lists differ": (
        {"peers": (peer(D, ready=E3, wants=True), peer(C, digest=OTHER))},
        Hold(),
    ),
    "placed, and a better tier is ready as before": (
        {"placed_tick": 7, "peers": (peer(A, ready=E3),)},
        Hold(),
    ),
    "placed, and a better tier started after an earlier placement": (
        {"placed_tick": 7, "peers": (peer(A, ready=E3, anew=6),)},
        Hold(),
    ),
    "placed, and a better tier started after that": (
        {"placed_tick": 7, "peers": (peer(A, ready=E3, anew=7),)},
        Name(A, 10, 50),
    ),
    "placed, and a worse tier started after that": (
        {"placed_tick": 7, "peers": (peer(D, ready=E3, anew=7),)},
        Hold(),
    ),
    "placed, and asked for elsewhere": (
        {"placed_tick": 7, "peers": (peer(D, ready=E3, wants=True),)},
        Name(D, 40, 50),
    ),
    "on standby, alone": ({"on_standby": True}, Hold("no other listed node is up")),
    "on standby, and nobody can": (
        {
            "on_standby": True,
            "peers": (
                peer(A, able=False, on_standby=True),
                peer(C, able=False),
                peer(D, able=False, synced=False),
                peer(Z),
            ),
        },
        Hold("a@h is on standby, too; c@h cannot run it now; d@h is not synced"),
    ),
    "on standby, and somebody can": (
        {"on_standby": True, "peers": (peer(C), peer(D, stopping=True))},
        Hold("c@h gets ready; d@h is stopping"),
    ),
    "on standby, and who is ready declined just now": (
        {
            "on_standby": True,
            "peers": (peer(A, ready=E3), peer(D)),
            "declined": {(A, 10): NOW_MS + 9},
        },
        Hold("a@h declined; d@h gets ready", NOW_MS + 9),
    ),
    "on standby, and a worse tier is ready, placed or not": (
        {"on_standby": True, "placed_tick": 7, "takeover": False, "peers": (peer(D, ready=E3),)},
        Name(D, 40, 50),
    ),
    "on standby, 8: lists differ": (
        {"on_standby": True, "peers": (peer(D, ready=E3), peer(C, digest=OTHER))},
        Name(D, 40, 50),
    ),
}


@pytest.mark.parametrize("row", OWNER)
def test_owner(row: str) -> None:
    seen, verdict = OWNER[row]
    assert decide(view(running=E3, **seen)) == verdict


NAMING = Naming(E3, A, 10, 44)
WAITS = "waiting for a@h to start"
STILL_NAMING = Heard(E3, 20, Holds.NAMING, MINE, 0)

YIELDING: dict[str, tuple[dict[str, object], Verdict]] = {
    "the successor has not read the naming": ({"peers": (peer(A, echo=59),)}, Hold(WAITS)),
    "the successor starts": ({"peers": (peer(A, echo=60, starting=E5),)}, Hold(WAITS)),
    "the successor serves": ({"peers": (peer(A, running=E5),)}, Succeeded(A)),
    "somebody serves, as a peer hears": ({"peers": (peer(C, hears=(heard(E5),)),)}, Succeeded(A)),
    "an older one serves": (
        {"peers": (peer(A, echo=59), peer(D, running=Epoch(2, D)))},
        Hold(WAITS),
    ),
    "it declines: it hears an older one that serves": (
        {"peers": (peer(A, echo=60), peer(D, echo=60, running=Epoch(2, D)))},
        Release(),
    ),
    "it declines": ({"peers": (peer(A, echo=60),)}, Resume()),
    "it declines, this node cannot": ({"peers": (peer(A, echo=60),), "able": False}, Release()),
    "it declines, this node stops": (
        {"peers": (peer(A, echo=60),), "stop_by_ms": STOP_MS},
        Release(),
    ),
    "it declines, a peer was not asked": (
        {"peers": (peer(A, echo=60), peer(C, echo=59))},
        Hold(WAITS),
    ),
    "it declines, a peer hears it start": (
        {"peers": (peer(A, echo=60), peer(C, echo=60, starting=Epoch(5, C)))},
        Hold(WAITS),
    ),
    "it restarted": ({"peers": (PeerView(A, 11, status(echo=60)),)}, Resume()),
    "it restarted and has said nothing yet": ({"peers": (PeerView(A, 11, None),)}, Hold(WAITS)),
    "it is dead": ({"down": {A: DownView(NOW_MS - 5, 10)}}, Resume()),
    "it is silent": (
        {"down": {A: DownView(NOW_MS - 400, None)}},
        Hold(WAITS, NOW_MS + TICK_TIME_MS - 400),
    ),
    "it is silent for the tick time": ({"down": {A: DownView(NOW_MS - 1000, None)}}, Resume()),
    "it is silent for long, a peer was not asked": (
        {"down": {A: DownView(NOW_MS - 1500, None)}, "peers": (peer(C, echo=0),)},
        Hold(WAITS),
    ),
    "an earlier start of it is dead": (
        {"down": {A: DownView(NOW_MS - 400, 9)}},
        Hold(WAITS, NOW_MS + TICK_TIME_MS - 400),
    ),
    "it has run, and names in its turn": (
        {"peers": (peer(A, naming=Naming(E5, C, 30, 9)),)},
        Succeeded(A),
    ),
    "the time to stop is over": (
        {"peers": (peer(A),), "stop_by_ms": NOW_MS},
        Release(in_doubt=True),
    ),
}


@pytest.mark.parametrize("row", YIELDING)
def test_yielding(row: str) -> None:
    seen, verdict = YIELDING[row]
    assert decide(view(naming=NAMING, naming_tick=60, **seen)) == verdict


def test_a_starting_node_waits_for_its_application() -> None:
    assert decide(view(starting=E3, peers=(peer(A, running=E5),))) == Hold("starting")


ASKED = {"starting": E3, "asked_tick": 60, "asked_by_ms": NOW_MS + 700}
ASKS = Hold("starting", NOW_MS + 700)
LATE = {"asked_by_ms": NOW_MS}
NEXT_START, FORMER_START = (heard(E1)._replace(incarnation=x) for x in (11, 9))
STARTING = {
    "alone": ({}, Run()),
    "all have heard": ({"peers": (peer(A, echo=60), peer(C, echo=61))}, Run()),
    "one has not": ({"peers": (peer(A, echo=60), peer(C, echo=59))}, ASKS),
    "one said nothing yet": ({"peers": (peer(A, echo=60), PeerView(C, 30, None))}, ASKS),
    "one has not for a tick time": ({"peers": (peer(A, echo=59),), **LATE}, Run()),
    "another one runs": ({"peers": (peer(A, running=E1),)}, Withdraw()),
    "S4: one that is asked is to tell whether it was named, and does": (
        {"peers": (peer(C, echo=60),), "records": (lost(ago_ms=9000, **NAMED_C),)},
        Withdraw(),
    ),
    "another one names": ({"peers": (peer(A, naming=Naming(E1, C, 30, 1)),)}, Withdraw()),
    "a better-standing one starts": ({"peers": (peer(A, starting=E5),)}, Withdraw()),
    "a worse one starts": ({"peers": (peer(D, echo=60, starting=Epoch(2, D)),)}, ASKS),
    "8: one of another list starts, whatever its tier here": (
        {"peers": (peer(A, echo=60, starting=E5, digest=OTHER),)},
        ASKS,
    ),
    "8: one of another list starts, which goes first": (
        {"peers": (peer(D, starting=E5, digest=b"its"),)},
        Withdraw(),
    ),
    "it does so for a tick time": (
        {"peers": (peer(D, echo=60, starting=Epoch(2, D)),), **LATE},
        Withdraw(),
    ),
    "a peer hears one that starts": (
        {"peers": (peer(C, echo=60, hears=(heard(E5, Holds.STARTING),)),)},
        Withdraw(),
    ),
    "a peer hears the next start of another one run": (
        {"peers": (peer(A, echo=60), peer(C, echo=60, hears=(NEXT_START,)))},
        Withdraw(),
    ),
    "a peer yet hears its former start": (
        {"peers": (peer(A, echo=60), peer(C, echo=60, hears=(FORMER_START,)))},
        Withdraw(),  # it may be another machine of that name, which is refused in a moment
    ),
    "it was stalled": ({"peers": (peer(A, echo=60),), "listening": True}, Withdraw()),
    "it is to stop": ({"peers": (peer(A, echo=60),), "stop_by_ms": NOW_MS + 1}, Withdraw()),
    "it is put on standby": ({"peers": (peer(A, echo=60),), "on_standby": True}, Withdraw()),
    "S4: one that was asked knows that the owner lived longer": (
        {"peers": (peer(A, echo=60),), "records": (lost(D, 4999),)},
        Withdraw(),
    ),
    "S4: and that was long ago, too": (
        {"peers": (peer(A, echo=60),), "records": (lost(D, 5000),)},
        Run(),
    ),
}


@pytest.mark.parametrize("row", STARTING)
def test_a_node_that_asks_whether_it_may_start(row: str) -> None:
    seen, verdict = STARTING[row]
    assert decide(view(**{**ASKED, **seen})) == verdict


TO_ME = Naming(E1, B, 20, 44)
READY = {44: NOW_MS - 499}

BESIDE: dict[str, tuple[dict[str, object], Verdict]] = {
    "5: named": ({"peers": (peer(A, naming=TO_ME),), "ready_sent_ms": READY}, Succeed(A)),
    "5: named, half a tick time after ready": (
        {"peers": (peer(A, naming=TO_ME),), "ready_sent_ms": {44: NOW_MS - 500}},
        Hold(),
    ),
    "5: named, never said ready": ({"peers": (peer(A, naming=TO_ME),)}, Hold()),
    "5: named, not able": (
        {"peers": (peer(A, naming=TO_ME),), "ready_sent_ms": READY, "able": False},
        Hold(),
    ),
    "5: an earlier start is named": (
        {"peers": (peer(A, naming=Naming(E1, B, 19, 44)),), "ready_sent_ms": READY},
        Hold(),
    ),
    "5: another is named": ({"peers": (peer(A, naming=Naming(E1, D, 40, 44)),)}, Hold()),
    "5: named, but one runs": (
        {"peers": (peer(A, naming=TO_ME), peer(D, running=E5)), "ready_sent_ms": READY},
        Hold(),
    ),
    "a better one runs": ({"peers": (peer(A, running=E1),)}, Hold()),
    "S4: an equal one runs": ({"peers": (peer(C, running=Epoch(1, C)),)}, Hold()),
    "a worse one runs": ({"peers": (peer(D, running=Epoch(1, D)),)}, GetReady(Epoch(1, D))),
    "a worse one runs, unable": ({"peers": (peer(D, running=Epoch(1, D)),), "able": False}, Hold()),
    "a worse one runs, takeover = false": (
        {"peers": (peer(D, running=Epoch(1, D)),), "takeover": False},
        Hold(),
    ),
    "a worse one runs, takeover_delay": (
        {"peers": (peer(D, running=Epoch(1, D)),), "takeover_delay_ms": NOW_MS + 7},
        Hold("waiting for takeover_delay", NOW_MS + 7),
    ),
    "a worse one runs, a better standby is there": (
        {"peers": (peer(D, running=Epoch(1, D)), peer(A, hears=(heard(Epoch(1, D)),)))},
        Hold("standing aside for a@h"),
    ),
    "a worse one runs, a better standby does not hear it": (
        {"peers": (peer(D, running=Epoch(1, D)), peer(A))},
        GetReady(Epoch(1, D)),
    ),
    "7: named now it could not be backed: its own vote is not free": (
        {"peers": (peer(D, running=Epoch(1, D)),), "lease": LeaseView(None, 0, 2, None, STOP_MS)},
        Hold("waiting for the vote of b@h", STOP_MS),
    ),
    "7: the others are a majority": (
        {"peers": (peer(D, running=Epoch(1, D)),), "lease": LeaseView(None, 0, 1, None, STOP_MS)},
        GetReady(Epoch(1, D)),
    ),
    "a worse one runs, a better standby that cannot": (
        {"peers": (peer(D, running=Epoch(1, D)), peer(A, able=False))},
        GetReady(Epoch(1, D)),
    ),
    "8: a worse one runs, lists differ": (
        {"peers": (peer(D, running=Epoch(1, D)), peer(C, digest=OTHER))},
        Hold(),
    ),
    "a worse one runs, heard by a peer only": (
        {"peers": (peer(C, hears=(heard(Epoch(1, D)),)),)},
        Hold(),
    ),
    "L4: a better one stops": ({"peers": (peer(A, running=E1, stopping=True),)}, GetReady(E1)),
    "L4: a better one stops, takeover = false": (
        {"peers": (peer(A, running=E1, stopping=True),), "takeover": False},
        GetReady(E1),
    ),
    "L4: a better one stops, a better standby": (
        {
            "me": D,
            "incarnation": 40,
            "peers": (
                peer(A, running=E1, stopping=True),
                peer(C, hears=(heard(E1),)),
            ),
        },
        aside(C),
    ),
    "L4: it stood aside for the better standby for long enough": (
        {
            "me": D,
            "incarnation": 40,
            "peers": (peer(A, running=E1, stopping=True), peer(C, hears=(heard(E1),))),
            "aside_ms": NOW_MS - 4000,
        },
        GetReady(E1),
    ),
    "L4: one on standby hears of a former start of its own": (
        {
            "peers": (
                peer(A, running=E1, on_standby=True, hears=(heard(E1)._replace(incarnation=9),)),
            )
        },
        GetReady(E1),
    ),
    "a worse one runs, and a peer hears another owner": (
        {
            "peers": (
                peer(D, running=Epoch(1, D)),
                peer(C, hears=(heard(Epoch(2, Z)),)),
            )
        },
        Hold(),
    ),
    "it wants: a better one runs, whatever takeover says": (
        {
            "wants": True,
            "takeover": False,
            "takeover_delay_ms": NOW_MS + 7,
            "peers": (peer(A, running=E1), peer(C)),
        },
        GetReady(E1),
    ),
    "it wants: a better one runs, and a better one is able": (
        {"wants": True, "me": D, "incarnation": 40, "peers": (peer(A, running=E1), peer(C))},
        GetReady(E1),
    ),
    "it wants, and so does a better one": (
        {
            "wants": True,
            "me": D,
            "incarnation": 40,
            "peers": (peer(A, running=E1), peer(C, wants=True, hears=(heard(E1),))),
        },
        Hold("standing aside for c@h"),
    ),
    "a worse one wants": (
        {
            "peers": (
                peer(D, running=Epoch(1, D)),
                peer(C, wants=True, hears=(heard(Epoch(1, D)),)),
            )
        },
        Hold("standing aside for c@h"),
    ),
    "it wants: lists differ": (
        {"wants": True, "peers": (peer(A, running=E1, digest=OTHER),)},
        Hold(),
    ),
    "it wants, and is not able": (
        {"wants": True, "able": False, "peers": (peer(A, running=E1),)},
        Hold(),
    ),
    "it wants: the owner is heard by a peer only": (
        {"wants": True, "peers": (peer(C, hears=(heard(E1),)),)},
        Hold(),
    ),
    "a worse one is placed while this node was up": (
        {"binding": frozenset({D}), "peers": (peer(D, running=Epoch(1, D), placed=Placed(7, 9)),)},
        Hold("d@h is placed"),
    ),
    "a worse one was placed before this node started": (
        {"peers": (peer(D, running=Epoch(1, D), placed=Placed(7, 9)),)},
        GetReady(Epoch(1, D), 7),
    ),
    "it wants what is placed": (
        {
            "binding": frozenset({A}),
            "wants": True,
            "peers": (peer(A, running=E1, placed=Placed(7, 9)),),
        },
        GetReady(E1),
    ),
    "a better standby is bound by the placement": (
        {"peers": (peer(D, running=Epoch(1, D), placed=Placed(7, 9)), peer(A))},
        GetReady(Epoch(1, D), 7),
    ),
    "a better standby is not, and is ready": (
        {
            "peers": (
                peer(D, running=Epoch(1, D), placed=Placed(7, 9)),
                peer(A, ready=Epoch(1, D), hears=(heard(Epoch(1, D)),)),
            )
        },
        Hold("standing aside for a@h"),
    ),
    "a better one on standby gives it away": (
        {"takeover": False, "peers": (peer(A, running=E1, on_standby=True),)},
        GetReady(E1),
    ),
    "a placed one on standby gives it away": (
        {
            "binding": frozenset({A}),
            "peers": (peer(A, running=E1, on_standby=True, placed=Placed(7, 9)),),
        },
        GetReady(E1),
    ),
    "on standby itself": ({"on_standby": True, "peers": (peer(D, running=Epoch(1, D)),)}, Hold()),
    "on standby, and named": (
        {"on_standby": True, "peers": (peer(A, naming=TO_ME),), "ready_sent_ms": READY},
        Hold(),
    ),
    "one starts": ({"peers": (peer(D, starting=E5),)}, Hold()),
    "a peer has said nothing yet": (
        {"peers": (PeerView(C, 30, None),)},
        Hold("waiting to hear what c@h knows", passing=True),
    ),
    "1: not synced": ({"synced": False}, Hold()),
    "1: still looking": ({"listening": True}, Hold()),
    "an observer": ({"me": Z}, Hold()),
    "stopping": ({"stop_by_ms": STOP_MS}, Hold()),
}


@pytest.mark.parametrize("row", BESIDE)
def test_standby_beside_a_holder(row: str) -> None:
    seen, verdict = BESIDE[row]
    assert decide(view(**seen)) == verdict


LOST = Hold("a@h is lost", NOW_MS + TIMEOUT_MS, vacancy=True)
KNOWN = (Sign(E1, 10, 9, End.NAMED, 0, C, 30),)


VACANT: dict[str, tuple[dict[str, object], Verdict]] = {
    "2: alone, cold": ({}, Start()),
    "2: unable": ({"able": False}, Hold()),
    "2: a better one is able": ({"peers": (peer(A),)}, aside(A)),
    "2: one that ranks before by its name": (
        {"me": C, "incarnation": 30, "peers": (peer(B),)},
        aside(B),
    ),
    "2: a better one is able, and has not started for long": (
        {"peers": (peer(A),), "aside_ms": NOW_MS - 3999},
        aside(A, NOW_MS + 1),
    ),
    "2: a better one is able, and does not start": (
        {"peers": (peer(A),), "aside_ms": NOW_MS - 4000},
        Start(),
    ),
    "2: a worse one is able": ({"peers": (peer(D),)}, Start()),
    "2: a better one that cannot": ({"peers": (peer(A, able=False),)}, Start()),
    "2: a better one that stops": ({"peers": (peer(A, stopping=True),)}, Start()),
    "2: a better one still syncs": (
        {"peers": (peer(A, synced=False),)},
        Hold("waiting for a@h to be synced"),
    ),
    "2: a better one still syncs, on standby": (
        {"peers": (peer(A, synced=False, on_standby=True),)},
        Start(),
    ),
    "2: it wants, and a better one is able": (
        {"wants": True, "peers": (peer(A),)},
        aside(A),
    ),
    "L2: the lost owner is back, and on standby": (
        {"on_standby": True, "records": (lost(B, 100, incarnation=19),)},
        Hold(),
    ),
    "2: a worse one still syncs": ({"peers": (peer(D, synced=False),)}, Start()),
    "2: in a vacancy nobody's sync is waited for": (
        {"peers": (peer(A, synced=False),), "records": (lost(D, 9000),)},
        Start(D),
    ),
    "3: lost just now": ({"records": (lost(),)}, LOST),
    "3: lost at the timeout": ({"records": (lost(ago_ms=5000),)}, Start(A)),
    "3: one ms before": (
        {"records": (lost(ago_ms=4999),)},
        Hold("a@h is lost", NOW_MS + 1, vacancy=True),
    ),
    "3: timeout inf": (
        {"records": (lost(ago_ms=10**9),), "timeout_ms": None},
        Hold("a@h is lost", None, vacancy=True),
    ),
    "3: it was lost twice and is back": (
        {"records": (lost(B, 100, incarnation=19), lost(B, 200, epoch=E3))},
        Start(),
    ),
    "5: the named one knows of a later ownership": (
        {
            "records": (lost(ago_ms=9000, **NAMED_C),),
            "peers": (peer(C, able=False, signs=(Sign(E5, 10, 9, End.ENDED, 9000),)),),
        },
        Start(),
    ),
    "3: two were lost and are back, and the timeout is inf": (
        {"records": (lost(B, 200, incarnation=19), lost(ago_ms=100)), "timeout_ms": None},
        Start(),
    ),
    "3: it yielded": ({"records": (lost(end=End.RELEASED),)}, Start()),
    "3: of two the one heard last counts": (
        {"records": (lost(ago_ms=9000), lost(D, 1000, epoch=Epoch(2, D)))},
        Hold("d@h is lost", NOW_MS + 4000, vacancy=True),
    ),
    "4: timeout 0, silent": (
        {"records": (lost(ago_ms=10),), "timeout_ms": 0},
        Hold("a@h is lost", NOW_MS + 990, vacancy=True),
    ),
    "4: timeout 0, proven dead": (
        {
            "records": (lost(ago_ms=10),),
            "timeout_ms": 0,
            "down": {A: DownView(NOW_MS - 10, 10)},
        },
        Start(A),
    ),
    "4: timeout 0, proven dead, as a peer told": (
        {"records": (lost(ago_ms=10, dead=True),), "timeout_ms": 0},
        Start(A),
    ),
    "4: proven dead, but the timeout runs": (
        {"records": (lost(ago_ms=10, dead=True),)},
        Hold("a@h is lost", NOW_MS + 4990, vacancy=True),
    ),
    "4: timeout 0, an earlier start is dead": (
        {"records": (lost(ago_ms=10),), "timeout_ms": 0, "down": {A: DownView(NOW_MS - 10, 9)}},
        Hold("a@h is lost", NOW_MS + 990, vacancy=True),
    ),
    "4: timeout 0, back without it": (
        {"records": (lost(ago_ms=10),), "timeout_ms": 0, "peers": (peer(A, able=False),)},
        Start(A),
    ),
    "4: a dial asks whether one lives": (
        {"down": {D: DownView(NOW_MS, None, NOW_MS + 300)}},
        Hold("asking whether d@h lives", NOW_MS + 300, passing=True),
    ),
    "4: a dial asked": ({"down": {D: DownView(NOW_MS, None, NOW_MS)}}, Start()),
    "L2: the lost owner is back": (
        {"records": (lost(B, 100, incarnation=19),), "peers": (peer(A),)},
        Start(),
    ),
    "L2: it is back, but had named": (
        {"records": (lost(B, 100, incarnation=19, **NAMED_C),)},
        Hold("b@h is lost", NOW_MS + 4900, vacancy=True),
    ),
    "L7: its own application failed": (
        {"records": (lost(B, 100, end=End.ENDED),)},
        Hold("b@h is lost", NOW_MS + 4900, vacancy=True),
    ),
    "L7: its own application failed, timeout inf": (
        {"records": (lost(B, 100, end=End.ENDED),), "timeout_ms": None, "peers": (peer(A),)},
        Start(),
    ),
    "5: named another, of which nothing is known": (
        {"records": (lost(ago_ms=100, **NAMED_C),)},
        Hold("a@h is lost", NOW_MS + 4900, vacancy=True),
    ),
    "5: named another, which was heard later": (
        {
            "records": (lost(ago_ms=4000, **NAMED_C),),
            "down": {C: DownView(NOW_MS - 1000, None)},
        },
        Hold("a@h is lost", NOW_MS + 4000, vacancy=True),
    ),
    "5: named another, which does not know yet": (
        {"records": (lost(ago_ms=100, **NAMED_C),), "peers": (peer(C),)},
        Hold("waiting for c@h to say whether it starts"),
    ),
    "5: named another, which declined": (
        {"records": (lost(ago_ms=100, **NAMED_C),), "peers": (peer(C, signs=KNOWN),)},
        Start(),
    ),
    "5: named another, which restarted": (
        {"records": (lost(ago_ms=100, **NAMED_C),), "peers": (PeerView(C, 31, status()),)},
        Start(),
    ),
    "5: named this node, and is gone": (
        {"records": (lost(end=End.NAMED, successor=B, successor_incarnation=20),)},
        Start(),
    ),
    "8: lists differ, one up longer in both": (
        {"me": D, "incarnation": 40, "peers": (peer(C, digest=OTHER),)},
        aside(C),
    ),
    "8: lists differ, a better rank is up for less": (
        {"peers": (PeerView(A, 99, status(digest=OTHER)),)},
        Start(),
    ),
    "8: lists differ, of the same digest too": (
        {"peers": (PeerView(A, 99, status()), peer(D, digest=OTHER))},
        Start(),
    ),
    "8: lists differ, one that is in neither": (
        {"peers": (peer(Z, digest=OTHER, listed=False),)},
        Start(),
    ),
    "8: lists differ, one that is in its own only": ({"peers": (peer(Z, digest=OTHER),)}, Start()),
}


@pytest.mark.parametrize("row", VACANT)
def test_vacancy(row: str) -> None:
    seen, verdict = VACANT[row]
    assert decide(view(**seen)) == verdict


def test_what_a_peer_says_of_itself_outweighs_what_others_heard() -> None:
    a = peer(A, highest=E1)  # it is up and runs nothing
    seen = view(peers=(a, peer(C, hears=(heard(E1), heard(Epoch(2, D)), heard(E3)))))
    assert [h.epoch.node for h in seen.holders] == [D]  # b, of epoch 3, is this node itself


def test_what_others_heard_of_a_peer_counts_when_it_is_newer() -> None:
    seen = view(peers=(peer(A), peer(C, hears=(heard(E1),))))
    assert [h.epoch for h in seen.holders] == [E1]  # a began it since it was heard here
    again = view(peers=(PeerView(A, 99, status()), peer(C, hears=(heard(E1),))))
    assert [h.epoch for h in again.holders] == [E1]  # or a is another machine, and that one runs
    assert not dataclasses.replace(again, running=E3).holders  # an owner does not yield to that
    former = heard(E1)._replace(holds=Holds.STARTING)
    begins = view(peers=(PeerView(A, 99, status()), peer(C, hears=(former,))))
    assert not begins.holders  # that was its former incarnation


def test_others_may_hear_run_what_a_peer_starts_as_it_is_heard_here() -> None:
    a = peer(A, starting=E1, highest=E3)  # it has heard of a higher one since it began this
    seen = view(peers=(a, peer(C, hears=(heard(E1),))))
    assert [h.holds for h in seen.holders] == [Holds.STARTING, Holds.RUNNING]
    again = view(peers=(a, peer(C, hears=(heard(E1)._replace(holds=Holds.STARTING),))))
    assert len(again.holders) == 1
    assert decide(dataclasses.replace(seen, running=E3)) == Yield(A)


def test_a_peer_that_has_said_nothing_is_heard_through_others() -> None:
    seen = view(peers=(PeerView(A, 10, None), peer(C, hears=(heard(E1),))))
    assert [h.epoch for h in seen.holders] == [E1]


def test_a_claimant_withdraws_for_a_better_one_that_it_backs_itself() -> None:
    vote = Backing(A, INCARNATIONS[A], 1, 9)
    seen = view(lease=LeaseView(None, 1, 2, vote), lapsed=E3, records=(lost(B, epoch=E3),))
    assert isinstance(decide(seen), Claim)
    for claim, verdict in ((1, Hold("b@h backs a@h")), (2, Claim), (0, Claim)):
        found = decide(dataclasses.replace(seen, peers=(peer(A, claim=claim),)))
        assert found == verdict or isinstance(found, Claim) and verdict is Claim


@pytest.mark.parametrize(("holder", "incarnation", "first"), [(A, 30, True), (D, 10, False)])
def test_of_two_claimants_of_one_list_its_order_tells_which_goes_first(
    holder: NodeName, incarnation: int, first: bool
) -> None:
    """Whoever hears a node of another list: the other claimant, which is not heard, may not."""
    vote = Backing(holder, incarnation, 1, 9, MINE)
    lease = LeaseView(None, 1, 2)
    seen = view(lease=lease, lapsed=E3, peers=(peer(C, digest=OTHER, backing=vote),))
    assert seen.mixed and isinstance(decide(seen), Hold if first else Claim)


@pytest.mark.parametrize(("holder", "digest", "first"), [(A, OTHER, False), (D, b"least", True)])
def test_of_two_claimants_of_two_lists_the_digest_tells_which_goes_first(
    holder: NodeName, digest: bytes, first: bool
) -> None:
    vote = Backing(holder, INCARNATIONS[holder], 1, 9)
    lease = LeaseView(None, 1, 2, vote)
    peers = (peer(holder, claim=1, digest=digest),)
    seen = view(lease=lease, lapsed=E3, records=(lost(B, epoch=E3),), peers=peers)
    assert isinstance(decide(seen), Hold if first else Claim)
