"""The slots an operation needs: the few places hosts and pools have for work at the same time."""

from __future__ import annotations

from collections.abc import Iterable

TOTAL = "total"


def copy_slots(pools: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """For copying into pools, each as host and pool."""
    return (TOTAL, *(f"pool/{host}/{pool}" for host, pool in dict.fromkeys(pools)))


def move_slots(source: str, target: str, pools: Iterable[str]) -> tuple[str, ...]:
    """For a move that writes into these pools of the target."""
    ends = (f"out/{source}", f"in/{target}")
    return (*ends, *copy_slots((target, pool) for pool in pools))


def small_move_slots(source: str, target: str) -> tuple[str, ...]:
    """For a move of little memory and no disk, which takes no place of one that fills a link."""
    return (f"small/{source}", f"small/{target}", TOTAL)
