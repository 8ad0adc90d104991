"""The timer: it comes when it was set to, and however often it is put off."""

import asyncio

import pytest

from chucky import daemon_alarm
from chucky.daemon_alarm import Alarm, clock_ms


def test_it_wakes_at_the_time_that_was_set_last() -> None:
    async def scenario() -> None:
        rung: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        alarm = Alarm(lambda due_ms: rung.set_result((due_ms, clock_ms())))
        alarm.set(clock_ms() + 60_000)
        due_ms = clock_ms() + 20
        alarm.set(due_ms)
        told_ms, rung_ms = await asyncio.wait_for(rung, 30)
        assert told_ms == due_ms <= rung_ms

    asyncio.run(scenario())


def test_it_can_be_put_off_and_stopped_before_it_is_due() -> None:
    async def scenario() -> None:
        rung: list[int] = []
        alarm, later = Alarm(rung.append), Alarm(rung.append)
        alarm.set(clock_ms() + 20)
        alarm.set(clock_ms() + 60_000)
        later.set(clock_ms() + 20)
        later.set(None)
        await asyncio.sleep(0.05)
        alarm.stop()
        assert rung == []

    asyncio.run(scenario())


def test_it_comes_although_each_turn_sets_it_anew() -> None:
    async def scenario() -> None:
        rung: list[int] = []
        alarm = Alarm(rung.append)
        until_ms = clock_ms() + 2000
        while not rung and clock_ms() < until_ms:
            alarm.set(clock_ms() + 1)
            await asyncio.sleep(0)
        alarm.stop()
        assert rung

    asyncio.run(scenario())


def test_after_a_sleep_of_the_machine_the_old_time_is_not_taken_for_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The clock counts time asleep, and the loop's does not.
    async def scenario() -> None:
        rung: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        alarm, before_ms = Alarm(rung.set_result), clock_ms
        alarm.set(clock_ms() + 60_000)
        monkeypatch.setattr(daemon_alarm, "clock_ms", lambda: before_ms() + 3_600_000)
        due_ms = daemon_alarm.clock_ms() + 20
        alarm.set(due_ms)
        assert await asyncio.wait_for(rung, 30) == due_ms

    asyncio.run(scenario())
