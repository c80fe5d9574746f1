"""Whether two looks show one file, also while a guest writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from twinship.hypervisor import volumes
from twinship.hypervisor.volumes import LOOKS, VolumeFacts, are_one


def shown(stamp: str, length: int = 10) -> VolumeFacts:
    return VolumeFacts(
        path="/a",
        pool="default",
        format="raw",
        capacity_bytes=length,
        allocated_bytes=length,
        length_bytes=length,
        stamp=stamp,
    )


def told(monkeypatch: pytest.MonkeyPatch, *looks: VolumeFacts | None) -> tuple[bool, int]:
    """The answer for these looks, one host's and the other's in turn; and how many it took."""
    left: Iterator[VolumeFacts | None] = iter(looks)
    taken = 0

    def find(_connection: Any, _path: str) -> VolumeFacts | None:
        nonlocal taken
        taken += 1
        return next(left)

    monkeypatch.setattr(volumes, "find", find)
    nobody: Any = None
    return are_one(nobody, "/a", nobody, "/a"), taken


def test_equal_length_and_times_are_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, shown("1"), shown("1")) == (True, 2)


def test_a_copy_differs_for_good_as_nobody_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, shown("1"), shown("2"), shown("1"), shown("2"))[0] is False


def test_a_file_that_is_written_meanwhile_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = (shown("1"), shown("2"), shown("3"), shown("4"), shown("5"), shown("5"))

    assert told(monkeypatch, *looks) == (True, 6)


def test_one_that_always_differs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [shown(str(number)) for number in range(2 * LOOKS)]

    assert told(monkeypatch, *looks) == (False, 2 * LOOKS)


@pytest.mark.parametrize("looks", [(None, shown("1")), (shown("1"), None), (shown(""), shown(""))])
def test_what_is_missing_or_untold_is_not_one(
    monkeypatch: pytest.MonkeyPatch, looks: tuple[VolumeFacts | None, ...]
) -> None:
    assert told(monkeypatch, *looks)[0] is False
