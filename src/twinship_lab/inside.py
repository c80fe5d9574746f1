"""Runs first inside a host's new namespaces: mounts what is the host's own, then becomes its init.

Started by path, as ``python -I -S inside.py NAME ROOT``, with the network,
mount, UTS and PID namespaces already new; it imports only the standard library
and ends as ``tini``, PID 1 of the host. Without an init that reaps, libvirtd
waits 20 s for every QEMU it kills.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from pathlib import Path

# Directories a libvirt host writes to; each host has its own below its root. /run is last: what
# is mounted there hides what was below.
OWN_DIRECTORIES = (
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/var/lib/swtpm-localca",
    "/var/log/libvirt",
    "/var/log/swtpm",
    "/var/cache/libvirt",
    "/run",
)
OWN_FILES = ("/etc/hosts", "/etc/hostname", "/etc/passwd", "/etc/group")
_MS_BIND = 4096  # mount(2)
_MNT_DETACH = 2  # umount2(2)

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    """mount(2); raises OSError that names the target."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def enter(name: str, root: Path) -> None:
    """Make this process's namespaces those of the host ``name``."""
    socket.sethostname(name)
    # A fresh sysfs shows this network namespace's devices; cgroups below the old one are not ours.
    while _libc.umount2(b"/sys", _MNT_DETACH) == 0:
        pass
    mount("sysfs", "/sys", "sysfs")
    for path in (*OWN_FILES, *OWN_DIRECTORIES):
        own = root / path.lstrip("/")
        if own.is_dir():
            Path(path).mkdir(parents=True, exist_ok=True)
        mount(str(own), path, flags=_MS_BIND)


if __name__ == "__main__":
    enter(sys.argv[1], Path(sys.argv[2]))
    os.chdir("/")
    os.execvp("tini", ["tini", "--", "sleep", "infinity"])  # noqa: S606 (this is how a process becomes init)
