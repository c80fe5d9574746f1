"""The database's upkeep: backup, restore, check, prune.

:meth:`Database.damage` is the check of a whole one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from twinship.model.errors import Busy, Conflict, NotFound, TwinshipError, UsageError
from twinship.model.operation import OperationState
from twinship.store.database import BUSY_TIMEOUT_MS, Database, Unreadable, flaw
from twinship.store.operations import OperationStore
from twinship.store.tables import claim, event, metadata, operation, slot

KEEP_DAYS = 30
_PRUNED = tuple(
    state.value
    for state in OperationState
    if state.ended and state is not OperationState.NEEDS_ATTENTION
)
_CHUNK = 500
"""Rows named in one statement: SQLite takes 32766 values, some builds less."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""How a filesystem without hard links (FAT, some network ones) says so."""
_SHELVED = "restored from a backup that was made while it worked: what it did since is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore left: where the old database is (None: there was none), and the operations
    the backup shows at work, which now call for a person."""

    kept: Path | None
    shelved: tuple[str, ...]


def backup(database: Database, file: Path) -> int:
    """Writes a copy of the whole database to ``file``, mode 0600; its bytes.

    Consistent while others write (SQLite's backup API), and checked whole. Never writes over a file
    that is there (:class:`Conflict`); what is begun under another name gets its own only once it is
    on the disk.
    """
    if database.shared:
        raise UsageError("PostgreSQL has its own tool for that", hint="pg_dump")
    return _back_up(database.path, file)


def restore(path: Path, file: Path, at: datetime, alive: Callable[[str], bool]) -> Restored:
    """Makes the database ``path`` what the backup ``file`` holds; the old one is kept beside it.

    The backup is checked whole first, and is left as it is. Operations that were under way when it
    was made call for a person: to go on with them by themselves would undo what has long been done.
    Processes that use the database meanwhile see the old or the new, never a mixture. One that
    cannot be read is put aside as it is.

    Raises :class:`Busy` while an operation of the old one is unfinished: what it has made on hosts
    is known to nobody else. In one that cannot be read, only an owner that is ``alive`` counts.
    """
    if not file.is_file():
        raise NotFound(f"there is no file {file}", code="FILE_NOT_FOUND")
    if damage := _damage(file):
        raise TwinshipError(
            f"{file} is no sound backup", code="BACKUP_DAMAGED", cause=damage, hint="take another"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=path.parent) as directory:
            fresh = Path(directory) / path.name
            shelved = _prepare(file, fresh, at)
            kept = path.with_name(f"{path.name}.{at:%Y%m%dT%H%M%SZ}") if path.exists() else None
            try:
                Database(path).close()
            except Unreadable:
                _refuse_alive(path, alive)
                _put_in_place(path, fresh, path.with_name(f"{path.name}.{at:%Y%m%dT%H%M%SZ}"))
            else:
                _take_contents(path, fresh, kept)
    except (OSError, sqlite3.Error) as error:
        raise TwinshipError(
            f"{file} could not be restored", code="RESTORE_FAILED", cause=str(error)
        ) from None
    _flush(path.parent)
    return Restored(kept=kept, shelved=shelved)


def prune(database: Database, before: datetime) -> int:
    """Forgets operations that ended before that, with their history; how many.

    Those that call for a person stay. A parent and its children go together: who resumes the parent
    needs them.
    """
    old = sa.and_(operation.c.ended < before, operation.c.state.in_(_PRUNED))
    with database.read() as connection:
        if connection.execute(sa.select(operation.c.id).where(old).limit(1)).first() is None:
            return 0
    with database.write() as connection:
        query = sa.select(operation.c.id, operation.c.parent, old.label("old"))
        gone = _whole_families(connection.execute(query).all())
        for first in range(0, len(gone), _CHUNK):
            part = gone[first : first + _CHUNK]
            for column in (event.c.operation, claim.c.operation, slot.c.operation, operation.c.id):
                connection.execute(sa.delete(column.table).where(column.in_(part)))
    return len(gone)


def _whole_families(rows: Iterable[sa.Row[tuple[str, str | None, bool]]]) -> list[str]:
    """Those of which every relative is old as well."""
    known = {row.id: row for row in rows}

    def eldest(name: str) -> str:
        parent = known[name].parent
        return eldest(parent) if parent in known else name

    families = {name: eldest(name) for name in known}
    kept = {families[name] for name, row in known.items() if not row.old}
    return [name for name in known if families[name] not in kept]


def _back_up(source: Path, file: Path) -> int:
    if file.exists() or file.is_symlink():
        raise Conflict(f"{file} is already there", code="FILE_EXISTS", hint="choose another name")
    begun = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _copy(source, begun)
        if damage := _damage(begun):
            raise TwinshipError(f"the database {source} is damaged", code="DATABASE", cause=damage)
        _flush(begun)
        _name(begun, file)
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


def _copy(source: Path, target: Path) -> None:
    """One file, complete in itself, of the database's one moment."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(_reading(source)) as old, closing(sqlite3.connect(target)) as copy:
        old.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def _name(begun: Path, file: Path) -> None:
    """Gives a finished file its name; raises :class:`FileExistsError` if somebody was quicker."""
    try:
        os.link(begun, file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        begun.replace(file)


def _reading(file: Path) -> sqlite3.Connection:
    uri = f"{file.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)


def _damage(file: Path) -> str:
    """Why a file cannot be restored from; empty for a sound backup."""
    try:
        with closing(_reading(file)) as connection:
            if found := flaw(connection, "integrity_check"):
                return found
            empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except sqlite3.Error as error:
        return str(error)
    return "it is empty" if empty else ""


def _prepare(file: Path, fresh: Path, at: datetime) -> tuple[str, ...]:
    """A copy of the backup at the newest migration, with nothing at work; what had been."""
    _copy(file, fresh)
    try:
        copy = Database(fresh)
    except Unreadable as error:
        raise TwinshipError(
            f"{file} cannot be restored",
            code="BACKUP_DAMAGED",
            cause=error.cause or "it was written by a newer Twinship",
            hint=error.hint,
        ) from None
    try:
        store = OperationStore(copy)
        unfinished = store.all(unfinished=True)
        for op in unfinished:
            store.update(
                op,
                at,
                note="restored",
                state=OperationState.NEEDS_ATTENTION,
                ended=at,
                owner="",
                lease_until=0.0,
                waiting_for=_SHELVED,
            )
    finally:
        copy.close()
    _flush(fresh)
    return tuple(op.id for op in unfinished)


def _take_contents(path: Path, fresh: Path, kept: Path | None) -> None:
    """Replaces every row in one transaction: whoever has the file open goes on with the new ones.

    Nobody writes between the look for unfinished operations, the copy for keeping and the change.
    """
    timeout_s = BUSY_TIMEOUT_MS / 1000
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS fresh", (str(fresh),))
        connection.execute("BEGIN IMMEDIATE")
        _refuse_unfinished(connection)
        if kept is not None:
            _back_up(path, kept)
        for table in reversed(metadata.sorted_tables):
            connection.execute(f'DELETE FROM main."{table.name}"')  # noqa: S608 - our own names
        for table in metadata.sorted_tables:
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            into, out_of = f'main."{table.name}" ({columns})', f'fresh."{table.name}"'
            connection.execute(f"INSERT INTO {into} SELECT {columns} FROM {out_of}")  # noqa: S608
        connection.execute("COMMIT")


def _refuse_unfinished(connection: sqlite3.Connection) -> None:
    for name, title, state in connection.execute("SELECT id, title, state FROM operation"):
        if not OperationState(state).ended:
            raise Busy(
                f"operation {name} ({title}) is unfinished",
                hint=f"finish it first: twinship operation resume {name}",
            )


def _refuse_alive(path: Path, alive: Callable[[str], bool]) -> None:
    """Raises :class:`Busy` where a process still works on a file that others cannot open."""
    try:
        with closing(_reading(path)) as connection:
            rows = connection.execute("SELECT id, title, state, owner FROM operation").fetchall()
    except sqlite3.Error:
        return  # nothing can be read of who works on it
    ended = {state.value for state in OperationState if state.ended}
    for name, title, state, owner in rows:
        if state not in ended and isinstance(owner, str) and alive(owner):
            raise Busy(
                f"operation {name} ({title}) is under way", hint="wait until its process has ended"
            )


def _put_in_place(path: Path, fresh: Path, kept: Path) -> None:
    """The old file and its log under another name, then the new one in its place, at one stroke."""
    _name_also(path, kept)
    for suffix in ("-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    fresh.replace(path)


def _name_also(path: Path, kept: Path) -> None:
    """A second name for a file; where there are no links, its only one."""
    try:
        os.link(path, kept)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.rename(kept)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
