"""Reads what sealing a VM in place depends on: the VM, its host, and what is in its guest."""

from __future__ import annotations

from dataclasses import replace

from twinship.hypervisor import hosts, vms, volumes
from twinship.inventory.lineage import children
from twinship.model.request import SealChoice
from twinship.model.vm import VmFacts
from twinship.seal.facts import SealFacts, chain_of, sound
from twinship.seal.look import look
from twinship.transfer.steps import Hosts


def gather(
    hosts_of: Hosts,
    host: str,
    uuid: str,
    choice: SealChoice,
    *,
    thorough: bool,
    looking: bool = True,
) -> SealFacts:
    """All facts. ``thorough``: an appliance is started to look, too; see :func:`look`.

    Not ``looking``: what is in the guest is not looked at.
    """
    connection = hosts_of.connection(host)
    vm = vms.facts(connection, uuid)
    facts = SealFacts(
        vm=vm,
        host=hosts.facts(connection),
        children=tuple(child.name for child in children(connection, vm)),
        files={pool: volumes.names(connection, pool) for pool in sorted(_pools(vm))},
    )
    disks = vm.file_disks
    if not looking or not disks or vm.vm.state.active or not all(sound(disk) for disk in disks):
        return facts
    chains = [chain_of(disk) for disk in disks]
    return replace(facts, look=look(hosts_of, host, chains, choice, thorough=thorough))


def _pools(vm: VmFacts) -> set[str]:
    return {disk.top.pool for disk in vm.file_disks if disk.top is not None and disk.top.pool}
