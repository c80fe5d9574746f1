"""A name in an open directory: what lies there, and what a new file gets from its directory."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from contextlib import suppress
from dataclasses import dataclass

from twinship.guestfs.files import FileKind, FileStat

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of a name under which nothing lies."""
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a file of a guest is opened: no link is followed, no pipe waited for."""
_LABEL = "security.selinux"


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in an open directory. ``name`` is ``.`` for the root itself."""

    fd: int
    name: str
    directory: str

    @property
    def path(self) -> str:
        """Without symbolic links before the last part."""
        return self.directory if self.name == "." else posixpath.join(self.directory, self.name)


def stat_of(spot: Spot) -> FileStat | None:
    """What lies there; None when nothing does."""
    try:
        found = os.stat(spot.name, dir_fd=spot.fd, follow_symlinks=False)
        target = os.readlink(spot.name, dir_fd=spot.fd) if stat.S_ISLNK(found.st_mode) else ""
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    return FileStat(
        kind=_kind(found.st_mode),
        bytes=found.st_size,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        target=target,
    )


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.DIRECTORY
    return FileKind.SYMLINK if stat.S_ISLNK(mode) else FileKind.OTHER


def is_directory(found: FileStat | None) -> bool:
    """Whether it is there and a directory."""
    return found is not None and found.kind is FileKind.DIRECTORY


def write_all(file: int, data: bytes) -> None:
    """Writes to an open file until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def inherit_label(spot: Spot) -> None:
    """Gives what was just made its directory's SELinux label, if that has one."""
    with suppress(OSError):  # no label, or a filesystem without any
        label = os.getxattr(spot.fd, _LABEL)
        made = os.open(spot.name, os.O_RDONLY | FILE, dir_fd=spot.fd)
        try:
            os.setxattr(made, _LABEL, label)
        finally:
            os.close(made)
