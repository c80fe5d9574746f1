"""Every check of a move: one case where it is silent, one where it speaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.builders import (
    GIB,
    IMAGES,
    HostBuilder,
    VmBuilder,
    a_host,
    a_move_of,
    a_usual_host,
    a_vm,
    move_request,
    new_ids,
    shared_files,
)
from twinship.domxml.abilities import Abilities
from twinship.migrate.bases import BaseThere
from twinship.migrate.checks import TABLE
from twinship.migrate.facts import (
    Clash,
    MigrateFacts,
    Past,
    RecordFacts,
    SecretFacts,
    SecretThere,
    StorageFacts,
    TargetFile,
)
from twinship.migrate.plan import plan_migrate
from twinship.model.host import HostRecord, HostTraits, NumaCell
from twinship.model.load import GuestLoad
from twinship.model.plan import Finding, Severity
from twinship.model.request import MigrateMode, MigrateRequest, PostCopyWay, StorageWay
from twinship.model.vm import ImageHeader, Layer, VmState

BLOCK, WARN, INFO, UNKNOWN = Severity.BLOCK, Severity.WARN, Severity.INFO, Severity.UNKNOWN
OFF = a_vm("web").with_disk().with_nic()
LIVE = OFF.running()
PASSTHROUGH = "<cpu mode='host-passthrough'/>"
PCI = "<hostdev type='pci'/>"
SHARED_FOLDER = "<filesystem type='mount'/>"
VIRTIOFS = "<filesystem type='mount'><driver type='virtiofs'/></filesystem>"
SELINUX = "<seclabel type='static' model='selinux'/>"
APPARMOR = "<seclabel type='dynamic' model='apparmor' relabel='yes'/>"
MIB = 1024**2
HUGE = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"
SMALL_NODE = NumaCell(number=0, memory_bytes=GIB, cpus=(0, 1))
INVTSC = "<cpu mode='custom'><feature policy='require' name='invtsc'/></cpu>"
TSC = "<clock><timer name='tsc' frequency='2000000000'/></clock>"
TEAMED = "<interface type='hostdev'><teaming type='transient' persistent='ua-1'/></interface>"
USB = (
    "<hostdev mode='subsystem' type='usb'><source><vendor id='0x0951'/><product id='0x1625'/>"
    "</source></hostdev>"
)
PCI_AT = (
    "<hostdev mode='subsystem' type='pci'><source>"
    "<address domain='0' bus='1' slot='2' function='3'/></source></hostdev>"
)
IN_GROUP = "<interface type='network'><source network='default' portgroup='red'/></interface>"
JUMBO = "<interface type='bridge'><source bridge='br0'/><mtu size='9000'/></interface>"
FILTERED = "<interface type='bridge'><source bridge='br0'/><filterref filter='clean'/></interface>"


def screen(address: str) -> str:
    return f"<graphics type='vnc'><listen type='address' address='{address}'/></graphics>"


TARGET = a_usual_host("kvm02")
BUSY = GuestLoad(cpu_share=1, memory_bytes=GIB, windows=((1.0, 4e8), (2.0, 2e8)))
TPM = "<tpm><backend type='emulator' version='2.0'/></tpm>"
BASE = f"{IMAGES}/base.qcow2"
UPON_BASE = a_vm("web").with_disk(backing=(BASE,)).with_nic()
TO_SRV = move_request(maps=((IMAGES, "/srv/vms"),))
OLD_DISK = Layer(path=f"{IMAGES}/old.qcow2", pool="images")
DEVICE = StorageFacts(devices={"/dev/vg/web": True})
KNOWN_BASE = StorageFacts(
    bases={BASE: BaseThere(alike=True, known=True, why="unchanged since it was one file")}
)
ALIKE_BASE = StorageFacts(bases={BASE: BaseThere(alike=True, known=False, why="no note tells it")})


def a_secret(
    *,
    here: SecretThere = SecretThere.READABLE,
    there: SecretThere = SecretThere.MISSING,
    differs: bool = False,
) -> dict[str, Any]:
    secret = SecretFacts(
        what="disk vda",
        spoken="some-uuid",
        uuid="some-uuid",
        here=here,
        there=there,
        differs=differs,
    )
    return {"storage": StorageFacts(secrets=(secret,))}


def a_snapshot_of(**fields: Any) -> dict[str, Any]:
    files = (dataclasses.replace(OLD_DISK, **fields),)
    return {"storage": StorageFacts(records=RecordFacts(snapshots=("s",), files=files))}


USUAL = move_request()
MAY = move_request(post_copy=PostCopyWay.ALLOW)
PREFER = move_request(post_copy=PostCopyWay.PREFER)


@dataclass(frozen=True)
class Speaks:
    """Facts and request a check has something to say about, how badly, and a word of it."""

    severity: Severity | set[Severity]
    word: str
    vm: VmBuilder = LIVE
    source: HostBuilder | None = None
    target: HostBuilder | None = None
    request: MigrateRequest = USUAL
    changes: Mapping[str, Any] = field(default_factory=dict)
    silent_vm: VmBuilder = LIVE
    silent_changes: Mapping[str, Any] = field(default_factory=dict)
    silent_request: MigrateRequest = USUAL
    silent_target: HostBuilder | None = None

    def facts(self) -> MigrateFacts:
        return a_move_of(
            self.vm,
            source=self.source,
            target=self.target,
            asked=self.request,
            **self.changes,
        )


CASES: dict[str, tuple[Speaks, ...]] = {
    "MIGRATE_SAME_HOST": (
        Speaks(BLOCK, "on kvm01 already", target=a_usual_host("kvm01")),
        Speaks(BLOCK, "same host UUID", target=TARGET.having(uuid="host-uuid-of-kvm01")),
    ),
    "MIGRATE_OFFLINE_RUNNING": (
        Speaks(
            BLOCK,
            "running",
            request=move_request(mode=MigrateMode.OFFLINE),
            silent_vm=OFF,
            silent_request=move_request(mode=MigrateMode.OFFLINE),
        ),
        Speaks(
            BLOCK,
            "paused",
            vm=OFF.in_state(VmState.PAUSED),
            request=move_request(mode=MigrateMode.OFFLINE),
        ),
    ),
    "MIGRATE_LIVE_SHUT_OFF": (
        Speaks(
            BLOCK,
            "shut off",
            vm=OFF,
            request=move_request(mode=MigrateMode.LIVE),
            silent_request=move_request(mode=MigrateMode.LIVE),
        ),
        Speaks(BLOCK, "shut off", vm=OFF, request=move_request(mode=MigrateMode.NON_LIVE)),
    ),
    "MIGRATE_TEMPORARY_OFFLINE": (
        Speaks(
            BLOCK,
            "--temporary",
            vm=OFF,
            request=move_request(temporary=True),
            silent_request=move_request(temporary=True),
        ),
    ),
    "VM_TRANSIENT": (
        Speaks(
            BLOCK,
            "transient",
            vm=LIVE.transient(),
            request=move_request(stay_defined=True),
            silent_request=move_request(stay_defined=True),
        ),
    ),
    "VM_JOB": (Speaks(BLOCK, "backup", vm=LIVE.having(job="backup")),),
    "VM_PAUSE_REASON": tuple(
        Speaks(
            BLOCK,
            reason.replace("_", " "),
            vm=OFF.in_state(VmState.PAUSED).having(pause_reason=reason),
            silent_vm=OFF.in_state(VmState.PAUSED).having(pause_reason="user"),
        )
        for reason in ("io_error", "crashed", "post_copy_failed", "migration")
    ),
    "BASE_HAS_CHILDREN": (Speaks(BLOCK, "base of a", changes={"children": ("a",)}),),
    "VM_SNAPSHOTS": (
        Speaks(
            BLOCK, "2 snapshots", vm=LIVE.having(snapshots=2), silent_vm=OFF.having(snapshots=2)
        ),
    ),
    "VM_CHECKPOINTS": (
        Speaks(
            BLOCK,
            "1 checkpoints",
            vm=LIVE.having(checkpoints=1),
            silent_vm=OFF.having(checkpoints=1),
        ),
    ),
    "VM_MANAGED_SAVE": (
        Speaks(
            BLOCK,
            "saved memory",
            vm=OFF.having(managed_save=True),
            silent_vm=LIVE.having(managed_save=True),
        ),
    ),
    "VM_AUTOSTART": (Speaks(INFO, "starts with its host", vm=LIVE.having(autostart=True)),),
    "NAME_TAKEN": (
        Speaks(BLOCK, "this very VM", changes={"uuid_on_target": VmState.SHUT_OFF}),
        Speaks(BLOCK, "another VM named", changes={"name_on_target": "some-uuid"}),
    ),
    "MIGRATE_SESSION": (
        Speaks(WARN, "session", source=a_usual_host("kvm01").having(privileged=False)),
        Speaks(WARN, "session", target=TARGET.having(privileged=False)),
    ),
    "ARCH_DIFFERS": (Speaks(BLOCK, "aarch64", target=TARGET.having(arch="aarch64")),),
    "DOMAIN_TYPE_MISSING": (
        Speaks(
            BLOCK,
            "of type kvm",
            target=TARGET.having(domain_types=("qemu",)),
            silent_vm=LIVE.of_type("qemu"),
        ),
    ),
    "EMULATOR_MISSING": (
        Speaks(BLOCK, "no qemu-kvm", changes={"emulator_problem": "no qemu-kvm"}),
    ),
    "MACHINE_TYPE_MISSING": (
        Speaks(BLOCK, "no such machine", changes={"machine_problem": "no such machine"}),
    ),
    "VCPUS_EXCEED": (
        Speaks(BLOCK, "takes 1", changes={"abilities": Abilities(max_vcpus=1)}),
        Speaks(WARN, "1 CPUs", target=TARGET.having(cpus=1)),
    ),
    "HUGE_PAGES_SHORT": (
        Speaks(
            BLOCK,
            "huge pages of 2048 KiB",
            vm=LIVE.with_element(HUGE),
            changes={"target_traits": HostTraits(free_pages={2 * MIB: GIB // 2})},
            silent_vm=LIVE.with_element(HUGE),
            silent_changes={"target_traits": HostTraits(free_pages={2 * MIB: GIB})},
        ),
        Speaks(
            WARN,
            "the default size",
            vm=OFF.with_element("<memoryBacking><hugepages/></memoryBacking>"),
            changes={"target_traits": HostTraits(free_pages={2 * MIB: 0})},
        ),
        Speaks(UNKNOWN, "cannot be seen", vm=LIVE.with_element(HUGE)),
    ),
    "NUMA_PINNED": (
        Speaks(
            BLOCK,
            "CPU 2, 3",
            vm=LIVE.with_element("<cputune><vcpupin vcpu='0' cpuset='1-3'/></cputune>"),
            source=a_usual_host("kvm01").having(cells=(SMALL_NODE,)),
            target=TARGET.having(cells=(SMALL_NODE,)),
            silent_vm=LIVE.with_element("<cputune><vcpupin vcpu='0' cpuset='0'/></cputune>"),
        ),
        Speaks(
            WARN,
            "NUMA node 1",
            vm=OFF.with_element("<numatune><memory mode='strict' nodeset='1'/></numatune>"),
            target=TARGET.having(cells=(SMALL_NODE,)),
        ),
        Speaks(
            WARN,
            "not alike",
            vm=LIVE.with_element("<cputune><emulatorpin cpuset='0'/></cputune>"),
            target=TARGET.having(cells=(SMALL_NODE,)),
        ),
    ),
    "CPU_INCOMPATIBLE": (
        Speaks(
            BLOCK,
            "lacks avx512",
            changes={"cpu_problem": "lacks avx512"},
        ),
        Speaks(WARN, "lacks avx512", vm=OFF, changes={"cpu_problem": "lacks avx512"}),
        Speaks(UNKNOWN, "cannot say", changes={"cpu_problem": "?"}),
    ),
    "TSC_FREQUENCY": (
        Speaks(
            BLOCK,
            "no named frequency",
            vm=LIVE.with_element(INVTSC),
            silent_vm=LIVE.with_element(INVTSC).with_element(TSC),
            silent_target=TARGET.having(tsc_hz=2_000_000_100),
        ),
        Speaks(
            BLOCK,
            "cannot scale",
            vm=LIVE.with_element(INVTSC).with_element(TSC),
            target=TARGET.having(tsc_hz=2_100_000_000),
            silent_vm=LIVE.with_element(INVTSC).with_element(TSC),
            silent_target=TARGET.having(tsc_hz=2_100_000_000, tsc_scaling=True),
        ),
        Speaks(UNKNOWN, "does not show", vm=LIVE.with_element(INVTSC).with_element(TSC)),
    ),
    "CPU_VENDOR_DIFFERS": (
        Speaks(BLOCK, "AMD", target=TARGET.having(cpu_vendor="AMD"), silent_vm=OFF),
        Speaks(BLOCK, "unknown", target=TARGET.having(cpu_vendor="")),
    ),
    "CPU_HOST_PASSTHROUGH": (
        Speaks(
            WARN,
            "host-passthrough",
            vm=LIVE.with_element(PASSTHROUGH),
            silent_vm=OFF.with_element(PASSTHROUGH),
        ),
    ),
    "HOST_OLDER": (
        Speaks(WARN, "QEMU", target=TARGET.having(qemu_version=(7, 1, 9))),
        Speaks(WARN, "libvirt", target=TARGET.having(libvirt_version=(8, 10, 0))),
    ),
    "HOST_HARDWARE": (
        Speaks(UNKNOWN, "kernel", silent_vm=LIVE.of_type("qemu")),
        Speaks(
            {UNKNOWN, WARN},
            "microcode differs: 1 on kvm01, 2 on kvm02",
            source=a_usual_host("kvm01").having(cpu_microcode="1"),
            target=TARGET.having(cpu_microcode="2"),
            silent_vm=OFF,
        ),
        Speaks(
            {UNKNOWN, WARN},
            "BIOS differs",
            changes={
                "source_traits": HostTraits(bios="Dell 1.2"),
                "target_traits": HostTraits(bios="Dell 1.3"),
            },
            silent_vm=OFF,
        ),
    ),
    "MEMORY_SHORT": (
        Speaks(
            BLOCK,
            "2.0 GiB",
            vm=LIVE.with_memory(gib=2),
            target=TARGET.having(memory_free_bytes=GIB),
        ),
        Speaks(
            WARN, "2.0 GiB", vm=OFF.with_memory(gib=2), target=TARGET.having(memory_free_bytes=GIB)
        ),
    ),
    "HOST_DEVICE": (
        Speaks(BLOCK, "PCI device", vm=LIVE.with_device(PCI)),
        Speaks(BLOCK, "mediated device", vm=LIVE.with_device("<hostdev type='mdev'/>")),
        Speaks(BLOCK, "SR-IOV", vm=LIVE.with_device("<interface type='hostdev'/>")),
        Speaks(INFO, "standby", vm=LIVE.with_device(TEAMED)),
        Speaks(BLOCK, "USB device", vm=LIVE.with_device(USB)),
        Speaks(
            BLOCK,
            "no USB device 0951:1625",
            vm=LIVE.with_device(USB),
            changes={"target_traits": HostTraits(devices=frozenset())},
        ),
        Speaks(
            WARN,
            "another USB device",
            vm=LIVE.with_device(USB),
            changes={"target_traits": HostTraits(devices=frozenset({"0951:1625"}))},
            silent_vm=OFF.with_device(USB),
            silent_changes={"target_traits": HostTraits(devices=frozenset({"0951:1625"}))},
        ),
        Speaks(WARN, "PCI device", vm=OFF.with_device(PCI)),
        Speaks(
            WARN,
            "kvm02 has no PCI device 0000:01:02.3",
            vm=OFF.with_device(PCI_AT),
            changes={"target_traits": HostTraits(devices=frozenset())},
            silent_vm=OFF.with_device(PCI_AT),
            silent_changes={"target_traits": HostTraits(devices=frozenset({"0000:01:02.3"}))},
        ),
    ),
    "HOST_FILE": (
        Speaks(
            UNKNOWN,
            "/var/log/vm",
            vm=LIVE.with_device("<serial type='pty'><log file='/var/log/vm/web.log'/></serial>"),
        ),
    ),
    "DEVICE_MODEL_MISSING": (
        Speaks(
            BLOCK,
            "no video 'qxl'",
            vm=LIVE.with_device("<video><model type='qxl'/></video>"),
            changes={"abilities": Abilities(models={"video": frozenset({"vga"})})},
            silent_vm=LIVE.with_device("<video><model type='qxl'/></video>"),
        ),
        Speaks(
            WARN,
            "no tpm 'tpm-crb'",
            vm=OFF.with_device("<tpm model='tpm-crb'/>"),
            changes={"abilities": Abilities(models={"tpm": frozenset()})},
        ),
    ),
    "FIRMWARE_MISSING": (
        Speaks(
            BLOCK,
            "no efi firmware",
            vm=a_vm(firmware="efi").running(),
            changes={"abilities": Abilities(firmwares=frozenset({"bios"}))},
            silent_vm=a_vm(firmware="efi").running(),
            silent_changes={"abilities": Abilities(firmwares=frozenset({"efi"}))},
        ),
        Speaks(
            WARN,
            "no efi firmware",
            vm=a_vm(firmware="efi"),
            changes={"abilities": Abilities(machine="q35", firmwares=frozenset({"efi"}))},
        ),
        Speaks(
            WARN,
            "elsewhere",
            vm=a_vm().with_loader("/usr/share/OVMF/code.fd"),
            changes={"abilities": Abilities(loaders=frozenset({"/usr/share/edk2/code.fd"}))},
        ),
        Speaks(
            UNKNOWN,
            "does not list the firmware /my/code.fd",
            vm=a_vm().with_loader("/my/code.fd").running(),
        ),
    ),
    "FIRMWARE_BUILD": (
        Speaks(
            UNKNOWN,
            "one build",
            vm=a_vm().with_loader("/code.fd").running(),
            changes={"abilities": Abilities(loaders=frozenset({"/code.fd"}))},
            silent_vm=a_vm().with_loader("/code.fd"),
        ),
    ),
    "GUEST_PROTECTION_MISSING": (
        Speaks(
            WARN,
            "does not offer sev",
            vm=OFF.with_element("<launchSecurity type='sev'/>"),
            silent_vm=OFF.with_element("<launchSecurity type='sev'/>"),
            silent_changes={"abilities": Abilities(protections=frozenset({"sev"}))},
        ),
    ),
    "NETWORK_DIFFERS": (
        Speaks(
            WARN,
            "is nat on kvm01",
            source=a_host("kvm01").with_pool().with_network(forward="nat"),
            target=a_host("kvm02").with_pool().with_network(forward="bridge"),
        ),
        Speaks(WARN, "no port group 'red'", vm=LIVE.with_device(IN_GROUP)),
    ),
    "NETWORK_NAT": (
        Speaks(
            INFO,
            "that host's own",
            target=a_host("kvm02").with_pool().with_network(forward="nat"),
            silent_vm=OFF,
        ),
    ),
    "MTU_SMALLER": (
        Speaks(
            WARN,
            "MTU of 9000",
            vm=LIVE.with_device(JUMBO),
            changes={"target_traits": HostTraits(links={"br0": 1500})},
            silent_vm=LIVE.with_device(JUMBO),
            silent_changes={"target_traits": HostTraits(links={"br0": 9000})},
        ),
    ),
    "NWFILTER_MISSING": (
        Speaks(
            BLOCK,
            "no network filter 'clean'",
            vm=LIVE.with_device(FILTERED),
            changes={"target_traits": HostTraits(filters=frozenset())},
            silent_vm=LIVE.with_device(FILTERED),
            silent_changes={"target_traits": HostTraits(filters=frozenset({"clean"}))},
        ),
        Speaks(UNKNOWN, "does not show", vm=LIVE.with_device(FILTERED)),
    ),
    "LISTEN_ADDRESS": (
        Speaks(
            BLOCK,
            "which is kvm01",
            vm=LIVE.with_device(screen("kvm01.example.org")),
            silent_vm=LIVE.with_device(screen("kvm02.example.org")),
        ),
        Speaks(WARN, "which is kvm01", vm=OFF.with_device(screen("kvm01.example.org"))),
        Speaks(UNKNOWN, "10.1.2.3", vm=LIVE.with_device(screen("10.1.2.3"))),
        Speaks(
            BLOCK,
            "a port of the VM listens",
            vm=LIVE.with_device(
                "<serial type='tcp'><source mode='bind' host='kvm01.example.org'/></serial>"
            ),
        ),
    ),
    "TARGET_COLLISION": (
        Speaks(
            BLOCK,
            "other on kvm02 has TCP port 5905 too",
            changes={"clashes": (Clash(what="TCP port 5905", name="other", running=True),)},
        ),
        Speaks(
            WARN,
            "it is shut off",
            changes={"clashes": (Clash(what="socket /a", name="other", running=False),)},
        ),
        Speaks(
            WARN,
            "UDP port 9 too",
            changes={"clashes": (Clash(what="UDP port 9", name="other", running=True),)},
        ),
    ),
    "STORAGE_CHECK_PASSED": (
        Speaks(
            WARN,
            "proved by a token",
            changes={"files": shared_files(LIVE)},
            silent_vm=OFF,
            silent_changes={"files": shared_files(LIVE)},
        ),
    ),
    "FLOPPY_WRITABLE": (
        Speaks(
            BLOCK,
            "/a/floppy.img (fda)",
            vm=LIVE.with_floppy("/a/floppy.img"),
            silent_vm=LIVE.with_floppy(""),
        ),
        Speaks(WARN, "does not go along", vm=OFF.with_floppy("/a/floppy.img")),
    ),
    "VM_BLOCK_JOB": (
        Speaks(
            BLOCK,
            "on vda",
            changes={"block_jobs": ("vda",)},
            silent_vm=OFF,
            silent_changes={"block_jobs": ("vda",)},
        ),
    ),
    "MOVE_NEVER_ENDS": (
        Speaks(
            WARN,
            "writes faster",
            changes={
                "load": BUSY,
                "past": Past(link=1e8),
            },
            silent_changes={
                "load": GuestLoad(cpu_share=0, memory_bytes=GIB),
                "past": Past(link=1e8),
            },
        ),
        Speaks(
            INFO,
            "it will go over to post-copy",
            changes={"load": BUSY, "past": Past(link=1e8)},
            request=MAY,
        ),
    ),
    "POST_COPY_RISK": (
        Speaks(WARN, "memory is lost", request=MAY),
        Speaks(WARN, "goes on by itself", request=PREFER, silent_vm=OFF, silent_request=PREFER),
    ),
    "POST_COPY_UNUSABLE": (
        Speaks(BLOCK, "PCI device", vm=LIVE.with_device(PCI), request=MAY, silent_request=MAY),
        Speaks(
            BLOCK,
            "is a file",
            vm=LIVE.with_element("<memoryBacking><source type='file'/></memoryBacking>"),
            request=MAY,
            silent_vm=LIVE.with_device(TEAMED).with_device(USB),
            silent_request=MAY,
        ),
        Speaks(UNKNOWN, "huge pages", vm=LIVE.with_element(HUGE), request=MAY),
        Speaks(UNKNOWN, "userfaultfd", target=TARGET.having(privileged=False), request=MAY),
    ),
    "VM_AUTODESTROY": (Speaks(UNKNOWN, "transient", vm=LIVE.transient()),),
    "MIGRATE_MODE": (
        Speaks(INFO, "live: the VM runs", silent_request=move_request(mode=MigrateMode.LIVE)),
        Speaks(
            INFO,
            "non-live: the VM is paused",
            vm=OFF.in_state(VmState.PAUSED),
            silent_request=move_request(mode=MigrateMode.LIVE),
        ),
        Speaks(
            INFO,
            "offline: the VM is shut off",
            vm=OFF,
            silent_request=move_request(mode=MigrateMode.LIVE),
        ),
    ),
    "VM_TIED_TO_HOST": (
        Speaks(BLOCK, "virtiofs", vm=LIVE.with_device(VIRTIOFS)),
        Speaks(WARN, "virtiofs", vm=OFF.with_device(VIRTIOFS)),
        Speaks(WARN, "9p", vm=LIVE.with_device(SHARED_FOLDER)),
        Speaks(
            BLOCK,
            "shmem",
            vm=LIVE.with_device("<shmem name='a'/>"),
            silent_vm=LIVE.with_device("<shmem name='a' role='master'/>"),
        ),
    ),
    "TPM_STATE": (
        Speaks(
            BLOCK,
            "lies in /tpm/web",
            vm=OFF.with_device(TPM),
            changes={"storage": StorageFacts(tpm_source="/tpm/web")},
            silent_vm=OFF.with_device(TPM),
        ),
        Speaks(
            BLOCK,
            "/tpm/web",
            vm=OFF.with_device(TPM),
            changes={"storage": StorageFacts(tpm_source="/tpm/web")},
            silent_vm=LIVE.with_device(TPM),
            silent_changes={"storage": StorageFacts(tpm_source="/tpm/web")},
        ),
    ),
    "SECURITY_MODEL_MISSING": (
        Speaks(BLOCK, "selinux", vm=LIVE.with_element(SELINUX)),
        Speaks(INFO, "running apparmor", vm=LIVE.with_element(APPARMOR)),
    ),
    "DISK_UNREADABLE": (
        Speaks(
            BLOCK,
            "in no storage pool",
            vm=a_vm().with_disk(
                backing=("/etc/shadow",),
                problem="/etc/shadow lies in no storage pool",
                problem_code="BACKING_OUTSIDE_POOLS",
            ),
        ),
    ),
    "STORAGE_NOT_SHARED": (
        Speaks(
            BLOCK,
            "not the same file",
            request=move_request(storage=StorageWay.SHARED),
            silent_changes={"files": shared_files(LIVE)},
            silent_request=move_request(storage=StorageWay.SHARED),
        ),
    ),
    "STORAGE_UNSAFE_CACHE": (
        Speaks(
            BLOCK,
            "cache=writeback",
            vm=a_vm().with_disk(cache="writeback").running(),
            changes={"files": shared_files(a_vm().with_disk())},
            silent_changes={"files": shared_files(LIVE)},
        ),
        Speaks(
            BLOCK,
            "cache=default",
            vm=a_vm().with_disk(cache="").running(),
            changes={"files": shared_files(a_vm().with_disk())},
        ),
    ),
    "DISK_NOT_MOVABLE": (
        Speaks(
            BLOCK,
            "block device",
            vm=a_vm().with_block_disk().running(),
            silent_vm=a_vm().with_network_disk().running(),
        ),
        Speaks(
            BLOCK,
            "shows no /dev/vg/web",
            vm=a_vm().with_block_disk(),
            request=move_request(storage=StorageWay.SHARED),
            silent_vm=a_vm().with_block_disk(),
            silent_changes={"storage": DEVICE},
        ),
    ),
    "STORAGE_UNPROVED": (
        Speaks(
            BLOCK,
            "cannot be seen from here",
            vm=a_vm().with_block_disk(),
            changes={"storage": DEVICE},
            silent_vm=a_vm().with_block_disk(),
        ),
        Speaks(
            UNKNOWN,
            "cannot be seen from here",
            vm=a_vm().with_block_disk().running(),
            request=move_request(storage=StorageWay.SHARED),
            changes={"storage": DEVICE},
        ),
    ),
    "SECRET_MISSING": (
        Speaks(
            BLOCK,
            "it is private",
            changes=a_secret(here=SecretThere.PRIVATE),
            silent_changes=a_secret(here=SecretThere.READABLE),
        ),
        Speaks(
            BLOCK,
            "has without a value",
            vm=OFF,
            changes=a_secret(here=SecretThere.EMPTY, there=SecretThere.EMPTY),
            silent_changes=a_secret(here=SecretThere.PRIVATE, there=SecretThere.PRIVATE),
        ),
        Speaks(BLOCK, "missing as well", changes=a_secret(here=SecretThere.MISSING)),
        Speaks(WARN, "missing as well", vm=OFF, changes=a_secret(here=SecretThere.MISSING)),
    ),
    "SECRET_DIFFERS": (
        Speaks(
            BLOCK,
            "another value",
            changes=a_secret(there=SecretThere.READABLE, differs=True),
            silent_changes=a_secret(there=SecretThere.READABLE),
        ),
    ),
    "SECRET_UNSEEN": (
        Speaks(
            UNKNOWN,
            "cannot be seen",
            changes=a_secret(there=SecretThere.PRIVATE),
            silent_changes=a_secret(there=SecretThere.READABLE),
        ),
    ),
    "SNAPSHOT_FILES": (
        Speaks(
            WARN,
            "does not exist",
            vm=OFF,
            changes=a_snapshot_of(problem="it does not exist", problem_code="DISK_MISSING"),
            silent_changes=a_snapshot_of(problem="it does not exist", problem_code="DISK_MISSING"),
        ),
        Speaks(
            BLOCK,
            "no active storage pool",
            vm=OFF,
            changes=a_snapshot_of(
                problem="it lies in no active storage pool", problem_code="DISK_NOT_IN_POOL"
            ),
            silent_vm=OFF,
            silent_changes=a_snapshot_of(),
        ),
    ),
    "DISK_FORMAT": (Speaks(BLOCK, "vmdk", vm=a_vm().with_disk(format="vmdk").running()),),
    "DISK_ENCRYPTED": (
        Speaks(
            BLOCK,
            "encrypted",
            vm=a_vm().with_disk(header={"encrypted": True}).running(),
            silent_vm=a_vm().with_disk(header={"encrypted": True}),
        ),
    ),
    "DISK_HEADER_LOSS": (
        Speaks(
            BLOCK,
            "2 snapshots",
            vm=a_vm().with_disk(header={"snapshots": 2}).running(),
            silent_vm=a_vm().with_disk(header={"snapshots": 2}),
        ),
        Speaks(BLOCK, "1 bitmaps", vm=a_vm().with_disk(header={"bitmaps": 1}).running()),
    ),
    "DISK_CHAIN_FLATTENED": (
        Speaks(
            INFO,
            "its backing file become one file",
            vm=UPON_BASE.running(),
            request=move_request(storage=StorageWay.COPY),
            silent_vm=UPON_BASE.running(),
        ),
        Speaks(
            INFO,
            "kvm02 has another",
            vm=UPON_BASE.running(),
            changes={"files": {BASE: TargetFile(exists=True)}},
            silent_vm=UPON_BASE,
            silent_changes={"files": {BASE: TargetFile(exists=True)}},
        ),
        Speaks(
            INFO,
            "no active pool over /bases",
            vm=a_vm().with_disk(backing=("/bases/base.qcow2",)).running(),
        ),
    ),
    "DISK_INCREMENT": (
        Speaks(INFO, "after 1024.0 MiB that it stands on", vm=UPON_BASE.running()),
        Speaks(
            INFO,
            "unchanged since",
            vm=UPON_BASE,
            changes={"files": {BASE: TargetFile(exists=True)}, "storage": KNOWN_BASE},
            silent_vm=UPON_BASE,
        ),
        Speaks(
            INFO,
            "compared before",
            vm=UPON_BASE.running(),
            request=move_request(verify=True),
            changes={"files": {BASE: TargetFile(exists=True)}, "storage": ALIKE_BASE},
            silent_vm=UPON_BASE.running(),
            silent_request=move_request(storage=StorageWay.COPY),
        ),
    ),
    "DISK_EXISTS": (
        Speaks(
            BLOCK,
            "would both be /srv/vms/a.qcow2",
            vm=OFF.with_disk("vdb", path="/a/a.qcow2").with_disk("vdc", path="/b/a.qcow2"),
            target=TARGET.with_pool("vms", path="/srv/vms"),
            request=move_request(maps=(("/a", "/srv/vms"), ("/b", "/srv/vms"))),
        ),
        Speaks(
            BLOCK,
            "already there",
            changes={"files": {f"{IMAGES}/web-vda.qcow2": TargetFile(exists=True)}},
            silent_changes={"files": shared_files(LIVE)},
        ),
        Speaks(
            BLOCK,
            "no note",
            vm=UPON_BASE,
            changes={"files": {BASE: TargetFile(exists=True)}, "storage": ALIKE_BASE},
            silent_vm=UPON_BASE,
            silent_request=move_request(verify=True),
            silent_changes={"files": {BASE: TargetFile(exists=True)}, "storage": ALIKE_BASE},
        ),
        Speaks(
            BLOCK,
            "already there",
            vm=UPON_BASE.running(),
            request=move_request(storage=StorageWay.INCREMENT),
            changes={"files": {BASE: TargetFile(exists=True)}, "storage": ALIKE_BASE},
            silent_vm=UPON_BASE.running(),
            silent_changes={"files": {BASE: TargetFile(exists=True)}, "storage": ALIKE_BASE},
        ),
        Speaks(
            BLOCK,
            "a file of a snapshot",
            vm=OFF,
            changes={
                "files": {OLD_DISK.path: TargetFile(exists=True)},
                "storage": StorageFacts(records=RecordFacts(files=(OLD_DISK,))),
            },
            silent_vm=OFF,
            silent_changes={"storage": StorageFacts(records=RecordFacts(files=(OLD_DISK,)))},
        ),
    ),
    "CHAIN_KEEPS_ITS_PLACE": (
        Speaks(
            BLOCK,
            "names its backing file by a path",
            vm=UPON_BASE,
            target=TARGET.with_pool("vms", path="/srv/vms"),
            request=TO_SRV,
            silent_vm=UPON_BASE,
        ),
        Speaks(
            BLOCK,
            "names its backing file by a path",
            vm=UPON_BASE.with_disk(
                "vdb", backing=(f"{IMAGES}/b.qcow2", f"{IMAGES}/c.qcow2")
            ).running(),
            target=TARGET.with_pool("vms", path="/srv/vms"),
            request=move_request(maps=TO_SRV.maps, storage=StorageWay.INCREMENT),
            silent_vm=UPON_BASE.running(),
            silent_target=TARGET.with_pool("vms", path="/srv/vms"),
            silent_request=TO_SRV,
        ),
        Speaks(
            BLOCK,
            "file of a snapshot",
            vm=OFF,
            target=TARGET.with_pool("vms", path="/srv/vms"),
            request=TO_SRV,
            changes=a_snapshot_of(
                header=ImageHeader(format="qcow2", virtual_bytes=GIB, backing_path=BASE)
            ),
            silent_vm=OFF,
        ),
    ),
    "STORAGE_POOL_MISSING": (
        Speaks(
            BLOCK,
            "no storage pool over /srv/vms",
            request=TO_SRV,
            silent_request=TO_SRV,
            silent_target=TARGET.with_pool("vms", path="/srv/vms"),
        ),
        Speaks(
            BLOCK,
            "holds no files",
            target=TARGET.with_pool("vg", path="/srv/vms", type="logical"),
            request=TO_SRV,
        ),
        Speaks(
            BLOCK,
            "that pool is 'images'",
            vm=OFF.having(disks=(dataclasses.replace(OFF.facts().disks[0], named="default"),)),
            silent_vm=OFF.having(
                disks=(dataclasses.replace(OFF.facts().disks[0], named="images"),)
            ),
        ),
        Speaks(
            BLOCK,
            f"no storage pool over {IMAGES}",
            target=a_host("kvm02").with_network(),
            silent_changes={"files": shared_files(LIVE)},
        ),
        Speaks(BLOCK, "not active", target=a_host("kvm02").with_pool(active=False)),
    ),
    "STORAGE_FULL": (
        Speaks(
            BLOCK,
            "3.0 GiB",
            vm=a_vm().with_disk("vda", used_gib=1).with_disk("vdb", used_gib=2),
            target=a_host("kvm02").with_pool(free_gib=2.9),
        ),
        Speaks(
            BLOCK,
            "2.0 GiB",
            vm=a_vm().with_disk(backing=(f"{IMAGES}/base",), used_gib=1).running(),
            target=a_host("kvm02").with_pool(free_gib=1.9),
        ),
    ),
    "MEDIUM_MISSING": (
        Speaks(
            BLOCK,
            "/iso/a.iso",
            vm=LIVE.with_cdrom("/iso/a.iso"),
            changes={"media": {"/iso/a.iso": False}},
            silent_vm=LIVE.with_cdrom("/iso/a.iso"),
            silent_changes={"media": {"/iso/a.iso": True}},
        ),
        Speaks(
            WARN,
            "/iso/a.iso",
            vm=OFF.with_cdrom("/iso/a.iso"),
            changes={"media": {"/iso/a.iso": False}},
        ),
    ),
    "MIGRATE_ADDRESS_UNKNOWN": (
        Speaks(
            BLOCK,
            "no address",
            target=TARGET.having(hostname="localhost.localdomain"),
            changes={"target_record": HostRecord(name="kvm02", uri="qemu:///system")},
        ),
    ),
    "NETWORK_MISSING": (
        Speaks(BLOCK, "no network 'default'", target=a_host("kvm02").with_pool()),
        Speaks(WARN, "no network 'default'", vm=OFF, target=a_host("kvm02").with_pool()),
        Speaks(BLOCK, "not active", target=a_host("kvm02").with_network(active=False)),
    ),
    "BRIDGE_MISSING": (
        Speaks(
            BLOCK,
            "'br7'",
            vm=LIVE.with_nic(kind="bridge", source="br7"),
            silent_vm=LIVE.with_nic(kind="bridge", source="br0"),
        ),
        Speaks(WARN, "'br7'", vm=OFF.with_nic(kind="bridge", source="br7")),
        Speaks(
            UNKNOWN,
            "br7",
            vm=LIVE.with_nic(kind="bridge", source="br7"),
            target=TARGET.having(interfaces=()),
        ),
    ),
    "PORT_FIXED": (
        Speaks(WARN, "5905", vm=LIVE.with_device("<graphics type='vnc' port='5905'/>")),
    ),
}

ALL = [(code, case) for code, cases in CASES.items() for case in cases]


def test_every_check_has_a_case() -> None:
    assert sorted(CASES) == sorted(row.code for row in TABLE.rows)


@pytest.mark.parametrize(("code", "case"), ALL, ids=[code for code, _ in ALL])
def test_a_check_speaks_with_its_severity_where_something_is_wrong(code: str, case: Speaks) -> None:
    found = [f for f in findings(case.facts(), case.request) if f.code == code]

    assert found
    severities = case.severity if isinstance(case.severity, set) else {case.severity}
    assert {finding.severity for finding in found} == severities
    assert any(case.word in finding.message for finding in found)


@pytest.mark.parametrize(("code", "case"), ALL, ids=[code for code, _ in ALL])
def test_a_check_is_silent_where_all_is_well(code: str, case: Speaks) -> None:
    facts = a_move_of(
        case.silent_vm,
        target=case.silent_target,
        asked=case.silent_request,
        **case.silent_changes,
    )
    found = findings(facts, case.silent_request)

    assert code not in {finding.code for finding in found}


def test_a_usual_move_between_like_hosts_is_feasible() -> None:
    assert [f.code for f in findings(a_move_of(OFF), move_request())] == ["MIGRATE_MODE"]
    codes = [f.code for f in findings(a_move_of(LIVE), move_request())]
    assert codes == ["HOST_HARDWARE", "MIGRATE_MODE"]


def test_what_no_connection_shows_is_unknown_and_never_a_pass() -> None:
    finding, _ = findings(a_move_of(LIVE), move_request())

    assert finding.severity is UNKNOWN


@pytest.mark.parametrize(
    ("record", "hostname", "address"),
    [
        (HostRecord(name="b", uri="qemu+ssh://root@b/system", address="10.0.9.2"), "b", "10.0.9.2"),
        (HostRecord(name="b", uri="qemu+ssh://root@b.lan:22/system"), "x", "b.lan"),
        (HostRecord(name="b", uri="qemu+tcp://b.lan/system"), "x", "b.lan"),
        (HostRecord(name="b", uri="qemu:///system"), "b.lan", "b.lan"),
        (HostRecord(name="b", uri="qemu+ssh://localhost/system"), "b.lan", "b.lan"),
        (HostRecord(name="b", uri="qemu:///system"), "localhost", ""),
        (HostRecord(name="b", uri="qemu+ssh://root@[fd00::2]:22/system"), "x", "fd00::2"),
        (HostRecord(name="b", uri="qemu+tcp://[::1]/system"), "b.lan", "b.lan"),
    ],
)
def test_the_targets_address_is_never_a_loopback(
    record: HostRecord, hostname: str, address: str
) -> None:
    facts = a_move_of(LIVE, target=TARGET.having(hostname=hostname), target_record=record)

    assert facts.address == address


def findings(facts: MigrateFacts, request: MigrateRequest) -> tuple[Finding, ...]:
    return plan_migrate(facts, request, new_ids(0)).checks


def test_a_base_that_two_disks_stand_on_needs_its_space_once() -> None:
    base = f"{IMAGES}/base.qcow2"
    vm = a_vm().with_disk("vda", backing=(base,)).with_disk("vdb", backing=(base,))
    roomy = a_host("kvm02").with_pool(free_gib=3)

    assert [f.code for f in findings(a_move_of(vm, target=roomy), move_request())] == [
        "MIGRATE_MODE"
    ]
