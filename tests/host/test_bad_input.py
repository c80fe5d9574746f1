"""Names, files and headers that are missing, taken, hostile: a clear error, and nothing lost."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship_lab import DaemonAction

pytestmark = pytest.mark.host


def refusal(world: World, *words: str) -> tuple[int, str]:
    """Exit code and error code of a command that should be refused."""
    done = world.cli(*words)
    return done.returncode, code_of(done)


def test_unknown_names_are_not_found_and_near_ones_suggested(world: World) -> None:
    world.make_vm(world.one, "webserver")

    assert refusal(world, "vm", "show", "nothing") == (3, "VM_NOT_FOUND")
    assert refusal(world, "migrate", "webserver", "--to", "lab3") == (3, "HOST_NOT_FOUND")
    assert refusal(world, "operation", "show", "nothing") == (3, "OPERATION_NOT_FOUND")
    assert "did you mean webserver" in world.cli("vm", "show", "webservr").stderr
    assert "did you mean" in world.cli("migrate", "webserver", "--to", "lab3").stderr


def test_an_ambiguous_name_lists_the_candidates(world: World) -> None:
    first = world.make_vm(world.one, "web")
    second = world.make_vm(world.two, "web")

    done = world.cli("vm", "show", "web")

    assert (done.returncode, code_of(done)) == (2, "AMBIGUOUS_NAME")
    assert f"lab1/{first}" in done.stderr
    assert f"lab2/{second}" in done.stderr
    assert world.cli("vm", "show", "lab1/web").returncode == 0
    assert world.cli("vm", "show", second).returncode == 0


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "new\nline", "n" * 300, ".hidden", "-rf", "--help me", "", " ", "tab\there"],
)
def test_a_name_that_cannot_be_is_refused(world: World, name: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    code, _ = refusal(world, "clone", "web", "--", name) if name else (5, "")

    assert code in (5, 2)
    assert world.files(world.one) == {"web.qcow2"}


@pytest.mark.parametrize(
    "name",
    ["two words", 'it\'s "quoted"', "$(touch pwned)", "a;b|c&d", "日本語", "<b>&amp;", "100%"],
)
def test_an_odd_name_is_only_a_name(world: World, name: str) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    assert world.cli("clone", "web", "--", name).returncode == 0
    assert world.cli("migrate", f"lab1/{name}", "--to", "lab2").returncode == 0

    assert set(world.vms(world.two)) == {name}
    assert world.files(world.two) == {f"{name}.qcow2"}
    assert not list(Path.cwd().glob("pwned"))


def header(backing: str, *, features: int = 0) -> bytes:
    """A qcow2 header that names a backing file."""
    text = backing.encode()
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 112 + 16, len(text), 16, 32 * MIB, 0, 1, 3 * 65536,
        65536, 1, 0, 0
    )  # fmt: skip
    head += struct.pack(">QQQII", features, 0, 0, 4, 112)
    head = head.ljust(112, b"\0") + struct.pack(">II", 0xE2792ACA, 3) + b"raw\0\0\0\0\0"
    return (head + text).ljust(4 * 65536, b"\0")


FOREIGN = (
    "/etc/shadow",
    "../../../../etc/shadow",
    'json:{"driver":"file","filename":"/etc/shadow"}',
    "nbd://127.0.0.1:1/x",
)


@pytest.mark.parametrize("backing", FOREIGN)
@pytest.mark.parametrize("verb", ["clone", "migrate"])
def test_a_header_that_names_a_foreign_backing_file_is_refused(
    world: World, verb: str, backing: str
) -> None:
    (world.one.images / "evil.qcow2").write_bytes(header(backing))
    world.make_vm(world.one, "evil", paths=(f"{IMAGES}/evil.qcow2",))

    words = ["clone", "evil", "x"] if verb == "clone" else ["migrate", "evil", "--to", "lab2"]
    code, error = refusal(world, *words)

    assert (code, error) == (5, "DISK_UNREADABLE")
    assert world.files(world.one) == {"evil.qcow2"}
    assert world.files(world.two) == set()


def test_an_image_whose_data_lie_in_another_file_is_refused(world: World) -> None:
    (world.one.images / "evil.qcow2").write_bytes(header("", features=4))
    world.make_vm(world.one, "evil", paths=(f"{IMAGES}/evil.qcow2",))

    assert refusal(world, "clone", "evil", "x") == (5, "DISK_UNREADABLE")


@pytest.mark.parametrize("verb", ["clone", "migrate"])
def test_a_missing_backing_file_is_said(world: World, verb: str) -> None:
    world.make_disk(world.one, Disk(file="base.qcow2"))
    world.make_vm(world.one, "web", Disk(file="top.qcow2", base=f"{IMAGES}/base.qcow2"))
    (world.one.images / "base.qcow2").unlink()

    words = ["clone", "web", "x"] if verb == "clone" else ["migrate", "web", "--to", "lab2"]

    done = world.cli(*words)
    assert (done.returncode, code_of(done)) == (5, "DISK_UNREADABLE")
    assert "base.qcow2 does not exist" in done.stderr


def test_a_missing_or_inactive_pool_is_said(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    world.one.run(["mkdir", "-p", "/run/other"])
    world.one.run(["virsh", "-q", "pool-define-as", "other", "dir", "--target", "/run/other"])

    assert refusal(world, "clone", "web", "x", "--pool", "none") == (5, "STORAGE_POOL_MISSING")
    assert refusal(world, "clone", "web", "x", "--pool", "other") == (5, "STORAGE_POOL_MISSING")


def test_a_running_vm_is_not_deleted_and_not_started_twice(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"), start=True)

    assert refusal(world, "vm", "delete", "web", "--yes") == (5, "VM_ACTIVE")
    assert refusal(world, "vm", "start", "web") == (5, "VM_ACTIVE")
    assert world.cli("vm", "stop", "web", "--force").returncode == 0
    assert world.cli("vm", "delete", "web", "--disks", "delete", "--yes").returncode == 0
    assert world.files(world.one) == set()


@pytest.mark.parametrize("deed", [DaemonAction.KILL, DaemonAction.FREEZE])
def test_a_dead_host_is_a_row_that_says_so(world: World, deed: DaemonAction) -> None:
    world.make_vm(world.one, "web")
    world.two.daemon(deed)
    began = time.monotonic()

    done = world.cli("vm", "list", "-o", "json")

    assert time.monotonic() - began < 12
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [vm["name"] for vm in document["items"]] == ["web"]
    assert [host["host"] for host in document["unreachable"]] == ["lab2"]
    assert "unreachable" in world.cli("vm", "list").stdout


def test_host_check_says_what_two_hosts_do_not_share(world: World) -> None:
    done = world.cli("host", "check", "lab1", "--with", "lab2", "-o", "json")

    assert done.returncode == 0, done.stderr
    assert [d["shared"] for d in json.loads(done.stdout)["directories"]] == [False]
    assert world.files(world.one) == set()


def test_host_check_proves_a_shared_directory(world: World, tmp_path: Path) -> None:
    both = str(tmp_path)  # outside the hosts' own directories: one for all
    for host in (world.one, world.two):
        host.run(["virsh", "-q", "pool-define-as", "other", "dir", "--target", both])
        host.run(["virsh", "-q", "pool-start", "other"])

    done = world.cli("host", "check", "lab1", "--with", "lab2", "-o", "json")

    found = {d["path"]: d["shared"] for d in json.loads(done.stdout)["directories"]}
    assert found == {IMAGES: False, both: True}


def test_an_unreachable_host_is_added_and_says_what_to_type(world: World) -> None:
    uri = "qemu+unix:///system?socket=/nowhere/sock"

    done = world.cli("host", "add", "gone", uri)

    assert done.returncode == 0
    assert "systemctl start libvirtd" in done.stderr
    assert world.cli("host", "remove", "gone").returncode == 0


def test_the_console_of_a_vm_that_is_off_is_refused(world: World) -> None:
    world.make_vm(world.one, "web")

    assert world.cli("vm", "console", "web").returncode == 2


def test_a_reader_that_goes_away_is_no_error_of_ours(world: World) -> None:
    world.make_vm(world.one, "web")
    done = subprocess.run(
        ["bash", "-c", "python -m twinship vm list -o json | head -c 1"],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
