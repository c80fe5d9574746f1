"""A disk that fills up in the middle, whatever way a clone is made: nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.test_clone import small_pool
from tests.host.world import MIB, Disk, World, code_of
from twinship.model.operation import Operation, OperationState
from twinship.model.request import CloneMode, CloneRequest
from twinship_lab import LabHost

pytestmark = pytest.mark.host

RAW = Disk(file="web.img", format="raw", data_bytes=24 * MIB)
QCOW2 = Disk(file="web.qcow2", data_bytes=24 * MIB)
ROOM = "/run/small"

WAYS: dict[str, tuple[tuple[Disk, ...], dict[str, Any]]] = {
    "raw": ((RAW,), {}),
    "qcow2": ((QCOW2,), {}),
    "the last of two disks": ((Disk(file="a.qcow2", data_bytes=MIB), QCOW2), {}),
    "flattened": ((Disk(file="web.qcow2", data_bytes=24 * MIB),), {"mode": CloneMode.FULL}),
    "to another host": ((QCOW2,), {"to": "lab2"}),
    "of a running VM": ((QCOW2,), {}),
}


@pytest.fixture
def small(world: World) -> Iterator[World]:
    """Both hosts have a pool with room for one copy."""
    for host in (world.one, world.two):
        small_pool(world, 40, host)
    yield world
    for host in (world.one, world.two):
        host.run(["umount", "-l", ROOM])


def fill(host: LabHost) -> None:
    """Leaves no byte in the small pool."""
    host.run(["dd", "if=/dev/zero", f"of={ROOM}/other", "bs=64k"], check=False)


@pytest.mark.parametrize("way", WAYS)
def test_a_pool_that_fills_up_in_the_middle_is_undone(small: World, way: str) -> None:
    disks, asked = WAYS[way]
    if way == "flattened":
        small.make_disk(small.one, Disk(file="base.qcow2", data_bytes=24 * MIB))
        disks = (Disk(file="web.qcow2", base="/var/lib/libvirt/images/base.qcow2", data_bytes=0),)
    small.make_vm(small.one, "web", *disks, start=way == "of a running VM")
    before = small.files(small.one)
    target = small.two if way == "to another host" else small.one
    filled: list[bool] = []

    def meanwhile(operation: Operation) -> None:
        if operation.progress.phase.startswith("copy") and not filled:
            filled.append(True)
            fill(target)

    with small.controller() as controller:
        request = CloneRequest(vm="web", name="new", pool="small", rate=8 * MIB, **asked)
        operation = controller.clone(request, watch=meanwhile)

    assert operation.state is OperationState.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "STORAGE_FULL", operation.error
    assert target.run(["ls", ROOM]).stdout.decode().split() == ["other"]
    assert small.files(small.one) == before
    assert set(small.vms(small.one)) == {"web"}
    assert small.vms(small.two) == {}


def test_what_others_took_since_is_seen_before_anything_is_made(small: World) -> None:
    small.make_vm(small.one, "web", RAW)
    small.one.run(["virsh", "-q", "pool-refresh", "small"])
    small.one.run(["dd", "if=/dev/zero", f"of={ROOM}/others", "bs=1M", "count=30"])
    done = small.cli("clone", "web", "b", "--pool", "small")
    assert (done.returncode, code_of(done)) == (5, "STORAGE_FULL")
    assert small.operations() == ()
