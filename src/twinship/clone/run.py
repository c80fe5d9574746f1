"""The effects of a clone: volumes, copies, check, define, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.clone.disks import bases_of
from twinship.clone.plan import definition
from twinship.clone.reconcile import reconcile_clone
from twinship.domxml.carrier import Cargo, Carrier, aligned, carrier_xml
from twinship.domxml.carrier import End as Side
from twinship.domxml.lineage import Base, with_bases
from twinship.hypervisor import snapshots, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import fingerprint
from twinship.model.errors import HypervisorError, TwinshipError
from twinship.operations.job import Job
from twinship.operations.verb import Phase, Verdict
from twinship.transfer.carrier import FileCopy, carry_across, copy_on_host, end_carriers
from twinship.transfer.hold import GiveBack, Held, HoldDisks
from twinship.transfer.nvram import CopyNvram
from twinship.transfer.steps import CreateVolume, Hosts, Recheck, Replan, explained
from twinship.transfer.tail import copy_tail
from twinship.transfer.verify import End, same_content, same_shape


def held_of(spec: dict[str, Any]) -> Held | None:
    """What is held still of a running source; None for one that is shut off."""
    hold = spec.get("hold")
    if hold is None:
        return None
    return Held(
        host=spec["source"]["host"],
        uuid=spec["source"]["uuid"],
        name=spec["source"]["name"],
        disks=hold["disks"],
        others=tuple(hold["others"]),
        carrier=hold["carrier"],
        machine=spec["machine"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneVerb:
    """Clones a VM, on its own host or to another."""

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
        # One of many stands on what its parent has looked at.
        child = spec.get("child", False)
        phases: list[Phase] = [] if child else [Recheck(spec=spec, replan=self.replan)]
        held = held_of(spec)
        if held is not None:
            freeze = spec["hold"]["freeze"]
            phases.append(
                HoldDisks(hosts=self.hosts, held=held, freeze=freeze, stall_s=self.stall_s)
            )
        phases += [_volume(self.hosts, spec, disk) for disk in spec["disks"]]
        phases.append(_Copy(hosts=self.hosts, spec=spec, stall_s=self.stall_s))
        if spec["nvram"]:
            phases.append(
                CopyNvram(
                    hosts=self.hosts,
                    source_host=spec["source"]["host"],
                    source_path=spec["nvram"]["source"],
                    target_host=spec["host"],
                    target_path=spec["nvram"]["path"],
                )
            )
        phases.append(_Verify(hosts=self.hosts, spec=spec))
        if any(disk["back_to"] for disk in spec["disks"]):
            phases.append(_GoBack(hosts=self.hosts, spec=spec))
        if held is not None:
            phases.append(GiveBack(hosts=self.hosts, held=held, stall_s=self.stall_s))
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
        clone = {
            "name": spec["name"],
            "uuid": spec["uuid"],
            "host": spec["host"],
            "disks": [_made(disk, outcomes) for disk in spec["disks"]],
            "started": outcomes.get("start", {}).get("started", False),
            "start_error": outcomes.get("start", {}).get("error"),
        }
        return {"clones": [clone], "verified": outcomes["verify"], "source": source_felt(outcomes)}


def source_felt(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """What a running source felt of it; None for one that was shut off."""
    if "hold" not in outcomes:
        return None
    hold = outcomes["hold"]
    return {
        "frozen": hold["frozen"],
        "pause_s": hold["seconds"],
        "pause_guest_s": outcomes["give-back"]["pause_guest_s"],
    }


def _length(disk: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> int:
    """The length of the file to copy: of one in use it is known once it stands still."""
    return int(outcomes[f"volume:{disk['target']}"].get("length", disk["length"]))


def _length_now(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> int:
    found = volumes.find(hosts.connection(spec["source"]["host"]), disk["source"])
    if found is None:
        raise TwinshipError(f"{disk['source']} has gone", code="DISK_MISSING")
    return found.length_bytes


def _made(disk: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    volume, copy = outcomes[f"volume:{disk['target']}"], outcomes["copy"]
    why = list(disk["why_not_faster"])
    method = disk["method"]
    if method == "reflink" and not volume["reflinked"]:
        method = "carrier"
        reason = volume.get("refused", "it was interrupted")
        why.append({"method": "reflink", "code": "REFUSED", "reason": reason})
    return {
        "target": disk["target"],
        "path": disk["path"],
        "method": method,
        "bytes_copied": copy["disks"].get(disk["target"], 0),
        "seconds": copy["seconds"] if disk["target"] in copy["disks"] else 0.0,
        "why_not_faster": why,
    }


def _volume(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> CreateVolume:
    container = disk["method"] in _WHOLE_FILE
    overlay, in_use = disk["method"] == "overlay", spec.get("in_use", False)
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
            backing_path=disk["source"] if overlay else "",
            backing_format=disk["source_format"] if overlay else "",
            allocate=disk["allocate"] and not overlay,
        ),
        name=f"volume:{disk['target']}",
        title=f"create {disk['path']}",
        reflink_of=disk["source"],
        reflink_by=disk["reflink"],
        capacity=(lambda: _length_now(hosts, spec, disk)) if in_use and container else None,
    )


_WHOLE_FILE = frozenset({"reflink", "carrier"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Copies all disks at once, by one carrier."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    name: str = "copy"
    title: str = "copy the disks"

    def do(self, job: Job) -> dict[str, Any]:
        spec, began = self.spec, job.clock.monotonic()
        outcomes = job.outcomes()
        disks = [disk for disk in spec["disks"] if _to_copy(disk, outcomes)]
        source = self.hosts.connection(spec["source"]["host"])
        target = self.hosts.connection(spec["host"])
        lenses = self._lenses(source, disks, outcomes)
        files = [_file_copy(disk, outcomes, lenses) for disk in disks]
        try:
            self._carry(job, source, target, files)
        except TwinshipError as error:
            raise explained(error, target, disks[0]["path"]) if disks else error from error
        self._drop_lenses(source)
        copied = {}
        for disk in disks:
            if disk["method"] in _WHOLE_FILE:
                length = _length(disk, outcomes)
                copy_tail(source, disk["source"], target, disk["path"], length)
            found = volumes.find(target, disk["path"])
            copied[disk["target"]] = found.allocated_bytes if found is not None else 0
        return {"disks": copied, "seconds": round(job.clock.monotonic() - began, 3)}

    def _lenses(
        self,
        source: Connection,
        disks: Sequence[dict[str, Any]],
        outcomes: dict[str, dict[str, Any]],
    ) -> dict[str, str]:
        """Overlays to read a running VM's files through, where a carrier is to move with them."""
        if not self.spec["source"].get("active") or source.name == self.spec["host"]:
            return {}
        made = {}
        for disk in disks:
            container = disk["method"] in _WHOLE_FILE
            path = self._lens(disk)
            volumes.delete(source, path)  # what a process that died had made
            found = volumes.find(source, disk["source"])
            new = volumes.NewVolume(
                pool=found.pool if found is not None else "",
                name=path.rpartition("/")[2],
                format="qcow2",
                capacity_bytes=(aligned(_length(disk, outcomes)) if container else disk["virtual"]),
                backing_path=disk["source"],
                backing_format="raw" if container else disk["source_format"],
            )
            made[disk["target"]] = volumes.create(source, new)
        return made

    def _lens(self, disk: dict[str, Any]) -> str:
        return f"{disk['source']}.{self.spec['carrier']['name']}"

    def _carry(
        self, job: Job, source: Connection, target: Connection, files: list[FileCopy]
    ) -> None:
        spec, carrier = self.spec, _carrier(self.spec)
        if not files:
            return
        if source.name == target.name:
            rate, stall_s = spec["rate"], self.stall_s
            copy_on_host(job, target, carrier, files, rate=rate, stall_s=stall_s)
            return
        carry_across(
            job,
            source,
            target,
            carrier,
            files,
            uri=spec["uri"],
            rate=spec["rate"],
            stall_s=self.stall_s,
        )

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # how far it got is not known: copied again

    def undo(self, job: Job) -> None:
        for host in dict.fromkeys((self.spec["source"]["host"], self.spec["host"])):
            end_carriers(self.spec["carrier"]["uuid"], self.hosts.connection(host))
        self._drop_lenses(self.hosts.connection(self.spec["source"]["host"]))

    def _drop_lenses(self, source: Connection) -> None:
        if self.spec["source"].get("active") and source.name != self.spec["host"]:
            for disk in self.spec["disks"]:
                volumes.delete(source, self._lens(disk))

    def leftover(self) -> str:
        return ""  # a carrier dies with our connection


def _to_copy(disk: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> bool:
    """Whether a disk's bytes are still missing once its volume is there."""
    if disk["method"] == "overlay":
        return False
    reflinked = outcomes[f"volume:{disk['target']}"].get("reflinked", False)
    return disk["method"] != "reflink" or not reflinked


def _file_copy(
    disk: dict[str, Any], outcomes: dict[str, dict[str, Any]], lenses: Mapping[str, str]
) -> FileCopy:
    flatten = disk["method"] == "flatten"
    return FileCopy(
        source=disk["source"],
        destination=disk["path"],
        length_bytes=_length(disk, outcomes),
        flatten_to=disk["format"] if flatten else "",
        source_format=disk["source_format"],
        backing=tuple((path, kind) for path, kind in disk["backing"]) if flatten else (),
        through=lenses.get(disk["target"], ""),
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
        source = self.hosts.connection(self.spec["source"]["host"])
        digests = {}
        outcomes = job.outcomes()
        for disk in self.spec["disks"]:
            container = disk["method"] in _WHOLE_FILE
            length = _length(disk, outcomes)
            same_shape(
                End(connection=connection, path=disk["path"]),
                format=disk["format"],
                length_bytes=length if container else None,
                virtual_bytes=disk["virtual"],
                backing_path=disk["source"] if disk["method"] == "overlay" else None,
            )
            if self.spec["verify"] and container:
                digests[disk["target"]] = same_content(
                    job,
                    End(connection=source, path=disk["source"]),
                    End(connection=connection, path=disk["path"]),
                    length,
                )
        return {"digests": digests}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # read anew each time

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _GoBack:
    """Makes the copies what they were at an internal snapshot; the source is not touched."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "back"
    title: str = "go back to the snapshot in the copies"

    def do(self, job: Job) -> dict[str, Any]:
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
        carrier = _carrier(self.spec)
        xml = carrier_xml(carrier, cargo, Side.SOURCE)
        targets = frozenset(disk["target"] for disk in disks)
        snapshots.go_back(connection, xml, self.spec["snapshot"], targets)
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        return None  # only an operation that goes back is taken over here

    def undo(self, job: Job) -> None:
        snapshots.forget(self.hosts.connection(self.spec["host"]), self.spec["carrier"]["uuid"])

    def leftover(self) -> str:
        return f"VM {self.spec['carrier']['name']} on {self.spec['host']}"


def _definition_of(origin: Connection, spec: dict[str, Any]) -> str:
    """What the clone is made of: the source's definition, or that of its snapshot."""
    uuid = spec["source"]["uuid"]
    if spec["snapshot"]:
        return snapshots.read(origin, uuid, spec["snapshot"]).xml
    return vms.inactive_xml(origin, uuid)


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
            origin = self.hosts.connection(self.spec["source"]["host"])
            xml = _definition_of(origin, self.spec)
            vms.define(connection, with_bases(definition(xml, self.spec), self._bases(connection)))
        job.no_way_back()
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        found = vms.state(self.hosts.connection(self.spec["host"]), self.spec["uuid"])
        return {} if found is not None else None

    def _bases(self, connection: Connection) -> list[Base]:
        paths = [path for disk in self.spec["disks"] for path in bases_of(disk)]
        found = [fingerprint(connection, path) for path in dict.fromkeys(paths)]
        return [base for base in found if base is not None]

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
