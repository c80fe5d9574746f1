"""Which of several targets a VM had better move to, and why; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twinship.model.host import HostFacts
from twinship.model.plan import Finding, Plan, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A target: what moving there would be, or why it cannot be asked.

    ``memory_bytes`` is what the VM takes there.
    """

    host: str
    plan: Plan | None = None
    facts: HostFacts | None = None
    memory_bytes: int = 0
    error: str = ""

    @property
    def feasible(self) -> bool:
        """Whether nothing blocks the move."""
        return self.plan is not None and self.plan.feasible

    @property
    def free_after(self) -> float:
        """The share of the target's memory that is free once the VM is there."""
        if self.facts is None or not self.facts.memory_bytes:
            return 0.0
        left = self.facts.memory_free_bytes - self.memory_bytes
        return max(0.0, left / self.facts.memory_bytes)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Its findings of one severity."""
        found = self.plan.checks if self.plan is not None else ()
        return tuple(finding for finding in found if finding.severity is severity)

    def reasons(self) -> tuple[str, ...]:
        """Why it stands where it stands, the weightiest first."""
        if self.plan is None:
            return (self.error,)
        blocks, warns = self.of(Severity.BLOCK), self.of(Severity.WARN)
        told = (
            [f"{len(blocks)} {_checks(blocks)} in the way: {blocks[0].message}"] if blocks else []
        )
        if warns:
            told.append(f"{len(warns)} to mind: {warns[0].message}")
        told.append(f"{self.free_after:.0%} of its memory is free afterwards")
        return tuple(told)


def ranked(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The best first; equal ones in the order given.

    What can be done comes before what cannot, what needs less mending before what needs more; then
    fewer warnings, fewer bytes to move (storage that is shared), and more memory left.
    """
    return tuple(sorted(candidates, key=_weight))


def _weight(one: Candidate) -> tuple[bool, int, int, int, float]:
    return (
        one.plan is None,
        len(one.of(Severity.BLOCK)),
        len(one.of(Severity.WARN)),
        one.plan.bytes if one.plan is not None else 0,
        -round(one.free_after, 2),
    )


def _checks(found: tuple[Finding, ...]) -> str:
    return "checks stand" if len(found) > 1 else "check stands"
