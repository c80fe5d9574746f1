"""Who runs an operation: a process with a lease, and what becomes of one that stands still.

An owner is ``BOOT_ID:PID:START_TICKS``, so that a later process with its number is not mistaken
for it. It renews its lease while it works. Whoever takes an operation over after the lease has
run out first ends the old owner, if it is still there: a process that was stopped (SIGSTOP, a
debugger, a terminal's Ctrl-Z) and wakes later could otherwise finish an effect it had begun. What
cannot be ended from here (another machine's) is held off by the fence that every write names.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from twinship.model.errors import UsageError
from twinship.model.operation import Operation

END_WAIT_S = 10.0


class Life(StrEnum):
    """What is known of an owner. ``LAPSED``: its process may be there, its lease is over."""

    ALIVE = "alive"
    LAPSED = "lapsed"
    GONE = "gone"


class Owners(Protocol):
    """What the engine asks about owners."""

    def now(self) -> float:
        """Seconds on the clock leases are counted by; the same for all who share the database."""

    def me(self) -> str:
        """This process as an owner."""

    def life(self, op: Operation) -> Life:
        """Whether the operation's owner still works on it."""

    def end(self, owner: str) -> None:
        """Makes sure that an owner whose lapsed lease is taken over does nothing more.

        Raises :class:`UsageError` (``OPERATION_OWNED``) for a process that is not ours to end.
        """


class Processes:
    """Owners as processes of this machine or, in a ``shared`` database, of others as well."""

    def __init__(self, now: Callable[[], float], *, shared: bool = False) -> None:
        """``now``: see :meth:`Owners.now`."""
        self.now = now
        self._shared = shared

    def me(self) -> str:
        """This process."""
        return this_process()

    def life(self, op: Operation) -> Life:
        """Another boot is another machine only where the database is shared."""
        in_time = op.lease_until > self.now()
        if not op.owner:  # left to a worker that is on its way
            return Life.ALIVE if in_time else Life.GONE
        boot, _, _ = op.owner.partition(":")
        if boot == _boot_id():
            if not alive(op.owner):
                return Life.GONE
            return Life.ALIVE if in_time else Life.LAPSED
        return Life.ALIVE if self._shared and in_time else Life.GONE

    def end(self, owner: str) -> None:
        """Kills the process and waits until it is gone."""
        if owner == this_process():
            return
        _, _, rest = owner.partition(":")
        pid = int(rest.partition(":")[0])
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if not alive(owner):
                return  # the number is another's by now
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            gone, _, _ = select.select([handle], [], [], END_WAIT_S)
        except ProcessLookupError:
            return
        except PermissionError:
            raise _still_owned(owner, "it is another user's") from None
        finally:
            os.close(handle)
        if not gone:
            raise _still_owned(owner, f"it did not end within {END_WAIT_S:g} s")


def this_process() -> str:
    """This process as an owner: ``BOOT_ID:PID:START_TICKS``."""
    return f"{_boot_id()}:{os.getpid()}:{_start_ticks(os.getpid())}"


def alive(owner: str) -> bool:
    """Whether that process is there on this machine, in this boot."""
    boot, _, rest = owner.partition(":")
    pid, _, start = rest.partition(":")
    if boot != _boot_id() or not pid.isdigit():
        return False
    return _start_ticks(int(pid)) == start


def _still_owned(owner: str, cause: str) -> UsageError:
    pid = owner.split(":")[1]
    return UsageError(
        f"process {pid} stands still with an operation that it owns",
        code="OPERATION_OWNED",
        cause=cause,
        hint=f"let it go on (kill -CONT {pid}) or end it (kill -KILL {pid})",
    )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc(5)); empty for no such process, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
