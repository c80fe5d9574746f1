"""Which engine reads a guest's files: user space where it can, the appliance where it must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from twinship.guestfs import appliance, userspace
from twinship.guestfs.files import GuestFiles, GuestFilesError
from twinship.guestfs.image import Image
from twinship.guestfs.inspect import GuestRefused

T = TypeVar("T")
USER_SPACE = "user space"
APPLIANCE = "appliance"
_TRY_THE_APPLIANCE = ("NEEDS_APPLIANCE", "PROGRAM_MISSING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Generic[T]):
    """What came of one guest: ``value``, or why it was left alone, or neither (not visited).

    ``why``: what keeps its files from being read in user space; empty where nothing does.
    """

    engine: str
    why: str = ""
    value: T | None = None
    refused: GuestRefused | None = None


def visit(
    guests: Sequence[Sequence[Image]],
    act: Callable[[GuestFiles], T],
    *,
    writable: bool,
    keys: Mapping[str, str] | None = None,
    recover: bool = False,
    runs: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Visit[T]]:
    """Does something with the files of each guest, one after the other.

    One appliance serves all that need it. ``runs``: something is to be run in the guests, which
    only it can. ``say`` is told why it has to be started, before the seconds that takes; without
    ``say`` it is not started, and those guests are not visited. Raises what
    :func:`userspace.opened` and :func:`appliance.appliance` raise, but for refusals of a guest.
    """
    found: dict[int, Visit[T]] = {}
    slow: dict[int, str] = {}
    for index, images in enumerate(guests):
        if runs:
            slow[index] = "something is to be run in the guest"
            continue
        try:
            with userspace.opened(images, writable=writable, recover=recover) as files:
                found[index] = Visit(engine=USER_SPACE, value=act(files))
        except GuestRefused as refused:
            found[index] = Visit(engine=USER_SPACE, refused=refused)
        except GuestFilesError as error:
            if error.code not in _TRY_THE_APPLIANCE:
                raise
            slow[index] = error.cause or error.message
    if slow and say is not None:
        say(next(iter(slow.values())))
        with appliance.appliance([guests[index] for index in slow], writable=writable) as made:
            for number, (index, why) in enumerate(slow.items()):
                try:
                    with made.guest(number, keys, recover=recover) as files:
                        found[index] = Visit(engine=APPLIANCE, why=why, value=act(files))
                except GuestRefused as refused:
                    found[index] = Visit(engine=APPLIANCE, why=why, refused=refused)
    for index, why in slow.items():
        found.setdefault(index, Visit(engine=APPLIANCE, why=why))
    return [found[index] for index in range(len(guests))]
