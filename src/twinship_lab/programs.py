"""The one door through which the lab starts programs; argv lists, never a shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from twinship_lab.errors import LabError, NotReady

REQUIRED = (
    "ip",
    "libvirtd",
    "nsenter",
    "qemu-img",
    "qemu-nbd",
    "qemu-system-x86_64",
    "setpriv",
    "setsid",
    "sleep",
    "tc",
    "tini",
    "unshare",
    "virsh",
)
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended: its exit code (negative: the signal) and what it wrote."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode(errors="replace").rstrip("\n")


def require_programs() -> None:
    """Raise one :class:`NotReady` that names every program the lab lacks here."""
    missing = [name for name in REQUIRED if shutil.which(name, path=SEARCH_PATH) is None]
    if missing:
        raise NotReady(
            "the lab cannot run on this machine",
            cause=f"missing programs: {', '.join(missing)}",
            hint="run script/bootstrap, which installs them",
        )


def clean_environment() -> dict[str, str]:
    """The environment of every program of the lab: none of the caller's libvirt settings."""
    kept = {name: os.environ[name] for name in ("TERM",) if name in os.environ}
    return {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", **kept}


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    check: bool = True,
    timeout_s: float = 60,
    capture: bool = True,
) -> Completed:
    """Run a program to its end; with ``check``, raise :class:`LabError` unless it exits 0.

    When ``timeout_s`` has passed, the program and its whole process group are
    killed and :class:`LabError` is raised. ``capture=False`` is for a program
    that leaves a background process behind: its output goes nowhere, since
    whoever holds a pipe's end would be waited for.
    """
    pipe = subprocess.PIPE if capture else subprocess.DEVNULL
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=pipe,
        stderr=pipe,
        env=clean_environment(),
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process.pid)
            raise LabError(
                f"{argv[0]} did not end within {timeout_s:g} s", cause=" ".join(argv)
            ) from None
        except BaseException:
            _kill_group(process.pid)
            raise
    done = Completed(tuple(argv), process.returncode, stdout or b"", stderr or b"")
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or "it said nothing"
        raise LabError(f"`{' '.join(argv)}` ended with {done.returncode}", cause=said)
    return done


def wait_until(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Poll ``condition`` until it holds; False when ``within_s`` passed without."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_S)
    return True


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
