"""How busy a guest is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLoad:
    """What was seen of a running guest.

    ``cpu_share`` is in CPUs, ``memory_bytes`` what is not zero of its memory. ``windows`` are
    seconds and the bytes/s of distinct pages written in each; empty for a guest that is idle.
    """

    cpu_share: float
    memory_bytes: int
    windows: tuple[tuple[float, float], ...] = ()
