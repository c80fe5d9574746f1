"""Making a disk independent of what it is based on: QEMU copies what it lacks into it.

The disk is whole at every moment: until a cluster is copied it is read from below. So a pull that
is cut off leaves a disk that is as good as before, and can be begun again.
"""

from __future__ import annotations

from twinship.domxml.carrier import Cargo, Carrier, End, carrier_xml
from twinship.hypervisor import chains, jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.carrier import LOST_HINT

POLL_S = 0.1


def pull(
    job: Job,
    connection: Connection,
    uuid: str,
    target: str,
    path: str,
    *,
    rate: int,
    stall_s: float,
) -> None:
    """Pulls everything below disk ``target`` of a running (or paused) VM into it.

    Raises ``COPY_FAILED`` when QEMU gave up, ``STALLED`` after ``stall_s`` without a byte.
    """
    jobs.start_pull(connection, uuid, target, rate=rate)
    last, moved_at = -1, job.clock.monotonic()
    while (state := jobs.copy_state(connection, uuid, target)) is not None:
        if job.cancelled():
            jobs.stop_pull(connection, uuid, target)
            job.raise_if_cancelled()
        job.progress.bytes(state.done_bytes, state.total_bytes)
        now = job.clock.monotonic()
        if state.done_bytes != last:
            last, moved_at = state.done_bytes, now
        elif now - moved_at > stall_s:
            jobs.stop_pull(connection, uuid, target)
            raise TwinshipError(
                f"the disk {target} stood still for {stall_s:g} s",
                code="STALLED",
                hint="see whether the storage of the host answers",
            )
        job.clock.wait(POLL_S, job.wake)
    # From the header itself: what libvirt keeps of a volume is from its pool's last refresh.
    if len(chains.chain(connection, path, "qcow2")) != 1:
        raise TwinshipError(
            f"QEMU gave up making {path} independent",
            code="COPY_FAILED",
            cause="a read or write error, or no space left",
            hint=LOST_HINT,
        )


def pull_at_rest(
    job: Job,
    connection: Connection,
    carrier: Carrier,
    cargo: Cargo,
    *,
    rate: int,
    stall_s: float,
) -> None:
    """The same for a disk that no VM runs on, by a carrier. Raises as :func:`pull`."""
    xml = carrier_xml(carrier, (cargo,), End.SOURCE)
    vms.start_transient(connection, xml, dies_with_us=True)
    try:
        pull(job, connection, carrier.uuid, cargo.target, cargo.path, rate=rate, stall_s=stall_s)
    finally:
        vms.destroy(connection, carrier.uuid)
