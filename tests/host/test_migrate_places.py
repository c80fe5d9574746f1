"""The files of a VM go into another directory on the target: named by --map, or found by --fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host.world import IMAGES, MIB, Disk, World
from twinship.domxml.lineage import lineage_of
from twinship.domxml.read import disks
from twinship_lab import LabHost

pytestmark = pytest.mark.host

VMS = "/var/lib/libvirt/vms"
FILE = "web.qcow2"
MAP = ("--map", f"{IMAGES}={VMS}")
MAPS = [[IMAGES, VMS]]


@contextmanager
def another_pool(world: World, *, alone: bool = False) -> Iterator[None]:
    """The target has a pool over another directory; ``alone``: none over the usual one."""
    host = world.two
    host.run(["mkdir", "-p", VMS])
    host.run(["virsh", "-q", "pool-create-as", "other", "dir", "--target", VMS])
    if alone:
        host.run(["virsh", "-q", "pool-destroy", "default"])
    try:
        yield
    finally:
        world.clean_vms()
        if alone:
            host.run(["virsh", "-q", "pool-start", "default"])
        host.run(["virsh", "-q", "pool-destroy", "other"])
        host.run(["rm", "-rf", VMS])


def there(world: World) -> set[str]:
    """The files in the new directory."""
    return {path.name for path in world.two.outside(VMS).iterdir()}


def definition(host: LabHost, name: str = "web", *words: str) -> str:
    return host.run(["virsh", "dumpxml", *words, name]).stdout.decode()


def named(host: LabHost, name: str = "web", *words: str) -> list[str]:
    """The files that a definition names."""
    return [disk.path for disk in disks(definition(host, name, *words)) if disk.path]


def moved(world: World, *words: str, vm: str = "web") -> dict[str, Any]:
    done = world.cli("migrate", vm, "--to", "lab2", "-o", "json", *words)
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


def planned(world: World, *words: str, vm: str = "web") -> dict[str, Any]:
    done = world.cli("migrate", vm, "--to", "lab2", "--dry-run", "-o", "json", *words)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def codes(plan: dict[str, Any]) -> set[str]:
    return {check["code"] for check in plan["checks"] if check["severity"] == "block"}


def stands_there(world: World, *, running: bool) -> None:
    """The VM is on the target with its file in the new directory, and nothing in the usual one."""
    state = "running" if running else "shut off"
    assert (world.vms(world.one), world.vms(world.two)) == ({}, {"web": state})
    assert there(world) == {FILE}
    assert world.files(world.two) == set()
    assert named(world.two) == [f"{VMS}/{FILE}"]
    assert named(world.two, "web", "--inactive") == [f"{VMS}/{FILE}"]


def usual(first: tuple[str, bool]) -> list[Any]:
    """Of two things that are each off or on: one of each in every run, the others in long ones."""
    words = {"map": ("map", "fix"), "kill": ("kill", "interrupt")}[first[0]]
    cases = [(word, running) for word in words for running in (False, True)]
    few = [first, (words[1], not first[1])]
    return [pytest.param(*case, marks=() if case in few else pytest.mark.all) for case in cases]


@pytest.mark.parametrize(("how", "running"), usual(("map", True)))
def test_a_vm_moves_into_another_directory(world: World, how: str, running: bool) -> None:
    with another_pool(world, alone=how == "fix"):
        world.make_vm(world.one, "web", Disk(file=FILE), start=running)
        words = MAP if how == "map" else ("--fix",)
        if how == "fix":
            assert codes(planned(world)) == {"STORAGE_POOL_MISSING"}

        result = moved(world, *words, *(() if running else ("--verify",)))

        stands_there(world, running=running)
        assert [disk["path"] for disk in result["disks"]] == [f"{VMS}/{FILE}"]
        assert result["disks"][0]["bytes_copied"] >= 4 * MIB
        assert result["left_on_source"] == [f"{IMAGES}/{FILE}"]
        compare = ["qemu-img", "compare", "-U"]
        pair = [world.one.images / FILE, world.two.outside(f"{VMS}/{FILE}")]
        world.one.run([*compare, *map(str, pair)])


@pytest.mark.parametrize(("deed", "running"), usual(("kill", False)))
def test_what_was_begun_in_another_directory_is_undone(
    world: World, deed: str, running: bool
) -> None:
    with another_pool(world):
        world.make_vm(world.one, "web", Disk(file=FILE), start=running)
        phase = "move" if running else "carry"

        done = world.act_at(
            phase, deed, "migrate", vm="web", target="lab2", maps=MAPS, rate=2 * MIB
        )

        assert done.returncode == (-9 if deed == "kill" else 130), done.stderr
        world.resume_all()
        assert there(world) == set()
        assert world.vms(world.two) == {}
        assert world.vms(world.one) == {"web": "running" if running else "shut off"}
        assert named(world.one) == [f"{IMAGES}/{FILE}"]


@pytest.mark.all
def test_what_lies_in_the_new_directory_is_never_written_over(world: World) -> None:
    with another_pool(world):
        world.make_vm(world.one, "web", Disk(file=FILE))
        mine = world.two.outside(f"{VMS}/{FILE}")
        mine.write_bytes(b"somebody's")
        world.two.run(["virsh", "-q", "pool-refresh", "other"])

        plan = planned(world, *MAP)
        done = world.cli("migrate", "web", "--to", "lab2", *MAP)

        assert codes(plan) == {"DISK_EXISTS"}
        assert done.returncode == 6
        assert mine.read_bytes() == b"somebody's"
        mine.unlink()
        world.two.run(["virsh", "-q", "pool-refresh", "other"])
        assert moved(world, *MAP)["disks"][0]["path"] == f"{VMS}/{FILE}"


def backing(host: LabHost, path: str) -> str:
    info = host.run(["qemu-img", "info", "-U", "--output=json", path]).stdout
    return str(json.loads(info).get("backing-filename", ""))


def test_linked_clones_move_onto_their_base_at_its_new_place(world: World) -> None:
    with another_pool(world):
        world.make_vm(world.one, "web", Disk(file="base.qcow2", data_bytes=8 * MIB))
        assert world.cli("clone", "web", "a", "b", "--mode", "linked").returncode == 0
        for name in ("a", "b"):
            assert world.cli("vm", "start", name).returncode == 0

        first, second = moved(world, *MAP, vm="a"), moved(world, *MAP, vm="b")

        assert second["bytes_disk"] < 3 * MIB < first["bytes_disk"]
        assert there(world) == {"a.qcow2", "b.qcow2", "base.qcow2"}
        assert second["left_on_source"] == [f"{IMAGES}/b.qcow2"]
        for name in ("a", "b"):
            assert backing(world.two, f"{VMS}/{name}.qcow2") == f"{VMS}/base.qcow2"
            lineage = lineage_of(definition(world.two, name, "--inactive"))
            assert lineage is not None
            assert [base.path for base in lineage.bases] == [f"{VMS}/base.qcow2"]
            assert world.cli("vm", "stop", name, "--force").returncode == 0
            assert world.cli("vm", "start", name).returncode == 0


@pytest.mark.parametrize("relative", [pytest.param(False, marks=pytest.mark.all), True])
def test_a_chain_moves_only_if_its_files_find_each_other(world: World, relative: bool) -> None:
    with another_pool(world):
        world.make_disk(world.one, Disk(file="base.qcow2"))
        base = "base.qcow2" if relative else f"{IMAGES}/base.qcow2"
        world.make_vm(world.one, "web", Disk(file=FILE, base=base))

        plan = planned(world, *MAP)

        assert codes(plan) == (set() if relative else {"CHAIN_KEEPS_ITS_PLACE"})
        if relative:
            moved(world, *MAP)
            assert there(world) == {FILE, "base.qcow2"}
            assert world.cli("vm", "start", "web").returncode == 0


def test_snapshots_speak_of_the_new_place(world: World) -> None:
    with another_pool(world):
        world.make_vm(world.one, "web", Disk(file=FILE))
        world.one.run(["virsh", "-q", "snapshot-create-as", "web", "s1"])

        moved(world, *MAP)

        record = world.two.run(["virsh", "snapshot-dumpxml", "web", "s1"]).stdout.decode()
        assert f"{VMS}/{FILE}" in record
        assert IMAGES not in record
        world.two.run(["virsh", "-q", "snapshot-revert", "web", "s1"])
        assert named(world.two) == [f"{VMS}/{FILE}"]


def test_a_shared_disk_may_have_another_path_on_each_host(world: World, tmp_path: Path) -> None:
    shared, path = tmp_path / "shared", "/var/lib/libvirt/vms"
    shared.mkdir()
    with another_pool(world):
        world.two.run(["mount", "--bind", str(shared), path])
        world.one.run(["virsh", "-q", "pool-create-as", "other", "dir", "--target", str(shared)])
        world.one.run(["qemu-img", "create", "-q", "-f", "qcow2", str(shared / FILE), "8M"])
        for host in (world.one, world.two):
            host.run(["virsh", "-q", "pool-refresh", "other"])
        try:
            world.make_vm(world.one, "web", disks_at=((str(shared / FILE), "qcow2"),))

            result = moved(world, "--map", f"{shared}={path}", "--storage", "shared")

            assert [(d["method"], d["path"]) for d in result["disks"]] == [
                ("shared", f"{path}/{FILE}")
            ]
            assert named(world.two) == [f"{path}/{FILE}"]
            assert world.cli("vm", "start", "web").returncode == 0
        finally:
            world.clean_vms()
            world.two.run(["umount", path])
            world.one.run(["virsh", "-q", "pool-destroy", "other"])


@pytest.mark.all
def test_many_vms_move_into_another_directory(world: World) -> None:
    with another_pool(world):
        for name in ("a", "b"):
            world.make_vm(world.one, name, Disk(file=f"{name}.qcow2"))

        done = world.cli("migrate", "--all", "--from", "lab1", "--to", "lab2", *MAP)

        assert done.returncode == 0, done.stderr
        assert there(world) == {"a.qcow2", "b.qcow2"}
        assert world.vms(world.two) == {"a": "shut off", "b": "shut off"}
