"""Operations as a process runs them: in a thread that Ctrl-C reaches, or left to a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable

from twinship.clock import Clock
from twinship.model.errors import Busy, CheckBlocked, Conflict, TwinshipError, UsageError
from twinship.model.operation import Event, Operation, OperationState, Progress
from twinship.model.plan import Plan, Severity
from twinship.operations.dispatch import Dispatch
from twinship.operations.engine import Engine
from twinship.operations.job import NO_WAY_BACK, Job, Watch
from twinship.store.operations import LostOwnership, OperationStore

WORKER_PATIENCE_S = 7 * 24 * 3600.0
WATCH_POLL_S = 0.2


class Runner:
    """Runs plans as operations, and what is asked of operations afterwards."""

    def __init__(
        self,
        engine: Engine,
        store: OperationStore,
        clock: Clock,
        *,
        dispatch: Dispatch,
        patience_s: float,
        before_thread: Callable[[], None],
    ) -> None:
        """``patience_s``: how long a host may be silent before a worker is left to wait for it.

        ``before_thread`` is called in the caller's thread before the work goes to another.
        """
        self._engine = engine
        self._store = store
        self._clock = clock
        self._dispatch = dispatch
        self._patience_s = patience_s
        self._before_thread = before_thread

    def run(self, plan: Plan, watch: Watch | None, *, wait: bool = True) -> Operation:
        """Runs a plan to its end; without ``wait`` a worker process does.

        Raises :class:`CheckBlocked` for a plan that a check blocks, :class:`Busy`.
        """
        _refuse_blocked(plan, self._busy_with)
        job = self._engine.submit(plan, watch, owned=wait)
        if not wait:
            self._dispatch.hand_over(job.op.id)
            return job.op
        operation = self._drive(job, lambda: self._engine.run(job, patience_s=self._patience_s))
        if not operation.state.ended:
            self._dispatch.hand_over(operation.id)
        return self._store.get(operation.id)

    def resume(
        self, operation_id: str, *, patience_s: float | None, watch: Watch | None
    ) -> Operation:
        """Goes on with an operation whose owner is gone: finishes or undoes it.

        One that called for a person is looked at anew.
        """
        job = self._engine.take_over(self._store.get(operation_id), watch)
        patience = self._patience_s if patience_s is None else patience_s
        return self._drive(job, lambda: self._engine.recover(job, patience_s=patience))

    def work(self, operation_id: str) -> Operation:
        """What a worker process does: settles what others left, then goes on with this one."""
        self.recover_orphans(besides=operation_id)
        return self.resume(operation_id, patience_s=WORKER_PATIENCE_S, watch=None)

    def orphans(self) -> tuple[Operation, ...]:
        """Unfinished operations that no process works on."""
        return self._engine.orphans()

    def recover_orphans(self, *, besides: str = "") -> None:
        """Settles what killed processes left, as far as it can be settled now.

        One that had not begun is dropped if its command waited for it and was killed; one that was
        left to a worker gets a new worker.
        """
        for op in self._engine.orphans():
            if op.id == besides:
                continue
            queued = op.state is OperationState.QUEUED
            if queued and (not op.owner or op.fence > 1):
                self._dispatch.hand_over(op.id)
                continue
            try:
                job = self._engine.take_over(op)
                if queued:
                    job.request_cancel()
                self._engine.recover(job, patience_s=0)
            except LostOwnership:
                continue  # another process was quicker
            except UsageError:
                continue  # it ended, found an owner, or is of a newer version

    def watch(self, operation_id: str, watch: Watch) -> Operation:
        """Follows an operation of any process until it ends."""
        last: tuple[OperationState, Progress, str] | None = None
        while True:
            op = self._store.get(operation_id)
            if (op.state, op.progress, op.waiting_for) != last:
                last = (op.state, op.progress, op.waiting_for)
                watch(op)
            if op.state.ended or (not op.owner and op.state is OperationState.WAITING):
                return op
            self._clock.wait(WATCH_POLL_S)

    def cancel(self, operation_id: str) -> Operation:
        """Asks an operation to cancel and undo; its owner does so.

        Raises ``NO_WAY_BACK`` for one that can only go forward, with the reason.
        """
        op = self._store.get(operation_id)
        if op.state.ended:
            raise UsageError(
                f"operation {operation_id} has ended ({op.state.value})", code="OPERATION_ENDED"
            )
        for event in self._store.events(operation_id):
            if event.kind == NO_WAY_BACK:
                raise Conflict(
                    f"operation {operation_id} cannot be cancelled",
                    code="NO_WAY_BACK",
                    cause=str(event.data["why"]),
                    hint=f"twinship operation watch {operation_id}",
                )
        self._store.request_cancel(operation_id)
        return self._store.get(operation_id)

    def history(self, operation_id: str) -> tuple[Event, ...]:
        """Everything that happened to an operation, in order."""
        self._store.get(operation_id)
        return self._store.events(operation_id)

    def _drive(self, job: Job, work: Callable[[], Operation]) -> Operation:
        """Runs the work in a thread, so that Ctrl-C reaches this one: it asks to cancel."""
        box: list[Operation | BaseException] = []
        ended = threading.Event()

        def run() -> None:
            try:
                box.append(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                box.append(error)
            finally:
                ended.set()

        self._before_thread()
        thread = threading.Thread(target=run, name=f"operation-{job.op.id}")
        thread.start()
        # Not join(): in Python 3.11 one that is interrupted takes the thread for ended.
        while not ended.is_set():
            try:
                ended.wait()
            except KeyboardInterrupt:
                job.request_cancel()
        thread.join()
        outcome = box[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _busy_with(self, plan: Plan) -> Busy | None:
        for resource in plan.resources:
            holder = self._store.holder(resource)
            if holder is not None:
                op = self._store.get(holder)
                return Busy(
                    f"{resource.replace('/', ' ', 1)} is in use by operation {op.id} ({op.title})",
                    hint=f"wait for it (twinship operation watch {op.id}) or cancel it",
                    resource=resource,
                )
        return None


def _refuse_blocked(plan: Plan, busy: Callable[[Plan], Busy | None]) -> None:
    """Raises for a plan that a check blocks; another operation on the VM is the better reason."""
    blocks = [check for check in plan.checks if check.severity is Severity.BLOCK]
    if not blocks:
        return
    other = busy(plan)
    if other is not None:
        raise other
    first = blocks[0]
    more = f" (and {len(blocks) - 1} more)" if len(blocks) > 1 else ""
    kind: type[TwinshipError] = Conflict if first.code in _CONFLICTS else CheckBlocked
    raise kind(
        f"cannot {plan.title}",
        code=first.code,
        cause="; ".join(block.message for block in blocks),
        hint=first.hint or f"see all of it with --dry-run{more}",
    )


_CONFLICTS = frozenset({"CLONE_NAME_TAKEN", "CLONE_UUID_TAKEN", "NAME_TAKEN", "DISK_EXISTS"})
