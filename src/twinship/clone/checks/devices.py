"""Checks of a clone: disks that are in no file of a directory."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.clone.checks.case import CloneCase
from twinship.clone.disks import choice_of, to_device, way_of
from twinship.model.request import CloneMode, DiskWay
from twinship.model.vm import Disk
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[CloneCase] = CheckTable()


@ROWS.row("DISK_NOT_A_FILE")
def disks_are_files_or_devices(case: CloneCase) -> Iterator[Problem]:
    """What a disk's bytes are in must be a file or a block device of its host.

    Network storage is reached by QEMU alone. A volume by name must be in an active pool. A whole
    SCSI device (``lun``) hands the guest's commands on, which a copy cannot.
    """
    for disk in case.facts.source.disks:
        way, asked = way_of(disk, case.request), choice_of(disk, case.request).way
        if disk.empty or not (way is DiskWay.COPY or (disk.own and asked is DiskWay.AUTO)):
            continue
        if why := _nowhere(disk):
            yield Problem(
                f"disk {disk.target} {why}",
                hint=f"only files and block devices can be copied: --disk {disk.target}=drop "
                "leaves it out, =share has both VMs use it",
                object=case.disk(disk.target),
            )


def _nowhere(disk: Disk) -> str:
    """Why the bytes of a disk cannot be copied; empty when they can."""
    if disk.on_device and disk.device == "lun":
        return "is a SCSI device that is passed through"
    if disk.source_type == "file" or disk.chain:
        return ""
    if disk.source_type == "volume":
        return f"is volume {disk.path}, which is no file or device of an active pool"
    return f"is on {disk.protocol or disk.source_type} storage"


@ROWS.row("DISK_ON_DEVICE")
def devices_are_copied_whole(case: CloneCase) -> Iterator[Problem]:
    """A block device is copied to another, or to a raw file, while nobody writes to it.

    No overlay of ours can hold it still or stand on it: those lie beside a file. What no pool
    shows can be read by QEMU only, so not be compared.
    """
    for disk in case.copied:
        if not disk.on_device:
            continue
        if case.facts.in_use:
            why, hint = "is written by the running VM", "shut it down first"
        elif case.request.mode is CloneMode.LINKED:
            why, hint = "cannot be what a linked clone stands on", "--mode full"
        elif disk.format not in ("", "raw"):
            why, hint = f"holds {disk.format}, not raw", ""
        elif case.request.verify and disk.top is not None and not disk.top.pool:
            why, hint = "is in no storage pool, so cannot be compared", "leave out --verify"
        else:
            continue
        yield Problem(
            f"disk {disk.target} is a block device and {why}",
            hint=hint,
            object=case.disk(disk.target),
        )


@ROWS.row("DISK_TO_DEVICE")
def devices_take_raw_disks(case: CloneCase) -> Iterator[Problem]:
    """A volume that is a block device has no file to keep qcow2 in; what is outside has no pool."""
    for disk in case.copied:
        pool = _pool(case, disk)
        if disk.on_device and not pool and not choice_of(disk, case.request).path:
            yield Problem(
                f"disk {disk.target} is on {disk.path}, which is in no storage pool",
                hint="say where the copy shall go: --pool POOL",
                object=case.disk(disk.target),
            )
        elif to_device(case.facts, pool) and disk.format not in ("", "raw"):
            yield Problem(
                f"disk {disk.target} is {disk.format}; the volumes of pool {pool!r} are raw",
                hint="choose a pool over a directory (--pool)",
                object=case.disk(disk.target),
            )
        elif to_device(case.facts, pool) and case.request.mode is CloneMode.LINKED:
            yield Problem(
                f"the volumes of pool {pool!r} are devices: no overlay of disk {disk.target} "
                "can be in one",
                hint="choose a pool over a directory (--pool)",
                object=case.disk(disk.target),
            )


def _pool(case: CloneCase, disk: Disk) -> str:
    """The pool a disk's copy goes to; empty where there is none."""
    if path := choice_of(disk, case.request).path:
        found = case.facts.host.pool_at(path.rpartition("/")[0])
        return found.name if found is not None else ""
    return case.request.pool or (disk.top.pool if disk.top is not None else "")
