"""Which VM a name means, and which host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import a_vm
from tests.fakes import FakeClock
from twinship.config import Config
from twinship.hypervisor.connection import Connections
from twinship.inventory.inventory import Inventory
from twinship.model.errors import AmbiguousName, NotFound, UsageError
from twinship.model.host import HostRecord
from twinship.model.vm import VmAnswer
from twinship.store.database import Database
from twinship.store.hosts import HostStore

OTHER = "99abcdef-2222-4333-8444-555555555555"
WEB = a_vm("web").running().facts().vm
TWIN = a_vm("web").on("kvm02").facts().vm
DB = a_vm("db", uuid=OTHER).on("kvm02").facts().vm
SAME_NAME = a_vm("db", uuid="88888888-2222-4333-8444-555555555555").facts().vm


class FakeInventory(Inventory):
    """An inventory whose hosts answer what a test says."""

    answers: tuple[VmAnswer, ...] = ()

    def vms(self, host: str | None = None) -> tuple[VmAnswer, ...]:
        if host is not None:
            self.record(host)
        return tuple(answer for answer in self.answers if host in (None, answer.host))


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[FakeInventory]:
    config = Config(state=tmp_path)
    database = Database(config.database)
    made = FakeInventory(HostStore(database), Connections(config), config, FakeClock(), local=False)
    for name in ("kvm01", "kvm02"):
        made.add(HostRecord(name=name, uri=f"test:///{name}"))
    made.answers = (
        VmAnswer(host="kvm01", vms=(WEB,)),
        VmAnswer(host="kvm02", vms=(DB,)),
    )
    yield made
    database.close()


@pytest.mark.parametrize("name", ["db", "kvm02/db", OTHER, f"kvm02/{OTHER}", OTHER.upper()])
def test_a_vm_is_found_by_name_or_uuid_with_or_without_its_host(
    inventory: FakeInventory, name: str
) -> None:
    assert inventory.find(name) == DB


def test_a_stale_twin_makes_a_name_ambiguous_and_both_are_listed(
    inventory: FakeInventory,
) -> None:
    inventory.answers = (VmAnswer(host="kvm01", vms=(WEB,)), VmAnswer(host="kvm02", vms=(TWIN,)))

    for name in ("web", WEB.uuid):
        with pytest.raises(AmbiguousName) as ambiguous:
            inventory.find(name)
        assert f"kvm01/{WEB.uuid} (running)" in ambiguous.value.hint
        assert f"kvm02/{WEB.uuid} (shut_off)" in ambiguous.value.hint
    assert inventory.find("kvm02/web") == TWIN


def test_two_vms_of_one_name_are_told_apart_by_uuid(inventory: FakeInventory) -> None:
    inventory.answers = (
        VmAnswer(host="kvm01", vms=(SAME_NAME,)),
        VmAnswer(host="kvm02", vms=(DB,)),
    )

    with pytest.raises(AmbiguousName):
        inventory.find("db")
    assert inventory.find(OTHER) == DB


def test_a_mistyped_name_is_answered_with_the_nearest(inventory: FakeInventory) -> None:
    with pytest.raises(NotFound) as missing:
        inventory.find("wbe")
    assert "did you mean web" in missing.value.hint


def test_a_vm_that_may_be_on_a_dead_host_is_not_simply_missing(inventory: FakeInventory) -> None:
    inventory.answers = (VmAnswer(host="kvm01", vms=(WEB,)), VmAnswer(host="kvm02", error="dead"))

    with pytest.raises(NotFound) as missing:
        inventory.find("db")
    assert "kvm02" in missing.value.cause


@pytest.mark.parametrize("name", ["/web", "kvm01/", "/"])
def test_half_a_name_is_no_name(inventory: FakeInventory, name: str) -> None:
    with pytest.raises(UsageError):
        inventory.find(name)


def test_a_mistyped_host_is_answered_with_the_nearest(inventory: FakeInventory) -> None:
    with pytest.raises(NotFound) as missing:
        inventory.find("kvm1/web")
    assert missing.value.code == "HOST_NOT_FOUND"
    assert "kvm01" in missing.value.hint


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "kvm\n", "é", "x" * 64])
def test_names_no_host_can_have_are_refused(inventory: FakeInventory, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        inventory.add(HostRecord(name=name, uri="test:///x"))
    assert refused.value.code == "HOST_NAME_INVALID"


def test_a_host_that_is_removed_is_known_no_more(inventory: FakeInventory) -> None:
    inventory.remove("kvm02")

    assert [record.name for record in inventory.records()] == ["kvm01"]
    with pytest.raises(NotFound):
        inventory.remove("kvm02")
