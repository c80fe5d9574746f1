"""What an overlay changed: kept aside as it was, written into the disk, taken back.

A guest is sealed in a throw-away overlay, its disk only read. Then what the overlay will change is
saved from the disk into a file of its own, and only then the overlay is written into the disk. From
the first byte written until somebody says that it shall stay, the saved file makes the disk what it
was; whatever is cut off in between is done again.

Which ranges an overlay holds is asked from ``qemu-img map``; the bytes go through QEMU on both
sides, as the guest would see them.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from twinship.guestfs.disks import exported
from twinship.guestfs.files import GuestFilesError
from twinship.guestfs.image import Image, block_nodes, verify
from twinship.guestfs.programs import run_plain

_CHUNK_BYTES = 4 * 1024 * 1024
_MAP_S = 120.0
_PUNCH_HOLE_KEEP_SIZE = 0x01 | 0x02
"""linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE"""

Stop = Callable[[], None]
"""Called now and then; raises to give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A range of a disk that a file holds itself; ``zero``: it reads as zeroes."""

    start: int
    length: int
    zero: bool


def save(overlay: Image, disk: Image, saved: Image, stop: Stop) -> int:
    """Copies into ``saved`` what the disk has where the overlay has something else; the bytes.

    ``saved`` is an empty qcow2 of the disk's size without a backing file. What it holds is on its
    storage when this returns.
    """
    return _copy(of=overlay, source=disk, target=saved, stop=stop, sparse=False)


def apply(layer: Image, disk: Image, stop: Stop) -> int:
    """Writes into the disk what an overlay, or a saved file, holds itself; the bytes.

    Doing it again after it was cut off does the same. It is on its storage when this returns.
    """
    alone = Image(layers=(layer.top,), alone=True)
    return _copy(of=layer, source=alone, target=disk, stop=stop, sparse=True)


def extents(layer: Image) -> tuple[Extent, ...]:
    """The ranges that a qcow2 file holds itself, in order."""
    alone = Image(layers=(layer.top,), alone=True)
    verify(alone)
    nodes = {node["node-name"]: node for node in block_nodes(alone, "disk", writable=False)}
    top = dict(nodes["disk"])
    top["file"] = {key: value for key, value in nodes[top["file"]].items() if key != "node-name"}
    top.pop("node-name")
    argv = ["qemu-img", "map", "--output=json", f"json:{json.dumps(top)}"]
    code, said = run_plain(argv, timeout_s=_MAP_S)
    if code != 0:
        raise GuestFilesError(f"{alone.top.path} cannot be mapped", cause=said)
    return tuple(
        Extent(start=row["start"], length=row["length"], zero=row["zero"])
        for row in json.loads(said)
        if row.get("present", row["data"] or not row["zero"])
    )


def _copy(*, of: Image, source: Image, target: Image, stop: Stop, sparse: bool) -> int:
    """``sparse``: zeroes take no space; else they are written, so that the target holds them."""
    wanted = extents(of)
    with (
        exported([source], writable=False) as there,
        exported([target], writable=True) as here,
        there.daemon.inside(there.file(0)).open("rb", buffering=0) as reads,
        here.daemon.inside(here.file(0)).open("r+b", buffering=0) as writes,
    ):
        copied = 0
        for extent in wanted:
            copied += _copy_extent(reads.fileno(), writes.fileno(), extent, stop, sparse=sparse)
        os.fsync(writes.fileno())
    return copied


def _copy_extent(reads: int, writes: int, extent: Extent, stop: Stop, *, sparse: bool) -> int:
    at, end = extent.start, extent.start + extent.length
    while at < end:
        stop()
        size = min(_CHUNK_BYTES, end - at)
        data = os.pread(reads, size, at)
        if len(data) != size:
            raise GuestFilesError("a disk is shorter than its overlay", code="GUEST_FILES")
        if sparse and not any(data):
            _zero(writes, at, size)
        else:
            done = 0
            while done < size:
                done += os.pwrite(writes, data[done:], at + done)
        at += size
    return extent.length


def _zero(fd: int, at: int, size: int) -> None:
    """Makes a range zeroes, without taking space where that can be."""
    if _LIBC.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, at, size) != 0:
        os.pwrite(fd, bytes(size), at)


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
