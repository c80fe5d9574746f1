"""Opening the database: SQLite in WAL mode, brought to the newest migration.

Many processes use one file at once. Writers take SQLite's write lock at the start of their
transaction (``BEGIN IMMEDIATE``), so that what they read first still holds when they write. On
PostgreSQL, which several controllers may share, an advisory lock does the same.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import DatabaseError

from twinship.model.errors import TwinshipError
from twinship.store.tables import HEAD

BUSY_TIMEOUT_MS = 10_000


CHECKED_BYTES = 8 * 2**20
"""Up to this size a file is checked whole whenever it is opened (8 MiB: about 10 ms)."""
_WRITER = 0x7477696E
"""The key of the advisory lock that a writer on PostgreSQL holds."""


class Database:
    """A database at the newest migration. Threads may share it; close it when done."""

    shared = False
    """Whether controllers on other machines use it as well."""

    def __init__(self, path: Path) -> None:
        """Opens ``path``, making it (and its 0700 directory) if missing.

        Raises :class:`TwinshipError` with code ``DATABASE`` when the file cannot be opened, is
        damaged, or was written by a newer Twinship.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise TwinshipError(
                f"cannot open the database {path}",
                code="DATABASE",
                cause=str(error),
                hint="run as the user who owns it, or set TWINSHIP_STATE_DIR",
            ) from None
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa_event.listen(self._engine, "connect", _prepare)
        sa_event.listen(self._engine, "begin", _begin)
        try:
            if path.stat().st_size <= CHECKED_BYTES and (damage := self.damage(quick=True)):
                raise _unusable(path, damage)
            self._migrate()
        except DatabaseError as error:
            raise _unusable(path, str(error.orig)) from None

    @staticmethod
    def at(url: str) -> Database:
        """Opens what a SQLAlchemy URL names: ``postgresql+psycopg://...``, for several controllers.

        Raises :class:`TwinshipError` with code ``DATABASE`` when it does not answer.
        """
        return _Shared(url)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start; commits at the end."""
        with (
            self._engine.connect().execution_options(immediate=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def damage(self, *, quick: bool = False) -> str:
        """What is broken in the file; empty for a whole one. ``quick`` leaves the indices out."""
        check = "quick_check" if quick else "integrity_check"
        with self.read() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA {check}(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def now(self) -> float:
        """Seconds on a clock that all users of the database share and that never steps.

        For SQLite this machine's CLOCK_MONOTONIC: it stands still while the machine sleeps, so that
        no lease lapses in a suspended laptop.
        """
        return time.monotonic()

    def close(self) -> None:
        """Gives back all connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        with self.read() as connection:
            found = _version(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise TwinshipError(
                f"the database {self.path} was written by a newer Twinship",
                code="DATABASE",
                hint="use that version",
            )
        with self.write() as connection:
            if _version(connection) != HEAD:
                _upgrade(connection)


class _Shared(Database):
    """A PostgreSQL database."""

    shared = True

    def __init__(self, url: str) -> None:
        self.path = Path()
        try:
            self._engine = sa.create_engine(url)
            self._migrate()
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise TwinshipError(
                "cannot use the PostgreSQL database",
                code="DATABASE",
                cause=str(getattr(error, "orig", None) or error).splitlines()[0],
                hint="install the extra twinship[postgresql]; see docs: several controllers",
            ) from None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One writer at a time, as on SQLite."""
        with self._engine.connect() as connection, connection.begin():
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view."""
        options = {"isolation_level": "REPEATABLE READ"}
        with (
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def damage(self, *, quick: bool = False) -> str:
        """PostgreSQL looks after its own files."""
        return ""

    def now(self) -> float:
        """The server's clock."""
        with self._engine.connect() as connection:
            moment = connection.execute(
                sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))
            ).scalar_one()
        return float(moment)


def _unusable(path: Path, cause: str) -> TwinshipError:
    return TwinshipError(
        f"the database {path} cannot be used",
        code="DATABASE",
        cause=cause,
        hint=f"restore a backup: move {path} away, then twinship database restore FILE; or go on "
        "with an empty one",
    )


def _version(connection: sa.Connection) -> str | None:
    if connection.dialect.name == "sqlite":
        # A plain look: SQLAlchemy's inspector takes longer than all the rest of opening.
        table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        there = connection.exec_driver_sql(table).first() is not None
    else:
        there = sa.inspect(connection).has_table("alembic_version")
    if not there:
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: sa.Connection) -> None:
    # Alembic takes 0.1 s to import: only a database that needs it pays.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare(raw: Any, _record: Any) -> None:
    raw.isolation_level = None  # our own BEGIN, see _begin
    cursor = raw.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switches to WAL mode, which a new database is not in yet.

    SQLite's busy timeout does not cover this switch: of several processes that make one database
    some are told at once that it is locked (measured: 1 or 2 in 100 openings by six processes).
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
