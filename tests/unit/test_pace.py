"""How many copies are made at a time, by what they bring."""

from __future__ import annotations

from collections.abc import Callable

from twinship.clone.pace import LOOK_S, Pace


def after(rate_of: Callable[[int], float], *, most: int = 4, seconds: int = 60) -> int:
    """How many work in the end, where so many bring that rate in all."""
    pace, moved, now = Pace(most, copies=True), 0.0, 0.0
    for _ in range(seconds * 5):
        now += 0.2
        moved += rate_of(pace.at_once) * 0.2
        pace.saw(now, int(moved), pace.at_once)
    return pace.at_once


def test_one_disk_that_is_busy_gets_one_copy_at_a_time() -> None:
    assert after(lambda _: 500e6) == 1
    assert after(lambda working: 500e6 / working) == 1


def test_storage_that_gains_gets_as_many_as_it_gains_by() -> None:
    assert after(lambda working: 100e6 * working) == 4
    assert after(lambda working: min(working, 2) * 100e6) == 2


def test_what_is_instant_is_not_held_back() -> None:
    assert Pace(4, copies=False).at_once == 4


def test_a_rate_is_not_taken_while_fewer_work() -> None:
    pace = Pace(4, copies=True)
    for second in range(10):
        pace.saw(float(second), 100 * second, working=0)
    assert pace.at_once == 1


def test_a_moment_is_no_measure() -> None:
    pace = Pace(4, copies=True)
    pace.saw(0.0, 0, 1)
    pace.saw(LOOK_S / 2, 10**9, 1)
    assert pace.at_once == 1
    pace.saw(LOOK_S, 2 * 10**9, 1)
    assert pace.at_once == 2
