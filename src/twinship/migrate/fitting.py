"""Reads how a VM and the target fit: emulator, machine, CPU, devices, and who is there already."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinship.domxml import read as domread
from twinship.domxml.abilities import Abilities, abilities, host_model
from twinship.domxml.guard import unguarded
from twinship.domxml.needs import Needs
from twinship.domxml.read import DomainSummary
from twinship.domxml.resources import Held, Reach, resources
from twinship.hypervisor import hosts, traits, vms
from twinship.hypervisor.connection import Connection
from twinship.migrate.facts import Clash
from twinship.model.host import HostTraits
from twinship.model.vm import VmFacts

_OF_DISKS = ("file", "block device", "volume")
"""What the disks hold is asked of their files, by the checks of storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the target says of a machine like the VM's (as in ``MigrateFacts``)."""

    abilities: Abilities = field(default_factory=Abilities)
    emulator_problem: str = ""
    machine_problem: str = ""
    cpu_problem: str = ""
    cpu_baseline: str = ""


def fit(source: Connection, target: Connection, vm: VmFacts, summary: DomainSummary) -> Fit:
    """Asks the target for the VM's own machine; where it lacks the emulator, by the one it has."""
    machine = {
        "emulator": summary.emulator,
        "arch": summary.arch,
        "machine": summary.machine,
        "domain_type": summary.domain_type,
    }
    text, problem = hosts.capabilities_for(target, **machine)
    emulator_problem = ""
    if problem and summary.emulator:
        machine["emulator"] = ""
        text, without = hosts.capabilities_for(target, **machine)
        emulator_problem, problem = ("", without) if without == problem else (problem, without)
    if problem:
        return Fit(emulator_problem=emulator_problem, machine_problem=problem)
    found = abilities(text)
    cpu = _cpu_problem(target, vm, summary, machine)
    return Fit(
        abilities=found,
        emulator_problem=emulator_problem,
        cpu_problem=cpu,
        cpu_baseline=_baseline(source, target, summary, machine, text) if cpu else "",
    )


def _cpu_problem(
    target: Connection, vm: VmFacts, summary: DomainSummary, machine: dict[str, str]
) -> str:
    """Live: the CPU the guest was given. Shut off: a named one; others are made at each start."""
    if not summary.cpu_xml or (not vm.live_xml and summary.cpu_mode != "custom"):
        return ""
    return hosts.cpu_problem(target, cpu_xml=summary.cpu_xml, **machine)


def _baseline(
    source: Connection,
    target: Connection,
    summary: DomainSummary,
    machine: dict[str, str],
    there: str,
) -> str:
    here, problem = hosts.capabilities_for(source, **{**machine, "emulator": summary.emulator})
    models = [host_model(text) for text in (here, there) if text]
    if problem or not all(models):
        return ""
    return hosts.baseline(target, models, **machine)


def source_traits(source: Connection, summary: DomainSummary) -> HostTraits:
    """What of the source matters beside what every host shows."""
    return HostTraits(bios=traits.bios(source) if summary.domain_type == "kvm" else None)


def target_traits(
    target: Connection, summary: DomainSummary, asked: Needs, found: Fit
) -> HostTraits:
    """What of the target matters to this VM; nothing else is asked."""
    linked = any(nic.kind in ("bridge", "direct") or nic.mtu for nic in summary.nics)
    sizes = {size for size, _ in asked.huge_pages if size}
    if any(size == 0 for size, _ in asked.huge_pages):
        sizes |= set(traits.page_sizes(target)[1:2])
    return HostTraits(
        bios=traits.bios(target) if summary.domain_type == "kvm" else None,
        links=traits.links(target) if linked else None,
        devices=traits.devices(target) if asked.devices else None,
        filters=traits.filters(target) if asked.filters else None,
        free_pages=traits.free_pages(target, sizes) if sizes else None,
        machines=traits.machines(target, summary.arch) if found.machine_problem else None,
    )


def clashes(target: Connection, vm: VmFacts) -> tuple[Clash, ...]:
    """Ports, sockets, devices and the like of the target that the VM and another one there name."""
    mine = {
        held
        for held in resources(vm.live_xml or vm.inactive_xml)
        if held.reach is Reach.ON_HOST and held.kind not in _OF_DISKS
    } - _passing(vm)
    if not mine:
        return ()
    running = {one.uuid for one in vms.all_vms(target) if one.state.active}
    return tuple(
        Clash(what=str(held), name=name, running=uuid in running)
        for name, uuid, text in vms.definitions(target)
        if uuid != vm.vm.uuid
        for held in sorted(resources(unguarded(text)) & mine, key=str)
    )


def _passing(vm: VmFacts) -> set[Held]:
    """What only the running VM has, by libvirt's choice: it gets another on the target."""
    if not (vm.live_xml and vm.inactive_xml):
        return set()
    lasting = resources(vm.inactive_xml)
    kept = {disk.path for disk in domread.disks(vm.live_xml)}
    return {
        held
        for held in resources(vm.live_xml)
        if held not in lasting and held.value not in kept and held.kind != "host device"
    }
