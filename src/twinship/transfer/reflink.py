"""Reflinks: a copy that shares its blocks with the original until one of the two is written.

libvirt reflinks raw volumes by itself, wherever the host is. Any other format only where this very
process sees the file: then the kernel is asked directly (ioctl FICLONE; XFS, btrfs, bcachefs).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from twinship.hypervisor.connection import Connection
from twinship.hypervisor.volumes import LOOKS, VolumeFacts, find

FICLONE = 0x40049409
FICLONERANGE = 0x4020940D
"""linux/fs.h"""
_BLOCK_BYTES = 4096


def is_here(found: VolumeFacts) -> bool:
    """Whether the file libvirt shows is the one this process sees under the same path.

    Proved by its length and its change time to the nanosecond, which nobody can set.
    """
    try:
        seen = Path(found.path).stat()
    except OSError:
        return False
    stamp = f"{_stamp(seen.st_ctime_ns)} {_stamp(seen.st_mtime_ns)}"
    return bool(found.stamp) and found.stamp == stamp and found.length_bytes == seen.st_size


def seen_here(connection: Connection, path: str) -> bool:
    """Whether this process sees a host's file; one that is being written is looked at again."""
    before = ""
    for _ in range(LOOKS):
        found = find(connection, path)
        if found is None or found.stamp in ("", before) or not Path(path).exists():
            return False
        if is_here(found):
            return True
        before = found.stamp
    return False


def refusal(source: str, directory: str) -> str:
    """Why a file cannot be reflinked into a directory; empty when it can.

    Tries with one block and a file without a name, which is gone when this returns.
    """
    try:
        here = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"{source} cannot be read here: {error.strerror}"
    try:
        there = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        os.close(here)
        return f"{directory} cannot be written here: {error.strerror}"
    try:
        block = min(_BLOCK_BYTES, os.fstat(here).st_size // _BLOCK_BYTES * _BLOCK_BYTES)
        fcntl.ioctl(there, FICLONERANGE, struct.pack("qQQQ", here, 0, block, 0))
    except OSError as error:
        return _spoken(error, directory)
    finally:
        os.close(here)
        os.close(there)
    return ""


def reflink(source: str, target: str) -> str:
    """Makes ``target``, which is there, share all blocks of ``source``; why not, or empty."""
    try:
        here = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.ioctl(there, FICLONE, here)
                os.fsync(there)
            finally:
                os.close(there)
        finally:
            os.close(here)
    except OSError as error:
        return _spoken(error, target)
    return ""


def _spoken(error: OSError, place: str) -> str:
    match error.errno:
        case errno.EOPNOTSUPP | errno.EINVAL | errno.ENOTTY:
            return f"the filesystem of {place} cannot share blocks"
        case errno.EXDEV:
            return f"{place} is on another filesystem"
        case _:
            return f"{place}: {error.strerror}"


def _stamp(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
