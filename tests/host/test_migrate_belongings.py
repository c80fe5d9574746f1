"""What a VM has besides its disks goes along, or the plan says what does not."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.world import IMAGES, MIB, NVRAM, SWTPM, Disk, World, code_of
from twinship_lab import LabHost

pytestmark = pytest.mark.host

PASSPHRASE = "correct horse, battery staple"
SECRET = "0a1b2c3d-1111-4222-8333-444455556666"
UUID = "5e5e5e5e-1111-4222-8333-444455556666"
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"


def a_secret(host: LabHost, *, private: bool = False, value: str = PASSPHRASE) -> None:
    xml = (
        f"<secret ephemeral='no' private='{'yes' if private else 'no'}'><uuid>{SECRET}</uuid>"
        f"<usage type='volume'><volume>{IMAGES}/secret.img</volume></usage></secret>"
    )
    host.run(["virsh", "-q", "secret-define", "/dev/stdin"], input=xml.encode())
    if value:
        set_value = ["virsh", "-q", "secret-set-value", SECRET, "--file", "/dev/stdin", "--plain"]
        host.run(set_value, input=value.encode())


def an_encrypted_disk(world: World) -> str:
    """A LUKS disk on lab1; its part of a definition."""
    outside = world.one.images / "secret.img"
    with outside.open("wb") as file:
        file.truncate(10 * MIB)
    # A given number of iterations: to measure how many this machine does takes a quiet one.
    form = ["cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations"]
    subprocess.run([*form, "1000", outside, "-"], input=PASSPHRASE.encode(), check=True)
    return (
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        f"<source file='{IMAGES}/secret.img'><encryption format='luks'>"
        f"<secret type='passphrase' uuid='{SECRET}'/></encryption></source>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )


def a_rich_vm(world: World) -> None:
    """Chain, encrypted disk, firmware variables, TPM, a medium, snapshots: all a VM can have."""
    a_secret(world.one)
    world.make_disk(world.one, Disk(file="base.qcow2", size_bytes=8 * MIB, data_bytes=MIB))
    base = f"{IMAGES}/base.qcow2"
    world.make_disk(world.one, Disk(file="rich.qcow2", base=base, data_bytes=MIB))
    encrypted = an_encrypted_disk(world)
    (world.one.images / "install.iso").write_bytes(b"medium" * 20_001)
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    world.one.outside(NVRAM).mkdir(parents=True, exist_ok=True)
    world.two.outside(NVRAM).mkdir(parents=True, exist_ok=True)
    variables = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
    (world.one.outside(NVRAM) / "rich_VARS.fd").write_bytes(variables[:-1] + b"\x7f")
    xml = (
        f"<domain type='qemu'><name>rich</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>"
        f"<loader readonly='yes' type='pflash'>{OVMF}</loader>"
        f"<nvram>{NVRAM}/rich_VARS.fd</nvram></os><features><acpi/></features><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file='{IMAGES}/rich.qcow2'/><target dev='vda' bus='virtio'/></disk>{encrypted}"
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
        f"<source file='{IMAGES}/install.iso'/><target dev='sda' bus='sata'/><readonly/></disk>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "</devices></domain>"
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())
    world.one.run(["virsh", "-q", "start", "rich"])
    world.one.run(["virsh", "-q", "destroy", "rich"])
    for name in ("first", "second"):
        disk = f"vda,file={IMAGES}/rich.{name}"
        snapshot = ["virsh", "-q", "snapshot-create-as", "rich", name, "--disk-only"]
        world.one.run([*snapshot, "--diskspec", disk, "--diskspec", "vdb,snapshot=no"])
    world.one.run(["virsh", "-q", "snapshot-current", "rich", "--snapshotname", "first"])


def records(host: LabHost, name: str) -> list[str]:
    """Every snapshot's record, word for word, and which is the current one."""
    names = host.run(["virsh", "snapshot-list", name, "--name", "--topological"]).stdout.decode()
    shown = [
        host.run(["virsh", "snapshot-dumpxml", name, snapshot, "--security-info"]).stdout.decode()
        for snapshot in names.split()
    ]
    return [*shown, host.run(["virsh", "snapshot-current", name, "--name"]).stdout.decode()]


def tpm_state(host: LabHost) -> bytes:
    return (host.outside(SWTPM) / UUID / "tpm2" / "tpm2-00.permall").read_bytes()


def planned(world: World, name: str, *words: str) -> dict[str, Any]:
    done = world.cli("migrate", name, "--to", "lab2", *words, "--dry-run", "-o", "json")
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def codes(plan: dict[str, Any], severity: str = "block") -> set[str]:
    return {check["code"] for check in plan["checks"] if check["severity"] == severity}


def assert_told_nobody(world: World) -> None:
    """The passphrase is nowhere in what the product keeps."""
    plain = PASSPHRASE.encode()
    for path in world.state.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert plain not in kept, path
            assert base64.b64encode(plain) not in kept, path


def test_an_offline_move_takes_everything_along(world: World) -> None:
    a_rich_vm(world)
    files = world.files(world.one)
    before = {file: world.sha(world.one, file) for file in files}
    kept, tpm = records(world.one, "rich"), tpm_state(world.one)

    steps = {step["id"].partition(":")[0] for step in planned(world, "rich")["steps"]}
    done = world.cli("migrate", "rich", "--to", "lab2")

    assert done.returncode == 0, done.stderr
    assert steps >= {"secret", "nvram", "tpm", "snapshots", "carry", "define", "undefine"}
    assert files == {
        *("base.qcow2", "rich.qcow2", "rich.first", "rich.second", "secret.img", "install.iso")
    }
    assert {file: world.sha(world.two, file) for file in world.files(world.two)} == before
    assert {file: world.sha(world.one, file) for file in world.files(world.one)} == before
    assert records(world.two, "rich") == kept
    assert tpm_state(world.two) == tpm
    variables = [(h.outside(NVRAM) / "rich_VARS.fd").read_bytes() for h in (world.one, world.two)]
    assert variables[0] == variables[1]
    assert world.vms(world.one) == {}
    assert_told_nobody(world)
    started = world.cli("vm", "start", "rich")
    assert started.returncode == 0, started.stderr


def test_a_move_that_fails_at_its_end_takes_everything_back(world: World) -> None:
    a_rich_vm(world)
    kept = records(world.one, "rich")
    (world.two.outside(NVRAM) / "rich_VARS.fd").write_bytes(b"somebody's")

    done = world.cli("migrate", "rich", "--to", "lab2")

    assert code_of(done) == "VOLUME_EXISTS"
    assert world.files(world.two) == set()
    assert world.secrets(world.two) == set()
    assert world.vms(world.two) == {}
    assert list(world.two.outside(SWTPM).glob("*")) == []
    assert world.vms(world.one) == {"rich": "shut off"}
    assert records(world.one, "rich") == kept


@pytest.mark.parametrize(
    "phase",
    [*(pytest.param(p, marks=pytest.mark.all) for p in ("copy the TPM", "remove")), "define"],
)
def test_a_killed_move_with_belongings_is_settled(world: World, phase: str) -> None:
    a_rich_vm(world)
    kept = records(world.one, "rich")

    killed = world.act_at(phase, "kill", "migrate", vm="rich", target="lab2")

    assert killed.returncode == -9, killed.stderr
    assert len(world.resume_all()) == 1
    if phase == "remove":
        assert world.vms(world.one) == {}
        assert records(world.two, "rich") == kept
        return
    assert world.vms(world.one) == {"rich": "shut off"}
    assert records(world.one, "rich") == kept
    assert world.files(world.two) == set()
    assert world.secrets(world.two) == set()
    assert list(world.two.outside(SWTPM).glob("*")) == []


def test_checkpoints_go_along_with_their_bitmaps(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    for name in ("monday", "tuesday"):
        world.one.run(["virsh", "-q", "checkpoint-create-as", "web", name])
    live = planned(world, "web")
    world.one.run(["virsh", "-q", "destroy", "web"])
    show = ["virsh", "checkpoint-dumpxml", "web", "tuesday"]
    before = world.one.run(show).stdout

    done = world.cli("migrate", "web", "--to", "lab2")

    assert codes(live) >= {"VM_CHECKPOINTS"}
    assert done.returncode == 0, done.stderr
    assert world.two.run(show).stdout == before
    info = world.two.run(["qemu-img", "info", f"{IMAGES}/web.qcow2"]).stdout.decode()
    assert "monday" in info
    assert world.cli("vm", "start", "web").returncode == 0
    backup = "<domainbackup><incremental>monday</incremental></domainbackup>"
    world.two.run(["virsh", "-q", "backup-begin", "web", "/dev/stdin"], input=backup.encode())


def test_a_snapshots_memory_and_other_branch_go_along(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    snapshot = ["virsh", "-q", "snapshot-create-as", "web", "live", "--memspec"]
    snapshot += [f"file={IMAGES}/web.memory", "--diskspec", f"vda,file={IMAGES}/web.live"]
    world.one.run(snapshot)
    world.one.run(["virsh", "-q", "destroy", "web"])
    # Back on the first file by hand, as people do: the overlay is a branch of its own now.
    text = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout.decode()
    text = (
        text.replace("web.live", "web.qcow2")
        .replace("<backingStore", "<!--")
        .replace("</backingStore>", "-->")
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=text.encode())

    done = world.cli("migrate", "web", "--to", "lab2")

    assert done.returncode == 0, done.stderr
    assert world.files(world.two) == {"web.qcow2", "web.live", "web.memory"}
    for file in world.files(world.two):
        assert world.sha(world.two, file) == world.sha(world.one, file)


def test_a_private_secret_has_to_be_typed(world: World) -> None:
    a_secret(world.one, private=True)
    world.make_vm(world.one, "web", extra=an_encrypted_disk(world))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])

    refused = planned(world, "web")
    a_secret(world.two, value="")
    empty = planned(world, "web")
    a_secret(world.two, private=True)
    done = world.cli("migrate", "web", "--to", "lab2")

    assert codes(refused) == codes(empty) == {"SECRET_MISSING"}
    (check,) = [check for check in refused["checks"] if check["code"] == "SECRET_MISSING"]
    assert "secret-set-value" in check["hint"]
    assert done.returncode == 0, done.stderr
    assert world.cli("vm", "start", "web").returncode == 0


def test_a_running_vm_takes_its_medium_and_its_secret_along(world: World) -> None:
    a_secret(world.one)
    (world.one.images / "install.iso").write_bytes(b"medium" * 20_001)
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    extra = (
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
        f"<source file='{IMAGES}/install.iso'/><target dev='hda' bus='ide'/><readonly/></disk>"
    )
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), extra=extra, start=True)

    done = world.cli("migrate", "web", "--to", "lab2")

    assert done.returncode == 0, done.stderr
    assert world.vms(world.two) == {"web": "running"}
    assert world.files(world.one) == {"web.qcow2", "install.iso"}
    assert world.sha(world.two, "install.iso") == world.sha(world.one, "install.iso")


@pytest.mark.parametrize("running", [False, pytest.param(True, marks=pytest.mark.all)])
def test_a_disk_that_is_named_by_its_pool_moves_as_the_file_it_is(
    world: World, running: bool
) -> None:
    world.make_disk(world.one, Disk(file="web.qcow2"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    disk = (
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source pool='default' volume='web.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    )
    world.make_vm(world.one, "web", extra=disk, start=running)

    done = world.cli("migrate", "web", "--to", "lab2")

    assert done.returncode == 0, done.stderr
    assert world.files(world.two) == {"web.qcow2"}
    if not running:
        assert world.sha(world.two, "web.qcow2") == world.sha(world.one, "web.qcow2")
        assert world.cli("vm", "start", "web").returncode == 0


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device: to both hosts of the lab truly one, which nobody can know."""
    image = tmp_path / "device"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    made = subprocess.run(
        ["losetup", "-f", "--show", image], check=True, capture_output=True, text=True
    )
    yield made.stdout.strip()
    subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


def test_a_block_device_moves_only_as_a_shared_one(world: World, loop: str) -> None:
    device = "/var/lib/libvirt/devices/web"
    numbers = Path(loop).stat().st_rdev
    disk = (
        "<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        f"<source dev='{device}'/><target dev='vda' bus='virtio'/></disk>"
    )

    def show(host: LabHost) -> None:
        host.run(["mkdir", "-p", "/var/lib/libvirt/devices"])
        node = ["mknod", device, "b", str(os.major(numbers)), str(os.minor(numbers))]
        host.run(node)
        pool = ["virsh", "-q", "pool-create-as", "other", "dir", "--target"]
        host.run([*pool, "/var/lib/libvirt/devices"])

    try:
        show(world.one)
        world.make_vm(world.one, "web", extra=disk, start=True)
        assert codes(planned(world, "web")) == {"DISK_NOT_MOVABLE"}
        show(world.two)
        for way in ("auto", "copy"):
            assert codes(planned(world, "web", "--storage", way)) == {"STORAGE_UNPROVED"}
        insisted = planned(world, "web", "--storage", "shared")
        assert codes(insisted, "unknown") == {"STORAGE_UNPROVED"}
        done = world.cli("migrate", "web", "--to", "lab2", "--storage", "shared")
        assert done.returncode == 0, done.stderr
        assert world.vms(world.two) == {"web": "running"}
    finally:
        for host in (world.one, world.two):
            host.run(["virsh", "-q", "destroy", "web"], check=False)
            host.run(["rm", "-rf", "/var/lib/libvirt/devices"])
