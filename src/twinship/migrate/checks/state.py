"""Is the VM in a state to be moved, and does the request fit it?"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.lifecycle.plan import base_problem
from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Severity
from twinship.model.request import MigrateMode
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("MIGRATE_SAME_HOST")
def hosts_differ(case: MigrateCase) -> Problem | None:
    """Source and target must be two hosts: two that show one host UUID are one to libvirt.

    Cloned hosts often share a UUID; libvirt then refuses with "guest is on the same host".
    """
    facts = case.facts
    if facts.source.uuid != facts.target.uuid:
        return None
    if facts.source.name == facts.target.name:
        return Problem(f"the VM is on {facts.source.name} already", object="target")
    return Problem(
        f"{facts.source.name} and {facts.target.name} show the same host UUID {facts.source.uuid}",
        hint="set host_uuid in /etc/libvirt/libvirtd.conf (or virtqemud.conf) on one of them",
        object="target",
    )


@ROWS.row("MIGRATE_OFFLINE_RUNNING")
def offline_means_off(case: MigrateCase) -> Problem | None:
    """An offline move of a running VM would leave it running and a startable twin on the target.

    Measured: virsh migrate --offline does just that and returns 0.
    """
    state = case.facts.vm.vm.state
    if case.mode is not MigrateMode.OFFLINE or not state.active:
        return None
    return Problem(
        f"the VM is {state.value}; an offline move is for a VM that is shut off",
        hint=f"move it live (--mode live), or first: twinship vm stop {case.facts.vm.vm.label}",
        object=case.vm_object,
    )


@ROWS.row("MIGRATE_LIVE_SHUT_OFF")
def live_means_running(case: MigrateCase) -> Problem | None:
    """Only a VM that runs has memory to move."""
    if not case.live or case.facts.vm.vm.state.active:
        return None
    return Problem(
        f"the VM is {case.facts.vm.vm.state.value.replace('_', ' ')}: no memory is there to move",
        hint="leave out --mode, or use --mode offline",
        object=case.vm_object,
    )


@ROWS.row("MIGRATE_TEMPORARY_OFFLINE")
def temporary_means_running(case: MigrateCase) -> Problem | None:
    """A transient VM exists only while it runs."""
    if case.live or not case.request.temporary:
        return None
    return Problem("--temporary is for a running VM", hint="leave it out", object=case.vm_object)


@ROWS.row("VM_TRANSIENT")
def transient_fits(case: MigrateCase) -> Problem | None:
    """A transient VM has no definition that could stay or move."""
    if case.facts.vm.vm.persistent or not case.request.stay_defined:
        return None
    return Problem(
        "the VM is transient: there is no definition that could stay",
        hint="leave out --stay-defined",
        object=case.vm_object,
    )


@ROWS.row("VM_JOB")
def no_job(case: MigrateCase) -> Problem | None:
    """Another job (backup, snapshot, migration) holds the VM."""
    if not case.facts.vm.job:
        return None
    return Problem(
        f"a job is under way on the VM: {case.facts.vm.job}",
        hint="wait for it, or end it: virsh domjobabort",
        object=case.vm_object,
    )


@ROWS.row("VM_PAUSE_REASON")
def no_broken_pause(case: MigrateCase) -> Problem | None:
    """A VM paused by an I/O error or a crash would arrive as broken as it is."""
    reason = case.facts.vm.pause_reason
    if reason not in ("io_error", "crashed", "post_copy_failed", "migration"):
        return None
    return Problem(
        f"the VM is paused ({reason.replace('_', ' ')})",
        hint="mend what stopped it, then resume it",
        object=case.vm_object,
    )


@ROWS.row("BASE_HAS_CHILDREN")
def is_no_base(case: MigrateCase) -> Problem | None:
    """Linked clones read the files of their base: it stays where they are."""
    return base_problem(case.facts.vm, case.facts.children)


@ROWS.row("VM_SNAPSHOTS")
def no_snapshots(case: MigrateCase) -> Problem | None:
    """libvirt does not move a running VM that has snapshot records; an offline move keeps them."""
    count = case.facts.vm.snapshots
    if not count or not case.live:
        return None
    return Problem(
        f"the VM has {count} snapshots, with which libvirt does not move a running VM",
        hint="shut it down and move it offline: they go along; or remove the records "
        "(virsh snapshot-delete --metadata; what is in the disks stays)",
        object=case.vm_object,
    )


@ROWS.row("VM_CHECKPOINTS")
def no_checkpoints(case: MigrateCase) -> Problem | None:
    """libvirt moves a running VM without its checkpoints, and says nothing (measured, 9.0).

    An offline move takes them along.
    """
    count = case.facts.vm.checkpoints
    if not count or not case.live:
        return None
    return Problem(
        f"the VM has {count} checkpoints, which libvirt leaves behind when a running VM moves",
        hint="shut it down and move it offline: they go along; or remove them "
        "(virsh checkpoint-delete --metadata; the next backup is a full one)",
        object=case.vm_object,
    )


@ROWS.row("VM_MANAGED_SAVE")
def no_saved_memory(case: MigrateCase) -> Problem | None:
    """A saved memory image belongs to the source's QEMU and paths; it cannot go along."""
    if case.live or not case.facts.vm.managed_save:
        return None
    return Problem(
        "the VM has a saved memory image, which cannot go along and would be lost",
        hint="start it and shut it down, or drop the image: virsh managedsave-remove",
        object=case.vm_object,
    )


@ROWS.row("VM_AUTOSTART", Severity.INFO)
def autostart_stays(case: MigrateCase) -> Problem | None:
    """The autostart mark is a link on the source; libvirt does not move it."""
    if not case.facts.vm.autostart:
        return None
    return Problem(
        "the VM starts with its host; this mark is not moved",
        hint=f"afterwards: virsh autostart {case.facts.vm.vm.name} on {case.facts.target.name}",
        object=case.vm_object,
    )


@ROWS.row("NAME_TAKEN")
def name_is_free(case: MigrateCase) -> Iterator[Problem]:
    """The target must have no VM of this name or UUID; a shut-off one is a stale twin."""
    facts = case.facts
    if facts.source.name == facts.target.name:
        return  # MIGRATE_SAME_HOST says it
    if facts.uuid_on_target is not None:
        yield Problem(
            f"{facts.target.name} has this very VM already ({facts.uuid_on_target.value})",
            hint="if it is a stale definition, remove it: "
            f"twinship vm delete {facts.target.name}/{facts.vm.vm.uuid} --disks keep",
            object=case.vm_object,
        )
    if facts.name_on_target:
        yield Problem(
            f"{facts.target.name} has another VM named {facts.vm.vm.name!r}",
            hint="rename one of them: virsh domrename",
            object=case.vm_object,
        )


@ROWS.row("MIGRATE_SESSION", Severity.WARN)
def system_connections(case: MigrateCase) -> Problem | None:
    """Moves from or to a session connection are unreliable, says the manual."""
    if case.facts.source.privileged and case.facts.target.privileged:
        return None
    return Problem(
        "a session connection is involved; moves from or to one are unreliable",
        hint="use the system connection (qemu:///system)",
    )


@ROWS.row("VM_BLOCK_JOB")
def no_block_job(case: MigrateCase) -> Problem | None:
    """A disk with a job of QEMU's (copy, commit, pull, backup) keeps a running VM where it is."""
    if not case.live or not case.facts.block_jobs:
        return None
    return Problem(
        f"a block job is under way on {', '.join(case.facts.block_jobs)}",
        hint=f"wait for it: virsh blockjob {case.facts.vm.vm.name} {case.facts.block_jobs[0]}",
        object=case.vm_object,
    )


@ROWS.row("VM_AUTODESTROY", Severity.UNKNOWN)
def outlives_its_maker(case: MigrateCase) -> Problem | None:
    """libvirt moves no VM that dies with the connection that started it; no call shows it."""
    if not case.live or case.facts.vm.vm.persistent:
        return None
    return Problem(
        "the VM is transient: if it is to die with the connection that made it (autodestroy), "
        "libvirt will not move it",
        object=case.vm_object,
    )


@ROWS.row("MIGRATE_MODE", Severity.INFO)
def mode_is_told(case: MigrateCase) -> Problem | None:
    """Without ``--mode`` the VM's state decides how it moves."""
    if case.request.mode is not MigrateMode.AUTO:
        return None
    return Problem(f"{case.mode.value}: {_WHY_MODE[case.mode]}", object=case.vm_object)


_WHY_MODE = {
    MigrateMode.LIVE: "the VM runs, and goes on running while it moves",
    MigrateMode.NON_LIVE: "the VM is paused: nothing of it has to go on meanwhile",
    MigrateMode.OFFLINE: "the VM is shut off: its definition and its disks move",
}
