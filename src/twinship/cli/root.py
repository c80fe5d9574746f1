"""The root command: its subcommands by name, and what becomes of every error."""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import signal
import sys
from types import FrameType

import click

from twinship import __version__
from twinship.cli.session import Session
from twinship.model.errors import TwinshipError

COMMANDS: dict[str, tuple[str, str]] = {
    "host": ("twinship.cli.hosts:host", "Hosts: add, list, show, check, remove."),
    "vm": ("twinship.cli.vms:vm", "VMs of all hosts: list, show, start, stop, console, delete."),
    "clone": ("twinship.cli.cloning:clone", "Copy a VM, with an identity of its own."),
    "seal": ("twinship.cli.sealing:seal", "Remove a guest's identity from its disks."),
    "template": ("twinship.cli.templates:template", "Templates: create, list, show, delete."),
    "migrate": (
        "twinship.cli.migrating:migrate",
        "Move a VM to another host, running or shut off.",
    ),
    "operation": ("twinship.cli.operations:operation", "What was done, is under way, or stuck."),
    "doctor": ("twinship.cli.doctor:doctor", "Find what is nobody's on all hosts, and mend it."),
    "database": ("twinship.cli.database:database", "Back up, restore and check the database."),
    "explain": ("twinship.cli.explain:explain", "What a check or error code means."),
    "lab": ("twinship.cli.lab:lab", "Real KVM hosts on this one machine, for trying things."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, with did-you-mean."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the everyday ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Adds "did you mean" to an unknown command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=2) if args else []
            if near:
                raise click.UsageError(
                    f"{error.message} Did you mean {' or '.join(near)}?", ctx
                ) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it without a second machine: twinship lab up, then twinship --lab host list.",
)
@click.version_option(__version__, prog_name="twinship")
@click.option("--lab", is_flag=True, help="Work on the lab's hosts; the real inventory stays out.")
@click.pass_context
def root(ctx: click.Context, lab: bool) -> None:
    """Clones KVM virtual machines and moves them between hosts, over plain libvirt.

    A VM is named NAME, HOST/NAME, UUID or HOST/UUID. Every changing command takes --dry-run,
    which prints the plan and touches nothing.
    """
    ctx.obj = Session(lab=lab)


def main() -> None:
    """The entry point: turns every error into words on stderr and an exit code."""
    gc.disable()  # until all is loaded, see open_controller
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    session_output = _wanted_output(sys.argv[1:])
    try:
        code = root.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        if session_output in ("json", "jsonl"):
            _fail(TwinshipError(error.format_message(), code="USAGE"), session_output)
        else:
            error.show()
        sys.exit(error.exit_code)
    except TwinshipError as error:
        _fail(error, session_output)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(error: TwinshipError, output: str) -> None:
    from twinship.cli.render import print_error

    print_error(error, output)


def _wanted_output(arguments: list[str]) -> str:
    """The value of ``-o`` anywhere on the line: errors of parsing have to honour it, too."""
    for position, argument in enumerate(arguments):
        if argument in ("-o", "--output") and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--output="):
            return argument.partition("=")[2]
        if argument.startswith("-o") and len(argument) > 2:
            return argument[2:].lstrip("=")
    return "table"
