"""The interface onto a guest's files, and what can be said of one of them.

Every path is absolute and the guest's own (``/etc/hosts``). A symbolic link is followed inside the
guest only: ``/etc/ssh -> /srv/keys`` leads to the guest's ``/srv/keys`` and never out of it, and
``..`` never above its root. Names that are no UTF-8 are text with surrogate escapes, as Python's
own file functions have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from twinship.model.errors import TwinshipError

READ_LIMIT_BYTES = 1024 * 1024
"""More than any configuration file has; a hostile guest may show us a file of terabytes."""


class FileKind(StrEnum):
    """What lies under a name. Devices, sockets and pipes are ``other`` and are never opened."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """What a guest's filesystem says of one name. ``target`` is a symbolic link's, else empty."""

    kind: FileKind
    bytes: int
    mode: int
    uid: int
    gid: int
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is free on the filesystem of the guest's root.

    ``free_files`` is None where files are not counted (btrfs).
    """

    total_bytes: int
    free_bytes: int
    free_files: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGroups:
    """LVM's groups on the guest's own disks. ``keep`` says why their UUIDs should stay."""

    names: tuple[str, ...] = ()
    keep: str = ""


class GuestFilesError(TwinshipError):
    """The guest's files could not be read or written; ``cause`` is the system's own word."""

    default_code = "GUEST_FILES"


class GuestFiles(Protocol):
    """A guest's files. One thread at a time.

    The last part of a path is never followed when it is a symbolic link (the parts before it are):
    ask :meth:`resolve` where following is meant. Any method may raise :class:`GuestFilesError`.
    """

    def resolve(self, path: str) -> str | None:
        """The path without any symbolic link; None for what is not there or loops."""

    def lstat(self, path: str) -> FileStat | None:
        """What lies there; None when nothing does."""

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a directory, sorted; none for what is no directory."""

    def glob(self, pattern: str) -> tuple[str, ...]:
        """What matches, sorted, as paths without symbolic links before their last part.

        ``*`` and ``?`` match leading dots too, and ``**`` any depth of directories. A link that
        matched a wildcard is not gone through, one that the pattern names is.
        """

    def walk(self, path: str) -> Iterator[tuple[str, FileStat]]:
        """All below a directory, each directory before what is in it; no link is gone through."""

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """A regular file's first ``limit_bytes``."""

    def remove(self, path: str) -> None:
        """Removes a name; a directory has to be empty. What is not there is no error."""

    def rmtree(self, path: str) -> None:
        """Removes a name and all below it."""

    def truncate(self, path: str) -> None:
        """Empties a regular file; owner, mode and extended attributes stay."""

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a whole regular file.

        One that is there keeps its owner, mode, extended attributes (so its SELinux label) and
        hard links. A new one is root's, has ``mode``, and takes its directory's SELinux label, as
        the kernel would do; directories missing above it are made.
        """

    def symlink(self, path: str, target: str) -> None:
        """Makes a symbolic link where nothing is; directories missing above it are made."""

    def space(self) -> Space:
        """What is free."""

    def run(self, argv: Sequence[str]) -> None:
        """Runs a program of the guest inside it; raises ``NEEDS_APPLIANCE`` where none can be."""

    def relabel(self, contexts: str) -> bool:
        """Gives every file the SELinux label that this file of contexts says; False: it cannot."""

    def volume_groups(self) -> VolumeGroups:
        """The groups that can be renewed; none where no volume can be seen from here."""

    def renew_volume_groups(self) -> None:
        """Has the groups and their disks get new UUIDs once the files are closed."""


def content_of(files: GuestFiles, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
    """A regular file's first bytes, links followed; nothing for what is none."""
    real = files.resolve(path)
    found = files.lstat(real) if real else None
    if not real or found is None or found.kind is not FileKind.FILE:
        return b""
    return files.read(real, limit_bytes)


def literal(path: str) -> str:
    """A pattern that matches just this path."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def shown(path: str) -> str:
    """A guest's path fit for a screen or a document: one line, no control characters, UTF-8."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
