"""Progress moves one way and tells the truth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeClock
from twinship.model.operation import Progress
from twinship.operations.progress import Reporter

reports = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 200), st.integers(0, 150)),
        st.just("phase"),
    ),
    max_size=30,
)


class Watched:
    """A reporter with what it stored and showed."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stored: list[Progress] = []
        self.shown: list[Progress] = []
        self.reporter = Reporter(self.clock, self.stored.append, self.shown.append)

    def percents(self) -> list[float]:
        return [each.percent for each in self.shown if each.percent is not None]


@given(reports)
def test_percent_never_goes_back_and_100_is_kept_for_the_end(
    said: list[tuple[int, int] | str],
) -> None:
    watched = Watched()
    for report in said:
        watched.clock.advance(0.3)
        if isinstance(report, str):
            watched.reporter.phase("next")
        else:
            watched.reporter.bytes(*report)

    percents = watched.percents()
    assert percents == sorted(percents)
    assert 100.0 not in percents
    assert watched.reporter.finish().percent == 100.0
    known = [each.percent is not None for each in watched.shown]
    assert known == sorted(known)


def test_rate_and_time_left_come_from_what_happened() -> None:
    watched = Watched()
    watched.reporter.phase("copy")
    for second in range(1, 6):
        watched.clock.advance(1)
        watched.reporter.bytes(second * 100, 1000)

    assert watched.reporter.current.rate == 100
    assert watched.reporter.current.eta_s == 5.0
    assert watched.reporter.current.percent == 50.0


def test_more_bytes_than_expected_are_never_shown() -> None:
    watched = Watched()
    watched.reporter.bytes(150, 100)

    assert watched.reporter.current.bytes_done == 100
    assert watched.reporter.current.percent == 99.0


def test_many_reports_a_second_are_all_shown_but_stored_once() -> None:
    watched = Watched()
    watched.reporter.phase("copy")
    for done in range(100):
        watched.clock.advance(0.009)
        watched.reporter.bytes(done, 100)

    assert len(watched.shown) == 101
    assert len(watched.stored) == 1
    watched.clock.advance(1)
    watched.reporter.bytes(99, 100)
    assert len(watched.stored) == 2


def test_a_new_phase_forgets_the_rate_but_not_the_percent() -> None:
    watched = Watched()
    watched.clock.advance(1)
    watched.reporter.bytes(50, 100)
    watched.reporter.phase("verify")

    assert watched.reporter.current == Progress(phase="verify", percent=50.0)
