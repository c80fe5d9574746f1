"""``python -m twinship``."""

from __future__ import annotations

from twinship.cli import main

main()
