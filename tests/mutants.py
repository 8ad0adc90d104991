"""Plants a bug of the protocol at a time and shows that the tests catch it: `make mutants`.

A mutant that survives is a test to write. Each is one place of chucky/core (or two, where two nodes
keep a rule together) whose text is replaced in a copy of the tree. tests/test_mutants.py sees to
it that every text is still there.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parent.parent
# The quickest first: most mutants fall to a table.
STAGES = (
    ("test_verdict", "test_lease", "test_vacancy", "test_startup", "test_contacts", "test_beacons"),
    ("test_hellos", "test_membership", "test_majority", "test_commands", "test_node"),
    ("test_twin",),
    ("test_quiet",),
)
SEEDS = 60  # of the simulator, for what all those let pass
CHECK_SEEDS = 400  # at most, until the check fires that must
# One that hangs a test is caught, too. Alone no test takes 20 s, no stage and no 60 seeds 60 s.
TEST_LIMIT_S = 120
LIMIT_S = 600
TOO_LONG = f"a run that takes more than {LIMIT_S} s"
PYTEST = (
    "pytest", "-x", "-q", "-p", "no:cacheprovider",
    "-o", f"faulthandler_timeout={TEST_LIMIT_S}", "-o", "faulthandler_exit_on_timeout=true",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A bug: the rule that it breaks, and (module, text, what stands there instead) each. `checks`:
    how the word of a check of the simulator begins that must fire, too; each check has a bug."""

    rule: str
    name: str
    edits: tuple[tuple[str, str, str], ...]
    checks: tuple[str, ...] = ()


def one(rule: str, name: str, module: str, old: str, new: str, *checks: str) -> Mutant:
    """A bug in one place."""
    return Mutant(rule, name, ((module, old, new),), checks)


def drop(rule: str, name: str, module: str, condition: str, *checks: str) -> Mutant:
    """A condition that nobody looks at any more."""
    return one(rule, name, module, f"if {condition}:", "if False:", *checks)


MUTANTS = (
    # S1, and decision 0005: telling of a start before making it.
    one("S1", "it runs without waiting for echoes", "verdict",
        "((asked and dialled is None) or late)", "(dialled is None or late)"),
    one("S1", "it runs before it knows whether a lost node lives", "verdict",
        "((asked and dialled is None) or late)", "(asked or late)"),
    one("S1", "it runs beside another that starts", "verdict",
        "if not rivals and ((asked", "if ((asked"),
    one("S1", "it waits for an echo for ever", "verdict",
        "is None) or late):", "is None)):"),
    one("S1", "nobody withdraws", "verdict", "if lost or (late and rivals) or", "if"),
    one("S1", "what a peer hears is not heard", "view", "in status.hears:", "in ():"),
    one("S1", "a start that is heard here hides that it runs", "view",
        "return heard.epoch == itself.status.starting and", "return False and"),
    one("S1", "a node that stalls goes on at once", "node",
        "self._look_around(now_ms)  # much", "pass  # much"),
    one("S1", "it serves on and on after its last step", "snapshot",
        "return now_ms + settings.tick_time_ms", "return now_ms + 100 * settings.tick_time_ms"),
    # 1, 2: the look, the sync, the cold start.
    one("1", "no look before the first verdict", "verdict",
        "if not view.synced or view.listening:", "if not view.synced:"),
    one("1", "the look does not wait for handshakes", "startup",
        "self._handshakes[link] = now_ms + self._tick_time_ms, who, tick", "pass"),
    one("1", "the look waits for handshakes with whom it heard", "startup",
        "del self._handshakes[link]", "pass"),
    one("1", "the look waits for handshakes of a former start of whom it heard", "startup",
        "who[1] <= self._heard.get(who[0], -1)", "who[1] == self._heard.get(who[0], -1)"),
    one("1", "the look waits for a former start whose clock was ahead", "startup",
        "and echo >= tick", "and False"),
    one("1", "an answer from before a handshake ends the wait for it", "startup",
        "and echo >= tick", "and True"),
    one("1", "the look waits for no handshake of a node that it heard in a former one", "startup",
        "self._heard.clear()", "pass"),
    one("1", "the look takes what waited to be read for a word of now", "node",
        "and message.echo >= spoke.since_tick:", "and True:"),
    one("1", "the look waits for a dial at who is linked meanwhile", "membership",
        "self.look.handshake_ended(dial)", "pass"),
    one("1", "an interface that comes up does not prolong the look", "startup",
        "self._until_ms = max(self._until_ms, min(now_ms + LOOK_MS, self._limit_ms))", "pass"),
    one("1", "interfaces prolong the look for ever", "startup",
        "min(now_ms + LOOK_MS, self._limit_ms)", "now_ms + LOOK_MS"),
    one("1", "one seen that left again does not count", "node",
        "self._sync.saw(link.name)", "pass"),
    one("1", "mandatory nodes keep a node from a formed cluster", "startup",
        "if formed or not self.awaited", "if not self.awaited"),
    one("1", "a cluster of another digest is joined", "membership",
        "s.synced and s.digest == self.settings.digest", "s.synced"),
    one("S3", "nobody is mandatory", "startup",
        "p for p in d.sync_nodes_mandatory if", "p for p in () if", "S3: it starts"),
    one("S3", "it goes on without its mandatory nodes", "startup",
        "(late and not self._mandatory)", "late"),
    one("S3", "it stays when mandatory nodes are missing", "startup",
        "return Missing(tuple(self._mandatory))", "pass", "S3: it still runs"),
    one("S3", "the look puts off the deadline", "startup",
        "elif late:", "elif late and not looking:"),
    one("S3", "it leaves before the deadline", "startup",
        "now_ms >= self.deadline_ms", "now_ms + 900 >= self.deadline_ms", "S3: it exits"),
    one("S5", "a beacon's incarnation is taken for an epoch", "node",
        "self._members.beacon(beacon, source, now_ms)",
        "self._own.heard_of(Epoch(beacon.incarnation, beacon.name))"),
    one("S5", "the beacon of a stranger ends the application", "node",
        "self._members.beacon(beacon, source, now_ms)",
        "self._members.beacon(beacon, source, now_ms) if beacon.name.host != \"x\" else"
        " self._own.application_failed(\"x\", now_ms)", "S5: "),
    one("S5", "a beacon of its own name ends the node", "membership",
        "            return\n        if beacon.asks:",
        "            return\n        if beacon.name == self.me:\n"
        "            self.take_name(source)\n"
        "            return\n        if beacon.asks:", "rule 10: "),
    drop("2", "a peer that has not spoken is passed over", "verdict", "peer.status is None"),
    one("2", "a cold start does not wait for a better node's sync", "verdict",
        "if lost is not None or s is None or s.synced or", "if s is None or True or"),
    drop("2", "nobody stands aside", "verdict", "peer.able"),
    one("2", "a vacancy waits for a better node's sync", "verdict",
        "if lost is not None or s is None or", "if s is None or"),
    # 3: the vacancy.
    one("3", "silence is not judged on the tick time", "verdict",
        "return heard_ms + max(view.timeout_ms, 0 if proven else view.tick_time_ms)",
        "return heard_ms + view.timeout_ms"),
    one("3", "a report makes a known sign younger", "vacancy",
        "record.heard_ms = min(record.heard_ms, heard_ms)",
        "record.heard_ms = max(record.heard_ms, heard_ms)"),
    one("3", "a later start with the same epoch is not heard", "vacancy",
        "record is None or record.incarnation != incarnation:", "record is None:"),
    one("3", "a report of the earlier start with the same epoch counts", "vacancy",
        "if sign.incarnation < record.incarnation:", "if False:"),
    one("3", "an age grows with each report", "vacancy",
        "now_ms - r.heard_ms - 1", "now_ms - r.heard_ms"),
    one("3", "an older sign counts", "vacancy",
        "if (sign.tick, sign.end) > (record.tick, record.end):", "if True:"),
    one("3", "what one hears of a loss is not passed on", "node",
        "records.merge(sign, now_ms)", "pass"),
    one("3", "the end of a link is no sign", "vacancy",
        "record.end, record.heard_ms = End.ENDED, now_ms", "record.end = End.ENDED"),
    one("3", "a link closed for silence is a sign", "membership",
        "self._end(link, Lost.SILENT, now_ms)", "self._end(link, Lost.ENDED, now_ms)"),
    one("3", "a tick after the naming renews the count", "vacancy",
        "elif record.end < End.NAMED and tick > record.tick:", "elif tick > record.tick:"),
    one("3", "an ownership left in good order leaves a vacancy", "vacancy",
        "record.end = End.RELEASED\n\n    def merge", "pass\n\n    def merge"),
    one("3", "a goodbye leaves a vacancy", "node",
        "self._own.records.released(link.status.running, link.incarnation)", "pass"),
    one("3", "the failed owner does not wait like the others", "verdict",
        "restarted = back.incarnation != view.incarnation or", "restarted = True or"),
    one("3", "timeout inf fails over", "verdict",
        "if until_ms is None or view.now_ms < until_ms:",
        "if until_ms and view.now_ms < until_ms:"),
    one("S4", "an owner that waits for its name gives no sign", "node",
        "(waits, message, now_ms)", "(waits, message._replace(running=None), now_ms)"),
    one("S4", "what a peer tells that is asked counts for nothing", "verdict",
        " or _loss(view)[0] is not None:", ":"),
    one("L1", "who is killed after its link was lost just now is not asked at once", "contacts",
        "max(now_ms - 2 * REDIAL_MS, contact", "max(now_ms, contact"),
    one("S4", "the end of a link that waits for its name is no sign of life", "node",
        "  if waits is not None:", "  if False:"),
    one("S4", "a vacancy is shorter than its timeout", "verdict",
        "return heard_ms + max(view.timeout_ms,", "return heard_ms - 300 + max(view.timeout_ms,",
        "S4: .* starts"),
    one("L1", "a vacancy is longer than its timeout", "verdict",
        "return heard_ms + max(view.timeout_ms,", "return heard_ms + 300 + max(view.timeout_ms,",
        "L1: "),
    one("L7", "who lacks a majority gets ready, and claims", "node",
        "own.able and not snapshots.lacks_majority(self._settings, self._members, others)",
        "own.able"),
    one("7", "who is slow owns nothing though nobody is able", "node",
        "lacks_majority(self._settings, self._members, others)",
        "lacks_majority(self._settings, self._members)"),
    one("7", "who is slow is in time again on the edge", "link",
        "(limit_ms * 2 // 3 if self.slow else limit_ms)", "limit_ms"),
    one("4", "a beacon of another start ends no back-off", "contacts",
        "contact.incarnation, contact.backoff_ms = incarnation, 0", "pass"),
    one("L7", "who lacks a majority says that it is able", "speech",
        "(grows or not snapshots.lacks_majority(settings, self._members))", "True"),
    one("L7", "after a heal no others wait for the best to have its links", "speech",
        "(grows or not snapshots", "(not snapshots"),
    one("L1", "each stall excuses a silence anew", "membership",
        "if link.spared_ms != link.heard_ms:", "if True:"),
    one("L4", "others stand aside for one that does not hear the owner", "verdict",
        "peer is not owner and peer.hears(s.running)", "peer is not owner"),
    one("L4", "an owner that hears of a former start of its own is its successor", "verdict",
        "peer is not owner and peer.hears(s.running)", "peer.hears(s.running)"),
    one("5", "who hears two owners gets ready for one", "verdict",
        "(h.holds, h.epoch) != (Holds.RUNNING, s.running)", "h.holds is not Holds.RUNNING"),
    one("L3", "who has no vote yet is named", "verdict", "if view.vote_due_ms is not None:",
        "if False:"),
    one("10", "a twin is where the first is dialled", "membership",
        "if id not in self._newcomers:", "if True:"),
    one("10", "who takes a name is not dialled where it is", "membership",
        "if link.hello is not None:  # it has waited", "if False:  # it has waited"),
    one("L7", "a reload leaves a node that stands aside where it is", "node",
        "self._own.retry_now(now_ms)", "pass"),
    one("L7", "two that yield wait for each other", "verdict",
        "if other.holds is not Holds.STARTING and other.epoch",
        "if other.holds is Holds.RUNNING and other.epoch"),
    one("L7", "two that are back wait for each other for ever", "verdict",
        "back = mine if view.timeout_ms is None else lost", "back = lost"),
    one("S1", "the next start of a node that a peer hears is not heard", "view",
        "return True  # it restarted, and its end is yet under way", "return False"),
    one("S1", "who is linked with another machine of a name starts beside the first", "view",
        "return heard.holds is Holds.RUNNING and not owns", "return False"),
    one("6", "an owner yields to a former start that a peer yet hears", "view",
        "return heard.holds is Holds.RUNNING and not owns",
        "return heard.holds is Holds.RUNNING"),
    one("L2", "the owner that is back waits", "verdict",
        "if restarted or view.timeout_ms is None:", "if view.timeout_ms is None:", "L2: "),
    # 4: evidence.
    one("L8", "it stands aside for ever", "verdict",
        "aside=True) if view.now_ms < until_ms else None", "aside=True)"),
    one("L8", "it stands aside for ever beside an owner that leaves", "verdict",
        "return aside  # it may take long", "return Hold(aside.why)  # it may take long"),
    one("L8", "to get ready begins to stand aside anew", "ownership",
        "isinstance(verdict, (Claim, GetReady, Start)):", "isinstance(verdict, (Claim, Start)):"),
    one("8", "it waits for the sync of one that never joins it", "verdict",
        "if s.digest == view.digest:\n            return Hold(why)",
        "if True:\n            return Hold(why)"),
    one("8", "two claimants go each by its own order", "standing",
        "if peer is not None and peer.status is not None:\n        return _alike(view, peer)",
        "if False:\n        return _alike(view, peer)"),
    one("8", "who hears not the other claimant goes by age", "standing",
        "return _rank(view, backed.holder) < _rank(view, view.me)",
        "mine = precedence(view, view.me, view.incarnation)\n"
        "    return precedence(view, backed.holder, backed.incarnation) < mine"),
    one("8", "a claimant of another list that is not heard goes by rank", "standing",
        'if backed.digest not in (b"", view.digest):', "if False:"),
    one("8", "two standbys go each by its own order", "standing",
        "return wants if wants != view.wants else _alike(view, peer)",
        "mine, theirs = (view.me, view.incarnation), (peer.name, peer.incarnation)\n"
        "    first = precedence(view, *theirs) < precedence(view, *mine)\n"
        "    return wants if wants != view.wants else first"),
    one("0008", "with timeout inf it waits for who is on standby", "verdict",
        "return view.now_ms if given else None", "return None"),
    one("L8", "each step begins to stand aside anew", "ownership",
        "self.aside_ms = now_ms if self.aside_ms is None else self.aside_ms",
        "self.aside_ms = now_ms"),
    one("L8", "links that come and go make it able for ever", "speech",
        "if new and now_ms - self._grew_ms >= self._members.settings.tick_time_ms:", "if new:"),
    one("5", "who declines is named again at once", "ownership",
        "wait_ms = BACKOFF_MS << min(self._declines - 1, 3) if self._declines else 0",
        "wait_ms = 0", "0020"),
    one("5", "who declines is never named again", "ownership",
        "naming.incarnation] = now_ms + wait_ms", "naming.incarnation] = now_ms + 2**40"),
    one("5", "of those that declined one is remembered", "ownership",
        "for w, t in self.declined.items() if now_ms - t < PROVEN_MS}",
        "for w, t in self.declined.items() if t > now_ms + BACKOFF_MS}"),
    one("L8", "a link in the place of another is a new chance to say nothing", "link",
        "self.since_tick, self.mute_ms = old.since_tick, old.mute_ms",
        "self.since_tick, self.mute_ms = old.since_tick, self.heard_ms"),
    one("5", "what was said on a link that is replaced is forgotten", "link",
        "self.status, self.news, self.echo = old.status, old.news, old.echo", "pass"),
    one("L4", "a stop waits for who declined just now", "verdict",
        "        rest = {}\n", "        pass\n"),
    one("5", "an owner on standby names who declined at once", "verdict",
        "rest = {w: t for", "rest = {} if view.on_standby else {w: t for"),
    one("4", "a goodbye proves nothing", "membership", "gone.dead = link.leaving", "pass"),
    one("5", "who is asked for and declined is named again at once", "verdict",
        "ready = [p for p in ready if (p.name, p.incarnation) not in rest]",
        "ready = [\n        p for p in ready\n"
        "        if (p.status and p.status.wants) or (p.name, p.incarnation) not in rest\n    ]"),
    one("7", "a claim is withdrawn for what a peer has yet to say", "ownership",
        "claims = self.hold.passing or isinstance", "claims = isinstance"),
    one("L8", "to wait for a peer's word begins to stand aside anew", "ownership",
        "elif not self.hold.passing and not isinstance", "elif not isinstance"),
    one("L8", "who never speaks holds up a start for ever", "membership",
        "return link.mute_ms is not None and", "return False and"),
    one("L8", "who never speaks is asked whether it lives, for ever", "membership",
        "and not link.leaving and not self._is_mute(link, now_ms)", "and not link.leaving"),
    one("L8", "each link is a new chance to say nothing", "membership",
        "since_ms if recent and since_ms is not None else now_ms", "now_ms"),
    one("11", "a node that told many addresses and moved is dialled nowhere else", "contact",
        "self.addresses[1:] if first else self.addresses[1:-1]", "self.addresses[1:]"),
    one("10", "the first of a name is asked with the next tick only", "speech",
        "or k.name in probed]", "]"),
    one("4", "a refusal where an administrator sent a dial proves a node dead", "membership",
        "known = contact is not None and not contact.configured and contact.name",
        "known = contact is not None and contact.name"),
    one("4", "a refused dial proves nothing", "membership", "gone.dead = True", "pass"),
    one("4", "a refusal elsewhere is a proof", "membership",
        "if why is Ended.REFUSED and contact.dial_address in contact.addresses[:1]:",
        "if why is Ended.REFUSED:"),
    drop("4", "nobody asks whether it lives", "verdict",
         "down.asked_by_ms is not None and view.now_ms < down.asked_by_ms"),
    one("4", "a dying process is not asked again", "membership",
        "contact.next_ms, contact.turn = now_ms, 0", "pass"),
    one("4", "a lost link is not dialled at once", "contacts",
        "        if not at_once:\n", "        if True:\n"),
    one("4", "each dial counts for the rate of those at once", "contacts",
        "        if contact.urgent:\n", "        if True:\n"),
    one("4", "a dial when a link was lost is waited for in vain", "contacts",
        "min(now_ms + SETTLED_MS, contact.began_ms + REDIAL_MS)",
        "contact.began_ms + REDIAL_MS"),
    one("4", "no dial under way takes the place of a link that is lost", "contacts",
        "max(now_ms, contact.urged_ms, soon_ms)", "max(now_ms, contact.urged_ms)"),
    one("4", "dials at once have no rate", "contacts",
        "max(now_ms, contact.urged_ms)\n", "now_ms\n"),
    one("4", "two dials at once, and no third", "contacts",
        "now_ms - 2 * REDIAL_MS", "now_ms - REDIAL_MS"),
    one("4", "a name in peers is dialled without pause", "contacts",
        "dialled.next_ms = dialled.began_ms + REDIAL_MS", "pass"),
    one("4", "of two dials of one node that is kept which was up last", "membership",
        "return abs(old.id) > abs(new.id)", "return False"),
    one("1", "a start that waits for its name tells nothing of its former one", "node",
        "spoke = link or waits", "spoke = link"),
    one("4", "a node of a longer tick is taken for silent after four of one's own", "membership",
        "link.patience_ms = self.settings.patience_ms(hello.shared)", "pass"),
    one("4", "an address that a member told holds up the best one", "contact",
        "self.dial_address in self.addresses[:1] else", "self.dial_address in self.trusted else"),
    one("4", "hints without end end a dial where a member told", "contact",
        "if at not in self.trusted)", "if at in self.addresses)"),
    one("4", "hints take turns from the addresses that are sure", "contact",
        "if 0 < len(told) < len(others):", "if False:"),
    one("4", "a beacon's word has no turn of its own", "contact",
        "last_ms - HEARD_MS if address in self.heard else last_ms", "last_ms"),
    one("4", "an address that no beacon gives has no turn", "contact",
        "last_ms - HEARD_MS if", "-HEARD_MS if"),
    one("4", "one address of several has no turn", "contact",
        "self.dialled.get(address, -HEARD_MS)", "0"),
    drop("4", "a new port has the first turn each time", "contact", "other in self.dialled"),
    one("S5", "ports without end fill the memory", "contact",
        "if other in self.dialled:", "if self.dialled.setdefault(other, -1):"),
    one("4", "the only address that is free is dialled twice at once", "contact",
        "if self.is_first or len(free) == 1:", "if self.is_first:"),
    one("4", "the first of several hints is the best address", "contact",
        "None if self.unproven else self.addresses[0]", "self.addresses[0]"),
    one("4", "a best address that refuses takes a turn", "contacts",
        "elif contact.is_first and (refused or why is Ended.REFUSED) and", "elif False and"),
    one("4", "a dial aside that ends leaves the next to wait for a turn more", "contacts",
        "if why is Ended.UNREACHED and at in contact.trusted:", "if False:"),
    one("4", "a hint that refuses takes a turn", "contacts",
        "elif contact.is_first and (refused or why is", "elif contact.is_first and (why is"),
    one("4", "a hint takes a turn of who backs off", "contacts",
        "since_ms = now_ms if best or refuses else contact.first_ms", "since_ms = now_ms"),
    one("4", "a slow handshake where a beacon leads is given up", "contacts",
        "(0 if no_place else MAX_ASIDE)", "0"),
    one("4", "a dial at the fourth address ends another one", "contacts",
        "MAX_ASIDE = 4", "MAX_ASIDE = 3"),
    one("4", "names that are in no list crowd out the listed ones", "contacts",
        "not c.proven and c.listed is listed]", "not c.proven]"),
    one("4", "names that are in no list take the places of the listed ones", "contacts",
        "sum([c.listed is listed for c in dials])", "len(dials)"),
    one("4", "who is slow to refuse is dialled on and on", "contacts",
        "contact.next_ms = max(contact.next_ms, now_ms + wait_ms)",
        "contact.next_ms = now_ms + wait_ms"),
    one("4", "a proof of death is not passed on", "membership",
        "self.proven_dead(known, gone.incarnation)", "pass"),
    one("4", "a proof outlives a later sign of life", "vacancy",
        "record.dead = False", "pass"),
    # 5: moves.
    Mutant("5", "an equal tier takes over", (
        ("standing", "(than is None or tier < than)", "(than is None or tier <= than)"),),
        ("S4: .* names",)),
    Mutant("5", "takeover = false is not kept", (
        ("verdict", "s.wants or (view.takeover and free", "s.wants or (free"),
        ("verdict", "if not view.takeover or not better", "if not better")),
        ("S4: .* is back",)),
    one("L3", "a takeover waits for more than its delay", "verdict",
        "due_ms = view.free_since_ms + view", "due_ms = view.free_since_ms + 2000 + view",
        "L3: "),
    one("L4", "nobody gets ready for an owner that stops", "verdict",
        "leaves = s.stopping or s.on_standby", "leaves = s.on_standby", "L4: "),
    one("5", "nobody takes over", "verdict",
        "return GetReady(s.running, free.tick if free else 0)", "return Hold()",
        "L7: all is well"),
    drop("5", "takeover_delay is not kept", "verdict", "view.now_ms < due_ms"),
    one("5", "the owner names one that is not ready", "verdict",
        "if p.status and p.status.ready == epoch and", "if p.status and"),
    one("5", "the owner serves on after it named", "ownership",
        "epoch = self._stop()\n        self.naming", "epoch = self.running\n        self.naming"),
    one("5", "a naming never expires", "verdict",
        "sent_ms is not None and view.now_ms - sent_ms < view.tick_time_ms // 2", "True"),
    one("5", "a naming of another incarnation counts", "verdict",
        "(naming.successor, naming.incarnation) != (view.me, view.incarnation)",
        "naming.successor != view.me"),
    one("5", "it is taken back before all are asked", "verdict",
        "if gone and asked and not view.holders:", "if gone and not view.holders:"),
    one("5", "who slept takes back what it named a successor for", "verdict",
        "asked = not view.listening and all(", "asked = all("),
    one("5", "it is taken back beside a holder", "verdict",
        "if gone and asked and not view.holders:", "if gone and asked:"),
    one("5", "it is taken back before a tick time of silence", "verdict",
        "return view.now_ms >= silent_ms, silent_ms", "return True, None"),
    one("5", "a silent successor blocks for ever", "verdict",
        "== naming.incarnation:\n        return True, None", "!= 0:\n        return False, None"),
    one("5", "a stopping owner waits for a successor for ever", "verdict",
        "if view.now_ms >= view.stop_by_ms or not any(", "if not any("),
    one("5", "a named node that declined leaves a vacancy", "verdict",
        "return True if later else None", "return False"),
    one("5", "a naming in doubt counts from the old owner only", "verdict",
        "return max(record.heard_ms, down.heard_ms) if down else record.heard_ms",
        "return record.heard_ms"),
    # 6: partitions, epochs.
    one("6", "who was alone so far goes by its rank", "verdict", "view.alone or not", "not"),
    one("6", "who was alone so far speaks first", "speech", "return now_ms < self._let_by_ms",
        "return False"),
    one("6", "who was alone so far waits for ever for a word", "speech",
        "return now_ms < self._let_by_ms", "return True"),
    drop("6", "no owner yields", "verdict",
         "view.alone or not outranks(view, rival)", "S1: ", "L5: "),
    one("6", "the tie is reversed", "standing",
        "return mine < seniority(view.nodes, view.takeover, rival.began, rival.epoch.node)",
        "rivals = seniority(view.nodes, view.takeover, rival.began, rival.epoch.node)\n"
        "    return (*mine[:2], rivals[2]) < (*rivals[:2], mine[2])"),
    one("6", "the higher epoch stands better", "standing",
        "return (tier, began, node) if takeover", "return (tier, -began, node) if takeover"),
    one("6", "who goes on under a new epoch counts as a new owner", "ownership",
        "self.running = self._new_epoch()", "self.running = self._new_epoch()\n"
        "        self.began = self.running.number"),
    one("6", "an ownership counts from the one before it", "ownership",
        "self.began = self.starting.number", "self.began = self.began or self.starting.number"),
    one("6", "an ownership that began where nobody was heard counts like others", "ownership",
        "self.began = self.highest.number + 1", "pass"),
    one("6", "an ownership counts as new wherever a higher epoch is heard of", "node",
        "if self._speech.alone:", "if True:"),
    one("6", "an owner that a peer hears counts as a new one", "link",
        "s.digest, age_ms, s.began)", "s.digest, age_ms)"),
    one("6", "an owner that is heard counts as a new one", "view",
        "status.digest, 0, status.began)", "status.digest, 0)"),
    one("6", "whose application is being started relays", "snapshot",
        "if own.starting is not None and own.asked_tick == 0:", "if False:"),
    one("6", "a relay goes to the owner that will yield", "snapshot",
        "seniority(d.nodes, d.takeover, f[1], f[0].node)",
        "seniority(d.nodes, d.takeover, f[0].number, f[0].node)"),
    one("6", "a relay goes by tiers first in spite of takeover = false", "snapshot",
        "seniority(d.nodes, d.takeover, f[1]", "seniority(d.nodes, True, f[1]"),
    one("6", "the tier does not matter", "standing",
        "tier = _tier(nodes, node)", "tier = 0"),
    one("6", "nobody goes on above a higher epoch", "verdict",
        "if view.highest and view.highest > epoch and not", "if False and not", "L6: "),
    one("6", "it outbids an owner that it hears", "verdict",
        "not (view.holders or unheard_ms or view.listening)", "not view.listening"),
    one("6", "it outbids an owner far away", "verdict",
        "not (view.holders or unheard_ms or view.listening)",
        "not (view.holders or view.listening)"),
    one("6", "it outbids an owner whose link is made anew", "verdict",
        "if down and down.asked_by_ms is not None and view.now_ms < down.asked_by_ms:",
        "if False:"),
    one("6", "it outbids an owner before that speaks", "verdict",
        "if all(p.status is not None for p in view.peers):", "if True:"),
    one("6", "a new epoch has the old number", "ownership",
        "else self.highest.number + 1", "else self.highest.number", "epochs: "),
    one("6", "who goes on does so under the other's epoch", "ownership",
        "self.running = self._new_epoch()", "self.running = self.highest", r"epochs: \w serves"),
    one("6", "the highest epoch is forgotten", "node", "own.heard_of(status.highest)", "pass"),
    one("6", "an epoch told on a link that waits is forgotten", "node",
        "(waits, message, now_ms)", "(waits, message._replace(highest=None), now_ms)"),
    one("6", "what was heard long ago is told as news", "link",
        "and age_ms < self.patience_ms:", "and True:"),
    one("6", "what waited to be read is told as news", "link",
        "if s.echo >= self.since_tick:", "if True:"),
    one("6", "an epoch of its former start is used again", "node",
        "if sign.epoch == own.running:", "if False:"),
    one("L5", "a missing node is called each interval only", "beacons",
        "min(interval_ms, REDIAL_MS) if calls else interval_ms", "interval_ms"),
    one("L5", "who loses a node calls at the interval first", "beacons",
        "and not lost:", ":"),
    one("L5", "only one of many calls", "beacons", "CALLERS = 8", "CALLERS = 1"),
    # 7: the lease.
    drop("7", "the lease is not looked at", "verdict", "not view.leased"),
    one("7", "it starts without a majority", "verdict",
        "if view.lease is None or view.leased:", "if True:"),
    one("7", "the lease is longer than its promise", "lease",
        "SHARE_PERCENT = 97", "SHARE_PERCENT = 103", "S2: the owner"),
    one("7", "the lease counts from the receipt of the echo", "lease",
        "at_ms = self._sent_ms[theirs.tick]", "at_ms = now_ms", r"S2: \w and \w serve"),
    one("7", "half of the nodes are a majority", "lease",
        "return voters // 2 + 1", "return (voters + 1) // 2", r"S2: \w and \w serve"),
    one("7", "who has just started backs at once", "lease",
        "self.free_from_ms = now_ms + timeout_ms", "self.free_from_ms = now_ms",
        r"S2: \w and \w serve"),
    one("L2", "who has just started backs nobody for twice as long", "lease",
        "self.free_from_ms = now_ms + timeout_ms", "self.free_from_ms = now_ms + 2 * timeout_ms",
        "L2: the application"),
    one("7", "a promise does not last", "lease",
        "and now_ms >= self.backs_until_ms:", "and True:"),
    one("7", "an echo of an earlier claim counts", "lease",
        "mine = (theirs.holder, theirs.incarnation, theirs.claim)",
        "mine = (theirs.holder, theirs.incarnation, self.claim)"),
    one("7", "the votes outlive the claim", "lease", "self._votes.clear()", "pass"),
    one("7", "an observer votes", "node",
        'd.quorum == "majority" and d.nodes.tier(name) is not None:', 'd.quorum == "majority":'),
    one("7", "a withdrawal does not free its backers", "lease",
        "if (peer.incarnation, status.claim) != (backed.incarnation, backed.claim):",
        "if peer.incarnation != backed.incarnation:"),
    one("7", "the worse claimant does not withdraw", "verdict",
        "if claims_first(view, b) and _claims(view, b) is not False:", "if False:"),
    one("7", "who backs the old owner yet holds the named one up", "verdict",
        "claims_first(view, b) and _claims(view, b) is not False:", "claims_first(view, b):"),
    one("7", "two that back each other wait for ever", "verdict",
        "if own is not None and _claims(view, own) and claims_first(view, own):", "if False:"),
    # 8: lists that differ.
    Mutant("8", "it takes over while lists differ", (
        ("verdict", "if s is None or view.mixed:", "if s is None:"),
        ("verdict", "if not leaves and view.mixed:", "if False:")),
        ("rule 8: ",)),
    one("8", "rank counts while lists differ", "standing",
        "incarnation if view.mixed or tier is None", "incarnation if tier is None"),
    one("8", "tiers are compared while lists differ", "standing",
        "if rival.digest != view.digest:  # 8: only", "if False:  #"),
    one("8", "of three that start each beats another", "verdict",
        "not goes_first(view, h)", "not outranks(view, h)"),
    one("8", "two of two lists that start both go on", "standing",
        "return view.digest < rival.digest", "return True"),
    # Decision 0008: takeover and standby, as an administrator asks for them.
    one("0008", "only a better tier takes over, asked for or not", "verdict",
        "return s.wants or (view.takeover", "return (view.takeover"),
    one("0008", "who is not asked for gets ready like who is", "verdict",
        "if not leaves and not view.wants:", "if not leaves and False:"),
    one("0008", "who is asked for does not come first", "standing",
        "return not wants, precedence", "return False, precedence"),
    one("0008", "a placed owner gives way to any better node", "verdict",
        "free = view.placed_tick in (0, s.anew)", "free = True"),
    one("0008", "a placed owner gives way to one that knows an earlier placement", "verdict",
        "free = view.placed_tick in (0, s.anew)", "free = not view.placed_tick or s.anew > 0"),
    drop("0008", "a placement binds nobody", "verdict", "owner.name in view.binding"),
    one("0008", "a node that is bound holds up one that is not", "verdict",
        "elif s.placed is None or acts:", "else:"),
    one("0008", "a placement is judged again and again", "placements",
        "elif now_ms - known.heard_ms < self._tick_time_ms:", "else:"),
    one("0008", "a placement is judged by the first Status only, however late", "placements",
        "elif now_ms - known.heard_ms < self._tick_time_ms:", "elif False:"),
    one("0008", "a placement binds who started after it", "placements",
        "binds = self.free_ms <= now_ms - placed.age_ms", "binds = True"),
    one("0008", "no placement binds anybody", "placements",
        "binds = self.free_ms <= now_ms - placed.age_ms", "binds = False", "0008: .* placed at"),
    one("0008", "off standby is not as a start", "placements",
        "self.free_ms = now_ms\n        for judged", "for judged"),
    one("0008", "a placement that was known binds one that comes off standby", "placements",
        "judged.binds = False", "pass"),
    one("0008", "a placement outlasts its ownership", "ownership",
        "self.running, None\n        self.placed_tick = 0", "self.running, None"),
    one("0008", "a placement outlasts its application", "ownership",
        "self.asked_tick = self.placed_tick = 0\n        if", "self.asked_tick = 0\n        if"),
    one("0008", "a takeover is done where an owner has yet to look", "commands",
        "own.running is not None and not view.listening:", "own.running is not None:"),
    one("0008", "a takeover is wanted for ever", "commands", "and late and", "and False and"),
    one("0008", "a node starts on standby", "verdict",
        "view.stop_by_ms is not None or view.on_standby:\n", "view.stop_by_ms is not None:\n",
        "0008: a node on standby starts"),
    one("0008", "what it tells to start it runs, on standby", "verdict",
        "leaves = view.on_standby or view.stop_by_ms", "leaves = view.stop_by_ms"),
    one("0008", "others stand aside for one on standby", "speech",
        "able and listed and not own.on_standby", "able and listed"),
    one("0008", "a cold start waits for one on standby", "verdict",
        "s.stopping or s.on_standby:\n            continue", "s.stopping:\n            continue"),
    one("0008", "an owner on standby hands over to a better tier only", "verdict",
        "elif not view.on_standby:", "else:"),
    one("0008", "nobody gets ready for an owner on standby", "verdict",
        "leaves = s.stopping or s.on_standby", "leaves = s.stopping", "0008: the answer is"),
    one("0008", "an owner on standby stops with nobody to hand over to", "verdict",
        "if view.stop_by_ms is not None:\n        rest = {}\n"
        "        if view.now_ms >= view.stop_by_ms or",
        "if view.on_standby or view.stop_by_ms is not None:\n        rest = {}\n        if"),
    one("0008", "one on standby does not take back what nobody took", "verdict",
        "resumes = view.able and", "resumes = view.able and not view.on_standby and"),
    one("0008", "standby is said to be done before it is", "commands",
        "if own.state is State.STANDBY:", "if True:"),
    # 9, 10: failures, names.
    one("9", "a failed application is tried again at once", "ownership",
        "self.retry_ms = now_ms + wait_ms", "self.retry_ms = now_ms + 1", "L7: the node that"),
    one("9", "the back-off does not grow", "ownership", "self._failures += 1", "pass"),
    one("9", "a node that failed is able", "ownership",
        "self.prepared = False\n        wait_ms", "wait_ms"),
    one("L8", "it does not say when to wake it", "node",
        "return self._deadline_ms\n", "return None if self._own.running else self._deadline_ms\n",
        "L8: "),
    one("10", "who is back stays lost", "membership",
        "self.gone.pop(link.name, None)", "self.gone.get(link.name)", "inside: "),
    one("10", "the second of a name replaces the first", "membership",
        "and status.echo >= newcomer.probe_tick:", "and False:"),
    one("10", "an old word of the first refuses the second", "membership",
        "and status.echo >= newcomer.probe_tick:", "and True:"),
    one("10", "what the second of a name said while it waited is forgotten", "node",
        "if newcomer and newcomer.status:", "if False:"),
    one("10", "a third of one name has the second refused", "membership",
        "del self._newcomers[other.id]\n                self.emit(Close(other.id))",
        "self._drop_newcomer(other)"),
    one("10", "of two that meet late both stay", "membership",
        "self.take_name(link.listens_at(hello))", "pass"),
    one("10", "of two links each end keeps another", "membership",
        "return old.dialled == (self.me > old.name)", "return True"),
    one("10", "a beacon of another start is no reason to dial the first", "membership",
        "if (old := self.links.get(beacon.name)) is not None:", "if (old := None) is not None:"),
    one("10", "a start that waits for its name is no reason to dial the first", "membership",
        "still speaks\n            self._check(old, now_ms)", "still speaks"),
    one("10", "each word of another start has the first dialled", "contacts",
        "now_ms - known.checked_ms < REDIAL_MS:", "False:"),
    one("10", "dials that ask for the first are without number", "contacts",
        "if len(asking) >= MAX_ASIDE:", "if False:"),
    one("10", "a first that hangs keeps its second from being found", "contacts",
        "self._let_go(asking[0])", "return None"),
    one("4", "how a dial ends that asked for a start that was linked is evidence", "contacts",
        "contact is None or contact.former is not None or", "contact is None or"),
    one("10", "a dial that asks for the first meets it anew", "membership",
        "old.name, former=old.incarnation", "old.name"),
    one("10", "another start where the first listened waits for it", "membership",
        "old.leaving or self.contacts.checks(new.id, old.incarnation)", "old.leaving"),
    one("10", "whoever answers a dial proves the end of the first", "contacts",
        "contact is not None and contact.former == incarnation", "contact is not None"),
    one("3", "that another start is there is a sign of the first", "membership",
        "Lost.ENDED if old.leaving else Lost.ANEW", "Lost.ENDED"),
    one("4", "that another start is there does not prove the end of the first", "membership",
        "if how is Lost.ANEW:", "if False:"),
    one("4", "a dial under way when a link is lost holds up others", "contacts",
        "contact.dial, contact.aside = None, {}", "pass"),
    one("4", "one that nobody waits for puts off the next", "contact",
        "return link == self.dial or link in self.aside", "return True"),
    one("11", "a beacon's hint is passed on", "membership",
        "link = self.links.get(beacon.name)\n",
        "link = self.links.get(beacon.name)\n        if link and link.hello:\n"
        "            link.hello = link.hello._replace(addresses=(source,))\n"),
    one("11", "whom one knows the others do not get to know", "membership",
        "self.contacts.told(member.name, address, self.listed(member.name), now_ms)", "pass"),
    one("11", "a member's word does not end a back-off", "contacts",
        "if contact.backoff_ms:", "if False:"),
    one("11", "each new member is told at once", "hellos",
        "calm = not busy and now_ms >= self._calm_ms", "calm = not busy"),
    one("11", "all members are told again and again", "hellos",
        "if m not in to.told)", "if m)"),
    one("11", "a member that returns in one turn is not told anew", "hellos",
        "link.told -= left", "pass"),
    one("11", "members that wait are never told", "hellos",
        "if waits else None", "if False else None"),
    one("L5", "a new link is news to all", "speech",
        "for link in to:", "for link in links:"),
    one("L5", "who has a new link waits for the tick", "speech",
        "[k for k in links if news or k.id not in self._greeted or k.name in probed]",
        "list(links) if news else []"),
    one("0017", "silence is judged where words wait to be read", "events",
        "if self.busy:", "if False:"),
    one("0017", "silence is judged as of now where only what came before was read", "events",
        "min(self.due_ms, now_ms)", "now_ms"),
    one("0017", "whoever has something to hear judges silence", "membership",
        "self._end_silent(read_ms, now_ms)", "pass\n        self._end_silent(now_ms, now_ms)"),
    one("0017", "new members are told in the midst of a turn", "hellos",
        "not busy and now_ms >= self._calm_ms", "now_ms >= self._calm_ms"),
    one("0015", "who says anew who it is is passed over", "node",
        "not (known and self._is_idle(now_ms))", "not self._is_idle(now_ms)"),
    # 0015: what repeats the Status before is worth no look at the peers.
    one("0015", "any Status is passed over while all is well", "node",
        "not (repeats and self._is_quiet(now_ms))", "not self._is_quiet(now_ms)"),
    one("0015", "a placement that binds no more is passed over", "node",
        "not slow and binding == self._placements.binding", "not slow"),
    one("7", "that a peer answers in time again is no news", "node",
        "link.repeats and not slow and", "link.repeats and"),
    one("7", "votes that come too late count for a majority", "snapshot",
        "here = len(links) - slow", "here = len(links)"),
    one("7", "one late echo makes a link slow", "link",
        "self.slow = self.late and was_late", "self.slow = self.late"),
    one("7", "each tick begins to time an echo anew", "link",
        "if self.asked_tick == 0:", "if True:"),
    one("7", "an echo of an earlier tick is taken for that of the timed one", "link",
        "if not 0 < self.asked_tick <= echo:", "if self.asked_tick == 0:"),
    one("0015", "what is due waits for news", "node",
        " or now_ms >= self._deadline_ms", ""),
    one("0015", "it is passed over while the look goes on", "node",
        "bool(self._out) or self._look.goes_on or", "bool(self._out) or"),
    one("0015", "a vote is passed over", "node",
        "self._lease is not None and self._lease.claim != 0", "False"),
    one("0015", "an action that was taken waits for news", "node",
        "bool(self._out) or self._look.goes_on or", "self._look.goes_on or"),
    one("0015", "the end of a link is passed over", "node",
        "self._has_news = known or", "self._has_news ="),
    one("0015", "whom to dial is not looked at when it changed", "contacts",
        "return self._changed or (", "return ("),
    one("0015", "a dial that is due waits for a change", "contacts",
        "return self._changed or (self._due_ms is not None and now_ms >= self._due_ms)",
        "return self._changed"),
    one("0015", "a tick does not go out with a peer's", "speech",
        "self._rests and not early and", "self._rests and"),
    one("0015", "it is passed over in a vacancy", "view",
        "return owned and status", "return status"),
    one("0015", "it is passed over in the midst of a move", "view",
        "return owned and status.starting is None and status.naming is None", "return owned"),
    one("0015", "a word of an ownership's end is passed over", "speech",
        " and self._ends == self._own.records.ends()", ""),
)  # fmt: skip


def plant(mutant: Mutant, tree: Path) -> None:
    """Put the bug into a tree. Raises ValueError when a text is not there, or more than once."""
    for module, old, new in mutant.edits:
        path = tree / "chucky" / "core" / f"{module}.py"
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{mutant.name}: {text.count(old)} times in {path.name}: {old}")
        path.write_text(text.replace(old, new))


def caught_by(mutant: Mutant) -> str | None:
    """Return what catches it, or None when it survives, or a check that must fire does not."""
    with tempfile.TemporaryDirectory(prefix="chucky-mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            TREE,
            tree,
            ignore=shutil.ignore_patterns(".*", "__pycache__", "*.deb", "lan", "machines"),
        )
        plant(mutant, tree)
        for number, names in enumerate(STAGES):
            files = [f"tests/unit/{name}.py" for name in names]
            files += ["tests/test_scenarios.py"] if number == 1 else []
            found = _run(tree, *PYTEST, *files)
            if found is not None:
                break
        seeds = [_seed(tree, check) for check in mutant.checks or ("",) * (found is None)]
    if None in seeds:
        return None
    return ", ".join([failed_in(found)] * (found is not None) + [s for s in seeds if s])


def _seed(tree: Path, check: str) -> str | None:
    """Return the first seed that breaks, with this word if there is one."""
    many = ("--seeds", str(CHECK_SEEDS), "--until", check) if check else ("--seeds", str(SEEDS))
    found = _run(tree, "tests.sim.run", *many, "--jobs", "1")
    seed = re.search(rf"^seed (\d+: {check}[^:\n]*)", found or "", re.MULTILINE)
    hangs = found == TOO_LONG and not check  # a check that must fire has to
    return f"seed {seed.group(1)}" if seed else TOO_LONG if hangs else None


def failed_in(printed: str) -> str:
    """Return the test that failed, or hung, by what pytest printed."""
    failed = re.search(r"^(?:FAILED|ERROR) ([^\s[]+)", printed, re.MULTILINE)
    if failed:
        return failed.group(1)
    hung = re.search(r"(tests/[\w/]+\.py)\", line \d+ in (test_\w+)", printed)
    return f"{hung.group(1)}::{hung.group(2)}, which hangs" if hung else TOO_LONG


def _run(tree: Path, *module: str) -> str | None:
    """Return what a run that failed printed; None when it passed."""
    command = [sys.executable, "-m", *module]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "REWRITE": ""}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return TOO_LONG
    return done.stdout + done.stderr if done.returncode else None


def main() -> int:
    """Plant each, or those whose rule or name has these words; return 1 when one survives."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.mutants")
    parser.add_argument("words", nargs="?", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if arguments.words in f"{m.rule} {m.name}"]
    began, caught = time.monotonic(), 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, by in zip(chosen, pool.map(caught_by, chosen), strict=True):
            caught += by is not None
            print(f"{mutant.rule:>3}  {mutant.name}: {by or 'SURVIVED'}", flush=True)
    took_s = time.monotonic() - began
    print(f"{caught} of {len(chosen)} caught, {len(chosen) - caught} survived, {took_s:.0f} s")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
