"""The doctor on real hosts: what it finds it names, and what is certain it mends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.host.test_migrate_faults import wait_until
from tests.host.wire import Call, When, Wire
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


# Leftovers of moves of other tools, made with virsh itself


def cut_off(world: World, tmp_path: Path, call: Call, when: When, *words: str) -> None:
    """`virsh migrate` of web to lab2, killed at a call of the protocol, which is lost with it."""
    end = world.two if call in (Call.PREPARE, Call.FINISH) else world.one
    with (
        Wire(tmp_path / "one", world.one.socket) as one,
        Wire(tmp_path / "two", world.two.socket) as two,
    ):
        wire = two if end is world.two else one
        started: list[subprocess.Popen[bytes]] = []

        def die(wire: Wire) -> None:
            started[0].kill()
            started[0].wait()
            one.cut()
            two.cut()

        wire.moment, wire.trouble = (call, when), die
        uri = f"tcp://{world.two.address}"
        argv = ["virsh", "-q", "-c", one.uri, "migrate", *words, "web", two.uri, uri]
        started.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        assert wire.happened.wait(30)
        started[0].wait(10)


def shared_vm(world: World) -> None:
    """A VM with no disk of its own, running on lab1."""
    world.make_vm(world.one, "web", start=True)


def test_a_source_that_virsh_left_paused_is_named_and_left_alone(
    world: World, tmp_path: Path
) -> None:
    shared_vm(world)
    cut_off(world, tmp_path, Call.FINISH, When.BEFORE, "--live")
    wait_until(lambda: world.vms(world.two) == {}, 10)

    code, (found,) = doctor(world, "--fix")

    assert (code, found["code"], found["certain"]) == (9, "VM_HELD", False)
    assert "virsh resume" in found["cure"]
    assert world.vms(world.one) == {"web": "paused"}
    world.one.run(["virsh", "-q", "resume", "web"])
    assert doctor(world) == (0, [])


@pytest.mark.parametrize("persistent", [True, False])
def test_the_half_that_virsh_left_at_the_source_is_ended_and_no_only_definition_lost(
    world: World, tmp_path: Path, persistent: bool
) -> None:
    shared_vm(world)
    words = ["--live", *(["--persistent"] if persistent else [])]
    cut_off(world, tmp_path, Call.FINISH, When.AFTER, *words)
    assert world.vms(world.one) == {"web": "paused"}
    assert world.vms(world.two) == {"web": "running"}

    code, (found,) = doctor(world)
    assert (code, found["code"], found["certain"]) == (9, "VM_HELD", True)

    doctor(world, "--fix")
    assert world.vms(world.two) == {"web": "running"}
    assert world.vms(world.one) == ({} if persistent else {"web": "shut off"})
    left = [item["code"] for item in doctor(world)[1]]
    assert left == ([] if persistent else ["VM_DEFINED_ELSEWHERE"])


def test_the_disk_that_a_failed_storage_migration_made_is_named_and_left(
    world: World, tmp_path: Path
) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    cut_off(world, tmp_path, Call.PERFORM, When.BEFORE, "--live", "--copy-storage-all")
    wait_until(lambda: world.vms(world.two) == {}, 10)
    assert world.files(world.two) == {"web.qcow2"}, "libvirt leaves what it made"

    code, found = doctor(world, "--fix")

    assert (code, [(item["code"], item["host"]) for item in found]) == (9, [("COPY_LEFT", "lab2")])
    assert "virsh vol-delete --pool default web.qcow2 on lab2" in found[0]["cure"]
    assert world.files(world.two) == {"web.qcow2"}


def test_the_old_disk_of_a_move_is_a_note_and_all_is_well(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    assert world.cli("migrate", "web", "--to", "lab2").returncode == 0

    code, (found,) = doctor(world)

    assert (code, found["code"], found["note"]) == (0, "DISK_LEFT_BEHIND", True)
    assert "all is well" in world.cli("doctor").stderr


def test_a_disk_on_shared_storage_is_nobodys_copy(world: World, tmp_path: Path) -> None:
    both = tmp_path / "shared"  # outside the hosts' own directories: one for all
    both.mkdir()
    for host in (world.one, world.two):
        host.run(["virsh", "-q", "pool-define-as", "other", "dir", "--target", str(both)])
        host.run(["virsh", "-q", "pool-start", "other"])
    disk = str(both / "web.qcow2")
    world.one.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"])
    world.make_vm(world.one, "web", paths=(disk,), start=True)

    assert doctor(world) == (0, [])


def test_pools_tokens_state_and_secrets_of_nobody_are_found(world: World) -> None:
    host, nobody = world.two, "0badcafe-0000-4000-8000-000000000002"
    token = host.images / ".twinship-token-0123456789abcdef"
    token.touch()
    (host.images / f"{nobody}_VARS.fd").touch()
    name = "twinship-1nghk7t4scp4"
    pool = f"<pool type='dir'><name>{name}</name><target><path>/run</path></target></pool>"
    host.run(["virsh", "-q", "pool-create", "/dev/stdin"], input=pool.encode())
    secret = (
        f"<secret><uuid>{nobody}</uuid><usage type='volume'><volume>/gone</volume></usage></secret>"
    )
    host.run(["virsh", "-q", "secret-define", "/dev/stdin"], input=secret.encode())
    try:
        code, found = doctor(world, "--fix")
    finally:
        host.run(["virsh", "-q", "secret-undefine", nobody])
        host.run(["virsh", "-q", "pool-destroy", name], check=False)

    kinds = {item["code"]: item["mended"] for item in found}
    assert code == 9
    assert kinds["POOL_LEFT"] is kinds["TOKEN_LEFT"] is True
    assert kinds["SECRET_LEFT"] is None
    assert not token.exists()


def test_a_vm_that_runs_twice_on_one_disk_is_said_so(world: World) -> None:
    disk = world.lab.share("twice", 8 * MIB)
    extra = (
        "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        f"<source protocol='nbd' name='{disk.export}'><host name='{disk.host}' port='{disk.port}'/>"
        "</source><target dev='vda' bus='virtio'/></disk>"
    )
    world.make_vm(world.one, "web", extra=extra, start=True)
    xml = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout
    world.two.run(["virsh", "-q", "define", "/dev/stdin"], input=xml)
    world.two.run(["virsh", "-q", "start", "web"])

    code, (found,) = doctor(world, "--fix")

    assert (code, found["code"], found["certain"]) == (9, "VM_TWICE", False)
    assert "RUNS TWICE" in found["message"]
    assert "network disk nbd" in found["message"]


def test_a_definition_marked_away_whose_vm_is_gone_is_told(world: World) -> None:
    world.make_vm(world.one, "web", start=True)
    assert world.cli("migrate", "web", "--to", "lab2", "--stay-defined").returncode == 0
    assert doctor(world) == (0, [])
    world.two.run(["virsh", "-q", "destroy", "web"])
    world.two.run(["virsh", "-q", "undefine", "web"])

    code, (found,) = doctor(world, "--fix")

    assert (code, found["code"], found["certain"]) == (9, "MARK_STALE", False)
    assert world.vms(world.one) == {"web": "shut off"}


def test_a_disk_copy_that_nobody_watches_is_told(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)
    copy = ["virsh", "-q", "blockcopy", "web", "vda", "--dest", "/run/copy", "--transient-job"]
    world.one.run([*copy, "--bandwidth", "1"])
    try:
        code, (found,) = doctor(world, "--fix")
    finally:
        world.one.run(["virsh", "-q", "blockjob", "web", "vda", "--abort"])

    assert (code, found["code"], found["certain"]) == (9, "DISK_COPY_LEFT", False)
