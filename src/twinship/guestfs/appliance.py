"""Any Linux guest, by libguestfs: LVM, LUKS, XFS, btrfs, several filesystems.

One appliance takes the disks of many VMs: its start is nearly all the time it costs. The VMs' files
are then shown one after the other, each by its own disks alone: copies of one VM have the same LVM
names and filesystem UUIDs, and must not be taken for each other's.

libguestfs runs in a process of its own (:mod:`twinship.guestfs.worker`) and reads the disks that
:mod:`twinship.guestfs.disks` shows. Source: guestfs(3).
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twinship.guestfs.disks import SESSION_S, Disks, appeared, exported
from twinship.guestfs.files import GuestFiles, GuestFilesError
from twinship.guestfs.image import Image, named
from twinship.guestfs.inspect import dirty, disk_refusal
from twinship.guestfs.layout import UNCLEAN
from twinship.guestfs.mounting import Mounted, mount_guest, renew_groups
from twinship.guestfs.programs import Program, run
from twinship.guestfs.tree import TreeFiles

_LAUNCH_S = 300.0
_CALL_S = 180.0
_SCRIPT_S = 1800.0
_FLUSH_S = 300.0


class Library:
    """Calls into libguestfs, each with a bound. Raises :class:`GuestFilesError` (``APPLIANCE``)."""

    def __init__(self, worker: Program) -> None:
        self._worker = worker
        self._pending = b""

    def call(self, name: str, *arguments: Any, within_s: float = _CALL_S) -> Any:
        """A function of the library; see :mod:`twinship.guestfs.worker`."""
        stdin = self._worker.process.stdin
        if stdin is None:
            raise self._failed(name, "it has no input")
        try:
            stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._failed(name, self._worker.said()) from None
        return self.answer(name, within_s=within_s)

    def answer(self, name: str, *, within_s: float) -> Any:
        """The next answer; ``name`` is what was asked. A worker that gives none is killed."""
        end = time.monotonic() + within_s
        stdout = self._worker.process.stdout
        if stdout is None:
            raise self._failed(name, "it has no output")
        while b"\n" not in self._pending:
            ready, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._worker.kill()
                raise self._failed(name, f"no answer within {within_s:g} s")
            chunk = os.read(stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._failed(name, self._worker.said() or "it ended")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        said = json.loads(line)
        if "missing" in said:
            raise GuestFilesError(
                "libguestfs is not installed here",
                code="PROGRAM_MISSING",
                cause=said["missing"],
                hint="on Debian: apt install libguestfs0; on RHEL: dnf install libguestfs",
            )
        if "error" in said:
            raise self._failed(name, said["error"])
        return said["ok"]

    def _failed(self, name: str, cause: str) -> GuestFilesError:
        hint = "libguestfs-test-tool shows what is wrong with it" if name == "launch" else ""
        return GuestFilesError(
            f"libguestfs failed ({name})", code="APPLIANCE", cause=cause, hint=hint
        )


class Appliance:
    """A running appliance with the disks of one or several guests."""

    def __init__(
        self, disks: Disks, worker: Program, library: Library, guests: Sequence[range]
    ) -> None:
        """``guests``: the numbers of each guest's disks."""
        self._disks = disks
        self._worker = worker
        self._library = library
        self._guests = tuple(guests)
        self._writable = False
        self._found: dict[str, list[str]] = {}

    def start(self, *, writable: bool) -> None:
        """Adds the disks and boots; takes seconds, half a minute where nothing accelerates it."""
        self._writable = writable
        self._library.answer("create", within_s=_CALL_S)
        for numbers in self._guests:
            for number in numbers:
                self._library.call("add_drive", str(self._disks.file(number)), not writable)
        self._library.call("launch", within_s=_LAUNCH_S)

    def finish(self) -> None:
        """Ends the appliance in order: afterwards all that was written is on the disks."""
        self._library.call("shutdown", within_s=_FLUSH_S)

    def _partitions(self) -> dict[str, list[str]]:
        """Every device in its order, with its partitions; looked at once."""
        if not self._found:
            call = self._library.call
            found: dict[str, list[str]] = {device: [] for device in call("list_devices")}
            for part in call("list_partitions"):
                found[call("part_to_dev", part)].append(part)
            self._found = found
        return self._found

    @contextmanager
    def guest(
        self, index: int, keys: Mapping[str, str] | None = None, *, recover: bool = False
    ) -> Iterator[GuestFiles]:
        """The files of one guest, while no other one's are open.

        ``keys`` open its LUKS devices: by UUID, or by ``""`` for any. ``recover`` has a journal
        written back where that changes the disk; of filesystems on LVM or LUKS, and of XFS and
        btrfs, which recover by being mounted, that is done without being asked for.
        Raises :class:`GuestRefused`.
        """
        numbers = self._guests[index]
        found = [item.part for number in numbers for item in self._disks.parts(number)]
        where = named([self._disks.images[number] for number in numbers])
        refusal = disk_refusal(found, where)
        if refusal is not None:
            raise refusal
        if self._writable and not recover and any(part.unclean for part in found):
            raise dirty(UNCLEAN)
        every = list(self._partitions())
        disks = {every[number]: self._partitions()[every[number]] for number in numbers}
        mounted = mount_guest(self._library.call, disks, keys or {}, writable=self._writable)
        try:
            with _shown(self._disks, self._worker, self._library, mounted) as files:
                yield files
        except BaseException:
            with suppress(GuestFilesError):  # what went wrong is said, not what that led to
                self._library.call("umount_all")
            raise
        self._library.call("umount_all")
        if files.renewing:
            renew_groups(self._library.call, mounted.seen)


@contextmanager
def appliance(
    guests: Sequence[Sequence[Image]], *, writable: bool, session_s: float = SESSION_S
) -> Iterator[Appliance]:
    """One appliance for the disks of all these guests.

    Without ``writable`` no byte of the disks changes: a journal is then written back into a
    throw-away layer of libguestfs's own. What was written is safe once the block ended without an
    exception. Guests that are btrfs copies of each other need an appliance each: the kernel takes
    filesystems of one UUID for one.
    """
    images = [image for guest in guests for image in guest]
    starts = [sum(map(len, guests[:index])) for index in range(len(guests))]
    numbers = [range(at, at + len(guest)) for at, guest in zip(starts, guests, strict=True)]
    with exported(images, writable=writable, session_s=session_s) as disks:
        worker = Program(
            [sys.executable, "-m", "twinship.guestfs.worker"],
            disks.work / "libguestfs.log",
            mounts_of=disks.daemon,
            environment={"LIBGUESTFS_BACKEND": "direct"},
            pipes=True,
        )
        try:
            with disks.serving(worker):
                made = Appliance(disks, worker, Library(worker), numbers)
                made.start(writable=writable)
                yield made
                made.finish()
        finally:
            worker.end(within_s=_FLUSH_S)


@contextmanager
def opened(
    images: Sequence[Image],
    *,
    writable: bool,
    keys: Mapping[str, str] | None = None,
    recover: bool = False,
    session_s: float = SESSION_S,
) -> Iterator[GuestFiles]:
    """The files of one guest, in an appliance of its own; see :func:`appliance`."""
    with (
        appliance([images], writable=writable, session_s=session_s) as made,
        made.guest(0, keys, recover=recover) as files,
    ):
        yield files


@contextmanager
def _shown(
    disks: Disks, worker: Program, library: Library, mounted: Mounted
) -> Iterator[TreeFiles]:
    """The mounted files as a tree; taken down and put up again to run something in the guest."""
    place = disks.work / "root"
    place.mkdir(exist_ok=True)
    before = disks.work.stat().st_dev

    def put_up() -> int:
        library.call("serve", str(place))
        inside = disks.daemon.inside(place)
        worker.await_ready(lambda: appeared(inside, before), within_s=_CALL_S)
        return os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def take_down(root: int) -> None:
        os.close(root)
        code, said = run(["umount", str(place)], mounts_of=disks.daemon, timeout_s=_FLUSH_S)
        if code != 0:
            raise GuestFilesError("the guest's files stay mounted", cause=said)
        library.answer("serve", within_s=_FLUSH_S)

    def run_inside(argv: Sequence[str]) -> None:
        take_down(files.root_fd)
        try:
            library.call("command", list(argv), within_s=_SCRIPT_S)
        finally:
            files.root_fd = put_up()

    def relabel(contexts: str) -> bool:
        take_down(files.root_fd)  # the library answers nothing while it serves
        try:
            able = bool(library.call("feature_available", ["selinuxrelabel"]))
            if able:
                library.call("relabel", contexts, within_s=_SCRIPT_S)
        finally:
            files.root_fd = put_up()
        return able

    files = TreeFiles(put_up(), run_inside, relabel, mounted.groups)
    try:
        yield files
    finally:
        take_down(files.root_fd)


def installed() -> bool:
    """Whether libguestfs seems to be installed here."""
    return any(
        path.exists()
        for directory in ("/usr/lib64", "/usr/lib", "/lib")
        for path in Path(directory).glob("**/libguestfs.so.0")
    )
