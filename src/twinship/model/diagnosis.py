"""What the doctor found: things that are nobody's, and what was done about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """One thing that is wrong.

    ``certain``: what is right follows from what is seen, so that ``--fix`` mends it. ``cure`` says
    how, or for what is not certain what a person can do. ``facts`` are what mending needs.
    ``mended`` is None until it was tried. A ``note`` is worth knowing, but nothing is wrong.
    """

    code: str
    message: str
    cure: str
    object: str = ""
    host: str = ""
    certain: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    mended: bool | None = None
    note: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found, and how much was looked at."""

    ailments: tuple[Ailment, ...]
    hosts: int
    vms: int

    @property
    def left(self) -> tuple[Ailment, ...]:
        """What is still wrong."""
        return tuple(a for a in self.ailments if not (a.mended or a.note))
