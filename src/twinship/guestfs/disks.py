"""Disk images shown as plain files, by QEMU's storage daemon in user space.

Whoever reads a disk from here, fuse2fs or libguestfs, sees raw bytes: what an image's header says
has been judged before, and no second program interprets it. The daemon lives in a mount namespace
of its own: nobody else sees the files, and they go with it. It dies with us.

Sources: qemu-storage-daemon(1), mount_namespaces(7).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.image import Image, block_nodes, named, verify
from twinship.guestfs.layout import Part, read_layout
from twinship.guestfs.place import working_directory
from twinship.guestfs.programs import Program
from twinship.model.errors import NotAllowed

SESSION_S = 3600.0
"""The most that work on one set of disks may take: then all its programs are killed."""
_READY_S = 30.0
_FLUSH_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOfDisk:
    """A part of the disk with this number, and the file that shows the whole disk."""

    disk: int
    file: Path
    part: Part


class Disks:
    """Disks shown as files below ``work``, as the daemon and those who share its mounts see it."""

    def __init__(self, daemon: Program, work: Path, images: Sequence[Image]) -> None:
        self.daemon = daemon
        self.work = work
        self.images = tuple(images)
        self._servers: list[Program] = []

    def file(self, number: int) -> Path:
        """The file that shows a disk."""
        return self.work / f"disk{number}"

    def parts(self, number: int) -> list[PartOfDisk]:
        """The parts of a disk."""
        file = self.file(number)
        with self.daemon.inside(file).open("rb", buffering=0) as opened:
            fd = opened.fileno()
            length = os.fstat(fd).st_size

            def read(at: int, size: int) -> bytes:
                return os.pread(fd, size, at) if 0 <= at < length else b""

            found = read_layout(read, length)
        return [PartOfDisk(disk=number, file=file, part=part) for part in found]

    @contextmanager
    def serving(self, server: Program) -> Iterator[None]:
        """Has the server killed, too, when the time for these disks is over."""
        self._servers.append(server)
        try:
            yield
        finally:
            self._servers.remove(server)

    def abort(self) -> None:
        """Kills every program; whoever waits for one gets an error. May be called by any thread."""
        for program in (*self._servers, self.daemon):
            program.kill()


@contextmanager
def exported(
    images: Sequence[Image], *, writable: bool, session_s: float = SESSION_S
) -> Iterator[Disks]:
    """Shows the images while the block runs. Needs root, for the mount namespace.

    QEMU's locks keep an image from being opened that a running VM has. Raises ``NEEDS_ROOT``,
    ``FUSE_MISSING``, ``IMAGE_REFUSED`` or ``IMAGE_IN_USE``.
    """
    if os.geteuid() != 0:
        raise NotAllowed(
            "reading a guest's files needs root",
            code="NEEDS_ROOT",
            hint="run the command with sudo",
        )
    if not Path("/dev/fuse").exists():
        raise GuestFilesError(
            "a guest's files cannot be read here",
            code="FUSE_MISSING",
            cause="this machine has no /dev/fuse",
            hint="load the kernel's fuse module (modprobe fuse)",
        )
    for image in images:
        verify(image)
    with ExitStack() as stack:
        work = stack.enter_context(working_directory())
        daemon = _started(stack, work, images, writable=writable)
        disks = Disks(daemon, work, images)
        stack.enter_context(_bounded(disks, session_s))
        yield disks


def appeared(path: Path, before: int) -> bool:
    """Whether something is mounted over a path that lay on device ``before``."""
    try:
        return path.stat().st_dev != before
    except OSError:
        return False


def _started(stack: ExitStack, work: Path, images: Sequence[Image], *, writable: bool) -> Program:
    argv = ["qemu-storage-daemon"]
    files = [work / f"disk{number}" for number in range(len(images))]
    for number, (image, file) in enumerate(zip(images, files, strict=True)):
        file.touch()
        for node in block_nodes(image, f"disk{number}", writable=writable):
            argv += ["--blockdev", json.dumps(node)]
        export = {
            "type": "fuse",
            "id": f"export{number}",
            "node-name": f"disk{number}",
            "mountpoint": str(file),
            "writable": writable,
        }
        argv += ["--export", json.dumps(export)]
    daemon = Program(argv, work / "daemon.log", own_mounts=True)
    stack.callback(daemon.end, within_s=_FLUSH_S)
    before = work.stat().st_dev
    try:
        daemon.await_ready(
            lambda: all(appeared(daemon.inside(file), before) for file in files),
            within_s=_READY_S,
        )
    except GuestFilesError as error:
        if " lock" in error.cause:
            raise GuestFilesError(
                f"{named(images)} is in use",
                code="IMAGE_IN_USE",
                cause=error.cause,
                hint="shut the VM down first",
            ) from None
        raise
    return daemon


@contextmanager
def _bounded(disks: Disks, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, disks.abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
