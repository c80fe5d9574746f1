"""The checks of a move, one module a family, joined into one table."""

from __future__ import annotations

from twinship.migrate.checks import (
    belongings,
    compute,
    convergence,
    cpu,
    devices,
    network,
    places,
    postcopy,
    state,
    storage,
)
from twinship.migrate.checks.case import MigrateCase
from twinship.planning.checks import CheckTable

TABLE: CheckTable[MigrateCase] = CheckTable()
TABLE.join(state.ROWS, compute.ROWS, cpu.ROWS, devices.ROWS, storage.ROWS, places.ROWS)
TABLE.join(belongings.ROWS, network.ROWS, convergence.ROWS, postcopy.ROWS)

__all__ = ["TABLE", "MigrateCase"]
