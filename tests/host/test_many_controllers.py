"""Many controllers on one database: who wins, who waits, who works in the background."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.world import MIB, Disk, World
from twinship.config import Config
from twinship.controller import Controller
from twinship.model.errors import Conflict, TwinshipError
from twinship.model.operation import Operation, OperationState
from twinship.model.request import MigrateRequest

pytestmark = pytest.mark.host


def wait_until(seen: Callable[[], bool], seconds: float = 30) -> None:
    """Polls until it is seen."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("times", [6, pytest.param(100, marks=pytest.mark.all)])
def test_of_two_controllers_that_start_one_move_one_wins(world: World, times: int) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    controllers = [Controller(world.config, local=False) for _ in range(2)]
    here, there = "lab1", "lab2"
    try:
        for _ in range(times):
            request = MigrateRequest(vm=f"{here}/web", target=there)
            won, refused = at_once(controllers, request)
            assert [op.state for op in won] == [OperationState.SUCCEEDED]
            assert [error.exit_code for error in refused] == [6]
            (world.one if here == "lab1" else world.two).images.joinpath("web.qcow2").unlink()
            here, there = there, here
    finally:
        for controller in controllers:
            controller.close()
    assert world.vms(world.one) == {"web": "shut off"}
    assert world.vms(world.two) == {}


def at_once(
    controllers: list[Controller], request: MigrateRequest
) -> tuple[list[Operation], list[TwinshipError]]:
    """All start the same move at one moment; those that won, and what the others were told."""
    gate = threading.Barrier(len(controllers))
    won: list[Operation] = []
    refused: list[TwinshipError] = []

    def start(controller: Controller) -> None:
        plan_seen = controller.migrate_plan(request)
        assert plan_seen.feasible
        gate.wait()
        try:
            won.append(controller.migrate(request))
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(controller,)) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return won, refused


def test_a_host_takes_two_moves_at_a_time_and_the_third_says_so(world: World) -> None:
    for number in range(3):
        disk = Disk(file=f"v{number}.qcow2", data_bytes=12 * MIB)
        world.make_vm(world.one, f"v{number}", disk)
    moves = [
        world.start_cli("migrate", f"v{number}", "--to", "lab2", "--bandwidth", "6MiB/s")
        for number in range(3)
    ]

    full = {"lab2 takes 2 moves at a time, 2 running", "lab1 gives 2 moves at a time, 2 running"}

    def waiting() -> list[Operation]:
        return [op for op in world.operations() if op.waiting_for in full]

    wait_until(lambda: bool(waiting()))
    waits = waiting()[0]
    assert waits.state is OperationState.QUEUED
    listed = world.cli("operation", "list").stdout
    assert "queued" in listed
    assert waits.waiting_for in world.cli("operation", "show", waits.id).stdout
    outputs = [process.communicate(timeout=60)[1] for process in moves]
    assert [process.returncode for process in moves] == [0, 0, 0]
    assert any(reason in output for reason in full for output in outputs)
    assert set(world.vms(world.two)) == {"v0", "v1", "v2"}


def test_a_queued_move_is_cancelled_at_once(world: World) -> None:
    world.config.state.joinpath("config.toml").write_text("[limits]\nin = 1\n")
    for name in ("a", "b"):
        world.make_vm(world.one, name, Disk(file=f"{name}.qcow2", data_bytes=12 * MIB))
    first = world.start_cli("migrate", "a", "--to", "lab2", "--bandwidth", "4MiB/s")
    wait_until(lambda: bool(world.vms(world.two)))
    second = world.start_cli("migrate", "b", "--to", "lab2")
    wait_until(lambda: bool(world.operations()[0].waiting_for))

    assert world.cli("operation", "cancel", world.operations()[0].id).returncode == 0

    _, errors = second.communicate(timeout=10)
    assert second.returncode == 130, errors
    assert world.vms(world.one).get("b") == "shut off"
    first.communicate(timeout=30)
    assert first.returncode == 0


def test_no_wait_leaves_a_worker_that_finishes(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))

    done = world.cli("migrate", "web", "--to", "lab2", "--no-wait")

    assert done.returncode == 0, done.stderr
    operation = world.operations()[0]
    assert operation.id in done.stdout + done.stderr
    assert world.cli("operation", "watch", operation.id).returncode == 0
    assert world.vms(world.two) == {"web": "shut off"}


def test_a_worker_that_was_killed_is_followed_by_another(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=12 * MIB))
    world.make_vm(world.one, "other", Disk(file="other.qcow2", data_bytes=MIB))
    world.cli("migrate", "web", "--to", "lab2", "--no-wait", "--bandwidth", "2MiB/s")
    wait_until(lambda: bool(world.vms(world.two)))
    pid = int(world.operations()[0].owner.split(":")[1])
    subprocess.run(["kill", "-9", str(pid)], check=True)

    listed = world.cli("operation", "list")
    assert "has lost its process" in listed.stderr, "a read-only command only tells"
    assert world.operations()[0].state is OperationState.RUNNING
    assert world.cli("clone", "other", "copy").returncode == 0, "a changing one settles it"

    web = next(op for op in world.operations() if op.kind == "migrate")
    assert web.state is OperationState.FAILED
    assert world.vms(world.two) == {}


def test_a_command_that_was_stopped_for_long_is_no_danger(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=12 * MIB))
    config = Config(state=world.state, lease_s=2)
    stopped = world.actor(
        verb="migrate",
        request={"vm": "web", "target": "lab2"},
        deed="stop",
        write=["intent", "define"],
        when="after",
        lease_s=2,
    )
    wait_until(lambda: bool(world.operations()) and _is_stopped(stopped.pid))
    with Controller(config, local=False) as controller:
        assert controller.operation_orphans() == (), "its lease is not over yet"
        wait_until(lambda: bool(controller.operation_orphans()))
        settled = controller.operation_resume(controller.operation_orphans()[0].id)

    subprocess.run(["kill", "-CONT", str(stopped.pid)], check=False)

    assert stopped.wait(5) == -9
    assert settled.state is OperationState.FAILED
    assert world.vms(world.one) == {"web": "shut off"}
    assert world.vms(world.two) == {}


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return stat.rpartition(")")[2].split()[0] == "T"
