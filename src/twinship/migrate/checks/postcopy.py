"""May the move go over to post-copy, and what does that risk?"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.migrate.checks.case import MigrateCase
from twinship.model.plan import Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("POST_COPY_RISK", Severity.WARN)
def needs_both_hosts(case: MigrateCase) -> Problem | None:
    """In post-copy the guest runs on the target while part of its memory is still at the source.

    If a host is lost then, the guest's memory is lost; it starts again from its disks. A broken
    link is another matter: the guest stands still until the link is back, and goes on by itself.
    """
    if not case.may_post_copy:
        return None
    return Problem(
        "if a host is lost while the move is in post-copy, the VM's memory is lost; after a broken "
        "link it goes on by itself, and stands still until then",
        hint="without --post-copy a move that fails leaves the VM as it was",
        object=case.vm_object,
    )


@ROWS.row("POST_COPY_UNUSABLE")
def can_fetch_its_memory(case: MigrateCase) -> Iterator[Problem]:
    """Post-copy needs memory whose missing pages QEMU is told of (userfaultfd).

    It is not told of those of a file on a disk, nor of what a passed-through device touches.
    """
    if not case.may_post_copy:
        return
    needs, hint = case.facts.needs, "move it without --post-copy"
    for device in needs.devices:
        if device.kind != "usb" and not device.standby:
            yield Problem(
                f"a {device.words} reads and writes memory that would not be there yet",
                hint=hint,
                object=case.vm_object,
            )
    if ("memory source", "file") in needs.models:
        yield Problem(
            "the VM's memory is a file: post-copy cannot fetch its pages",
            hint=hint,
            object=case.vm_object,
        )
    if needs.huge_pages:
        yield Problem(
            "the VM's memory lies in huge pages: each is fetched whole, and both hosts must have "
            "pages of that size; whether their QEMU can is not to be seen",
            hint=hint,
            object=case.vm_object,
            severity=Severity.UNKNOWN,
        )
    for host in (case.facts.source, case.facts.target):
        if not host.privileged:
            yield Problem(
                f"libvirt on {host.name} runs without root: whether it may use userfaultfd "
                "cannot be seen",
                hint="use the system connection (qemu:///system), or allow it: sysctl "
                "vm.unprivileged_userfaultfd=1",
                object=case.vm_object,
                severity=Severity.UNKNOWN,
            )
