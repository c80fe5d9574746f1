"""Who runs an operation, so that a process with a recycled number is not taken for it."""

from __future__ import annotations

import subprocess
import sys

from twinship.operations.owner import alive, this_process


def test_this_process_is_alive() -> None:
    assert alive(this_process())


def test_a_process_that_has_ended_is_not() -> None:
    code = "from twinship.operations.owner import this_process; print(this_process())"
    owner = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()

    assert owner.count(":") == 2
    assert not alive(owner)


def test_another_process_under_the_same_number_or_another_boot_is_not_it() -> None:
    boot, pid, start = this_process().split(":")

    assert not alive(f"{boot}:{pid}:{int(start) - 1}")
    assert not alive(f"another-boot:{pid}:{start}")


def test_nonsense_is_nobody() -> None:
    boot = this_process().split(":")[0]
    for owner in ("", ":", "::", boot, f"{boot}::", f"{boot}:x:1", f"{boot}:../1:1"):
        assert not alive(owner)
