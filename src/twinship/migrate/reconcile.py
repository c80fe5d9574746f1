"""Which way an interrupted move goes; pure. One question: where is the VM true?

The rules behind the rows: a VM that serves is never touched while the other side cannot be seen.
The source is true until the target runs (live) or is defined over complete disks (offline). Of
two that serve, the source is: it never stopped. What has no rule is for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twinship.operations.verb import Decision


class Side(StrEnum):
    """What one host shows of the VM.

    ``SERVING``: it does what it did before the move (runs, or is paused as its user left it).
    ``HELD``: QEMU is there but stands still because of the move. ``HALF``: part of its memory is
    on the other host (post-copy), under way or broken; without the other half it is lost.
    """

    ABSENT = "absent"
    OFF = "off"
    SERVING = "serving"
    HELD = "held"
    HALF = "half"
    UNSEEN = "unseen"


class Deed(StrEnum):
    """What has to be done on a side before going on."""

    END_TARGET = "end the VM's half on the target"
    UNDEFINE_TARGET = "remove its definition on the target"
    RESUME_SOURCE = "let the source go on"
    END_SOURCE = "end the stopped source"
    STOP_JOB = "stop the move that is under way"
    JOIN = "bring the two halves of its memory together"


@dataclass(frozen=True, slots=True)
class MoveVerdict:
    """Which way, what to do first, and why."""

    decision: Decision
    why: str
    deeds: tuple[Deed, ...] = ()


_F, _B, _A = Decision.FORWARD, Decision.BACK, Decision.ATTENTION

LIVE: dict[tuple[Side, Side], MoveVerdict] = {
    (Side.SERVING, Side.ABSENT): MoveVerdict(_B, "the source runs on"),
    (Side.SERVING, Side.OFF): MoveVerdict(_B, "the source runs on", (Deed.UNDEFINE_TARGET,)),
    (Side.SERVING, Side.HELD): MoveVerdict(
        _B, "the source runs on", (Deed.STOP_JOB, Deed.END_TARGET)
    ),
    (Side.SERVING, Side.SERVING): MoveVerdict(
        _B, "both run: the source never stopped", (Deed.END_TARGET, Deed.UNDEFINE_TARGET)
    ),
    (Side.HELD, Side.ABSENT): MoveVerdict(
        _B, "the source stands still, the target has nothing", (Deed.RESUME_SOURCE,)
    ),
    (Side.HELD, Side.OFF): MoveVerdict(
        _A, "the source stands still; on the target the VM may have run and stopped"
    ),
    (Side.HELD, Side.HELD): MoveVerdict(
        _B,
        "both stand still: the source holds everything",
        (Deed.END_TARGET, Deed.UNDEFINE_TARGET, Deed.RESUME_SOURCE),
    ),
    (Side.HELD, Side.SERVING): MoveVerdict(_F, "the target runs", (Deed.END_SOURCE,)),
    (Side.OFF, Side.ABSENT): MoveVerdict(_B, "the guest shut down during the move"),
    (Side.OFF, Side.OFF): MoveVerdict(_A, "the VM is shut off on both hosts"),
    (Side.OFF, Side.HELD): MoveVerdict(
        _B, "the guest shut down before it arrived", (Deed.END_TARGET, Deed.UNDEFINE_TARGET)
    ),
    (Side.OFF, Side.SERVING): MoveVerdict(_F, "the target runs"),
    (Side.ABSENT, Side.ABSENT): MoveVerdict(_A, "the VM is on neither host"),
    (Side.ABSENT, Side.OFF): MoveVerdict(_F, "only the target has the VM"),
    (Side.ABSENT, Side.HELD): MoveVerdict(_A, "only the target has the VM, and it stands still"),
    (Side.ABSENT, Side.SERVING): MoveVerdict(_F, "only the target has the VM"),
    # Post-copy: both halves are needed, and no deed but JOIN touches one. libvirt ends the source's
    # half itself, once the target has said that it has everything.
    (Side.HALF, Side.HALF): MoveVerdict(_F, "part of its memory is on each side", (Deed.JOIN,)),
    (Side.HALF, Side.HELD): MoveVerdict(_F, "the target is about to go on", (Deed.JOIN,)),
    (Side.HALF, Side.SERVING): MoveVerdict(
        _F, "the target runs; the source has not been told that it has everything", (Deed.JOIN,)
    ),
    (Side.HELD, Side.HALF): MoveVerdict(_F, "the target has gone on", (Deed.JOIN,)),
    (Side.HALF, Side.ABSENT): MoveVerdict(
        _A, "the target's half of its memory is gone, and with it what the guest did there"
    ),
    (Side.HALF, Side.OFF): MoveVerdict(
        _A, "the target's half of its memory is gone, and with it what the guest did there"
    ),
    (Side.SERVING, Side.HALF): MoveVerdict(
        _A, "the source runs, though the guest went on on the target"
    ),
    (Side.OFF, Side.HALF): MoveVerdict(_A, "the source's half of its memory is gone"),
    (Side.ABSENT, Side.HALF): MoveVerdict(_A, "the source's half of its memory is gone"),
}

OFFLINE: dict[tuple[Side, Side], MoveVerdict] = {
    (Side.OFF, Side.ABSENT): MoveVerdict(_B, "the target does not have the VM yet"),
    (Side.OFF, Side.OFF): MoveVerdict(_F, "the target has the VM, over complete disks"),
    (Side.OFF, Side.SERVING): MoveVerdict(_F, "the target has the VM, and it was started"),
    (Side.OFF, Side.HELD): MoveVerdict(_A, "the VM stands still on the target"),
    (Side.SERVING, Side.ABSENT): MoveVerdict(_B, "the VM was started on the source"),
    (Side.SERVING, Side.OFF): MoveVerdict(
        _B, "the VM was started on the source", (Deed.UNDEFINE_TARGET,)
    ),
    (Side.SERVING, Side.SERVING): MoveVerdict(_A, "the VM was started on both hosts"),
    (Side.SERVING, Side.HELD): MoveVerdict(_A, "the VM was started on both hosts"),
    (Side.HELD, Side.ABSENT): MoveVerdict(_B, "the VM was started on the source"),
    (Side.HELD, Side.OFF): MoveVerdict(
        _B, "the VM was started on the source", (Deed.UNDEFINE_TARGET,)
    ),
    (Side.HELD, Side.SERVING): MoveVerdict(_A, "the VM was started on both hosts"),
    (Side.HELD, Side.HELD): MoveVerdict(_A, "the VM was started on both hosts"),
    (Side.ABSENT, Side.ABSENT): MoveVerdict(_A, "the VM is on neither host"),
    (Side.ABSENT, Side.OFF): MoveVerdict(_F, "only the target has the VM"),
    (Side.ABSENT, Side.SERVING): MoveVerdict(_F, "only the target has the VM"),
    (Side.ABSENT, Side.HELD): MoveVerdict(_A, "only the target has the VM, and it stands still"),
    **{
        pair: MoveVerdict(_A, "the VM was started, and somebody moves it with post-copy")
        for other in (Side.ABSENT, Side.OFF, Side.SERVING, Side.HELD, Side.HALF)
        for pair in ((Side.HALF, other), (other, Side.HALF))
    },
}


def reconcile_move(source: Side, target: Side, *, live: bool, arrived: bool) -> MoveVerdict:
    """The verdict for what is seen.

    ``arrived``: the journal has it that the target got everything (the move, or the definition,
    was acknowledged). Then a VM that has since been shut off there is no riddle any more, and a
    live move never goes back.
    """
    if source is Side.UNSEEN or target is Side.UNSEEN:
        which = [s for s, seen in (("source", source), ("target", target)) if seen is Side.UNSEEN]
        return MoveVerdict(Decision.WAIT, f"the {' and the '.join(which)} cannot be seen")
    if arrived and target in (Side.OFF, Side.SERVING):
        deeds = (Deed.END_SOURCE,) if source is Side.HELD else ()
        if source in (Side.OFF, Side.HELD, Side.ABSENT):
            return MoveVerdict(Decision.FORWARD, "the target has everything", deeds)
    if arrived and live and (source, target) == (Side.HALF, Side.SERVING):
        return LIVE[source, target]
    if arrived and live:
        # The guest ran on the target: what it wrote since lies there alone, so that going back
        # (which deletes the copies) would lose it.
        why = f"the VM had arrived; now the source is {source.value}, the target {target.value}"
        return MoveVerdict(Decision.ATTENTION, why)
    return (LIVE if live else OFFLINE)[source, target]
