"""Operations, their history and their claims.

Every change of an operation names the *fence* its owner was given; once another process has taken
the operation over, the fence has grown and the old owner's writes raise :class:`LostOwnership`.

A *claim* is a thing an unfinished operation has for itself alone (a VM, a name, a file), or shares
with others that only read it (``read:vm/UUID``, the source of several clones). A *slot*
is one of the few that a host or pool has for operations that work at the same time: who finds none
free stays queued, in the order of arrival, and is told why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from twinship.model.errors import Busy, NotFound, TwinshipError
from twinship.model.operation import Event, Operation, OperationState, Progress
from twinship.store.claims import claim as claim_all
from twinship.store.claims import full_slot, spoken, standing_against
from twinship.store.database import Database
from twinship.store.tables import claim, event, operation, slot

_ENDED = tuple(state.value for state in OperationState if state.ended)

_FENCE = sa.select(operation.c.fence).where(operation.c.id == sa.bindparam("wanted"))
_APPEND = sa.insert(event).from_select(
    ["operation", "seq", "at", "kind", "phase", "data"],
    sa.select(
        sa.bindparam("wanted", type_=event.c.operation.type),
        sa.func.coalesce(sa.func.max(event.c.seq), 0) + 1,
        *(sa.bindparam(name, type_=event.c[name].type) for name in ("at", "kind", "phase", "data")),
    ).where(event.c.operation == sa.bindparam("wanted")),
)
"""The statements of every step, made once: making them takes longer than running them."""


class LostOwnership(TwinshipError):
    """Another process took the operation over; this one must stop touching it."""

    default_code = "LOST_OWNERSHIP"


class OperationStore:
    """Reads and writes operations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: Operation, slots: Iterable[str] = ()) -> None:
        """Stores a new operation with the slots it will need, and claims its resources, or neither.

        Raises :class:`Busy`, which names the other operation, when one of them is claimed.
        """
        with self._database.write() as connection:
            self._refuse_if_claimed(connection, new.resources)
            connection.execute(sa.insert(operation).values(_values(new)))
            claim_all(connection, new)
            for resource in dict.fromkeys(slots):
                connection.execute(sa.insert(slot).values(resource=resource, operation=new.id))

    def admit(
        self, op: Operation, limits: Mapping[str, int], lease_now: float, at: datetime
    ) -> tuple[Operation, str]:
        """Lets a queued operation begin if every slot it needs is free, in one transaction.

        ``limits`` by the slot's first word (``in`` for ``in/kvm02``); one without a limit is always
        free. Returns the operation, now running, and "", or the operation and why it stays queued.
        Operations that queued earlier go first, unless their owner is gone (``lease_now``).
        """
        with self._database.write() as connection:
            self._guard(connection, op)
            reason = full_slot(connection, op, limits, lease_now)
            changes: dict[str, Any] = {"waiting_for": reason}
            if not reason:
                changes |= {"state": OperationState.RUNNING, "started": op.started or at}
            if any(getattr(op, key) != value for key, value in changes.items()):
                self._change(connection, op, changes)
                note = "queued" if reason else OperationState.RUNNING.value
                self._append(connection, op.id, note, "", {"why": reason} if reason else {}, at)
        return dataclasses.replace(op, **changes), reason

    def renew(self, op: Operation, lease_until: float) -> None:
        """Puts the end of the owner's lease off.

        Raises :class:`LostOwnership`, or :class:`TwinshipError` when it cannot be written now.
        """
        renewed = sa.update(operation).where(operation.c.id == op.id, operation.c.fence == op.fence)
        try:
            with self._database.write() as connection:
                kept = connection.execute(renewed.values(lease_until=lease_until)).rowcount
        except SQLAlchemyError as error:
            raise TwinshipError(
                f"the lease of operation {op.id} could not be renewed",
                code="DATABASE",
                cause=str(error),
            ) from error
        if not kept:
            raise LostOwnership(f"operation {op.id} was taken over by another process")

    def get(self, operation_id: str) -> Operation:
        """The operation of that id. Raises :class:`NotFound`."""
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(operation).where(operation.c.id == operation_id)
            ).first()
            ids = sa.select(operation.c.id).where(operation.c.parent == operation_id)
            children = connection.execute(ids.order_by(operation.c.created)).scalars().all()
        if row is None:
            raise NotFound(f"no operation has the id {operation_id!r}", code="OPERATION_NOT_FOUND")
        return dataclasses.replace(_operation(row), children=tuple(children))

    def all(
        self, *, unfinished: bool = False, children: bool = True, limit: int | None = None
    ) -> tuple[Operation, ...]:
        """Operations, the newest first; without ``children`` none that is part of another."""
        query = sa.select(operation).order_by(operation.c.created.desc(), operation.c.id.desc())
        if unfinished:
            query = query.where(operation.c.state.not_in(_ENDED))
        if not children:
            query = query.where(operation.c.parent.is_(None))
        if limit is not None:
            query = query.limit(limit)
        with self._database.read() as connection:
            return tuple(_operation(row) for row in connection.execute(query))

    def children(self, parent: str) -> tuple[Operation, ...]:
        """The operations that are part of another, in the order of their making."""
        query = sa.select(operation).where(operation.c.parent == parent)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(operation.c.created, operation.c.id))
            return tuple(_operation(row) for row in rows)

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
        with self._database.write() as connection:
            self._guard(connection, op)
            changed = self._change(connection, op, changes)
            if note:
                self._append(connection, op.id, note, "", {}, at)
            if changed.state.ended:
                for table in (claim, slot):
                    connection.execute(sa.delete(table).where(table.c.operation == op.id))
        return changed

    def reopen(self, op: Operation, at: datetime) -> Operation:
        """An operation that called for a person waits again, with its claims.

        Raises :class:`Busy` when another operation has taken one of them since, and
        :class:`LostOwnership` when somebody else was quicker.
        """
        with self._database.write() as connection:
            self._guard(connection, op)
            self._refuse_if_claimed(connection, op.resources)
            claim_all(connection, op)
            changes = {
                "state": OperationState.WAITING,
                "ended": None,
                "owner": "",
                "lease_until": 0.0,
            }
            reopened = self._change(connection, op, changes)
            self._append(connection, op.id, "reopened", "", {}, at)
        return reopened

    def take_over(
        self, operation_id: str, seen_fence: int, owner: str, lease_until: float, at: datetime
    ) -> Operation:
        """Makes ``owner`` the owner if the fence is still the one seen.

        Raises :class:`LostOwnership` when somebody else was quicker.
        """
        with self._database.write() as connection:
            taken = connection.execute(
                sa.update(operation)
                .where(operation.c.id == operation_id, operation.c.fence == seen_fence)
                .where(operation.c.state.not_in(_ENDED))
                .values(owner=owner, fence=seen_fence + 1, lease_until=lease_until)
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
        """The id of an unfinished operation whose claim stands against this one."""
        with self._database.read() as connection:
            row = standing_against(connection, (resource,))
        return row.id if row is not None else None

    def stale_claims(self) -> tuple[tuple[str, str], ...]:
        """Claims whose operation has ended or is not there: resource and operation."""
        query = (
            sa.select(claim.c.resource, claim.c.operation)
            .outerjoin(operation, operation.c.id == claim.c.operation)
            .where(sa.or_(operation.c.id.is_(None), operation.c.state.in_(_ENDED)))
            .order_by(claim.c.resource)
        )
        with self._database.read() as connection:
            return tuple((row.resource, row.operation) for row in connection.execute(query))

    def drop_claim(self, resource: str, operation_id: str) -> None:
        """Gives back a claim of an operation that has ended; one of another is left."""
        ended = sa.select(operation.c.id).where(operation.c.state.not_in(_ENDED))
        with self._database.write() as connection:
            connection.execute(
                sa.delete(claim).where(
                    claim.c.resource == resource,
                    claim.c.operation == operation_id,
                    claim.c.operation.not_in(ended),
                )
            )

    def claimed(self, beginning: str) -> frozenset[str]:
        """What is claimed of the resources that begin so, without that beginning."""
        query = sa.select(claim.c.resource).where(
            claim.c.resource.startswith(beginning, autoescape=True)
        )
        with self._database.read() as connection:
            found = connection.execute(query).scalars()
            return frozenset(resource.removeprefix(beginning) for resource in found)

    def _refuse_if_claimed(self, connection: sa.Connection, resources: Iterable[str]) -> None:
        row = standing_against(connection, resources)
        if row is not None:
            raise Busy(
                f"{spoken(row.resource)} is in use by operation {row.id} ({row.title})",
                hint=f"wait for it (twinship operation watch {row.id}) or cancel it",
                resource=row.resource,
            )

    @staticmethod
    def _change(connection: sa.Connection, op: Operation, changes: Mapping[str, Any]) -> Operation:
        changed = dataclasses.replace(op, **changes)
        values = _values(changed)
        wanted = {key: values[key] for key in changes}
        if wanted:
            connection.execute(sa.update(operation).where(operation.c.id == op.id).values(wanted))
        return changed

    def _guard(self, connection: sa.Connection, op: Operation) -> None:
        if connection.execute(_FENCE, {"wanted": op.id}).scalar() != op.fence:
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
        values = {"at": at, "kind": kind, "phase": phase, "data": dict(data)}
        connection.execute(_APPEND, {"wanted": operation_id, **values})


def _values(op: Operation) -> dict[str, Any]:
    # Not asdict(), which would copy the whole spec for every line of progress.
    values = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
    values.pop("children")
    values["state"] = op.state.value
    values["progress"] = dataclasses.asdict(op.progress)
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
