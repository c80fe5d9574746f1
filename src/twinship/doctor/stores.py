"""What the storage of all hosts holds, and which files of one path are one file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twinship.hypervisor import pools, secrets, volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.secrets import Secret
from twinship.inventory.inventory import Inventory
from twinship.model.errors import TwinshipError


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One host's: its pools, the volumes of its active ones (path to pool), and its secrets."""

    pools: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A file that no VM of ``host`` has, at the path of a disk of a VM on ``other``.

    ``same``: it is that very disk, on shared storage. ``based_on``: a volume of the host has it as
    its backing file.
    """

    host: str
    other: str
    path: str
    pool: str
    allocated_bytes: int
    same: bool
    based_on: bool = False


def look(connection: Connection) -> Store:
    """One host's storage, its pools freshly looked at."""
    found: dict[str, str] = {}
    for pool, path in volumes.listed(connection):
        found[path] = pool
    return Store(pools=pools.listed(connection), files=found, secrets=secrets.listed(connection))


def twins(inventory: Inventory, wanted: Iterable[tuple[str, str, str]]) -> tuple[Twin, ...]:
    """Looks closer at (host, other host, path); one that cannot be seen is left out."""
    found = []
    based: dict[str, frozenset[str]] = {}
    for host, other, path in wanted:
        try:
            here, there = inventory.connection(host), inventory.connection(other)
            first, far, last = (volumes.find(end, path) for end in (here, there, here))
            if first is None or far is None or last is None:
                continue
            if host not in based:
                based[host] = volumes.backing_files(here)
        except TwinshipError:
            continue
        found.append(
            Twin(
                host=host,
                other=other,
                path=path,
                pool=last.pool,
                allocated_bytes=last.allocated_bytes,
                # What changes here, where nobody writes it, is written there.
                same=first.stamp != last.stamp
                or (far.length_bytes, far.stamp) == (last.length_bytes, last.stamp),
                based_on=path in based[host],
            )
        )
    return tuple(found)


def stem(path: str) -> str:
    """The name of a file without what comes after its first dot, or after a ``_VARS``."""
    return posixpath.basename(path).partition(".")[0].removesuffix("_VARS")
