"""The priority list: tiers, ranks and the text that two equal lists share."""

from hypothesis import given
from hypothesis import strategies as st

from chucky.names import NodeName, NodePattern
from chucky.priority import PriorityList


def listed(*tiers: str) -> PriorityList:
    """`listed("a", "b c")` is `["a", ["b", "c"]]`."""
    return PriorityList(tuple(tuple(map(NodePattern.parse, tier.split())) for tier in tiers))


def node(name: str) -> NodeName:
    return NodeName.parse(name, host="manticore")


def test_tiers() -> None:
    nodes = listed("a", "b c@chimera", "d")
    assert [nodes.tier(node(name)) for name in ("a", "b", "c@chimera", "d")] == [0, 1, 1, 2]
    assert [nodes.tier(node(name)) for name in ("e", "c", "aa")] == [None, None, None]


def test_rank_is_tier_then_name_then_host() -> None:
    nodes = listed("z", "c b")
    ranked = sorted(map(node, ["c", "b@y", "b@x", "z"]), key=lambda name: nodes.rank(name) or ())
    assert [str(name) for name in ranked] == ["z@manticore", "b@x", "b@y", "c@manticore"]
    assert nodes.rank(node("c")) == (1, node("c"))
    assert nodes.rank(node("a")) is None


def test_text() -> None:
    assert str(listed("a", "b c")) == "[a, [b, c]]"
    assert str(listed("a", "c@chimera b")) == "[a, [b, c@chimera]]"
    assert str(listed("a b")) == "[[a, b]]"


TIERS = st.lists(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
)


@given(TIERS, TIERS)
def test_lists_that_rank_alike_and_only_they_have_one_text(
    first: list[list[str]], second: list[list[str]]
) -> None:
    one, other = (listed(*map(" ".join, tiers)) for tiers in (first, second))
    alike = [set(tier) for tier in first] == [set(tier) for tier in second]
    assert (str(one) == str(other)) == alike
