"""A plain ext4 guest without an appliance: fuse2fs on disks shown by QEMU's storage daemon.

The host's kernel never reads the guest's filesystem, and a session takes a twentieth of a second.
Source: fuse2fs(1), e2fsck(8).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twinship.guestfs.disks import SESSION_S, Disks, PartOfDisk, appeared, exported
from twinship.guestfs.files import GuestFiles, GuestFilesError
from twinship.guestfs.image import Image, named
from twinship.guestfs.inspect import (
    GuestRefused,
    dirty,
    disk_refusal,
    is_root,
    own_mount_points,
)
from twinship.guestfs.layout import UNCLEAN, Content
from twinship.guestfs.programs import Program, run
from twinship.guestfs.tree import TreeFiles

_READY_S = 30.0
_FLUSH_S = 300.0
_CHECK_S = 600.0
_OPAQUE = (Content.LVM, Content.LUKS, Content.XFS, Content.BTRFS, Content.RAID)


@contextmanager
def opened(
    images: Sequence[Image],
    *,
    writable: bool,
    recover: bool = False,
    session_s: float = SESSION_S,
) -> Iterator[GuestFiles]:
    """The files of the guest on these disks, whose root is a plain ext2, 3 or 4.

    ``recover`` (with ``writable``) has e2fsck write back the journal of a guest that was not shut
    down: what the guest itself would do at its next start. Without ``writable`` no byte of the
    disks changes; files of a filesystem that is not clean are then refused, for without its
    journal nobody knows what is in it.

    Raises :class:`GuestRefused` for a guest that should not be touched, and
    :class:`GuestFilesError`: ``NEEDS_APPLIANCE`` for what only libguestfs can read, or one of
    :func:`twinship.guestfs.disks.exported`.
    """
    with exported(images, writable=writable, session_s=session_s) as disks:
        found = [item for number in range(len(images)) for item in disks.parts(number)]
        refusal = disk_refusal([item.part for item in found], named(images))
        if refusal is not None:
            raise refusal
        root = _root(disks, found)
        if writable and root.part.ext is not None and root.part.ext.unsafe:
            raise unfit("its ext4 has features that fuse2fs does not keep up when it writes")
        _make_clean(disks, root, recover=recover and writable)
        with _mounted(disks, root, writable=writable) as files:
            if elsewhere := own_mount_points(files):
                raise unfit(f"{', '.join(elsewhere)} lie on filesystems of their own")
            yield files


def unfit(cause: str) -> GuestFilesError:
    """The error for a disk that only the appliance can read."""
    return GuestFilesError(
        "the guest's files cannot be reached without the appliance",
        code="NEEDS_APPLIANCE",
        cause=cause,
        hint="use libguestfs (on Debian: apt install libguestfs0)",
    )


def _root(disks: Disks, found: Sequence[PartOfDisk]) -> PartOfDisk:
    candidates = [item for item in found if item.part.content is Content.EXT]
    for item in candidates:
        with _mounted(disks, item, writable=False) as files:
            if is_root(files):
                return item
    if opaque := {item.part.content for item in found} & set(_OPAQUE):
        raise unfit(f"the guest's disks hold {', '.join(sorted(opaque))}")
    raise GuestRefused(
        "no system was found on the guest's disks",
        code="GUEST_UNKNOWN",
        hint="only a Linux guest with an os-release file can be sealed",
    )


def _make_clean(disks: Disks, item: PartOfDisk, *, recover: bool) -> None:
    if not item.part.unclean:
        return
    if not recover:
        raise dirty(UNCLEAN)
    device = str(item.file)
    if item.part.offset_bytes:
        device += f"?offset={item.part.offset_bytes}"
    code, said = run(["e2fsck", "-p", device], mounts_of=disks.daemon, timeout_s=_CHECK_S)
    if code >= 4:
        raise dirty(said)


@contextmanager
def _mounted(disks: Disks, item: PartOfDisk, *, writable: bool) -> Iterator[GuestFiles]:
    place = disks.work / "root"
    place.mkdir(exist_ok=True)
    options = [f"offset={item.part.offset_bytes}"] if item.part.offset_bytes else []
    if not writable:
        options += ["ro", "norecovery"] if item.part.unclean else ["ro"]
    server = Program(
        ["fuse2fs", "-f", *(["-o", ",".join(options)] if options else []), str(item.file),
         str(place)],
        disks.work / "fuse2fs.log",
        mounts_of=disks.daemon,
    )  # fmt: skip
    inside = disks.daemon.inside(place)
    before = disks.work.stat().st_dev
    try:
        with disks.serving(server):
            server.await_ready(lambda: appeared(inside, before), within_s=_READY_S)
            root = os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield TreeFiles(root)
            finally:
                os.close(root)
    finally:
        code = server.end(within_s=_FLUSH_S)
    if code != 0:
        raise server.failed(f"fuse2fs ended with {code}: the disk may not be whole")
