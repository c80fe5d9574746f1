"""What the guest has of its host: devices, files, firmware, models of QEMU's."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from twinship.domxml.needs import HostDevice
from twinship.domxml.refit import Refit
from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Cure, Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("HOST_DEVICE")
def no_host_devices(case: MigrateCase) -> Iterator[Problem]:
    """A passed-through device (PCI, SR-IOV, vGPU) is the source's own; a running guest cannot
    take it along.

    Two exceptions: one with a standby interface (``<teaming>``), which QEMU unplugs before the
    move, and a USB device of which the target has the like. An offline move finds another device
    at the same address.
    """
    for device in case.facts.needs.devices:
        where = f"{case.vm_object}/hostdev/{device.place or device.kind}"
        if case.live and device.standby:
            yield Problem(
                f"the {device.words} {device.place} is unplugged for the move: its standby "
                "interface carries on",
                hint="on the target it comes back if the device is there",
                object=where,
                severity=Severity.INFO,
            )
        elif case.live and device.kind != "usb":
            yield Problem(
                f"the VM uses a {device.words} of its host",
                hint="detach it first (virsh detach-device), or shut the VM down and move it",
                object=where,
            )
        else:
            yield from _device_there(case, device, where)


def _device_there(case: MigrateCase, device: HostDevice, where: str) -> Iterator[Problem]:
    """Whether the target has a device in the place where the definition looks for it."""
    there, target = case.facts.target_traits.devices, case.facts.target.name
    blocks = None if case.live else Severity.WARN
    named = f"{device.words} {device.place}".rstrip()
    if there is None or not device.place:
        yield Problem(
            f"the VM uses a {named}: the target needs one at the same address",
            object=where,
            severity=blocks if device.kind == "usb" else Severity.WARN,
        )
    elif device.place not in there:
        yield Problem(
            f"{target} has no {named}",
            hint="detach it (virsh detach-device --config), or plug one in there",
            object=where,
            severity=blocks,
        )
    elif case.live:
        yield Problem(
            f"the guest gets another {named} on {target}",
            hint="for the guest it is unplugged and plugged in again",
            object=where,
            severity=Severity.WARN,
        )


@ROWS.row("VM_TIED_TO_HOST")
def nothing_tied(case: MigrateCase) -> Iterator[Problem]:
    """Things a running VM cannot take along: libvirt refuses some, QEMU others while in use."""
    for words, certain in case.facts.summary.tied:
        yield Problem(
            f"the VM has {words}",
            hint="unmount and detach it first, or shut the VM down and move it offline",
            object=case.vm_object,
            severity=None if case.live and certain else Severity.WARN,
        )


@ROWS.row("HOST_FILE", Severity.UNKNOWN)
def files_of_the_host(case: MigrateCase) -> Iterator[Problem]:
    """Logs, pipes and memory files lie on the source; libvirt makes none of their directories."""
    for path in case.facts.needs.files:
        yield Problem(
            f"the VM opens {path} on its host: {posixpath.dirname(path)} has to be on "
            f"{case.facts.target.name} too, which cannot be seen from here",
            hint="make it there, or take the file out of the definition",
            object=f"{case.vm_object}/file/{path}",
        )


@ROWS.row("DEVICE_MODEL_MISSING")
def target_has_the_models(case: MigrateCase) -> Iterator[Problem]:
    """The target's QEMU must have every model of device (its domain capabilities list them)."""
    for kind, model in case.facts.needs.models:
        if case.facts.abilities.lacks(kind, model):
            offered = ", ".join(sorted(case.facts.abilities.models[kind])) or "none"
            yield Problem(
                f"QEMU on {case.facts.target.name} has no {kind} {model!r} (it has: {offered})",
                hint="install what QEMU lacks there, or give the VM another model",
                object=f"{case.vm_object}/{kind}",
                severity=None if case.live else Severity.WARN,
            )


@ROWS.row("FIRMWARE_MISSING")
def target_has_the_firmware(case: MigrateCase) -> Problem | None:
    """The target needs the firmware file the VM boots from; of a running VM the very same build.

    A host lists the files it has descriptors of (``/usr/share/qemu/firmware``). Paths differ
    between distributions. Whether two files are one build no connection shows.
    """
    needs, there = case.facts.needs, case.facts.abilities
    target, where = case.facts.target.name, f"{case.vm_object}/firmware"
    described = not there.firmwares or needs.firmware in there.firmwares
    filed = needs.firmware != "efi" or bool(there.loaders) or not there.machine
    if needs.firmware and not (described and filed):
        return Problem(
            f"{target} has no {needs.firmware} firmware",
            hint="install it there (edk2-ovmf, ovmf)",
            object=where,
            severity=None if case.live else Severity.WARN,
        )
    if not needs.loader or needs.loader in there.loaders:
        return None
    name = posixpath.basename(needs.loader)
    alike = next((p for p in sorted(there.loaders) if posixpath.basename(p) == name), "")
    if alike and not case.live:
        return Problem(
            f"{target} has the firmware {name} elsewhere",
            cure=Cure(f"it boots from {alike}", Refit.LOADER.value, needs.loader, alike),
            object=where,
            severity=Severity.WARN,
        )
    return Problem(
        f"{target} does not list the firmware {needs.loader}: whether the file is there, and the "
        "same, cannot be seen from here",
        hint="install the same firmware package on both hosts",
        object=where,
        severity=Severity.UNKNOWN,
    )


@ROWS.row("FIRMWARE_BUILD", Severity.UNKNOWN)
def firmware_of_one_build(case: MigrateCase) -> Problem | None:
    """A running guest goes on with the firmware it booted: both files should be of one build."""
    if not case.live or case.facts.needs.loader not in case.facts.abilities.loaders:
        return None
    return Problem(
        f"both hosts have {case.facts.needs.loader}; whether it is one build cannot be seen",
        hint="update the firmware package on both hosts together",
        object=f"{case.vm_object}/firmware",
    )


@ROWS.row("GUEST_PROTECTION_MISSING")
def target_protects(case: MigrateCase) -> Problem | None:
    """Memory encryption (SEV, TDX) needs a CPU of that kind; running guests are tied to theirs."""
    kind = case.facts.needs.protected
    if not kind or case.live:
        return None
    if any(kind.lower().startswith(known.lower()) for known in case.facts.abilities.protections):
        return None
    return Problem(
        f"{case.facts.target.name} does not offer {kind}: the VM would not start there",
        object=case.vm_object,
        severity=Severity.WARN,
    )


@ROWS.row("SECURITY_MODEL_MISSING")
def labels_fit(case: MigrateCase) -> Iterator[Problem]:
    """A security label needs its model (SELinux, AppArmor) on the target.

    A dynamic one is made anew at each start, so that it is left out where it does not fit.
    """
    for model, kind in case.facts.summary.security_labels:
        if model in case.facts.target.security_models:
            continue
        fixed = kind == "static"
        yield Problem(
            f"the VM has a {'fixed' if fixed else 'running'} {model} label, which "
            f"{case.facts.target.name} does not know",
            object=case.vm_object,
            severity=None if fixed else Severity.INFO,
            cure=Cure(
                f"the {model} label is left out; the target gives its own",
                Refit.LABEL.value,
                model,
                "",
                harmless=not fixed,
            ),
        )
