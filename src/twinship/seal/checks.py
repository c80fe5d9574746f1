"""The checks of a seal; the guest's own (what is in it) come from :mod:`twinship.seal.look`."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.domxml.sealed import sealed_of
from twinship.domxml.template import template_of
from twinship.model.plan import Severity
from twinship.planning.checks import CheckTable, Problem
from twinship.seal.facts import SealFacts

TABLE: CheckTable[SealFacts] = CheckTable()
ROOM_BYTES = 64 * 1024 * 1024
"""What is kept of a disk is some MiB of filesystem metadata."""


@TABLE.row("VM_ACTIVE")
def is_off(facts: SealFacts) -> Problem | None:
    """The files of a running guest are not changed under it."""
    vm = facts.vm.vm
    if not vm.state.active:
        return None
    return Problem(
        f"the VM is {vm.state.value.replace('_', ' ')}",
        hint=f"shut it down (twinship vm stop {vm.label}), or leave it running and make a "
        f"template of it: twinship template create NAME --from {vm.label}",
        object=f"vm/{vm.name}",
    )


@TABLE.row("IS_TEMPLATE")
def is_no_template(facts: SealFacts) -> Problem | None:
    """A template is what it is; its clones stand on it."""
    found = template_of(facts.vm.xml)
    if found is None:
        return None
    return Problem(
        f"{facts.vm.vm.name} is version {found.version} of template {found.name}",
        hint=f"make a new version: twinship template create {found.name} --from VM --new-version",
        object=f"vm/{facts.vm.vm.name}",
    )


@TABLE.row("BASE_HAS_CHILDREN")
def nothing_stands_on_it(facts: SealFacts) -> Problem | None:
    """What changes in a base changes in its linked clones, and destroys them."""
    if not facts.children:
        return None
    return Problem(
        f"{facts.vm.vm.name} is the base of {', '.join(facts.children[:3])}",
        hint=f"seal a copy: twinship template create NAME --from {facts.vm.vm.label}",
        object=f"vm/{facts.vm.vm.name}",
    )


@TABLE.row("VM_SAVED")
def has_no_memory_image(facts: SealFacts) -> Problem | None:
    """A saved VM wakes up with what it knew of its disk, which must not have changed meanwhile."""
    if not facts.vm.managed_save:
        return None
    return Problem(
        "the VM's memory is saved: at its next start it goes on where it was",
        hint="start it and shut it down, or give it up: virsh managedsave-remove",
        object=f"vm/{facts.vm.vm.name}",
    )


@TABLE.row("SEAL_PENDING")
def is_not_sealed_yet(facts: SealFacts) -> Problem | None:
    """What was before the last seal is still kept; a second one would undo to a sealed guest."""
    sealed = sealed_of(facts.vm.xml)
    if sealed is None or not sealed.undo:
        return None
    label = facts.vm.vm.label
    return Problem(
        f"the VM was sealed at {sealed.at}, and that can still be undone",
        hint=f"keep it: twinship seal {label} --commit; or undo it: twinship seal {label} --undo",
        object=f"vm/{facts.vm.vm.name}",
    )


@TABLE.row("NO_DISK")
def has_a_disk(facts: SealFacts) -> Problem | None:
    """There must be something to seal."""
    if facts.vm.file_disks or any(d.source_type != "file" and not d.empty for d in facts.vm.disks):
        return None
    return Problem("the VM has no disk of its own", object=f"vm/{facts.vm.vm.name}")


@TABLE.row("DISK_NOT_A_FILE")
def disks_are_files(facts: SealFacts) -> Iterator[Problem]:
    """Disks on block devices or network storage are not opened from here."""
    for disk in facts.vm.disks:
        own = disk.device in ("disk", "lun") and not (disk.readonly or disk.shareable)
        if own and not disk.empty and disk.source_type != "file":
            yield Problem(
                f"disk {disk.target} is on {disk.protocol or disk.source_type} storage",
                hint="only guests on disks in files can be sealed by this version",
                object=f"vm/{facts.vm.vm.name}/disk/{disk.target}",
            )


@TABLE.row("DISK_UNREADABLE")
def chains_can_be_followed(facts: SealFacts) -> Iterator[Problem]:
    """Every file of every disk must be there and lie in a storage pool of the host."""
    for disk in facts.vm.file_disks:
        for layer in disk.chain:
            if layer.problem:
                place = f"vm/{facts.vm.vm.name}/disk/{disk.target}"
                yield Problem(layer.problem, object=place)


@TABLE.row("STORAGE_FULL")
def there_is_room(facts: SealFacts) -> Iterator[Problem]:
    """What is kept to undo it lies beside the disks."""
    for pool in facts.host.pools:
        if pool.name in facts.files and pool.available_bytes < ROOM_BYTES:
            yield Problem(
                f"pool {pool.name!r} has {pool.available_bytes >> 20} MiB left; sealing needs "
                f"{ROOM_BYTES >> 20}",
                object=f"pool/{pool.name}",
            )


@TABLE.row("VM_SNAPSHOTS", Severity.WARN)
def snapshots_are_said(facts: SealFacts) -> Problem | None:
    """A snapshot is as it was: who goes back to it has the old identity again."""
    if not facts.vm.snapshots:
        return None
    return Problem(
        f"the VM's {facts.vm.snapshots} snapshots keep what is removed",
        hint="remove them first: virsh snapshot-delete",
        object=f"vm/{facts.vm.vm.name}",
    )


@TABLE.row("SEAL_ENGINE", Severity.INFO)
def the_slow_way_is_said(facts: SealFacts) -> Problem | None:
    """Most guests are reached in user space, in under a second; others need an appliance."""
    if facts.look.why == "" or any(f.severity is Severity.BLOCK for f in facts.look.findings):
        return None
    text = f"libguestfs is used: {facts.look.why}"
    if facts.look.manifest is None:
        text += " (what goes is known once its appliance has started; --dry-run shows it)"
    return Problem(text, object=f"vm/{facts.vm.vm.name}")
