"""Will the move come to an end?"""

from __future__ import annotations

from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.forecast import Verdict
from twinship.migrate.outlook import forecast
from twinship.model.plan import Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("MOVE_NEVER_ENDS", Severity.WARN)
def arrives(case: MigrateCase) -> Problem | None:
    """A guest that writes faster than the link sends never arrives within a short pause.

    The dirty rate over a window does not tell this (it counts a page once); the curve of several
    windows does. Post-copy, where it is allowed, brings such a guest over as well.
    """
    told = forecast(case)
    if told is None or told.verdict != Verdict.WILL_NOT.value:
        return None
    if case.may_post_copy:
        return Problem(
            f"{told.reason}; it will go over to post-copy",
            hint="or allow a longer pause: --max-pause",
            object=case.vm_object,
            severity=Severity.INFO,
        )
    return Problem(
        told.reason,
        hint="allow it with --max-pause or --post-copy allow, move it with --mode non-live, or at "
        "a quieter time",
        object=case.vm_object,
    )
