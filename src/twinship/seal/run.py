"""The effects of sealing VMs in place, with a way back at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml.sealed import sealed_of, with_sealed, without_sealed
from twinship.hypervisor import vms, volumes
from twinship.inventory.lineage import fingerprint
from twinship.model.documents import stamp
from twinship.model.errors import Conflict
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.seal.choice import choice_from
from twinship.seal.outcome import document, mark
from twinship.seal.work import Hooks, SealDisk, SealGuest, restore_disk, seal_guests
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
    """Seals VMs in place."""

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
        phases += [_volume(self.hosts, vm, disk) for vm in spec["vms"] for disk in vm["disks"]]
        phases.append(_Seal(hosts=self.hosts, spec=spec))
        phases += [_Mark(hosts=self.hosts, spec=spec, vm=vm) for vm in spec["vms"]]
        if spec["commit"]:
            phases.append(_Clean(hosts=self.hosts, spec=spec))
        return phases

    def reconcile(self, job: Job) -> Verdict:
        """Forward once a VM says that it is sealed, for then all their disks are; else back."""
        begun = job.intended()
        for vm in job.spec["vms"]:
            connection = self.hosts.connection(vm["host"])
            if f"mark:{_label(vm)}" in begun and sealed_of(vms.stored_xml(connection, vm["uuid"])):
                return Verdict(decision=Decision.FORWARD, reason="the guests are sealed")
        return Verdict(decision=Decision.BACK, reason="the guests are not sealed yet")

    def result(self, job: Job) -> dict[str, Any]:
        """Each VM, its guest, and every path that went or was changed."""
        spec, done = job.spec, job.outcomes()["seal"]
        return {
            "vms": [
                {"vm": vm["name"], "host": vm["host"], "undo": not spec["commit"], **one}
                for vm, one in zip(spec["vms"], done["guests"], strict=True)
            ]
        }


def _label(vm: dict[str, Any]) -> str:
    """One VM among those of an operation, as a person names it (a UUID may be on two hosts)."""
    return f"{vm['host']}/{vm['name']}"


def _volume(hosts: Hosts, vm: dict[str, Any], disk: dict[str, Any]) -> CreateVolume:
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
        host=vm["host"],
        volume=new,
        path=path,
        name=f"undo:{_label(vm)}:{disk['target']}",
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
            change=lambda: self._change(job),
        )
        guests = [
            SealGuest(host=vm["host"], disks=tuple(seal_disk(disk) for disk in vm["disks"]))
            for vm in self.spec["vms"]
        ]
        done = seal_guests(self.hosts, guests, choice_from(self.spec["choice"]), hooks)
        return {"guests": [document(one) for one in done], "at": stamp(job.clock.now())}

    def _change(self, job: Job) -> None:
        for vm in self.spec["vms"]:
            found = vms.state(self.hosts.connection(vm["host"]), vm["uuid"])
            if found is None or found[0].active:
                raise Conflict(
                    f"{vm['name']} was {'started' if found else 'deleted'} while it was sealed",
                    code="VM_ACTIVE",
                    hint="nothing of it was changed; shut it down and seal it again",
                )
        job.note(self.name, {"changing": True})

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # an operation cut off here is undone

    def undo(self, job: Job) -> None:
        if not job.notes(self.name).get("changing"):
            return
        for vm in self.spec["vms"]:
            for disk in vm["disks"]:
                restore_disk(self.hosts, vm["host"], seal_disk(disk))

    def leftover(self) -> str:
        disks = [disk for vm in self.spec["vms"] for disk in vm["disks"]]
        paths = ", ".join(disk["path"] for disk in disks)
        kept = ", ".join(disk["undo"]["path"] for disk in disks)
        return f"{paths}, perhaps half sealed; what was there before is in {kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    hosts: Hosts
    spec: dict[str, Any]
    vm: dict[str, Any]

    @property
    def name(self) -> str:
        return f"mark:{_label(self.vm)}"

    @property
    def title(self) -> str:
        return f"note that {self.vm['name']} is sealed"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.vm["host"])
        disks = self.vm["disks"]
        undo = {disk["target"]: disk["undo"]["path"] for disk in disks}
        found = [fingerprint(connection, disk["path"]) for disk in disks]
        outcome = job.outcomes()["seal"]
        sealed = mark(
            outcome["guests"][self.spec["vms"].index(self.vm)],
            outcome["at"],
            {} if self.spec["commit"] else undo,
            [base for base in found if base is not None],
        )
        text = vms.stored_xml(connection, self.vm["uuid"])
        vms.define(connection, with_sealed(text, sealed))
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # marked twice is the same

    def undo(self, job: Job) -> None:
        connection = self.hosts.connection(self.vm["host"])
        text = vms.stored_xml(connection, self.vm["uuid"])
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
        for vm in self.spec["vms"]:
            connection = self.hosts.connection(vm["host"])
            for disk in vm["disks"]:
                volumes.delete(connection, disk["undo"]["path"])
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # deleted twice is harmless

    def undo(self, job: Job) -> None:
        """It is the last phase."""

    def leftover(self) -> str:
        return ""
