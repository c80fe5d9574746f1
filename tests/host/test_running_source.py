"""Clones of a running VM: one instant of all its disks, and the VM as it was afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.host.test_clone_ladder import cloned, on_host, xfs
from tests.host.test_migrate import ticks
from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import OperationState
from twinship_lab import LabHost
from twinship_lab.guests import GuestSpec, Load, NewDisk, create_guest

pytestmark = pytest.mark.host

__all__ = ["xfs"]


def counting_guest(world: World, *forms: str, data_bytes: int = 8 * MIB) -> None:
    """A guest that writes one counter to all its disks, one after the other, and syncs each."""
    disks = tuple(
        NewDisk(size_bytes=128 * MIB, format=form, data_bytes=data_bytes) for form in forms
    )
    load = Load(disk_bytes_s=2_000_000)
    spec = GuestSpec(disks=disks, memory_mib=128, load=load, start=True)
    create_guest(world.one, world.lab.cache, "busy", spec)
    deadline = time.monotonic() + 60
    while ticks(world.one, "busy")["disk_writes"] < 100:
        assert time.monotonic() < deadline
        time.sleep(0.1)


_NEWEST = """
import struct, sys
newest = -1
with open(sys.argv[1], "rb") as disk:
    disk.seek(64 * 2**20)
    while page := disk.read(4096):
        number, filler = struct.unpack("<Q8xQ", page[:24])
        if filler == 0x5A5A5A5A5A5A5A5A:
            newest = max(newest, number)
print(newest)
"""


def last_count(host: LabHost, file: str) -> int:
    """The newest number the guest wrote to a disk of 128 MiB; looked at on the host itself."""
    seen = f"{IMAGES}/seen.raw"
    host.run(["qemu-img", "convert", "-O", "raw", f"{IMAGES}/{file}", seen])
    told = host.run([sys.executable, "-c", _NEWEST, seen]).stdout
    host.run(["rm", seen])
    return int(told)


def definitions(world: World) -> list[str]:
    """What virsh says of the guest: as defined, and its disks as it runs."""
    shown = ["virsh", "dumpxml", "--inactive", "busy"], ["virsh", "domblklist", "busy"]
    return [world.one.run(list(command)).stdout.decode() for command in shown]


def source_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the command says of the source."""
    found: dict[str, Any] = json.loads(done.stdout)["result"]["source"]
    return found


def assert_undisturbed(world: World, before: list[str]) -> None:
    """The guest runs as it did, and nothing it read was wrong."""
    assert definitions(world) == before
    at = ticks(world.one, "busy")
    assert (at["disk_errors"], at["memory_errors"]) == (0, 0)
    deadline = time.monotonic() + 30
    while ticks(world.one, "busy")["disk_writes"] <= at["disk_writes"]:
        assert time.monotonic() < deadline, "it writes no more"
        time.sleep(0.1)


def test_a_running_guest_is_cloned_at_one_instant_and_runs_on(world: World) -> None:
    counting_guest(world, "qcow2", "raw")
    before = definitions(world)

    done = world.cli("clone", "busy", "twin", "--verify", "-o", "json")

    made = cloned(done)
    assert {disk["method"] for disk in made["disks"]} == {"carrier"}
    source = source_of(done)
    assert source["frozen"] is True
    assert source["pause_s"] < 2
    assert 0 <= source["pause_guest_s"] < 1
    assert_undisturbed(world, before)
    assert world.files(world.one) == {
        "busy.qcow2",
        "busy-vdb.raw",
        "twin-vda.qcow2",
        "twin-vdb.raw",
    }
    one, two = (last_count(world.one, file) for file in ("twin-vda.qcow2", "twin-vdb.raw"))
    assert one == two > 0
    assert (world.one.images / "twin-vdb.raw").stat().st_blocks * 512 < 100 * MIB, "thin as it was"
    world.one.run(["virsh", "-q", "start", "twin"])
    assert ticks(world.one, "twin")["disk_errors"] == 0


def test_without_an_agent_it_is_still_one_instant_and_says_so(world: World) -> None:
    counting_guest(world, "qcow2", "raw")
    channel = world.one.run(["virsh", "dumpxml", "busy"]).stdout.decode()
    start = channel.index("<channel"), channel.index("</channel>") + len("</channel>")
    device = channel[start[0] : start[1]].encode()
    world.one.run(["virsh", "-q", "detach-device", "busy", "/dev/stdin"], input=device, check=False)

    done = world.cli("clone", "busy", "twin")

    assert done.returncode == 0, done.stderr
    one, two = (last_count(world.one, file) for file in ("twin-vda.qcow2", "twin-vdb.raw"))
    assert one - two in (0, 1), "the first disk is written first"


def test_a_running_guest_is_reflinked_where_the_files_are_here(xfs: World) -> None:
    counting_guest(xfs, "qcow2", "raw", data_bytes=0)
    before = definitions(xfs)

    done = on_host(xfs, "clone", "busy", "twin", "-o", "json")

    assert {disk["method"] for disk in cloned(done)["disks"]} == {"reflink"}
    assert_undisturbed(xfs, before)
    one, two = (last_count(xfs.one, file) for file in ("twin-vda.qcow2", "twin-vdb.raw"))
    assert one == two > 0


def test_a_running_guest_is_cloned_to_another_host(world: World) -> None:
    counting_guest(world, "qcow2", "raw")
    before = definitions(world)

    done = world.cli("clone", "busy", "twin", "--to", "lab2", "--verify", "-o", "json")

    assert cloned(done)["host"] == "lab2"
    assert_undisturbed(world, before)
    assert world.files(world.one) == {"busy.qcow2", "busy-vdb.raw"}
    one, two = (last_count(world.two, file) for file in ("twin-vda.qcow2", "twin-vdb.raw"))
    assert one == two > 0


def test_several_clones_of_a_running_guest_are_of_the_same_instant(world: World) -> None:
    counting_guest(world, "qcow2", "raw")
    before = definitions(world)

    done = world.cli("clone", "busy", "a", "b", "c", "-o", "json")

    assert done.returncode == 0, done.stderr
    assert source_of(done)["frozen"] is True
    assert_undisturbed(world, before)
    files = [f"{name}-{disk}" for name in "abc" for disk in ("vda.qcow2", "vdb.raw")]
    assert len({last_count(world.one, file) for file in files}) == 1


def test_a_linked_clone_of_a_running_guest_is_refused(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    done = world.cli("clone", "web", "twin", "--mode", "linked")

    assert (done.returncode, code_of(done)) == (5, "CLONE_LINKED_RUNNING")


def test_a_definition_with_other_disks_than_the_running_vm_is_refused(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    world.make_disk(world.one, Disk(file="more.qcow2"))
    attach = ["virsh", "-q", "attach-disk", "web", f"{IMAGES}/more.qcow2", "vdb", "--config"]
    world.one.run([*attach, "--subdriver", "qcow2"])

    done = world.cli("clone", "web", "twin")

    assert (done.returncode, code_of(done)) == (5, "VM_LIVE_DIFFERS")


@pytest.mark.parametrize("phase", ["hold the disks", "copy", "put the source"])
def test_a_clone_for_another_host_that_is_killed_leaves_the_guest_as_it_was(
    world: World, phase: str
) -> None:
    """On the source's own host the kill loop has a story for every line of the journal."""
    world.make_vm(world.one, "busy", Disk(file="busy.qcow2", data_bytes=8 * MIB), start=True)
    before, data = definitions(world), world.sha(world.one, "busy.qcow2")

    world.act_at(phase, "kill", "clone", vm="lab1/busy", name="twin", to="lab2")
    (state,) = world.resume_all()

    assert state is OperationState.FAILED
    assert definitions(world) == before
    assert (world.files(world.one), world.files(world.two)) == ({"busy.qcow2"}, set())
    assert world.sha(world.one, "busy.qcow2") == data


def test_a_guest_that_stops_while_it_is_held_loses_nothing(world: World) -> None:
    """What it wrote since lies in overlays: nobody's QEMU is there to write them back."""
    counting_guest(world, "qcow2", "raw")
    before = definitions(world)
    world.act_at("copy", "kill", "clone", vm="lab1/busy", name="twin")
    held = world.one.run(["virsh", "domblklist", "busy"]).stdout.decode()
    assert held.count(".twinship-") == 2
    written = ticks(world.one, "busy")["disk_writes"]
    while ticks(world.one, "busy")["disk_writes"] < written + 50:
        time.sleep(0.05)
    world.one.run(["virsh", "-q", "destroy", "busy"])
    newest = [
        last_count(world.one, Path(line.split()[1]).name)
        for line in world.one.run(["virsh", "domblklist", "busy"]).stdout.decode().splitlines()
        if "twinship" in line
    ]

    (state,) = world.resume_all()

    assert state is OperationState.FAILED
    assert definitions(world) == before
    assert world.files(world.one) == {"busy.qcow2", "busy-vdb.raw"}
    files = ("busy.qcow2", "busy-vdb.raw")
    assert [last_count(world.one, file) for file in files] == newest
    world.one.run(["virsh", "-q", "start", "busy"])
    assert ticks(world.one, "busy")["disk_errors"] == 0


def test_ctrl_c_in_the_middle_of_the_copy_leaves_the_guest_as_it_was(world: World) -> None:
    counting_guest(world, "raw")
    before = definitions(world)

    done = world.act_at("copy", "interrupt", "clone", vm="lab1/busy", name="twin")

    assert done.returncode == 130
    assert_undisturbed(world, before)
    assert world.files(world.one) == {"busy.raw"}
