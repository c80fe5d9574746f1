"""Reads what a clone's plan needs: the source from its host, the rest from the clone's."""

from __future__ import annotations

from dataclasses import replace

from twinship.clone.disks import choice_of, way_of
from twinship.clone.facts import CloneFacts
from twinship.clone.from_file import source_of
from twinship.domxml import read as domread
from twinship.domxml.resources import Owner, resources
from twinship.hypervisor import hosts, networks, snapshots, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import template_changes
from twinship.model.host import HostFacts, data_address
from twinship.model.request import CloneRequest, DiskWay
from twinship.model.vm import SnapshotFacts, VmFacts
from twinship.transfer import reflink


def gather(source: Connection, target: Connection, uuid: str, request: CloneRequest) -> CloneFacts:
    """All facts for cloning the VM ``uuid`` of ``source`` to ``target``, often the same host.

    ``uuid`` is not looked at for a source that is a definition in a file. Raises what reading
    raises.
    """
    file = request.definition_file
    vm = now = source_of(source, file) if file else vms.facts(source, uuid)
    snapshot = snapshots.read(source, uuid, request.snapshot) if request.snapshot else None
    if snapshot is not None:
        vm = _then(source, now, snapshot)
    host = hosts.facts(target)
    network = _network(vm, request) if request.address or request.address_range else ""
    across = target.name != source.name
    pools = _pools(vm, host, request)
    everyone = vms.all_vms(target)
    seen, refused = ({}, {}) if across else _reflinks(source, vm, host, request)
    files = {pool: volumes.names(target, pool) for pool in sorted(pools)}
    return CloneFacts(
        host=_with_room(target, host, pools),
        source=vm,
        summary=domread.summary(vm.xml),
        names=frozenset(found.name for found in everyone),
        uuids=frozenset(found.uuid for found in everyone),
        macs=vms.macs(target) if request.macs or request.mac_range else frozenset(),
        files=files,
        there=frozenset(
            choice.path
            for choice in request.disks
            if choice.path and volumes.find(target, choice.path) is not None
        ),
        seen_here=frozenset(seen),
        no_reflink=refused,
        held=_held(target, vm),
        network=network,
        addresses=networks.taken(target, network) if network else frozenset(),
        snapshot=snapshot,
        chains={disk.target: tuple(layer.path for layer in disk.chain) for disk in now.disks},
        template_changes=template_changes(source, vm.xml, whole=request.verify),
        across=across,
        address=data_address(target.record, host.hostname) if across else "",
    )


def _then(connection: Connection, now: VmFacts, snapshot: SnapshotFacts) -> VmFacts:
    """The VM with the definition and the disks of a snapshot."""
    disks = vms.with_chains(connection, now.vm.uuid, domread.disks(snapshot.xml))
    return replace(now, inactive_xml=snapshot.xml, disks=disks)


_RENEWED = frozenset(
    {
        *("MAC address", "generation id", "Open vSwitch interface id", "802.1Qbg instance id"),
        *("file", "block device", "volume", "network disk"),
    }
)


def _held(connection: Connection, vm: VmFacts) -> tuple[Owner, ...]:
    """What the VMs of a host hold; not read for a source that has nothing to collide with.

    Files are told by the checks of the disks; a floppy is a file nobody copies.
    """
    floppy = any(disk.device == "floppy" and not disk.readonly for disk in vm.disks)
    if not floppy and all(held.kind in _RENEWED for held in resources(vm.xml)):
        return ()
    return tuple(
        Owner(host=connection.name, name=name, uuid=uuid, holds=resources(text))
        for name, uuid, text in vms.definitions(connection)
    )


def _network(vm: VmFacts, request: CloneRequest) -> str:
    """The libvirt network of the clone's first interface; empty for a bridge, or none."""
    said = next(((join, name) for index, join, name in request.nics if index == 0), None)
    if said is not None:
        return said[1] if said[0] == "network" else ""
    nics = domread.summary(vm.xml).nics
    return nics[0].source if nics and nics[0].kind == "network" else ""


def _pools(vm: VmFacts, host: HostFacts, request: CloneRequest) -> set[str]:
    """The pools the clone's disks may go to, as far as they are there."""
    wanted = {request.pool} if request.pool else set()
    for disk in vm.disks:
        path = choice_of(disk, request).path
        if path:
            found = host.pool_at(path.rpartition("/")[0])
            wanted |= {found.name} if found is not None else set()
        elif way_of(disk, request) is DiskWay.COPY and disk.top is not None and disk.top.pool:
            wanted.add(disk.top.pool)
    return wanted & {pool.name for pool in host.pools}


def _with_room(connection: Connection, host: HostFacts, pools: set[str]) -> HostFacts:
    """The host with what is free in these pools now that libvirt has looked at them again."""
    return replace(
        host,
        pools=tuple(
            replace(pool, available_bytes=volumes.pool_room(connection, pool.name))
            if pool.name in pools and pool.active
            else pool
            for pool in host.pools
        ),
    )


def _reflinks(
    connection: Connection, vm: VmFacts, host: HostFacts, request: CloneRequest
) -> tuple[dict[str, bool], dict[str, str]]:
    """Which of the source's files this process sees, and why they cannot be reflinked."""
    seen: dict[str, bool] = {}
    refused: dict[str, str] = {}
    for disk in vm.disks:
        if way_of(disk, request) is not DiskWay.COPY or disk.top is None or disk.top.problem:
            continue
        if disk.on_device:
            continue
        if not reflink.seen_here(connection, disk.top.path):
            continue
        seen[disk.top.path] = True
        directory = choice_of(disk, request).path.rpartition("/")[0]
        pool = next((p for p in host.pools if p.name == (request.pool or disk.top.pool)), None)
        where = directory or (pool.path if pool is not None else "")
        if where and (why := reflink.refusal(disk.top.path, where)):
            refused[disk.top.path] = why
    return seen, refused
