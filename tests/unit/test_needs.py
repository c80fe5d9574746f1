"""What a VM asks of its host, read from its definition; and what a host offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import GIB, a_vm
from twinship.domxml.abilities import abilities, host_model
from twinship.domxml.needs import HostDevice, Screen, cpus, needs

DOMCAPS = """
<domainCapabilities><path>/usr/bin/qemu</path><domain>kvm</domain><machine>pc-q35-7.2</machine>
<arch>x86_64</arch><vcpu max='288'/>
<os supported='yes'><enum name='firmware'><value>efi</value></enum>
<loader supported='yes'><value>/code.fd</value>
<enum name='type'><value>rom</value></enum></loader></os>
<cpu><mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model></mode></cpu>
<devices><video supported='yes'><enum name='modelType'><value>vga</value></enum></video>
<tpm supported='no'/></devices>
<features><sev supported='yes'/><sgx supported='no'/></features></domainCapabilities>
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("3", {3}),
        ("1-4,^3,8", {1, 2, 4, 8}),
        ("0,^0", set()),
        ("junk,1", {1}),
        ("1-,2", {2}),
        ("4-2", set()),
    ],
)
def test_cpu_sets_are_read_as_libvirt_writes_them(text: str, found: set[int]) -> None:
    assert cpus(text) == found


@given(st.sets(st.integers(0, 500)))
def test_any_list_of_cpus_is_read_back(numbers: set[int]) -> None:
    assert cpus(",".join(str(number) for number in sorted(numbers))) == numbers


def test_an_endless_cpu_set_is_no_trouble() -> None:
    assert len(cpus("0-99999999999")) == 16385


def test_huge_pages_are_counted_by_the_cells_that_have_them() -> None:
    vm = (
        a_vm()
        .with_memory(gib=4)
        .with_element(
            "<memoryBacking><hugepages><page size='1' unit='G' nodeset='0'/></hugepages>"
            "</memoryBacking>"
        )
    )
    vm = vm.with_element(
        "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/>"
        "<cell id='1' cpus='1' memory='3' unit='GiB'/></numa></cpu>"
    )

    assert needs(vm.xml()).huge_pages == ((GIB, GIB),)


def test_devices_of_the_host_are_named_by_where_they_are() -> None:
    pci = (
        "<hostdev type='pci'><source><address domain='0x0000' bus='0x3b' slot='0x02'"
        " function='0x1'/></source></hostdev>"
    )
    mdev = "<hostdev type='mdev'><source><address uuid='a-b-c'/></source></hostdev>"
    found = needs(a_vm().with_device(pci).with_device(mdev).xml()).devices

    assert found == (
        HostDevice(kind="pci", words="PCI device", place="0000:3b:02.1"),
        HostDevice(kind="mdev", words="mediated device", place="a-b-c"),
    )


def test_screens_listen_where_the_definition_says() -> None:
    vm = (
        a_vm()
        .with_device("<graphics type='vnc' port='5901' listen='10.0.0.1'/>")
        .with_device("<graphics type='spice' autoport='yes' port='5902'/>")
        .with_device("<graphics type='vnc'><listen type='network' network='a'/></graphics>")
    )

    assert needs(vm.xml()).screens == (
        Screen(kind="vnc", address="10.0.0.1", port=5901),
        Screen(kind="spice", address="", port=0),
        Screen(kind="vnc", address="", port=0),
    )


def test_files_of_the_host_are_logs_sockets_and_memory_but_not_libvirts_own() -> None:
    vm = (
        a_vm()
        .with_device("<serial type='file'><source path='/a/out'/><log file='/a/log'/></serial>")
        .with_device("<serial type='unix'><source mode='bind' path='/a/socket'/></serial>")
        .with_device(
            "<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/x'/>"
            "</channel>"
        )
        .with_device("<memory model='nvdimm'><source><path>/a/nv</path></source></memory>")
        .with_device("<rng><backend model='random'>/dev/urandom</backend></rng>")
    )

    assert needs(vm.xml()).files == ("/a/out", "/a/log", "/a/socket", "/a/nv")


def test_a_host_tells_what_it_offers_and_is_silent_of_the_rest() -> None:
    offered = abilities(DOMCAPS)

    assert offered.max_vcpus == 288
    assert offered.loaders == {"/code.fd"}
    assert offered.firmwares == {"efi"}
    assert offered.protections == {"sev"}
    assert offered.lacks("video", "qxl")
    assert not offered.lacks("video", "vga")
    assert offered.lacks("tpm", "tpm-crb"), "a device that is not supported has no model"
    assert not offered.lacks("rng", "random"), "what the host does not tell of is no lack"


def test_the_hosts_own_model_is_a_cpu_to_compare() -> None:
    assert host_model(DOMCAPS) == '<cpu><model fallback="forbid">EPYC</model></cpu>'
    assert host_model("<domainCapabilities/>") == ""
