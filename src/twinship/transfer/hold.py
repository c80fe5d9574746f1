"""One moment of a running VM's disks, held still while they are copied, and given back.

An overlay over every disk, put there in one instant, takes what the guest writes from then on; the
files below stand still, and every way to copy a disk that is shut off works on them: reflink,
carrier, to another host, at a limited rate, verified. Afterwards the overlays are written back and
deleted: the VM is on the very files it was on.

libvirt's backup API, the other way to one moment, leaves the VM's chain alone, but in libvirt 9.0
and QEMU 7.2 it writes every zero to a raw target (measured: 8193 MiB for 2024 MiB of data), copies
an overlay with all it is based on, and knows no limit of rate.

An interrupted hold is given back by whoever takes the operation over, whatever has become of the VM
meanwhile: running, it commits and pivots; shut off or gone, a carrier does the same for it, and the
definition names the old files again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinship.domxml import read as domread
from twinship.domxml.carrier import Cargo, Carrier, End, carrier_xml
from twinship.domxml.rewrite import with_disks
from twinship.hypervisor import agent, chains, jobs, snapshots, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.errors import TwinshipError
from twinship.operations.job import Job
from twinship.transfer.steps import Hosts

POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A VM whose disks are held, as a spec describes it.

    ``disks`` by target: the file, its format, its backing files as (path, format), and the
    overlay. ``others``: the targets of all other disks. ``machine``: a carrier's, see
    :class:`Carrier`.
    """

    host: str
    uuid: str
    name: str
    disks: Mapping[str, Mapping[str, Any]]
    others: tuple[str, ...]
    carrier: Mapping[str, str]
    machine: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldDisks:
    """Holds the disks still; undone by giving them back."""

    hosts: Hosts
    held: Held
    freeze: bool
    stall_s: float
    name: str = "hold"
    title: str = "hold the disks still"

    def do(self, job: Job) -> dict[str, Any]:
        """How long that took, and what is needed to know what the guest felt of it."""
        held = self.held
        connection = self.hosts.connection(held.host)
        lag = agent.clock_lag(connection, held.uuid, job.clock)
        overlays = {target: disk["overlay"] for target, disk in held.disks.items()}
        began = job.clock.monotonic()
        frozen = snapshots.overlay_all(
            connection, held.uuid, overlays, frozenset(held.others), freeze=self.freeze
        )
        seconds = round(job.clock.monotonic() - began, 3)
        return {
            "frozen": frozen,
            "seconds": seconds,
            "clock_lag": lag,
        }

    def observe(self, job: Job) -> dict[str, Any] | None:
        """A hold of a process that died is given back, never gone on with."""
        return None

    def undo(self, job: Job) -> None:
        """Gives the disks back."""
        give_back(job, self.hosts.connection(self.held.host), self.held, stall_s=self.stall_s)

    def leftover(self) -> str:
        """The overlays the VM runs on."""
        paths = ", ".join(disk["overlay"] for disk in self.held.disks.values())
        return f"VM {self.held.name} on {self.held.host} writes to {paths}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """Puts the VM on its own files again."""

    hosts: Hosts
    held: Held
    stall_s: float
    name: str = "give-back"
    title: str = "put the source on its own disks again"

    def do(self, job: Job) -> dict[str, Any]:
        """How long the guest stood still in all, in seconds; None if it cannot tell."""
        held = self.held
        connection = self.hosts.connection(held.host)
        give_back(job, connection, held, stall_s=self.stall_s)
        return {"pause_guest_s": self._felt(job, connection)}

    def observe(self, job: Job) -> dict[str, Any] | None:
        """Given back twice is harmless."""
        return None

    def undo(self, job: Job) -> None:
        """The hold's own undoing does it."""

    def leftover(self) -> str:
        """Nothing."""
        return ""

    def _felt(self, job: Job, connection: Connection) -> float | None:
        before = job.outcomes()["hold"].get("clock_lag")
        if before is None:
            return None
        after = agent.clock_lag(connection, self.held.uuid, job.clock)
        return round(max(0.0, after - before), 3) if after is not None else None


def give_back(job: Job, connection: Connection, held: Held, *, stall_s: float) -> None:
    """Writes every overlay back and deletes it, whatever state the VM is in. Harmless twice.

    Raises ``STALLED`` after ``stall_s`` without a byte, and what libvirt raises; each disk is then
    on its own file or on its overlay, and complete.
    """
    vms.destroy(connection, held.carrier["uuid"])  # one that outlived its process
    waiting = {t: d for t, d in held.disks.items() if volumes.find(connection, d["overlay"])}
    if not waiting:
        return
    found = vms.state(connection, held.uuid)
    if found is not None and found[0].active:
        live = _on_overlays(vms.migratable_xml(connection, held.uuid), waiting)
        _commit(job, connection, held.uuid, live, stall_s=stall_s)
    else:
        _commit_at_rest(job, connection, held, waiting, stall_s=stall_s)
    if found is not None and found[2]:
        text = vms.inactive_xml(connection, held.uuid)
        if left := _on_overlays(text, waiting):
            files = {t: (waiting[t]["path"], waiting[t]["format"]) for t in left}
            vms.define(connection, with_disks(text, files))
    for disk in waiting.values():
        volumes.delete(connection, disk["overlay"])


def _on_overlays(text: str, disks: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The targets that a definition has on their overlays."""
    return tuple(
        disk.target
        for disk in domread.disks(text)
        if disk.target in disks and disk.path == disks[disk.target]["overlay"]
    )


def _commit(
    job: Job, connection: Connection, uuid: str, targets: tuple[str, ...], *, stall_s: float
) -> None:
    """Commits all at once, then pivots each. Not to be cancelled: it is the way back."""
    for target in targets:
        snapshots.start_commit(connection, uuid, target)
    waiting, last, moved_at = list(targets), -1, job.clock.monotonic()
    while waiting:
        done = 0
        for target in tuple(waiting):
            state = jobs.copy_state(connection, uuid, target)
            if state is None:
                raise TwinshipError(
                    f"QEMU gave up writing disk {target} back",
                    code="COPY_FAILED",
                    cause="a read or write error, or no space left",
                    hint="free space in the pool; it is tried again",
                )
            done += state.done_bytes
            if state.ready:
                snapshots.pivot(connection, uuid, target)
                waiting.remove(target)
                moved_at = job.clock.monotonic()
        now = job.clock.monotonic()
        if done != last:
            last, moved_at = done, now
        elif now - moved_at > stall_s:
            raise TwinshipError(
                f"writing back the disks stood still for {stall_s:g} s",
                code="STALLED",
                hint="see whether the storage of the host answers",
            )
        if waiting:
            job.clock.wait(POLL_S)


def _commit_at_rest(
    job: Job,
    connection: Connection,
    held: Held,
    disks: Mapping[str, Mapping[str, Any]],
    *,
    stall_s: float,
) -> None:
    """The same by a carrier, for a VM that has been shut off, or has crashed with its host.

    Only what the VM would start from: written back a second time, an overlay would undo what the VM
    has written since.
    """
    if vms.state(connection, held.uuid) is not None:
        wanted = frozenset(_on_overlays(vms.inactive_xml(connection, held.uuid), disks))
    else:  # a transient VM that has ended
        wanted = frozenset(disks) - frozenset(job.notes("hold").get("written_back", ()))
    carrier = Carrier(**held.carrier, **held.machine)
    cargo = tuple(
        Cargo(
            target=target,
            path=disk["overlay"],
            format="qcow2",
            backing=((disk["path"], disk["format"]), *map(tuple, disk["backing"])),
        )
        for target, disk in disks.items()
        if target in wanted and _is_over(connection, disk)
    )
    if not cargo:
        return
    vms.start_transient(connection, carrier_xml(carrier, cargo, End.SOURCE), dies_with_us=True)
    try:
        targets = tuple(item.target for item in cargo)
        _commit(job, connection, carrier.uuid, targets, stall_s=stall_s)
        job.note("hold", {"written_back": list(targets)})
    finally:
        vms.destroy(connection, carrier.uuid)


def _is_over(connection: Connection, disk: Mapping[str, Any]) -> bool:
    """Whether an overlay was completed; one that was not never held data."""
    layers = chains.chain(connection, disk["overlay"], "qcow2")
    return len(layers) > 1 and layers[1].path == disk["path"]
