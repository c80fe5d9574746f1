"""Reads what sealing VMs in place depends on: each VM, its host, and what is in its guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinship.hypervisor import hosts, vms, volumes
from twinship.inventory.inventory import Inventory
from twinship.inventory.standing import standing
from twinship.model.request import SealChoice
from twinship.model.vm import VmFacts
from twinship.seal.facts import SealFacts, chain_of, sound
from twinship.seal.look import look


def gather(
    inventory: Inventory,
    wanted: Sequence[tuple[str, str]],
    choice: SealChoice,
    *,
    thorough: bool,
    looking: bool = True,
) -> tuple[SealFacts, ...]:
    """All facts of these VMs, each a host's name and a UUID.

    ``thorough``: an appliance is started to look, too; see :func:`look`. Not ``looking``: what is
    in the guests is not looked at.
    """
    found = [_facts(inventory, host, uuid) for host, uuid in wanted]
    fit = [
        number
        for number, facts in enumerate(found)
        if facts.vm.file_disks
        and not facts.vm.vm.state.active
        and all(sound(disk) for disk in facts.vm.file_disks)
    ]
    if not looking or not fit:
        return tuple(found)
    guests = [
        (found[number].host.name, [chain_of(disk) for disk in found[number].vm.file_disks])
        for number in fit
    ]
    looks = look(inventory, guests, choice, thorough=thorough)
    for number, seen in zip(fit, looks, strict=True):
        found[number] = replace(found[number], look=seen)
    return tuple(found)


def _facts(inventory: Inventory, host: str, uuid: str) -> SealFacts:
    connection = inventory.connection(host)
    vm = vms.facts(connection, uuid)
    # First, for it has libvirt look at the pools again: how much is free is as of then.
    files = {pool: volumes.names(connection, pool) for pool in sorted(_pools(vm))}
    return SealFacts(
        vm=vm,
        host=hosts.facts(connection),
        children=standing(inventory, vm).names,
        files=files,
    )


def _pools(vm: VmFacts) -> set[str]:
    return {disk.top.pool for disk in vm.file_disks if disk.top is not None and disk.top.pool}
