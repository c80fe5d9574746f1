"""Can its disks be reached, or copied?"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.disks import Way, directories
from twinship.migrate.places import OF_FILES, file_pools, mapped, only_pool
from twinship.model.plan import Cure, Severity
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


@ROWS.row("CHAIN_KEEPS_ITS_PLACE")
def chains_hold_together(case: MigrateCase) -> Iterator[Problem]:
    """A file that moves as it is names its backing file as before.

    By an absolute path it finds it only where that is the same on the target; a relative name goes
    along. A running VM's disk is written anew, as one file or upon its backing file's new path.
    """
    for route in case.routes:
        flattened = case.live and route.way is Way.COPY
        if route.way is Way.STAY or flattened:
            continue
        as_it_is = route.disk.chain[1:] if case.live and route.moves else route.disk.chain
        for layer in as_it_is:
            if case.facts.places.still_names(layer):
                continue
            yield Problem(
                f"{layer.path} names its backing file by a path that "
                f"{case.facts.target.name} will not have: its files lie elsewhere there",
                hint="put them into one of the same path there (leave out --map or --fix); or make "
                f"one file of the disk first: twinship vm flatten {case.facts.vm.vm.name}; a live "
                "move does so itself",
                object=f"{case.vm_object}/disk/{route.disk.target}",
            )
    for what, layer in case.along.files:
        if what == "file of a snapshot" and not case.facts.places.still_names(layer):
            yield Problem(
                f"{layer.path}, a {what}, names its backing file by a path that "
                f"{case.facts.target.name} will not have",
                hint="put it into a directory of the same path there",
                object=case.vm_object,
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


@ROWS.row("DISK_EXISTS")
def targets_are_free(case: MigrateCase) -> Iterator[Problem]:
    """libvirt would silently write over a file that is there; we never do.

    A backing file is an exception: one that is the same stays, and the disk stands on it. Two files
    of two directories that become one must not have one name.
    """
    target = case.facts.target.name
    for route in case.moving:
        for layer in (*route.layers, *route.before):
            there, path = case.facts.files.get(layer.path), case.facts.there(layer.path)
            if there is None or not there.exists:
                continue
            base = case.facts.storage.bases.get(layer.path)
            message = f"{path} is already there on {target}"
            hint = "if nobody needs it, delete it there: virsh vol-delete " + path
            if base is not None and case.request.storage is not StorageWay.COPY:
                message += f", and it is not known to be this disk's backing file: {base.why}"
                if base.alike:
                    hint = "--verify compares all of it before"
            yield Problem(message, hint=hint, object=f"{case.vm_object}/disk/{route.disk.target}")
    for what, layer in case.along.files:
        there, path = case.facts.files.get(layer.path), case.facts.there(layer.path)
        if what == "file of a snapshot" and there is not None and there.exists:
            yield Problem(
                f"{path}, a {what}, is already there on {target}",
                hint="if nobody needs it, delete it there: virsh vol-delete " + path,
                object=case.vm_object,
            )
    first: dict[str, str] = {}
    own = (layer for route in case.moving for layer in (*route.layers, *route.standing))
    for layer in (*own, *(layer for _, layer in case.along.files)):
        path = case.facts.there(layer.path)
        if first.setdefault(path, layer.path) != layer.path:
            yield Problem(
                f"{first[path]} and {layer.path} would both be {path} on {target}",
                hint="map their directories to two different ones: --map OLD=NEW",
                object=case.vm_object,
            )


@ROWS.row("STORAGE_POOL_MISSING")
def pools_are_there(case: MigrateCase) -> Iterator[Problem]:
    """The target needs an active pool over the directory a disk will lie in.

    That is the directory it lies in here, or the one that ``--map`` names. A disk that its
    definition names by pool and volume needs the pool of that name.
    """
    target, asked = case.facts.target, mapped(case.request)
    mended = {old for old, _ in case.facts.places.moved if old not in asked}
    for old in sorted({*_needed(case)} | mended):
        directory = asked.get(old, old)
        pool = target.pool_at(directory)
        cure = _only_pool(case, old) if old not in asked else None
        if pool is None:
            yield Problem(
                f"{target.name} has no storage pool over {directory}",
                hint=f"there: virsh pool-define-as NAME dir --target {directory} && "
                f"virsh pool-build NAME && virsh pool-start NAME; {_other_pools(case, old)}",
                object=f"pool/{directory}",
                cure=cure,
            )
        elif not pool.active:
            yield Problem(
                f"storage pool {pool.name!r} on {target.name} is not active",
                hint=f"there: virsh pool-start {pool.name}; {_other_pools(case, old)}",
                object=f"pool/{pool.name}",
                cure=cure,
            )
        elif pool.type not in OF_FILES:
            yield Problem(
                f"storage pool {pool.name!r} over {directory} on {target.name} holds no files: it "
                f"is of type {pool.type}",
                hint=_other_pools(case, old),
                object=f"pool/{pool.name}",
            )
    for disk in case.facts.vm.disks:
        if not disk.named or disk.source_type != "file":
            continue
        pool = case.facts.pool_for(disk.path)
        if pool is not None and pool.name != disk.named:
            yield Problem(
                f"disk {disk.target} is named by its pool {disk.named!r}; on "
                f"{target.name} that pool is {pool.name!r}",
                hint=f"name the file in its <source> instead (virsh edit): file={disk.path!r}",
                object=f"{case.vm_object}/disk/{disk.target}",
            )


@ROWS.row("STORAGE_FULL")
def copies_fit(case: MigrateCase) -> Iterator[Problem]:
    """The bytes to be copied must fit into the target's pool, all disks together."""
    by_directory: dict[str, int] = {}
    for directory, needed in _needed(case).items():
        new = posixpath.dirname(case.facts.there(posixpath.join(directory, "-")))
        by_directory[new] = by_directory.get(new, 0) + needed
    for directory, needed in sorted(by_directory.items()):
        pool = case.facts.target.pool_at(directory)
        if pool is not None and pool.active and needed > pool.available_bytes:
            yield Problem(
                f"the copies need {needed / GIB:.1f} GiB, pool {pool.name!r} on "
                f"{case.facts.target.name} has {pool.available_bytes / GIB:.1f} GiB left",
                hint="free space there",
                object=f"pool/{pool.name}",
            )


def _needed(case: MigrateCase) -> dict[str, int]:
    """Bytes to be written, by directory of the source."""
    if not case.live:
        layers = [layer for route in case.moving for layer in route.layers]
        return directories((*layers, *(layer for _, layer in case.along.files)))
    needed = directories(layer for _, layer in case.along.files)
    for route in case.moving:
        flattened = route.way is Way.COPY
        size = sum(part.allocated_bytes for part in route.disk.chain[: None if flattened else 1])
        for layer in route.layers:
            directory = posixpath.dirname(layer.path)
            needed[directory] = needed.get(directory, 0) + size
    return needed


def _only_pool(case: MigrateCase, directory: str) -> Cure | None:
    """Where the target has one active pool for files alone, nobody can mean another."""
    pool = only_pool(case.facts.target)
    if pool is None:
        return None
    sentence = f"its files go to {pool.path}, into pool {pool.name!r}, the only active one there"
    return Cure(sentence, Refit.DIRECTORY.value, directory, posixpath.normpath(pool.path))


def _other_pools(case: MigrateCase, directory: str) -> str:
    """What ``--map`` could name instead."""
    found = ", ".join(f"{pool.path} ({pool.name})" for pool in file_pools(case.facts.target))
    if not found:
        return f"{case.facts.target.name} has no active pool for files"
    return f"or put its files elsewhere with --map {directory}=DIRECTORY; active there: {found}"


def _spoken(disk: Disk) -> str:
    words = {
        "block": f"the block device {disk.path}",
        "volume": f"the volume {disk.path}, which no active pool shows,",
    }
    return words.get(disk.source_type, f"a {disk.source_type} device")
