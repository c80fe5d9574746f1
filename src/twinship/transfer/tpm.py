"""The state of a VM's emulated TPM: a few small files in a directory named by the VM's UUID.

libvirt (9.0) makes it anew only where the directory is not there; at the start of the VM it gives
directory and files to the user that swtpm runs as. They are reached through a transient pool over
the directory; their bytes go through the controller and nowhere else. They hold the TPM's keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import pools, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import Conflict, Gone, HypervisorError, TwinshipError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts

MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTpm:
    """Copies the state; undone by deleting the copy.

    A source that never started has none: then the clone gets its own at its first start.
    """

    hosts: Hosts
    source_host: str
    source_directory: str
    target_host: str
    target_directory: str
    name: str = "tpm"
    title: str = "copy the TPM's state"

    def do(self, job: Job) -> dict[str, Any]:
        """The bytes copied. Raises :class:`Conflict` where the clone has a state already."""
        files = self._read(job, self.hosts.connection(self.source_host))
        if not files:
            return {"bytes": 0}
        target = self.hosts.connection(self.target_host)
        pool = _pool(job, "to")
        self._drop(job, target)
        job.note(self.name, {"began": True})
        pools.temporary_pool(target, pool, self.target_directory, build=True)
        try:
            if volumes.names(target, pool):
                job.note(self.name, {"began": False})
                raise Conflict(f"{self.target_directory} is not empty", code="TPM_EXISTS")
            for name, data in files.items():
                new = volumes.NewVolume(
                    pool=pool, name=name, format="raw", capacity_bytes=len(data)
                )
                path = volumes.create(target, new)
                volumes.write(target, path, 0, data)
        finally:
            pools.close_temporary_pool(target, pool)
        return {"bytes": sum(len(data) for data in files.values())}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """It may be half written: it is copied again."""
        return None

    def undo(self, job: Job) -> None:
        """Deletes the copy, and closes what an interrupted run left open."""
        source = self.hosts.connection(self.source_host)
        pools.close_temporary_pool(source, _pool(job, "from"))
        self._drop(job, self.hosts.connection(self.target_host))

    def leftover(self) -> str:
        """The copy."""
        return f"{self.target_directory} on {self.target_host}"

    def _read(self, job: Job, source: Connection) -> dict[str, bytes]:
        pool = _pool(job, "from")
        pools.close_temporary_pool(source, pool)
        try:
            pools.temporary_pool(source, pool, self.source_directory)
        except HypervisorError as error:
            if isinstance(error, Gone) or "No such file" in error.cause:
                return {}
            raise
        try:
            files = {}
            for name in sorted(volumes.names(source, pool)):
                if not name.endswith(".permall"):
                    continue  # locks, and what a running swtpm keeps for a restart
                path = f"{self.source_directory}/{name}"
                found = volumes.find(source, path)
                length = found.length_bytes if found is not None else 0
                if length > MAX_BYTES:
                    raise TwinshipError(f"{path} is too large for a TPM", code="TPM_SIZE")
                files[name] = volumes.read(source, path, 0, length)
            return files
        finally:
            pools.close_temporary_pool(source, pool)

    def _drop(self, job: Job, target: Connection) -> None:
        """Deletes what this operation made there."""
        pool = _pool(job, "to")
        pools.close_temporary_pool(target, pool)
        if job.notes(self.name).get("began"):
            pools.delete_directory(target, pool, self.target_directory)
            above = self.target_directory.rpartition("/")[0]
            pools.delete_directory(target, pool, above)


def _pool(job: Job, which: str) -> str:
    return f"twinship-{job.op.id}-{which}"
