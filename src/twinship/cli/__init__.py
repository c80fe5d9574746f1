"""The command line. Commands load when they are used: ``twinship --help`` imports click alone."""

from __future__ import annotations

from twinship.cli.root import main

__all__ = ["main"]
