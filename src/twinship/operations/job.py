"""An operation under way, as its phases see it: journal, progress, cancel."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from twinship.clock import Clock
from twinship.model.errors import Cancelled
from twinship.model.operation import Operation, OperationState, Progress
from twinship.operations.progress import Reporter
from twinship.store.operations import LostOwnership, OperationStore

CANCEL_POLL_S = 0.5
NO_WAY_BACK = "no_way_back"

Watch = Callable[[Operation], None]


class Job:
    """Holds one operation for its owner. All writes carry the owner's fence."""

    def __init__(
        self,
        op: Operation,
        store: OperationStore,
        clock: Clock,
        watch: Watch | None = None,
        *,
        lease_end: Callable[[], float],
    ) -> None:
        """``lease_end``: when a lease renewed now would end."""
        self.op = op
        self.clock = clock
        self.wake = threading.Event()
        self._store = store
        self._watch = watch
        self._lock = threading.RLock()
        self._cancel = op.cancel_requested
        self._cancel_seen_at = float("-inf")
        self._cancellable = True
        self._refusal = ""
        self._refused = False
        self._lost = False
        self._lease_end = lease_end
        self.progress = Reporter(clock, self._store_progress, self._show_progress)

    @property
    def spec(self) -> dict[str, Any]:
        """What the operation is made of."""
        return dict(self.op.spec)

    def admit(self, limits: Mapping[str, int], lease_now: float) -> str:
        """Asks for the operation's slots; empty once it may begin, else why it may not yet."""
        with self._lock:
            before = self.op
            self.op, reason = self._store.admit(self.op, limits, lease_now, self.clock.now())
            if self._watch is not None and self.op != before:
                self._watch(self.op)
        return reason

    def renew(self) -> None:
        """Renews the owner's lease. Raises :class:`LostOwnership`."""
        self._store.renew(self.op, self._lease_end())

    def lose(self) -> None:
        """Another process has the operation: the next look at :meth:`cancelled` says so."""
        self._lost = True
        self.wake.set()

    def update(self, note: str = "", **changes: Any) -> None:
        """Changes the stored operation and tells the watcher."""
        with self._lock:
            self.op = self._store.update(self.op, self.clock.now(), note, **changes)
            if self._watch is not None:
                self._watch(self.op)

    def record(self, kind: str, phase: str, data: Mapping[str, Any] | None = None) -> None:
        """Adds a line to the history, committed when this returns."""
        self._store.append(self.op, kind, phase, data or {}, self.clock.now())

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """What each phase that is done returned, by phase name; undone ones are left out."""
        found: dict[str, dict[str, Any]] = {}
        for event in self._store.events(self.op.id):
            if event.kind == "done":
                found[event.phase] = dict(event.data)
            elif event.kind == "undone":
                found.pop(event.phase, None)
        return found

    def intended(self) -> dict[str, dict[str, Any]]:
        """The phases that were begun and not undone, with what their intent said."""
        found: dict[str, dict[str, Any]] = {}
        for event in self._store.events(self.op.id):
            if event.kind == "intent":
                found[event.phase] = dict(event.data)
            elif event.kind == "undone":
                found.pop(event.phase, None)
        return found

    def note(self, phase: str, data: Mapping[str, Any]) -> None:
        """Keeps a fact a phase must not lose (read back by :meth:`notes`)."""
        self.record("note", phase, data)

    def notes(self, phase: str) -> dict[str, Any]:
        """Everything noted by a phase, later notes winning."""
        merged: dict[str, Any] = {}
        for event in self._store.events(self.op.id):
            if event.kind == "note" and event.phase == phase:
                merged.update(event.data)
        return merged

    def request_cancel(self) -> None:
        """Asks the operation, from within this process, to cancel; safe in a signal handler."""
        self._cancel = True
        self.wake.set()

    def cancelled(self) -> bool:
        """Whether to stop: asked by this process or, looked up twice a second, by another.

        Raises :class:`LostOwnership` when another process has taken the operation over.
        """
        if self._lost:
            raise LostOwnership(f"operation {self.op.id} was taken over by another process")
        if not self._cancellable:
            return False
        now = self.clock.monotonic()
        if not self._cancel and now - self._cancel_seen_at >= CANCEL_POLL_S:
            self._cancel_seen_at = now
            self._cancel = self._store.cancel_requested(self.op.id)
        return self._cancel

    def raise_if_cancelled(self) -> None:
        """Raises :class:`Cancelled` when somebody asked to stop."""
        if self.cancelled():
            raise Cancelled(f"operation {self.op.id} was cancelled")

    def no_way_back(self, why: str = "") -> None:
        """From here on the operation only goes forward; a cancel is not heard any more.

        ``why`` is kept in the journal, for those who ask for one all the same.
        """
        self._cancellable = False
        if why and why != self._refusal:
            self._refusal = why
            self.record(NO_WAY_BACK, "", {"why": why})

    def cancel_refused(self) -> bool:
        """Whether this process was asked, since the last call, to cancel what cannot be."""
        asked = self._cancel and not self._cancellable and not self._refused
        self._refused = self._refused or asked
        return asked

    def _store_progress(self, progress: Progress) -> None:
        with self._lock:
            self.op = self._store.update(self.op, self.clock.now(), progress=progress)

    def _show_progress(self, progress: Progress) -> None:
        if self._watch is not None:
            self._watch(dataclasses.replace(self.op, progress=progress))

    def set_state(self, state: OperationState, **changes: Any) -> None:
        """A new state, with a line of history."""
        self.update(note=state.value, state=state, **changes)
