"""Copying by a carrier: QEMU itself moves the bytes, on one host or from host to host.

Nothing is asked of a host but libvirt. Sparseness is kept, a copy can be cancelled at any moment,
and its progress is QEMU's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinship.domxml.carrier import Cargo, Carrier, End, carrier_xml, copy_target_xml
from twinship.hypervisor import jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.model.errors import HostUnreachable, HypervisorError, TwinshipError
from twinship.operations.job import Job

POLL_S = 0.05
LOST_HINT = "see the QEMU log on the host (/var/log/libvirt/qemu), and the space left in the pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCopy:
    """One file of a copy on one host: what is read, what is written."""

    source: Cargo
    destination: Cargo


def copy_on_host(
    job: Job,
    connection: Connection,
    carrier: Carrier,
    copies: tuple[LocalCopy, ...],
    *,
    rate: int,
    stall_s: float,
) -> int:
    """Copies files on one host, all at once; returns the bytes QEMU went through.

    The carrier ends with this call, and with our connection if we die. ``rate`` (bytes/s, 0 for
    none) is the limit of all copies together. Raises ``COPY_FAILED`` when QEMU gave up (a full
    disk, a read error), ``STALLED`` after ``stall_s`` without a byte.
    """
    if not copies:
        return 0
    xml = carrier_xml(carrier, tuple(copy.source for copy in copies), End.LOCAL_SOURCE)
    vms.start_transient(connection, xml, dies_with_us=True)
    try:
        for copy in copies:
            jobs.start_copy(
                connection,
                carrier.uuid,
                copy.source.target,
                copy_target_xml(copy.destination),
                rate=rate // len(copies),
            )
        total = _until_ready(job, connection, carrier, copies, stall_s)
        for copy in copies:
            jobs.finish_copy(connection, carrier.uuid, copy.source.target)
            _until_gone(job, connection, carrier, copy.source.target, stall_s)
        return total
    finally:
        vms.destroy(connection, carrier.uuid)


def _until_ready(
    job: Job,
    connection: Connection,
    carrier: Carrier,
    copies: tuple[LocalCopy, ...],
    stall_s: float,
) -> int:
    last, moved_at = -1, job.clock.monotonic()
    while True:
        job.raise_if_cancelled()
        states = {}
        for copy in copies:
            state = jobs.copy_state(connection, carrier.uuid, copy.source.target)
            if state is None:
                raise TwinshipError(
                    f"QEMU gave up copying {copy.source.path} to {copy.destination.path}",
                    code="COPY_FAILED",
                    cause="a read or write error, or no space left",
                    hint=LOST_HINT,
                )
            states[copy.source.target] = state
        done = sum(state.done_bytes for state in states.values())
        total = sum(state.total_bytes for state in states.values())
        job.progress.bytes(done, total)
        if all(state.ready for state in states.values()):
            return total
        now = job.clock.monotonic()
        if done != last:
            last, moved_at = done, now
        elif now - moved_at > stall_s:
            raise TwinshipError(
                f"the copy stood still for {stall_s:g} s",
                code="STALLED",
                hint="see whether the storage of the host answers",
            )
        job.clock.wait(POLL_S, job.wake)


def _until_gone(
    job: Job, connection: Connection, carrier: Carrier, target: str, stall_s: float
) -> None:
    """Waits until a finished copy has been flushed and taken down."""
    deadline = job.clock.monotonic() + stall_s
    while jobs.copy_state(connection, carrier.uuid, target) is not None:
        if job.clock.monotonic() > deadline:
            raise TwinshipError("the copy could not be flushed", code="STALLED", hint=LOST_HINT)
        job.clock.wait(POLL_S)


def carry_across(
    job: Job,
    source: Connection,
    target: Connection,
    carrier: Carrier,
    cargo: tuple[tuple[Cargo, Cargo], ...],
    *,
    uri: str,
    rate: int,
    stall_s: float,
) -> int:
    """Carries files to volumes of the same length that are already on the target.

    ``cargo`` pairs what is read on the source with what is written on the target. Returns the
    bytes that went over. When this returns, both carriers are gone and the target's files are
    flushed. Raises as :func:`copy_on_host`; a failure leaves at most the two carriers, which
    :func:`end_carriers` removes.
    """
    if not cargo:
        return 0
    here, there = tuple(pair[0] for pair in cargo), tuple(pair[1] for pair in cargo)
    vms.start_transient(source, carrier_xml(carrier, here, End.SOURCE), dies_with_us=False)
    order = jobs.MoveOrder(
        uri=uri,
        xml=carrier_xml(carrier, there, End.TARGET),
        persistent_xml="",
        name=carrier.name,
        copy_disks=tuple(item.target for item in here),
        persist=False,
        paused=True,
        rate=rate,
    )
    move = jobs.Move(source, target, carrier.uuid, order)
    moved = watch_move(job, move, (source, target), stall_s=stall_s)
    vms.destroy(target, carrier.uuid)
    return moved


def watch_move(
    job: Job, move: jobs.Move, ends: tuple[Connection, Connection], *, stall_s: float
) -> int:
    """Follows a move to its end, reporting progress; returns the bytes that went over.

    A cancel, ``stall_s`` without a byte, or a host that stops answering, stops it: a move whose
    target cannot be asked at the end could leave the VM running twice. The error is raised once
    libvirt has ended the move.
    """
    most, last, moved_at = 0, -1, job.clock.monotonic()
    stopped: TwinshipError | None = None
    while not move.wait(POLL_S):
        stats = move.stats()
        now = job.clock.monotonic()
        if stats.done_bytes != last:
            last, moved_at = stats.done_bytes, now
        if stats.done_bytes:
            most = max(most, stats.done_bytes)
            job.progress.bytes(stats.done_bytes, stats.done_bytes + stats.left_bytes)
        if stopped is not None:
            continue
        if job.cancelled():
            stopped = _cancelled(job)
        elif now - moved_at > stall_s:
            stopped = TwinshipError(
                f"no byte went over for {stall_s:g} s",
                code="STALLED",
                hint="see whether the hosts reach each other's migration ports (49152-49215)",
            )
        else:
            stopped = _silent_end(ends)
        if stopped is not None:
            move.abort()
    try:
        move.finish()
    except HypervisorError:
        if stopped is not None:
            raise stopped from None
        raise
    return most


def _silent_end(ends: tuple[Connection, Connection]) -> TwinshipError | None:
    for end in ends:
        if not end.alive():
            return HostUnreachable(
                f"host {end.name} stopped answering during the move",
                cause="its libvirtd does not answer keepalives",
                hint=f"twinship host check {end.name}",
            )
    return None


def _cancelled(job: Job) -> TwinshipError:
    try:
        job.raise_if_cancelled()
    except TwinshipError as error:
        return error
    return TwinshipError("cancelled", code="CANCELLED")


def end_carriers(carrier_uuid: str, *connections: Connection) -> None:
    """Ends a carrier wherever it is; harmless where it is not. It holds nothing of its own."""
    for connection in connections:
        vms.destroy(connection, carrier_uuid)
