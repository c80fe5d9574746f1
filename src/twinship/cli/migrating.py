"""``twinship migrate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from twinship.cli.choosing import choose
from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import Duration, seconds, size
from twinship.cli.render import output_option, print_document, print_plan, visible
from twinship.cli.session import Session
from twinship.cli.verbs import bandwidth_option, dry_run_option, wait_option
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.plan import Plan
from twinship.model.request import MigrateMode, MigrateRequest, PostCopyWay, StorageWay


@click.command()
@click.argument("vms", metavar="VM...", nargs=-1, shell_complete=complete_vm)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="HOST[,HOST...]",
    shell_complete=complete_host,
    help="Where it shall be; of several the best.",
)
@click.option("--all", "everything", is_flag=True, help="With --from: every VM of a host.")
@click.option(
    "--from", "source", default="", metavar="HOST", shell_complete=complete_host, help="With --all."
)
@click.option("--keep-going", is_flag=True, help="Of many: go on with the others if one fails.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in MigrateMode]),
    default="auto",
    show_default=True,
    help="auto: live when it runs, offline when it is shut off.",
)
@click.option("--max-pause", type=Duration(), help="Longest pause at the end of a live move.")
@click.option(
    "--post-copy",
    type=click.Choice([way.value for way in PostCopyWay]),
    default="never",
    show_default=True,
    help="Go on there before all memory is there: allow, if it does not get there otherwise; "
    "prefer, after one round.",
)
@click.option(
    "--storage",
    type=click.Choice([way.value for way in StorageWay]),
    default="auto",
    show_default=True,
    help="auto: a disk both hosts see stays, any other goes along, upon its backing files; "
    "copy: a live move makes one file of it.",
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
    vms: tuple[str, ...],
    target: str,
    everything: bool,
    source: str,
    keep_going: bool,
    mode: str,
    max_pause: float | None,
    post_copy: str,
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
    """Move VMs to another host: running or shut off, with their disks.

    Afterwards a VM is defined on the target and gone from the source; the old disk files stay
    at the source, untouched. Of many, the first failure stops the rest; what has arrived stays.

    \b
    Examples:
      twinship migrate web --to kvm02
      twinship migrate web --to kvm02 --dry-run       what stands in the way
      twinship migrate web --to kvm02,kvm03 --dry-run     which of them is better, and why
      twinship migrate web --to kvm02 --fix --map br0=br1
      twinship migrate web --to kvm02 --map /var/lib/libvirt/images=/srv/vms
      twinship migrate db --to kvm02 --max-pause 500ms --bandwidth 200MB/s
      twinship migrate db --to kvm02 --post-copy allow    it arrives however busy it is
      twinship migrate web-1 web-2 db --to kvm02
      twinship migrate --all --from kvm01 --to kvm02 --keep-going
    """
    session: Session = ctx.obj
    _refuse_odd(vms, everything=everything, source=source, target=target)
    many = everything or len(vms) > 1
    request = MigrateRequest(
        vm="" if many else vms[0],
        target=target,
        mode=MigrateMode(mode),
        storage=StorageWay(storage),
        fix=fix,
        maps=tuple(_pair(text) for text in maps),
        stay_defined=stay_defined,
        temporary=temporary,
        max_pause_s=max_pause,
        post_copy=PostCopyWay(post_copy),
        rate=bandwidth or 0,
        verify=verify,
    )
    targets = [name for name in target.split(",") if name]
    if not targets:
        raise UsageError("--to names no host", hint="--to kvm02")
    if many and len(targets) > 1:
        raise UsageError("many VMs move to one host at a time", hint=f"--to {targets[0][:60]}")
    if len(targets) > 1:
        request = choose(ctx, request, targets, dry_run=dry_run, output=output)
    controller = session.controller
    if dry_run:
        plan = (
            controller.migrate_many_plan(request, vms, source=source, keep_going=keep_going)
            if many
            else controller.migrate_plan(request)
        )
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = (
            controller.migrate_many(
                request, vms, source=source, keep_going=keep_going, wait=wait, watch=line
            )
            if many
            else controller.migrate(request, wait=wait, watch=line)
        )
    finally:
        line.close()
    if op is None:
        _told_nothing(controller.migrate_many_plan(request, source=source), source, output)
        return
    if not wait:
        accepted(op, output)
        return
    finish(ctx, op, output, _told_moves if many else _told_move)


def _refuse_odd(vms: tuple[str, ...], *, everything: bool, source: str, target: str) -> None:
    """Raises :class:`UsageError` for what cannot be meant together."""
    said = " ".join(vms)
    if everything and vms:
        raise UsageError(
            f"--all and {said[:80]!r} exclude each other",
            hint="name VMs, or move all of a host: --all --from HOST",
        )
    if everything and not source:
        raise UsageError("--all of which host?", hint="--all --from HOST")
    if source and not everything:
        named = f"; a VM of it is named {source[:60]}/{vms[0][:60]}" if vms else ""
        raise UsageError(
            "--from is for --all", hint=f"did you mean --all --from {source[:60]}?{named}"
        )
    if everything and source == target:
        raise UsageError(f"--from and --to both name {source[:60]}", hint="name another host")
    if not everything and not vms:
        raise UsageError(
            "which VM is to be moved?", hint="name some, or all of a host: --all --from HOST"
        )


def _told_nothing(plan: Plan, source: str, output: str) -> None:
    """A host from which nothing is to be moved is no error: it is as it was asked for."""
    left = plan.spec["left"]
    if output in ("json", "jsonl", "yaml"):
        print_document({"vms": [], "failed": [], "left": left}, output)
        return
    why = "only VMs that stay" if left else "no VMs"
    click.echo(f"{source} has {why}: nothing to move", err=True)
    _told_left(left)


def _told_left(left: list[dict[str, Any]]) -> None:
    for each in left:
        said = f"{each['vm']} stays on {each['host']}: {each['reason']}"
        click.echo(f"  {visible(said)}", err=True)


def _told_moves(op: Operation) -> None:
    result = op.result or {}
    for moved in result["vms"]:
        _told_result(moved)
    for lost in result["failed"]:
        error = lost["error"] or {}
        click.echo(f"{visible(lost['vm'])} was not moved: {error.get('message')}", err=True)
        for word in ("cause", "hint"):
            if error.get(word):
                click.echo(f"  {word}: {visible(str(error[word]))}", err=True)
    if result["failed"]:
        click.echo("what has arrived stays there: moving it back is a move of its own", err=True)
    _told_left(result["left"])


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UsageError(f"{text[:80]!r} maps nothing", hint="--map br0=br1")
    return old, new


def _told_move(op: Operation) -> None:
    _told_result(op.result or {})


def _told_result(result: Mapping[str, Any]) -> None:
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
    if result.get("post_copy"):
        times = result["recoveries"]
        mended = f"; a broken link was mended {times} times" if times > 1 else ""
        mended = "; a broken link was mended once" if times == 1 else mended
        click.echo(f"  it went over to post-copy{mended}")
    for path in result["left_on_source"]:
        click.echo(f"  {result['source']} still has {visible(path)}, unchanged", err=True)
