"""Reads what a move's plan needs, from both hosts."""

from __future__ import annotations

from twinship.domxml import read as domread
from twinship.domxml.needs import needs
from twinship.hypervisor import hosts, vms, volumes
from twinship.hypervisor.connection import Connection
from twinship.inventory.lineage import children
from twinship.migrate import fitting
from twinship.migrate.facts import MigrateFacts
from twinship.migrate.gather_disks import files_there, gather_records, gather_storage, resolved
from twinship.migrate.places import places
from twinship.model.host import HostFacts
from twinship.model.request import MigrateRequest


def gather(
    source: Connection,
    target: Connection,
    uuid: str,
    request: MigrateRequest,
    *,
    known: tuple[HostFacts, HostFacts] | None = None,
) -> MigrateFacts:
    """All facts for moving the VM ``uuid`` from one host to the other.

    Of the request only where the VM's files shall lie is looked at, for that is where the target
    may have some.

    ``known``: what the two hosts have just shown, when many VMs are looked at.
    """
    here, there_facts = known or (hosts.facts(source), hosts.facts(target))
    vm = resolved(vms.facts(source, uuid))
    records = gather_records(source, vm)
    where = places(there_facts, vm, records.files, request)
    storage = gather_storage(source, target, vm, records, where)
    summary = domread.summary(vm.live_xml or vm.inactive_xml)
    asked = needs(vm.live_xml or vm.inactive_xml)
    fit = fitting.fit(source, target, vm, summary)
    there = vms.state(target, uuid)
    named = vms.find_by_name(target, vm.vm.name)
    return MigrateFacts(
        source=here,
        target=there_facts,
        source_record=source.record,
        target_record=target.record,
        vm=vm,
        summary=summary,
        inactive=domread.summary(vm.inactive_xml) if vm.inactive_xml else None,
        uuid_on_target=there[0] if there is not None else None,
        name_on_target=named[0] if named is not None and named[0] != uuid else "",
        machine_problem=fit.machine_problem,
        cpu_problem=fit.cpu_problem,
        files=files_there(
            source,
            target,
            (
                *(layer for disk in vm.disks for layer in disk.chain),
                *records.files,
            ),
            where,
        ),
        media={
            disk.path: volumes.find(target, where.there(disk.path)) is not None
            for disk in vm.disks
            if disk.source_type == "file" and disk.readonly and disk.path
        },
        children=tuple(child.name for child in children(source, vm)),
        needs=asked,
        abilities=fit.abilities,
        emulator_problem=fit.emulator_problem,
        cpu_baseline=fit.cpu_baseline,
        source_traits=fitting.source_traits(source, summary),
        target_traits=fitting.target_traits(target, summary, asked, fit),
        clashes=fitting.clashes(target, vm),
        block_jobs=vms.block_jobs(source, uuid) if vm.live_xml else (),
        storage=storage,
        places=where,
    )
