"""``twinship database``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from twinship.cli.quantities import size
from twinship.cli.render import visible
from twinship.cli.session import Session
from twinship.model.errors import TwinshipError


@click.group()
def database() -> None:
    """The database of hosts and operations: back it up, restore it, check it."""


@database.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(session: Session, file: Path) -> None:
    """Write a copy of the database to FILE, while others work on.

    \b
    Example:
      twinship database backup /backup/twinship-monday.db
    """
    written = session.controller.database_backup(file)
    click.echo(f"{visible(str(file))}: {size(written)}")


@database.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(session: Session, file: Path, yes: bool) -> None:
    """Put the backup FILE in the place of the database; the old one is kept beside it.

    Refused while an operation is unfinished. VMs and disks are not touched. What the backup shows
    at work calls for you: go on with it, or undo it, by hand (operation resume ID).
    """
    import sys

    from twinship.operations.owner import alive
    from twinship.store.upkeep import restore as put_back

    config = session.config()
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(f"Replace {config.database}?", abort=True, err=True)
    restored = put_back(config.database, file, datetime.now(UTC), alive)
    click.echo(f"{config.database} is what {visible(str(file))} holds")
    if restored.kept is not None:
        click.echo(f"  the old one: {restored.kept}", err=True)
    for operation in restored.shelved:
        click.echo(f"  operation {operation} was at work: see operation show {operation}", err=True)


@database.command("check")
@click.pass_obj
def check(session: Session) -> None:
    """Check the whole database, indices included."""
    damage = session.controller.database_damage()
    if damage:
        raise TwinshipError("the database is damaged", code="DATABASE", cause=damage)
    click.echo("the database is sound")


@database.command("prune")
@click.option("--days", default=30, show_default=True, type=click.IntRange(0))
@click.pass_obj
def prune(session: Session, days: int) -> None:
    """Forget operations that ended long ago. After 30 days that happens by itself."""
    gone = session.controller.database_prune(datetime.now(UTC) - timedelta(days=days))
    click.echo(f"{gone} operations forgotten")
