"""The copy ladder: for each disk the fastest way there is, and why not a faster one; pure.

The rungs are asked from the fastest down; the first that has nothing against it is taken, and the
reasons of those above it go into the plan and the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinship.domxml.carrier import aligned
from twinship.model.request import CloneMode
from twinship.model.vm import Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderCase:
    """One disk to be cloned.

    ``seen_here``: this process sees the file itself. ``no_reflink``: why its filesystem cannot, as
    far as that can be known (empty when it can, or when only trying would tell). ``across``: the
    clone is for another host. ``snapshot``: ``internal`` when the moment is inside the file.
    ``allocate``: a raw file shall take all its space at once. ``to_device``: the copy goes to a
    volume that is a block device.
    """

    disk: Disk
    mode: CloneMode
    seen_here: bool
    no_reflink: str
    across: bool = False
    snapshot: str = ""
    allocate: bool = False
    to_device: bool = False

    @property
    def on_device(self) -> bool:
        """Whether either end is a block device."""
        return self.to_device or self.disk.on_device

    @property
    def odd(self) -> bool:
        """Whether the last bytes of a device could be had through no pool: it is read as one."""
        top = self.disk.top
        return top is not None and top.block and top.length_bytes != aligned(top.length_bytes)

    @property
    def based(self) -> bool:
        """Whether the file is an overlay over others."""
        header = self.disk.top.header if self.disk.top else None
        return header is not None and bool(header.backing_path)

    @property
    def format(self) -> str:
        """The format of the file itself."""
        header = self.disk.top.header if self.disk.top else None
        return header.format if header is not None else self.disk.format


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rung is not taken."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to make a disk; ``ask`` says what is against it."""

    method: str
    ask: Callable[[LadderCase], Refusal | None]


_NO_SNAPSHOTS = (
    "block devices share no blocks by libvirt: of LVM it makes snapshots of a fixed size, no thin "
    "ones, and of ZFS none"
)


def _reflink(case: LadderCase) -> Refusal | None:
    if case.across:
        return Refusal("OTHER_HOST", "blocks are shared within one filesystem only")
    if case.mode is CloneMode.LINKED:
        return Refusal("LINKED", "a linked clone was asked for")
    if case.on_device:
        return Refusal("DEVICE", _NO_SNAPSHOTS)
    if case.allocate:
        return Refusal("ALLOCATED", "all space is to be taken at once")
    if case.based and case.mode is CloneMode.FULL:
        return Refusal("BASED", "the file is based on another, which a full clone does not share")
    if case.no_reflink:
        return Refusal("FILESYSTEM", case.no_reflink)
    if not case.seen_here and case.format != "raw":
        return Refusal(
            "REMOTE",
            f"libvirt reflinks raw volumes only; for {case.format} Twinship has to run on the host",
        )
    return None


def _overlay(case: LadderCase) -> Refusal | None:
    if case.snapshot == "internal":
        return Refusal("SNAPSHOT", "the moment is inside the file, not what the file shows")
    if case.mode is not CloneMode.LINKED:
        return Refusal("NOT_ASKED", "it would depend on the source's file: --mode linked")
    if case.across:
        return Refusal("OTHER_HOST", "the base is on another host")
    if case.on_device:
        return Refusal("DEVICE", "an overlay stands on a file")
    return None


def _container(case: LadderCase) -> Refusal | None:
    if case.based and (case.mode is CloneMode.FULL or case.across):
        return Refusal("BASED", "the file is based on another, which the clone does not share")
    if case.odd:
        return Refusal("ODD_SIZE", "the device's size is no multiple of 64 KiB")
    return None


def _always(_case: LadderCase) -> Refusal | None:
    return None


LADDER: tuple[Rung, ...] = (
    Rung("reflink", _reflink),
    Rung("overlay", _overlay),
    Rung("carrier", _container),
    Rung("flatten", _always),
)
"""``carrier`` copies the file itself, holes kept, byte for byte (an overlay keeps what it is based
on); ``flatten`` copies what the guest sees into one file."""


def climb(case: LadderCase) -> tuple[str, list[dict[str, Any]]]:
    """The method for a disk, and the faster ones with what is against them."""
    against: list[dict[str, Any]] = []
    for rung in LADDER:
        refusal = rung.ask(case)
        if refusal is None:
            return rung.method, against
        against.append({"method": rung.method, "code": refusal.code, "reason": refusal.reason})
    raise AssertionError("the last rung takes everything")
