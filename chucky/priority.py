"""The priority list: ordered tiers of nodes; nodes of one tier rank by name."""

from dataclasses import dataclass

from chucky.names import NodeName, NodePattern

Rank = tuple[int, NodeName]


@dataclass(frozen=True, slots=True)
class PriorityList:
    """`["a", ["b", "c"]]` as tiers: ((a,), (b, c)). The first tier is the best."""

    tiers: tuple[tuple[NodePattern, ...], ...]

    @property
    def size(self) -> int:
        """How many entries it has."""
        return sum(map(len, self.tiers))

    def tier(self, node: NodeName) -> int | None:
        """Return the node's tier, 0 for the best, or None when it is not listed."""
        for number, patterns in enumerate(self.tiers):
            if any(pattern.matches(node) for pattern in patterns):
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
