"""Is there a place for its files on the target, and do they find each other there?"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.disks import Way, directories
from twinship.migrate.places import OF_FILES, file_pools, mapped, only_pool
from twinship.model.plan import Cure
from twinship.model.request import StorageWay
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()
GIB = 1024**3


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
