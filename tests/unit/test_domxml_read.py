"""What planning reads from a domain XML."""

from __future__ import annotations

import pytest

from tests.builders import GIB, a_vm
from twinship.domxml import read as domread


def test_an_empty_domain_reads_as_nothing_known() -> None:
    summary = domread.summary("<domain/>")

    assert (summary.name, summary.memory_bytes, summary.vcpus) == ("", 0, 1)
    assert summary.nics == ()
    assert domread.disks("<domain/>") == ()


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("<memory>1048576</memory>", GIB),
        ("<memory unit='GiB'>2</memory>", 2 * GIB),
        ("<memory unit='MB'>5</memory>", 5_000_000),
        ("<memory unit='bytes'>4096</memory>", 4096),
        ("<memory>plenty</memory>", 0),
    ],
)
def test_memory_is_read_in_its_unit(memory: str, size: int) -> None:
    assert domread.summary(f"<domain>{memory}</domain>").memory_bytes == size


def test_disks_are_read_by_their_kind() -> None:
    vm = a_vm().with_disk("vda").with_block_disk().with_network_disk("vdc").with_cdrom()
    file, block, network, cdrom = domread.disks(vm.xml())

    assert (file.source_type, file.format, file.cache) == ("file", "qcow2", "none")
    assert (block.source_type, block.path) == ("block", "/dev/vg/web")
    assert (network.source_type, network.protocol) == ("network", "nbd")
    assert cdrom.empty
    assert cdrom.readonly
    assert [disk.target for disk in (file, block, network, cdrom) if disk.writable_file] == ["vda"]


def test_shared_read_only_and_encrypted_disks_are_told() -> None:
    shared, inside, outside = domread.disks(
        a_vm()
        .with_disk("vda", inside="<shareable/>")
        .with_disk("vdb", inside="<encryption format='luks'/>")
        .with_disk("vdc", inside="<readonly/><transient/>")
        .xml()
    )

    assert shared.shareable
    assert not shared.writable_file
    assert inside.encrypted
    assert outside.transient
    assert not outside.writable_file


def test_interfaces_say_what_they_are_joined_to() -> None:
    vm = (
        a_vm()
        .with_nic(source="default")
        .with_nic(kind="bridge", source="br0")
        .with_nic(kind="direct", source="eth0")
    )

    assert [(nic.kind, nic.source) for nic in vm.summary().nics] == [
        ("network", "default"),
        ("bridge", "br0"),
        ("direct", "eth0"),
    ]


@pytest.mark.parametrize(
    "device",
    [
        "<filesystem type='mount'/>",
        "<shmem name='x' role='peer'/>",
        "<interface type='vhostuser'/>",
        "<interface type='vdpa'/>",
        "<interface type='user'/>",
        "<disk><transient/></disk>",
    ],
)
def test_what_ties_a_vm_to_its_host_is_named(device: str) -> None:
    assert len(a_vm().with_device(device).summary().tied) == 1


def test_passed_through_devices_are_named_by_kind() -> None:
    vm = (
        a_vm()
        .with_device("<hostdev type='pci'/>")
        .with_device("<hostdev type='mdev'/>")
        .with_device("<hostdev type='usb'/>")
        .with_device("<interface type='hostdev'/>")
    )

    assert vm.summary().hostdevs == (
        "PCI device",
        "mediated device",
        "USB device",
        "SR-IOV interface",
    )


def test_nvram_is_read_in_both_spellings() -> None:
    old = a_vm().with_nvram("/nvram/web_VARS.fd").summary()
    new = domread.summary(
        "<domain><os><nvram type='file'><source file='/n.fd'/></nvram></os></domain>"
    )

    assert (old.nvram, new.nvram) == ("/nvram/web_VARS.fd", "/n.fd")


def test_only_ports_that_do_not_float_are_fixed() -> None:
    vm = (
        a_vm()
        .with_device("<graphics type='vnc' port='5905' autoport='no'/>")
        .with_device("<graphics type='vnc' port='5906' autoport='yes'/>")
        .with_device("<graphics type='spice' port='-1'/>")
    )

    assert vm.summary().fixed_ports == (5905,)
