"""A guest's files where they appear as a directory tree: what both engines end in.

The tree is hostile. Each part of a path is looked at by itself and opened from its directory with
O_NOFOLLOW; symbolic links are followed by us, from the tree's root, so that none leads out of it.
Only regular files are opened, never a pipe or device that would wait or do something.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from twinship.guestfs.files import (
    READ_LIMIT_BYTES,
    FileKind,
    FileStat,
    GuestFilesError,
    Space,
    VolumeGroups,
)
from twinship.guestfs.spot import (
    FILE,
    GONE,
    Spot,
    inherit_label,
    is_directory,
    stat_of,
    write_all,
)

_MOST_LINKS = 40
"""Linux's own limit (MAXSYMLINKS)."""
_MOST_DEPTH = 256
_MOST_ENTRIES = 2_000_000
_WILD = re.compile(r"[*?\[]")
_NO_GROUPS = VolumeGroups()
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Runner = Callable[[Sequence[str]], None]
Relabel = Callable[[str], bool]


class TreeFiles:
    """The files below an open directory; see :class:`twinship.guestfs.files.GuestFiles`."""

    def __init__(
        self,
        root_fd: int,
        runner: Runner | None = None,
        relabel: Relabel | None = None,
        groups: VolumeGroups = _NO_GROUPS,
    ) -> None:
        """``root_fd`` stays the caller's, who closes it. ``runner`` runs programs in the guest.

        Whoever gives ``groups`` renews them where :attr:`renewing` says so in the end.
        """
        self.root_fd = root_fd
        self.renewing = False
        self._runner = runner
        self._relabel = relabel
        self._groups = groups
        # The guest is off, so what was seen stays true until we write.
        self._stats: dict[str, FileStat | None] = {}
        self._resolved: dict[str, str | None] = {}
        self._listings: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, tuple[str, ...]] = {}
        self._whole: set[str] = set()

    def resolve(self, path: str) -> str | None:
        """See the interface."""
        if path not in self._resolved:
            with _about(path), self._spot(path, follow=True) as spot:
                there = spot is not None and stat_of(spot) is not None
                self._resolved[path] = spot.path if spot is not None and there else None
        return self._resolved[path]

    def lstat(self, path: str) -> FileStat | None:
        """See the interface."""
        if path not in self._stats:
            with _about(path), self._spot(path) as spot:
                self._stats[path] = None if spot is None else stat_of(spot)
        return self._stats[path]

    def listdir(self, path: str) -> tuple[str, ...]:
        """See the interface."""
        if path not in self._listings:
            self._listings[path] = self._list(path)
        return self._listings[path]

    def _list(self, path: str, *, whole: bool = False) -> tuple[str, ...]:
        """``whole``: what lies under each name is seen as well, while the directory is open."""
        with _about(path), self._spot(path) as spot:
            if spot is None:
                return ()
            try:
                opened = os.open(spot.name, _DIRECTORY, dir_fd=spot.fd)
            except OSError as error:
                if error.errno in GONE:
                    return ()
                raise
            try:
                entries = sorted(os.scandir(opened), key=lambda entry: entry.name)
                names = tuple(entry.name for entry in entries)
                self._folders[path] = tuple(
                    entry.name for entry in entries if entry.is_dir(follow_symlinks=False)
                )
                for name in names if whole else ():
                    child = posixpath.join(path, name)
                    if child not in self._stats:
                        self._stats[child] = stat_of(Spot(opened, name, path))
            finally:
                os.close(opened)
            return names

    def _listed_whole(self, path: str) -> tuple[str, ...]:
        if path not in self._whole:
            self._whole.add(path)
            self._listings[path] = self._list(path, whole=True)
        return self.listdir(path)

    def glob(self, pattern: str) -> tuple[str, ...]:
        """See the interface."""
        parts = [part for part in pattern.split("/") if part]
        return tuple(sorted(set(self._matches("/", parts))))

    def walk(self, path: str) -> Iterator[tuple[str, FileStat]]:
        """See the interface. Raises for a tree that is too deep or large to be a guest's."""
        pending = [(path, 0)]
        seen = 0
        while pending:
            directory, depth = pending.pop()
            below = []
            for name in self._listed_whole(directory):
                child = posixpath.join(directory, name)
                found = self.lstat(child)
                if found is None:
                    continue
                seen += 1
                if depth >= _MOST_DEPTH or seen > _MOST_ENTRIES:
                    raise _too_large(path)
                yield child, found
                if found.kind is FileKind.DIRECTORY:
                    below.append((child, depth + 1))
            pending += reversed(below)

    def _directories(self, path: str) -> Iterator[str]:
        """A directory and all below it; their other entries are not looked at."""
        pending = [(path, 0)]
        seen = 0
        while pending:
            directory, depth = pending.pop()
            yield directory
            self.listdir(directory)
            folders = self._folders.get(directory, ())
            seen += len(folders)
            if depth >= _MOST_DEPTH or seen > _MOST_ENTRIES:
                raise _too_large(path)
            pending += [(posixpath.join(directory, name), depth + 1) for name in reversed(folders)]

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """See the interface."""
        with _about(path), self._open_file(path, os.O_RDONLY) as file:
            chunks, left = [], limit_bytes
            while left > 0 and (chunk := os.read(file, min(left, 1 << 20))):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks)

    def remove(self, path: str) -> None:
        """See the interface."""
        self._forget()
        with _about(path), self._spot(path) as spot:
            if spot is None or (found := stat_of(spot)) is None:
                return
            if found.kind is FileKind.DIRECTORY:
                os.rmdir(spot.name, dir_fd=spot.fd)
            else:
                os.unlink(spot.name, dir_fd=spot.fd)

    def rmtree(self, path: str) -> None:
        """See the interface."""
        for below in reversed([name for name, _ in self.walk(path)]):
            self.remove(below)
        self.remove(path)

    def truncate(self, path: str) -> None:
        """See the interface."""
        self._forget()
        with _about(path), self._open_file(path, os.O_WRONLY) as file:
            os.ftruncate(file, 0)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """See the interface."""
        self._forget()
        with _about(path), self._made_room(path) as spot:
            if stat_of(spot) is None:
                self._create(spot, data, mode)
                return
        with _about(path), self._open_file(path, os.O_WRONLY) as file:
            os.ftruncate(file, 0)
            write_all(file, data)

    def symlink(self, path: str, target: str) -> None:
        """See the interface."""
        self._forget()
        with _about(path), self._made_room(path) as spot:
            os.symlink(target, spot.name, dir_fd=spot.fd)

    def space(self) -> Space:
        """See the interface."""
        with _about("/"):
            found = os.fstatvfs(self.root_fd)
        return Space(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            free_files=found.f_ffree if found.f_files else None,
        )

    def run(self, argv: Sequence[str]) -> None:
        """See the interface."""
        if self._runner is None:
            raise GuestFilesError(
                f"cannot run {argv[0]} in the guest",
                code="NEEDS_APPLIANCE",
                cause="this way of reading the disk starts nothing of the guest's",
                hint="use the appliance",
            )
        self._forget()
        self._runner(argv)

    def relabel(self, contexts: str) -> bool:
        """See the interface."""
        self._forget()
        return self._relabel is not None and self._relabel(contexts)

    def volume_groups(self) -> VolumeGroups:
        """See the interface."""
        return self._groups

    def renew_volume_groups(self) -> None:
        """See the interface."""
        self.renewing = bool(self._groups.names)

    def _forget(self) -> None:
        self._stats.clear()
        self._resolved.clear()
        self._listings.clear()
        self._folders.clear()
        self._whole.clear()

    def _matches(self, directory: str, parts: Sequence[str]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            for place in self._directories(directory):
                yield from self._matches(place, rest)
        elif not _WILD.search(part):
            child = posixpath.join(directory, part)
            if not rest:
                if self.lstat(child) is not None:
                    yield child
            elif (real := self.resolve(child)) and is_directory(self.lstat(real)):
                yield from self._matches(real, rest)
        else:
            for name in self.listdir(directory):
                if not fnmatchcase(name, part):
                    continue
                child = posixpath.join(directory, name)
                if not rest:
                    yield child
                elif is_directory(self.lstat(child)):
                    yield from self._matches(child, rest)

    @contextmanager
    def _spot(self, path: str, *, follow: bool = False) -> Iterator[Spot | None]:
        """The open directory of a path and the name in it; None when the directory is missing."""
        above = [(os.open(".", _DIRECTORY, dir_fd=self.root_fd), "/")]
        try:
            yield self._descend(above, deque(path.split("/")), follow=follow)
        finally:
            for fd, _ in above:
                os.close(fd)

    def _descend(
        self, above: list[tuple[int, str]], parts: deque[str], *, follow: bool
    ) -> Spot | None:
        links = 0
        while parts:
            part = parts.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                if len(above) > 1:
                    os.close(above.pop()[0])
                continue
            fd, directory = above[-1]
            last = not any(name not in ("", ".") for name in parts)
            if last and not follow:
                return Spot(fd, part, directory)
            found = stat_of(Spot(fd, part, directory))
            if found is not None and found.kind is FileKind.SYMLINK:
                links += 1
                if links > _MOST_LINKS:
                    return None
                if found.target.startswith("/"):
                    while len(above) > 1:
                        os.close(above.pop()[0])
                parts.extendleft(reversed(found.target.split("/")))
                continue
            if last:
                return Spot(fd, part, directory)
            if not is_directory(found):
                return None
            deeper = os.open(part, _DIRECTORY, dir_fd=fd)
            above.append((deeper, posixpath.join(directory, part)))
        fd, directory = above[-1]
        return Spot(fd, ".", directory)

    @contextmanager
    def _open_file(self, path: str, flags: int) -> Iterator[int]:
        with self._spot(path) as spot:
            found = stat_of(spot) if spot is not None else None
            if spot is None or found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if found.kind is not FileKind.FILE:
                raise OSError(errno.EINVAL, f"it is a {found.kind}, not a regular file")
            file = os.open(spot.name, flags | FILE, dir_fd=spot.fd)
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _made_room(self, path: str) -> Iterator[Spot]:
        """The spot of a path, its directories made where missing."""
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts)):
            parent = "/" + "/".join(parts[:depth])
            if self.resolve(parent) is None:
                with self._spot(parent) as above:
                    if above is not None:
                        os.mkdir(above.name, 0o755, dir_fd=above.fd)
                        inherit_label(above)
        with self._spot(path) as spot:
            if spot is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            yield spot

    def _create(self, spot: Spot, data: bytes, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE
        file = os.open(spot.name, flags, 0o600, dir_fd=spot.fd)
        try:
            write_all(file, data)
            os.fchmod(file, mode)
        finally:
            os.close(file)
        inherit_label(spot)


def _too_large(path: str) -> GuestFilesError:
    return GuestFilesError(
        f"the guest's directory {path} is too deep or too large",
        hint="look at it from inside the guest",
    )


@contextmanager
def _about(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = "FILESYSTEM_FULL" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise GuestFilesError(
            f"cannot work on {path!r} in the guest",
            code=code,
            cause=error.strerror or str(error),
            hint="free some space in the guest" if code else "check the guest's filesystem",
        ) from error
