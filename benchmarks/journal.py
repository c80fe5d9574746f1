"""What the journal costs: a step's intent and outcome, committed to disk, on SQLite.

``script/bench journal``; seconds. The peer is the disk itself: the same file's fsync.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Claim, record
from twinship.model.operation import Operation, OperationState
from twinship.store.database import Database
from twinship.store.operations import OperationStore

STEPS = 500


def main() -> int:
    """Measures journaled steps beside plain appends with fsync in the same directory."""
    place = Path("/var/lib/twinship")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else "/var/tmp") as directory:
        ours = steps(Path(directory) / "twinship.db")
        peer = flushes(Path(directory) / "plain")
    claims = [
        Claim(
            name="a journaled step (intent and outcome, each committed)",
            unit="s",
            ours=ours,
            peer=peer,
            peer_name="two appends with fsync",
            limit=0.001,
            kind="absolute",
        )
    ]
    return record("journal", claims, {"steps": STEPS})


def steps(path: Path) -> list[float]:
    """Seconds for each step of an operation with this many."""
    database = Database(path)
    store = OperationStore(database)
    now = datetime.now(UTC)
    op = Operation(
        id="bench",
        kind="bench",
        title="bench",
        state=OperationState.RUNNING,
        created=now,
        started=now,
        ended=None,
        user="root",
        resources=("vm/bench",),
        spec={},
        owner="bench",
        fence=1,
    )
    store.create(op)
    took = []
    for number in range(STEPS):
        began = time.perf_counter()
        store.append(op, "intent", f"phase{number}", {"title": "a step"}, now)
        store.append(op, "done", f"phase{number}", {"path": "/var/lib/x.qcow2"}, now)
        took.append(time.perf_counter() - began)
    database.close()
    return took


def flushes(path: Path) -> list[float]:
    """Seconds for each pair of appends of a page with fsync."""
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(STEPS):
            began = time.perf_counter()
            for _ in range(2):
                file.write(b"x" * 4096)
                os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    raise SystemExit(main())
