"""VMs through libvirt: listing, reading, defining, starting, stopping."""

from __future__ import annotations

import dataclasses
from typing import Any

import libvirt

from twinship.domxml import read as domread
from twinship.domxml.document import parse
from twinship.domxml.guard import unguarded
from twinship.hypervisor import chains, volumes
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated
from twinship.model.errors import Gone
from twinship.model.vm import Disk, Layer, Vm, VmFacts, VmState

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: VmState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: VmState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: VmState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: VmState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: VmState.SHUT_OFF,
    libvirt.VIR_DOMAIN_CRASHED: VmState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: VmState.SUSPENDED,
}

_PAUSE_REASONS = {
    libvirt.VIR_DOMAIN_PAUSED_USER: "user",
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "migration",
    libvirt.VIR_DOMAIN_PAUSED_SAVE: "save",
    libvirt.VIR_DOMAIN_PAUSED_DUMP: "dump",
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "io_error",
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "watchdog",
    libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN: "shutting_down",
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "starting_up",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: "post_copy",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: "post_copy_failed",
}

_RUNNING_REASONS = {
    libvirt.VIR_DOMAIN_RUNNING_POSTCOPY: "post_copy",
    libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED: "post_copy_failed",
}

_REASONS = {VmState.PAUSED: _PAUSE_REASONS, VmState.RUNNING: _RUNNING_REASONS}

_JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "restore",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "migration in",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "migration out",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "backup",
}


def all_vms(connection: Connection) -> tuple[Vm, ...]:
    """Every VM of the host by name, in two calls whatever their number."""
    wanted = (
        libvirt.VIR_DOMAIN_STATS_STATE
        | libvirt.VIR_DOMAIN_STATS_BALLOON
        | libvirt.VIR_DOMAIN_STATS_VCPU
    )
    with doing(f"list the VMs of {connection.name}"):
        rows = connection.raw.getAllDomainStats(
            wanted, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
        transient = {
            domain.UUIDString()
            for domain in connection.raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
        }
    found = [
        Vm(
            host=connection.name,
            name=domain.name(),
            uuid=domain.UUIDString(),
            state=_STATES.get(stats.get("state.state", -1), VmState.UNKNOWN),
            persistent=domain.UUIDString() not in transient,
            vcpus=stats.get("vcpu.maximum", 0),
            memory_bytes=stats.get("balloon.maximum", 0) * 1024,
        )
        for domain, stats in rows
    ]
    return tuple(sorted(found, key=lambda vm: (vm.name, vm.uuid)))


Definitions = tuple[tuple[str, str, str], ...]
"""Name, UUID and definition of several VMs."""


def definitions(connection: Connection) -> Definitions:
    """Name, UUID and definition (without secrets) of every VM of the host."""
    return _texts(connection, 0, libvirt.VIR_DOMAIN_XML_INACTIVE)


def running(connection: Connection) -> tuple[tuple[str, str, str], ...]:
    """Name, UUID and live definition (without secrets) of every VM of the host that runs."""
    return _texts(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE, 0)


def _texts(connection: Connection, which: int, how: int) -> tuple[tuple[str, str, str], ...]:
    found = []
    with doing(f"read the definitions of {connection.name}"):
        for domain in connection.raw.listAllDomains(which):
            try:
                text = domain.XMLDesc(how)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    continue  # it went since it was listed
                raise
            found.append((domain.name(), domain.UUIDString(), text))
    return tuple(found)


def facts(connection: Connection, uuid: str) -> VmFacts:
    """Everything of one VM, its disks with their whole chains. Raises :class:`Gone`."""
    domain = _need(connection, uuid)
    with doing(f"read VM {uuid} of {connection.name}"):
        secure = libvirt.VIR_DOMAIN_XML_SECURE
        state, reason = domain.state(0)
        active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
        stored = domain.XMLDesc(secure | libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else ""
        inactive = unguarded(stored)
        live = unguarded(domain.XMLDesc(secure)) if active else ""
        text = live or inactive
        summary = domread.summary(text)
        vm = Vm(
            host=connection.name,
            name=domain.name(),
            uuid=domain.UUIDString(),
            state=_STATES.get(state, VmState.UNKNOWN),
            persistent=persistent,
            vcpus=summary.vcpus,
            memory_bytes=summary.memory_bytes,
        )
        numbers = {
            "snapshots": domain.snapshotNum(0),
            "checkpoints": len(domain.listAllCheckpoints(0)),
            "managed_save": bool(domain.hasManagedSaveImage(0)),
            "autostart": bool(domain.autostart()) if persistent else False,
        }
        job = _job(domain) if active else ""
    return VmFacts(
        vm=vm,
        inactive_xml=inactive,
        live_xml=live,
        disks=with_chains(connection, uuid, domread.disks(text)),
        pause_reason=_PAUSE_REASONS.get(reason, "") if vm.state is VmState.PAUSED else "",
        job=job,
        agent_connected=_agent_connected(live) if live else False,
        nvram=Layer(path=summary.nvram) if summary.nvram else None,
        **numbers,
    )


def macs(connection: Connection) -> frozenset[str]:
    """The MAC addresses of every VM of the host, in lower case. Reads every definition."""
    return frozenset(
        nic.mac.lower()
        for _, _, text in definitions(connection)
        for nic in domread.summary(text).nics
    )


def resident_bytes(connection: Connection, uuid: str) -> int:
    """The memory of the host that a running VM uses, its QEMU's own with it; 0: not known."""
    try:
        return int(_need(connection, uuid).memoryStats().get("rss", 0)) * 1024
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return 0  # it is shut off
        raise translated(error, f"read the memory of VM {uuid}") from error


def job(connection: Connection, uuid: str) -> str:
    """The job that holds a running VM (``migration_out``); empty for none."""
    domain = _lookup(connection, uuid)
    if domain is None:
        return ""
    with doing(f"read the job of VM {uuid} on {connection.name}"):
        return _job(domain)


def block_jobs(connection: Connection, uuid: str) -> tuple[str, ...]:
    """The disks of a running VM with a block job under way (copy, commit, pull, backup)."""
    domain = _need(connection, uuid)
    found = []
    with doing(f"read the block jobs of VM {uuid} on {connection.name}"):
        for disk in domread.disks(domain.XMLDesc(0)):
            if disk.device == "disk" and not disk.empty and domain.blockJobInfo(disk.target, 0):
                found.append(disk.target)
    return tuple(found)


def state(connection: Connection, uuid: str) -> tuple[VmState, str, bool] | None:
    """State, its reason, and whether it is persistent; None when there is no such VM.

    The reason is one of a pause, or that a VM runs without all of its memory (post-copy).
    """
    domain = _lookup(connection, uuid)
    if domain is None:
        return None
    try:
        number, reason = domain.state(0)
        persistent = bool(domain.isPersistent())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise translated(error, f"read the state of VM {uuid} on {connection.name}") from error
    found = _STATES.get(number, VmState.UNKNOWN)
    return found, _REASONS.get(found, {}).get(reason, ""), persistent


def failed_to_start(connection: Connection, uuid: str) -> bool:
    """Whether a VM that is shut off is so because its QEMU did not come up, or was given up."""
    with doing(f"read the state of VM {uuid} on {connection.name}"):
        number, reason = _need(connection, uuid).state(0)
    return bool(
        number == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_FAILED
    )


def find_by_name(connection: Connection, name: str) -> tuple[str, VmState] | None:
    """UUID and state of the VM of that name; None when there is none."""
    try:
        domain = connection.raw.lookupByName(name)
        return str(domain.UUIDString()), _STATES.get(domain.state(0)[0], VmState.UNKNOWN)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise translated(error, f"look for VM {name} on {connection.name}") from error


def inactive_xml(connection: Connection, uuid: str) -> str:
    """The definition used at the next start, with its secrets and without its guard."""
    return unguarded(stored_xml(connection, uuid))


def stored_xml(connection: Connection, uuid: str) -> str:
    """The definition word for word, with its secrets."""
    flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
    with doing(f"read the definition of VM {uuid} on {connection.name}"):
        return str(_need(connection, uuid).XMLDesc(flags))


def migratable_xml(connection: Connection, uuid: str) -> str:
    """What a move of the running VM sends, with its secrets."""
    flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
    with doing(f"read the running VM {uuid} on {connection.name}"):
        return str(_need(connection, uuid).XMLDesc(flags))


def define(connection: Connection, xml: str) -> str:
    """Defines a VM (or redefines the one of that UUID) and returns its UUID."""
    with doing(f"define the VM on {connection.name}"):
        domain = connection.raw.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        return str(domain.UUIDString())


def rename(connection: Connection, uuid: str, name: str) -> None:
    """Gives a VM that is shut off another name; one that has it keeps it.

    libvirt refuses a VM with snapshots or checkpoints.
    """
    domain = _need(connection, uuid)
    if domain.name() == name:
        return
    with doing(f"rename VM {domain.name()} on {connection.name} to {name}"):
        domain.rename(name, 0)


def undefine(
    connection: Connection, uuid: str, *, keep_state: bool = True, with_records: bool = False
) -> bool:
    """Removes a definition; disks stay. False when it was not there.

    ``keep_state``: NVRAM and TPM state stay too. ``with_records``: those of its snapshots and
    checkpoints go with it, else libvirt refuses a VM that has some.
    """
    domain = _lookup(connection, uuid)
    if domain is None:
        return False
    flags = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM
    if keep_state:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
    if with_records:
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    with doing(f"undefine VM {uuid} on {connection.name}"):
        if not domain.isPersistent():
            return False
        domain.undefineFlags(flags)
    return True


def start(connection: Connection, uuid: str) -> None:
    """Starts a defined VM."""
    with doing(f"start VM {uuid} on {connection.name}"):
        _need(connection, uuid).createWithFlags(0)


def start_transient(connection: Connection, xml: str, *, dies_with_us: bool) -> str:
    """Starts a VM that has no definition, paused; returns its UUID.

    ``dies_with_us``: the host ends it when this connection closes, however it closes.
    """
    flags = libvirt.VIR_DOMAIN_START_PAUSED
    if dies_with_us:
        flags |= libvirt.VIR_DOMAIN_START_AUTODESTROY
    with doing(f"start a carrier on {connection.name}"):
        return str(connection.raw.createXML(xml, flags).UUIDString())


def shut_down(connection: Connection, uuid: str) -> None:
    """Asks the guest to shut down (agent or ACPI, as libvirt finds best)."""
    with doing(f"stop VM {uuid} on {connection.name}"):
        _need(connection, uuid).shutdown()


def destroy(connection: Connection, uuid: str) -> bool:
    """Ends the VM's QEMU at once; False when it did not run."""
    domain = _lookup(connection, uuid)
    if domain is None:
        return False
    try:
        domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return False
        raise translated(error, f"end VM {uuid} on {connection.name}") from error
    return True


def resume(connection: Connection, uuid: str) -> None:
    """Lets a paused VM run."""
    with doing(f"resume VM {uuid} on {connection.name}"):
        _need(connection, uuid).resume()


def suspend(connection: Connection, uuid: str) -> None:
    """Pauses a running VM."""
    with doing(f"pause VM {uuid} on {connection.name}"):
        _need(connection, uuid).suspend()


def need(connection: Connection, uuid: str) -> Any:
    """libvirt's own object, for the other modules of this package. Raises :class:`Gone`."""
    return _need(connection, uuid)


def _need(connection: Connection, uuid: str) -> Any:
    domain = _lookup(connection, uuid)
    if domain is None:
        raise Gone(f"VM {uuid} is not on {connection.name}", code="VM_NOT_FOUND")
    return domain


def _lookup(connection: Connection, uuid: str) -> Any | None:
    try:
        return connection.raw.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise translated(error, f"look for VM {uuid} on {connection.name}") from error


def with_chains(connection: Connection, uuid: str, disks: tuple[Disk, ...]) -> tuple[Disk, ...]:
    """The disks of a VM with the files and devices they are on; volumes by name have their path."""
    return tuple(_with_chain(connection, uuid, disk) for disk in disks)


def _with_chain(connection: Connection, uuid: str, disk: Disk) -> Disk:
    path, block = disk.path, disk.source_type == "block"
    if disk.source_type == "volume":
        pool, _, name = disk.path.partition("/")
        found = volumes.of_pool(connection, pool, name)
        if found is None:
            return disk
        path, block = found
    elif disk.source_type not in ("file", "block"):
        return disk
    if not block:
        chain = chains.chain(connection, path, disk.format)
    elif disk.device in ("disk", "lun"):
        chain = (_device(connection, uuid, disk.target, path),)
    else:
        chain = ()
    return dataclasses.replace(disk, path=path, chain=chain)


def _device(connection: Connection, uuid: str, target: str, path: str) -> Layer:
    try:
        length = int(need(connection, uuid).blockInfo(target)[0])
    except libvirt.libvirtError as error:
        failed = translated(error, f"look at {path} on {connection.name}")
        if failed.code == "HOST_UNREACHABLE":
            raise failed from error
        why = f"{path} cannot be read: {failed.cause}"
        return Layer(path=path, block=True, problem=why, problem_code="DISK_MISSING")
    return volumes.device(connection, path, length)


def _job(domain: Any) -> str:
    stats = domain.jobStats(0)
    if stats.get("type", 0) == libvirt.VIR_DOMAIN_JOB_NONE:
        return ""
    return _JOBS.get(stats.get("operation", 0), "a job")


def _agent_connected(live: str) -> bool:
    for channel in parse(live).findall("devices/channel/target"):
        if channel.get("name") == "org.qemu.guest_agent.0":
            return channel.get("state") == "connected"
    return False
