"""The plans of start, stop and delete; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinship.domxml.lineage import lineage_of
from twinship.domxml.rewrite import mark_of
from twinship.domxml.sealed import sealed_of
from twinship.domxml.template import template_of
from twinship.domxml.told import seed_of
from twinship.model.plan import Plan, Severity, Step
from twinship.model.vm import VmFacts, VmState
from twinship.planning.checks import CheckTable, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCase:
    """A VM to be started, and where else a VM of its UUID is active.

    ``children`` are VMs whose disks are based on its own; ``changed`` says what is no longer as it
    was below its disks.
    """

    vm: VmFacts
    active_elsewhere: tuple[str, ...]
    unseen: tuple[str, ...]
    children: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCase:
    """A VM to be deleted; ``shared`` are its disk files that another VM of the host uses too.

    ``children`` are VMs whose disks are based on its own, on any host but those ``unseen``.
    ``template``: that it is one is known.
    """

    vm: VmFacts
    delete_disks: bool
    shared: tuple[str, ...]
    children: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    template: bool = False


START: CheckTable[StartCase] = CheckTable()
DELETE: CheckTable[DeleteCase] = CheckTable()


@START.row("VM_RUNS_ELSEWHERE")
def runs_nowhere_else(case: StartCase) -> Iterator[Problem]:
    """A VM must not run twice: the definition here may be one that stayed after a move."""
    for host in case.active_elsewhere:
        yield Problem(
            f"the VM runs on {host} already",
            hint=f"move it back (twinship migrate {host}/{case.vm.vm.uuid} "
            f"--to {case.vm.vm.host}), or stop it there first",
            object=f"vm/{case.vm.vm.name}",
        )


@START.row("VM_AWAY")
def is_not_away(case: StartCase) -> Problem | None:
    """A VM whose new host cannot be asked may well run there."""
    mark = mark_of(case.vm.xml, "away")
    if mark is None or mark.get("host") not in case.unseen:
        return None
    return Problem(
        f"the VM was moved to {mark.get('host')} ({mark.get('since')}), which cannot be asked now",
        hint="make that host answer; if it is gone for good, remove it: "
        f"twinship host remove {mark.get('host')}",
        object=f"vm/{case.vm.vm.name}",
    )


@START.row("IS_TEMPLATE")
def start_is_no_template(case: StartCase) -> Problem | None:
    """A template is not started: its clones would find another disk below them, and be alike."""
    return template_problem(case.vm, "clone it: twinship clone {} NAME --start")


@START.row("BASE_HAS_CHILDREN")
def start_is_no_base(case: StartCase) -> Problem | None:
    """A running base would change the files its linked clones read: they would be destroyed."""
    return base_problem(case.vm, case.children)


@START.row("BASE_CHANGED")
def bases_are_as_they_were(case: StartCase) -> Iterator[Problem]:
    """A linked clone is only what it was while its base is: a changed base destroys it.

    Looked at: length, modification time and the first 64 KiB of every file below its disks.
    """
    for change in case.changed:
        yield Problem(
            change,
            hint="put the file back as it was; what was written to the clone itself is still there",
            object=f"vm/{case.vm.vm.name}",
        )


@START.row("VM_ACTIVE")
def is_off(case: StartCase) -> Problem | None:
    """Only a VM that is off can be started; a paused one is resumed with virsh."""
    if not case.vm.vm.state.active:
        return None
    return Problem(
        f"the VM is {case.vm.vm.state.value} already",
        hint="virsh resume" if case.vm.vm.state is VmState.PAUSED else "",
        object=f"vm/{case.vm.vm.name}",
    )


@DELETE.row("VM_ACTIVE")
def delete_is_off(case: DeleteCase) -> Problem | None:
    """A running VM is not deleted under its guest."""
    if not case.vm.vm.state.active:
        return None
    return Problem(
        f"the VM is {case.vm.vm.state.value}",
        hint=f"first: twinship vm stop {case.vm.vm.label}",
        object=f"vm/{case.vm.vm.name}",
    )


@DELETE.row("IS_TEMPLATE")
def delete_is_no_template(case: DeleteCase) -> Problem | None:
    """Templates are deleted by a command of their own, so that none goes by mistake."""
    return template_problem(case.vm, "twinship template delete {}") if not case.template else None


@DELETE.row("BASE_HAS_CHILDREN")
def delete_is_no_base(case: DeleteCase) -> Problem | None:
    """A base is needed as long as a linked clone of it is there."""
    return base_problem(case.vm, case.children)


@DELETE.row("CHILDREN_UNSEEN", Severity.UNKNOWN)
def delete_is_no_base_elsewhere(case: DeleteCase) -> Problem | None:
    """A linked clone on a host that cannot be asked may stand on a template's disks, if shared."""
    if not (case.unseen and case.template and case.delete_disks):
        return None
    return Problem(
        f"{', '.join(case.unseen)} cannot be asked whether a VM there stands on these disks",
        hint="make it answer first, unless it does not see this storage",
        object=f"vm/{case.vm.vm.name}",
    )


@DELETE.row("VM_SNAPSHOTS")
def delete_has_no_snapshots(case: DeleteCase) -> Problem | None:
    """libvirt does not undefine a VM with snapshot records."""
    if not case.vm.snapshots:
        return None
    return Problem(
        f"the VM has {case.vm.snapshots} snapshots",
        hint="remove the records first: virsh snapshot-delete --metadata",
        object=f"vm/{case.vm.vm.name}",
    )


@DELETE.row("DISK_IN_USE")
def disks_are_ours(case: DeleteCase) -> Iterator[Problem]:
    """A file another VM uses too is not deleted."""
    for path in case.shared if case.delete_disks else ():
        yield Problem(f"{path} is used by another VM too", hint="use --disks keep", object=path)


@DELETE.row("DISKS_KEPT", Severity.INFO)
def disks_stay(case: DeleteCase) -> Iterator[Problem]:
    """What stays behind is said."""
    for disk in () if case.delete_disks else case.vm.file_disks:
        yield Problem(f"{disk.path} stays", object=f"disk/{disk.target}")


def template_problem(vm: VmFacts, hint: str) -> Problem | None:
    """What is wrong with touching a template; None for any other VM."""
    found = template_of(vm.xml)
    if found is None:
        return None
    return Problem(
        f"{vm.vm.name} is version {found.version} of template {found.name}",
        hint=hint.format(vm.vm.label),
        object=f"vm/{vm.vm.name}",
    )


def base_problem(vm: VmFacts, children: tuple[str, ...]) -> Problem | None:
    """What is wrong with touching a VM that others are based on; None when none is."""
    if not children:
        return None
    named = ", ".join(children[:3]) + (f" and {len(children) - 3} more" if children[3:] else "")
    return Problem(
        f"{vm.vm.name} is the base of {named}",
        hint=f"make them independent first: twinship vm flatten {children[0]}",
        object=f"vm/{vm.vm.name}",
    )


def plan_start(case: StartCase) -> Plan:
    """What starting the VM would do."""
    vm = case.vm.vm
    return Plan(
        kind="start",
        title=f"start {vm.label}",
        checks=START.run(case),
        steps=(Step(id="start", title=f"start {vm.name}", host=vm.host),),
        estimate_s=None,
        resources=(f"vm/{vm.uuid}",),
        spec={"schema": 1, "host": vm.host, "uuid": vm.uuid, "name": vm.name},
    )


def plan_stop(facts: VmFacts, *, force: bool, timeout_s: float) -> Plan:
    """What stopping the VM would do."""
    vm = facts.vm
    how = "end" if force else "shut down"
    return Plan(
        kind="stop",
        title=f"stop {vm.label}",
        checks=(),
        steps=(Step(id="stop", title=f"{how} {vm.name}", host=vm.host),),
        estimate_s=None,
        resources=(f"vm/{vm.uuid}",),
        spec={
            "schema": 1,
            "host": vm.host,
            "uuid": vm.uuid,
            "name": vm.name,
            "force": force,
            "timeout_s": timeout_s,
        },
    )


def plan_delete(case: DeleteCase) -> Plan:
    """What deleting the VM would do."""
    vm = case.vm.vm
    files = [d.path for d in case.vm.file_disks] if case.delete_disks else []
    if case.delete_disks and (seed := seed_of(case.vm.xml)):
        files.append(seed)
    sealed = sealed_of(case.vm.xml)
    if case.delete_disks and sealed is not None:
        files += sealed.undo.values()
    lineage = lineage_of(case.vm.xml)
    reservation = mark_of(case.vm.xml, "reservation")
    steps = [Step(id="undefine", title=f"undefine {vm.name}", host=vm.host)]
    steps += [Step(id=f"delete:{path}", title=f"delete {path}", host=vm.host) for path in files]
    if reservation:
        title = f"give back {reservation.get('address', '')} in {reservation.get('network', '')}"
        steps.append(Step(id="release", title=title, host=vm.host))
    return Plan(
        kind="delete",
        title=f"delete {vm.label}",
        checks=DELETE.run(case),
        steps=tuple(steps),
        estimate_s=None,
        resources=(f"vm/{vm.uuid}", *(f"file/{vm.host}/{path}" for path in files)),
        spec={
            "schema": 1,
            "host": vm.host,
            "uuid": vm.uuid,
            "name": vm.name,
            "files": files,
            "reservation": reservation,
            "base": lineage.of if lineage is not None else "",
            "delete_state": case.delete_disks,
        },
    )
