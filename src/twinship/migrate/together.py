"""Many moves under way: one operation, a child for each VM.

What has arrived stays where it is, whatever becomes of the rest: moving it back would be a new
move, with a pause of its own. What was cut off is finished or undone by its own reconcile, and a
VM whose move had not begun stays where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from twinship.migrate.many import load_of
from twinship.migrate.order import Load, next_to_begin
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan
from twinship.operations.job import Job, Watch
from twinship.operations.verb import Decision, Phase, Verdict

POLL_S = 0.2
CHILD_PATIENCE_S = 9.0
"""Long enough for what fails in settling to be tried as often as the engine does."""
SETTLE_AT_ONCE = 8


class Children(Protocol):
    """What runs child operations: the engine."""

    def submit_child(self, parent: Operation, plan: Plan, watch: Watch) -> Job:
        """Stores a child."""

    def run(self, job: Job, *, patience_s: float) -> Operation:
        """Runs it to its end."""

    def children(self, parent: Operation) -> tuple[Operation, ...]:
        """The children there are."""

    def take_over(self, op: Operation, watch: Watch | None = None) -> Job:
        """Makes this process the owner of one that nobody works on."""

    def recover(self, job: Job, *, patience_s: float) -> Operation:
        """Finishes or undoes one taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovesVerb:
    """Moves many VMs to one host."""

    engine: Callable[[], Children]
    limits: Mapping[str, int]
    kind: str = "moves"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """One: each child looks once more for itself as it begins."""
        return (_All(spec=spec, engine=self.engine, limits=self.limits),)

    def reconcile(self, job: Job) -> Verdict:
        """Settles every child by its own reconcile, then says what that came to."""
        engine = self.engine()
        _settle(engine, [op for op in engine.children(job.op) if not _settled(op)])
        children = engine.children(job.op)
        waiting = [op for op in children if not op.state.ended]
        if waiting:
            return Verdict(
                decision=Decision.WAIT,
                reason=waiting[0].waiting_for or f"{waiting[0].title} has not been settled",
                leftovers=tuple(text for op in waiting for text in op.leftovers),
            )
        arrived = sum(op.state is OperationState.SUCCEEDED for op in children)
        so_far = f"{arrived} of {len(job.spec['moves'])} VMs have arrived"
        if stuck := [op for op in children if not _settled(op)]:
            told = "; ".join(f"{op.title}: {op.waiting_for} (operation {op.id})" for op in stuck)
            return Verdict(
                decision=Decision.ATTENTION,
                reason=f"{so_far}; {told}",
                leftovers=tuple(text for op in stuck for text in op.leftovers),
            )
        return Verdict(decision=Decision.FORWARD if arrived else Decision.BACK, reason=so_far)

    def result(self, job: Job) -> dict[str, Any]:
        """``vms[]`` that have arrived, ``failed[]`` with why, ``left[]`` that were to stay."""
        by_vm = {op.spec["vm"]["uuid"]: op for op in self.engine().children(job.op)}
        vms: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for move in job.spec["moves"]:
            vm = move["spec"]["vm"]
            child = by_vm.get(vm["uuid"])
            if child is not None and child.state is OperationState.SUCCEEDED and child.result:
                vms.append(dict(child.result))
                continue
            failed.append(
                {
                    "vm": vm["name"],
                    "operation": child.id if child is not None else None,
                    "error": _why(child),
                }
            )
        return {"vms": vms, "failed": failed, "left": list(job.spec["left"])}


@dataclass(frozen=True, slots=True, kw_only=True)
class _All:
    spec: dict[str, Any]
    engine: Callable[[], Children]
    limits: Mapping[str, int]
    name: str = "moves"
    title: str = "move the VMs"

    def do(self, job: Job) -> dict[str, Any]:
        run = _Run(job, self.engine(), self.limits)
        run.all(self.spec["moves"])
        return {"arrived": run.arrived}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Asked once all children are settled: those that never began are not begun any more."""
        done = [op for op in self.engine().children(job.op) if op.state is OperationState.SUCCEEDED]
        return {"arrived": len(done)}

    def undo(self, job: Job) -> None:
        """Each child has undone itself; those that arrived stay."""

    def leftover(self) -> str:
        return ""


class _Run:
    """The moves under way."""

    def __init__(self, job: Job, engine: Children, limits: Mapping[str, int]) -> None:
        self._job = job
        self._engine = engine
        self._limits = limits
        self._keep_going = bool(job.spec["keep_going"])
        self._lock = threading.Lock()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._planned: dict[str, int] = {}
        self._at_work: dict[str, Job] = {}
        self._stopped = False
        self._first: Operation | None = None
        self.arrived = 0

    def all(self, moves: Sequence[dict[str, Any]]) -> None:
        """Runs them in their order, as many at a time as hosts, pools and the link have places.

        Raises when none arrived, when one could not be settled, or when they were cancelled.
        """
        waiting = list(moves)
        loads: dict[Future[Operation], Load] = {}
        self._planned = {move["spec"]["vm"]["uuid"]: _bytes_of(move) for move in moves}
        at_once = self._job.spec["at_once"]
        unsettled: Operation | None = None
        with ThreadPoolExecutor(at_once, thread_name_prefix=f"moves-{self._job.op.id}") as pool:
            try:
                while waiting or loads:
                    failed = self._first is not None and not self._keep_going
                    if self._job.cancelled() or failed:
                        waiting.clear()
                        self._cancel_all()
                    while waiting and len(loads) < at_once:
                        at = next_to_begin(
                            [load_of(move) for move in waiting], [*loads.values()], self._limits
                        )
                        if at is None:
                            break
                        move = waiting.pop(at)
                        loads[pool.submit(self._one, move)] = load_of(move)
                    done, _ = wait(loads, timeout=POLL_S, return_when=FIRST_COMPLETED)
                    for future in done:
                        del loads[future]
                        op = future.result()
                        self._ended(op, len(moves))
                        unsettled = unsettled if _settled(op) else op
                    self._show_bytes()
            except BaseException:
                self._cancel_all()
                raise
        self._job.raise_if_cancelled()
        if unsettled is not None:
            raise _told(unsettled)
        if self._first is not None and self.arrived == 0:
            raise _told(self._first)

    def _one(self, move: dict[str, Any]) -> Operation:
        plan = Plan(
            kind="migrate",
            title=move["title"],
            checks=(),
            steps=(),
            estimate_s=None,
            slots=tuple(move["load"]["slots"]),
            spec=move["spec"],
        )
        child = self._engine.submit_child(self._job.op, plan, self._watch)
        with self._lock:
            self._at_work[child.op.id] = child
            if self._stopped:
                child.request_cancel()
        try:
            return self._engine.run(child, patience_s=CHILD_PATIENCE_S)
        finally:
            with self._lock:
                self._at_work.pop(child.op.id)

    def _watch(self, op: Operation) -> None:
        uuid, progress = op.spec["vm"]["uuid"], op.progress
        with self._lock:
            before, total = self._bytes.get(uuid, (0, self._planned[uuid]))
            if op.state is OperationState.SUCCEEDED:
                self._bytes[uuid] = (total, total)
            elif progress.bytes_total and progress.bytes_done > before:
                self._bytes[uuid] = (progress.bytes_done, max(total, progress.bytes_total))

    def _ended(self, op: Operation, total: int) -> None:
        if op.state is OperationState.SUCCEEDED:
            self.arrived += 1
            self._job.progress.retitle(f"{self.arrived} of {total} VMs have arrived")
        elif self._first is None:
            self._first = op

    def _show_bytes(self) -> None:
        with self._lock:
            known = dict(self._bytes)
        expected = sum(known.get(uuid, (0, size))[1] for uuid, size in self._planned.items())
        if expected:
            self._job.progress.bytes(sum(done for done, _ in known.values()), expected)

    def _cancel_all(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._at_work.values():
                child.request_cancel()


def _bytes_of(move: Mapping[str, Any]) -> int:
    return int(move["load"]["memory_bytes"]) + int(move["load"]["disk_bytes"])


def _settled(op: Operation) -> bool:
    return op.state.ended and op.state is not OperationState.NEEDS_ATTENTION


def _settle(engine: Children, unsettled: Sequence[Operation]) -> None:
    """Finishes or undoes what was cut off. One that had not begun is dropped: its VM stays."""
    if not unsettled:
        return

    def settle(op: Operation) -> None:
        job = engine.take_over(op)
        if op.state is OperationState.QUEUED:
            job.request_cancel()
        engine.recover(job, patience_s=CHILD_PATIENCE_S)

    with ThreadPoolExecutor(min(SETTLE_AT_ONCE, len(unsettled))) as pool:
        for done in [pool.submit(settle, op) for op in unsettled]:
            done.result()


def _why(child: Operation | None) -> dict[str, Any]:
    if child is not None and child.error:
        return {key: child.error.get(key) for key in ("code", "message", "cause", "hint")}
    return {
        "code": "NOT_BEGUN",
        "message": "its move was not begun",
        "cause": None,
        "hint": "it is where it was; move it again",
    }


def _told(op: Operation) -> TwinshipError:
    error = op.error or {}
    return TwinshipError(
        f"{op.title}: {error.get('message', 'it failed')}",
        code=str(error.get("code", "FAILED")),
        cause=str(error.get("cause") or ""),
        hint=str(error.get("hint") or ""),
    )
