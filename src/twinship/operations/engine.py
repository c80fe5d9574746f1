"""Runs operations: intent, effect, outcome; after any error looks first, then goes on or back.

The one path for an error, a cancel and a restart after a crash is :meth:`Engine._settle`: it asks
the verb's reconcile what is really there, and then finishes, undoes, waits or calls a person.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping
from typing import Any

from twinship.clock import Clock
from twinship.model.errors import (
    Cancelled,
    HostUnreachable,
    TwinshipError,
    UsageError,
)
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan
from twinship.operations.heartbeat import Heartbeat
from twinship.operations.job import Job, Watch
from twinship.operations.owner import Life, Owners
from twinship.operations.verb import Decision, Phase, Verb, Verdict
from twinship.store.operations import LostOwnership, OperationStore

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 4.0)
_ADMISSION_POLL_S = 0.3


class Engine:
    """Runs operations of the verbs it was given, in the caller's thread."""

    def __init__(
        self,
        store: OperationStore,
        verbs: Mapping[str, Verb],
        clock: Clock,
        owners: Owners,
        *,
        lease_s: float,
        limits: Mapping[str, int],
    ) -> None:
        """``limits``: how many operations at a time, by the first word of their slots."""
        self._store = store
        self._verbs = verbs
        self._clock = clock
        self._owners = owners
        self._lease_s = lease_s
        self._limits = limits

    def submit(
        self,
        plan: Plan,
        watch: Watch | None = None,
        *,
        owned: bool = True,
        parent: str | None = None,
    ) -> Job:
        """Stores the plan as an operation of this process and claims its VMs.

        Not ``owned``: it belongs to nobody until a worker takes it. Raises
        :class:`twinship.model.errors.Busy` when another operation works on one of them.
        """
        now = self._clock.now()
        op = Operation(
            id=self._new_id(),
            kind=plan.kind,
            title=plan.title,
            state=OperationState.QUEUED,
            created=now,
            started=None,
            ended=None,
            user=getpass.getuser(),
            resources=plan.resources,
            spec=plan.spec,
            parent=parent,
            owner=self._owners.me() if owned else "",
            fence=1,
            # One that is left to a worker keeps its place in the queue until the worker is there.
            lease_until=self._lease_end(),
        )
        self._store.create(op, plan.slots)
        return self._job(op, watch)

    def submit_child(self, parent: Operation, plan: Plan, watch: Watch) -> Job:
        """Stores an operation that is part of another, which holds the claims for it."""
        return self.submit(plan, watch, parent=parent.id)

    def children(self, parent: Operation) -> tuple[Operation, ...]:
        """The operations that are part of this one, in the order of their making."""
        return self._store.children(parent.id)

    def revert(self, op: Operation, error: TwinshipError) -> Operation:
        """Undoes an operation that is part of another, ended or cut off.

        Raises what undoing raises; undoing again goes on where it was.
        """
        if op.state in (OperationState.FAILED, OperationState.CANCELLED):
            return op
        if not op.state.ended:
            me = self._owners.me()
            now = self._clock.now()
            op = self._store.take_over(op.id, op.fence, me, self._lease_end(), now)
        job = self._job(op, None)
        self._undo(job, self._verb(op))
        job.update(error=error.as_dict() | {"kind": type(error).__name__}, result=None)
        return self._undone(job, cancelled=False)

    def run(self, job: Job, *, patience_s: float) -> Operation:
        """Runs the operation to its end and returns it; errors of the work are in the operation.

        Returns in state ``waiting``, owned by nobody, when a host could not be seen for
        ``patience_s`` or a second cancel came meanwhile; :meth:`recover` goes on from there.
        """
        verb = self._verb(job.op)
        with Heartbeat(job, self._lease_s):
            try:
                self._wait_for_admission(job)
                self._forward(job, verb)
                return self._succeed(job, verb)
            except LostOwnership:
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours must be undone as well
                return self._settle(job, verb, _ours(error), patience_s)

    def orphans(self) -> tuple[Operation, ...]:
        """Unfinished operations whose owner is no more, or stands still past its lease."""
        unfinished = self._store.all(unfinished=True)
        lost = [op for op in unfinished if self._owners.life(op) is not Life.ALIVE]
        parents = {op.id for op in unfinished}
        return tuple(op for op in lost if op.parent not in parents)  # else its parent sees to it

    def take_over(self, op: Operation, watch: Watch | None = None) -> Job:
        """Makes this process the owner of an operation whose owner is gone.

        An owner whose lease is over is ended first. One that called for a person is opened again.
        Raises :class:`UsageError` for an operation that has ended, whose owner lives, or that this
        version cannot handle.
        """
        if op.state is OperationState.NEEDS_ATTENTION:
            op = self._store.reopen(op, self._clock.now())
        elif op.state.ended:
            raise UsageError(f"operation {op.id} has ended ({op.state})", code="OPERATION_ENDED")
        self._verb(op)
        me = self._owners.me()
        life = self._owners.life(op)
        if op.owner not in ("", me) and life is Life.ALIVE:
            raise UsageError(
                f"operation {op.id} is being run by another process",
                code="OPERATION_OWNED",
                hint=f"watch it: twinship operation watch {op.id}",
            )
        if op.owner != me and life is Life.LAPSED:
            self._owners.end(op.owner)
        now = self._clock.now()
        taken = self._store.take_over(op.id, op.fence, me, self._lease_end(), now)
        return self._job(taken, watch)

    def recover(self, job: Job, *, patience_s: float) -> Operation:
        """Goes on with an operation taken over: runs it if it had not begun, else settles it."""
        verb = self._verb(job.op)
        written = job.spec.get("schema", 1)
        if written < verb.schema:
            job.update(note="upgraded", spec=verb.upgraded(job.spec))
        if job.op.state is OperationState.QUEUED and not job.cancelled():
            return self.run(job, patience_s=patience_s)
        error: TwinshipError
        if job.op.error is not None:
            error = _revived(job.op.error)
        elif job.op.cancel_requested:
            error = Cancelled(f"operation {job.op.id} was cancelled")
        else:
            error = TwinshipError(
                "the process that ran the operation ended in the middle", code="OWNER_DIED"
            )
        with Heartbeat(job, self._lease_s):
            return self._settle(job, verb, error, patience_s)

    def _wait_for_admission(self, job: Job) -> None:
        while job.admit(self._limits, self._owners.now()):
            job.raise_if_cancelled()
            self._clock.wait(_ADMISSION_POLL_S, job.wake)

    def _forward(self, job: Job, verb: Verb) -> None:
        begun, done = job.intended(), job.outcomes()
        for phase in verb.phases(job.spec):
            if phase.name in done:
                continue
            job.raise_if_cancelled()
            job.progress.phase(phase.title)
            seen = phase.observe(job) if phase.name in begun else None
            if seen is not None:
                job.record("done", phase.name, seen)
                continue
            job.record("intent", phase.name, {"title": phase.title})
            job.record("done", phase.name, phase.do(job))

    def _succeed(self, job: Job, verb: Verb) -> Operation:
        result = verb.result(job)
        job.set_state(
            OperationState.SUCCEEDED,
            ended=self._clock.now(),
            progress=job.progress.finish(),
            result=result,
            error=None,
            waiting_for="",
            leftovers=(),
        )
        return job.op

    def _settle(self, job: Job, verb: Verb, error: TwinshipError, patience_s: float) -> Operation:
        job.update(error=error.as_dict() | {"kind": type(error).__name__})
        cancelled = isinstance(error, Cancelled)
        if not job.intended():
            return self._undone(job, cancelled=cancelled)
        if cancelled:
            job.set_state(OperationState.CANCELLING)
        asked_before = cancelled
        job.wake.clear()
        tries = failures = 0
        way = "undoing"
        deadline = self._clock.monotonic() + patience_s
        while True:
            try:
                verdict = verb.reconcile(job)
                job.record("reconciled", "", {"decision": verdict.decision, "why": verdict.reason})
                match verdict.decision:
                    case Decision.FORWARD:
                        way = "going on"
                        job.no_way_back()
                        self._work_again(job, OperationState.RUNNING)
                        self._forward(job, verb)
                        return self._succeed(job, verb)
                    case Decision.BACK:
                        way = "undoing"
                        undoing = OperationState.CANCELLING if cancelled else OperationState.RUNNING
                        self._work_again(job, undoing)
                        self._undo(job, verb)
                        return self._undone(job, cancelled=cancelled)
                    case Decision.ATTENTION:
                        return self._call_a_person(job, verdict)
                    case Decision.WAIT:
                        self._wait(job, verb, verdict.reason, verdict.leftovers)
            except HostUnreachable as unreachable:
                reason = unreachable.cause or unreachable.message
                self._wait(job, verb, reason, self._leftovers(job, verb))
            except LostOwnership:
                raise
            except Exception as fault:  # noqa: BLE001 - one of our own needs a person as well
                failure = _ours(fault)
                if failures >= len(_BACKOFF_S):
                    verdict = Verdict(
                        decision=Decision.ATTENTION,
                        reason=f"{way} failed: {failure.message} ({failure.cause})",
                        leftovers=self._leftovers(job, verb),
                    )
                    return self._call_a_person(job, verdict)
                failures += 1
                job.record("settling_failed", "", failure.as_dict())
                self._wait(job, verb, f"{way} failed: {failure.message}", ())
            pause = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
            tries += 1
            again = self._clock.wait(pause, job.wake) and asked_before
            if again or self._clock.monotonic() > deadline:
                job.update(owner="", lease_until=0.0)
                return job.op
            asked_before = asked_before or job.wake.is_set()
            job.wake.clear()

    def _undo(self, job: Job, verb: Verb) -> None:
        begun = job.intended()
        for phase in reversed(verb.phases(job.spec)):
            if phase.name in begun:
                job.progress.phase(f"undoing: {phase.title}")
                job.record("undoing", phase.name)
                phase.undo(job)
                job.record("undone", phase.name)

    def _undone(self, job: Job, *, cancelled: bool) -> Operation:
        state = OperationState.CANCELLED if cancelled else OperationState.FAILED
        job.set_state(state, ended=self._clock.now(), leftovers=(), waiting_for="")
        return job.op

    def _work_again(self, job: Job, state: OperationState) -> None:
        if job.op.state is not state:
            job.set_state(state, waiting_for="", leftovers=())

    def _wait(self, job: Job, verb: Verb, reason: str, leftovers: tuple[str, ...]) -> None:
        named = leftovers or self._leftovers(job, verb)
        if job.op.state is not OperationState.WAITING or job.op.waiting_for != reason:
            job.set_state(OperationState.WAITING, waiting_for=reason, leftovers=named)

    def _call_a_person(self, job: Job, verdict: Verdict) -> Operation:
        job.record("needs_attention", "", {"why": verdict.reason})
        job.set_state(
            OperationState.NEEDS_ATTENTION,
            ended=self._clock.now(),
            leftovers=verdict.leftovers,
            waiting_for=verdict.reason,
        )
        return job.op

    def _leftovers(self, job: Job, verb: Verb) -> tuple[str, ...]:
        begun = job.intended()
        phases: list[Phase] = [phase for phase in verb.phases(job.spec) if phase.name in begun]
        return tuple(text for phase in phases if (text := phase.leftover()))

    def _verb(self, op: Operation) -> Verb:
        verb = self._verbs.get(op.kind)
        if verb is None or op.spec.get("schema", 1) > verb.schema:
            raise UsageError(
                f"operation {op.id} ({op.kind}) was begun by a newer Twinship",
                code="OPERATION_NEWER",
                hint=f"finish it with that version: twinship operation resume {op.id}",
            )
        return verb

    def _job(self, op: Operation, watch: Watch | None) -> Job:
        return Job(op, self._store, self._clock, watch, lease_end=self._lease_end)

    def _lease_end(self) -> float:
        return self._owners.now() + self._lease_s

    def _new_id(self) -> str:
        """Twelve characters that sort by second; 25 random bits break ties."""
        seconds = int(self._clock.now().timestamp()) & (2**35 - 1)
        number = seconds << 25 | secrets.randbits(25)
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(55, -1, -5))


def _ours(error: Exception) -> TwinshipError:
    """The error itself, or for one that no verb foresaw an internal error with it as the cause."""
    if isinstance(error, TwinshipError):
        return error
    broken = TwinshipError(
        "an internal error", code="INTERNAL", cause=f"{type(error).__name__}: {error}"
    )
    broken.__cause__ = error
    return broken


def _revived(error: Mapping[str, Any]) -> TwinshipError:
    kind = Cancelled if error.get("kind") == "Cancelled" else TwinshipError
    return kind(
        str(error["message"]),
        code=str(error["code"]),
        cause=str(error.get("cause") or ""),
        hint=str(error.get("hint") or ""),
    )
