"""The last bytes of a file, which a carrier's slice leaves out: fewer than 64 KiB, through us."""

from __future__ import annotations

from twinship.domxml.carrier import aligned
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection


def copy_tail(
    source: Connection, source_path: str, target: Connection, target_path: str, length_bytes: int
) -> int:
    """Copies what lies behind the aligned part of a file; returns how many bytes that were."""
    start = aligned(length_bytes)
    if start == length_bytes:
        return 0
    data = volumes.read(source, source_path, start, length_bytes - start)
    volumes.write(target, target_path, start, data)
    return len(data)
