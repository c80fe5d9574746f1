"""The doctor on real hosts: what it finds it names, and what is certain it mends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from tests.host.world import MIB, Disk, World
from twinship.store.database import Database
from twinship.store.tables import operation
from twinship_lab import DaemonAction

pytestmark = pytest.mark.host


def doctor(world: World, *words: str) -> tuple[int, list[dict[str, Any]]]:
    done = world.cli("doctor", *words, "-o", "json")
    return done.returncode, json.loads(done.stdout)["items"]


def test_a_healthy_fleet_is_well(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    assert doctor(world) == (0, [])
    assert "all is well" in world.cli("doctor").stderr


def test_what_a_killed_clone_left_is_named_and_mended(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=12 * MIB))
    world.act_at("copy", "kill", "clone", vm="web", name="new", rate=2 * MIB)

    code, found = doctor(world)
    assert (code, found[0]["code"], found[0]["mended"]) == (9, "OPERATION_LEFT", None)
    assert world.files(world.one) == {"web.qcow2", "new.qcow2"}, "looking changes nothing"

    code, found = doctor(world, "--fix")
    assert (code, [item["mended"] for item in found if item["code"] == "OPERATION_LEFT"]) == (
        0,
        [True],
    )
    assert world.files(world.one) == {"web.qcow2"}
    assert doctor(world) == (0, [])


def test_a_volume_and_claims_of_an_operation_that_was_forgotten_are_taken_away(
    world: World,
) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=12 * MIB))
    world.act_at("copy", "kill", "clone", vm="web", name="new", rate=2 * MIB)
    database = Database(world.config.database)
    with database.write() as connection:  # as somebody's hand in the database would
        connection.execute(sa.update(operation).values(state="failed"))
    database.close()

    code, found = doctor(world)
    assert code == 9
    assert {item["code"] for item in found} == {"VOLUME_LEFT", "CLAIM_STALE"}

    assert doctor(world, "--fix")[0] == 0
    assert world.files(world.one) == {"web.qcow2"}
    assert doctor(world) == (0, [])


def test_a_stale_twin_of_a_moved_vm_is_undefined_and_its_disk_stays(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    xml = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout
    assert world.cli("migrate", "web", "--to", "lab2").returncode == 0
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)

    code, (found,) = doctor(world)
    assert (code, found["code"], found["certain"]) == (9, "VM_TWICE", True)

    assert doctor(world, "--fix")[0] == 0
    assert world.vms(world.one) == {}
    assert world.vms(world.two) == {"web": "running"}
    assert world.files(world.one) == {"web.qcow2"}


def test_a_twin_nobody_knows_of_is_named_and_left_alone(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    xml = world.one.run(["virsh", "dumpxml", "web"]).stdout
    world.two.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)

    code, (found,) = doctor(world, "--fix")

    assert (code, found["code"], found["certain"], found["mended"]) == (
        9,
        "VM_TWICE",
        False,
        None,
    )
    assert world.vms(world.one) == world.vms(world.two) == {"web": "shut off"}


def test_a_carrier_of_nobody_is_ended_and_other_vms_are_not(world: World) -> None:
    uuid = "0badcafe-0000-4000-8000-000000000001"
    carrier = (
        f"<domain type='qemu'><name>twinship-carrier-{uuid[:8]}</name><uuid>{uuid}</uuid>"
        "<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices>"
        "</domain>"
    )
    world.one.run(["virsh", "-q", "create", "--paused", "/dev/stdin"], input=carrier.encode())
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    code, (found,) = doctor(world)
    assert (code, found["code"]) == (9, "CARRIER_LEFT")

    assert doctor(world, "--fix")[0] == 0
    assert world.vms(world.one) == {"web": "running"}


def test_a_dead_host_is_no_hang_and_nothing_is_mended_without_it(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    xml = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout
    assert world.cli("migrate", "web", "--to", "lab2").returncode == 0
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)
    world.two.daemon(DaemonAction.STOP)

    code, found = doctor(world, "--fix")

    assert code == 9
    assert [item["code"] for item in found] == ["HOST_UNSEEN"]
    assert world.vms(world.one) == {"web": "shut off"}
