"""An owner's lease, renewed for as long as it works."""

from __future__ import annotations

import threading
from types import TracebackType

from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.store.operations import LostOwnership

RENEWALS = 3
"""How many renewals a lease has room for: two may fail."""


class Heartbeat:
    """Renews a job's lease every third of it; tells the job when it has lost the operation."""

    def __init__(self, job: Job, lease_s: float) -> None:
        self._job = job
        self._every_s = lease_s / RENEWALS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{job.op.id}", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._job.renew()
            except LostOwnership:
                self._job.lose()
                return
            except TwinshipError:
                continue  # busy, or full: the next renewal may do; if none does, the lease lapses
