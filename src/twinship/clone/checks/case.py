"""What the checks of a clone look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinship.clone.disks import copied
from twinship.clone.facts import CloneFacts
from twinship.model.request import CloneRequest
from twinship.model.vm import Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneCase:
    """What the rows look at: facts, request, and what the plan has chosen so far.

    ``pools`` are those written to, with the bytes; ``paths`` the new files; ``kept`` the files that
    disks (by target) take as they are. ``definition`` is the clone's, empty for one that cannot be.
    """

    facts: CloneFacts
    request: CloneRequest
    name: str
    uuid: str
    pools: tuple[tuple[str, int], ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    definition: str = ""

    @property
    def copied(self) -> tuple[Disk, ...]:
        """The disks that get a file of their own."""
        return copied(self.facts, self.request)

    def disk(self, target: str) -> str:
        """A disk as findings name it."""
        return f"vm/{self.facts.source.vm.name}/disk/{target}"


GIB = 1024**3
