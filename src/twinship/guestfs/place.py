"""Directories to work in that do not outlive us for long: one left by a killed process goes later.

Each is held by a lock as long as its process lives, in whatever namespace; whoever needs a
directory removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "twinship-guest-"
_LOCK = "held"
_SETTLED_S = 60.0
"""A directory this young may be about to be held."""


@contextmanager
def working_directory() -> Iterator[Path]:
    """A directory of our own, for nobody else to read, while the block runs."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        place = Path(name)
        held = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield place
        finally:
            os.close(held)


def _sweep() -> None:
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            found = place.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _SETTLED_S:
                continue
            held = os.open(place / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # it went, or is nobody's we know
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(held)
