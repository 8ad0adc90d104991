"""The timer: it comes when it was set to, and however often it is put off."""

import asyncio

from chucky.daemon_alarm import Alarm, clock_ms


def test_it_wakes_at_the_time_that_was_set_last() -> None:
    async def scenario() -> None:
        rung: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        alarm = Alarm(lambda: rung.set_result(clock_ms()))
        alarm.set(clock_ms() + 60_000)
        due_ms = clock_ms() + 20
        alarm.set(due_ms)
        assert await asyncio.wait_for(rung, 30) >= due_ms

    asyncio.run(scenario())


def test_it_can_be_put_off_and_stopped_before_it_is_due() -> None:
    async def scenario() -> None:
        rung: list[int] = []
        alarm, later = Alarm(lambda: rung.append(1)), Alarm(lambda: rung.append(2))
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
        alarm = Alarm(lambda: rung.append(clock_ms()))
        until_ms = clock_ms() + 2000
        while not rung and clock_ms() < until_ms:
            alarm.set(clock_ms() + 1)
            await asyncio.sleep(0)
        alarm.stop()
        assert rung

    asyncio.run(scenario())
