"""``twinship migrate``."""

from __future__ import annotations

import click

from twinship.cli.choosing import choose
from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import Duration, seconds, size
from twinship.cli.render import output_option, print_plan, visible
from twinship.cli.session import Session
from twinship.cli.verbs import bandwidth_option, dry_run_option, wait_option
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.request import MigrateMode, MigrateRequest, StorageWay


@click.command()
@click.argument("source", metavar="VM", shell_complete=complete_vm)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="HOST[,HOST...]",
    shell_complete=complete_host,
    help="Where it shall be; of several the best.",
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in MigrateMode]),
    default="auto",
    show_default=True,
    help="auto: live when it runs, offline when it is shut off.",
)
@click.option("--max-pause", type=Duration(), help="Longest pause at the end of a live move.")
@click.option(
    "--storage",
    type=click.Choice([way.value for way in StorageWay]),
    default="auto",
    show_default=True,
    help="auto: a disk both hosts see stays, any other is copied.",
)
@click.option("--fix", is_flag=True, help="Mend what a rewrite of its definition can mend.")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="OLD=NEW",
    help="A network, bridge or directory of disks is called NEW on the target.",
)
@click.option("--stay-defined", is_flag=True, help="Its definition stays at the source, too.")
@click.option("--temporary", is_flag=True, help="On the target only as long as it runs.")
@click.option("--verify", is_flag=True, help="Offline: compare the content of both ends.")
@bandwidth_option
@wait_option
@dry_run_option
@output_option
@click.pass_context
def migrate(
    ctx: click.Context,
    source: str,
    target: str,
    mode: str,
    max_pause: float | None,
    storage: str,
    fix: bool,
    maps: tuple[str, ...],
    stay_defined: bool,
    temporary: bool,
    verify: bool,
    bandwidth: int | None,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Move a VM to another host: running or shut off, with its disks.

    Afterwards it is defined on the target and gone from the source; the old disk files stay
    at the source, untouched.

    \b
    Examples:
      twinship migrate web --to kvm02
      twinship migrate web --to kvm02 --dry-run       what stands in the way
      twinship migrate web --to kvm02,kvm03 --dry-run     which of them is better, and why
      twinship migrate web --to kvm02 --fix --map br0=br1
      twinship migrate db --to kvm02 --max-pause 500ms --bandwidth 200MB/s
    """
    session: Session = ctx.obj
    request = MigrateRequest(
        vm=source,
        target=target,
        mode=MigrateMode(mode),
        storage=StorageWay(storage),
        fix=fix,
        maps=tuple(_pair(text) for text in maps),
        stay_defined=stay_defined,
        temporary=temporary,
        max_pause_s=max_pause,
        rate=bandwidth or 0,
        verify=verify,
    )
    targets = [name for name in target.split(",") if name]
    if not targets:
        raise UsageError("--to names no host", hint="--to kvm02")
    if len(targets) > 1:
        request = choose(ctx, request, targets, dry_run=dry_run, output=output)
    if dry_run:
        plan = session.controller.migrate_plan(request)
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = session.controller.migrate(request, wait=wait, watch=line)
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    finish(ctx, op, output, _told_move)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UsageError(f"{text[:80]!r} maps nothing", hint="--map br0=br1")
    return old, new


def _told_move(op: Operation) -> None:
    result = op.result or {}
    click.echo(f"{visible(result['vm'])} is on {result['target']} ({result['mode']})")
    facts = []
    if result["seconds"] is not None:
        facts.append(f"took {seconds(result['seconds'])}")
    if result["pause_s"] is not None:
        facts.append(f"pause {seconds(result['pause_s'])}")
    if result["pause_guest_s"] is not None:
        facts.append(f"the guest felt {seconds(result['pause_guest_s'])}")
    if result["bytes_memory"]:
        facts.append(f"memory {size(result['bytes_memory'])}")
    if result["bytes_disk"]:
        facts.append(f"disks {size(result['bytes_disk'])}")
    if facts:
        click.echo("  " + ", ".join(facts))
    for path in result["left_on_source"]:
        click.echo(f"  {result['source']} still has {visible(path)}, unchanged", err=True)
