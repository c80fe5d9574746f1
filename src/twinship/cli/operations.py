"""``twinship operation``."""

from __future__ import annotations

from datetime import datetime

import click

from twinship.cli.outcome import finish, progress
from twinship.cli.quantities import seconds
from twinship.cli.render import output_option, print_document, print_table, visible
from twinship.cli.session import Session
from twinship.model.documents import event_document, listing, operation_document
from twinship.model.operation import Operation


@click.group()
def operation() -> None:
    """What was done, what is under way, and what a killed process left."""


@operation.command("list")
@click.option("--unfinished", is_flag=True, help="Only those that have not ended.")
@click.option("--children", is_flag=True, help="Also those that are part of another.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@output_option
@click.pass_obj
def list_(session: Session, unfinished: bool, children: bool, limit: int, output: str) -> None:
    """List operations, the newest first."""
    found = session.controller.operation_list(unfinished=unfinished, children=children, limit=limit)
    if output in ("json", "jsonl", "yaml"):
        print_document(listing([operation_document(op) for op in found]), output)
    elif output == "name":
        for op in found:
            click.echo(op.id)
    else:
        rows = [
            [op.id, op.state.value.replace("_", " "), _when(op.created), _took(op), op.title]
            for op in found
        ]
        print_table(["ID", "STATE", "CREATED", "TOOK", "WHAT"], rows)
    orphans = session.controller.operation_orphans()
    for op in orphans:
        click.echo(
            f"operation {op.id} has lost its process: twinship operation resume {op.id}", err=True
        )


@operation.command("show")
@click.argument("operation_id", metavar="ID")
@output_option
@click.pass_obj
def show(session: Session, operation_id: str, output: str) -> None:
    """Show one operation: state, result, error, and its history."""
    op = session.controller.operation_show(operation_id)
    if output in ("json", "jsonl", "yaml"):
        print_document(operation_document(op), output)
        return
    if output == "name":
        click.echo(op.id)
        return
    lines = [
        ("Id", op.id),
        ("What", op.title),
        ("State", op.state.value.replace("_", " ")),
        ("User", op.user),
        ("Created", op.created.astimezone().strftime("%Y-%m-%d %H:%M:%S")),
        ("Took", _took(op)),
    ]
    if op.parent:
        lines.append(("Part of", op.parent))
    if op.children:
        lines.append(("Parts", f"{len(op.children)} (twinship operation list --children)"))
    if op.waiting_for:
        lines.append(("Waiting", op.waiting_for))
    if op.error is not None:
        lines.append(("Error", f"{op.error['message']} [{op.error['code']}]"))
        for key in ("cause", "hint"):
            if op.error.get(key):
                lines.append((key.capitalize(), str(op.error[key])))
    lines += [("Left", text) for text in op.leftovers]
    for label, text in lines:
        click.echo(f"{label + ':':<10}{visible(text)}")
    click.echo()
    _print_log(session, operation_id)


@operation.command("log")
@click.argument("operation_id", metavar="ID")
@output_option
@click.pass_obj
def log(session: Session, operation_id: str, output: str) -> None:
    """Print an operation's history."""
    if output in ("json", "jsonl", "yaml"):
        events = session.controller.operation_log(operation_id)
        print_document(listing([event_document(event) for event in events]), output)
        return
    _print_log(session, operation_id)


@operation.command("watch")
@click.argument("operation_id", metavar="ID")
@output_option
@click.pass_context
def watch(ctx: click.Context, operation_id: str, output: str) -> None:
    """Follow an operation of any process to its end; Ctrl-C only stops watching."""
    session: Session = ctx.obj
    line = progress(output)
    try:
        op = session.controller.operation_watch(operation_id, line)
    finally:
        line.close()
    finish(ctx, op, output, _told)


@operation.command("cancel")
@click.argument("operation_id", metavar="ID")
@output_option
@click.pass_obj
def cancel(session: Session, operation_id: str, output: str) -> None:
    """Ask an operation to cancel and undo."""
    op = session.controller.operation_cancel(operation_id)
    if output in ("json", "jsonl", "yaml"):
        print_document(operation_document(op), output)
    else:
        click.echo(f"asked operation {op.id} to cancel", err=True)


@operation.command("resume")
@click.argument("operation_id", metavar="ID")
@click.option("--patience", type=click.IntRange(0), help="Seconds to wait for a dead host.")
@output_option
@click.pass_context
def resume(ctx: click.Context, operation_id: str, patience: int | None, output: str) -> None:
    """Go on with an operation whose process is gone: it is finished or undone."""
    session: Session = ctx.obj
    line = progress(output)
    try:
        op = session.controller.operation_resume(operation_id, patience_s=patience, watch=line)
    finally:
        line.close()
    finish(ctx, op, output, _told)


@operation.command("work", hidden=True)
@click.argument("operation_id", metavar="ID")
@click.pass_obj
def work(session: Session, operation_id: str) -> None:
    """Go on with an operation as its worker, for as long as it takes. Started by --no-wait."""
    session.controller.operation_work(operation_id)


def _told(op: Operation) -> None:
    click.echo(f"done: {visible(op.title)} ({_took(op)})")


def _print_log(session: Session, operation_id: str) -> None:
    events = session.controller.operation_log(operation_id)
    rows = []
    for event in events:
        words = ", ".join(
            f"{key}: {value}" for key, value in event.data.items() if value not in (None, {}, [])
        )
        at = event.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        rows.append([at, event.kind.replace("_", " "), event.phase, words])
    print_table(["AT", "EVENT", "PHASE", "DETAILS"], rows)


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%m-%d %H:%M:%S")


def _took(op: Operation) -> str:
    if op.started is None or op.ended is None:
        return "-"
    return seconds((op.ended - op.started).total_seconds())
