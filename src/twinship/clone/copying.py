"""The disks of a clone: their volumes, the copy, and whether it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml.carrier import Carrier, aligned
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.broken_link import once_it_moved, until_it_holds
from twinship.transfer.carrier import FileCopy, carry_across, copy_on_host, end_carriers
from twinship.transfer.lens import drop_lenses, lens_path, make_lens
from twinship.transfer.steps import CreateVolume, Hosts, explained
from twinship.transfer.tail import copy_tail
from twinship.transfer.verify import End, same_content, same_shape


def volume_phase(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> CreateVolume:
    """The phase that makes the file of a disk."""
    container = disk["method"] in WHOLE_FILE
    overlay = disk["method"] == "overlay"
    may_grow = spec.get("in_use", False) and container and not disk.get("to_device")
    return CreateVolume(
        hosts=hosts,
        host=spec["host"],
        path=disk["path"],
        volume=volumes.NewVolume(
            pool=disk["pool"],
            name=disk["file"],
            format="raw" if container else disk["format"],
            capacity_bytes=disk.get("room") or (disk["length"] if container else disk["virtual"]),
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
        capacity=(lambda: _length_now(hosts, spec, disk)) if may_grow else None,
    )


WHOLE_FILE = frozenset({"reflink", "carrier"})


def length_of(disk: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> int:
    """The length of the file to copy: of one in use it is known once it stands still."""
    return int(outcomes[f"volume:{disk['target']}"].get("length", disk["length"]))


def _length_now(hosts: Hosts, spec: dict[str, Any], disk: dict[str, Any]) -> int:
    found = volumes.find(hosts.connection(spec["source"]["host"]), disk["source"])
    if found is None:
        raise TwinshipError(f"{disk['source']} has gone", code="DISK_MISSING")
    return found.length_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDisks:
    """Copies all disks at once, by one carrier."""

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    waits_s: Sequence[float]
    name: str = "copy"
    title: str = "copy the disks"

    def do(self, job: Job) -> dict[str, Any]:
        """The bytes that each target takes on disk, and how long it took."""
        spec, began = self.spec, job.clock.monotonic()
        outcomes = job.outcomes()
        disks = [disk for disk in spec["disks"] if _to_copy(disk, outcomes)]
        source = self.hosts.connection(spec["source"]["host"])
        target = self.hosts.connection(spec["host"])
        lenses = self._lenses(source, disks, outcomes)
        files = [_file_copy(disk, outcomes, lenses) for disk in disks]
        restarts = self._carry(job, files, disks)
        source = self.hosts.connection(spec["source"]["host"])
        target = self.hosts.connection(spec["host"])
        self._drop_lenses(source)
        copied = {}
        for disk in disks:
            if disk["method"] in WHOLE_FILE:
                length = length_of(disk, outcomes)
                copy_tail(source, disk["source"], target, disk["path"], length)
            whole = disk["format"] == "raw" or disk["method"] == "carrier"
            if disk["allocate"] and whole and not disk.get("to_device"):
                # Zeroes that were mirrored have unmapped what was taken before. Until its pool is
                # looked at again the volume is raw for libvirt, whatever is in it.
                length = length_of(disk, outcomes)
                raw = disk["virtual"] if disk["format"] == "raw" else length
                volumes.allocate(target, disk["path"], raw)
            found = volumes.find(target, disk["path"])
            copied[disk["target"]] = found.allocated_bytes if found is not None else 0
        seconds = round(job.clock.monotonic() - began, 3)
        return {"disks": copied, "seconds": seconds, "restarts": restarts}

    def _lenses(
        self,
        source: Connection,
        disks: Sequence[dict[str, Any]],
        outcomes: dict[str, dict[str, Any]],
    ) -> dict[str, str]:
        """Overlays to read a running VM's files through, where a carrier is to move with them."""
        if not self.spec["source"].get("active") or source.name == self.spec["host"]:
            return {}
        carrier, made = self.spec["carrier"]["name"], {}
        for disk in disks:
            container = disk["method"] in WHOLE_FILE
            made[disk["target"]] = make_lens(
                source,
                disk["source"],
                carrier,
                capacity_bytes=(
                    aligned(length_of(disk, outcomes)) if container else disk["virtual"]
                ),
                format="raw" if container else disk["source_format"],
            )
        return made

    def _carry(self, job: Job, files: list[FileCopy], disks: Sequence[dict[str, Any]]) -> int:
        """Copies them; returns how often that was begun again because the link broke."""
        spec, carrier = self.spec, carrier_of(self.spec)
        here, there = spec["source"]["host"], spec["host"]
        if not files:
            return 0

        begun = 0

        def copy() -> None:
            nonlocal begun
            begun += 1
            target = self.hosts.connection(there)
            try:
                if here == there:
                    rate, stall_s = spec["rate"], self.stall_s
                    copy_on_host(job, target, carrier, files, rate=rate, stall_s=stall_s)
                    return
                carry_across(
                    job,
                    self.hosts.connection(here),
                    target,
                    carrier,
                    files,
                    uri=spec["uri"],
                    rate=spec["rate"],
                    stall_s=self.stall_s,
                )
            except TwinshipError as error:
                raise explained(error, target, disks[0]["path"]) from error

        if here == there:
            copy()
            return 0

        def clear() -> None:
            end_carriers(carrier.uuid, *map(self.hosts.connection, (here, there)))

        until_it_holds(
            job,
            self.name,
            copy,
            before_next=clear,
            waits_s=self.waits_s,
            worth_it=once_it_moved(job),
        )
        return begun - 1

    def observe(self, job: Job) -> dict[str, Any] | None:
        """How far it got is not known: copied again."""
        return None

    def undo(self, job: Job) -> None:
        """Ends the carriers and drops what they read through."""
        for host in dict.fromkeys((self.spec["source"]["host"], self.spec["host"])):
            end_carriers(self.spec["carrier"]["uuid"], self.hosts.connection(host))
        self._drop_lenses(self.hosts.connection(self.spec["source"]["host"]))

    def _drop_lenses(self, source: Connection) -> None:
        if self.spec["source"].get("active") and source.name != self.spec["host"]:
            carrier = self.spec["carrier"]["name"]
            drop_lenses(source, [lens_path(disk["source"], carrier) for disk in self.spec["disks"]])

    def leftover(self) -> str:
        """Nothing: a carrier dies with our connection."""
        return ""


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
        length_bytes=length_of(disk, outcomes),
        flatten_to=disk["format"] if flatten else "",
        source_format=disk["source_format"],
        backing=tuple((path, kind) for path, kind in disk["backing"]) if flatten else (),
        through=lenses.get(disk["target"], ""),
        from_device=disk.get("from_device", False),
        to_device=disk.get("to_device", False),
    )


def carrier_of(spec: dict[str, Any]) -> Carrier:
    """The carrier of a clone."""
    return Carrier(**spec["carrier"], **spec["machine"])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyDisks:
    """Size and format of every copy; with ``--verify`` also its content."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "verify"
    title: str = "check the copies"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``COPY_DIFFERS`` for a copy that is none."""
        connection = self.hosts.connection(self.spec["host"])
        source = self.hosts.connection(self.spec["source"]["host"])
        digests = {}
        outcomes = job.outcomes()
        for disk in self.spec["disks"]:
            container = disk["method"] in WHOLE_FILE
            length = length_of(disk, outcomes)
            same_shape(
                End(connection=connection, path=disk["path"]),
                format=disk["format"],
                length_bytes=length if container else None,
                virtual_bytes=disk["virtual"],
                device=disk.get("to_device", False),
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
        """Read anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        """Nothing."""
        return ""
