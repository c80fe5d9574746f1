"""``twinship explain``."""

from __future__ import annotations

import difflib
from typing import Any

import click

from twinship.clone.checks import TABLE as CLONE
from twinship.guestfs.inspect import REFUSALS
from twinship.lifecycle.flatten import FLATTEN
from twinship.lifecycle.plan import DELETE, START
from twinship.migrate.checks import TABLE as MIGRATE
from twinship.migrate.checks.together import TOGETHER
from twinship.model import errors
from twinship.model.errors import NotFound, TwinshipError
from twinship.planning.checks import CheckTable
from twinship.seal.checks import TABLE as SEAL
from twinship.seal.undo import UNDO
from twinship.template.checks import TABLE as TEMPLATE

TABLES: dict[str, CheckTable[Any]] = {
    "clone": CLONE,
    "migrate": MIGRATE,
    "migrate of many": TOGETHER,
    "vm start": START,
    "vm delete": DELETE,
    "vm flatten": FLATTEN,
    "seal": SEAL,
    "seal --undo": UNDO,
    "template create": TEMPLATE,
}


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Say what a check or error code means. Without CODE: list them all."""
    texts = _texts()
    if code is None:
        for name in sorted(texts):
            click.echo(f"{name:<26}{texts[name].splitlines()[0]}")
        return
    if code.upper() not in texts:
        near = difflib.get_close_matches(code.upper(), texts, n=3)
        raise NotFound(
            f"no check or error has the code {code[:60]!r}",
            code="CODE_NOT_FOUND",
            hint=f"did you mean {' or '.join(near)}?" if near else "list them: twinship explain",
        )
    click.echo(texts[code.upper()])


def _texts() -> dict[str, str]:
    texts = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, TwinshipError):
            texts[kind.default_code] = f"{kind.__doc__} Exit code {kind.exit_code}."
    for verb, table in TABLES.items():
        for row in table.rows:
            text = f"{row.explanation}\n\nA check of {verb}; severity {row.severity.value}."
            texts[row.code] = f"{texts[row.code]}\n\n{text}" if row.code in texts else text
    for code, why in REFUSALS.items():
        texts[code] = f"{why}\n\nSeen in the guest by seal and template create; severity block."
    return texts
