"""Long jobs of QEMU's: copying a disk, moving a VM. Each can be watched and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import libvirt

from twinship.domxml.document import parse
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import translated
from twinship.hypervisor.vms import need
from twinship.model.errors import Gone, TwinshipError
from twinship.model.vm import Disk

UNLIMITED_MIB_S = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyState:
    """A block copy: how far it is. ``ready``: every byte is there, and new ones are mirrored."""

    done_bytes: int
    total_bytes: int
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStats:
    """libvirt's numbers for a migration; zero where it does not say."""

    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0
    rate: int = 0
    memory_rate: int = 0
    dirty_rate: int = 0
    iteration: int = 0
    downtime_s: float | None = None
    elapsed_s: float = 0.0

    @property
    def done_bytes(self) -> int:
        """Bytes through, memory and disks."""
        return self.memory_processed + self.disk_processed

    @property
    def left_bytes(self) -> int:
        """Bytes to go as of now; a busy guest makes more."""
        return self.memory_remaining + self.disk_remaining

    def counted(self) -> tuple[int, int]:
        """Bytes through and bytes in all, as libvirt counts them."""
        return self.done_bytes, self.done_bytes + self.left_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """A migration as libvirt is asked for it.

    ``copy_disks`` are the targets whose contents go along; none for shared storage. ``increment``:
    of these the topmost file alone, onto a volume that stands on the target's own base.
    ``rate`` is bytes/s for each stream, 0 for no limit. ``post_copy``: it may be switched to
    post-copy (live only). ``again``: it goes on where a broken post-copy stopped; all else has to
    be as it was asked for then.
    """

    uri: str
    xml: str
    persistent_xml: str
    name: str
    listen: str = ""
    copy_disks: tuple[str, ...] = ()
    increment: bool = False
    live: bool = True
    persist: bool = True
    paused: bool = False
    shared_proved: bool = False
    rate: int = 0
    post_copy: bool = False
    again: bool = False


def start_copy(
    connection: Connection, uuid: str, target: str, destination_xml: str, *, rate: int = 0
) -> None:
    """Begins to copy a disk of a running (or paused) VM onto a volume that is already there."""
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    params = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: rate} if rate else {}
    try:
        need(connection, uuid).blockCopy(target, destination_xml, params, flags)
    except libvirt.libvirtError as error:
        raise translated(error, f"copy disk {target} on {connection.name}") from error


def copy_state(connection: Connection, uuid: str, target: str) -> CopyState | None:
    """How far a copy is; None when there is no such job any more (it failed, or was ended)."""
    domain = need(connection, uuid)
    try:
        info = domain.blockJobInfo(target, libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
        if not info:
            return None
        # cur == end also holds for an instant at the start; the XML says when it is really ready.
        ready = info["cur"] == info["end"] and _mirror_ready(domain.XMLDesc(0), target)
    except libvirt.libvirtError as error:
        raise translated(error, f"watch the copy of {target} on {connection.name}") from error
    return CopyState(done_bytes=info["cur"], total_bytes=info["end"], ready=ready)


def copied(connection: Connection, uuid: str, disks: Iterable[Disk]) -> tuple[str, ...]:
    """Of a running VM's disks those that a block job copies elsewhere now."""
    found = []
    try:
        domain = need(connection, uuid)
        for disk in disks:
            info = {} if disk.empty else domain.blockJobInfo(disk.target, 0)
            if info and info.get("type") == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
                found.append(disk.target)
    except Gone:
        return ()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return ()  # it has ended since
        raise translated(error, f"read the jobs of VM {uuid} on {connection.name}") from error
    return tuple(found)


def finish_copy(connection: Connection, uuid: str, target: str) -> None:
    """Ends a ready copy: flushed, complete as of now; the VM stays on its own disk."""
    try:
        need(connection, uuid).blockJobAbort(target, 0)
    except libvirt.libvirtError as error:
        raise translated(error, f"finish the copy of {target} on {connection.name}") from error


def start_pull(connection: Connection, uuid: str, target: str, *, rate: int = 0) -> None:
    """Begins to copy everything below a disk into it; :func:`copy_state` follows it."""
    flags = libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES if rate else 0
    try:
        need(connection, uuid).blockPull(target, rate, flags)
    except libvirt.libvirtError as error:
        raise translated(error, f"flatten disk {target} on {connection.name}") from error


def stop_pull(connection: Connection, uuid: str, target: str) -> None:
    """Ends a pull in the middle; the disk stays based on what it was. Harmless without one."""
    try:
        need(connection, uuid).blockJobAbort(target, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise translated(error, f"stop flattening disk {target}") from error


def _mirror_ready(xml: str, target: str) -> bool:
    for disk in parse(xml).findall("devices/disk"):
        name, mirror = disk.find("target"), disk.find("mirror")
        if name is not None and name.get("dev") == target:
            return mirror is not None and mirror.get("ready") == "yes"
    return False


class Move:
    """A migration under way in a thread of its own; the caller watches and may stop it.

    The controller drives both sides (libvirt's managed direct migration): if it dies before the
    end, the source runs on and the copy on the target is removed by the target's libvirt.
    """

    def __init__(
        self,
        source: Connection,
        target: Connection,
        uuid: str,
        order: MoveOrder,
        *,
        when_unanswered: Callable[[], None] | None = None,
    ) -> None:
        """Begins at once.

        ``when_unanswered`` is called when the target's connection breaks while an answer of it is
        waited for; libvirt goes on, as if the answer had been no, once it returns. It must not
        raise, and not use the connections of this thread.
        """
        self._source = source
        self._target = target
        self._uuid = uuid
        self._order = order
        self._when_unanswered = when_unanswered
        self._error: TwinshipError | None = None
        self._ended = threading.Event()
        self._unanswered = threading.Event()
        self._thread = threading.Thread(target=self._perform, name=f"move-{uuid}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Waits at most that long; True once it is over."""
        return self._ended.wait(seconds)

    def unanswered(self) -> bool:
        """Whether the move is held because the target's answer was lost."""
        return self._unanswered.is_set() and not self._ended.is_set()

    def stats(self) -> MoveStats:
        """libvirt's numbers as of now; all zero before it has begun and after it is over."""
        try:
            return _stats(need(self._source, self._uuid).jobStats(0))
        except (libvirt.libvirtError, TwinshipError):
            return MoveStats()

    def allow_pause(self, seconds: float) -> bool:
        """Sets the longest pause QEMU may take at the end; False while it has not begun yet."""
        try:
            need(self._source, self._uuid).migrateSetMaxDowntime(max(1, round(seconds * 1000)), 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                return False
            raise translated(error, "set the longest pause") from error
        return True

    def start_post_copy(self) -> bool:
        """Has the target go on with the VM now; False while that cannot be, or is over.

        Needs an order with ``post_copy``. The VM's state tells when it has happened.
        """
        try:
            need(self._source, self._uuid).migrateStartPostCopy(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                return False
            raise translated(error, "switch to post-copy") from error
        return True

    def abort(self) -> None:
        """Asks libvirt to stop; the move then ends with an error, the source running."""
        abort_job(self._source, self._uuid)

    def finish(self) -> None:
        """Raises what the move ended with, if it was an error. Call after :meth:`wait`."""
        if self._error is not None:
            raise self._error

    def _perform(self) -> None:
        order = self._order
        flags = libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        for wanted, flag in (
            (order.live, libvirt.VIR_MIGRATE_LIVE),
            (order.persist, libvirt.VIR_MIGRATE_PERSIST_DEST),
            (order.paused, libvirt.VIR_MIGRATE_PAUSED),
            (bool(order.copy_disks) and not order.increment, libvirt.VIR_MIGRATE_NON_SHARED_DISK),
            (bool(order.copy_disks) and order.increment, libvirt.VIR_MIGRATE_NON_SHARED_INC),
            # libvirt judges by the filesystem's type; we have proved it to be one file.
            (order.shared_proved, libvirt.VIR_MIGRATE_UNSAFE),
            # Never together with VIR_MIGRATE_PARALLEL: QEMU before 10.1 loses the VM at the switch.
            (order.post_copy, libvirt.VIR_MIGRATE_POSTCOPY),
            (order.again, libvirt.VIR_MIGRATE_POSTCOPY_RESUME),
        ):
            if wanted:
                flags |= flag
        params: dict[str, Any] = {
            libvirt.VIR_MIGRATE_PARAM_URI: order.uri,
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: order.xml,
        }
        if order.persist:
            params[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = order.persistent_xml
        if order.copy_disks:
            params[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(order.copy_disks)
        if order.listen:
            params[libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS] = order.listen
        if order.rate:
            params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = max(1, order.rate // 2**20)
            if order.post_copy:
                params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY] = max(1, order.rate // 2**20)
        try:
            # Connections of this thread's own: the caller's are for watching. Nobody may close the
            # target's while libvirt reports from within it that it broke.
            source = self._source.mine()
            with self._target.another() as target:
                target.raw.registerCloseCallback(self._broken, threading.get_ident())
                try:
                    need(source, self._uuid).migrate3(target.raw, params, flags)
                finally:
                    with suppress(libvirt.libvirtError):  # it is gone once it was called
                        target.raw.unregisterCloseCallback()
        except libvirt.libvirtError as error:
            self._error = translated(error, f"move VM {order.name} to {self._target.name}")
        except TwinshipError as error:
            self._error = error
        finally:
            self._ended.set()

    def _broken(self, _raw: Any, _reason: int, mover: int) -> None:
        """Called by the thread that waits for an answer; else by the one that runs the events."""
        if self._when_unanswered is not None and threading.get_ident() == mover:
            self._unanswered.set()
            self._when_unanswered()


def memory_rate_mib_s(connection: Connection, uuid: str) -> int:
    """How fast the VM's memory may move, in MiB/s; a very large number for no limit."""
    try:
        return int(need(connection, uuid).migrateGetMaxSpeed(0))
    except libvirt.libvirtError as error:
        raise translated(error, f"read the rate of VM {uuid}'s moves") from error


def limit_memory(connection: Connection, uuid: str, mib_s: int) -> bool:
    """Sets how fast the VM's memory may move, now and later; False when it does not run here."""
    try:
        need(connection, uuid).migrateSetMaxSpeed(mib_s, 0)
    except Gone:
        return False
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_OPERATION_INVALID,
            libvirt.VIR_ERR_NO_DOMAIN,
        ):
            return False
        raise translated(error, f"set the rate of VM {uuid}'s moves") from error
    return True


def completed(connection: Connection, uuid: str) -> MoveStats:
    """The numbers of the VM's last finished move, kept by the host it runs on now."""
    flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    try:
        return _stats(need(connection, uuid).jobStats(flags))
    except libvirt.libvirtError as error:
        raise translated(error, "read the move's statistics") from error


def abort_job(connection: Connection, uuid: str) -> None:
    """Stops the move of a VM off this host; harmless when there is none.

    Another job (a backup, a save) is not ours to stop: a move that waits for it ends by itself.
    """
    domain = need(connection, uuid)
    try:
        if domain.jobStats(0).get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
            domain.abortJob()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise translated(error, f"stop the move of VM {uuid}") from error


def _stats(raw: dict[str, Any]) -> MoveStats:
    page = raw.get("memory_page_size", 4096)
    return MoveStats(
        memory_total=raw.get("memory_total", 0),
        memory_processed=raw.get("memory_processed", 0),
        memory_remaining=raw.get("memory_remaining", 0),
        disk_total=raw.get("disk_total", 0),
        disk_processed=raw.get("disk_processed", 0),
        disk_remaining=raw.get("disk_remaining", 0),
        rate=raw.get("memory_bps", 0) + raw.get("disk_bps", 0),
        memory_rate=raw.get("memory_bps", 0),
        dirty_rate=raw.get("memory_dirty_rate", 0) * page,
        iteration=raw.get("memory_iteration", 0),
        downtime_s=raw["downtime"] / 1000 if "downtime" in raw else None,
        elapsed_s=raw.get("time_elapsed", 0) / 1000,
    )
