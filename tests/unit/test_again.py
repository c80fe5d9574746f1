"""A copy whose link breaks is begun again, not for ever, and only if it had begun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.fakes import FakeClock
from twinship.model.errors import Cancelled, HostUnreachable, TwinshipError
from twinship.operations.job import Job
from twinship.operations.progress import Reporter
from twinship.transfer.again import TRIES, copied_again


@dataclass
class FakeJob:
    """As much of a job as a copy looks at."""

    clock: FakeClock = field(default_factory=FakeClock)
    wake: threading.Event = field(default_factory=threading.Event)
    notes: list[Mapping[str, Any]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = Reporter(self.clock, lambda p: self.phases.append(p.phase), None)

    def note(self, _phase: str, data: Mapping[str, Any]) -> None:
        self.notes.append(data)

    def raise_if_cancelled(self) -> None:
        if self.wake.is_set():
            raise Cancelled("cancelled")


def run(
    job: FakeJob, endings: list[str], clear: Callable[[], None] = lambda: None, *, moved: int = 1
) -> int:
    """Attempts that end with these codes in turn, the empty one well."""

    def copy() -> None:
        job.progress.bytes(moved, 10)
        if code := endings.pop(0):
            raise TwinshipError("it broke", code=code, cause="the wire")

    return copied_again(cast(Job, job), copy, clear, patience_s=10)


def test_a_link_that_breaks_twice_is_taken_up_twice_and_said() -> None:
    job = FakeJob()

    assert run(job, ["STALLED", "HYPERVISOR", ""]) == 2
    assert [note["restarts"] for note in job.notes] == [1, 2]
    assert "the link broke, copying again (1 of 3): the wire" in job.phases


def test_it_is_not_begun_for_ever() -> None:
    endings = ["STALLED"] * 9

    with pytest.raises(TwinshipError, match="it broke"):
        run(FakeJob(), endings)
    assert len(endings) == 9 - TRIES


@pytest.mark.parametrize(("code", "moved"), [("STORAGE_FULL", 1), ("CANCELLED", 1), ("STALLED", 0)])
def test_what_is_no_broken_link_is_not_tried_again(code: str, moved: int) -> None:
    endings = [code, ""]

    with pytest.raises(TwinshipError):
        run(FakeJob(), endings, moved=moved)
    assert endings == [""]


def test_a_host_that_comes_back_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    job, back_at = FakeJob(), 5.0

    def clear() -> None:
        if job.clock.monotonic() < back_at:
            raise HostUnreachable("kvm02 does not answer")

    assert run(job, ["HOST_UNREACHABLE", ""], clear) == 1
    back_at = 99.0
    with pytest.raises(TwinshipError, match="it broke"):
        run(job, ["HOST_UNREACHABLE", ""], clear)


def test_a_cancel_ends_the_waiting() -> None:
    job = FakeJob()

    def clear() -> None:
        job.wake.set()
        raise HostUnreachable("kvm02 does not answer")

    with pytest.raises(Cancelled):
        run(job, ["STALLED", ""], clear)
