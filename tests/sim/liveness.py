"""The L-promises of the design (section 4), one function each, over what was measured.

Each returns a sentence when the promise is broken, else None. Times are true microseconds;
`slack_us` is what the drawn network and timers add: the link delay of the frames it takes, the
lateness of timers, and 1 % of what a node's own clock measures.
"""

from chucky.names import NodeName
from chucky.settings import Settings

RATE = 1.01  # a clock may be 1 % slow


def _within(promise: str, took_us: int | None, bound_us: int, what: str) -> str | None:
    if took_us is None or took_us > bound_us:
        took = "never" if took_us is None else f"after {took_us} us"
        return f"{promise}: {what} {took}, the bound is {bound_us} us"
    return None


def failover_us(settings: Settings, silent: bool) -> int:
    """Return the bound of L1 without slack; `timeout` must not be inf."""
    d = settings.distributed
    assert d.timeout_ms is not None
    wait_ms = float(max(d.timeout_ms, settings.tick_time_ms) if silent else d.timeout_ms)
    if d.quorum == "majority":
        wait_ms += 0.03 * d.timeout_ms
    return int((wait_ms * RATE + 100) * 1000)


def l1_failover(
    settings: Settings, silent: bool, others_silent: int, took_us: int | None, slack_us: int
) -> str | None:
    """L1: "From the owner's death, however it died, to the first fact from the next node: at most
    timeout + 100 ms for process death, max(timeout, tick time) + 100 ms for silence (power, cable,
    frozen); each further node that falls silent meanwhile adds at most a tick time; majority adds
    3 % of timeout." """
    bound_us = failover_us(settings, silent) + others_silent * settings.tick_time_ms * 1000
    return _within("L1", took_us, bound_us + slack_us, "the next node served")


def l2_return(
    took_us: int | None, owner: NodeName, who: NodeName | None, slack_us: int
) -> str | None:
    """L2: "An owner that was lost and is back within the timeout gets the application back at once,
    without a failover": after its look around of 200 ms, within the 500 ms of L3 and L5."""
    if who is not None and who != owner:
        return f"L2: {who} got it, {owner} was back within the timeout"
    return _within("L2", took_us, 500_000 + slack_us, f"{owner} served again")


def lease_us(settings: Settings) -> int:
    """Return for how long a backer is bound, and a node that has just started backs nobody."""
    assert settings.distributed.timeout_ms is not None
    return int(settings.distributed.timeout_ms * RATE * 1000)


def l2_after_one_lease(settings: Settings, took_us: int | None, slack_us: int) -> str | None:
    """L2: "(under majority, when too few backers stayed up, after one lease)". The same for whoever
    serves then: rule 7 says that "one that has just started backs nobody for one timeout", and
    from then on it is as any start. `took_us`: from when enough of them were started."""
    return _within("L2", took_us, lease_us(settings) + 500_000 + slack_us, "the application ran")


def s2_the_rest_stops(settings: Settings, took_us: int | None) -> str | None:
    """Rule 7: "the owner serves until 0.97 timeout after the send of the tick that was echoed". To
    be called with how long an owner still served that no majority could hear any more."""
    bound_us = lease_us(settings) * 97 // 100 + 2_000
    return _within("S2", took_us, bound_us, "the owner that a minority hears stopped")


def l3_takeover(settings: Settings, took_us: int | None, slack_us: int) -> str | None:
    """L3: "From a better node's return to its first fact: 500 ms after it is synced (plus
    takeover_delay)." """
    delay_us = int(settings.distributed.takeover_delay_ms * RATE * 1000)
    return _within("L3", took_us, 500_000 + delay_us + slack_us, "the better node served")


def l4_planned_stop(took_us: int | None, slack_us: int) -> str | None:
    """L4: "A planned stop of the owner moves the application with no failed request on any other
    node and without waiting for the timeout": as long as L3 gives a move. The requests are watched
    by requests.l6_answered."""
    return _within("L4", took_us, 500_000 + slack_us, "another node served")


def asked_for(took_us: int | None, done: bool, moved: bool, slack_us: int) -> str | None:
    """0008: what an administrator asks for in a calm cluster is so within what L3 gives a move, and
    the answer says that it is."""
    if took_us is not None and not (done and moved):
        return f"0008: the answer is {done}, it is {moved}"
    return _within("0008", took_us, 500_000 + slack_us, "the application was where it is wanted")


def placed_stays(where: NodeName, serving: list[NodeName]) -> str | None:
    """0008: the application stays where an administrator put it, when nothing else happens."""
    return None if serving == [where] else f"0008: {where} was to keep it, and {serving} serves"


def l5_one_owner(serving: list[NodeName], best: NodeName | None) -> str | None:
    """L5: "500 ms after frames pass both ways again: one owner, the best-standing." To be called
    then, where an owner ran on some side; `best` of those that ran, None where nothing orders them
    for certain."""
    if len(serving) != 1 or best not in (None, serving[0]):
        return f"L5: {', '.join(map(str, serving)) or 'nobody'} serves, {best} stands best"
    return None


def l5_somebody_serves(settings: Settings, took_us: int | None, slack_us: int) -> str | None:
    """L5 and L7: "No single failure, of whatever kind, leaves the application without an owner
    while a listed node is able to run it": 500 ms after all is well, where no node stands aside,
    the longest wait of any is that of L1. `took_us`: from those 500 ms on."""
    bound_us = failover_us(settings, True) + slack_us
    return _within("L5", took_us, bound_us, "all is well, and somebody served")


def l5_a_move_ends(took_us: int | None, slack_us: int) -> str | None:
    """L5 where, after those 500 ms, a move is under way: it takes as long as L3 gives it."""
    return _within("L5", took_us, 500_000 + slack_us, "the move that was under way ended")


def rule5_a_stop_ends(took_us: int, slack_us: int) -> str | None:
    """Rule 5: "A stopping owner stays until the successor says it serves, at most 5 s". To be
    called while it runs, with how long ago it was asked to stop."""
    if took_us > int(5_000_000 * RATE) + slack_us:
        return f"rule 5: it was asked to stop {took_us} us ago, and runs"
    return None


def nothing_moves(before: list[str], after: list[str]) -> str | None:
    """All is at rest, and nobody asks for anything: who serves, and the epoch, stay."""
    return None if before == after else f"rest: {before} served, now {after}"


def few_words(messages: float, ticks: float) -> str | None:
    """At rest a node says its ticks, and hardly more: news ends. `messages`: on one link, in so
    many ticks."""
    if messages > 2 * ticks:
        return f"rest: {messages:.0f} messages on a link in {ticks:.0f} ticks"
    return None


def l7_failed_application(
    settings: Settings, started_us: int | None, back_us: int | None, slack_us: int
) -> str | None:
    """L7: "An application that fails on a live owner, or cannot start there, is failed over like a
    dead node; the node that failed stands aside for a growing back-off." `started_us`: until
    another node served; `back_us`: until the one that failed served again, if it did."""
    if back_us is not None and back_us < 1_000_000 / RATE - 2_000:
        return f"L7: the node that failed served again after {back_us} us"
    if settings.distributed.timeout_ms is None:
        return None
    bound_us = failover_us(settings, False) + slack_us
    took_us = started_us if back_us is None else back_us
    # Where nobody else is able, or the back-off is over first, the one that failed goes on itself.
    return _within("L7", took_us, max(bound_us, back_us or 0), "the application ran again")


def l_in_the_end(serving: list[NodeName], best: set[NodeName] | None) -> str | None:
    """L7: "No single failure, of whatever kind, leaves the application without an owner while a
    listed node is able to run it", and L3, L5: when all is well and every wait is over, one node
    serves, of those in the best tier (None: takeovers are off, any will do)."""
    if len(serving) != 1 or (best is not None and serving[0] not in best):
        who = ", ".join(map(str, serving)) or "nobody"
        return f"L7: all is well, and {who} serves; it should be {best or 'one'}"
    return None


def l8_answers(deadline_ms: int | None, exited: bool, sentence: str) -> str | None:
    """L8: "No wait is without a deadline, and the node answers `chucky status` in every phase." """
    if not sentence or (deadline_ms is None) != exited:
        return f"L8: the deadline is {deadline_ms}, status is {sentence!r}, exited: {exited}"
    return None
