"""A plan: what would be done, what stands in the way, and what it would cost."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters; in the order they are shown."""

    BLOCK = "block"
    WARN = "warn"
    UNKNOWN = "unknown"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Cure:
    """A rewrite of the VM's definition that mends what a check found: done when asked for.

    ``sentence`` says what it does. ``kind``, ``old`` and ``new`` are a row of the rewrites
    (:mod:`twinship.domxml.refit`). ``harmless``: nobody would mind; it is done without being asked.
    """

    sentence: str
    kind: str
    old: str
    new: str
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: a sentence, a hint, and what it is about (``vm/db-1/disk/vda``).

    ``cure`` is what the plan itself can do about it; ``cured``: it will.
    """

    code: str
    severity: Severity
    message: str
    hint: str = ""
    object: str = ""
    cure: Cure | None = None
    cured: bool = False

    def mended(self) -> Finding:
        """The finding with its cure taken: a thing to know, not an obstacle."""
        return replace(self, severity=Severity.INFO, cured=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that will be done, on one host; ``bytes`` is what it moves, 0 for none.

    Of a disk that is made: by which ``method``, and what was against each faster one.
    """

    id: str
    title: str
    host: str
    bytes: int = 0
    method: str = ""
    why_not_faster: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Whether a live move will get there, how long it takes and how long the guest stands still."""

    verdict: str
    seconds: float | None
    pause_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedXml:
    """A definition the plan will write."""

    name: str
    host: str
    xml: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole answer to "what would happen": the same object for dialog, dry run and run.

    ``spec`` is what the operation is made of: plain JSON values, enough to run, undo or finish it
    in another process. ``resources`` it has for itself alone while it is unfinished; of ``slots``
    (``in/kvm02``) it takes one each while it works. ``binding`` holds the facts the plan depends
    on, each under a name a person understands; :func:`twinship.planning.binding.changed` compares
    two of them. ``manifest``: of a seal, every path that goes or is changed, as a document.
    ``diff``: what cures change in the definition, as a unified diff.
    """

    kind: str
    title: str
    checks: tuple[Finding, ...]
    steps: tuple[Step, ...]
    estimate_s: float | None
    forecast: Forecast | None = None
    diff: str = ""
    domain_xml: tuple[PlannedXml, ...] = ()
    manifest: Mapping[str, Any] | None = None
    resources: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    binding: Mapping[str, str] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """True when no check blocks."""
        return all(check.severity is not Severity.BLOCK for check in self.checks)

    def lenient(self, waived: Container[str]) -> Plan:
        """The plan with the checks of these codes only warning."""
        checks = tuple(
            replace(check, severity=Severity.WARN)
            if check.severity is Severity.BLOCK and check.code in waived
            else check
            for check in self.checks
        )
        return replace(self, checks=checks)

    @property
    def bytes(self) -> int:
        """Bytes to move, over all steps."""
        return sum(step.bytes for step in self.steps)
