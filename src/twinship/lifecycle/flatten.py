"""Flatten: a linked clone becomes independent of its base, running or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml import read as domread
from twinship.domxml.carrier import Cargo, Carrier
from twinship.domxml.lineage import lineage_of, with_bases
from twinship.hypervisor import vms
from twinship.inventory.guarding import release_if_free
from twinship.model.host import HostFacts
from twinship.model.plan import Plan, Step
from twinship.model.vm import Disk, VmFacts
from twinship.operations.job import Job
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.planning.checks import CheckTable, Problem
from twinship.planning.slots import copy_slots
from twinship.transfer.carrier import end_carriers
from twinship.transfer.pull import pull, pull_at_rest
from twinship.transfer.steps import Hosts

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenCase:
    """A VM to be made independent, and its host."""

    vm: VmFacts
    host: HostFacts

    @property
    def based(self) -> tuple[Disk, ...]:
        """Its disks that are based on other files."""
        return tuple(disk for disk in self.vm.file_disks if len(disk.chain) > 1)


FLATTEN: CheckTable[FlattenCase] = CheckTable()


@FLATTEN.row("DISK_UNREADABLE")
def chains_can_be_followed(case: FlattenCase) -> Iterator[Problem]:
    """Every file below its disks must be there and lie in a storage pool of the host."""
    for disk in case.vm.file_disks:
        for layer in disk.chain:
            if layer.problem:
                yield Problem(layer.problem, object=f"vm/{case.vm.vm.name}/disk/{disk.target}")


@FLATTEN.row("STORAGE_FULL")
def bases_fit(case: FlattenCase) -> Iterator[Problem]:
    """What the disks read from below must fit beside them."""
    needed: dict[str, int] = {}
    for disk in case.based:
        name = disk.chain[0].pool
        needed[name] = needed.get(name, 0) + sum(x.allocated_bytes for x in disk.chain[1:])
    for pool in case.host.pools:
        wanted = needed.get(pool.name, 0)
        if wanted > pool.available_bytes:
            yield Problem(
                f"it takes {wanted / GIB:.1f} GiB, pool {pool.name!r} has "
                f"{pool.available_bytes / GIB:.1f} GiB left",
                object=f"pool/{pool.name}",
            )


@FLATTEN.row("VM_JOB")
def nothing_else_works_on_it(case: FlattenCase) -> Problem | None:
    """Another job (backup, snapshot, migration) holds the VM."""
    if not case.vm.job:
        return None
    return Problem(f"a {case.vm.job} job holds the VM", object=f"vm/{case.vm.vm.name}")


def plan_flatten(case: FlattenCase, carrier_uuid: str) -> Plan:
    """What making the VM independent would do."""
    vm = case.vm.vm
    summary = domread.summary(case.vm.xml)
    disks = [
        {
            "target": disk.target,
            "path": disk.chain[0].path,
            "format": disk.chain[0].header.format if disk.chain[0].header else disk.format,
            "backing": [
                [layer.path, layer.header.format if layer.header else "raw"]
                for layer in disk.chain[1:]
            ],
            "bytes": sum(layer.allocated_bytes for layer in disk.chain[1:]),
        }
        for disk in case.based
    ]
    return Plan(
        kind="flatten",
        title=f"flatten {vm.label}",
        checks=FLATTEN.run(case),
        steps=tuple(
            Step(
                id=f"pull:{disk['target']}",
                title=f"copy what {disk['path']} is based on into it",
                host=vm.host,
                bytes=int(str(disk["bytes"])),
            )
            for disk in disks
        ),
        estimate_s=None,
        resources=(f"vm/{vm.uuid}",),
        slots=copy_slots((vm.host, disk.chain[0].pool) for disk in case.based),
        spec={
            "schema": 1,
            "host": vm.host,
            "uuid": vm.uuid,
            "name": vm.name,
            "disks": disks,
            "carrier": {"name": f"twinship-carrier-{carrier_uuid[:8]}", "uuid": carrier_uuid},
            "machine": {
                "domain_type": "qemu" if "qemu" in case.host.domain_types else summary.domain_type,
                "arch": summary.arch,
                "machine": summary.machine,
                "emulator": summary.emulator,
            },
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenVerb:
    """Makes a VM's disks independent, then forgets what they were based on."""

    hosts: Hosts
    stall_s: float
    kind: str = "flatten"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """A pull for each disk, then the definition."""
        pulls: list[Phase] = [
            _Pull(hosts=self.hosts, spec=spec, disk=disk, stall_s=self.stall_s)
            for disk in spec["disks"]
        ]
        return (*pulls, _Forget(hosts=self.hosts, spec=spec))

    def reconcile(self, job: Job) -> Verdict:
        """A disk is whole at every moment: an error ends it, a worker that died is followed."""
        error = job.op.error or {}
        if error.get("code") == "OWNER_DIED":
            return Verdict(decision=Decision.FORWARD, reason="it can be finished")
        return Verdict(decision=Decision.BACK, reason="the disks are whole, as they are")

    def result(self, job: Job) -> dict[str, Any]:
        """Which disks stand for themselves now."""
        spec = job.spec
        done = [{"target": disk["target"], "path": disk["path"]} for disk in spec["disks"]]
        return {"vm": spec["name"], "host": spec["host"], "disks": done}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pull:
    hosts: Hosts
    spec: dict[str, Any]
    disk: dict[str, Any]
    stall_s: float

    @property
    def name(self) -> str:
        return f"pull:{self.disk['target']}"

    @property
    def title(self) -> str:
        return f"flatten {self.disk['path']}"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        vms.destroy(connection, self.spec["carrier"]["uuid"])  # one that outlived its process
        target, path = self.disk["target"], self.disk["path"]
        found = vms.state(connection, self.spec["uuid"])
        if found is not None and found[0].active:
            uuid = self.spec["uuid"]
            pull(job, connection, uuid, target, path, rate=0, stall_s=self.stall_s)
            return {}
        cargo = Cargo(
            target=target,
            path=path,
            format=self.disk["format"],
            backing=tuple((base, kind) for base, kind in self.disk["backing"]),
        )
        carrier = Carrier(**self.spec["carrier"], **self.spec["machine"])
        pull_at_rest(job, connection, carrier, cargo, rate=0, stall_s=self.stall_s)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # what is there already is not copied twice

    def undo(self, job: Job) -> None:
        end_carriers(self.spec["carrier"]["uuid"], self.hosts.connection(self.spec["host"]))

    def leftover(self) -> str:
        return ""  # a carrier dies with our connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forget:
    hosts: Hosts
    spec: dict[str, Any]
    name: str = "forget"
    title: str = "note that it depends on nothing"

    def do(self, job: Job) -> dict[str, Any]:
        job.no_way_back()
        connection = self.hosts.connection(self.spec["host"])
        text = vms.inactive_xml(connection, self.spec["uuid"])
        lineage = lineage_of(text)
        vms.define(connection, with_bases(text, ()))
        if lineage is not None:
            release_if_free(connection, lineage.of)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # noted twice is harmless

    def undo(self, job: Job) -> None:
        """It is the last phase."""

    def leftover(self) -> str:
        return ""
