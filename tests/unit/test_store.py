"""The database: one schema however it was reached, many writers, no surprises in its file."""

from __future__ import annotations

import multiprocessing
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import an_operation
from twinship.model.errors import Busy, Conflict, NotFound, TwinshipError
from twinship.model.host import HostRecord
from twinship.model.operation import OperationState, Progress
from twinship.store import tables
from twinship.store.database import Database
from twinship.store.hosts import HostStore
from twinship.store.operations import LostOwnership, OperationStore

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MIGRATIONS = Path(tables.__file__).with_name("migrations") / "versions"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state" / "twinship.db")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> OperationStore:
    return OperationStore(database)


# The file


def test_the_newest_migration_is_the_one_that_is_opened_without_alembic() -> None:
    texts = [path.read_text() for path in MIGRATIONS.glob("*.py") if path.stem != "__init__"]
    revisions = {m[1] for text in texts if (m := re.search(r'^revision = "(.*)"', text, re.M))}
    below = {m[1] for text in texts if (m := re.search(r'^down_revision = "(.*)"', text, re.M))}

    assert revisions - below == {tables.HEAD}


def test_a_migrated_database_is_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        found = {
            name: _columns(sa.inspect(connection), name)
            for name in sa.inspect(connection).get_table_names()
            if name != "alembic_version"
        }
    other = sa.create_engine("sqlite://")
    tables.metadata.create_all(other)
    wanted = {name: _columns(sa.inspect(other), name) for name in tables.metadata.tables}
    other.dispose()

    assert found == wanted


def _columns(inspector: sa.Inspector, table: str) -> dict[str, object]:
    columns = {
        column["name"]: (str(column["type"]), column["nullable"], column.get("primary_key"))
        for column in inspector.get_columns(table)
    }
    indexes = sorted(
        (str(index["name"]), tuple(index["column_names"])) for index in inspector.get_indexes(table)
    )
    keys = [
        (key["constrained_columns"], key["referred_table"], key["referred_columns"])
        for key in inspector.get_foreign_keys(table)
    ]
    return {"columns": columns, "indexes": indexes, "keys": keys}


def test_nobody_else_can_read_the_database(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        opened = Database(tmp_path / "state" / "twinship.db")
        HostStore(opened).add(HostRecord(name="kvm01", uri="qemu:///system"))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / "state", *(tmp_path / "state").iterdir())
        }
        opened.close()
    finally:
        os.umask(before)

    assert modes.pop("state") == 0o700
    assert set(modes.values()) == {0o600}


def test_opening_again_finds_everything(tmp_path: Path) -> None:
    path = tmp_path / "twinship.db"
    record = HostRecord(name="kvm01", uri="u", address="10.0.0.1", site="x", labels={"rack": "7"})
    first = Database(path)
    HostStore(first).add(record)
    first.close()
    second = Database(path)

    assert HostStore(second).all() == (record,)
    second.close()


@pytest.mark.parametrize(
    "content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "twinship.db"
    path.write_bytes(content)

    with pytest.raises(TwinshipError) as refused:
        Database(path)

    assert refused.value.code == "DATABASE"
    assert refused.value.hint
    assert path.read_bytes() == content


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twinship.db"
    Database(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    with pytest.raises(TwinshipError, match="newer") as refused:
        Database(path)
    assert refused.value.code == "DATABASE"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(TwinshipError) as refused:
        Database(tmp_path / "file" / "twinship.db")
    assert refused.value.code == "DATABASE"


# Hosts


def test_hosts_are_listed_by_name_and_found_by_it(database: Database) -> None:
    hosts = HostStore(database)
    for name in ("kvm02", "kvm01"):
        hosts.add(HostRecord(name=name, uri=f"qemu+ssh://{name}/system"))

    assert [record.name for record in hosts.all()] == ["kvm01", "kvm02"]
    assert hosts.get("kvm02").uri == "qemu+ssh://kvm02/system"


def test_a_host_is_added_once_and_forgotten_once(database: Database) -> None:
    hosts = HostStore(database)
    hosts.add(HostRecord(name="kvm01", uri="a"))

    with pytest.raises(Conflict):
        hosts.add(HostRecord(name="kvm01", uri="b"))
    assert hosts.get("kvm01").uri == "a"
    hosts.remove("kvm01")
    with pytest.raises(NotFound):
        hosts.remove("kvm01")
    with pytest.raises(NotFound):
        hosts.get("kvm01")


# Operations


def test_an_operation_comes_back_as_it_was_stored(store: OperationStore) -> None:
    op = an_operation(
        created=NOW,
        started=NOW,
        resources=("vm/1", "file/kvm01/a"),
        spec={"disks": [{"bytes": 2**62}], "name": "虚拟机", "none": None},
        progress=Progress(phase="copy", percent=1.5, bytes_done=2**61, eta_s=0.1),
        leftovers=("a", "b"),
        error={"code": "X"},
    )
    store.create(op)

    assert store.get(op.id) == op


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    spec=st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.none(), st.text(max_size=10), st.integers(), st.booleans()),
    )
)
def test_any_plain_spec_survives(store: OperationStore, spec: dict[str, Any]) -> None:
    op = an_operation(id=f"op-{os.urandom(8).hex()}", spec=spec)
    store.create(op)

    assert store.get(op.id).spec == spec


def test_the_newest_operation_comes_first(store: OperationStore) -> None:
    for number in range(4):
        state = OperationState.QUEUED if number % 2 else OperationState.SUCCEEDED
        op = an_operation(id=f"op-{number}", created=NOW + timedelta(seconds=number), state=state)
        store.create(op)

    assert [op.id for op in store.all()] == ["op-3", "op-2", "op-1", "op-0"]
    assert [op.id for op in store.all(limit=2)] == ["op-3", "op-2"]
    assert [op.id for op in store.all(unfinished=True)] == ["op-3", "op-1"]


def test_claims_are_taken_all_or_none(store: OperationStore) -> None:
    store.create(an_operation(id="first", resources=("vm/1",)))

    with pytest.raises(Busy, match="first"):
        store.create(an_operation(id="second", resources=("vm/2", "vm/1")))

    assert store.holder("vm/2") is None
    with pytest.raises(NotFound):
        store.get("second")


def test_an_operation_may_name_a_thing_twice(store: OperationStore) -> None:
    store.create(an_operation(resources=("vm/1", "vm/1")))

    assert store.holder("vm/1") == "op-1"


@pytest.mark.parametrize("state", OperationState)
def test_claims_last_as_long_as_the_operation(store: OperationStore, state: OperationState) -> None:
    op = an_operation(resources=("vm/1",))
    store.create(op)
    store.update(op, NOW, state=state)

    assert (store.holder("vm/1") is None) == state.ended


def test_history_is_numbered_and_kept_in_order(store: OperationStore) -> None:
    op = an_operation()
    store.create(op)
    for number in range(3):
        store.append(op, "note", "copy", {"n": number}, NOW)
    store.update(op, NOW, "running", state=OperationState.RUNNING)

    events = store.events(op.id)
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.data.get("n") for event in events] == [0, 1, 2, None]
    assert events[-1].kind == "running"
    assert events[0].at == NOW


def test_an_old_owner_can_write_nothing_any_more(store: OperationStore) -> None:
    op = an_operation()
    store.create(op)
    taken = store.take_over(op.id, op.fence, "boot:2:2", 20.0, NOW)

    with pytest.raises(LostOwnership):
        store.append(op, "note", "", {}, NOW)
    with pytest.raises(LostOwnership):
        store.update(op, NOW, state=OperationState.FAILED)
    assert store.get(op.id) == taken
    assert [event.kind for event in store.events(op.id)] == ["taken_over"]


def test_cancelling_what_has_ended_changes_nothing(store: OperationStore) -> None:
    op = an_operation(state=OperationState.SUCCEEDED)
    store.create(op)
    store.request_cancel(op.id)

    assert not store.cancel_requested(op.id)
    assert not store.cancel_requested("no such operation")


# Many at once


def test_many_threads_write_and_nothing_is_lost(store: OperationStore) -> None:
    op = an_operation()
    store.create(op)
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for count in range(10):
                store.append(op, "note", f"thread-{number}", {"count": count}, NOW)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert errors == []
    assert [event.seq for event in store.events(op.id)] == list(range(1, 81))


ROUNDS, RACERS = 25, 4


def test_many_processes_make_one_database_and_exactly_one_gets_the_claim(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(RACERS), spawn.Queue()
    racers = [
        spawn.Process(target=_race, args=(tmp_path, number, barrier, answers))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    told = sorted(answers.get(timeout=60) for _ in range(ROUNDS * RACERS))
    for racer in racers:
        racer.join(60)

    assert told == sorted(["mine"] * ROUNDS + ["busy"] * ROUNDS * (RACERS - 1))


def _race(directory: Path, number: int, barrier: threading.Barrier, answers: Queue[str]) -> None:
    """In a process of its own: makes the same new database as the others, at the same moment."""
    for round_ in range(ROUNDS):
        barrier.wait(60)
        answers.put(_claim(directory / f"{round_}.db", number))


def _claim(path: Path, number: int) -> str:
    try:
        opened = Database(path)
    except TwinshipError as error:
        return error.cause
    try:
        OperationStore(opened).create(an_operation(id=f"op-{number}", resources=("vm/1",)))
    except Busy:
        return "busy"
    finally:
        opened.close()
    return "mine"
