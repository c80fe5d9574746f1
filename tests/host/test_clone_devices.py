"""Disks that are in no file of a directory: volumes by name, block devices, volume groups."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.test_clone_ladder import cloned, info
from tests.host.test_virtclone import virtclone
from tests.host.world import IMAGES, MIB, Disk, World, code_of

pytestmark = pytest.mark.host
FAKE_LVM = Path(__file__).with_name("fake_lvm.sh")
GROUP = f"fakevg{os.getpid()}"


def define(world: World, name: str, *disks: str) -> None:
    """A VM over these disks, given as attributes of ``<disk>`` and of ``<source>``."""
    elements = "".join(
        f"<disk {disk.partition('|')[0]} device='disk'><driver name='qemu' "
        f"type='{disk.split('|')[2]}'/><source {disk.split('|')[1]}/>"
        f"<target dev='vd{chr(97 + number)}' bus='virtio'/></disk>"
        for number, disk in enumerate(disks)
    )
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<controller type='usb' model='none'/>{elements}<memballoon model='none'/></devices>"
        "</domain>"
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())


def xml_of(world: World, name: str) -> str:
    return world.one.run(["virsh", "dumpxml", "--inactive", name]).stdout.decode()


def by_name(file: str, kind: str = "qcow2") -> str:
    return f"type='volume'|pool='default' volume='{file}'|{kind}"


@pytest.fixture
def device(world: World, tmp_path: Path) -> Iterator[str]:
    """A block device of 40 MiB on lab1 with 9 MiB of data, in no storage pool."""
    image = tmp_path / "device.img"
    image.write_bytes(os.urandom(9 * MIB))
    os.truncate(image, 40 * MIB)
    found = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield found
    finally:
        world.clean()
        subprocess.run(["losetup", "-d", found], check=True)


def test_a_volume_by_name_is_cloned_as_the_file_it_is(world: World) -> None:
    world.make_disk(world.one, Disk(file="web.qcow2"))
    world.make_disk(world.one, Disk(file="web-b.img", format="raw"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    define(world, "web", by_name("web.qcow2"), by_name("web-b.img", "raw"))

    made = cloned(world.cli("clone", "web", "twin", "--verify", "-o", "json"))

    assert [disk["path"] for disk in made["disks"]] == [
        f"{IMAGES}/twin-vda.qcow2",
        f"{IMAGES}/twin-vdb.img",
    ]
    assert world.sha(world.one, "twin-vda.qcow2") == world.sha(world.one, "web.qcow2")
    world.one.run(["virsh", "-q", "start", "twin"])


def test_twinship_virt_clone_clones_a_volume_by_name_and_a_device(
    world: World, device: str
) -> None:
    world.make_disk(world.one, Disk(file="web.qcow2"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    define(world, "web", by_name("web.qcow2"), f"type='block'|dev='{device}'|raw")
    place = ("--file", f"{IMAGES}/a.qcow2", "--file", f"{IMAGES}/b.img")

    done = virtclone(world, "--original", "web", "--name", "new", *place)

    assert done.returncode == 0, done.stderr
    assert world.sha(world.one, "a.qcow2") == world.sha(world.one, "web.qcow2")
    assert (world.one.images / "b.img").read_bytes() == Path(device).read_bytes()
    assert world.pools(world.one) == {"default"}


def test_a_linked_clone_of_a_volume_by_name_guards_its_base(world: World) -> None:
    world.make_disk(world.one, Disk(file="web.qcow2"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    define(world, "web", by_name("web.qcow2"))

    cloned(world.cli("clone", "web", "thin", "--mode", "linked", "-o", "json"))

    assert info(world.one, "thin.qcow2")["full-backing-filename"] == f"{IMAGES}/web.qcow2"
    assert code_of(world.cli("vm", "start", "web")) == "BASE_HAS_CHILDREN"
    assert world.cli("vm", "delete", "thin", "--disks", "delete", "--yes").returncode == 0
    assert world.cli("vm", "start", "web").returncode == 0


def test_a_running_vm_on_a_volume_by_name_is_cloned_and_keeps_it(world: World) -> None:
    world.make_disk(world.one, Disk(file="web.qcow2"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    define(world, "web", by_name("web.qcow2"))
    world.one.run(["virsh", "-q", "start", "web"])
    before = xml_of(world, "web")

    cloned(world.cli("clone", "web", "twin", "-o", "json"))
    cloned(world.cli("clone", "web", "twin-2", "-o", "json"))

    assert xml_of(world, "web") == before
    assert world.files(world.one) == {"web.qcow2", "twin.qcow2", "twin-2.qcow2"}


def test_a_volume_that_is_in_no_active_pool_is_refused(world: World) -> None:
    define(world, "web", by_name("nowhere.qcow2"))

    assert code_of(world.cli("clone", "web", "twin")) == "DISK_NOT_A_FILE"


@pytest.mark.parametrize("to", [pytest.param("lab1", marks=pytest.mark.all), "lab2"])
def test_a_block_device_becomes_a_thin_file(world: World, device: str, to: str) -> None:
    define(world, "web", f"type='block'|dev='{device}'|raw")

    refused = world.cli("clone", "web", "twin")
    words = ("clone", "web", "twin", "--pool", "default", "--to", to, "-o", "json")
    made = cloned(world.cli(*words))

    assert code_of(refused) == "DISK_TO_DEVICE"
    (disk,) = made["disks"]
    assert disk["method"] == "carrier"
    assert disk["why_not_faster"][0]["code"] == ("DEVICE" if to == "lab1" else "OTHER_HOST")
    host = world.lab.host(to)
    assert (host.images / "twin.img").read_bytes() == Path(device).read_bytes()
    assert (host.images / "twin.img").stat().st_blocks * 512 < 12 * MIB
    shown = host.run(["virsh", "dumpxml", "twin"]).stdout.decode()
    assert f"<source file='{IMAGES}/twin.img'/>" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--mode", "linked"), "stands on"), (("--verify",), "compared"), ((), "running")],
)
def test_what_cannot_be_done_with_a_device_is_said(
    world: World, device: str, words: tuple[str, ...], says: str
) -> None:
    define(world, "web", f"type='block'|dev='{device}'|raw")
    if says == "running":
        world.one.run(["virsh", "-q", "start", "web"])

    done = world.cli("clone", "web", "twin", "--pool", "default", *words)

    assert code_of(done) == "DISK_ON_DEVICE"
    assert says in done.stderr
    assert world.files(world.one) == set()


@pytest.fixture
def group(world: World, tmp_path: Path) -> Iterator[str]:
    """A volume group on lab1, by a stand-in: the storage pool :data:`GROUP` with 64 MiB."""
    script, store = tmp_path / "lvm", tmp_path / "volumes"
    store.mkdir()
    script.write_text(FAKE_LVM.read_text().replace("@STORE@", str(store)).replace("@GROUP@", GROUP))
    script.chmod(0o755)
    program = str(Path("/sbin/lvcreate").resolve())
    world.one.run(["mount", "--bind", str(script), program])
    pool = ["--source-name", GROUP, "--target", f"/dev/{GROUP}"]
    try:
        world.one.run(["virsh", "-q", "pool-define-as", GROUP, "logical", *pool])
        world.one.run(["virsh", "-q", "pool-start", GROUP])
        yield GROUP
        for name in volumes_of(world):
            world.one.run(["virsh", "-q", "vol-delete", "--pool", GROUP, name])
    finally:
        world.clean()
        world.one.run(["umount", program])
        world.one.run(["rm", "-rf", f"/dev/{GROUP}"])


def volumes_of(world: World) -> set[str]:
    """The volumes of the group."""
    told = world.one.run(["virsh", "-q", "vol-list", GROUP]).stdout.decode()
    return {line.split()[0] for line in told.splitlines() if line.strip()}


def a_volume(world: World, name: str, mib: int, data: bytes) -> str:
    """A volume of the group that begins with ``data``, and is all zeroes after it."""
    words = ["virsh", "-q", "vol-create-as", GROUP, name, f"{mib}MiB"]
    world.one.run(words)
    path = f"/dev/{GROUP}/{name}"
    world.one.run(["tee", path], input=data + bytes(mib * MIB - len(data)))
    return path


def content(world: World, path: str) -> bytes:
    return world.one.run(["cat", path]).stdout


def test_a_volume_of_a_volume_group_is_cloned_into_it(world: World, group: str) -> None:
    path = a_volume(world, "web", 16, os.urandom(3 * MIB))
    define(world, "web", f"type='block'|dev='{path}'|raw")

    made = cloned(world.cli("clone", "web", "twin", "--verify", "-o", "json"))

    (disk,) = made["disks"]
    assert (disk["path"], disk["method"]) == (f"/dev/{GROUP}/twin", "carrier")
    assert "thin" in disk["why_not_faster"][0]["reason"]
    assert content(world, f"/dev/{GROUP}/twin") == content(world, path)
    assert f"<source dev='/dev/{GROUP}/twin'/>" in xml_of(world, "twin")
    world.one.run(["virsh", "-q", "start", "twin"])


def test_a_raw_file_is_cloned_into_a_volume_group_and_larger(world: World, group: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.img", format="raw", size_bytes=10 * MIB))
    same = ("clone", "web", "twin", "--pool", group, "-o", "json")
    grown = ("clone", "web", "big", "--pool", group, "--grow", "vda=20MiB", "-o", "json")

    cloned(world.cli(*same))
    cloned(world.cli(*grown))

    told = content(world, f"/dev/{GROUP}/twin"), content(world, f"/dev/{GROUP}/big")
    assert [len(data) for data in told] == [12 * MIB, 20 * MIB]
    original = (world.one.images / "web.img").read_bytes()
    assert all(data[: len(original)] == original for data in told)


def test_a_volume_group_without_room_is_refused_and_nothing_is_left(
    world: World, group: str
) -> None:
    path = a_volume(world, "web", 40, os.urandom(MIB))
    define(world, "web", f"type='block'|dev='{path}'|raw")

    assert code_of(world.cli("clone", "web", "twin")) == "STORAGE_FULL"
    assert volumes_of(world) == {"web"}


@pytest.mark.parametrize("deed", [pytest.param("terminate", marks=pytest.mark.all), "kill"])
def test_a_clone_into_a_volume_group_that_is_cut_off_leaves_nothing(
    world: World, group: str, deed: str
) -> None:
    path = a_volume(world, "web", 16, os.urandom(MIB))
    define(world, "web", f"type='block'|dev='{path}'|raw")

    world.act_at("check", deed, "clone", vm="web", name="twin")
    world.resume_all()

    assert volumes_of(world) == {"web"}
    assert set(world.vms(world.one)) == {"web"}
