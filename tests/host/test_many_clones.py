"""Many clones in one command: all or none, or as many as worked."""

from __future__ import annotations

import json
import time

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import OperationState

pytestmark = pytest.mark.host


def test_many_linked_clones_at_once(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    began = time.monotonic()

    done = world.cli(
        "clone", "web", "--count", "100", "--name", "w{n:03}", "--mode", "linked", "-o", "json"
    )

    assert time.monotonic() - began < 30
    assert done.returncode == 0, done.stderr
    operation = json.loads(done.stdout)
    names = {f"w{number:03}" for number in range(1, 101)}
    assert {made["name"] for made in operation["result"]["clones"]} == names
    assert set(world.vms(world.one)) == {"web", *names}
    assert len(operation["children"]) == 100
    uuids = {made["uuid"] for made in operation["result"]["clones"]}
    assert len(uuids) == 100


def test_names_may_be_listed(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    assert world.cli("clone", "web", "a", "b", "c").returncode == 0
    assert set(world.vms(world.one)) == {"web", "a", "b", "c"}
    for name in "abc":
        assert world.sha(world.one, f"{name}.qcow2") == world.sha(world.one, "web.qcow2")


def test_names_are_found_where_none_are_given(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    assert world.cli("clone", "web", "--count", "3", "--mode", "linked").returncode == 0
    assert set(world.vms(world.one)) == {"web", "web-clone", "web-clone-2", "web-clone-3"}


def test_a_taken_name_among_many_stops_all_before_anything_is_made(world: World) -> None:
    for name in ("web", "w2"):
        world.make_vm(world.one, name, Disk(file=f"{name}.qcow2", data_bytes=MIB))
    done = world.cli("clone", "web", "--count", "3", "--name", "w{n}")
    assert (done.returncode, code_of(done)) == (6, "CLONE_NAME_TAKEN")
    assert set(world.vms(world.one)) == {"web", "w2"}


def make_second_fail(world: World) -> None:
    """libvirt takes no two VMs of one name: this one comes between the plan and the work."""
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=24 * MIB))


def fail_one(world: World, *options: str) -> int:
    """Starts three slow clones, and puts a file in the way of the last one's."""
    make_second_fail(world)
    process = world.start_cli(
        "clone", "web", "a", "b", "c", "d", "e", "--bandwidth", "12MiB/s", *options
    )
    deadline = time.monotonic() + 30
    while "a.qcow2" not in world.files(world.one):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    world.one.run(["touch", f"{IMAGES}/e.qcow2"])
    world.one.run(["virsh", "-q", "pool-refresh", "default"], check=False)
    _, errors = process.communicate(timeout=120)
    assert "e" in errors
    return process.returncode


def test_when_one_fails_none_is_left(world: World) -> None:
    assert fail_one(world) in (1, 6)
    assert set(world.vms(world.one)) == {"web"}
    assert world.files(world.one) == {"web.qcow2", "e.qcow2"}, "what somebody else put stays"


def test_with_keep_going_those_that_worked_stay(world: World) -> None:
    assert fail_one(world, "--keep-going") == 7
    assert set(world.vms(world.one)) == {"web", "a", "b", "c", "d"}
    result = world.operations()[-1].result or {}
    parent = next(op for op in world.operations() if op.kind == "clones")
    result = parent.result or {}
    assert [lost["name"] for lost in result["failed"]] == ["e"]


@pytest.mark.parametrize("deed", ["kill", "interrupt"])
def test_many_clones_that_are_cut_off_leave_none(world: World, deed: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=4 * MIB))
    request = {"vm": "web", "names": list("abcdef"), "rate": 4 * MIB}
    process = world.actor(phase="2 of 6", deed=deed, verb="clones", request=request)

    process.communicate(timeout=60)

    assert process.returncode == (-9 if deed == "kill" else 130)
    world.resume_all()
    assert set(world.vms(world.one)) == {"web"}
    assert world.files(world.one) == {"web.qcow2"}
    states = {op.state for op in world.operations()}
    assert states <= {OperationState.FAILED, OperationState.CANCELLED}
