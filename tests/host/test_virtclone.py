"""``twinship-virt-clone`` on real libvirt, and beside the installed virt-clone."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.world import IMAGES, MIB, Disk, World
from tests.virtclone_peer import DIFFERENCES, cases, differences, differing, listed
from twinship.domxml.document import parse
from twinship.domxml.read import disks
from twinship.domxml.rewrite import without_mark

NIC = "<interface type='user'><mac address='52:54:00:01:02:03'/></interface>"
UUID = "aaaaaaaa-0000-4000-8000-000000000001"
MAC = "52:54:00:ff:00:01"


def command(world: World, *words: str) -> list[str]:
    """The command on the first host, which no inventory need know."""
    return [sys.executable, "-m", "twinship.virtclone", "--connect", world.one.uri, *words]


def virtclone(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(
        command(world, *words),
        env=world.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def a_web(world: World) -> str:
    """A VM with two disks and an interface; returns its UUID."""
    return world.make_vm(
        world.one, "web", Disk(file="web.qcow2"), Disk(file="data.img", format="raw"), extra=NIC
    )


def in_a_terminal(world: World, *words: str) -> tuple[int, str]:
    """Runs it as the web console does: in a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(world, *words),
        env=world.environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 4096):
            said += data
    except OSError:
        pass  # how Linux says that the other end is closed
    finally:
        os.close(ours)
    return process.wait(timeout=60), said.decode()


@pytest.mark.host
def test_the_web_consoles_clone_button_works_on_it(world: World) -> None:
    a_web(world)
    before = world.sha(world.one, "web.qcow2"), world.sha(world.one, "data.img")

    code, said = in_a_terminal(world, "--original", "web", "--name", "new", "--auto-clone")

    assert code == 0, said
    assert "Allocating 'new.qcow2'" in said
    assert "Allocating 'data-clone.img'" in said
    assert said.rstrip().endswith("Clone 'new' created successfully.")
    assert "\x1b" not in said
    assert world.vms(world.one) == {"web": "shut off", "new": "shut off"}
    assert (world.sha(world.one, "new.qcow2"), world.sha(world.one, "data-clone.img")) == before


@pytest.mark.host
def test_the_clone_is_what_was_printed(world: World) -> None:
    a_web(world)
    words = ("--original", "web", "--auto-clone", "-u", UUID, "-m", MAC)

    printed = virtclone(world, *words, "--print-xml")
    files = world.files(world.one)
    done = virtclone(world, *words, "--quiet")

    assert (printed.returncode, done.returncode) == (0, 0), printed.stderr + done.stderr
    assert done.stdout == ""
    assert files == {"web.qcow2", "data.img"}
    made = world.one.run(["virsh", "dumpxml", "--inactive", "web-clone"]).stdout.decode()
    assert differences(parse(printed.stdout), parse(without_mark(made, "clone"))) <= {
        "devices/graphics/@port"
    }


@pytest.mark.host
def test_what_is_printed_of_a_defined_vm_is_virt_clones(world: World) -> None:
    a_web(world)
    words = ["--original", "web", "--auto-clone", "-u", UUID, "-m", MAC, "--print-xml"]

    theirs = world.one.run(["virt-clone", "--connect", "qemu:///system", *words]).stdout.decode()
    ours = virtclone(world, *words).stdout

    assert {path for path in differences(parse(theirs), parse(ours)) if not listed(path)} == set()


@pytest.mark.host
def test_a_definition_in_a_file_is_cloned_though_it_is_no_vm(world: World, tmp_path: Path) -> None:
    a_web(world)
    file = tmp_path / "web.xml"
    file.write_bytes(world.one.run(["virsh", "dumpxml", "web"]).stdout)
    world.one.run(["virsh", "-q", "undefine", "web", "--nvram"])
    words = ("--original-xml", str(file), "--name", "new", "--auto-clone")

    printed, done = virtclone(world, *words, "--print-xml"), virtclone(world, *words)

    assert [disk.path for disk in disks(printed.stdout)] == [
        f"{IMAGES}/new.qcow2",
        f"{IMAGES}/data-clone.img",
    ]
    assert done.returncode == 0, done.stderr
    assert world.vms(world.one) == {"new": "shut off"}
    assert world.sha(world.one, "new.qcow2") == world.sha(world.one, "web.qcow2")
    stored = (world.state / "twinship.db").read_bytes()
    assert b"<devices>" not in stored, "the database has no definition"


@pytest.mark.host
def test_what_a_definition_in_a_file_cannot_be_is_said(world: World, tmp_path: Path) -> None:
    a_web(world)
    file = tmp_path / "web.xml"
    file.write_bytes(world.one.run(["virsh", "dumpxml", "web"]).stdout)
    world.one.run(["virsh", "-q", "start", "web"])
    (tmp_path / "text").write_text("no definition")
    (tmp_path / "nameless").write_text("<domain type='qemu'/>")

    for name in ("web.xml", "text", "nameless", "missing", "."):
        refused = virtclone(world, "--original-xml", str(tmp_path / name), "--auto-clone")
        assert refused.returncode == 1, name
        assert "Traceback" not in refused.stderr
    assert world.vms(world.one) == {"web": "running"}


@pytest.mark.host
def test_errors_are_exit_code_1_and_leave_nothing(world: World) -> None:
    a_web(world)
    world.make_vm(world.one, "busy", start=True)
    new = f"{IMAGES}/new.img"

    for words in (
        ("--original", "nobody", "--auto-clone"),
        ("--original", "busy", "--auto-clone"),
        ("--original", "web", "--auto-clone", "--name", "busy"),
        ("--original", "web", "--name", "new", "--file", new),
        ("--original", "web", "--name", "new", "--file", new, "--file", f"{IMAGES}/data.img"),
        ("--original", "web", "--auto-clone", "--mac", "52:54:00:01:02:03"),
        ("--original", "web", "--name", "new", "--file", "/none/a", "--file", "/none/b"),
    ):
        done = virtclone(world, *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert done.stderr.startswith("ERROR"), words

    assert world.vms(world.one) == {"web": "shut off", "busy": "running"}
    assert world.files(world.one) == {"web.qcow2", "data.img"}


@pytest.mark.host
def test_a_mac_that_is_in_use_is_taken_if_that_check_is_off(world: World) -> None:
    a_web(world)
    words = ("--original", "web", "--auto-clone", "--mac", "52:54:00:01:02:03")

    assert virtclone(world, *words, "--check", "mac_in_use=off").returncode == 0


@pytest.mark.host
def test_replacing_ends_the_old_vm_and_keeps_its_disks(world: World) -> None:
    a_web(world)
    old = world.make_vm(world.one, "new", Disk(file="new.qcow2"), start=True)
    before = world.sha(world.one, "new.qcow2")

    words = ("--original", "web", "--name", "new", "--auto-clone", "--replace")
    done = virtclone(world, *words)

    assert done.returncode == 0, done.stderr
    assert world.vms(world.one) == {"web": "shut off", "new": "shut off"}
    assert world.one.run(["virsh", "domuuid", "new"]).stdout.decode().strip() != old
    assert world.sha(world.one, "new.qcow2") == before
    assert "new-1.qcow2" in world.files(world.one)


@pytest.mark.host
def test_nothing_is_replaced_when_the_clone_could_not_be_made(world: World) -> None:
    a_web(world)
    world.make_vm(world.one, "new", start=True)

    words = ("--original", "web", "--name", "new", "--replace")
    taken = ("--file", f"{IMAGES}/a", "--file", f"{IMAGES}/data.img")
    done = virtclone(world, *words, *taken)
    itself = virtclone(world, "--original", "web", "--name", "web", "--auto-clone", "--replace")

    assert (done.returncode, itself.returncode) == (1, 1)
    assert world.vms(world.one) == {"web": "shut off", "new": "running"}


@pytest.mark.host
def test_firmware_variables_are_copied_and_never_another_vms(world: World) -> None:
    directory = "/var/lib/libvirt/qemu/nvram"
    inside = world.one.outside(directory)
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "uefi_VARS.fd").write_bytes(b"source" * 1000)
    (inside / "kept_VARS.fd").write_bytes(b"kept" * 1000)
    xml = (
        "<domain type='qemu'><name>uefi</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='q35'>hvm</type>"
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
        f"<nvram>{directory}/uefi_VARS.fd</nvram></os><features><acpi/></features>"
        "<devices/></domain>"
    )
    world.one.run(["virsh", "-q", "define", "/dev/stdin"], input=xml.encode())
    made = ("new_VARS.fd", "x.fd")
    words = ("--original", "uefi", "--auto-clone")
    try:
        done = [
            virtclone(world, *words, "--name", "new"),
            virtclone(world, *words, "--nvram", f"{directory}/x.fd"),
            virtclone(world, *words, "--preserve-data", "--nvram", f"{directory}/kept_VARS.fd"),
            virtclone(world, *words, "--nvram", f"{directory}/kept_VARS.fd"),
        ]
        assert [run.returncode for run in done] == [0, 0, 0, 1], [run.stderr for run in done]
        assert {(inside / file).read_bytes() for file in made} == {b"source" * 1000}
        assert (inside / "kept_VARS.fd").read_bytes() == b"kept" * 1000
    finally:
        for file in ("uefi_VARS.fd", "kept_VARS.fd", *made):
            (inside / file).unlink(missing_ok=True)


@pytest.mark.host
def test_preserved_data_is_not_touched_nor_taken_from_another_vm(world: World) -> None:
    a_web(world)
    for file in ("old-a", "old-b"):
        world.make_disk(world.one, Disk(file=file, format="raw"))
    before = world.sha(world.one, "old-a"), world.sha(world.one, "old-b")
    words = ("--original", "web", "--preserve-data", "--auto-clone")
    files = ("--file", f"{IMAGES}/old-a", "--file", f"{IMAGES}/old-b")

    first, second = (virtclone(world, *words, *files) for _ in range(2))
    told = virtclone(world, *words, *files, "--check", "path_in_use=off")

    assert (first.returncode, second.returncode, told.returncode) == (0, 1, 0), told.stderr
    assert "is a disk of web-clone" in second.stderr
    assert (world.sha(world.one, "old-a"), world.sha(world.one, "old-b")) == before


@pytest.mark.host
def test_a_directory_without_a_pool_gets_one(world: World) -> None:
    a_web(world)
    world.one.run(["mkdir", "-p", "/srv/vms"])

    words = ("--original", "web", "--name", "new")
    done = virtclone(world, *words, "--file", "/srv/vms/a", "--file", "/srv/vms/b")

    assert done.returncode == 0, done.stderr
    assert "vms" in world.pools(world.one)
    assert (
        world.one.outside("/srv/vms/b").read_bytes() == (world.one.images / "data.img").read_bytes()
    )
    for word in ("destroy", "undefine"):
        world.one.run(["virsh", "-q", f"pool-{word}", "vms"])
    world.one.run(["rm", "-r", "/srv/vms"])


@pytest.mark.host
def test_several_at_once_find_names_of_their_own(world: World) -> None:
    a_web(world)
    runs = [
        subprocess.Popen(
            command(world, "--original", "web", "--auto-clone"),
            env=world.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    ended = [(run.communicate(timeout=120), run.returncode) for run in runs]

    assert [code for _, code in ended] == [0, 0, 0], ended
    assert set(world.vms(world.one)) == {"web", "web-clone", "web-clone1", "web-clone2"}


@pytest.mark.host
def test_ctrl_c_undoes_it_and_says_so(world: World) -> None:
    big = Disk(file="web.img", format="raw", size_bytes=1024 * MIB, data_bytes=1000 * MIB)
    world.make_vm(world.one, "web", big)
    run = subprocess.Popen(
        command(world, "--original", "web", "--auto-clone"),
        env=world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline().startswith("Allocating")
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)

    assert run.returncode == 130, errors
    assert world.vms(world.one) == {"web": "shut off"}
    assert world.files(world.one) == {"web.img"}


@pytest.mark.host
def test_what_a_killed_one_left_is_settled_by_the_next(world: World) -> None:
    big = Disk(file="web.img", format="raw", size_bytes=1024 * MIB, data_bytes=1000 * MIB)
    world.make_vm(world.one, "web", big)
    with world.controller() as controller:
        controller.host_remove("lab1")  # its URI is all that is known of it
    run = subprocess.Popen(
        command(world, "--original", "web", "--name", "dead", "--auto-clone"),
        env=world.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline().startswith("Allocating")
    run.kill()
    run.communicate(timeout=60)
    world.make_vm(world.two, "other")
    assert world.cli("vm", "start", "other").returncode == 0  # it cannot know the host

    done = virtclone(world, "--original", "web", "--name", "new", "--auto-clone")

    assert done.returncode == 0, done.stderr
    assert world.vms(world.one) == {"web": "shut off", "new": "shut off"}
    assert world.files(world.one) == {"web.img", "new.img"}
    assert all(operation.state.ended for operation in world.operations())


@pytest.mark.all
def test_what_is_printed_is_virt_clones_but_for_the_listed_paths(tmp_path: Path) -> None:
    """Over all definitions; and every entry of the list is there for a reason."""
    used, wrong = set(), {}
    for number, case in enumerate(cases()):
        directory = tmp_path / str(number)
        directory.mkdir()
        entries = {path: listed(path) for path in differing(case, directory)}
        used |= set(entries.values()) - {None}
        if None in entries.values():
            wrong[case.label] = {path for path, entry in entries.items() if entry is None}

    assert wrong == {}
    assert used == set(DIFFERENCES)


@pytest.mark.host
def test_nonsparse_takes_all_the_space_of_a_raw_disk(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.img", format="raw", data_bytes=MIB))

    done = virtclone(world, "--original", "web", "--name", "new", "--auto-clone", "--nonsparse")

    assert done.returncode == 0, done.stderr
    (new,) = world.files(world.one) - {"web.img"}
    assert (world.one.images / new).stat().st_blocks * 512 >= 32 * MIB
    assert world.sha(world.one, new) == world.sha(world.one, "web.img")
