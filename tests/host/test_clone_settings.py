"""What a clone has otherwise than its source, seen by libvirt and QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.world import MIB, Disk, World, code_of

pytestmark = pytest.mark.host

NIC = "<interface type='bridge'><source bridge='br7'/><model type='virtio'/></interface>"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEZha2VLZXlGb3JUZXN0c09ubHlEb05vdFVzZUl0MDA= me@here"


def test_cpus_memory_network_and_first_boot_are_the_clones_own(
    world: World, tmp_path: Path
) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB), extra=NIC)
    key = tmp_path / "id.pub"
    key.write_text(KEY)
    words = ["--vcpus", "2", "--memory", "64MiB", "--network", "0=bridge:br9"]
    words += ["--hostname", "auto", "--ssh-key", str(key)]

    done = world.cli("clone", "web", "Web_2", *words)

    assert done.returncode == 0, done.stderr
    text = world.one.run(["virsh", "dumpxml", "Web_2"]).stdout.decode()
    assert "<vcpu placement='static'>2</vcpu>" in text
    assert "<memory unit='KiB'>65536</memory>" in text
    assert "<source bridge='br9'/>" in text
    argv = world.one.run(["virsh", "domxml-to-native", "qemu-argv", "--domain", "Web_2"])
    assert b"io.systemd.credential" in argv.stdout
    assert b"web-2" in argv.stdout
    source = world.one.run(["virsh", "dumpxml", "web"]).stdout.decode()
    assert "br7" in source
    assert "credential" not in source


def test_a_setting_that_cannot_be_is_refused_before_anything_is_made(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    done = world.cli("clone", "web", "b", "--network", "0=lan", "--hostname", "no name")
    assert (done.returncode, code_of(done)) == (5, "CLONE_SETTING")
    assert world.vms(world.one) == {"web": "shut off"}
    assert world.files(world.one) == {"web.qcow2"}


def test_a_private_key_never_gets_anywhere(world: World, tmp_path: Path) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    done = world.cli("clone", "web", "b", "--ssh-key", str(key))
    assert done.returncode == 2
    assert "private" in done.stderr
    assert world.operations() == ()
