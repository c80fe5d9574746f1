"""--fix and --map: what a rewrite of the definition can mend is mended, and shown before."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from tests.host.broken import (
    bridge_on,
    network_on,
    nic,
    screen,
    source_bridge,
    source_emulator,
)
from tests.host.world import Disk, World

pytestmark = pytest.mark.host
MOVE = ("migrate", "web", "--to", "lab2")


def plan(world: World, *words: str) -> dict[str, object]:
    done = world.cli(*MOVE, "--dry-run", "-o", "json", *words)
    found: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (0 if found["feasible"] else 5), done.stderr
    return found


def moved(world: World, *words: str) -> str:
    """Moves the running VM; its definition on the target, as it runs."""
    done = world.cli(*MOVE, *words)
    assert done.returncode == 0, done.stderr
    assert world.vms(world.one) == {}
    assert world.vms(world.two) == {"web": "running"}
    return world.two.run(["virsh", "dumpxml", "web"]).stdout.decode()


def test_another_path_of_qemu_and_a_port_of_the_sources_own_are_mended(world: World) -> None:
    with ExitStack() as mess:
        mess.enter_context(source_emulator(world))
        mess.callback(world.clean_vms)
        emulator = "<emulator>/usr/local/bin/qemu-kvm</emulator>"
        extra = emulator + screen(5935, world.one.address)
        world.make_vm(world.one, "web", Disk(file="web.qcow2"), extra=extra, start=True)

        blocked, mended = plan(world), plan(world, "--fix")
        assert not blocked["feasible"]
        assert mended["feasible"]
        assert "+    <emulator>/usr/bin/qemu-system-x86_64</emulator>" in str(mended["diff"])
        text = moved(world, "--fix")

        assert "<emulator>/usr/bin/qemu-system-x86_64</emulator>" in text
        assert "address='127.0.0.1'" in text
        assert "autoport='yes'" in text
        lasting = world.two.run(["virsh", "dumpxml", "--inactive", "web"]).stdout.decode()
        assert "/usr/local/bin/qemu-kvm" not in lasting


def test_a_bridge_of_another_name_is_mapped(world: World) -> None:
    with ExitStack() as mess:
        mess.enter_context(source_bridge(world))
        world.two.run(["ip", "link", "add", "br8", "type", "bridge"])
        mess.callback(world.two.run, ["ip", "link", "del", "br8"])
        mess.callback(world.clean_vms)
        extra = nic("bridge", "br7")
        world.make_vm(world.one, "web", Disk(file="web.qcow2"), extra=extra, start=True)

        assert not plan(world)["feasible"]
        assert not plan(world, "--map", "br7=br9")["feasible"], "which is not there either"
        text = moved(world, "--map", "br7=br8")

        assert "bridge='br8'" in text


def test_a_bridge_becomes_the_only_network_there_is(world: World) -> None:
    with ExitStack() as mess:
        mess.enter_context(bridge_on(world.one, world.two))
        mess.enter_context(network_on(world.two, "blue"))
        world.one.run(["ip", "link", "add", "br8", "type", "bridge"])
        mess.callback(world.one.run, ["ip", "link", "del", "br8"])
        mess.callback(world.clean_vms)
        extra = nic("bridge", "br8")
        world.make_vm(world.one, "web", Disk(file="web.qcow2"), extra=extra, start=True)

        text = moved(world, "--fix")

        assert "network='blue'" in text


def test_of_several_targets_the_best_is_taken_and_a_dry_run_ranks_them(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))

    shown = world.cli("migrate", "web", "--to", "lab1,lab2", "--dry-run")
    found = json.loads(
        world.cli("migrate", "web", "--to", "lab1,lab2", "--dry-run", "-o", "json").stdout
    )
    done = world.cli("migrate", "web", "--to", "lab1,lab2")

    assert shown.returncode == 0
    assert "on lab1 already" in shown.stdout
    assert [item["host"] for item in found["items"]] == ["lab2", "lab1"]
    assert done.returncode == 0, done.stderr
    assert world.vms(world.two) == {"web": "shut off"}


def test_a_vm_that_can_move_nowhere_says_why_of_each(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2"))
    world.make_vm(world.two, "web", start=False)

    done = world.cli("migrate", "lab1/web", "--to", "lab1,lab2")

    assert done.returncode == 5
    assert "NO_TARGET" in done.stderr
    assert "lab1: " in done.stderr
    assert "lab2: " in done.stderr


@pytest.mark.parametrize("words", [("--map", "br0"), ("--map", "=x"), ("--to", ",")])
def test_what_cannot_be_meant_is_a_usage_error(world: World, words: tuple[str, ...]) -> None:
    done = world.cli("migrate", "web", "--to", "lab2", *words)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
