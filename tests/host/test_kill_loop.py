"""kill -9 of the worker before and after every line of its journal, for every verb.

The lines are read from the journal of a real run, so that a new phase is in the loop by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.story import STORIES, ManyMoves, Story
from tests.host.world import World

pytestmark = pytest.mark.host

SLOW = {"live move", "offline move", "offline move with belongings", "template"}


@pytest.fixture
def no_shares_left(world: World) -> Iterator[World]:
    yield world
    world.clean()


def _rows() -> Iterator[Any]:
    """Every story line by line, before and after; of the usual ones each line once as well."""
    for name in STORIES:
        if name not in SLOW:
            yield pytest.param(name, 1, id=f"{name}, each line once")
        yield pytest.param(name, 2, id=name, marks=pytest.mark.all)


@pytest.mark.parametrize(("name", "times"), list(_rows()))
def test_a_worker_killed_around_any_line_of_its_journal_is_recovered(
    no_shares_left: World, name: str, times: int
) -> None:
    story = Story(no_shares_left, **STORIES[name])
    steps = story.steps()
    assert len(steps) >= 8
    moments = [(step, when) for step in steps for when in ("before", "after")]
    if times == 1:  # before one, after the next: nothing lies between an end and a beginning
        moments = [moment for at, moment in enumerate(moments) if at % 4 in (0, 3)]
    ways = {(step, when): story.crash(step, when) for step, when in moments}
    assert set(ways.values()) == {"undone", "done"}
    # Once it goes forward it never goes back: an early step undoes, a late one finishes. (What had
    # not begun when it was resumed is simply run.)
    order = [way for at, way in ways.items() if at != (("running", ""), "before")]
    assert order == sorted(order, key=["undone", "done"].index)


def test_many_moves_cut_off_in_the_middle_lose_no_vm(no_shares_left: World) -> None:
    story = ManyMoves(no_shares_left)
    # The first and the second memory are about to cross, or have crossed.
    story.crash((("intent", "move"), 2), "after")
    assert story.crash((("done", "move"), 1), "after") >= 1


@pytest.mark.all
def test_many_moves_killed_around_any_line_of_any_journal_lose_no_vm(
    no_shares_left: World,
) -> None:
    story = ManyMoves(no_shares_left)
    steps = story.steps()
    assert len(steps) >= 30
    arrived = {story.crash(at, when) for at in steps for when in ("before", "after")}
    assert arrived >= {0, 1, 2, 3}
