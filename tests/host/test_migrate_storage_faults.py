"""Storage that fails under a move, and hosts that look like one: undone, nothing of others lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host.test_migrate_faults import Watched, moving, wait_until
from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import Operation, OperationState
from twinship.model.request import MigrateMode, MigrateRequest
from twinship_lab import DaemonAction, LabHost

pytestmark = pytest.mark.host

LENGTH = 16 * MIB
BAD_SECTOR = 8 * MIB // 512


@contextmanager
def disk_with_a_bad_sector(host: LabHost) -> Iterator[str]:
    """A raw disk full of data in the host's images directory; one sector of it cannot be read."""
    backing, path = "/run/backing.img", f"{IMAGES}/web.img"
    host.outside(backing).write_bytes(os.urandom(LENGTH))
    host.outside(path).touch()
    error = {"event": "none", "iotype": "read", "errno": 5, "sector": BAD_SECTOR}
    nodes = (
        {"driver": "file", "node-name": "file", "filename": backing},
        {"driver": "blkdebug", "node-name": "bad", "image": "file", "inject-error": [error]},
    )
    export = f"type=fuse,id=export,node-name=bad,mountpoint={path},writable=on"
    argv = ["qemu-storage-daemon"]
    for node in nodes:
        argv += ["--blockdev", json.dumps(node)]
    process = host.popen([*argv, "--export", export])

    def shown() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return host.run(["stat", "-c", "%s", path]).stdout.strip() == str(LENGTH).encode()

    try:
        wait_until(shown, 10)
        yield path
    finally:
        host.run(["umount", "-l", path], check=False)
        process.kill()
        process.communicate()
        host.outside(backing).unlink()


@pytest.mark.parametrize(
    "mode",
    [
        MigrateMode.LIVE,
        pytest.param(MigrateMode.NON_LIVE, marks=pytest.mark.all),
        MigrateMode.OFFLINE,
    ],
)
def test_a_read_error_of_the_sources_disk_is_undone_and_said(
    world: World, mode: MigrateMode
) -> None:
    running = mode is not MigrateMode.OFFLINE
    with disk_with_a_bad_sector(world.one) as path:
        world.make_vm(world.one, "web", disks_at=((path, "raw"),), start=running)
        with world.controller() as controller:
            operation = controller.migrate(MigrateRequest(vm="web", target="lab2", mode=mode))

        assert operation.state is OperationState.FAILED
        assert operation.error is not None
        assert operation.error["code"] == "COPY_FAILED", operation.error
        assert world.vms(world.one) == {"web": "running" if running else "shut off"}
        assert world.vms(world.two) == {}
        assert world.files(world.two) == set()
        world.clean_vms(world.one)


@pytest.mark.parametrize("running", [False, pytest.param(True, marks=pytest.mark.all)])
@pytest.mark.parametrize("phase", ["look", "create"])
def test_a_file_that_appears_on_the_target_is_not_touched(
    world: World, running: bool, phase: str
) -> None:
    """After the plan, and after the last look at it."""
    watched = Watched(world, running=running)
    theirs = world.two.images / "web.qcow2"

    def appear(operation: Operation) -> None:
        if operation.progress.phase.startswith(phase) and not theirs.exists():
            theirs.write_bytes(b"somebody's")

    with world.controller() as controller:
        operation = controller.migrate(MigrateRequest(vm="web", target="lab2"), watch=appear)

    assert operation.state is OperationState.FAILED
    assert operation.error is not None
    assert operation.error["code"] == ("PLAN_STALE" if phase == "look" else "VOLUME_EXISTS")
    assert theirs.read_bytes() == b"somebody's"
    theirs.unlink()
    watched.assert_home()


def test_two_hosts_with_one_uuid_are_one_to_libvirt_and_nothing_is_begun(world: World) -> None:
    watched = Watched(world, running=True)
    conf = world.two.outside("/etc/libvirt/libvirtd.conf")
    before = conf.read_text()
    (line,) = (
        line
        for line in world.one.outside("/etc/libvirt/libvirtd.conf").read_text().splitlines()
        if line.startswith("host_uuid")
    )
    conf.write_text("\n".join([*(x for x in before.splitlines() if "host_uuid" not in x), line]))
    world.two.daemon(DaemonAction.STOP)
    world.two.daemon(DaemonAction.START)
    try:
        done = world.cli("migrate", "web", "--to", "lab2")
    finally:
        conf.write_text(before)
        world.two.daemon(DaemonAction.STOP)
        world.two.daemon(DaemonAction.START)

    assert (done.returncode, code_of(done)) == (5, "MIGRATE_SAME_HOST")
    assert "host_uuid" in done.stderr
    assert world.operations() == ()
    watched.assert_home()


def test_a_second_vm_with_its_uuid_on_the_target_is_never_touched(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    xml = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout
    world.two.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)

    done = world.cli("migrate", "lab1/web", "--to", "lab2")

    assert (done.returncode, code_of(done)) == (6, "NAME_TAKEN")
    assert world.vms(world.one) == {"web": "running"}
    assert world.vms(world.two) == {"web": "shut off"}


@pytest.mark.all
@pytest.mark.parametrize("running", [False, True])
def test_a_source_that_is_full_can_still_be_left(world: World, running: bool) -> None:
    """A move only reads at the source."""
    images = IMAGES
    world.one.run(["mount", "-t", "tmpfs", "-o", "size=24m", "full", images])
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    try:
        disk = Disk(file="web.qcow2", data_bytes=12 * MIB)
        inside = f"{images}/{disk.file}"
        world.one.run(["qemu-img", "create", "-q", "-f", "qcow2", inside, str(disk.size_bytes)])
        world.one.run(["qemu-io", "-c", f"write -q -P 7 0 {disk.data_bytes}", inside])
        world.make_vm(world.one, "web", disks_at=((inside, "qcow2"),), start=running)
        fill = ["dd", "if=/dev/zero", f"of={images}/other", "bs=1M"]
        operation = moving(world, lambda: _run(world.one, fill))
        states = world.vms(world.one), world.vms(world.two)
    finally:
        world.clean_vms(world.one)
        world.one.run(["umount", "-l", images])
        world.one.run(["virsh", "-q", "pool-refresh", "default"])

    assert operation.state is OperationState.SUCCEEDED, operation.error
    assert states == ({}, {"web": "running" if running else "shut off"})


def _run(host: LabHost, command: list[str]) -> None:
    host.run(command, check=False)
