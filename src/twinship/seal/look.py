"""Looks into a guest without writing: what it is, what speaks against sealing it, what would go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from twinship.guestfs import appliance, userspace
from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.image import Image
from twinship.guestfs.inspect import Guest, GuestKind, GuestRefused, identify, problems
from twinship.guestfs.sealing import Manifest, plan_seal
from twinship.model.plan import Finding, Severity
from twinship.model.request import SealChoice
from twinship.seal.choice import keys_of, operations_of, runs_inside
from twinship.seal.shown import Chain, shown
from twinship.transfer.steps import Hosts

USER_SPACE = "user space"
APPLIANCE = "appliance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen. ``engine`` reads the guest's files, ``why`` says why not the faster one.

    ``guest`` and ``manifest`` are None where nothing was looked at, or nothing can be.
    """

    engine: str = ""
    why: str = ""
    guest: Guest | None = None
    manifest: Manifest | None = None
    findings: tuple[Finding, ...] = ()


def look(
    hosts: Hosts, host: str, chains: Sequence[Chain], choice: SealChoice, *, thorough: bool
) -> Look:
    """Looks at the guest on these disks.

    Not ``thorough``: where it takes an appliance, nothing is looked at; it would have to be started
    twice. Raises what the engines raise, but for what is a finding.
    """
    with shown(hosts, host, chains) as images:
        return _look(images, choice, thorough=thorough)


def _look(images: Sequence[Image], choice: SealChoice, *, thorough: bool) -> Look:
    why = "something is to be run in the guest" if runs_inside(choice) else ""
    if not why:
        try:
            return _looked(images, choice, engine=USER_SPACE)
        except GuestRefused as refused:
            return Look(engine=USER_SPACE, findings=(_finding(refused, choice),))
        except GuestFilesError as error:
            if error.code not in ("NEEDS_APPLIANCE", "PROGRAM_MISSING"):
                raise
            why = error.cause or error.message
    if not appliance.installed():
        missing = Finding(
            code="GUEST_ENGINE_MISSING",
            severity=Severity.BLOCK,
            message=f"libguestfs is needed and not installed here: {why}",
            hint="on Debian: apt install libguestfs0; on RHEL: dnf install libguestfs",
        )
        return Look(engine=APPLIANCE, why=why, findings=(missing,))
    if not thorough:
        return Look(engine=APPLIANCE, why=why)
    try:
        return _looked(images, choice, engine=APPLIANCE, why=why)
    except GuestRefused as refused:
        return Look(engine=APPLIANCE, why=why, findings=(_finding(refused, choice),))


def _looked(images: Sequence[Image], choice: SealChoice, *, engine: str, why: str = "") -> Look:
    with ExitStack() as stack:
        if engine == USER_SPACE:
            files = stack.enter_context(userspace.opened(images, writable=False))
        else:
            opened = appliance.opened(images, writable=False, keys=keys_of(choice))
            files = stack.enter_context(opened)
        guest = identify(files)
        findings = problems(files, guest)
        manifest = None
        if guest.kind is GuestKind.LINUX:
            manifest = plan_seal(files, guest, operations_of(choice))
        return Look(engine=engine, why=why, guest=guest, manifest=manifest, findings=findings)


def _finding(refused: GuestRefused, choice: SealChoice) -> Finding:
    if refused.code == "FILESYSTEM_DIRTY" and choice.recover:
        return Finding(
            code=refused.code,
            severity=Severity.INFO,
            message="the guest's journal is written back first; what goes is known afterwards",
        )
    message = refused.message + (f": {refused.cause}" if refused.cause else "")
    return Finding(code=refused.code, severity=Severity.BLOCK, message=message, hint=refused.hint)
