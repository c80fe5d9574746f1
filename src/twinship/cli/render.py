"""What is printed: data on stdout in the wanted form, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from twinship.cli.quantities import paths, seconds, size
from twinship.model.documents import error_document, operation_document, plan_document
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
    """A table: folded to the terminal's width, or as wide as its content in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    cells = [[visible(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in cells:
        table.add_row(*[Text(cell) for cell in row])
    console = Console(
        width=None if terminal else _widest(headers, cells), highlight=False, emoji=False
    )
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


_ONES_OWN_CHOICE = frozenset({"LINKED", "NOT_ASKED"})


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
        for rung in step.why_not_faster:
            if rung["code"] not in _ONES_OWN_CHOICE:
                click.echo(f"        no {rung['method']}: {visible(rung['reason'])}")
    if plan.diff:
        click.echo("  Changed in the definition:")
        for line in plan.diff.splitlines():
            click.echo(f"    {_styled(visible(line), _DIFF_COLOURS.get(line[:1], ''))}")
    if plan.manifest is not None:
        print_manifest(plan.manifest)
    lasts = f", about {seconds(plan.estimate_s)}" if plan.estimate_s is not None else ""
    click.echo(f"  To move: {size(plan.bytes)}{lasts}")
    if plan.forecast is not None:
        click.echo(f"  Forecast: {plan.forecast.verdict} ({plan.forecast.reason})")
    click.echo("  Nothing was changed." if plan.feasible else "  This cannot be done as it stands.")
    if output == "wide":
        for xml in plan.domain_xml:
            click.echo(f"  Definition of {visible(xml.name)} on {visible(xml.host)}:")
            click.echo("    " + xml.xml.rstrip().replace("\n", "\n    "))


_DIFF_COLOURS = {"-": "red", "+": "green", "@": "cyan"}
_COLOURS = {Severity.BLOCK: "red", Severity.WARN: "yellow", Severity.UNKNOWN: "yellow"}


def print_manifest(manifest: Mapping[str, Any]) -> None:
    """Every path that a seal would touch, guest by guest, by operation."""
    for guest in manifest["guests"]:
        click.echo(f"  What goes from the guest of {visible(guest['vm'])}, or is changed in it:")
        _print_guest(guest)


def _print_guest(manifest: Mapping[str, Any]) -> None:
    for total in manifest["totals"]:
        name, count = total["operation"], total["paths"]
        click.echo(f"    {name}: {paths(count)}, {size(total['freed_bytes'])}")
        for entry in manifest["entries"]:
            if entry["operation"] == name:
                amount = f"  {size(entry['bytes'])}" if entry["bytes"] else ""
                click.echo(f"      {entry['action']:<9}{visible(entry['path'])}{amount}")
    for note in manifest["notes"]:
        click.echo(f"    note, {note['operation']}: {visible(note['text'])}")


def print_checks(plan: Plan, *, err: bool = False) -> None:
    """What the checks found, the worst first, each with its cure."""
    if not plan.checks:
        click.echo("  Checks: all is well.", err=err)
        return
    click.echo("  Checks:", err=err)
    for check in plan.checks:
        word = _styled(f"{check.severity.value:<8}", _COLOURS.get(check.severity, ""))
        click.echo(f"    {word}{visible(check.message)}  [{check.code}]", err=err)
        if check.cured and check.cure is not None:
            click.echo(f"            fixed: {visible(check.cure.sentence)}", err=err)
            continue
        if check.cure is not None:
            click.echo(f"            with --fix: {visible(check.cure.sentence)}", err=err)
        if check.hint:
            click.echo(f"            {visible(check.hint)}", err=err)


class ProgressLine:
    """Shows an operation on stderr: a moving bar on a terminal, a line a phase elsewhere.

    With ``jsonl`` every change goes to stdout as a document, the result last.
    """

    def __init__(self, output: str) -> None:
        self._jsonl = output == "jsonl"
        self._moving = sys.stderr.isatty() and not self._jsonl
        self._phase = ""
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, op: Operation) -> None:
        """Takes the newest state."""
        if self._jsonl:
            if not op.state.ended:
                click.echo(json.dumps(operation_document(op), ensure_ascii=False))
            return
        phase = f"waiting: {op.waiting_for}" if op.waiting_for else op.progress.phase
        if self._moving:
            self._draw(visible(phase), op)
        elif phase and phase not in (self._phase, "done"):
            click.echo(f"  {visible(phase)}", err=True)
        self._phase = phase

    def close(self) -> None:
        """Clears the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, phase: str, op: Operation) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        progress = op.progress
        parts = [f"{progress.percent:.0f} %"] if progress.percent is not None else []
        parts.append(phase)
        if progress.bytes_total:
            parts.append(f"{size(progress.bytes_done)} of {size(progress.bytes_total)}")
        if progress.rate:
            parts.append(f"{size(progress.rate)}/s")
        if progress.eta_s:
            parts.append(f"{seconds(progress.eta_s)} left")
        total = None if progress.percent is None else 100.0
        self._bar.update(
            self._task, description="  ".join(parts), completed=progress.percent or 0, total=total
        )


def visible(text: str) -> str:
    """The text with control characters made visible, so that no name can play with a terminal."""
    return "".join(
        char if char.isprintable() or char == " " else char.encode("unicode_escape").decode()
        for char in text
    )


def _widest(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    columns = zip(headers, *rows, strict=True)
    return sum(max(cell_len(text) for text in column) + 2 for column in columns)


def _styled(text: str, style: str) -> str:
    if os.environ.get("NO_COLOR") or not style:
        return text
    return click.style(text, fg=style) if sys.stderr.isatty() else text
