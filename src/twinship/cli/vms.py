"""``twinship vm``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import finish, progress
from twinship.cli.quantities import Duration, size
from twinship.cli.render import output_option, print_document, print_plan, print_table, visible
from twinship.cli.session import Session
from twinship.domxml.lineage import Kin, lineage_of
from twinship.domxml.sealed import sealed_of
from twinship.domxml.template import template_of
from twinship.model.documents import vm_facts_document, vms_document
from twinship.model.operation import Operation
from twinship.model.vm import VmFacts, VmState


@click.group()
def vm() -> None:
    """VMs of all hosts. A VM is named NAME, HOST/NAME, UUID or HOST/UUID."""


@vm.command("list")
@click.option("--host", shell_complete=complete_host, help="Only the VMs of this host.")
@click.option("--state", type=click.Choice([state.value for state in VmState]), help="Only these.")
@output_option
@click.pass_obj
def list_(session: Session, host: str | None, state: str | None, output: str) -> None:
    """List VMs. A host that does not answer is a row that says so (exit code 1)."""
    import dataclasses

    answers = session.controller.vm_list(host)
    if state is not None:
        answers = tuple(
            dataclasses.replace(
                answer, vms=tuple(found for found in answer.vms if found.state.value == state)
            )
            for answer in answers
        )
    if output in ("json", "jsonl", "yaml"):
        print_document(vms_document(answers), output)
    elif output == "name":
        for answer in answers:
            for found in answer.vms:
                click.echo(found.label)
    else:
        rows = []
        for answer in answers:
            for found in answer.vms:
                row = [
                    found.host,
                    found.name,
                    found.state.value.replace("_", " "),
                    str(found.vcpus),
                    size(found.memory_bytes),
                ]
                rows.append([*row, found.uuid] if output == "wide" else row)
            if answer.error:
                row = [answer.host, "-", "host unreachable", "-", "-"]
                rows.append([*row, "-"] if output == "wide" else row)
        headers = ["HOST", "NAME", "STATE", "VCPUS", "MEMORY"]
        print_table([*headers, "UUID"] if output == "wide" else headers, rows)
    for answer in answers:
        if answer.error:
            click.echo(f"{answer.host}: {answer.error}", err=True)
    if any(answer.error for answer in answers):
        click.get_current_context().exit(1)


@vm.command("show")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@output_option
@click.pass_obj
def show(session: Session, name: str, output: str) -> None:
    """Show one VM, its disks with every file they are made of."""
    facts = session.controller.vm_show(name)
    if output in ("json", "jsonl", "yaml"):
        print_document(vm_facts_document(facts), output)
    elif output == "name":
        click.echo(facts.vm.label)
    else:
        _describe(facts, session.controller.vm_family(name))


@vm.command("start")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@click.option("--wait-boot", is_flag=True, help="Wait until the guest is up.")
@click.option("--verify", is_flag=True, help="Of a linked clone: read its whole base first.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True)
@output_option
@click.pass_context
def start(
    ctx: click.Context, name: str, wait_boot: bool, verify: bool, timeout: float, output: str
) -> None:
    """Start a VM. It is refused while the VM runs on another host.

    A linked clone is refused when a file below its disks has changed; with --verify every byte is
    compared, if the clone was made with --verify as well.
    """
    session: Session = ctx.obj
    line = progress(output)
    op = session.controller.vm_start(
        name, boot_timeout_s=timeout if wait_boot else None, verify=verify, watch=line
    )
    line.close()
    finish(ctx, op, output, lambda op: _told(op, "runs"))


@vm.command("stop")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@click.option("--force", is_flag=True, help="End it at once, as a power cut would.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True)
@output_option
@click.pass_context
def stop(ctx: click.Context, name: str, force: bool, timeout: float, output: str) -> None:
    """Shut a VM down and wait until it is off."""
    session: Session = ctx.obj
    line = progress(output)
    op = session.controller.vm_stop(name, force=force, timeout_s=timeout, watch=line)
    line.close()
    finish(ctx, op, output, lambda op: _told(op, "is shut off"))


@vm.command("console")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@click.pass_obj
def console(session: Session, name: str) -> None:
    """Open a VM's text console; Ctrl-] leaves it."""
    from twinship.cli.console import attach

    connection, found = session.controller.vm_console(name)
    attach(connection, found)


@vm.command("delete")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@click.option(
    "--disks",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="What becomes of its disk files.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and touch nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@click.pass_context
def delete(
    ctx: click.Context, name: str, disks: str, dry_run: bool, yes: bool, output: str
) -> None:
    """Delete a VM that is shut off."""
    import sys

    session: Session = ctx.obj
    plan = session.controller.vm_delete_plan(name, disks=disks == "delete")
    if dry_run:
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    if plan.feasible and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        for step in plan.steps:
            click.echo(f"  {step.host}: {visible(step.title)}", err=True)
        click.confirm("Go on?", abort=True, err=True)
    line = progress(output)
    op = session.controller.vm_delete(name, disks=disks == "delete", watch=line)
    line.close()
    finish(ctx, op, output, lambda op: _told(op, "is deleted"))


@vm.command("flatten")
@click.argument("name", metavar="VM", shell_complete=complete_vm)
@click.option("--dry-run", is_flag=True, help="Print the plan and touch nothing.")
@output_option
@click.pass_context
def flatten(ctx: click.Context, name: str, dry_run: bool, output: str) -> None:
    """Make a linked clone independent of its base; it may run meanwhile."""
    session: Session = ctx.obj
    if dry_run:
        plan = session.controller.vm_flatten_plan(name)
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    op = session.controller.vm_flatten(name, watch=line)
    line.close()
    finish(ctx, op, output, lambda op: _told(op, "stands for itself"))


def _told(op: Operation, what: str) -> None:
    result = op.result or {}
    click.echo(f"{visible(str(result.get('vm')))} {what} ({result.get('host')})")


def _tree(kin: Kin, uuid: str, before: str = "", branch: str = "") -> Iterator[str]:
    """A family as a tree; the VM that was asked for is pointed at."""
    yield f"{before}{branch}{visible(kin.name)}{'  <' if kin.uuid == uuid else ''}"
    below = before + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
    for child in kin.children:
        last = child is kin.children[-1]
        yield from _tree(child, uuid, below, "└─ " if last else "├─ ")


def _describe(facts: VmFacts, kin: Kin) -> None:
    found = facts.vm
    lines = [
        ("Name", found.name),
        ("Host", found.host),
        ("UUID", found.uuid),
        ("State", found.state.value.replace("_", " ")),
        ("vCPUs", str(found.vcpus)),
        ("Memory", size(found.memory_bytes)),
        ("Defined", "yes" if found.persistent else "no (gone when it stops)"),
    ]
    if facts.pause_reason:
        lines.append(("Paused by", facts.pause_reason.replace("_", " ")))
    if facts.job:
        lines.append(("Job", facts.job))
    if facts.snapshots:
        lines.append(("Snapshots", str(facts.snapshots)))
    if facts.managed_save:
        lines.append(("Saved", "a memory image is waiting for the next start"))
    lineage = lineage_of(facts.xml)
    if lineage is not None:
        kind = "linked clone of" if lineage.bases else "clone of"
        version = f", version {lineage.version} of {lineage.template}" if lineage.template else ""
        lines.append(("Origin", f"{kind} {lineage.name}{version} ({lineage.of})"))
    if (template := template_of(facts.xml)) is not None:
        lines.append(("Template", f"{template.name}, version {template.version}"))
    if (sealed := sealed_of(facts.xml)) is not None:
        undo = ", can be undone while it is not started" if sealed.undo else ""
        lines.append(("Sealed", f"{sealed.at}{undo}"))
    for label, text in lines:
        click.echo(f"{label + ':':<12}{visible(text)}")
    if kin.children:
        click.echo("Linked:")
        for line in _tree(kin, found.uuid):
            click.echo(f"  {line}")
    for disk in facts.disks:
        kind = f"{disk.device}, {disk.bus or '?'}, {disk.format or disk.source_type}"
        click.echo(f"Disk {disk.target}: {kind}" + (" (empty)" if disk.empty else ""))
        for depth, layer in enumerate(disk.chain):
            taken = f"{size(layer.allocated_bytes)} on disk"
            if layer.header is not None:
                taken += f", {size(layer.header.virtual_bytes)} for the guest"
            branch = "  " + "   " * depth + ("└─ " if depth else "")
            click.echo(f"{branch}{visible(layer.path)}  {layer.problem or taken}")
        if not disk.chain and disk.path:
            click.echo(f"  {visible(disk.path)} ({disk.protocol or disk.source_type})")
