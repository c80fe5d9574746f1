"""What the engine asks of a verb (clone, migrate): phases, and a verdict on what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twinship.operations.job import Job


class Decision(StrEnum):
    """Which way an interrupted operation goes."""

    FORWARD = "forward"
    BACK = "back"
    WAIT = "wait"
    ATTENTION = "attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision with its reason; ``leftovers`` names what lies where it cannot be seen."""

    decision: Decision
    reason: str
    leftovers: tuple[str, ...] = ()


class Phase(Protocol):
    """One effect. Its intent is committed before :meth:`do`, its outcome after.

    A phase that has an intent but no outcome is looked at (:meth:`observe`) before it is done
    again, and ``undo`` is called for every phase whose intent was written, whether or not it got as
    far as an outcome. Undoing looks before it acts, so that undoing twice is harmless.
    """

    @property
    def name(self) -> str:
        """Unique in the operation, stable over versions: ``volume:vda``."""

    @property
    def title(self) -> str:
        """What a person reads while it runs."""

    def do(self, job: Job) -> dict[str, Any]:
        """Makes the effect; what it returns is kept in the journal."""

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Looks whether the effect is there, made by a process that died before it could say so.

        What :meth:`do` would have returned, as far as it is still known; None when it has to be
        done (again). Changes nothing.
        """

    def undo(self, job: Job) -> None:
        """Takes the effect back, as far as it is ours.

        Raises :class:`twinship.model.errors.HostUnreachable` while that cannot be seen.
        """

    def leftover(self) -> str:
        """What would be left if undo never ran; empty for nothing."""


class Verb(Protocol):
    """A kind of operation."""

    @property
    def kind(self) -> str:
        """``clone``, ``migrate``."""

    @property
    def schema(self) -> int:
        """The version of the specs it writes, in their field ``schema``."""

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The spec of an older version, as this version would have written it; pure."""

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The phases of an operation with this spec, in order; pure."""

    def reconcile(self, job: Job) -> Verdict:
        """Looks at all sides and decides which way an interrupted operation goes."""

    def result(self, job: Job) -> dict[str, Any]:
        """The result of an operation all of whose phases are done."""
