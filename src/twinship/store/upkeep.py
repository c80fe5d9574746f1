"""The database's upkeep: backup, restore, check, prune."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from twinship.model.errors import Busy, Conflict, NotFound, TwinshipError, UsageError
from twinship.model.operation import OperationState
from twinship.store.database import Database
from twinship.store.tables import HEAD, event, operation

KEEP_DAYS = 30
_PRUNED = tuple(
    state.value
    for state in OperationState
    if state.ended and state is not OperationState.NEEDS_ATTENTION
)


def backup(database: Database, file: Path) -> int:
    """Writes a copy of the whole database to ``file``, mode 0600; its bytes.

    Consistent while others write (SQLite's backup API). Never writes over a file that is there
    (:class:`Conflict`); what is begun under another name gets its own only once it is on the disk.
    """
    if database.shared:
        raise UsageError("PostgreSQL has its own tool for that", hint="pg_dump")
    if file.exists() or file.is_symlink():
        raise Conflict(f"{file} is already there", code="FILE_EXISTS", hint="choose another name")
    begun = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        os.close(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            closing(sqlite3.connect(database.path)) as source,
            closing(sqlite3.connect(begun)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, complete in itself
        _flush(begun)
        os.link(begun, file)  # fails if somebody was quicker
    except FileExistsError:
        raise Conflict(f"{file} is already there", code="FILE_EXISTS") from None
    except (OSError, sqlite3.Error) as error:
        raise TwinshipError(
            f"the backup {file} could not be written", code="BACKUP_FAILED", cause=str(error)
        ) from None
    finally:
        begun.unlink(missing_ok=True)
    _flush(file.absolute().parent)
    return file.stat().st_size


def restore(path: Path, file: Path, at: datetime) -> Path | None:
    """Puts a backup in the place of the database ``path``; the old one is kept beside it.

    Returns where the old one is, None when there was none. The backup is checked whole first, and
    is left as it is. Raises :class:`Busy` while an operation of the old one is unfinished: what it
    has made on hosts is known to nobody else.
    """
    if not file.is_file():
        raise NotFound(f"there is no file {file}", code="FILE_NOT_FOUND")
    if damage := _damage(file):
        raise TwinshipError(
            f"{file} is no sound backup", code="BACKUP_DAMAGED", cause=damage, hint="take another"
        )
    if path.exists():
        _refuse_unfinished(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(fresh)) as copy,
        ):
            source.backup(copy)
        _flush(fresh)
        kept = _set_aside(path, at) if path.exists() else None
        fresh.rename(path)
    except (OSError, sqlite3.Error) as error:
        raise TwinshipError(
            f"{file} could not be restored", code="RESTORE_FAILED", cause=str(error)
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
    _flush(path.parent)
    return kept


def prune(database: Database, before: datetime) -> int:
    """Forgets operations that ended before that, with their history; how many.

    Those that call for a person stay, and so does a parent while a child of it does.
    """
    old = sa.select(operation.c.id).where(
        operation.c.ended < before, operation.c.state.in_(_PRUNED)
    )
    with database.read() as connection:
        if connection.execute(old.limit(1)).first() is None:
            return 0
    with database.write() as connection:
        gone = set(connection.execute(old).scalars())
        parents = sa.select(operation.c.parent).where(
            operation.c.parent.is_not(None), operation.c.id.not_in(gone)
        )
        gone -= set(connection.execute(parents).scalars())
        for table, column in ((event, event.c.operation), (operation, operation.c.id)):
            connection.execute(sa.delete(table).where(column.in_(gone)))
    return len(gone)


def _damage(file: Path) -> str:
    """Why a file cannot be restored from; empty for a sound backup."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            if found != ["ok"]:
                return "; ".join(found)
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        return str(error)
    if version is None:
        return "it is no database of Twinship"
    return "" if version[0] <= HEAD else "it was written by a newer Twinship"


def _refuse_unfinished(path: Path) -> None:
    """Raises :class:`Busy` for a database with work under way; a broken one has none to lose."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT id, title, state FROM operation").fetchall()
    except sqlite3.Error:
        return
    for name, title, state in rows:
        if not OperationState(state).ended:
            raise Busy(
                f"operation {name} ({title}) is unfinished",
                hint=f"finish it first: twinship operation resume {name}",
            )


def _set_aside(path: Path, at: datetime) -> Path:
    kept = path.with_name(f"{path.name}.{at:%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
