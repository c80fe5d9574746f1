"""``twinship doctor``."""

from __future__ import annotations

import click

from twinship.cli.render import output_option, print_document, visible
from twinship.cli.session import Session
from twinship.model.documents import diagnosis_document


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is certain; leave the rest alone.")
@output_option
@click.pass_context
def doctor(ctx: click.Context, fix: bool, output: str) -> None:
    """Look over all hosts for what is nobody's: leftovers, VMs that are twice, stale claims.

    Exits with 9 while something is left that is wrong.

    \b
    Examples:
      twinship doctor
      twinship doctor --fix
    """
    session: Session = ctx.obj
    found = session.controller.doctor(fix=fix)
    if output in ("json", "jsonl", "yaml"):
        print_document(diagnosis_document(found), output)
        ctx.exit(9 if found.left else 0)
    for ailment in found.ailments:
        if output == "name":
            click.echo(ailment.code)
            continue
        mark = {True: "mended", False: "not mended", None: "wrong"}[ailment.mended]
        mark = "note" if ailment.note else mark
        click.echo(f"{mark}: {visible(ailment.message)}  [{ailment.code}]")
        if not ailment.mended:
            how = "twinship doctor --fix would" if ailment.certain and not fix else "do"
            click.echo(f"  {how}: {visible(ailment.cure)}")
    click.echo(f"looked at {found.vms} VMs on {found.hosts} hosts", err=True)
    if not found.left:
        click.echo("all is well", err=True)
    ctx.exit(9 if found.left else 0)
