"""Can its disks be reached, or copied?"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.disks import Way
from twinship.model.plan import Severity
from twinship.model.request import StorageWay
from twinship.model.vm import Disk
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()
GIB = 1024**3
MIB = 1024**2
_SAFE_CACHE = ("none", "directsync")
_DEVICES = ("block", "volume", "dir", "nvme", "vhostuser")


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
    for disk in case.copied:
        yield Problem(
            f"disk {disk.target} ({disk.path}) is not the same file on {case.facts.target.name}",
            hint="leave out --storage, then it is copied",
            object=f"{case.vm_object}/disk/{disk.target}",
        )


@ROWS.row("STORAGE_UNSAFE_CACHE")
def shared_cache_is_safe(case: MigrateCase) -> Iterator[Problem]:
    """On a shared file two hosts' page caches could disagree: cache none or directsync is safe."""
    for disk, way in case.ways:
        if case.live and way is Way.SHARED and disk.source_type in ("file", "block"):
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
    """Files are carried; a block device of the source is not copied, whatever the target has.

    What no pool shows as a file cannot be reached over a connection either.
    """
    for disk, way in case.ways:
        if way is not Way.STAY or disk.source_type not in _DEVICES:
            continue
        if disk.source_type == "block" and case.facts.storage.devices.get(disk.path):
            continue  # STORAGE_UNPROVED speaks of it
        hint = "put it on storage that both hosts see, or copy it into a file: qemu-img convert"
        if disk.source_type == "volume":
            hint = "start its storage pool, or name the file itself in the definition"
        yield Problem(
            f"disk {disk.target} is {_spoken(disk)} of {case.facts.source.name}: it is not copied"
            + (
                f"; {case.facts.target.name} shows no {disk.path}"
                if disk.source_type == "block"
                else ""
            ),
            hint=hint,
            object=f"{case.vm_object}/disk/{disk.target}",
        )


@ROWS.row("STORAGE_UNPROVED")
def devices_are_one(case: MigrateCase) -> Iterator[Problem]:
    """Whether a block device of that path is the same on both hosts, no connection can tell.

    Two hosts may well have a /dev/sdb each. ``--storage shared`` says that it is one.
    """
    for disk, way in case.ways:
        if disk.source_type != "block" or not case.facts.storage.devices.get(disk.path):
            continue
        insisted = way is Way.SHARED
        yield Problem(
            f"disk {disk.target}: {case.facts.target.name} has a {disk.path} as well; whether it "
            "is the same device cannot be seen from here",
            hint=""
            if insisted
            else "if it is (compare lsblk -o NAME,WWN,SERIAL on both): --storage shared",
            object=f"{case.vm_object}/disk/{disk.target}",
            severity=Severity.UNKNOWN if insisted else None,
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
def encrypted_disks_move_whole(case: MigrateCase) -> Iterator[Problem]:
    """A live copy is of what the guest sees: it would have to be encrypted anew on the target.

    An offline move takes the encrypted file as it is.
    """
    for disk in case.copied if case.live else ():
        header = disk.top.header if disk.top else None
        if disk.encrypted or (header is not None and header.encrypted):
            yield Problem(
                f"disk {disk.target} is encrypted, and a running VM's copy would not be",
                hint="shut the VM down and move it offline: then the file goes as it is",
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
    for route in case.moving:
        below = len(route.disk.chain) - 1
        if case.live and route.way is Way.COPY and below > 0:
            files = "its backing file" if below == 1 else f"its {below} backing files"
            yield Problem(
                f"disk {route.disk.target} and {files} become one file"
                + (f": {route.why}" if route.why else ""),
                object=f"{case.vm_object}/disk/{route.disk.target}",
            )


@ROWS.row("DISK_INCREMENT", Severity.INFO)
def increments_stand_on_something(case: MigrateCase) -> Iterator[Problem]:
    """A disk whose backing files the target has, or gets, moves without what is in them."""
    for route in case.moving:
        if route.way is not Way.INCREMENT or route.in_the_way:
            continue
        own = sum(layer.allocated_bytes for layer in route.layers)
        before = sum(layer.allocated_bytes for layer in route.before)
        first = f", after {before / MIB:.1f} MiB that it stands on" if before else ""
        yield Problem(
            f"disk {route.disk.target} moves as an increment of {own / MIB:.1f} MiB{first}"
            + (f": {route.why}" if route.why else ""),
            object=f"{case.vm_object}/disk/{route.disk.target}",
        )


def _spoken(disk: Disk) -> str:
    words = {
        "block": f"the block device {disk.path}",
        "volume": f"the volume {disk.path}, which no active pool shows,",
    }
    return words.get(disk.source_type, f"a {disk.source_type} device")
