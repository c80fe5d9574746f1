"""A secret that a VM needs, brought to another host: its definition and its value.

The value goes from one libvirt connection to the other through this process's memory; it is in no
journal, no database, no log and no argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.domxml.secrets import SecretRef
from twinship.hypervisor import secret_values
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySecret:
    """Defines the secret on the target and gives it its value; undone to what was there before."""

    hosts: Hosts
    source_host: str
    target_host: str
    ref: SecretRef
    name: str
    title: str

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``SECRET_UNREADABLE`` when the source does not tell the value any more."""
        here = secret_values.find(self.hosts.connection(self.source_host), self.ref)
        if here is None or here.value is None:
            raise TwinshipError(
                f"the secret {self.ref.spoken} cannot be read on {self.source_host}",
                code="SECRET_UNREADABLE",
            )
        target = self.hosts.connection(self.target_host)
        there = secret_values.find(target, self.ref)
        if there is not None and (there.private or there.value is not None):
            return {"uuid": there.uuid, "made": False}
        if not job.notes(self.name):
            job.note(self.name, {"uuid": here.uuid, "was": "absent" if there is None else "empty"})
        secret_values.put(target, here)
        return {"uuid": here.uuid, "made": True}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Looked at by :meth:`do`."""
        return None

    def undo(self, job: Job) -> None:
        """Removes it; one that was there without a value is there without one again."""
        notes = job.notes(self.name)
        if not notes:
            return
        target = self.hosts.connection(self.target_host)
        there = secret_values.find(target, SecretRef(what=self.ref.what, uuid=notes["uuid"]))
        if there is None:
            return
        secret_values.remove(target, there.uuid)
        if notes["was"] == "empty":
            secret_values.define(target, there.xml)

    def leftover(self) -> str:
        """The secret."""
        return f"the secret {self.ref.spoken} on {self.target_host}"
