"""Phases that carry whole files, and look at what they, and those that stand there, really are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinship.domxml.carrier import Carrier, aligned
from twinship.hypervisor import content, volumes
from twinship.inventory.lineage import fingerprint
from twinship.migrate.spec import files_of
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.broken_link import until_it_holds
from twinship.transfer.carrier import FileCopy, carry_across, end_carriers
from twinship.transfer.lens import drop_lenses, lens_path, make_lens
from twinship.transfer.steps import Hosts, explained_on
from twinship.transfer.tail import copy_tail
from twinship.transfer.verify import End, same_content, same_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckBases:
    """Looks whether what disks will stand on is the same on both hosts; changes nothing."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "bases"
    title: str = "compare the backing files that are there"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``BASE_DIFFERS``. With ``--verify`` all bytes of both are read."""
        whole = bool(self.spec["verify"])
        source = self.hosts.connection(self.spec["source"])
        target = self.hosts.connection(self.spec["target"])
        digests = {}
        for base in self.spec["bases"]:
            path, place = base["path"], base["there"]
            job.raise_if_cancelled()
            here, there = fingerprint(source, path), fingerprint(target, place)
            same = (
                here is not None
                and there is not None
                and (here.length_bytes, here.header) == (there.length_bytes, there.header)
            )
            if same and whole:
                digests[place] = content.digest(source, path)
                same = digests[place] == content.digest(target, place)
            if not same:
                raise TwinshipError(
                    f"{place} on {target.name} is not what {path} is on {source.name}",
                    code="BASE_DIFFERS",
                    hint="move it away there, then it is carried; or --storage copy (live)",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """Carries files that nobody writes to, all at once, byte for byte.

    Of a shut-off VM all that it has; of a running one what its disks will stand on, and media.
    """

    hosts: Hosts
    spec: dict[str, Any]
    stall_s: float
    waits_s: Sequence[float]
    name: str = "carry"
    title: str = "carry the disks"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises what the carrier raises; the source's files are only read.

        A broken link is tried again: what is over goes over no more, the rest from its beginning.
        """
        began = job.clock.monotonic()
        files = self._files()
        arrived: set[str] = set()
        try:
            until_it_holds(
                job,
                self.name,
                lambda: self._carry(job, files, arrived),
                before_next=self._end,
                waits_s=self.waits_s,
            )
        except TwinshipError as error:
            if not files:
                raise
            raise explained_on(
                error, self.hosts, self.spec["target"], files[0].destination
            ) from error
        sizes = {
            disk["target"]: sum(self._allocated(layer["there"]) for layer in disk["layers"])
            for disk in self.spec["disks"]
            if self.spec["mode"] == "offline"
        }
        along = sum(self._allocated(file["there"]) for file in self.spec["along"])
        return {
            "seconds": round(job.clock.monotonic() - began, 3),
            "bytes_disk": sum(sizes.values()) + along,
            "bytes_along": along,
            "disks": sizes,
        }

    def observe(self, job: Job) -> dict[str, Any] | None:
        """How far a carrier got is not known once it is gone: the files are carried again."""
        return None

    def undo(self, job: Job) -> None:
        """Ends the carriers on both hosts, and drops what they read through."""
        self._end()

    def leftover(self) -> str:
        """The carriers."""
        name = self.spec["carrier"]["name"]
        return f"carrier {name} on {self.spec['source']} or {self.spec['target']}"

    def _files(self) -> list[FileCopy]:
        carrier = self.spec["carrier"]["name"]
        return [
            FileCopy(
                source=file["path"],
                destination=file["there"],
                length_bytes=file["length"],
                through=lens_path(file["path"], carrier) if file["through"] else "",
            )
            for file in carried_files(self.spec)
        ]

    def _carry(self, job: Job, files: Sequence[FileCopy], arrived: set[str]) -> None:
        spec = self.spec
        source = self.hosts.connection(spec["source"])
        target = self.hosts.connection(spec["target"])
        left = [file for file in files if file.source not in arrived]
        for file in left:
            if file.through:
                seen = aligned(file.length_bytes)
                make_lens(source, file.source, spec["carrier"]["name"], capacity_bytes=seen)
        carry_across(
            job,
            source,
            target,
            Carrier(**spec["carrier"], **spec["machine"]),
            left,
            uri=spec["uri"],
            rate=spec["rate"],
            stall_s=self.stall_s,
            arrived=arrived,
        )
        drop_lenses(source, _lenses(left))
        for file in files:
            copy_tail(source, file.source, target, file.destination, file.length_bytes)

    def _end(self) -> None:
        source = self.hosts.connection(self.spec["source"])
        for connection in (source, self.hosts.connection(self.spec["target"])):
            end_carriers(self.spec["carrier"]["uuid"], connection)
        drop_lenses(source, _lenses(self._files()))

    def _allocated(self, path: str) -> int:
        return allocated(self.hosts, self.spec["target"], path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Size and format of every carried file; with ``--verify`` also the content of both ends."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "verify"
    title: str = "check the copies"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``COPY_DIFFERS``."""
        spec = self.spec
        source = self.hosts.connection(spec["source"])
        target = self.hosts.connection(spec["target"])
        digests = {}
        for file in carried_files(spec):
            copy = End(connection=target, path=file["there"])
            # Of an encrypted file libvirt shows what is in it: what it shows here has to be there.
            here = volumes.find(source, file["path"])
            encrypted = here is not None and here.encrypted
            same_shape(
                copy,
                format=here.format if here is not None and encrypted else file["format"],
                length_bytes=file["length"],
                virtual_bytes=(
                    here.capacity_bytes if here is not None and encrypted else file["virtual"]
                ),
            )
            if spec["verify"]:
                origin = End(connection=source, path=file["path"])
                digests[file["there"]] = same_content(job, origin, copy, file["length"])
        return {"digests": digests}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Read anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyMirrored:
    """Size, format and base of every disk that QEMU mirrored."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "verify"
    title: str = "check the copies"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``COPY_DIFFERS``."""
        target = self.hosts.connection(self.spec["target"])
        for disk in self.spec["disks"]:
            for layer in disk["layers"]:
                same_shape(
                    End(connection=target, path=layer["there"]),
                    format=layer["format"],
                    length_bytes=None,
                    virtual_bytes=layer["virtual"],
                    backing_path=layer["backing"],
                )
        return {"digests": {}}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Read anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        """Nothing."""
        return ""


def _lenses(files: Sequence[FileCopy]) -> list[str]:
    return [file.through for file in files if file.through]


def carried_files(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What goes over by a carrier: of a running VM only what its disks stand on, and media."""
    return files_of(spec) if spec["mode"] == "offline" else list(spec["along"])


def allocated(hosts: Hosts, host: str, path: str) -> int:
    """What a file takes on a host; 0 for none."""
    found = volumes.find(hosts.connection(host), path)
    return found.allocated_bytes if found is not None else 0
