"""What a clone has otherwise than its source, seen by libvirt and QEMU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.test_clone_ladder import info
from tests.host.test_networks import network
from tests.host.world import IMAGES, MIB, Disk, World, code_of
from twinship.model.operation import OperationState

pytestmark = pytest.mark.host

__all__ = ["network"]

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


def test_disks_are_made_larger_and_stay_thin(world: World) -> None:
    disks = (Disk(file="web.qcow2", data_bytes=MIB), Disk(file="web.img", format="raw"))
    world.make_vm(world.one, "web", *disks)

    grow = ["--grow", "vda=1GiB", "--grow", "vdb=2GiB"]
    done = world.cli("clone", "web", "b", *grow)

    assert done.returncode == 0, done.stderr
    assert info(world.one, "b-vda.qcow2")["virtual-size"] == 1024 * MIB
    assert info(world.one, "b-vdb.img")["virtual-size"] == 2048 * MIB
    assert info(world.one, "b-vdb.img")["actual-size"] < 64 * MIB
    assert info(world.one, "web.qcow2")["virtual-size"] == 32 * MIB


def test_a_disk_is_not_made_smaller(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    done = world.cli("clone", "web", "b", "--grow", "vda=1MiB")
    assert (done.returncode, code_of(done)) == (5, "DISK_GROW")


def test_a_cloud_init_image_is_the_clones_own_and_goes_with_it(world: World) -> None:
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB))
    words = ["--hostname", "auto", "--first-boot", "cloud-init"]

    assert world.cli("clone", "web", "b", *words).returncode == 0
    assert world.cli("clone", "b", "c", *words).returncode == 0

    assert world.files(world.one) >= {"b-seed.iso", "c-seed.iso"}
    for name in "bc":
        label = world.one.run(["blkid", "-o", "value", "-s", "LABEL", f"{IMAGES}/{name}-seed.iso"])
        assert label.stdout.decode().strip().upper() == "CIDATA"
        assert f"local-hostname: {name}".encode() in _seed(world, name)
        text = world.one.run(["virsh", "dumpxml", name]).stdout.decode()
        assert text.count("-seed.iso'") == 1
    world.one.run(["virsh", "-q", "start", "c"])
    world.one.run(["virsh", "-q", "destroy", "c"])
    assert world.cli("vm", "delete", "c", "--disks", "delete", "--yes").returncode == 0
    assert world.files(world.one) == {"web.qcow2", "b.qcow2", "b-seed.iso"}


def _seed(world: World, name: str) -> bytes:
    data = (world.one.images / f"{name}-seed.iso").read_bytes()
    return data.replace(b'"', b"").replace(b"{", b"\n")


def test_addresses_are_reserved_for_clones_and_given_back(world: World, network: str) -> None:
    nic = f"<interface type='network'><source network='{network}'/></interface>"
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB), extra=nic)
    words = ["--count", "3", "--name", "w{n}", "--mac", "52:54:00:0a:00:00+"]

    done = world.cli("clone", "web", *words, "--ip", "192.0.2.40-192.0.2.50")

    assert done.returncode == 0, done.stderr
    assert leases(world, network) == {
        f"52:54:00:0a:00:0{number}": f"192.0.2.4{number}" for number in range(3)
    }
    again = world.cli("clone", "web", "w9", "--ip", "192.0.2.40-192.0.2.50")
    assert again.returncode == 0, again.stderr
    assert "192.0.2.43" in leases(world, network).values()
    for name in ("w1", "w2", "w3", "w9"):
        assert world.cli("vm", "delete", name, "--disks", "delete", "--yes").returncode == 0
    assert leases(world, network) == {}


def leases(world: World, network: str) -> dict[str, str]:
    """MAC to reserved address."""
    from lxml import etree

    text = world.one.run(["virsh", "net-dumpxml", network]).stdout
    hosts = etree.fromstring(text).findall("ip/dhcp/host")
    return {host.get("mac", ""): host.get("ip", "") for host in hosts}


def test_a_clone_that_fails_gives_its_address_back(world: World, network: str) -> None:
    nic = f"<interface type='network'><source network='{network}'/></interface>"
    world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB), extra=nic)

    world.act_at("define", "kill", "clone", vm="lab1/web", name="b", address="192.0.2.40")

    assert leases(world, network) != {}
    assert world.resume_all() == [OperationState.FAILED]
    assert leases(world, network) == {}
    assert world.files(world.one) == {"web.qcow2"}


TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
SWTPM = "/var/lib/libvirt/swtpm"


def states(world: World) -> dict[str, bytes]:
    """The TPM states of lab1 by their VM's UUID."""
    found = world.one.run(["find", SWTPM, "-name", "*.permall"], check=False).stdout.decode()
    return {path.split("/")[-3]: world.one.run(["cat", path]).stdout for path in found.splitlines()}


@pytest.fixture
def sealed(world: World) -> str:
    """A VM that has run with its TPM; its UUID."""
    world.one.run(["rm", "-rf", SWTPM])
    uuid = world.make_vm(world.one, "web", Disk(file="web.qcow2", data_bytes=MIB), extra=TPM)
    world.one.run(["virsh", "-q", "start", "web"])
    world.one.run(["virsh", "-q", "destroy", "web"])
    assert list(states(world)) == [uuid]
    return uuid


def test_what_becomes_of_a_tpm_has_to_be_said(world: World, sealed: str) -> None:
    done = world.cli("clone", "web", "b")
    assert (done.returncode, code_of(done)) == (5, "TPM_STATE")


@pytest.mark.parametrize("way", ["copy", "fresh"])
def test_a_tpm_is_copied_or_fresh_as_asked(world: World, sealed: str, way: str) -> None:
    done = world.cli("clone", "web", "b", "--tpm", way, "-o", "json")

    assert done.returncode == 0, done.stderr
    uuid = json.loads(done.stdout)["result"]["clones"][0]["uuid"]
    before = states(world)
    assert (before.get(uuid) == before[sealed]) == (way == "copy")
    world.one.run(["virsh", "-q", "start", "b"])
    world.one.run(["virsh", "-q", "destroy", "b"])
    after = states(world)
    assert after[sealed] == before[sealed]
    assert uuid in after
    assert world.cli("vm", "delete", "b", "--disks", "delete", "--yes").returncode == 0
    assert list(states(world)) == [sealed]


def test_a_copied_tpm_goes_when_its_clone_fails(world: World, sealed: str) -> None:
    world.act_at("define", "kill", "clone", vm="lab1/web", name="b", tpm_way="copy")

    assert world.resume_all() == [OperationState.FAILED]
    assert list(states(world)) == [sealed]
    assert world.one.run(["ls", SWTPM]).stdout.decode().split() == [sealed]
    assert world.pools(world.one) == {"default"}
