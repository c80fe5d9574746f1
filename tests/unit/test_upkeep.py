"""Backup, restore, check and prune: nothing is ever written over, nothing broken is taken."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import an_operation
from twinship.model.errors import Busy, Conflict, NotFound, TwinshipError
from twinship.model.operation import OperationState
from twinship.store.database import Database, Unreadable, flaw
from twinship.store.operations import OperationStore
from twinship.store.upkeep import Restored, backup, prune
from twinship.store.upkeep import restore as restore_alive

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ENDED = {"state": OperationState.SUCCEEDED, "ended": NOW}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state" / "twinship.db")
    yield opened
    opened.close()


def ids(path: Path) -> set[str]:
    opened = Database(path)
    try:
        return {op.id for op in OperationStore(opened).all()}
    finally:
        opened.close()


def restore(path: Path, file: Path, *, alive: bool = False) -> Restored:
    return restore_alive(path, file, NOW, lambda _owner: alive)


# Backup


def test_a_backup_is_restored_as_it_was(database: Database, tmp_path: Path) -> None:
    store = OperationStore(database)
    store.create(an_operation(id="a", **ENDED))
    assert backup(database, tmp_path / "b.db") == (tmp_path / "b.db").stat().st_size
    store.create(an_operation(id="b", **ENDED))
    database.close()

    kept = restore(database.path, tmp_path / "b.db").kept

    assert ids(database.path) == {"a"}
    assert kept is not None
    assert ids(kept) == {"a", "b"}
    assert ids(tmp_path / "b.db") == {"a"}


def test_a_backup_is_for_its_owner_alone_and_one_file(database: Database, tmp_path: Path) -> None:
    backup(database, tmp_path / "b.db")
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"b.db", "state"}


def test_a_backup_never_writes_over_anything(database: Database, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(Conflict):
            backup(database, tmp_path / name)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_that_cannot_be_written_says_so_and_leaves_nothing(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(TwinshipError) as failed:
        backup(database, tmp_path / "no" / "such" / "b.db")
    assert failed.value.code == "BACKUP_FAILED"


def test_a_backup_is_of_one_moment_while_others_write(database: Database, tmp_path: Path) -> None:
    store = OperationStore(database)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            op = an_operation(id=f"op{number}", resources=(f"vm/{number}",))
            store.create(op)
            store.append(op, "intent", "a", {}, NOW)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            backup(database, tmp_path / f"b{number}.db")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        with sqlite3.connect(tmp_path / f"b{number}.db") as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts = [
                copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("operation", "claim")
            ]
            assert counts[0] == counts[1]


# Restore


def test_a_version_that_is_no_word_is_no_database_of_ours(
    database: Database, tmp_path: Path
) -> None:
    OperationStore(database).create(an_operation(id="a", **ENDED))
    backup(database, tmp_path / "broken.db")
    with sqlite3.connect(tmp_path / "broken.db") as broken:
        broken.execute("UPDATE alembic_version SET version_num = x'00ff'")
        assert flaw(broken, "") == "it is a database of another program"


def test_what_is_no_sound_backup_is_refused_and_nothing_is_touched(
    database: Database, tmp_path: Path
) -> None:
    OperationStore(database).create(an_operation(id="a", **ENDED))
    database.close()
    good = tmp_path / "good.db"
    opened = Database(database.path)
    backup(opened, good)
    opened.close()
    data = good.read_bytes()
    spoilt = {
        "empty": b"",
        "text": b"hello" * 1000,
        "cut": data[: len(data) // 2],
        "holed": data[:5000] + os.urandom(4000) + data[9000:],
        "newer": b"",
    }
    for name, content in spoilt.items():
        (tmp_path / name).write_bytes(content)
    with sqlite3.connect(tmp_path / "newer2") as newer:
        newer.execute("CREATE TABLE alembic_version (version_num TEXT)")
        newer.execute("INSERT INTO alembic_version VALUES ('9999')")
    for name in (*spoilt, "newer2"):
        with pytest.raises(TwinshipError) as refused:
            restore(database.path, tmp_path / name)
        assert refused.value.code == "BACKUP_DAMAGED", name
    with pytest.raises(NotFound):
        restore(database.path, tmp_path / "missing")
    assert ids(database.path) == {"a"}


def test_nothing_is_restored_over_work_under_way(database: Database, tmp_path: Path) -> None:
    backup(database, tmp_path / "b.db")
    OperationStore(database).create(an_operation(id="a"))
    with pytest.raises(Busy, match="a"):
        restore(database.path, tmp_path / "b.db")
    assert ids(database.path) == {"a"}


def test_a_broken_database_is_replaced_and_kept(database: Database, tmp_path: Path) -> None:
    OperationStore(database).create(an_operation(id="a", **ENDED))
    backup(database, tmp_path / "b.db")
    database.close()
    database.path.write_bytes(b"rubbish" * 1000)

    kept = restore(database.path, tmp_path / "b.db").kept

    assert ids(database.path) == {"a"}
    assert kept is not None
    assert kept.read_bytes().startswith(b"rubbish")


def test_a_backup_is_restored_where_nothing_was(database: Database, tmp_path: Path) -> None:
    backup(database, tmp_path / "b.db")
    restored = restore(tmp_path / "new" / "twinship.db", tmp_path / "b.db")
    assert restored == Restored(kept=None, shelved=())
    assert ids(tmp_path / "new" / "twinship.db") == set()


def test_what_a_backup_shows_at_work_calls_for_a_person(database: Database, tmp_path: Path) -> None:
    """To undo by itself what may have been done long ago could delete what is in use by now."""
    store = OperationStore(database)
    working = an_operation(id="a", state=OperationState.RUNNING, owner="gone:1:1", resources=("x",))
    store.create(working)
    backup(database, tmp_path / "b.db")
    store.update(working, NOW, state=OperationState.SUCCEEDED, ended=NOW)

    restored = restore(database.path, tmp_path / "b.db")

    assert restored.shelved == ("a",)
    op = store.get("a")
    assert (op.state, op.owner) == (OperationState.NEEDS_ATTENTION, "")
    assert "backup" in op.waiting_for
    assert store.all(unfinished=True) == ()
    copy = sqlite3.connect(tmp_path / "b.db")
    assert copy.execute("SELECT state FROM operation").fetchone() == ("running",)
    copy.close()


def test_a_process_that_has_the_database_open_sees_what_was_restored(
    database: Database, tmp_path: Path
) -> None:
    store = OperationStore(database)
    store.create(an_operation(id="a", **ENDED))
    backup(database, tmp_path / "b.db")
    store.create(an_operation(id="b", **ENDED))

    restore(database.path, tmp_path / "b.db")

    assert {op.id for op in store.all()} == {"a"}
    store.create(an_operation(id="c", **ENDED))
    assert ids(database.path) == {"a", "c"}


def test_a_broken_database_is_not_replaced_under_one_who_works(
    database: Database, tmp_path: Path
) -> None:
    backup(database, tmp_path / "b.db")
    store = OperationStore(database)
    for number in range(50):
        store.create(an_operation(id=f"op{number}", title="x" * 500, **ENDED))
    store.create(an_operation(id="z", state=OperationState.RUNNING, owner="here:1:1"))
    database.close()
    with sqlite3.connect(database.path) as raw:  # a table of ours is missing: it does not open
        raw.execute("DROP TABLE claim")
    raw.close()

    with pytest.raises(Busy, match="z"):
        restore(database.path, tmp_path / "b.db", alive=True)
    assert restore(database.path, tmp_path / "b.db").kept is not None


# Check


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE places (id INTEGER)")
    theirs.close()
    before = path.read_bytes()

    with pytest.raises(Unreadable) as refused:
        Database(path)

    assert "another program" in refused.value.cause
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs.db"]


def test_a_database_cut_to_nothing_keeps_the_changes_that_wait_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "twinship.db"
    opened = Database(path)
    OperationStore(opened).create(an_operation(id="a"))
    log = path.with_name("twinship.db-wal")
    before = log.read_bytes()
    with path.open("wb"):
        pass

    with pytest.raises(Unreadable) as refused:
        Database(path)

    assert "-wal" in refused.value.cause
    assert (path.read_bytes(), log.read_bytes()) == (b"", before)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (sqlite3.SQLITE_FULL, "df "),
        (sqlite3.SQLITE_IOERR_WRITE, "df "),
        (sqlite3.SQLITE_BUSY, "fuser"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "owns"),
        (sqlite3.SQLITE_CORRUPT, "restore"),
        (sqlite3.SQLITE_NOTADB, "restore"),
    ],
)
def test_only_a_broken_database_is_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def fail(_self: Database) -> None:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = number
        raise error

    monkeypatch.setattr(Database, "_migrate", fail)
    with pytest.raises(TwinshipError) as refused:
        Database(tmp_path / "twinship.db")
    assert says in refused.value.hint
    assert isinstance(refused.value, Unreadable) == (says == "restore")


@pytest.mark.parametrize("damage", ["cut", "holed", "text"])
def test_a_damaged_database_is_refused_with_what_to_do(
    database: Database, tmp_path: Path, damage: str
) -> None:
    store = OperationStore(database)
    for number in range(50):
        store.create(an_operation(id=f"op{number}", title="x" * 500, **ENDED))
    backup(database, tmp_path / "whole.db")
    Database(tmp_path / "whole.db").close()  # in WAL mode, as one in use is
    data = (tmp_path / "whole.db").read_bytes()
    middle = len(data) // 2
    content = {
        "cut": data[:middle],
        "holed": data[:middle] + os.urandom(4096) + data[middle + 4096 :],
        "text": b"hello" * 1000,
    }[damage]
    (tmp_path / "broken.db").write_bytes(content)

    with pytest.raises(TwinshipError) as refused:
        Database(tmp_path / "broken.db")

    assert refused.value.code == "DATABASE"
    assert "restore" in refused.value.hint
    assert (tmp_path / "broken.db").read_bytes() == content, "it is left as it is"


def test_a_whole_database_has_no_damage(database: Database) -> None:
    assert database.damage() == ""


# Prune


def test_what_ended_long_ago_is_forgotten_with_its_history(database: Database) -> None:
    store = OperationStore(database)
    old = {"state": OperationState.FAILED, "ended": NOW - timedelta(days=31)}
    for op in (
        an_operation(id="old", **old),
        an_operation(id="new", **ENDED),
        an_operation(id="running", state=OperationState.RUNNING),
        an_operation(
            id="person",
            state=OperationState.NEEDS_ATTENTION,
            ended=NOW - timedelta(days=99),
        ),
        an_operation(id="parent", **old),
        an_operation(id="child", parent="parent", state=OperationState.RUNNING),
        an_operation(
            id="waits",
            state=OperationState.NEEDS_ATTENTION,
            ended=NOW - timedelta(days=99),
        ),
        an_operation(id="done-part", parent="waits", **old),
    ):
        store.create(op)
        store.append(op, "intent", "a", {}, NOW)

    assert prune(database, NOW - timedelta(days=30)) == 1

    assert {op.id for op in store.all()} == {
        "new",
        "running",
        "person",
        "parent",
        "child",
        "waits",
        "done-part",
    }
    assert store.events("old") == ()
    assert len(store.events("new")) == 1
    assert prune(database, NOW - timedelta(days=30)) == 0
