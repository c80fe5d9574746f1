"""Checks of a clone: who the clone is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from twinship.clone.checks.case import CloneCase
from twinship.clone.settings import problems, settings_of
from twinship.domxml.carrier import QEMU_NAMESPACE
from twinship.domxml.document import parse
from twinship.domxml.resources import Owner, Reach, collisions, resources
from twinship.model.plan import Severity
from twinship.model.request import StateWay
from twinship.planning import names
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[CloneCase] = CheckTable()
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ARGUMENTS = f"{{{QEMU_NAMESPACE}}}commandline"
_TPM_STATE = "devices/tpm/backend[@type='emulator']/source"
_TOLD_ELSEWHERE = ("host device", "block device", "volume", "network disk")
"""Kinds that other rows speak of: of host devices, and of disks that are shared."""


@ROWS.row("CLONE_NAME_INVALID")
def name_is_allowed(case: CloneCase) -> Problem | None:
    """The new name must be one that libvirt and a file system take.

    Source: libvirt's own rule (no slash, no newline), and 255 bytes for a file name.
    """
    why = names.problem(case.name)
    if not why:
        return None
    return Problem(
        f"{case.name[:60]!r} cannot be a VM's name: {why}",
        hint="choose another name",
        object="name",
    )


@ROWS.row("CLONE_NAME_TAKEN")
def name_is_free(case: CloneCase) -> Problem | None:
    """The new name must be free on the host."""
    if case.name not in case.facts.names:
        return None
    free = names.free_clone_name(case.name, case.facts.names)
    return Problem(
        f"a VM named {case.name!r} is already on {case.facts.host.name}",
        hint=f"choose another name, for example {free}",
        object=f"vm/{case.name}",
    )


@ROWS.row("CLONE_UUID_INVALID")
def uuid_is_one(case: CloneCase) -> Problem | None:
    """What is given as the new UUID must be one, or libvirt takes no definition with it."""
    if _UUID.fullmatch(case.uuid):
        return None
    return Problem(f"{case.uuid[:60]!r} is no UUID", hint="leave out --uuid", object="uuid")


@ROWS.row("CLONE_UUID_TAKEN")
def uuid_is_free(case: CloneCase) -> Problem | None:
    """The new UUID must be free on the host."""
    if case.uuid not in case.facts.uuids:
        return None
    return Problem(
        f"the UUID {case.uuid} is already in use", hint="leave out --uuid", object="uuid"
    )


@ROWS.row("CLONE_MAC_COUNT")
def macs_fit(case: CloneCase) -> Problem | None:
    """No more MAC addresses than interfaces; fewer are filled up with random ones."""
    given, there = len(case.request.macs), len(case.facts.summary.nics)
    if given <= there:
        return None
    return Problem(
        f"{given} MAC addresses are given, but the VM has {there} interfaces", object="mac"
    )


@ROWS.row("CLONE_MAC_TAKEN")
def macs_are_free(case: CloneCase) -> Iterator[Problem]:
    """A MAC address already used by a VM of the host would be on the link twice."""
    given = [mac.lower() for mac in case.request.macs]
    for mac in dict.fromkeys(given):
        if mac in case.facts.macs:
            yield Problem(f"the MAC address {mac} is already in use", object="mac")
        elif given.count(mac) > 1:
            yield Problem(f"the MAC address {mac} is given twice", object="mac")


@ROWS.row("CLONE_SETTING")
def settings_fit(case: CloneCase) -> Iterator[Problem]:
    """What the clone shall have otherwise must fit what its definition says elsewhere."""
    settings = settings_of(case.request, case.name)
    for error in problems(case.facts.source.xml, settings):
        why = f"{error.message}: {error.cause}" if error.cause else error.message
        yield Problem(why, hint=error.hint, object=f"vm/{case.name}")


@ROWS.row("TPM_STATE")
def tpm_state_is_decided(case: CloneCase) -> Problem | None:
    """A TPM holds keys: a copy has the source's, a fresh one opens nothing that was sealed to it.

    Neither is safe to do unasked. A state in use cannot be copied.
    """
    if not case.facts.summary.tpm:
        return None
    way, running = case.request.tpm_way, case.facts.source.vm.state.active
    if way is StateWay.REFUSE:
        return Problem(
            "the VM has a TPM: shall the clone have its keys, or a TPM of its own?",
            hint="--tpm fresh (a guest that keeps its disk's key in it will ask for the recovery "
            "key), or --tpm copy",
            object="tpm",
        )
    if way is StateWay.COPY and case.facts.summary.tpm != "emulator":
        return Problem(
            "a TPM of the host itself cannot be copied", hint="--tpm fresh", object="tpm"
        )
    if way is StateWay.COPY and parse(case.facts.source.xml).find(_TPM_STATE) is not None:
        return Problem(
            "the TPM's state is not where libvirt keeps it by itself: it is not copied",
            hint="--tpm fresh",
            object="tpm",
        )
    if way is StateWay.COPY and running:
        return Problem(
            "the TPM's state is in use", hint="shut the VM down, or --tpm fresh", object="tpm"
        )
    return None


@ROWS.row("NVRAM_STATE")
def firmware_variables_are_decided(case: CloneCase) -> Problem | None:
    """Firmware variables are copied, for the boot entries in them, unless it is refused."""
    if not case.facts.summary.nvram or case.request.nvram_way is not StateWay.REFUSE:
        return None
    return Problem(
        "the VM has firmware variables (NVRAM)",
        hint="--nvram copy or --nvram fresh",
        object="nvram",
    )


@ROWS.row("CLONE_ADDRESS")
def address_can_be_reserved(case: CloneCase) -> Problem | None:
    """An address is reserved in the libvirt network of the clone's first interface."""
    address = case.request.address
    if not address:
        return None
    if not case.facts.network:
        return Problem(
            "the clone's first interface is in no libvirt network: none can reserve an address",
            hint="--network 0=NAME, or set the address in the guest",
            object="address",
        )
    if address in case.facts.addresses:
        return Problem(f"{address} is taken in network {case.facts.network}", object="address")
    return None


@ROWS.row("CLONE_COLLISION")
def nothing_is_held_twice(case: CloneCase) -> Iterator[Problem]:
    """What the clone would hold must not be another VM's on its host.

    An identity blocks; a resource of the host (a port, a socket, a file) warns: only one of the two
    can run at a time. ``twinship doctor`` looks at all VMs of all hosts.
    """
    if not case.definition or not case.facts.held:
        return
    disks = {disk.path for disk in case.facts.source.disks if disk.device != "floppy"}
    clone = Owner(
        host=case.facts.host.name, name="", uuid=case.uuid, holds=resources(case.definition)
    )
    for collision in collisions((*case.facts.held, clone)):
        held, other = collision.held, collision.one
        told_elsewhere = held.kind in _TOLD_ELSEWHERE
        told_elsewhere |= held.kind == "file" and held.value in disks
        if collision.other is not clone or told_elsewhere:
            continue
        everywhere = held.reach is Reach.ANYWHERE
        yield Problem(
            f"the clone and {other.name} hold the same {held}",
            hint="" if everywhere else "only one of the two can run at a time",
            object=f"vm/{other.name}",
            severity=None if everywhere else Severity.WARN,
        )


@ROWS.row("HOST_DEVICE", Severity.WARN)
def host_devices_are_said(case: CloneCase) -> Iterator[Problem]:
    """A passed-through device can be used by one running VM at a time."""
    for device in case.facts.summary.hostdevs:
        yield Problem(f"the clone names the same {device}: only one of the two can run at a time")


@ROWS.row("QEMU_ARGUMENTS", Severity.WARN)
def own_arguments_are_said(case: CloneCase) -> Problem | None:
    """QEMU's own arguments may name files, sockets and ports: libvirt does not look into them."""
    if not case.definition or parse(case.definition).find(_ARGUMENTS) is None:
        return None
    return Problem(
        "the clone has the same QEMU arguments (qemu:commandline): what they name is shared",
        hint="virsh edit, if they name a file, a socket or a port",
        object=f"vm/{case.name}",
    )
