"""How a command that ran an operation ends: what is printed, and the exit code."""

from __future__ import annotations

from collections.abc import Callable

import click

from twinship.cli.render import ProgressLine, print_document, print_error, visible
from twinship.model import errors
from twinship.model.documents import operation_document
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, OperationState

_KINDS: dict[str, type[TwinshipError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TwinshipError)
}


def finish(
    ctx: click.Context, op: Operation, output: str, tell: Callable[[Operation], None]
) -> None:
    """Prints the operation's end and leaves with its exit code (DESIGN §4)."""
    code = exit_code(op)
    if output in ("json", "jsonl", "yaml"):
        print_document(operation_document(op), output)
    elif output == "name":
        click.echo(op.id)
    elif op.state is OperationState.SUCCEEDED:
        tell(op)
    elif not op.state.ended:
        _still_running(op)
    else:
        print_error(_error(op), output)
        click.echo(f"  state: {_state_words(op)}", err=True)
        for text in op.leftovers:
            click.echo(f"  left:  {visible(text)}", err=True)
    ctx.exit(code)


def exit_code(op: Operation) -> int:
    """The exit code an operation's state means."""
    match op.state:
        case OperationState.SUCCEEDED:
            return 7 if _partly(op) else 0
        case OperationState.CANCELLED:
            return 130
        case OperationState.NEEDS_ATTENTION:
            return 9
        case OperationState.FAILED:
            return _error(op).exit_code
        case OperationState.QUEUED:
            return 0
        case _:
            return 8


def accepted(op: Operation, output: str) -> None:
    """What ``--no-wait`` prints."""
    if output in ("json", "jsonl", "yaml"):
        print_document(operation_document(op), output)
    elif output == "name":
        click.echo(op.id)
    else:
        click.echo(f"accepted: operation {op.id} ({visible(op.title)})")
        click.echo(f"follow it: twinship operation watch {op.id}", err=True)


def progress(output: str) -> ProgressLine:
    """The progress display fit for an output."""
    return ProgressLine(output)


def _partly(op: Operation) -> bool:
    result = op.result or {}
    clones = result.get("clones", [])
    return bool(result.get("failed")) or any(clone.get("start_error") for clone in clones)


def _error(op: Operation) -> TwinshipError:
    stored = op.error or {"message": "the operation failed", "code": "FAILED"}
    kind = _KINDS.get(str(stored.get("kind")), TwinshipError)
    return kind(
        str(stored["message"]),
        code=str(stored["code"]),
        cause=str(stored.get("cause") or ""),
        hint=str(stored.get("hint") or ""),
    )


def _state_words(op: Operation) -> str:
    match op.state:
        case OperationState.CANCELLED:
            return f"cancelled and undone (operation {op.id})"
        case OperationState.NEEDS_ATTENTION:
            return f"not undone: {op.waiting_for} (operation {op.id})"
        case _:
            return f"undone, nothing is left behind (operation {op.id})"


def _still_running(op: Operation) -> None:
    click.echo(f"operation {op.id} is waiting: {visible(op.waiting_for)}", err=True)
    for text in op.leftovers:
        click.echo(f"  left for now: {visible(text)}", err=True)
    click.echo(
        f"  it goes on by itself once the host answers: twinship operation watch {op.id}", err=True
    )
