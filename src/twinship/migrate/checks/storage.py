"""Can its disks be reached, or copied?"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from twinship.migrate.checks.case import MigrateCase, Way
from twinship.model.plan import Severity
from twinship.model.request import StorageWay
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()
GIB = 1024**3
_SAFE_CACHE = ("none", "directsync")


@ROWS.row("DISK_UNREADABLE")
def chains_can_be_followed(case: MigrateCase) -> Iterator[Problem]:
    """Every file to be copied must be there and lie in a storage pool of the source.

    A qcow2 header may name any file of the host as its backing file: what lies in no pool is never
    opened.
    """
    for disk in case.copied:
        for layer in disk.chain:
            if layer.problem:
                directory = posixpath.dirname(layer.path) or "/"
                yield Problem(
                    layer.problem,
                    hint=(
                        f"if {directory} on {case.facts.source.name} is meant to hold disks, make "
                        f"it a pool: virsh pool-define-as NAME dir --target {directory}"
                        if layer.problem_code in ("DISK_NOT_IN_POOL", "BACKING_OUTSIDE_POOLS")
                        else ""
                    ),
                    object=f"{case.vm_object}/disk/{disk.target}",
                )


@ROWS.row("STORAGE_NOT_SHARED")
def shared_as_asked(case: MigrateCase) -> Iterator[Problem]:
    """``--storage shared`` wants every disk on the target already, as the very same file."""
    if case.request.storage is not StorageWay.SHARED:
        return
    for disk, way in case.ways:
        if way is Way.COPY:
            yield Problem(
                f"disk {disk.target} ({disk.path}) is not the same file "
                f"on {case.facts.target.name}",
                hint="leave out --storage, then it is copied",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("STORAGE_UNSAFE_CACHE")
def shared_cache_is_safe(case: MigrateCase) -> Iterator[Problem]:
    """On a shared file two hosts' page caches could disagree: cache none or directsync is safe."""
    for disk, way in case.ways:
        if case.live and way is Way.SHARED and disk.source_type == "file":
            if disk.cache in _SAFE_CACHE or disk.readonly:
                continue
            yield Problem(
                f"disk {disk.target} is shared but cached by the host "
                f"(cache={disk.cache or 'default'})",
                hint="set cache='none' in the disk's <driver> and restart the VM",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("STORAGE_CHECK_PASSED", Severity.WARN)
def libvirt_is_overruled(case: MigrateCase) -> Iterator[Problem]:
    """libvirt judges by a filesystem's type whether it is shared, and calls many that are unsafe.

    A file proved to be one on both hosts (a token made by one is seen by the other) is moved with
    that check passed (``VIR_MIGRATE_UNSAFE``).
    """
    for disk, way in case.ways:
        if case.live and way is Way.SHARED and disk.source_type == "file" and not disk.readonly:
            yield Problem(
                f"disk {disk.target} ({disk.path}) is taken for one file on both hosts; this is "
                "proved by a token before the move, and libvirt's own check is passed over",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_NOT_MOVABLE")
def disks_can_move(case: MigrateCase) -> Iterator[Problem]:
    """Local block devices and volumes by name cannot be copied yet; network disks need not be."""
    for disk, way in case.ways:
        if way is Way.STAY and disk.source_type in ("block", "volume", "dir", "nvme", "vhostuser"):
            yield Problem(
                f"disk {disk.target} is a {disk.source_type} device of the source",
                hint="only files and network disks can be moved by this version",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_FORMAT")
def formats_are_known(case: MigrateCase) -> Iterator[Problem]:
    """raw and qcow2 are copied; other formats are refused rather than guessed at."""
    for disk in case.copied:
        if disk.format not in ("", "raw", "qcow2"):
            yield Problem(
                f"disk {disk.target} is {disk.format}; raw and qcow2 can be copied",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_ENCRYPTED")
def disks_are_in_clear(case: MigrateCase) -> Iterator[Problem]:
    """An encrypted disk needs its secret on the target, which is not moved yet."""
    for disk in case.copied:
        header = disk.top.header if disk.top else None
        if disk.encrypted or (header is not None and header.encrypted):
            yield Problem(
                f"disk {disk.target} is encrypted; its secret cannot be moved yet",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_HEADER_LOSS")
def nothing_in_the_header_is_lost(case: MigrateCase) -> Iterator[Problem]:
    """A live copy is of what the guest sees: snapshots and bitmaps in the image stay behind.

    Measured: an internal snapshot vanished on the target without a word. An offline move takes
    the file as it is, with all of that.
    """
    if not case.live:
        return
    for disk in case.copied:
        header = disk.top.header if disk.top else None
        if header is not None and (header.snapshots or header.bitmaps):
            yield Problem(
                f"disk {disk.target} holds {header.snapshots} snapshots and {header.bitmaps} "
                "bitmaps that a live copy would lose",
                hint="shut the VM down and move it offline: then the whole file goes along",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_CHAIN_FLATTENED", Severity.INFO)
def live_copies_are_flat(case: MigrateCase) -> Iterator[Problem]:
    """A live copy of a disk with backing files becomes one file on the target."""
    for disk in case.copied:
        if case.live and len(disk.chain) > 1:
            yield Problem(
                f"disk {disk.target} and its {len(disk.chain) - 1} backing files become one file",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("DISK_EXISTS")
def targets_are_free(case: MigrateCase) -> Iterator[Problem]:
    """libvirt would silently write over a file that is there; we never do."""
    for disk in case.copied:
        for layer in disk.chain[:1] if case.live else disk.chain:
            if case.facts.files.get(layer.path) and case.facts.files[layer.path].exists:
                yield Problem(
                    f"{layer.path} is already there on {case.facts.target.name}",
                    hint="if nobody needs it, delete it there: virsh vol-delete " + layer.path,
                    object=f"{case.vm_object}/disk/{disk.target}",
                )


@ROWS.row("STORAGE_POOL_MISSING")
def pools_are_there(case: MigrateCase) -> Iterator[Problem]:
    """The target needs an active pool over the directory a disk will lie in."""
    for directory in sorted(_needed(case)):
        pool = case.facts.target.pool_at(directory)
        if pool is None:
            yield Problem(
                f"{case.facts.target.name} has no storage pool over {directory}",
                hint=f"there: virsh pool-define-as NAME dir --target {directory} && "
                "virsh pool-build NAME && virsh pool-start NAME",
                object=f"pool/{directory}",
            )
        elif not pool.active:
            yield Problem(
                f"storage pool {pool.name!r} on {case.facts.target.name} is not active",
                hint=f"there: virsh pool-start {pool.name}",
                object=f"pool/{pool.name}",
            )


@ROWS.row("STORAGE_FULL")
def copies_fit(case: MigrateCase) -> Iterator[Problem]:
    """The bytes to be copied must fit into the target's pool, all disks together."""
    for directory, needed in sorted(_needed(case).items()):
        pool = case.facts.target.pool_at(directory)
        if pool is not None and pool.active and needed > pool.available_bytes:
            yield Problem(
                f"the copies need {needed / GIB:.1f} GiB, pool {pool.name!r} on "
                f"{case.facts.target.name} has {pool.available_bytes / GIB:.1f} GiB left",
                hint="free space there",
                object=f"pool/{pool.name}",
            )


@ROWS.row("MEDIUM_MISSING")
def media_are_there(case: MigrateCase) -> Iterator[Problem]:
    """A CD-ROM's file is not copied; QEMU does not start on the target without it."""
    for disk, _ in case.ways:
        if disk.readonly and disk.path in case.facts.media and not case.facts.media[disk.path]:
            yield Problem(
                f"{disk.path} ({disk.device} {disk.target}) is not seen "
                f"on {case.facts.target.name}",
                hint="eject it (virsh change-media --eject) or copy it there",
                object=f"{case.vm_object}/disk/{disk.target}",
                severity=None if case.live else Severity.WARN,
            )


def _needed(case: MigrateCase) -> dict[str, int]:
    """Bytes to be written, by directory."""
    needed: dict[str, int] = {}
    counted: set[str] = set()
    for disk in case.copied:
        if case.live and disk.top is not None:
            directory = posixpath.dirname(disk.top.path)
            size = sum(layer.allocated_bytes for layer in disk.chain)
            needed[directory] = needed.get(directory, 0) + size
            continue
        for layer in disk.chain:
            if layer.path in counted:
                continue
            counted.add(layer.path)
            directory = posixpath.dirname(layer.path)
            needed[directory] = needed.get(directory, 0) + layer.allocated_bytes
    return needed
