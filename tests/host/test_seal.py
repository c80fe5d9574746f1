"""Sealing a VM in place, on a real host, over nothing but its libvirt connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.guests import PLAIN, content, guest_disk, text_of, tool
from tests.host.test_clone import small_pool
from tests.host.world import IMAGES, MIB, Disk, World, code_of

pytestmark = pytest.mark.host


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_sealed_vm_is_sealed_and_can_be_made_what_it_was(
    world: World, tmp_path: Path, form: str
) -> None:
    path = guest_disk(world.one, "web.img", tmp_path, form=form)
    world.make_vm(world.one, "web", disks_at=((path, form),))
    before = content(world.one, path, form)

    shown = world.cli("seal", "web", "--dry-run", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    planned = json.loads(shown.stdout)["manifest"]["guests"][0]
    assert planned.pop("vm") == "lab1/web"
    assert content(world.one, path, form) == before

    done = world.cli("seal", "web", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(done.stdout)["result"]["vms"]
    assert result["manifest"] == planned
    assert result["engine"] == "user space"
    assert text_of(world.one, path, "/etc/ssh/ssh_host_ed25519_key", tmp_path, form) == "<missing>"
    assert text_of(world.one, path, "/etc/machine-id", tmp_path, form) == ""
    assert text_of(world.one, path, "/home/ann/notes", tmp_path, form) == "mine\n"
    assert len(world.files(world.one)) == 2

    undone = world.cli("seal", "web", "--undo")
    assert undone.returncode == 0, undone.stderr
    assert content(world.one, path, form) == before
    assert world.files(world.one) == {"web.img"}
    assert "sealed" not in world.one.run(["virsh", "dumpxml", "web"]).stdout.decode()


def test_a_seal_that_is_kept_leaves_one_file(world: World, tmp_path: Path) -> None:
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    assert world.cli("seal", "web").returncode == 0
    twice = world.cli("seal", "web")
    assert (twice.returncode, code_of(twice)) == (5, "SEAL_PENDING")
    kept = world.cli("seal", "web", "--commit")
    assert kept.returncode == 0, kept.stderr
    assert world.files(world.one) == {"web.img"}
    nothing = world.cli("seal", "web", "--undo")
    assert (nothing.returncode, code_of(nothing)) == (5, "SEAL_NONE")
    again = world.cli("seal", "web", "--commit", "-o", "json")
    assert again.returncode == 0, again.stdout
    assert json.loads(again.stdout)["result"]["vms"][0]["manifest"]["entries"] == []


def test_several_are_sealed_together_or_none(world: World, tmp_path: Path) -> None:
    one = guest_disk(world.one, "one.img", tmp_path)
    world.make_vm(world.one, "one", disks_at=((one, "qcow2"),))
    two = guest_disk(world.two, "two.img", tmp_path, form="raw")
    world.make_vm(world.two, "two", disks_at=((two, "raw"),))
    world.make_vm(world.one, "empty", Disk(file="empty.qcow2", data_bytes=0))
    before = (content(world.one, one), content(world.two, two, "raw"))

    refused = world.cli("seal", "one", "two", "empty")
    assert (refused.returncode, code_of(refused)) == (5, "NO_FILESYSTEM")
    assert (content(world.one, one), content(world.two, two, "raw")) == before

    done = world.cli("seal", "one", "two")
    assert done.returncode == 0, done.stderr
    assert text_of(world.one, one, "/etc/machine-id", tmp_path) == ""
    assert text_of(world.two, two, "/etc/machine-id", tmp_path, "raw") == ""
    assert world.cli("seal", "two", "--undo").returncode == 0
    assert content(world.two, two, "raw") == before[1]


def refusal(world: World, *words: str) -> tuple[int, str]:
    done = world.cli(*words)
    return done.returncode, code_of(done)


def test_what_cannot_be_sealed_is_refused_and_stays_as_it_is(world: World, tmp_path: Path) -> None:
    world.make_vm(world.one, "win", Disk(file="win.img", format="raw", data_bytes=0))
    with (world.one.images / "win.img").open("r+b") as disk:
        disk.write(b"\xeb\x52\x90NTFS    ")
    strange = guest_disk(world.one, "odd.img", tmp_path, files={"etc/fstab": "", "odd": "x"})
    world.make_vm(world.one, "odd", disks_at=((strange, "qcow2"),))
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),), start=True)
    before = [world.sha(world.one, file) for file in sorted(world.files(world.one))]

    assert refusal(world, "seal", "win") == (5, "GUEST_IS_WINDOWS")
    assert refusal(world, "seal", "odd") == (5, "GUEST_UNKNOWN")
    assert refusal(world, "seal", "web") == (5, "VM_ACTIVE")
    assert refusal(world, "seal", "no-such-vm") == (3, "VM_NOT_FOUND")
    assert refusal(world, "seal", "win", "--only", "machine-idd") == (2, "UNKNOWN_OPERATION")
    assert [world.sha(world.one, file) for file in sorted(world.files(world.one))] == before
    assert world.operations() == ()


def test_a_full_a_dirty_and_a_hibernated_guest_are_refused_and_stay(
    world: World, tmp_path: Path
) -> None:
    swap = {**PLAIN, "etc/fstab": "/swap none swap sw 0 0\n", "swap": "\0" * 4086 + "S1SUSPEND\0"}
    full = {**PLAIN, "srv/fill": "x" * (13 * MIB)}
    vms = {
        "full": (full, 16 * MIB, "FILESYSTEM_FULL"),
        "dirty": (PLAIN, 64 * MIB, "FILESYSTEM_DIRTY"),
        "asleep": (swap, 64 * MIB, "GUEST_HIBERNATED"),
        "empty": ({}, 64 * MIB, "GUEST_UNKNOWN"),
    }
    for name, (files, size, _) in vms.items():
        path = guest_disk(
            world.one, f"{name}.img", tmp_path, form="raw", files=files, size_bytes=size
        )
        world.make_vm(world.one, name, disks_at=((path, "raw"),))
    fill = world.one.outside(f"{IMAGES}/full.img")
    (tmp_path / "rest").write_bytes(b"y" * 2 * MIB)
    tool("debugfs", "-w", "-R", f"write {tmp_path / 'rest'} /srv/rest", fill)
    tool("debugfs", "-w", "-R", "feature +needs_recovery", world.one.outside(f"{IMAGES}/dirty.img"))
    before = {name: world.sha(world.one, f"{name}.img") for name in vms}

    for name, (_, _, code) in vms.items():
        assert refusal(world, "seal", name) == (5, code)
        create = ("template", "create", "golden", "--from", name)
        assert refusal(world, *create, "--dry-run", "-o", "json")[0] == 5
        assert refusal(world, *create) == (5, code)

    assert {name: world.sha(world.one, f"{name}.img") for name in vms} == before
    assert world.files(world.one) == {f"{name}.img" for name in vms}
    assert world.operations() == ()


NONSENSE = (
    ("--only", ""),
    ("--except", "nope"),
    ("--also", "nope"),
    ("--key", "uuid=/nowhere"),
    ("--own", "/etc/passwd"),
    ("--undo", "--commit"),
    ("--undo", "--only", "logs"),
)


def test_words_that_say_nothing_are_refused_before_anything_is_done(
    world: World, tmp_path: Path
) -> None:
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    before = world.sha(world.one, "web.img")
    for words in NONSENSE:
        done = world.cli("seal", "web", *words)
        assert (words, done.returncode) == (words, 2), done.stdout + done.stderr
        if "--undo" not in words:
            made = world.cli("template", "create", "golden", "--from", "web", *words)
            assert (words, made.returncode) == (words, 2), made.stdout + made.stderr
    nameless = world.cli("template", "create", "", "--from", "web")
    assert (nameless.returncode, code_of(nameless)) == (2, "TEMPLATE_NAME_INVALID")
    assert world.files(world.one) == {"web.img"}
    assert (world.sha(world.one, "web.img"), world.operations()) == (before, ())


@pytest.mark.parametrize("deed", ["interrupt", "kill"])
def test_a_seal_that_is_interrupted_leaves_the_disk_as_it_was(
    world: World, tmp_path: Path, deed: str
) -> None:
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    before = content(world.one, path)

    cut = world.act_at("seal the guest", deed, "seal", vms=["web"])
    assert cut.returncode == (130 if deed == "interrupt" else -9), cut.stderr
    world.resume_all()

    assert content(world.one, path) == before
    assert world.files(world.one) == {"web.img"}
    world.assert_nothing_left()


def test_no_room_for_what_is_kept_changes_nothing(world: World, tmp_path: Path) -> None:
    small = "/run/small/web.img"
    small_pool(world, 80, world.one)
    try:
        path = guest_disk(world.one, "web.img", tmp_path, form="raw")
        world.one.run(["mv", path, small])
        world.one.run(["virsh", "-q", "pool-refresh", "small"])
        world.make_vm(world.one, "web", disks_at=((small, "raw"),))
        before = world.one.run(["sha256sum", small]).stdout
        world.one.run(["dd", "if=/dev/zero", "of=/run/small/other", "bs=1M", "count=20"])
        assert refusal(world, "seal", "web") == (5, "STORAGE_FULL")
        assert world.one.run(["sha256sum", small]).stdout == before
    finally:
        world.clean()
        world.one.run(["umount", "-l", "/run/small"])


def test_a_guest_that_ran_since_is_not_undone(world: World, tmp_path: Path) -> None:
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    assert world.cli("seal", "web").returncode == 0
    write = ["qemu-io", "-f", "qcow2", "-c", "write -q 60M 64k", path]
    world.one.run(write)
    assert refusal(world, "seal", "web", "--undo") == (5, "SEAL_STALE")
    assert world.cli("seal", "web", "--commit").returncode == 0
    assert world.files(world.one) == {"web.img"}


def test_own_operations_and_choices_are_done_and_no_others(world: World, tmp_path: Path) -> None:
    path = guest_disk(world.one, "web.img", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    (tmp_path / "motd").write_text("made of a template\n")
    own = tmp_path / "own.toml"
    own.write_text(
        "[greeting]\nupload = [{from = 'motd', to = '/etc/motd'}]\n"
        "edit = [{path = '/etc/ssh/sshd_config', match = ' no$', replace = ' yes'}]\n"
    )
    done = world.cli("seal", "web", "--only", "machine-id,greeting", "--own", str(own))
    assert done.returncode == 0, done.stderr
    assert text_of(world.one, path, "/etc/motd", tmp_path) == "made of a template\n"
    changed = text_of(world.one, path, "/etc/ssh/sshd_config", tmp_path)
    assert changed == "PasswordAuthentication yes\n"
    assert text_of(world.one, path, "/etc/ssh/ssh_host_ed25519_key", tmp_path) == "secret\n"
    assert text_of(world.one, path, "/etc/machine-id", tmp_path) == ""
