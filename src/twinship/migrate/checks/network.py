"""Do its networks exist on the target, and can the hosts reach each other?"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("MIGRATE_ADDRESS_UNKNOWN")
def target_has_address(case: MigrateCase) -> Problem | None:
    """The source's QEMU must know where to send: an address of the target that is not loopback."""
    if case.facts.address:
        return None
    return Problem(
        f"no address of {case.facts.target.name} is known that other hosts could use",
        hint=f"add it with one: twinship host add {case.facts.target.name} URI --address IP",
        object="target",
    )


@ROWS.row("NETWORK_MISSING")
def networks_are_there(case: MigrateCase) -> Iterator[Problem]:
    """Each virtual network of the VM must exist on the target and be active."""
    for nic in case.facts.summary.nics:
        if nic.kind != "network" or not nic.source:
            continue
        network = case.facts.target.network(nic.source)
        if network is None:
            yield Problem(
                f"{case.facts.target.name} has no network {nic.source!r}",
                hint="define it there as it is on the source: virsh net-dumpxml, net-define",
                object=f"{case.vm_object}/interface/{nic.mac}",
                severity=None if case.live else Severity.WARN,
            )
        elif not network.active:
            yield Problem(
                f"network {nic.source!r} on {case.facts.target.name} is not active",
                hint=f"there: virsh net-start {nic.source}",
                object=f"{case.vm_object}/interface/{nic.mac}",
                severity=None if case.live else Severity.WARN,
            )


@ROWS.row("BRIDGE_MISSING")
def bridges_are_there(case: MigrateCase) -> Iterator[Problem]:
    """Each bridge or device an interface is joined to must exist on the target."""
    seen = case.facts.target.interfaces
    for nic in case.facts.summary.nics:
        if nic.kind not in ("bridge", "direct") or not nic.source:
            continue
        if not seen:
            yield Problem(
                f"{case.facts.target.name} does not show its network devices: "
                f"is there a {nic.source}?",
                object=f"{case.vm_object}/interface/{nic.mac}",
                severity=Severity.UNKNOWN,
            )
        elif nic.source not in seen:
            yield Problem(
                f"{case.facts.target.name} has no network device {nic.source!r}",
                hint="make the bridge there, under the same name",
                object=f"{case.vm_object}/interface/{nic.mac}",
                severity=None if case.live else Severity.WARN,
            )


@ROWS.row("PORT_FIXED", Severity.WARN)
def ports_float(case: MigrateCase) -> Iterator[Problem]:
    """A fixed graphics port may be taken on the target."""
    for port in case.facts.summary.fixed_ports:
        yield Problem(
            f"the VM's screen is on the fixed port {port}, which may be taken on the target",
            hint="set autoport='yes'",
            object=f"{case.vm_object}/graphics",
        )
