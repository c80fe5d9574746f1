"""Reads what starting or deleting a VM depends on."""

from __future__ import annotations

from twinship.hypervisor import vms
from twinship.inventory.inventory import Inventory
from twinship.inventory.lineage import changes
from twinship.inventory.standing import standing
from twinship.lifecycle.plan import DeleteCase, StartCase
from twinship.model.vm import Vm


def start_case(inventory: Inventory, vm: Vm, *, whole: bool = False) -> StartCase:
    """The VM, and whether one of its UUID is active on another host.

    ``whole``: files below its disks are compared from end to end, where a digest was kept.
    """
    answers = inventory.vms()
    twins = [t for answer in answers for t in answer.vms if t.uuid == vm.uuid and t.host != vm.host]
    connection = inventory.connection(vm.host)
    facts = vms.facts(connection, vm.uuid)
    return StartCase(
        vm=facts,
        active_elsewhere=tuple(twin.host for twin in twins if twin.state.active),
        unseen=tuple(answer.host for answer in answers if answer.error),
        children=standing(inventory, facts).names,
        changed=changes(connection, facts, whole=whole),
    )


def delete_case(inventory: Inventory, vm: Vm, *, disks: bool, template: bool = False) -> DeleteCase:
    """The VM, and which of its disk files another VM of the host uses too."""
    connection = inventory.connection(vm.host)
    facts = vms.facts(connection, vm.uuid)
    mine = {disk.path for disk in facts.file_disks}
    used: set[str] = set()
    for other in vms.all_vms(connection) if disks else ():
        if other.uuid == vm.uuid:
            continue
        for disk in vms.facts(connection, other.uuid).disks:
            used |= mine & {disk.path, *(layer.path for layer in disk.chain)}
    found = standing(inventory, facts)
    return DeleteCase(
        vm=facts,
        delete_disks=disks,
        shared=tuple(sorted(used)),
        children=found.names,
        unseen=found.unseen,
        template=template,
    )
