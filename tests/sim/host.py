"""A machine of the simulation: its clock, its node when one runs, and what is wrong with it."""

from collections import deque
from collections.abc import Callable
from typing import Any

from chucky.core.actions import RequestDone
from chucky.core.node import Node
from chucky.core.snapshot import Route, Snapshot
from chucky.messages import Epoch
from chucky.names import Address, NodeName
from chucky.settings import Settings
from tests.sim.clock import Clock
from tests.sim.links import End
from tests.sim.network import PORT


class Host:
    """A machine, by its key; its node is called `name`, which another machine may use as well."""

    def __init__(self, key: str, number: int, settings: Settings, name: NodeName) -> None:
        self.key = key
        self.name = name
        self.address = Address(f"10.0.0.{number}", PORT)
        self.settings = settings
        self.peers: tuple[Address, ...] = ()  # [discovery] peers of its file
        self.others: tuple[Address, ...] = ()  # addresses that lead nowhere, or to who dials
        self.others_first = False
        self.moved = False  # to another address, at some time
        self.clock = Clock()
        self.wall_s = 1_700_000_000  # the wall clock at true time 0
        self.late_us = 0  # timers fire late by up to this
        self.app_us = 0  # how long the application takes to start or get ready
        self.cookie = "cookie"
        self.stranger = False  # a host on the LAN without node and cookie
        self.fails = ""  # why the application cannot start; "" when it can
        self.unready = ""  # why it cannot get ready
        # What runs.
        self.node: Node | None = None
        self.incarnation = 0
        self.powered = True
        self.asleep = False  # the whole machine
        self.frozen = False  # the process only: its kernel answers
        self.alive_us = 0  # since when the process runs without a pause
        self.exit: tuple[int, str] | None = None
        self.log: list[tuple[int, str]] = []  # true ms, sentence
        self.answers: list[RequestDone] = []
        # The shell around the core.
        self.ends: dict[int, End] = {}
        self.last_accepted = 0
        self.events: deque[Any] = deque()
        self.stepping = False
        self.backlog: list[tuple[End | None, Callable[..., None], tuple[Any, ...]]] = []
        self.armed_ms: int | None = None
        self.timer = 0
        self.overdue: int | None = None  # when it was due to wake while it was paused
        # As of the last step.
        self.running: Epoch | None = None
        self.began = 0  # the number of the first epoch since it last ran none
        self.serve_until_ms: int | None = None
        self._view: Snapshot | None = None
        self._route: Route | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What the daemon finds on its interfaces, in that order."""
        if self.others_first:
            return (*self.others, self.address)
        return (self.address, *self.others)

    @property
    def on(self) -> bool:
        """Whether its kernel sends and receives."""
        return self.powered and not self.asleep

    @property
    def paused(self) -> bool:
        """Whether its process is stopped."""
        return self.frozen or self.asleep

    @property
    def lives(self) -> bool:
        """Whether its node runs now."""
        return self.node is not None and self.powered and not self.frozen and not self.asleep

    def input(self, source: End | None, what: Callable[..., None], *args: Any) -> None:
        """Let the process do something; a paused one does it when it goes on."""
        if self.frozen or self.asleep:
            self.backlog.append((source, what, args))
        else:
            what(*args)

    def view(self) -> Snapshot:
        """Return the node's snapshot as of its last step."""
        assert self.node is not None
        if self._view is None:
            self._view = self.node.snapshot()
        return self._view

    def route(self) -> Route:
        """Return the node's route as of its last step."""
        assert self.node is not None
        if self._route is None:
            self._route = self.node.route
        return self._route

    def stepped(self) -> None:
        """Note what the node holds after a step."""
        self._view = self._route = None
        self.running = self.serve_until_ms = None
        if self.node is not None and self.node.running is not None:
            self.running, self.serve_until_ms = self.node.running, self.route().serve_until_ms
            self.began = self.began or self.running.number
        else:
            self.began = 0

    def serves(self, now_us: int) -> bool:
        """Whether it would choose an answer at this moment."""
        return (
            self.serve_until_ms is not None
            and self.lives
            and self.clock.read_ms(now_us) < self.serve_until_ms
        )

    def forget(self) -> None:
        """The process is gone, and all it had."""
        self.node = self.running = self.serve_until_ms = self._view = self._route = None
        self.began = 0
        self.frozen = self.stepping = False
        self.overdue = None
        self.armed_ms = None
        self.events.clear()
        self.backlog.clear()
