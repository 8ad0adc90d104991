"""The simulator's cluster for stories told exactly: each frame takes 1 ms unless told
otherwise, and no timer is late.

It also keeps who served when, and what each node reported.
"""

from chucky.core import actions as ac
from chucky.names import NodeName
from chucky.settings import Settings
from tests.sim import cluster
from tests.sim.clock import MS
from tests.sim.host import Host


def name(key: str) -> NodeName:
    """Return a's full name."""
    return NodeName(key, "h")


class Cluster(cluster.Cluster, cluster.Watch):
    """See the module."""

    def __init__(
        self, settings: Settings, keys: str = "abc", delay_us: tuple[int, int] = (MS, 0)
    ) -> None:
        super().__init__(settings, keys, delay_us=delay_us)
        self.owners: list[tuple[int, tuple[str, ...]]] = []  # (time, who serves), at each change
        self.reports: dict[str, list[ac.Report]] = {key: [] for key in keys}
        self.watch(self)

    def acts(self, host: Host, action: ac.Action) -> None:
        """Keep what it reports, and what it answers."""
        match action:
            case ac.Report():
                self.reports[host.key].append(action)
            case ac.RequestDone(_, done, sentence):
                host.log.append((self.now_ms, f"{'done' if done else 'not done'}: {sentence}"))

    def stepped(self, host: Host) -> None:
        """Note who serves."""
        who = tuple(self.serving)
        if not self.owners or self.owners[-1][1] != who:
            self.owners.append((self.now_ms, who))

    def ended(self, host: Host) -> None:
        """Note who serves."""
        self.stepped(host)

    def most_served(self) -> int:
        """Return the greatest number of nodes that ever served at once."""
        return max((len(who) for _, who in self.owners), default=0)
