"""Templates on a real host: made, kept locked, cloned, renewed, deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.guests import content, guest_disk, text_of
from tests.host.world import IMAGES, World, code_of

pytestmark = pytest.mark.host


def installed(world: World, work: Path, name: str = "web") -> str:
    """A VM with a guest on its disk; the disk's path."""
    path = guest_disk(world.one, f"{name}.qcow2", work)
    world.make_vm(world.one, name, disks_at=((path, "qcow2"),))
    return path


def xml_of(world: World, name: str) -> str:
    return world.one.run(["virsh", "dumpxml", "--security-info", name]).stdout.decode()


def test_a_template_is_a_sealed_copy_that_nobody_starts_or_writes(
    world: World, tmp_path: Path
) -> None:
    path = installed(world, tmp_path)
    before = (content(world.one, path), xml_of(world, "web"))

    plan = world.cli("template", "create", "golden", "--from", "web", "--dry-run", "-o", "json")
    done = world.cli("template", "create", "golden", "--from", "web", "-o", "json")

    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)["result"]
    (planned,) = json.loads(plan.stdout)["manifest"]["guests"]
    assert planned.pop("vm") == "lab1/web"
    assert planned == result["seal"]["manifest"]
    assert (content(world.one, path), xml_of(world, "web")) == before
    own = result["template"]["disks"][0]["path"]
    assert text_of(world.one, own, "/etc/ssh/ssh_host_ed25519_key", tmp_path) == "<missing>"
    assert "<readonly/>" in xml_of(world, "golden")
    started = world.cli("vm", "start", "golden")
    assert (started.returncode, code_of(started)) == (5, "IS_TEMPLATE")
    deleted = world.cli("vm", "delete", "golden", "--yes")
    assert (deleted.returncode, code_of(deleted)) == (5, "IS_TEMPLATE")
    sealed = world.cli("seal", "golden")
    assert (sealed.returncode, code_of(sealed)) == (5, "IS_TEMPLATE")


def test_clones_of_a_template_are_linked_say_which_version_and_hold_it(
    world: World, tmp_path: Path
) -> None:
    installed(world, tmp_path)
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    locked = content(world.one, f"{IMAGES}/golden.qcow2")

    made = world.cli("clone", "golden", "--count", "3", "--name", "c{n}", "-o", "json")

    assert made.returncode == 0, made.stdout + made.stderr
    methods = [d["method"] for c in json.loads(made.stdout)["result"]["clones"] for d in c["disks"]]
    assert methods == ["overlay"] * 3
    text = xml_of(world, "c2")
    assert 'template="golden" version="1"' in text
    assert text.count("<readonly/>") == 1, "the image for its cloud-init, which was found"
    assert "twinship:guard" not in text
    assert "twinship:sealed" not in text
    listed = json.loads(world.cli("template", "list", "-o", "json").stdout)["items"]
    assert [(one["name"], one["version"], one["children"]) for one in listed] == [
        ("golden", 1, ["c1", "c2", "c3"])
    ]
    held = world.cli("template", "delete", "golden", "--yes")
    assert (held.returncode, code_of(held)) == (5, "BASE_HAS_CHILDREN")
    for name in ("c1", "c2", "c3"):
        assert world.cli("vm", "start", name).returncode == 0
        assert world.cli("vm", "stop", "--force", name).returncode == 0
        assert world.cli("vm", "delete", name, "--disks", "delete", "--yes").returncode == 0
    assert content(world.one, f"{IMAGES}/golden.qcow2") == locked
    assert "<readonly/>" in xml_of(world, "golden")  # without children, too
    gone = world.cli("template", "delete", "golden", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert world.files(world.one) == {"web.qcow2"}


def test_a_new_version_takes_the_name_and_the_old_one_stays(world: World, tmp_path: Path) -> None:
    installed(world, tmp_path)
    first = world.cli("template", "create", "golden", "--from", "web", "--new-version")
    assert (first.returncode, code_of(first)) == (5, "TEMPLATE_NONE")
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    assert world.cli("clone", "golden", "old").returncode == 0
    again = world.cli("template", "create", "golden", "--from", "web")
    assert (again.returncode, code_of(again)) == (5, "TEMPLATE_EXISTS")

    renewed = world.cli("template", "create", "golden", "--from", "web", "--new-version")

    assert renewed.returncode == 0, renewed.stderr
    assert world.cli("clone", "golden", "new").returncode == 0
    assert 'version="2"' in xml_of(world, "new")
    assert 'version="1"' in xml_of(world, "old")
    versions = json.loads(world.cli("template", "show", "golden", "-o", "json").stdout)["items"]
    assert [(v["version"], v["vm"], v["children"]) for v in versions] == [
        (1, "golden-v1", ["old"]),
        (2, "golden", ["new"]),
    ]
    assert world.cli("vm", "start", "old").returncode == 0


def test_a_template_that_was_written_behind_our_back_is_not_cloned(
    world: World, tmp_path: Path
) -> None:
    installed(world, tmp_path)
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    disk = world.one.images / "golden.qcow2"
    assert world.cli("clone", "golden", "good", "--verify").returncode == 0
    times = disk.stat()
    with disk.open("r+b") as opened:
        opened.seek(-4096, 2)
        opened.write(b"x" * 4096)
    os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))

    hidden = world.cli("clone", "golden", "one")
    assert hidden.returncode == 0, "times and length are as they were, and not all is read"
    found = world.cli("clone", "golden", "two", "--verify")
    assert (found.returncode, code_of(found)) == (5, "TEMPLATE_CHANGED")
    disk.touch()
    plain = world.cli("clone", "golden", "two")
    assert (plain.returncode, code_of(plain)) == (5, "TEMPLATE_CHANGED")


def test_a_template_moves_with_its_disks_and_stays_one(world: World, tmp_path: Path) -> None:
    installed(world, tmp_path)
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    moved = world.cli("migrate", "golden", "--to", "lab2")
    assert moved.returncode == 0, moved.stderr
    text = world.two.run(["virsh", "dumpxml", "golden"]).stdout.decode()
    assert "<readonly/>" in text
    listed = json.loads(world.cli("template", "list", "-o", "json").stdout)["items"]
    assert [(one["name"], one["host"]) for one in listed] == [("golden", "lab2")]
    cloned = world.cli("clone", "golden", "c1", "--verify", "--start")
    assert cloned.returncode == 0, cloned.stderr


@pytest.mark.parametrize("title", ["seal the guest", "take the digests", "define the template"])
def test_a_template_cut_off_leaves_nothing(world: World, tmp_path: Path, title: str) -> None:
    installed(world, tmp_path)
    assert world.cli("template", "create", "golden", "--from", "web").returncode == 0
    before = (world.files(world.one), world.vms(world.one), xml_of(world, "golden"))
    request: dict[str, Any] = {"name": "golden", "vm": "web", "new_version": True}

    cut = world.act_at(title, "kill", "template", **request)
    assert cut.returncode == -9, cut.stderr
    world.resume_all()

    assert (world.files(world.one), world.vms(world.one), xml_of(world, "golden")) == before
    world.assert_nothing_left()
