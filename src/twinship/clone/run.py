"""The effects of a clone: volumes, copies, check, define, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinship.clone.plan import definition
from twinship.clone.reconcile import reconcile_clone
from twinship.domxml.carrier import Carrier
from twinship.hypervisor import vms, volumes
from twinship.model.errors import HypervisorError, TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Phase, Verdict
from twinship.transfer.carrier import FileCopy, copy_on_host, end_carriers
from twinship.transfer.nvram import CopyNvram
from twinship.transfer.steps import CreateVolume, Hosts, Recheck, Replan, explained
from twinship.transfer.tail import copy_tail
from twinship.transfer.verify import End, same_content, same_shape

WHY_NOT_FASTER = (
    {
        "method": "reflink",
        "code": "NOT_OVER_LIBVIRT",
        "reason": "libvirt 9.0 reflinks raw volumes only, and nothing else proves that the "
        "controller sees the host's files",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneVerb:
    """Clones a VM on its own host."""

    hosts: Hosts
    replan: Replan
    stall_s: float
    kind: str = "clone"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """The phases for this spec."""
        phases: list[Phase] = [Recheck(spec=spec, replan=self.replan)]
        phases += [_volume(self.hosts, spec, disk) for disk in spec["disks"]]
        phases.append(_Copy(hosts=self.hosts, spec=spec, stall_s=self.stall_s))
        if spec["nvram"]:
            phases.append(
                CopyNvram(
                    hosts=self.hosts,
                    source_host=spec["host"],
                    source_path=spec["nvram"]["source"],
                    target_host=spec["host"],
                    target_path=spec["nvram"]["path"],
                )
            )
        phases.append(_Verify(hosts=self.hosts, spec=spec))
        phases.append(_Define(hosts=self.hosts, spec=spec))
        if spec["start"]:
            phases.append(_Start(hosts=self.hosts, spec=spec))
        return phases

    def reconcile(self, job: Job) -> Verdict:
        """Looks whether the clone is defined. Raises HostUnreachable when it cannot be seen."""
        connection = self.hosts.connection(job.spec["host"])
        return reconcile_clone(defined=vms.state(connection, job.spec["uuid"]) is not None)

    def result(self, job: Job) -> dict[str, Any]:
        """``clones[]`` as DESIGN fixes it, and whether the clone was started."""
        spec, outcomes = job.spec, job.outcomes()
        copied = outcomes["copy"]["disks"]
        clone = {
            "name": spec["name"],
            "uuid": spec["uuid"],
            "host": spec["host"],
            "disks": [
                {
                    "target": disk["target"],
                    "path": disk["path"],
                    "method": disk["method"],
                    "bytes_copied": copied[disk["target"]],
                    "seconds": outcomes["copy"]["seconds"],
                    "why_not_faster": list(WHY_NOT_FASTER),
                }
                for disk in spec["disks"]
            ],
            "started": outcomes.get("start", {}).get("started", False),
            "start_error": outcomes.get("start", {}).get("error"),
        }
        return {"clones": [clone], "verified": outcomes["verify"]}


def _volume(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> CreateVolume:
    container = disk["method"] == "carrier"
    return CreateVolume(
        hosts=hosts,
        host=spec["host"],
        path=disk["path"],
        volume=volumes.NewVolume(
            pool=disk["pool"],
            name=disk["file"],
            format="raw" if container else disk["format"],
            capacity_bytes=disk["length"] if container else disk["virtual"],
            compat="" if container else disk["compat"],
            cluster_bytes=0 if container else disk["cluster"],
        ),
        name=f"volume:{disk['target']}",
        title=f"create {disk['path']}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Copies all disks at once, by one carrier."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    name: str = "copy"
    title: str = "copy the disks"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        began = job.clock.monotonic()
        try:
            copy_on_host(
                job,
                connection,
                _carrier(self.spec),
                [_file_copy(disk) for disk in self.spec["disks"]],
                rate=self.spec["rate"],
                stall_s=self.stall_s,
            )
        except TwinshipError as error:
            path = self.spec["disks"][0]["path"]
            raise explained(error, connection, path) from error
        copied = {}
        for disk in self.spec["disks"]:
            if disk["method"] == "carrier":
                copy_tail(connection, disk["source"], connection, disk["path"], disk["length"])
            found = volumes.find(connection, disk["path"])
            copied[disk["target"]] = found.allocated_bytes if found is not None else 0
        return {"disks": copied, "seconds": round(job.clock.monotonic() - began, 3)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # how far it got is not known: copied again

    def undo(self, job: Job) -> None:
        end_carriers(self.spec["carrier"]["uuid"], self.hosts.connection(self.spec["host"]))

    def leftover(self) -> str:
        return ""  # a carrier dies with our connection


def _file_copy(disk: dict[str, Any]) -> FileCopy:
    flatten = disk["method"] == "flatten"
    return FileCopy(
        source=disk["source"],
        destination=disk["path"],
        length_bytes=disk["length"],
        flatten_to=disk["format"] if flatten else "",
        backing=tuple((path, kind) for path, kind in disk["backing"]) if flatten else (),
    )


def _carrier(spec: dict[str, Any]) -> Carrier:
    return Carrier(**spec["carrier"], **spec["machine"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verify:
    """Size and format of every copy; with ``--verify`` also its content."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "verify"
    title: str = "check the copies"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        digests = {}
        for disk in self.spec["disks"]:
            container = disk["method"] == "carrier"
            same_shape(
                End(connection=connection, path=disk["path"]),
                format=disk["format"],
                length_bytes=disk["length"] if container else None,
                virtual_bytes=disk["virtual"],
            )
            if self.spec["verify"] and container:
                digests[disk["target"]] = same_content(
                    job,
                    End(connection=connection, path=disk["source"]),
                    End(connection=connection, path=disk["path"]),
                    disk["length"],
                )
        return {"digests": digests}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # read anew each time

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Define:
    """Makes the clone a VM: the last thing that can fail, and from then on there is no way back."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "define"
    title: str = "define the clone"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        if vms.state(connection, self.spec["uuid"]) is None:
            job.raise_if_cancelled()
            source = vms.inactive_xml(connection, self.spec["source"]["uuid"])
            vms.define(connection, definition(source, self.spec))
        job.no_way_back()
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {} if found is not None else None

    def undo(self, job: Job) -> None:
        vms.undefine(self.hosts.connection(self.spec["host"]), self.spec["uuid"])

    def leftover(self) -> str:
        return f"VM {self.spec['name']} on {self.spec['host']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """Starts the clone. A clone that does not start is still a clone: the error is reported."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "start"
    title: str = "start the clone"

    def do(self, job: Job) -> dict[str, Any]:
        connection = self.hosts.connection(self.spec["host"])
        try:
            found = vms.state(connection, self.spec["uuid"])
            if found is not None and not found[0].active:
                vms.start(connection, self.spec["uuid"])
        except HypervisorError as error:
            return {"started": False, "error": error.as_dict()}
        return {"started": True}

    def observe(self, job: Job) -> dict[str, Any] | None:
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {"started": True} if found is not None and found[0].active else None

    def undo(self, job: Job) -> None:
        vms.destroy(self.hosts.connection(self.spec["host"]), self.spec["uuid"])

    def leftover(self) -> str:
        return ""
