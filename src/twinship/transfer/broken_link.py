"""A link that broke is tried again, a few times and after growing waits; each time it is said.

QEMU's mirror keeps no account of what has arrived that would outlive it: what was on its way goes
once more from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twinship.model.errors import Cancelled, HostUnreachable, TwinshipError
from twinship.operations.job import Job

T = TypeVar("T")

_BROKEN = (
    "Connection reset by peer",
    "Connection timed out",
    "Connection refused",
    "Broken pipe",
    "No route to host",
    "Network is unreachable",
    "Host is unreachable",
    "unable to connect to server",
    "Unable to write to socket",
    "Unable to read from socket",
    # What a mirror says of its connection that ended; of a disk's read error as well.
    "Input/output error",
)
_NOT_THE_LINK = ("closed the monitor", "No space left")


def link_broke(error: TwinshipError) -> bool:
    """Whether an error may be the link's: not a cancel, a full disk, or a QEMU that died."""
    if isinstance(error, Cancelled):
        return False
    if isinstance(error, HostUnreachable) or error.code == "STALLED":
        return True
    if error.code != "HYPERVISOR" or any(words in error.cause for words in _NOT_THE_LINK):
        return False
    return any(words in error.cause for words in _BROKEN)


def once_it_moved(job: Job) -> Callable[[TwinshipError], bool]:
    """Whether an error may be the link's, of work that had moved bytes before it.

    A way over which no byte ever went is none: an address that is wrong, a port that is closed.
    """
    moved = False

    def broke(error: TwinshipError) -> bool:
        nonlocal moved
        moved = moved or bool(job.progress.current.percent)
        return moved and link_broke(error)

    return broke


def until_it_holds(
    job: Job,
    phase: str,
    attempt: Callable[[], T],
    *,
    before_next: Callable[[], None],
    waits_s: Sequence[float],
    worth_it: Callable[[TwinshipError], bool] = link_broke,
) -> T:
    """Does the work, again when the link broke, with these waits between; what it returns.

    ``before_next`` takes back what a broken attempt left; while a host cannot be seen it raises,
    which is one try more. ``worth_it`` says which error is tried again. Raises what the last
    attempt raised, or at once what is not worth it.
    """
    tries = 0
    while True:
        try:
            if tries:
                before_next()
                job.progress.phase(f"the link broke: trying again ({tries} of {len(waits_s)})")
            return attempt()
        except TwinshipError as error:
            if tries >= len(waits_s) or not worth_it(error):
                raise
            wait_s = waits_s[tries]
            tries += 1
            why = error.cause or error.message
            job.record("trying_again", phase, {"try": tries, "wait_s": wait_s, "why": why})
            job.progress.phase(f"the link broke ({why}): trying again in {wait_s:g} s")
        job.clock.wait(wait_s, job.wake)
        job.raise_if_cancelled()
