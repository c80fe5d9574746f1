"""Phases that clone and migrate share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import CheckBlocked, Conflict, HypervisorError, TwinshipError
from twinship.operations.job import Job
from twinship.transfer.reflink import reflink


class Hosts(Protocol):
    """Gives connections by host name; raises HostUnreachable for one that does not answer."""

    def connection(self, name: str) -> Connection:
        """An open connection."""


class Replan(Protocol):
    """Reads the facts anew and says what has changed since the plan was made."""

    def __call__(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Each change as a sentence; empty when the plan still holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """Looks once more at what the plan stands on, holding the VM's claim; changes nothing."""

    spec: dict[str, Any]
    replan: Replan
    name: str = "recheck"
    title: str = "look once more"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises :class:`CheckBlocked` (``PLAN_STALE``) with what changed."""
        changes = self.replan(self.spec)
        if changes:
            raise CheckBlocked(
                "what the plan stands on has changed",
                code="PLAN_STALE",
                cause="; ".join(changes),
                hint="plan again",
            )
        return {}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Looked at anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Nothing to take back."""

    def leftover(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume:
    """Makes a volume: empty, to be copied into, an overlay, or a reflink if that can be had.

    Undone by deleting it, if it is ours. ``reflink_of`` is the file whose blocks it shall share:
    ``reflink_by`` "libvirt" asks the host, "here" the kernel of this machine. Where that is refused
    the volume is made empty, and the outcome says why. ``capacity``: tells the size, in bytes, of a
    volume of which the plan cannot know it; the outcome has it as ``length``.

    libvirt cannot rename a volume, so it gets its final name at once. libvirt refuses a name that
    is there already: what this made is this operation's alone, and a file of somebody else is
    never deleted.
    """

    hosts: Hosts
    host: str
    volume: volumes.NewVolume
    path: str
    name: str
    title: str
    reflink_of: str = ""
    reflink_by: str = ""
    capacity: Callable[[], int] | None = None

    def do(self, job: Job) -> dict[str, Any]:
        """Raises :class:`Conflict` (``VOLUME_EXISTS``) when something lies there already."""
        connection = self.hosts.connection(self.host)
        if volumes.find(connection, self.path) is not None:
            raise self._taken()
        job.note(self.name, {"was_absent": True})
        new = self.volume
        if self.capacity is not None:
            new = replace(new, capacity_bytes=self.capacity())
        try:
            made = self._make(connection, new)
        except HypervisorError as error:
            if error.code == "VOLUME_EXISTS":
                job.note(self.name, {"was_absent": False})
                raise self._taken() from error
            raise
        known = {} if self.capacity is None else {"length": new.capacity_bytes}
        return made | known

    def observe(self, job: Job) -> dict[str, Any] | None:
        """The volume, if it is there and is this operation's own."""
        if not job.notes(self.name).get("was_absent"):
            return None
        found = volumes.find(self.hosts.connection(self.host), self.path)
        return {"path": self.path, "reflinked": False} if found is not None else None

    def undo(self, job: Job) -> None:
        """Deletes the volume unless it was there before us."""
        if job.notes(self.name).get("was_absent"):
            volumes.delete(self.hosts.connection(self.host), self.path)

    def leftover(self) -> str:
        """The volume."""
        return f"volume {self.path} on {self.host}"

    def _make(self, connection: Connection, new: volumes.NewVolume) -> dict[str, Any]:
        refused = ""
        if self.reflink_by == "libvirt":
            try:
                path = volumes.create_reflinked(connection, new, self.reflink_of)
            except HypervisorError as error:
                if error.code in ("VOLUME_EXISTS", "STORAGE_FULL", "HOST_UNREACHABLE"):
                    raise
                refused = error.cause or error.message
            else:
                return {"path": path, "reflinked": True}
        path = volumes.create(connection, new)
        if self.reflink_by == "here":
            refused = reflink(self.reflink_of, path)
            if not refused:
                return {"path": path, "reflinked": True}
        return {"path": path, "reflinked": False} | ({"refused": refused} if refused else {})

    def _taken(self) -> TwinshipError:
        return Conflict(
            f"{self.path} is already there on {self.host}",
            code="VOLUME_EXISTS",
            hint="choose another name or pool, or delete it",
        )


def explained(error: TwinshipError, connection: Connection, path: str) -> TwinshipError:
    """A failed copy's error, or the fuller one when the pool it wrote to has run full."""
    if error.code not in ("COPY_FAILED", "HYPERVISOR"):
        return error
    try:
        found = volumes.find(connection, path)
        free = volumes.pool_available(connection, found.pool) if found is not None else None
    except TwinshipError:
        return error
    if found is None or free is None or free > NEARLY_FULL_BYTES:
        return error
    return TwinshipError(
        f"pool {found.pool} on {connection.name} ran full while {path} was written",
        code="STORAGE_FULL",
        cause=error.cause,
        hint="free space there or choose another pool (--pool)",
    )


def explained_on(error: TwinshipError, hosts: Hosts, host: str, path: str) -> TwinshipError:
    """As :func:`explained`; the error as it is where the host does not answer any more."""
    try:
        connection = hosts.connection(host)
    except TwinshipError:
        return error
    return explained(error, connection, path)


NEARLY_FULL_BYTES = 16 * 1024 * 1024
