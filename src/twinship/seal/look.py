"""Looks into guests without writing: what they are, what speaks against sealing, what would go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from twinship.guestfs import appliance
from twinship.guestfs.files import GuestFiles
from twinship.guestfs.inspect import Guest, GuestKind, GuestRefused, identify, problems
from twinship.guestfs.ladder import APPLIANCE, Visit, visit
from twinship.guestfs.sealing import Manifest, plan_seal
from twinship.model.plan import Finding, Severity
from twinship.model.request import SealChoice
from twinship.seal.choice import keys_of, operations_of, runs_inside
from twinship.seal.shown import Chain, shown
from twinship.transfer.steps import Hosts


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
    hosts: Hosts,
    guests: Sequence[tuple[str, Sequence[Chain]]],
    choice: SealChoice,
    *,
    thorough: bool,
) -> list[Look]:
    """Looks at these guests, each a host's name and its disks there.

    Not ``thorough``: where it takes an appliance, nothing is looked at; it would have to be started
    twice. Raises what the engines raise, but for what is a finding.
    """
    operations = operations_of(choice)

    def act(files: GuestFiles) -> Look:
        guest = identify(files)
        manifest = None
        if guest.kind is GuestKind.LINUX:
            manifest = plan_seal(files, guest, operations)
        return Look(guest=guest, manifest=manifest, findings=problems(files, guest))

    with ExitStack() as stack:
        images = [stack.enter_context(shown(hosts, host, chains)) for host, chains in guests]
        visits = visit(
            images,
            act,
            writable=False,
            keys=keys_of(choice),
            runs=runs_inside(choice),
            say=_nobody if thorough and appliance.installed() else None,
        )
    return [_seen(found, choice) for found in visits]


def _seen(found: Visit[Look], choice: SealChoice) -> Look:
    if found.value is not None:
        return replace(found.value, engine=found.engine, why=found.why)
    findings: tuple[Finding, ...] = ()
    if found.refused is not None:
        findings = (_finding(found.refused, choice),)
    elif found.engine == APPLIANCE and not appliance.installed():
        findings = (
            Finding(
                code="GUEST_ENGINE_MISSING",
                severity=Severity.BLOCK,
                message=f"libguestfs is needed and not installed here: {found.why}",
                hint="on Debian: apt install libguestfs0; on RHEL: dnf install libguestfs",
            ),
        )
    return Look(engine=found.engine, why=found.why, findings=findings)


def _finding(refused: GuestRefused, choice: SealChoice) -> Finding:
    if refused.code == "FILESYSTEM_DIRTY" and choice.recover:
        return Finding(
            code=refused.code,
            severity=Severity.INFO,
            message="the guest's journal is written back first; what goes is known afterwards",
        )
    message = refused.message + (f": {refused.cause}" if refused.cause else "")
    return Finding(code=refused.code, severity=Severity.BLOCK, message=message, hint=refused.hint)


def _nobody(_why: str) -> None:
    """A plan says it as a finding."""
