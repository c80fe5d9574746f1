"""The checks of a clone, one module a family, joined into one table."""

from __future__ import annotations

from twinship.clone.checks import devices, disks, identity, source, target
from twinship.clone.checks.case import CloneCase
from twinship.planning.checks import CheckTable

TABLE: CheckTable[CloneCase] = CheckTable()
TABLE.join(identity.ROWS, source.ROWS, devices.ROWS, disks.ROWS, target.ROWS)

__all__ = ["TABLE", "CloneCase"]
