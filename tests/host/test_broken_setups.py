"""Whatever would fail in libvirt is said before the start; with the check waived, it does fail."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.host.broken import BROKEN, LIVE, OFF, PAUSED, Broken
from tests.host.world import World
from twinship.model.errors import TwinshipError
from twinship.model.operation import OperationState
from twinship.model.plan import Plan, Severity
from twinship.model.request import MigrateRequest

pytestmark = pytest.mark.host

USUAL = {("no bridge", LIVE), ("no pool", OFF), ("no QEMU at that path", LIVE)}
USUAL |= {("the screen's port is taken", LIVE), ("no network", OFF)}
MATRIX = [
    pytest.param(
        name,
        mode,
        id=f"{name}, {mode}",
        marks=() if (name, mode) in USUAL else pytest.mark.all,
    )
    for name, broken in BROKEN.items()
    for mode in broken.modes
]
REQUEST = MigrateRequest(vm="lab1/web", target="lab2")


def make(world: World, broken: Broken, mode: str) -> None:
    extra = broken.extra.replace("SOURCE", world.one.address)
    world.make_vm(
        world.one,
        "web",
        *broken.disks,
        extra=extra,
        elements=broken.elements,
        disks_at=broken.disks_at,
        machine=broken.machine,
        uefi=broken.uefi,
        start=mode != OFF,
    )
    if mode == PAUSED:
        world.one.run(["virsh", "-q", "suspend", "web"])


@pytest.mark.parametrize(("name", "mode"), MATRIX)
def test_what_would_fail_is_said_before_and_nothing_is_lost(
    world: World, name: str, mode: str
) -> None:
    broken = BROKEN[name]
    with ExitStack() as mess:
        mess.enter_context(broken.made(world))
        mess.callback(world.clean_vms)
        make(world, broken, mode)
        mess.enter_context(broken.late(world))
        files = world.files(world.one)
        there = world.vms(world.two)
        with world.controller() as controller:
            plan = controller.migrate_plan(REQUEST)
            said = {finding.code: finding.severity for finding in plan.checks}
            assert broken.code in said, f"not said: {said}"
            if mode != OFF:
                assert said[broken.code] in (Severity.BLOCK, Severity.UNKNOWN)
            failed = fails(world, plan, mode)
        assert failed, "libvirt has no trouble with it: the check is too strict"
        if mode != OFF or broken.code in ("NAME_TAKEN", "DISK_EXISTS"):
            state = {LIVE: "running", PAUSED: "paused", OFF: "shut off"}[mode]
            assert world.vms(world.one) == {"web": state}
            assert world.files(world.one) == files
            assert world.vms(world.two) == there


def fails(world: World, plan: Plan, mode: str) -> bool:
    """Whether the move, with every check waived, fails, or the moved VM cannot be started."""
    blocks = {finding.code for finding in plan.checks if finding.severity is Severity.BLOCK}
    with world.controller() as controller:
        try:
            operation = controller.migrate(REQUEST, waived=frozenset(blocks))
        except TwinshipError:
            return True
        if operation.state is not OperationState.SUCCEEDED:
            return True
    started = world.two.run(["virsh", "-q", "start", "web"], check=False)
    return mode == OFF and started.returncode != 0
