"""Can the target run it: CPU, machine type, memory, devices, versions?"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Severity
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


@ROWS.row("MACHINE_TYPE_MISSING")
def target_knows_machine(case: MigrateCase) -> Problem | None:
    """The target's QEMU must know the emulator path and the machine type.

    Source: virConnectGetDomainCapabilities, asked with those of the VM.
    """
    if not case.facts.machine_problem:
        return None
    return Problem(
        f"{case.facts.target.name} cannot run this machine: {case.facts.machine_problem}",
        hint="update QEMU on the target, or give the VM a machine type both know",
        object=f"{case.vm_object}/machine",
    )


@ROWS.row("CPU_INCOMPATIBLE")
def target_offers_cpu(case: MigrateCase) -> Problem | None:
    """The target must offer the CPU the running guest was given.

    Reads the live definition: ``host-model`` is expanded only there. Source:
    virConnectCompareHypervisorCPU, since libvirt 4.4.0.
    """
    if not case.live or not case.facts.cpu_problem:
        return None
    if case.facts.cpu_problem == "?":
        return Problem(
            f"{case.facts.target.name} cannot say whether it offers this CPU",
            object=f"{case.vm_object}/cpu",
            severity=Severity.UNKNOWN,
        )
    return Problem(
        f"{case.facts.target.name} cannot give the guest its CPU: {case.facts.cpu_problem}",
        hint="restart the VM with a CPU model both hosts have (virsh hypervisor-cpu-baseline)",
        object=f"{case.vm_object}/cpu",
    )


@ROWS.row("CPU_VENDOR_DIFFERS")
def same_vendor(case: MigrateCase) -> Problem | None:
    """A running guest does not survive a change between Intel and AMD."""
    one, other = case.facts.source.cpu_vendor, case.facts.target.cpu_vendor
    if not case.live or case.facts.summary.domain_type != "kvm" or one == other:
        return None
    return Problem(
        f"the source has an {one or 'unknown'} CPU, the target {other or 'an unknown one'}",
        hint="shut the VM down and move it offline",
    )


@ROWS.row("CPU_HOST_PASSTHROUGH", Severity.WARN)
def no_passthrough_cpu(case: MigrateCase) -> Problem | None:
    """With host-passthrough libvirt cannot check whether the CPUs are alike; both must be equal."""
    if not case.live or case.facts.summary.cpu_mode != "host-passthrough":
        return None
    return Problem(
        "the guest has the host's own CPU (host-passthrough): both hosts must be of one kind",
        hint="a named model or host-model can be checked",
        object=f"{case.vm_object}/cpu",
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
def hidden_facts(case: MigrateCase) -> Problem | None:
    """The manual asks for equal kernel, microcode and BIOS settings; no connection shows them."""
    if not case.live or case.facts.summary.domain_type != "kvm":
        return None
    return Problem(
        "kernel, microcode and BIOS settings of the hosts cannot be seen from here",
        hint="hosts of one make, updated together, are safe",
    )


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


@ROWS.row("HOST_DEVICE")
def no_host_devices(case: MigrateCase) -> Iterator[Problem]:
    """A passed-through device is the source's own; a running guest cannot take it along."""
    for device in case.facts.summary.hostdevs:
        if case.live:
            yield Problem(
                f"the VM uses a {device} of its host",
                hint="detach it first (virsh detach-device), or shut the VM down and move it",
                object=f"{case.vm_object}/hostdev",
            )
        else:
            yield Problem(
                f"the VM uses a {device}: the target needs one at the same address",
                object=f"{case.vm_object}/hostdev",
                severity=Severity.WARN,
            )


@ROWS.row("VM_TIED_TO_HOST")
def nothing_tied(case: MigrateCase) -> Iterator[Problem]:
    """Things a running VM cannot take along with libvirt 9.0 (its own list of refusals)."""
    for words in case.facts.summary.tied:
        yield Problem(
            f"the VM has {words}",
            hint="unmount and detach it first, or shut the VM down and move it offline",
            object=case.vm_object,
            severity=None if case.live else Severity.WARN,
        )


@ROWS.row("TPM_STATE")
def no_tpm_state_left(case: MigrateCase) -> Problem | None:
    """The state of an emulated TPM is a file of the source; an offline move would lose it."""
    if case.live or case.facts.summary.tpm != "emulator":
        return None
    return Problem(
        "the VM has an emulated TPM, whose state an offline move cannot take along yet",
        hint="start it and move it live: then the state goes along",
        object=f"{case.vm_object}/tpm",
    )


@ROWS.row("SECURITY_MODEL_MISSING")
def labels_fit(case: MigrateCase) -> Iterator[Problem]:
    """A static security label needs its model (SELinux, AppArmor) on the target."""
    for model in case.facts.summary.security_labels:
        if model and model not in case.facts.target.security_models:
            yield Problem(
                f"the VM has a fixed {model} label, which {case.facts.target.name} does not know",
                hint="remove the <seclabel> from the definition",
                object=case.vm_object,
            )


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
