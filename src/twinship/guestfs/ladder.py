"""Which engine reads a guest's files: user space where it can, the appliance where it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from twinship.guestfs import appliance, userspace
from twinship.guestfs.files import GuestFiles, GuestFilesError
from twinship.guestfs.image import Image

_TRY_THE_APPLIANCE = ("NEEDS_APPLIANCE", "PROGRAM_MISSING")


@contextmanager
def guest_files(
    images: Sequence[Image],
    *,
    writable: bool,
    keys: Mapping[str, str] | None = None,
    recover: bool = False,
    runs: bool = False,
    say: Callable[[str], None] | None = None,
) -> Iterator[GuestFiles]:
    """The files of the guest on these disks, by whichever way can read them.

    ``runs``: something is to be run in the guest, which only the appliance can. ``say`` is told
    why the appliance is taken, before the seconds it needs to start. Raises what
    :func:`userspace.opened` and :func:`appliance.opened` raise.
    """
    with ExitStack() as stack:
        why = "something is to be run in the guest" if runs else ""
        files: GuestFiles | None = None
        if not runs:
            try:
                files = stack.enter_context(
                    userspace.opened(images, writable=writable, recover=recover)
                )
            except GuestFilesError as error:
                if error.code not in _TRY_THE_APPLIANCE:
                    raise
                why = error.cause or error.message
        if files is None:
            if say is not None:
                say(why)
            files = stack.enter_context(
                appliance.opened(images, writable=writable, keys=keys, recover=recover)
            )
        yield files
