"""What a command is given: a controller made on first use, on the real inventory or the lab's."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from twinship.config import Config
    from twinship.controller import Controller


class Session:
    """One run of the command line."""

    def __init__(self, *, lab: bool) -> None:
        self.lab = lab
        self._controller: Controller | None = None

    @property
    def controller(self) -> Controller:
        """The controller; closed when the command ends."""
        if self._controller is None:
            self._controller = open_controller(lab=self.lab)
            click.get_current_context().call_on_close(self._controller.close)
        return self._controller

    def config(self) -> Config:
        """The configuration, without opening anything."""
        return _config(lab=self.lab)


def open_controller(*, lab: bool) -> Controller:
    """A controller on the real inventory or, for ``lab``, on the lab's own."""
    from twinship.controller import Controller

    gc.freeze()  # what has been loaded stays: not to be looked through again (10 % of a start)
    gc.enable()
    return Controller(_config(lab=lab), local=not lab)


def _config(*, lab: bool) -> Config:
    from twinship.config import configured, user_config

    if not lab:
        return user_config()
    from twinship_lab import Lab
    from twinship_lab.state import INVENTORY

    return configured(Lab().root / INVENTORY)
