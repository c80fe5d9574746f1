"""Options that every changing verb has."""

from __future__ import annotations

import click

from twinship.cli.quantities import Rate

wait_option = click.option(
    "--wait/--no-wait", default=True, help="Wait for the end, or leave a worker process behind."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan and touch nothing.")
bandwidth_option = click.option(
    "--bandwidth", type=Rate(), metavar="RATE", help="The most to use, in all: 50MB/s."
)
