"""The control link: the relay by which a host's libvirtd is reached from outside.

The relay lives in the fabric's namespace, so that whoever takes the lab down
finds it there; it shares the file system with everybody, so its socket is
reached from the root namespace.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from twinship_lab import relay
from twinship_lab.daemon import freeze, thaw
from twinship_lab.errors import HostFailed
from twinship_lab.network import namespace_inode, namespace_path
from twinship_lab.processes import Process, command_line, living_in, send
from twinship_lab.programs import spawn, wait_until

_START_WITHIN_S = 15


def find_relay(fabric: str, socket: Path) -> Process | None:
    """The relay that listens at ``socket``, or None."""
    inode = namespace_inode(fabric)
    if inode is None:
        return None
    living = living_in([inode])
    return next((p for p in living if str(socket) in command_line(p.pid)), None)


def start_relay(fabric: str, socket: Path, daemon_socket: Path) -> None:
    """Start the relay unless it lives, and wait until it listens."""
    found = find_relay(fabric, socket)
    if found is not None and socket.exists():
        return
    if found is not None:
        send(found.pid, signal.SIGKILL)
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    log = socket.parent / "relay.log"
    program = [sys.executable, "-I", "-S", relay.__file__, str(socket), str(daemon_socket)]
    spawn(["nsenter", f"--net={namespace_path(fabric)}", *program], log=log)
    if not wait_until(socket.exists, within_s=_START_WITHIN_S):
        said = log.read_text(errors="replace").strip()
        raise HostFailed(f"the relay at {socket} did not start", cause=said or "it said nothing")


def set_control(fabric: str, socket: Path, *, up: bool) -> None:
    """Cut or mend the control link: cut, it is a black hole for old and new connections."""
    found = find_relay(fabric, socket)
    if found is None:
        raise HostFailed(f"no relay serves {socket}", hint="run `twinship lab up`")
    if up:
        thaw(found)
    else:
        freeze(found)


def control_is_up(fabric: str, socket: Path) -> bool:
    """Whether the relay lives and is not frozen."""
    found = find_relay(fabric, socket)
    return found is not None and not found.stopped
