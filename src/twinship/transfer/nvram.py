"""A VM's firmware variables (NVRAM): one small file in a directory that is seldom a pool.

The file is reached through a pool over its directory: the one there is, or a transient one that
lives as long as the copy. Its bytes (at most a few MiB) go through the controller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import pools, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import Conflict, TwinshipError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts

MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyNvram:
    """Copies the variables; undone by deleting the copy, if it is ours.

    A source file that is not there is no error: libvirt makes it from the firmware's template at
    the first start.
    """

    hosts: Hosts
    source_host: str
    source_path: str
    target_host: str
    target_path: str
    name: str = "nvram"
    title: str = "copy the firmware variables"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises :class:`Conflict` when the target file is there already."""
        source = self.hosts.connection(self.source_host)
        target = self.hosts.connection(self.target_host)
        with _window(job, source, self.source_path) as _:
            found = volumes.find(source, self.source_path)
            if found is None:
                return {"bytes": 0}
            if found.length_bytes > MAX_BYTES:
                raise TwinshipError(
                    f"{self.source_path} is too large for firmware variables", code="NVRAM_SIZE"
                )
            data = volumes.read(source, self.source_path, 0, found.length_bytes)
        with _window(job, target, self.target_path) as pool:
            ours = job.notes(self.name).get("was_absent", False)
            if ours:
                volumes.delete(target, self.target_path)  # what a process that died had begun
            elif volumes.find(target, self.target_path) is not None:
                raise Conflict(
                    f"{self.target_path} is already there on {target.name}", code="VOLUME_EXISTS"
                )
            job.note(self.name, {"was_absent": True})
            volumes.create(
                target,
                volumes.NewVolume(
                    pool=pool,
                    name=self.target_path.rpartition("/")[2],
                    format="raw",
                    capacity_bytes=len(data),
                ),
            )
            volumes.write(target, self.target_path, 0, data)
            if volumes.read(target, self.target_path, 0, len(data)) != data:
                raise TwinshipError(
                    f"{self.target_path} was not written whole", code="COPY_DIFFERS"
                )
        return {"bytes": len(data)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """A file may be half written: it is copied again."""
        return None

    def undo(self, job: Job) -> None:
        """Deletes the copy, and closes what an interrupted run left open."""
        for host in dict.fromkeys((self.source_host, self.target_host)):
            pools.close_temporary_pool(self.hosts.connection(host), _pool_name(job))
        if not job.notes(self.name).get("was_absent"):
            return
        target = self.hosts.connection(self.target_host)
        with _window(job, target, self.target_path):
            volumes.delete(target, self.target_path)

    def leftover(self) -> str:
        """The copy."""
        return f"{self.target_path} on {self.target_host}"


@contextmanager
def _window(job: Job, connection: Connection, path: str) -> Iterator[str]:
    """The pool over the directory of ``path``; one of ours for the time being if there is none."""
    directory = path.rpartition("/")[0]
    there = volumes.pool_of(connection, directory)
    if there is not None:
        yield there
        return
    name = _pool_name(job)
    pools.temporary_pool(connection, name, directory)
    try:
        yield name
    finally:
        pools.close_temporary_pool(connection, name)


def _pool_name(job: Job) -> str:
    return f"twinship-{job.op.id}"
