"""The table of seal operations, and how some of them are chosen.

The rows stand in the modules of their subjects. One thing that could be thought of is not here,
because a guest may not start any more and nothing is gained: new filesystem UUIDs (boot loader,
initial RAM disk and fstab name the old ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from twinship.guestfs.sealing import asked, leftovers, machine, network, services
from twinship.guestfs.sealing.operation import Operation
from twinship.model.errors import UsageError

TABLE: tuple[Operation, ...] = (
    *machine.ROWS,
    *network.ROWS,
    *services.ROWS,
    *leftovers.ROWS,
    *asked.ROWS,
)

EVERY = "all"
"""Stands for every operation; none is called so."""


def choose(
    *,
    only: Sequence[str] = (),
    except_: Sequence[str] = (),
    also: Sequence[str] = (),
    own: Sequence[Operation] = (),
) -> tuple[Operation, ...]:
    """The operations to do, in the table's order, the user's own last.

    All that are on by default; ``only`` these instead, ``also`` these that are off, ``except_``
    these; ``all`` among the first two is every one. A name in several lists is done unless it is in
    ``except_``. Raises :class:`UsageError` (``UNKNOWN_OPERATION``) for a name that no operation
    has, with the likely one.
    """
    rows = (*TABLE, *own)
    known = [row.name for row in rows]
    every = set(known) if EVERY in (*only, *also) else set()
    only, also = ([name for name in names if name != EVERY] for names in (only, also))
    for name in (*only, *except_, *also):
        if name not in known:
            raise _unknown(name, known)
    wanted = set(only) or {row.name for row in rows if row.default}
    wanted = (wanted | set(also) | every) - set(except_)
    return tuple(row for row in rows if row.name in wanted)


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    likely = get_close_matches(name, known, n=1)
    return UsageError(
        f"there is no seal operation {name!r}",
        code="UNKNOWN_OPERATION",
        hint=f"did you mean {likely[0]}?" if likely else "twinship seal --list shows them all",
    )
