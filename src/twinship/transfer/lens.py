"""Lenses: overlays for the time being, through which a carrier reads what another QEMU has open.

A carrier that moves opens its files for writing, though it never writes; a file that a running VM
reads (a base, a medium) it would not get. What stands below an overlay is opened for reading only.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError


def lens_path(path: str, carrier: str) -> str:
    """Where the lens of a file lies: beside it, named by the carrier."""
    return f"{path}.{carrier}"


def make_lens(
    connection: Connection, path: str, carrier: str, *, capacity_bytes: int, format: str = "raw"
) -> str:
    """Makes the lens of a file, anew if one is there; returns its path.

    Through it ``capacity_bytes`` of what the file holds, as this format, are seen. Raises
    ``DISK_MISSING``.
    """
    lens = lens_path(path, carrier)
    volumes.delete(connection, lens)  # what a process that died had made
    found = volumes.find(connection, path)
    if found is None:
        raise TwinshipError(f"{path} has gone", code="DISK_MISSING")
    new = volumes.NewVolume(
        pool=found.pool,
        name=lens.rpartition("/")[2],
        format="qcow2",
        capacity_bytes=capacity_bytes,
        backing_path=path,
        backing_format=format,
    )
    return volumes.create(connection, new)


def drop_lenses(connection: Connection, lenses: Iterable[str]) -> None:
    """Deletes these lenses; harmless where there are none."""
    for path in lenses:
        volumes.delete(connection, path)
