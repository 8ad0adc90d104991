"""How much of everything one run measures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts and seconds; the values here are those of `make bench`."""

    repetitions: int = 11  # of each server under load
    load_s: float = 2.0
    idle_s: float = 45.0
    starts: int = 20
    moves: int = 100  # of each kind
    peer_moves: int = 10  # of each kind at a peer
    upgrades: int = 10  # of all three nodes
    connections: int = 10_000  # idle ones
    alarm_minutes: float = 5.0
    busy_nice: int = 0  # of the loops that keep every core busy then
    sizes: tuple[int, ...] = (2, 3, 5, 10, 25, 50)  # clusters, in nodes
    cold_starts: int = 3  # of the small ones
    scale_moves: int = 10  # of each
    scale_idle_s: float = 10.0
    quiet_s: float = 3.0  # after a move or a request: until all that it caused is over


# To see whether everything runs; too little for a figure.
SHORT = Plan(
    repetitions=3, load_s=1.0, idle_s=5.0, starts=3, moves=3, peer_moves=2,
    upgrades=1, alarm_minutes=0.3, sizes=(2, 10), cold_starts=1, scale_moves=2, scale_idle_s=3.0,
)  # fmt: skip
