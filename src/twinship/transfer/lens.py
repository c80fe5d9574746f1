"""Lenses: overlays for the time being, through which a carrier reads what another QEMU has open.

A carrier that moves opens its files for writing, though it never writes; a file that a running VM
reads (a base, a medium) it would not get. What stands below an overlay is opened for reading only.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinship.domxml.carrier import aligned
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.transfer.carrier import FileCopy


def lens_path(path: str, carrier: str) -> str:
    """Where the lens of a file lies: beside it, named by the carrier."""
    return f"{path}.{carrier}"


def make_lens(connection: Connection, path: str, length_bytes: int, carrier: str) -> str:
    """Makes the lens of a file, anew if one is there; returns its path."""
    lens = lens_path(path, carrier)
    volumes.delete(connection, lens)  # what a process that died had made
    found = volumes.find(connection, path)
    if found is None:
        raise TwinshipError(f"{path} has gone", code="DISK_MISSING")
    new = volumes.NewVolume(
        pool=found.pool,
        name=lens.rpartition("/")[2],
        format="qcow2",
        capacity_bytes=aligned(length_bytes),
        backing_path=path,
        backing_format="raw",
    )
    return volumes.create(connection, new)


def drop_lenses(connection: Connection, files: Iterable[FileCopy]) -> None:
    """Deletes the lenses of these files; harmless where there are none."""
    for file in files:
        if file.through:
            volumes.delete(connection, file.through)
