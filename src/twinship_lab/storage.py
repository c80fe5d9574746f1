"""Shared disks: raw images served over NBD from a namespace of their own."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from twinship_lab import network
from twinship_lab.errors import HostFailed, LabError
from twinship_lab.processes import Process, command_line, living_in, send
from twinship_lab.programs import run, wait_until
from twinship_lab.state import LabState, ShareRecord

FIRST_PORT = 10809
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class SharedDisk:
    """A disk every host reaches as ``nbd://HOST:PORT/EXPORT``; ``path``: its image from outside."""

    name: str
    host: str
    port: int
    path: Path

    @property
    def export(self) -> str:
        """The NBD export's name."""
        return self.name


def plan_share(state: LabState, name: str, size_bytes: int) -> ShareRecord:
    """The record of a new shared disk, or the one that exists; raises when they differ."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a shared disk", hint="use letters, digits, . _ -")
    if size_bytes <= 0 or size_bytes % _SECTOR_BYTES:
        raise LabError(f"{size_bytes} is no size for a disk", hint="use a multiple of 512 bytes")
    known = next((share for share in state.shares if share.name == name), None)
    if known is not None and known.size_bytes != size_bytes:
        raise LabError(f"shared disk {name} exists with {known.size_bytes} bytes")
    if known is not None:
        return known
    taken = {share.port for share in state.shares}
    port = next(p for p in range(FIRST_PORT, FIRST_PORT + len(taken) + 1) if p not in taken)
    return ShareRecord(name, port, size_bytes)


def image_path(root: Path, name: str) -> Path:
    """Where the image of a shared disk is kept."""
    return root / "shares" / f"{name}.raw"


def find_server(namespace: str, name: str) -> Process | None:
    """The server of a shared disk, or None."""
    inode = network.namespace_inode(namespace)
    if inode is None:
        return None
    export = f"--export-name={name}"
    return next((p for p in living_in([inode]) if export in command_line(p.pid)), None)


def serve(namespace: str, address: str, root: Path, share: ShareRecord) -> None:
    """Make the image unless it exists and serve it unless it is served.

    Any number of clients at once, for ever: a live move has both QEMUs connected.
    """
    if find_server(namespace, share.name) is not None:
        return
    image = image_path(root, share.name)
    image.parent.mkdir(exist_ok=True)
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(share.size_bytes)
    where = [f"--bind={address}", f"--port={share.port}", f"--export-name={share.name}"]
    how = ["--fork", "--persistent", "--shared=0", "--format=raw", str(image)]
    net = f"--net={network.namespace_path(namespace)}"
    run(["nsenter", net, "qemu-nbd", *where, *how], timeout_s=20)


def stop(namespace: str, root: Path, name: str) -> None:
    """End the server, wait until it is gone, and delete the image."""
    found = find_server(namespace, name)
    if found is not None:
        send(found.pid, signal.SIGKILL)
        if not wait_until(lambda: find_server(namespace, name) is None, within_s=10):
            raise HostFailed(f"the server of shared disk {name} did not end")
    image_path(root, name).unlink(missing_ok=True)
