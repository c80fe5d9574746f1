"""Proof, right before a move, that what both hosts call one file is one: a token is seen by both.

The plan compares sizes and change times, which writes nothing. libvirt itself judges by the type of
a filesystem; its check is passed over on the strength of this proof alone.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import volumes
from twinship.inventory.sharing import new_token
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveShared:
    """Makes a small file beside each shared disk at the source and looks for it on the target."""

    hosts: Hosts
    spec: dict[str, Any]
    name: str = "prove"
    title: str = "prove that the disks are shared"

    def do(self, job: Job) -> dict[str, Any]:
        """Raises ``STORAGE_NOT_SHARED``; no token is left either way."""
        source = self.hosts.connection(self.spec["source"])
        target = self.hosts.connection(self.spec["target"])
        proved: list[str] = []
        for directory, there in shared_directories(self.spec):
            pool = volumes.pool_of(source, directory)
            if pool is None:
                raise _not_shared(directory, "it is no storage pool of the source any more")
            token = new_token(pool)
            path = f"{directory}/{token.name}"
            job.note(self.name, {"tokens": [*job.notes(self.name).get("tokens", ()), path]})
            volumes.create(source, token)
            try:
                if volumes.find(target, f"{there}/{token.name}") is None:
                    raise _not_shared(there, f"{path}, just made at the source, is not seen")
            finally:
                volumes.delete(source, path)
            proved.append(directory)
        return {"directories": proved}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Proved anew each time."""
        return None

    def undo(self, job: Job) -> None:
        """Deletes tokens that an interrupted proof left."""
        source = self.hosts.connection(self.spec["source"])
        for path in job.notes(self.name).get("tokens", ()):
            volumes.delete(source, path)

    def leftover(self) -> str:
        """A token."""
        return f"perhaps a file .twinship-token-… on {self.spec['source']}"


def shared_directories(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """The directories of the files that both hosts shall have, as each of them calls it."""
    shared = [
        (posixpath.dirname(disk["path"]), posixpath.dirname(disk["there"]))
        for disk in spec["disks"]
        if disk["way"] == "shared" and disk["path"].startswith("/") and disk["kind"] == "file"
    ]
    return list(dict.fromkeys(shared))


def _not_shared(directory: str, why: str) -> TwinshipError:
    return TwinshipError(
        f"{directory} is not the same directory on both hosts",
        code="STORAGE_NOT_SHARED",
        cause=why,
        hint="move with --storage copy, or share the directory (docs: sharing storage)",
    )
