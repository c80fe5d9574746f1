"""Can the target give the guest its CPU?"""

from __future__ import annotations

from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Cure, Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("CPU_INCOMPATIBLE")
def target_offers_cpu(case: MigrateCase) -> Problem | None:
    """The target must offer the CPU the running guest was given.

    Reads the live definition: ``host-model`` is expanded only there. Source:
    virConnectCompareHypervisorCPU, since libvirt 4.4.0. Of a VM that is shut off only a named
    model is looked at: the others are made of the target's own CPU at its start.
    """
    facts = case.facts
    where, target = f"{case.vm_object}/cpu", facts.target.name
    if not facts.cpu_problem:
        return None
    if facts.cpu_problem == "?":
        return Problem(
            f"{target} cannot say whether it offers this CPU",
            object=where,
            severity=Severity.UNKNOWN,
        )
    return Problem(
        f"{target} cannot give the guest its CPU: {facts.cpu_problem}",
        hint=_paste(case),
        object=where,
        severity=None if case.live else Severity.WARN,
        cure=None
        if case.live or not facts.cpu_baseline
        else Cure("its CPU becomes what both hosts have", Refit.CPU.value, "", facts.cpu_baseline),
    )


def _paste(case: MigrateCase) -> str:
    """How a guest gets a CPU that both hosts have."""
    if not case.facts.cpu_baseline:
        return "give the VM a CPU model both hosts have (virsh hypervisor-cpu-baseline)"
    name = case.facts.vm.vm.name
    when = "shut it down, " if case.live else ""
    words = " ".join(case.facts.cpu_baseline.split())
    return f"{when}virsh edit {name}, and in place of its <cpu> paste: {words}"


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
    """With host-passthrough libvirt cannot check whether the CPUs are alike; both must be equal.

    What can be seen is compared: model, vendor, microcode.
    """
    if not case.live or case.facts.summary.cpu_mode not in ("host-passthrough", "maximum"):
        return None
    source, target = case.facts.source, case.facts.target
    differ = [
        f"{what} {one or 'unknown'} and {other or 'unknown'}"
        for what, one, other in (
            ("model", source.cpu_model, target.cpu_model),
            ("microcode", source.cpu_microcode, target.cpu_microcode),
        )
        if one != other
    ]
    seen = f"; they differ in {', '.join(differ)}" if differ else "; what can be seen is equal"
    return Problem(
        f"the guest has the host's own CPU ({case.facts.summary.cpu_mode}): both hosts must be of "
        f"one kind{seen}",
        hint="a named model or host-model can be checked",
        object=f"{case.vm_object}/cpu",
    )


@ROWS.row("TSC_FREQUENCY")
def clock_counter_fits(case: MigrateCase) -> Problem | None:
    """A guest that counts on an invariant TSC needs its frequency named, and a target that has it.

    QEMU does not move a guest with ``invtsc`` otherwise (libvirt's own check); a host with TSC
    scaling can give any frequency.
    """
    if not case.live or "invtsc" not in case.facts.needs.features:
        return None
    target, wanted = case.facts.target, case.facts.needs.tsc_hz
    where = f"{case.vm_object}/cpu"
    if not wanted:
        return Problem(
            "the guest has an invariant TSC (invtsc) of no named frequency",
            hint="add <timer name='tsc' frequency='...'/> to its <clock>, or take invtsc out, and "
            "restart it",
            object=where,
        )
    if not target.tsc_hz:
        return Problem(
            f"{target.name} does not show its TSC's frequency; the guest wants {wanted} Hz",
            object=where,
            severity=Severity.UNKNOWN,
        )
    # Within 250 parts per million, as QEMU and libvirt (5.0) tolerate.
    if target.tsc_scaling or abs(target.tsc_hz - wanted) * 4000 <= wanted:
        return None
    return Problem(
        f"the guest's TSC runs at {wanted} Hz, that of {target.name} at {target.tsc_hz} Hz, and it "
        "cannot scale",
        hint="move it to a host of the same frequency, or shut it down first",
        object=where,
    )
