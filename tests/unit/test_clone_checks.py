"""Every check of a clone: one case where it is silent, one where it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.builders import (
    GIB,
    IMAGES,
    WEB_UUID,
    HostBuilder,
    VmBuilder,
    a_clone_of,
    a_host,
    a_usual_host,
    a_vm,
    clone_request,
    new_ids,
)
from twinship.clone.checks import TABLE
from twinship.clone.facts import CloneFacts
from twinship.clone.plan import plan_clone
from twinship.domxml.resources import Owner, resources
from twinship.model.plan import Finding, Severity
from twinship.model.request import CloneMode, CloneRequest, DiskChoice, DiskWay, StateWay
from twinship.model.vm import SnapshotFacts, VmState

BLOCK, WARN, INFO = Severity.BLOCK, Severity.WARN, Severity.INFO
WEB = a_vm("web").with_disk().with_nic()
VG = a_usual_host().with_pool("vg", path="/dev/vg", type="logical")
TPM = WEB.with_device("<tpm><backend type='emulator' version='2.0'/></tpm>")
AGENT = WEB.running().having(agent_connected=True)
USUAL = clone_request()


@dataclass(frozen=True)
class Speaks:
    """Facts and request a check has something to say about, how badly, and a word of it."""

    severity: Severity
    word: str
    vm: VmBuilder = WEB
    host: HostBuilder | None = None
    request: CloneRequest = USUAL
    silent_vm: VmBuilder = WEB
    silent_request: CloneRequest = USUAL
    also: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> CloneFacts:
        return a_clone_of(self.vm, on=self.host, **self.also)


def disk_request(target: str, way: DiskWay = DiskWay.AUTO, path: str = "") -> CloneRequest:
    return clone_request(disks=(DiskChoice(target=target, way=way, path=path),))


def a_snapshot(**disks: str) -> SnapshotFacts:
    return SnapshotFacts(name="before", running=False, disks=disks, xml="<domain/>")


_SERIAL = "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='4555'/></serial>"
_ARGUMENTS = (
    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
    "<q:arg value='-snapshot'/></q:commandline>"
)


def an_owner(vm: VmBuilder) -> Owner:
    return Owner(host="kvm01", name=vm.name, uuid="another", holds=resources(vm.xml()))


CASES: dict[str, tuple[Speaks, ...]] = {
    "CLONE_NAME_INVALID": (
        Speaks(BLOCK, "slash", request=clone_request(name="a/b")),
        Speaks(BLOCK, "longer", request=clone_request(name="x" * 201)),
    ),
    "CLONE_NAME_TAKEN": (
        Speaks(
            BLOCK,
            "'web' is already",
            request=clone_request(name="web"),
            silent_request=clone_request(name="web-2"),
        ),
    ),
    "CLONE_UUID_TAKEN": (
        Speaks(
            BLOCK,
            WEB_UUID,
            request=clone_request(uuid=WEB_UUID),
            silent_request=clone_request(uuid="12345678-2222-4333-8444-555555555555"),
        ),
        Speaks(BLOCK, WEB_UUID, request=clone_request(uuid=WEB_UUID.replace("-", "").upper())),
    ),
    "CLONE_UUID_INVALID": (
        Speaks(BLOCK, "'../../etc' is no UUID", request=clone_request(uuid="../../etc")),
        Speaks(BLOCK, "'web' is no UUID", request=clone_request(uuid="web")),
    ),
    "CLONE_MAC_COUNT": (
        Speaks(
            BLOCK,
            "2 MAC addresses",
            request=clone_request(macs=("52:54:00:00:00:08", "52:54:00:00:00:09")),
            silent_request=clone_request(macs=("52:54:00:00:00:09",)),
        ),
    ),
    "CLONE_MAC_TAKEN": (
        Speaks(
            BLOCK,
            "52:54:00:00:00:01",
            request=clone_request(macs=("52:54:00:00:00:01",)),
            silent_request=clone_request(macs=("52:54:00:00:00:09",)),
        ),
        Speaks(
            BLOCK,
            "given twice",
            vm=WEB.with_nic(mac="52:54:00:00:00:02"),
            request=clone_request(macs=("52:54:00:00:0a:08", "52:54:00:00:0A:08")),
        ),
    ),
    "VM_NOT_SHUT_OFF": tuple(
        Speaks(BLOCK, state.value.replace("_", " "), vm=WEB.in_state(state))
        for state in VmState
        if state not in (VmState.SHUT_OFF, VmState.RUNNING, VmState.PAUSED)
    ),
    "VM_BUSY": (Speaks(BLOCK, "backup", vm=WEB.running().having(job="backup"), silent_vm=AGENT),),
    "TEMPLATE_CHANGED": (
        Speaks(BLOCK, "was written to", also={"template_changes": ("/a: it was written to",)}),
    ),
    "VM_LIVE_DIFFERS": (
        Speaks(
            BLOCK,
            "vdb",
            vm=AGENT.having(inactive_xml=WEB.with_disk("vdb").xml()),
            silent_vm=AGENT,
        ),
    ),
    "CLONE_LINKED_RUNNING": (
        Speaks(
            BLOCK,
            "running",
            vm=AGENT,
            request=clone_request(mode=CloneMode.LINKED),
            silent_request=clone_request(mode=CloneMode.LINKED),
        ),
    ),
    "GUEST_NOT_FROZEN": (Speaks(WARN, "power cut", vm=WEB.running(), silent_vm=AGENT),),
    "SNAPSHOT_DISKS": (
        Speaks(BLOCK, "does not hold disk vda", also={"snapshot": a_snapshot()}),
        Speaks(BLOCK, "not what it was", also={"snapshot": a_snapshot(vda="external")}),
        Speaks(
            BLOCK,
            "no snapshot is inside",
            vm=a_vm("web").with_disk(format="raw"),
            also={"snapshot": a_snapshot(vda="internal")},
        ),
    ),
    "SNAPSHOT_INTERNAL": (
        Speaks(
            BLOCK,
            "no overlay",
            request=clone_request(mode=CloneMode.LINKED),
            also={"snapshot": a_snapshot(vda="internal")},
        ),
        Speaks(
            BLOCK,
            "its snapshot needs",
            vm=a_vm().with_disk(backing=(f"{IMAGES}/base.qcow2",)),
            request=clone_request(mode=CloneMode.FULL),
            also={"snapshot": a_snapshot(vda="internal")},
        ),
    ),
    "SNAPSHOT_OF_RUNNING": (
        Speaks(
            WARN, "power cut", also={"snapshot": replace(a_snapshot(vda="internal"), running=True)}
        ),
    ),
    "VM_MANAGED_SAVE": (Speaks(WARN, "saved memory", vm=WEB.having(managed_save=True)),),
    "VM_SNAPSHOTS": (Speaks(INFO, "3 snapshots", vm=WEB.having(snapshots=3)),),
    "DISK_UNREADABLE": (
        Speaks(
            BLOCK,
            "/etc/shadow",
            vm=a_vm().with_disk(
                backing=("/etc/shadow",),
                problem="/etc/shadow lies in no storage pool",
                problem_code="BACKING_OUTSIDE_POOLS",
            ),
            silent_vm=a_vm().with_disk(backing=(f"{IMAGES}/base.qcow2",)),
        ),
    ),
    "DISK_NOT_A_FILE": (
        Speaks(BLOCK, "no file or device", vm=a_vm().with_volume_disk()),
        Speaks(
            BLOCK,
            "passed through",
            vm=a_vm().with_block_disk(device="lun"),
            silent_vm=a_vm().with_block_disk(pool="images"),
        ),
        Speaks(BLOCK, "nbd storage", vm=a_vm().with_network_disk(), silent_vm=a_vm().with_cdrom()),
    ),
    "DISK_ON_DEVICE": (
        Speaks(BLOCK, "running", vm=a_vm().with_block_disk().running()),
        Speaks(
            BLOCK,
            "linked clone",
            vm=a_vm().with_block_disk(),
            request=clone_request(mode=CloneMode.LINKED),
        ),
        Speaks(BLOCK, "holds qcow2", vm=a_vm().with_block_disk(format="qcow2")),
        Speaks(
            BLOCK,
            "cannot be compared",
            vm=a_vm().with_block_disk(),
            request=clone_request(verify=True),
            silent_vm=a_vm().with_block_disk(pool="vg"),
        ),
    ),
    "DISK_TO_DEVICE": (
        Speaks(
            BLOCK,
            "in no storage pool",
            vm=a_vm().with_block_disk(),
            silent_request=clone_request(pool="images"),
        ),
        Speaks(
            BLOCK,
            "are raw",
            host=VG,
            request=clone_request(pool="vg"),
        ),
        Speaks(
            BLOCK,
            "no overlay",
            vm=a_vm().with_disk(format="raw"),
            host=VG,
            request=clone_request(pool="vg", mode=CloneMode.LINKED),
        ),
    ),
    "DISK_FORMAT": (
        Speaks(
            BLOCK,
            "vmdk",
            vm=a_vm().with_disk(format="vmdk"),
            silent_vm=a_vm().with_disk(format="raw"),
        ),
    ),
    "DISK_ENCRYPTED": (
        Speaks(BLOCK, "encrypted", vm=a_vm().with_disk(header={"encrypted": True})),
        Speaks(BLOCK, "encrypted", vm=a_vm().with_disk(inside="<encryption format='luks'/>")),
    ),
    "DISK_SHARED": (Speaks(WARN, "shareable", vm=a_vm().with_disk(inside="<shareable/>")),),
    "DISK_SHARED_WRITABLE": (
        Speaks(WARN, "never run both", request=disk_request("vda", DiskWay.SHARE)),
    ),
    "DISK_CHOICE": (
        Speaks(BLOCK, "no disk 'vdz'", request=disk_request("vdz", DiskWay.DROP)),
        Speaks(BLOCK, "which file", request=disk_request("vda", DiskWay.KEEP)),
        Speaks(
            BLOCK,
            "named twice",
            request=clone_request(disks=(DiskChoice(target="vda"), DiskChoice(target="vda"))),
            silent_request=disk_request("vda", DiskWay.COPY),
        ),
    ),
    "DISK_PATH": (
        Speaks(BLOCK, "no absolute path", request=disk_request("vda", DiskWay.COPY, "a.img")),
        Speaks(BLOCK, "no absolute path", request=disk_request("vda", path=f"{IMAGES}/../b")),
        Speaks(BLOCK, "no active storage pool", request=disk_request("vda", path="/etc/shadow")),
        Speaks(BLOCK, "not there", request=disk_request("vda", DiskWay.KEEP, f"{IMAGES}/k")),
        Speaks(
            BLOCK,
            "already there",
            request=disk_request("vda", path=f"{IMAGES}/k"),
            also={"there": frozenset({f"{IMAGES}/k"})},
        ),
        Speaks(
            BLOCK,
            "the source's own",
            request=disk_request("vda", DiskWay.KEEP, f"{IMAGES}/web-vda.qcow2"),
            also={"there": frozenset({f"{IMAGES}/web-vda.qcow2"})},
        ),
        Speaks(
            BLOCK,
            "two disks would go",
            vm=a_vm("web").with_disk("vda").with_disk("vdb"),
            request=clone_request(
                disks=(
                    DiskChoice(target="vda", path=f"{IMAGES}/n"),
                    DiskChoice(target="vdb", path=f"{IMAGES}/n"),
                )
            ),
            silent_request=disk_request("vda", path=f"{IMAGES}/n"),
        ),
    ),
    "CLONE_SETTING": (
        Speaks(BLOCK, "no hostname", request=clone_request(hostname="a b")),
        Speaks(
            BLOCK,
            "none is number 8",
            request=clone_request(nics=((7, "network", "lan"),)),
            silent_request=clone_request(vcpus=2, hostname="auto"),
        ),
    ),
    "CLONE_LINKED": (
        Speaks(
            BLOCK,
            "on the host of its base",
            request=clone_request(mode=CloneMode.LINKED),
            also={"across": True, "address": "10.0.0.2"},
            silent_request=clone_request(mode=CloneMode.LINKED),
        ),
    ),
    "TARGET_ADDRESS": (Speaks(BLOCK, "no address of kvm01", also={"across": True}),),
    "STORAGE_POOL_MISSING": (
        Speaks(BLOCK, "no storage pool 'images'", host=a_host().with_pool("other", path="/other")),
        Speaks(BLOCK, "no storage pool 'fast'", request=clone_request(pool="fast")),
        Speaks(BLOCK, "not active", host=a_host().with_pool(active=False)),
        Speaks(BLOCK, "type iscsi", host=a_host().with_pool(type="iscsi")),
    ),
    "CLONE_NETWORK": (
        Speaks(WARN, "no network 'default'", host=a_host().with_pool()),
        Speaks(WARN, "not started", host=a_host().with_pool().with_network(active=False)),
        Speaks(WARN, "'lan'", request=clone_request(nics=((0, "network", "lan"),))),
    ),
    "CLONE_MEMORY": (
        Speaks(
            WARN,
            "65 GiB of memory",
            request=clone_request(memory_bytes=65 * GIB),
            silent_request=clone_request(memory_bytes=64 * GIB),
        ),
    ),
    "STORAGE_FULL": (
        Speaks(
            BLOCK,
            "3.0 GiB",
            vm=a_vm().with_disk("vda", used_gib=1).with_disk("vdb", used_gib=2),
            host=a_host().with_pool(free_gib=2.9),
            silent_vm=a_vm().with_disk("vda", used_gib=1),
        ),
    ),
    "TPM_STATE": (
        Speaks(BLOCK, "TPM", vm=TPM),
        Speaks(
            BLOCK,
            "in use",
            vm=TPM.running(),
            request=clone_request(tpm_way=StateWay.COPY),
            silent_vm=TPM,
            silent_request=clone_request(tpm_way=StateWay.COPY),
        ),
        Speaks(
            BLOCK,
            "not where libvirt keeps it",
            vm=WEB.with_device("<tpm><backend type='emulator'><source path='/t'/></backend></tpm>"),
            request=clone_request(tpm_way=StateWay.COPY),
        ),
        Speaks(
            BLOCK,
            "host itself",
            vm=WEB.with_device("<tpm><backend type='passthrough'/></tpm>"),
            request=clone_request(tpm_way=StateWay.COPY),
            silent_vm=TPM,
            silent_request=clone_request(tpm_way=StateWay.FRESH),
        ),
    ),
    "NVRAM_STATE": (
        Speaks(
            BLOCK,
            "NVRAM",
            vm=WEB.with_nvram("/nvram/web_VARS.fd"),
            request=clone_request(nvram_way=StateWay.REFUSE),
            silent_vm=WEB.with_nvram("/nvram/web_VARS.fd"),
        ),
    ),
    "CLONE_ADDRESS": (
        Speaks(BLOCK, "no libvirt network", request=clone_request(address="192.0.2.9")),
        Speaks(
            BLOCK,
            "taken",
            request=clone_request(address="192.0.2.9"),
            also={"network": "lan", "addresses": frozenset({"192.0.2.9"})},
        ),
    ),
    "DISK_GROW": (
        Speaks(BLOCK, "no disk 'vdz'", request=clone_request(grow=(("vdz", 2**40),))),
        Speaks(
            BLOCK,
            "more than",
            request=clone_request(grow=(("vda", 1),)),
            silent_request=clone_request(grow=(("vda", 2**40),)),
        ),
    ),
    "CLONE_COLLISION": (
        Speaks(
            WARN,
            "TCP port 4555",
            vm=WEB.with_device(_SERIAL),
            also={"held": (an_owner(WEB.with_device(_SERIAL)),)},
        ),
        Speaks(
            BLOCK,
            "MAC address 52:54:00:00:00:77",
            request=clone_request(macs=("52:54:00:00:00:77",)),
            also={"held": (an_owner(a_vm("other").with_nic(mac="52:54:00:00:00:77")),)},
        ),
    ),
    "QEMU_ARGUMENTS": (Speaks(WARN, "qemu:commandline", vm=WEB.with_element(_ARGUMENTS)),),
    "HOST_DEVICE": (
        Speaks(WARN, "PCI device", vm=WEB.with_device("<hostdev type='pci'/>")),
        Speaks(WARN, "SR-IOV", vm=WEB.with_device("<interface type='hostdev'/>")),
    ),
}

ALL = [(code, case) for code, cases in CASES.items() for case in cases]


def test_every_check_has_a_case() -> None:
    assert sorted(CASES) == sorted(row.code for row in TABLE.rows)


@pytest.mark.parametrize(("code", "case"), ALL, ids=[code for code, _ in ALL])
def test_a_check_speaks_with_its_severity_where_something_is_wrong(code: str, case: Speaks) -> None:
    found = [f for f in findings(case.facts(), case.request) if f.code == code]

    assert found
    assert {finding.severity for finding in found} == {case.severity}
    assert any(case.word in finding.message for finding in found)


@pytest.mark.parametrize(("code", "case"), ALL, ids=[code for code, _ in ALL])
def test_a_check_is_silent_where_all_is_well(code: str, case: Speaks) -> None:
    found = findings(a_clone_of(case.silent_vm), case.silent_request)

    assert code not in {finding.code for finding in found}


def test_everything_that_is_wrong_is_said_at_once() -> None:
    vm = WEB.in_state(VmState.SUSPENDED).having(snapshots=1, managed_save=True).with_block_disk()
    facts = a_clone_of(vm, on=a_host().with_pool(active=False))

    codes = [finding.code for finding in findings(facts, clone_request(name="web"))]

    assert codes == [
        "CLONE_NAME_TAKEN",
        "VM_NOT_SHUT_OFF",
        "DISK_ON_DEVICE",
        "DISK_TO_DEVICE",
        "STORAGE_POOL_MISSING",
        "VM_MANAGED_SAVE",
        "CLONE_NETWORK",
        "VM_SNAPSHOTS",
    ]


def test_a_file_outside_every_pool_comes_with_the_command_that_makes_one() -> None:
    vm = a_vm().with_disk(
        path="/data/web.qcow2", problem="it lies in no pool", problem_code="DISK_NOT_IN_POOL"
    )
    (finding,) = [
        f for f in findings(a_clone_of(vm), clone_request()) if f.code == "DISK_UNREADABLE"
    ]

    assert "virsh pool-define-as NAME dir --target /data" in finding.hint


def test_a_taken_name_comes_with_a_free_one() -> None:
    facts = a_clone_of(WEB, names=frozenset({"web", "db", "db-clone"}))
    (finding,) = findings(facts, clone_request(name="db"))

    assert finding.hint.endswith("db-clone-2")


def test_a_usual_vm_on_a_usual_host_has_nothing_to_be_said() -> None:
    assert findings(a_clone_of(WEB, on=a_usual_host()), clone_request()) == ()


def findings(facts: CloneFacts, request: CloneRequest) -> tuple[Finding, ...]:
    return plan_clone(facts, request, new_ids(len(facts.summary.nics))).checks


def test_the_file_an_external_snapshot_left_stands_still_though_the_vm_runs() -> None:
    path = WEB.facts().disks[0].path
    vm, overlay = WEB.running(), "/over.qcow2"
    external, internal = (
        a_clone_of(vm, snapshot=a_snapshot(vda=kind), chains={"vda": (overlay, path)})
        for kind in ("external", "internal")
    )

    assert not external.in_use
    assert internal.in_use
    assert not findings(external, clone_request(mode=CloneMode.LINKED))
