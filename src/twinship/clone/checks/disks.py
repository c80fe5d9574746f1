"""Checks of a clone: its disks."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.clone.checks.case import GIB, CloneCase
from twinship.clone.disks import way_of
from twinship.model.plan import Severity
from twinship.model.request import DiskWay
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[CloneCase] = CheckTable()


@ROWS.row("DISK_UNREADABLE")
def chains_can_be_followed(case: CloneCase) -> Iterator[Problem]:
    """Every file of every disk must be there and lie in a storage pool of the host.

    A qcow2 header may name any file of the host as its backing file: what lies in no pool is never
    opened.
    """
    for disk in case.copied:
        for layer in disk.chain:
            if layer.problem:
                yield Problem(
                    layer.problem,
                    hint=_cure(layer.problem_code, layer.path, case.facts.host.name),
                    object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
                )


@ROWS.row("DISK_FORMAT")
def formats_are_known(case: CloneCase) -> Iterator[Problem]:
    """raw and qcow2 are copied; other formats are refused rather than guessed at."""
    for disk in case.copied:
        if disk.format not in ("", "raw", "qcow2"):
            yield Problem(
                f"disk {disk.target} is {disk.format}; raw and qcow2 can be cloned",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@ROWS.row("DISK_ENCRYPTED")
def disks_are_in_clear(case: CloneCase) -> Iterator[Problem]:
    """An encrypted disk's secret belongs to one volume; the clone would need its own."""
    for disk in case.copied:
        header = disk.top.header if disk.top else None
        if disk.encrypted or (header is not None and header.encrypted):
            yield Problem(
                f"disk {disk.target} is encrypted, which cannot be cloned yet",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@ROWS.row("DISK_SHARED", Severity.WARN)
def shared_disks_are_said(case: CloneCase) -> Iterator[Problem]:
    """A shareable disk is used by the clone too: both write to one disk."""
    for disk in case.facts.source.disks:
        if disk.shareable and disk.device == "disk":
            yield Problem(
                f"disk {disk.target} is shareable: the clone will use the very same one",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@ROWS.row("DISK_SHARED_WRITABLE", Severity.WARN)
def own_disks_that_are_shared_are_said(case: CloneCase) -> Iterator[Problem]:
    """Two VMs that write to one disk destroy its filesystem, unless it is made for that."""
    for disk in case.facts.source.disks:
        if disk.own and not disk.empty and way_of(disk, case.request) is DiskWay.SHARE:
            yield Problem(
                f"disk {disk.target} is shared: never run both VMs at a time",
                object=case.disk(disk.target),
            )


@ROWS.row("DISK_CHOICE")
def choices_are_of_disks(case: CloneCase) -> Iterator[Problem]:
    """What is said of a disk must be of one that the source has, once, and make sense."""
    known = [disk.target for disk in case.facts.source.disks]
    said = [choice.target for choice in case.request.disks]
    for choice in case.request.disks:
        if choice.target not in known:
            yield Problem(
                f"the VM has no disk {choice.target[:40]!r}",
                hint=f"its disks: {', '.join(known) or 'none'}",
                object="disk",
            )
        elif said.count(choice.target) > 1:
            yield Problem(f"disk {choice.target} is named twice", object=case.disk(choice.target))
        elif choice.way is DiskWay.KEEP and not choice.path:
            yield Problem(
                f"disk {choice.target} is to be kept: which file?", object=case.disk(choice.target)
            )


@ROWS.row("DISK_GROW")
def grown_disks_are_copied_ones(case: CloneCase) -> Iterator[Problem]:
    """A disk is made larger, never smaller: what lies behind a new end would be lost."""
    copied = {disk.target: disk for disk in case.copied}
    for target, size in case.request.grow:
        disk = copied.get(target)
        header = disk.top.header if disk is not None and disk.top is not None else None
        if disk is None:
            yield Problem(
                f"the clone has no disk {target[:40]!r} of its own to grow",
                hint=f"it has: {', '.join(copied) or 'none'}",
                object="disk",
            )
        elif header is not None and size < header.virtual_bytes:
            yield Problem(
                f"disk {target} has {header.virtual_bytes / GIB:g} GiB, which is more than "
                f"{size / GIB:g} GiB",
                hint="a disk can be made larger only",
                object=case.disk(target),
            )


@ROWS.row("DISK_PATH")
def paths_can_be_used(case: CloneCase) -> Iterator[Problem]:
    """A new file goes where nothing is, into an active pool; a kept one must be there.

    libvirt reaches files through pools only, and a path could name anything on the host.
    """
    sources = {layer.path for disk in case.facts.source.disks for layer in disk.chain}
    for choice in case.request.disks:
        path, place = choice.path, case.disk(choice.target)
        if not path or choice.way in (DiskWay.DROP, DiskWay.SHARE):
            continue
        pool = case.facts.host.pool_at(path.rpartition("/")[0])
        if not path.startswith("/") or "/../" in path or path.endswith("/"):
            yield Problem(f"{path[:80]!r} is no absolute path of a file", object=place)
        elif pool is None or not pool.active:
            yield Problem(
                f"{path} lies in no active storage pool of {case.facts.host.name}",
                hint=_cure("DISK_NOT_IN_POOL", path, case.facts.host.name),
                object=place,
            )
        elif choice.way is DiskWay.KEEP and path not in case.facts.there:
            yield Problem(f"{path} is not there", object=place)
        elif choice.way is DiskWay.KEEP and path in sources:
            yield Problem(f"{path} is the source's own disk", object=place)
        elif choice.way is not DiskWay.KEEP and path in case.facts.there:
            yield Problem(f"{path} is already there", hint="choose another file", object=place)
    for path in sorted({path for path in case.paths if case.paths.count(path) > 1}):
        yield Problem(f"two disks would go to {path}", object="disk")


def _cure(code: str, path: str, host: str) -> str:
    directory = path.rpartition("/")[0] or "/"
    if path.startswith("/dev/"):
        return "a device of its host is written only where a storage pool has it: name a file"
    match code:
        case "DISK_NOT_IN_POOL" | "BACKING_OUTSIDE_POOLS":
            return (
                f"if {directory} on {host} is meant to hold disks, make it a pool: "
                f"virsh pool-define-as NAME dir --target {directory} && virsh pool-start NAME"
            )
        case "BACKING_MISSING" | "DISK_MISSING":
            return "put the file back, or remove the disk from the VM"
        case "BACKING_FORMAT":
            return "write it into the header: qemu-img rebase -u -F FORMAT -b BACKING FILE"
        case _:
            return ""
