"""Clones of a moment that a snapshot keeps, inside the disk's file or below an overlay."""

from __future__ import annotations

import pytest

from tests.host.test_clone_ladder import cloned, info
from tests.host.world import IMAGES, Disk, World, code_of
from twinship.model.operation import OperationState

pytestmark = pytest.mark.host


def write(world: World, file: str, byte: int) -> None:
    """Fills the first MiB of a qcow2 disk."""
    world.one.run(["qemu-io", "-f", "qcow2", "-c", f"write -q -P {byte} 0 1M", f"{IMAGES}/{file}"])


def holds(world: World, file: str, byte: int, *, on: str = "lab1") -> bool:
    """Whether the first MiB of a disk is all this byte."""
    host = world.one if on == "lab1" else world.two
    look = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read -P {byte} 0 1M", f"{IMAGES}/{file}"]
    told = host.run(look)
    return b"Pattern verification failed" not in told.stdout


def snapshot(world: World, *words: str) -> None:
    world.one.run(["virsh", "-q", "snapshot-create-as", "web", "before", *words])


@pytest.fixture
def web(world: World) -> World:
    """A VM of two disks that hold 1, at its snapshot; later they hold 2."""
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), Disk(file="web-b.qcow2"))
    for file in ("web.qcow2", "web-b.qcow2"):
        write(world, file, 1)
    return world


@pytest.mark.parametrize("to", ["lab1", "lab2"])
def test_from_an_internal_snapshot(web: World, to: str) -> None:
    snapshot(web)
    for file in ("web.qcow2", "web-b.qcow2"):
        write(web, file, 2)

    made = cloned(web.cli("clone", "web", "old", "--snapshot", "before", "--to", to, "-o", "json"))

    assert made["host"] == to
    for file, source in (("old-vda.qcow2", "web.qcow2"), ("old-vdb.qcow2", "web-b.qcow2")):
        assert holds(web, file, 1, on=to)
        assert holds(web, source, 2)
    host = web.one if to == "lab1" else web.two
    assert "snapshots" not in info(host, "old-vda.qcow2"), "the clone begins without"
    assert len(info(web.one, "web.qcow2")["snapshots"]) == 1
    assert sorted(web.vms(host)) == (["old", "web"] if to == "lab1" else ["old"])


def test_from_an_internal_snapshot_while_the_vm_runs(web: World) -> None:
    snapshot(web)
    for file in ("web.qcow2", "web-b.qcow2"):
        write(web, file, 2)
    web.one.run(["virsh", "-q", "start", "web"])

    cloned(web.cli("clone", "web", "old", "--snapshot", "before", "-o", "json"))

    assert holds(web, "old-vda.qcow2", 1)
    assert holds(web, "web.qcow2", 2)
    shown = web.one.run(["virsh", "domblklist", "web"]).stdout.decode()
    assert "twinship" not in shown


@pytest.mark.parametrize("running", [False, True], ids=["shut off", "running"])
@pytest.mark.parametrize("mode", ["full", "linked"])
def test_from_an_external_snapshot(web: World, mode: str, running: bool) -> None:
    if running:
        web.one.run(["virsh", "-q", "start", "web"])
    snapshot(web, "--disk-only")
    if not running:
        write(web, "web.before", 2)

    made = cloned(
        web.cli("clone", "web", "old", "--snapshot", "before", "--mode", mode, "-o", "json")
    )

    assert {disk["method"] for disk in made["disks"]} == {
        "full": {"carrier"},
        "linked": {"overlay"},
    }[mode]
    assert holds(web, "old-vda.qcow2", 1)
    web.one.run(["virsh", "-q", "start", "old"])


def test_from_an_external_snapshot_of_a_running_vm_to_another_host(web: World) -> None:
    web.one.run(["virsh", "-q", "start", "web"])
    snapshot(web, "--disk-only")
    before = web.files(web.one)

    cloned(web.cli("clone", "web", "old", "--snapshot", "before", "--to", "lab2", "-o", "json"))

    assert holds(web, "old-vda.qcow2", 1, on="lab2")
    assert web.files(web.one) == before


def test_a_snapshot_that_is_not_there_names_those_that_are(web: World) -> None:
    snapshot(web)

    done = web.cli("clone", "web", "old", "--snapshot", "befor")

    assert done.returncode == 3
    assert "before" in done.stderr


def test_a_moment_that_was_committed_away_is_refused(web: World) -> None:
    web.one.run(["virsh", "-q", "start", "web"])
    snapshot(web, "--disk-only")
    for target in ("vda", "vdb"):
        web.one.run(["virsh", "-q", "blockcommit", "web", target, "--active", "--wait", "--pivot"])

    done = web.cli("clone", "web", "old", "--snapshot", "before")

    assert (done.returncode, code_of(done)) == (5, "SNAPSHOT_DISKS")


def test_a_linked_clone_of_an_internal_snapshot_is_refused(web: World) -> None:
    snapshot(web)

    done = web.cli("clone", "web", "old", "--snapshot", "before", "--mode", "linked")

    assert (done.returncode, code_of(done)) == (5, "SNAPSHOT_INTERNAL")


@pytest.mark.parametrize("deed", ["kill", "interrupt"])
def test_cut_off_while_it_goes_back_nothing_is_left(web: World, deed: str) -> None:
    snapshot(web)
    before = {file: web.sha(web.one, file) for file in web.files(web.one)}

    web.act_at("go back", deed, "clone", vm="lab1/web", name="old", snapshot="before")
    ended = web.resume_all()

    assert ended == ([OperationState.FAILED] if deed == "kill" else [])
    assert {file: web.sha(web.one, file) for file in web.files(web.one)} == before
    assert web.vms(web.one) == {"web": "shut off"}
