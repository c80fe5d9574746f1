"""The live move under way: begins it, watches both hosts, stops it in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinship.domxml.lineage import with_bases
from twinship.hypervisor import agent, jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import carried
from twinship.migrate.meter import DiskMeter
from twinship.migrate.places import places_of
from twinship.migrate.plan import definition, rewrites_of, travelling_xml
from twinship.migrate.turns import Hold, Turns, wait_for
from twinship.migrate.unanswered import hold_source
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.carrier import patience, watch_move

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
    job: Job,
    source: Connection,
    target: Connection,
    spec: dict[str, Any],
    *,
    stall_s: float,
    turns: Turns,
) -> Arrival:
    """Moves a running VM and returns once it runs on the target.

    Its memory crosses when it is its turn; disks are copied before that.

    Raises what libvirt said, :class:`twinship.model.errors.Cancelled`, or ``STALLED``; libvirt
    has then ended the move, and the two sides have to be looked at.
    """
    uuid = spec["vm"]["uuid"]
    expected = spec.get("memory_expected", spec["memory_bytes"])
    with turns.queue((f"out/{source.name}", f"in/{target.name}"), expected) as turn:
        if not _copied(spec):
            wait_for(job, turns, turn)
        before = agent.clock_lag(source, uuid, job.clock)
        order = _order(source, target, spec)
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
        meter = _meter(job, target, spec)

        def looked_at(stats: jobs.MoveStats) -> tuple[int, int]:
            hold.saw(stats)
            return meter(stats)

        watch_move(
            job,
            move,
            (source, target),
            stall_s=patience(stall_s, spec["rate"]),
            meter=looked_at,
        )
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


def _copied(spec: dict[str, Any]) -> frozenset[str]:
    return frozenset(disk["target"] for disk in spec["disks"] if disk["layers"])


def _order(source: Connection, target: Connection, spec: dict[str, Any]) -> jobs.MoveOrder:
    uuid, copied = spec["vm"]["uuid"], _copied(spec)
    persist = spec["persistent"] and not spec["temporary"]
    travelling = travelling_xml(vms.migratable_xml(source, uuid), copied, rewrites_of(spec))
    return jobs.MoveOrder(
        uri=spec["uri"],
        xml=_marked(target, travelling, spec),
        persistent_xml=_arriving(source, target, spec) if persist else "",
        name=spec["vm"]["name"],
        copy_disks=tuple(sorted(copied)),
        increment=any(disk["way"] == "increment" for disk in spec["disks"]),
        live=spec["mode"] == "live",
        persist=persist,
        shared_proved=spec["shared_files"],
        rate=spec["rate"],
    )


def _arriving(source: Connection, target: Connection, spec: dict[str, Any]) -> str:
    """The definition that stays on the target."""
    text = definition(vms.inactive_xml(source, spec["vm"]["uuid"]), rewrites_of(spec))
    return _marked(target, text, spec)


def _marked(target: Connection, text: str, spec: dict[str, Any]) -> str:
    """The definition with its marks true on the target: what its disks are based on there."""
    ways = {disk["way"] for disk in spec["disks"]}
    if "increment" in ways:
        return carried(target, text, places_of(rewrites_of(spec)).there)
    return with_bases(text, ()) if "copy" in ways else text


def _meter(job: Job, target: Connection, spec: dict[str, Any]) -> DiskMeter:
    copied = [disk for disk in spec["disks"] if disk["layers"]]
    expected = sum(disk["bytes"] for disk in copied)
    paths = [layer["there"] for disk in copied for layer in disk["layers"]]
    return DiskMeter(target, paths, expected, spec["memory_bytes"], job.clock)


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
