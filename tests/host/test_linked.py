"""Linked clones depend on their base; everything that would destroy them is refused."""

from __future__ import annotations

import os

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.domxml.lineage import lineage_of

pytestmark = pytest.mark.host


def family(world: World) -> None:
    """A base with two linked clones, of which one has one itself."""
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    for source, new in (("web", "a"), ("web", "b"), ("a", "a-child")):
        done = world.cli("clone", source, new, "--mode", "linked")
        assert done.returncode == 0, done.stderr


def test_a_base_is_neither_started_nor_deleted_nor_moved(world: World) -> None:
    family(world)
    for words in (
        ("vm", "start", "web"),
        ("vm", "delete", "web", "--yes", "--disks", "delete"),
        ("vm", "delete", "web", "--yes", "--disks", "keep"),
        ("migrate", "web", "--to", "lab2"),
        ("vm", "start", "a"),
    ):
        done = world.cli(*words)
        assert (done.returncode, code_of(done)) == (5, "BASE_HAS_CHILDREN"), (words, done.stderr)
        assert "vm flatten" in done.stderr
    assert set(world.vms(world.one).values()) == {"shut off"}
    assert "a-child" in world.cli("vm", "start", "a").stderr
    for leaf in ("b", "a-child"):
        assert world.cli("vm", "start", leaf).returncode == 0


def test_the_definition_tells_what_a_clone_depends_on(world: World) -> None:
    family(world)
    text = world.one.run(["virsh", "dumpxml", "--inactive", "a-child"]).stdout.decode()
    lineage = lineage_of(text)
    assert lineage is not None
    assert (lineage.name, lineage.mode) == ("a", "linked")
    assert [base.path for base in lineage.bases] == [f"{IMAGES}/a.qcow2", f"{IMAGES}/web.qcow2"]


def test_a_base_changed_behind_our_back_is_noticed_before_a_child_starts(world: World) -> None:
    family(world)
    write = ["qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 64k", f"{IMAGES}/web.qcow2"]
    world.one.run(write)

    done = world.cli("vm", "start", "b")

    assert (done.returncode, code_of(done)) == (5, "BASE_CHANGED")
    assert "web.qcow2" in done.stderr


def test_a_base_that_is_gone_is_noticed_before_a_child_starts(world: World) -> None:
    family(world)
    world.one.run(["mv", f"{IMAGES}/web.qcow2", f"{IMAGES}/elsewhere.qcow2"])
    done = world.cli("vm", "start", "b")
    assert done.returncode == 5
    assert "is gone" in done.stderr


def test_children_that_are_deleted_free_their_base(world: World) -> None:
    family(world)
    for name in ("a-child", "a", "b"):
        done = world.cli("vm", "delete", name, "--yes", "--disks", "delete")
        assert done.returncode == 0, done.stderr
    assert world.files(world.one) == {"web.qcow2"}
    assert world.cli("vm", "start", "web").returncode == 0


@pytest.mark.parametrize("running", [False, True])
def test_a_flattened_child_depends_on_nothing(world: World, running: bool) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=6 * MIB))
    assert world.cli("clone", "web", "a", "--mode", "linked").returncode == 0
    if running:
        assert world.cli("vm", "start", "a").returncode == 0

    done = world.cli("vm", "flatten", "a")

    assert done.returncode == 0, done.stderr
    assert world.vms(world.one)["a"] == ("running" if running else "shut off")
    if running:
        assert world.cli("vm", "stop", "a", "--force").returncode == 0
    assert world.cli("vm", "start", "web").returncode == 0, "the base is a VM like any other"
    info = world.one.run(["qemu-img", "info", "-U", f"{IMAGES}/a.qcow2"]).stdout.decode()
    assert "backing file" not in info
    compare = ["qemu-img", "compare", "-U", f"{IMAGES}/a.qcow2", f"{IMAGES}/web.qcow2"]
    assert world.one.run(compare).returncode == 0


def test_a_flattening_that_is_killed_leaves_a_whole_clone(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=6 * MIB))
    assert world.cli("clone", "web", "a", "--mode", "linked").returncode == 0

    killed = world.act_at("flatten", "kill", "flatten", vm="a")

    assert killed.returncode == -9, killed.stderr
    world.resume_all()
    compare = ["qemu-img", "compare", f"{IMAGES}/a.qcow2", f"{IMAGES}/web.qcow2"]
    assert world.one.run(compare).returncode == 0
    assert world.cli("vm", "start", "a").returncode == 0


def test_a_linked_clone_moves_with_all_it_depends_on(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    assert world.cli("clone", "web", "a", "--mode", "linked").returncode == 0

    assert world.cli("migrate", "a", "--to", "lab2").returncode == 0

    assert world.files(world.two) == {"a.qcow2", "web.qcow2"}
    started = world.cli("vm", "start", "a")
    assert started.returncode == 0, started.stderr
    assert world.cli("vm", "start", "web").returncode == 0, "its child reads other files now"


def disks_of(world: World, name: str) -> str:
    """The definition, word for word."""
    return world.one.run(["virsh", "dumpxml", "--inactive", name]).stdout.decode()


def test_virsh_cannot_write_to_a_base_either(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), Disk(file="b.img", format="raw"))
    before = disks_of(world, "web")

    assert world.cli("clone", "web", "thin", "--mode", "linked").returncode == 0

    assert disks_of(world, "web").count("<readonly/>") == 2
    assert "<readonly/>" not in disks_of(world, "thin")
    world.one.run(["virsh", "-q", "start", "web"])
    block = ["virsh", "qemu-monitor-command", "web", "--hmp", "info block"]
    assert world.one.run(block).stdout.decode().count("read-only") == 2
    world.one.run(["virsh", "-q", "destroy", "web"])
    assert world.cli("clone", "web", "full").returncode == 0
    assert "<readonly/>" not in disks_of(world, "full")
    assert "guard" not in disks_of(world, "full")

    assert world.cli("vm", "delete", "thin", "--disks", "delete", "--yes").returncode == 0

    assert disks_of(world, "web") == before


def test_a_base_is_writable_again_when_its_last_clone_stands_alone(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    before = disks_of(world, "web")
    assert world.cli("clone", "web", "a", "b", "--mode", "linked").returncode == 0

    assert world.cli("vm", "flatten", "a").returncode == 0
    assert disks_of(world, "web").count("<readonly/>") == 1
    assert world.cli("vm", "flatten", "b").returncode == 0

    assert disks_of(world, "web") == before


def test_a_base_whose_clones_virsh_removed_starts_writable(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    assert world.cli("clone", "web", "thin", "--mode", "linked").returncode == 0
    world.one.run(["virsh", "-q", "undefine", "thin"])

    assert world.cli("vm", "start", "web").returncode == 0

    block = ["virsh", "qemu-monitor-command", "web", "--hmp", "info block"]
    assert "read-only" not in world.one.run(block).stdout.decode()


def test_a_linked_clone_that_fails_leaves_its_base_as_it_was(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    before = disks_of(world, "web")

    world.act_at("define", "kill", "clone", vm="lab1/web", name="thin", mode="linked")

    assert "<readonly/>" in disks_of(world, "web")
    world.resume_all()
    assert disks_of(world, "web") == before


def test_a_base_changed_so_that_only_its_bytes_tell_is_noticed_on_request(world: World) -> None:
    """Length, time and header as they were: a bad sector, or somebody who set the time back."""
    world.make_vm(world.one, "web", Disk(file="web.img", format="raw"))
    assert world.cli("clone", "web", "thin", "--mode", "linked", "--verify").returncode == 0
    path = world.one.images / "web.img"
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    done = world.cli("vm", "start", "thin", "--verify")

    assert (done.returncode, code_of(done)) == (5, "BASE_CHANGED")
    assert world.cli("vm", "start", "thin").returncode == 0, "a look at the edges does not tell"
