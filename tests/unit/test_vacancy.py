"""Records: everyone counts from the same sign of life, however the reports come in."""

import itertools

import pytest

from chucky.core.vacancy import MAX_AGE_MS, MAX_RECORDS, Record, Records
from chucky.messages import End, Epoch, Naming, Sign
from tests.unit.cluster import name

A, B, C = map(name, "abc")
E1 = Epoch(1, A)


def sign(tick: int, end: End, age_ms: int, epoch: Epoch = E1) -> Sign:
    return Sign(epoch, 7, tick, end, age_ms)


def only(records: Records) -> Record:
    (record,) = records
    return record


def test_a_tick_in_which_it_runs_renews_it_and_an_old_one_does_not() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.running(E1, 7, 6, 1250)
    records.running(E1, 7, 6, 1300)
    records.running(E1, 7, 4, 1400)
    assert (only(records).tick, only(records).heard_ms) == (6, 1250)


@pytest.mark.parametrize("dead", [False, True])
def test_reports_give_the_same_record_in_every_order(dead: bool) -> None:
    """The age is that of the highest tick; its end counts more; the older report of one wins. A
    proof of death counts with the highest tick only."""
    reports = [
        sign(5, End.RUNNING, 900),
        sign(5, End.ENDED, 900)._replace(dead=True),
        sign(6, End.RUNNING, 500)._replace(dead=dead),
        sign(6, End.ENDED, 300),
        sign(6, End.ENDED, 310),
    ]
    for order in itertools.permutations(reports):
        records = Records()
        for report in order:
            records.merge(report, 10_000)
        assert only(records) == Record(E1, 7, 6, End.ENDED, 9690, dead=dead)


def test_two_that_tell_each_other_never_make_it_younger() -> None:
    one, other = Records(), Records()
    one.running(E1, 7, 5, 1000)
    for now_ms in range(1010, 6000, 10):
        for told in one.signs(now_ms):
            other.merge(told, now_ms + 3)
        for told in other.signs(now_ms):
            one.merge(told, now_ms + 3)
    assert only(one).heard_ms == 1000 and 1000 <= only(other).heard_ms <= 1004


def test_the_end_of_the_link_is_its_last_tick_and_counts_once() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.ended(E1, 7, 1100)
    records.ended(E1, 7, 2000)
    assert (only(records).end, only(records).heard_ms) == (End.ENDED, 1100)
    records.running(E1, 7, 6, 3000)  # it was only the link
    assert (only(records).end, only(records).heard_ms) == (End.RUNNING, 3000)


def test_a_proof_of_death_is_of_one_incarnation_and_travels_with_its_sign() -> None:
    knows, is_told = Records(), Records()
    knows.running(E1, 7, 5, 1000)
    knows.ended(E1, 7, 1100)
    is_told.merge(sign(5, End.ENDED, 50), 1150)
    knows.died(A, 6)
    knows.died(B, 7)
    assert not only(knows).dead
    knows.died(A, 7)
    (told,) = knows.signs(1200)
    is_told.merge(told, 1201)
    fresh = Records()
    fresh.merge(told, 1201)
    assert told.dead and only(is_told).dead and only(fresh).dead
    is_told.merge(sign(5, End.ENDED, 60), 1210)  # from one who has not proven it
    assert only(is_told).dead


def test_a_later_sign_of_life_outweighs_a_proof_of_death() -> None:
    records = Records()
    records.merge(sign(5, End.ENDED, 0)._replace(dead=True), 1000)
    records.merge(sign(6, End.RUNNING, 0), 1001)
    assert not only(records).dead
    records.merge(sign(5, End.ENDED, 0)._replace(dead=True), 1002)
    assert not only(records).dead
    records.merge(sign(6, End.RUNNING, 0)._replace(dead=True), 1003)
    assert only(records).dead
    records.running(E1, 7, 7, 1004)
    assert not only(records).dead


def test_what_was_named_or_released_runs_no_more() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.named(Naming(E1, B, 8, 44))
    assert (only(records).end, only(records).successor) == (End.NAMED, B)
    records.running(E1, 7, 6, 2000)
    assert (only(records).end, only(records).heard_ms) == (End.NAMED, 1000)
    records.released(E1, 7)
    records.merge(sign(9, End.NAMED, 0), 3000)
    assert only(records).end is End.RELEASED


def test_a_report_of_the_end_outweighs_a_higher_tick() -> None:
    records = Records()
    records.running(E1, 7, 9, 1000)
    records.merge(Sign(E1, 7, 5, End.NAMED, 0, B, 8), 2000)
    assert (only(records).end, only(records).successor_incarnation) == (End.NAMED, 8)


@pytest.mark.parametrize("stopped", [False, True])
def test_an_owner_that_begins_the_same_epoch_again_lives_anew(stopped: bool) -> None:
    """It heard of nobody at its new start: its ticks count from 1 again."""
    records = Records()
    records.running(E1, 7, 50, 1000)
    if stopped:
        records.released(E1, 7)
    records.running(E1, 8, 5, 3000)
    assert only(records) == Record(E1, 8, 5, End.RUNNING, 3000)


@pytest.mark.parametrize("end", [End.RUNNING, End.ENDED, End.RELEASED])
def test_of_two_starts_with_one_epoch_the_report_of_the_later_counts(end: End) -> None:
    reports = [sign(50, end, 3000), sign(5, End.RUNNING, 1000)._replace(incarnation=8)]
    for order in itertools.permutations(reports):
        records = Records()
        for report in (*order, *order):
            records.merge(report, 10_000)
        assert only(records) == Record(E1, 8, 5, End.RUNNING, 9000)


def test_two_that_hold_one_start_each_agree_on_the_later() -> None:
    one, other, now_ms = Records(), Records(), 1002
    one.running(E1, 7, 50, 1000)
    other.running(E1, 8, 5, 999)
    for _ in range(20):  # what they tell each other crosses
        told = one.signs(now_ms), other.signs(now_ms)
        now_ms += 3
        for records, signs in ((other, told[0]), (one, told[1])):
            for heard in signs:
                records.merge(heard, now_ms)
    assert only(one).incarnation == only(other).incarnation == 8
    assert only(other).heard_ms == 999 and 999 <= only(one).heard_ms <= 1003


def test_late_words_of_a_former_start_end_nothing() -> None:
    records = Records()
    records.running(E1, 7, 50, 1000)
    records.running(E1, 8, 5, 2000)
    records.released(E1, 7)
    records.ended(E1, 7, 2001)
    assert only(records) == Record(E1, 8, 5, End.RUNNING, 2000)


def test_a_new_epoch_of_an_owner_ends_its_former_one() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.running(Epoch(3, A), 7, 6, 1100)
    assert only(records).epoch == Epoch(3, A)


def test_one_that_was_succeeded_is_no_news() -> None:
    records = Records()
    records.running(Epoch(2, B), 8, 5, 1000)
    records.merge(sign(9, End.ENDED, 0), 1100)
    assert only(records).epoch == Epoch(2, B)


def test_succession_forgets_what_was_lost_and_remembers_what_was_stopped() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.running(Epoch(2, B), 8, 5, 1000)
    records.named(Naming(Epoch(2, B), C, 9, 44))
    records.succeed(())
    assert len(list(records)) == 2
    records.running(Epoch(3, C), 9, 5, 1000)
    records.succeed({Epoch(3, C)})
    assert [(r.epoch.number, r.end) for r in records] == [(2, End.RELEASED), (3, End.RUNNING)]


def test_an_older_one_that_runs_as_well_is_kept() -> None:
    records = Records()
    records.running(E1, 7, 5, 1000)
    records.running(Epoch(2, B), 8, 5, 1000)
    records.succeed({E1, Epoch(2, B)})
    assert len(list(records)) == 2


def test_they_are_few_and_what_stopped_goes_first() -> None:
    records = Records()
    for number in range(1, MAX_RECORDS + 1):
        records.running(Epoch(number, name(f"n{number}")), 7, 5, 1000)
    records.released(Epoch(4, name("n4")), 7)
    records.running(Epoch(99, A), 7, 5, 1000)
    assert [r.epoch.number for r in records] == [1, 2, 3, 5, 6, 7, 8, 99]
    records.running(Epoch(100, B), 7, 5, 1000)
    assert [r.epoch.number for r in records] == [2, 3, 5, 6, 7, 8, 99, 100]


def test_what_runs_here_can_be_told_whatever_others_report() -> None:
    records = Records()
    for number in range(10, 30):
        records.merge(sign(1, End.ENDED, 0, Epoch(number, name(f"n{number}"))), 1000)
    records.runs_here(Epoch(2, B), 8, 5, 1000)  # far below all of them
    assert len(list(records)) <= MAX_RECORDS


@pytest.mark.parametrize("age_ms", [0, 5, 2**64 - 1])
def test_ages_that_are_told_stay_numbers_that_can_be_told(age_ms: int) -> None:
    records = Records()
    records.merge(sign(1, End.RUNNING, age_ms), 1000)
    (told,) = records.signs(2000)
    assert told.age_ms == min(age_ms, MAX_AGE_MS) + 999


def test_reports_that_go_to_and_fro_do_not_make_a_sign_older() -> None:
    """Two clocks half a ms apart, both read in whole ms, and a link of a tenth."""
    ours, theirs = Records(), Records()
    ours.running(E1, 10, 7, 1000)
    theirs.running(E1, 10, 7, 1000)
    for round_ in range(200):
        sent_us = 1_001_450 + round_ * 10_700
        for said, read, ahead_us in ((ours, theirs, 500), (theirs, ours, 0)):
            at_us = sent_us + (500 - ahead_us)
            read_at_ms = (at_us + 100 + ahead_us) // 1000
            for sign in said.signs((at_us + 500 - ahead_us) // 1000):
                read.merge(sign, read_at_ms)
    assert min(r.heard_ms for records in (ours, theirs) for r in records) >= 999
