"""Many moves by one command, on real libvirt: order, failure, cancel, and what stays."""

from __future__ import annotations

import json
import time

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.hypervisor import jobs
from twinship.hypervisor.connection import Connection
from twinship.migrate import order, turns
from twinship.model.operation import OperationState
from twinship.model.request import MigrateRequest
from twinship_lab import Link
from twinship_lab.guests import GuestSpec, Load, NewDisk, create_guest

pytestmark = pytest.mark.host


def three(world: World) -> None:
    """One that is shut off, one that runs with a disk, one that runs without."""
    world.make_vm(world.one, "off", Disk(file="off.qcow2", data_bytes=MIB))
    world.make_vm(world.one, "db", Disk(file="db.qcow2", data_bytes=MIB), start=True)
    world.make_vm(world.one, "app", start=True)


STATES = {"off": "shut off", "db": "running", "app": "running"}


def test_a_host_is_emptied_but_for_what_others_are_based_on(world: World) -> None:
    three(world)
    world.make_vm(world.one, "golden", Disk(file="golden.qcow2", data_bytes=MIB))
    assert world.cli("clone", "golden", "thin", "--mode", "linked").returncode == 0
    assert world.cli("vm", "start", "thin").returncode == 0
    words = ("migrate", "--all", "--from", "lab1", "--to", "lab2")

    plan = json.loads(world.cli(*words, "--dry-run", "-o", "json").stdout)
    done = world.cli(*words, "-o", "json")

    assert plan["feasible"]
    stays = [check for check in plan["checks"] if check["code"] == "LEFT_BEHIND"]
    assert [check["object"] for check in stays] == ["vm/golden"]
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert world.vms(world.two) == {**STATES, "thin": "running"}
    assert world.vms(world.one) == {"golden": "shut off"}
    # Those with disks to copy begin first, the one that is shut off last.
    order = [moved["vm"] for moved in result["vms"]]
    assert order[-2:] == ["app", "off"]
    assert result["failed"] == []
    assert [left["vm"] for left in result["left"]] == ["golden"]


def test_a_host_without_vms_is_no_error(world: World) -> None:
    done = world.cli("migrate", "--all", "--from", "lab1", "--to", "lab2")
    told = world.cli("migrate", "--all", "--from", "lab1", "--to", "lab2", "-o", "json")

    assert (done.returncode, done.stderr.strip()) == (0, "lab1 has no VMs: nothing to move")
    assert (told.returncode, json.loads(told.stdout)["vms"]) == (0, [])
    assert world.operations() == ()


def test_one_that_a_check_blocks_stops_all_before_anything_is_touched(world: World) -> None:
    three(world)
    (world.two.images / "off.qcow2").write_text("somebody's")
    world.two.run(["virsh", "-q", "pool-refresh", "default"])

    done = world.cli("migrate", "off", "db", "app", "--to", "lab2")

    assert (done.returncode, code_of(done)) == (6, "DISK_EXISTS")
    assert world.vms(world.one) == STATES
    assert world.files(world.two) == {"off.qcow2"}
    assert world.operations() == ()


@pytest.mark.parametrize("keep_going", [False, pytest.param(True, marks=pytest.mark.all)])
def test_what_arrived_stays_when_another_fails(world: World, keep_going: bool) -> None:
    """The largest copy is begun first; what is in its way comes only after the plan was made."""
    three(world)
    options = ["--keep-going"] if keep_going else []
    slow = Disk(file="slow.qcow2", data_bytes=24 * MIB)
    world.make_vm(world.one, "slow", slow)
    process = world.start_cli(
        "migrate", "off", "db", "app", "slow", "--to", "lab2", "--bandwidth", "8MiB/s", *options
    )
    # Whichever is last has not looked once more yet while the first is under way.
    deadline = time.monotonic() + 30
    while "db.qcow2" not in world.files(world.two):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    world.two.run(["touch", f"{IMAGES}/off.qcow2"])
    world.two.run(["virsh", "-q", "pool-refresh", "default"], check=False)

    out, errors = process.communicate(timeout=120)

    assert process.returncode == 7, errors + out
    assert "off was not moved" in errors
    assert "what has arrived stays there" in errors
    here, there = world.vms(world.one), world.vms(world.two)
    assert here | there == {**STATES, "slow": "shut off"}
    assert not set(here) & set(there)
    assert here["off"] == "shut off"
    assert there, "which of them had arrived is a matter of moments"
    if keep_going:
        assert set(here) == {"off"}
    assert (world.two.images / "off.qcow2").stat().st_size == 0, "what somebody else put stays"


@pytest.mark.parametrize("deed", [pytest.param("kill", marks=pytest.mark.all), "interrupt"])
def test_many_that_are_cut_off_are_each_on_one_host(world: World, deed: str) -> None:
    three(world)
    request = {"vms": ["off", "db", "app"], "target": "lab2", "rate": 8 * MIB}
    process = world.actor(phase="1 of 3", deed=deed, verb="moves", request=request)

    _, errors = process.communicate(timeout=90)

    assert process.returncode == (-9 if deed == "kill" else 7), errors
    world.resume_all()
    here, there = world.vms(world.one), world.vms(world.two)
    assert here | there == STATES
    assert not set(here) & set(there)
    assert there, "what had arrived stays"
    assert {op.state for op in world.operations()} == {OperationState.SUCCEEDED}


@pytest.mark.all
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_memory_whose_disks_are_copied_waits_for_that_of_another(
    world: World, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """Held by libvirt's own limit on its rate; no VM is left with that limit."""
    disk = NewDisk(size_bytes=64 * MIB, data_bytes=16 * MIB)
    for name, disks in (("alone", ()), ("copied", (disk,))):
        spec = GuestSpec(memory_mib=128, disks=disks, load=Load(tick_ms=500), start=True)
        create_guest(world.one, world.lab.cache, name, spec)
    usual = speed(world, "copied")
    world.one.link(which=Link.DATA, rate_bytes_s=8 * 10**6)
    monkeypatch.setattr(order, "OVERLAP_BYTES", MIB)
    told: list[int] = []
    limit = jobs.limit_memory

    def noted(connection: Connection, uuid: str, mib_s: int) -> bool:
        told.append(mib_s)
        if cancelled and mib_s == turns.HELD_MIB_S:
            with world.controller() as other:
                (parent,) = other.operation_list(unfinished=True)
                other.operation_cancel(parent.id)
        return limit(connection, uuid, mib_s)

    monkeypatch.setattr(jobs, "limit_memory", noted)
    with world.controller() as controller:
        request = MigrateRequest(vm="", target="lab2")
        operation = controller.migrate_many(request, ["alone", "copied"])

    assert operation is not None
    assert told[0] == turns.HELD_MIB_S
    assert told[-1] == usual
    where = {"lab1": world.vms(world.one), "lab2": world.vms(world.two)}
    if cancelled:
        assert operation.state is OperationState.CANCELLED
        assert where == {"lab1": {"alone": "running", "copied": "running"}, "lab2": {}}
        assert speed(world, "copied") == usual
    else:
        assert operation.state is OperationState.SUCCEEDED
        assert where == {"lab1": {}, "lab2": {"alone": "running", "copied": "running"}}


def speed(world: World, name: str) -> int:
    """The most that the VM's memory may take, in MiB/s."""
    shown = world.one.run(["virsh", "migrate-getspeed", name]).stdout.decode()
    return int(shown.strip())
