"""The plans and checks of start, stop and delete."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.builders import IMAGES, VmBuilder, a_vm
from twinship.lifecycle.plan import (
    DELETE,
    START,
    DeleteCase,
    StartCase,
    plan_delete,
    plan_start,
    plan_stop,
)
from twinship.model.plan import Severity
from twinship.model.vm import VmState

WEB = a_vm("web").with_disk()
AWAY = WEB.with_element(
    "<metadata><t:vm xmlns:t='urn:twinship:domain:1'>"
    "<t:away host='kvm02' since='2025'/></t:vm></metadata>"
)


def a_start(
    vm: VmBuilder = WEB,
    *,
    elsewhere: tuple[str, ...] = (),
    unseen: tuple[str, ...] = (),
    children: tuple[str, ...] = (),
    changed: tuple[str, ...] = (),
) -> StartCase:
    return StartCase(
        vm=vm.facts(),
        active_elsewhere=elsewhere,
        unseen=unseen,
        children=children,
        changed=changed,
    )


def a_delete(
    vm: VmBuilder = WEB,
    *,
    disks: bool = True,
    shared: tuple[str, ...] = (),
    children: tuple[str, ...] = (),
    unseen: tuple[str, ...] = (),
    template: bool = False,
) -> DeleteCase:
    return DeleteCase(
        vm=vm.facts(),
        delete_disks=disks,
        shared=shared,
        children=children,
        unseen=unseen,
        template=template,
    )


@dataclass(frozen=True)
class Starts:
    severity: Severity
    word: str
    speaks: StartCase
    silent: StartCase


@dataclass(frozen=True)
class Deletes:
    severity: Severity
    word: str
    speaks: DeleteCase
    silent: DeleteCase


TEMPLATE = WEB.with_element(
    "<metadata><t:vm xmlns:t='urn:twinship:domain:1'>"
    "<t:template name='golden' version='2'/></t:vm></metadata>"
)
STARTS = {
    "IS_TEMPLATE": Starts(Severity.BLOCK, "version 2", a_start(TEMPLATE), a_start()),
    "VM_RUNS_ELSEWHERE": Starts(Severity.BLOCK, "kvm02", a_start(elsewhere=("kvm02",)), a_start()),
    "VM_AWAY": Starts(
        Severity.BLOCK, "kvm02", a_start(AWAY, unseen=("kvm02",)), a_start(AWAY, unseen=("kvm09",))
    ),
    "BASE_HAS_CHILDREN": Starts(
        Severity.BLOCK, "base of a, b, c and 1 more", a_start(children=(*"abcd",)), a_start()
    ),
    "BASE_CHANGED": Starts(Severity.BLOCK, "is gone", a_start(changed=("x is gone",)), a_start()),
    "VM_ACTIVE": Starts(Severity.BLOCK, "running", a_start(WEB.running()), a_start()),
}
DELETES = {
    "IS_TEMPLATE": Deletes(
        Severity.BLOCK, "golden", a_delete(TEMPLATE), a_delete(TEMPLATE, template=True)
    ),
    "BASE_HAS_CHILDREN": Deletes(
        Severity.BLOCK, "base of a", a_delete(children=("a",)), a_delete()
    ),
    "CHILDREN_UNSEEN": Deletes(
        Severity.UNKNOWN,
        "kvm02 cannot be asked",
        a_delete(TEMPLATE, template=True, unseen=("kvm02",)),
        a_delete(unseen=("kvm02",)),
    ),
    "VM_ACTIVE": Deletes(Severity.BLOCK, "running", a_delete(WEB.running()), a_delete()),
    "VM_SNAPSHOTS": Deletes(Severity.BLOCK, "2", a_delete(WEB.having(snapshots=2)), a_delete()),
    "DISK_IN_USE": Deletes(
        Severity.BLOCK,
        "/a",
        a_delete(shared=("/a",)),
        a_delete(disks=False, shared=("/a",)),
    ),
    "DISKS_KEPT": Deletes(
        Severity.INFO, f"{IMAGES}/web-vda.qcow2", a_delete(disks=False), a_delete()
    ),
}


def test_every_check_has_a_case() -> None:
    assert sorted(STARTS) == sorted(row.code for row in START.rows)
    assert sorted(DELETES) == sorted(row.code for row in DELETE.rows)


@pytest.mark.parametrize("code", STARTS)
def test_a_check_of_start_speaks_only_where_something_is_wrong(code: str) -> None:
    case = STARTS[code]
    (found,) = [f for f in START.run(case.speaks) if f.code == code]

    assert found.severity is case.severity
    assert case.word in found.message
    assert code not in {f.code for f in START.run(case.silent)}


@pytest.mark.parametrize("code", DELETES)
def test_a_check_of_delete_speaks_only_where_something_is_wrong(code: str) -> None:
    case = DELETES[code]
    (found,) = [f for f in DELETE.run(case.speaks) if f.code == code]

    assert found.severity is case.severity
    assert case.word in found.message
    assert code not in {f.code for f in DELETE.run(case.silent)}


def test_a_paused_vm_is_told_to_be_resumed() -> None:
    (found,) = plan_start(a_start(WEB.in_state(VmState.PAUSED))).checks

    assert "virsh resume" in found.hint


def test_a_vm_that_was_away_may_start_once_its_other_host_answers() -> None:
    assert plan_start(a_start(AWAY)).feasible


def test_a_delete_names_every_file_it_will_remove_and_claims_it() -> None:
    vm = a_vm("web").with_disk("vda").with_disk("vdb").with_cdrom("/iso/a.iso")
    plan = plan_delete(a_delete(vm))
    files = [f"{IMAGES}/web-vda.qcow2", f"{IMAGES}/web-vdb.qcow2"]

    assert plan.spec["files"] == files
    assert [step.id for step in plan.steps] == ["undefine", *(f"delete:{path}" for path in files)]
    assert plan.resources == (f"vm/{vm.uuid}", *(f"file/kvm01/{path}" for path in files))


def test_a_delete_that_keeps_the_disks_removes_none() -> None:
    plan = plan_delete(a_delete(disks=False))

    assert plan.spec["files"] == []
    assert [step.id for step in plan.steps] == ["undefine"]


def test_specs_are_plain_json() -> None:
    for plan in (
        plan_start(a_start()),
        plan_stop(WEB.facts(), force=True, timeout_s=5),
        plan_delete(a_delete()),
    ):
        assert json.loads(json.dumps(plan.spec)) == plan.spec
        assert plan.resources[0] == f"vm/{WEB.uuid}"
