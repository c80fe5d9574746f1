"""Progress tells the truth: what is said to be through lies on the target."""

from __future__ import annotations

import pytest

from tests.host.world import MIB, Disk, World
from twinship.model.operation import Operation, OperationState
from twinship.model.request import CloneRequest, MigrateRequest

pytestmark = pytest.mark.host

SIZE = 384 * MIB
POINTS = (0.25, 0.5, 0.75)
NEAR = 0.05


class Sampler:
    """Looks at the target's file as each point goes by."""

    def __init__(self, world: World, host: str, file: str) -> None:
        self._path = world.lab.host(host).images / file
        self.seen: list[tuple[float, float]] = []

    def __call__(self, operation: Operation) -> None:
        progress = operation.progress
        if not progress.phase.startswith(("carry", "copy", "move")) or not progress.bytes_total:
            return
        said = progress.bytes_done / progress.bytes_total
        if len(self.seen) < len(POINTS) and said >= POINTS[len(self.seen)]:
            real = self._path.stat().st_blocks * 512
            self.seen.append((progress.bytes_done, real))

    def check(self) -> None:
        assert len(self.seen) == len(POINTS), "too few points went by"
        for said, real in self.seen:
            assert abs(said - real) <= NEAR * SIZE, f"said {said}, there are {real}"


def test_an_offline_move_says_what_is_there(world: World) -> None:
    disk = Disk(file="web.qcow2", size_bytes=2 * SIZE, data_bytes=SIZE)
    world.make_vm(world.one, "web", disk)
    sampler = Sampler(world, "lab2", "web.qcow2")
    with world.controller() as controller:
        moved = controller.migrate(
            MigrateRequest(vm="web", target="lab2", rate=96 * MIB), watch=sampler
        )
    assert moved.state is OperationState.SUCCEEDED, moved.error
    sampler.check()


def test_a_live_move_with_its_disk_says_what_is_there(world: World) -> None:
    disk = Disk(file="web.qcow2", size_bytes=2 * SIZE, data_bytes=SIZE)
    world.make_vm(world.one, "web", disk, start=True)
    sampler = Sampler(world, "lab2", "web.qcow2")
    with world.controller() as controller:
        moved = controller.migrate(
            MigrateRequest(vm="web", target="lab2", rate=96 * MIB), watch=sampler
        )
    assert moved.state is OperationState.SUCCEEDED, moved.error
    sampler.check()


def test_a_clone_says_what_is_there(world: World) -> None:
    disk = Disk(file="web.qcow2", size_bytes=2 * SIZE, data_bytes=SIZE)
    world.make_vm(world.one, "web", disk)
    sampler = Sampler(world, "lab1", "web-2.qcow2")
    with world.controller() as controller:
        cloned = controller.clone(
            CloneRequest(vm="web", name="web-2", rate=96 * MIB), watch=sampler
        )
    assert cloned.state is OperationState.SUCCEEDED, cloned.error
    sampler.check()
