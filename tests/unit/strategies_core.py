"""Hypothesis strategies for what a node may believe: small worlds, in which numbers collide.

A view is a quiet one but for a few differences, each one field of one drawn value, so what fails
shrinks to what matters. Two to four nodes, three epoch numbers, three incarnations, two digests,
times of a few ms.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from chucky.core.vacancy import Record
from chucky.core.view import DownView, LeaseView, PeerView, View
from chucky.messages import Backing, End, Epoch, Heard, Holds, Naming, Placed, Sign, Status
from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList
from tests.unit.cluster import name

ME, *OTHERS = NODES = tuple(map(name, "bacd"))  # this node ranks in the middle
LISTS = tuple(
    PriorityList(tuple(tuple(map(NodePattern, tier)) for tier in tiers.split()))
    for tiers in ("a bc d", "a b c d", "d bca", "b acd", "ab c", "c ad")
)
MINE, OTHER = b"mine", b"other"
NOW_MS, TICK_TIME_MS = 20, 4
INCARNATION = 5
INCARNATIONS = (*(INCARNATION,) * 4, INCARNATION - 1, INCARNATION + 1)  # mostly the same
TICK = 3  # of each Status
NUMBERS = (1, 2, 3)

Difference = tuple[str, Any]


def epochs(*of: NodeName) -> list[Epoch]:
    return [Epoch(number, node) for node in of for number in NUMBERS]


def namings(of: NodeName) -> Iterator[Naming]:
    """Mostly b is meant, as it runs now, and its tick one that said ready."""
    whom = (ME, ME, ME, *OTHERS) if of != ME else (*OTHERS,)
    for epoch, successor, incarnation, tick in itertools.product(
        epochs(of), whom, INCARNATIONS, (1, 2, 2, 3)
    ):
        yield Naming(epoch, successor, incarnation, tick)


def of_a_status(of: NodeName) -> list[Sequence[Difference]]:
    """What a node of this name may say unlike a quiet standby, by kind."""
    heards = itertools.product(
        epochs(*NODES), INCARNATIONS, Holds, (MINE, MINE, OTHER), (0,), (1, 2)
    )
    signs = itertools.product(epochs(*NODES), (5,), (1,), End, (0,), (ME,), (INCARNATION,))
    return [
        [("running", epoch) for epoch in epochs(of)],
        [("running", epoch) for epoch in epochs(of)],
        [("starting", epoch) for epoch in epochs(of)],
        [("naming", naming) for naming in namings(of)],
        [("naming", naming) for naming in namings(of)],
        [("ready", Epoch(2, ME))],
        [("ready", epoch) for epoch in epochs(*NODES)],
        [(field, False) for field in ("listed", "synced", "able")],
        [("stopping", True), ("claim", 1), ("digest", OTHER)],
        [("wants", True), ("on_standby", True), ("placed", Placed(2, 0))],
        [("anew", number) for number in (2, 3)],
        [("began", number) for number in (1, 2)],
        [("echo", echo) for echo in (0, 1, 3, 4)],
        [("hears", (Heard(*heard),)) for heard in heards],
        [("signs", (Sign(*sign),)) for sign in signs],
        [("backing", Backing(who, i, 1, 1)) for who in NODES for i in INCARNATIONS],
    ]


def of_a_view() -> list[Sequence[Difference]]:
    """What this node may believe unlike one that is well and has heard of nothing, by kind."""
    ms = range(NOW_MS - 1, NOW_MS + 3)
    votes = [Backing(who, i, 1, 1) for who in NODES for i in INCARNATIONS]
    leases = [LeaseView(t, 1, 2) for t in (None, *ms)]
    leases += [LeaseView(None, 1, 2, vote) for vote in votes]
    return [
        [("nodes", nodes) for nodes in LISTS],
        [("timeout_ms", timeout_ms) for timeout_ms in (0, 3, None)],
        [("takeover", False), ("takeover_delay_ms", 8), ("takeover_delay_ms", 3)],
        [("listening", True), ("synced", False), ("able", False), ("alone", True)],
        [("stop_by_ms", t) for t in ms],
        [("highest", epoch) for epoch in epochs(*NODES)],
        [("naming_tick", tick) for tick in (2, 3, 4)],
        [("began", number) for number in (1, 2)],
        [("asked_tick", tick) for tick in (1, 2, 3)],
        [("asked_by_ms", t) for t in ms],
        [("lease", lease) for lease in leases],
        [("lapsed", epoch) for epoch in epochs(ME)],
        [("wants", True), ("on_standby", True)],
        [("placed_tick", 2), ("binding", frozenset(OTHERS)), ("binding", frozenset(OTHERS[:1]))],
    ]


QUIET = Status(TICK, 2, MINE, "", listed=True, synced=True, able=True)
QUIET_STATUS = QUIET._asdict()
QUIET_VIEW: dict[str, Any] = dict(
    me=ME, incarnation=INCARNATION, nodes=LISTS[0], digest=MINE, timeout_ms=6,
    tick_time_ms=TICK_TIME_MS, takeover=True, takeover_delay_ms=0, now_ms=NOW_MS,
    free_since_ms=NOW_MS - 5, listening=False, synced=True, able=True, stop_by_ms=None,
    highest=None, running=None, starting=None, naming=None, naming_tick=2,
    ready_sent_ms={1: NOW_MS - 2, 2: NOW_MS - 1},
)  # fmt: skip
HOLDS_FIELDS = ("running", "starting", "naming")


# All strategies are made once: hypothesis hashes each value of a new one.


def some(kinds: list[Sequence[Difference]], most: int) -> st.SearchStrategy[list[Difference]]:
    return st.lists(st.one_of([st.sampled_from(kind) for kind in kinds]), max_size=most)


a_view = some(of_a_view(), 3)
a_status = {of: some(of_a_status(of), 4) for of in OTHERS}
incarnations = st.sampled_from(INCARNATIONS)
tenths = st.integers(0, 9)
places = st.sampled_from(("", "up", "up", "down"))
helds: st.SearchStrategy[Difference | None] = st.one_of(
    st.none(),
    st.none(),
    st.just(("running", Epoch(2, ME))),
    st.sampled_from([("running", epoch) for epoch in epochs(ME)]),
    st.sampled_from([("naming", n) for n in namings(ME)]),
    st.just(("starting", Epoch(2, ME))),
)
downs = st.builds(
    DownView,
    st.sampled_from((14, 16, 17, 19)),
    st.sampled_from((None, 5, 4)),
    st.sampled_from((None, None, None, 20, 22)),
)
a_record = st.builds(
    Record,
    st.sampled_from(epochs(*NODES)),
    incarnations,
    st.just(1),
    st.sampled_from(End),
    st.sampled_from((11, 14, 15, 17, 19, 20)),
    st.sampled_from(NODES),
    incarnations,
    st.booleans(),
)
record_lists = st.lists(a_record, max_size=2, unique_by=lambda r: r.epoch)


def peer(draw: st.DrawFn, of: NodeName) -> PeerView:
    """A peer that is up; it holds the application in one way at most, the last drawn."""
    said = dict(QUIET_STATUS)
    for field, value in draw(a_status[of]):
        if field in HOLDS_FIELDS:
            said.update(dict.fromkeys(HOLDS_FIELDS))
        said[field] = value
        if isinstance(value, Epoch):
            said["began"] = value.number
    return PeerView(of, draw(incarnations), None if draw(tenths) == 9 else Status(**said))


@st.composite
def views(draw: st.DrawFn) -> View:
    """What b may believe."""
    believed = {**QUIET_VIEW, **dict(draw(a_view))}
    held = draw(helds)
    if held is not None and believed["nodes"].tier(ME) is not None:  # else it never owns
        believed.update([held])
        if isinstance(held[1], Epoch):
            believed.setdefault("began", held[1].number)
    where = {of: draw(places) for of in OTHERS}
    return View(
        **believed,
        records=tuple(draw(record_lists)),
        peers=tuple(peer(draw, of) for of in OTHERS if where[of] == "up"),
        down={of: draw(downs) for of in OTHERS if where[of] == "down"},
    )


NEAR_STATUS: list[Difference] = [
    ("digest", OTHER), ("synced", False), ("stopping", True), ("claim", 1), ("echo", 1),
    ("ready", Epoch(2, ME)), ("wants", True), ("on_standby", True), ("placed", Placed(2, 0)),
    ("anew", 2), ("backing", Backing(OTHERS[0], INCARNATION, 1, 1)), ("began", 1),
]  # fmt: skip
NEAR_VIEW: list[Difference] = [
    ("takeover", False), ("takeover_delay_ms", 5), ("takeover_delay_ms", 6), ("timeout_ms", 0),
    ("timeout_ms", None), ("able", False), ("listening", True), ("highest", Epoch(2, ME)),
    ("highest", Epoch(3, OTHERS[1])), ("lease", LeaseView(None, 1, 2)),
    ("lease", LeaseView(NOW_MS + 2, 2, 2)), ("stop_by_ms", NOW_MS + 2), ("records", ()),
    ("wants", True), ("on_standby", True), ("placed_tick", 2), ("binding", frozenset(OTHERS)),
    *(("aside_ms", NOW_MS - 4 * TICK_TIME_MS + ms) for ms in (-1, 0, 1)),
    *(("declined", {(of, INCARNATION): NOW_MS + 2}) for of in OTHERS),
    ("asked_tick", 0), ("asked_tick", 2), ("asked_by_ms", NOW_MS + 2), ("began", 1),
    *(("lease", LeaseView(None, 0, needed, None, NOW_MS + 2)) for needed in (1, 2, 3)),
    ("nodes", LISTS[1]), ("nodes", LISTS[2]), *(("now_ms", NOW_MS + ms) for ms in range(1, 6)),
]  # fmt: skip


def with_neighbours(view: View) -> Iterator[View]:
    """Yield the view and all that differ from it in one of these: a verdict is cheaper than a
    draw, and rules end between neighbours."""
    yield view
    for field, value in NEAR_VIEW:
        yield dataclasses.replace(view, **{field: value})
    for at, seen in enumerate(view.peers):
        for field, value in NEAR_STATUS if seen.status else ():
            said = seen.status._replace(**{field: value})  # type: ignore[union-attr]
            near = seen._replace(status=said)
            yield dataclasses.replace(view, peers=(*view.peers[:at], near, *view.peers[at + 1 :]))
