"""Do its networks exist on the target, is what it holds free there, and is there a way to it?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from twinship.domxml.read import Nic
from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.model.host import data_address
from twinship.model.plan import Cure, Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()
_EVERYWHERE = ("", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost")  # noqa: S104 - looked for
_LOOPBACK = "127.0.0.1"


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
    target = case.facts.target
    for nic in case.facts.summary.nics:
        name = case.joined(nic)
        if nic.kind != "network" or not name or (name != nic.source and _is_link(case, name)):
            continue
        network = target.network(name)
        severity = None if case.live else Severity.WARN
        where = f"{case.vm_object}/interface/{nic.mac}"
        if network is None:
            yield Problem(
                f"{target.name} has no network {name!r}",
                hint="define it there as it is on the source (virsh net-dumpxml, net-define), or "
                f"name another with --map {nic.source}=NAME; there are: {_offered(case)}",
                object=where,
                severity=severity,
                cure=_only_network(case, nic),
            )
        elif not network.active:
            yield Problem(
                f"network {name!r} on {target.name} is not active",
                hint=f"there: virsh net-start {name}",
                object=where,
                severity=severity,
            )


@ROWS.row("BRIDGE_MISSING")
def bridges_are_there(case: MigrateCase) -> Iterator[Problem]:
    """Each bridge or device an interface is joined to must exist on the target."""
    target = case.facts.target
    for nic in case.facts.summary.nics:
        name = case.joined(nic)
        if nic.kind not in ("bridge", "direct") or not name or target.network(name) is not None:
            continue
        where = f"{case.vm_object}/interface/{nic.mac}"
        if not target.interfaces:
            yield Problem(
                f"{target.name} does not show its network devices: is there a {name}?",
                object=where,
                severity=Severity.UNKNOWN,
            )
        elif not _is_link(case, name):
            yield Problem(
                f"{target.name} has no network device {name!r}",
                hint="make the bridge there, under the same name, or name another with "
                f"--map {nic.source}=NAME; there are: {_offered(case)}",
                object=where,
                severity=None if case.live else Severity.WARN,
                cure=_only_network(case, nic) if nic.kind == "bridge" else None,
            )


def _is_link(case: MigrateCase, name: str) -> bool:
    return name in case.facts.target.interfaces or name in (case.facts.target_traits.links or {})


def _offered(case: MigrateCase) -> str:
    """What an interface could be joined to on the target: networks and bridges."""
    target = case.facts.target
    bridges = [name for name in target.interfaces if name.startswith(("br", "virbr", "ovs"))]
    return ", ".join([*(n.name for n in target.networks if n.active), *bridges]) or "none"


def _only_network(case: MigrateCase, nic: Nic) -> Cure | None:
    """Where the target has one network alone, nobody can mean another."""
    active = [network.name for network in case.facts.target.networks if network.active]
    if len(active) != 1 or nic.source in dict(case.request.maps):
        return None
    sentence = f"it is joined to network {active[0]!r}, the only one there"
    return Cure(sentence, Refit.NETWORK.value, nic.source, active[0])


@ROWS.row("NETWORK_DIFFERS", Severity.WARN)
def networks_are_alike(case: MigrateCase) -> Iterator[Problem]:
    """Networks of one name may be two: another way out, no such port group."""
    source, target = case.facts.source, case.facts.target
    for nic in case.facts.summary.nics:
        here, there = source.network(nic.source), target.network(case.joined(nic))
        if nic.kind != "network" or there is None:
            continue
        where = f"{case.vm_object}/interface/{nic.mac}"
        if here is not None and here.forward != there.forward:
            yield Problem(
                f"network {nic.source!r} is {here.forward or 'unknown'} on {source.name}, "
                f"{there.name!r} on {target.name} is {there.forward or 'unknown'}: the guest may "
                "not be reached at its address",
                hint="a network in which a VM moves should be one bridge on all hosts",
                object=where,
            )
        if nic.portgroup and nic.portgroup not in there.portgroups:
            yield Problem(
                f"network {there.name!r} on {target.name} has no port group {nic.portgroup!r}",
                hint="add it there: virsh net-edit",
                object=where,
            )


@ROWS.row("NETWORK_NAT", Severity.INFO)
def addresses_stay(case: MigrateCase) -> Iterator[Problem]:
    """A network of a host's own (nat, routed, isolated) is another network on another host."""
    for nic in case.facts.summary.nics:
        network = case.facts.target.network(case.joined(nic))
        if not case.live or nic.kind != "network" or network is None:
            continue
        if network.forward in ("nat", "route", "isolated", "open"):
            yield Problem(
                f"network {network.name!r} on {case.facts.target.name} is that host's own "
                f"({network.forward}): connections to the guest end, its lease is another's",
                hint="a bridge (forward mode 'bridge') keeps them",
                object=f"{case.vm_object}/interface/{nic.mac}",
            )


@ROWS.row("MTU_SMALLER", Severity.WARN)
def mtu_fits(case: MigrateCase) -> Iterator[Problem]:
    """A guest with a large MTU loses its large packets on a device with a smaller one."""
    links = case.facts.target_traits.links or {}
    for nic in case.facts.summary.nics:
        name = case.joined(nic)
        network = case.facts.target.network(name) if nic.kind == "network" else None
        there = network.mtu if network is not None else links.get(name, 0)
        if nic.mtu and there and there < nic.mtu:
            yield Problem(
                f"the guest's interface has an MTU of {nic.mtu}, {name} on "
                f"{case.facts.target.name} {there}",
                hint="raise it there, or large packets are lost",
                object=f"{case.vm_object}/interface/{nic.mac}",
            )


@ROWS.row("NWFILTER_MISSING")
def filters_are_there(case: MigrateCase) -> Iterator[Problem]:
    """An interface's network filter must be defined on the target: it does not start without."""
    known = case.facts.target_traits.filters
    for name in case.facts.needs.filters:
        if known is not None and name in known:
            continue
        told = known is not None
        yield Problem(
            f"{case.facts.target.name} has no network filter {name!r}"
            if told
            else f"{case.facts.target.name} does not show its network filters: is there {name!r}?",
            hint="here: virsh nwfilter-dumpxml, there: virsh nwfilter-define" if told else "",
            object=f"{case.vm_object}/nwfilter/{name}",
            severity=Severity.UNKNOWN if not told else None if case.live else Severity.WARN,
        )


@ROWS.row("LISTEN_ADDRESS")
def listeners_listen_there(case: MigrateCase) -> Iterator[Problem]:
    """What listens at an address of the source cannot on the target: QEMU does not start.

    Which addresses a host has libvirt does not show; known are those it was added with.
    """
    needs = case.facts.needs
    for screen in needs.screens:
        listen = Cure(f"it listens at {_LOOPBACK}", Refit.LISTEN.value, screen.address, _LOOPBACK)
        yield from _elsewhere(case, "the VM's screen", screen.address, listen)
    for address in needs.binds:
        yield from _elsewhere(case, "a port of the VM", address, None)


def _elsewhere(case: MigrateCase, what: str, address: str, cure: Cure | None) -> Iterator[Problem]:
    source, target = case.facts.source, case.facts.target
    if address in _EVERYWHERE or address == case.facts.address:
        return
    lost = address == data_address(case.facts.source_record, source.hostname)
    severity = None if case.live else Severity.WARN
    yield Problem(
        f"{what} listens at {address}"
        + (f", which is {source.name}" if lost else f": is that an address of {target.name}?"),
        hint="" if cure else "let it listen at 127.0.0.1 or 0.0.0.0: virsh edit",
        object=case.vm_object,
        severity=severity if lost else Severity.UNKNOWN,
        cure=cure,
    )


@ROWS.row("PORT_FIXED", Severity.WARN)
def ports_float(case: MigrateCase) -> Iterator[Problem]:
    """A fixed graphics port may be taken on the target."""
    for port in case.facts.summary.fixed_ports:
        yield Problem(
            f"the VM's screen is on the fixed port {port}, which may be taken on the target",
            object=f"{case.vm_object}/graphics",
            cure=Cure("libvirt chooses its port", Refit.PORT.value, str(port), ""),
        )


@ROWS.row("TARGET_COLLISION")
def nothing_is_held_there(case: MigrateCase) -> Iterator[Problem]:
    """What only one VM of a host can hold (a port, a socket, a tap device, a vsock CID) must be
    free on the target: QEMU does not start while a running VM has it."""
    clashes = sorted(case.facts.clashes, key=lambda clash: (clash.what, not clash.running))
    for what, several in groupby(clashes, key=lambda clash: clash.what):
        first = next(several)
        # Two QEMUs may have one UDP port: it is opened to be shared (measured).
        blocks = case.live and first.running and not what.startswith("UDP port")
        port = what.removeprefix("TCP port ")
        graphics = port.isdigit() and int(port) in case.facts.summary.fixed_ports
        yield Problem(
            f"{first.name} on {case.facts.target.name} has {what} too"
            f"{'' if first.running else ' (it is shut off)'}",
            hint="change one of the two: virsh edit",
            object=case.vm_object,
            severity=None if blocks else Severity.WARN,
            cure=Cure("libvirt chooses its port", Refit.PORT.value, port, "") if graphics else None,
        )
