"""The one door through which guest files start programs: argv lists, never a shell.

A program started here dies with the thread that started it (PR_SET_PDEATHSIG), so that nothing
keeps a disk image open after this process was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from twinship.guestfs.files import GuestFilesError

_POLL_S = 0.005
_TOLD_BYTES = 2000
_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_OWN_MOUNTS = ("unshare", "--mount", "--propagation", "slave", "--")


class Program:
    """A server of ours: started, looked at, ended. What it says on stderr goes to a file."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        own_mounts: bool = False,
        mounts_of: Program | None = None,
        environment: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        """``own_mounts``: what it mounts is seen by nobody else and goes with it.

        ``mounts_of``: it sees another program's mounts. ``pipes``: its stdin and stdout are ours.
        """
        self.name = argv[0]
        self._log = log
        if mounts_of is not None:
            where: tuple[str, ...] = ("nsenter", "--target", str(mounts_of.pid), "--mount", "--")
        else:
            where = _OWN_MOUNTS if own_mounts else ()
        stdio = subprocess.PIPE if pipes else subprocess.DEVNULL
        with log.open("wb") as said:
            try:
                self.process = subprocess.Popen(
                    [*where, *_WITH_US, *argv],
                    stdin=stdio,
                    stdout=stdio if pipes else said,
                    stderr=said,
                    env={**os.environ, **environment} if environment else None,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise missing(str(error.filename or argv[0])) from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def inside(self, path: Path) -> Path:
        """A path as the program sees it, with its mounts."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def await_ready(self, ready: Callable[[], bool], *, within_s: float) -> None:
        """Waits until ``ready``; raises when the program ends before or the time is over."""
        end = time.monotonic() + within_s
        while not ready():
            if self.process.poll() is not None:
                raise self.failed(f"{self.name} ended with {self.process.returncode}")
            if time.monotonic() > end:
                raise self.failed(f"{self.name} was not ready within {within_s:g} s")
            time.sleep(_POLL_S)

    def end(self, *, within_s: float) -> int:
        """Has it end in order, and kills it when it does not; its exit code (negative: signal)."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return self.process.wait()

    def kill(self) -> None:
        """Kills it and what it started, without waiting. May be called by any thread."""
        with suppress(ProcessLookupError):
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def failed(self, what: str) -> GuestFilesError:
        """An error with the program's own last words as the cause."""
        return GuestFilesError(what, code="GUEST_FILES", cause=self.said())

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        try:
            text = self._log.read_bytes()[-_TOLD_BYTES:].decode("utf-8", "replace")
        except OSError:
            return ""
        return text.strip()


def run(argv: Sequence[str], *, mounts_of: Program, timeout_s: float) -> tuple[int, str]:
    """Runs a program to its end among another's mounts: its exit code and all it said."""
    where = ("nsenter", "--target", str(mounts_of.pid), "--mount", "--")
    return run_plain([*where, *_WITH_US, *argv], timeout_s=timeout_s)


def run_plain(argv: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
    """Runs a program to its end: its exit code and all it said."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise missing(str(error.filename or argv[0])) from None
    except subprocess.TimeoutExpired:
        raise GuestFilesError(f"{argv[0]} did not end within {timeout_s:g} s") from None
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def missing(program: str) -> GuestFilesError:
    """The error for a program that is not installed."""
    return GuestFilesError(
        f"{program} is not installed here",
        code="PROGRAM_MISSING",
        hint="on Debian: apt install fuse2fs qemu-utils qemu-system-common util-linux libguestfs0",
    )
