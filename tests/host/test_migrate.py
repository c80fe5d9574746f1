"""Moving on real libvirt: live and offline, with every disk, and what stays where."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import Operation
from twinship.model.request import MigrateRequest
from twinship_lab import DaemonAction, LabHost
from twinship_lab.guests import GuestSpec, Load, NewDisk, create_guest

pytestmark = pytest.mark.host


def result_of(world: World, *words: str) -> dict[str, Any]:
    """The result of a move that has to succeed."""
    done = world.cli(*words, "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


def ticks(host: LabHost, name: str, *, reset: bool = False) -> dict[str, Any]:
    """What the micro guest says of itself; waits until it is up."""
    command = json.dumps({"execute": "twinship-ticks", "arguments": {"reset": reset}})
    for _ in range(200):
        done = host.run(["virsh", "qemu-agent-command", name, command], check=False)
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)["return"]
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{name} does not answer")


def test_a_live_move_over_shared_storage_and_back(world: World) -> None:
    shared = world.lab.share("idle", 16 * MIB)
    spec = GuestSpec(shared=(shared,), memory_mib=128, start=True)
    create_guest(world.one, world.lab.cache, "idle", spec)
    boot = ticks(world.one, "idle")["boot_id"]

    there = result_of(world, "migrate", "idle", "--to", "lab2")
    back = result_of(world, "migrate", "idle", "--to", "lab1")

    assert world.vms(world.one) == {"idle": "running"}
    assert world.vms(world.two) == {}
    for result in (there, back):
        assert result["mode"] == "live"
        assert result["disks"] == [
            {"target": "vda", "path": "idle", "method": "shared", "bytes_copied": 0}
        ]
        assert 0 < result["pause_s"] < 3
    assert ticks(world.one, "idle")["boot_id"] == boot
    world.one.run(["virsh", "-q", "destroy", "idle"])
    world.lab.unshare("idle")


def test_a_live_move_takes_local_disks_along_while_the_guest_writes(world: World) -> None:
    disks = tuple(
        NewDisk(size_bytes=256 * MIB, format=form, data_bytes=16 * MIB) for form in ("qcow2", "raw")
    )
    load = Load(disk_bytes_s=200_000, dirty_bytes_s=5_000_000, hot_bytes=4 * MIB)
    create_guest(
        world.one,
        world.lab.cache,
        "busy",
        GuestSpec(disks=disks, memory_mib=128, load=load, start=True),
    )
    ticks(world.one, "busy", reset=True)

    result = result_of(world, "migrate", "busy", "--to", "lab2")

    time.sleep(2.2)  # the guest's clock shows a stop at its next full second
    told = ticks(world.two, "busy")
    assert (told["memory_errors"], told["disk_errors"]) == (0, 0)
    assert told["disk_writes"] > 0
    # Measured from outside by what the clock lost, and inside against the CMOS clock.
    assert abs(result["pause_guest_s"] - told["longest_gap_s"]) < 0.15
    assert {disk["method"] for disk in result["disks"]} == {"mirror"}
    for file in ("busy.qcow2", "busy-vdb.raw"):
        here, there = (
            (host.images / file).stat().st_blocks * 512 for host in (world.one, world.two)
        )
        assert there <= here * 1.05 + 2 * MIB, file
    xml = world.two.run(["virsh", "dumpxml", "--inactive", "busy"]).stdout.decode()
    assert "detect_zeroes" not in xml
    assert world.vms(world.one) == {}
    assert world.vms(world.two) == {"busy": "running"}


def test_an_offline_move_is_byte_for_byte(world: World) -> None:
    odd = Disk(file="odd.img", format="raw", size_bytes=3 * 65536 + 512, data_bytes=3 * 65536)
    rich = Disk(file="rich.qcow2", options=("-o", "cluster_size=128k"))
    empty = Disk(file="empty.qcow2", data_bytes=0)
    thin = Disk(file="thin.img", format="raw", size_bytes=512 * MIB)
    world.make_vm(world.one, "web", rich, odd, empty, thin)
    world.one.run(["qemu-img", "snapshot", "-c", "before", f"{IMAGES}/rich.qcow2"])
    world.one.run(["qemu-img", "bitmap", "--add", f"{IMAGES}/rich.qcow2", "changed"])
    files = [disk.file for disk in (rich, odd, empty, thin)]
    before = {file: world.sha(world.one, file) for file in files}

    result = result_of(world, "migrate", "web", "--to", "lab2", "--verify")

    assert {file: world.sha(world.two, file) for file in files} == before
    assert {file: world.sha(world.one, file) for file in files} == before
    assert result["left_on_source"] == [f"{IMAGES}/{file}" for file in files]
    here, there = (
        (host.images / "thin.img").stat().st_blocks * 512 for host in (world.one, world.two)
    )
    assert there <= here * 1.05 + MIB
    assert world.vms(world.one) == {}
    assert world.vms(world.two) == {"web": "shut off"}


def test_an_offline_move_takes_the_backing_files_along(world: World) -> None:
    world.make_disk(world.one, Disk(file="base.qcow2"))
    world.make_vm(
        world.one, "web", Disk(file="top.qcow2", base=f"{IMAGES}/base.qcow2", data_bytes=MIB)
    )

    result_of(world, "migrate", "web", "--to", "lab2")

    for file in ("base.qcow2", "top.qcow2"):
        assert world.sha(world.two, file) == world.sha(world.one, file)
    assert world.cli("vm", "start", "web").returncode == 0


def test_an_offline_move_takes_the_firmware_variables_along(world: World) -> None:
    template = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
    inside = [h.outside("/var/lib/libvirt/qemu/nvram") for h in (world.one, world.two)]
    for directory in inside:
        directory.mkdir(parents=True, exist_ok=True)
    (inside[0] / "fw_VARS.fd").write_bytes(template[:-1] + b"\x7f")
    xml = (
        "<domain type='qemu'><name>fw</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='q35'>hvm</type>"
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
        "<nvram>/var/lib/libvirt/qemu/nvram/fw_VARS.fd</nvram></os>"
        "<features><acpi/></features></domain>"
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())

    result_of(world, "migrate", "fw", "--to", "lab2")

    digests = [hashlib.sha256((d / "fw_VARS.fd").read_bytes()).hexdigest() for d in inside]
    assert digests[0] == digests[1]
    for directory in inside:
        (directory / "fw_VARS.fd").unlink()


def test_an_offline_move_of_a_running_vm_is_refused(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    done = world.cli("migrate", "web", "--to", "lab2", "--mode", "offline")

    assert (done.returncode, code_of(done)) == (5, "MIGRATE_OFFLINE_RUNNING")
    assert world.vms(world.one) == {"web": "running"}
    assert world.vms(world.two) == {}


def test_a_vm_that_stays_defined_is_not_started_twice(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    result_of(world, "migrate", "web", "--to", "lab2", "--stay-defined")

    assert world.vms(world.one) == {"web": "shut off"}
    assert world.vms(world.two) == {"web": "running"}
    refused = world.cli("vm", "start", "lab1/web")
    assert (refused.returncode, code_of(refused)) == (5, "VM_RUNS_ELSEWHERE")
    world.two.daemon(DaemonAction.STOP)
    unseen = world.cli("vm", "start", "lab1/web")
    assert (unseen.returncode, code_of(unseen)) == (5, "VM_AWAY")


def test_a_temporary_move_leaves_the_definition_at_home(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    result_of(world, "migrate", "web", "--to", "lab2", "--temporary")

    assert world.vms(world.one) == {"web": "shut off"}
    info = world.two.run(["virsh", "dominfo", "web"]).stdout.decode()
    assert [line.split()[1] for line in info.splitlines() if "Persistent" in line] == ["no"]
    both = world.cli("migrate", "lab2/web", "--to", "lab1", "--temporary", "--stay-defined")
    assert both.returncode == 2


def test_a_paused_vm_stays_paused(world: World) -> None:
    world.make_vm(world.one, "web", start=True)
    world.one.run(["virsh", "-q", "suspend", "web"])

    result_of(world, "migrate", "web", "--to", "lab2")

    assert world.vms(world.two) == {"web": "paused"}


def test_a_non_live_move(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    assert result_of(world, "migrate", "web", "--to", "lab2", "--mode", "non-live")["mode"] == (
        "non-live"
    )
    assert world.vms(world.two) == {"web": "running"}


def test_a_dry_run_changes_nothing_and_tells_all_that_is_wrong(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    world.make_vm(world.two, "web")
    (world.two.images / "web.qcow2").write_text("somebody's")
    fits = world.cli("clone", "lab1/web", "--dry-run", "-o", "json")

    done = world.cli("migrate", "lab1/web", "--to", "lab2", "--dry-run", "-o", "json")

    assert (fits.returncode, done.returncode) == (0, 5)
    plan = json.loads(done.stdout)
    assert plan["feasible"] is False
    assert {check["code"] for check in plan["checks"]} >= {"NAME_TAKEN", "DISK_EXISTS"}
    assert world.files(world.one) == {"web.qcow2"}
    assert world.operations() == ()


def test_progress_moves_and_never_goes_back(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=24 * MIB))

    done = world.cli("migrate", "web", "--to", "lab2", "--bandwidth", "12MiB/s", "-o", "jsonl")

    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    percents = [
        line["progress"]["percent"] for line in lines if line["progress"]["percent"] is not None
    ]
    assert percents == sorted(percents)
    assert percents[-1] == 100.0
    assert percents.count(100.0) == 1
    assert len(set(percents)) > 3
    assert lines[-1]["state"] == "succeeded"


def test_without_waiting_a_worker_goes_on(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    accepted = world.cli("migrate", "web", "--to", "lab2", "--no-wait", "-o", "name")

    assert accepted.returncode == 0
    assert world.cli("operation", "watch", accepted.stdout.strip()).returncode == 0
    assert world.vms(world.two) == {"web": "shut off"}


def test_a_plan_that_no_longer_holds_is_refused_and_says_what_changed(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    def start_it(operation: Operation) -> None:
        if operation.progress.phase.startswith("look"):
            world.one.run(["virsh", "-q", "start", "web"], check=False)

    with world.controller() as controller:
        request = MigrateRequest(vm="web", target="lab2")
        operation = controller.migrate(request, watch=start_it)

    assert operation.error is not None
    assert operation.error["code"] == "PLAN_STALE"
    assert "was shut off, is running" in operation.error["cause"]
    assert world.vms(world.one) == {"web": "running"}
    assert world.files(world.two) == set()
