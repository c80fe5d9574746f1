"""In which order many VMs move, and how many at a time; pure.

**Order.** Running VMs before those shut off: a guest that runs needs the link to arrive at all
(what it writes meanwhile goes over again), and one that is shut off is missed by nobody while it
waits. Among the running, those whose disks are copied come first, for the copy takes the longest
and the memory of others moves during it; then, as everywhere, the larger before the smaller: the
longest work begun last would leave everything else idle at the end, and a large memory converges
best while the link is still empty.

**At a time.** Two memories that cross one link share it, and each takes longer than its half: a
guest writes on meanwhile. So one memory crosses an end of a link at a time. Small ones are the
exception: of an idle guest of 256 MiB the link is used for a fraction of a second, the rest is
the hosts setting up and tearing down. They overlap as long as all together are not more than one
large memory.

Shut-off VMs have no memory to move; of them, and of disks, as many go at a time as hosts and
pools have places (:mod:`twinship.planning.slots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIB = 2**20
OVERLAP_BYTES = 1024 * MIB
"""What memories that cross an end of a link together may come to; 9 s of a gigabit link."""
SMALL_BYTES = OVERLAP_BYTES // 2
"""A memory that leaves room for at least one more beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one move brings. ``memory_bytes``: expected to cross, 0 for a VM that is shut off."""

    source: str
    target: str
    memory_bytes: int
    disk_bytes: int
    slots: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[str, str]:
        """The two ends of its link; a host's way out and its way in are two."""
        return (f"out/{self.source}", f"in/{self.target}")

    @property
    def small(self) -> bool:
        """Whether it is over so soon that it takes no place of a large move."""
        return self.disk_bytes == 0 and self.memory_bytes <= SMALL_BYTES


def ordered(loads: Sequence[Load]) -> tuple[int, ...]:
    """The places of the loads in the order they shall begin; equal ones as they were given."""
    return tuple(sorted(range(len(loads)), key=lambda at: _rank(loads[at])))


def fits(crossing: Sequence[int], memory_bytes: int) -> bool:
    """Whether a memory may cross while these do; one alone always may."""
    return not crossing or sum(crossing) + memory_bytes <= OVERLAP_BYTES


def may_begin(load: Load, under_way: Sequence[Load], limits: Mapping[str, int]) -> bool:
    """Whether a move may begin beside those under way.

    One that copies disks begins whenever its slots are free: its memory waits for its turn later.
    """
    for wanted in load.slots:
        limit = limits.get(wanted.partition("/")[0])
        if limit is not None and sum(wanted in other.slots for other in under_way) >= limit:
            return False
    if load.disk_bytes or not load.memory_bytes:
        return True
    beside = [other for other in under_way if other.memory_bytes and not other.disk_bytes]
    return all(
        fits([other.memory_bytes for other in beside if end in other.ends], load.memory_bytes)
        for end in load.ends
    )


def next_to_begin(
    waiting: Sequence[Load], under_way: Sequence[Load], limits: Mapping[str, int]
) -> int | None:
    """The place of the first that may begin now.

    A memory does not overtake one that waits for the same end: the large would wait for ever.
    """
    blocked: set[str] = set()
    for at, load in enumerate(waiting):
        crosses = load.memory_bytes > 0 and not load.disk_bytes
        if not (crosses and blocked.intersection(load.ends)) and may_begin(load, under_way, limits):
            return at
        if crosses and not load.small:
            blocked.update(load.ends)
    return None


def _rank(load: Load) -> tuple[bool, bool, int]:
    running = load.memory_bytes > 0
    return (not running, not load.disk_bytes, -(load.memory_bytes + load.disk_bytes))
