"""Reads what a clone's plan needs from the host."""

from __future__ import annotations

from twinship.clone.facts import CloneFacts
from twinship.domxml import read as domread
from twinship.hypervisor import hosts, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.model.request import CloneRequest


def gather(connection: Connection, uuid: str, request: CloneRequest) -> CloneFacts:
    """All facts for cloning the VM ``uuid`` of this host. Raises what reading raises."""
    source = vms.facts(connection, uuid)
    pools = {layer.pool for disk in source.file_disks for layer in disk.chain[:1] if layer.pool}
    if request.pool:
        pools.add(request.pool)
    files = {pool: volumes.names(connection, pool) for pool in sorted(pools)}
    host = hosts.facts(connection)
    everyone = vms.all_vms(connection)
    return CloneFacts(
        host=host,
        source=source,
        summary=domread.summary(source.xml),
        names=frozenset(vm.name for vm in everyone),
        uuids=frozenset(vm.uuid for vm in everyone),
        macs=vms.macs(connection) if request.macs else frozenset(),
        files=files,
    )
