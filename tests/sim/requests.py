"""Requests for a fact, with the rule of the data plane (chucky/net/service.py), and their fate;
and who asks for the status.

Every request at a live node is answered, held for at most `hold`, or closed with its node; none is
lost, and no relay gives an answer of an epoch below one that it gave before.
"""

from dataclasses import dataclass, field

from chucky.messages import Answer, Ask, Epoch, Message
from tests.sim.clock import MS
from tests.sim.cluster import Cluster, Watch
from tests.sim.host import Host
from tests.sim.liveness import l8_answers

RETRY_US = 50 * MS  # net/service.py, RETRY_MS
HOPS = 1  # net/service.py
STATUS_EVERY = 50  # steps of a node between two looks at its status


@dataclass(eq=False)
class Request:
    """One client's; `fate` is "" while it waits, else answered, refused or closed."""

    host: Host
    began_us: int
    until_ms: int  # held until then, on its node's clock
    calm: bool  # asked for in a cluster that must answer it
    fate: str = ""
    over: int | None = None  # the link that it was asked over


@dataclass
class Service:
    """The data plane of one process."""

    waiting: list[Request] = field(default_factory=list)
    flights: dict[int, Request] = field(default_factory=dict)
    passed: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # over, link, request
    number: int = 0
    highest: Epoch | None = None
    given: Epoch | None = None  # of the last answer
    retry: bool = False


def answered_in_order(epoch: Epoch, before: Epoch | None) -> str | None:
    """Section 4: "a relay throws away one whose epoch is below the highest it has seen"."""
    if before is not None and epoch < before:
        return f"requests: an answer of {epoch} after one of {before}"
    return None


def not_lost(waits: bool, local_ms: int, until_ms: int, slack_ms: int) -> str | None:
    """L6: "Requests that reach a live node ... are held (for `hold`) and answered"; section 3.4:
    "When there is no owner within `hold`, the connection closes": none waits longer."""
    if waits and local_ms > until_ms + slack_ms:
        return f"requests: one waits at {local_ms}, its hold was over at {until_ms}"
    return None


def l6_answered(fate: str, took_us: int) -> str | None:
    """L6: "Requests that reach a live node during a failover, takeover or handover are held and
    answered"; L4: "with no failed request on any other node". `fate` is that of a request made in a
    calm cluster, with at most one fault at a time, whose node lives on."""
    return None if fate == "answered" else f"L6: a request was {fate or 'lost'} after {took_us} us"


class Requests(Watch):
    """All clients and data planes. `every_us`: the mean time between requests."""

    def __init__(self, cluster: Cluster, every_us: int = 250 * MS) -> None:
        self.cluster = cluster
        self.every_us = every_us
        self.services: dict[str, Service] = {}
        self.calm = False
        self.fates: dict[str, int] = {}
        cluster.watch(self)
        cluster.time.after(every_us, self._arrive)

    def _arrive(self) -> None:
        rng, now_us = self.cluster.rng, self.cluster.time.now_us
        self.cluster.time.after(int(rng.expovariate(1 / self.every_us)), self._arrive)
        live = [h for h in self.cluster.hosts.values() if h.lives]
        if live:
            host = rng.choice(live)
            until_ms = self.cluster.local_ms(host) + host.settings.hold_ms
            request = Request(host, now_us, until_ms, self.calm)
            service = self.services[host.key]
            service.waiting.append(request)
            over_us = host.clock.when_us(until_ms) + MS
            self.cluster.time.at(over_us, self._expire, request, service)
            self._dispatch(host, service)

    def _expire(self, request: Request, service: Service) -> None:
        host = request.host
        if request.fate:
            return
        if host.paused:
            self.cluster.time.after(50 * MS, self._expire, request, service)
            return
        broken = not_lost(True, self.cluster.local_ms(host), request.until_ms, 2)
        assert broken is None or host.alive_us + 100 * MS > self.cluster.time.now_us, broken
        self._end(request, service, "refused")

    def _end(self, request: Request, service: Service, fate: str) -> None:
        request.fate = fate
        service.waiting.remove(request)
        self.fates[fate] = self.fates.get(fate, 0) + 1
        if request.calm and fate != "closed":
            broken = l6_answered(fate, self.cluster.time.now_us - request.began_us)
            assert broken is None, f"{broken}, at {request.host.key}\n{self.cluster}"

    # The data plane.

    def began(self, host: Host) -> None:
        """A process begins with nothing."""
        self.services[host.key] = Service()

    def ended(self, host: Host) -> None:
        """Its connections close with it."""
        service = self.services[host.key]
        for request in list(service.waiting):
            self._end(request, service, "closed")

    def stepped(self, host: Host) -> None:
        """Look at the route again."""
        service = self.services[host.key]
        if service.waiting and host.node is not None:
            route = host.route()
            for number, request in list(service.flights.items()):
                if request.over != route.relay:
                    del service.flights[number]
                    request.over = None
            self._dispatch(host, service)

    def lost(self, host: Host, link: int) -> None:
        """Every Ask on this link is gone."""
        service = self.services[host.key]
        for number, request in list(service.flights.items()):
            if request.over == link:
                del service.flights[number]
                request.over = None
                self._retry(host, service)
        for number, (over, back, asked) in list(service.passed.items()):
            if over == link:
                del service.passed[number]
                self.cluster.links.send(host, back, Answer(asked, None, ()))
            elif back == link:
                del service.passed[number]

    def _retry(self, host: Host, service: Service) -> None:
        if not service.retry:
            service.retry = True
            self.cluster.time.after(RETRY_US, self._again, host, host.incarnation, service)

    def _again(self, host: Host, incarnation: int, service: Service) -> None:
        service.retry = False
        if host.node is not None and host.incarnation == incarnation:
            host.input(None, self._dispatch, host, service)

    def _note(self, service: Service, epoch: Epoch | None) -> None:
        if epoch is not None and (service.highest is None or epoch > service.highest):
            service.highest = epoch

    def _serving(self, host: Host) -> Epoch | None:
        """The epoch to choose an answer in, by a clock reading for it."""
        route = host.route()
        until_ms = route.serve_until_ms
        return route.epoch if until_ms and self.cluster.local_ms(host) < until_ms else None

    def _dispatch(self, host: Host, service: Service) -> None:
        if host.node is None or not service.waiting:
            return
        route = host.route()
        self._note(service, route.highest)
        epoch = self._serving(host)
        for request in [r for r in service.waiting if r.over is None]:
            if epoch is not None:
                self._answer(request, service, epoch)
            elif route.relay is not None:
                service.number += 1
                service.flights[service.number] = request
                request.over = route.relay
                self.cluster.links.send(host, route.relay, Ask(service.number, 1, HOPS))

    def _answer(self, request: Request, service: Service, epoch: Epoch) -> None:
        broken = answered_in_order(epoch, service.given)
        assert broken is None, f"{broken} at {request.host.key}\n{self.cluster}"
        service.given = epoch
        self._end(request, service, "answered")

    def data(self, host: Host, link: int, message: Message) -> None:
        """An Ask or Answer was read."""
        service = self.services[host.key]
        if isinstance(message, Ask):
            self._asked(host, service, link, message)
            return
        assert isinstance(message, Answer)
        if host.node is not None:  # the core has heard of an epoch before one answers under it
            self._note(service, host.route().highest)
        counts = message.epoch is not None and message.epoch == service.highest
        passed = service.passed.get(message.request)
        if passed is not None and passed[0] == link:
            del service.passed[message.request]
            facts = message.facts if counts else ()
            epoch = message.epoch if counts else None
            self.cluster.links.send(host, passed[1], Answer(passed[2], epoch, facts))
        elif message.request in service.flights:
            request = service.flights[message.request]
            if request.over != link:
                return
            del service.flights[message.request]
            request.over = None
            if request.fate:
                return
            if counts and message.facts and message.epoch is not None:
                self._answer(request, service, message.epoch)
            else:
                self._retry(host, service)

    def _asked(self, host: Host, service: Service, link: int, ask: Ask) -> None:
        epoch, route = self._serving(host), host.route()
        if epoch is not None:
            self.cluster.links.send(host, link, Answer(ask.request, epoch, ("fact",)))
        elif ask.hops > 0 and route.relay is not None and route.relay != link:
            service.number += 1
            service.passed[service.number] = (route.relay, link, ask.request)
            self.cluster.links.send(host, route.relay, Ask(service.number, 1, ask.hops - 1))
        else:
            self.cluster.links.send(host, link, Answer(ask.request, None, ()))


class Asker(Watch):
    """Asks every node for its status now and then (L8)."""

    def __init__(self, cluster: Cluster) -> None:
        self.steps = 0
        cluster.watch(self)

    def stepped(self, host: Host) -> None:
        """Count, and ask each so often."""
        self.steps += 1
        if self.steps % STATUS_EVERY == 0 and host.node is not None:
            broken = l8_answers(host.node.deadline(), host.exit is not None, host.view().sentence)
            assert broken is None, broken
