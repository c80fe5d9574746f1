"""What makes complete disks a VM: back to a snapshot, its definition, its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.clone.copying import carrier_of
from twinship.clone.disks import bases_of
from twinship.clone.plan import definition
from twinship.domxml.carrier import Cargo, carrier_xml
from twinship.domxml.carrier import End as Side
from twinship.domxml.lineage import Base, with_bases
from twinship.hypervisor import snapshots, vms
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import fingerprint
from twinship.model.errors import HypervisorError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """Makes the copies what they were at an internal snapshot; the source is not touched."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "back"
    title: str = "go back to the snapshot in the copies"

    def do(self, job: Job) -> dict[str, Any]:
        """By the host's own libvirt, beside the copies."""
        connection = self.hosts.connection(self.spec["host"])
        disks = [disk for disk in self.spec["disks"] if disk["back_to"]]
        cargo = tuple(
            Cargo(
                target=disk["target"],
                path=disk["path"],
                format=disk["format"],
                backing=tuple((path, kind) for path, kind in disk["backing"]),
            )
            for disk in disks
        )
        carrier = carrier_of(self.spec)
        xml = carrier_xml(carrier, cargo, Side.SOURCE)
        targets = frozenset(disk["target"] for disk in disks)
        snapshots.go_back(connection, xml, self.spec["snapshot"], targets)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Only an operation that goes back is taken over here."""
        return None

    def undo(self, job: Job) -> None:
        """Undefines the VM that stood for the copies."""
        snapshots.forget(self.hosts.connection(self.spec["host"]), self.spec["carrier"]["uuid"])

    def leftover(self) -> str:
        """The VM that stands for the copies."""
        return f"VM {self.spec['carrier']['name']} on {self.spec['host']}"


def _definition_of(origin: Connection, spec: dict[str, Any]) -> str:
    """What the clone is made of: the source's definition, or that of its snapshot."""
    uuid = spec["source"]["uuid"]
    if spec["snapshot"]:
        return snapshots.read(origin, uuid, spec["snapshot"]).xml
    return vms.inactive_xml(origin, uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Define:
    """Makes the clone a VM: the last thing that can fail, and from then on there is no way back."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "define"
    title: str = "define the clone"

    def do(self, job: Job) -> dict[str, Any]:
        """Defines it, once."""
        connection = self.hosts.connection(self.spec["host"])
        if vms.state(connection, self.spec["uuid"]) is None:
            job.raise_if_cancelled()
            origin = self.hosts.connection(self.spec["source"]["host"])
            xml = _definition_of(origin, self.spec)
            vms.define(connection, with_bases(definition(xml, self.spec), self._bases(connection)))
        job.no_way_back()
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether it is defined."""
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {} if found is not None else None

    def _bases(self, connection: Connection) -> list[Base]:
        paths = [path for disk in self.spec["disks"] for path in bases_of(disk)]
        found = [fingerprint(connection, path) for path in dict.fromkeys(paths)]
        return [base for base in found if base is not None]

    def undo(self, job: Job) -> None:
        """Undefines it."""
        vms.undefine(self.hosts.connection(self.spec["host"]), self.spec["uuid"])

    def leftover(self) -> str:
        """The VM."""
        return f"VM {self.spec['name']} on {self.spec['host']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Starts the clone. A clone that does not start is still a clone: the error is reported."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "start"
    title: str = "start the clone"

    def do(self, job: Job) -> dict[str, Any]:
        """Whether it started, and why not."""
        connection = self.hosts.connection(self.spec["host"])
        try:
            found = vms.state(connection, self.spec["uuid"])
            if found is not None and not found[0].active:
                vms.start(connection, self.spec["uuid"])
        except HypervisorError as error:
            return {"started": False, "error": error.as_dict()}
        return {"started": True}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether it runs."""
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {"started": True} if found is not None and found[0].active else None

    def undo(self, job: Job) -> None:
        """Ends it."""
        vms.destroy(self.hosts.connection(self.spec["host"]), self.spec["uuid"])

    def leftover(self) -> str:
        """Nothing."""
        return ""
