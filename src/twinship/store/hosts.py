"""The hosts the user added."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from twinship.model.errors import Conflict, NotFound
from twinship.model.host import HostRecord
from twinship.store.database import Database
from twinship.store.tables import host


class HostStore:
    """Reads and writes host records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[HostRecord, ...]:
        """Every host, by name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(host).order_by(host.c.name)).all()
        return tuple(_record(row) for row in rows)

    def get(self, name: str) -> HostRecord:
        """The host of that name. Raises :class:`NotFound`."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(host).where(host.c.name == name)).first()
        if row is None:
            raise NotFound(f"no host is named {name!r}", code="HOST_NOT_FOUND")
        return _record(row)

    def add(self, record: HostRecord) -> None:
        """Adds a host. Raises :class:`Conflict` when the name is taken."""
        values = {
            "name": record.name,
            "uri": record.uri,
            "address": record.address,
            "site": record.site,
            "labels": dict(record.labels),
        }
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(host).values(values))
        except IntegrityError:
            raise Conflict(
                f"a host named {record.name!r} is already there",
                code="HOST_EXISTS",
                hint=f"twinship host remove {record.name}, or choose another name",
            ) from None

    def remove(self, name: str) -> None:
        """Forgets a host; nothing changes on it. Raises :class:`NotFound`."""
        with self._database.write() as connection:
            gone = connection.execute(sa.delete(host).where(host.c.name == name)).rowcount
        if not gone:
            raise NotFound(f"no host is named {name!r}", code="HOST_NOT_FOUND")


def _record(row: sa.Row[tuple[object, ...]]) -> HostRecord:
    values = row._mapping
    return HostRecord(
        name=str(values["name"]),
        uri=str(values["uri"]),
        address=str(values["address"]),
        site=str(values["site"]),
        labels=dict(values["labels"]),
    )
