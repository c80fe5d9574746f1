"""How long a clone will take, by what the last ones took in the same pools; pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan

INSTANT_S = 0.2
"""A clone without a byte to copy: the journal and libvirt's own work (measured: 0.1 to 0.3 s)."""
LEAST_BYTES = 16 * 2**20
"""Smaller copies say nothing of a disk's speed."""
MOST_SAMPLES = 5


def estimated_s(plan: Plan, history: Iterable[Operation]) -> float | None:
    """Seconds a plan's copies will take; None where nothing comparable was measured yet.

    ``history``: past operations, the newest first. Disks of one pool share its rate; the slowest
    pool counts. A limit of rate is a limit here too.
    """
    needed: dict[tuple[str, str], int] = {}
    for spec in _specs(plan.spec):
        for disk in spec["disks"]:
            if disk["method"] in ("carrier", "flatten"):
                place = (spec["host"], disk["pool"])
                needed[place] = needed.get(place, 0) + disk["bytes"]
    if not sum(needed.values()):
        return INSTANT_S
    rates = _rates(history)
    limit = next(iter(_specs(plan.spec)))["rate"]
    slowest = 0.0
    for place, amount in needed.items():
        if place not in rates:
            return None
        rate = min(rates[place], limit) if limit else rates[place]
        slowest = max(slowest, amount / rate)
    return round(slowest + INSTANT_S, 1)


def _specs(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The specs of a clone, or of each of many."""
    return tuple(clone["spec"] for clone in spec["clones"]) if "clones" in spec else (spec,)


def _rates(history: Iterable[Operation]) -> dict[tuple[str, str], float]:
    """Bytes a second by host and pool: the median of the last few copies there."""
    found: dict[tuple[str, str], list[float]] = {}
    for op in history:
        if op.kind != "clone" or op.state is not OperationState.SUCCEEDED or op.spec.get("rate"):
            continue
        made = {disk["target"]: disk for disk in (op.result or {})["clones"][0]["disks"]}
        copied = sum(disk["bytes_copied"] for disk in made.values())
        took = max((disk["seconds"] for disk in made.values()), default=0.0)
        pools = {disk["pool"] for disk in op.spec["disks"]}
        if copied >= LEAST_BYTES and took > 0 and len(pools) == 1:
            samples = found.setdefault((op.spec["host"], pools.pop()), [])
            if len(samples) < MOST_SAMPLES:
                samples.append(copied / took)
    return {place: statistics.median(samples) for place, samples in found.items()}
