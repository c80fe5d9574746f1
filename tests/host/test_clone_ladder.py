"""Each disk by the fastest way there is, on real filesystems; and what single disks ask for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import Operation, OperationState
from twinship.model.request import CloneRequest
from twinship_lab import LabHost, Link

pytestmark = pytest.mark.host


def cloned(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The first clone of a command's JSON."""
    assert done.returncode == 0, done.stderr + done.stdout
    made: dict[str, Any] = json.loads(done.stdout)["result"]["clones"][0]
    return made


def info(host: LabHost, file: str) -> dict[str, Any]:
    """What qemu-img says of a file."""
    told = host.run(["qemu-img", "info", "-U", "--output=json", f"{IMAGES}/{file}"]).stdout
    answer: dict[str, Any] = json.loads(told)
    return answer


@pytest.fixture
def xfs(world: World, tmp_path: Path) -> Iterator[World]:
    """lab1's images lie on an XFS of their own."""
    image = tmp_path / "xfs.img"
    with image.open("wb") as file:
        file.truncate(600 * MIB)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    world.one.run(["mount", "-o", "loop", str(image), IMAGES])
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    try:
        yield world
    finally:
        world.clean()
        world.one.run(["umount", "-l", IMAGES])
        world.one.run(["virsh", "-q", "pool-refresh", "default"])


def on_host(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line run on lab1 itself, where its libvirt is ``local``."""
    state = f"TWINSHIP_STATE_DIR={world.state}-local"
    command = ["env", state, sys.executable, "-m", "twinship", *words]
    done = world.one.run(command, check=False)
    out, errors = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(command, done.returncode, out, errors)


def test_on_the_host_itself_any_format_is_reflinked(xfs: World) -> None:
    disks = [Disk(file="web.qcow2"), Disk(file="web-b.img", format="raw")]
    xfs.make_vm(xfs.one, "web", *disks)

    made = cloned(on_host(xfs, "clone", "web", "twin", "-o", "json"))

    assert [disk["method"] for disk in made["disks"]] == ["reflink", "reflink"]
    assert [disk["bytes_copied"] for disk in made["disks"]] == [0, 0]
    for new, old in (("twin-vda.qcow2", "web.qcow2"), ("twin-vdb.img", "web-b.img")):
        assert xfs.one.run(["cmp", f"{IMAGES}/{new}", f"{IMAGES}/{old}"]).returncode == 0
    shared = xfs.one.run(["filefrag", "-v", f"{IMAGES}/twin-vda.qcow2"]).stdout.decode()
    assert "shared" in shared


def test_over_a_connection_raw_is_reflinked_by_libvirt_and_qcow2_says_why_not(xfs: World) -> None:
    disks = [Disk(file="web.img", format="raw"), Disk(file="web-b.qcow2")]
    xfs.make_vm(xfs.one, "web", *disks)

    made = cloned(xfs.cli("clone", "web", "twin", "-o", "json"))

    assert [disk["method"] for disk in made["disks"]] == ["reflink", "carrier"]
    assert [rung["code"] for rung in made["disks"][1]["why_not_faster"]] == ["REMOTE", "NOT_ASKED"]
    for new, old in (("twin-vda.img", "web.img"), ("twin-vdb.qcow2", "web-b.qcow2")):
        assert xfs.one.run(["cmp", f"{IMAGES}/{new}", f"{IMAGES}/{old}"]).returncode == 0


def test_where_the_filesystem_cannot_the_copy_is_made_and_says_why(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.img", format="raw"))

    made = cloned(world.cli("clone", "web", "twin", "-o", "json"))

    (disk,) = made["disks"]
    assert disk["method"] == "carrier"
    assert disk["why_not_faster"][-1]["code"] == "REFUSED"
    assert disk["why_not_faster"][-1]["reason"]
    assert world.sha(world.one, "twin.img") == world.sha(world.one, "web.img")


def test_on_the_host_itself_the_plan_knows_that_the_filesystem_cannot(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    before = world.files(world.one)

    done = on_host(world, "clone", "web", "twin", "--dry-run", "-o", "json")

    assert done.returncode == 0, done.stderr
    assert "copy" in json.loads(done.stdout)["steps"][0]["title"]
    assert world.files(world.one) == before, "trying left nothing"


def test_a_linked_clone_is_an_overlay(world: World) -> None:
    disks = [Disk(file="web.qcow2"), Disk(file="web-b.img", format="raw")]
    world.make_vm(world.one, "web", *disks)

    made = cloned(world.cli("clone", "web", "thin", "--mode", "linked", "-o", "json"))

    assert [disk["method"] for disk in made["disks"]] == ["overlay", "overlay"]
    for number, (file, base, kind) in enumerate(
        [("thin-vda.qcow2", "web.qcow2", "qcow2"), ("thin-vdb.qcow2", "web-b.img", "raw")]
    ):
        told = info(world.one, file)
        assert told["full-backing-filename"] == f"{IMAGES}/{base}", number
        assert told["backing-filename-format"] == kind
        assert told["actual-size"] < MIB
    world.one.run(["virsh", "-q", "start", "thin"])
    assert world.vms(world.one)["thin"] == "running"


def test_the_clone_of_an_overlay_keeps_its_base(world: World) -> None:
    world.make_disk(world.one, Disk(file="base.qcow2", data_bytes=8 * MIB))
    top = Disk(file="top.qcow2", base=f"{IMAGES}/base.qcow2", data_bytes=MIB)
    world.make_vm(world.one, "web", top)

    made = cloned(world.cli("clone", "web", "twin", "-o", "json"))

    assert made["disks"][0]["bytes_copied"] < 3 * MIB
    assert info(world.one, "twin.qcow2")["full-backing-filename"] == f"{IMAGES}/base.qcow2"
    compare = ["qemu-img", "compare", f"{IMAGES}/top.qcow2", f"{IMAGES}/twin.qcow2"]
    assert world.one.run(compare).returncode == 0


@pytest.mark.parametrize(("file", "form"), [("web.qcow2", "qcow2"), ("web.img", "raw")])
def test_a_clone_on_another_host_in_one_command(world: World, file: str, form: str) -> None:
    world.make_vm(world.one, "web", Disk(file=file, format=form, data_bytes=8 * MIB))

    made = cloned(world.cli("clone", "web", "twin", "--to", "lab2", "--verify", "-o", "json"))

    suffix = file.rpartition(".")[2]
    assert made["host"] == "lab2"
    assert world.vms(world.two) == {"twin": "shut off"}
    copy = world.two.images / f"twin.{suffix}"
    assert copy.read_bytes() == (world.one.images / file).read_bytes()
    assert world.vms(world.one) == {"web": "shut off"}


def test_an_overlay_goes_to_another_host_as_one_file(world: World) -> None:
    world.make_disk(world.one, Disk(file="base.qcow2"))
    top = Disk(file="top.qcow2", base=f"{IMAGES}/base.qcow2", data_bytes=MIB)
    world.make_vm(world.one, "web", top)

    made = cloned(world.cli("clone", "web", "twin", "--to", "lab2", "-o", "json"))

    assert made["disks"][0]["method"] == "flatten"
    assert "backing-filename" not in info(world.two, "twin.qcow2")
    files = [str(world.one.images / "top.qcow2"), str(world.two.images / "twin.qcow2")]
    # The base is found where lab1 has it.
    base = world.one.outside(f"{IMAGES}/base.qcow2")
    opened = f"json:{{'driver':'qcow2','file.filename':'{files[0]}','backing.driver':'qcow2',"
    opened += f"'backing.file.filename':'{base}'}}".replace("'", '"')
    compare = ["qemu-img", "compare", opened.replace("'", '"'), files[1]]
    assert subprocess.run(compare, check=False).returncode == 0


def test_single_disks_are_shared_dropped_kept_and_placed(world: World) -> None:
    disks = [Disk(file=f"web-{letter}.qcow2") for letter in "abcd"]
    world.make_vm(world.one, "web", *disks)
    world.make_disk(world.one, Disk(file="mine.qcow2"))
    world.one.run(["virsh", "-q", "pool-refresh", "default"])
    mine = world.sha(world.one, "mine.qcow2")

    said = ["vda=share", "vdb=drop", f"vdc=keep:{IMAGES}/mine.qcow2", f"vdd=path:{IMAGES}/d.qcow2"]
    options = [word for choice in said for word in ("--disk", choice)]
    done = world.cli("clone", "web", "twin", *options)

    assert done.returncode == 0, done.stderr
    xml = world.one.run(["virsh", "domblklist", "twin"]).stdout.decode().split()
    assert f"{IMAGES}/web-a.qcow2" in xml
    assert "vdb" not in xml
    assert f"{IMAGES}/mine.qcow2" in xml
    assert f"{IMAGES}/d.qcow2" in xml
    assert world.sha(world.one, "mine.qcow2") == mine
    assert world.sha(world.one, "d.qcow2") == world.sha(world.one, "web-d.qcow2")


def test_a_path_outside_the_pools_is_refused(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    done = world.cli("clone", "web", "twin", "--disk", "vda=path:/etc/shadow")
    assert (done.returncode, code_of(done)) == (5, "DISK_PATH")
    assert world.vms(world.one) == {"web": "shut off"}


def test_a_clone_to_another_host_that_is_cut_off_leaves_nothing(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=12 * MIB))
    killed = world.act_at("copy", "kill", "clone", vm="web", name="twin", to="lab2", rate=2 * MIB)
    assert killed.returncode == -9
    world.resume_all()
    assert world.vms(world.two) == {}
    assert world.files(world.two) == set()
    assert world.vms(world.one) == {"web": "shut off"}


@pytest.mark.parametrize("to", ["lab1", "lab2"])
def test_a_preallocated_qcow2_stays_so(world: World, to: str) -> None:
    whole = Disk(file="web.qcow2", options=("-o", "preallocation=falloc,cluster_size=128k"))
    world.make_vm(world.one, "web", whole)

    made = cloned(world.cli("clone", "web", "twin", "--to", to, "-o", "json"))

    host = world.lab.host(to)
    assert made["disks"][0]["method"] == "carrier"
    assert (host.images / "twin.qcow2").stat().st_blocks * 512 >= 32 * MIB
    assert world.sha(host, "twin.qcow2") == world.sha(world.one, "web.qcow2")
    assert info(host, "twin.qcow2")["cluster-size"] == 128 * 1024


def test_zeroes_that_take_space_at_the_source_take_none_in_a_copy(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.img", format="raw", data_bytes=MIB))
    fill = f"{world.one.images}/web.img"
    with Path(fill).open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(20 * MIB))

    cloned(world.cli("clone", "web", "twin", "-o", "json"))

    assert Path(fill).stat().st_blocks * 512 > 20 * MIB
    assert (world.one.images / "twin.img").stat().st_blocks * 512 < 4 * MIB
    assert world.sha(world.one, "twin.img") == world.sha(world.one, "web.img")


@pytest.mark.all
@pytest.mark.parametrize("which", [Link.DATA, Link.CONTROL])
def test_a_link_that_breaks_on_the_way_to_another_host_is_taken_up_again(
    world: World, which: Link
) -> None:
    disk = Disk(file="web.img", format="raw", size_bytes=64 * MIB, data_bytes=48 * MIB)
    world.make_vm(world.one, "web", disk)
    began = threading.Event()
    said: list[str] = []
    mended: list[bool] = []

    def watch(operation: Operation) -> None:
        said.append(operation.progress.phase)
        if operation.progress.phase.startswith("copy") and operation.progress.bytes_done:
            began.set()
        if "stopping" in operation.progress.phase and not mended:
            mended.append(True)
            world.two.link(which=which, up=True)

    def cut() -> None:
        if began.wait(30):
            world.two.link(which=which, up=False)

    cutting = threading.Thread(target=cut)
    cutting.start()
    with world.controller() as controller:
        request = CloneRequest(vm="lab1/web", name="twin", to="lab2", rate=8 * MIB, verify=True)
        operation = controller.clone(request, watch=watch)
    began.set()
    cutting.join()

    assert operation.state is OperationState.SUCCEEDED, operation.error
    assert operation.result is not None
    assert operation.result["clones"][0]["restarts"] == 1
    assert any("the link broke" in phase for phase in said)
    assert world.sha(world.two, "twin.img") == world.sha(world.one, "web.img")
