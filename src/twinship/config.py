"""Where things are and the numbers that bound them; the one place for both.

``config.toml`` in the state directory may set limits::

    [limits]        # operations at a time; what is not named keeps its default
    in = 2          # moves into one host
    out = 2         # moves out of one host
    small = 6       # of many moves in one command: those of little memory and no disk, besides
    pool = 4        # copies into one storage pool
    total = 16      # clones and moves in all
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinship.model.errors import UsageError

LIMITS: Mapping[str, int] = {"in": 2, "out": 2, "small": 6, "pool": 4, "total": 16}
"""Two moves at a time fill most links (libvirt's own advice, and Nova's default is one); more
copies into one pool than a disk has queues only slow each other down."""

LINK_WAITS_S: tuple[float, ...] = (2.0, 5.0, 15.0, 30.0)
"""How long is waited before a move or a copy whose link broke is tried again, each time. With what
an attempt over a dead link takes itself, a link may be away for a minute or two."""


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
    link_waits_s: tuple[float, ...] = LINK_WAITS_S
    limits: Mapping[str, int] = field(default_factory=lambda: dict(LIMITS))

    @property
    def database(self) -> Path:
        """The database file: hosts, operations, journal."""
        return self.state / "twinship.db"


def user_config() -> Config:
    """The configuration of whoever runs this.

    ``TWINSHIP_STATE_DIR`` names the state directory; without it root has
    ``/var/lib/twinship`` and others the XDG state directory.
    """
    return configured(_state_directory())


def configured(state: Path) -> Config:
    """The configuration with this state directory, and what its ``config.toml`` sets.

    Raises :class:`UsageError` (``CONFIG``) for a file that cannot be read or says what is unknown.
    """
    file = state / "config.toml"
    try:
        text = file.read_text()
    except FileNotFoundError:
        return Config(state=state)
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(file, str(error)) from None
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(file, str(error)) from None
    if unknown := sorted(found.keys() - {"limits"}):
        raise _bad(file, f"unknown: {', '.join(unknown)}")
    limits = found.get("limits", {})
    if not isinstance(limits, dict):
        raise _bad(file, "limits is a table: [limits]")
    if unknown := sorted(limits.keys() - LIMITS.keys()):
        raise _bad(file, f"unknown limits: {', '.join(unknown)} (known: {', '.join(LIMITS)})")
    for name, value in limits.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _bad(file, f"limit {name} has to be a whole number from 1")
    return Config(state=state, limits={**LIMITS, **limits})


def _bad(file: Path, cause: str) -> UsageError:
    return UsageError(f"cannot use {file}", code="CONFIG", cause=cause)


def _state_directory() -> Path:
    if named := os.environ.get("TWINSHIP_STATE_DIR"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/twinship")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(home) / "twinship"
