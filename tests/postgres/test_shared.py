"""What several controllers on one PostgreSQL rely on."""

from __future__ import annotations

import threading
import time

import pytest

from tests.builders import a_plan, an_operation
from twinship.model.errors import Busy, TwinshipError
from twinship.operations.owner import Life, Processes
from twinship.store.database import Database
from twinship.store.operations import OperationStore


def test_the_clock_is_the_servers_and_moves(database: Database) -> None:
    one = database.now()
    assert abs(one - time.time()) < 60
    assert database.now() > one


def test_it_is_shared_and_an_owner_on_another_machine_is_alive_while_its_lease_is(
    database: Database,
) -> None:
    owners = Processes(database.now, shared=database.shared)
    elsewhere = "00000000-0000-0000-0000-000000000000:1:1"
    alive = an_operation(owner=elsewhere, lease_until=database.now() + 60)
    lapsed = an_operation(owner=elsewhere, lease_until=database.now() - 1)
    assert owners.life(alive) is Life.ALIVE
    assert owners.life(lapsed) is Life.GONE


def test_of_many_that_want_one_vm_at_once_one_has_it(database: Database, postgres_url: str) -> None:
    gate = threading.Barrier(8)
    had: list[str] = []
    refused: list[Busy] = []

    def want(number: int) -> None:
        mine = Database.at(postgres_url)
        try:
            gate.wait()
            OperationStore(mine).create(an_operation(id=f"op{number}", resources=("vm/web",)))
            had.append(f"op{number}")
        except Busy as busy:
            refused.append(busy)
        finally:
            mine.close()

    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(had), len(refused)) == (1, 7)
    assert a_plan("vm/web").resources == ("vm/web",)
    assert OperationStore(database).holder("vm/web") == had[0]


def test_a_server_that_does_not_answer_is_said() -> None:
    with pytest.raises(TwinshipError) as refused:
        Database.at("postgresql+psycopg://nobody@/none?host=/nonexistent")
    assert refused.value.code == "DATABASE"
