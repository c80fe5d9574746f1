"""One lab of two hosts for all host tests; each test finds and leaves it clean."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.world import World
from twinship_lab import Lab
from twinship_lab.state import DEFAULT_ROOT, DIRECTORY_VARIABLE


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts; needs root."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    usual = Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_ROOT)
    with tempfile.TemporaryDirectory(prefix="tt", dir="/var/tmp") as directory:
        root = Path(directory) / "lab"
        root.mkdir(mode=0o700)
        (root / "cache").symlink_to(usual / "cache")
        made = Lab(root)
        made.up(2)
        try:
            yield made
        finally:
            made.down()


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    """The hosts with an inventory of the test's own; nothing of ours may be left at the end."""
    made = World(lab, tmp_path / "state")
    made.mend()
    made.clean()
    try:
        yield made
        made.mend()
        made.assert_nothing_left()
    finally:
        made.mend()
        made.clean()
