"""Node names (`a@manticore`), the patterns that stand for them in the config, and addresses."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from chucky.errors import NodeNameError

# Erlang's alphabet for the part before the @; the host part is a host name, an IPv4 address, or an
# IPv6 address in brackets. No slash and no leading dot or dash, since a name becomes a directory of
# /run/chucky and an argument. 64 is Linux's HOST_NAME_MAX; 253 is a DNS name's longest (RFC 1035).
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_NUMERIC = re.compile(r"[0-9.]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]")


class NodeName(NamedTuple):
    """One node's name. Ordered by name, then host: the tie-break among equals."""

    name: str
    host: str

    def __str__(self) -> str:
        return f"{self.name}@{self.host}"

    @classmethod
    def parse(cls, text: str, host: str = "") -> "NodeName":
        """Return the name for `a@host`, or for `a` on `host`. Raises NodeNameError."""
        name, at, own_host = text.partition("@")
        found = cls(name, own_host if at else host)
        if not _NAME.fullmatch(found.name) or not _HOST.fullmatch(found.host):
            where = "" if at else f" on host {host!r} (of --host, [node] host or the machine)"
            raise NodeNameError(
                f"node name: got {text!r}{where}, want NAME or NAME@HOST, as a@manticore: letters,"
                " digits, _ and - before the @, a host name or [IPv6 address] after it"
            )
        return found


@dataclass(frozen=True, slots=True, order=True)
class NodePattern:
    """An entry of the config's lists: `a` is a on any host (host ""), `a@manticore` pins it."""

    name: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.host}" if self.host else self.name

    @classmethod
    def parse(cls, text: str) -> "NodePattern":
        """Return the pattern for `a` or `a@host`. Raises NodeNameError."""
        whole = NodeName.parse(text, host="any")
        return cls(whole.name, whole.host if "@" in text else "")

    def matches(self, node: NodeName) -> bool:
        """Return whether the entry stands for this node."""
        return self.name == node.name and self.host in ("", node.host)


class Address(NamedTuple):
    """Where a socket is: a numeric host (`10.0.0.1`, `fe80::1%eth0`) or a host name, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_numeric(self) -> bool:
        """Whether it is no host name, which a name server would be asked for, nor nonsense."""
        return _NUMERIC.fullmatch(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host.startswith("127.") or self.host == "::1"

    @property
    def is_link_local(self) -> bool:
        """Whether it means something on one link only (RFC 4291 2.5.6, RFC 3927)."""
        return self.host.lower().startswith(("fe8", "fe9", "fea", "feb", "169.254."))

    @property
    def lacks_scope(self) -> bool:
        """Whether it is a link-local one that does not say on which link: nobody can dial it."""
        return self.is_link_local and "%" not in self.host
