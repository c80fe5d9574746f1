"""How far a live move really is: what lies on the target's disks, and the memory sent.

QEMU's own count of a disk's copy runs over its whole length, holes included: of a disk that is
half empty it says half too much (measured). The target's volumes say what is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinship.clock import Clock
from twinship.hypervisor import volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.jobs import MoveStats
from twinship.model.errors import TwinshipError

LOOK_EVERY_S = 0.5


class DiskMeter:
    """Turns libvirt's statistics into bytes done and bytes in all."""

    def __init__(
        self,
        target: Connection,
        paths: Sequence[str],
        expected_bytes: int,
        memory_bytes: int,
        clock: Clock,
    ) -> None:
        """``expected_bytes``: what the copied disks hold at the source as the move begins.

        ``memory_bytes``: what the VM's memory is taken for until libvirt says.
        """
        self._target = target
        self._paths = paths
        self._expected = expected_bytes
        self._memory = memory_bytes
        self._clock = clock
        self._looked_at = float("-inf")
        self._arrived = 0

    def __call__(self, stats: MoveStats) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        memory = stats.memory_processed + stats.memory_remaining or self._memory
        done = stats.memory_processed
        if self._paths:
            complete = stats.disk_total and not stats.disk_remaining
            done += self._expected if complete else self._on_the_target()
        return done, memory + self._expected

    def _on_the_target(self) -> int:
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            try:
                found = [volumes.find(self._target, path) for path in self._paths]
            except TwinshipError:
                return self._arrived  # the move's own watch says when a host is silent
            there = sum(volume.allocated_bytes for volume in found if volume is not None)
            self._arrived = min(there, self._expected)
        return self._arrived
