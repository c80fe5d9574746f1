"""What the command says: virt-clone's words where scripts may look for them."""

from __future__ import annotations

import logging
import sys

import click

from twinship.cli.quantities import seconds, size
from twinship.cli.render import visible
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, Progress
from twinship.model.plan import Plan, Severity
from twinship.operations.job import Watch

WIDTH = 76
"""A line that is written over is filled up to this."""


class Talk:
    """Output of one run: news on stdout, problems on stderr."""

    def __init__(self, *, quiet: bool = False, debug: bool = False) -> None:
        self._quiet = quiet
        self._debug = debug
        self._drawn = False
        if debug:
            logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)

    def say(self, text: str) -> None:
        """News; not when quiet."""
        if not self._quiet:
            click.echo(visible_lines(text))

    def document(self, text: str) -> None:
        """What was asked for."""
        click.echo(text.rstrip("\n"))

    def warn(self, text: str) -> None:
        """Something odd; not when quiet."""
        if not self._quiet:
            click.echo(f"WARNING  {visible(text)}", err=True)

    def warnings(self, plan: Plan) -> None:
        """What the checks warn of."""
        for check in plan.checks:
            if check.severity is Severity.WARN:
                self.warn(check.message)

    def error(self, text: str) -> None:
        """Why it did not come to be."""
        click.echo(f"ERROR    {visible(text)}", err=True)

    def failed(self, error: TwinshipError) -> None:
        """An error, with its cause and cure."""
        self.error(f"{error.message}: {error.cause}" if error.cause else error.message)
        if error.hint:
            click.echo(f"         {visible(error.hint)}", err=True)
        if self._debug:
            click.echo(f"         code: {error.code}", err=True)

    def ended(self, operation: Operation) -> None:
        """An operation that did not succeed."""
        stored = operation.error or {}
        self.failed(
            TwinshipError(
                str(stored.get("message") or operation.waiting_for or operation.title),
                code=str(stored.get("code") or "FAILED"),
                cause=str(stored.get("cause") or ""),
                hint=str(stored.get("hint") or ""),
            )
        )
        for left in operation.leftovers:
            click.echo(f"         left: {visible(left)}", err=True)
        if not operation.state.ended:
            click.echo(f"         twinship operation watch {operation.id}", err=True)

    def progress(self, files: tuple[str, ...]) -> Watch | None:
        """Says which files are made and, on a terminal, how far the copy is."""
        if self._quiet and not self._debug:
            return None
        untold = list(files)

        def watch(operation: Operation) -> None:
            phase = operation.progress.phase
            if self._debug:
                click.echo(f"{operation.id} {operation.state.value} {visible(phase)}", err=True)
            for path in [path for path in untold if phase == f"create {path}"]:
                untold.remove(path)
                self.say(f"Allocating '{path.rpartition('/')[2]}'")
            if operation.progress.bytes_total and sys.stdout.isatty() and not self._quiet:
                self._draw(operation.progress)

        return watch

    def _draw(self, now: Progress) -> None:
        """One line that is written over; plain text, for it may be shown in a browser."""
        parts = [f"{now.percent or 0:3.0f} %", f"{size(now.bytes_done)} of {size(now.bytes_total)}"]
        if now.rate:
            parts.append(f"{size(now.rate)}/s")
        if now.eta_s:
            parts.append(f"{seconds(now.eta_s)} left")
        line = f"Cloning  {'  '.join(parts)}"
        click.echo(f"\r{line:<{WIDTH}}", nl=False)
        self._drawn = True

    def end_progress(self) -> None:
        """Ends the line that is written over."""
        if self._drawn:
            click.echo()
            self._drawn = False


def visible_lines(text: str) -> str:
    """The text with control characters made visible, line by line."""
    return "\n".join(visible(line) for line in text.split("\n"))
