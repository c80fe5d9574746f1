"""Who goes on with an operation that nobody owns: a worker process here, or another controller.

The truth is in the database alone (state, owner, lease, fence): a dispatch only wakes somebody up.
One that is lost, late or doubled does no harm, for who takes an operation over does so in one
transaction, and whatever is left lying is found by the next changing command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol


class Dispatch(Protocol):
    """Wakes somebody up for an operation."""

    def hand_over(self, operation_id: str) -> None:
        """Has somebody go on with the operation soon; returns at once."""


class WorkerProcess:
    """A process of its own for each operation, on this machine; it outlives the caller."""

    def __init__(self, state: Path) -> None:
        """``state``: the state directory the worker works on."""
        self._state = state

    def hand_over(self, operation_id: str) -> None:
        """Starts ``twinship operation work ID``."""
        subprocess.Popen(
            [sys.executable, "-m", "twinship", "operation", "work", operation_id],
            env={**os.environ, "TWINSHIP_STATE_DIR": str(self._state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
