"""What the moves before tell of the link between two hosts, and of how well they were foretold."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from twinship.migrate.facts import Past
from twinship.model.operation import Operation, OperationState

LEAST_BYTES = 32 * 2**20
"""Less memory says nothing of a link's speed: it is gone before the stream has found it."""
MOST = 9


def past(history: Iterable[Operation], source: str, target: str) -> Past:
    """Of past operations, the newest first: those that moved a running VM from one to the other."""
    rates: list[float] = []
    seconds: list[tuple[float, float]] = []
    for op in history:
        result = op.result or {}
        ends = (op.spec.get("source"), op.spec.get("target"))
        if (
            op.kind != "migrate"
            or op.state is not OperationState.SUCCEEDED
            or ends != (source, target)
        ):
            continue
        if result.get("recoveries"):
            continue  # its time is that of a link that was away
        if result.get("rate") and result["bytes_memory"] >= LEAST_BYTES and not op.spec["rate"]:
            rates.append(float(result["rate"]))
        told = (result.get("forecast") or {}).get("seconds")
        if told and result.get("seconds") and not result.get("post_copy"):
            seconds.append((float(told), float(result["seconds"])))
    return Past(
        link=statistics.median(rates[:MOST]) if rates else 0.0, seconds=tuple(seconds[:MOST])
    )
