"""chuckyd: where the core, the wire and the sockets meet; the one clock and the one timer.

Everything that happens becomes an event, steps the core, and its actions are carried out here. The
data plane (a fact request) reads the core's route and the clock, and never steps the core.
"""

import asyncio
import dataclasses
import logging
import os
import secrets
import signal
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, assert_never

from chucky import __version__, config, cookie, daemon_addresses, daemon_reload, report
from chucky.core import actions as ac
from chucky.core import events as ev
from chucky.core.node import Node
from chucky.daemon_alarm import Alarm, clock_ms
from chucky.daemon_application import Application, only_one
from chucky.daemon_crashes import Crashes
from chucky.daemon_history import History
from chucky.daemon_log import keep_standard_descriptors, log_report
from chucky.daemon_options import Options, parse_options
from chucky.daemon_requests import Requests
from chucky.errors import EXIT_TEMPORARY, ChuckyError, ConfigError
from chucky.messages import Answer, Ask, Beacon, Epoch, Message
from chucky.names import Address, NodeName
from chucky.net import systemd
from chucky.net.control import ControlServer
from chucky.net.discovery import Discovery
from chucky.net.interfaces import Interface, InterfaceWatch, initial
from chucky.net.links import Links
from chucky.net.service import FactService, Nobody, Relay, Route, Serve
from chucky.settings import Settings

_log = logging.getLogger("chucky")

# How long a node that is to stop waits for the answers to what it relayed: some ms on a LAN, and
# nobody but its own clients waits with it. An owner relays nothing.
LANDING_MS = 200


def new_incarnation() -> int:
    """Return a random number, higher for a later start (docs/decisions/0001)."""
    return time.time_ns() // 1_000_000 << 20 | secrets.randbits(20)


class Daemon:
    """One node with its sockets. `await run()` returns the exit code."""

    def __init__(self, options: Options, settings: Settings, name: NodeName, key: bytes) -> None:
        self._options = options
        self._settings = settings
        self._name = name
        # As in the config, where all nodes have the same; `_settings` gets the one that was free.
        self._first_port = settings.node.port
        self._incarnation = new_incarnation()
        self._events: deque[ev.Event] = deque()
        self._stepping = False
        self._alarm = Alarm(lambda due_ms: self._step(ev.Wake(due_ms)))
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._notifier = systemd.Notifier()
        self._status = ""
        self._history = History(time.time)
        self._requests = Requests(self._step)
        self._interfaces: dict[int, frozenset[str] | None] = {}  # addresses by index; None: unknown
        self._nowhere: frozenset[str] = frozenset()  # what was said of `listen`
        self._links = Links(name, self._incarnation, key, self, settings.tick_time_ms)
        self._discovery = Discovery(settings.discovery, self._on_beacon)
        self._watch = InterfaceWatch(settings.discovery.interfaces, self._on_interfaces)
        self._service = FactService(
            settings.facts, settings.hold_ms, clock_ms, self._route, self._pick, self._links.send
        )
        folder = os.path.join(options.runtime_dir, options.instance)
        crashes = Crashes(
            os.path.join(folder, "crashes"), settings.distributed.timeout_ms, clock_ms()
        )
        self._application = Application(settings, self._service, crashes)
        path = os.path.join(folder, f"{options.instance}.sock")
        self._control = ControlServer(path, self._answer)
        self._node: Node
        self._way: Route = Nobody()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloads = asyncio.Lock()
        self._reload_due = False  # a signal asked for one that has not begun

    async def run(self) -> int:
        """Start, live until an Exit, stop; return the exit code."""
        try:
            await self._start()
            return await self._exit
        finally:
            await self._stop()

    async def _start(self) -> None:
        await self._control.start()
        try:
            port = await self._links.listen(self._settings.node.listen, self._settings.node.port)
        except OSError as error:
            raise ChuckyError(error.strerror or str(error)) from None
        node = dataclasses.replace(self._settings.node, port=port)
        self._settings = dataclasses.replace(self._settings, node=node)
        self._discovery.open()
        found = initial(self._settings.discovery.interfaces)
        self._interfaces = {index: None for index, _ in found}
        self._discovery.set_interfaces(self._interfaces)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # debian/bin/chuckyd blocks it
        self._node = Node(self._settings, self._name, self._incarnation, clock_ms())
        self._step(ev.PeersConfigured(self._peers()))
        self._notifier.ready()
        interval_ms = systemd.watchdog_interval_ms()
        if interval_ms is not None:
            self._feed_watchdog(interval_ms / 1000)
        # Last, since importing pyroute2 takes 100 ms; beacons go out already.
        self._spawn(self._watch.start())

    async def _stop(self) -> None:
        self._notifier.stopping()
        self._alarm.stop()
        self._watch.stop()
        self._discovery.close()
        self._service.close()
        await self._links.stop()
        await self._control.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The core: one event in, its actions out, one timer.

    def _step(self, event: ev.Event) -> None:
        """Step the core; what its actions cause at once is stepped after them, in order."""
        self._events.append(event)
        if self._stepping or self._exit.done():
            return
        self._stepping, news, sound = True, False, False
        try:
            while self._events:
                for action in self._node.step(self._events.popleft(), clock_ms()):
                    self._act(action)
                news |= self._node.news
            self._stepping = False
            if news:
                self._stepped()
            sound = True
        finally:
            # A step cut short by a bug of ours would leave a node that neither ticks nor ends; the
            # loop logs the error, and systemd starts a sound one.
            if not sound and not self._exit.done():
                self._exit.set_result(EXIT_TEMPORARY)

    def _stepped(self) -> None:
        """Let everybody who reads the core see what it is now."""
        found = self._found = self._node.route
        self._way = _way(found.epoch, found.serve_until_ms, found.relay)
        self._history.owned(found.epoch)
        if found.highest is not None:
            self._service.note_epoch(found.highest)
        self._service.changed()
        if (sentence := self._node.sentence) != self._status and not self._exit.done():
            self._status = sentence
            self._notifier.status(sentence)
        self._alarm.set(self._node.deadline())
        if self._application.waits_in_vain(self._others_can):
            self._step(ev.Reloaded(self._settings))  # as an administrator would: it tries at once

    def _act(self, action: ac.Action) -> None:
        match action:
            case ac.Send(link, message):
                self._links.send(link, message)
            case ac.Announce(asks, to):
                self._announce(asks, to)
            case ac.Dial(link, address, expected, former):
                self._links.dial(link, address, expected, former)
            case ac.Close(link):
                self._links.close(link)
                self._service.link_lost(link)
            case ac.Prepare():
                self._step(self._application.prepare(self._others_can()))
            case ac.StartApplication(epoch):
                self._step(self._application.start(epoch))
            case ac.StopApplication():
                self._application.stop()
            case ac.RequestDone():
                self._requests.done(action)
            case ac.Report() | ac.Exit():
                log_report(action, self._node.snapshot(), self._settings.distributed.application)
                if isinstance(action, ac.Exit):
                    self._notifier.status(action.sentence)  # what is read of a node that is gone
                    self._exit.set_result(action.code)
                else:
                    self._history.said(action)
            case _:
                assert_never(action)

    def _others_can(self) -> bool:
        nodes = self._node.snapshot().nodes
        return any(n.state == "up" and n.tier is not None and n.able for n in nodes)

    def _pick(self) -> bytes:
        return self._application.book.pick()

    def _route(self) -> Route:
        return self._way

    # The network: callbacks to events.

    def link_began(self, link: int, name: NodeName, incarnation: int) -> None:
        """LinkHandler: somebody connected, and said who it is."""
        self._step(ev.LinkBegan(link, name, incarnation))

    def link_up(self, link: int, name: NodeName, incarnation: int, address: Address) -> None:
        """LinkHandler: a peer has the cookie."""
        self._step(ev.LinkUp(link, name, incarnation, address))

    def link_down(
        self, link: int, why: str, name: NodeName | None, address: Address | None
    ) -> None:
        """LinkHandler: a dial, a handshake or a link ended by itself."""
        self._service.link_lost(link)
        self._step(ev.LinkDown(link, ev.Ended[why.upper()], name, address))

    def link_message(self, link: int, message: Message) -> None:
        """LinkHandler: requests go to the data plane, all else to the core."""
        if isinstance(message, Ask):
            self._service.answer_ask(link, message)
        elif isinstance(message, Answer):
            self._service.on_answer(link, message)
        else:
            self._step(ev.MessageReceived(link, message))

    def _on_beacon(self, beacon: Beacon, source: Address) -> None:
        if self._node.heeds(beacon):
            self._step(ev.BeaconHeard(beacon, source))

    def _announce(self, asks: bool, to: Address | None) -> None:
        beacon = Beacon(self._name, self._incarnation, self._settings.node.port, asks)
        if to is not None:
            self._discovery.answer(beacon, to)
            return
        port = self._settings.discovery.port
        hosts = dict.fromkeys(address.host for address in self._peers())
        self._discovery.announce(beacon, [Address(host, port) for host in hosts])

    def _peers(self) -> tuple[Address, ...]:
        return daemon_addresses.of_peers(self._settings.discovery, self._first_port)

    def _on_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        known = self._interfaces
        self._interfaces = {i.index: frozenset(i.addresses) for i in interfaces}
        # An address that became usable counts too: nothing could be heard over it before.
        came_up = any(daemon_addresses.gained(known, i) for i in interfaces)
        self._discovery.set_interfaces(self._interfaces)
        nowhere = daemon_addresses.listens_nowhere(self._settings)
        for sentence in nowhere - self._nowhere:
            _log.warning("%s", sentence)
        self._nowhere = nowhere
        addresses = daemon_addresses.of_links(self._settings.node, interfaces)
        self._step(ev.AddressesChanged(addresses, came_up))

    # The service manager and the administrator.

    def _feed_watchdog(self, interval_s: float) -> None:
        self._notifier.watchdog()
        asyncio.get_running_loop().call_later(interval_s, self._feed_watchdog, interval_s)

    def _on_stop_signal(self) -> None:
        self._notifier.stopping()
        self._application.forgive()
        self._leave(clock_ms() + LANDING_MS)

    def _leave(self, by_ms: int) -> None:
        # A node that shares the port takes the new requests; who is connected has an answer before
        # this one leaves. Each time: it may have come to own meanwhile, and bound it anew.
        self._service.unbind()
        if self._service.waiting and clock_ms() < by_ms:
            asyncio.get_running_loop().call_later(LANDING_MS / 1000 / 20, self._leave, by_ms)
        else:
            self._step(ev.ShutdownRequested())

    def _on_reload_signal(self) -> None:
        # While the loop ends, no task and no thread may begin.
        if not (self._exit.done() or self._reload_due):
            self._reload_due = True
            self._spawn(self._reload_and_log())

    async def _reload_and_log(self) -> None:
        try:
            for line in await self._reload():
                _log.info("%s", line)
        except ChuckyError as error:
            _log.error("not reloaded: %s", error)

    async def _reload(self) -> list[str]:
        """Reread config, cookie and facts; return what was done. Raises before anything changes."""
        async with self._reloads:  # of two, the one that read last has the last word
            self._reload_due = False
            self._notifier.reloading()
            try:
                read, warnings, key, lines = await daemon_reload.read_files(self._options)
                node = dataclasses.replace(read.node, port=self._settings.node.port)
                self._settings, kept = daemon_reload.merge(
                    self._settings, dataclasses.replace(read, node=node)
                )
                if read.node.port != self._first_port:
                    kept = (*kept, "node.port")
                old = [] if key == self._links.key else self._linked()
                self._links.key = key
                self._application.settings = self._settings
                self._application.take(lines)
                self._step(ev.Reloaded(self._settings))
                self._step(ev.PeersConfigured(self._peers()))
            finally:
                self._notifier.ready()
        waits = daemon_reload.waits(kept, self._settings, read, old)
        return [*warnings, "reloaded the config, the cookie and the facts", *waits]

    def _linked(self) -> list[str]:
        return [str(n.name) for n in self._node.snapshot().nodes if n.state == "up"]

    async def _answer(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Answer one request on the control socket, as of now."""
        self._step(ev.Wake(busy=True))
        match request:
            case {"command": "status"}:
                yield report.status(self._node.snapshot(), self._settings, self._history.since)
            case {"command": "why", "epoch": str(epoch)}:
                yield self._history.why(epoch, self._settings.distributed.application)
            case {"command": "nodes"}:
                yield {"nodes": self._linked()}
            case {"command": "applications"}:
                runs = self._found.owner == self._name
                yield {"applications": [self._settings.distributed.application] if runs else []}
            case {"command": "fact"}:
                yield {"fact": await self._service.request()}
            case {"command": "connect", "node": str(node)}:
                name, addresses = daemon_addresses.of_node(node, self._name.host, self._first_port)
                done = await self._requests.ask(lambda n: ev.ConnectRequested(n, addresses, name))
                why = daemon_addresses.out_of_reach(self._settings.node.listen, addresses)
                said = f"{name}: {why}" if why and not done.done else done.sentence
                yield {"connected": done.done, "sentence": said}
            case {"command": "takeover"}:
                done = await self._requests.ask(ev.TakeoverRequested)
                yield {"granted": done.done, "sentence": done.sentence}
            case {"command": "standby", "to": "on" | "off" as to}:
                done = await self._requests.ask(lambda n: ev.StandbyRequested(n, to == "on"))
                yield {"granted": done.done, "sentence": done.sentence}
            case {"command": "reload"}:
                yield {"lines": await self._reload()}
            case _:
                raise ChuckyError(f"chuckyd {__version__} does not know {request!r:.200}")


def _way(epoch: Epoch | None, until_ms: int | None, relay: int | None) -> Route:
    if until_ms is not None and epoch is not None:
        return Serve(epoch, until_ms)
    return Nobody() if relay is None else Relay(relay)


async def _run(options: Options) -> int:
    settings, warnings = config.load(options.config)
    for warning in warnings:
        _log.warning("%s: %s", options.config, warning)
    name = options.node_name(settings)
    key = cookie.key(cookie.read(options.cookie_file or settings.node.cookie_file))
    with only_one(name, settings.facts.port):
        return await Daemon(options, settings, name, key).run()


def main(arguments: list[str] | None = None) -> int:
    """Run chuckyd and return its exit code (DESIGN 3.2)."""
    options = parse_options(arguments)
    keep_standard_descriptors()
    logging.basicConfig(level=logging.INFO, handlers=[systemd.log_handler()])
    try:
        try:
            return asyncio.run(_run(options))
        except OSError as error:  # no descriptor or no memory is left for it
            raise ChuckyError(f"cannot go on: {error.strerror or error}; try again") from None
    except ChuckyError as error:
        problems = error.problems if isinstance(error, ConfigError) else (str(error),)
        where = f"{error.where}: " if isinstance(error, ConfigError) else ""
        for problem in problems:
            _log.error("%s%s", where, problem)
        systemd.Notifier().status(str(error))
        return max(error.exit_code, EXIT_TEMPORARY)  # what is no config's fault may pass


if __name__ == "__main__":
    raise SystemExit(main())
