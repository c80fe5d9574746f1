"""The live move under way: begins it, watches both hosts, stops it in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.hypervisor import agent, jobs
from twinship.hypervisor.connection import Connection
from twinship.migrate.call import meter_of, mirrored, order_of
from twinship.migrate.halves import Switch, rejoin
from twinship.migrate.turns import Hold, Turns, wait_for
from twinship.migrate.unanswered import hold_source
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.carrier import patience, watch_move
from twinship.transfer.steps import Hosts

AGENT_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a move came to. ``pause_guest_s`` is None for a guest that cannot tell.

    ``rate`` is the bytes/s of its memory, 0 where libvirt did not say.
    """

    seconds: float
    pause_s: float | None
    pause_guest_s: float | None
    bytes_memory: int
    rate: int

    def as_dict(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "seconds": self.seconds,
            "pause_s": self.pause_s,
            "pause_guest_s": self.pause_guest_s,
            "bytes_memory": self.bytes_memory,
            "rate": self.rate,
        }


def move_live(
    job: Job, hosts: Hosts, spec: dict[str, Any], *, stall_s: float, turns: Turns
) -> Arrival:
    """Moves a running VM and returns once it runs on the target.

    Its memory crosses when it is its turn; disks are copied before that.

    Raises what libvirt said, :class:`twinship.model.errors.Cancelled`, or ``STALLED``; libvirt
    has then ended the move, and the two sides have to be looked at. A link that breaks in post-copy
    is waited for (:func:`twinship.migrate.halves.rejoin`).
    """
    source, target = hosts.connection(spec["source"]), hosts.connection(spec["target"])
    uuid = spec["vm"]["uuid"]
    expected = spec.get("memory_expected", spec["memory_bytes"])
    with turns.queue((f"out/{source.name}", f"in/{target.name}"), expected) as turn:
        if not mirrored(spec):
            wait_for(job, turns, turn)
        before = agent.clock_lag(source, uuid, job.clock)
        order = order_of(source, target, spec)
        began = job.clock.monotonic()
        move = jobs.Move(
            source,
            target,
            uuid,
            order,
            when_unanswered=lambda: hold_source(source, target, uuid, job.clock),
        )
        if spec["max_pause_s"] is not None:
            _allow_pause(job, move, spec["max_pause_s"])
        hold = Hold(job, turns, turn, source, uuid)
        meter = meter_of(job, target, spec)
        switch = Switch(job, move, source, spec)

        def looked_at(stats: jobs.MoveStats) -> tuple[int, int]:
            hold.saw(stats)
            switch.saw(stats, its_turn=hold.free)
            return meter(stats)

        try:
            watch_move(
                job,
                move,
                (source, target),
                stall_s=patience(stall_s, spec["rate"]),
                committed=switch.asked,
                meter=looked_at,
            )
        except TwinshipError as broken:
            if not switch.asked():
                raise
            rejoin(job, hosts, spec, broken)
            target = hosts.connection(spec["target"])  # it may be another by now
    seconds = job.clock.monotonic() - began
    stats = _completed(target, uuid)
    pause_guest_s = _felt(job, target, uuid, before) if before is not None else None
    return Arrival(
        seconds=round(seconds, 3),
        pause_s=stats.downtime_s,
        pause_guest_s=pause_guest_s,
        bytes_memory=stats.memory_processed,
        rate=stats.memory_rate,
    )


def _allow_pause(job: Job, move: jobs.Move, seconds: float) -> None:
    while not move.allow_pause(seconds):
        if move.wait(0.01) or job.cancelled():
            return


def _completed(target: Connection, uuid: str) -> jobs.MoveStats:
    try:
        return jobs.completed(target, uuid)
    except TwinshipError:
        return jobs.MoveStats()  # the move itself is done; only its numbers are lost


def _felt(job: Job, target: Connection, uuid: str, before: float) -> float | None:
    """How long the guest stood still: what its clock lost. Its agent's port reopens on arrival."""
    deadline = job.clock.monotonic() + AGENT_WAIT_S
    while job.clock.monotonic() < deadline:
        after = agent.clock_lag(target, uuid, job.clock)
        if after is not None:
            return round(max(0.0, after - before), 3)
        job.clock.wait(0.1)
    return None
