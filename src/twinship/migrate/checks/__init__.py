"""The checks of a move, one module a family, joined into one table."""

from __future__ import annotations

from twinship.migrate.checks import compute, network, state, storage
from twinship.migrate.checks.case import MigrateCase
from twinship.planning.checks import CheckTable

TABLE: CheckTable[MigrateCase] = CheckTable()
for _family in (state.ROWS, compute.ROWS, storage.ROWS, network.ROWS):
    TABLE.rows += _family.rows

__all__ = ["TABLE", "MigrateCase"]
