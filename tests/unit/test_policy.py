"""When a move goes over to post-copy, by made-up series of its rounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twinship.migrate.policy import Stall, SwitchPolicy
from twinship.model.request import PostCopyWay

NEVER, ALLOW, PREFER = PostCopyWay.NEVER, PostCopyWay.ALLOW, PostCopyWay.PREFER
MB = 10**6
RATE = 50 * MB


def stands_at(remaining_mb: Sequence[float], *, pause_s: float = 0.3) -> int | None:
    """The first round in which the move is taken to stand; None: it never does."""
    stall = Stall(pause_s)
    for round_, left in enumerate(remaining_mb, start=1):
        if stall.saw(round_=round_, remaining=int(left * MB), rate=RATE):
            return round_
    return None


@pytest.mark.parametrize(
    ("remaining_mb", "round_"),
    [
        ([128, 100, 100, 100, 100], 5),
        ([128, 100, 99, 98, 97], 5),
        ([128, 100, 130, 90, 120, 120, 120], 7),
        ([128, 100, 95, 90, 85, 80, 75, 70], None),
        ([128, 64, 32, 16, 8, 4], None),
        ([128, 14, 14, 14, 14, 14, 14], None),
        ([128, 100, 100, 100], None),
    ],
    ids=["flat", "creeps", "best in between", "falls", "halves", "fits the pause", "two rounds"],
)
def test_three_rounds_that_bring_it_no_further_are_a_stall(
    remaining_mb: Sequence[float], round_: int | None
) -> None:
    assert stands_at(remaining_mb) == round_


def test_a_longer_pause_takes_what_a_short_one_does_not() -> None:
    series = [128, 100, 100, 100, 100, 100]
    assert stands_at(series, pause_s=1.9) == 5
    assert stands_at(series, pause_s=2.1) is None


def test_looks_within_a_round_count_once() -> None:
    stall = Stall(0.3)
    looks = [(1, 128), (1, 60), (2, 100), (2, 80), (2, 60), (2, 40), (3, 100), (3, 50), (4, 100)]
    assert not any(stall.saw(round_=n, remaining=left * MB, rate=RATE) for n, left in looks)
    assert stall.saw(round_=5, remaining=100 * MB, rate=RATE)


def test_what_remains_within_a_round_may_fit_the_pause_after_all() -> None:
    stall = Stall(0.3)
    for round_ in range(1, 6):
        stands = stall.saw(round_=round_, remaining=100 * MB, rate=RATE)
    assert stands
    assert not stall.saw(round_=5, remaining=10 * MB, rate=RATE)


def due_in(way: PostCopyWay, *, will_not: bool, rounds: int = 8) -> int | None:
    policy = SwitchPolicy(way, will_not=will_not, pause_s=0.3)
    for round_ in range(rounds):
        if policy.due(round_=round_, remaining=100 * MB, rate=RATE):
            return round_
    return None


@pytest.mark.parametrize(
    ("way", "will_not", "round_"),
    [
        (NEVER, False, None),
        (NEVER, True, None),
        (ALLOW, False, 4),
        (ALLOW, True, 2),
        (PREFER, False, 2),
        (PREFER, True, 2),
    ],
)
def test_it_goes_over_when_asked_to_or_when_it_does_not_get_there(
    way: PostCopyWay, will_not: bool, round_: int | None
) -> None:
    assert due_in(way, will_not=will_not) == round_
