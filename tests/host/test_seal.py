"""Sealing a VM in place, on a real host, over nothing but its libvirt connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.guests import content, guest_disk, text_of
from tests.host.world import World, code_of

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
    planned = json.loads(shown.stdout)["manifest"]
    assert content(world.one, path, form) == before

    done = world.cli("seal", "web", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)["result"]
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
    assert json.loads(again.stdout)["result"]["manifest"]["entries"] == []
