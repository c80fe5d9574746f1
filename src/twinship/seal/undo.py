"""Undoing the seal of a VM, or keeping it for good: plans, and the one verb of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twinship.domxml.sealed import Sealed, sealed_of, with_sealed, without_sealed
from twinship.hypervisor import vms, volumes
from twinship.inventory.inventory import Inventory
from twinship.inventory.lineage import fingerprint
from twinship.inventory.standing import standing
from twinship.model.plan import Plan, Step
from twinship.model.vm import VmFacts
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.planning.checks import CheckTable, Problem
from twinship.seal.facts import sound
from twinship.seal.work import SealDisk, restore_disk
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoCase:
    """A VM whose seal is to be undone, or kept.

    ``changed``: disks that are not as the seal left them. ``missing``: files to undo it with that
    are gone.
    """

    vm: VmFacts
    sealed: Sealed | None
    children: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether there is something to undo, or to keep."""
        return self.sealed is not None and bool(self.sealed.undo)


UNDO: CheckTable[UndoCase] = CheckTable()


def gather_undo(inventory: Inventory, host: str, uuid: str) -> UndoCase:
    """Reads what undoing stands on."""
    connection = inventory.connection(host)
    vm = vms.facts(connection, uuid)
    sealed = sealed_of(vm.xml)
    if sealed is None:
        return UndoCase(vm=vm, sealed=None)
    then = {disk.path: disk for disk in sealed.disks}
    return UndoCase(
        vm=vm,
        sealed=sealed,
        children=standing(inventory, vm).names,
        changed=tuple(p for p, disk in then.items() if fingerprint(connection, p) != disk),
        missing=tuple(p for p in sealed.undo.values() if volumes.find(connection, p) is None),
    )


@UNDO.row("SEAL_NONE")
def there_is_a_seal(case: UndoCase) -> Problem | None:
    """Only what was sealed and not kept for good can be undone."""
    if case.pending:
        return None
    why = "was not sealed" if case.sealed is None else "was sealed for good"
    return Problem(f"the VM {why}: there is nothing to undo", object=f"vm/{case.vm.vm.name}")


@UNDO.row("VM_ACTIVE")
def undo_is_off(case: UndoCase) -> Problem | None:
    """The disk of a running guest is not changed under it."""
    vm = case.vm.vm
    if not vm.state.active:
        return None
    return Problem(f"the VM is {vm.state.value.replace('_', ' ')}", object=f"vm/{vm.name}")


@UNDO.row("SEAL_STALE")
def nothing_has_changed(case: UndoCase) -> Iterator[Problem]:
    """What is kept fits the disk as the seal left it; a guest that ran since has changed it."""
    for path in case.changed if case.pending else ():
        yield Problem(
            f"{path} has been written since the VM was sealed",
            hint=f"it cannot be undone any more: twinship seal {case.vm.vm.label} --commit",
            object=path,
        )


@UNDO.row("SEAL_LOST")
def what_was_kept_is_there(case: UndoCase) -> Iterator[Problem]:
    """The files with what was in the disks before must be there."""
    for path in case.missing:
        yield Problem(f"{path} is gone", object=path)


@UNDO.row("BASE_HAS_CHILDREN")
def undo_destroys_no_clone(case: UndoCase) -> Problem | None:
    """Linked clones of the sealed VM stand on its disks as they are."""
    if not case.children:
        return None
    return Problem(
        f"{case.vm.vm.name} is the base of {', '.join(case.children[:3])}",
        hint=f"make them independent first: twinship vm flatten {case.children[0]}",
        object=f"vm/{case.vm.vm.name}",
    )


@UNDO.row("DISK_UNREADABLE")
def undo_can_follow_chains(case: UndoCase) -> Iterator[Problem]:
    """Every file of every disk must be there."""
    for disk in case.vm.file_disks:
        for layer in disk.chain:
            if layer.problem:
                yield Problem(layer.problem, object=f"vm/{case.vm.vm.name}/disk/{disk.target}")


def plan_unseal(case: UndoCase) -> Plan:
    """What undoing the seal would do."""
    vm = case.vm.vm
    undo = case.sealed.undo if case.sealed is not None else {}
    disks = [
        {
            "target": disk.target,
            "path": disk.chain[0].path,
            "format": disk.chain[0].header.format if disk.chain[0].header else "raw",
            "backing": [[x.path, x.header.format] for x in disk.chain[1:] if x.header],
            "undo": undo[disk.target],
            "virtual": disk.chain[0].header.virtual_bytes if disk.chain[0].header else 0,
        }
        for disk in case.vm.file_disks
        if disk.target in undo and sound(disk)
    ]
    steps = [
        Step(id=f"restore:{d['target']}", title=f"make {d['path']} what it was", host=vm.host)
        for d in disks
    ]
    steps.append(Step(id="forget", title=f"note that {vm.name} is not sealed", host=vm.host))
    steps += [
        Step(id=f"delete:{path}", title=f"delete {path}", host=vm.host) for path in undo.values()
    ]
    return _plan("unseal", f"undo the seal of {vm.label}", case, steps, disks, UNDO)


KEEP: CheckTable[UndoCase] = CheckTable()
KEEP.row("SEAL_NONE")(there_is_a_seal)


def plan_keep(case: UndoCase) -> Plan:
    """What keeping the seal for good would do."""
    vm = case.vm.vm
    undo = case.sealed.undo if case.sealed is not None else {}
    steps = [Step(id="forget", title=f"note that {vm.name} is sealed for good", host=vm.host)]
    steps += [
        Step(id=f"delete:{path}", title=f"delete {path}", host=vm.host) for path in undo.values()
    ]
    return _plan("keep-seal", f"keep the seal of {vm.label}", case, steps, [], KEEP)


def _plan(
    kind: str,
    title: str,
    case: UndoCase,
    steps: list[Step],
    disks: list[dict[str, Any]],
    table: CheckTable[UndoCase],
) -> Plan:
    vm = case.vm.vm
    undo = list(case.sealed.undo.values()) if case.sealed is not None else []
    return Plan(
        kind=kind,
        title=title,
        checks=table.run(case),
        steps=tuple(steps),
        estimate_s=None,
        resources=(f"vm/{vm.uuid}", *(f"file/{vm.host}/{path}" for path in undo)),
        spec={
            "schema": 1,
            "host": vm.host,
            "uuid": vm.uuid,
            "name": vm.name,
            "disks": disks,
            "files": undo,
            "undo": kind == "unseal",
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsealVerb:
    """Undoes a seal (``unseal``) or forgets how to (``keep-seal``). It goes forward only."""

    kind: str
    hosts: Hosts
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """Each disk, then the definition, then the files."""
        restores: list[Phase] = [
            _Restore(hosts=self.hosts, spec=spec, disk=disk) for disk in spec["disks"]
        ]
        return (*restores, _Forget(hosts=self.hosts, spec=spec))

    def reconcile(self, job: Job) -> Verdict:
        """A disk that is half written is written to its end; before that nothing has happened."""
        if job.intended():
            return Verdict(decision=Decision.FORWARD, reason="it can be finished")
        return Verdict(decision=Decision.BACK, reason="nothing was done yet")

    def result(self, job: Job) -> dict[str, Any]:
        """The VM, and the files that went."""
        spec = job.spec
        return {
            "vm": spec["name"],
            "host": spec["host"],
            "undone": spec["undo"],
            "deleted": spec["files"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Restore:
    hosts: Hosts
    spec: dict[str, Any]
    disk: dict[str, Any]

    @property
    def name(self) -> str:
        return f"restore:{self.disk['target']}"

    @property
    def title(self) -> str:
        return f"make {self.disk['path']} what it was"

    def do(self, job: Job) -> dict[str, Any]:
        job.no_way_back()
        backing = [(path, kind) for path, kind in self.disk["backing"]]
        disk = SealDisk(
            files=((self.disk["path"], self.disk["format"]), *backing),
            length_bytes=self.disk["virtual"],
            saved=self.disk["undo"],
        )
        return {"bytes": restore_disk(self.hosts, self.spec["host"], disk)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # written twice is the same

    def undo(self, job: Job) -> None:
        """It goes forward only."""

    def leftover(self) -> str:
        return f"{self.disk['path']}, half written; the rest is in {self.disk['undo']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forget:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "forget"
    title: str = "forget what was before"

    def do(self, job: Job) -> dict[str, Any]:
        job.no_way_back()
        connection = self.hosts.connection(self.spec["host"])
        text = vms.stored_xml(connection, self.spec["uuid"])
        sealed = sealed_of(text)
        if self.spec["undo"]:
            text = without_sealed(text)
        elif sealed is not None:
            text = with_sealed(text, replace(sealed, undo={}))
        vms.define(connection, text)
        for path in self.spec["files"]:
            volumes.delete(connection, path)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # done twice is the same

    def undo(self, job: Job) -> None:
        """It goes forward only."""

    def leftover(self) -> str:
        return ""
