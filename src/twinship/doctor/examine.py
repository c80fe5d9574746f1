"""The whole examination: journal, census, table."""

from __future__ import annotations

from collections.abc import Sequence

from twinship.doctor import journal, table
from twinship.doctor.census import take
from twinship.inventory.inventory import Inventory
from twinship.model.diagnosis import Ailment, Diagnosis
from twinship.model.operation import Operation
from twinship.store.operations import OperationStore


def examine(inventory: Inventory, store: OperationStore, orphans: Sequence[Operation]) -> Diagnosis:
    """Looks at everything on all hosts; changes nothing. ``orphans``: nobody works on them."""
    census = take(inventory, journal.read(store))
    left = tuple(
        Ailment(
            code="OPERATION_LEFT",
            message=f"operation {op.id} ({op.title}) has lost its process",
            cure="finish or undo it, as what is there asks for",
            object=f"operation/{op.id}",
            certain=True,
            facts={"operation": op.id},
        )
        for op in orphans
    )
    return Diagnosis(
        ailments=(*left, *table.run(census)), hosts=len(census.hosts), vms=len(census.vms)
    )
