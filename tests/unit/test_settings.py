"""The settings: what follows from them, and what tells two nodes' settings apart."""

from dataclasses import replace

import pytest

from chucky.names import NodePattern
from chucky.priority import PriorityList
from chucky.settings import Discovery, Distributed, Facts, Node, Settings


def test_tick_time_is_four_ticks() -> None:
    assert Settings().tick_time_ms == 1000
    assert Settings(node=Node(tick_ms=30)).tick_time_ms == 120


@pytest.mark.parametrize(
    ("told", "means_ms"),
    [("1000", 4000), ("30", 400), ("10000", 40_000), ("10001", 400), ("99999999999", 400),
     ("-900", 400), ("９００", 400), ("", 400), ("x", 400)],
)  # fmt: skip
def test_a_peer_s_tick_counts_where_it_is_longer_and_one_that_a_config_may_have(
    told: str, means_ms: int
) -> None:
    settings = Settings(node=Node(tick_ms=100))
    assert settings.patience_ms((("nodes", "[a]"), ("tick", told))) == means_ms
    assert settings.patience_ms(()) == 400


@pytest.mark.parametrize(
    ("hold_ms", "timeout_ms", "means_ms"),
    [(0, 5000, 10000), (0, 0, 5000), (0, None, 10000), (1, 5000, 1), (7000, None, 7000)],
)
def test_hold(hold_ms: int, timeout_ms: int | None, means_ms: int) -> None:
    settings = Settings(Distributed(timeout_ms=timeout_ms), facts=Facts(hold_ms=hold_ms))
    assert settings.hold_ms == means_ms


def test_a_request_is_held_for_longer_than_silence_takes() -> None:
    assert Settings(node=Node(tick_ms=1250)).hold_ms == 10_000
    assert Settings(node=Node(tick_ms=5000)).hold_ms == 40_000
    assert Settings(node=Node(tick_ms=5000), facts=Facts(hold_ms=7)).hold_ms == 7


def test_what_is_shared_as_people_read_it() -> None:
    assert Settings().shared == (
        ("application", "chucky"),
        ("nodes", "[a, [b, c]]"),
        ("timeout", "5000"),
        ("quorum", "reachable"),
        ("takeover", "true"),
        ("takeover_delay", "0"),
    )
    assert dict(Settings(Distributed(timeout_ms=None)).shared)["timeout"] == "inf"


A, B, C = map(NodePattern, "abc")


@pytest.mark.parametrize(
    "change",
    [
        {"application": "other"},
        {"nodes": PriorityList(((A,), (B,), (C,)))},
        {"timeout_ms": 5001},
        {"timeout_ms": None},
        {"quorum": "majority"},
        {"takeover": False},
        {"takeover_delay_ms": 1},
    ],
)
def test_the_digest_tells_what_must_be_the_same(change: dict[str, object]) -> None:
    changed = Settings(replace(Distributed(), **change))  # type: ignore[arg-type]
    assert changed.digest != Settings().digest
    assert len(changed.digest) == 8


@pytest.mark.parametrize(
    "settings",
    [
        Settings(Distributed(nodes=PriorityList(((A,), (C, B))))),
        Settings(Distributed(sync_nodes_mandatory=(A,), sync_nodes_optional=(B,))),
        Settings(Distributed(sync_nodes_timeout_ms=None)),
        Settings(node=Node(host="x", port=1, tick_ms=10)),
        Settings(discovery=Discovery(group="", peers=("x",))),
        Settings(facts=Facts(port=1, standby="closed")),
    ],
)
def test_the_digest_leaves_out_what_may_differ(settings: Settings) -> None:
    assert settings.digest == Settings().digest


def test_the_digest_does_not_change_by_accident() -> None:
    """Another version of Chucky on another machine must come to the same."""
    assert Settings().digest.hex() == "de35cc9aab23ed0c"
