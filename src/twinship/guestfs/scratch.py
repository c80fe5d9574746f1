"""Overlays that nobody else sees, in files without a name: gone with us, however we end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.image import Image, Layer
from twinship.guestfs.programs import run_plain

_CREATE_S = 60.0


@contextmanager
def overlaid(images: Sequence[Image], lengths_bytes: Sequence[int]) -> Iterator[list[Image]]:
    """The images, each under an overlay that takes what is written; nothing reaches the images.

    ``lengths_bytes``: how long each is for its guest. Where the overlays lie is the temporary
    directory's filesystem (``TMPDIR``, else /var/tmp): they hold filesystem metadata, some MiB.
    """
    place = os.environ.get("TMPDIR") or _large_temporary()
    files: list[int] = []
    try:
        made = []
        for image, length in zip(images, lengths_bytes, strict=True):
            fd = os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            files.append(fd)
            path = Path(f"/proc/{os.getpid()}/fd/{fd}")
            # The header names a backing file only so that it is an overlay; QEMU is given the true
            # one, node by node.
            argv = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "below", "-F", "raw"]
            code, said = run_plain([*argv, str(path), str(length)], timeout_s=_CREATE_S)
            if code != 0:
                raise GuestFilesError("an overlay could not be made", cause=said)
            made.append(Image(layers=(Layer(path=path, format="qcow2"), *image.layers)))
        yield made
    finally:
        for fd in files:
            os.close(fd)


def _large_temporary() -> str:
    """Where large files go; the smaller temporary directory is often memory (file-hierarchy(7))."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108
