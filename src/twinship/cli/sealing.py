"""``twinship seal``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from twinship.cli.completion import complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import paths, size
from twinship.cli.render import output_option, print_document, print_plan, print_table, visible
from twinship.cli.session import Session
from twinship.cli.verbs import dry_run_option, wait_option
from twinship.model.documents import listing
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.request import SealChoice, SealRequest


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which operations are done and how the guest is reached."""
    options = (
        click.option(
            "--only",
            "--operations",
            "only",
            multiple=True,
            metavar="OP,...",
            help="These instead of the default ones; defaults,OP or defaults,-OP: those, and one "
            "more or less; all.",
        ),
        click.option("--also", multiple=True, metavar="OP,...", help="These as well."),
        click.option("--except", "except_", multiple=True, metavar="OP,...", help="Not these."),
        click.option(
            "--own",
            multiple=True,
            type=click.Path(exists=True, path_type=Path),
            help="Operations of your own: a TOML file, or a directory of them.",
        ),
        click.option(
            "--key",
            "keys",
            multiple=True,
            metavar="[UUID=]FILE",
            help="For a disk that is encrypted (LUKS): the file with its passphrase.",
        ),
        click.option(
            "--recover",
            is_flag=True,
            help="Of a guest that was not shut down: write its journal back first.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def choice_of(
    only: tuple[str, ...],
    also: tuple[str, ...],
    except_: tuple[str, ...],
    own: tuple[Path, ...],
    keys: tuple[str, ...],
    recover: bool,
) -> SealChoice:
    """What these options mean."""
    wanted, more = _words("--only", only), _words("--also", also)
    less = (*_words("--except", except_), *(w[1:] for w in wanted if w.startswith("-")))
    wanted = tuple(word for word in wanted if not word.startswith("-"))
    if not wanted or "defaults" in wanted:
        more, wanted = (*more, *(word for word in wanted if word != "defaults")), ()
    return SealChoice(
        only=wanted,
        also=more,
        except_=less,
        own=tuple(str(path.resolve()) for path in own),
        keys=tuple(_key(text) for text in keys),
        recover=recover,
    )


@click.command()
@click.argument("vms", metavar="VM...", nargs=-1, shell_complete=complete_vm)
@click.option("--list", "list_", is_flag=True, help="Show all operations, and do nothing.")
@choice_options
@click.option("--undo", is_flag=True, help="Make a sealed VM's disks what they were.")
@click.option("--commit", is_flag=True, help="Keep nothing to undo it with (any more).")
@wait_option
@dry_run_option
@output_option
@click.pass_context
def seal(
    ctx: click.Context,
    vms: tuple[str, ...],
    list_: bool,
    only: tuple[str, ...],
    also: tuple[str, ...],
    except_: tuple[str, ...],
    own: tuple[Path, ...],
    keys: tuple[str, ...],
    recover: bool,
    undo: bool,
    commit: bool,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Remove from VMs' disks what makes their guests themselves: keys, ids, logs, addresses.

    The VMs have to be off; all are sealed, or none. What goes is kept beside the disks until
    --commit, so that --undo can bring it back as long as the VM was not started. --dry-run lists
    every path.

    To keep the VM as it is and seal a copy: twinship template create NAME --from VM.

    \b
    Examples:
      twinship seal --list                      all operations
      twinship seal web --dry-run               every path that would go
      twinship seal web --except logs,histories
      twinship seal web --only machine-id,ssh-hostkeys
      twinship seal web --own agents.toml
      twinship seal web --undo
    """
    choice = choice_of(only, also, except_, own, keys, recover)
    if list_:
        _list(choice, output)
        return
    if not vms:
        raise UsageError("which VM?", hint="twinship seal VM, or twinship seal --list")
    if undo and commit:
        raise UsageError("--undo and --commit exclude each other")
    controller = ctx.obj.controller
    request = SealRequest(vms=vms, choice=choice, commit=commit)
    if undo:
        plan, run = controller.unseal_plan, controller.unseal
    elif commit and len(vms) == 1 and controller.seal_pending(vms[0]):
        plan, run = controller.keep_seal_plan, controller.keep_seal
    else:
        _seal(ctx, request, wait=wait, dry_run=dry_run, output=output)
        return
    if choice != SealChoice():
        raise UsageError("what a seal did is undone or kept as a whole: nothing to choose")
    if len(vms) > 1:
        raise UsageError("--undo is for one VM at a time")
    if dry_run:
        planned = plan(vms[0])
        print_plan(planned, output)
        ctx.exit(0 if planned.feasible else 5)
    line = progress(output)
    op = run(vms[0], watch=line)
    line.close()
    finish(ctx, op, output, _told_undo)


def _seal(
    ctx: click.Context, request: SealRequest, *, wait: bool, dry_run: bool, output: str
) -> None:
    session: Session = ctx.obj
    if dry_run:
        plan = session.controller.seal_plan(request)
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = session.controller.seal(request, wait=wait, watch=line)
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    finish(ctx, op, output, _told)


def _told(op: Operation) -> None:
    for one in (op.result or {}).get("vms", []):
        told_seal(one, one["vm"])
        if one["undo"]:
            click.echo(f"  undo it: twinship seal {one['host']}/{one['vm']} --undo", err=True)


def told_seal(done: Mapping[str, Any], name: str) -> None:
    """A line that says what sealing did, and what it has to say."""
    manifest, guest = done["manifest"], done["guest"]["name"]
    click.echo(
        f"{visible(name)} is sealed ({visible(guest)}): {paths(len(manifest['entries']))}, "
        f"{size(manifest['freed_bytes'])} went, by {done['engine']}"
    )
    for note in manifest["notes"]:
        click.echo(f"  {note['operation']}: {visible(note['text'])}", err=True)


def _told_undo(op: Operation) -> None:
    result = op.result or {}
    what = "is what it was" if result["undone"] else "stays sealed"
    click.echo(f"{visible(result['vm'])} {what}")


def _list(choice: SealChoice, output: str) -> None:
    from twinship.seal.choice import known_operations, operations_of

    known = known_operations(choice)
    chosen = {row.name for row in operations_of(choice)}
    if output in ("json", "jsonl", "yaml"):
        rows = [
            {
                "name": row.name,
                "title": row.title,
                "why": row.why,
                "source": row.source,
                "default": row.default,
                "chosen": row.name in chosen,
                "families": sorted(family.value for family in row.families),
                "paths": list(row.paths),
            }
            for row in known
        ]
        print_document(listing(rows), output)
    elif output == "name":
        for row in known:
            click.echo(row.name)
    else:
        table = [[row.name, "yes" if row.name in chosen else "-", row.title] for row in known]
        headers = ["OPERATION", "DONE", "WHAT GOES"]
        if output == "wide":
            told = [[row.distributions, row.why, " ".join(row.paths)] for row in known]
            table = [[*cells, *more] for cells, more in zip(table, told, strict=True)]
            headers += ["DISTRIBUTIONS", "WHY", "PATHS"]
        print_table(headers, table)


def _words(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """What an option names; one that names nothing (an empty variable of a script) is refused."""
    words = [word.strip() for value in values for word in value.split(",")]
    if any(not word.removeprefix("-") for word in words):
        raise UsageError(
            f"{option} {values[0]!r} names no operation",
            hint="names and commas: --only machine-id,ssh-hostkeys; twinship seal --list",
        )
    return tuple(dict.fromkeys(words))


def _key(text: str) -> tuple[str, str]:
    uuid, equals, file = text.rpartition("=")
    if not equals:
        uuid, file = "", text
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"the key {file[:80]!r} is no file")
    return uuid, str(path)
