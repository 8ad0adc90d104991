"""The count of crashes: what counts, what ends the row, and how long a node waits."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chucky import daemon_crashes
from chucky.daemon_crashes import MEETING_MS, TOLERATED, Crashes

BEGAN_MS, TIMEOUT_MS = 1000, 5000


def life(
    path: Path,
    then: Callable[[Crashes], None] = lambda crashes: None,
    now_ms: int = BEGAN_MS,
    timeout_ms: int = TIMEOUT_MS,
) -> Crashes:
    """A process that begins to own at `now_ms`, and ends after `then`."""
    crashes = Crashes(str(path), timeout_ms, BEGAN_MS)

    async def owns() -> None:
        crashes.began(now_ms)
        then(crashes)

    asyncio.run(owns())
    return crashes


def wait_ms(path: Path, timeout_ms: int | None = TIMEOUT_MS, others_can: bool = True) -> int:
    """For how long the next one waits."""
    crashes = Crashes(str(path), timeout_ms, BEGAN_MS)
    return next(
        ms for ms in range(0, 200_000, 500) if not crashes.trouble(others_can, BEGAN_MS + ms)
    )


def test_from_the_third_in_a_row_on_it_waits_longer_each_time(tmp_path: Path) -> None:
    waits = []
    for _ in range(8):
        life(tmp_path / "crashes")
        waits.append(wait_ms(tmp_path / "crashes"))
    assert waits == [0, 0, 13_000, 21_000, 37_000, 65_000, 65_000, 65_000]


def test_where_no_other_can_it_waits_for_them_to_come_only(tmp_path: Path) -> None:
    for _ in range(6):
        life(tmp_path / "crashes")
    assert wait_ms(tmp_path / "crashes", others_can=False) == MEETING_MS
    assert wait_ms(tmp_path / "crashes", timeout_ms=None) == 0  # nobody else ever may own


def test_an_end_in_good_order_ends_the_row(tmp_path: Path) -> None:
    for _ in range(TOLERATED):
        life(tmp_path / "crashes")
    life(tmp_path / "crashes", Crashes.over)
    assert not (tmp_path / "crashes").exists()
    life(tmp_path / "crashes")
    assert wait_ms(tmp_path / "crashes") == 0


def test_who_owns_for_long_has_not_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_crashes, "PROVEN_S", 0.0)

    async def owns() -> None:
        Crashes(str(tmp_path / "crashes"), TIMEOUT_MS, BEGAN_MS).began(BEGAN_MS)
        while (tmp_path / "crashes").exists():
            await asyncio.sleep(0)

    asyncio.run(owns())


def test_a_standby_that_is_stopped_ends_the_row(tmp_path: Path) -> None:
    """Who restarts or upgrades it may have mended it."""
    for _ in range(TOLERATED + 1):
        life(tmp_path / "crashes")
    Crashes(str(tmp_path / "crashes"), TIMEOUT_MS, BEGAN_MS).over()
    assert wait_ms(tmp_path / "crashes") == 0


def test_what_has_ended_the_row_waits_no_more(tmp_path: Path) -> None:
    for _ in range(TOLERATED + 1):
        life(tmp_path / "crashes")
    alone_ms = BEGAN_MS + MEETING_MS
    waits = life(tmp_path / "crashes", Crashes.over)
    assert waits.trouble(True, alone_ms) == ""


def test_the_crashes_of_days_ago_do_not_count(tmp_path: Path) -> None:
    """Though the process that began after them has stood by ever since."""
    for _ in range(TOLERATED):
        life(tmp_path / "crashes")
    life(tmp_path / "crashes", now_ms=BEGAN_MS + daemon_crashes.FORGOTTEN_S * 1000)
    assert (tmp_path / "crashes").read_text() == "1"


def test_a_long_wait_forgets_nothing(tmp_path: Path) -> None:
    for _ in range(TOLERATED + 3):
        life(tmp_path / "crashes")
    life(tmp_path / "crashes", now_ms=BEGAN_MS + TIMEOUT_MS + 32_000, timeout_ms=300_000)
    assert (tmp_path / "crashes").read_text() == str(TOLERATED + 4)


@pytest.mark.parametrize("text", ["", "x", "-3", "9" * 100, "\0", "ä"])
def test_what_is_no_count_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "crashes").write_text(text)
    assert 0 <= wait_ms(tmp_path / "crashes") <= 65_000


@pytest.mark.parametrize("age_s", [3600, -3600])
def test_an_old_count_tells_of_another_time(tmp_path: Path, age_s: int) -> None:
    for _ in range(TOLERATED + 1):
        life(tmp_path / "crashes")
    then_s = time.time() - age_s
    os.utime(tmp_path / "crashes", (then_s, then_s))
    assert wait_ms(tmp_path / "crashes") == 0


def test_a_count_that_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "crashes")
    assert wait_ms(tmp_path / "crashes") == 0


def test_without_its_folder_it_counts_nothing(tmp_path: Path) -> None:
    life(tmp_path / "nowhere" / "crashes", Crashes.over)
