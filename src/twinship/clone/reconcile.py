"""Which way an interrupted clone goes; pure.

A clone exists once it is defined, and not before: the definition is written last. So one question
decides, and every answer is in the table.

===================  =========  ========================================================
clone is defined      decision   why
===================  =========  ========================================================
yes                   forward    its disks were complete and checked before it was defined
no                    back       what was made so far is not yet a VM: take it away
===================  =========  ========================================================
"""

from __future__ import annotations

from twinship.operations.verb import Decision, Verdict


def reconcile_clone(*, defined: bool) -> Verdict:
    """The verdict for a clone of which this is seen."""
    if defined:
        return Verdict(decision=Decision.FORWARD, reason="the clone is complete and defined")
    return Verdict(decision=Decision.BACK, reason="the clone is not defined yet")
