"""How much of what strangers send is read: so many at once, and so many a second."""

# One address is one host: up to 10 nodes (port ... port+9), each one beacon a second and a few
# asks and answers while it starts. Five times that.
SOURCE_PER_S = 50
SOURCE_BURST = 100
# A LAN of 254 hosts with an address of each family. Past that the one heard longest ago goes, and
# starts afresh when heard again: what invented addresses can win by that, PARSED_PER_S bounds.
MAX_SOURCES = 512


class TokenBucket:
    """Allows `burst` at once and `per_s` in the long run."""

    __slots__ = ("_burst", "_left", "_per_s", "_then")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._then = 0.0

    def take(self, now: float) -> bool:
        """Take one and return True, or return False when none is left. `now` is in seconds."""
        self._left = min(self._burst, self._left + (now - self._then) * self._per_s)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class SourceLimit:
    """A token bucket for each source, for at most MAX_SOURCES of them."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}  # the one heard longest ago first

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, host: str, now: float) -> bool:
        """Return whether one more datagram of this host is to be parsed."""
        bucket = self._buckets.pop(host, None) or TokenBucket(SOURCE_PER_S, SOURCE_BURST)
        if len(self._buckets) >= MAX_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[host] = bucket
        return bucket.take(now)
