"""Forecasts of live moves, held against moves that were measured, and against their own logic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.migrate.forecast import DirtyCurve, Verdict, corrected, predict

MIB = 2.0**20
GIB = 2.0**30


def curve(*megabytes: float) -> DirtyCurve:
    """Of the unique megabytes dirtied in windows of 1, 2, 5, 10 and 30 s."""
    windows = [(t, mb * MIB / t) for t, mb in zip((1, 2, 5, 10, 30), megabytes, strict=True)]
    return DirtyCurve.measured(windows, GIB)


# Guests of 1 GiB, measured (libvirt 9.0, QEMU 7.2): 400 MiB swept at full speed, 400 MiB swept
# slowly, 64 MiB hot; each moved over a link of some MiB/s with some seconds of pause allowed.
A, B, C = curve(400, 406, 415, 380, 400), curve(122, 228, 395, 410, 420), curve(64, 64, 64, 64, 64)
MEASURED = [
    (A, 200, 0.3, False),
    (A, 600, 0.3, False),
    (A, 600, 1.0, True),
    (B, 100, 0.3, False),
    (B, 50, 0.3, False),
    (B, 200, 0.3, True),
    (C, 100, 0.3, False),
    (C, 300, 0.3, True),
    (C, 100, 1.0, True),
]


def test_of_nine_measured_moves_every_certain_verdict_was_right() -> None:
    certain = 0
    for guest, link, pause_s, arrived in MEASURED:
        told = predict(guest, memory_bytes=500 * MIB, link=link * MIB, pause_s=pause_s).verdict
        if told is Verdict.MAYBE:
            continue
        certain += 1
        assert (told is Verdict.WILL) is arrived, (link, pause_s)
    assert certain >= 6


def test_the_pause_that_would_do_is_told_with_a_will_not() -> None:
    told = predict(A, memory_bytes=500 * MIB, link=200 * MIB, pause_s=0.3)
    enough = predict(A, memory_bytes=500 * MIB, link=200 * MIB, pause_s=told.needs_pause_s + 0.01)

    assert told.verdict is Verdict.WILL_NOT
    assert 1.5 < told.needs_pause_s < 2.5
    assert enough.verdict is Verdict.WILL


def test_an_idle_guest_takes_as_long_as_its_memory_and_disks() -> None:
    told = predict(DirtyCurve((), GIB), memory_bytes=GIB, link=GIB, pause_s=0.3, disk_bytes=4 * GIB)

    assert told.verdict is Verdict.WILL
    assert told.seconds == pytest.approx(5.0, abs=0.1)
    assert told.bytes == pytest.approx(5 * GIB)


def test_a_limit_on_the_rate_is_the_link() -> None:
    free = predict(A, memory_bytes=GIB, link=1000 * MIB, pause_s=1.0)
    bound = predict(A, memory_bytes=GIB, link=1000 * MIB, pause_s=1.0, rate=100 * MIB)

    assert free.verdict is Verdict.WILL
    assert bound.verdict is Verdict.WILL_NOT


RATES = st.lists(
    st.tuples(st.floats(0.1, 60), st.floats(0, 1e10)), max_size=6, unique_by=lambda pair: pair[0]
)


@given(RATES, st.floats(0, 100), st.floats(0, 100))
def test_a_curve_never_falls_nor_leaves_the_memory_and_its_readings_enclose_it(
    windows: list[tuple[float, float]], one: float, other: float
) -> None:
    guest = DirtyCurve.measured(windows, GIB)
    early, late = sorted((one, other))
    for at_once in (False, True):
        assert guest.at(early, at_once=at_once) <= guest.at(late, at_once=at_once) + 1e-6
        assert 0 <= guest.at(late, at_once=at_once) <= GIB
    assert guest.at(late, at_once=False) <= guest.at(late, at_once=True) + 1e-6


@given(RATES, st.floats(1e6, 1e10), st.floats(0.01, 5), st.floats(1, 10))
def test_more_pause_or_a_faster_link_never_makes_a_move_less_likely(
    windows: list[tuple[float, float]], link: float, pause_s: float, more: float
) -> None:
    guest = DirtyCurve.measured(windows, GIB)
    worth = [Verdict.WILL_NOT, Verdict.MAYBE, Verdict.WILL].index
    told = predict(guest, memory_bytes=GIB, link=link, pause_s=pause_s)
    patient = predict(guest, memory_bytes=GIB, link=link, pause_s=pause_s * more)

    assert worth(patient.verdict) >= worth(told.verdict)
    assert told.seconds > 0
    assert told.needs_pause_s >= 0


def test_predictions_are_put_right_by_what_came_before_and_one_case_counts_half() -> None:
    assert corrected(10, []) == 10
    assert corrected(10, [(1, 4)]) == pytest.approx(20)
    assert corrected(10, [(1, 2)] * 9) == pytest.approx(10 * 2**0.9)
    assert corrected(10, [(0, 5), (5, 0)]) == 10, "what was not measured says nothing"
