"""Copying by a carrier: QEMU itself moves the bytes, on one host or from host to host.

Nothing is asked of a host but libvirt. Sparseness is kept, a copy can be cancelled at any moment,
and its progress is QEMU's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinship.domxml.carrier import (
    MOST_DISKS,
    Cargo,
    Carrier,
    End,
    aligned,
    carrier_xml,
    copy_target_xml,
    slices,
)
from twinship.hypervisor import jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.model.errors import HostUnreachable, HypervisorError, TwinshipError
from twinship.operations.job import Job

POLL_S = 0.05
BREAK_OFF_AFTER_S = 30.0
"""The last resort: libvirt 9.0's daemon can crash when a domain is ended while its mirror hangs
(measured; its VMs run on, and the operation goes on when it is back)."""
ANSWER_WITHIN_S = 2.0
MOST_SLICES = 4
DIRECT_ALIGNMENT = 4096
READ_AHEAD_BYTES = 16 * 1024 * 1024
"""What a mirror takes at once: at a limited rate it then stands still until that is paid for."""
LOST_HINT = "see the QEMU log on the host (/var/log/libvirt/qemu), and the space left in the pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCopy:
    """One file to copy: where it is read, where its volume of the same length lies.

    ``flatten_to`` set: the guest's view is copied, in this format, over the given backing files;
    else the file itself, byte for byte (but for its tail, :mod:`twinship.transfer.tail`).
    ``through`` set: an overlay over the file, which is read through it. Only so can a carrier that
    moves have a file at the source that another QEMU reads: it would lock it for writing.
    ``from_device``, ``to_device``: that end is a block device.
    """

    source: str
    destination: str
    length_bytes: int
    flatten_to: str = ""
    source_format: str = ""
    backing: tuple[tuple[str, str], ...] = ()
    through: str = ""
    from_device: bool = False
    to_device: bool = False


Pair = tuple[Cargo, Cargo]


def copy_on_host(
    job: Job,
    connection: Connection,
    carrier: Carrier,
    files: Sequence[FileCopy],
    *,
    rate: int,
    stall_s: float,
) -> None:
    """Copies files on one host, all at once.

    The carrier ends with this call, and with our connection if we die. ``rate`` (bytes/s, 0 for
    none) is the limit of all copies together. Raises ``COPY_FAILED`` when QEMU gave up (a full
    disk, a read error), ``STALLED`` after ``stall_s`` without a byte.
    """

    def attempt(pairs: tuple[Pair, ...]) -> None:
        xml = carrier_xml(carrier, tuple(here for here, _ in pairs), End.LOCAL_SOURCE)
        vms.start_transient(connection, xml, dies_with_us=True)
        try:
            for here, there in pairs:
                jobs.start_copy(
                    connection,
                    carrier.uuid,
                    here.target,
                    copy_target_xml(there),
                    rate=rate // len(pairs),
                )
            each = rate // len(pairs)
            _until_ready(job, connection, carrier, pairs, patience(stall_s, each))
            for here, _ in pairs:
                jobs.finish_copy(connection, carrier.uuid, here.target)
            for here, _ in pairs:
                _until_gone(job, connection, carrier, here.target, stall_s)
        finally:
            vms.destroy(connection, carrier.uuid)

    for batch in _batches(files):
        # QEMU opens the target of a copy for itself alone: no slices here.
        _directly_if_it_can(attempt, batch, most_slices=1)


def carry_across(
    job: Job,
    source: Connection,
    target: Connection,
    carrier: Carrier,
    files: Sequence[FileCopy],
    *,
    uri: str,
    rate: int,
    stall_s: float,
    arrived: set[str] | None = None,
) -> None:
    """Carries files to volumes of the same length that are already on the target.

    When this returns, both carriers are gone and the target's files are flushed. Raises as
    :func:`copy_on_host`; a failure leaves at most the two carriers, which :func:`end_carriers`
    removes. ``arrived`` gets the source paths of those that are over, also when the rest fails.
    """

    def attempt(pairs: tuple[Pair, ...]) -> None:
        here, there = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        vms.start_transient(source, carrier_xml(carrier, here, End.SOURCE), dies_with_us=False)
        order = jobs.MoveOrder(
            uri=uri,
            xml=carrier_xml(carrier, there, End.TARGET),
            persistent_xml="",
            name=carrier.name,
            copy_disks=tuple(item.target for item in here),
            persist=False,
            paused=True,
            shared_proved=True,  # of shareable disks libvirt would want it; ours are all copied
            rate=rate // len(pairs),
        )
        try:
            move = jobs.Move(source, target, carrier.uuid, order)
            watch_move(
                job,
                move,
                (source, target),
                stall_s=patience(stall_s, rate // len(pairs)),
                break_off=lambda: end_carriers(carrier.uuid, source),
            )
        except HypervisorError as error:
            if _direct_refused(error):
                end_carriers(carrier.uuid, source, target)
            raise
        vms.destroy(target, carrier.uuid)

    for batch in _batches(files):
        _directly_if_it_can(attempt, batch, most_slices=MOST_SLICES)
        if arrived is not None:
            arrived.update(file.source for file in batch)


def patience(stall_s: float, rate: int) -> float:
    """For how long a copy at this rate (bytes/s, 0 for none) may stand still, in seconds."""
    return stall_s + (2 * READ_AHEAD_BYTES / rate if rate else 0.0)


def _batches(files: Sequence[FileCopy]) -> list[list[FileCopy]]:
    """The files in as many rounds as a carrier's bus asks for; tails alone need none."""
    carried = [file for file in files if file.flatten_to or aligned(file.length_bytes)]
    return [carried[at : at + MOST_DISKS] for at in range(0, len(carried), MOST_DISKS)]


def _directly_if_it_can(
    attempt: Callable[[tuple[Pair, ...]], None], files: Sequence[FileCopy], *, most_slices: int
) -> None:
    """Tries slices past the page cache; where a filesystem cannot, whole files through it."""
    most = max(1, min(most_slices, MOST_DISKS // len(files)))
    try:
        attempt(_pairs(files, most_slices=most, direct=True))
    except HypervisorError as error:
        if not _direct_refused(error):
            raise
        attempt(_pairs(files, most_slices=1, direct=False))


def _direct_refused(error: HypervisorError) -> bool:
    return "O_DIRECT" in error.cause


def _pairs(files: Sequence[FileCopy], *, most_slices: int, direct: bool) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for file in files:
        if file.flatten_to:
            name = _disk_name(len(pairs))
            kind = file.flatten_to
            there = Cargo(target=name, path=file.destination, format=kind, block=file.to_device)
            if file.through:
                pairs.append((_through(file, name, direct=False), there))
            else:
                here = Cargo(
                    target=name,
                    path=file.source,
                    format=kind,
                    backing=file.backing,
                    block=file.from_device,
                )
                pairs.append((here, there))
            continue
        # QEMU opens a file past the page cache only if all of it, not the slice alone, is aligned.
        direct_here = direct and file.length_bytes % DIRECT_ALIGNMENT == 0
        parts = slices(file.length_bytes, most_slices if direct_here and not file.through else 1)
        for offset, length in parts:
            name = _disk_name(len(pairs))
            here, there = (
                Cargo(
                    target=name,
                    path=path,
                    offset_bytes=offset,
                    slice_bytes=length,
                    direct=direct_here,
                    shared=len(parts) > 1,
                    block=block,
                )
                for path, block in (
                    (file.source, file.from_device),
                    (file.destination, file.to_device),
                )
            )
            if file.through:
                here = _through(file, name, direct=direct_here)
            pairs.append((here, there))
    return tuple(pairs)


def _through(file: FileCopy, name: str, *, direct: bool) -> Cargo:
    kind = file.source_format if file.flatten_to else "raw"
    backing = ((file.source, kind), *(file.backing if file.flatten_to else ()))
    return Cargo(target=name, path=file.through, format="qcow2", backing=backing, direct=direct)


def _disk_name(number: int) -> str:
    return f"vd{chr(ord('a') + number)}"


def _until_ready(
    job: Job,
    connection: Connection,
    carrier: Carrier,
    pairs: tuple[Pair, ...],
    stall_s: float,
) -> None:
    last, moved_at = -1, job.clock.monotonic()
    while True:
        job.raise_if_cancelled()
        states = {}
        for here, there in pairs:
            state = jobs.copy_state(connection, carrier.uuid, here.target)
            if state is None:
                raise TwinshipError(
                    f"QEMU gave up copying {here.path} to {there.path}",
                    code="COPY_FAILED",
                    cause="a read or write error, or no space left",
                    hint=LOST_HINT,
                )
            states[here.target] = state
        done = sum(state.done_bytes for state in states.values())
        total = sum(state.total_bytes for state in states.values())
        job.progress.bytes(done, total)
        if all(state.ready for state in states.values()):
            return
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


def watch_move(
    job: Job,
    move: jobs.Move,
    ends: tuple[Connection, Connection],
    *,
    stall_s: float,
    break_off: Callable[[], None] | None = None,
    committed: Callable[[], bool] = lambda: False,
    meter: Callable[[jobs.MoveStats], tuple[int, int]] = jobs.MoveStats.counted,
) -> int:
    """Follows a move to its end, reporting progress; returns the bytes that went over.

    A cancel, ``stall_s`` without a byte, or a host that stops answering, stops it: a move whose
    target cannot be asked at the end could leave the VM running twice. The error is raised once
    libvirt has ended the move.

    QEMU cannot give up a disk's mirror while its connection hangs: over a dead link that takes
    until the link is back or TCP gives up (minutes; measured). ``break_off`` ends it sooner where
    there is nothing to lose; a VM that serves runs on meanwhile. ``meter`` makes bytes done and
    bytes in all of libvirt's numbers. Once ``committed`` says so the move cannot be stopped any
    more (post-copy), and so is not: it is followed until it ends by itself.

    A move whose target does not say whether it has started the VM is left, held, after
    ``ANSWER_WITHIN_S`` (:class:`HostUnreachable`): both sides have to be looked at.
    """
    most, last, moved_at = 0, -1, job.clock.monotonic()
    stopped: TwinshipError | None = None
    stopped_at = 0.0
    held_since: float | None = None
    while not move.wait(POLL_S):
        now = job.clock.monotonic()
        if move.unanswered():
            held_since = now if held_since is None else held_since
            if now - held_since > ANSWER_WITHIN_S:
                raise _no_answer(ends[1])
            continue
        stats = move.stats()
        if stats.done_bytes != last:
            last, moved_at = stats.done_bytes, now
        if stats.done_bytes:
            most = max(most, stats.done_bytes)
            if stopped is None:
                job.progress.bytes(*meter(stats))
        if stopped is not None:
            if break_off is not None and now - stopped_at > BREAK_OFF_AFTER_S:
                break_off()
                stopped_at = now
            continue
        if committed():
            job.cancelled()  # raises when another process has the operation
        elif job.cancelled():
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
            stopped_at = now
            job.progress.phase(f"stopping the move: {stopped.message}")
            move.abort()
    try:
        move.finish()
    except TwinshipError:
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


def _no_answer(target: Connection) -> HostUnreachable:
    return HostUnreachable(
        f"host {target.name} did not say whether it has started the VM",
        cause="its connection broke at that moment; the source stands still until it is known",
        hint=f"twinship host check {target.name}",
    )


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
