"""The priority list: ordered tiers of nodes; nodes of one tier rank by name."""

from dataclasses import dataclass, field

from chucky.names import NodeName, NodePattern

Rank = tuple[int, NodeName]


@dataclass(frozen=True, slots=True)
class PriorityList:
    """`["a", ["b", "c"]]` as tiers: ((a,), (b, c)). The first tier is the best."""

    tiers: tuple[tuple[NodePattern, ...], ...]
    # A verdict asks for a dozen tiers, so the patterns lie ready by the name before the @.
    _by_name: dict[str, list[tuple[int, NodePattern]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for number, patterns in enumerate(self.tiers):
            for pattern in patterns:
                self._by_name.setdefault(pattern.name, []).append((number, pattern))

    @property
    def size(self) -> int:
        """How many entries it has."""
        return sum(map(len, self.tiers))

    def tier(self, node: NodeName) -> int | None:
        """Return the node's tier, 0 for the best, or None when it is not listed."""
        for number, pattern in self._by_name.get(node.name, ()):
            if pattern.host in ("", node.host):
                return number
        return None

    def rank(self, node: NodeName) -> Rank | None:
        """Return what orders listed nodes, the least first; None when it is not listed."""
        tier = self.tier(node)
        return None if tier is None else (tier, node)

    def __str__(self) -> str:
        """The list as the config writes it, each tier in order of name: equal lists, equal text."""
        tiers = (
            str(names[0]) if len(names) == 1 else f"[{', '.join(map(str, sorted(names)))}]"
            for names in self.tiers
        )
        return f"[{', '.join(tiers)}]"
