"""Names for many clones: ``web{n:03}`` makes web001, web002, ...

A grammar of its own and nothing more, for a pattern is what somebody typed: ``{n}`` is the number,
``{n:03}`` the number with leading zeroes to that width (1 to 9), ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re

from twinship.model.errors import UsageError
from twinship.planning import names

MOST = 10_000
_PART = re.compile(r"\{\{|\}\}|\{n(?::0([1-9]))?\}|[^{}]+|[{}]")
_HINT = "for example 'web{n}' or 'web{n:03}'"


def expand(pattern: str, first: int, count: int) -> tuple[str, ...]:
    """The names, in order. Raises :class:`UsageError` (``NAME_PATTERN``) for what makes none."""
    if not 1 <= count <= MOST:
        raise _refused(f"{count} clones are asked for: 1 to {MOST} can be made at once")
    if first < 0:
        raise _refused("the first number has to be 0 or more")
    made = tuple(_filled(pattern, number) for number in range(first, first + count))
    if len(set(made)) != count:
        raise _refused(f"{pattern!r} gives all clones one name: it needs an {{n}}")
    for name in (made[0], made[-1]):
        if why := names.problem(name):
            raise _refused(f"{name[:60]!r} cannot be a VM's name: {why}")
    return made


def _filled(pattern: str, number: int) -> str:
    parts = []
    for match in _PART.finditer(pattern):
        text = match.group(0)
        if text in ("{{", "}}"):
            parts.append(text[0])
        elif text.startswith("{n"):
            parts.append(str(number).zfill(int(match.group(1) or 1)))
        elif text in "{}":
            raise _refused(f"{pattern[:60]!r} has a brace that means nothing")
        else:
            parts.append(text)
    return "".join(parts)


def _refused(message: str) -> UsageError:
    return UsageError(message, code="NAME_PATTERN", hint=_HINT)
