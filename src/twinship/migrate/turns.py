"""Whose memory may cross: one at a time an end of a link, small ones together.

Of all moves of this process, whichever operation they belong to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twinship.hypervisor import jobs
from twinship.hypervisor.connection import Connection
from twinship.migrate.order import fits
from twinship.operations.job import Job

ASK_EVERY_S = 0.05
HOLD = "hold"
HELD_MIB_S = 1
"""The least that libvirt can be told; a memory that is held trickles, and so counts as alive."""


@dataclass(eq=False, slots=True)
class Turn:
    """One memory's place in the queue."""

    ends: tuple[str, ...]
    memory_bytes: int


class Turns:
    """First come, first served. Threads share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._crossing: list[Turn] = []
        self._waiting: list[Turn] = []

    @contextmanager
    def queue(self, ends: tuple[str, ...], memory_bytes: int) -> Iterator[Turn]:
        """A turn that is to be asked for with :meth:`mine`, and given back at the end."""
        turn = Turn(ends, memory_bytes)
        try:
            yield turn
        finally:
            with self._lock:
                for known in (self._crossing, self._waiting):
                    if turn in known:
                        known.remove(turn)

    def mine(self, turn: Turn) -> bool:
        """Whether it may cross now; once it may, it may to its end."""
        with self._lock:
            if turn in self._crossing:
                return True
            if turn not in self._waiting:
                self._waiting.append(turn)
            before = self._waiting[: self._waiting.index(turn)]
            if any(self._meet(turn, other) for other in before):
                return False
            for end in turn.ends:
                crossing = [other.memory_bytes for other in self._crossing if end in other.ends]
                if not fits(crossing, turn.memory_bytes):
                    return False
            self._waiting.remove(turn)
            self._crossing.append(turn)
            return True

    @staticmethod
    def _meet(one: Turn, other: Turn) -> bool:
        return bool(set(one.ends) & set(other.ends))


def wait_for(job: Job, turns: Turns, turn: Turn) -> None:
    """Waits until the memory may cross. Raises :class:`twinship.model.errors.Cancelled`."""
    if turns.mine(turn):
        return
    job.progress.phase("wait until the memory of another VM is over")
    while not turns.mine(turn):
        job.raise_if_cancelled()
        job.clock.wait(ASK_EVERY_S, job.wake)
    job.progress.phase("move the VM")


class Hold:
    """Holds a memory back while that of another crosses; the disks are copied already.

    libvirt goes from disks to memory by itself and knows no stop between them; but its limit on
    the memory's rate can be changed at any time. The limit outlives a move that is given up, so
    that :func:`let_go` has to follow, in this process or in the one that settles after it.
    """

    def __init__(self, job: Job, turns: Turns, turn: Turn, source: Connection, uuid: str) -> None:
        self._job = job
        self._turns = turns
        self._turn = turn
        self._source = source
        self._uuid = uuid
        self._held = False
        self._free = False

    @property
    def free(self) -> bool:
        """Whether the memory may cross as fast as it can."""
        return self._free

    def saw(self, stats: jobs.MoveStats) -> None:
        """The newest numbers of the move: holds its memory, or lets it go."""
        if self._free or not stats.memory_processed:
            return
        if self._turns.mine(self._turn):
            self._free = True
            if self._held:
                let_go(self._job, self._source, self._uuid)
        elif not self._held:
            usual = jobs.memory_rate_mib_s(self._source, self._uuid)
            self._job.note(HOLD, {"usual_mib_s": usual})
            self._held = True
            jobs.limit_memory(self._source, self._uuid, HELD_MIB_S)


def let_go(job: Job, source: Connection, uuid: str) -> None:
    """Gives the VM the rate back that it had before its memory was held; harmless without that."""
    usual = job.notes(HOLD).get("usual_mib_s")
    if usual:
        jobs.limit_memory(source, uuid, usual)
