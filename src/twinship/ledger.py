"""What was done, is under way, or stuck, and the database that knows it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from twinship.model.operation import Event, Operation
from twinship.operations.job import Watch
from twinship.operations.runner import Runner
from twinship.store import upkeep
from twinship.store.database import Database
from twinship.store.operations import OperationStore


class Ledger:
    """The part of :class:`twinship.Controller` that only looks at what it knows."""

    _database: Database
    _store: OperationStore
    _runner: Runner

    # Operations

    def operation_list(
        self, *, unfinished: bool = False, children: bool = False, limit: int = 50
    ) -> tuple[Operation, ...]:
        """Operations, the newest first; those that are part of another only if asked for."""
        return self._store.all(unfinished=unfinished, children=children, limit=limit)

    def operation_show(self, operation_id: str) -> Operation:
        """One operation."""
        return self._store.get(operation_id)

    def operation_log(self, operation_id: str) -> tuple[Event, ...]:
        """The history of one operation."""
        return self._runner.history(operation_id)

    def operation_watch(self, operation_id: str, watch: Watch) -> Operation:
        """Follows an operation of any process until it ends."""
        return self._runner.watch(operation_id, watch)

    def operation_cancel(self, operation_id: str) -> Operation:
        """Asks an operation to cancel and undo; its owner does so."""
        return self._runner.cancel(operation_id)

    def operation_resume(
        self,
        operation_id: str,
        *,
        patience_s: float | None = None,
        watch: Watch | None = None,
    ) -> Operation:
        """Goes on with an operation whose process is gone: finishes or undoes it."""
        return self._runner.resume(operation_id, patience_s=patience_s, watch=watch)

    def operation_work(self, operation_id: str) -> Operation:
        """Goes on with an operation as a worker, which waits as long as it takes."""
        return self._runner.work(operation_id)

    def operation_orphans(self) -> tuple[Operation, ...]:
        """Unfinished operations that no process works on."""
        return self._runner.orphans()

    # The database

    def database_backup(self, file: Path) -> int:
        """Writes a copy of the database; its bytes."""
        return upkeep.backup(self._database, file)

    def database_damage(self) -> str:
        """What is broken in the database; empty for a whole one."""
        return self._database.damage()

    def database_prune(self, before: datetime) -> int:
        """Forgets operations that ended before that; how many."""
        return upkeep.prune(self._database, before)
