"""virt-clone's default names and paths; pure. Where virt-clone's are wrong, ours are right.

``web`` becomes ``web-clone``, that ``web-clone1`` and so on. A disk file that is named like its VM
is named like the clone; any other gets ``-clone``, and a number when that is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from itertools import chain, count

SUFFIX_MAX_CHARS = 7
"""A longer part after a dot is taken for part of the name (virt-clone's rule)."""

_NUMBERED = re.compile(r"(?P<base>.*-clone)(?P<number>[0-9]*)", re.DOTALL)


def clone_name(source: str, taken: Container[str]) -> str:
    """The first free of ``X-clone``, ``X-clone1``, ...; a clone's own clone counts on from it.

    virt-clone makes ``X-clone10-clone`` of ``X-clone10``, because its pattern has no zero.
    """
    match = _NUMBERED.fullmatch(source)
    if match is None:
        base, first = f"{source}-clone", 0
    else:
        base, first = match["base"], int(match["number"] or 0) + 1
    numbered = (f"{base}{number or ''}" for number in count(first))
    return next(name for name in numbered if name not in taken)


def clone_path(path: str, old_name: str, new_name: str, there: Callable[[str], bool]) -> str:
    """Where the clone's copy of the file ``path`` goes: beside it, where nothing is.

    ``there`` says whether a path is taken. virt-clone takes the suffix from the whole path, so
    that a dot in a directory's name leads to another directory; here only the file's name counts.
    """
    directory, slash, file = path.rpartition("/")
    stem, suffix = _split(file)
    base = new_name if stem == old_name else f"{stem}-clone"
    stems = chain((base,), (f"{base}-{number}" for number in count(1)))
    paths = (f"{directory}{slash}{name}{suffix}" for name in stems)
    return next(found for found in paths if not there(found))


def nvram_path(path: str, new_name: str, there: Callable[[str], bool]) -> str:
    """Where the clone's firmware variables go: ``NEW_VARS.fd`` beside the source's.

    virt-clone gives the clone a file that is already there, with what another VM wrote into it;
    here that name counts as taken.
    """
    directory, slash, _file = path.rpartition("/")
    stems = chain((new_name,), (f"{new_name}-{number}" for number in count(1)))
    paths = (f"{directory}{slash}{stem}_VARS.fd" for stem in stems)
    return next(found for found in paths if not there(found))


def _split(file: str) -> tuple[str, str]:
    stem, dot, suffix = file.rpartition(".")
    if not stem or not dot or len(suffix) > SUFFIX_MAX_CHARS:
        return file, ""
    return stem, f".{suffix}"
