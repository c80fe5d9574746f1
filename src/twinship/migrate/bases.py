"""Whether a file on the target is the very base that a disk stands on; pure.

Length and first bytes have to agree. That is not enough: the first bytes of a qcow2 hold its size
and little else. So a note has to tell it too: the marks that linked clones and templates carry in
their definitions. One is believed while the file is as it says. Two files are one when their marks
have the same digest, or the same birth: the time, to the nanosecond, of the last change on the host
where the clones were made. What no note tells, ``--verify`` finds out by reading both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from twinship.domxml.lineage import Base


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseThere:
    """What the target has at the path of a backing file.

    ``alike``: length and first bytes agree. ``known``: a note tells that it is the same. ``why``
    goes with either answer.
    """

    alike: bool
    known: bool
    why: str

    def stands(self, *, compared: bool) -> bool:
        """Whether a disk may stand on it; ``compared``: all of it will be read before."""
        return self.known or (self.alike and compared)


def judge(here: Base, there: Base, ours: Iterable[Base], theirs: Iterable[Base]) -> BaseThere:
    """Compares a file of the source with the target's, by the notes either host has of it."""
    if there.length_bytes != here.length_bytes:
        why = f"it has {there.length_bytes} bytes there, {here.length_bytes} here"
        return BaseThere(alike=False, known=False, why=why)
    if there.header != here.header:
        return BaseThere(alike=False, known=False, why="its first bytes differ")
    ours, theirs = _true(ours, here), _true(theirs, there)
    if _births(ours, here) & _births(theirs, there):
        return BaseThere(alike=True, known=True, why="unchanged since it was one file")
    if {base.digest for base in ours} & {base.digest for base in theirs} - {""}:
        return BaseThere(alike=True, known=True, why="the digests noted on both hosts agree")
    why = "length and first bytes agree, but nothing noted on the hosts tells that they are one"
    return BaseThere(alike=True, known=False, why=why)


def _true(marks: Iterable[Base], now: Base) -> tuple[Base, ...]:
    """The marks that tell of the file as it is."""
    plain = replace(now, digest="", born="")
    return tuple(mark for mark in marks if replace(mark, digest="", born="") == plain)


def _births(marks: Iterable[Base], now: Base) -> set[str]:
    return {now.changed, *(mark.born or mark.changed for mark in marks)} - {""}
