"""Settings of a clone in its definition: what changes, what stays, what is refused and why."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.builders import GIB, VmBuilder, a_vm
from twinship.domxml.attachments import MOST_OEM_BYTES, with_oem_strings, with_seed
from twinship.domxml.document import parse
from twinship.domxml.read import disks, summary
from twinship.domxml.settings import MIB, Join, NicChoice, with_memory, with_nic, with_vcpus
from twinship.model.errors import UsageError

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
SEED = "/images/web-seed.iso"
SERIAL = "<sysinfo type='smbios'><system><entry name='serial'>x1</entry></system></sysinfo>"
MODE = "<smbios mode='{}'/>"


@functools.cache
def schema() -> etree.RelaxNG | None:
    """libvirt's own, where it is installed."""
    return etree.RelaxNG(etree.parse(SCHEMA)) if SCHEMA.exists() else None


def assert_valid(text: str) -> None:
    rules = schema()
    if rules is not None and not rules.validate(parse(text)):
        raise AssertionError(str(rules.error_log.last_error))


def with_cpu(inside: str) -> VmBuilder:
    return a_vm().with_element(f"<cpu mode='host-model'>{inside}</cpu>")


def topology(sockets: int, cores: int, threads: int) -> VmBuilder:
    return with_cpu(f"<topology sockets='{sockets}' cores='{cores}' threads='{threads}'/>")


def cells(*memory_gib: int) -> VmBuilder:
    inside = "".join(
        f"<cell id='{n}' cpus='{n}' memory='{gib}' unit='GiB'/>" for n, gib in enumerate(memory_gib)
    )
    return with_cpu(f"<numa>{inside}</numa>")


def with_os(vm: VmBuilder, inside: str) -> str:
    return vm.xml().replace("</os>", f"{inside}</os>")


def refused(edit: Callable[[], object], code: str) -> str:
    with pytest.raises(UsageError) as error:
        edit()
    assert error.value.code == code
    return error.value.message


def test_all_vcpus_are_online_whatever_was_offline_before() -> None:
    source = (
        a_vm().xml().replace("<vcpu>2</vcpu>", "<vcpu placement='static' current='1'>2</vcpu>"
        "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/></vcpus>")
    )  # fmt: skip

    made = with_vcpus(source, 6)

    assert_valid(made)
    vcpu = parse(made).find("vcpu")
    assert vcpu is not None
    assert (vcpu.text, vcpu.items()) == ("6", [("placement", "static")])
    assert parse(made).find("vcpus") is None


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ((1, 2, 1), 8, (1, 8, 1)),
        ((1, 4, 2), 2, (1, 1, 2)),
        ((2, 1, 1), 8, (8, 1, 1)),
        ((2, 4, 2), 24, (3, 4, 2)),
    ],
)
def test_a_topology_keeps_its_shape(
    before: tuple[int, int, int], count: int, after: tuple[int, int, int]
) -> None:
    made = with_vcpus(topology(*before).xml(), count)

    assert_valid(made)
    found = parse(made).find("cpu/topology")
    assert found is not None
    assert tuple(int(found.get(key, "")) for key in ("sockets", "cores", "threads")) == after


@pytest.mark.parametrize(("before", "count"), [((1, 2, 2), 3), ((2, 4, 1), 6), ((1, 4, 2), 1)])
def test_a_number_that_fits_no_topology_is_refused(
    before: tuple[int, int, int], count: int
) -> None:
    why = refused(lambda: with_vcpus(topology(*before).xml(), count), "VCPUS_REFUSED")
    assert "topology" in why


PINNED = "<cputune><vcpupin vcpu='3' cpuset='8'/></cputune>"
SCHEDULED = "<cputune><vcpusched vcpus='0-5,^5' scheduler='fifo' priority='1'/></cputune>"


@pytest.mark.parametrize(("tune", "last"), [(PINNED, 3), (SCHEDULED, 4)])
def test_a_pinned_vcpu_cannot_go(tune: str, last: int) -> None:
    source = a_vm().with_element(tune).xml()

    assert_valid(with_vcpus(source, last + 1))
    assert f"names vCPU {last}" in refused(lambda: with_vcpus(source, last), "VCPUS_REFUSED")


@pytest.mark.parametrize("count", [0, -1, 65536])
def test_no_vm_has_such_a_number_of_vcpus(count: int) -> None:
    refused(lambda: with_vcpus(a_vm().xml(), count), "VCPUS_REFUSED")


def test_one_numa_cell_takes_all_several_are_not_divided_anew() -> None:
    made = with_memory(with_vcpus(cells(1).xml(), 4), 3 * GIB)

    assert_valid(made)
    cell = parse(made).find("cpu/numa/cell")
    assert cell is not None
    assert (cell.get("cpus"), cell.get("memory"), cell.get("unit")) == ("0-3", "3145728", "KiB")
    two = cells(1, 1).xml()
    assert "2 NUMA cells" in refused(lambda: with_vcpus(two, 4), "VCPUS_REFUSED")
    assert "2 NUMA cells" in refused(lambda: with_memory(two, GIB), "MEMORY_REFUSED")


def test_memory_is_rounded_up_to_mib_and_all_given_to_the_guest() -> None:
    source = a_vm().with_element("<currentMemory unit='MiB'>256</currentMemory>").xml()

    made = with_memory(source, 100 * MIB + 1)

    assert_valid(made)
    assert summary(made).memory_bytes == 101 * MIB
    assert parse(made).findtext("currentMemory") == str(101 * 1024)


DIMM = "<memory model='dimm'><target><size unit='MiB'>512</size><node>0</node></target></memory>"
HUGE = "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>"


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (a_vm().with_device(DIMM), "memory devices"),
        (a_vm().with_element("<maxMemory slots='4' unit='GB'>2</maxMemory>"), "1907 MiB"),
        (a_vm().with_element("<memtune><hard_limit>1048576</hard_limit></memtune>"), "hard limit"),
        (a_vm().with_element(HUGE), "huge pages of 1024 MiB"),
    ],
)
def test_memory_that_would_contradict_the_rest_is_refused(vm: VmBuilder, why: str) -> None:
    assert why in refused(lambda: with_memory(vm.xml(), 2 * GIB + 512 * MIB), "MEMORY_REFUSED")


def test_whole_huge_pages_are_taken() -> None:
    plain = "<memoryBacking><hugepages/></memoryBacking>"
    for backing, length in ((HUGE, 3 * GIB), (plain, 6 * MIB)):
        made = with_memory(a_vm().with_element(backing).xml(), length)
        assert_valid(made)
        assert summary(made).memory_bytes == length
    refused(lambda: with_memory(a_vm().with_element(plain).xml(), 5 * MIB), "MEMORY_REFUSED")


@pytest.mark.parametrize("length", [0, -1])
def test_no_memory_at_all_is_refused(length: int) -> None:
    refused(lambda: with_memory(a_vm().xml(), length), "MEMORY_REFUSED")


OVS = (
    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='ovs0'/>"
    "<vlan><tag id='42'/></vlan><virtualport type='openvswitch'/><boot order='1'/></interface>"
)
SLIRP = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/>"
    "<ip address='10.9.0.2' family='ipv4' prefix='24'/><model type='e1000'/></interface>"
)


def test_only_the_chosen_nic_is_joined_elsewhere_and_keeps_its_mac() -> None:
    source = a_vm().with_nic().with_nic(mac="52:54:00:00:00:02").xml()

    made = with_nic(source, NicChoice(index=1, join=Join.BRIDGE, name="br0"))

    assert_valid(made)
    before, after = summary(source).nics, summary(made).nics
    assert after[0] == before[0]
    assert (after[1].kind, after[1].source, after[1].mac) == ("bridge", "br0", "52:54:00:00:00:02")


def test_what_belonged_to_the_old_port_goes_and_the_guests_side_stays() -> None:
    source = a_vm().with_device(SLIRP).xml()

    made = with_nic(source, NicChoice(index=0, join=Join.NETWORK, name="lab"))

    assert_valid(made)
    nic = parse(made).find("devices/interface")
    assert nic is not None
    assert [child.tag for child in nic] == ["source", "mac", "model"]


def test_from_bridge_to_bridge_the_switch_is_of_the_same_kind() -> None:
    source = a_vm().with_device(OVS).xml()

    made = with_nic(source, NicChoice(index=0, join=Join.BRIDGE, name="ovs1"))

    assert_valid(made)
    assert parse(made).find("devices/interface/vlan") is not None
    choice = NicChoice(index=0, join=Join.NETWORK, name="default")
    assert "VLAN" in refused(lambda: with_nic(source, choice), "NIC_REFUSED")


@pytest.mark.parametrize("kind", ["hostdev", "vhostuser", "vdpa"])
def test_a_device_of_the_host_is_no_plain_nic(kind: str) -> None:
    source = a_vm().with_device(f"<interface type='{kind}'/>").xml()
    choice = NicChoice(index=0, join=Join.NETWORK, name="default")
    refused(lambda: with_nic(source, choice), "NIC_REFUSED")


@pytest.mark.parametrize(
    ("index", "join", "name"),
    [
        *((1, Join.NETWORK, "default"), (-1, Join.NETWORK, "default"), (0, Join.NETWORK, "")),
        *((0, Join.NETWORK, "a/b"), (0, Join.BRIDGE, "br 0"), (0, Join.BRIDGE, "b" * 16)),
    ],
)
def test_a_nic_or_a_name_that_cannot_be_is_refused(index: int, join: Join, name: str) -> None:
    choice = NicChoice(index=index, join=join, name=name)
    refused(lambda: with_nic(a_vm().with_nic().xml(), choice), "NIC_REFUSED")


def oem(text: str) -> list[str]:
    return [entry.text or "" for entry in parse(text).iterfind("sysinfo/oemStrings/entry")]


def test_oem_strings_are_added_to_those_that_are_there_and_shown() -> None:
    made = with_oem_strings(a_vm().with_element(SERIAL).xml(), ["a=1", "b, with <&> = 2"])
    again = with_oem_strings(made, ["c"])

    assert_valid(again)
    assert oem(again) == ["a=1", "b, with <&> = 2", "c"]
    assert parse(again).findtext("sysinfo/system/entry") == "x1"
    mode = parse(again).find("os/smbios")
    assert mode is not None
    assert mode.get("mode") == "sysinfo"


def test_a_clone_of_a_clone_does_not_keep_its_parents_credential() -> None:
    name = "ssh.authorized_keys.root"
    made = with_oem_strings(a_vm().xml(), [f"io.systemd.credential:{name}=old", "mine", "x=1"])

    made = with_oem_strings(made, [f"io.systemd.credential.binary:{name}=bmV3"])

    assert oem(made) == ["mine", "x=1", f"io.systemd.credential.binary:{name}=bmV3"]


@pytest.mark.parametrize(
    ("source", "entry", "why"),
    [
        (with_os(a_vm(), MODE.format("host")), "a=1", "host's"),
        (with_os(a_vm().with_element(SERIAL), MODE.format("emulate")), "a=1", "does not show"),
        (a_vm().xml().replace("x86_64", "s390x"), "a=1", "no SMBIOS"),
        (a_vm().xml(), "", "empty"),
        (a_vm().xml(), "a=\n", "control"),
        (a_vm().xml(), "x" * MOST_OEM_BYTES, "there is room"),
    ],
)
def test_oem_strings_that_no_guest_would_see_are_refused(source: str, entry: str, why: str) -> None:
    assert why in refused(lambda: with_oem_strings(source, [entry]), "OEM_STRINGS_REFUSED")


def test_no_oem_strings_change_nothing() -> None:
    assert with_oem_strings(a_vm().xml(), []) == a_vm().xml()


def on(machine: str) -> VmBuilder:
    class Other(VmBuilder):
        def xml(self) -> str:
            return super().xml().replace("pc-q35-7.2", machine)

    return Other(name="web")


SCSI = "<controller type='scsi' index='0' model='virtio-scsi'/>"
FULL_IDE = "".join(
    f"<disk type='file' device='cdrom'><target dev='hd{letter}' bus='ide'/></disk>"
    for letter in "abcd"
)
AT_UNIT_0 = (
    "<disk type='file' device='cdrom'><target dev='sdc' bus='sata'/>"
    "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
)


@pytest.mark.parametrize(
    ("vm", "target", "bus"),
    [
        (a_vm(), "sda", "sata"),
        (a_vm().with_cdrom(), "sdb", "sata"),
        (a_vm().with_device(AT_UNIT_0), "sda", "sata"),
        (on("pc-i440fx-7.2"), "hda", "ide"),
        (on("pc"), "hda", "ide"),
        (on("pc").with_device(FULL_IDE), "vda", "virtio"),
        (on("pc").with_device(FULL_IDE + SCSI), "sda", "scsi"),
        (on("microvm").with_disk("vda"), "vdb", "virtio"),
    ],
)
def test_a_seed_takes_a_drive_that_is_free(vm: VmBuilder, target: str, bus: str) -> None:
    made, told = with_seed(vm.xml(), SEED)

    assert_valid(made)
    assert told == target
    seed = disks(made)[-1]
    assert (seed.target, seed.bus, seed.path, seed.readonly) == (target, bus, SEED, True)
    assert len(disks(made)) == len(disks(vm.xml())) + 1


def test_seed_after_seed_never_shares_a_place() -> None:
    made = on("pc").with_device(SCSI).xml()
    for _ in range(40):
        made, _ = with_seed(made, SEED)

    assert_valid(made)
    found = disks(made)
    assert len({disk.target for disk in found}) == 40
    places = [
        (target.get("bus"), *address.attrib.values())
        for disk in parse(made).iterfind("devices/disk")
        if (address := disk.find("address")) is not None
        and (target := disk.find("target")) is not None
    ]
    assert len(set(places)) == len(places) == 4 + 7


@given(
    st.integers(1, 300),
    st.integers(1, 2**42),
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"),
                          exclude_characters="/\ufffe\uffff"), min_size=1, max_size=15),
    st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs"),
                                   exclude_characters="\ufffe\uffff"), min_size=1), max_size=4),
    st.sampled_from(list(Join)),
)  # fmt: skip
def test_any_settings_together_make_a_definition_that_libvirts_schema_takes(
    vcpus: int, memory: int, name: str, entries: list[str], join: Join
) -> None:
    source = a_vm().with_disk().with_cdrom().with_nic().with_element(SERIAL).xml()

    made = with_memory(with_vcpus(source, vcpus), memory)
    made = with_oem_strings(made, entries)
    name = name if join is Join.NETWORK else "br0"
    made = with_nic(made, NicChoice(index=0, join=join, name=name))
    made, _ = with_seed(made, SEED)

    assert_valid(made)
    told = summary(made)
    assert told.vcpus == vcpus
    assert memory <= told.memory_bytes < memory + MIB
    assert told.nics[0].source == name
    assert oem(made)[-len(entries) :] == entries or not entries
    # What no setting is about has stayed.
    assert disks(made)[:2] == disks(source)
    assert (told.uuid, told.machine) == (summary(source).uuid, summary(source).machine)
