"""Who is up: links and their ticks, who has which name, and who said what last.

A peer is known, dialing, up or down. A link counts from the end of its handshake; it ends when it
is closed, or after the tick time without a frame. Two links with one node, and two nodes with one
name, are settled here (design rules 4 and 10), so that at most one link a name is ever in use.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chucky.core.actions import Action, Announce, Close, Dial, Level, Report, Send
from chucky.core.contact import Contact
from chucky.core.contacts import Contacts
from chucky.core.events import Ended
from chucky.core.hellos import Hellos
from chucky.core.link import Gone, Link, Lost
from chucky.core.refusals import Refusals
from chucky.core.startup import Look
from chucky.core.view import DownView, PeerView
from chucky.messages import Beacon, Heard, Hello, Member, NameTaken, Status
from chucky.names import Address, NodeName
from chucky.settings import Settings

DYING_MS = 100  # the kernel closes a killed process's sockets one by one, within a few ms
ANSWERS_PER_S = 20  # beacons answered a second: each node of a rack that powers up, in time
UPTIME_SLACK_MS = 1000  # two uptimes told over a link differ by its delay


@dataclass(slots=True)
class Membership:
    """All links of a node. `emit` takes actions; `take_name` ends the node (exit 75)."""

    settings: Settings
    me: NodeName
    incarnation: int
    look: Look
    started_ms: int
    emit: Callable[[Action], None]
    take_name: Callable[[Address], None]
    # It was ended (not only silent), and the link that waited for its name and comes in.
    link_ended: Callable[[Link, bool, Link | None], None]
    proven_dead: Callable[[NodeName, int], None]  # a peer that was linked, and its incarnation
    links: dict[NodeName, Link] = field(default_factory=dict)
    gone: dict[NodeName, Gone] = field(default_factory=dict)
    tick: int = 0
    contacts: Contacts = field(init=False)
    hellos: Hellos = field(init=False)
    refusals: Refusals = field(init=False)
    _newcomers: dict[int, Link] = field(default_factory=dict)
    _namesakes: dict[int, Link] = field(default_factory=dict)
    _answers: tuple[int, int] = (0, 0)  # the second, and how many beacons were answered in it

    def __post_init__(self) -> None:
        listed = self.settings.distributed.nodes.size
        self.contacts = Contacts(self.me, self.incarnation, listed)
        self.hellos = Hellos(self.started_ms, self.emit)
        self.refusals = Refusals(self.emit)

    def listed(self, name: NodeName) -> bool:
        """Return whether the priority list has this node."""
        return self.settings.distributed.nodes.tier(name) is not None

    def knows(self, link: int) -> bool:
        """Return whether it is of a dial of ours, or its handshake is done."""
        return link > 0 or any([known.id == link for known in self._all()])

    def by_id(self, link: int) -> Link | None:
        """Return the link in use with this id."""
        return next(iter([known for known in self.links.values() if known.id == link]), None)

    def beacon(self, beacon: Beacon, source: Address, now_ms: int) -> None:
        """Take a hint: a node may be there. Answer when it asks."""
        if not self.heeds(beacon):
            return
        if beacon.asks:
            self._answer(source, now_ms)
        if self.lacks(beacon):
            at, listed = Address(source.host, beacon.port), self.listed(beacon.name)
            self.contacts.hint(beacon.name, beacon.incarnation, at, listed, now_ms)
            if (old := self.links.get(beacon.name)) is not None:
                self._check(old, now_ms)

    def heeds(self, beacon: Beacon) -> bool:
        """Return whether a beacon is another node's, and asks or is of one that is not linked."""
        own = (beacon.name, beacon.incarnation) == (self.me, self.incarnation)
        return not own and (beacon.asks or self.lacks(beacon))

    def newcomer(self, link: int) -> Link | None:
        """Return the link with this id if it waits for its name."""
        return self._newcomers.get(link)

    def lacks(self, beacon: Beacon) -> bool:
        """Return whether no link is in use with the one that sent it."""
        link = self.links.get(beacon.name)
        return link is None or link.incarnation != beacon.incarnation

    def _answer(self, source: Address, now_ms: int) -> None:
        second, answered = self._answers
        answered = answered + 1 if second == now_ms // 1000 else 1
        self._answers = (now_ms // 1000, answered)
        if answered <= ANSWERS_PER_S:
            self.emit(Announce(asks=False, to=source))

    def link_up(self, new: Link, now_ms: int) -> None:
        """A handshake is done: take the link, let it wait, or close it."""
        self.look.handshake_ended(new.id)
        old = self.links.get(new.name)
        if new.name == self.me:
            self._meet_namesake(new, now_ms)
        elif old is None:
            self._take(new, now_ms)
        elif old.leaving or self.contacts.checks(new.id, old.incarnation):
            # A port is bound once: when another start listens where it did, the first has ended.
            self.emit(Close(old.id))
            self._end(old, Lost.ENDED if old.leaving else Lost.ANEW, now_ms)
            self.link_up(new, now_ms)  # a newcomer may have taken the place
        elif old.incarnation != new.incarnation:
            self._wait(new, old)  # rule 10: the first stays if it still speaks
            self._check(old, now_ms)
        elif not self._keeps(old, new):
            self.emit(Close(old.id))
            self._take(new, now_ms)
        elif new.dialled:
            self.contacts.came_up(new.id, new.name, self.listed(new.name), None)
            self.emit(Close(new.id))
        else:
            self._wait(new, old)  # its dialler closes it, unless it has lost the old one

    def _check(self, old: Link, now_ms: int) -> None:
        """Another start of its node was heard: dial where this one listens, to learn which of the
        two does now, but not all the time, since it may be a stranger who was heard."""
        at = old.listens
        if at is not None and (id := self.contacts.check(old.name, old.incarnation, at, now_ms)):
            self.emit(Dial(id, at, old.name, former=old.incarnation))

    def _wait(self, new: Link, old: Link) -> None:
        """Let a link of a name in use wait for what the first says, in answer to this very tick."""
        self.contacts.came_up(new.id, new.name, self.listed(new.name), None)
        new.probe_tick = self.tick + 1
        # One more of the first's start may wait, and one of others, the last: which of those lives
        # nobody can say (one may have come late over a slow path), and who lives dials anew.
        for other in [n for n in self._newcomers.values() if n.name == new.name]:
            if (other.incarnation == old.incarnation) == (new.incarnation == old.incarnation):
                del self._newcomers[other.id]
                self.emit(Close(other.id))
        self._newcomers[new.id] = new

    def probed(self, tick: int) -> list[NodeName]:
        """Return the names whose first node must answer this very tick of ours, or be doubted."""
        return [k.name for k in self._all() if k.probe_tick == tick]

    def _keeps(self, old: Link, new: Link) -> bool:
        """Whether of two links with the same incarnation the old one is kept.

        Nodes that dial each other at once must both keep the same one: that dialled by the
        greater name. Of two that one of them dialled (over two addresses, on request, or since it
        had lost the old one) both keep the newer, which need not be up last.
        """
        if old.dialled == new.dialled:
            return abs(old.id) > abs(new.id)
        return old.dialled == (self.me > old.name)

    def _take(self, link: Link, now_ms: int) -> None:
        known, gone = self.links.get(link.name), self.gone.pop(link.name, None)
        self.links[link.name] = link
        if known and known.incarnation == link.incarnation and link.status is None:
            link.succeed(known)
        elif link.status is None:  # one that has waited for its name may have spoken
            since_ms = gone.mute_ms if gone else None
            recent = gone and now_ms - gone.ended_ms < self.settings.tick_time_ms
            link.mute_ms = since_ms if recent and since_ms is not None else now_ms
        self.refusals.names.pop(link.name, None)
        for dial in self.contacts.dials(link.name):  # one at a former start may come to nothing
            self.look.handshake_ended(dial)
        at = link.address if link.dialled else None
        self.contacts.came_up(link.id, link.name, self.listed(link.name), at)
        if link.hello is not None:  # it has waited for its name
            self._locate(link, link.hello, True, now_ms)
        if known is None:
            self.emit(Report(Level.INFO, f"{link.name} at {link.address} is up", "up", link.name))

    def _meet_namesake(self, link: Link, now_ms: int) -> None:
        """A node of this name answered: this very one, or another whose uptime must be heard."""
        if link.incarnation == self.incarnation:
            self.contacts.itself(link.id, now_ms)
            self.emit(Close(link.id))
        else:
            self.contacts.came_up(link.id, link.name, self.listed(link.name), None)
            self._namesakes[link.id] = link
            self.hellos.greet(link, self.links.values(), self.settings, now_ms)

    def link_down(
        self, id: int, why: Ended, name: NodeName | None, at: Address | None, now_ms: int
    ) -> None:
        """A dial, a handshake or a link ended by itself."""
        self.look.handshake_ended(id)
        if why is Ended.COOKIE:
            taken = name == self.me or name in self.links
            self.refusals.met(id > 0, name, taken, at, now_ms)
        if name == self.me and why is Ended.PROTOCOL:
            self.contacts.itself(id, now_ms)  # the handshake found itself at the other end
        contact = self.contacts.ended(id, why, now_ms)
        # Where an administrator sent a dial, another node may live by now: that proves nothing.
        known = contact is not None and not contact.configured and contact.name
        gone = self.gone.get(known) if known else None
        if contact and known and gone:  # begun after that end: `lost` forgets the others
            if why is Ended.CLOSED and now_ms - gone.ended_ms < DYING_MS:
                # It was let in by a process whose end is not complete: ask the same again.
                contact.next_ms, contact.turn = now_ms, 0
            else:
                gone.asked_by_ms = None
            # Rule 4: refused where its link was, and only after that link itself ended.
            if why is Ended.REFUSED and contact.dial_address in contact.addresses[:1]:
                gone.dead = True
                self.proven_dead(known, gone.incarnation)
        self._namesakes.pop(id, None)
        self._newcomers.pop(id, None)
        link = self.by_id(id)
        if link is not None:
            self._end(link, Lost.ENDED, now_ms)

    def _end(self, link: Link, how: Lost, now_ms: int) -> None:
        """Forget a link in use; whoever waits for its name comes in."""
        del self.links[link.name]
        gone = self.gone[link.name] = Gone(link.incarnation, link.heard_ms, now_ms)
        gone.mute_ms = link.mute_ms
        gone.dead = link.leaving  # 4: its core has stepped for the last time
        if how is Lost.ANEW:
            self.proven_dead(link.name, link.incarnation)
        self.contacts.lost(link.name, at_once=not link.leaving, now_ms=now_ms)
        asks = how is Lost.ENDED and not link.leaving and not self._is_mute(link, now_ms)
        if asks and self.contacts.addresses(link.name):
            gone.asked_by_ms = now_ms + self.settings.tick_time_ms
        what = "left" if link.leaving else how.value
        self.emit(Report(Level.INFO, f"{link.name} {what}: it is down", "down", link.name))
        waits = [n for n in self._newcomers.values() if n.name == link.name]
        newcomer = min(waits, key=lambda n: n.incarnation != link.incarnation, default=None)
        if newcomer:
            del self._newcomers[newcomer.id]
            self._take(newcomer, now_ms)
        self.link_ended(link, how is Lost.ENDED, newcomer)

    def _drop_newcomer(self, newcomer: Link) -> None:
        """The first of this name lives: tell the second where, and end its link."""
        at = self.contacts.addresses(newcomer.name) or (self.links[newcomer.name].address,)
        self._newcomers.pop(newcomer.id, None)
        self.emit(Send(newcomer.id, NameTaken(at[0])))
        self.emit(Close(newcomer.id))

    def hello(self, id: int, hello: Hello, now_ms: int) -> bool:
        """A peer says who it is and whom it knows; return whether who it is is news."""
        if (namesake := self._namesakes.get(id)) is not None:
            self._judge_namesake(namesake, hello, now_ms)
            return True
        link = self.by_id(id) or self._newcomers.get(id)
        if link is None:
            return False
        said = hello._replace(uptime_ms=0, members=())  # the rest is no news, or is taken below
        news, link.hello = said != link.hello, said
        link.patience_ms = self.settings.patience_ms(hello.shared)
        if id not in self._newcomers:
            self._locate(link, hello, news, now_ms)
        for member in hello.members:
            self._told(link, member, now_ms)
        return news

    def _locate(self, link: Link, hello: Hello, news: bool, now_ms: int) -> None:
        """Learn where the node of a link in use can be dialled. One that waits for its name may be
        another machine's, and nothing there tells whether the first lives (rules 4 and 10)."""
        at = link.listens
        if not link.dialled and at is not None:
            if news or self.contacts.addresses(link.name)[:1] != (at,):
                self.contacts.came_up(0, link.name, self.listed(link.name), at)
        self._told(link, Member(link.name, hello.addresses), now_ms)

    def _told(self, link: Link, member: Member, now_ms: int) -> None:
        for address in member.addresses:
            if member.name != self.me and link.may_tell(address):
                self.contacts.told(member.name, address, self.listed(member.name), now_ms)

    def _judge_namesake(self, link: Link, hello: Hello, now_ms: int) -> None:
        mine_ms = now_ms - self.started_ms
        alike = abs(mine_ms - hello.uptime_ms) <= UPTIME_SLACK_MS
        first = self.incarnation < link.incarnation if alike else mine_ms > hello.uptime_ms
        if not first:
            self.take_name(link.listens_at(hello))
        else:
            self._namesakes.pop(link.id)
            own = (*self.hellos.addresses, Address(self.me.host, self.settings.node.port))[0]
            self.emit(Send(link.id, NameTaken(own)))
            self.emit(Close(link.id))

    def status(self, id: int, status: Status, now_ms: int) -> Link | None:
        """A peer says what it knows; return its link when that is news."""
        link = self.by_id(id) or self._newcomers.get(id)
        if link is None or status.tick <= link.echo:
            return None
        link.heard_ms = link.alive_ms = now_ms
        link.echo = status.tick
        link.status, link.mute_ms = status, None
        news = status.news
        link.repeats, link.news = news == link.news, news
        old = self.links[link.name]
        if old.incarnation != link.incarnation:
            return None
        if self._newcomers.pop(id, None) is not None:
            # Whoever accepts is the first to know of a link. So it had the old one when this came
            # up, and would have closed this: it speaks here since the old one is lost to it.
            self.emit(Close(old.id))
            self._take(link, now_ms)
        for newcomer in [n for n in self._newcomers.values() if n.name == link.name]:
            if newcomer.incarnation != link.incarnation and status.echo >= newcomer.probe_tick:
                self._drop_newcomer(newcomer)
        return link

    def formed(self) -> bool:
        """Return whether a synced peer of the same digest is up: a cluster to join (rule 1)."""
        statuses = [link.status for link in self.links.values() if link.status is not None]
        return any(s.synced and s.digest == self.settings.digest for s in statuses)

    def _is_mute(self, link: Link, now_ms: int) -> bool:
        """Whether its node has had links for two tick times and said nothing: it holds up nobody,
        however often its link is made anew."""
        return link.mute_ms is not None and now_ms - link.mute_ms >= 2 * self.settings.tick_time_ms

    def views(self, now_ms: int) -> tuple[tuple[PeerView, ...], dict[NodeName, DownView]]:
        """Return what a verdict needs of the peers that are up, and of those that were."""
        up = [k for k in self.links.values() if k.mute_ms is None or not self._is_mute(k, now_ms)]
        peers = tuple([PeerView(k.name, k.incarnation, k.status) for k in up])
        down = {
            name: DownView(g.heard_ms, g.incarnation if g.dead else None, g.asked_by_ms)
            for name, g in self.gone.items()
        }
        return peers, down

    def hears(self, now_ms: int) -> list[Heard]:
        """Return the holders that this node hears itself."""
        return [h for link in self.links.values() if (h := link.hears(now_ms)) is not None]

    def stalled(self, now_ms: int) -> None:
        """This node itself was not running: hear the others before judging their silence, but one
        that says nothing is spared once only: who stalls again and again judges, too (L1)."""
        for link in self._all():
            if link.spared_ms != link.heard_ms:
                link.spared_ms = link.heard_ms
                link.alive_ms = max(link.alive_ms, now_ms - link.patience_ms // 2)

    def slept(self) -> None:
        """It was not running for so long that what comes now may be old."""
        for link in self._all():
            link.since_tick = self.tick + 1

    def _end_silent(self, read_ms: int, now_ms: int) -> None:
        # The newcomers first: one that is silent itself must not take the place of a silent link.
        for waiting in (self._newcomers, self._namesakes):
            for silent in [n for n in waiting.values() if n.is_silent(read_ms)]:
                del waiting[silent.id]
                self.emit(Close(silent.id))
        for link in [k for k in self.links.values() if k.is_silent(read_ms)]:
            self.emit(Close(link.id))
            self._end(link, Lost.SILENT, now_ms)

    def settle(self, read_ms: int | None, now_ms: int) -> bool:
        """Do what is due: end silent links, dial, say hello to those who have not heard it. Return
        whether a link, a Hello, our addresses or our settings are new. All that came until
        `read_ms` was read; None: something may wait behind what was, so nobody is silent
        (docs/decisions/0017)."""
        if read_ms is not None:
            self._end_silent(read_ms, now_ms)
        for name in self.contacts.forget_strangers(self.links, now_ms):
            self.gone.pop(name, None)
        if self.contacts.is_due(now_ms):
            self._dial(now_ms)
        self.refusals.forget(now_ms)
        everyone = (self.links.values(), self._newcomers.values())
        return self.hellos.settle(*everyone, self.settings, read_ms is None, now_ms)

    def _dial(self, now_ms: int) -> None:
        for id in self.contacts.give_up(self.links, now_ms):
            self.look.handshake_ended(id)
            self.emit(Close(id))
        for id, address in self.contacts.due(self.links, now_ms):
            self.look.handshake_began(id, None, self.tick + 1, now_ms)
            self.emit(Dial(id, address, self.contacts.expected(id)))

    def _all(self) -> Iterator[Link]:
        yield from (*self.links.values(), *self._newcomers.values(), *self._namesakes.values())

    def dial(self, address: Address, now_ms: int) -> int:
        """Dial once, on request; return the link id."""
        contact = Contact(None, False, now_ms, [address], proven=True)
        id, address = self.contacts.dial(contact, now_ms)
        self.emit(Dial(id, address))
        return id

    def deadlines(self, now_ms: int) -> list[int]:
        """Return each time at which settle has something to do."""
        times = [max(link.alive_ms + link.patience_ms, now_ms + 1) for link in self._all()]
        others = (self.contacts.deadline(self.links), self.hellos.due_ms)
        return times + [due_ms for due_ms in others if due_ms is not None]
