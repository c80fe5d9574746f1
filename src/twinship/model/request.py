"""What a caller asks for. The same objects whether it comes from Python, a terminal or the net."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CloneMode(StrEnum):
    """How independent a clone is of its source."""

    AUTO = "auto"
    FULL = "full"


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
    no limit.
    """

    vm: str
    name: str = ""
    mode: CloneMode = CloneMode.AUTO
    pool: str = ""
    uuid: str = ""
    macs: tuple[str, ...] = ()
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
