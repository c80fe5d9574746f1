"""A link that broke is tried again a bounded number of times; nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.fakes import FakeClock
from twinship.model.errors import Cancelled, HostUnreachable, HypervisorError, TwinshipError
from twinship.operations.job import Job
from twinship.operations.progress import Reporter
from twinship.transfer.broken_link import link_broke, once_it_moved, until_it_holds

WAITS = (1.0, 2.0, 4.0)
RESET = HypervisorError("cannot move", cause="Unable to write to socket: Connection reset by peer")


class FakeJob:
    """As much of an operation as trying again needs."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wake = threading.Event()
        self.lines: list[tuple[str, str, Any]] = []
        self.phases: list[str] = []
        self.stop = False

    @property
    def progress(self) -> FakeJob:
        return self

    def phase(self, title: str) -> None:
        self.phases.append(title)

    def record(self, kind: str, phase: str, data: Any) -> None:
        self.lines.append((kind, phase, data))

    def raise_if_cancelled(self) -> None:
        if self.stop:
            raise Cancelled("cancelled")


def run(
    job: FakeJob,
    troubles: list[TwinshipError],
    clear: Callable[[], None] = lambda: None,
    worth_it: Callable[[TwinshipError], bool] = link_broke,
) -> tuple[str, list[str]]:
    """Tries work that meets these errors, one an attempt; what it came to and what was done."""
    deeds: list[str] = []

    def attempt() -> str:
        deeds.append("attempt")
        if troubles:
            raise troubles.pop(0)
        return "done"

    def tidy() -> None:
        deeds.append("tidy")
        clear()

    done = until_it_holds(
        cast("Job", job), "carry", attempt, before_next=tidy, waits_s=WAITS, worth_it=worth_it
    )
    return done, deeds


def test_a_broken_link_is_tried_again_and_each_time_it_is_said() -> None:
    job = FakeJob()

    done, deeds = run(job, [RESET, RESET])

    assert done == "done"
    assert deeds == ["attempt", "tidy", "attempt", "tidy", "attempt"]
    assert job.clock.waits == [1.0, 2.0]
    assert [line[:2] for line in job.lines] == [("trying_again", "carry")] * 2
    assert any("trying again in 2 s" in phase for phase in job.phases)


def test_it_ends_with_the_last_error_when_the_link_stays_away() -> None:
    job = FakeJob()

    with pytest.raises(HypervisorError):
        run(job, [RESET] * 4)

    assert job.clock.waits == list(WAITS)


def test_a_host_that_comes_back_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    job, back_at = FakeJob(), 2.0

    def clear() -> None:
        if job.clock.monotonic() < back_at:
            raise HostUnreachable("kvm02 does not answer")

    assert run(job, [RESET], clear)[1] == ["attempt", "tidy", "tidy", "attempt"]
    back_at = 99.0
    with pytest.raises(HostUnreachable):
        run(job, [RESET], clear)


def test_what_the_caller_finds_not_worth_it_is_not_tried_again() -> None:
    job = FakeJob()

    with pytest.raises(HypervisorError):
        run(job, [RESET], worth_it=lambda _error: False)

    assert job.clock.waits == []


def test_work_that_never_moved_a_byte_is_not_tried_again_and_once_it_has_it_is() -> None:
    progress = Reporter(FakeClock(), lambda _progress: None, None)
    broke = once_it_moved(cast("Job", SimpleNamespace(progress=progress)))

    assert broke(RESET) is False
    progress.bytes(1, 10)
    assert broke(RESET) is True
    progress.phase("trying again")
    assert broke(RESET) is True
    assert broke(TwinshipError("full", code="STORAGE_FULL")) is False


def test_a_cancel_ends_the_waiting() -> None:
    job = FakeJob()
    job.stop = True

    with pytest.raises(Cancelled):
        run(job, [RESET])

    assert len(job.lines) == 1


@pytest.mark.parametrize(
    ("error", "broke"),
    [
        (RESET, True),
        (HostUnreachable("gone"), True),
        (TwinshipError("no byte", code="STALLED"), True),
        (HypervisorError("x", cause="migration of disk vda failed: Input/output error"), True),
        (HypervisorError("x", cause="Failed to connect to '1': No route to host"), True),
        (HypervisorError("x", cause="internal error: qemu unexpectedly closed the monitor"), False),
        (HypervisorError("x", cause="migration failed: No space left on device"), False),
        (HypervisorError("full", code="STORAGE_FULL", cause="Input/output error"), False),
        (HypervisorError("x", cause="unsupported configuration"), False),
        (TwinshipError("differs", code="COPY_DIFFERS"), False),
        (Cancelled("cancelled"), False),
    ],
)
def test_only_what_a_link_can_be_blamed_for_is_tried_again(
    error: TwinshipError, broke: bool
) -> None:
    assert link_broke(error) is broke
