"""A move that is cut off anywhere: exactly one startable copy, its content whole, nothing left."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import Operation, OperationState
from twinship.model.request import MigrateRequest
from twinship_lab import DaemonAction, DaemonState, Link

pytestmark = pytest.mark.host

RATE = 4 * MIB
OFFLINE = ("look", "create", "carry", "check", "define", "remove")
SLOW_OFF = pytest.param(False, marks=pytest.mark.all)
LIVE = ("look", "create", "move", "check", "remove")


class Watched:
    """A VM with one disk on lab1, and what has to hold however its move ends."""

    def __init__(self, world: World, *, running: bool, data_bytes: int = 12 * MIB) -> None:
        self.world = world
        self.running = running
        disk = Disk(file="web.qcow2", size_bytes=64 * MIB, data_bytes=data_bytes)
        world.make_vm(world.one, "web", disk, start=running)
        self.sha = world.sha(world.one, "web.qcow2")

    def assert_home(self) -> None:
        """As before the move."""
        assert self.world.vms(self.world.one) == {"web": "running" if self.running else "shut off"}
        assert self.world.vms(self.world.two) == {}
        assert self.world.files(self.world.two) == set()
        assert self.world.sha(self.world.one, "web.qcow2") == self.sha

    def assert_one_copy(self) -> None:
        """At home, or wholly on the target."""
        if self.world.vms(self.world.one):
            self.assert_home()
            return
        assert self.world.vms(self.world.two) == {"web": "running" if self.running else "shut off"}
        compare = ["qemu-img", "compare", "-U", str(self.world.one.images / "web.qcow2")]
        compare.append(str(self.world.two.images / "web.qcow2"))
        assert subprocess.run(compare, check=False, capture_output=True).returncode == 0
        assert self.world.files(self.world.two) == {"web.qcow2"}


def moving(world: World, meanwhile: Callable[[], None], *, rate: int = RATE) -> Operation:
    """Moves web to lab2 and does something once bytes are on their way."""
    began = threading.Event()

    def act() -> None:
        if began.wait(30):
            meanwhile()

    acted = threading.Thread(target=act)

    def watch(operation: Operation) -> None:
        busy = operation.progress.phase.startswith(("carry", "move"))
        if busy and operation.progress.bytes_done > 0:
            began.set()

    acted.start()
    with world.controller() as controller:
        operation = controller.migrate(
            MigrateRequest(vm="lab1/web", target="lab2", rate=rate), watch=watch
        )
    began.set()
    acted.join()
    return operation


def wait_until(seen: Callable[[], bool], seconds: float) -> None:
    """Polls until it is seen; fails after that long."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.1)


# Ctrl-C, kill


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    "phase", [*(pytest.param(p, marks=pytest.mark.all) for p in ("look", "create")), "carry|move"]
)
def test_an_interrupted_move_leaves_the_vm_at_home(world: World, phase: str, running: bool) -> None:
    watched = Watched(world, running=running)
    wanted = phase.split("|")[-1 if running else 0]

    done = world.act_at(wanted, "interrupt", "migrate", vm="web", target="lab2", rate=RATE)

    assert done.returncode == 130, done.stderr
    watched.assert_home()


@pytest.mark.parametrize("phase", OFFLINE)
def test_a_killed_offline_move_is_settled(world: World, phase: str) -> None:
    watched = Watched(world, running=False)

    killed = world.act_at(phase, "kill", "migrate", vm="web", target="lab2")

    assert killed.returncode == -9, killed.stderr
    assert len(world.resume_all()) == 1
    watched.assert_one_copy()
    assert bool(world.vms(world.two)) == (phase in ("remove",))


@pytest.mark.all  # the kill loop has one of each line
@pytest.mark.parametrize("phase", LIVE)
def test_a_killed_live_move_is_settled(world: World, phase: str) -> None:
    watched = Watched(world, running=True)

    killed = world.act_at(phase, "kill", "migrate", vm="web", target="lab2")

    assert killed.returncode == -9, killed.stderr
    assert len(world.resume_all()) == 1
    watched.assert_one_copy()


@pytest.mark.parametrize("running", [False, True])
def test_a_move_killed_while_bytes_flow_is_settled(world: World, running: bool) -> None:
    watched = Watched(world, running=running)
    process = world.start_cli("migrate", "web", "--to", "lab2", "--bandwidth", "2MiB/s")
    wait_until(lambda: bool(world.files(world.two)) and bool(world.vms(world.two)), 20)

    process.kill()
    process.communicate()

    world.resume_all()
    watched.assert_home()


# The target


def test_a_target_that_is_down_is_said_at_once(world: World) -> None:
    watched = Watched(world, running=True)
    world.two.daemon(DaemonAction.STOP)
    began = time.monotonic()

    done = world.cli("migrate", "web", "--to", "lab2")

    assert time.monotonic() - began < 10
    assert (done.returncode, code_of(done)) == (1, "HOST_UNREACHABLE")
    world.mend()
    watched.assert_home()


@pytest.mark.parametrize("running", [False, True])
def test_a_target_daemon_killed_in_the_middle(world: World, running: bool) -> None:
    watched = Watched(world, running=running)

    def kill_and_start() -> None:
        world.two.daemon(DaemonAction.KILL)
        wait_until(lambda: world.operations()[0].state is OperationState.WAITING, 30)
        assert any("lab2" in text for text in world.operations()[0].leftovers)
        world.two.daemon(DaemonAction.START)

    operation = moving(world, kill_and_start)

    assert operation.state is OperationState.FAILED, operation
    watched.assert_home()


def test_a_waiting_move_is_finished_by_itself_once_the_host_answers(world: World) -> None:
    watched = Watched(world, running=False)
    process = world.start_cli("migrate", "web", "--to", "lab2", "--bandwidth", "2MiB/s")
    wait_until(lambda: bool(world.vms(world.two)), 20)
    world.two.daemon(DaemonAction.KILL)
    process.send_signal(2)  # the first asks to cancel, the second not to wait any longer
    wait_until(lambda: world.operations()[0].state is OperationState.WAITING, 40)
    process.send_signal(2)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 8, errors
    assert "goes on by itself" in errors

    world.two.daemon(DaemonAction.START)

    wait_until(lambda: world.operations()[0].state.ended, 60)
    watched.assert_home()


@pytest.mark.parametrize("running", [SLOW_OFF, True])
def test_a_target_daemon_frozen_in_the_middle(world: World, running: bool) -> None:
    watched = Watched(world, running=running)
    twice: list[float] = []

    def freeze_and_thaw() -> None:
        world.two.daemon(DaemonAction.FREEZE)
        wait_until(lambda: world.operations()[0].state is OperationState.WAITING, 60)
        world.two.daemon(DaemonAction.THAW)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            states = [world.vms(host).get("web") for host in (world.one, world.two)]
            if states == ["running", "running"]:
                twice.append(time.monotonic() - began)

    operation = moving(world, freeze_and_thaw, rate=2 * MIB)

    assert operation.state is OperationState.FAILED, operation
    assert twice == []
    watched.assert_home()


def test_a_target_qemu_killed_in_the_middle(world: World) -> None:
    watched = Watched(world, running=True)

    def kill_qemu() -> None:
        world.two.run(["pkill", "-9", "qemu-system"])

    operation = moving(world, kill_qemu)

    assert operation.state is OperationState.FAILED
    watched.assert_home()


# The link


def tries(world: World, operation: Operation) -> int:
    """How often it was tried again, by its history."""
    return [event.kind for event in world.history(operation.id)].count("trying_again")


def test_a_short_cut_of_the_link_is_survived(world: World) -> None:
    Watched(world, running=False)

    def cut() -> None:
        world.two.link(which=Link.DATA, up=False)
        time.sleep(3)  # the length of the cut is what is tested
        world.two.link(which=Link.DATA, up=True)

    operation = moving(world, cut)

    assert operation.state is OperationState.SUCCEEDED, operation.error
    assert tries(world, operation) == 0
    assert world.vms(world.two) == {"web": "shut off"}
    assert world.sha(world.one, "web.qcow2") == world.sha(world.two, "web.qcow2")


@pytest.mark.parametrize("running", [SLOW_OFF, True])
def test_a_move_whose_link_breaks_begins_again_by_itself(world: World, running: bool) -> None:
    watched = Watched(world, running=running, data_bytes=48 * MIB)

    def cut() -> None:
        world.two.link(which=Link.DATA, up=False)
        time.sleep(14)  # longer than the engine takes for a stall; a running VM's disk copy hangs
        world.two.link(which=Link.DATA, up=True)

    operation = moving(world, cut, rate=8 * MIB)

    assert operation.state is OperationState.SUCCEEDED, operation.error
    assert tries(world, operation) >= 1
    watched.assert_one_copy()


@pytest.mark.all
def test_an_increment_whose_link_breaks_begins_again_on_a_new_overlay(world: World) -> None:
    world.make_vm(world.one, "base", Disk(file="base.qcow2"))
    assert world.cli("clone", "base", "web", "--mode", "linked").returncode == 0
    pattern = world.one.images / "pattern"
    pattern.write_bytes(os.urandom(48 * MIB // 2))
    write = f"write -q -s {IMAGES}/pattern 0 {48 * MIB // 2}"
    world.one.run(["qemu-io", "-f", "qcow2", "-c", write, f"{IMAGES}/web.qcow2"])
    pattern.unlink()
    assert world.cli("vm", "start", "web").returncode == 0

    def cut() -> None:
        wait_until(lambda: "web.qcow2" in world.files(world.two), 30)
        world.two.link(which=Link.DATA, up=False)
        time.sleep(14)  # longer than the engine takes for a stall
        world.two.link(which=Link.DATA, up=True)

    operation = moving(world, cut, rate=4 * MIB)

    assert operation.state is OperationState.SUCCEEDED, operation.error
    assert tries(world, operation) >= 1
    assert world.sha(world.two, "base.qcow2") == world.sha(world.one, "base.qcow2")
    read = ["qemu-img", "convert", "-U", "-O", "raw", f"{IMAGES}/web.qcow2", f"{IMAGES}/flat"]
    for host in (world.one, world.two):
        host.run(read)
    assert world.sha(world.two, "flat") == world.sha(world.one, "flat")


@pytest.mark.all
def test_a_link_that_stays_away_ends_undone(world: World) -> None:
    watched = Watched(world, running=False, data_bytes=48 * MIB)

    operation = moving(world, lambda: world.two.link(which=Link.DATA, up=False), rate=8 * MIB)

    # libvirt 9.0's daemon may die of a mirror that hangs; then it waits for that to come back.
    assert operation.state in (OperationState.FAILED, OperationState.WAITING)
    assert operation.error is not None
    assert operation.error["code"] in ("STALLED", "HYPERVISOR", "HOST_UNREACHABLE")
    assert tries(world, operation) == 3
    world.mend()
    world.resume_all()
    assert world.operations()[0].state is OperationState.FAILED
    watched.assert_home()


@pytest.mark.all
@pytest.mark.parametrize("which", ["lab1", "lab2"])
def test_a_control_link_cut_in_the_middle(world: World, which: str) -> None:
    watched = Watched(world, running=True)
    host = world.lab.host(which)

    def cut_and_mend() -> None:
        host.link(which=Link.CONTROL, up=False)
        wait_until(lambda: world.operations()[0].state is OperationState.WAITING, 60)
        host.link(which=Link.CONTROL, up=True)

    moving(world, cut_and_mend, rate=2 * MIB)

    world.resume_all()
    watched.assert_one_copy()


# The source, and the room


def test_a_source_daemon_killed_in_the_middle(world: World) -> None:
    watched = Watched(world, running=True)

    def kill_and_start() -> None:
        world.one.daemon(DaemonAction.KILL)
        world.one.daemon(DaemonAction.START)
        wait_until(lambda: world.one.daemon_state() is DaemonState.RUNNING, 10)

    moving(world, kill_and_start)

    world.resume_all()
    watched.assert_one_copy()


@pytest.mark.parametrize("running", [False, True])
def test_a_target_that_fills_up_in_the_middle_is_undone(world: World, running: bool) -> None:
    watched = Watched(world, running=running, data_bytes=40 * MIB)
    images = "/var/lib/libvirt/images"
    world.two.run(["mount", "-t", "tmpfs", "-o", "size=48m", "full", images])
    world.two.run(["virsh", "-q", "pool-refresh", "default"])
    try:
        fill = ["dd", "if=/dev/zero", f"of={images}/other", "bs=1M"]
        # QEMU reads 16 MiB ahead: that much is there whatever the rate.
        operation = moving(world, lambda: _run(world, fill), rate=16 * MIB)
        left = world.two.run(["ls", images]).stdout.decode().split()
    finally:
        world.two.run(["umount", "-l", images])
        world.two.run(["virsh", "-q", "pool-refresh", "default"])

    assert operation.state is OperationState.FAILED
    assert left == ["other"]
    watched.assert_home()


def _run(world: World, command: list[str]) -> None:
    world.two.run(command, check=False)
