"""How much of everything one run measures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts and seconds; the values here are those of `make bench`."""

    repetitions: int = 15  # of each server under load
    load_s: float = 2.0
    idle_s: float = 60.0
    starts: int = 20
    moves: int = 100  # of each kind
    peer_moves: int = 15  # of each kind at a peer
    upgrades: int = 10  # of all three nodes
    connections: int = 10_000  # idle ones
    alarm_minutes: float = 5.0
    busy_nice: int = 0  # of the loops that keep every core busy then


# To see whether everything runs; too little for a figure.
SHORT = Plan(
    repetitions=3, load_s=1.0, idle_s=5.0, starts=3, moves=3, peer_moves=2,
    upgrades=1, alarm_minutes=0.3
)  # fmt: skip
