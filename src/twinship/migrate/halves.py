"""A move in post-copy: switched when it is time, brought to its end however often the link breaks.

From the switch on the guest runs on the target, and part of its memory is still at the source: the
move cannot be taken back, and neither half may be ended. When the link breaks both QEMUs keep what
they have, and the guest stands still; libvirt (8.5) goes on where it was when it is asked again.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twinship.hypervisor import jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.migrate.call import meter_of, order_of
from twinship.migrate.observe import BROKEN, UNDER_WAY, at_rest
from twinship.migrate.outlook import USUAL_PAUSE_S
from twinship.migrate.policy import SwitchPolicy
from twinship.migrate.reconcile import Deed, reconcile_move
from twinship.migrate.unanswered import hold_source
from twinship.model.errors import TwinshipError
from twinship.model.operation import OperationState
from twinship.model.request import PostCopyWay
from twinship.operations.job import Job
from twinship.operations.verb import Decision
from twinship.transfer.carrier import watch_move
from twinship.transfer.steps import Hosts

MOVE = "move"
NO_WAY_BACK = "the VM runs on both hosts' memory: it cannot be taken back; it will arrive"
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Between tries; the last one for ever."""
LOOK_EVERY_S = 0.2
_SAID = {
    UNDER_WAY: "switched to post-copy",
    BROKEN: "link broken, the target has not noticed yet",
}
"""By what the source shows. TCP may hold a dead connection for whole on one side for minutes."""


class Switch:
    """Follows the rounds of a move, and has it go over to post-copy when the policy says so."""

    def __init__(self, job: Job, move: jobs.Move, source: Connection, spec: dict[str, Any]) -> None:
        self._job, self._move, self._source, self._spec = job, move, source, spec
        allowed = spec["max_pause_s"]
        self._policy = SwitchPolicy(
            PostCopyWay(spec.get("post_copy", "never")),
            will_not=(spec.get("forecast") or {}).get("verdict") == "will_not",
            pause_s=USUAL_PAUSE_S if allowed is None else allowed,
        )
        self._round = 0
        self._asked = False
        self._looked_at = float("-inf")
        self._said = ""

    def asked(self) -> bool:
        """Whether libvirt has taken the order to switch: from then on nothing stops the move."""
        return self._asked

    def saw(self, stats: jobs.MoveStats, *, its_turn: bool = True) -> None:
        """The newest numbers of the move. Not ``its_turn``: its memory is held back, it stays."""
        if self._asked:
            self._say()
            return
        if stats.iteration not in (0, self._round):
            self._round = stats.iteration
            self._job.progress.retitle(f"move the VM: memory round {self._round}")
        due = self._policy.due(
            round_=stats.iteration, remaining=stats.memory_remaining, rate=stats.memory_rate
        )
        if not (due and its_turn):
            return
        with suppress(TwinshipError):  # the move's own watch says when the host is silent
            self._asked = self._move.start_post_copy()
        if self._asked:
            self._job.note(MOVE, {"post_copy": True})
            self._job.no_way_back(NO_WAY_BACK)

    def _say(self) -> None:
        now = self._job.clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            with suppress(TwinshipError):
                found = vms.state(self._source, self._spec["vm"]["uuid"])
                said = _SAID.get(found[1], "") if found is not None else ""
                if said not in ("", self._said):
                    self._said = said
                    self._job.progress.retitle(f"move the VM: {said}")
        if self._job.cancel_refused():
            self._job.progress.retitle(NO_WAY_BACK)


def rejoin(job: Job, hosts: Hosts, spec: dict[str, Any], broken: TwinshipError) -> None:
    """Goes on with a move that ended with an error after the switch, until the VM has arrived.

    Tries for ever, and says what it waits for; a second Ctrl-C leaves it waiting. Raises the error
    itself when there was no switch after all, and ``POST_COPY_BROKEN`` while a side cannot be seen,
    or when a half is gone.
    """
    asked = 0
    for tries in itertools.count():
        sides = at_rest(job.clock, hosts, spec)
        verdict = reconcile_move(sides.source, sides.target, live=True, arrived=False)
        if verdict.decision is Decision.BACK:
            raise broken
        if verdict.decision is not Decision.FORWARD or asked > 1:
            raise _still_broken(spec, broken, sides.trouble or verdict.why)
        if Deed.JOIN not in verdict.deeds:
            return
        asked += _wait(job, WAITS_S[min(tries, len(WAITS_S) - 1)], broken)
        try:
            go_on(job, hosts, spec)
        except TwinshipError as error:
            broken = error


def _wait(job: Job, seconds: float, broken: TwinshipError) -> bool:
    """Waits for the next try; whether somebody asked to stop meanwhile."""
    why = broken.cause or broken.message
    job.record("trying_again", MOVE, {"wait_s": seconds, "why": why})
    said = f"link broken, next try in {seconds:g} s"
    job.progress.retitle(f"move the VM: {said}")
    job.set_state(OperationState.WAITING, waiting_for=f"{said} ({why})")
    job.clock.wait(seconds, job.wake)
    job.cancelled()  # raises when another process has the operation
    asked = job.wake.is_set()
    job.wake.clear()
    job.set_state(OperationState.RUNNING, waiting_for="")
    job.progress.retitle(NO_WAY_BACK if job.cancel_refused() else "move the VM: trying again")
    return asked


def go_on(job: Job, hosts: Hosts, spec: dict[str, Any]) -> None:
    """One call that goes on where a broken move stopped; returns once all memory is across.

    Raises what libvirt says, and ``POST_COPY_UNDER_WAY`` as long as nothing has broken: QEMU needs
    nobody to go on.
    """
    source, target = hosts.connection(spec["source"]), hosts.connection(spec["target"])
    uuid = spec["vm"]["uuid"]
    found = vms.state(target, uuid)
    if found is not None and found[1] == UNDER_WAY:
        raise TwinshipError(
            f"the memory of VM {spec['vm']['name']} is still on its way", code="POST_COPY_UNDER_WAY"
        )
    order = replace(order_of(source, target, spec), post_copy=True, again=True)
    job.no_way_back(NO_WAY_BACK)
    move = jobs.Move(
        source,
        target,
        uuid,
        order,
        when_unanswered=lambda: hold_source(source, target, uuid, job.clock),
    )
    meter = meter_of(job, target, spec)
    first: list[int] = []
    carried: list[bool] = []

    def looked_at(stats: jobs.MoveStats) -> tuple[int, int]:
        first.append(stats.memory_processed) if not first else None
        if stats.memory_processed > first[0] and not carried:
            carried.append(True)
            job.progress.retitle("move the VM: the link is back, post-copy goes on")
        return meter(stats)

    try:
        watch_move(job, move, (source, target), stall_s=0, committed=lambda: True, meter=looked_at)
    except TwinshipError:
        if carried:
            _count(job)
        raise
    _count(job)


def _count(job: Job) -> None:
    job.note(MOVE, {"post_copy": True, "recoveries": job.notes(MOVE).get("recoveries", 0) + 1})


def _still_broken(spec: dict[str, Any], broken: TwinshipError, why: str) -> TwinshipError:
    return TwinshipError(
        f"the post-copy move of VM {spec['vm']['name']} broke off",
        code="POST_COPY_BROKEN",
        cause=f"{why}: {broken.cause or broken.message}",
        hint="end neither half: the VM's memory is on both hosts; it goes on by itself when they "
        "see each other again",
    )
