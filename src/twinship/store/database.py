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
CONNECT_TIMEOUT_S = 10
CHECKED_BYTES = 8 * 2**20
"""Up to this size a file is checked whole whenever it is opened (8 MiB: about 3 ms)."""
_OURS = frozenset({"host", "operation", "event", "claim"})
"""The tables every version has."""
_WRITER = 0x7477696E
"""The key of the advisory lock that a writer on PostgreSQL holds."""


class Unreadable(TwinshipError):
    """What stands in the database's place is damaged, newer than this program, or not ours."""

    default_code = "DATABASE"


class Database:
    """A database at the newest migration. Threads may share it; close it when done."""

    shared = False
    """Whether controllers on other machines use it as well."""

    def __init__(self, path: Path) -> None:
        """Opens ``path``, making it (and its 0700 directory) if missing.

        Raises :class:`TwinshipError` with code ``DATABASE`` when the file cannot be opened, and
        :class:`Unreadable` when it is damaged, another program's, or written by a newer Twinship;
        such a file is left as it is.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            emptied = path.stat().st_size == 0 and _waiting_bytes(path) > 0
        except OSError as error:
            raise TwinshipError(
                f"cannot open the database {path}",
                code="DATABASE",
                cause=str(error),
                hint=_OWNER_HINT,
            ) from None
        if emptied:
            raise _unreadable(path, "the file is empty, but changes wait beside it (-wal)")
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa_event.listen(self._engine, "connect", _prepare)
        sa_event.listen(self._engine, "begin", _begin)
        try:
            self._examine()
            self._migrate()
        except TwinshipError:
            self.close()
            raise
        except (DatabaseError, sqlite3.Error) as error:
            self.close()
            raise _refusal(path, getattr(error, "orig", error)) from None

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

    def _examine(self) -> None:
        """Refuses what is not to be used before a byte of it is changed; then switches to WAL."""
        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            check = "quick_check" if self.path.stat().st_size <= CHECKED_BYTES else ""
            if found := flaw(raw, check):
                raise _unreadable(self.path, found)
            _write_ahead(raw)

    def _migrate(self) -> None:
        with self.read() as connection:
            found = _version(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise Unreadable(
                f"the database {self.path} was written by a newer Twinship",
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
            server = sa.make_url(url)
            if server.get_backend_name() != "postgresql":
                raise sa.exc.ArgumentError(f"{server.get_backend_name()} is no shared database")
            if "connect_timeout" not in server.query:
                server = server.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})
            self._engine = sa.create_engine(server)
        except (sa.exc.ArgumentError, ImportError) as error:
            hint = "install the extra twinship[postgresql]; write postgresql+psycopg://USER@HOST/DB"
            raise _no_server(error, hint) from None
        try:
            self._migrate()
        except TwinshipError:
            self.close()
            raise
        except sa.exc.SQLAlchemyError as error:
            self.close()
            hint = "see with psql whether that server, database and user answer"
            raise _no_server(getattr(error, "orig", None) or error, hint) from None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One writer at a time, as on SQLite, and waiting as long for it."""
        with self._engine.connect() as connection, connection.begin():
            bound = sa.func.set_config("lock_timeout", str(BUSY_TIMEOUT_MS), True)
            connection.execute(sa.select(bound, sa.func.pg_advisory_xact_lock(_WRITER)))
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


def flaw(look: sqlite3.Connection, check: str) -> str:
    """Why a file is not to be used as a database of ours; empty for nothing, as in an empty file.

    ``check``: the SQLite check to run, ``quick_check`` or ``integrity_check``, or "" for none.
    Raises :class:`sqlite3.Error` where SQLite cannot even begin to read it.
    """
    named = look.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    if tables := {row[0] for row in named}:
        of_alembic = "alembic_version" in tables
        version = look.execute("SELECT version_num FROM alembic_version") if of_alembic else None
        found = version.fetchone() if version is not None else None
        if found is None or not isinstance(found[0], str):  # a broken file shows anything
            return "it is a database of another program"
        if found[0] <= HEAD and not tables >= _OURS:
            return "it is a database of another program"
    words = [str(row[0]) for row in look.execute(f"PRAGMA {check}(3)")] if check else ["ok"]
    return "" if words == ["ok"] else "; ".join(words)


_OWNER_HINT = "run as the user who owns it, or set TWINSHIP_STATE_DIR"


def _refusal(path: Path, error: BaseException) -> TwinshipError:
    """What to say of a file that SQLite does not open: only a broken one is to be replaced."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:  # without its details
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            hint = f"free some space (df {path.parent}), or look at the disk (dmesg)"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            hint = f"another process holds it: find it (fuser {path}), then try again"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            hint = _OWNER_HINT
        case _:
            return _unreadable(path, str(error))
    return TwinshipError(
        f"the database {path} cannot be used now", code="DATABASE", cause=str(error), hint=hint
    )


def _unreadable(path: Path, cause: str) -> Unreadable:
    return Unreadable(
        f"the database {path} cannot be used",
        cause=cause,
        hint="twinship database restore FILE puts a backup in its place and keeps it; "
        "or move it away and go on with an empty one",
    )


def _no_server(error: BaseException, hint: str) -> TwinshipError:
    words = str(error).strip() or type(error).__name__
    return TwinshipError(
        "cannot use the PostgreSQL database",
        code="DATABASE",
        cause=words.splitlines()[0],
        hint=hint,
    )


def _waiting_bytes(path: Path) -> int:
    """The size of the write-ahead log, changes that are not in the file itself yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


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
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Switches to WAL mode, which a new database is not in yet.

    SQLite's busy timeout does not cover this switch: of several processes that make one database
    some are told at once that it is locked (measured: 1 or 2 in 100 openings by six processes).
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
