"""Which disks virt-clone would clone, which share, and where their copies go; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twinship.domxml.document import parse
from twinship.model.errors import UsageError
from twinship.model.request import DiskChoice, DiskWay
from twinship.model.vm import Disk
from twinship.virtclone.naming import clone_path
from twinship.virtclone.options import Options


def choices(
    disks: Sequence[Disk],
    options: Options,
    names: tuple[str, str],
    *,
    shared_backing: frozenset[str] = frozenset(),
    there: Callable[[str], bool],
) -> tuple[DiskChoice, ...]:
    """What becomes of every disk of a VM. ``names`` are the source's and the clone's.

    The files are taken in order by the disks that are cloned; more than needed do not matter.
    ``there`` says whether a path is taken. Raises :class:`UsageError` for too few files.
    """
    cloned = [disk for disk in disks if _is_cloned(disk, options, shared_backing)]
    if len(options.files) < len(cloned) and (options.preserve_data or not options.auto_clone):
        raise UsageError(
            f"{len(cloned)} disks are to be cloned, {len(options.files)} files are given",
            hint="give a --file for each of " + ", ".join(disk.target for disk in cloned),
        )
    paths = _paths(cloned, options, names, there)
    way = DiskWay.KEEP if options.preserve_data else DiskWay.COPY
    return tuple(
        DiskChoice(target=disk.target, way=way, path=next(paths))
        if disk in cloned
        else DiskChoice(target=disk.target, way=DiskWay.SHARE)
        for disk in disks
    )


def unknown_targets(disks: Sequence[Disk], options: Options) -> tuple[str, ...]:
    """The targets named in ``--force-copy`` and ``--skip-copy`` that the VM does not have."""
    known = {disk.target for disk in disks}
    return tuple(sorted((options.force_copy | options.skip_copy) - known))


def shared_backing(text: str) -> frozenset[str]:
    """The transient disks whose file several VMs are meant to use at once."""
    found = parse(text).findall("devices/disk")
    return frozenset(
        disk.find("target").get("dev", "")  # type: ignore[union-attr]
        for disk in found
        if disk.find("transient[@shareBacking='yes']") is not None
        and disk.find("target") is not None
    )


def _is_cloned(disk: Disk, options: Options, shared: frozenset[str]) -> bool:
    """virt-clone's rule: what is written to by one VM alone; then what was said of it."""
    if disk.empty or disk.target in options.skip_copy:
        return False
    if disk.target in options.force_copy:
        return True
    return not (disk.readonly or disk.shareable or disk.target in shared)


def _paths(
    cloned: Sequence[Disk],
    options: Options,
    names: tuple[str, str],
    there: Callable[[str], bool],
) -> Iterator[str]:
    taken = set(options.files[: len(cloned)])
    for number, disk in enumerate(cloned):
        if number < len(options.files):
            yield options.files[number]
            continue
        path = clone_path(disk.path, *names, lambda path: path in taken or there(path))
        taken.add(path)
        yield path
