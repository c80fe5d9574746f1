"""Can the target run it: architecture, QEMU, machine type, versions, memory?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.model.host import NumaCell
from twinship.model.plan import Cure, Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()
GIB = 1024**3


@ROWS.row("ARCH_DIFFERS")
def same_architecture(case: MigrateCase) -> Problem | None:
    """A VM of another architecture cannot run on the target's CPU."""
    facts = case.facts
    if facts.source.arch == facts.target.arch:
        return None
    return Problem(f"the source is {facts.source.arch}, the target {facts.target.arch}")


@ROWS.row("DOMAIN_TYPE_MISSING")
def target_accelerates(case: MigrateCase) -> Problem | None:
    """A KVM guest needs KVM on the target."""
    wanted, offered = case.facts.summary.domain_type, case.facts.target.domain_types
    if wanted in offered:
        return None
    return Problem(
        f"the VM is of type {wanted}; {case.facts.target.name} offers "
        f"{', '.join(offered) or 'none'}",
        hint="see virt-host-validate on the target (is virtualization switched on in its BIOS?)",
    )


@ROWS.row("EMULATOR_MISSING")
def target_has_emulator(case: MigrateCase) -> Problem | None:
    """The definition names QEMU's path on the source; distributions put it in different places."""
    if not case.facts.emulator_problem:
        return None
    old, new = case.facts.summary.emulator, case.facts.abilities.emulator
    return Problem(
        f"{case.facts.target.name} has no {old}: {case.facts.emulator_problem}",
        cure=Cure(f"QEMU there is {new}", Refit.EMULATOR.value, old, new) if new else None,
        hint="" if new else "install QEMU there",
        object=f"{case.vm_object}/emulator",
    )


@ROWS.row("MACHINE_TYPE_MISSING")
def target_knows_machine(case: MigrateCase) -> Problem | None:
    """The target's QEMU must know the machine type.

    Source: virConnectGetDomainCapabilities, asked with that of the VM. A VM that boots on the
    target can be given the newest type of its family there; a running one cannot.
    """
    if not case.facts.machine_problem:
        return None
    machine, target = case.facts.summary.machine, case.facts.target.name
    family = _family(machine)
    known = case.facts.target_traits.machines or frozenset()
    alike = sorted((name for name in known if _family(name) == family), key=_version_of)
    cure = None
    if not case.live and alike:
        sentence = f"its machine type becomes {alike[-1]}"
        cure = Cure(sentence, Refit.MACHINE.value, machine, alike[-1])
    return Problem(
        f"{target} cannot run this machine: {case.facts.machine_problem}",
        hint="update QEMU on the target"
        + (f", or restart the VM as {alike[-1]}, which {target} knows" if alike else ""),
        object=f"{case.vm_object}/machine",
        cure=cure,
    )


@ROWS.row("HOST_OLDER", Severity.WARN)
def target_is_not_older(case: MigrateCase) -> Iterator[Problem]:
    """QEMU promises moves to the same or a newer version, not to an older one."""
    source, target = case.facts.source, case.facts.target
    for what, one, other in (
        ("libvirt", source.libvirt_version, target.libvirt_version),
        ("QEMU", source.qemu_version, target.qemu_version),
    ):
        if case.live and other < one:
            yield Problem(
                f"{what} on {target.name} is older ({_dotted(other)}) than on {source.name} "
                f"({_dotted(one)})",
                hint="move to an equal or newer version, or update the target",
            )


@ROWS.row("HOST_HARDWARE", Severity.UNKNOWN)
def hidden_facts(case: MigrateCase) -> Iterator[Problem]:
    """The manual asks for equal microcode, BIOS and kernel. Shown are the microcode's version and
    the BIOS's (its SMBIOS table); no connection shows the kernel or the BIOS's settings."""
    if not case.live or case.facts.summary.domain_type != "kvm":
        return
    source, target = case.facts.source, case.facts.target
    here, there = case.facts.source_traits.bios, case.facts.target_traits.bios
    hidden = ["the kernel", "the settings of the BIOS"]
    if here is None or there is None:
        hidden.append("its version")
    for what, one, other in (
        ("microcode", source.cpu_microcode, target.cpu_microcode),
        ("BIOS", here, there),
    ):
        if one and other and one != other:
            yield Problem(
                f"the {what} differs: {one} on {source.name}, {other} on {target.name}",
                hint="update both hosts together",
                severity=Severity.WARN,
            )
    yield Problem(
        f"{', '.join(hidden[:-1])} and {hidden[-1]} of the hosts cannot be seen from here",
        hint="hosts of one make, updated together, are safe",
    )


@ROWS.row("VCPUS_EXCEED")
def vcpus_fit(case: MigrateCase) -> Problem | None:
    """No machine has more vCPUs than its type takes; more than the host's CPUs runs, slowly."""
    wanted, most = case.facts.needs.vcpus, case.facts.abilities.max_vcpus
    target = case.facts.target
    if most and wanted > most:
        return Problem(
            f"the VM has {wanted} vCPUs, this machine type takes {most} on {target.name}",
            object=f"{case.vm_object}/vcpu",
        )
    if wanted > target.cpus:
        return Problem(
            f"the VM has {wanted} vCPUs, {target.name} {target.cpus} CPUs",
            hint="it runs, but its vCPUs take turns",
            object=f"{case.vm_object}/vcpu",
            severity=Severity.WARN,
        )
    return None


@ROWS.row("HUGE_PAGES_SHORT")
def huge_pages_fit(case: MigrateCase) -> Iterator[Problem]:
    """Memory in huge pages needs free ones of that size: QEMU does not start without."""
    free, target = case.facts.target_traits.free_pages, case.facts.target.name
    for size, needed in case.facts.needs.huge_pages:
        there = _of_size(free, size)
        if there is None:
            yield Problem(
                f"whether {target} has huge pages free cannot be seen",
                object=f"{case.vm_object}/memory",
                severity=Severity.UNKNOWN,
            )
        elif there < needed:
            count = f"{size // 1024} KiB" if size else "the default size"
            yield Problem(
                f"the VM needs {needed / GIB:.1f} GiB in huge pages of {count}, {target} has "
                f"{there / GIB:.1f} GiB of them free",
                hint="there: virsh allocpages",
                object=f"{case.vm_object}/memory",
                severity=None if case.live else Severity.WARN,
            )


def _of_size(free: Mapping[int, int] | None, size: int) -> int | None:
    """Free bytes in pages of this size; size 0 is the host's default, the only one asked for."""
    if free is None:
        return None
    return free.get(size, 0) if size else max(free.values(), default=0)


@ROWS.row("NUMA_PINNED")
def pins_exist_there(case: MigrateCase) -> Iterator[Problem]:
    """Pins name the source's own CPUs and NUMA nodes: the target must have those numbers, and
    should be built alike, says the manual."""
    needs, source, target = case.facts.needs, case.facts.source, case.facts.target
    if not target.cells:
        return
    cpus = frozenset().union(*(cell.cpus for cell in target.cells))
    nodes = frozenset(cell.number for cell in target.cells)
    for what, pinned, known in (
        ("CPU", needs.pinned_cpus, cpus),
        ("NUMA node", needs.numa_nodes, nodes),
    ):
        if missing := pinned - known:
            numbers = ", ".join(str(number) for number in sorted(missing)[:8])
            yield Problem(
                f"the VM is pinned to {what} {numbers}, which {target.name} does not have",
                hint="pin it otherwise first: virsh vcpupin, emulatorpin, numatune, edit",
                object=f"{case.vm_object}/{what}",
                severity=None if case.live else Severity.WARN,
            )
    pinned = needs.pinned_cpus or needs.numa_nodes
    if pinned and _shape(source.cells) != _shape(target.cells):
        yield Problem(
            f"the VM is pinned, and the NUMA nodes of {source.name} and {target.name} are not "
            "alike",
            hint="move it only between hosts of one topology, or its memory may be far away",
            object=case.vm_object,
            severity=Severity.WARN,
        )


def _shape(cells: Sequence[NumaCell]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((cell.number, cell.cpus) for cell in cells)


@ROWS.row("MEMORY_SHORT")
def memory_fits(case: MigrateCase) -> Problem | None:
    """The target needs as much free memory as the VM may use; caches count as free."""
    needed, free = case.facts.summary.memory_bytes, case.facts.target.memory_free_bytes
    if needed <= free:
        return None
    severity = None if case.live else Severity.WARN
    return Problem(
        f"the VM needs {needed / GIB:.1f} GiB of memory, {case.facts.target.name} has "
        f"{free / GIB:.1f} GiB free",
        hint="move or stop another VM there first",
        severity=severity,
    )


@ROWS.row("TPM_STATE")
def no_tpm_state_left(case: MigrateCase) -> Problem | None:
    """The state of an emulated TPM is a directory of the source; an offline move carries it.

    From where libvirt keeps it, that is. A live move sends it by QEMU, wherever it lies.
    """
    source = case.facts.storage.tpm_source
    if case.live or not source or case.facts.summary.tpm != "emulator":
        return None
    return Problem(
        f"the state of the VM's TPM lies in {source}, from where an offline move does not take it",
        hint="start it and move it live: then the state goes along; or copy it there",
        object=f"{case.vm_object}/tpm",
    )


def _family(machine: str) -> str:
    """``pc-q35-`` of ``pc-q35-7.2``, also of RHEL's ``pc-q35-rhel9.2.0``; aliases have none."""
    family, dash, version = machine.rpartition("-")
    if not dash or not version.removeprefix("rhel").replace(".", "").isdigit():
        return machine
    return f"{family}-"


def _version_of(machine: str) -> tuple[int, ...]:
    version = machine.rpartition("-")[2].removeprefix("rhel")
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
