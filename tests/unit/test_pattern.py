"""The grammar of names for many clones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.model.errors import UsageError
from twinship.planning.pattern import expand


@pytest.mark.parametrize(
    ("pattern", "first", "count", "made"),
    [
        ("web{n}", 1, 3, ("web1", "web2", "web3")),
        ("web{n:03}", 9, 2, ("web009", "web010")),
        ("web{n:02}", 99, 2, ("web99", "web100")),
        ("{{{n}}}", 0, 1, ("{0}",)),
        ("{n}-{n:02}", 7, 1, ("7-07",)),
        ("only", 1, 1, ("only",)),
    ],
)
def test_what_a_pattern_makes(pattern: str, first: int, count: int, made: tuple[str, ...]) -> None:
    assert expand(pattern, first, count) == made


MEANINGLESS = (
    *("web", "web{", "web}", "web{}", "web{m}", "web{n.__class__}", "web{n:3}", "web{n:03d}"),
    *("{n!r}", "{n:099999999}", "a/{n}", "\n{n}", "x" * 200 + "{n}", ""),
)


@pytest.mark.parametrize("pattern", MEANINGLESS)
def test_anything_else_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError) as refused:
        expand(pattern, 1, 2)
    assert refused.value.code == "NAME_PATTERN"


@pytest.mark.parametrize(("first", "count"), [(1, 0), (1, 10_001), (-1, 2)])
def test_numbers_out_of_bounds_are_refused(first: int, count: int) -> None:
    with pytest.raises(UsageError):
        expand("web{n}", first, count)


@given(st.text(max_size=30), st.integers(0, 50), st.integers(1, 20))
def test_whatever_is_typed_gives_that_many_names_or_an_error(
    pattern: str, first: int, count: int
) -> None:
    try:
        made = expand(pattern, first, count)
    except UsageError:
        return
    assert len(set(made)) == count
