"""Checks of a clone: the VM that is cloned."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.clone.checks.case import CloneCase
from twinship.domxml import read as domread
from twinship.model.plan import Severity
from twinship.model.request import CloneMode
from twinship.model.vm import VmState
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[CloneCase] = CheckTable()


@ROWS.row("VM_NOT_SHUT_OFF")
def source_can_be_read(case: CloneCase) -> Problem | None:
    """The source is shut off, running or paused; in between nothing can be held still."""
    vm = case.facts.source.vm
    if vm.state in (VmState.SHUT_OFF, VmState.RUNNING, VmState.PAUSED):
        return None
    return Problem(
        f"{vm.label} is {vm.state.value.replace('_', ' ')}",
        hint=f"twinship vm stop {vm.label}",
        object=f"vm/{vm.name}",
    )


@ROWS.row("VM_BUSY")
def source_has_no_other_job(case: CloneCase) -> Problem | None:
    """libvirt gives a VM one job at a time: a move, a backup or a save has to end first."""
    source = case.facts.source
    if not source.job:
        return None
    return Problem(
        f"{source.vm.label} is busy with a {source.job}",
        hint="wait for it (virsh domjobinfo)",
        object=f"vm/{source.vm.name}",
    )


@ROWS.row("TEMPLATE_CHANGED")
def the_template_is_as_it_was_made(case: CloneCase) -> Iterator[Problem]:
    """A template's disks are what was sealed, or nobody knows what is in its clones.

    Looked at: length, modification time and the first 64 KiB; with ``--verify`` every byte.
    """
    source = case.facts.source.vm
    for change in case.facts.template_changes:
        yield Problem(
            change,
            hint=f"make it anew: twinship template create {source.name} --from VM --new-version",
            object=f"vm/{source.name}",
        )


@ROWS.row("VM_LIVE_DIFFERS")
def runs_as_defined(case: CloneCase) -> Iterator[Problem]:
    """The clone is made of the definition: a disk plugged in since would be missing in it."""
    source = case.facts.source
    if not source.live_xml or not source.inactive_xml or case.facts.snapshot is not None:
        return
    live, defined = (
        {disk.target: disk.path for disk in domread.disks(text) if disk.device == "disk"}
        for text in (source.live_xml, source.inactive_xml)
    )
    for target in sorted(live.keys() | defined.keys()):
        if live.get(target) != defined.get(target):
            yield Problem(
                f"disk {target} of the running VM is not the one of its definition",
                hint="make the two equal (virsh attach-disk or detach-disk --config), or shut the "
                "VM down first",
                object=case.disk(target),
            )


@ROWS.row("CLONE_LINKED_RUNNING")
def base_stands_still(case: CloneCase) -> Problem | None:
    """A linked clone stands on its base's files, which a running VM goes on writing."""
    if case.request.mode is not CloneMode.LINKED or not case.facts.in_use:
        return None
    return Problem(
        f"{case.facts.source.vm.label} is running: a linked clone would see its base change",
        hint="clone it in full (--mode full), or shut it down first",
        object=f"vm/{case.facts.source.vm.name}",
    )


@ROWS.row("GUEST_NOT_FROZEN", Severity.WARN)
def guest_can_be_frozen(case: CloneCase) -> Problem | None:
    """Without an agent that freezes its filesystems the guest's copy is as after a power cut.

    All disks are of one instant either way.
    """
    source = case.facts.source
    running = source.vm.state is VmState.RUNNING and case.facts.in_use
    if not running or source.agent_connected:
        return None
    return Problem(
        "no guest agent answers: the clone's filesystems will be as after a power cut",
        hint="start qemu-guest-agent in the guest, or shut it down first",
        object=f"vm/{source.vm.name}",
    )


@ROWS.row("VM_MANAGED_SAVE", Severity.WARN)
def no_saved_memory(case: CloneCase) -> Problem | None:
    """A saved memory image stays with the source: the clone boots as after a power cut."""
    if not case.facts.source.managed_save:
        return None
    return Problem(
        "the source has a saved memory image; the clone starts without it, as after a power cut",
        hint="start the source and shut it down properly first",
        object=f"vm/{case.facts.source.vm.name}",
    )


@ROWS.row("VM_SNAPSHOTS", Severity.INFO)
def snapshots_stay(case: CloneCase) -> Problem | None:
    """libvirt's records of snapshots are the source's; the clone has none."""
    count = case.facts.source.snapshots
    if not count:
        return None
    return Problem(f"{count} snapshots of the source are not the clone's", object="snapshots")


@ROWS.row("SNAPSHOT_DISKS")
def snapshot_has_the_disks(case: CloneCase) -> Iterator[Problem]:
    """Every disk that is copied must be in the snapshot, and its moment still be there.

    An external snapshot's moment is the file that was left for an overlay. Committed since, it
    would be another moment: it has to lie below the disk's topmost file.
    """
    snapshot = case.facts.snapshot
    if snapshot is None:
        return
    for disk in case.copied:
        kind = snapshot.disks.get(disk.target, "")
        place = case.disk(disk.target)
        if not kind:
            yield Problem(
                f"snapshot {snapshot.name!r} does not hold disk {disk.target}",
                hint=f"leave it out: --disk {disk.target}=drop",
                object=place,
            )
        elif kind == "external" and disk.path not in case.facts.chains.get(disk.target, ())[1:]:
            yield Problem(
                f"the file of disk {disk.target} is not what it was at snapshot {snapshot.name!r}",
                hint="it was committed or replaced since",
                object=place,
            )
        elif kind == "internal" and disk.format != "qcow2":
            yield Problem(
                f"disk {disk.target} is {disk.format}: no snapshot is inside it", object=place
            )


@ROWS.row("SNAPSHOT_INTERNAL")
def internal_snapshots_are_copied_whole(case: CloneCase) -> Iterator[Problem]:
    """A moment inside a file is reached in a copy of that file, with what it is based on."""
    snapshot = case.facts.snapshot
    if snapshot is None or "internal" not in snapshot.disks.values():
        return
    if case.request.mode is CloneMode.LINKED:
        yield Problem(
            f"snapshot {snapshot.name!r} is inside the disk's file: no overlay can stand on it",
            hint="clone it in full (--mode full)",
        )
    alone = case.request.mode is CloneMode.FULL or case.facts.across
    for disk in case.copied:
        if alone and len(disk.chain) > 1 and snapshot.disks.get(disk.target) == "internal":
            yield Problem(
                f"disk {disk.target} is based on another file, which its snapshot needs",
                hint="clone it on its host with --mode auto, and flatten the clone then",
                object=case.disk(disk.target),
            )


@ROWS.row("SNAPSHOT_OF_RUNNING", Severity.WARN)
def memory_is_not_cloned(case: CloneCase) -> Problem | None:
    """A snapshot of a running VM is taken without its memory."""
    snapshot = case.facts.snapshot
    if snapshot is None or not snapshot.running:
        return None
    return Problem(
        f"the VM ran at snapshot {snapshot.name!r}: the clone starts as after a power cut",
        object=f"vm/{case.facts.source.vm.name}",
    )
