"""The table itself: a code, and the small function over the census that finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from twinship.doctor.census import Census
from twinship.model.diagnosis import Ailment

Row = Callable[[Census], Iterator[Ailment]]
TABLE: dict[str, Row] = {}


def row(code: str) -> Callable[[Row], Row]:
    """Puts a function into the table."""

    def add(find: Row) -> Row:
        TABLE[code] = find
        return find

    return add


def run(census: Census) -> tuple[Ailment, ...]:
    """All ailments, in the order of the table."""
    found = []
    for code, find in TABLE.items():
        found += [replace(ailment, code=code) for ailment in find(census)]
    return tuple(found)
