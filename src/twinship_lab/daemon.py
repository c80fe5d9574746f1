"""A host's libvirtd: finding it, starting it, and the ways to trouble it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from twinship_lab.errors import HostFailed
from twinship_lab.network import namespace_inode
from twinship_lab.processes import Process, living_in, read_process, send
from twinship_lab.programs import Completed, wait_until

_PID_FILE = "/run/libvirtd.pid"
_END_WITHIN_S = 30


class DaemonAction(Enum):
    """What can be done to a daemon. Guests go on through all of it, as in reality."""

    STOP = "stop"
    KILL = "kill"
    START = "start"
    FREEZE = "freeze"
    THAW = "thaw"


class DaemonState(Enum):
    """How a daemon is."""

    RUNNING = "running"
    FROZEN = "frozen"
    STOPPED = "stopped"


def find_daemon(namespace: str, root: Path) -> Process | None:
    """The libvirtd of the host with this network namespace and root, or None."""
    inode = namespace_inode(namespace)
    try:
        inner_pid = int((root / _PID_FILE.lstrip("/")).read_text())
    except (OSError, ValueError):
        return None
    if inode is None:
        return None
    matching = (p for p in living_in([inode]) if p.inner_pid == inner_pid and p.depth == 1)
    return next((p for p in matching if p.name == "libvirtd"), None)


def state_of(daemon: Process | None) -> DaemonState:
    """The state that goes with what :func:`find_daemon` found."""
    if daemon is None:
        return DaemonState.STOPPED
    return DaemonState.FROZEN if daemon.stopped else DaemonState.RUNNING


def start(host_name: str, run_inside: Callable[[list[str]], Completed]) -> None:
    """Start libvirtd and wait until it answers, its drivers and pools being ready."""
    run_inside(["libvirtd", "--daemon", "--listen", "--pid-file", _PID_FILE])
    answer = run_inside(["virsh", "--connect", "qemu:///system", "hostname"])
    if answer.text.strip() != host_name:
        raise HostFailed(f"libvirtd of {host_name} calls itself {answer.text.strip()!r}")


def end(host_name: str, daemon: Process, number: signal.Signals) -> None:
    """End the daemon by a signal and wait until it is gone."""
    send(daemon.pid, number)
    if not wait_until(lambda: not _alive(daemon), within_s=_END_WITHIN_S):
        raise HostFailed(
            f"libvirtd of {host_name} did not end",
            cause=f"process {daemon.pid} lives {_END_WITHIN_S} s after {number.name}",
            hint="a frozen daemon ends only when thawed or killed",
        )


def freeze(daemon: Process) -> None:
    """Stop every thread of the daemon where it is; connections stay open and silent."""
    send(daemon.pid, signal.SIGSTOP)
    wait_until(lambda: _is(daemon, stopped=True), within_s=5)


def thaw(daemon: Process) -> None:
    """Let a frozen daemon go on."""
    send(daemon.pid, signal.SIGCONT)
    wait_until(lambda: _is(daemon, stopped=False), within_s=5)


def _alive(daemon: Process) -> bool:
    now = read_process(daemon.pid)
    return now is not None and now.alive and now.inner_pid == daemon.inner_pid


def _is(daemon: Process, *, stopped: bool) -> bool:
    now = read_process(daemon.pid)
    return now is None or now.stopped is stopped
