"""The phases an operation is made of: their order is what keeps half a VM from ever starting."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest

from tests.builders import (
    IMAGES,
    VmBuilder,
    a_clone_of,
    a_move_of,
    a_vm,
    clone_request,
    move_request,
    new_ids,
    shared_files,
)
from twinship.clone.plan import plan_clone
from twinship.clone.reconcile import reconcile_clone
from twinship.clone.run import CloneVerb
from twinship.hypervisor.connection import Connection
from twinship.migrate import phases
from twinship.migrate.plan import plan_migrate
from twinship.migrate.run import MigrateVerb
from twinship.model.errors import TwinshipError
from twinship.model.plan import Plan
from twinship.operations.verb import Decision, Verb
from twinship.transfer.carrier import patience

BASE = f"{IMAGES}/base.qcow2"
WEB = a_vm("web").with_disk("vda").with_disk("vdb", format="raw").with_nic()
LINKED = a_vm("web").with_disk("vda", backing=(BASE,)).with_disk("vdb", backing=(BASE,))


class FakeHosts:
    """Hosts nobody may touch: listing phases is pure."""

    def connection(self, name: str) -> Connection:
        raise AssertionError(f"{name} was touched")


def _never(spec: dict[str, Any]) -> NoReturn:
    raise AssertionError("planned again")


CLONE = CloneVerb(hosts=FakeHosts(), replan=_never, stall_s=1)
MIGRATE = MigrateVerb(hosts=FakeHosts(), replan=_never, stall_s=1)


def clone(vm: VmBuilder = WEB, **request: Any) -> tuple[Verb, Plan]:
    return CLONE, plan_clone(a_clone_of(vm), clone_request(**request), new_ids(vm.nics))


def move(vm: VmBuilder = WEB, *, shared: bool = False, **request: Any) -> tuple[Verb, Plan]:
    facts = a_move_of(vm, files=shared_files(vm)) if shared else a_move_of(vm)
    return MIGRATE, plan_migrate(facts, move_request(**request), new_ids(0))


EVERY = {
    "clone": clone(),
    "clone and start": clone(start=True),
    "clone with firmware variables": clone(WEB.with_nvram("/nvram/web_VARS.fd")),
    "clone of linked disks": clone(LINKED),
    "live": move(WEB.running()),
    "live, shared": move(WEB.running(), shared=True),
    "live, stays defined": move(WEB.running(), stay_defined=True),
    "live, temporary": move(WEB.running(), temporary=True),
    "live, transient": move(WEB.transient()),
    "live, linked disks": move(LINKED.running()),
    "offline": move(),
    "offline, linked disks": move(LINKED),
    "offline, firmware variables": move(WEB.with_nvram("/nvram/web_VARS.fd")),
    "offline, stays defined": move(stay_defined=True),
}


def names(name: str) -> list[str]:
    verb, plan = EVERY[name]
    return [phase.name for phase in verb.phases(dict(plan.spec))]


@pytest.mark.parametrize("name", EVERY)
def test_no_two_phases_of_an_operation_share_a_name(name: str) -> None:
    assert len(names(name)) == len(set(names(name)))


@pytest.mark.parametrize("name", EVERY)
def test_a_spec_from_the_database_gives_the_same_phases(name: str) -> None:
    verb, plan = EVERY[name]
    stored = json.loads(json.dumps(plan.spec))

    assert [phase.name for phase in verb.phases(stored)] == names(name)


@pytest.mark.parametrize("name", EVERY)
def test_the_facts_are_looked_at_again_before_anything_else(name: str) -> None:
    assert names(name)[0] == "recheck"


@pytest.mark.parametrize("name", EVERY)
def test_every_phase_has_words_for_people(name: str) -> None:
    verb, plan = EVERY[name]

    assert all(phase.title for phase in verb.phases(dict(plan.spec)))


@pytest.mark.parametrize("name", [name for name in EVERY if "define" in names(name)])
def test_a_vm_is_defined_only_over_disks_that_are_complete_and_checked(name: str) -> None:
    order = names(name)
    after = set(order[order.index("define") + 1 :])

    assert order.index("verify") == order.index("define") - 1
    assert after <= {"start", "undefine", "mark"}


@pytest.mark.parametrize("name", EVERY)
def test_the_sources_definition_goes_last(name: str) -> None:
    order = names(name)

    for last in ("undefine", "mark"):
        assert last not in order or order[-1] == last


def test_what_keeps_its_definition_is_never_undefined() -> None:
    for name in ("live, stays defined", "live, temporary", "live, transient"):
        assert "undefine" not in names(name)
    assert "mark" not in names("live, transient")


def test_shared_disks_make_no_volumes() -> None:
    order = ["recheck", "prove", "move", "release", "verify", "undefine"]
    assert names("live, shared") == order


def test_a_clone_goes_forward_once_it_is_defined_and_back_before() -> None:
    assert reconcile_clone(defined=True).decision is Decision.FORWARD
    assert reconcile_clone(defined=False).decision is Decision.BACK


def test_a_slow_copy_is_given_the_time_its_read_ahead_takes() -> None:
    assert patience(20.0, 0) == 20.0
    assert patience(20.0, 2**20) == 20.0 + 32.0


@pytest.mark.parametrize("way", [Decision.FORWARD, Decision.ATTENTION])
def test_an_undo_that_finds_the_vm_on_the_target_stops_before_its_disks_are_deleted(
    monkeypatch: pytest.MonkeyPatch, way: Decision
) -> None:
    monkeypatch.setattr(phases, "act", lambda *_: way)
    verb, plan = EVERY["live"]
    (move,) = (phase for phase in verb.phases(dict(plan.spec)) if phase.name == "move")
    with pytest.raises(TwinshipError, match="cannot be brought back"):
        move.undo(None)  # type: ignore[arg-type]
