"""``twinship template``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import paths, seconds, size
from twinship.cli.render import output_option, print_document, print_plan, print_table, visible
from twinship.cli.sealing import choice_of, choice_options, told_seal
from twinship.cli.session import Session
from twinship.cli.verbs import bandwidth_option, dry_run_option, wait_option
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.request import CloneMode, StateWay, TemplateRequest
from twinship.template.versions import TemplateVersion, template_document, templates_document


@click.group()
def template() -> None:
    """Templates: sealed copies of VMs, never started, from which VMs are cloned."""


@template.command("create")
@click.argument("name")
@click.option(
    "--from", "source", required=True, metavar="VM", shell_complete=complete_vm, help="Of this VM."
)
@click.option("--new-version", is_flag=True, help="Of a template that is there: the next one.")
@click.option("--no-seal", is_flag=True, help="Take the copy as it is.")
@choice_options
@click.option(
    "--mode",
    type=click.Choice(["auto", "full", "linked"]),
    default="auto",
    show_default=True,
    help="How the disks are copied; see twinship clone.",
)
@click.option("--pool", default="", help="The pool for its disks; default: beside the old.")
@click.option(
    "--nvram",
    type=click.Choice([way.value for way in StateWay]),
    default="copy",
    show_default=True,
    help="The firmware variables.",
)
@click.option(
    "--tpm",
    type=click.Choice([way.value for way in StateWay]),
    default="refuse",
    show_default=True,
    help="The TPM's state, with its keys.",
)
@bandwidth_option
@wait_option
@dry_run_option
@output_option
@click.pass_context
def create(
    ctx: click.Context,
    name: str,
    source: str,
    new_version: bool,
    no_seal: bool,
    only: tuple[str, ...],
    also: tuple[str, ...],
    except_: tuple[str, ...],
    own: tuple[Path, ...],
    keys: tuple[str, ...],
    recover: bool,
    mode: str,
    pool: str,
    nvram: str,
    tpm: str,
    bandwidth: int | None,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Make a template of a VM, running or shut off. The VM's own disks are only read.

    Its disks are copied (or reflinked), sealed, and made read-only; the template is never started.
    Clones of it are linked to it where that can be: twinship clone NAME --count 10 --name 'w{n}'.

    \b
    Examples:
      twinship template create debian12 --from installed
      twinship template create debian12 --from installed --dry-run     every path that would go
      twinship template create debian12 --from installed --new-version
      twinship template create golden --from kvm01/web --except logs
    """
    session: Session = ctx.obj
    choice = choice_of(only, also, except_, own, keys, recover)
    request = TemplateRequest(
        name=name,
        vm=source,
        choice=choice,
        seal=not no_seal,
        new_version=new_version,
        mode=CloneMode(mode),
        pool=pool,
        nvram_way=StateWay(nvram),
        tpm_way=StateWay(tpm),
        rate=bandwidth or 0,
    )
    if no_seal and (only or also or except_ or own):
        raise UsageError("--no-seal and operations exclude each other")
    if dry_run:
        plan = session.controller.template_plan(request)
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = session.controller.template_create(request, wait=wait, watch=line)
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    finish(ctx, op, output, _created)


def _created(op: Operation) -> None:
    result = op.result or {}
    made = result["template"]
    took = max((disk["seconds"] for disk in made["disks"]), default=0.0)
    copied = sum(disk["bytes_copied"] for disk in made["disks"])
    methods = ", ".join(dict.fromkeys(disk["method"] for disk in made["disks"])) or "no disk"
    how = f"{size(copied)} copied in {seconds(took)}" if copied else methods
    version = made["version"]
    click.echo(f"template {visible(made['name'])}, version {version}: on {made['host']} ({how})")
    if result["seal"]:
        told_seal(result["seal"], "  it")
    click.echo(f"  clone it: twinship clone {visible(made['name'])} NEW --start", err=True)


@template.command("list")
@click.option("--host", shell_complete=complete_host, help="Only those of this host.")
@output_option
@click.pass_context
def list_(ctx: click.Context, host: str | None, output: str) -> None:
    """List templates, every version, with how many VMs stand on each."""
    session: Session = ctx.obj
    versions, unseen = session.controller.template_list(host)
    if output in ("json", "jsonl", "yaml"):
        print_document(templates_document(versions, unseen), output)
    elif output == "name":
        for one in versions:
            click.echo(f"{one.host}/{one.vm_name}")
    else:
        rows = [
            [
                one.template.name,
                str(one.template.version),
                one.host,
                one.sealed.guest if one.sealed else "not sealed",
                str(len(one.children)),
                one.template.created[:10],
            ]
            + ([one.vm_name, one.uuid] if output == "wide" else [])
            for one in versions
        ]
        headers = ["TEMPLATE", "VERSION", "HOST", "GUEST", "LINKED", "CREATED"]
        print_table([*headers, "VM", "UUID"] if output == "wide" else headers, rows)
    for name, error in unseen.items():
        click.echo(f"{name}: {error.cause or error.message}", err=True)
    if unseen:
        ctx.exit(1)


@template.command("show")
@click.argument("name", shell_complete=complete_vm)
@click.option(
    "--paths", "every", is_flag=True, help="Show every path that went when it was sealed."
)
@output_option
@click.pass_obj
def show(session: Session, name: str, every: bool, output: str) -> None:
    """Show a template, its versions, what was sealed, and the VMs that stand on it."""
    versions = session.controller.template_show(name)
    if output in ("json", "jsonl", "yaml"):
        documents: list[Any] = [template_document(one) for one in versions]
        print_document({"items": documents, "next": None}, output)
        return
    if output == "name":
        for one in versions:
            click.echo(f"{one.host}/{one.vm_name}")
        return
    for number, one in enumerate(reversed(versions)):
        if number:
            click.echo()
        _describe(one, every=every)


def _describe(one: TemplateVersion, *, every: bool) -> None:
    lines = [
        ("Template", one.template.name),
        ("Version", str(one.template.version)),
        ("Host", one.host),
        ("VM", f"{one.vm_name} ({one.uuid})"),
        ("Made of", f"{one.template.source} ({one.template.of})"),
        ("Created", one.template.created),
    ]
    if one.sealed is not None:
        lines.append(("Guest", one.sealed.guest))
    for label, text in lines:
        click.echo(f"{label + ':':<10}{visible(text)}")
    for disk in one.template.disks:
        click.echo(f"Disk:     {visible(disk.path)}")
        click.echo(f"          SHA-256 of its content {disk.digest}")
    if one.children:
        click.echo(f"Linked:   {visible(', '.join(one.children))}")
    if one.sealed is None:
        click.echo("Sealed:   no")
        return
    total = sum(done.paths for done in one.sealed.done)
    click.echo(f"Sealed:   {paths(total)}")
    for done in one.sealed.done:
        click.echo(f"  {done.name:<22}{paths(done.paths):>12}  {size(done.bytes):>10}")
        for path in done.listed if every else ():
            click.echo(f"    {visible(path)}")


@template.command("delete")
@click.argument("name", shell_complete=complete_vm)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@output_option
@click.pass_context
def delete(ctx: click.Context, name: str, yes: bool, dry_run: bool, output: str) -> None:
    """Delete one version of a template, with its disks, unless a VM stands on it.

    The newest version is called as the template is; NAME-v1 is an older one.
    """
    session: Session = ctx.obj
    plan = session.controller.template_delete_plan(name)
    if dry_run:
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    if plan.feasible and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        for step in plan.steps:
            click.echo(f"  {step.host}: {visible(step.title)}", err=True)
        click.confirm("Go on?", abort=True, err=True)
    line = progress(output)
    op = session.controller.template_delete(name, watch=line)
    line.close()
    finish(ctx, op, output, lambda op: click.echo(f"{visible((op.result or {})['vm'])} is deleted"))
