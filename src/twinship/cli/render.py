"""What is printed: data on stdout in the wanted form, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from twinship.cli.quantities import seconds, size
from twinship.model.documents import error_document, plan_document
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation
from twinship.model.plan import Plan, Severity

OUTPUTS = ("table", "wide", "json", "jsonl", "yaml", "name")


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``-o``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(OUTPUTS),
        default="table",
        show_default=True,
        help="How to print the result.",
    )(command)


def print_error(error: TwinshipError, output: str) -> None:
    """An error: words on stderr, or one JSON document on stdout."""
    if output in ("json", "jsonl"):
        click.echo(json.dumps(error_document(error), ensure_ascii=False))
        return
    click.echo(_styled("error: ", "red") + visible(error.message), err=True)
    for label, text in (("cause", error.cause), ("hint", error.hint), ("code", error.code)):
        if text:
            click.echo(f"  {label + ':':<7}{visible(text)}", err=True)


def print_document(document: Any, output: str) -> None:
    """A document as JSON (one line an item for ``jsonl``) or YAML."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    elif output == "jsonl":
        items = document.get("items", [document]) if isinstance(document, dict) else document
        for item in items:
            click.echo(json.dumps(item, ensure_ascii=False))
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table as wide as its content; the last column is never padded."""
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(_width(text) for text in column) for column in zip(headers, *cells, strict=True)]
    click.echo(_styled(_line(headers, widths), "bold"))
    for row in cells:
        click.echo(_line(row, widths))


def print_plan(plan: Plan, output: str) -> None:
    """A plan for people, or as a document."""
    if output in ("json", "jsonl", "yaml"):
        print_document(plan_document(plan), output)
        return
    if output == "name":
        for step in plan.steps:
            click.echo(step.id)
        return
    click.echo(f"Plan: {visible(plan.title)}")
    print_checks(plan)
    click.echo("  Steps:")
    for number, step in enumerate(plan.steps, 1):
        amount = f"  ({size(step.bytes)})" if step.bytes else ""
        click.echo(f"    {number:>2}. {visible(step.host)}: {visible(step.title)}{amount}")
    click.echo(f"  To move: {size(plan.bytes)}")
    if plan.forecast is not None:
        click.echo(f"  Forecast: {plan.forecast.verdict} ({plan.forecast.reason})")
    click.echo("  Nothing was changed." if plan.feasible else "  This cannot be done as it stands.")
    if output == "wide":
        for xml in plan.domain_xml:
            click.echo(f"  Definition of {visible(xml.name)} on {visible(xml.host)}:")
            click.echo("    " + xml.xml.rstrip().replace("\n", "\n    "))


_COLOURS = {Severity.BLOCK: "red", Severity.WARN: "yellow", Severity.UNKNOWN: "yellow"}


def print_checks(plan: Plan, *, err: bool = False) -> None:
    """What the checks found, the worst first, each with its cure."""
    if not plan.checks:
        click.echo("  Checks: all is well.", err=err)
        return
    click.echo("  Checks:", err=err)
    for check in plan.checks:
        word = _styled(f"{check.severity.value:<8}", _COLOURS.get(check.severity, ""))
        click.echo(f"    {word}{visible(check.message)}  [{check.code}]", err=err)
        if check.hint:
            click.echo(f"            {visible(check.hint)}", err=err)


class ProgressLine:
    """Shows an operation on stderr: a moving line on a terminal, a line a phase elsewhere.

    With ``jsonl`` every change goes to stdout as a document, the result last.
    """

    def __init__(self, output: str) -> None:
        self._jsonl = output == "jsonl"
        self._moving = sys.stderr.isatty() and not self._jsonl
        self._phase = ""
        self._drawn = False

    def __call__(self, op: Operation) -> None:
        """Takes the newest state."""
        from twinship.model.documents import operation_document

        if self._jsonl:
            if not op.state.ended:
                click.echo(json.dumps(operation_document(op), ensure_ascii=False))
            return
        progress = op.progress
        phase = op.waiting_for if op.state.value == "waiting" else progress.phase
        if op.state.value == "waiting":
            phase = f"waiting: {phase}"
        if self._moving:
            self._draw(self._text(phase, op))
        elif phase and phase != self._phase and phase != "done":
            click.echo(f"  {visible(phase)}", err=True)
        self._phase = phase

    def close(self) -> None:
        """Clears the moving line."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _text(self, phase: str, op: Operation) -> str:
        progress = op.progress
        parts = [f"{progress.percent:3.0f} %" if progress.percent is not None else "  … "]
        parts.append(visible(phase))
        if progress.bytes_total:
            parts.append(f"{size(progress.bytes_done)} of {size(progress.bytes_total)}")
        if progress.rate:
            parts.append(f"{size(progress.rate)}/s")
        if progress.eta_s:
            parts.append(f"{seconds(progress.eta_s)} left")
        return "  ".join(parts)

    def _draw(self, text: str) -> None:
        width = max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
        sys.stderr.write("\r\x1b[K" + text[:width])
        sys.stderr.flush()
        self._drawn = True


def visible(text: str) -> str:
    """The text with control characters made visible, so that no name can play with a terminal."""
    return "".join(
        char if char.isprintable() or char == " " else char.encode("unicode_escape").decode()
        for char in text
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _styled(text: str, style: str) -> str:
    if os.environ.get("NO_COLOR") or not style:
        return text
    if style == "bold":
        return click.style(text, bold=True) if sys.stdout.isatty() else text
    return click.style(text, fg=style) if sys.stderr.isatty() else text
