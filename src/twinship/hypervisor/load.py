"""How busy a running guest is: its CPU time, the memory it has written, what it dirties."""

from __future__ import annotations

from collections.abc import Sequence

import libvirt

from twinship.clock import Clock
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing
from twinship.hypervisor.vms import need, resident_bytes
from twinship.model.load import GuestLoad

IDLE_SHARE = 0.05
"""A guest that takes less of one CPU than this dirties little, and is not measured further."""
GLANCE_S = 0.2
WINDOWS_S = (1, 2)
"""libvirt measures in whole seconds (virDomainStartDirtyRateCalc, since 7.2)."""
PATIENCE_S = 3.0
_MEASURED = 2
_POLL_S = 0.05
MIB = 2**20


def guest_load(
    connection: Connection, uuid: str, clock: Clock, windows_s: Sequence[int] = WINDOWS_S
) -> GuestLoad:
    """A glance of 0.2 s, and for a guest that is not idle a window of each of these lengths.

    Changes nothing of the guest; QEMU samples its pages. Raises :class:`HypervisorError`.
    """
    share = _cpu_share(connection, uuid, clock)
    used = memory_used(connection, uuid)
    if share < IDLE_SHARE:
        return GuestLoad(cpu_share=share, memory_bytes=used)
    rates = [(float(s), _dirty_rate(connection, uuid, s, clock)) for s in windows_s]
    return GuestLoad(
        cpu_share=share,
        memory_bytes=used,
        windows=tuple((seconds, rate) for seconds, rate in rates if rate is not None),
    )


def _cpu_share(connection: Connection, uuid: str, clock: Clock) -> float:
    """CPU time by time: 1.0 is one CPU, all the while."""
    domain = need(connection, uuid)
    with doing(f"see how busy VM {uuid} is on {connection.name}"):
        began, before = clock.monotonic(), domain.info()[4]
        clock.wait(GLANCE_S)
        took, after = clock.monotonic() - began, domain.info()[4]
    return max(0.0, (after - before) / 1e9 / took) if took > 0 else 0.0


def memory_used(connection: Connection, uuid: str) -> int:
    """Bytes of a VM's memory that were ever written, as the host knows (QEMU's resident set)."""
    with doing(f"read the memory of VM {uuid} on {connection.name}"):
        most = int(need(connection, uuid).maxMemory()) * 1024
    return min(resident_bytes(connection, uuid) or most, most)


def _dirty_rate(connection: Connection, uuid: str, seconds: int, clock: Clock) -> float | None:
    """Bytes/s of distinct pages over a window; None when QEMU does not come to an answer."""
    domain = need(connection, uuid)
    deadline = clock.monotonic() + seconds + PATIENCE_S
    with doing(f"measure what VM {uuid} writes on {connection.name}"):
        domain.startDirtyRateCalc(seconds, 0)
        while clock.monotonic() < deadline:
            clock.wait(_POLL_S)
            ((_, told),) = connection.raw.domainListGetStats(
                [domain], libvirt.VIR_DOMAIN_STATS_DIRTYRATE
            )
            if told.get("dirtyrate.calc_status") == _MEASURED:
                return float(told["dirtyrate.megabytes_per_second"]) * MIB
    return None
