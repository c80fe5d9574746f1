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


class MigrateMode(StrEnum):
    """How a VM travels."""

    AUTO = "auto"
    LIVE = "live"
    NON_LIVE = "non-live"
    OFFLINE = "offline"


class StorageWay(StrEnum):
    """What happens to the disks of a VM that moves."""

    AUTO = "auto"
    SHARED = "shared"
    COPY = "copy"


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
    252 or later.
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
    full_allocation: bool = False
    vcpus: int = 0
    memory_bytes: int = 0
    nics: tuple[tuple[int, str, str], ...] = ()
    hostname: str = ""
    ssh_keys: tuple[str, ...] = ()
    snapshot: str = ""
    start: bool = False
    rate: int = 0
    verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateRequest:
    """``twinship migrate``. ``max_pause_s`` None leaves QEMU's own limit (0.3 s)."""

    vm: str
    target: str
    mode: MigrateMode = MigrateMode.AUTO
    storage: StorageWay = StorageWay.AUTO
    stay_defined: bool = False
    temporary: bool = False
    max_pause_s: float | None = None
    rate: int = 0
    verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIds:
    """Random values a plan is given, so that planning itself is pure."""

    uuid: str
    genid: str
    macs: tuple[str, ...]
    carrier: str = ""
