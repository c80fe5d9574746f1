"""A template on storage that several hosts share: who stands on it may be anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.guests import PLAIN, guest_disk
from tests.host.world import World, code_of

pytestmark = pytest.mark.host


def test_a_template_is_held_by_a_clone_on_another_host(world: World, tmp_path: Path) -> None:
    both = tmp_path / "both"  # outside the hosts' own directories: one for all
    both.mkdir(mode=0o777)
    for host in (world.one, world.two):
        host.run(["virsh", "-q", "pool-define-as", "other", "dir", "--target", str(both)])
        host.run(["virsh", "-q", "pool-start", "other"])
    path = guest_disk(world.one, "web.qcow2", tmp_path)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    made = world.cli("template", "create", "golden", "--from", "web", "--pool", "other")
    assert made.returncode == 0, made.stderr
    assert world.cli("clone", "golden", "c1").returncode == 0
    moved = world.cli("migrate", "c1", "--to", "lab2", "-o", "json")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert json.loads(moved.stdout)["result"]["disks"][0]["method"] == "shared"

    assert children(world) == {"golden": ["lab2/c1"]}
    held = world.cli("template", "delete", "golden", "--yes")
    assert (held.returncode, code_of(held)) == (5, "BASE_HAS_CHILDREN")
    assert (both / "golden.qcow2").exists()
    assert world.cli("vm", "delete", "c1", "--disks", "delete", "--yes").returncode == 0
    gone = world.cli("template", "delete", "golden", "--yes")
    assert gone.returncode == 0, gone.stderr


def test_a_clone_that_took_its_base_along_holds_no_template(world: World, tmp_path: Path) -> None:
    files = {name: text for name, text in PLAIN.items() if "cloud-init" not in name}
    path = guest_disk(world.one, "web.qcow2", tmp_path, files=files)
    world.make_vm(world.one, "web", disks_at=((path, "qcow2"),))
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    assert world.cli("clone", "golden", "c1").returncode == 0
    moved = world.cli("migrate", "c1", "--to", "lab2")
    assert moved.returncode == 0, moved.stderr

    assert children(world) == {"golden": []}
    assert "golden.qcow2" in world.files(world.two)
    assert world.cli("template", "delete", "golden", "--yes").returncode == 0
    started = world.cli("vm", "start", "c1")
    assert started.returncode == 0, started.stderr


def children(world: World) -> dict[str, list[str]]:
    items = json.loads(world.cli("template", "list", "-o", "json").stdout)["items"]
    return {one["name"]: one["children"] for one in items}
