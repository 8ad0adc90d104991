"""A LAN of network namespaces: one per node, a switch of bridges between them, and its faults.

Needs root. Everything is inside namespaces with names of this process, so that it touches no real
network, runs beside another, and is gone when the namespaces are.
"""

import functools
import itertools
import os
import shutil
import subprocess

from tests.lan.bed import Bed

_numbers = itertools.count(1)


@functools.cache
def missing() -> str:
    """Return why no Lan can be made here, in one line; "" when one can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    absent = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install iproute2 util-linux"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        return "this root may not make network namespaces (a container without privileges)"
    return ""


def run(*command: str) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


class Lan:
    """The switch and, for each node, a namespace with an interface eth0 plugged into it.

    Node number i has 10.77.0.i and fd77::i, unless a family is switched off.
    """

    def __init__(
        self, bed: Bed, nodes: str = "abc", *, unplugged: str = "",
        ipv4: bool = True, ipv6: bool = True,
    ) -> None:  # fmt: skip
        self._prefix = f"chucky{os.getpid()}-{next(_numbers)}"
        self._ipv4, self._ipv6 = ipv4, ipv6
        self.switch = f"{self._prefix}-switch"
        self._numbers = {node: number for number, node in enumerate(nodes, 1)}
        bed.at_end(self.close)
        for netns in [self.switch, *map(self.netns, nodes)]:
            run("ip", "netns", "add", netns)
            if not ipv6:
                self._sysctl(netns, "ipv6.conf.all.disable_ipv6", "1")
            for scope in ("all", "default"):  # an address is good at once, so no test waits for it
                self._sysctl(netns, f"ipv6.conf.{scope}.accept_dad", "0")
        for node in nodes:
            run("ip", "-n", self.netns(node), "link", "set", "lo", "up")
        for bridge in ("bridge0", "bridge1"):
            # No snooping: without a querier the switch would drop multicast after some minutes.
            self._switch("link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            self._switch("link", "set", bridge, "up")
        for node in nodes:
            if node not in unplugged:
                self.plug(node)

    def close(self) -> None:
        """Remove every namespace, and with it all that is in it."""
        present = {line.split()[0] for line in run("ip", "netns").splitlines()}
        for netns in [self.switch, *map(self.netns, self._numbers)]:
            if netns in present:
                run("ip", "netns", "del", netns)

    def netns(self, node: str) -> str:
        """The name of the node's namespace."""
        return f"{self._prefix}-{node}"

    def address(self, node: str, ipv6: bool = False) -> str:
        """The node's address."""
        return f"{'fd77::' if ipv6 else '10.77.0.'}{self._numbers[node]}"

    # -- faults. Each has happened when the call returns.

    def plug(self, node: str) -> None:
        """Give the node its interface."""
        netns = self.netns(node)
        run("ip", "link", "add", "eth0", "netns", netns, "type", "veth",
            "peer", "name", port(node), "netns", self.switch)  # fmt: skip
        # The kernel asks for a neighbour that did not answer once a second, and sends nothing to it
        # between. "Frames pass again" (L5, S1) must not mean up to a second later than they could.
        for family in ["ipv4"] + ["ipv6"] * self._ipv6:
            self._sysctl(netns, f"{family}.neigh.eth0.retrans_time_ms", "50")
        if self._ipv4:
            run("ip", "-n", netns, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        if self._ipv6:
            run("ip", "-n", netns, "addr", "add", f"{self.address(node, ipv6=True)}/64",
                "dev", "eth0", "nodad")  # fmt: skip
        self._switch("link", "set", port(node), "master", "bridge0", "up")
        run("ip", "-n", netns, "link", "set", "eth0", "up")

    def unplug(self, node: str) -> None:
        """Take the node's interface away altogether."""
        self._switch("link", "del", port(node))

    def cut(self, node: str) -> None:
        """Pull the cable: the node's carrier is lost."""
        self._switch("link", "set", port(node), "down")

    def heal(self, node: str) -> None:
        """Put the cable back."""
        self._switch("link", "set", port(node), "up")

    def drop(self, node: str) -> None:
        """Lose every frame silently: the node's carrier stays."""
        self._switch("link", "set", port(node), "nomaster")

    def undrop(self, node: str) -> None:
        """Let frames pass again."""
        self._switch("link", "set", port(node), "master", "bridge0")

    def forget(self, node: str) -> None:
        """Have the node's kernel forget its connections, as one does that loses power."""
        run("ip", "netns", "exec", self.netns(node), "ss", "--tcp", "--kill")
        left = self.streams(node)
        assert not left, f"this kernel keeps them (CONFIG_INET_DIAG_DESTROY): {left}"

    def streams(self, node: str) -> str:
        """Return what the node's kernel says of its connections with others."""
        there = run("ip", "netns", "exec", self.netns(node), "ss", "--tcp", "--info", "-OHn")
        return "".join(x for x in there.splitlines(True) if "127.0.0.1" not in x and "::1" not in x)

    def split(self, nodes: str) -> None:
        """Move these nodes to a switch of their own, with carrier."""
        for node in nodes:
            self._switch("link", "set", port(node), "master", "bridge1")

    def join(self) -> None:
        """Have all on one switch again."""
        for node in self._numbers:
            self._switch("link", "set", port(node), "master", "bridge0")

    def block(self, one: str, other: str) -> None:
        """Lose the frames between these two only: a bridge passes none between isolated ports."""
        for node in (one, other):
            self._isolate(node, "on")

    def unblock(self) -> None:
        """Let them pass again."""
        for node in self._numbers:
            self._isolate(node, "off")

    def lo(self, node: str, state: str) -> None:
        """Set the node's loopback `up` or `down`."""
        run("ip", "-n", self.netns(node), "link", "set", "lo", state)

    def carrier(self, node: str) -> bool:
        """Return whether the node's interface has a carrier."""
        return "LOWER_UP" in run("ip", "-n", self.netns(node), "link", "show", "eth0")

    # -- inside

    def _switch(self, *command: str) -> None:
        run("ip", "-n", self.switch, *command)

    def _isolate(self, node: str, isolated: str) -> None:
        self._switch("link", "set", port(node), "type", "bridge_slave", "isolated", isolated)

    def _sysctl(self, netns: str, key: str, value: str) -> None:
        path = f"/proc/sys/net/{key.replace('.', '/')}"
        run("ip", "netns", "exec", netns, "sh", "-c", f"echo {value} > {path}")


def port(node: str) -> str:
    """The name of the switch's end of the node's cable."""
    return f"port-{node}"
