"""Claims and slots: what stands against an operation's beginning. Called within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from twinship.model.operation import Operation, OperationState
from twinship.store import tables
from twinship.store.tables import operation, slot

READ = "read:"
_AT_WORK = (OperationState.RUNNING.value, OperationState.CANCELLING.value)
"""States that hold slots; one that waits for a silent host does nothing that others could mind."""


def claim(connection: sa.Connection, op: Operation) -> None:
    """Claims an operation's resources; to be called once nothing stands against it."""
    for resource, shared in _wanted(op.resources).items():
        values = {"resource": resource, "operation": op.id, "shared": shared}
        connection.execute(sa.insert(tables.claim).values(values))


def _wanted(resources: Iterable[str]) -> dict[str, bool]:
    """Each thing by name, and whether it is only read."""
    wanted: dict[str, bool] = {}
    for resource in resources:
        name = resource.removeprefix(READ)
        wanted[name] = wanted.get(name, True) and name != resource
    return wanted


def standing_against(connection: sa.Connection, resources: Iterable[str]) -> sa.Row[Any] | None:
    """The first claim of another operation that does not go with one on these."""
    wanted = _wanted(resources)
    query = (
        sa.select(operation.c.id, operation.c.title, tables.claim.c.resource, tables.claim.c.shared)
        .join(tables.claim, tables.claim.c.operation == operation.c.id)
        .where(tables.claim.c.resource.in_(list(wanted)))
        .order_by(tables.claim.c.resource)
    )
    rows = connection.execute(query)
    return next((row for row in rows if not (row.shared and wanted[row.resource])), None)


def full_slot(
    connection: sa.Connection, op: Operation, limits: Mapping[str, int], lease_now: float
) -> str:
    """Why an operation cannot begin; empty when it can."""
    wanted = connection.execute(sa.select(slot.c.resource).where(slot.c.operation == op.id))
    for resource in sorted(wanted.scalars()):
        limit = limits.get(resource.partition("/")[0])
        if limit is None:
            continue
        others = (
            sa.select(sa.func.count())
            .select_from(slot.join(operation, operation.c.id == slot.c.operation))
            .where(slot.c.resource == resource, operation.c.id != op.id)
        )
        working = connection.execute(others.where(operation.c.state.in_(_AT_WORK))).scalar_one()
        earlier = connection.execute(
            others.where(operation.c.state == OperationState.QUEUED.value)
            .where(operation.c.lease_until > lease_now)
            .where(_earlier(op))
        ).scalar_one()
        if working + earlier >= limit:
            before = f", {earlier} before this one" if earlier else ""
            return f"{_slot_spoken(resource, limit)} at a time, {working} running{before}"
    return ""


def _earlier(op: Operation) -> sa.ColumnElement[bool]:
    created = operation.c.created
    same_moment = sa.and_(created == op.created, operation.c.id < op.id)
    return sa.or_(created < op.created, same_moment)


def _slot_spoken(resource: str, limit: int) -> str:
    kind, _, rest = resource.partition("/")
    host, _, pool = rest.partition("/")
    moves = f"{limit} {'move' if limit == 1 else 'moves'}"
    copies = f"{limit} {'copy' if limit == 1 else 'copies'}"
    return {
        "in": f"{host} takes {moves}",
        "out": f"{host} gives {moves}",
        "small": f"{host} takes part in {limit} small {'move' if limit == 1 else 'moves'}",
        "pool": f"pool {pool} on {host} takes {copies}",
    }.get(kind, f"there are {limit} operations")


def spoken(resource: str) -> str:
    """A resource in words."""
    kind, _, rest = resource.partition("/")
    return {"vm": f"the VM {rest}", "name": f"the name {rest}", "file": f"the file {rest}"}.get(
        kind, resource
    )
