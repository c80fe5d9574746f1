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
from pathlib import Path

from twinship_lab.errors import LabError, NeedsRoot, NotReady

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


def require_root() -> None:
    """Raise :class:`NeedsRoot` unless this process is root's."""
    if os.geteuid() != 0:
        raise NeedsRoot(
            "the lab needs root",
            cause="it makes network, mount and process namespaces",
            hint="run the command with sudo",
        )


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
) -> Completed:
    """Run a program to its end; with ``check``, raise :class:`LabError` unless it exits 0.

    When ``timeout_s`` has passed, the program and its whole process group are
    killed and :class:`LabError` is raised.
    """
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
    done = Completed(tuple(argv), process.returncode, stdout, stderr)
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or "it said nothing"
        raise LabError(f"`{' '.join(argv)}` ended with {done.returncode}", cause=said)
    return done


def spawn(argv: Sequence[str], *, log: Path) -> None:
    """Leave a program running in the background, nobody's child; it writes to ``log``.

    Whether it got anywhere is for the caller to wait for.
    """
    with log.open("wb") as file:
        subprocess.run(
            ["setsid", "--fork", *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=clean_environment(),
            check=True,
            timeout=10,
        )


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
