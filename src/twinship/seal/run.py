"""The effects of sealing a VM in place, with a way back at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml.sealed import sealed_of, with_sealed, without_sealed
from twinship.hypervisor import vms, volumes
from twinship.inventory.lineage import fingerprint
from twinship.model.documents import stamp
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.seal.choice import choice_from
from twinship.seal.outcome import document, mark
from twinship.seal.work import Hooks, SealDisk, restore_disk, seal_disks
from twinship.transfer.steps import CreateVolume, Hosts, Recheck, Replan


def seal_disk(disk: dict[str, Any]) -> SealDisk:
    """A disk of a spec."""
    backing = [(path, kind) for path, kind in disk["backing"]]
    return SealDisk(
        files=((disk["path"], disk["format"]), *backing),
        length_bytes=disk["virtual"],
        saved=disk["undo"]["path"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealVerb:
    """Seals a VM in place."""

    hosts: Hosts
    replan: Replan
    kind: str = "seal"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """Files for what will change, the seal, the mark."""
        phases: list[Phase] = [Recheck(spec=spec, replan=self.replan)]
        phases += [_volume(self.hosts, spec, disk) for disk in spec["disks"]]
        phases.append(_Seal(hosts=self.hosts, spec=spec))
        phases.append(_Mark(hosts=self.hosts, spec=spec))
        if spec["commit"]:
            phases.append(_Clean(hosts=self.hosts, spec=spec))
        return phases

    def reconcile(self, job: Job) -> Verdict:
        """Forward once the VM says that it is sealed, else back."""
        connection = self.hosts.connection(job.spec["host"])
        sealed = sealed_of(vms.stored_xml(connection, job.spec["uuid"]))
        if sealed is not None and "mark" in job.intended():
            return Verdict(decision=Decision.FORWARD, reason="the VM is sealed")
        return Verdict(decision=Decision.BACK, reason="the VM is not sealed yet")

    def result(self, job: Job) -> dict[str, Any]:
        """The VM, its guest, and every path that went or was changed."""
        spec, done = job.spec, job.outcomes()["seal"]
        return {
            "vm": spec["name"],
            "host": spec["host"],
            "undo": not spec["commit"],
            **done,
        }


def _volume(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> CreateVolume:
    """An empty file for what a disk had."""
    path = disk["undo"]["path"]
    new = volumes.NewVolume(
        pool=disk["pool"],
        name=disk["undo"]["file"],
        format="qcow2",
        capacity_bytes=disk["virtual"],
    )
    return CreateVolume(
        hosts=hosts,
        host=spec["host"],
        volume=new,
        path=path,
        name=f"undo:{disk['target']}",
        title=f"create {path}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "seal"
    title: str = "seal the guest"

    def do(self, job: Job) -> dict[str, Any]:
        hooks = Hooks(
            say=lambda why: job.progress.phase(f"seal the guest by libguestfs: {why}"),
            stop=job.raise_if_cancelled,
            change=lambda: job.note(self.name, {"changing": True}),
        )
        disks = [seal_disk(disk) for disk in self.spec["disks"]]
        choice = choice_from(self.spec["choice"])
        done = seal_disks(self.hosts, self.spec["host"], disks, choice, hooks)
        return document(done) | {"at": stamp(job.clock.now())}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # an operation cut off here is undone

    def undo(self, job: Job) -> None:
        if not job.notes(self.name).get("changing"):
            return
        for disk in self.spec["disks"]:
            restore_disk(self.hosts, self.spec["host"], seal_disk(disk))

    def leftover(self) -> str:
        paths = ", ".join(disk["path"] for disk in self.spec["disks"])
        kept = ", ".join(disk["undo"]["path"] for disk in self.spec["disks"])
        return f"{paths}, perhaps half sealed; what was there before is in {kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "mark"
    title: str = "note that the VM is sealed"

    def do(self, job: Job) -> dict[str, Any]:
        job.raise_if_cancelled()
        connection = self.hosts.connection(self.spec["host"])
        disks = self.spec["disks"]
        undo = {disk["target"]: disk["undo"]["path"] for disk in disks}
        found = [fingerprint(connection, disk["path"]) for disk in disks]
        outcome = job.outcomes()["seal"]
        sealed = mark(
            outcome,
            outcome["at"],
            {} if self.spec["commit"] else undo,
            [base for base in found if base is not None],
        )
        text = vms.stored_xml(connection, self.spec["uuid"])
        vms.define(connection, with_sealed(text, sealed))
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        connection = self.hosts.connection(self.spec["host"])
        sealed = sealed_of(vms.stored_xml(connection, self.spec["uuid"]))
        return {} if sealed is not None else None

    def undo(self, job: Job) -> None:
        connection = self.hosts.connection(self.spec["host"])
        text = vms.stored_xml(connection, self.spec["uuid"])
        vms.define(connection, without_sealed(text))

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clean:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "clean"
    title: str = "delete what could undo it"

    def do(self, job: Job) -> dict[str, Any]:
        job.no_way_back()
        connection = self.hosts.connection(self.spec["host"])
        for disk in self.spec["disks"]:
            volumes.delete(connection, disk["undo"]["path"])
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # deleted twice is harmless

    def undo(self, job: Job) -> None:
        """It is the last phase."""

    def leftover(self) -> str:
        return ""
