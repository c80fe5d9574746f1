"""What ``--fix`` and ``--map`` make of the findings: which cures are taken, what they change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from twinship.domxml.refit import Refit, Rewrite
from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Cure, Finding


def cured(
    case: MigrateCase, findings: Iterable[Finding]
) -> tuple[tuple[Finding, ...], tuple[Rewrite, ...]]:
    """The findings with those mended that are, and the rewrites that mend them.

    A harmless cure is always taken, any other when ``--fix`` asks for it.
    """
    taken: list[Cure] = list(case.maps())
    told: list[Finding] = []
    for finding in findings:
        cure = finding.cure
        if cure is not None and (cure.harmless or case.request.fix):
            taken.append(cure)
            finding = finding.mended()
        told.append(finding)
    # What was mended is only told: it comes after what still stands in the way.
    told.sort(key=lambda finding: finding.cured)
    rewrites = dict.fromkeys(Rewrite(Refit(cure.kind), cure.old, cure.new) for cure in taken)
    return tuple(told), tuple(rewrites)


def difference(before: str, after: str, name: str, new_name: str) -> str:
    """What changes in the definition, as a unified diff; empty for nothing."""
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), name, new_name, n=1
        )
    )
