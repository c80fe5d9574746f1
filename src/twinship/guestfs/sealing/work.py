"""From operations to a manifest, and to the guest's files.

A draft is made from what the files show, without writing: plan and apply make the same one, so that
a plan says exactly what apply does. Removing comes first (it frees space), then what is written,
then what is run in the guest.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from twinship.guestfs.files import READ_LIMIT_BYTES, FileKind, FileStat, GuestFiles, shown
from twinship.guestfs.inspect import Guest, GuestKind, GuestRefused
from twinship.guestfs.sealing.manifest import Action, Entry, Manifest, Note
from twinship.guestfs.sealing.operation import (
    Act,
    EditFiles,
    Link,
    Operation,
    Remove,
    RenewGroups,
    Run,
    Say,
    Truncate,
    Write,
)

AUTORELABEL = "/.autorelabel"
"""Has a guest with SELinux label its files at its next start. Source: selinux(8)."""
_RELABELLED = (
    "what is run makes files without SELinux labels: all are labelled anew, here or (where that "
    "cannot be) at the next start"
)


def plan_seal(files: GuestFiles, guest: Guest, operations: Sequence[Operation]) -> Manifest:
    """What :func:`apply_seal` would do now. Writes nothing."""
    return _drafted(files, guest, operations).manifest()


def apply_seal(files: GuestFiles, guest: Guest, operations: Sequence[Operation]) -> Manifest:
    """Seals the guest and returns what was done. A second time there is nothing left to do.

    Raises :class:`GuestRefused` for a guest that is no Linux, and :class:`GuestFilesError` with
    the guest half sealed: what is written has to be a copy, or below an overlay.
    """
    draft = _drafted(files, guest, operations)
    draft.execute(files, guest)
    return draft.manifest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What is to become of one path. ``content`` is the text, or the target of a link."""

    action: Action
    content: bytes
    mode: int
    link: bool


class _Draft:
    def __init__(self, files: GuestFiles) -> None:
        self._files = files
        self._removed: dict[str, Entry] = {}
        self._changes: dict[str, _Change] = {}
        self._told: dict[tuple[str, str], Entry] = {}
        self._runs: list[tuple[Entry, Run]] = []
        self._renewed: list[Entry] = []
        self._notes: list[Note] = []
        self._order: list[str] = []

    def add(self, operation: str, act: Act) -> None:
        if operation not in self._order:
            self._order.append(operation)
        match act:
            case Remove():
                self._remove(operation, act)
            case Truncate(patterns):
                for path, found in self._regular(patterns):
                    if found.bytes:
                        self._change(operation, path, Action.TRUNCATE, found.bytes)
            case EditFiles():
                self._edit(operation, act)
            case Write():
                self._write(operation, act)
            case Link(path, target):
                if self._files.lstat(path) is None:
                    content = target.encode()
                    self._change(operation, path, Action.WRITE, len(content), content, link=True)
            case Run(argv):
                self._runs.append((_entry(operation, " ".join(argv), Action.RUN, 0), act))
            case RenewGroups(names):
                for name in names:
                    self._renewed.append(_entry(operation, f"volume group {name}", Action.RENEW, 0))
            case Say(text):
                if (note := Note(operation=operation, text=text)) not in self._notes:
                    self._notes.append(note)

    def manifest(self) -> Manifest:
        entries = [
            *self._removed.values(),
            *(entry for (_, path), entry in self._told.items() if path in self._changes),
            *(entry for entry, _ in self._runs),
            *self._renewed,
        ]
        entries.sort(key=lambda entry: (self._order.index(entry.operation), entry.path))
        return Manifest(entries=tuple(entries), notes=tuple(self._notes))

    def execute(self, files: GuestFiles, guest: Guest) -> None:
        for path in sorted(self._removed, key=lambda path: path.count("/"), reverse=True):
            files.remove(path)
        for path, change in self._changes.items():
            if change.link:
                files.symlink(path, change.content.decode())
            elif change.action is Action.TRUNCATE:
                files.truncate(path)
            else:
                files.write(path, change.content, change.mode)
        for _, run in self._runs:
            files.run(run.argv)
        if self._runs and guest.selinux_contexts and not files.relabel(guest.selinux_contexts):
            files.write(AUTORELABEL, b"")
        if self._renewed:
            files.renew_volume_groups()

    def _remove(self, operation: str, act: Remove) -> None:
        for pattern in act.patterns:
            for path in self._files.glob(pattern):
                name = posixpath.basename(path)
                if path in self._removed or any(fnmatchcase(name, keep) for keep in act.keep):
                    continue
                found = self._files.lstat(path)
                if found is None or (act.files_only and found.kind is FileKind.DIRECTORY):
                    continue
                if found.kind is FileKind.DIRECTORY:
                    for below, inner in self._files.walk(path):
                        self._gone(operation, below, inner)
                self._gone(operation, path, found)

    def _gone(self, operation: str, path: str, found: FileStat) -> None:
        size = found.bytes if found.kind is FileKind.FILE else 0
        self._removed.setdefault(path, _entry(operation, path, Action.REMOVE, size))
        self._changes.pop(path, None)

    def _edit(self, operation: str, act: EditFiles) -> None:
        for path, found in self._regular(act.patterns):
            before = self._content(operation, path, found)
            if before is None:
                continue
            after = act.edit(before)
            if after != before:
                self._change(operation, path, Action.EDIT, len(after), after)

    def _write(self, operation: str, act: Write) -> None:
        path = self._files.resolve(act.path) or act.path
        found = self._files.lstat(path)
        if path in self._removed:
            if posixpath.dirname(path) not in self._removed:
                del self._removed[path]
        elif found is not None and found.kind is FileKind.FILE:
            if self._content(operation, path, found) == act.data:
                return
        elif found is not None:
            self._notes.append(
                Note(operation=operation, text=f"{shown(path)} is a {found.kind}: left")
            )
            return
        self._change(operation, path, Action.WRITE, len(act.data), act.data, act.mode)

    def _change(
        self,
        operation: str,
        path: str,
        action: Action,
        size: int,
        content: bytes = b"",
        mode: int = 0,
        *,
        link: bool = False,
    ) -> None:
        """What several operations do to one path is done once, and told of each."""
        self._told[operation, path] = _entry(operation, path, action, size)
        self._changes[path] = _Change(action=action, content=content, mode=mode, link=link)

    def _content(self, operation: str, path: str, found: FileStat) -> bytes | None:
        """A file's text as it will be by now; None when it is too large to be one."""
        if (change := self._changes.get(path)) is not None:
            return change.content
        if found.bytes > READ_LIMIT_BYTES:
            text = f"{shown(path)} has {found.bytes} bytes, too many for a text: left as it is"
            self._notes.append(Note(operation=operation, text=text))
            return None
        return self._files.read(path)

    def _regular(self, patterns: Sequence[str]) -> list[tuple[str, FileStat]]:
        """The regular files that match and stay, links followed inside the guest."""
        found: dict[str, FileStat] = {}
        for pattern in patterns:
            for path in self._files.glob(pattern):
                real = self._files.resolve(path)
                if real is None or real in self._removed:
                    continue
                stat = self._files.lstat(real)
                if stat is not None and stat.kind is FileKind.FILE:
                    found[real] = stat
        return sorted(found.items())


def _drafted(files: GuestFiles, guest: Guest, operations: Sequence[Operation]) -> _Draft:
    if guest.kind is not GuestKind.LINUX:
        raise GuestRefused(
            f"the guest's system is {guest.kind}",
            code="GUEST_IS_WINDOWS" if guest.kind is GuestKind.WINDOWS else "GUEST_UNKNOWN",
            hint="only a Linux guest can be sealed",
        )
    draft = _Draft(files)
    for operation in operations:
        for act in operation.acts_for(files, guest):
            draft.add(operation.name, act)
            if isinstance(act, Run) and guest.selinux_contexts:
                draft.add(operation.name, Say(_RELABELLED))
    return draft


def _entry(operation: str, path: str, action: Action, size: int) -> Entry:
    return Entry(path=path, action=action, bytes=size, operation=operation)
