"""A check is a row of a table: a code, a severity, a small pure function over facts.

Every row is asked, whatever the others found. A row returns nothing when all is well, a
:class:`Problem` (or several), and never talks to a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from twinship.model.plan import Cure, Finding, Severity

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Problem:
    """What a row found. ``severity`` overrides the row's own (``unknown``: it cannot be seen).

    ``cure``: the rewrite of the definition that mends it, if there is one.
    """

    message: str
    hint: str = ""
    object: str = ""
    severity: Severity | None = None
    cure: Cure | None = None


Answer = Problem | Iterable[Problem] | None


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """One row."""

    code: str
    severity: Severity
    ask: Callable[[F], Answer]

    @property
    def explanation(self) -> str:
        """What the check is about: its docstring, for ``twinship explain``."""
        lines = (self.ask.__doc__ or "").strip().splitlines()
        return "\n".join(line.strip() for line in lines)


class CheckTable(Generic[F]):
    """The rows of one verb. Modules add theirs by :meth:`row`, and tables :meth:`join`."""

    def __init__(self) -> None:
        self.rows: list[Check[F]] = []

    def row(
        self, code: str, severity: Severity = Severity.BLOCK
    ) -> Callable[[Callable[[F], Answer]], Callable[[F], Answer]]:
        """Decorates a function into a row of this table."""

        def add(ask: Callable[[F], Answer]) -> Callable[[F], Answer]:
            self._add(Check(code, severity, ask))
            return ask

        return add

    def join(self, *families: CheckTable[F]) -> None:
        """Takes over the rows of other tables, in their order."""
        for family in families:
            for row in family.rows:
                self._add(row)

    def _add(self, row: Check[F]) -> None:
        if any(known.code == row.code for known in self.rows):
            raise ValueError(f"two checks are called {row.code}")
        self.rows.append(row)

    def run(self, facts: F) -> tuple[Finding, ...]:
        """All findings, the worst first, in the order of the table otherwise."""
        order = list(Severity)
        findings = [
            Finding(
                code=row.code,
                severity=problem.severity or row.severity,
                message=problem.message,
                hint=problem.hint,
                object=problem.object,
                cure=problem.cure,
            )
            for row in self.rows
            for problem in _listed(row.ask(facts))
        ]
        return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _listed(answer: Answer) -> Iterable[Problem]:
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, Problem) else answer
