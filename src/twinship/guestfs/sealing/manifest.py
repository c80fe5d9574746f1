"""What sealing does to a guest, file by file: the same list before (plan) and after (apply)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twinship.guestfs.files import shown


class Action(StrEnum):
    """What happens to a path."""

    REMOVE = "remove"
    TRUNCATE = "truncate"
    EDIT = "edit"
    WRITE = "write"
    RUN = "run"
    RENEW = "renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path. ``bytes``: its length before it is removed or emptied, after it is edited or made.

    ``path`` is the guest's own name for it, which may hold anything; :attr:`shown` is printable.
    For ``run`` it is the command, for ``renew`` what is renewed.
    """

    path: str
    action: Action
    bytes: int
    operation: str

    @property
    def shown(self) -> str:
        """The path on one line, without control characters."""
        return shown(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an operation left alone, or what somebody should know about what it does."""

    operation: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What one operation does in all."""

    operation: str
    paths: int
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All entries, operation by operation in the table's order, and within one by path."""

    entries: tuple[Entry, ...] = field(default=())
    notes: tuple[Note, ...] = field(default=())

    @property
    def freed_bytes(self) -> int:
        """The lengths of what is removed or emptied; a file with two names counts twice."""
        return _freed(self.entries)

    @property
    def totals(self) -> tuple[Total, ...]:
        """Sums by operation, of those that find something to do."""
        names = dict.fromkeys(entry.operation for entry in self.entries)
        groups = ((name, [e for e in self.entries if e.operation == name]) for name in names)
        return tuple(
            Total(operation=name, paths=len(group), freed_bytes=_freed(group))
            for name, group in groups
        )

    def to_json(self) -> Mapping[str, Any]:
        """Plain values for a JSON document; paths are escaped where they are not printable."""
        return {
            "entries": [
                {
                    "path": entry.shown,
                    "action": entry.action.value,
                    "bytes": entry.bytes,
                    "operation": entry.operation,
                }
                for entry in self.entries
            ],
            "totals": [
                {"operation": t.operation, "paths": t.paths, "freed_bytes": t.freed_bytes}
                for t in self.totals
            ],
            "notes": [{"operation": n.operation, "text": shown(n.text)} for n in self.notes],
            "freed_bytes": self.freed_bytes,
        }


def _freed(entries: tuple[Entry, ...] | list[Entry]) -> int:
    gone = (Action.REMOVE, Action.TRUNCATE)
    return sum(entry.bytes for entry in entries if entry.action in gone)
