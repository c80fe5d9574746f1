"""Linked clones move with what they stand on, or onto the target's own copy of it."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.domxml.lineage import lineage_of
from twinship_lab import LabHost

pytestmark = pytest.mark.host

BASE = "web.qcow2"


def a_family(world: World, *names: str, start: bool = False) -> None:
    """A base ``web`` with linked clones, each with a MiB of its own."""
    world.make_vm(world.one, "web", Disk(file=BASE, data_bytes=8 * MIB))
    done = world.cli("clone", "web", *names, "--mode", "linked")
    assert done.returncode == 0, done.stderr
    for name in names:
        write = ["qemu-io", "-f", "qcow2", "-c", "write -q -P 9 1M 1M", f"{IMAGES}/{name}.qcow2"]
        world.one.run(write)
        if start:
            assert world.cli("vm", "start", name).returncode == 0


def moved(world: World, *words: str) -> dict[str, Any]:
    """The result of a move that has to succeed."""
    done = world.cli("migrate", *words, "--to", "lab2", "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


def planned(world: World, *words: str) -> dict[str, Any]:
    done = world.cli("migrate", *words, "--to", "lab2", "--dry-run", "-o", "json")
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def said(plan: dict[str, Any], code: str) -> str:
    return " ".join(
        c["message"] + " " + (c["hint"] or "") for c in plan["checks"] if c["code"] == code
    )


def backing(host: LabHost, file: str) -> str:
    info = host.run(["qemu-img", "info", "-U", "--output=json", f"{IMAGES}/{file}"]).stdout
    return str(json.loads(info).get("backing-filename", ""))


def own_bytes(host: LabHost, file: str) -> None:
    """The clone's own MiB is there, above its base's."""
    read = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -P 9 1M 1M", f"{IMAGES}/{file}"]
    told = host.run(read).stdout.decode()
    assert "verification failed" not in told, told


def noted(host: LabHost, name: str) -> tuple[str, list[str]]:
    lineage = lineage_of(host.run(["virsh", "dumpxml", "--inactive", name]).stdout.decode())
    assert lineage is not None
    return lineage.mode, [base.path for base in lineage.bases]


def test_a_second_clone_lands_on_the_base_the_first_has_brought(world: World) -> None:
    a_family(world, "a", "b")
    assert moved(world, "a")["left_on_source"] == [f"{IMAGES}/a.qcow2", f"{IMAGES}/{BASE}"]
    there = (world.two.images / BASE).stat().st_mtime_ns

    plan = planned(world, "b")
    result = moved(world, "b")

    assert f"{IMAGES}/{BASE} is on lab2" in said(plan, "DISK_INCREMENT")
    assert plan["bytes"] < 3 * MIB
    assert result["left_on_source"] == [f"{IMAGES}/b.qcow2"]
    assert (world.two.images / BASE).stat().st_mtime_ns == there
    for name in ("a", "b"):
        own_bytes(world.two, f"{name}.qcow2")
        assert noted(world.two, name) == ("linked", [f"{IMAGES}/{BASE}"])
        started = world.cli("vm", "start", name)
        assert started.returncode == 0, started.stderr


def test_a_clone_moves_beside_a_running_one_that_reads_the_same_base(world: World) -> None:
    a_family(world, "a", "b")
    assert world.cli("vm", "start", "a").returncode == 0

    moved(world, "b")

    assert world.files(world.two) == {"b.qcow2", BASE}
    assert world.files(world.one) == {"a.qcow2", "b.qcow2", BASE}
    assert world.sha(world.two, BASE) == world.sha(world.one, BASE)


def test_running_clones_move_as_increments(world: World) -> None:
    a_family(world, "a", "b", start=True)

    first = moved(world, "a")
    (world.two.images / BASE).stat()
    second = moved(world, "b")

    for result, name in ((first, "a"), (second, "b")):
        assert [disk["method"] for disk in result["disks"]] == ["increment"]
        assert result["disks"][0]["bytes_copied"] < 3 * MIB
        assert backing(world.two, f"{name}.qcow2") == f"{IMAGES}/{BASE}"
        own_bytes(world.two, f"{name}.qcow2")
        assert noted(world.two, name) == ("linked", [f"{IMAGES}/{BASE}"])
    assert second["bytes_disk"] < 3 * MIB < first["bytes_disk"]
    assert world.files(world.one) == {"a.qcow2", "b.qcow2", BASE}
    assert world.sha(world.two, BASE) == world.sha(world.one, BASE)
    assert world.vms(world.two) == {"a": "running", "b": "running"}
    for name in ("a", "b"):
        assert world.cli("vm", "stop", name, "--force").returncode == 0
        assert world.cli("vm", "start", name).returncode == 0


def test_another_file_of_the_same_name_is_not_taken_for_the_base(world: World) -> None:
    a_family(world, "a")
    world.make_disk(world.two, Disk(file=BASE, data_bytes=4 * MIB))
    world.two.run(["virsh", "-q", "pool-refresh", "default"])

    plan = planned(world, "a")

    assert plan["feasible"] is False
    assert "bytes there" in said(plan, "DISK_EXISTS")
    assert planned(world, "a", "--storage", "increment")["feasible"] is False
    assert world.cli("vm", "start", "a").returncode == 0
    assert "has another" in said(planned(world, "a"), "DISK_CHAIN_FLATTENED")
    assert moved(world, "a")["disks"][0]["method"] == "mirror"
    assert backing(world.two, "a.qcow2") == ""
    own_bytes(world.two, "a.qcow2")


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_copy_nobody_has_noted_is_compared_whole_on_request(world: World, spoilt: bool) -> None:
    a_family(world, "a")
    shutil.copyfile(world.one.images / BASE, world.two.images / BASE)
    if spoilt:
        with (world.two.images / BASE).open("r+b") as file:
            file.seek(6 * MIB)
            file.write(b"other")
    world.two.run(["virsh", "-q", "pool-refresh", "default"])

    assert "--verify" in said(planned(world, "a"), "DISK_EXISTS")
    done = world.cli("migrate", "a", "--to", "lab2", "--verify")

    if spoilt:
        assert code_of(done) == "BASE_DIFFERS"
        assert world.vms(world.two) == {}
        assert world.files(world.two) == {BASE}
        assert world.vms(world.one) == {"a": "shut off", "web": "shut off"}
    else:
        assert done.returncode == 0, done.stderr
        assert world.cli("vm", "start", "a").returncode == 0


@pytest.mark.all
def test_storage_copy_makes_one_file_of_a_running_clones_disk(world: World) -> None:
    a_family(world, "a", start=True)

    result = moved(world, "a", "--storage", "copy")

    assert result["disks"][0]["method"] == "mirror"
    assert world.files(world.two) == {"a.qcow2"}
    assert noted(world.two, "a") == ("full", [])


@pytest.mark.all
def test_a_clone_comes_back_onto_the_base_it_was_made_from(world: World) -> None:
    a_family(world, "a")
    moved(world, "a")
    (world.one.images / "a.qcow2").unlink()
    world.one.run(["virsh", "-q", "pool-refresh", "default"])

    back = world.cli("migrate", "a", "--to", "lab1")

    assert back.returncode == 0, back.stderr
    assert world.cli("vm", "start", "a").returncode == 0
