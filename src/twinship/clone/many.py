"""Many clones of one VM: one plan, one operation, a child for each.

All or none, unless ``keep_going``: then as many as worked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twinship.clone.disks import SHARES
from twinship.clone.facts import CloneFacts
from twinship.clone.finishing import Guard
from twinship.clone.pace import Pace
from twinship.clone.plan import plan_clone
from twinship.clone.run import held_of, source_felt
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan
from twinship.model.request import CloneRequest, NewIds
from twinship.operations.job import Job, Watch
from twinship.operations.verb import Decision, Phase, Verdict
from twinship.transfer.hold import GiveBack, HoldDisks
from twinship.transfer.steps import Hosts, Recheck, Replan

AT_ONCE = 4
"""The most children that work at a time; copies only as many as the storage gains by."""
POLL_S = 0.2


class Children(Protocol):
    """What runs child operations: the engine."""

    def submit_child(self, parent: Operation, plan: Plan, watch: Watch) -> Job:
        """Stores a child."""

    def run(self, job: Job, *, patience_s: float) -> Operation:
        """Runs it to its end."""

    def children(self, parent: Operation) -> tuple[Operation, ...]:
        """The children there are."""

    def revert(self, op: Operation, error: TwinshipError) -> Operation:
        """Undoes a child, whatever it came to."""


def plan_many(
    facts: CloneFacts, requests: Sequence[CloneRequest], ids: Sequence[NewIds], *, keep_going: bool
) -> Plan:
    """What cloning one VM several times would do: each sees what those before it would take."""
    plans: list[Plan] = []
    for request, fresh in zip(requests, ids, strict=True):
        plan = plan_clone(facts, request, fresh)
        plans.append(plan)
        facts = _after(facts, plan)
    first = plans[0]
    title = f"clone {facts.source.vm.label} to {len(plans)} VMs"
    found = dict.fromkeys(check for plan in plans for check in plan.checks)
    return Plan(
        kind="clones",
        title=title,
        checks=tuple(found),
        steps=tuple(
            replace(step, id=f"{plan.spec['name']}:{step.id}")
            for plan in plans
            for step in plan.steps
        ),
        estimate_s=None,
        domain_xml=tuple(xml for plan in plans for xml in plan.domain_xml),
        resources=tuple(dict.fromkeys(r for plan in plans for r in plan.resources)),
        spec={
            "schema": 1,
            "source": first.spec["source"],
            "request": first.spec["request"],
            "binding": _shared_binding(plans),
            "keep_going": keep_going,
            "hold": first.spec["hold"],
            "guard": first.spec["guard"],
            "host": first.spec["host"],
            "machine": first.spec["machine"],
            "clones": [
                {"title": plan.title, "slots": list(plan.slots), "spec": _child(plan)}
                for plan in plans
            ],
        },
        binding=first.binding,
    )


def _after(facts: CloneFacts, plan: Plan) -> CloneFacts:
    """The facts once a clone is there."""
    files = {pool: set(names) for pool, names in facts.files.items()}
    said = plan.spec["reservation"]
    if seed := plan.spec["seed"]:
        files.setdefault(seed["pool"], set()).add(seed["file"])
    needed: dict[str, int] = {}
    for disk in plan.spec["disks"]:
        files.setdefault(disk["pool"], set()).add(disk["file"])
        needed[disk["pool"]] = needed.get(disk["pool"], 0) + disk["bytes"]
    pools = tuple(
        replace(pool, available_bytes=pool.available_bytes - needed.get(pool.name, 0))
        for pool in facts.host.pools
    )
    return replace(
        facts,
        host=replace(facts.host, pools=pools),
        names=facts.names | {plan.spec["name"]},
        macs=facts.macs | frozenset(plan.spec["identity"]["macs"]),
        addresses=facts.addresses | ({said["address"]} if said else frozenset()),
        files={pool: frozenset(names) for pool, names in files.items()},
    )


def _child(plan: Plan) -> dict[str, Any]:
    return {**plan.spec, "child": True, "hold": None, "guard": []}  # the parent does for all


def _shared_binding(plans: Sequence[Plan]) -> dict[str, str]:
    """What all of them stand on: the source."""
    common = dict(plans[0].binding)
    for plan in plans[1:]:
        common = {key: value for key, value in common.items() if plan.binding.get(key) == value}
    return common


@dataclass(frozen=True, slots=True, kw_only=True)
class ClonesVerb:
    """Makes many clones of one VM."""

    hosts: Hosts
    stall_s: float
    replan: Replan
    engine: Callable[[], Children]
    kind: str = "clones"
    schema: int = 1

    def upgraded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """There is no older version."""
        return spec

    def phases(self, spec: dict[str, Any]) -> Sequence[Phase]:
        """A look, then all of them; a running source is held still meanwhile."""
        look, clones = Recheck(spec=spec, replan=self.replan), _All(spec=spec, engine=self.engine)
        held = held_of(spec)
        if spec["guard"]:
            return (look, Guard(hosts=self.hosts, spec=spec), clones)
        if held is None:
            return (look, clones)
        freeze, hosts, stall_s = spec["hold"]["freeze"], self.hosts, self.stall_s
        return (
            look,
            HoldDisks(hosts=hosts, held=held, freeze=freeze, stall_s=stall_s),
            clones,
            GiveBack(hosts=hosts, held=held, stall_s=stall_s),
        )

    def reconcile(self, job: Job) -> Verdict:
        """Forward when every clone is there; else back: an operation cut off is all or none."""
        states = [op.state for op in self.engine().children(job.op)]
        if len(states) == len(job.spec["clones"]) and all(
            state is OperationState.SUCCEEDED for state in states
        ):
            return Verdict(decision=Decision.FORWARD, reason="all clones are there")
        return Verdict(decision=Decision.BACK, reason="not all clones are there")

    def result(self, job: Job) -> dict[str, Any]:
        """``clones[]`` of all children, and what became of those that failed."""
        made: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for child in self.engine().children(job.op):
            if child.result is not None and child.state is OperationState.SUCCEEDED:
                made += child.result["clones"]
            else:
                error = dict(child.error) if child.error else None
                failed.append({"name": child.spec["name"], "operation": child.id, "error": error})
        return {"clones": made, "failed": failed, "source": source_felt(job.outcomes())}


@dataclass(frozen=True, slots=True, kw_only=True)
class _All:
    spec: dict[str, Any]
    engine: Callable[[], Children]
    name: str = "clones"
    title: str = "make the clones"

    def do(self, job: Job) -> dict[str, Any]:
        run = _Run(job, self.engine(), keep_going=self.spec["keep_going"])
        run.all(self.spec["clones"])
        return {"made": run.made}

    def observe(self, job: Job) -> dict[str, Any] | None:
        done = [op for op in self.engine().children(job.op) if op.state.ended]
        return {"made": len(done)} if len(done) == len(self.spec["clones"]) else None

    def undo(self, job: Job) -> None:
        why = TwinshipError("not all clones could be made", code="SIBLING_FAILED")
        for child in self.engine().children(job.op):
            self.engine().revert(child, why)

    def leftover(self) -> str:
        names = [clone["spec"]["name"] for clone in self.spec["clones"]]
        return f"clones {names[0]} to {names[-1]}"


class _Run:
    """The children under way."""

    def __init__(self, job: Job, engine: Children, *, keep_going: bool) -> None:
        self._job = job
        self._engine = engine
        self._keep_going = keep_going
        self._lock = threading.Lock()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._at_work: dict[str, Job] = {}
        self._first: Operation | None = None
        self.made = 0

    def all(self, clones: Sequence[dict[str, Any]]) -> None:
        """Runs them, some at a time. Raises what the first failure was, unless to keep going."""
        total = len(clones)
        waiting = list(clones)
        futures: set[Future[Operation]] = set()
        copies = any(
            disk["bytes"]
            for clone in clones
            for disk in clone["spec"]["disks"]
            if disk["method"] not in SHARES
        )
        pace = Pace(AT_ONCE, copies=copies)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"clones-{self._job.op.id}") as pool:
            while waiting or futures:
                stop = self._job.cancelled() or (self._first is not None and not self._keep_going)
                if stop:
                    waiting.clear()
                    self._cancel_all()
                pace.saw(self._job.clock.monotonic(), self._moved(), len(futures))
                while waiting and len(futures) < pace.at_once:
                    futures.add(pool.submit(self._one, waiting.pop(0)))
                done, futures = wait(futures, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    self._ended(future.result(), total)
                self._show_bytes()
        self._job.raise_if_cancelled()
        if self._first is not None and (not self._keep_going or self.made == 0):
            raise _told(self._first)

    def _one(self, clone: dict[str, Any]) -> Operation:
        plan = Plan(
            kind="clone",
            title=clone["title"],
            checks=(),
            steps=(),
            estimate_s=None,
            slots=tuple(clone["slots"]),
            spec=clone["spec"],
        )
        child = self._engine.submit_child(self._job.op, plan, self._watch)
        with self._lock:
            self._at_work[child.op.id] = child
        try:
            return self._engine.run(child, patience_s=0)
        finally:
            with self._lock:
                self._at_work.pop(child.op.id)

    def _watch(self, op: Operation) -> None:
        with self._lock:
            if op.progress.bytes_total:
                self._bytes[op.id] = (op.progress.bytes_done, op.progress.bytes_total)

    def _ended(self, op: Operation, total: int) -> None:
        if op.state is OperationState.SUCCEEDED:
            self.made += 1
            self._job.progress.phase(f"{self.made} of {total} clones are there")
        elif self._first is None:
            self._first = op

    def _moved(self) -> int:
        with self._lock:
            return sum(pair[0] for pair in self._bytes.values())

    def _show_bytes(self) -> None:
        with self._lock:
            done = sum(pair[0] for pair in self._bytes.values())
            expected = sum(
                disk["bytes"]
                for clone in self._job.spec["clones"]
                for disk in clone["spec"]["disks"]
            )
        if done and expected:
            self._job.progress.bytes(min(done, expected), expected)

    def _cancel_all(self) -> None:
        with self._lock:
            for child in self._at_work.values():
                child.request_cancel()


def _told(op: Operation) -> TwinshipError:
    error = op.error or {}
    return TwinshipError(
        f"{op.title}: {error.get('message', 'it failed')}",
        code=str(error.get("code", "FAILED")),
        cause=str(error.get("cause") or ""),
        hint=str(error.get("hint") or ""),
    )
