"""What a seal operation is: a row with a reason, made of acts on paths. Rows never touch files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twinship.guestfs.files import GuestFiles
from twinship.guestfs.inspect import Family, Guest
from twinship.guestfs.sealing.edits import Edit

ALL_FAMILIES = frozenset(Family)


@dataclass(frozen=True, slots=True)
class Remove:
    """Removes what matches, directories with all in them.

    ``keep`` are names that stay where they match; ``files_only`` lets directories stand.
    """

    patterns: tuple[str, ...]
    keep: tuple[str, ...] = ()
    files_only: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Empties the regular files that match."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EditFiles:
    """Edits the regular files that match; one that comes out as it was is not written."""

    patterns: tuple[str, ...]
    edit: Edit


@dataclass(frozen=True, slots=True)
class Write:
    """Makes or overwrites a file, unless it says just that already."""

    path: str
    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """Makes a symbolic link, where nothing is."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Run:
    """Runs a program of the guest in it, after everything else."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RenewGroups:
    """Gives LVM's volume groups and their disks new UUIDs, once all files are closed."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Does nothing, but says something in the manifest."""

    text: str


Act = Remove | Truncate | EditFiles | Write | Link | Run | RenewGroups | Say
Decide = Callable[[GuestFiles, Guest], Iterable[Act]]
"""Acts that depend on what is in the guest; may read, never writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row: what is removed or edited, in which families, whether by default, and why.

    ``source`` says where the rule comes from. ``looks_at``: the paths that ``decide`` may act on.
    """

    name: str
    title: str
    why: str
    source: str
    acts: tuple[Act, ...] = ()
    decide: Decide | None = None
    looks_at: tuple[str, ...] = ()
    default: bool = True
    families: frozenset[Family] = ALL_FAMILIES

    @property
    def paths(self) -> tuple[str, ...]:
        """Patterns of all paths that it may remove or change."""
        found = [path for act in self.acts for path in _paths(act)]
        return tuple(dict.fromkeys((*found, *self.looks_at)))

    @property
    def distributions(self) -> str:
        """The families it is for, on one line."""
        return "all" if self.families == ALL_FAMILIES else ", ".join(sorted(self.families))

    def acts_for(self, files: GuestFiles, guest: Guest) -> tuple[Act, ...]:
        """What the operation does in this guest."""
        if guest.family not in self.families:
            return ()
        decided = self.decide(files, guest) if self.decide is not None else ()
        return (*self.acts, *decided)


def _paths(act: Act) -> tuple[str, ...]:
    match act:
        case Remove(patterns) | Truncate(patterns) | EditFiles(patterns):
            return patterns
        case Write(path) | Link(path):
            return (path,)
        case _:
            return ()


def removing(*patterns: str) -> tuple[Act, ...]:
    """The acts of a row that only removes."""
    return (Remove(patterns),)
