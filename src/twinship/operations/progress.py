"""Progress that moves and tells the truth: rate and time left from what really happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from twinship.clock import Clock
from twinship.model.operation import Progress

STORE_EVERY_S = 1.0
_SMOOTHING = 0.4


class Reporter:
    """Collects what phases report and hands it on: to a watcher at once, to the store each second.

    ``percent`` never goes back and reaches 100 only through :meth:`finish`.
    """

    def __init__(
        self,
        clock: Clock,
        store: Callable[[Progress], None],
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self._clock = clock
        self._store = store
        self._watch = watch
        self._lock = threading.Lock()
        self._progress = Progress()
        self._stored_at = float("-inf")
        self._sampled = (clock.monotonic(), 0)

    @property
    def current(self) -> Progress:
        """The newest."""
        return self._progress

    def phase(self, title: str) -> None:
        """A phase begins; rates start anew."""
        with self._lock:
            self._sampled = (self._clock.monotonic(), 0)
            self._set(Progress(phase=title, percent=self._progress.percent), store=True)

    def retitle(self, title: str) -> None:
        """The phase goes on under another title; bytes and rates as they were."""
        with self._lock:
            self._set(replace(self._progress, phase=title), store=True)

    def bytes(self, done: int, total: int) -> None:
        """So many of so many bytes of the phase are through."""
        with self._lock:
            now = self._clock.monotonic()
            then, before = self._sampled
            rate = self._progress.rate
            if now - then >= 0.2:
                fresh = max(0, done - before) / (now - then)
                rate = int(fresh if not rate else rate + _SMOOTHING * (fresh - rate))
                self._sampled = (now, done)
            left = max(0, total - done)
            percent = self._progress.percent
            if total:
                percent = max(percent or 0.0, min(99.0, 100.0 * done / total))
            self._set(
                Progress(
                    phase=self._progress.phase,
                    percent=percent,
                    bytes_done=min(done, total) if total else done,
                    bytes_total=total,
                    rate=rate,
                    eta_s=round(left / rate, 1) if rate else None,
                ),
                store=now - self._stored_at >= STORE_EVERY_S,
            )

    def finish(self) -> Progress:
        """All is done: 100 percent, once; shown with the operation's end."""
        with self._lock:
            last = self._progress
            self._progress = Progress(
                phase="done",
                percent=100.0,
                bytes_done=last.bytes_total,
                bytes_total=last.bytes_total,
                rate=last.rate,
                eta_s=0.0,
            )
            return self._progress

    def _set(self, progress: Progress, *, store: bool) -> None:
        self._progress = progress
        if store:
            self._stored_at = self._clock.monotonic()
            self._store(progress)
        if self._watch is not None:
            self._watch(progress)
