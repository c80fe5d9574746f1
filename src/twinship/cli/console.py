"""A VM's text console on this terminal."""

from __future__ import annotations

import os
import sys
import termios
import threading
import tty

import click

from twinship.hypervisor import console
from twinship.hypervisor.connection import Connection
from twinship.model.errors import UsageError
from twinship.model.vm import Vm

ESCAPE = b"\x1d"
"""Ctrl-], as virsh has it."""


def attach(connection: Connection, vm: Vm) -> None:
    """Joins terminal and console until Ctrl-], the end of input, or the VM's end."""
    if not vm.state.active:
        raise UsageError(f"{vm.label} is not running", hint=f"twinship vm start {vm.label}")
    stream = console.open_console(connection, vm.uuid)
    click.echo(f"connected to {vm.label}; Ctrl-] leaves", err=True)
    terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
    saved = termios.tcgetattr(terminal) if terminal is not None else None
    reader = threading.Thread(target=_show, args=(stream,), daemon=True)
    try:
        if terminal is not None:
            tty.setraw(terminal)
        reader.start()
        while reader.is_alive():
            typed = os.read(sys.stdin.fileno(), 1024)
            if not typed or ESCAPE in typed:
                break
            console.write(stream, typed)
    finally:
        if terminal is not None and saved is not None:
            termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
        console.close(stream)
        reader.join(1.0)
        click.echo("", err=True)


def _show(stream: object) -> None:
    while data := console.read(stream):
        os.write(sys.stdout.fileno(), data)
