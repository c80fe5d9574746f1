"""A copy to another host is begun again when its link breaks.

QEMU's mirror keeps no account of what has arrived that would outlive it, so all of the files that
were on their way go once more.
"""

from __future__ import annotations

from collections.abc import Callable

from twinship.model.errors import TwinshipError
from twinship.operations.job import Job

TRIES = 4
POLL_S = 0.5
_BROKEN = frozenset({"STALLED", "HOST_UNREACHABLE", "HYPERVISOR"})
"""How a broken link shows. ``HYPERVISOR`` is all that libvirt has no code for: a migration that
lost its connection among it."""


def copied_again(
    job: Job, copy: Callable[[], None], clear: Callable[[], None], *, patience_s: float
) -> int:
    """Runs ``copy`` until it ends well; returns how often it had to be begun again.

    Only what broke in the middle is tried again, and no more than :data:`TRIES` times in all:
    a way over which no byte ever went is not one. ``clear`` takes away what an attempt left on both
    hosts; it raises while one of them cannot be seen, which is waited for ``patience_s``. Raises
    what ``copy`` raised last, and Cancelled.
    """
    for begun in range(1, TRIES + 1):
        try:
            copy()
        except TwinshipError as error:
            moved = begun > 1 or bool(job.progress.current.percent)
            if error.code not in _BROKEN or not moved or begun == TRIES:
                raise
            job.raise_if_cancelled()
            why = error.cause or error.message
            job.note("copy", {"restarts": begun, "why": why})
            job.progress.phase(f"the link broke, copying again ({begun} of {TRIES - 1}): {why}")
            _until_clear(job, clear, error, patience_s)
        else:
            return begun - 1
    raise AssertionError("the last try ends it")


def _until_clear(
    job: Job, clear: Callable[[], None], broken: TwinshipError, patience_s: float
) -> None:
    deadline = job.clock.monotonic() + patience_s
    while True:
        try:
            clear()
        except TwinshipError:
            if job.clock.monotonic() > deadline:
                raise broken from None
            job.clock.wait(POLL_S, job.wake)
            job.raise_if_cancelled()
        else:
            return
