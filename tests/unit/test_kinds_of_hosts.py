"""Moves between hosts of different kinds.

No RHEL or Ubuntu host was at hand: the facts of each kind are those of its documentation.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import HostBuilder, a_move_of, a_usual_host, a_vm, move_request, new_ids
from twinship.domxml.abilities import Abilities
from twinship.domxml.document import parse
from twinship.migrate.plan import plan_migrate
from twinship.model.host import HostTraits
from twinship.model.plan import Plan

DEBIAN_QEMU, RHEL_QEMU = "/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"
RHEL_MACHINES = frozenset({"q35", "pc-q35-rhel9.0.0", "pc-q35-rhel9.2.0", "pc-q35-rhel9.10.0"})


def documented_rhel9(name: str) -> HostBuilder:
    return a_usual_host(name).having(security_models=("selinux", "dac"))


def documented_ubuntu(name: str) -> HostBuilder:
    return a_usual_host(name).having(security_models=("apparmor", "dac"))


RUNNING_ON_UBUNTU = (
    a_vm("web")
    .with_disk()
    .with_element("<seclabel type='dynamic' model='apparmor' relabel='yes'/>")
    .running()
)
NO_EMULATOR: dict[str, Any] = {
    "emulator_problem": f"Cannot check QEMU binary {DEBIAN_QEMU}: No such file or directory",
    "abilities": Abilities(emulator=RHEL_QEMU),
}


def moved(**request: Any) -> Plan:
    facts = a_move_of(
        RUNNING_ON_UBUNTU,
        source=documented_ubuntu("kvm01"),
        target=documented_rhel9("kvm02"),
        **NO_EMULATOR,
    )
    return plan_migrate(facts, move_request(**request), new_ids(0))


def test_qemus_other_path_blocks_and_is_rewritten_when_asked() -> None:
    blocked, mended = moved(), moved(fix=True)

    assert [f.code for f in blocked.checks if f.code == "EMULATOR_MISSING" and not f.cured]
    assert not blocked.feasible
    assert mended.feasible
    assert f"+    <emulator>{RHEL_QEMU}</emulator>" in mended.diff
    assert parse(mended.domain_xml[0].xml).findtext("devices/emulator") == RHEL_QEMU


def test_a_label_made_at_start_is_made_anew_without_being_asked() -> None:
    plan = moved()
    finding = next(f for f in plan.checks if f.code == "SECURITY_MODEL_MISSING")

    assert finding.cured
    assert "apparmor" not in plan.domain_xml[0].xml
    assert "-  <seclabel" in plan.diff


@pytest.mark.parametrize(
    ("machine", "known", "becomes"),
    [
        ("pc-q35-rhel9.4.0", RHEL_MACHINES, "pc-q35-rhel9.10.0"),
        ("pc-q35-9.2", frozenset({"q35", "pc-q35-7.2", "pc-q35-6.2"}), "pc-q35-7.2"),
        ("pc-i440fx-9.2", frozenset({"pc-q35-7.2"}), ""),
        ("virt-9.2", frozenset({"virt-7.2", "virt-10.0"}), "virt-10.0"),
    ],
)
def test_a_machine_that_is_not_known_there_becomes_the_newest_of_its_family(
    machine: str, known: frozenset[str], becomes: str
) -> None:
    vm = a_vm("web", machine=machine).with_disk()
    changes: dict[str, Any] = {
        "machine_problem": f"the machine '{machine}' is not supported by emulator",
        "target_traits": HostTraits(machines=known),
    }
    plan = plan_migrate(a_move_of(vm, **changes), move_request(fix=True), new_ids(0))
    live = plan_migrate(a_move_of(vm.running(), **changes), move_request(fix=True), new_ids(0))

    assert plan.feasible is bool(becomes)
    assert (becomes or machine) in plan.domain_xml[0].xml
    assert not live.feasible, "a running guest sees its machine"
