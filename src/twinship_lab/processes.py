"""Processes as ``/proc`` shows them: who lives in a namespace, who is what in it.

The lab keeps no pid files of its own: a pid written down can be stale, a
process found in the lab's network namespace is the lab's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its pid here and in its innermost PID namespace, its name and state.

    ``depth`` counts the PID namespaces between ours and its own: 1 for a host's own
    processes, more for those of a container on the host.
    """

    pid: int
    inner_pid: int
    depth: int
    name: str
    state: str

    @property
    def alive(self) -> bool:
        """Neither a zombie nor dead."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Stopped by SIGSTOP."""
        return self.state == "T"


def network_namespace(pid: int | str) -> int | None:
    """The inode of a process's network namespace; None when it is gone."""
    try:
        return os.stat(_PROC / str(pid) / "ns/net").st_ino  # noqa: PTH116 (a hot loop)
    except OSError:
        return None


def living_in(namespaces: Iterable[int]) -> list[Process]:
    """All processes that are alive in any of these network namespaces (inodes)."""
    wanted = frozenset(namespaces)
    if not wanted:
        return []
    found = []
    for entry in os.listdir(_PROC):  # noqa: PTH208 (a hot loop)
        if not entry.isdigit() or network_namespace(entry) not in wanted:
            continue
        process = read_process(int(entry))
        if process is not None and process.alive:
            found.append(process)
    return found


def read_process(pid: int) -> Process | None:
    """One process, or None when it is gone."""
    try:
        status = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    pids = fields.get("NSpid", str(pid)).split()
    return Process(
        pid=pid,
        inner_pid=int(pids[-1]),
        depth=len(pids) - 1,
        name=fields.get("Name", ""),
        state=fields.get("State", "X")[:1],
    )


def command_line(pid: int) -> tuple[str, ...]:
    """A process's argument list; empty when it is gone."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in raw.split(b"\0")[:-1])


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that is gone already is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
