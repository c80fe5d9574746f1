"""Operations, their history and their claims.

Every change of an operation names the *fence* its owner was given; once another process has taken
the operation over, the fence has grown and the old owner's writes raise :class:`LostOwnership`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from twinship.model.errors import Busy, NotFound, TwinshipError
from twinship.model.operation import Event, Operation, OperationState, Progress
from twinship.store.database import Database
from twinship.store.tables import claim, event, operation

_ENDED = tuple(state.value for state in OperationState if state.ended)


class LostOwnership(TwinshipError):
    """Another process took the operation over; this one must stop touching it."""

    default_code = "LOST_OWNERSHIP"


class OperationStore:
    """Reads and writes operations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: Operation) -> None:
        """Stores a new operation and claims its resources, or neither.

        Raises :class:`Busy`, which names the other operation, when one of them is claimed.
        """
        with self._database.write() as connection:
            self._refuse_if_claimed(connection, new.resources)
            connection.execute(sa.insert(operation).values(_values(new)))
            for resource in dict.fromkeys(new.resources):
                connection.execute(sa.insert(claim).values(resource=resource, operation=new.id))

    def get(self, operation_id: str) -> Operation:
        """The operation of that id. Raises :class:`NotFound`."""
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(operation).where(operation.c.id == operation_id)
            ).first()
        if row is None:
            raise NotFound(f"no operation has the id {operation_id!r}", code="OPERATION_NOT_FOUND")
        return _operation(row)

    def all(self, *, unfinished: bool = False, limit: int | None = None) -> tuple[Operation, ...]:
        """Operations, the newest first."""
        query = sa.select(operation).order_by(operation.c.created.desc(), operation.c.id.desc())
        if unfinished:
            query = query.where(operation.c.state.not_in(_ENDED))
        if limit is not None:
            query = query.limit(limit)
        with self._database.read() as connection:
            return tuple(_operation(row) for row in connection.execute(query))

    def events(self, operation_id: str) -> tuple[Event, ...]:
        """The history of an operation, in order."""
        query = sa.select(event).where(event.c.operation == operation_id).order_by(event.c.seq)
        with self._database.read() as connection:
            return tuple(_event(row) for row in connection.execute(query))

    def append(
        self, op: Operation, kind: str, phase: str, data: Mapping[str, Any], at: datetime
    ) -> None:
        """Adds a line to the history; committed when this returns."""
        with self._database.write() as connection:
            self._guard(connection, op)
            self._append(connection, op.id, kind, phase, data, at)

    def update(
        self,
        op: Operation,
        at: datetime,
        note: str = "",
        **changes: Any,
    ) -> Operation:
        """Changes an operation; with ``note``, one line of history in the same transaction.

        An ended state gives the claims back.
        """
        changed = dataclasses.replace(op, **changes)
        values = _values(changed)
        wanted = {key: values[key] for key in changes}
        with self._database.write() as connection:
            self._guard(connection, op)
            if wanted:
                connection.execute(
                    sa.update(operation).where(operation.c.id == op.id).values(wanted)
                )
            if note:
                self._append(connection, op.id, note, "", {}, at)
            if changed.state.ended:
                connection.execute(sa.delete(claim).where(claim.c.operation == op.id))
        return changed

    def take_over(self, operation_id: str, seen_fence: int, owner: str, at: datetime) -> Operation:
        """Makes ``owner`` the owner if the fence is still the one seen.

        Raises :class:`LostOwnership` when somebody else was quicker.
        """
        with self._database.write() as connection:
            taken = connection.execute(
                sa.update(operation)
                .where(operation.c.id == operation_id, operation.c.fence == seen_fence)
                .where(operation.c.state.not_in(_ENDED))
                .values(owner=owner, fence=seen_fence + 1)
            ).rowcount
            if not taken:
                raise LostOwnership(f"operation {operation_id} was taken over by another process")
            self._append(connection, operation_id, "taken_over", "", {"owner": owner}, at)
        return self.get(operation_id)

    def request_cancel(self, operation_id: str) -> None:
        """Sets the cancel flag; the owner sees it. Harmless when it has ended."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(operation)
                .where(operation.c.id == operation_id, operation.c.state.not_in(_ENDED))
                .values(cancel_requested=True)
            )

    def cancel_requested(self, operation_id: str) -> bool:
        """Whether somebody asked the operation to cancel."""
        query = sa.select(operation.c.cancel_requested).where(operation.c.id == operation_id)
        with self._database.read() as connection:
            return bool(connection.execute(query).scalar())

    def holder(self, resource: str) -> str | None:
        """The id of the unfinished operation that claims the resource."""
        query = sa.select(claim.c.operation).where(claim.c.resource == resource)
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def _refuse_if_claimed(self, connection: sa.Connection, resources: Iterable[str]) -> None:
        query = (
            sa.select(operation.c.id, operation.c.title, claim.c.resource)
            .join(claim, claim.c.operation == operation.c.id)
            .where(claim.c.resource.in_(list(resources)))
        )
        row = connection.execute(query).first()
        if row is not None:
            raise Busy(
                f"{_spoken(row.resource)} is in use by operation {row.id} ({row.title})",
                hint=f"wait for it (twinship operation watch {row.id}) or cancel it",
            )

    def _guard(self, connection: sa.Connection, op: Operation) -> None:
        query = sa.select(operation.c.fence).where(operation.c.id == op.id)
        if connection.execute(query).scalar() != op.fence:
            raise LostOwnership(f"operation {op.id} was taken over by another process")

    @staticmethod
    def _append(
        connection: sa.Connection,
        operation_id: str,
        kind: str,
        phase: str,
        data: Mapping[str, Any],
        at: datetime,
    ) -> None:
        last = sa.select(sa.func.coalesce(sa.func.max(event.c.seq), 0)).where(
            event.c.operation == operation_id
        )
        seq = int(connection.execute(last).scalar() or 0) + 1
        connection.execute(
            sa.insert(event).values(
                operation=operation_id, seq=seq, at=at, kind=kind, phase=phase, data=dict(data)
            )
        )


def _spoken(resource: str) -> str:
    kind, _, rest = resource.partition("/")
    return {"vm": f"the VM {rest}", "name": f"the name {rest}", "file": f"the file {rest}"}.get(
        kind, resource
    )


def _values(op: Operation) -> dict[str, Any]:
    values = dataclasses.asdict(op)
    values.pop("children")
    values["state"] = op.state.value
    for key in ("resources", "leftovers"):
        values[key] = list(values[key])
    for key in ("spec", "result", "error"):
        values[key] = dict(values[key]) if values[key] is not None else None
    return values


def _operation(row: sa.Row[Any]) -> Operation:
    values = dict(row._mapping)
    values["state"] = OperationState(values["state"])
    values["progress"] = Progress(**values["progress"])
    for key in ("resources", "leftovers"):
        values[key] = tuple(values[key])
    for key in ("created", "started", "ended"):
        values[key] = _utc(values[key])
    return Operation(**values)


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        seq=row.seq, at=_utc(row.at) or row.at, kind=row.kind, phase=row.phase, data=row.data
    )


def _utc(value: datetime | None) -> datetime | None:
    # SQLite keeps no time zone; everything we store is UTC.
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
