"""Who runs an operation: a process, named so that a later one with its number is not mistaken."""

from __future__ import annotations

import os
from pathlib import Path


def this_process() -> str:
    """This process as an owner: ``BOOT_ID:PID:START_TICKS``."""
    return f"{_boot_id()}:{os.getpid()}:{_start_ticks(os.getpid())}"


def alive(owner: str) -> bool:
    """Whether that owner still runs on this machine, in this boot."""
    boot, _, rest = owner.partition(":")
    pid, _, start = rest.partition(":")
    if boot != _boot_id() or not pid.isdigit():
        return False
    return _start_ticks(int(pid)) == start


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
