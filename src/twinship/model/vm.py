"""A VM, its disks and the files below them, as a host shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class VmState(StrEnum):
    """What a VM is doing; libvirt's states under the field's names."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting_down"
    SHUT_OFF = "shut_off"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"

    @property
    def active(self) -> bool:
        """True while a QEMU process holds the VM."""
        return self not in (VmState.SHUT_OFF, VmState.CRASHED, VmState.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """One row of ``vm list``: cheap to read for many VMs at once."""

    host: str
    name: str
    uuid: str
    state: VmState
    persistent: bool
    vcpus: int
    memory_bytes: int

    @property
    def label(self) -> str:
        """The VM as a person names it: ``HOST/NAME``."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a disk image says of itself in its first bytes; never trusted, only reported.

    ``backing_path`` is the name as written in the header, unresolved.
    """

    format: str
    virtual_bytes: int
    cluster_bytes: int = 0
    backing_path: str = ""
    backing_format: str = ""
    data_file: bool = False
    encrypted: bool = False
    dirty: bool = False
    snapshots: int = 0
    bitmaps: int = 0
    compat: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file of a disk's backing chain.

    ``length_bytes`` is the file's length, ``allocated_bytes`` what it takes on its filesystem.
    ``block``: it is a block device, not a file. ``problem`` says why the file could not be read;
    the other facts are then empty.
    """

    path: str
    pool: str = ""
    length_bytes: int = 0
    allocated_bytes: int = 0
    header: ImageHeader | None = None
    block: bool = False
    problem: str = ""
    problem_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of a VM: its domain XML entry and, for files and devices, its chain from top to base.

    ``path`` of a volume by name is ``POOL/NAME`` as in the XML; where its host was asked, the file
    or device that is. ``named``: of a move, the pool by whose name the XML speaks of it.
    """

    target: str
    device: str
    source_type: str
    path: str = ""
    format: str = ""
    bus: str = ""
    cache: str = ""
    readonly: bool = False
    shareable: bool = False
    encrypted: bool = False
    transient: bool = False
    protocol: str = ""
    chain: tuple[Layer, ...] = ()
    named: str = ""

    @property
    def empty(self) -> bool:
        """True for a drive without a medium."""
        return self.source_type == "none"

    @property
    def writable_file(self) -> bool:
        """True for a disk whose bytes are the VM's own and live in a file."""
        in_file = self.source_type == "file" or (
            self.source_type == "volume" and self.top is not None and not self.top.block
        )
        return in_file and self.own

    @property
    def own(self) -> bool:
        """True for a disk that one VM alone writes to, wherever its bytes are."""
        return self.device in ("disk", "lun") and not self.readonly and not self.shareable

    @property
    def on_device(self) -> bool:
        """True for a disk on a block device of its host."""
        return self.top is not None and self.top.block

    @property
    def top(self) -> Layer | None:
        """The file the VM writes to."""
        return self.chain[0] if self.chain else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmFacts:
    """Everything the planner knows of one VM.

    ``inactive_xml`` is the definition used at the next start (empty for a transient VM),
    ``live_xml`` that of the running VM (empty when shut off). Both hold secrets: never shown.
    """

    vm: Vm
    inactive_xml: str = ""
    live_xml: str = ""
    disks: tuple[Disk, ...] = ()
    pause_reason: str = ""
    job: str = ""
    snapshots: int = 0
    checkpoints: int = 0
    managed_save: bool = False
    autostart: bool = False
    agent_connected: bool = False
    nvram: Layer | None = None

    @property
    def xml(self) -> str:
        """The definition, or for a transient VM what runs."""
        return self.inactive_xml or self.live_xml

    @property
    def file_disks(self) -> tuple[Disk, ...]:
        """The disks whose bytes have to go where the VM goes."""
        return tuple(disk for disk in self.disks if disk.writable_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """A snapshot that libvirt keeps of a VM.

    ``disks`` is target to ``internal`` (inside the qcow2 file) or ``external`` (the file was left
    for an overlay); others are not part of it. ``running``: the VM ran at that moment. ``xml`` is
    the VM's definition of then; it holds secrets.
    """

    name: str
    running: bool
    disks: dict[str, str]
    xml: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmAnswer:
    """One host's part of ``vm list``: its VMs, or the reason why there are none to show."""

    host: str
    vms: tuple[Vm, ...] = ()
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What a guest with the tick agent (the lab's micro guest) says of itself."""

    longest_gap_s: float
    up_s: float
    memory_errors: int = 0
    disk_writes: int = 0
    disk_errors: int = 0
    extra: dict[str, object] = field(default_factory=dict)
