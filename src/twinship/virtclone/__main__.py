"""``python -m twinship.virtclone``."""

from __future__ import annotations

from twinship.virtclone.main import main

main()
