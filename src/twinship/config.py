"""Where things are and the numbers that bound them; the one place for both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Paths and limits. Times are seconds."""

    state: Path
    connect_timeout_s: float = 8.0
    list_timeout_s: float = 8.0
    keepalive_interval_s: int = 2
    keepalive_count: int = 3
    call_timeout_s: float = 30.0
    stall_s: float = 20.0
    settle_patience_s: float = 60.0
    lease_s: float = 20.0

    @property
    def database(self) -> Path:
        """The database file: hosts, operations, journal."""
        return self.state / "twinship.db"


def user_config() -> Config:
    """The configuration of whoever runs this.

    ``TWINSHIP_STATE_DIR`` names the state directory; without it root has
    ``/var/lib/twinship`` and others the XDG state directory.
    """
    if named := os.environ.get("TWINSHIP_STATE_DIR"):
        return Config(state=Path(named))
    if os.geteuid() == 0:
        return Config(state=Path("/var/lib/twinship"))
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Config(state=Path(home) / "twinship")
