"""Cloning on real libvirt: what a clone is, and what is left when it does not come to be."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.domxml.read import summary
from twinship.model.operation import Operation, OperationState
from twinship.model.request import CloneRequest
from twinship_lab import LabHost

pytestmark = pytest.mark.host

NIC = "<interface type='user'><mac address='52:54:00:01:02:03'/></interface>"


def test_a_clone_has_its_own_disks_name_uuid_and_macs(world: World) -> None:
    uuid = world.make_vm(
        world.one, "web", Disk(file="web.qcow2"), Disk(file="w2.img", format="raw"), extra=NIC
    )
    before = {file: world.sha(world.one, file) for file in ("web.qcow2", "w2.img")}

    done = world.cli("clone", "web", "web-2", "-o", "json")

    assert done.returncode == 0, done.stderr
    clone = json.loads(done.stdout)["result"]["clones"][0]
    assert world.vms(world.one) == {"web": "shut off", "web-2": "shut off"}
    assert {file: world.sha(world.one, file) for file in before} == before
    assert world.sha(world.one, "web-2-vda.qcow2") == before["web.qcow2"]
    assert world.sha(world.one, "web-2-vdb.img") == before["w2.img"]
    xml = world.one.run(["virsh", "dumpxml", "web-2"]).stdout.decode()
    assert summary(xml).uuid == clone["uuid"] != uuid
    assert summary(xml).nics[0].mac != "52:54:00:01:02:03"


@pytest.mark.parametrize("length", [777, 65536, 65537, 196616, 3 * 65536 + 511])
def test_a_file_of_any_length_is_copied_to_the_last_byte(world: World, length: int) -> None:
    path = world.one.images / "odd.img"
    path.write_bytes(os.urandom(length))
    world.make_vm(world.one, "odd", paths=())
    world.make_vm(world.one, "odd2", Disk(file="x.img", format="raw", data_bytes=0))
    (world.one.images / "x.img").write_bytes(path.read_bytes())

    assert world.cli("clone", "odd2", "copy", "--verify").returncode == 0

    assert world.sha(world.one, "copy.img") == world.sha(world.one, "odd.img")


def test_snapshots_inside_an_image_and_its_cluster_size_survive(world: World) -> None:
    disk = Disk(file="web.qcow2", options=("-o", "cluster_size=128k"))
    world.make_vm(world.one, "web", disk)
    world.one.run(["qemu-img", "snapshot", "-c", "before", f"{IMAGES}/web.qcow2"])

    assert world.cli("clone", "web", "web-2").returncode == 0

    assert world.sha(world.one, "web-2.qcow2") == world.sha(world.one, "web.qcow2")


def test_an_overlay_becomes_one_file_with_the_same_content(world: World) -> None:
    base = Disk(file="base.qcow2")
    world.make_disk(world.one, base)
    world.make_vm(
        world.one, "web", Disk(file="top.qcow2", base=f"{IMAGES}/base.qcow2", data_bytes=MIB)
    )
    world.one.run(["virsh", "-q", "pool-refresh", "default"])

    assert world.cli("clone", "web", "flat", "--mode", "full").returncode == 0

    compare = ["qemu-img", "compare", f"{IMAGES}/top.qcow2", f"{IMAGES}/flat.qcow2"]
    assert world.one.run(compare).returncode == 0
    told = world.one.run(["qemu-img", "info", "--output=json", f"{IMAGES}/flat.qcow2"]).stdout
    assert "backing-filename" not in json.loads(told)


def test_a_thin_raw_disk_stays_thin(world: World) -> None:
    world.make_vm(world.one, "thin", Disk(file="thin.img", format="raw", size_bytes=512 * MIB))

    assert world.cli("clone", "thin", "copy").returncode == 0

    source, copy = (
        (world.one.images / name).stat().st_blocks * 512 for name in ("thin.img", "copy.img")
    )
    assert copy <= source * 1.05 + MIB


def test_uefi_variables_are_copied(world: World) -> None:
    nvram = world.one.outside("/var/lib/libvirt/qemu/nvram")
    nvram.mkdir(parents=True, exist_ok=True)
    (nvram / "web_VARS.fd").write_bytes(Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes())
    xml = (
        "<domain type='qemu'><name>web</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='q35'>hvm</type>"
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
        "<nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>"
        "<features><acpi/></features></domain>"
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())

    done = world.cli("clone", "web", "web-2")

    assert done.returncode == 0, done.stderr
    assert (nvram / "web-2_VARS.fd").read_bytes() == (nvram / "web_VARS.fd").read_bytes()
    for file in nvram.iterdir():
        file.unlink()


# Cut off


@pytest.mark.parametrize("deed", ["interrupt", "terminate"])
@pytest.mark.parametrize("phase", ["look", "create", "copy"])
def test_an_interrupted_clone_leaves_nothing_behind(world: World, phase: str, deed: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=8 * MIB))
    before = world.sha(world.one, "web.qcow2")

    done = world.act_at(phase, deed, "clone", vm="web", name="new", rate=2 * MIB)

    assert done.returncode == 130, done.stderr
    assert world.files(world.one) == {"web.qcow2"}
    assert world.vms(world.one) == {"web": "shut off"}
    assert world.sha(world.one, "web.qcow2") == before


@pytest.mark.parametrize("phase", ["look", "create", "copy", "check", "define"])
def test_a_killed_clone_is_cleaned_by_the_next_command(world: World, phase: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    assert world.act_at(phase, "kill", "clone", vm="web", name="new").returncode == -9
    assert len(world.operations()) == 1
    assert world.cli("vm", "start", "web").returncode == 0

    assert world.operations()[-1].state is OperationState.FAILED
    assert world.files(world.one) == {"web.qcow2"}
    assert world.vms(world.one) == {"web": "running"}


def test_ctrl_c_on_the_command_line_exits_130(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=16 * MIB))
    process = world.start_cli("clone", "web", "new", "--bandwidth", "1MiB/s")
    assert process.stderr is not None
    for line in process.stderr:
        if "copy" in line:
            break
    process.send_signal(2)

    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "cancelled and undone" in errors
    assert world.files(world.one) == {"web.qcow2"}


# In the way


def test_a_name_that_is_taken_is_refused_and_another_suggested(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    world.make_vm(world.one, "new")

    done = world.cli("clone", "web", "new")

    assert (done.returncode, code_of(done)) == (6, "CLONE_NAME_TAKEN")
    assert "new-clone" in done.stderr


def test_a_file_of_somebody_else_is_never_touched(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    def put_one_there(operation: Operation) -> None:
        if operation.progress.phase.startswith("create"):
            (world.one.images / "new.qcow2").write_text("mine")

    with world.controller() as controller:
        operation = controller.clone(CloneRequest(vm="web", name="new"), watch=put_one_there)

    assert operation.state is OperationState.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "VOLUME_EXISTS"
    assert (world.one.images / "new.qcow2").read_text() == "mine"


def small_pool(world: World, mib: int, host: LabHost | None = None) -> Path:
    """A pool on a filesystem of its own that is soon full."""
    inside, host = "/run/small", host or world.one
    host.run(["mkdir", "-p", inside])
    host.run(["umount", inside], check=False)
    host.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "small", inside])
    host.run(["virsh", "-q", "pool-define-as", "small", "dir", "--target", inside])
    host.run(["virsh", "-q", "pool-start", "small"])
    return Path(inside)


def test_a_pool_without_room_is_refused_before_the_copy(world: World) -> None:
    small_pool(world, 4)
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=16 * MIB))

    done = world.cli("clone", "web", "new", "--pool", "small")

    assert (done.returncode, code_of(done)) == (5, "STORAGE_FULL")
    world.one.run(["umount", "-l", "/run/small"])


def test_two_operations_on_one_vm_conflict_and_the_other_is_named(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=16 * MIB))
    first = world.start_cli("clone", "web", "a", "--bandwidth", "4MiB/s")
    assert first.stderr is not None
    for line in first.stderr:
        if "copy" in line:
            break

    second = world.cli("migrate", "web", "--to", "lab2")
    third = world.cli("clone", "web", "a")

    assert (second.returncode, third.returncode) == (6, 6)
    assert world.operations()[0].id in second.stderr
    assert world.operations()[0].id in third.stderr
    first.communicate(timeout=60)
    assert first.returncode == 0


@pytest.mark.all
def test_twenty_clones_of_one_vm_at_once(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    running = [world.start_cli("clone", "web") for _ in range(20)]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors

    names = {"web", "web-clone", *(f"web-clone-{number}" for number in range(2, 21))}
    assert set(world.vms(world.one)) == names
    assert world.files(world.one) == {f"{name}.qcow2" for name in names}
    queued = {event.kind for op in world.operations() for event in world.history(op.id)}
    assert "queued" in queued, "a pool takes four copies at a time"


def test_ten_clones_at_once_from_five_sources(world: World) -> None:
    for number in range(5):
        world.make_vm(world.one, f"s{number}", Disk(file=f"s{number}.qcow2", data_bytes=MIB))
    running: list[subprocess.Popen[str]] = [
        world.start_cli("clone", f"s{number}", f"c{number}") for number in range(5)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len(world.vms(world.one)) == 10
