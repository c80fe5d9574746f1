"""Proof that a copy is what it was copied from.

Always: size and format, as the host sees them. On request: the content, by streaming both ends
through the controller (neither libvirt nor QEMU offers a hash of a remote file).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job

CHUNK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a copy."""

    connection: Connection
    path: str

    def __str__(self) -> str:
        return f"{self.path} on {self.connection.name}"


def same_shape(
    copy: End,
    *,
    format: str,
    length_bytes: int | None,
    virtual_bytes: int,
    backing_path: str | None = None,
    device: bool = False,
) -> None:
    """Raises ``COPY_DIFFERS`` unless the copy has this format and size.

    A ``device`` has no format that libvirt would know of, and may be larger: of whole extents.

    ``length_bytes`` None: a copy of the guest's view, whose file may have any length.
    ``backing_path`` None: whatever it is based on is not looked at.
    """
    pool = volumes.find(copy.connection, copy.path)
    if pool is None:
        raise TwinshipError(f"the copy {copy} is gone", code="COPY_DIFFERS")
    volumes.refresh(copy.connection, pool.pool)
    found = volumes.find(copy.connection, copy.path)
    if found is None:
        raise TwinshipError(f"the copy {copy} is gone", code="COPY_DIFFERS")
    if device and found.capacity_bytes >= virtual_bytes:
        return
    if found.format != format and not device:
        raise TwinshipError(
            f"the copy {copy} is {found.format or 'of no known format'}, not {format}",
            code="COPY_DIFFERS",
        )
    if backing_path is not None and found.backing_path != backing_path:
        raise TwinshipError(
            f"the copy {copy} is based on {found.backing_path or 'nothing'}, not on {backing_path}",
            code="COPY_DIFFERS",
        )
    if length_bytes is not None and found.length_bytes != length_bytes:
        raise TwinshipError(
            f"the copy {copy} has {found.length_bytes} bytes, not {length_bytes}",
            code="COPY_DIFFERS",
        )
    if found.capacity_bytes != virtual_bytes:
        raise TwinshipError(
            f"the copy {copy} shows {found.capacity_bytes} bytes to the guest, not {virtual_bytes}",
            code="COPY_DIFFERS",
        )


def same_content(job: Job, one: End, other: End, length_bytes: int) -> str:
    """Streams both ends and compares; returns the SHA-256. Raises ``COPY_DIFFERS``."""
    digests = (hashlib.sha256(), hashlib.sha256())
    for offset in range(0, length_bytes, CHUNK_BYTES):
        job.raise_if_cancelled()
        length = min(CHUNK_BYTES, length_bytes - offset)
        for end, digest in zip((one, other), digests, strict=True):
            digest.update(volumes.read(end.connection, end.path, offset, length))
        job.progress.bytes(offset + length, length_bytes)
    if digests[0].digest() != digests[1].digest():
        raise TwinshipError(f"{one} and {other} differ", code="COPY_DIFFERS")
    return digests[0].hexdigest()
