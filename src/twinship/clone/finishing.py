"""What makes complete disks a VM: back to a snapshot, its definition, its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.clone.copying import carrier_of
from twinship.clone.disks import bases_of
from twinship.clone.from_file import read_definition
from twinship.clone.plan import definition
from twinship.clone.settings import seed_bytes
from twinship.domxml.carrier import Cargo, carrier_xml
from twinship.domxml.carrier import End as Side
from twinship.domxml.lineage import Base, with_bases
from twinship.hypervisor import networks, snapshots, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.guarding import guard, release_if_free
from twinship.inventory.lineage import fingerprint
from twinship.model.errors import HypervisorError
from twinship.operations.job import Job
from twinship.operations.verb import Phase
from twinship.transfer.steps import CreateVolume, Hosts


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grow:
    """Makes disks of the clone larger; its guest finds the room behind its partitions."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "grow"
    title: str = "grow the disks"

    def do(self, job: Job) -> dict[str, Any]:
        """Grows each to its size; one that has it already stays."""
        connection = self.hosts.connection(self.spec["host"])
        for disk in self.spec["disks"]:
            size = self.spec["grow"].get(disk["target"], 0)
            if size > disk["virtual"] and not disk.get("to_device"):
                volumes.resize(connection, disk["path"], size)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Grown twice is harmless."""
        return None

    def undo(self, job: Job) -> None:
        """They go with their volumes."""

    def leftover(self) -> str:
        """Nothing."""
        return ""


def seed_phases(hosts: Hosts, spec: dict[str, Any]) -> tuple[Phase, ...]:
    """The phases that make the cloud-init image."""
    seed, data = spec["seed"], seed_bytes(spec["settings"], spec["uuid"])
    volume = volumes.NewVolume(
        pool=seed["pool"], name=seed["file"], format="raw", capacity_bytes=len(data)
    )
    made = CreateVolume(
        hosts=hosts,
        host=spec["host"],
        volume=volume,
        path=seed["path"],
        name="volume:seed",
        title=f"create {seed['path']}",
    )
    return (made, _WriteSeed(hosts=hosts, spec=spec, data=data))


@dataclass(frozen=True, slots=True, kw_only=True)
class _WriteSeed:
    hosts: Hosts
    spec: dict[str, Any]
    data: bytes
    name: str = "seed"
    title: str = "write the cloud-init image"

    def do(self, job: Job) -> dict[str, Any]:
        path = self.spec["seed"]["path"]
        volumes.write(self.hosts.connection(self.spec["host"]), path, 0, self.data)
        return {"bytes": len(self.data)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # it may be half written

    def undo(self, job: Job) -> None:
        """It goes with its volume."""

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Reserves the clone's address in its libvirt network; undone by taking back what was added."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "reserve"
    title: str = "reserve its address"

    def do(self, job: Job) -> dict[str, Any]:
        """Where it was added. Raises :class:`Conflict` when it is somebody else's by now."""
        connection = self.hosts.connection(self.spec["host"])
        sides = networks.reserve(connection, self._network, self._wanted)
        return {"sides": [side.value for side in sides]}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Reserved twice is harmless."""
        return None

    def undo(self, job: Job) -> None:
        """Takes back just this reservation."""
        connection = self.hosts.connection(self.spec["host"])
        networks.release(connection, self._network, self._wanted)

    def leftover(self) -> str:
        """The reservation."""
        return f"the reservation of {self._wanted.address} in network {self._network}"

    @property
    def _network(self) -> str:
        return str(self.spec["reservation"]["network"])

    @property
    def _wanted(self) -> networks.Reservation:
        said = self.spec["reservation"]
        return networks.Reservation(mac=said["mac"], address=said["address"], name=said["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Makes the disks that a linked clone stands on read-only in their VM's definition.

    Undone unless another clone stands on them.
    """

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "guard"
    title: str = "make the disks of the base read-only"

    def do(self, job: Job) -> dict[str, Any]:
        """Whether anything had to be changed."""
        uuid = self.spec["source"]["uuid"]
        return {"set": guard(self.hosts.connection(self.spec["host"]), uuid, self.spec["guard"])}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Guarded twice is harmless."""
        return None

    def undo(self, job: Job) -> None:
        """Makes them writable again."""
        release_if_free(self.hosts.connection(self.spec["host"]), self.spec["source"]["uuid"])

    def leftover(self) -> str:
        """The read-only disks."""
        return f"read-only disks of VM {self.spec['source']['name']} on {self.spec['host']}"


def _definition_of(origin: Connection, spec: dict[str, Any]) -> str:
    """What the clone is made of: the source's definition, that of its snapshot, or in a file."""
    uuid = spec["source"]["uuid"]
    if file := spec["request"].get("definition_file"):
        label = f"{spec['source']['host']}/{spec['source']['name']}"
        return read_definition(file, expected=spec["binding"][f"the definition of {label}"])
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
            vms.define(connection, self.definition(job))
        job.no_way_back()
        return {}

    def definition(self, _job: Job) -> str:
        """The clone's definition, with the files it depends on. Holds secrets."""
        origin = self.hosts.connection(self.spec["source"]["host"])
        connection = self.hosts.connection(self.spec["host"])
        text = definition(_definition_of(origin, self.spec), self.spec)
        return with_bases(text, self._bases(connection))

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Whether it is defined."""
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {} if found is not None else None

    def _bases(self, connection: Connection) -> list[Base]:
        paths = [path for disk in self.spec["disks"] for path in bases_of(disk)]
        whole = self.spec["verify"]
        found = [fingerprint(connection, path, whole=whole) for path in dict.fromkeys(paths)]
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
