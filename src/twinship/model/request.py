"""What a caller asks for. The same objects whether it comes from Python, a terminal or the net."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CloneMode(StrEnum):
    """How independent a clone is of its source."""

    AUTO = "auto"
    FULL = "full"
    LINKED = "linked"


class DiskWay(StrEnum):
    """What a clone does with one disk of its source.

    ``AUTO``: a writable disk is copied, an empty, read-only or shareable one is shared. ``COPY``
    and ``SHARE`` insist. ``DROP``: the clone has no such disk. ``KEEP``: the file named in ``path``
    is taken as it is, nothing is copied into it.
    """

    AUTO = "auto"
    COPY = "copy"
    SHARE = "share"
    DROP = "drop"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskChoice:
    """What is wanted of the disk ``target`` (``vda``); ``path`` is the new file, empty for ours."""

    target: str
    way: DiskWay = DiskWay.AUTO
    path: str = ""


class StateWay(StrEnum):
    """What a clone does with a state that is its source's own: firmware variables, a TPM.

    ``FRESH``: it begins with an empty one. ``REFUSE``: no clone of a VM that has one.
    """

    COPY = "copy"
    FRESH = "fresh"
    REFUSE = "refuse"


class FirstBootWay(StrEnum):
    """How a guest is told its name and keys: systemd's credentials, or cloud-init's NoCloud.

    ``AUTO``: as the template says that its guest understands, else systemd's.
    """

    AUTO = "auto"
    SYSTEMD = "systemd"
    CLOUD_INIT = "cloud-init"


class MigrateMode(StrEnum):
    """How a VM travels."""

    AUTO = "auto"
    LIVE = "live"
    NON_LIVE = "non-live"
    OFFLINE = "offline"


class StorageWay(StrEnum):
    """What happens to the disks of a VM that moves.

    ``AUTO``: a disk both hosts see stays, any other goes along, one with backing files still upon
    them. ``SHARED``: all are seen by both, which for a block device nobody but the caller knows.
    ``COPY``: all go along, by a live move each as one file. ``INCREMENT``: as ``AUTO``, but a disk
    that cannot stay upon its backing files blocks.
    """

    AUTO = "auto"
    SHARED = "shared"
    COPY = "copy"
    INCREMENT = "increment"


class PostCopyWay(StrEnum):
    """Whether a live move may start the VM on the target before all of its memory is there.

    ``PREFER``: after one round over all of it. ``ALLOW``: if it does not get there otherwise.
    """

    NEVER = "never"
    ALLOW = "allow"
    PREFER = "prefer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRequest:
    """``twinship clone``. ``macs`` are given to the interfaces in their order; the rest random.

    ``name`` empty: the first free of ``X-clone``, ``X-clone-2``, ... ``rate`` is bytes/s, 0 for
    no limit. ``disks`` says what differs from the default for single disks. ``to`` is the host the
    clone shall be on, empty for the source's. ``nvram`` is the path of the clone's firmware
    variables, empty for ours. ``full_allocation``: files take all their space at once. ``vcpus``
    and ``memory_bytes`` 0: as the source. ``nics``: index, ``network`` or ``bridge``, and its name.
    ``snapshot``: the moment to clone, empty for now.
    ``hostname`` ("auto": made of the VM's name) and ``ssh_keys`` (root's) reach guests with systemd
    252 or later, or with ``first_boot`` cloud-init. ``grow``: disk targets and their new sizes in
    bytes. ``address`` is the IPv4 address the libvirt network of the first interface gives to the
    clone; ``mac_range`` and ``address_range`` say where those of many come from, see
    :mod:`twinship.planning.addresses`. ``definition_file``: what is cloned is no VM but the
    definition in this file of this machine; ``vm`` is then ``HOST/``, where its disks lie.
    """

    vm: str
    name: str = ""
    mode: CloneMode = CloneMode.AUTO
    pool: str = ""
    uuid: str = ""
    macs: tuple[str, ...] = ()
    disks: tuple[DiskChoice, ...] = ()
    to: str = ""
    nvram: str = ""
    nvram_way: StateWay = StateWay.COPY
    tpm_way: StateWay = StateWay.REFUSE
    grow: tuple[tuple[str, int], ...] = ()
    mac_range: str = ""
    address_range: str = ""
    address: str = ""
    definition_file: str = ""
    full_allocation: bool = False
    vcpus: int = 0
    memory_bytes: int = 0
    nics: tuple[tuple[int, str, str], ...] = ()
    hostname: str = ""
    ssh_keys: tuple[str, ...] = ()
    first_boot: FirstBootWay = FirstBootWay.AUTO
    snapshot: str = ""
    start: bool = False
    rate: int = 0
    verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SealChoice:
    """Which seal operations are done, and how the guest's files are reached.

    ``only`` instead of those that are on by default, ``also`` besides, ``except_`` not. ``own``:
    files or directories with operations of the user's. ``keys``: LUKS UUIDs (empty: any) and the
    files their keys are in. ``recover``: a journal that was not written back is written back first.
    Paths are absolute, on this machine.
    """

    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    recover: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """``twinship seal``: all of these VMs, or none. ``commit``: nothing is kept to undo it with."""

    vms: tuple[str, ...]
    choice: SealChoice = SealChoice()
    commit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRequest:
    """``twinship template create``: ``name`` from the VM ``vm``, whose disks are only read.

    ``seal`` False: the copy is taken as it is. ``new_version``: of a template that is there; it
    takes its name. The rest as of a clone.
    """

    name: str
    vm: str
    choice: SealChoice = SealChoice()
    seal: bool = True
    new_version: bool = False
    mode: CloneMode = CloneMode.AUTO
    pool: str = ""
    nvram_way: StateWay = StateWay.COPY
    tpm_way: StateWay = StateWay.REFUSE
    rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateRequest:
    """``twinship migrate``. ``max_pause_s`` None leaves QEMU's own limit (0.3 s).

    ``fix``: what a rewrite of the definition can mend is mended. ``maps``: what is called one thing
    at the source, another on the target: networks, bridges, directories of disks.
    """

    vm: str
    target: str
    fix: bool = False
    maps: tuple[tuple[str, str], ...] = ()
    mode: MigrateMode = MigrateMode.AUTO
    storage: StorageWay = StorageWay.AUTO
    stay_defined: bool = False
    temporary: bool = False
    max_pause_s: float | None = None
    post_copy: PostCopyWay = PostCopyWay.NEVER
    rate: int = 0
    verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIds:
    """Random values a plan is given, so that planning itself is pure."""

    uuid: str
    genid: str
    macs: tuple[str, ...]
    carrier: str = ""
