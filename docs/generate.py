"""Writes the pages of ``docs/reference`` that the program itself knows: run after a change to it.

``python docs/generate.py``; a unit test fails while a page is out of date.
"""

from __future__ import annotations

from pathlib import Path

import click

from twinship.cli.explain import TABLES
from twinship.cli.root import root
from twinship.doctor.table import TABLE as AILMENTS
from twinship.domxml.identity import TABLE as IDENTITY
from twinship.guestfs.inspect import REFUSALS
from twinship.guestfs.sealing import TABLE as SEAL

REFERENCE = Path(__file__).parent / "reference"


def command_line() -> str:
    """Every command's help."""
    sections = ["# Command line", "Printed from the program itself: `twinship COMMAND --help`."]
    for words, text in _helps(root, None, ("twinship",)):
        sections.append(f"{'##' if len(words) == 1 else '###'} {' '.join(words)}")
        sections.append(f"```\n{text}\n```")
    return "\n\n".join(sections) + "\n"


def checks() -> str:
    """Every row of every table of checks."""
    sections = [
        "# Checks",
        "Every row is asked at once, before anything is touched. "
        "`twinship explain CODE` prints the same.",
    ]
    for verb, table in TABLES.items():
        rows = [
            f"| `{row.code}` | {row.severity.value} | {' '.join(row.explanation.split())} |"
            for row in table.rows
        ]
        head = "| code | severity | what it asks |\n|---|---|---|"
        sections += [f"## {verb}", "\n".join([head, *rows])]
    rows = [f"| `{code}` | block | {why} |" for code, why in REFUSALS.items()]
    sections += ["## A guest, by seal and template create", "\n".join([head, *rows])]
    return "\n\n".join(sections) + "\n"


def identity() -> str:
    """What a clone does with each identity."""
    intro = (
        "What makes a VM that VM, and what a clone does with it. Braces list several names. "
        "Whatever two VMs still hold after that, `twinship clone --dry-run` tells for the clone's "
        "host (`CLONE_COLLISION`), and `twinship doctor` for all VMs of all hosts (`VM_COLLISION`)."
    )
    rows = [
        f"| `{row.path.replace('|', chr(92) + '|')}` | {row.action.value} | {row.why} |"
        for row in IDENTITY
    ]
    head = ["| path in the domain XML | done | why |", "|---|---|---|"]
    return "\n".join(["# Identity", "", intro, "", *head, *rows, ""])


def seal_operations() -> str:
    """What each seal operation removes, and why."""
    intro = (
        "What `twinship seal` and `twinship template create` remove from a guest or change in it. "
        "Those that are on by default are done unless `--except` names them; the others with "
        "`--also`. Where an operation depends on what is in the guest, `--dry-run` shows it.\n\n"
        "Not here: new UUIDs of filesystems. Boot loader, initial RAM disk and fstab name the old "
        "ones, and nothing is gained."
    )
    sections = ["# Seal operations", intro]
    for default, title in ((True, "On by default"), (False, "Only when asked")):
        rows = [
            f"| `{row.name}` | {row.title} | {' '.join(f'`{path}`' for path in row.paths)} "
            f"| {row.distributions} | {row.why} | {row.source} |"
            for row in SEAL
            if row.default is default
        ]
        head = "| operation | what goes | paths | distributions | why | source |\n|" + 6 * "---|"
        sections += [f"## {title}", "\n".join([head, *rows])]
    return "\n\n".join(sections) + "\n"


def doctor() -> str:
    """What the doctor looks for."""
    intro = (
        "`twinship doctor` looks over all hosts and the database for what is nobody's, and changes "
        "nothing. `--fix` mends what is certain, each looked at once more right before; the rest "
        "is named, with what a person can do, and left alone. Exits with 9 while any is left."
    )
    left = "An unfinished operation whose process is gone: it is finished or undone."
    rows = [f"| `OPERATION_LEFT` | {left} |"] + [
        f"| `{code}` | {' '.join((row.__doc__ or '').split())} |" for code, row in AILMENTS.items()
    ]
    return "\n".join(["# Doctor", "", intro, "", "| code | what it is |", "|---|---|", *rows, ""])


def _helps(
    command: click.Command, parent: click.Context | None, words: tuple[str, ...]
) -> list[tuple[tuple[str, ...], str]]:
    ctx = click.Context(
        command,
        parent=parent,
        info_name=words[-1],
        terminal_width=100,
        max_content_width=100,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(ctx).splitlines())
    found = [(words, text)]
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            if inner is not None and not inner.hidden:
                found += _helps(inner, ctx, (*words, name))
    return found


PAGES = {
    "command-line.md": command_line,
    "checks.md": checks,
    "doctor.md": doctor,
    "identity.md": identity,
    "seal-operations.md": seal_operations,
}


if __name__ == "__main__":
    for page, text in PAGES.items():
        (REFERENCE / page).write_text(text())
