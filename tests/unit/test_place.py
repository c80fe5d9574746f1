"""Working directories: gone with their process, sooner or later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from twinship.guestfs.place import working_directory

HOLD = """
import sys, time
from twinship.guestfs.place import working_directory
with working_directory() as place:
    print(place, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def aged(place: Path) -> None:
    os.utime(place, (1, 1))


def test_what_a_killed_process_left_goes_and_what_is_held_stays(temporary: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as dead,
        subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as alive,
    ):
        assert dead.stdout is not None
        assert alive.stdout is not None
        left, held = Path(dead.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        (left / "file").write_text("x")
        aged(left)
        aged(held)
        foreign = temporary / "twinship-guest-foreign"
        foreign.mkdir()
        aged(foreign)

        with working_directory() as own:
            assert own.parent == temporary
            assert not left.exists()
            assert held.exists()
            assert foreign.exists(), "it has no lock of ours"
        assert not own.exists()
        alive.kill()


def test_a_fresh_one_is_left_alone(temporary: Path) -> None:
    fresh = temporary / "twinship-guest-fresh"
    fresh.mkdir()
    (fresh / "held").touch()
    with working_directory():
        assert fresh.exists()
