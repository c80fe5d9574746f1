"""``--to`` with several hosts: shows them ranked, or takes the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from twinship.cli.quantities import size
from twinship.cli.render import print_checks, print_document, print_table, visible
from twinship.cli.session import Session
from twinship.migrate.ranking import Candidate
from twinship.model.documents import plan_document
from twinship.model.errors import CheckBlocked
from twinship.model.request import MigrateRequest


def choose(
    ctx: click.Context,
    request: MigrateRequest,
    targets: Sequence[str],
    *,
    dry_run: bool,
    output: str,
) -> MigrateRequest:
    """The request for the best of these targets; a dry run prints them all and ends.

    Raises :class:`CheckBlocked` (``NO_TARGET``) when the VM can move to none of them.
    """
    session: Session = ctx.obj
    found = session.controller.migrate_targets(request, targets)
    best = found[0]
    if dry_run:
        _print(found, output)
        ctx.exit(0 if best.feasible else 5)
    if not best.feasible:
        raise CheckBlocked(
            f"{request.vm} can move to none of these hosts",
            code="NO_TARGET",
            cause="; ".join(f"{one.host}: {one.reasons()[0]}" for one in found),
            hint="the same with --dry-run shows everything that is in the way, and its cure",
        )
    click.echo(f"  to {best.host}: {visible('; '.join(best.reasons()))}", err=True)
    return replace(request, target=best.host)


def _print(found: Sequence[Candidate], output: str) -> None:
    if output in ("json", "jsonl", "yaml"):
        items = [_document(rank, one) for rank, one in enumerate(found, 1)]
        print_document({"items": items, "next": None}, output)
        return
    if output == "name":
        for one in found:
            click.echo(one.host)
        return
    rows = [
        [
            str(rank),
            one.host,
            "yes" if one.feasible else "no",
            size(one.plan.bytes) if one.plan is not None else "-",
            "; ".join(one.reasons()),
        ]
        for rank, one in enumerate(found, 1)
    ]
    print_table(["RANK", "HOST", "CAN", "TO MOVE", "WHY"], rows)
    for one in found:
        if one.plan is not None and not one.feasible:
            click.echo(f"{one.host}:")
            print_checks(one.plan)


def _document(rank: int, one: Candidate) -> dict[str, Any]:
    return {
        "rank": rank,
        "host": one.host,
        "feasible": one.feasible,
        "reasons": list(one.reasons()),
        "memory_free_after": round(one.free_after, 3),
        "error": one.error or None,
        "plan": plan_document(one.plan) if one.plan is not None else None,
    }
